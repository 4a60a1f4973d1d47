"""Area under the receiver operating characteristic of every column for every label at once, from one sort of each column."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers


def auroc(ranked: Numbers, positive: Numbers) -> Numbers:
    """Return how often a positive row lies above a negative one, ties counting one half.

    Parameters
    ----------
    ranked : ndarray of float64, (row, column)
        Mid-ranks, from :func:`brainalign.engine.correlate.ranks`.
    positive : ndarray, (row, label)
        1 for rows of the label, 0 for the others.

    Returns
    -------
    ndarray of float64, (column, label)
        NaN for a label that no row has, or all.

    Notes
    -----
    (R⁺ − n⁺(n⁺ + 1)/2) / (n⁺ n⁻), with R⁺ the sum of the ranks of positive rows (Mann and Whitney 1947). Sums of ranks are exact.

    Examples
    --------
    >>> auroc(np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]]), np.array([[0.0], [0.0], [1.0]])).tolist()
    [[1.0], [0.5]]
    """
    above = positive.sum(axis=0, dtype=np.float64)
    pairs = above * (len(positive) - above)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((ranked.T @ positive - above * (above + 1.0) / 2.0) / np.where(pairs > 0, pairs, np.nan))


def weighted_auroc(ranked: Numbers, positive: Numbers, total: Numbers) -> Numbers:
    """Return the area when rows count more or less often: of samples that were drawn with replacement.

    Parameters
    ----------
    ranked : ndarray, (row, column)
        Any numbers in the order of the values.
    positive : ndarray of float64, (row, draw, label)
        Weight of a row where it has the label, else 0.
    total : ndarray of float64, (row, draw)
        Weight of a row.

    Returns
    -------
    ndarray of float64, (draw, column, label)

    Notes
    -----
    Σ w⁺ m − (W⁺)²/2, over W⁺W⁻, with m the weight of all rows below and half of that of rows tied with it: positive rows among
    themselves add (W⁺)²/2 whatever their order.
    """
    above = positive.sum(axis=0)
    pairs = above * (total.sum(axis=0)[:, None] - above)
    out = np.empty((total.shape[1], ranked.shape[1], positive.shape[2]))
    for column, values in enumerate(ranked.T):
        order = np.argsort(values)
        ordered = values[order]
        starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        tied = np.add.reduceat(total[order], starts, axis=0)
        middle = np.empty(total.shape)
        middle[order] = np.repeat(np.cumsum(tied, axis=0) - tied / 2.0, np.diff(np.r_[starts, len(order)]), axis=0)
        out[:, column] = np.einsum("rd,rdl->dl", middle, positive) - above * above / 2.0
    return out / np.where(pairs > 0, pairs, np.nan)[:, None]


def dampening(area: Numbers) -> Numbers:
    """Return the factor that takes a neuroid down by as much as it is an expert: 1 − 2 (AUROC − ½), and 1 below ½.

    Parameters
    ----------
    area : ndarray

    Returns
    -------
    ndarray of float64
        Suau et al. 2024 (AurA).

    Examples
    --------
    >>> dampening(np.array([1.0, 0.75, 0.5, 0.1])).tolist()
    [0.0, 0.5, 1.0, 1.0]
    """
    return np.asarray(1.0 - 2.0 * np.maximum(area - 0.5, 0.0))
