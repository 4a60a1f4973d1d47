"""Which states of each neuroid were ever seen: counts in bins, which add up over rows, and how usual new states are."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, ndtr

from brainalign.engine.moments import Numbers


def states(x: Numbers, centre: Numbers, spread: Numbers, transform: str) -> Numbers:
    """Return states from 0 to 1.

    Parameters
    ----------
    x : ndarray, (row, column)
    centre, spread : ndarray, (column,)
        What is taken off and divided by; a spread of 0 leaves what is centred as it is.
    transform : {"normal", "sigmoid"}
        The cumulative normal distribution, or the logistic function.

    Returns
    -------
    ndarray of float64, (row, column)
    """
    z = (x - centre) / np.where(spread > 0, spread, 1.0)
    return np.asarray(ndtr(z) if transform == "normal" else expit(z))


def bins_of(state: Numbers, n_bins: int) -> Numbers:
    """Return in which of equal bins of [0, 1] each state lies.

    Parameters
    ----------
    state : ndarray of float64, (row, column)
        From :func:`states`.
    n_bins : int

    Returns
    -------
    ndarray of int, (row, column)
    """
    return np.minimum((state * n_bins).astype(np.int64), n_bins - 1)


def bin_counts(bins: Numbers, n_bins: int) -> Numbers:
    """Return how often each column was in each bin.

    Parameters
    ----------
    bins : ndarray of int, (row, column)
    n_bins : int

    Returns
    -------
    ndarray of int, (column, bin)

    Examples
    --------
    >>> bin_counts(np.array([[0, 1], [2, 1]]), 3).tolist()
    [[1, 0, 1], [0, 2, 0]]
    """
    n = bins.shape[1]
    return np.bincount((bins + n_bins * np.arange(n)).ravel(), minlength=n * n_bins).reshape(n, n_bins)


def seen(counts: Numbers, least: float) -> Numbers:
    """Return how far each bin is covered, min(count / least, 1): its mean over bins is the coverage (Liu et al. 2024, NAC).

    Parameters
    ----------
    counts : ndarray of int, (column, bin)
        From :func:`bin_counts`.
    least : float
        Count from which on a bin is covered.

    Returns
    -------
    ndarray of float64, (column, bin)
    """
    return np.minimum(counts / least, 1.0)
