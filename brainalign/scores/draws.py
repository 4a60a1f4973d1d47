"""How far a score would move had other stimuli been shown: the bootstrap of held-out rows, every draw shared by all scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.protocols import Metric
from brainalign.core.tables import presentation_table
from brainalign.dataset.folds import RUN_LABELS
from brainalign.engine.bootstrap import LEFT_OUT, draw_weights
from brainalign.engine.moments import Numbers, fold_sums, pool_sums, weighted_fold_sums
from brainalign.engine.resample import BLOCK_S
from brainalign.scores.pairing import Pair

_VALUES = 2**22  # sums that are held at a time: 32 MB each


@dataclass(frozen=True)
class Held:
    """What one fold predicted.

    Attributes
    ----------
    truth, prediction : ndarray, (row, column)
    units : ndarray of str, (row,)
        What is drawn as one: the stimulus, or a stretch of a run.
    """

    truth: Numbers
    prediction: Numbers
    units: Numbers


def units_of(rows: xr.DataArray) -> Numbers:
    """Name what is drawn as one: the presentations of a stimulus; of a recording in time, those of the same 20 s.

    Parameters
    ----------
    rows : DataArray, (presentation, ...)

    Returns
    -------
    ndarray of object, (presentation,)
    """
    table = presentation_table(rows)
    if "onset_s" not in table:
        return table["stimulus_id"].to_numpy(dtype=object)
    runs = [table[name].astype(str) for name in RUN_LABELS if name in table]
    block = np.floor(table["onset_s"].to_numpy(dtype=np.float64) / BLOCK_S).astype(np.int64).astype(str)
    return np.array(["/".join(parts) for parts in zip(*runs, block, strict=True)], dtype=object)


def bootstrap_scores(folds: Sequence[Held], metric: Metric, n_draws: int, seed: int) -> Numbers:
    """Score the held-out rows again, with their units drawn with replacement.

    Parameters
    ----------
    folds : sequence of Held
    metric : Metric
    n_draws : int
    seed : int
        The same seed and units give the same draws, so that scores of several sources are paired.

    Returns
    -------
    ndarray of float32, (draw, column)

    Notes
    -----
    Models are not fitted again: intervals say how much the choice of test stimuli matters, given these models.
    """
    codes, names = pd.factorize(np.concatenate([fold.units for fold in folds]), sort=True)
    counts = draw_weights(len(names), n_draws, np.random.default_rng(seed))
    per_fold = np.split(codes, np.cumsum([len(fold.units) for fold in folds])[:-1])
    if getattr(metric, "sums", None) is not fold_sums:
        return np.stack([_one_draw(folds, metric, [count[rows] for rows in per_fold]) for count in counts]).astype(np.float32)
    weights = [counts[:, rows].astype(np.float64) for rows in per_fold]
    width, step = folds[0].truth.shape[1], max(1, _VALUES // n_draws)
    tiles = []
    for columns in (slice(start, start + step) for start in range(0, width, step)):
        sums = [
            weighted_fold_sums(fold.truth[:, columns], fold.prediction[:, columns], w)
            for fold, w in zip(folds, weights, strict=True)
        ]
        tiles.append(np.asarray(metric.score(pool_sums(sums)), dtype=np.float32))
    return np.concatenate(tiles, axis=1)


def refit_scores(both: Pair, score: Callable[[Pair], Numbers], n_refits: int, seed: int) -> Numbers:
    """Score the same test rows by models fitted to fewer stimuli, everything that they choose included.

    Parameters
    ----------
    both : Pair
    score : callable
        From a pair to its scores, (neuroid[, time]).
    n_refits : int
    seed : int
        The same seed and units leave the same out, so that scores of several sources are paired.

    Returns
    -------
    ndarray of float32, (refit, neuroid[, time])
        For each, a random fifth of the units (:func:`units_of`) is in no training rows:
        :func:`brainalign.engine.bootstrap.training_variance`.
    """
    codes, names = pd.factorize(units_of(both.target), sort=True)
    rng, n_left = np.random.default_rng(seed), max(1, round(LEFT_OUT * len(names)))
    out = []
    for _ in range(n_refits):
        left = np.isin(codes, rng.choice(len(names), n_left, replace=False))
        folds = [fold._replace(train=fold.train[~left[fold.train]]) for fold in both.folds]
        out.append(score(replace(both, folds=folds)).astype(np.float32))
    return np.stack(out)


def interval(draws: xr.DataArray, level: float = 0.95) -> dict[str, tuple[tuple[str, ...], Numbers]]:
    """Return the percentile interval of bootstrap draws, as variables of a result.

    Parameters
    ----------
    draws : DataArray, (bootstrap, ...)
    level : float

    Returns
    -------
    dict
        ``ci_low`` and ``ci_high``; NaN where a score has a draw without a value.
    """
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws.transpose("bootstrap", ...).values.astype(np.float64), tails, axis=0)
    dims = tuple(str(dim) for dim in draws.dims if dim != "bootstrap")
    return {"ci_low": (dims, low), "ci_high": (dims, high)}


def _one_draw(folds: Sequence[Held], metric: Metric, counts: Sequence[Numbers]) -> Numbers:
    """Score one draw with a metric that knows no weights: its rows are repeated."""
    sums = []
    for fold, count in zip(folds, counts, strict=True):
        rows = np.repeat(np.arange(len(count)), count)
        if rows.size:
            sums.append(metric.sums(fold.truth[rows], fold.prediction[rows]))
    return np.asarray(metric.score(metric.pool(sums)))
