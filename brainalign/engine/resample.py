"""Nulls: rows exchanged or shifted in time, and the p-values that follow."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import false_discovery_control

from brainalign.engine.moments import Numbers


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


def draw_shifts(lengths: Any, least: Any, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw one circular shift for each run, for each permutation.

    Parameters
    ----------
    lengths : sequence of int, (run,)
    least : sequence of int, (run,)
        Smallest shift in either direction; where a run is too short for it, 1.
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (permutation, run)
        Of a single run each possible shift once, in random order, so no more than there are.
    """
    spans = [(low, n - low) if n > 2 * low else (1, n - 1) for n, low in zip(lengths, least, strict=True)]
    if len(spans) == 1:
        (low, high) = spans[0]
        return rng.permutation(np.arange(low, high + 1))[:n_draws, None]
    return np.stack([rng.integers(low, high, size=n_draws, endpoint=True) for low, high in spans], axis=1)
