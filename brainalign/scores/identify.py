"""``identify``: which of many stimuli it was, told by what a model predicts of it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import DegeneratePredictionWarning, LeakWarning, ParameterError, TransductiveWarning
from brainalign.core.parameters import check_choice, check_number, check_random_state, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, numbered
from brainalign.dataset.align import SAME_TIME_S
from brainalign.dataset.split import folds_of
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_values
from brainalign.engine.retrieval import MEASURES, SIGNS, SIMILARITIES, chance_measures, retrieval_measures
from brainalign.features.chain import Chain, chain
from brainalign.models.ridge import Ridge
from brainalign.scores.audit import tell_shared_samples
from brainalign.scores.beside import with_baseline
from brainalign.scores.candidates import Asked, rank_queries
from brainalign.scores.inference import choose_null, null_orders, null_scores
from brainalign.scores.pairing import Pair, borrow_times, pair
from brainalign.scores.windows import over_windows


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
    by: str | None = None,
    centre: bool = True,
    rescale: str = "none",
    windows: Sequence[tuple[float, float]] | None = None,
    join: str = "inner",
    repeats: str = "average",
    n_permutations: int = 0,
    null: str = "auto",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
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
    metric : {"cosine", "pearson", "euclidean", "dot", "likelihood"}
        Likeness of two patterns; ``"likelihood"`` is that of their difference as noise, whose covariance is estimated on the training rows.
        From a layer to a recording, with ``query="target"``, it inverts an encoding model.
    query : {"prediction", "target"}
        Whether a prediction looks for its stimulus among the candidates' true patterns, or a true pattern for its prediction among the
        predictions.
    candidates : {"test", "all"} or DataArray, (presentation, neuroid)
        The stimuli of the test fold; all of the target's, those that models were trained on included; or further ones, which join those of the
        test fold: patterns of the target's neuroids, or for queries by target rows of the source, for which patterns are predicted.
    by : str, optional
        Presentation coordinate of the target (and of further candidates): tell its values apart instead of stimuli. A candidate is then the
        mean pattern of a class, of the query's own without the query's stimulus. Another question than which stimulus it was, with another
        answer.
    centre : bool
        Take the mean of the training rows from predictions and candidates. A penalty draws predictions towards that mean; left in, the
        candidates nearest to it are the answer to everything.
    rescale : {"none", "train", "test"}
        Give each neuroid's predictions the mean and the deviation of the training rows, which a penalty shrinks: by held-out predictions of
        these (five inner folds), or by the predictions under test themselves. The latter is done in the literature, helps itself to the
        test set, and is warned of.
    windows : sequence of (start, stop), optional
        Find them anew from what the source does from ``start`` until before ``stop``, in seconds: windows that slide, or that grow, as in
        ``[(0, stop) for stop in (0.1, 0.2, 0.3)]``. Models are fitted to each window.
    n_permutations : int
        Fit again this often with the target's rows moved.

    Returns
    -------
    Dataset
        ``score`` and ``chance`` (measure): the share of queries whose true candidate is the first (``"top-1"``), among the
        first five or ten, its median rank from 1 (``"median-rank"``, lower is better), the mean of 1 / rank
        (``"reciprocal-rank"``), and the share of other candidates that it beats (``"two-way"``). ``rank`` (presentation), from
        0, and ``n_candidates``, labelled by ``stimulus_id`` and ``fold``; NaN where there was no telling, which counts as
        chance. With permutations ``p_value`` (measure). Models with a baseline, as :class:`ContrastiveDecoder` has, also
        ``score_baseline`` (measure), of the same folds. With windows all but these two numbers of guesses have a dim ``window``, with ``start_s``
        and ``stop_s``, and permutations, the same in each, give ``p_value_max``, which holds for all windows.

    Raises
    ------
    ParameterError
        A target with time; candidates of other neuroids; all candidates for queries by target, of which models were fitted to some.
    SchemaError, AlignmentError, SplitError
        As in :func:`evaluate`; a fold with a single candidate.

    Warns
    -----
    LeakWarning
        A step was fitted by hand, on test presentations too.
    TransductiveWarning
        Predictions were rescaled by their own statistics.
    DegeneratePredictionWarning
        Predictions that are NaN, or have no direction.

    Notes
    -----
    Ranks: (#{S > S_true} + #{S ≥ S_true} − 1) / 2, so that ties share theirs. Two-way identification is 1 − rank / (n − 1). Repeats are
    averaged only where ``repeats`` says so; candidates are always one a stimulus.

    Likelihood: −½ (b − b̂)ᵀ Σ⁻¹ (b − b̂), with equal priors (Kay et al. 2008, Nishimoto et al. 2011). Σ is the covariance of held-out residuals
    of the training rows (five inner folds), correlations shrunk (Schäfer and Strimmer 2005). It is held as a whole: select or reduce tens of
    thousands of neuroids.

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
    asked = Asked(metric, query, candidates, by, centre, rescale, groups, target.shape[1])
    _check(target, asked, repeats, join, n_permutations)
    seed = check_random_state(random_state, owner="identify")
    one = partial(
        _identify, target=target, model=model, cv=cv, join=join, repeats=repeats, n_permutations=n_permutations, null=null, seed=seed,
        progress=progress, asked=asked,
    )  # fmt: skip
    out = one(source) if windows is None else over_windows(one, source, target, windows)
    return out.drop_vars("null_score", errors="ignore")


def _identify(
    source: xr.DataArray,
    *,
    target: xr.DataArray,
    model: Any,
    cv: Any,
    join: str,
    repeats: str,
    n_permutations: int,
    null: str,
    seed: int,
    progress: bool | None,
    asked: Asked,
) -> xr.Dataset:
    candidates, query, by = asked.candidates, asked.query, asked.by
    steps = chain(Ridge() if model is None else model)
    if steps.is_classifier:
        raise ParameterError(
            f"identify got {steps!r}, which predicts labels. Expected a model of patterns, such as `ba.Ridge()`."
        )
    timed = borrow_times(target, source)
    folds = folds_of(timed, cv, asked.groups, owner="identify", random_state=seed)
    both = pair(source, timed, steps, folds, join=join, repeats=repeats)
    if by is not None:
        _check_labels(both.target, by, "target")
    if not isinstance(candidates, str):
        _check_candidates(candidates, source if query == "target" else both.target, by)
        if query == "target":
            asked = replace(asked, candidates=_prepared(_at_times(candidates, source), steps))

    tell_shared_samples(both, both.folds, across_times=True, source=source)
    ranked = partial(rank_queries, asked=asked)
    out = _found(*ranked(both)).assign_attrs(
        metric=asked.metric, query=query, rescale=asked.rescale, report=json.dumps(both.report)
    )
    _warn(out, both.report["leaks"], asked.rescale)
    out = with_baseline(out, both, lambda plain: _found(*ranked(plain)).score.values)
    if n_permutations:
        null = choose_null(null, timed)
        orders = null_orders(both, null=null, n_permutations=n_permutations, seed=seed)
        chance = null_scores(both, orders, _measured(ranked), shape=(len(MEASURES),), progress=progress)
        out["null_score"] = (("permutation", "measure"), chance)
        out["p_value"] = ("measure", p_values(out.score.values * SIGNS, chance * SIGNS))
        out.attrs |= {"null": null, "n_permutations": len(orders)}
    params = {
        "model": steps, "cv": both.report["folds"], "metric": asked.metric, "query": query, "repeats": both.report["repeats"], "join": join,
        "candidates": candidates if isinstance(candidates, str) else f"{len(candidates)} more", "by": by, "centre": asked.centre,
        "rescale": asked.rescale, "n_permutations": n_permutations,
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


def _prepared(candidates: xr.DataArray, steps: Chain) -> xr.DataArray:
    if steps.mixes:
        raise ParameterError(
            f"identify got further candidates for queries by target, and {steps!r}, which mixes presentations. Expected steps that keep them "
            "apart, so that a prediction is of one stimulus."
        )
    return steps.prepare(candidates, candidates)[0]


def _at_times(candidates: xr.DataArray, source: xr.DataArray) -> xr.DataArray:
    """Return candidates at the times of the source, which may be a window."""
    if "time" not in source.dims:
        return candidates
    rows = pd.Index(candidates.time.values).get_indexer(source.time.values, method="nearest", tolerance=SAME_TIME_S)
    if (rows < 0).any():
        raise ParameterError(
            f"candidates lack {int((rows < 0).sum())} of the source's {len(rows)} times, first {source.time.values[rows < 0][0]:g} s. Expected "
            "all of them."
        )
    return candidates.isel(time=rows)


def _check_candidates(candidates: Any, like: xr.DataArray, by: str | None) -> None:
    validate(candidates, name="candidates")
    if candidates.dims != like.dims or candidates.neuroid_id.values.tolist() != like.neuroid_id.values.tolist():
        raise ParameterError(
            f"candidates have dims {candidates.dims} and {candidates.shape[1]} neuroids, of the names "
            f"{preview(candidates.neuroid_id.values)}. Expected the {like.shape[1]} neuroids of what predictions are compared with (of the "
            f"source, for queries by target) in its order: {preview(like.neuroid_id.values)}."
        )
    if by is not None:
        _check_labels(candidates, by, "candidates")


def _check_labels(x: xr.DataArray, by: str, side: str) -> None:
    known = coords_of(x, "presentation")
    if by not in known:
        raise ParameterError(
            f"identify got by={by!r}, which is no presentation coordinate of the {side} (repeats of a stimulus that differ in it lose it). "
            f"Expected one of {', '.join(sorted(known))}.{did_you_mean(by, known)}"
        )
    classes = numbered(known[by], by, "presentation")[1]
    if side == "target" and len(classes) < 2:
        raise ParameterError(f"identify got by={by!r}, which has one value, {classes[0]!s}. Expected classes to tell apart.")


def _warn(out: xr.Dataset, leaks: list[str], rescale: str) -> None:
    lost = out.stimulus_id.values[np.isnan(out["rank"].values)]
    for leak in leaks:
        warnings.warn(leak, LeakWarning, stacklevel=4)
    if rescale == "test":
        warnings.warn(
            "Predictions were given the training rows' mean and deviation by statistics of the test rows themselves: the score is one of a set, "
            "not of single presentations. Expected rescale='train', for a claim about these.",
            TransductiveWarning,
            stacklevel=4,
        )
    if lost.size:
        warnings.warn(
            f"{lost.size} of {out.sizes['presentation']} queries have NaN or no direction, and count as chance: {preview(lost)}. Look at "
            "`rank`.",
            DegeneratePredictionWarning,
            stacklevel=4,
        )


def _check(target: xr.DataArray, asked: Asked, repeats: str, join: str, n_permutations: int) -> None:
    check_choice("metric", asked.metric, (*SIMILARITIES, "likelihood"), owner="identify")
    check_choice("query", asked.query, ("prediction", "target"), owner="identify")
    check_choice("rescale", asked.rescale, ("none", "train", "test"), owner="identify")
    check_choice("repeats", repeats, ("average", "keep", "train-single"), owner="identify")
    check_choice("join", join, ("inner", "exact"), owner="identify")
    check_number("n_permutations", n_permutations, owner="identify", low=0, integer=True)
    if isinstance(asked.candidates, str):
        check_choice("candidates", asked.candidates, ("test", "all"), owner="identify")
    if "time" in target.dims:
        raise ParameterError(
            f"identify got a target with dims {target.dims}. Expected one pattern a presentation: choose a time with "
            "`target.sel(time=0.1, method='nearest')`, or average over a window."
        )
    if asked.query == "target" and isinstance(asked.candidates, str) and asked.candidates == "all":
        raise ParameterError(
            "identify got query='target' and candidates='all', some of which the models were fitted to. Expected candidates='test', or rows "
            "of the source for stimuli that are nowhere in the target."
        )
