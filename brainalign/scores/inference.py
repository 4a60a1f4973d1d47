"""What chance would score: the same models, fitted and tested on responses whose rows were exchanged, or shifted in time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SplitError
from brainalign.core.tables import coords_of, presentation_table
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import draw_shifts, exchanged, false_discovery_rate, p_of_the_maximum, p_values
from brainalign.scores.pairing import Pair

NULLS = ("auto", "exchange", "shift")
_LEAST_SHIFT_S = 10.0  # shorter shifts leave the two sides as alike as they were
_LEAST_STIMULI = 5  # of a fold, for stimuli to be exchanged within it: 120 orders
_VALUES = 2**24  # of permuted targets that go through the model together: 64 MB


def choose_null(null: str, x: xr.DataArray) -> str:
    """Return the null that fits the rows: those of a recording in time are shifted, others exchanged.

    Parameters
    ----------
    null : {"auto", "exchange", "shift"}
    x : DataArray, (presentation, ...)

    Returns
    -------
    {"exchange", "shift"}

    Raises
    ------
    SplitError
        Rows of a continuous recording are to be exchanged: neighbours are alike, and noise would look significant. Or rows
        without times are to be shifted.
    """
    timed = "onset_s" in coords_of(x, "presentation")
    if null == "auto":
        return "shift" if timed else "exchange"
    if null == "shift" and not timed:
        raise SplitError("null='shift' got presentations without `onset_s`. Expected rows in time: use null='exchange'.")
    if null == "exchange" and timed:
        raise SplitError(
            "null='exchange' got presentations in time (they have `onset_s`). Expected null='shift': neighbours in time are alike, and "
            "exchanging them calls noise significant. Drop `onset_s` where presentations are independent."
        )
    return null


def null_orders(both: Pair, *, null: str, n_permutations: int, seed: int) -> Numbers:
    """Return the orders in which the target's rows are scored again.

    Parameters
    ----------
    both : Pair
    null : {"exchange", "shift"}
        Exchange whole stimuli within each test fold (over all of them where a fold has fewer than five); or shift each run in a
        circle, by 10 s or more.
    n_permutations : int
    seed : int

    Returns
    -------
    ndarray of int, (permutation, presentation)
        Fewer where a single run has fewer shifts.
    """
    rng = np.random.default_rng(seed)
    rows = presentation_table(both.target)
    if null == "shift":
        return _shifted(rows, n_permutations, rng)
    fold_of = np.full(len(rows), -1)
    for number, fold in enumerate(both.folds):
        fold_of[fold.test] = number
    stimulus = pd.factorize(rows["stimulus_id"])[0]
    if min(len(np.unique(stimulus[fold.test])) for fold in both.folds) < _LEAST_STIMULI:
        fold_of[:] = 0
    parts = [np.flatnonzero(fold_of == number) for number in np.unique(fold_of)]
    orders = np.tile(np.arange(len(rows)), (n_permutations, 1))
    for order in orders:
        for part in parts:
            order[part] = part[exchanged(stimulus[part], rng)]
    return orders


def null_scores(both: Pair, orders: Numbers, score: Callable[[Pair], Numbers], *, progress: bool = False) -> Numbers:
    """Return the scores of the target's rows in other orders, everything fitted anew.

    Parameters
    ----------
    both : Pair
    orders : ndarray of int, (permutation, presentation)
    score : callable
        From a pair to its scores, (neuroid[, time]).
    progress : bool

    Returns
    -------
    ndarray of float32, (permutation, neuroid[, time])

    Notes
    -----
    Permuted targets are further columns of one target: a mapping that treats columns one by one factorises the source once for all
    of them, and chooses its penalty for each. Moving only the rows of held-out predictions would be cheaper and wrong: the folds'
    models share training rows, and noise then passes p ≤ .05 in 8 to 12% of cases (ridge, 3 to 10 folds).
    """
    from tqdm.auto import tqdm

    target = both.target.compute()  # once, where it is lazy
    shape = target.shape[1:]
    together = 1 if both.model.is_classifier else max(1, _VALUES // target.size)
    out = []
    for start in tqdm(range(0, len(orders), together), desc="permutations", disable=not progress):
        some = orders[start : start + together]
        moved = score(replace(both, target=_side_by_side(target, some)))
        out.append(moved.reshape(len(some), *shape).astype(np.float32))
    return np.concatenate(out)


def with_p_values(out: xr.Dataset, null: xr.DataArray) -> xr.Dataset:
    """Add what chance says of each score, alone and among all of them.

    Parameters
    ----------
    out : Dataset
        With ``score``.
    null : DataArray, (permutation, ...)
        Null scores, with the dims of ``score``.

    Returns
    -------
    Dataset
        With ``p_value``, ``p_value_fdr`` (Benjamini-Hochberg over all scores) and ``p_value_max`` (against the highest null score of each
        permutation, so that it holds for all scores together).
    """
    observed, values = out.score.values, null.transpose("permutation", *out.score.dims).values
    p = p_values(observed, values)
    columns = {"p_value": p, "p_value_fdr": false_discovery_rate(p), "p_value_max": p_of_the_maximum(observed, values)}
    return out.assign({name: (out.score.dims, column) for name, column in columns.items()}).assign_attrs(
        n_permutations=len(values)
    )


def _side_by_side(target: xr.DataArray, orders: Numbers) -> xr.DataArray:
    values = np.concatenate([target.values[order] for order in orders], axis=1)
    kept = {name: coord for name, coord in target.coords.items() if "neuroid" not in coord.dims}
    return xr.DataArray(
        values, dims=target.dims, coords={**kept, "neuroid_id": ("neuroid", np.arange(values.shape[1]))}, attrs=target.attrs
    )


def _shifted(rows: pd.DataFrame, n_permutations: int, rng: np.random.Generator) -> Numbers:
    onsets = rows["onset_s"].to_numpy(dtype=np.float64)
    runs = _runs(rows, onsets)
    steps = [np.median(np.diff(onsets[run])) if len(run) > 1 else np.inf for run in runs]
    least = [max(1, int(np.ceil(_LEAST_SHIFT_S / step))) if step > 0 else 1 for step in steps]
    shifts = draw_shifts([len(run) for run in runs], least, n_permutations, rng)
    orders = np.empty((len(shifts), len(rows)), dtype=np.int64)
    for run, shift in zip(runs, shifts.T, strict=True):
        orders[:, run] = run[(np.arange(len(run)) + shift[:, None]) % len(run)]
    return orders


def _runs(rows: pd.DataFrame, onsets: Numbers) -> list[Numbers]:
    """Return the rows of each run, in the order of time."""
    labels = [name for name in ("subject", "session", "run") if name in rows]
    codes = rows.groupby(labels, sort=False, dropna=False).ngroup().to_numpy() if labels else np.zeros(len(rows), dtype=np.int64)
    order = np.lexsort((onsets, codes))
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
