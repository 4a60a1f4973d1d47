"""``decode_time``: what a recording, or a network, tells of its stimuli at every time."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import is_classifier

from brainalign.core.errors import LeakWarning, ParameterError, SplitError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.engine.bootstrap import draw_weights
from brainalign.engine.clusters import cluster_p_values
from brainalign.engine.moments import Numbers, column_status, known_mean
from brainalign.features.chain import Chain, chain
from brainalign.models.classifier import Classifier
from brainalign.models.ridge import Ridge
from brainalign.scores.audit import decisions, tell_shared_samples
from brainalign.scores.decoding_metrics import METRICS
from brainalign.scores.decoding_people import check_people, exchange_parts, stack_systems
from brainalign.scores.decoding_rows import absent_classes, check_rows, decoding_folds, restrict_folds, rows_with
from brainalign.scores.draws import interval, units_of
from brainalign.scores.inference import NULLS, choose_null, null_orders, with_p_values
from brainalign.scores.joined import join_results
from brainalign.scores.over_time import Task, patterns_of, score_times
from brainalign.scores.pairing import Pair, borrow_times, labels_as_target, pair, straddles

_THRESHOLD = 1.6449  # of z, beyond which neighbouring times form a cluster: one-sided p of .05
_OF_LABELS = ("auc", "balanced-accuracy", "accuracy")


def decode_time(
    source: Any,
    target: Any,
    *,
    model: Any = None,
    cv: Any = None,
    groups: str | None = None,
    metric: str | None = None,
    generalize: bool = False,
    train_on: Mapping[str, Any] | None = None,
    test_on: Mapping[str, Any] | None = None,
    patterns: bool = False,
    n_permutations: int = 0,
    null: str = "auto",
    clusters: str | None = None,
    n_bootstraps: int = 0,
    dtype: str = "float64",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Decode labels or patterns at every time, and from every time to every other, on held-out presentations.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid, time), or dict of them
        What is decoded from: epochs of a recording, the steps of a recurrent network, tokens. Systems of a dict are decoded one by one,
        in a result along ``source``, which ``permutation_test(..., over="source", clusters="mass")`` tests over people.
    target : str, or DataArray (presentation, neuroid)
        A presentation coordinate, whose labels are told apart; or numbers, such as an embedding, joined on ``stimulus_id``.
    model : mapping or chain, optional
        Default ``Classifier("lda")`` for labels; for numbers ``Ridge(standardize="train")``, which chooses its penalties at every time on
        inner folds. ``Classifier("lda")``, ``Classifier("ridge")`` and ``Ridge(alphas=[1.0], standardize="train")``, with any one alpha, share
        their sums over folds; ridge shares a factorisation over all labelings too. Any other model, of scikit-learn too, is fitted in a loop.
    cv, groups, random_state, progress
        As in :func:`evaluate`. Without ``groups`` every fold has its share of each label.
    metric : {"auc", "balanced-accuracy", "accuracy", "pearson"}, optional
        Default the area under the receiver operating characteristic for two classes, balanced accuracy for more, Pearson r for numbers,
        of each output.
    generalize : bool
        Test what is learned at one time at all times.
    train_on, test_on : mapping of str to values, optional
        Presentation coordinates: of the training rows of each fold only those with these values are learned from, as in
        ``train_on={"condition": "seen"}, test_on={"condition": "imagined"}``; of its test rows likewise. Across people that share neuroids,
        such as sensors, ``{"subject": ...}``; of a dict ``{"source": ...}`` by its names. A stimulus is on one side even where both
        conditions show it.
    patterns : bool
        Add what each neuroid shows of each decision (:func:`brainalign.engine.timewise.haufe_patterns`).
    n_permutations : int
        Fit and score this often with labels, or patterns, moved: 1,000 or more for a claim.
    null : {"auto", "exchange", "shift", "runs"}
        As in :func:`evaluate`: stimuli change places within their fold, with all their presentations; single presentations do where folds were
        forced to divide those of a stimulus. They stay within what ``groups`` holds out, and within people.
    clusters : {"mass", "tfce"}, optional
        Add p-values of clusters of neighbouring times.
    n_bootstraps : int
        Draw the stimuli that are tested this often anew, and keep the scores for ``bootstrap(..., over="stimulus", onset=0.5)``.
    dtype : {"float64", "float32"}
        Of the source's values, as models get them; with float32 the fast ones take half the time and memory.

    Returns
    -------
    Dataset
        ``score`` (time), or (train_time, test_time), pooled over folds and averaged over outputs; ``score_by_fold``; for
        numbers ``score_by_output`` (output, ...), by the target's ``neuroid_id``; ``chance``; ``n_presentations`` that were
        tested. With permutations ``p_value``, ``p_value_fdr`` and ``p_value_max``, which holds for all times together; with
        clusters ``p_value_cluster``; with bootstraps ``ci_low`` and ``ci_high`` (95%), ``score_bootstrap`` and ``n_units``;
        with patterns ``pattern`` (class or output, neuroid, time), of two classes for the second, learned from all training
        rows. The attr ``report`` (JSON) says what was joined, dropped, split and decided on which data.

    Raises
    ------
    ParameterError, SchemaError
        A source without time or with NaN; labels of one class; a metric that does not fit.
    SplitError
        A stimulus on both sides, or a person where each has one label; a class that is absent from a training fold; fewer stimuli than folds;
        labels that permutations would carry from one group to another.
    AlignmentError
        Systems that go over into each other have other neuroids or times.
    CapabilityError
        Patterns of a model without weights, areas under curves of one without decision values, a covariance without an inverse.

    Notes
    -----
    Scores of folds add up as sums: pairs in order, hits of each class, products of deviations from the fold's means.

    Clusters are of z, by the mean and deviation of the observed and the permuted scores at each time; ``"mass"`` sums z over neighbours
    beyond 1.64, in both times where there are two. A small ``p_value_cluster`` says that somewhere there is something to decode. It does
    not show that it is there at a given time of the cluster, nor when it begins or ends (Sassenhagen and Draschkow 2019): of single
    times ``p_value_max`` speaks.

    Above chance at one time is not the same code as at another: that is what ``generalize`` asks (King and Dehaene 2014).

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> kind = np.repeat(["face", "house"], 30)
    >>> x = rng.normal(size=(60, 8, 5)) + 2 * (kind == "face")[:, None, None] * (np.arange(5) > 2)
    >>> epochs = ba.responses(x, stimulus_id=[f"s{i}" for i in range(60)], neuroid_id=range(8), time=np.arange(5) / 100,
    ...                       modality="meg", system="sub-01", condition=kind)
    >>> out = ba.decode_time(epochs, "condition", n_permutations=99, random_state=0)
    >>> (out.p_value_max < 0.05).values.tolist()
    [False, False, False, True, True]
    """
    seed = check_random_state(random_state, owner="decode_time")
    asked = _Asked(
        model,
        cv,
        groups,
        metric,
        generalize,
        train_on,
        test_on,
        patterns,
        n_permutations,
        null,
        clusters,
        n_bootstraps,
        dtype,
        seed,
        progress,
    )
    if isinstance(source, Mapping) and any("source" in (wanted or {}) for wanted in (train_on, test_on)):
        source = stack_systems(source)
    if not isinstance(source, Mapping):
        return _decode(source, target, asked)
    if patterns:
        raise ParameterError(
            "decode_time got patterns=True and a dict of systems, whose neuroids differ. Expected one at a time."
        )
    parts = {str(name): _decode(x, target, asked) for name, x in source.items()}
    return join_results(parts, "source", xr.Variable("source", as_labels(list(parts))), verb="decode_time")


@dataclass(frozen=True)
class _Asked:
    """The keyword arguments of :func:`decode_time`."""

    model: Any
    cv: Any
    groups: str | None
    metric: str | None
    generalize: bool
    train_on: Mapping[str, Any] | None
    test_on: Mapping[str, Any] | None
    patterns: bool
    n_permutations: int
    null: str
    clusters: str | None
    n_bootstraps: int
    dtype: str
    seed: int
    progress: bool | None


def _decode(source: xr.DataArray, target: Any, asked: _Asked) -> xr.Dataset:
    source = validate(source, name="source").compute()
    _check(source, target, asked)
    by_label, known = isinstance(target, str), source
    used = rows_with(source, asked.train_on) | rows_with(source, asked.test_on)
    source = source if used.all() else source[used]
    y = labels_as_target(source, target) if by_label else validate(target, name="target")
    model = _as_chain(asked.model, by_label)
    timed = borrow_times(y, source)
    n_classes = len(json.loads(y.attrs["classes"])) if by_label else 0
    metric = _metric(asked.metric, n_classes)
    folds = decoding_folds(timed, target if by_label else None, asked.cv, asked.groups, asked.seed)
    both = pair(source, timed, model, folds, join="inner", repeats="keep")
    sides = restrict_folds(both.folds, both.source, asked.train_on, asked.test_on)
    task = Task(both.source, sides, both.model, metric, n_classes, asked.generalize, asked.dtype)
    truth = both.target.values[:, 0] if by_label else both.target.values
    check_rows(sides, metric, y, truth)
    if by_label and not folds.settings.get("forced"):
        check_people(sides, both.source, truth, target)
    null = choose_null(asked.null, both.target) if asked.n_permutations else None

    targets = truth[None]
    if null:
        parts = exchange_parts(both.source, asked.groups, truth, folds) if null == "exchange" else None
        orders = _orders(both, task, truth, null, asked, divided=straddles(folds, both.target), within=parts)
        targets = np.concatenate([targets, truth[orders]])  # together, for they share what is learned of the source
    counts = _redrawn(both, asked) if asked.n_bootstraps else None
    scores, by_fold, redrawn = score_times(task, targets, weights=counts, progress=asked.progress)
    out = _labelled(scores[0], by_fold, both, task, truth)
    if counts is not None:
        draws = redrawn if by_label else known_mean(redrawn, axis=1)
        out["score_bootstrap"] = (("bootstrap", *out.score.dims), draws.astype(np.float32))
        out = out.assign(n_units=len(np.unique(units_of(both.target))), **interval(out.score_bootstrap))
    if null:
        drawn = scores[1:] if by_label else known_mean(scores[1:], axis=1)
        out = _with_chance(out, drawn, asked.clusters).assign_attrs(null=null)
    if asked.patterns:
        out["pattern"] = _pattern(both, task, truth)
    inputs = {"source": known} if by_label else {"source": known, "target": target}
    both.report["decisions"] = decisions(both.model, **inputs)
    tell_shared_samples(both, sides, across_times=asked.generalize, source=source)
    for leak in both.report["leaks"]:
        warnings.warn(leak, LeakWarning, stacklevel=3)
    out.attrs |= {"metric": task.metric, "report": json.dumps(both.report)}
    params = {
        "target": target if by_label else "responses", "model": model, "cv": both.report["folds"], "metric": task.metric,
        "generalize": asked.generalize, "train_on": asked.train_on, "test_on": asked.test_on, "n_permutations": asked.n_permutations,
        "null": null, "clusters": asked.clusters, "n_bootstraps": asked.n_bootstraps, "dtype": asked.dtype,
    }  # fmt: skip
    return write_step(out, "decode_time", params=params, inputs=inputs, seed=asked.seed)


def _labelled(score: Numbers, by_fold: Numbers, both: Pair, task: Task, truth: Numbers) -> xr.Dataset:
    """Return scores with the names of times, folds and outputs."""
    dims = ("train_time", "test_time") if task.generalize else ("time",)
    tested = np.concatenate([fold.test for fold in task.folds])
    out = xr.Dataset(
        coords={dim: (dim, task.source.time.values, task.source.time.attrs) for dim in dims}
        | {"fold": as_labels([fold.name for fold in task.folds])}
    )
    if not task.n_classes:
        names = {"output": both.target.neuroid_id.values, "status": ("output", as_labels(column_status(truth)))}
        out = out.assign_coords(names).assign(score_by_output=(("output", *dims), score))
        score, by_fold = known_mean(score), known_mean(by_fold, axis=1)
    share = np.bincount(truth[tested]).max() / len(tested) if task.metric == "accuracy" else None
    chance = {"auc": 0.5, "accuracy": share, "balanced-accuracy": 1 / max(task.n_classes, 1), "pearson": 0.0}[task.metric]
    units = {"units": METRICS[task.metric].units}
    scores = {"score": (dims, score, units), "score_by_fold": (("fold", *dims), by_fold, units)}
    return out.assign(scores | {"chance": chance, "n_presentations": len(tested)})


def _redrawn(both: Pair, asked: _Asked) -> Numbers:
    """Return how often each presentation is tested when stimuli are drawn anew, (draw, presentation); the same for all systems."""
    names, codes = np.unique(units_of(both.target), return_inverse=True)
    return draw_weights(len(names), asked.n_bootstraps, np.random.default_rng(asked.seed))[:, codes]


def _orders(
    both: Pair, task: Task, truth: Numbers, null: str, asked: _Asked, *, divided: bool, within: Numbers | None
) -> Numbers:
    """Return orders of the rows under the null, (permutation, row)."""
    if divided:  # presentations of a stimulus that are on both sides do not move together
        own = as_labels([str(i) for i in range(len(truth))])
        both = replace(both, target=both.target.assign_coords(stimulus_id=("presentation", own)))
    orders = null_orders(both, null=null, n_permutations=asked.n_permutations, seed=asked.seed, within=within)
    if task.n_classes:  # what is observed has every class in every training fold, and so has what it is compared with
        orders = orders[[not absent_classes(task.folds, truth[order], task.n_classes) for order in orders]]
    if not len(orders):
        raise SplitError(
            f"none of {asked.n_permutations} permutations leaves every class in every training fold. Expected some: use fewer folds, or "
            "more presentations of each class."
        )
    return orders


def _with_chance(out: xr.Dataset, drawn: Numbers, clusters: str | None) -> xr.Dataset:
    """Add p-values against scores of moved labels or patterns, (permutation, time[, test time])."""
    out = with_p_values(out, xr.DataArray(drawn, dims=("permutation", *out.score.dims)))
    if clusters:
        every = np.concatenate([out.score.values[None], drawn])
        spread = every.std(axis=0)
        z = (every - every.mean(axis=0)) / np.where(spread > 0, spread, np.inf)
        p = cluster_p_values(z[:1], z[1:, None], method=clusters, threshold=_THRESHOLD)
        out["p_value_cluster"] = (out.score.dims, p[0])
    return out


def _pattern(both: Pair, task: Task, truth: Numbers) -> xr.DataArray:
    found = patterns_of(task, truth)
    if task.n_classes:
        dim, names = "class", as_labels(json.loads(both.target.attrs["classes"])[-len(found) :])
    else:
        dim, names = "output", both.target.neuroid_id.values
    labels = {name: ("neuroid", values) for name, values in coords_of(task.source, "neuroid").items()}
    return xr.DataArray(found, dims=(dim, "neuroid", "time"), coords=labels | {dim: names, "time": task.source.time})


def _metric(metric: str | None, n_classes: int) -> str:
    suitable = ("pearson",) if not n_classes else _OF_LABELS if n_classes == 2 else _OF_LABELS[1:]
    if metric is not None and metric not in suitable:
        what = f"{n_classes} classes" if n_classes else "numbers"
        raise ParameterError(
            f"The 'metric' parameter of decode_time must be one of {', '.join(map(repr, suitable))} for {what}. Got {metric!r} instead."
        )
    return metric or suitable[0]


def _as_chain(model: Any, by_label: bool) -> Chain:
    steps = chain((Classifier("lda") if by_label else Ridge(standardize="train")) if model is None else model)
    if is_classifier(steps.steps[-1]):  # of scikit-learn, which does not know our labels
        steps = Chain((*steps.steps[:-1], Classifier(steps.steps[-1])))
    if steps.is_classifier != by_label:
        raise ParameterError(
            f"decode_time got {steps!r}, which predicts {'labels' if steps.is_classifier else 'numbers'}. Expected a model of "
            + ("labels, such as `ba.Classifier('lda')`." if by_label else "numbers, such as `ba.Ridge()`.")
        )
    if steps.mixes:
        raise ParameterError(
            f"decode_time got {steps!r}, which mixes presentations. Expected steps that keep them apart, as epochs are."
        )
    return steps


def _check(source: xr.DataArray, target: Any, asked: _Asked) -> None:
    if "time" not in source.dims:
        raise ParameterError(
            f"decode_time got a source with dims {source.dims}. Expected (presentation, neuroid, time): without time, decode with "
            f"`ba.evaluate(source, {target if isinstance(target, str) else 'target'!r}, model=ba.Classifier())`."
        )
    if isinstance(target, xr.DataArray) and "time" in target.dims:
        raise ParameterError(
            f"decode_time got a target with dims {target.dims}. Expected labels or one pattern a presentation; for a target in time use "
            "`ba.evaluate`."
        )
    known = np.isfinite(source.values).all(axis=(0, 2))
    if not known.all():
        raise ParameterError(
            f"decode_time got a source with NaN or infinity in {(~known).sum()} of {known.size} neuroids: "
            f"{preview(source.neuroid_id.values[~known])}. Expected numbers: leave these out, or the presentations where they are missing."
        )
    check_choice("null", asked.null, NULLS, owner="decode_time")
    check_choice("clusters", asked.clusters, (None, "mass", "tfce"), owner="decode_time")
    check_choice("dtype", asked.dtype, ("float64", "float32"), owner="decode_time")
    for name in ("n_permutations", "n_bootstraps"):
        check_number(name, getattr(asked, name), owner="decode_time", low=0, integer=True)
    if asked.clusters and not asked.n_permutations:
        raise ParameterError(
            f"decode_time got clusters={asked.clusters!r} and n_permutations=0. Expected permutations: 1,000 for a claim."
        )
