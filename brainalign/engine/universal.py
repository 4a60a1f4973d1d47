"""Correlations of all columns of two tables from sums over blocks of rows, and those that a rotated basis would have."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import ROUNDING, Numbers


class CrossSums:
    """Sums of products of two tables that come in blocks of rows, from which correlations follow.

    Parameters
    ----------
    n, n_other : int
        Columns.
    gram : bool
        Whether to sum the products of the other table with itself, too.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(20, 3))
    >>> sums = CrossSums(3, 2)
    >>> for rows in (slice(0, 5), slice(5, 20)):
    ...     sums.add(x[rows], x[rows, 1:])
    >>> bool(np.allclose(sums.correlations(), np.corrcoef(x.T)[:, 1:]))
    True
    """

    def __init__(self, n: int, n_other: int, *, gram: bool = False) -> None:
        self._n = 0
        self._shift: list[Numbers] = []
        self._sums = [np.zeros(n), np.zeros(n_other)]
        self._squares = [np.zeros(n), np.zeros(n_other)]
        self._largest = [np.zeros(n), np.zeros(n_other)]
        self._unit = 0.0
        self._cross = np.zeros((n, n_other))
        self._gram = np.zeros((n_other, n_other)) if gram else None

    def add(self, a: Numbers, b: Numbers) -> None:
        """Take in rows.

        Parameters
        ----------
        a, b : ndarray, (row, column), (row, other)
        """
        wide = [np.asarray(x, dtype=np.float64) for x in (a, b)]
        if not self._shift:  # a mean near that of all rows keeps the sums of squares exact
            self._shift = [x.mean(axis=0) for x in wide]
        self._unit = max([self._unit, *(float(np.finfo(x.dtype).eps) for x in (a, b) if x.dtype.kind == "f")])
        parts = [x - shift for x, shift in zip(wide, self._shift, strict=True)]
        self._n += len(a)
        for i, (x, part) in enumerate(zip(wide, parts, strict=True)):
            self._sums[i] += part.sum(axis=0)
            self._squares[i] += np.einsum("ij,ij->j", part, part)
            self._largest[i] = np.fmax(self._largest[i], np.abs(x).max(axis=0))
        self._cross += parts[0].T @ parts[1]
        if self._gram is not None:
            self._gram += parts[1].T @ parts[1]

    def varying(self) -> Numbers:
        """Return which columns of the other table vary, (other,)."""
        return np.isfinite(self._norms()[1])

    def correlations(self) -> Numbers:
        """Return Pearson's r of every column with every other one, (column, other); NaN where one does not vary."""
        a, b = self._norms()
        r = (self._cross - np.outer(self._sums[0], self._sums[1]) / self._n) / a[:, None] / b
        return np.asarray(np.clip(r, -1.0, 1.0))

    def gram(self) -> Numbers:
        """Return Pearson's r of the other table's columns with each other, (other, other)."""
        b = self._norms()[1]
        gram = np.zeros((b.size, b.size)) if self._gram is None else self._gram
        return np.asarray((gram - np.outer(self._sums[1], self._sums[1]) / self._n) / np.outer(b, b))

    def _norms(self) -> list[Numbers]:
        found = []
        for sums, squares, largest in zip(self._sums, self._squares, self._largest, strict=True):
            left = squares - sums**2 / self._n
            rounding = self._n * (ROUNDING * self._unit * largest) ** 2
            found.append(np.sqrt(np.where(left > rounding, left, np.nan)))
        return found


def best_of(r: Numbers, *, absolute: bool) -> tuple[Numbers, Numbers]:
    """Return the highest correlation of each row, and where it is.

    Parameters
    ----------
    r : ndarray, (..., column, other)
        NaN is never the best.
    absolute : bool
        Whether an opposite is as good; the correlation keeps its sign.

    Returns
    -------
    best : ndarray, (..., column)
        NaN where there is none.
    place : ndarray of int, (..., column)
    """
    height = np.where(np.isnan(r), -np.inf, np.abs(r) if absolute else r)
    place = height.argmax(axis=-1)
    return np.take_along_axis(r, place[..., None], axis=-1)[..., 0], place


def random_rotation(n: int, rng: np.random.Generator, *, orthogonal: bool = True) -> Numbers:
    """Draw directions of a space: an orthogonal basis (of Haar measure), or each by itself.

    Parameters
    ----------
    n : int
    rng : Generator
    orthogonal : bool

    Returns
    -------
    ndarray of float64, (n, n)
        Columns of length 1.
    """
    gaussian = rng.normal(size=(n, n))
    if not orthogonal:
        return np.asarray(gaussian / np.linalg.norm(gaussian, axis=0))
    q, r = np.linalg.qr(gaussian)
    return np.asarray(q * np.sign(np.diag(r)))


def rotated(r: Numbers, gram: Numbers, rotation: Numbers) -> Numbers:
    """Return the correlations that a table would have with another one whose standardised columns were rotated.

    Parameters
    ----------
    r : ndarray, (column, other)
    gram : ndarray, (other, other)
        Correlations of the other table's columns with each other.
    rotation : ndarray, (other, other)

    Returns
    -------
    ndarray of float64, (column, other)
    """
    variance = np.einsum("ij,ij->j", rotation, gram @ rotation)
    return np.asarray(r @ rotation / np.sqrt(np.where(variance > 1e-12, variance, np.nan)))
