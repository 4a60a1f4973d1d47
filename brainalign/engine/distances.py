"""Distances between all pairs of patterns, within one set, between two, or between folds; exactly 0 between a pattern and itself."""

from __future__ import annotations

import math
from functools import reduce
from itertools import combinations
from operator import iadd

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, empty, even_slices, is_torch, like, namespace, to_numpy
from brainalign.engine.moments import ROUNDING, Numbers, is_constant

METRICS = ("correlation", "cosine", "euclidean", "sqeuclidean")
#: Metrics that are 1 − the inner product of patterns scaled to length 1.
SCALED = ("correlation", "cosine")

#: Below this share of the two squared norms, a squared distance from inner products has lost half of its digits.
_CLOSE = {"float64": 1e-6, "float32": 1e-3}
#: Share of the squared norms that the mean pattern may have before it is taken off, which costs time: it is common to all patterns.
_SHIFTED = 0.1
_BLOCK = 2**20  # values that are worked on beside the distances themselves
_WIDE = 2**22  # and of patterns beside their product: 32 MB, used again, for fresh memory takes longer than what is done in it


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
    xp, axis = namespace(patterns), -1 if metric in SCALED else -2
    mean, missing, undefined = patterns.mean(axis, dtype=xp.float64), None, None
    if not xp.isfinite(mean).all():  # a mean is cheaper than all values; where it overflowed alone, look again
        missing = ~xp.isfinite(patterns).all(-1)
        # a hole must stay in its row and column: set aside before anything is averaged
        patterns = xp.where(missing[..., None], xp.zeros_like(patterns), patterns)
        mean = patterns.mean(axis, dtype=xp.float64)
    at = np.arange(patterns.shape[-2])
    if metric == "cosine":
        scaled, undefined = scaled_patterns(cast(patterns, dtype), metric, unit=unit)
        distance = _one_less(_gram(scaled))
    elif metric == "correlation":
        distance = _products(patterns, mean[..., None], dtype)
        scale, undefined = _scale(patterns, distance[..., at, at] ** 0.5, mean, unit=max(unit, _eps(distance)))
        distance *= scale[..., :, None] * scale[..., None, :]  # first the two, so that it stays symmetric
        distance = _one_less(distance)
    else:
        shifted = (mean * mean).sum(-1) * patterns.shape[-2] > _SHIFTED * _sum_of_squares(patterns).sum(-1)
        distance = _products(patterns, mean[..., None, :] if shifted.any() else None, dtype)
        norms = distance[..., at, at]
        distance = _squared(distance, patterns, patterns, norms, norms)
    if metric in SCALED:
        distance[..., at, at] = 0.0
    if metric == "euclidean":
        distance **= 0.5
    for holes in (missing, undefined):
        if holes is not None and holes.any():
            distance[holes[..., :, None] | holes[..., None, :]] = np.nan
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
    products = first @ second.swapaxes(-1, -2)
    distance = _squared(products, first, second, _sum_of_squares(first), _sum_of_squares(second))
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
    mean = patterns.mean(-1) if metric == "correlation" else None
    centred = patterns if mean is None else patterns - mean[..., None]
    scale, undefined = _scale(patterns, _sum_of_squares(centred) ** 0.5, mean, unit=unit)
    if mean is None:
        return patterns * scale[..., None], undefined
    centred *= scale[..., None]
    return centred, undefined


def _scale(patterns: Array, norms: Array, mean: Array | None, *, unit: float) -> tuple[Array, Array]:
    """Return 1 / norms, 0 for patterns that are constant around their mean, or zero, and which these are."""
    xp, undefined = namespace(norms), norms == 0
    if mean is not None:
        n = patterns.shape[-1]
        # no pattern that varies less than this is skipped: few are looked at value by value
        doubtful = norms <= ROUNDING * unit * n**0.5 * (norms**2 + n * mean**2) ** 0.5
        if doubtful.any():
            undefined[doubtful] = like(is_constant(to_numpy(patterns[doubtful]), axis=-1, unit=unit), patterns) > 0
    return xp.where(undefined, xp.zeros_like(norms), 1 / xp.where(undefined, xp.ones_like(norms), norms)), undefined


def _one_less(similarity: Array) -> Array:
    """Turn similarities into 1 − similarity, within [0, 2], in their own memory."""
    similarity *= -1
    similarity += 1
    return namespace(similarity).clip(similarity, 0, 2, out=similarity)


def _squared(products: Array, first: Array, second: Array, first_norms: Array, second_norms: Array) -> Array:
    """Return Σ(a−b)² from ‖a‖² + ‖b‖² − 2a·b, in the memory of the products."""
    flat = products.reshape(-1, *products.shape[-2:])
    a, b = (x.reshape(-1, *x.shape[-2:]) for x in (first, second))
    norms = first_norms.reshape(-1, first.shape[-2], 1), second_norms.reshape(-1, 1, second.shape[-2])
    step = max(1, _BLOCK // max(1, flat.shape[0] * flat.shape[2]))
    for start in range(0, flat.shape[1], step):
        rows = slice(start, start + step)
        _mend(flat[:, rows], norms[0][:, rows] + norms[1], a[:, rows], b, start if first is second else None)
    return flat.reshape(products.shape)


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
        apart = cast(a[g, row], "float64") - cast(b[g, column], "float64")
        part[g, row, column] = cast((apart**2).sum(-1), dtype_name(part))


def _products(patterns: Array, origin: Array | None, dtype: str) -> Array:
    """Return (x − origin)(x − origin)ᵀ, exactly symmetric, of some channels at a time: no copy of all patterns is centred or cast."""
    if dtype_name(patterns) == dtype:
        if origin is None:
            return _gram(patterns)
        origin = cast(origin, dtype)  # or a pass over float32 would be one in float64
    *lead, n, p = patterns.shape
    # At least n channels: then the sum of products takes no more memory than the part.
    parts = even_slices(p, p if is_torch(patterns) else max(n, _WIDE // max(1, n * math.prod(lead))))
    memory = empty((*lead, n, parts[-1].stop - parts[-1].start), dtype, patterns)

    def product(part: slice) -> Array:
        x = memory[..., : part.stop - part.start]
        if origin is None:
            x[...] = patterns[..., part]
        else:
            namespace(x).subtract(patterns[..., part], origin if origin.shape[-1] == 1 else origin[..., part], out=x)
        return _gram(x)

    return reduce(iadd, map(product, parts))


def _gram(x: Array) -> Array:
    """Return x xᵀ, exactly symmetric: numpy knows the product of a matrix and its own transpose, torch does not."""
    product = x @ x.swapaxes(-1, -2)
    return (product + product.swapaxes(-1, -2)) / 2 if is_torch(x) else product


def _sum_of_squares(x: Array) -> Array:
    return (x * x).sum(-1) if is_torch(x) else np.einsum("...ij,...ij->...i", x, x)


def _eps(x: Array) -> float:
    return float(np.finfo(dtype_name(x)).eps)
