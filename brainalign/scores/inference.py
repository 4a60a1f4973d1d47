"""What chance would score: the same models, fitted and tested on responses whose rows were exchanged, or shifted in time."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import NullWarning, SplitError
from brainalign.core.progress import progress_bar
from brainalign.core.tables import coords_of, presentation_table
from brainalign.dataset.repeats import exchange_groups
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import (
    false_discovery_rate,
    p_of_the_maximum,
    p_values,
    time_orders,
)
from brainalign.engine.shifts import autocorrelation_time
from brainalign.features.timing import rows_by_run, run_codes
from brainalign.scores.pairing import Pair

NULLS = ("auto", "exchange", "shift", "runs")
_LEAST_TIMES = 8  # runs shorter than this many autocorrelation times are no circles: docs/calibration.md
_LEAST_RUNS = 5  # of one length, for whole runs to be exchanged: 119 other orders
_LEAST_P = 0.05  # that orders of runs have to be enough for
_COLUMNS = 1000  # looked at to tell how long a recording is like itself
_LEAST_STIMULI = 5  # of a fold, for stimuli to be exchanged within it: 120 orders
_VALUES = 2**24  # of permuted targets that go through the model together: 64 MB


def choose_null(null: str, x: xr.DataArray) -> str:
    """Return the null that fits the rows: those of a recording in time are shifted, others exchanged.

    Parameters
    ----------
    null : {"auto", "exchange", "shift", "runs"}
    x : DataArray, (presentation, ...)

    Returns
    -------
    {"exchange", "shift", "runs"}
        ``"auto"`` exchanges whole runs where they are too short to be shifted in a circle, and five or more have one length.

    Raises
    ------
    SplitError
        Rows of a continuous recording are to be exchanged: neighbours are alike, and noise would look significant. Or rows
        without times are to be shifted, or runs of which no two have one length are to be exchanged.

    Warns
    -----
    NullWarning
        Runs are shifted that are shorter than eight times their autocorrelation, for want of runs to exchange; or runs are exchanged
        that have fewer than twenty orders.
    """
    timed = "onset_s" in coords_of(x, "presentation")
    if null in ("shift", "runs") and not timed:
        raise SplitError(f"null={null!r} got presentations without `onset_s`. Expected rows in time: use null='exchange'.")
    if null == "exchange" and timed:
        raise SplitError(
            "null='exchange' got presentations in time (they have `onset_s`). Expected null='shift': neighbours in time are alike, and "
            "exchanging them calls noise significant. Drop `onset_s` where presentations are independent."
        )
    if not timed:
        return "exchange"
    runs = runs_of(presentation_table(x))
    lengths, counts = np.unique([len(run) for run in runs], return_counts=True)
    if null == "runs" and counts.max() < 2:
        raise SplitError(
            f"null='runs' got runs of {', '.join(map(str, lengths.tolist()))} rows. Expected some of one length to exchange: use null='shift'."
        )
    if null == "runs":
        n_orders = math.prod(map(math.factorial, counts.tolist()))
        if n_orders * _LEAST_P < 1:
            warnings.warn(
                f"null='runs' got {len(runs)} runs of {', '.join(map(str, lengths.tolist()))} rows, which change places with those of their length "
                f"only: they have {n_orders} orders, so that no p is below {1 / n_orders:.2g}. Expected {_LEAST_RUNS} or more of one length, or "
                "null='shift'.",
                NullWarning,
                stacklevel=2,
            )
        return null
    lasts = _lasts(x, runs)
    if lengths.mean() >= _LEAST_TIMES * lasts:
        return "shift"
    if null == "auto" and counts.max() >= _LEAST_RUNS and len(lengths) == 1:
        return "runs"
    warnings.warn(
        f"Runs of {lengths.mean():.0f} rows are shifted in a circle that are alike over {lasts:.1f} rows. Expected runs {_LEAST_TIMES} times "
        f"as long, or {_LEAST_RUNS} or more of one length to exchange (null='runs'): the ends of so short a run do not fit, and about 8% of "
        "noise passes p ≤ .05. Take slow drifts out on both sides (`ba.Clean`), or ask for p ≤ .02.",
        NullWarning,
        stacklevel=2,
    )
    return "shift"


def null_orders(both: Pair, *, null: str, n_permutations: int, seed: int, within: Numbers | None = None) -> Numbers:
    """Return the orders in which the target's rows are scored again.

    Parameters
    ----------
    both : Pair
    null : {"exchange", "shift", "runs"}
        Exchange whole stimuli within each test fold (over all of them where a fold has fewer than five); shift each run in a
        circle; or exchange whole runs of one length, which holds however slow they are.
    n_permutations : int
    seed : int
    within : ndarray of int, (presentation,), optional
        Stimuli are exchanged with others of the same part only, such as a subject.

    Returns
    -------
    ndarray of int, (permutation, presentation)
        Fewer where a single run has fewer shifts, or runs fewer orders.
    """
    rng = np.random.default_rng(seed)
    rows = presentation_table(both.target)
    if null != "exchange":
        return time_orders(runs_of(rows), null=null, n_permutations=n_permutations, rng=rng)
    fold_of = np.full(len(rows), -1)
    for number, fold in enumerate(both.folds):
        fold_of[fold.test] = number
    stimulus = pd.factorize(rows["stimulus_id"], sort=True)[0]
    whole = np.zeros(len(rows), dtype=np.int64) if within is None else within
    parts = np.unique(np.stack([fold_of, whole]), axis=1, return_inverse=True)[1]
    if min(len(np.unique(stimulus[parts == part])) for part in np.unique(parts[fold_of >= 0])) < _LEAST_STIMULI:
        parts = whole
    return exchange_groups(stimulus, n_permutations, rng, owner="null='exchange'", within=parts)


def null_scores(
    both: Pair,
    orders: Numbers,
    score: Callable[[Pair], Numbers],
    *,
    shape: tuple[int, ...] | None = None,
    progress: bool | None = False,
) -> Numbers:
    """Return the scores of the target's rows in other orders, everything fitted anew.

    Parameters
    ----------
    both : Pair
    orders : ndarray of int, (permutation, presentation)
    score : callable
        From a pair to its scores, (neuroid[, time]); of several orders side by side, one after the other.
    shape : tuple of int, optional
        Of the scores of one order; default one for each neuroid and time.
    progress : bool or None

    Returns
    -------
    ndarray of float32, (permutation, neuroid[, time])

    Notes
    -----
    Permuted targets are further columns of one target where each column is fitted by itself (``separate_targets``): the source is
    then factorised once for all of them, and a penalty chosen for each. Moving only the rows of held-out predictions would be cheaper
    and wrong: the folds' models share training rows, and noise then passes p ≤ .05 in 8 to 12% of cases (ridge, 3 to 10 folds).
    """
    target = both.target
    shape = target.shape[1:] if shape is None else shape
    together = max(1, _VALUES // target.size) if both.model.separate_targets else 1
    out = []
    for start in progress_bar(range(0, len(orders), together), progress=progress, desc="permutations"):
        some = orders[start : start + together]
        moved = score(replace(both, target=_side_by_side(target, some)))
        out.append(moved.reshape(len(some), *shape).astype(np.float32))
    return np.concatenate(out)


def with_p_values(out: xr.Dataset, null: xr.DataArray, *, name: str = "p_value") -> xr.Dataset:
    """Add what chance says of each score, alone and among all of them.

    Parameters
    ----------
    out : Dataset
        With ``score``.
    null : DataArray, (permutation, ...)
        Null scores, with the dims of ``score``.
    name : str
        ``"p_value_bound"`` where p is no less than it should be.

    Returns
    -------
    Dataset
        With ``p_value``, ``p_value_fdr`` (Benjamini-Hochberg over all scores) and ``p_value_max`` (against the highest null score of each
        permutation, so that it holds for all scores together).
    """
    observed, values = out.score.values, null.transpose("permutation", *out.score.dims).values
    p = p_values(observed, values)
    columns = {name: p, f"{name}_fdr": false_discovery_rate(p), f"{name}_max": p_of_the_maximum(observed, values)}
    return out.assign({key: (out.score.dims, column) for key, column in columns.items()}).assign_attrs(n_permutations=len(values))


def _side_by_side(target: xr.DataArray, orders: Numbers) -> xr.DataArray:
    values = np.concatenate([target.values[order] for order in orders], axis=1)
    coords = {name: coord for name, coord in target.coords.items() if "neuroid" not in coord.dims}
    coords |= {name: ("neuroid", np.tile(labels, len(orders))) for name, labels in coords_of(target, "neuroid").items()}
    coords["neuroid_id"] = ("neuroid", np.arange(values.shape[1]))
    return xr.DataArray(values, dims=target.dims, coords=coords, attrs=target.attrs)


def _lasts(x: xr.DataArray, runs: list[Numbers]) -> float:
    """Return over how many rows nine in ten columns, or all but the slowest, are like themselves."""
    some = x[:, :: -(-x.shape[1] // _COLUMNS)].values
    return float(np.quantile(autocorrelation_time(some.reshape(len(some), -1), runs), 0.9))


def runs_of(rows: pd.DataFrame) -> list[Numbers]:
    """Return the rows of each run, in the order of time.

    Parameters
    ----------
    rows : DataFrame
        A presentation table with ``onset_s``.

    Returns
    -------
    list of ndarray of int
    """
    return rows_by_run(run_codes(rows), rows["onset_s"].to_numpy(dtype=np.float64))


def typical_step(rows: pd.DataFrame, runs: list[Numbers]) -> float:
    """Return the median time from one row to the next, in seconds; 0 where no run has two rows.

    Parameters
    ----------
    rows : DataFrame
    runs : list of ndarray of int

    Returns
    -------
    float
    """
    onsets = rows["onset_s"].to_numpy(dtype=np.float64)
    steps = np.concatenate([np.diff(onsets[run]) for run in runs])
    return float(np.median(steps)) if steps.size else 0.0
