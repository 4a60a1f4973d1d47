"""What can be said of every column and row of a table in one pass over its blocks: extremes, spread, NaN, and who equals whom."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class ColumnFacts:
    """Facts of the columns and rows of an array that comes in blocks, in any order.

    Parameters
    ----------
    shape : tuple of int, (row, column[, time])

    Attributes
    ----------
    minimum, maximum : ndarray, (column,)
        Of the finite values; NaN where there is none.
    n_minimum, n_maximum : ndarray of int, (2, column)
        How often each is reached, and how often the value next to it.
    n_bad : ndarray of int, (column,)
        NaN and infinite values.
    column_key, row_key : ndarray of uint64
        Equal for equal values (64-bit hashes), different otherwise.
    all_whole : bool
        Every finite value is a whole number.

    Examples
    --------
    >>> facts = ColumnFacts((2, 3))
    >>> facts.add(slice(0, 2), slice(0, 3), np.array([[1.0, 2.0, 1.0], [5.0, 2.0, 5.0]], dtype="float32"))
    >>> facts.maximum.tolist(), bool(facts.column_key[0] == facts.column_key[2])
    ([5.0, 2.0, 5.0], True)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        n_rows, n_columns = shape[:2]
        rng = np.random.default_rng(0)
        weights = [rng.integers(2**63, size=n, dtype=np.uint64) * np.uint64(2) + np.uint64(1) for n in shape]
        self._row_weights, self._column_weights = weights[:2]
        self._time_weights = weights[2] if len(shape) == 3 else None
        self._low, self._high = np.full((2, 2, n_columns), np.nan)  # the extreme and the value next to it
        self._n_low, self._n_high = np.zeros((2, 2, n_columns), dtype=np.int64)
        self.n_bad, self._n = np.zeros((2, n_columns), dtype=np.int64)
        self._sum, self._sum_of_squares = np.zeros((2, n_columns))
        self._shift = np.full(n_columns, np.nan)
        self.column_key, self.row_key = np.zeros(n_columns, np.uint64), np.zeros(n_rows, np.uint64)
        self.all_whole = True

    def add(self, rows: slice, columns: Any, block: Array) -> None:
        """Take in one block.

        Parameters
        ----------
        rows : slice
        columns : slice or ndarray
        block : ndarray, (row, column[, time])
        """
        self._add_keys(rows, columns, block)
        values = block.astype(np.float64)
        finite = np.isfinite(values)
        values[~finite] = np.nan
        axes = (0, *range(2, block.ndim))
        # reductions that pass over NaN without a word
        for reduce, extremes, counts in ((np.fmin.reduce, self._low, self._n_low), (np.fmax.reduce, self._high, self._n_high)):
            extremes[:, columns], counts[:, columns] = _two_extremes(values, reduce, extremes[:, columns], counts[:, columns])
        self.n_bad[columns] += (~finite).sum(axis=axes)
        self._n[columns] += finite.sum(axis=axes)
        self.all_whole = self.all_whole and bool((np.floor(values) == values)[finite].all())
        # a first value taken off keeps the sum of squares exact where the mean is far from zero
        self._shift[columns] = np.where(np.isnan(self._shift[columns]), self._low[0, columns], self._shift[columns])
        values -= np.expand_dims(self._shift[columns], axes)
        values[~finite] = 0.0
        self._sum[columns] += values.sum(axis=axes)
        self._sum_of_squares[columns] += (values * values).sum(axis=axes)

    @property
    def minimum(self) -> Array:
        """Lowest finite value of each column."""
        return np.asarray(self._low[0])

    @property
    def maximum(self) -> Array:
        """Highest finite value of each column."""
        return np.asarray(self._high[0])

    @property
    def n_minimum(self) -> Array:
        """How often the lowest value is reached, and the next one."""
        return self._n_low

    @property
    def n_maximum(self) -> Array:
        """How often the highest value is reached, and the next one."""
        return self._n_high

    @property
    def mean(self) -> Array:
        """Mean of the finite values of each column."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self._shift + self._sum / self._n)

    @property
    def sd(self) -> Array:
        """Standard deviation of the finite values of each column."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sqrt(np.maximum(self._sum_of_squares / self._n - (self._sum / self._n) ** 2, 0)))

    def _add_keys(self, rows: slice, columns: Any, block: Array) -> None:
        if block.dtype.kind == "f":
            keys = (block.astype(np.float64) + 0.0).view(np.uint64)  # -0 is 0
        else:
            keys = block.astype(np.int64).view(np.uint64)
        keys ^= keys >> np.uint64(29)
        keys *= np.uint64(0xBF58476D1CE4E5B9)  # the mixing of splitmix64: sums of raw float bits would collide
        keys ^= keys >> np.uint64(32)
        if self._time_weights is not None:
            keys = keys @ self._time_weights
        self.column_key[columns] += self._row_weights[rows] @ keys
        self.row_key[rows] += keys @ self._column_weights[columns]


def _two_extremes(values: Array, reduce: Any, old: Array, n_old: Array) -> tuple[Array, Array]:
    """Return the extreme so far and the value next to it, with how often each was reached."""
    axes = (0, *range(2, values.ndim))
    found, counts = [*old], [*n_old]
    for _ in range(2):
        best = reduce(values, axis=axes)
        here = values == np.expand_dims(best, axes)
        found, counts = [*found, best], [*counts, here.sum(axis=axes)]
        values = np.where(here, np.nan, values)
    known, n_known = np.stack(found), np.stack(counts)
    out, n_out = np.empty_like(old), np.empty_like(n_old)
    for rank in range(2):
        out[rank] = reduce(known, axis=0)
        here = known == out[rank]
        n_out[rank] = np.where(here, n_known, 0).sum(axis=0)
        known = np.where(here, np.nan, known)
    return out, n_out


def same_as(keys: Array, eligible: Array) -> Array:
    """Return for each key the first position that has it, or -1 where it is the first, or not eligible.

    Parameters
    ----------
    keys : ndarray of uint64, (n,)
    eligible : ndarray of bool, (n,)

    Returns
    -------
    ndarray of int, (n,)

    Examples
    --------
    >>> same_as(np.array([7, 8, 7, 7], dtype="uint64"), np.array([True, True, True, False])).tolist()
    [-1, -1, 0, -1]
    """
    out = np.full(keys.size, -1)
    where = np.flatnonzero(eligible)
    _, first, inverse = np.unique(keys[where], return_index=True, return_inverse=True)
    out[where] = np.where(first[inverse] == np.arange(where.size), -1, where[first[inverse]])
    return out
