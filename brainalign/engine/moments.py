"""Which columns can be worked with, and the sums from which pooled scores are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, Any]

#: Deviations up to this many units of rounding of the largest value are rounding, not variance.
ROUNDING = 4.0

_COLUMNS = 512  # whose sums are made at a time


def rounding_unit(x: Numbers) -> float:
    """Return the relative rounding error of an array's dtype; 0 for integers.

    Parameters
    ----------
    x : ndarray

    Returns
    -------
    float
    """
    return float(np.finfo(x.dtype).eps) if x.dtype.kind == "f" else 0.0


def is_constant(x: Numbers, *, axis: int = 0, unit: float | None = None) -> Numbers:
    """Say where values do not vary beyond their own rounding.

    Parameters
    ----------
    x : ndarray
    axis : int
        The axis along which values may vary.
    unit : float, optional
        Relative rounding error of the values; default that of their dtype. Averages of float32 numbers that are
        held as float64 still have the rounding of float32.

    Returns
    -------
    ndarray of bool
        ``x``'s shape without ``axis``. Variance is judged against the size of the values and against nothing
        absolute, so that fields of 1e-13 T vary and a column of 1000.0 does not.
    """
    high, low = x.max(axis=axis), x.min(axis=axis)
    largest = np.maximum(np.abs(high), np.abs(low)).astype(np.float64)
    span = high.astype(np.float64) - low.astype(np.float64)
    return np.asarray(span <= ROUNDING * (rounding_unit(x) if unit is None else unit) * largest)


def column_status(Y: Numbers) -> Numbers:
    """Say of each column whether it can be fitted and scored.

    Parameters
    ----------
    Y : ndarray, (row, column...)

    Returns
    -------
    ndarray of str, (column...)
        ``"ok"``, ``"constant"`` (no variance beyond rounding) or ``"nan"`` (NaN or infinity in some row).

    Examples
    --------
    >>> column_status(np.array([[1e-13, 5.0, np.nan], [2e-13, 5.0, 1.0]])).tolist()
    ['ok', 'constant', 'nan']
    """
    finite = np.isfinite(Y).all(axis=0)
    constant = is_constant(Y if finite.all() else np.where(finite, Y, np.zeros((), dtype=Y.dtype)))
    return np.where(finite, np.where(constant, "constant", "ok"), "nan").astype(np.dtypes.StringDType())


@dataclass(frozen=True)
class FoldSums:
    """Sums over the test rows of one fold (or, pooled, of several), around that fold's own means.

    Attributes
    ----------
    n : int
        Rows.
    target_ss, prediction_ss, cross : ndarray of float64, (column...)
        Σ(y−ȳ)², Σ(ŷ−ŷ̄)² and Σ(y−ȳ)(ŷ−ŷ̄).
    error_ss : ndarray of float64, (column...)
        Σ(y−ŷ)², not centred: an offset of the prediction counts as error.
    """

    n: int
    target_ss: Numbers
    prediction_ss: Numbers
    cross: Numbers
    error_ss: Numbers


def fold_sums(target: Numbers, prediction: Numbers, *, errors: bool = True) -> FoldSums:
    """Return the sums of one fold, in float64.

    Parameters
    ----------
    target, prediction : ndarray, (row, column...)
        Test rows. NaN in a column makes its sums NaN.
    errors : bool
        Sum squared errors too; else they are NaN, and a third of the time is saved.

    Returns
    -------
    FoldSums
        A column that is constant in this fold adds exactly 0 to its pooled sums.
    """
    y, p = np.asarray(target), np.asarray(prediction)
    shape = y.shape[1:]
    y, p = y.reshape(len(y), -1), p.reshape(len(p), -1)
    # Tiles that stay in the cache: float64 copies of everything at once take twice as long.
    tiles = [_tile_sums(y[:, k : k + _COLUMNS], p[:, k : k + _COLUMNS], errors) for k in range(0, max(1, y.shape[1]), _COLUMNS)]
    return FoldSums(len(y), *(part.reshape(shape) for part in np.concatenate(tiles, axis=1)))


def _tile_sums(target: Numbers, prediction: Numbers, errors: bool) -> Numbers:
    (y, y_mean), (p, p_mean) = _around_mean(target), _around_mean(prediction)
    sums = [np.einsum("ij,ij->j", a, b) for a, b in ((y, y), (p, p), (y, p))]
    if not errors:
        return np.stack([*sums, np.full(y.shape[1], np.nan)])
    y -= p
    y += y_mean - p_mean
    return np.stack([*sums, np.einsum("ij,ij->j", y, y)])


def weighted_fold_sums(target: Numbers, prediction: Numbers, weights: Numbers) -> FoldSums:
    """Return the sums of one fold as if its rows had been drawn as often as the weights say; each draw costs five products.

    Parameters
    ----------
    target, prediction : ndarray, (row, column)
    weights : ndarray of float64, (draw, row)
        How often each draw holds each row; a draw may hold none.

    Returns
    -------
    FoldSums
        Each sum (draw, column), around the mean of the draw's own rows; ``n`` is (draw, 1).
    """
    y, p = deviations(target), deviations(prediction)
    error = np.asarray(target, dtype=np.float64) - np.asarray(prediction, dtype=np.float64)
    n = weights.sum(axis=1, keepdims=True)
    means = weights @ y / np.maximum(n, 1), weights @ p / np.maximum(n, 1)

    def centred(first: Numbers, second: Numbers, a: int, b: int) -> Numbers:
        raw = weights @ (first * second)
        out = raw - n * means[a] * means[b]
        return np.where(np.abs(out) <= 1e-12 * np.abs(raw), 0.0, out)  # one row drawn many times: rounding, not variance

    return FoldSums(n, centred(y, y, 0, 0), centred(p, p, 1, 1), centred(y, p, 0, 1), weights @ (error * error))


def pool_sums(folds: Sequence[FoldSums]) -> FoldSums:
    """Return the sums of several folds as one.

    Parameters
    ----------
    folds : sequence of FoldSums

    Returns
    -------
    FoldSums
    """
    parts = [np.sum([getattr(f, name) for f in folds], axis=0) for name in ("target_ss", "prediction_ss", "cross", "error_ss")]
    return FoldSums(sum(f.n for f in folds), *parts)


def known_mean(values: Numbers, *, axis: int = 0) -> Numbers:
    """Return the mean of what is finite, NaN where nothing is; `np.nanmean` warns of every such cell.

    Parameters
    ----------
    values : ndarray
    axis : int

    Returns
    -------
    ndarray of float64

    Examples
    --------
    >>> known_mean(np.array([[1.0, np.nan], [3.0, np.nan]]))
    array([ 2., nan])
    """
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(axis=axis) / known.sum(axis=axis))


def deviations(x: Numbers, *, axis: int = 0) -> Numbers:
    """Return deviations from the mean in float64, exactly 0 where values vary by no more than their rounding.

    Parameters
    ----------
    x : ndarray
    axis : int

    Returns
    -------
    ndarray of float64
    """
    return _around_mean(np.asarray(x), axis)[0]


def _around_mean(x: Numbers, axis: int = 0) -> tuple[Numbers, Numbers]:
    centred = x.astype(np.float64)
    mean = centred.mean(axis=axis, keepdims=True)
    centred -= mean
    constant = is_constant(x, axis=axis)
    return (np.where(np.expand_dims(constant, axis), 0.0, centred) if constant.any() else centred), mean
