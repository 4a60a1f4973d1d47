"""``evaluate``: how well one system predicts another, per neuroid, on presentations held out from all fitting."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import AlignmentError, LeakWarning, ParameterError, SplitError
from brainalign.core.grids import grid_attrs, grid_of
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.protocols import Metric
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.split import Folds, split
from brainalign.engine.moments import column_status
from brainalign.features.chain import Chain, chain
from brainalign.models.ridge import Ridge
from brainalign.scores.ceiling import ceiling_of_averages, noise_ceiling
from brainalign.scores.inference import NULLS, choose_null, null_orders, null_scores, with_p_values
from brainalign.scores.metrics import METRICS
from brainalign.scores.pairing import Pair, borrow_times, labels_as_target, mean_inverse_repeats, pair, rows_of_fold


def evaluate(
    source: Any,
    target: Any,
    *,
    model: Any = None,
    cv: Any = None,
    groups: str | None = None,
    metric: Any = None,
    ceiling: Any = None,
    join: str = "inner",
    repeats: str = "average",
    time: str = "match",
    n_permutations: int = 0,
    null: str = "auto",
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Score how well a model predicts one system's responses from another's, on held-out presentations.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time]), or dict of them
        What is predicted from: layers, regions, features. A dict gives a result along ``source``.
    target : DataArray, (presentation, neuroid[, time]), dict of them, or str
        What is predicted. Systems of a dict are scored one by one and joined along ``neuroid``. A string names a
        presentation coordinate of ``source`` to decode.
    model : mapping or chain, optional
        Default ``Ridge()``, or ``Classifier()`` where ``target`` is a string.
    cv : int, Folds or None
        Folds over the target, made with :func:`split`; an int is their number.
    groups : str, optional
        Presentation coordinate that folds keep together (``split(target, by=groups)``).
    metric : {"pearson", "r2", "accuracy", "balanced-accuracy"} or Metric, optional
        Default Pearson r, or balanced accuracy for a classifier. Plug-ins add names (``brainalign.metrics``); an object
        with the methods of :class:`brainalign.protocols.Metric` will do.
    ceiling : {"repeat"}, DataArray (neuroid[, time]) or None
        Adds ``ceiling`` and ``score_normalized``. ``"repeat"`` is :func:`noise_ceiling` of the target. One that
        :func:`noise_ceiling` made is brought to the rows that are scored: single presentations have a lower one.
    join : {"inner", "exact"}
        Whether presentations that only one side has are dropped (and reported) or an error.
    repeats : {"average", "keep", "train-single"}
        Average repeats within the training and within the test rows; keep every presentation; or train on single
        presentations and test on averages. Chains that mix presentations keep them all.
    time : {"match", "flatten"}
        Where both sides have time: predict each time point from the same one, or from all.
    n_permutations : int
        Fit and score this often with the target's rows moved, and add p-values; 1,000 or more for a claim.
    null : {"auto", "exchange", "shift"}
        Exchange stimuli within each fold; or, for presentations in time (with ``onset_s``), shift each run in a circle by 10 s or more. ``"auto"`` shifts what has times: neighbours in time are alike, and exchanging them calls noise significant.
    random_state : int, Generator or None
        For folds and permutations that are drawn.
    progress : bool
        Show a progress bar over folds.

    Returns
    -------
    Dataset
        ``score`` (neuroid[, time]), pooled over folds from fold-centred sums; ``score_by_fold``; ``alpha`` (fold,
        neuroid) where the mapping chooses one; ``n_presentations``, ``n_undefined_folds``; with a ceiling,
        ``ceiling`` and ``score_normalized``; with permutations, ``p_value`` = (1 + #{null ≥ score}) / (1 + B), ``p_value_fdr`` and
        ``p_value_max``, which holds for all scores of one target together. The coordinate ``status`` names neuroids that have no score. The attr
        ``report`` (JSON) says what was joined, dropped, averaged, split and fitted outside the folds.

    Raises
    ------
    SchemaError, AlignmentError, SplitError, ParameterError
        See the messages.

    Notes
    -----
    Pooling: r = sum_f sum_i (y - mean_f y)(p - mean_f p), normalised likewise. Concatenating the folds' predictions
    instead gives null scores far below zero (r near -1 for leave-one-out).

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=100, random_state=0)
    >>> forward = ba.evaluate(study.network, study.brain, cv=5)
    >>> reverse = ba.evaluate(study.brain, study.network, cv=5)
    >>> forward.score.dims == reverse.score.dims == ("neuroid",)
    True
    """
    seed = check_random_state(random_state, owner="evaluate")  # drawn once: the systems of a dict share their folds
    asked = Asked(model, cv, groups, metric, ceiling, join, repeats, time, n_permutations, null, seed, progress)
    return without_nulls(score_systems(source, target, asked))


@dataclass(frozen=True)
class Asked:
    """The keyword arguments of :func:`evaluate`, as they were given."""

    model: Any
    cv: Any
    groups: str | None
    metric: Any
    ceiling: Any
    join: str
    repeats: str
    time: str
    n_permutations: int
    null: str
    random_state: Any
    progress: bool


def without_nulls(out: xr.Dataset) -> xr.Dataset:
    """Return a result without its null scores, of which only the p-values are kept.

    Parameters
    ----------
    out : Dataset

    Returns
    -------
    Dataset
    """
    return out.drop_vars("null_score", errors="ignore")


def score_systems(source: Any, target: Any, asked: Asked) -> xr.Dataset:
    """Score every system of a dict: targets are joined along ``neuroid``, sources along ``source``.

    Parameters
    ----------
    source, target : DataArray, dict of them, or str
    asked : Asked

    Returns
    -------
    Dataset
        For a single pair with permutations also ``null_score`` (permutation, neuroid[, time]).
    """
    if isinstance(source, Mapping):
        parts = {str(name): without_nulls(score_systems(x, target, asked)) for name, x in source.items()}
        return _joined(parts, "source", xr.Variable("source", as_labels(list(parts))))
    if not isinstance(target, Mapping):
        return _one_pair(source, target, asked)
    return _joined({str(name): without_nulls(_one_pair(source, x, asked)) for name, x in target.items()}, "target", "neuroid")


def _joined(parts: dict[str, xr.Dataset], side: str, dim: Any) -> xr.Dataset:
    """Join the results of several systems; what was dropped from each, and how each was made, stays in report and provenance."""
    if not parts:
        raise ParameterError(f"evaluate got an empty dict as its {side}. Expected at least one responses array by name.")
    results = list(parts.values())
    if any(part.fold.values.tolist() != results[0].fold.values.tolist() for part in results):
        results = [part.assign_coords(fold=np.arange(part.sizes["fold"])) for part in results]  # their folds share no names
    if side == "target":
        results = _with_the_same_labels(list(results))
    out = xr.concat(results, dim, data_vars="all", coords="different", compat="equals", join="outer", combine_attrs="override")
    if len({grid_of(part) for part in parts.values()}) > 1:  # the first one's would misplace the others
        out.neuroid_id.attrs.pop("grid", None)
    out.attrs["report"] = json.dumps({"each": {name: json.loads(part.attrs["report"]) for name, part in parts.items()}})
    return write_step(out, "evaluate", params={"each": side}, inputs=parts)


def _with_the_same_labels(results: list[xr.Dataset]) -> list[xr.Dataset]:
    """Give each result the neuroid labels that any has: where a system lacks one, text is empty and a number is NaN."""
    tables = [coords_of(part, "neuroid") for part in results]
    for name in dict.fromkeys(name for table in tables for name in table):
        kinds = {table[name].dtype.kind if name in table else "" for table in tables}
        if len(kinds) == 1:
            continue
        text = not kinds <= {"", "b", "i", "u", "f"}  # ids may be text in one system and integers in another
        for i, table in enumerate(tables):
            values = table.get(name, np.full(results[i].sizes["neuroid"], "" if text else np.nan))
            labels = as_labels([str(value) for value in values.tolist()] if text else values.astype(np.float64))
            results[i] = results[i].assign_coords({name: ("neuroid", labels)})
    return results


def _one_pair(source: xr.DataArray, target: Any, asked: Asked) -> xr.Dataset:
    validate(source, name="source")
    decoding = isinstance(target, str)
    target = labels_as_target(source, target) if decoding else validate(target, name="target")
    model = _as_chain(asked.model, decoding)
    metric, repeats = _check(asked, model)
    seed = check_random_state(asked.random_state, owner="evaluate")
    timed = borrow_times(target, source)
    null = choose_null(asked.null, timed) if asked.n_permutations else None
    folds = _folds(timed, asked.cv, asked.groups, seed)
    both = pair(source, timed, model, folds, join=asked.join, repeats=repeats, time=asked.time)
    _refuse_single_rows(both, metric.name)
    run = partial(_each_time if "time" in both.source.dims and "time" in both.target.dims else _score, metric=metric)
    out = run(both, progress=asked.progress)
    if null:
        orders = null_orders(both, null=null, n_permutations=asked.n_permutations, seed=seed)
        chance = null_scores(both, orders, lambda moved: run(moved).score.values, progress=asked.progress)
        out["null_score"] = (("permutation", *out.score.dims), chance)
        out = with_p_values(out, out.null_score).assign_attrs(null=null)
    if asked.ceiling is not None:
        out = _normalise(out, asked.ceiling, target, metric.name, seed, mean_inverse_repeats(both, target))
    for leak in both.report["leaks"]:
        warnings.warn(leak, LeakWarning, stacklevel=4)
    out.attrs |= {"metric": metric.name, "report": json.dumps(both.report)}
    params = {
        "model": model, "metric": metric.name, "cv": both.report["folds"], "join": asked.join, "repeats": both.report["repeats"],
        "n_permutations": asked.n_permutations, "null": null,
    }  # fmt: skip
    return write_step(
        out, "evaluate", params=params | {"time": asked.time}, inputs={"source": source, "target": target}, seed=seed
    )


def _refuse_single_rows(both: Pair, metric: str) -> None:
    """Refuse folds of one row: deviations from the fold's mean are 0 there, and every score would be NaN."""
    if metric in ("pearson", "r2") and all(len(fold.test) < 2 for fold in both.folds):
        raise SplitError(
            f"each of the {len(both.folds)} folds tests one presentation, on which {metric} is undefined. Expected two or more: use fewer "
            "folds, such as cv=5."
        )


def _check(asked: Asked, model: Chain) -> tuple[Metric, str]:
    """Return the metric and what is done with repeats, after checking every choice."""
    metric = METRICS.get(asked.metric or ("balanced-accuracy" if model.is_classifier else "pearson"))
    if not isinstance(metric, Metric):
        raise ParameterError(
            f"The 'metric' parameter of evaluate must be one of {', '.join(METRICS.names())}, or an object with `name`, `sums`, `pool` "
            f"and `score`. Got {asked.metric!r} instead."
        )
    if metric.name in ("accuracy", "balanced-accuracy") and not model.is_classifier:
        raise ParameterError(
            f"evaluate got metric={metric.name!r} for a model that predicts numbers ({model!r}). Expected one that predicts labels, such as "
            "`ba.Classifier()`, or metric='pearson' or 'r2'."
        )
    check_choice("repeats", asked.repeats, ("average", "keep", "train-single"), owner="evaluate")
    check_choice("time", asked.time, ("match", "flatten"), owner="evaluate")
    check_choice("join", asked.join, ("inner", "exact"), owner="evaluate")
    check_choice("null", asked.null, NULLS, owner="evaluate")
    check_number("n_permutations", asked.n_permutations, owner="evaluate", low=0, integer=True)
    return metric, "keep" if model.is_classifier else asked.repeats


def _as_chain(model: Any, decoding: bool) -> Chain:
    if model is None and decoding:
        from brainalign.models.classifier import Classifier

        model = Classifier()
    model = Ridge() if model is None else model
    return model if isinstance(model, Chain) else chain(model)


def _folds(target: xr.DataArray, cv: Any, groups: str | None, seed: int) -> Folds:
    if isinstance(cv, Folds):
        if groups is not None:
            raise ParameterError(
                f"evaluate got both cv=Folds and groups={groups!r}. Expected one: `cv=ba.split(target, by={groups!r})`."
            )
        return cv
    return split(target, by=groups, n_splits=cv, random_state=seed)


def _score(both: Pair, metric: Metric, progress: bool = False) -> xr.Dataset:
    """Fit and test in every fold; keep only sums."""
    from tqdm.auto import tqdm

    shape = both.target.shape[1:]
    sums, alphas, tested = [], [], 0
    for fold in tqdm(both.folds, desc="folds", disable=not progress):
        model, prediction, truth = _fit_fold(both, fold)
        sums.append(metric.sums(*_defined(_columns(truth), _columns(prediction))))
        tested += len(truth)
        if hasattr(model, "alpha_"):
            alphas.append(_alpha_per_target(model.alpha_, shape))
    score, by_fold = metric.score(metric.pool(sums)), np.stack([metric.score(fold) for fold in sums])
    dims = both.target.dims[1:]
    variables = {
        "score": (dims, score.reshape(shape)),
        "score_by_fold": (("fold", *dims), by_fold.reshape(-1, *shape)),
        "n_undefined_folds": (dims, np.isnan(by_fold).sum(axis=0).reshape(shape)),
        "n_presentations": ((), tested),
    }
    if alphas and alphas[0] is not None:
        variables["alpha"] = (("fold", *dims), np.stack(alphas))
    labels: dict[str, Any] = {name: ("neuroid", v) for name, v in coords_of(both.target, "neuroid").items()}
    labels["neuroid_id"] = (*labels["neuroid_id"], grid_attrs(both.target))
    labels |= {name: ("time", v) for name, v in coords_of(both.target, "time").items()}
    labels["status"] = ("neuroid", _status(both.target))
    labels["fold"] = ("fold", as_labels([fold.name for fold in both.folds]))
    return xr.Dataset(variables, coords=labels)


def _alpha_per_target(alpha: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    """Return one penalty a target; None where the numbers that a mapping calls ``alpha_`` are something else."""
    values = np.asarray(alpha, dtype=np.float64)
    return values.reshape(shape) if values.size == np.prod(shape) else np.full(shape, values.item()) if values.size == 1 else None


def _fit_fold(both: Pair, fold: Any) -> tuple[Any, Any, Any]:
    """Return the fitted model, its predictions for the test rows, and the truth."""
    if len(both.source) != len(both.target) or both.model.mixes:
        model = clone(both.model).fit(both.source, both.target, rows=fold.train)
        return model, model.predict(both.source, both.target, rows=fold.test), both.target[fold.test]
    x_train, y_train, x_test, y_test = rows_of_fold(both, fold, both.report["repeats"])
    model = clone(both.model).fit(x_train, y_train)
    return model, model.predict(x_test), y_test


def _defined(truth: np.ndarray[Any, Any], prediction: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Blank the columns that this fold cannot score: they add nothing to the pooled sums, and are NaN in the fold's own."""
    bad = ~(np.isfinite(truth) & np.isfinite(prediction)).all(axis=0)
    return (np.where(bad, 0, truth), np.where(bad, 0, prediction)) if bad.any() else (truth, prediction)


def _columns(x: Any) -> np.ndarray[Any, Any]:
    values = np.asarray(x)
    return values.reshape(len(values), -1)


def _each_time(both: Pair, metric: Metric, progress: bool = False) -> xr.Dataset:
    """Predict every time point of the target from the same one of the source."""
    parts = []
    for i in range(both.target.sizes["time"]):
        now = replace(both, source=both.source.isel(time=i), target=both.target.isel(time=[i]))
        parts.append(_score(now, metric))
    out = xr.concat([part.drop_vars(["status", "n_presentations"]) for part in parts], "time")
    return out.assign(n_presentations=parts[0].n_presentations).assign_coords(status=("neuroid", _status(both.target)))


def _status(target: xr.DataArray) -> np.ndarray[Any, Any]:
    """Say which neuroids have a score to find: all presentations and times of a neuroid are one column."""
    values = np.moveaxis(target.values, 1, -1)
    return as_labels(column_status(values.reshape(-1, target.sizes["neuroid"])))


def _normalise(out: xr.Dataset, ceiling: Any, target: xr.DataArray, metric: str, seed: int, averaged: float) -> xr.Dataset:
    """Divide a score in r by the ceiling in r, and one in R² by its square; both of rows that average as many presentations."""
    if metric not in ("pearson", "r2"):
        raise ParameterError(f"evaluate got a ceiling for metric={metric!r}. Expected 'pearson' or 'r2': leave `ceiling` out.")
    if isinstance(ceiling, str):
        check_choice("ceiling", ceiling, ("repeat",), owner="evaluate")
        ceiling = noise_ceiling(target, random_state=seed)
    if not isinstance(ceiling, xr.DataArray):
        raise ParameterError(
            f"The 'ceiling' parameter of evaluate must be 'repeat', a DataArray from `ba.noise_ceiling`, or None. Got {ceiling!r} instead."
        )
    if "time" in out.dims and "time" in ceiling.coords:  # the two sides were joined on the times that they share
        ceiling = ceiling.isel(time=np.isclose(ceiling.time.values[:, None], out.time.values, rtol=0, atol=1e-6).any(axis=1))
    kind, wanted = ceiling.attrs.get("kind"), "r" if metric == "pearson" else "r2"
    if kind not in ("r", wanted):
        raise ParameterError(
            f"evaluate got a ceiling of kind {kind!r} for scores of metric={metric!r}. Expected {wanted!r}: a score in r is divided by "
            f"√reliability, one in R² by reliability. Make it with `ba.noise_ceiling(target, units={wanted!r})`."
        )
    values = ceiling_of_averages(ceiling, averaged)
    values = values if kind == wanted else values**2
    if values.shape != out.score.shape:
        raise ParameterError(
            f"evaluate got a ceiling of shape {values.shape} for scores of shape {out.score.shape}. Expected the same."
        )
    if "neuroid_id" in ceiling.coords and not np.array_equal(ceiling.neuroid_id.values, out.neuroid_id.values):
        at = int(np.flatnonzero(ceiling.neuroid_id.values != out.neuroid_id.values)[0])
        raise AlignmentError(
            f"evaluate got a ceiling whose neuroid {at} is {ceiling.neuroid_id.values[at]!s}, where the target's is "
            f"{out.neuroid_id.values[at]!s}. Expected the target's neuroids in its order: make it with `ba.noise_ceiling(target)`."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = np.where(values > 0, out.score.values / values, np.nan)
    return out.assign(ceiling=(out.score.dims, values), score_normalized=(out.score.dims, normalized))
