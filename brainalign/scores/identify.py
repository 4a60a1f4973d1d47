"""``identify``: which of many stimuli it was, told by what a model predicts of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import DegeneratePredictionWarning, LeakWarning, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.dataset.split import folds_of
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_values
from brainalign.engine.retrieval import MEASURES, SIMILARITIES, chance_measures, rank_true, retrieval_measures
from brainalign.features.chain import chain
from brainalign.models.ridge import Ridge
from brainalign.scores.heldout import fit_fold
from brainalign.scores.inference import choose_null, null_orders, null_scores
from brainalign.scores.pairing import Pair, borrow_times, pair

_LOWER_IS_BETTER = np.array([-1.0 if name == "median-rank" else 1.0 for name in MEASURES])


def identify(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    model: Any = None,
    cv: Any = None,
    groups: str | None = None,
    metric: str = "cosine",
    query: str = "prediction",
    candidates: str | xr.DataArray = "test",
    centre: bool = True,
    join: str = "inner",
    repeats: str = "average",
    n_permutations: int = 0,
    null: str = "auto",
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Predict the target's whole pattern for held-out stimuli, and find each among candidates by its likeness to the prediction.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time])
        What is predicted from: a recording, to decode; a layer, to find which stimulus a brain saw.
    target : DataArray, (presentation, neuroid)
        The patterns that tell stimuli apart: an embedding, or a recording.
    model : mapping or chain, optional
        Default ``Ridge()``: one factorisation for all of the target's neuroids.
    cv, groups, join, repeats, null, random_state, progress
        As in :func:`evaluate`. Folds keep the presentations of a stimulus together.
    metric : {"cosine", "pearson", "euclidean", "dot"}
        Likeness of two patterns.
    query : {"prediction", "target"}
        Whether a prediction looks for its stimulus among the candidates' true patterns, or a true pattern for its prediction among the
        predictions.
    candidates : {"test", "all"} or DataArray, (presentation, neuroid)
        The stimuli of the test fold; all of the target's, those that models were trained on included; or further patterns of the same
        neuroids, which join those of the test fold.
    centre : bool
        Take the mean of the training rows from predictions and candidates. A penalty draws predictions towards that mean; left in, the
        candidates nearest to it are the answer to everything.
    n_permutations : int
        Fit again this often with the target's rows moved.

    Returns
    -------
    Dataset
        ``score`` and ``chance`` (measure): the share of queries whose true candidate is the first (``"top-1"``), among the first five
        or ten, its median rank from 1 (``"median-rank"``, lower is better), the mean of 1 / rank (``"reciprocal-rank"``), and the
        share of other candidates that it beats (``"two-way"``). ``rank`` (presentation), from 0, and ``n_candidates``, labelled by
        ``stimulus_id`` and ``fold``; NaN where there was no telling, which counts as chance. With permutations ``p_value`` (measure).

    Raises
    ------
    ParameterError
        A target with time; candidates of other neuroids; candidates beyond the test fold for queries by target.
    SchemaError, AlignmentError, SplitError
        As in :func:`evaluate`.

    Warns
    -----
    LeakWarning
        A step was fitted by hand, on test presentations too.
    DegeneratePredictionWarning
        Predictions that are NaN, or have no direction.

    Notes
    -----
    Ranks: (#{S > S_true} + #{S ≥ S_true} − 1) / 2, so that ties share theirs. Two-way identification is 1 − rank / (n − 1). Repeats are
    averaged only where ``repeats`` says so; candidates are always one a stimulus.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=100, random_state=0)
    >>> found = ba.identify(study.brain, study.network, cv=5, random_state=0)
    >>> bool(found.score.sel(measure="two-way") > 0.8)
    True
    """
    validate(source, name="source")
    validate(target, name="target")
    _check(target, metric, query, candidates, repeats, join, n_permutations)
    seed = check_random_state(random_state, owner="identify")
    steps = chain(Ridge() if model is None else model)
    if steps.is_classifier:
        raise ParameterError(
            f"identify got {steps!r}, which predicts labels. Expected a model of patterns, such as `ba.Ridge()`."
        )
    timed = borrow_times(target, source)
    folds = folds_of(timed, cv, groups, owner="identify", random_state=seed)
    both = pair(source, timed, steps, folds, join=join, repeats=repeats)
    _check_candidates(candidates, both.target)

    ranked = partial(_ranked, candidates=candidates, width=target.shape[1], metric=metric, query=query, centre=centre)
    out = _found(*ranked(both)).assign_attrs(metric=metric, query=query, report=json.dumps(both.report))
    lost = out.stimulus_id.values[np.isnan(out["rank"].values)]
    for leak in both.report["leaks"]:
        warnings.warn(leak, LeakWarning, stacklevel=2)
    if lost.size:
        warnings.warn(
            f"{lost.size} of {out.sizes['presentation']} queries have NaN or no direction, and count as chance: {preview(lost)}. Look at "
            "`rank`.",
            DegeneratePredictionWarning,
            stacklevel=2,
        )
    if n_permutations:
        null = choose_null(null, timed)
        orders = null_orders(both, null=null, n_permutations=n_permutations, seed=seed)
        chance = null_scores(both, orders, _measured(ranked), shape=(len(MEASURES),), progress=progress)
        out["p_value"] = ("measure", p_values(out.score.values * _LOWER_IS_BETTER, chance * _LOWER_IS_BETTER))
        out.attrs |= {"null": null, "n_permutations": len(orders)}
    params = {
        "model": steps, "cv": both.report["folds"], "metric": metric, "query": query, "repeats": both.report["repeats"], "join": join,
        "candidates": candidates if isinstance(candidates, str) else f"{len(candidates)} more", "centre": centre, "n_permutations": n_permutations,
    }  # fmt: skip
    return write_step(out, "identify", params=params, inputs={"source": source, "target": target}, seed=seed)


def _found(ranks: Numbers, counts: Numbers, rows: list[Any]) -> xr.Dataset:
    names = np.concatenate([names for _, names in rows])
    return xr.Dataset(
        {
            "score": ("measure", retrieval_measures(ranks[:, 0], counts)),
            "chance": ("measure", chance_measures(counts)),
            "rank": ("presentation", ranks[:, 0]),
            "n_candidates": ("presentation", counts),
        },
        coords={
            "measure": as_labels(list(MEASURES)),
            "stimulus_id": ("presentation", as_labels(names)),
            "fold": ("presentation", as_labels([fold for fold, names in rows for _ in names])),
        },
    )


def _measured(ranked: Callable[[Pair], tuple[Numbers, Numbers, list[Any]]]) -> Callable[[Pair], Numbers]:
    def measure(moved: Pair) -> Numbers:
        ranks, counts, _ = ranked(moved)
        return np.stack([retrieval_measures(column, counts) for column in ranks.T])

    return measure


def _ranked(
    both: Pair, *, candidates: Any, width: int, metric: str, query: str, centre: bool
) -> tuple[Numbers, Numbers, list[Any]]:
    """Return ranks (query, copy) of targets that lie side by side, numbers of candidates, and (fold, stimuli) of the queries."""
    pool = {"all": both.target, "test": None}[candidates] if isinstance(candidates, str) else candidates
    ranks, counts, rows = [], [], []
    for fold in both.folds:
        _, prediction, truth = fit_fold(both, fold)
        codes, names = pd.factorize(truth.stimulus_id.values.astype(object))
        middle = _copies(both.target[fold.train].values.mean(axis=0, keepdims=True), width) * centre
        guessed, true = (_copies(np.asarray(x), width) - middle for x in (prediction, truth))
        more = _beyond(pool, names, width)
        found = []
        for k, (guess, pattern) in enumerate(zip(guessed, true, strict=True)):
            known = np.isfinite(guess).any(axis=0) & np.isfinite(pattern).any(axis=0)  # a neuroid that never varied tells nothing
            guess, patterns = guess[:, known], _means(pattern[:, known], codes)
            if query == "target":
                found.append(rank_true(patterns, _means(guess, codes), np.arange(len(names)), similarity=metric))
            else:
                others = (more[k % len(more)] - middle[k])[:, known]
                found.append(rank_true(guess, np.concatenate([patterns, others]), codes, similarity=metric))
        ranks.append(np.stack(found, axis=1))
        counts.append(np.full(len(ranks[-1]), len(names) + more.shape[1]))
        rows.append((fold.name, names if query == "target" else names[codes]))
    return np.concatenate(ranks), np.concatenate(counts), rows


def _copies(values: Numbers, width: int) -> Numbers:
    """Return (copy, row, neuroid) of copies that lie side by side."""
    return np.moveaxis(values.reshape(len(values), -1, width), 1, 0)


def _means(values: Numbers, codes: Numbers) -> Numbers:
    """Return the mean row of each stimulus."""
    n = codes.max(initial=-1) + 1
    if n == len(codes):
        return values
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, codes, values)
    return out / np.bincount(codes)[:, None]


def _beyond(pool: xr.DataArray | None, names: Any, width: int) -> Numbers:
    """Return the patterns of the pool, (copy, stimulus, neuroid), of stimuli that the fold does not test."""
    if pool is None:
        return np.empty((1, 0, width))
    ids = pd.Index(pool.stimulus_id.values.astype(object))
    other = np.flatnonzero(~ids.isin(names))
    codes = pd.factorize(ids[other])[0]
    return np.stack([_means(copy[other], codes) for copy in _copies(pool.values, width)])


def _check_candidates(candidates: Any, target: xr.DataArray) -> None:
    if isinstance(candidates, str):
        return
    validate(candidates, name="candidates")
    if candidates.dims != target.dims or candidates.neuroid_id.values.tolist() != target.neuroid_id.values.tolist():
        raise ParameterError(
            f"candidates have dims {candidates.dims} and {candidates.shape[1]} neuroids, of the names "
            f"{preview(candidates.neuroid_id.values)}. Expected the target's {target.shape[1]} neuroids in its order: "
            f"{preview(target.neuroid_id.values)}."
        )


def _check(target: xr.DataArray, metric: str, query: str, candidates: Any, repeats: str, join: str, n_permutations: int) -> None:
    check_choice("metric", metric, SIMILARITIES, owner="identify")
    check_choice("query", query, ("prediction", "target"), owner="identify")
    check_choice("repeats", repeats, ("average", "keep", "train-single"), owner="identify")
    check_choice("join", join, ("inner", "exact"), owner="identify")
    check_number("n_permutations", n_permutations, owner="identify", low=0, integer=True)
    if isinstance(candidates, str):
        check_choice("candidates", candidates, ("test", "all"), owner="identify")
    if "time" in target.dims:
        raise ParameterError(
            f"identify got a target with dims {target.dims}. Expected one pattern a presentation: choose a time with "
            "`target.sel(time=0.1, method='nearest')`, or average over a window."
        )
    if query == "target" and not (isinstance(candidates, str) and candidates == "test"):
        raise ParameterError(
            "identify got query='target' and candidates beyond the test fold, for which nothing is predicted. Expected "
            "candidates='test'."
        )
