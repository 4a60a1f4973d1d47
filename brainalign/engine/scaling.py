"""Positions from distances, and positions over time without turns that mean nothing."""

from __future__ import annotations

import numpy as np

from brainalign.engine.comparators import centred_gram
from brainalign.engine.moments import Numbers
from brainalign.engine.subspace import orthogonal_map


def classical_scaling(squared: Numbers, n_dimensions: int) -> tuple[Numbers, Numbers]:
    """Return positions whose squared distances come closest to those given.

    Parameters
    ----------
    squared : ndarray, (..., pair)
        Squared distances of all pairs of rows.
    n_dimensions : int

    Returns
    -------
    positions : ndarray of float64, (..., row, dimension)
        Around 0, in falling order of variance, and the farthest of each dimension positive; 0 in dimensions that distances do not have.
    share : ndarray of float64, (...)
        Of the variance in all real dimensions, how much lies in these; NaN where nothing varies.

    Notes
    -----
    Eigenvectors of −½ J D² J (Torgerson 1952). Negative eigenvalues, of what are no Euclidean distances, are left out.

    Examples
    --------
    >>> positions, share = classical_scaling(np.array([1.0, 5.0, 4.0]) ** 2, 1)
    >>> positions[:, 0].round(9).tolist(), float(share.round(9))
    ([-2.0, -1.0, 3.0], 1.0)
    """
    values, vectors = np.linalg.eigh(centred_gram(squared))
    rounding = np.finfo(np.float64).eps * values.shape[-1] * np.abs(values).max(axis=-1, keepdims=True)
    power = np.where(values > rounding, values, 0.0)
    kept = power[..., ::-1][..., :n_dimensions]
    total = power.sum(axis=-1)
    share = kept.sum(axis=-1) / np.where(total > 0, total, np.nan)
    vectors = vectors[..., ::-1][..., :n_dimensions]
    farthest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=-2)[..., None, :], -2)
    return vectors * np.where(farthest < 0, -1.0, 1.0) * np.sqrt(kept)[..., None, :], share


def align_in_time(positions: Numbers) -> Numbers:
    """Return positions of which those at each time are turned to lie as close as possible to those before.

    Parameters
    ----------
    positions : ndarray of float64, (time, ..., row, dimension)

    Returns
    -------
    ndarray of float64, (time, ..., row, dimension)
        The first as it is, each other rotated or reflected (orthogonal Procrustes).
    """
    out = positions.copy()
    for t in range(1, len(out)):
        out[t] = out[t] @ orthogonal_map(out[t], out[t - 1])
    return out
