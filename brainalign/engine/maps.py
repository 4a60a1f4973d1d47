"""Maps that chance could have given: as smooth as the one that was measured, and elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from brainalign.engine.correlate import correlation_matrix
from brainalign.engine.moments import Numbers

_MIRROR = np.array([-1.0, 1.0, 1.0])  # left is right
_DEGREES = 9  # of smoothing, from 4 neighbours to all, each with a kernel that is sharp at its centre and one that is flat
_NEIGHBOURS, _PAIRS, _BINS = 1000, 50_000, 25


def spin_orders(sphere: Numbers, hemisphere: Numbers, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw rotations of the sphere, and say which place of a map comes to which.

    Parameters
    ----------
    sphere : ndarray, (place, 3)
        Coordinates on a sphere around the origin, x from left to right.
    hemisphere : ndarray of int, (place,)
        0 for the left one and 1 for the right one, which turns as the mirror image of the left.
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (draw, place)
        The nearest place of the same hemisphere (Alexander-Bloch et al. 2018); -1 where there is none within twice the largest
        distance between neighbours' neighbours, because the rotated map has its medial wall there.
    """
    points = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
    orders = np.full((n_draws, len(points)), -1, dtype=np.int64)
    turns = _random_rotations(n_draws, rng)
    for side in np.unique(hemisphere):
        here = np.flatnonzero(hemisphere == side)
        tree = KDTree(points[here])
        reach = 2.0 * float(np.quantile(tree.query(points[here], 2)[0][:, 1], 0.99)) if len(here) > 1 else np.inf
        flip = _MIRROR if side == 1 else 1.0
        for order, turn in zip(orders, turns, strict=True):
            distance, nearest = tree.query(((points[here] * flip) @ turn.T) * flip)
            order[here] = np.where(distance <= reach, here[nearest], -1)
    return orders


def spun_correlations(maps: Numbers, other: Numbers, orders: Numbers) -> Numbers:
    """Correlate maps with another one that was rotated, over the places that both have.

    Parameters
    ----------
    maps : ndarray, (place, map)
        NaN where a map has no value.
    other : ndarray, (place,)
    orders : ndarray of int, (draw, place)
        From :func:`spin_orders`.

    Returns
    -------
    ndarray of float64, (draw, map)
    """
    out = np.empty((len(orders), maps.shape[1]))
    for row, order in zip(out, orders, strict=True):
        row[:] = correlations(maps, np.where(order >= 0, other[order], np.nan)[:, None])[:, 0]
    return out


def correlations(maps: Numbers, others: Numbers) -> Numbers:
    """Correlate every map with every other one, each pair over the places where neither is NaN.

    Parameters
    ----------
    maps : ndarray, (place, map)
    others : ndarray, (place, other)

    Returns
    -------
    ndarray of float64, (map, other)
    """
    known, others_known = np.isfinite(maps), np.isfinite(others)
    if known.all() and others_known.all():
        return correlation_matrix(maps, others)
    out = np.empty((maps.shape[1], others.shape[1]))
    for i, j in np.ndindex(out.shape):
        both = known[:, i] & others_known[:, j]
        out[i, j] = correlation_matrix(maps[both, i : i + 1], others[both, j : j + 1])[0, 0] if both.any() else np.nan
    return out


def variogram_surrogates(
    values: Numbers, places: Numbers, n_draws: int, rng: np.random.Generator, shown: Callable[[Any], Any] = iter
) -> Numbers:
    """Draw maps that vary over distance as a given one does.

    Parameters
    ----------
    values : ndarray, (place,)
        Finite.
    places : ndarray, (place, 3)
        Coordinates between which distance means something: in a volume, or on a sphere.
    n_draws : int
    rng : Generator
    shown : callable
        From an iterable to what goes along it with a bar.

    Returns
    -------
    ndarray of float64, (draw, place)
        The same values in other places.

    Notes
    -----
    The map is permuted and smoothed over its k nearest neighbours to nine degrees, with the weights e^(−d/d_k) and e^(−2(d/d_k)²),
    and a variogram γ(h) = mean ½(x_i − x_j)² is taken of each over pairs in the nearest quarter of distances. That one is kept
    whose variogram predicts the map's best by regression, γ = α + β γ_smooth; the surrogate √β x_smooth + √α z, with white noise z,
    then has it. Last, its ranks are given the map's own values. Burt et al. 2020 (NeuroImage 220, 117038), with a second kernel and
    degrees in even ratios: a tenth of all neighbours, their least, is wide beside a map of small patches.
    """
    n = len(values)
    first, second, bins = _near_pairs(places, rng)
    wanted = _variogram(values[:, None], first, second, bins)[:, 0]
    permuted = np.stack([rng.permutation(values) for _ in range(n_draws)], axis=1)
    best, misfit = np.empty((n, n_draws)), np.full(n_draws, np.inf)
    for smooth in _smoothers(places, min(n - 1, _NEIGHBOURS), shown):
        smoothed = smooth @ permuted
        slope, offset, error = _regress(_variogram(smoothed, first, second, bins), wanted)
        noise = rng.normal(size=smoothed.shape)
        better = error < misfit
        made = np.sqrt(np.maximum(slope, 0.0)) * smoothed + np.sqrt(np.maximum(offset, 0.0)) * noise
        best[:, better], misfit[better] = made[:, better], error[better]
    out = np.empty((n_draws, n))
    np.put_along_axis(out, np.argsort(best, axis=0).T, np.broadcast_to(np.sort(values), out.shape), axis=1)
    return out


def _random_rotations(n: int, rng: np.random.Generator) -> Numbers:
    quaternions = rng.normal(size=(n, 4))  # uniform over rotations once normalised
    return np.asarray(Rotation.from_quat(quaternions).as_matrix())


def _smoothers(places: Numbers, n_neighbours: int, shown: Callable[[Any], Any]) -> Iterator[csr_array]:
    distance, neighbour = KDTree(places).query(places, n_neighbours + 1)  # itself first
    for k in shown(np.unique(np.geomspace(min(4, n_neighbours), n_neighbours, _DEGREES).astype(np.int64)) + 1):
        relative = distance[:, :k] / np.maximum(distance[:, k - 1 : k], np.finfo(float).tiny)
        start = np.arange(len(places) + 1) * k
        for weights in (np.exp(-relative), np.exp(-2.0 * relative**2)):
            weights /= weights.sum(axis=1, keepdims=True)
            yield csr_array((weights.ravel(), neighbour[:, :k].ravel(), start), shape=(len(places),) * 2)


def _near_pairs(places: Numbers, rng: np.random.Generator) -> tuple[Numbers, Numbers, Numbers]:
    """Return pairs of places in the nearest quarter of distances, and the bin of distance of each."""
    n = len(places)
    first, second = np.triu_indices(n, 1) if n <= 1500 else rng.integers(n, size=(2, 40 * _PAIRS))
    distance = np.linalg.norm(places[first] - places[second], axis=1)
    near = (distance <= np.quantile(distance, 0.25)) & (first != second)
    chosen = np.flatnonzero(near)
    chosen = rng.permutation(chosen)[:_PAIRS]
    edges = np.linspace(distance[chosen].min(), distance[chosen].max(), _BINS + 1)
    return first[chosen], second[chosen], np.clip(np.searchsorted(edges, distance[chosen], side="right") - 1, 0, _BINS - 1)


def _variogram(x: Numbers, first: Numbers, second: Numbers, bins: Numbers) -> Numbers:
    """Return ½ the mean squared difference in each bin that has pairs, (bin, map)."""
    codes = np.unique(bins, return_inverse=True)[1]
    mean = csr_array((1.0 / np.bincount(codes)[codes], (codes, np.arange(len(codes)))))
    step = max(1, 2**24 // len(codes))
    columns = [slice(start, start + step) for start in range(0, x.shape[1], step)]
    return np.concatenate([0.5 * (mean @ (x[first, c] - x[second, c]) ** 2) for c in columns], axis=1)


def _regress(x: Numbers, y: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Fit y = offset + slope · x for each column of x; return slope, offset and squared error."""
    centred, target = x - x.mean(axis=0), y - y.mean()
    spread = (centred * centred).sum(axis=0)
    slope = np.divide(target @ centred, spread, out=np.zeros(x.shape[1]), where=spread > 0)
    error = ((target[:, None] - slope * centred) ** 2).sum(axis=0)
    return slope, y.mean() - slope * x.mean(axis=0), error
