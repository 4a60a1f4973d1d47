"""Which stimuli lie near which: the neighbours of each, and how far two systems agree on them."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, cast, to_numpy
from brainalign.engine.moments import Numbers


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
        NaN where there are no more than k stimuli.

    Examples
    --------
    >>> (nearest(np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), 1) > 0).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0], [0, 1, 0]]
    """
    x = cast(X, "float64")
    norm = (x * x).sum(1) ** 0.5
    x = x / (norm + (norm == 0) * 1.0)[:, None]
    likeness, n = to_numpy(x @ x.T).copy(), len(x)
    if k >= n:
        return np.full((n, n), np.nan)
    np.fill_diagonal(likeness, -np.inf)
    out = np.zeros((n, n))
    np.put_along_axis(out, np.argpartition(-likeness, k - 1, axis=1)[:, :k], (n * k) ** -0.5, axis=1)
    return out


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
    if np.isnan(A[0, 0]) or np.isnan(B[0, 0]):
        return np.nan
    common, either = ((A > 0) & (B > 0)).sum(1), ((A > 0) | (B > 0)).sum(1)
    return float((common / either).mean())
