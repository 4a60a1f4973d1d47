"""Which stimuli lie near which: the neighbours of each, and how far two systems agree on them."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, cast, to_numpy
from brainalign.engine.moments import Numbers

_TIE = 1e-12  # cosines that differ by rounding are equally high


def nearest(X: Array, k: int) -> Numbers:
    """Return the k nearest stimuli of each by cosine similarity, itself left out.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
        Not centred: a direction is one from the origin.
    k : int

    Returns
    -------
    ndarray of float64, (stimulus, stimulus)
        1 / √(n k) for neighbours of the row, else 0, so that the sum of products with another is the share of neighbours in common.
        Stimuli that tie for the last places share them, so that the sum is what ties broken at random would give on average. NaN where
        there are no more than k stimuli, or nothing tells them apart.

    Examples
    --------
    >>> (nearest(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 1) > 0).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    """
    x = cast(X, "float64")
    norm = (x * x).sum(1) ** 0.5
    x = x / (norm + (norm == 0) * 1.0)[:, None]
    likeness, n = to_numpy(x @ x.T).copy(), len(x)
    if k >= n or np.ptp(likeness[~np.eye(n, dtype=bool)]) <= _TIE:
        return np.full((n, n), np.nan)
    np.fill_diagonal(likeness, -np.inf)
    last = np.partition(likeness, n - k, axis=1)[:, n - k, None]
    nearer, tied = likeness > last + _TIE, np.abs(likeness - last) <= _TIE
    places = k - nearer.sum(axis=1, keepdims=True)
    return np.asarray((nearer + tied * places / tied.sum(axis=1, keepdims=True)) / (n * k) ** 0.5)


def neighbour_overlap(A: Numbers, B: Numbers) -> float:
    """Return the mean over stimuli of the neighbours in common over all that either system names (Jaccard).

    Parameters
    ----------
    A, B : ndarray of float64, (stimulus, stimulus)
        From :func:`nearest`.

    Returns
    -------
    float
    """
    common = len(A) * (A * B).sum(1)  # over k, as both name k
    return float((common / (2 - common)).mean())
