"""Sums of products of lagged columns, without the lagged columns: what ridge regression on delays needs of a recording.

A recording lies on a line of places, one a sample. With z(s) the columns at place s, and 0 where there is no sample, row t of the
lagged design is z(t − last), …, z(t − first), in the order of time. The products of copies i and j, summed over the places from a
to before b, are those of copies i − 1 and j − 1 summed one place later,

    G(i, j) = G(i−1, j−1) + z(b − last + i−1) z(b − last + j−1)ᵀ − z(a − last + i−1) z(a − last + j−1)ᵀ,

so that only those with the first copy are summed over all rows: L products of (p × T) and (T × p), and not L²/2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from brainalign.engine.moments import Numbers

_BLOCK = 2**20  # values of lagged rows that exist at a time: 8 MB


@dataclass(frozen=True)
class Line:
    """Where the samples of all runs lie, so far apart that no lag reaches from one run into another.

    Attributes
    ----------
    place : ndarray of int, (row,)
    row_at : ndarray of int, (place,)
        −1 where there is no sample.
    first, last : int
        The smallest and the largest lag, in samples. Positive: the design looks back.
    """

    place: Numbers
    row_at: Numbers
    first: int
    last: int

    @property
    def n_lags(self) -> int:
        """Copies of each column."""
        return self.last - self.first + 1

    def windows(self, x: Numbers, mean: Numbers, start: int, stop: int) -> Numbers:
        """Return lagged rows, a view of what they share.

        Parameters
        ----------
        x : ndarray, (row, column)
        mean : ndarray of float64, (column,)
            Subtracted from the samples, and not from the zeros between them.
        start, stop : int
            Places.

        Returns
        -------
        ndarray of float64, (place, lag, column)
            Lags descend.
        """
        rows = self.row_at[start - self.last : stop - self.first]
        block = x[rows] - mean
        block[rows < 0] = 0
        return np.lib.stride_tricks.sliding_window_view(block, self.n_lags, axis=0).transpose(0, 2, 1)

    def stretches(self, code: Numbers, width: int) -> Iterator[tuple[int, int, int]]:
        """Yield (code, start, stop) of places without a gap whose rows share a code, in pieces of limited size.

        Parameters
        ----------
        code : ndarray of int, (row,)
        width : int
            Values of a lagged row.
        """
        order = np.argsort(self.place)
        place, codes = self.place[order], code[order]
        cuts = np.flatnonzero((np.diff(place) != 1) | (np.diff(codes) != 0)) + 1
        step = max(1, _BLOCK // width)
        for a, b in zip(np.r_[0, cuts], np.r_[cuts, len(place)], strict=True):
            for at in range(a, b, step):
                yield int(codes[at]), int(place[at]), int(place[min(at + step, b) - 1]) + 1


def lay_out(runs: Sequence[tuple[Numbers, Numbers]], first: int, last: int) -> Line:
    """Put runs behind one another, as far apart as the lags reach.

    Parameters
    ----------
    runs : sequence of (ndarray of int, ndarray of int)
        Rows in the order of time, and the sample that each is, ascending; samples may be missing.
    first, last : int
        The smallest and the largest lag, in samples.

    Returns
    -------
    Line
    """
    reach = max(abs(first), abs(last), last - first)
    apart = [np.r_[reach + 1, np.minimum(np.diff(sample), reach + 1)] for _, sample in runs]
    rows, at = np.concatenate([rows for rows, _ in runs]), np.cumsum(np.concatenate(apart))
    place, row_at = np.empty(len(rows), dtype=np.int64), np.full(at[-1] + reach + 2, -1)
    place[rows], row_at[at] = at, rows
    return Line(place, row_at, first, last)


@dataclass(frozen=True)
class Moments:
    """Sums over some rows of the lagged design and of the targets.

    Attributes
    ----------
    n : float
    source, target : ndarray of float64, (k,) and (target,)
    gram : ndarray of float64, (k, k)
    cross : ndarray of float64, (k, target)
    power : ndarray of float64, (target,)
        Σy².
    """

    n: float
    source: Numbers
    target: Numbers
    gram: Numbers
    cross: Numbers
    power: Numbers

    def around(self, other: Moments | None = None) -> Moments:
        """Return the sums of deviations from the means of these rows, or of others.

        Parameters
        ----------
        other : Moments, optional
            Of the rows whose means come off.

        Returns
        -------
        Moments
        """
        mean, centre = (
            (part / other.n for part in (other.source, other.target)) if other else (self.source / self.n, self.target / self.n)
        )
        source, target = self.source - self.n * mean, self.target - self.n * centre
        gram = self.gram - np.outer(self.source, mean)
        gram -= np.outer(mean, source)
        cross = self.cross - np.outer(self.source, centre) - np.outer(mean, target)
        return Moments(self.n, source, target, gram, cross, self.power - centre * (self.target + target))


@dataclass(frozen=True)
class LaggedSums:
    """What is summed over each cell of rows, from which the moments of any union of cells follow.

    Attributes
    ----------
    n : ndarray of float64, (cell,)
    products : ndarray of float64, (cell, p + target + 1, k)
        Of the first copy, the targets and 1 with the lagged design.
    target, power : ndarray of float64, (cell, target)
    edge_cell, edge_sign : ndarray, (edge,)
    edges : ndarray of float64, (edge, lag − 1, p)
        What a step of the recursion adds or takes away.
    """

    n: Numbers
    products: Numbers
    target: Numbers
    power: Numbers
    edge_cell: Numbers
    edge_sign: Numbers
    edges: Numbers

    @cached_property
    def whole(self) -> Moments:
        """The sums over all rows."""
        return self.moments(np.ones(len(self.n)))

    def moments(self, count: Numbers) -> Moments:
        """Return the sums over cells, each taken some number of times.

        Parameters
        ----------
        count : ndarray of float64, (cell,)

        Returns
        -------
        Moments
        """
        total, p = np.tensordot(count, self.products, 1), self.edges.shape[2]
        gram = self._gram(total[:p], self.edge_sign * count[self.edge_cell])
        return Moments(float(count @ self.n), total[-1], count @ self.target, gram, total[p:-1].T, count @ self.power)

    def _gram(self, first: Numbers, weight: Numbers) -> Numbers:
        """Return the Gram matrix from its first block of rows, by the recursion."""
        p, n_lags = len(first), first.shape[1] // len(first)
        gram = np.empty((n_lags, p, n_lags, p))
        gram[0] = first.reshape(p, n_lags, p)
        used = np.flatnonzero(weight)
        edges, weighted = self.edges[used], weight[used, None, None] * self.edges[used]
        for i in range(1, n_lags):
            gain = weighted[:, i - 1].T @ edges[:, i - 1 :].reshape(len(used), -1)
            gram[i, :, i:] = gram[i - 1, :, i - 1 : -1] + gain.reshape(p, n_lags - i, p)
            gram[i, :, :i] = gram[:i, :, i].transpose(2, 0, 1)
        return gram.reshape(n_lags * p, n_lags * p)


def lagged_sums(x: Numbers, y: Numbers, line: Line, mean: Numbers, code: Numbers, centre: Numbers | float = 0.0) -> LaggedSums:
    """Sum over the rows of each cell.

    Parameters
    ----------
    x : ndarray, (row, column)
    y : ndarray, (row, target)
    line : Line
    mean : ndarray of float64, (column,)
        Subtracted from ``x``.
    code : ndarray of int, (row,)
        The cell of each row, from 0.
    centre : ndarray of float64, (target,), optional
        Subtracted from ``y``.

    Returns
    -------
    LaggedSums
    """
    p, t, width, n_cells = x.shape[1], y.shape[1], line.n_lags * x.shape[1], int(code.max()) + 1
    products, power = np.zeros((n_cells, p + t + 1, width)), np.zeros((n_cells, t))
    target = np.zeros((n_cells, t))
    edges, cells = [], []
    for cell, start, stop in line.stretches(code, width):
        windows = line.windows(x, mean, start, stop)
        lagged = windows.reshape(stop - start, width)
        truth = y[line.row_at[start:stop]].astype(np.float64) - centre
        products[cell] += np.hstack([lagged[:, :p], truth, np.ones((len(truth), 1))]).T @ lagged
        target[cell] += truth.sum(axis=0)
        power[cell] += np.einsum("ij,ij->j", truth, truth)
        edges += [line.windows(x, mean, at, at + 1)[0, :-1] for at in (stop, start)]
        cells.append(cell)
    sign = np.tile([1.0, -1.0], len(cells))
    n = np.bincount(code, minlength=n_cells).astype(np.float64)
    return LaggedSums(n, products, target, power, np.repeat(cells, 2), sign, np.stack(edges))


def lagged_product(x: Numbers, line: Line, mean: Numbers, weights: Numbers) -> Numbers:
    """Return the lagged design times weights.

    Parameters
    ----------
    x : ndarray, (row, column)
    line : Line
    mean : ndarray of float64, (column,)
    weights : ndarray of float64, (k, target)
        Of lags in descending order, and columns within them.

    Returns
    -------
    ndarray of float64, (row, target)
    """
    out = np.empty((len(x), weights.shape[1]))
    for _, start, stop in line.stretches(np.zeros(len(x), dtype=np.int64), len(weights)):
        out[line.row_at[start:stop]] = line.windows(x, mean, start, stop).reshape(stop - start, -1) @ weights
    return out
