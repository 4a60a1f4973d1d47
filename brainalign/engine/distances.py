"""Distances between all pairs of patterns, within one set, between two, or between folds; exactly 0 between a pattern and itself."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, empty, is_torch, like, namespace, to_numpy
from brainalign.engine.moments import ROUNDING, Numbers, is_constant

METRICS = ("correlation", "cosine", "euclidean", "sqeuclidean")
#: Metrics that are 1 − the inner product of patterns scaled to length 1.
SCALED = ("correlation", "cosine")

#: Below this share of the two squared norms, a squared distance from inner products has lost half of its digits.
_CLOSE = {"float64": 1e-6, "float32": 1e-3}
#: Share of the squared norms that the mean pattern may have before it is taken off, which costs a copy: it is common to all patterns.
_SHIFTED = 0.1
_BLOCK = 2**20  # values that are worked on beside the distances themselves


def pairwise_distances(
    patterns: Array, metric: str = "correlation", *, unit: float = np.finfo(np.float64).eps, dtype: str = "float64"
) -> Array:
    """Return the distances between all pairs of patterns, for every group at once.

    Parameters
    ----------
    patterns : ndarray or Tensor, (..., pattern, channel)
    metric : {"correlation", "cosine", "euclidean", "sqeuclidean"}
        1 − Pearson r over channels; 1 − a·b/‖a‖‖b‖; √Σ(a−b)²; Σ(a−b)².
    unit : float
        Relative rounding error of the values: patterns that vary less over channels are constant.
    dtype : {"float64", "float32"}
        Of the products and of the result.

    Returns
    -------
    ndarray or Tensor, (..., pattern, pattern)
        Symmetric. NaN where a pattern has NaN or infinity, is constant over channels under ``"correlation"``, or is zero
        under ``"cosine"``.

    Examples
    --------
    >>> pairwise_distances(np.array([[0.0, 0.0], [3.0, 4.0]]), "euclidean")
    array([[0., 5.],
           [5., 0.]])
    """
    values = cast(patterns, dtype)
    xp = namespace(values)
    missing = ~xp.isfinite(values.sum(-1))  # a sum is cheaper than all values; where it overflowed alone, look again
    if missing.any():
        missing = ~xp.isfinite(values).all(-1)
        # a hole must stay in its row and column: set aside before anything is averaged
        values = xp.where(missing[..., None], xp.zeros_like(values), values)
    if metric in SCALED:
        unit_length, undefined = scaled_patterns(values, metric, unit=max(unit, _eps(values)))
        distance = _one_less(_gram(unit_length))
        diagonal = np.arange(values.shape[-2])
        distance[..., diagonal, diagonal] = 0.0
        missing = missing | undefined
    else:
        norms, mean = _sum_of_squares(values), values.mean(-2)
        if ((mean * mean).sum(-1) * values.shape[-2] > _SHIFTED * norms.sum(-1)).any():
            values = values - mean[..., None, :]
            norms = _sum_of_squares(values)
        distance = _squared(values, values, norms, norms)
        if metric == "euclidean":
            distance **= 0.5
    if missing.any():
        distance[missing[..., :, None] | missing[..., None, :]] = np.nan
    return distance


def cross_distances(first: Array, second: Array, metric: str, *, unit: float = np.finfo(np.float64).eps) -> Array:
    """Return the distances of every pattern of one set from every pattern of another.

    Parameters
    ----------
    first, second : ndarray or Tensor, (..., pattern, channel) and (..., other, channel)
        Of one dtype, which is that of the result.
    metric, unit
        As in :func:`pairwise_distances`.

    Returns
    -------
    ndarray or Tensor, (..., pattern, other)
        NaN where a pattern has NaN, or is constant or zero as in :func:`pairwise_distances`.

    Examples
    --------
    >>> cross_distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0], [0.0, 1.0]]), "euclidean")
    array([[5., 1.]])
    """
    if metric in SCALED:
        (a, no_a), (b, no_b) = (scaled_patterns(x, metric, unit=max(unit, _eps(x))) for x in (first, second))
        distance = _one_less(a @ b.swapaxes(-1, -2))
        distance[no_a[..., :, None] | no_b[..., None, :]] = np.nan
        return distance
    origin = namespace(first).nan_to_num(first.mean(-2))[..., None, :]
    first, second = first - origin, second - origin
    distance = _squared(first, second, _sum_of_squares(first), _sum_of_squares(second))
    if metric == "euclidean":
        distance **= 0.5
    return distance


def distances_across(folds: Array, present: Numbers, metric: str, *, unit: float = np.finfo(np.float64).eps) -> Array:
    """Return distances between patterns of different folds only, averaged over all ordered pairs of folds.

    Parameters
    ----------
    folds : ndarray or Tensor, (fold, ..., pattern, channel)
        Any finite values stand where a fold lacks a pattern.
    present : ndarray of bool, (fold, pattern)
    metric, unit
        As in :func:`pairwise_distances`.

    Returns
    -------
    ndarray or Tensor, (..., pattern, pattern)
        Symmetric, and not zero on the diagonal, where a pattern is compared with itself in other folds. NaN where no two
        folds have the pair.
    """
    xp, n_pairs = namespace(folds), np.zeros((present.shape[1],) * 2)
    total = empty((*folds.shape[1:-1], present.shape[1]), dtype_name(folds), folds)
    total[...] = 0
    for f, g in combinations(range(len(present)), 2):
        both = np.outer(present[f], present[g])
        distance = cross_distances(folds[f], folds[g], metric, unit=unit)
        if not both.all():
            distance = xp.where(like(both, folds) > 0, distance, xp.zeros_like(distance))
        total += distance + distance.swapaxes(-1, -2)
        n_pairs += both
        n_pairs += both.T
    return total / cast(like(np.where(n_pairs > 0, n_pairs, np.nan), folds), dtype_name(folds))


def scaled_patterns(patterns: Array, metric: str, *, unit: float) -> tuple[Array, Array]:
    """Return patterns of length 1, around their own mean under ``"correlation"``.

    Parameters
    ----------
    patterns : ndarray or Tensor, (..., pattern, channel)
    metric : {"correlation", "cosine"}
    unit : float
        Relative rounding error of the values.

    Returns
    -------
    scaled : ndarray or Tensor, (..., pattern, channel)
    undefined : ndarray or Tensor of bool, (..., pattern)
        Constant over channels, or zero: such a pattern is left at 0.
    """
    xp = namespace(patterns)
    mean = patterns.mean(-1) if metric == "correlation" else None
    centred = patterns if mean is None else patterns - mean[..., None]
    norms = _sum_of_squares(centred) ** 0.5
    undefined = norms == 0
    if mean is not None:
        n = patterns.shape[-1]
        # no pattern that varies less than this is skipped: few are looked at value by value
        doubtful = norms <= ROUNDING * unit * n**0.5 * (norms**2 + n * mean**2) ** 0.5
        if doubtful.any():
            undefined[doubtful] = like(is_constant(to_numpy(patterns[doubtful]), axis=-1, unit=unit), patterns) > 0
    scale = xp.where(undefined, xp.zeros_like(norms), 1 / xp.where(undefined, xp.ones_like(norms), norms))[..., None]
    if mean is None:
        return patterns * scale, undefined
    centred *= scale
    return centred, undefined


def _one_less(similarity: Array) -> Array:
    """Turn similarities into 1 − similarity, within [0, 2], in their own memory."""
    similarity *= -1
    similarity += 1
    return namespace(similarity).clip(similarity, 0, 2, out=similarity)


def _squared(first: Array, second: Array, first_norms: Array, second_norms: Array) -> Array:
    """Return Σ(a−b)² from ‖a‖² + ‖b‖² − 2a·b, in the memory of the products."""
    same = first is second
    squared = _gram(first) if same else first @ second.swapaxes(-1, -2)
    flat = squared.reshape(-1, *squared.shape[-2:])
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (first, second))
    norms = first_norms.reshape(-1, first.shape[-2], 1), second_norms.reshape(-1, 1, second.shape[-2])
    step = max(1, _BLOCK // max(1, flat.shape[0] * flat.shape[2]))
    for start in range(0, flat.shape[1], step):
        rows = slice(start, start + step)
        _mend(flat[:, rows], norms[0][:, rows] + norms[1], a[:, rows], b, start if same else None)
    return flat.reshape(squared.shape)


def _mend(part: Array, total: Array, a: Array, b: Array, diagonal: int | None) -> None:
    """Turn some rows of products into squared distances; pairs so close that this would cancel are subtracted channel by channel."""
    part *= -2
    part += total
    total *= _CLOSE[dtype_name(part)]
    group, i, j = namespace(part).where(part <= total)
    if diagonal is not None:
        part[group, i, j] = 0.0
        apart = i + diagonal != j
        group, i, j = group[apart], i[apart], j[apart]
    step = max(1, _BLOCK // max(1, a.shape[-1]))
    for start in range(0, len(group), step):
        g, row, column = (index[start : start + step] for index in (group, i, j))
        part[g, row, column] = ((a[g, row] - b[g, column]) ** 2).sum(-1)


def _gram(x: Array) -> Array:
    """Return x xᵀ, exactly symmetric: numpy knows the product of a matrix and its own transpose, torch does not."""
    product = x @ x.swapaxes(-1, -2)
    return (product + product.swapaxes(-1, -2)) / 2 if is_torch(x) else product


def _sum_of_squares(x: Array) -> Array:
    return (x * x).sum(-1) if is_torch(x) else np.einsum("...ij,...ij->...i", x, x)


def _eps(x: Array) -> float:
    return float(np.finfo(dtype_name(x)).eps)
