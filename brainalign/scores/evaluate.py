"""``evaluate``: how well one system predicts another, per neuroid, on presentations held out from all fitting."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import LeakWarning, ParameterError, SplitError
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.protocols import Metric
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.dataset.split import folds_of
from brainalign.dataset.writing import ResultParts, asked_before
from brainalign.features.chain import Chain, chain
from brainalign.models.ridge import Ridge
from brainalign.scores.audit import audit, tell_shared_samples
from brainalign.scores.beside import unique_variance, with_baseline, with_nuisance
from brainalign.scores.controls import Controls, with_controls
from brainalign.scores.draws import refit_scores
from brainalign.scores.heldout import score_pair
from brainalign.scores.inference import NULLS, choose_null, null_orders, null_scores, with_p_values
from brainalign.scores.joined import join_results
from brainalign.scores.metrics import METRICS
from brainalign.scores.normalised import normalise
from brainalign.scores.pairing import Pair, borrow_times, labels_as_target, mean_inverse_repeats, pair
from brainalign.scores.tiled import keeping_sources, key_of, of_whole, refuse_joint, score_in_tiles, tiles_of


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
    nuisance: str | None = None,
    controls: Any = "auto",
    n_permutations: int = 0,
    null: str = "auto",
    n_bootstraps: int = 0,
    n_refits: int = 0,
    random_state: int | np.random.Generator | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool | None = None,
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
    metric : {"pearson", "r2", "accuracy", "balanced-accuracy", "bits-per-spike", "pseudo-r2"} or Metric, optional
        Default Pearson r, or balanced accuracy for a classifier; the last two are of counts and of rates predicted for them. Plug-ins add
        names (``brainalign.metrics``); an object with the methods of :class:`brainalign.protocols.Metric` will do.
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
    nuisance : {"auto"} or None
        ``"auto"`` adds to a source in time what its presentation table says whatever the stimuli mean, such as word rate, onsets and the
        position in the run, as a band with its own penalty (:class:`BandedRidge`), and reports what each of the two explains alone,
        ``unique`` (band, neuroid), in R². Controls have it beside them too, but for the time of each row alone.
    controls : {"auto", "none"}, sequence of str, or dict of DataArray
        What else is scored, in the source's place: features that are ``"constant"``; a ``"random-projection"`` of which stimulus it is,
        as wide as the source; the real source with the target's stimuli ``"shuffled"``, or, for presentations in time (with
        ``onset_s``), each run ``"shifted"`` in a circle; and ``"autocorrelation"``, the time of each row alone, as bumps along its run that
        are as wide as the gap of the folds. Names choose among them; a dict adds responses of one's own, such as those of
        :func:`brainalign.controls` (pixels, an untrained network).
    n_permutations : int
        Fit and score this often with the target's rows moved, and add p-values; 1,000 or more for a claim.
    null : {"auto", "exchange", "shift", "runs"}
        Exchange stimuli within each fold; or, for presentations in time (with ``onset_s``), shift each run in a circle, or exchange whole
        runs. ``"auto"`` never exchanges rows that have times: neighbours in time are alike, and noise would look significant.
    n_bootstraps : int
        Draw the test stimuli (in time: stretches of 20 s) this often with replacement, and add an interval; 1,000 or more for a claim. It
        takes the fitted models as they are.
    n_refits : int
        Fit this often to all but a fifth of the stimuli, and keep the scores, from which :func:`bootstrap` and :func:`permutation_test`
        estimate how much other training stimuli would change; without, they take a bound. 20 for a claim about layers or systems.
    random_state : int, Generator or None
        For folds, controls, permutations and bootstraps that are drawn.
    store : path, optional
        A study, made where there is none, that gets the result as ``results/evaluate``. The target, which may be lazy and larger than
        memory, is then read once, in tiles of neuroids; what is scored of a tile is kept, and a run that was interrupted, even killed,
        continues at the next call. Scores, nulls, controls and intervals are those of one piece.
    resume : bool
        False where the store must not have such a result yet. One that was asked for with other arguments is never continued.
    progress : bool or None
        Show a progress bar over folds and permutations; with ``store``, over tiles. None: on a terminal or in a notebook, once it
        takes more than five seconds.

    Returns
    -------
    Dataset
        ``score`` (neuroid[, time]), pooled over folds from fold-centred sums, in its attr ``units``; ``score_by_fold``; ``alpha`` and
        ``cv_score`` (fold, neuroid) where the mapping chooses by inner folds; ``n_presentations``, ``n_undefined_folds``;
        ``chance`` where classes are decoded (of guesses by how often each comes), which :func:`permutation_test` holds scores against;
        ``score_control`` (control, neuroid) and ``score_minus_best_control``; ``score_baseline`` (neuroid) where the mapping names a plainer one
        to be scored beside it (:class:`ContrastiveDecoder`); with a ceiling, ``ceiling`` and ``score_normalized``;
        with permutations, ``p_value`` = (1 + #{null ≥ score}) / (1 + B), ``p_value_fdr`` and ``p_value_max``, which holds for all scores
        of one target together; with bootstraps, ``ci_low`` and ``ci_high`` (95%) and the draws, ``score_bootstrap`` (bootstrap, neuroid),
        the same for every source; with refits, ``score_refit`` (refit, neuroid). With a store, what takes more than
        8 MB is lazy (``.load()`` reads it). The coordinate ``status`` names neuroids that have no score. The attr ``report`` (JSON) says
        what was joined, dropped, averaged, split and fitted outside the folds.

    Raises
    ------
    SchemaError, AlignmentError, SplitError, ParameterError
        See the messages.
    CapabilityError
        The target has several tiles, and the model fits its neuroids together.
    StoreError
        The store has another result of this name, is being written, or is damaged.

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
    seed = seed_of(random_state, store, "evaluate")  # drawn once: the systems of a dict share their folds
    asked = Asked(
        model, cv, groups, metric, ceiling, join, repeats, time, nuisance, Controls.asked(controls), n_permutations, null, n_bootstraps, n_refits,
        seed, progress,
    )  # fmt: skip
    if store is None:
        return _without_nulls(score_systems(source, target, asked))
    return _in_store(source, target, asked, store, resume)


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
    nuisance: str | None
    controls: Controls
    n_permutations: int
    null: str
    n_bootstraps: int
    n_refits: int
    random_state: Any
    progress: bool | None

    def arguments(self) -> dict[str, Any]:
        """Return what decides a result beside source, target and folds, by argument name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("cv", "groups", "progress")}


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
        return _join_sources({name: score_systems(x, target, asked) for name, x in source.items()})
    if isinstance(target, Mapping):  # people who saw the same stimuli share what is made of the source
        asked = replace(asked, model=keeping_sources(_as_chain(asked.model, decoding=False)))
    return _over_targets(source, target, partial(_one_pair, asked=asked))


def _join_sources(parts: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    parts = {str(name): _without_nulls(part) for name, part in parts.items()}
    return join_results(parts, "source", xr.Variable("source", as_labels(list(parts))))


def _over_targets(source: Any, target: Any, score: Callable[[Any, Any], xr.Dataset]) -> xr.Dataset:
    if not isinstance(target, Mapping):
        return score(source, target)
    return join_results({str(name): _without_nulls(score(source, x)) for name, x in target.items()}, "target", "neuroid")


def seed_of(random_state: Any, store: Any, verb: str) -> int:
    """Return the seed of a call; where none is given, that of the result which it continues.

    Parameters
    ----------
    random_state : int, Generator or None
    store : path or None
    verb : str

    Returns
    -------
    int
    """
    before = asked_before(store, verb) if random_state is None and store is not None else None
    return check_random_state((before or {}).get("random_state", random_state), owner=verb)


def settle(source: xr.DataArray, target: Any, asked: Asked) -> Asked:
    """Return what was asked, with all that is to be the same for every neuroid of the target decided: its folds, and the null.

    Parameters
    ----------
    source : DataArray
    target : DataArray or str
    asked : Asked

    Returns
    -------
    Asked
    """
    validate(source, name="source")
    decoding = isinstance(target, str)
    model = _as_chain(asked.model, decoding)
    _check(asked, model)
    timed = borrow_times(labels_as_target(source, target) if decoding else validate(target, name="target"), source)
    null = choose_null(asked.null, timed) if asked.n_permutations else asked.null
    folds = folds_of(timed, asked.cv, asked.groups, owner="evaluate", random_state=asked.random_state)
    return replace(asked, model=model, cv=folds, groups=None, null=null)


def _in_store(source: Any, target: Any, asked: Asked, store: Any, resume: bool) -> xr.Dataset:
    """Score tile by tile, keep every tile, and make the result of all."""
    sources, targets = (x if isinstance(x, Mapping) else {"": x} for x in (source, target))
    shared = replace(asked, model=keeping_sources(_as_chain(asked.model, isinstance(target, str))))
    settled = {(a, b): settle(x, y, shared) for a, x in sources.items() for b, y in targets.items()}
    for one in settled.values():
        refuse_joint(one.model, tiles_of(targets))

    def score(a: Any, b: Any, x: xr.DataArray, tile: Any, ceiling: Any) -> xr.Dataset:
        return _one_pair(x, tile, replace(settled[a, b], ceiling=ceiling, progress=False))

    def whole(a: Any, b: Any) -> xr.Dataset:
        out = joined[a, b]
        out = with_p_values(out, out.null_score) if "null_score" in out else out
        return of_whole(out, sources[a], labels_as_target(sources[a], targets[b]) if isinstance(targets[b], str) else targets[b])

    folds = {f"{a}/{b}": one.cv for (a, b), one in settled.items()}
    key = key_of(sources, targets, folds, asked.arguments())
    with ResultParts(store, "evaluate", key, resume=resume) as parts:
        if parts.result is None:
            joined = score_in_tiles(
                parts, {a: x.compute for a, x in sources.items()}, targets, score, ceiling=asked.ceiling, seed=asked.random_state,
                progress=asked.progress,
            )  # fmt: skip
            names = {name: name for name in target} if isinstance(target, Mapping) else ""
            each = {name: _over_targets(name, names, whole) for name in sources}
            parts.finish(_without_nulls(_join_sources(each) if isinstance(source, Mapping) else each[""]))
        return parts.result


def _without_nulls(out: xr.Dataset) -> xr.Dataset:
    """Of the null scores only the p-values are kept."""
    return out.drop_vars("null_score", errors="ignore")


def _one_pair(source: xr.DataArray, target: Any, asked: Asked) -> xr.Dataset:
    validate(source, name="source")
    decoding = isinstance(target, str)
    target = labels_as_target(source, target) if decoding else validate(target, name="target")
    model = _as_chain(asked.model, decoding)
    again = asked.n_permutations or not {"shuffled", "shifted"}.isdisjoint(asked.controls.names)  # the same source, other targets
    metric, repeats = _check(asked, model)
    seed = check_random_state(asked.random_state, owner="evaluate")
    timed = borrow_times(target.compute(), source)  # read once, for all controls
    null = choose_null(asked.null, timed) if asked.n_permutations else None
    folds = folds_of(timed, asked.cv, asked.groups, owner="evaluate", random_state=seed)
    beside = None if asked.nuisance is None else with_nuisance
    kept = keeping_sources(model) if again else model
    both = pair(source, timed, kept, folds, join=asked.join, repeats=repeats, time=asked.time, beside=beside)
    _refuse_single_rows(both, metric.name)
    out = score_pair(both, metric, n_bootstraps=asked.n_bootstraps, seed=seed, progress=asked.progress)
    run = partial(score_pair, metric=metric)
    out = with_baseline(out, both, lambda plain: run(plain).score.values)
    if null:
        orders = null_orders(both, null=null, n_permutations=asked.n_permutations, seed=seed)
        chance = null_scores(both, orders, lambda moved: run(moved).score.values, progress=asked.progress)
        out["null_score"] = (("permutation", *out.score.dims), chance)
        out = with_p_values(out, out.null_score).assign_attrs(null=null)
    if asked.n_refits:
        out["score_refit"] = (("refit", *out.score.dims), refit_scores(both, lambda x: run(x).score.values, asked.n_refits, seed))
    if asked.controls:
        options = {"join": asked.join, "repeats": repeats, "time": asked.time, "beside": beside}
        pair_of = partial(pair, target=timed, model=model, folds=folds, **options)
        out = with_controls(out, asked.controls, both, source, mapping=model.steps[-1], pair_of=pair_of, score=run, seed=seed)
    if asked.nuisance is not None:
        out = unique_variance(out, both)
    if asked.ceiling is not None:
        averaged = mean_inverse_repeats(both)
        out = normalise(out, asked.ceiling, target, metric=metric.name, seed=seed, averaged=averaged)
    together = asked.time == "flatten" or "time" not in both.target.dims
    tell_shared_samples(both, both.folds, across_times=together, source=source, target=target)
    for leak in both.report["leaks"]:
        warnings.warn(leak, LeakWarning, stacklevel=4)
    both.report.update(audit(both, model, source=source, target=target))
    out.attrs |= {"metric": metric.name, "report": json.dumps(both.report)}
    params = {
        "model": model, "metric": metric.name, "cv": both.report["folds"], "join": asked.join, "repeats": both.report["repeats"],
        "time": asked.time, "nuisance": asked.nuisance, "controls": out.control.values.tolist() if "control" in out.coords else [],
        "n_permutations": asked.n_permutations, "null": null, "n_bootstraps": asked.n_bootstraps, "n_refits": asked.n_refits,
    }  # fmt: skip
    return write_step(out, "evaluate", params=params, inputs={"source": source, "target": target}, seed=seed)


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
    check_choice("nuisance", asked.nuisance, (None, "auto"), owner="evaluate")
    check_choice("null", asked.null, NULLS, owner="evaluate")
    for name in ("n_permutations", "n_bootstraps", "n_refits"):
        check_number(name, getattr(asked, name), owner="evaluate", low=0, integer=True)
    if asked.n_refits == 1:
        raise ParameterError("evaluate got n_refits=1. Expected two or more, whose scores differ: 20, or 0 for none.")
    return metric, "keep" if model.is_classifier else asked.repeats


def _as_chain(model: Any, decoding: bool) -> Chain:
    if model is None and decoding:
        from brainalign.models.classifier import Classifier

        model = Classifier()
    return chain(Ridge() if model is None else model)
