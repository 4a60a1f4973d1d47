"""Clusters over time, or over two times: sums above a threshold and threshold-free enhancement, held against their maxima under a null.

What a cluster test does not show: that a given point, the onset or the end of a cluster holds an effect. Its p-value is of the statement that
somewhere there is one (Sassenhagen and Draschkow 2019); :func:`brainalign.engine.resample.p_of_the_maximum` speaks of single points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_values

_BUDGET = 2**22  # points that are labelled at a time: 32 MB
_TIE = 1e-10  # draws that differ by rounding are as large: so do all signs changed, of clusters of both signs
_ROUNDING = 1e-12  # share of the mean square that is no variance
_STEP = 0.1  # between heights of the enhancement, in units of t or z


def cluster_p_values(observed: Numbers, null: Numbers, *, method: str, threshold: float = 0.0, tail: int = 1) -> Numbers:
    """Return for each point how often chance makes, anywhere, as large a cluster as the one that it is in.

    Parameters
    ----------
    observed : ndarray, (map, time[, time])
        Values of a test statistic, such as t or z; clusters join neighbours within a map.
    null : ndarray, (draw, map, time[, time])
    method : {"mass", "tfce"}
        The sum over a cluster of values beyond the threshold, or the enhancement of each point (:func:`tfce`).
    threshold : float
        Of ``"mass"``.
    tail : {1, 0}
        Clusters of high values, or of high and of low ones.

    Returns
    -------
    ndarray of float64, (map, time[, time])
        Corrected for all points of all maps; 1 outside of clusters, NaN where there is no value, which no cluster crosses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> effect = np.where(np.arange(30) // 10 == 1, 2.0, 0.0)
    >>> p = cluster_p_values((effect + rng.normal(size=30))[None], rng.normal(size=(99, 1, 30)), method="mass", threshold=1.6)
    >>> float(p.min()), float(p[0, 0])
    (0.01, 1.0)
    """

    def sizes(maps: Numbers) -> Numbers:
        return cluster_mass(maps, threshold, tail=tail) if method == "mass" else tfce(maps, tail=tail)

    found, largest = sizes(observed), np.empty(len(null))
    step = max(1, _BUDGET // observed.size)
    for start in range(0, len(null), step):
        some = null[start : start + step]
        largest[start : start + step] = sizes(some.reshape(-1, *observed.shape[1:])).reshape(len(some), -1).max(axis=1)
    as_large = (1.0 - _TIE) * found
    p = np.where(found > 0, p_values(as_large, largest.reshape(-1, *[1] * found.ndim)), 1.0)
    return np.where(np.isnan(observed), np.nan, p)


def cluster_p_values_along(
    observed: Numbers, null: Numbers, axes: Sequence[int], *, method: str, threshold: float, tail: int = 1
) -> Numbers:
    """Return :func:`cluster_p_values` of scores whose times are anywhere among their axes.

    Parameters
    ----------
    observed : ndarray, (...)
    null : ndarray, (draw, ...)
    axes : sequence of int
        The one or two times of ``observed``; all else tells maps apart.
    method, threshold, tail
        As in :func:`cluster_p_values`.

    Returns
    -------
    ndarray of float64, (...)
    """
    last = list(range(-len(axes), 0))
    maps = np.moveaxis(observed, axes, last)
    lattice = (-1, *maps.shape[maps.ndim - len(axes) :])
    draws = np.moveaxis(null, [axis + 1 for axis in axes], last).reshape(len(null), *lattice)
    p = cluster_p_values(maps.reshape(lattice), draws, method=method, threshold=threshold, tail=tail)
    return np.moveaxis(p.reshape(maps.shape), last, axes)


def cluster_mass(maps: Numbers, threshold: float, *, tail: int = 1) -> Numbers:
    """Return for each point the size of the sum over the cluster that it is in.

    Parameters
    ----------
    maps : ndarray, (map, time[, time])
    threshold : float
        Points strictly beyond it form clusters, with the neighbours before and after them in each time.
    tail : {1, 0}

    Returns
    -------
    ndarray of float64, (map, time[, time])
        0 outside of clusters.

    Examples
    --------
    >>> cluster_mass(np.array([[0.0, 2.0, 3.0, 0.0, 2.5]]), 1.0).tolist()
    [[0.0, 5.0, 5.0, 0.0, 2.5]]
    """
    out = np.zeros(maps.shape)
    for side in _sides(maps, tail):
        labels = _labels(side > threshold)
        sums = np.bincount(labels.ravel(), weights=side.ravel())
        sums[0] = 0.0
        out += sums[labels]
    return out


def tfce(maps: Numbers, *, step: float = _STEP, tail: int = 1) -> Numbers:
    """Return threshold-free cluster enhancement: at each point the sum over heights h below it of √e h², e the extent of its cluster.

    Parameters
    ----------
    maps : ndarray, (map, time[, time])
    step : float
        Between heights.
    tail : {1, 0}

    Returns
    -------
    ndarray of float64, (map, time[, time])

    Notes
    -----
    Smith and Nichols (2009), NeuroImage 44, 83-98; a Riemann sum over heights that are multiples of the step.
    """
    out = np.zeros(maps.shape)
    for side in _sides(maps, tail):
        for h in np.arange(step, np.max(side, initial=0.0), step):
            labels = _labels(side > h)
            sizes = np.bincount(labels.ravel()).astype(np.float64)
            sizes[0] = 0.0
            out += step * h**2.0 * sizes[labels] ** 0.5
    return out


def sign_flip_t(x: Numbers, signs: Numbers) -> Numbers:
    """Return the t of the mean of units, whose values change sign.

    Parameters
    ----------
    x : ndarray, (unit, ...)
    signs : ndarray, (draw, unit)
        1 or -1; a row of ones gives t as it is.

    Returns
    -------
    ndarray of float64, (draw, ...)
        NaN where units do not vary.
    """
    n = len(x)
    mean, squares = np.tensordot(signs, x, 1) / n, np.square(x).sum(axis=0) / n  # which no sign changes
    variance = squares - np.square(mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(mean / np.sqrt(np.where(variance > _ROUNDING * squares, variance, np.nan) / (n - 1)))


def _sides(maps: Numbers, tail: int) -> list[Numbers]:
    values = np.where(np.isnan(maps), 0.0, maps)
    return [values] if tail else [values, -values]


def _labels(beyond: Numbers) -> Any:
    """Return the number of the cluster that each point is in, over all maps; maps are no neighbours."""
    structure = ndimage.generate_binary_structure(beyond.ndim, 1)
    structure[0] = structure[2] = False
    return ndimage.label(beyond, structure)[0]
