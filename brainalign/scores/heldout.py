"""Fitting and testing in every fold: the loop that each score, null and control goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.grids import grid_attrs
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import Metric
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.dataset.folds import Fold
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.parallel import n_workers, side_by_side, working_memory
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import as_columns
from brainalign.scores.draws import Held, bootstrap_scores, interval, units_of
from brainalign.scores.pairing import Pair, rows_of_fold

_OF_ALL_TIMES = ("n_presentations", "n_units", "chance")
_COPIES = 4  # of both sides, that a fit makes
_CHOICES = ("alpha", "alpha_at_edge", "cv_score")  # learned state of a mapping, one number a target


def score_pair(both: Pair, metric: Metric, *, n_bootstraps: int = 0, seed: int = 0, progress: bool | None = False) -> xr.Dataset:
    """Fit a model on the training rows of each fold and score its predictions of the test rows.

    Parameters
    ----------
    both : Pair
        Where source and target both have ``time``, each time point of the target is predicted from the same one of the source.
    metric : Metric
    n_bootstraps : int
        Draws of the test stimuli.
    seed : int
        Of the draws.
    progress : bool or None

    Returns
    -------
    Dataset
        ``score`` (neuroid[, time]), ``score_by_fold``, ``n_undefined_folds``, ``n_presentations``, ``chance`` of a metric of classes
        (the highest of several targets); ``alpha``, ``alpha_at_edge`` (1 where it is the first or last candidate) and ``cv_score``
        (fold, neuroid[, time]) where the mapping chose by inner folds;
        ``score_bootstrap`` (bootstrap, ...), ``n_units`` that were drawn, ``ci_low`` and ``ci_high``.
    """
    both = _whole_or_missing(both)
    if "time" not in both.source.dims or "time" not in both.target.dims:
        return _score(both, metric, n_bootstraps, seed, progress)
    parts = []
    for i in range(both.target.sizes["time"]):
        now = replace(both, source=both.source.isel(time=i), target=both.target.isel(time=[i]))
        parts.append(_score(now, metric, n_bootstraps, seed, False))
    out = xr.concat([part.drop_vars(["status", *_OF_ALL_TIMES], errors="ignore") for part in parts], "time")
    same = {name: parts[0][name] for name in _OF_ALL_TIMES if name in parts[0]}
    status = status_of(both.target, out.score.values, [part.status.values for part in parts])
    return out.assign(same).assign_coords(status=("neuroid", status))


def _whole_or_missing(both: Pair) -> Pair:
    """Blank what is NaN in some rows where targets are fitted together: NaN in tested rows alone, it would shape the fit of the others."""
    if getattr(both.model.steps[-1], "separate_targets", True):
        return both
    known = np.isfinite(both.target.values)
    partly = known.any(axis=0) & ~known.all(axis=0)
    return replace(both, target=both.target.copy(data=np.where(partly, np.nan, both.target.values))) if partly.any() else both


def _score(both: Pair, metric: Metric, n_bootstraps: int, seed: int, progress: bool | None) -> xr.Dataset:
    dims, shape = both.target.dims[1:], both.target.shape[1:]

    def of_fold(fold: Fold) -> tuple[Any, ...]:
        model, prediction, truth = fit_fold(both, fold)
        y, p = _defined(as_columns(truth), as_columns(prediction))
        choices = {name: _per_target(getattr(model, f"{name}_", None), shape) for name in _CHOICES}
        held = Held(y, p, units_of(truth)) if n_bootstraps else None
        return metric.sums(y, p), len(y), choices, np.asarray(getattr(model, "status_", ())), held

    bar = partial(progress_bar, progress=progress, desc="folds")
    sums, tested, chosen, status, held = zip(*side_by_side(of_fold, both.folds, _at_once(both), bar), strict=True)
    by_fold = np.stack([metric.score(fold) for fold in sums])
    pooled = metric.pool(sums)
    score = np.asarray(metric.score(pooled)).reshape(shape)
    units = {"units": getattr(metric, "units", metric.name)}
    variables: dict[str, Any] = {
        "score": (dims, score, units),
        "score_by_fold": (("fold", *dims), by_fold.reshape(-1, *shape), units),
        "n_undefined_folds": (dims, np.isnan(by_fold).sum(axis=0).reshape(shape)),
        "n_presentations": ((), sum(tested)),
    }
    if (chance := getattr(metric, "chance", None)) is not None:
        variables["chance"] = ((), float(np.max(chance(pooled))))
    for name in _CHOICES:
        columns = [fold[name] for fold in chosen]
        if all(column is not None and not np.isnan(column).all() for column in columns):
            variables[name] = (("fold", *dims), np.stack(columns))
    out = xr.Dataset(variables, coords=_labels(both, score, status))
    if not n_bootstraps:
        return out
    draws = bootstrap_scores(held, metric, n_bootstraps, seed).reshape(-1, *shape)
    out["score_bootstrap"] = (("bootstrap", *dims), draws)
    out["n_units"] = len(set(np.concatenate([fold.units for fold in held]).tolist()))
    return out.assign(interval(out.score_bootstrap))


def _at_once(both: Pair) -> int:
    """Return how many folds are fitted at once: where all of them take little memory, each in a thread of its own; else one."""
    if not both.model.in_threads:
        return 1
    each = _COPIES * (both.source.nbytes + both.target.nbytes)
    return max(1, min(n_workers(both.target.values), int(working_memory(both.target.values) // each)))


def _labels(both: Pair, score: Numbers, status: Sequence[Numbers]) -> dict[str, Any]:
    labels: dict[str, Any] = {name: ("neuroid", v) for name, v in coords_of(both.target, "neuroid").items()}
    labels["neuroid_id"] = (*labels["neuroid_id"], grid_attrs(both.target))
    labels |= {name: ("time", v) for name, v in coords_of(both.target, "time").items()}
    labels["status"] = ("neuroid", status_of(both.target, score, status))
    labels["fold"] = ("fold", as_labels([fold.name for fold in both.folds]))
    return labels


def _per_target(values: Any, shape: tuple[int, ...]) -> Numbers | None:
    """Return one number a target; None where a mapping has none, or calls something else by that name."""
    if values is None:
        return None
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.size == np.prod(shape):
        return numbers.reshape(shape)
    return np.full(shape, numbers.item()) if numbers.size == 1 else None


def fit_fold(both: Pair, fold: Any) -> tuple[Any, Any, xr.DataArray]:
    """Return the fitted model, its predictions for the test rows, and the truth.

    Parameters
    ----------
    both : Pair
    fold : Fold

    Returns
    -------
    tuple of (mapping, DataArray, DataArray)
    """
    if len(both.source) != len(both.target) or both.model.mixes:
        model = clone(both.model).fit(both.source, both.target, rows=fold.train)
        return model, model.predict(both.source, both.target, rows=fold.test), both.target[fold.test]
    x_train, y_train, x_test, y_test = rows_of_fold(both, fold, both.report["repeats"])
    model = clone(both.model).fit(x_train, y_train)
    return model, model.predict(x_test), y_test


def predict_training(both: Pair, fold: Any, groups: str | None = None) -> tuple[Numbers, Numbers]:
    """Return predictions of a fold's training rows by models that did not see them, and the truth.

    Parameters
    ----------
    both : Pair
    fold : Fold
    groups : str, optional
        Presentation coordinate whose values the five inner folds keep together, as the outer ones do.

    Returns
    -------
    tuple of ndarray, (row, neuroid)
        In no order that matters; rows in the gap between inner folds are left out. Predictions are moved to the mean of all training rows,
        lest the means of inner folds, which differ, count as spread.
    """
    rows = both.target[fold.train]
    columns, predicted, truth = as_columns(rows), [], []
    for train, test in inner_splits(5, groups, len(rows), rows):
        _, guess, true = fit_fold(both, Fold(fold.name, fold.train[train], fold.train[test]))
        moved = columns.mean(axis=0, dtype=np.float64) - columns[train].mean(axis=0, dtype=np.float64)
        predicted.append(as_columns(guess) + moved)
        truth.append(as_columns(true))
    return np.concatenate(predicted), np.concatenate(truth)


def _defined(truth: Numbers, prediction: Numbers) -> tuple[Numbers, Numbers]:
    """Blank the columns that this fold cannot score: they add nothing to the pooled sums, and are NaN in the fold's own."""
    bad = ~(np.isfinite(truth) & np.isfinite(prediction)).all(axis=0)
    return (np.where(bad, 0, truth), np.where(bad, 0, prediction)) if bad.any() else (truth, prediction)


def status_of(target: xr.DataArray, score: Numbers, parts: Sequence[Numbers] = ()) -> Numbers:
    """Say which neuroids have a score, and why others have none.

    Parameters
    ----------
    target : DataArray, (presentation, neuroid[, time])
        All presentations and times of a neuroid are one column.
    score : ndarray, (neuroid[, time])
    parts : sequence of ndarray of str, (neuroid,)
        What the mappings of all folds, or the results of all times, say. Mappings of more targets than neuroids, and those that say
        nothing, are not asked.

    Returns
    -------
    ndarray of str, (neuroid,)
    """
    status = column_status(np.moveaxis(target.values, 1, -1).reshape(-1, target.sizes["neuroid"]))
    if parts and all(part.shape == status.shape for part in parts):
        status = np.where(np.all([part != "ok" for part in parts], axis=0) & (status == "ok"), parts[0], status)
    lost = np.isnan(score.reshape(len(status), -1)).all(axis=1)
    return as_labels(np.where(lost & (status == "ok"), "undefined", status))
