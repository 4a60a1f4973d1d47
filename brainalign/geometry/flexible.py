"""``fit_rdms`` and ``regress_rdms``: several source RDMs at once, as a model that is fitted, or to see what each of them adds."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.comparators import COMPARATORS, around_mean, inner_products, units
from brainalign.engine.moments import Numbers, known_mean
from brainalign.engine.rdm_models import fit_weights, regress
from brainalign.engine.rdm_permutation import moved_entries
from brainalign.engine.resample import distinct_orders, false_discovery_rate, p_of_the_maximum, p_values
from brainalign.geometry.compare import DIRECTIONS
from brainalign.geometry.rdm_pairs import JoinedRdms, join_rdms, label_of, leading

MODELS = ("weighted", "free", "select", "interpolated")
#: What the numbers of folds are by default, from so many stimuli on (Schütt et al. 2023).
_FOLDS = ((40, 5), (24, 4), (12, 3), (0, 2))
_LEAST_STIMULI = 3  # of a test fold: three pairs
_COLLINEAR = 1e-10  # least eigenvalue of the correlations of sources
_TIE = 1e-12  # scores that differ from what was found by rounding are as high


def fit_rdms(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    model: str = "weighted",
    metric: str = "pearson",
    over: str | None = None,
    cv: int | None = None,
    n_repeats: int = 10,
    n_permutations: int = 0,
    join: str = "inner",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Fit a combination of source RDMs to target RDMs, and score it on stimuli (and subjects) that it was not fitted on.

    Parameters
    ----------
    source : DataArray, (component, stimulus, stimulus_2)
        One leading dim, of any name: layers, models, feature sets.
    target : DataArray, (..., stimulus, stimulus_2)
        Each matrix is fitted by itself, or, with ``over``, that of each subject from the others'.
    model : {"weighted", "free", "select", "interpolated"}
        A sum with weights ≥ 0, or of either sign; the best single component; or a mixture of two successive components, for
        sources that are in an order.
    metric : str
        As in :func:`compare_rdms`, but for ``"bures"`` and ``"riemannian"``. Weights are fitted by the metric itself where it is
        a cosine of something linear (``"cosine"``, ``"pearson"`` and the whitened ones), else by ``"pearson"``.
    over : str, optional
        Leading dim of the target whose members are left out one at a time, too: weights are fitted to the mean of the others.
    cv : int, optional
        Folds of stimuli; default 2 to 5, by their number. Pairs within the test stimuli are scored.
    n_repeats : int
        How often stimuli are dealt to folds anew.
    n_permutations : int
        Test the score against fits to targets whose stimuli have changed names, all alike, each fitted and scored anew.
    join : {"inner", "exact"}
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over permutations; without any, over folds.

    Returns
    -------
    Dataset
        ``score`` (target_<dim>...), the mean over folds, and ``score_by_fold`` (fold, ...); ``score_source`` (source_<dim>,
        target_<dim>...), of each component alone on the same pairs, which a flexible model must beat; ``weights`` (source_<dim>,
        target_<dim>...), means over folds (of "select": the share of folds); ``n_undefined_folds``, in which no combination was
        like the training pairs, or test pairs do not vary; ``tested`` (fold, stimulus). With permutations ``p_value``,
        ``p_value_fdr`` and ``p_value_max`` (target_<dim>...), as in :func:`compare_rdms`.

    Raises
    ------
    ParameterError
        Sources without one leading dim; no such dim of subjects, or one of fewer than two; folds that are too small.
    SchemaError
        Missing pairs.

    Notes
    -----
    The weights that maximise a cosine are those of least squares, so that fits are exact. They are in units of the target by
    those of the source; with ``over`` each subject's geometry is scaled to length 1 first. Khaligh-Razavi and Kriegeskorte
    (2014).

    A function of its own, not an option of :func:`compare_rdms`: a flexible model takes a whole dim of sources for one score.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=40, snr=4.0, random_state=0)
    >>> layers = ba.rdm(study.network, metric="sqeuclidean", by="layer")
    >>> out = fit_rdms(layers, layers[1] + 2 * layers[2], random_state=0)
    >>> out.weights.values.round(6).tolist(), round(float(out.score), 6)
    ([0.0, 1.0, 2.0, 0.0], 1.0)
    """
    check_choice("model", model, MODELS, owner="fit_rdms")
    able = tuple(name for name, measure in COMPARATORS.items() if not measure.from_patterns)
    check_choice("metric", metric, able, owner="fit_rdms")
    check_number("n_repeats", n_repeats, owner="fit_rdms", low=1, integer=True)
    check_number("n_permutations", n_permutations, owner="fit_rdms", low=0, integer=True)
    seed = check_random_state(random_state, owner="fit_rdms")
    sources, targets, both = _complete(source, target, join, "fit_rdms")
    if model == "interpolated" and len(sources) < 2:
        raise ParameterError("fit_rdms got model='interpolated' and one source. Expected two or more in an order, or 'weighted'.")
    n_folds = _n_folds(cv, len(both.stimuli))
    (dims, shape, coords), (parts, _, more_coords) = leading(target, "target"), leading(source, "source")
    order = _subject_first(target, over)
    targets = np.moveaxis(targets.reshape(*shape, -1), order, range(len(order)))
    inner_shape, inner_dims = targets.shape[:-1], [dims[k] for k in order]
    targets = targets.reshape(1 if over is None else len(targets), -1, targets.shape[-1])  # (subject, group, pair)
    *streams, renaming = np.random.SeedSequence(seed).spawn(n_repeats + 1)
    tested = _dealt(len(both.stimuli), n_folds, streams)
    shown = progress_bar(tested, progress=not n_permutations and progress, desc="folds")
    folds = zip(*(_one_fold(sources, targets, held, model, metric) for held in shown), strict=True)
    lead: dict[str, list[str]] = {"score_by_fold": [], "score_source": parts, "weights": parts}
    found = {
        name: (["fold", *extra, *inner_dims], np.stack(part).reshape(len(tested), *part[0].shape[:-1], *inner_shape))
        for (name, extra), part in zip(lead.items(), folds, strict=True)
    }
    if n_permutations:
        orders = distinct_orders(np.arange(len(both.stimuli)), n_permutations, np.random.default_rng(renaming))
        by_fold = found["score_by_fold"][1].reshape(len(tested), -1)
        tests = _tested(by_fold, sources, targets, tested, orders, model, metric, progress)
        found |= {name: (inner_dims, values.reshape(inner_shape)) for name, values in tests.items()}
    out = xr.Dataset(found, coords=coords | more_coords).transpose("fold", *parts, *dims)
    means = out.mean("fold").rename(score_by_fold="score")  # of the folds in which a score is defined
    out = means.assign(score_by_fold=out.score_by_fold, n_undefined_folds=out.score_by_fold.isnull().sum("fold"))
    out = out.assign(tested=(["fold", "stimulus"], np.stack(tested))).assign_coords(stimulus=as_labels(both.stimuli))
    for name in ("score", "score_by_fold", "score_source"):
        out[name].attrs["units"] = COMPARATORS[metric].units
    out.attrs = {"direction": DIRECTIONS[COMPARATORS[metric].higher_is_alike], "report": json.dumps(both.report)}
    params = {"model": model, "metric": metric, "over": over, "cv": n_folds, "n_repeats": n_repeats, "join": join}
    params |= {"n_permutations": len(orders)} if n_permutations else {}
    out.attrs |= {name: value for name, value in params.items() if value is not None}
    return write_step(out, "fit_rdms", params=params, inputs={"source": source, "target": target}, seed=seed)


def regress_rdms(source: xr.DataArray, target: xr.DataArray, *, metric: str = "pearson", join: str = "inner") -> xr.Dataset:
    """Regress target RDMs on several source RDMs at once, and say what each source adds to the others.

    Parameters
    ----------
    source : DataArray, (component, stimulus, stimulus_2)
        One leading dim, of any name.
    target : DataArray, (..., stimulus, stimulus_2)
    metric : {"pearson", "spearman", "cosine", "whitened-cosine", "whitened-pearson"}
        The space of the regression: around means, of ranks, through zero, or with pairs weighed by how their noise is correlated.
    join : {"inner", "exact"}

    Returns
    -------
    Dataset
        ``coefficient`` (source_<dim>, target_<dim>...), standardised; ``unique``, by how much R² falls without the source; ``r2``
        (target_<dim>...), of all together. All of the data that was fitted: :func:`fit_rdms` scores on held-out stimuli.

    Raises
    ------
    ParameterError
        Sources without one leading dim.
    SchemaError
        Missing pairs; sources that do not vary, or of which one is a combination of the others.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=40, snr=4.0, random_state=0)
    >>> out = regress_rdms(ba.rdm(study.network, by="layer"), ba.rdm(study.brain, by="region"))
    >>> out.unique.dims, bool((out.unique.sum("source_layer") <= 1).all())
    (('source_layer', 'target_region'), True)
    """
    check_choice("metric", metric, tuple(name for name, measure in COMPARATORS.items() if measure.of_units), owner="regress_rdms")
    sources, targets, both = _complete(source, target, join, "regress_rdms")
    prepared, wanted = (COMPARATORS[metric].prepare(x) for x in (sources, targets))
    _check_independent(prepared, source)
    coefficient, unique, r2 = regress(prepared, wanted)
    (dims, shape, coords), (parts, size, more_coords) = leading(target, "target"), leading(source, "source")
    named = {"coefficient": coefficient, "unique": unique}
    out = xr.Dataset(
        {name: (parts + dims, values.reshape(size + shape)) for name, values in named.items()}
        | {"r2": (dims, r2.reshape(shape))},
        coords=coords | more_coords,
        attrs={"metric": metric, "join": join, "report": json.dumps(both.report)},
    )
    params = {"metric": metric, "join": join}
    return write_step(out, "regress_rdms", params=params, inputs={"source": source, "target": target})


def _complete(source: xr.DataArray, target: xr.DataArray, join: str, owner: str) -> tuple[Numbers, Numbers, JoinedRdms]:
    """Return the pairs of sources along one dim and of targets, none of them missing."""
    check_choice("join", join, ("inner", "exact"), owner=owner)
    both = join_rdms({"source": source, "target": target}, join)
    if source.ndim != 3:
        raise ParameterError(
            f"{owner} got a source with dims {source.dims}. Expected one dim of components before 'stimulus': select from the others, "
            "`x.isel(time=0)`, or stack them."
        )
    for name, x in (("source", source), ("target", target)):
        missing = np.flatnonzero(np.isnan(both.vectors[name]).any(axis=1))
        if missing.size:
            raise SchemaError(
                f"{name}{label_of(x, int(missing[0]))} has {np.isnan(both.vectors[name][missing[0]]).sum()} missing pairs. Expected none, for "
                f"{owner} fits all of them together: leave out the stimuli that have them."
            )
    return both.vectors["source"], both.vectors["target"], both


def _n_folds(cv: Any, n: int) -> int:
    if n < 2 * _LEAST_STIMULI:
        raise ParameterError(f"fit_rdms got {n} stimuli. Expected at least {2 * _LEAST_STIMULI}: two folds of {_LEAST_STIMULI}.")
    default = next(folds for least, folds in _FOLDS if n >= least)
    return int(check_number("cv", default if cv is None else cv, owner="fit_rdms", low=2, high=n // _LEAST_STIMULI, integer=True))


def _dealt(n: int, n_folds: int, streams: list[np.random.SeedSequence]) -> list[Numbers]:
    """Return which stimuli each fold tests, (stimulus,); they are dealt anew by each stream."""
    every = np.arange(n)
    orders = [np.random.default_rng(stream).permutation(n) for stream in streams]
    return [np.isin(every, test) for order in orders for test in np.array_split(order, n_folds)]


def _subject_first(target: xr.DataArray, over: str | None) -> list[int]:
    """Return the order of the target's leading dims in which that of subjects is the first."""
    known = target.dims[:-2]
    if over is None:
        return list(range(len(known)))
    check_choice("over", over, known, owner="fit_rdms")
    if target.sizes[over] < 2:
        raise ParameterError(f"fit_rdms got over={over!r} with one entry. Expected two or more: one is left out at a time.")
    return sorted(range(len(known)), key=lambda k: known[k] != over)


def _one_fold(sources: Numbers, targets: Numbers, held: Numbers, model: str, metric: str) -> tuple[Numbers, Numbers, Numbers]:
    """Return scores (target,), those of each component (component, target) and weights (component, target) of one fold."""
    first, second = np.triu_indices(len(held), 1)
    inside, outside = held[first] & held[second], ~held[first] & ~held[second]
    weights = _fitted(sources[:, outside], targets[..., outside], model, metric)
    measure, truth = COMPARATORS[metric], targets[..., inside].reshape(-1, inside.sum())
    predicted, wanted = measure.prepare(weights @ sources[:, inside]), measure.prepare(truth)
    if measure.product is inner_products:
        score = np.clip(np.einsum("tf,tf->t", predicted, wanted), -1.0, 1.0)
    else:
        score = np.array([measure.product(predicted[t : t + 1], wanted[t : t + 1])[0, 0] for t in range(len(truth))])
    return score, measure.product(measure.prepare(sources[:, inside]), wanted), weights.T


def _tested(
    by_fold: Numbers,
    sources: Numbers,
    targets: Numbers,
    tested: list[Numbers],
    orders: Numbers,
    model: str,
    metric: str,
    progress: bool | None,
) -> dict[str, Numbers]:
    """Return p-values (target,) of the mean held-out score against those of targets whose stimuli changed names."""

    def scored(moved: Numbers) -> Numbers:
        return known_mean(np.stack([_one_fold(sources, moved, held, model, metric)[0] for held in tested]))

    moved = progress_bar(moved_entries(orders, targets.shape[-1]), progress=progress, desc="permutations")
    null = np.stack([scored(targets[..., entries]) for entries in moved])
    null = np.where(np.isnan(null), -np.inf, null)  # a fit that finds no combination at all is below any that does
    observed = known_mean(by_fold) - _TIE
    p = p_values(observed, null)
    return {"p_value": p, "p_value_fdr": false_discovery_rate(p), "p_value_max": p_of_the_maximum(observed, null)}


def _fitted(sources: Numbers, targets: Numbers, model: str, metric: str) -> Numbers:
    """Return weights (target, component), fitted to each target or, where there are subjects, to the mean of the others."""
    measure, n = COMPARATORS[metric], len(targets)
    flat = targets.reshape(-1, targets.shape[-1])
    if model == "select":
        scores = measure.product(measure.prepare(sources), measure.prepare(flat))
        scores = _of_others(np.nan_to_num(scores, nan=-1.0).T.reshape(n, -1, len(sources)))
        return np.asarray(np.eye(len(sources))[scores.argmax(axis=1)])
    features = measure.features or around_mean
    wanted = features(flat)
    if n > 1:
        wanted = _of_others(np.nan_to_num(units(wanted)).reshape(n, -1, wanted.shape[1]))
    return fit_weights(features(sources), wanted, model)


def _of_others(x: Numbers) -> Numbers:
    """Return the mean over the other subjects, (subject, group, ...) -> (target, ...); of one subject, itself."""
    others = (x.sum(axis=0) - x) / (len(x) - 1) if len(x) > 1 else x
    return np.asarray(others.reshape(-1, x.shape[-1]))


def _check_independent(prepared: Numbers, source: xr.DataArray) -> None:
    """Raise where a source does not vary, or is a combination of others."""
    flat = np.flatnonzero(np.isnan(prepared).any(axis=1))
    if flat.size:
        raise SchemaError(
            f"source{label_of(source, int(flat[0]))} does not vary over the pairs. Expected sources that do: leave it out."
        )
    values, axes = np.linalg.eigh(prepared @ prepared.T)
    if values[0] < _COLLINEAR:
        among = [label_of(source, int(k)).removeprefix(" at ") for k in np.flatnonzero(np.abs(axes[:, 0]) > 1e-3)]
        raise SchemaError(
            f"regress_rdms got sources of which one is a combination of the others, among {preview(among)}. Expected independent ones, or "
            "what each adds is not defined: leave one out."
        )
