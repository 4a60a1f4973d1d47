"""Scores of every time, fold and labeling: by rules that share their factorisations, or by any model in a loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import CapabilityError
from brainalign.core.progress import progress_bar
from brainalign.core.tables import coords_of
from brainalign.dataset.folds import Fold
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side
from brainalign.engine.timewise import (
    Rule,
    decode_times,
    generalize_times,
    haufe_patterns,
    lda_rules,
    ridge_rules,
    times_of,
)
from brainalign.features.chain import Chain
from brainalign.models.classifier import Classifier
from brainalign.models.ridge import Ridge
from brainalign.scores.decoding_metrics import METRICS, Metric

Rules = Callable[
    [Numbers, Sequence[tuple[Numbers, Numbers]], Numbers], Iterator[Rule]
]  # of targets, folds and the trials of a time
_RIDGE = ("standardize", "fit_intercept", "sample_weight", "alpha_scale", "nan_policy")  # what changes the fit to a single alpha
_VALUES = 2**24  # of decisions, weights or covariances that are held together: 128 MB


@dataclass(frozen=True)
class Task:
    """What is decoded at every time, and how.

    Attributes
    ----------
    source : DataArray, (presentation, neuroid, time)
    folds : list of Fold
    model : Chain
    metric : str
        A key of :data:`METRICS`.
    n_classes : int
        0 where numbers are decoded.
    generalize : bool
        Whether what is learned at one time is tested at all of them.
    dtype : {"float64", "float32"}
        Of the values that models get, and of fast rules.
    """

    source: xr.DataArray
    folds: list[Fold]
    model: Chain
    metric: str
    n_classes: int
    generalize: bool
    dtype: str


def score_times(
    task: Task, targets: Numbers, *, weights: Numbers | None = None, progress: bool | None = False
) -> tuple[Numbers, Numbers, Numbers]:
    """Score labelings of the same rows, or arrays of numbers.

    Parameters
    ----------
    task : Task
    targets : ndarray, (labeling, row) of codes, or (labeling, row, output) of numbers
    weights : ndarray, (draw, row), optional
        How often each row is tested when rows are drawn anew; models are those of all.
    progress : bool or None

    Returns
    -------
    score : ndarray of float64, (labeling[, output], time[, test time])
        Of the sums of all folds.
    by_fold : ndarray of float64, (fold[, output], time[, test time])
        Of the first labeling; NaN where a fold has no score.
    redrawn : ndarray of float64, (draw[, output], time[, test time])
        Of the first labeling too; none without weights.

    Raises
    ------
    CapabilityError
        A covariance has no inverse.
    """
    metric, rules, pooled = METRICS[task.metric], fast_rules(task), []
    folds, place = [(fold.train, fold.test) for fold in task.folds], -2 if task.generalize else -1
    drawn = np.empty((0, targets.shape[1])) if weights is None else weights
    step = _together(task, targets, fast=rules is not None)
    alone = len(targets) <= step  # then the bar goes over times
    for start in progress_bar(range(0, len(targets), step), progress=not alone and progress, desc="labelings"):
        block = targets[start : start + step]
        score = partial(_sums, metric, block, task.n_classes, drawn if start == 0 else drawn[:0])
        if rules is None:
            found = _in_a_loop(task, block, score, progress=alone and progress)
        else:
            run = generalize_times if task.generalize else decode_times
            try:
                found = run(task.source.values, folds, partial(rules, block, folds), score, dtype=task.dtype)
            except np.linalg.LinAlgError as error:
                raise _without_inverse(task) from error
        sums = np.moveaxis(found, 2, 0)  # (sum, fold, time, labeling and draw[, output][, test time])
        with np.errstate(invalid="ignore", divide="ignore"):
            pooled.append(np.moveaxis(metric.value(sums.sum(axis=1)), 0, place))
            if start == 0:
                by_fold = np.moveaxis(metric.value(sums[:, :, :, 0]), 1, place)
                pooled[0], redrawn = np.split(pooled[0], [len(block)])
    return np.concatenate(pooled), by_fold, redrawn


def patterns_of(task: Task, target: Numbers) -> Numbers:
    """Return what the neuroids show of each decision value, at every time.

    Parameters
    ----------
    task : Task
    target : ndarray, (row,) of codes, or (row, output) of numbers

    Returns
    -------
    ndarray of float64, (output, neuroid, time)
        Of rules that are learned from all rows that any fold trains on; of two classes one output.

    Raises
    ------
    CapabilityError
        The model is not one of the linear ones that are decoded fast.
    """
    rules = fast_rules(task)
    if rules is None:
        raise CapabilityError(
            f"decode_time got patterns=True for {task.model!r}. Expected `ba.Classifier('lda')`, `ba.Classifier('ridge')`, or "
            "`ba.Ridge(alphas=[1.0], standardize='train')`, whose weights are known at every time."
        )
    rows = np.unique(np.concatenate([fold.train for fold in task.folds]))
    every, found = np.arange(len(rows)), []
    for x in times_of(task.source.values[rows], np.float64):
        ((weights, _),) = rules(target[None, rows], [(every, every)], x)
        found.append(haufe_patterns(x, weights).T)
    return np.stack(found, axis=-1)


def fast_rules(task: Task) -> Rules | None:
    """Return the rules of a model that shares its factorisations over folds or labelings; None where there are none.

    Parameters
    ----------
    task : Task

    Returns
    -------
    callable or None
        Targets (labeling, row[, output]), folds and the trials of one time to a rule for each fold; labelings lie side by side.
    """
    step = task.model.steps[-1]
    if len(task.model.steps) > 1:
        return None
    if type(step) is Classifier and step.method == "lda":
        return _lda
    if type(step) is Classifier and step.method == "ridge":
        return partial(_ridge, n_classes=task.n_classes, alpha=1.0 / step.C)
    if type(step) is Ridge and step.alphas is not None and np.size(step.alphas) == 1:
        plain, alpha = Ridge(standardize="train"), float(np.ravel(step.alphas)[0])
        same = all(getattr(step, name) == getattr(plain, name) for name in _RIDGE)
        return partial(_ridge, n_classes=0, alpha=alpha) if same and alpha > 0 else None
    return None


def _without_inverse(task: Task) -> CapabilityError:
    n, (_, channels, _) = min(len(fold.train) for fold in task.folds), task.source.shape
    rank = min(
        np.linalg.matrix_rank(task.source.values[:, :, time].astype(np.float64)) for time in range(task.source.sizes["time"])
    )
    return CapabilityError(
        f"decode_time got a covariance without an inverse: {n} training presentations or more, {channels} neuroids, whose values have rank "
        f"{rank} at some time, in {task.dtype}. Expected trials that vary within each class: use a penalty (`ba.Classifier('ridge', C=0.01)`), "
        "fewer neuroids (`ba.Reduce` before the classifier), more trials, or dtype='float64'."
    )


def _lda(targets: Numbers, folds: Sequence[tuple[Numbers, Numbers]], x: Numbers) -> Iterator[Rule]:
    for each in zip(*(lda_rules(x, codes, folds) for codes in targets), strict=True):
        weights, offsets = zip(*each, strict=True)
        yield np.concatenate(weights, axis=1), np.concatenate(offsets)


def _ridge(
    targets: Numbers, folds: Sequence[tuple[Numbers, Numbers]], x: Numbers, *, n_classes: int, alpha: float
) -> Iterator[Rule]:
    if n_classes == 2:
        targets = 2.0 * targets[..., None] - 1.0
    elif n_classes:
        targets = 2.0 * (targets[..., None] == np.arange(n_classes)) - 1.0  # one against the rest
    yield from ridge_rules(x, np.moveaxis(targets, 0, 1).reshape(len(x), -1), folds, alpha=alpha)


def _together(task: Task, targets: Numbers, *, fast: bool) -> int:
    """Return how many labelings are worked on side by side."""
    _, channels, times = task.source.shape
    if not fast and (task.n_classes or not task.model.separate_targets):
        return 1
    outputs = task.n_classes or targets.shape[2]
    tested = max(len(fold.test) for fold in task.folds)
    values = tested * (times if task.generalize else 1)
    weights = channels * (times * len(task.folds) if task.generalize else 1)
    covariances = channels**2 if getattr(task.model.steps[-1], "method", None) == "lda" else 0
    return max(1, _VALUES // (outputs * max(values, weights, covariances)))


def _in_a_loop(task: Task, targets: Numbers, score: Callable[[Numbers, Numbers], Numbers], *, progress: bool | None) -> Numbers:
    """Fit the model at every time and in every fold; as :func:`decode_times` and :func:`generalize_times`."""
    n = task.source.sizes["time"]
    now = [task.source.isel(time=i, drop=True).astype(task.dtype) for i in range(n)]
    labels = {name: ("presentation", values) for name, values in coords_of(task.source, "presentation").items()}
    values = targets.T if task.n_classes else np.moveaxis(targets, 0, 1).reshape(targets.shape[1], -1)
    y = xr.DataArray(
        values, dims=("presentation", "neuroid"), coords=labels | {"neuroid_id": ("neuroid", np.arange(values.shape[1]))}
    )

    def at_time(i: int) -> list[Numbers]:
        here = []
        for fold in task.folds:
            model = clone(task.model).fit(now[i][fold.train], y[fold.train])
            times = range(n) if task.generalize else [i]
            decided = np.stack([_decide(model, now[j][fold.test], task) for j in times], axis=-1)
            here.append(score(decided if task.generalize else decided[..., 0], fold.test))
        return here

    workers = n_workers(values) if task.model.in_threads else 1
    found = side_by_side(at_time, range(n), workers, partial(progress_bar, progress=progress, desc="times"))
    return np.array(found, dtype=np.float64).swapaxes(0, 1)


def _decide(model: Chain, x: xr.DataArray, task: Task) -> Numbers:
    """Return decision values (row, output): of two classes how much it looks like the second, else one for each class or number."""
    last, seen = model.steps_[-1], np.asarray(model.transform(x))
    if not task.n_classes:
        return np.asarray(last.predict(seen)).reshape(len(seen), -1)
    if task.metric != "auc":
        return np.asarray(np.eye(task.n_classes)[np.asarray(last.predict(seen), dtype=np.int64).ravel()])
    if hasattr(last.estimator_, "decision_function"):
        return np.asarray(last.decision_function(seen)).reshape(-1, 1)
    return np.asarray(last.predict_proba(seen))[:, 1:]


def _sums(metric: Metric, targets: Numbers, n_classes: int, weights: Numbers, values: Numbers, test: Numbers) -> Numbers:
    """Return what one fold adds to a score, (sum, labeling[, output][, test time]); after labelings come draws of rows for the first."""
    values = values.reshape(len(values), len(targets), -1, *values.shape[2:])
    found = metric.sums(values, targets[:, test], n_classes)
    if not len(weights):
        return found
    redrawn = metric.redrawn(values[:, 0], targets[0, test], n_classes, weights[:, test].astype(np.float64))
    return np.concatenate([found, redrawn], axis=1)
