"""Weights of bands, as points of the simplex: a first list, points between good ones, and those worth a closer look."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from math import comb

import numpy as np

from brainalign.engine.moments import Numbers

_LATTICE = 35  # points of the first list, as far as the number of bands allows
_FINALISTS = 3  # candidates that each target goes on with


def simplex_lattice(n_bands: int, n_points: int) -> Numbers:
    """Return evenly spaced weights that add up to 1, vertices and faces of the simplex included.

    Parameters
    ----------
    n_bands : int
    n_points : int
        As fine a lattice as has no more points, up to 35; the vertices and the middles of the edges at least.

    Returns
    -------
    ndarray of float64, (point, n_bands)

    Examples
    --------
    >>> simplex_lattice(2, 5).tolist()
    [[0.0, 1.0], [0.25, 0.75], [0.5, 0.5], [0.75, 0.25], [1.0, 0.0]]
    """
    if n_bands == 1:
        return np.ones((1, 1))
    steps = 2
    while steps < 8 and comb(steps + n_bands, n_bands - 1) <= min(_LATTICE, n_points):
        steps += 1
    bars = np.array(list(combinations(range(steps + n_bands - 1), n_bands - 1)))
    edges = np.pad(bars, ((0, 0), (1, 1)), constant_values=((0, 0), (-1, steps + n_bands - 1)))
    return (np.diff(edges, axis=1) - 1) / steps


def midpoints(tried: Numbers, loss: Numbers) -> Numbers:
    """Return the midpoints between the two best points of each target, those that most targets ask for first.

    Parameters
    ----------
    tried : ndarray of float64, (candidate, band)
    loss : ndarray of float64, (candidate, target)

    Returns
    -------
    ndarray of float64, (point, band)
        Those that were not tried yet. Where the loss is convex none of them is worse than the second best.
    """
    first, second = np.argsort(loss, axis=0, kind="stable")[:2]
    votes = Counter(map(tuple, ((tried[first] + tried[second]) / 2).round(9).tolist()))
    known = set(map(tuple, tried.round(9).tolist()))
    return np.array([point for point, _ in votes.most_common() if point not in known]).reshape(-1, tried.shape[1])


def finalists(tried: Numbers, loss: Numbers) -> Numbers:
    """Say which candidates each target goes on with: the best one of each set of bands that take part, for the three best sets.

    Parameters
    ----------
    tried : ndarray of float64, (candidate, band)
    loss : ndarray of float64, (candidate, target)

    Returns
    -------
    ndarray of bool, (candidate, target)
        Candidates next to the best one would tell little more about it; whether a band shall take part at all is another question.
    """
    _, of_set = np.unique(tried > 0, axis=0, return_inverse=True)
    sets = [np.flatnonzero(of_set == k) for k in range(of_set.max() + 1)]
    best = np.stack([rows[np.argmin(loss[rows], axis=0)] for rows in sets])
    targets = np.arange(loss.shape[1])
    order = np.argsort(loss[best, targets], axis=0, kind="stable")[:_FINALISTS]
    entries = np.zeros(loss.shape, dtype=bool)
    entries[best[order, targets], targets] = True
    return entries
