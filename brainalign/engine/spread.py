"""How variance is spread over features: independent directions, and features that hold most of it alone."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: A feature of this many times the usual size is massive.
MASSIVE = 100.0


def n_directions(values: Array) -> int:
    """Return how many linearly independent directions the rows of a table vary in.

    Parameters
    ----------
    values : ndarray of float64, (row, feature)

    Returns
    -------
    int
        Rank of the centred table, at most ``row - 1``; directions below the rounding of float32 are none.

    Examples
    --------
    >>> n_directions(np.array([[0.0, 0.0, 1.0], [1.0, 2.0, 1.0], [2.0, 4.0, 1.0]]))
    1
    """
    centred = values - values.mean(axis=0)
    gram = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
    power = np.linalg.eigvalsh(gram)
    largest = power[-1] if power.size else 0.0
    scale = max(largest, np.finfo(np.float64).tiny)
    noise = (np.finfo(np.float32).eps * np.abs(values).max(initial=0.0)) ** 2 * values.size  # of what was stored in float32
    return int((power > max(noise, scale * np.finfo(np.float64).eps * max(values.shape))).sum())


def spread(values: Array) -> tuple[float, int]:
    """Return the share of all variance that a single feature holds, and how many features are massive.

    Parameters
    ----------
    values : ndarray, (row, feature)

    Returns
    -------
    top_share : float
        0 where nothing varies.
    n_massive : int
        Features whose size, the larger of standard deviation and mean, is over 100 times the median size of those that vary.

    Examples
    --------
    >>> spread(np.array([[0.0, 0.0], [3.0, 1.0]]))
    (0.9, 0)
    """
    wide = values.astype(np.float64)
    sd = wide.std(axis=0)
    total = float((sd**2).sum())
    if total == 0.0:
        return 0.0, 0
    size = np.maximum(sd, np.abs(wide.mean(axis=0)))
    return float((sd**2).max() / total), int((size > MASSIVE * np.median(size[sd > 0])).sum())
