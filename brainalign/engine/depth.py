"""Where along an ordered set of layers a column of scores lies: its peak and its centre of mass."""

from __future__ import annotations

from itertools import permutations
from math import factorial

import numpy as np

from brainalign.engine.moments import Numbers


def depth_of_peak(scores: Numbers) -> Numbers:
    """Return the position of the highest score, from 0 (first layer) to 1 (last).

    Parameters
    ----------
    scores : ndarray, (layer, column...)

    Returns
    -------
    ndarray of float64, (column...)
        NaN where any layer has no score, or none is above 0. Biased towards the middle where scores are noisy.

    Examples
    --------
    >>> depth_of_peak(np.array([[0.1, 0.3], [0.2, np.nan], [0.6, 0.2]]))
    array([ 1., nan])
    """
    known = np.isfinite(scores).all(axis=0) & (np.where(np.isfinite(scores), scores, 0).max(axis=0) > 0)
    return np.where(known, np.where(known, scores, 0).argmax(axis=0) / max(len(scores) - 1, 1), np.nan)


def centre_of_mass(scores: Numbers) -> Numbers:
    """Return the mean position of layers, weighted by their scores, from 0 (first layer) to 1 (last).

    Parameters
    ----------
    scores : ndarray, (layer, column...)
        Scores below 0 have no weight.

    Returns
    -------
    ndarray of float64, (column...)
        NaN where any layer has no score, or none is above 0.

    Examples
    --------
    >>> centre_of_mass(np.array([[0.1, -0.3], [0.2, -0.1], [0.1, 0.0]]))
    array([0.5, nan])
    """
    weights = np.maximum(scores, 0)
    places = np.arange(len(scores)) / max(len(scores) - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.tensordot(places, weights, axes=1) / weights.sum(axis=0))


def exchanged_orders(n: int, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Return other orders of some items: all of them, where there are few enough, or as many as asked for.

    Parameters
    ----------
    n : int
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (order, n)
        Never the given order where all are returned.
    """
    if factorial(n) - 1 <= max(n_draws, factorial(6) - 1):
        return np.array(list(permutations(range(n)))[1:]).reshape(-1, n)
    return rng.permuted(np.tile(np.arange(n), (n_draws, 1)), axis=1)
