"""How variance is spread over features: independent directions, one that holds most of it, features that dwarf the others."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: A feature of this many times the usual size is massive.
MASSIVE = 100.0


def directions(values: Array) -> tuple[int, float]:
    """Return how many linearly independent directions the rows of a table vary in, and how much of it lies in the largest.

    Parameters
    ----------
    values : ndarray of float64, (row, feature)

    Returns
    -------
    n_directions : int
        Rank of the centred table, at most ``row - 1``; directions below the rounding of float32 are none.
    top_share : float
        Share of all variance that the first principal component holds; 0 where nothing varies.

    Examples
    --------
    >>> directions(np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0], [2.0, 4.0, 1.0]]))
    (1, 1.0)
    """
    centred = values - values.mean(axis=0)
    gram = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    power = np.maximum(np.linalg.eigvalsh(gram), 0)
    noise = (np.finfo(np.float32).eps * np.abs(values).max(initial=0.0)) ** 2 * values.size  # of what was stored in float32
    least = max(noise, power.max(initial=0.0) * np.finfo(np.float64).eps * max(values.shape))
    found = power[power > least]
    return found.size, float(found[-1] / found.sum()) if found.size else 0.0


def relative_sizes(mean: Array, sd: Array) -> Array:
    """Return the size of each feature, the larger of standard deviation and mean, over the median size of those that vary.

    Parameters
    ----------
    mean, sd : ndarray of float64, (feature,)

    Returns
    -------
    ndarray of float64, (feature,)
        All 0 where none varies.

    Examples
    --------
    >>> relative_sizes(np.array([0.5, 0.5, 900.5]), np.array([0.5, 0.5, 0.5]))
    array([1.000e+00, 1.000e+00, 1.801e+03])
    """
    size = np.maximum(sd, np.abs(mean))
    return size / np.median(size[sd > 0]) if (sd > 0).any() else np.zeros_like(size)


def n_massive(values: Array) -> int:
    """Return how many features dwarf the others.

    Parameters
    ----------
    values : ndarray, (row, feature)

    Returns
    -------
    int
        Features whose size (:func:`relative_sizes`) is over 100.

    Examples
    --------
    >>> n_massive(np.array([[0.0, 1.0, 900.0], [1.0, 0.0, 901.0]]))
    1
    """
    wide = values.astype(np.float64)
    return int((relative_sizes(wide.mean(axis=0), wide.std(axis=0)) > MASSIVE).sum())
