"""Distance correlation, as it is and between all thresholds on both sides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from brainalign.engine.moments import Numbers


def double_centred(distances: Numbers) -> Numbers:
    """Return distances less the means of their row and of their column, plus the mean of all.

    Parameters
    ----------
    distances : ndarray, (..., row, row)

    Returns
    -------
    ndarray of float64, (..., row, row)
    """
    wide = np.asarray(distances, dtype=np.float64)
    rows = wide - wide.mean(axis=-1, keepdims=True)
    rows -= rows.mean(axis=-2, keepdims=True)
    return np.asarray(rows)


def distance_correlation(first: Numbers, second: Numbers) -> Numbers:
    """Return the distance correlation of two sets of distances between the same rows.

    Parameters
    ----------
    first, second : ndarray, (..., row, row)

    Returns
    -------
    ndarray of float64, (...)
        From 0 to 1, and 0 where the sum is negative, as it may be of what are no Euclidean distances; NaN where all distances of a side
        are 0.

    Notes
    -----
    √(Σ ÃB̃ / √(Σ Ã² Σ B̃²)) of doubly centred distances (Székely, Rizzo and Bakirov 2007).

    Examples
    --------
    >>> line = np.abs(np.subtract.outer(np.arange(5.0), np.arange(5.0)))
    >>> float(distance_correlation(line, 3 * line).round(12))
    1.0
    """
    a, b = double_centred(_shares(first)), double_centred(_shares(second))
    return _correlation(*(np.einsum("...ij,...ij->...", *pair) for pair in ((a, b), (a, a), (b, b))))


def adaptive_correlations(
    first: Numbers,
    second: Numbers,
    levels: Numbers,
    *,
    orders: Numbers | None = None,
    shown: Callable[[Any], Any] = iter,
) -> tuple[Numbers, Numbers]:
    """Return distance correlations of distances that were clipped between two thresholds, each side its own.

    Parameters
    ----------
    first, second : ndarray, (row, row)
        Distances between the same rows.
    levels : ndarray, (level,)
        Thresholds in ascending order, in fractions of the largest distance of each side.
    orders : ndarray of int, (draw, row), optional
        In which the rows of the second side are permuted.
    shown : callable
        From a range to what goes along it with a bar.

    Returns
    -------
    observed : ndarray of float64, (transform, transform)
        For each pair l < u of levels, in the order of ``numpy.triu_indices(n_levels, 1)``, of the first and of the second side. NaN where
        all pairs of different rows lie on one side of the thresholds, for such distances say nothing.
    null : ndarray of float64, (draw, transform, transform)

    Notes
    -----
    AGTIC of Lin and Kriegeskorte (2018), with a ramp from l to u. The ramp is the sum of the pieces between neighbouring thresholds, and
    centring is linear: with 8 levels, 7 × 7 products of pieces give all 28 × 28 correlations of a permutation.
    """
    lower, upper = np.triu_indices(len(levels), 1)
    parts = np.arange(len(levels) - 1)
    weights = ((parts >= lower[:, None]) & (parts < upper[:, None])).astype(np.float64)
    rows, columns = np.triu_indices(len(first))
    twice = np.where(rows == columns, 1.0, 2.0)[:, None]
    shares = _shares(first), _shares(second)
    a, b = (_pieces(side, levels, rows, columns) for side in shares)
    lengths = []
    for pieces, side in zip((a, b), shares, strict=True):
        squares = np.einsum("ki,ki->k", weights @ (pieces.T @ (twice * pieces)), weights)
        apart = side[rows, columns][rows != columns]
        lengths.append(np.where((apart.min() < levels[upper]) & (apart.max() > levels[lower]), squares, np.nan))
    a = (twice * a).T

    def correlations(y: Numbers) -> Numbers:
        return _correlation(weights @ (a @ y) @ weights.T, lengths[0][:, None], lengths[1])

    place = np.empty(first.shape, dtype=np.int64)
    place[rows, columns] = place[columns, rows] = np.arange(len(rows))
    null = np.empty((0 if orders is None else len(orders), len(lower), len(lower)))
    for draw in shown(range(len(null))):
        order = orders[draw]  # type: ignore[index]
        null[draw] = correlations(b[place[order[rows], order[columns]]])
    return correlations(b), null


def _shares(distances: Numbers) -> Numbers:
    """Return distances in units of the largest of their matrix, so that none is too small to tell; NaN where all are 0."""
    wide = np.asarray(distances, dtype=np.float64)
    largest = wide.max(axis=(-2, -1), keepdims=True)
    return np.asarray(wide / np.where(largest > 0, largest, np.nan))


def _pieces(shares: Numbers, levels: Numbers, rows: Numbers, columns: Numbers) -> Numbers:
    """Return what each distance has between neighbouring thresholds, doubly centred; (pair, part)."""
    pieces = np.clip(shares, levels[:-1, None, None], levels[1:, None, None]) - levels[:-1, None, None]
    return np.ascontiguousarray(double_centred(pieces)[:, rows, columns].T)


def _correlation(product: Numbers, first: Numbers, second: Numbers) -> Numbers:
    length = np.sqrt(first) * np.sqrt(second)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(length > 1e-12, np.sqrt(np.clip(product / length, 0.0, 1.0)), np.nan)
