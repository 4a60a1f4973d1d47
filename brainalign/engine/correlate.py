"""Correlation and its kin, column by column; undefined values are NaN, never 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from brainalign.engine.moments import FoldSums, Numbers, deviations, fold_sums


def pearson_columns(A: Numbers, B: Numbers) -> Numbers:
    """Return Pearson's r of each column of ``A`` with the same column of ``B``.

    Parameters
    ----------
    A, B : ndarray, (row, column...)

    Returns
    -------
    ndarray of float64, (column...)
        NaN where either side is constant or has a NaN.

    Examples
    --------
    >>> pearson_columns(np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]), np.array([[2.0, 1.0], [4.0, 2.0], [6.0, 0.0]]))
    array([ 1., nan])
    """
    return pooled_pearson(fold_sums(A, B, errors=False))


def ranks(x: Numbers, *, axis: int = 0) -> Numbers:
    """Return mid-ranks from 1; ties share their average rank, and one NaN makes its whole column NaN.

    Parameters
    ----------
    x : ndarray
    axis : int

    Returns
    -------
    ndarray of float64
    """
    moved = np.moveaxis(np.asarray(x), axis, -1)
    rows = np.ascontiguousarray(moved).reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    order = np.argsort(rows, axis=1)
    flat = (order + np.arange(len(rows))[:, None] * rows.shape[1]).ravel()
    ordered = rows.ravel()[flat].reshape(rows.shape)
    place, apart = np.arange(1.0, rows.shape[1] + 1), ordered[:, 1:] != ordered[:, :-1]
    mid = np.broadcast_to(place, rows.shape)
    if not apart.all():  # ties: the mean of the first and the last place of each run of equal values
        mid = np.add(*ends_of_ties(place, place, apart)) / 2
    out = np.empty(rows.shape)
    out.ravel()[flat] = mid.ravel()
    if ordered.dtype.kind == "f":
        out[np.isnan(ordered).any(axis=1)] = np.nan
    return np.moveaxis(out.reshape(moved.shape), -1, axis)


def ends_of_ties(low: Numbers, high: Numbers, apart: Numbers) -> tuple[Numbers, Numbers]:
    """Return for each value of sorted rows the low of the first, and the high of the last, of those that are tied with it.

    Parameters
    ----------
    low, high : ndarray of float64, ([row,] value)
        Not negative, and not decreasing along a row.
    apart : ndarray of bool, (row, value - 1)
        Where a value differs from the one before it.

    Returns
    -------
    low, high : ndarray of float64, (row, value)
    """
    edge = np.ones((len(apart), 1), dtype=bool)
    first, last = np.where(np.hstack([edge, apart]), low, 0.0), np.where(np.hstack([apart, edge]), high, np.inf)
    return np.maximum.accumulate(first, axis=1), np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]


def pooled_pearson(sums: FoldSums) -> Numbers:
    """Return r from pooled fold-centred sums: Σ_f Σ(y−ȳ_f)(ŷ−ŷ̄_f) / √(Σ_f Σ(y−ȳ_f)² Σ_f Σ(ŷ−ŷ̄_f)²).

    Parameters
    ----------
    sums : FoldSums
        Of all folds, from :func:`brainalign.engine.moments.pool_sums`.

    Returns
    -------
    ndarray of float64, (column...)
        NaN where targets or predictions do not vary within folds.

    Notes
    -----
    Predictions of different folds must not be concatenated before r is taken: the training mean moves against
    the test mean, and pure noise then scores r = -0.3 (ten folds) or -0.98 (leave one out).
    """
    return _ratio(sums.cross, np.sqrt(sums.target_ss) * np.sqrt(sums.prediction_ss), limit=1.0)


def pooled_r2(sums: FoldSums) -> Numbers:
    """Return R² from pooled sums: 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)².

    Parameters
    ----------
    sums : FoldSums

    Returns
    -------
    ndarray of float64, (column...)
        NaN where targets do not vary within folds.
    """
    return 1.0 - _ratio(sums.error_ss, sums.target_ss)


def correlation_matrix(A: Numbers, B: Numbers) -> Numbers:
    """Return Pearson's r of every column of ``A`` with every column of ``B``.

    Parameters
    ----------
    A : ndarray, (row, column)
    B : ndarray, (row, other)

    Returns
    -------
    ndarray of float64, (column, other)
        NaN where either side is constant or has a NaN.
    """
    a, b = deviations(A), deviations(B)
    norms = np.sqrt((a * a).sum(axis=0))[:, None] * np.sqrt((b * b).sum(axis=0))[None, :]
    return _ratio(a.T @ b, norms, limit=1.0)


def _ratio(numerator: Any, denominator: Any, limit: float = np.inf) -> Numbers:
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64))
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return np.asarray(np.clip(out, -limit, limit))  # rounding alone can take r past 1
