"""Distances between all pairs of patterns: float64, symmetric, exactly 0 on the diagonal."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, cast, like, namespace, to_numpy
from brainalign.engine.moments import ROUNDING, Numbers

METRICS = ("correlation", "euclidean", "sqeuclidean")

#: Below this share of the two squared norms, a squared distance from inner products has lost half of its digits.
_CLOSE = 1e-6


def pairwise_distances(patterns: Array, metric: str = "correlation", *, unit: float = np.finfo(np.float64).eps) -> Array:
    """Return the distances between all pairs of patterns, for every group at once.

    Parameters
    ----------
    patterns : ndarray or Tensor, (..., pattern, channel)
    metric : {"correlation", "euclidean", "sqeuclidean"}
        1 − Pearson r over channels; √Σ(a−b)²; Σ(a−b)².
    unit : float
        Relative rounding error of the values: patterns that vary less over channels are constant.

    Returns
    -------
    ndarray or Tensor of float64, (..., pattern, pattern)
        NaN where a pattern has NaN or infinity or, under ``"correlation"``, is constant over channels.

    Examples
    --------
    >>> pairwise_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), "euclidean")
    array([[0., 5.],
           [5., 0.]])
    """
    wide = cast(patterns, "float64")
    xp = namespace(wide)
    missing = ~xp.isfinite(wide).all(-1)
    if missing.any():  # a hole must stay in its row and column: set aside before anything is averaged
        wide = xp.where(missing[..., None], xp.zeros_like(wide), wide)
    if metric == "correlation":
        distance = correlation_distances(wide, unit=unit)
    else:
        distance = squared_euclidean(wide)
        distance = distance if metric == "sqeuclidean" else distance**0.5
    if missing.any():
        distance[missing[..., :, None] | missing[..., None, :]] = np.nan
    return distance


def squared_euclidean(patterns: Array) -> Array:
    """Return Σ(a−b)² for all pairs.

    Parameters
    ----------
    patterns : ndarray or Tensor of float64, (..., pattern, channel)

    Returns
    -------
    ndarray or Tensor of float64, (..., pattern, pattern)

    Notes
    -----
    From inner products of patterns around their mean, ‖a‖² + ‖b‖² − 2a·b; pairs so close that this would cancel are
    subtracted channel by channel.
    """
    xp = namespace(patterns)
    centred = patterns - patterns.mean(-2)[..., None, :]
    products = centred @ centred.swapaxes(-1, -2)
    norms = (centred * centred).sum(-1)
    total = norms[..., :, None] + norms[..., None, :]
    squared = total - 2 * products
    squared = (squared + squared.swapaxes(-1, -2)) / 2
    groups = centred.reshape(-1, *centred.shape[-2:])
    flat = squared.reshape(-1, *squared.shape[-2:])
    group, first, second = xp.where(flat <= _CLOSE * total.reshape(flat.shape))
    flat[group, first, second] = 0.0  # which includes the diagonal
    apart = first != second
    group, first, second = group[apart], first[apart], second[apart]
    step = max(1, 2**22 // max(1, groups.shape[-1]))
    for start in range(0, len(group), step):
        g, i, j = (index[start : start + step] for index in (group, first, second))
        flat[g, i, j] = ((groups[g, i] - groups[g, j]) ** 2).sum(-1)
    return flat.reshape(squared.shape)


def correlation_distances(patterns: Array, *, unit: float = np.finfo(np.float64).eps) -> Array:
    """Return 1 − Pearson's r over channels for all pairs.

    Parameters
    ----------
    patterns : ndarray or Tensor of float64, (..., pattern, channel)
    unit : float
        Relative rounding error of the values.

    Returns
    -------
    ndarray or Tensor of float64, (..., pattern, pattern)
        Within [0, 2]; rows and columns of constant patterns are NaN.
    """
    constant = constant_patterns(patterns, unit=unit)
    centred = patterns - patterns.mean(-1)[..., None]
    norms = (centred * centred).sum(-1) ** 0.5
    missing = like(constant, centred)
    normed = centred / (norms + missing)[..., None]
    r = normed @ normed.swapaxes(-1, -2)
    distance = (1 - (r + r.swapaxes(-1, -2)) / 2).clip(0, 2)
    diagonal = np.arange(patterns.shape[-2])
    distance[..., diagonal, diagonal] = 0.0
    hole = like(np.where(constant, np.nan, 0.0), centred)
    return distance + hole[..., :, None] + hole[..., None, :]


def constant_patterns(patterns: Array, *, unit: float = np.finfo(np.float64).eps) -> Numbers:
    """Say which patterns do not vary over channels beyond their rounding.

    Parameters
    ----------
    patterns : ndarray or Tensor, (..., pattern, channel)
    unit : float
        Relative rounding error of the values.

    Returns
    -------
    ndarray of bool, (..., pattern)
    """
    xp = namespace(patterns)
    high, low = to_numpy(xp.amax(patterns, -1)), to_numpy(xp.amin(patterns, -1))
    return np.asarray(high - low <= ROUNDING * unit * np.maximum(np.abs(high), np.abs(low)))
