"""Draws of what chance could have given: rows exchanged or shifted in time, signs, phases; and the p-values that follow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from brainalign.engine.moments import Numbers

#: Rows of a recording in time are drawn in blocks of as many seconds: neighbours are alike.
BLOCK_S = 20.0


def p_values(observed: Numbers, null: Numbers) -> Numbers:
    """Return how often chance does as well: (1 + #{null ≥ observed}) / (1 + B), never 0.

    Parameters
    ----------
    observed : ndarray, (...)
    null : ndarray, (permutation, ...)

    Returns
    -------
    ndarray of float64, (...)
        NaN where the observed score is NaN; a null score that is NaN counts as one that does as well.

    Examples
    --------
    >>> p_values(np.array([2.0, 0.0]), np.array([[1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]))
    array([0.25, 1.  ])
    """
    as_good = (~(null < observed)).sum(axis=0)
    return np.where(np.isnan(observed), np.nan, (1.0 + as_good) / (1.0 + len(null)))


def p_of_the_maximum(observed: Numbers, null: Numbers) -> Numbers:
    """Return p-values that hold for all scores together: each is compared with the highest null score of each permutation.

    Parameters
    ----------
    observed : ndarray, (...)
    null : ndarray, (permutation, ...)
        Every score of one permutation comes from the same draw.

    Returns
    -------
    ndarray of float64, (...)
        The chance that any of them reaches this by chance is below p (Westfall and Young 1993; Nichols and Holmes 2002).
    """
    highest = np.where(np.isnan(null), -np.inf, null).reshape(len(null), -1).max(axis=1)
    as_good = len(highest) - np.searchsorted(np.sort(highest), observed, side="left")
    return np.where(np.isnan(observed), np.nan, (1.0 + as_good) / (1.0 + len(null)))


def false_discovery_rate(p: Numbers) -> Numbers:
    """Return p-values adjusted for the false discovery rate over all of them (Benjamini and Hochberg 1995).

    Parameters
    ----------
    p : ndarray, (...)
        NaN where there is no test.

    Returns
    -------
    ndarray of float64, (...)

    Examples
    --------
    >>> false_discovery_rate(np.array([0.01, 0.04, 0.03, np.nan]))
    array([0.03, 0.04, 0.04,  nan])
    """
    values = np.asarray(p, dtype=np.float64)
    known = ~np.isnan(values)
    out = np.full(values.shape, np.nan)
    out[known] = false_discovery_control(values[known])
    return out


def exchanged(groups: Numbers, rng: np.random.Generator) -> Numbers:
    """Return row numbers after whole groups were exchanged with others of their size.

    Parameters
    ----------
    groups : ndarray of int, (row,)
        What stays together: the presentations of one stimulus.
    rng : Generator

    Returns
    -------
    ndarray of int, (row,)
        Rows keep their order within a group. A group whose size no other has stays where it is.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    counts = np.bincount(codes)
    starts = np.cumsum(counts) - counts
    rows = np.argsort(codes, kind="stable")
    partner = np.arange(len(counts))
    for size in np.unique(counts):
        same = np.flatnonzero(counts == size)
        partner[same] = rng.permutation(same)
    out = np.empty(len(codes), dtype=np.int64)
    within = np.arange(len(codes)) - np.repeat(starts, counts)
    out[rows] = rows[np.repeat(starts[partner], counts) + within]
    return out


def movable(groups: Numbers, *, within: Numbers | None = None) -> Numbers:
    """Return the rows whose group can change places with another of its size.

    Parameters
    ----------
    groups, within : ndarray of int, (row,)
        As in :func:`exchange_orders`.

    Returns
    -------
    ndarray of bool, (row,)

    Examples
    --------
    >>> movable(np.array([0, 0, 1, 1, 2])).tolist()
    [True, True, True, True, False]
    """
    out = np.zeros(len(groups), dtype=bool)
    for part in _parts(len(groups), within):
        codes, counts = np.unique(groups[part], return_inverse=True, return_counts=True)[1:]
        out[part] = (np.bincount(counts)[counts] > 1)[codes]
    return out


def exchange_orders(groups: Numbers, n_draws: int, rng: np.random.Generator, *, within: Numbers | None = None) -> Numbers:
    """Draw orders of the rows in which whole groups were exchanged.

    Parameters
    ----------
    groups : ndarray of int, (row,)
        As in :func:`exchanged`.
    n_draws : int
    rng : Generator
    within : ndarray of int, (row,), optional
        Groups change places only with groups of the same part, such as a fold or a session.

    Returns
    -------
    ndarray of int, (draw, row)
    """
    parts = _parts(len(groups), within)
    orders = np.empty((n_draws, len(groups)), dtype=np.int64)
    for order in orders:
        for part in parts:
            order[part] = part[exchanged(groups[part], rng)]
    return orders


def _parts(n: int, within: Numbers | None) -> list[Numbers]:
    """Return the rows of each part; of all where there are no parts."""
    return [np.arange(n)] if within is None else [np.flatnonzero(within == code) for code in np.unique(within)]


def distinct_orders(groups: Numbers, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw orders as :func:`exchange_orders` does, each once and never the one that is there; for few groups that is all there are.

    Parameters
    ----------
    groups : ndarray of int, (row,)
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (draw, row)
        Fewer where there are fewer: 5 groups of one size have 119 other orders.
    """
    first = np.unique(groups, return_index=True)[1]
    sizes = np.unique(np.bincount(np.unique(groups, return_inverse=True)[1]), return_counts=True)[1]
    possible = math.prod(math.factorial(size) for size in sizes.tolist())
    found = exchange_orders(groups, n_draws if possible > 100 * n_draws else 20 * min(n_draws, possible), rng)
    found = found[np.sort(np.unique(found[:, first], axis=0, return_index=True)[1])]
    return np.asarray(found[(found != np.arange(len(groups))).any(axis=1)][:n_draws])


def block_orders(lengths: Any, block: int, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw orders of the rows in which blocks of neighbours changed places within their run.

    Parameters
    ----------
    lengths : sequence of int, (run,)
        Rows of each run; runs follow each other.
    block : int
        Rows that stay together; longer than the rows are alike.
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (draw, row)
        Each run is closed to a circle and cut into blocks at a place of its own in each draw; one block is longer where the
        length is no multiple.
    """
    orders = np.empty((n_draws, sum(lengths)), dtype=np.int64)
    for order in orders:
        start = 0
        for n in lengths:
            circle = np.roll(np.arange(start, start + n), rng.integers(n))
            blocks = np.split(circle, np.arange(1, max(1, n // block)) * block)
            order[start : start + n] = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
            start += n
    return orders


def draw_shifts(lengths: Any, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw one circular shift for each run, for each permutation.

    Parameters
    ----------
    lengths : sequence of int, (run,)
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (permutation, run)
        Of a single run each possible shift once, in random order, so no more than there are.

    Notes
    -----
    Short shifts must be among them. To leave them out seems careful and is wrong: where the score is high by chance, its neighbours
    in time are high too, and a null without them lets 9 to 14% of slow noise pass p ≤ .05. All shifts of a circle form a group,
    to which the order that was observed belongs like any other.
    """
    n = np.asarray(lengths)
    if len(n) == 1:
        return rng.permutation(np.arange(1, n[0]))[:n_draws, None]
    return rng.integers(n, size=(n_draws, len(n)))


def time_orders(runs: list[Numbers], *, null: str, n_permutations: int, rng: np.random.Generator) -> Numbers:
    """Return orders of rows in time: each run shifted in a circle, or whole runs exchanged.

    Parameters
    ----------
    runs : list of ndarray of int
        The rows of each, in the order of time.
    null : {"shift", "runs"}
    n_permutations : int
    rng : Generator

    Returns
    -------
    ndarray of int, (permutation, row)
        Fewer where a single run has fewer shifts, or runs fewer orders.
    """
    rows, lengths = np.concatenate(runs), np.array([len(run) for run in runs])
    if null == "runs":
        orders = distinct_orders(np.repeat(np.arange(len(runs)), lengths), n_permutations, rng)
    else:
        shifts = draw_shifts(lengths, n_permutations, rng)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        within = np.arange(len(rows)) - starts
        orders = starts + (within + np.repeat(shifts, lengths, axis=1)) % np.repeat(lengths, lengths)
    out = np.empty_like(orders)
    out[:, rows] = rows[orders]
    return out


def draw_phases(lengths: Any, n_draws: int, rng: np.random.Generator) -> list[Numbers]:
    """Draw the angle by which each frequency of each run is turned.

    Parameters
    ----------
    lengths : sequence of int, (run,)
    n_draws : int
    rng : Generator

    Returns
    -------
    list of ndarray, (draw, frequency), one a run
        Of the frequencies that ``numpy.fft.rfft`` gives. The mean stays as it is, and what alternates from row to row keeps or
        changes its sign.
    """
    phases = [rng.uniform(0.0, 2.0 * np.pi, size=(n_draws, n // 2 + 1)) for n in lengths]
    for n, angles in zip(lengths, phases, strict=True):
        angles[:, 0] = 0.0
        if n % 2 == 0:
            angles[:, -1] = np.pi * (angles[:, -1] > np.pi)
    return phases


def turn_phases(x: Numbers, phases: Numbers) -> Numbers:
    """Return one run with other phases: each column keeps its spectrum, and each pair of columns its correlations at all lags.

    Parameters
    ----------
    x : ndarray, (row, column...)
    phases : ndarray, (frequency,)
        From :func:`draw_phases`; the same for all columns (Prichard and Theiler 1994).

    Returns
    -------
    ndarray of float64, (row, column...)
    """
    turned = np.fft.rfft(np.asarray(x, dtype=np.float64), axis=0) * np.exp(1j * phases).reshape(-1, *[1] * (x.ndim - 1))
    return np.asarray(np.fft.irfft(turned, len(x), axis=0))


def draw_signs(n: int, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw signs for units that are symmetric around zero where there is no effect.

    Parameters
    ----------
    n : int
        Units: subjects, or pairs of them.
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of float64, (draw, unit)
        1 or -1. Where there are no more than ``n_draws`` ways to change some sign, each of these 2ⁿ − 1 once: the test is exact.

    Examples
    --------
    >>> draw_signs(2, 10, np.random.default_rng(0)).tolist()
    [[-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    """
    if n < 60 and 2**n - 1 <= n_draws:
        return 1.0 - 2.0 * ((np.arange(1, 2**n)[:, None] >> np.arange(n)) & 1)
    return 1.0 - 2.0 * rng.integers(2, size=(n_draws, n))
