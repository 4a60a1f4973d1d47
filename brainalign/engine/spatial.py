"""Readouts of maps that know where they look: Gaussian pools on a grid, and masks × channel weights by alternating ridge.

Maps are (row, place, channel). Both readouts predict y_v = Σ_pc s_v[p] u_v[c] M[p,c] + b_v; the first takes s_v out of a set of
candidates that all targets share, the second fits it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from brainalign.engine.backend import Array, cast, dtype_name, like, namespace, to_numpy
from brainalign.engine.heldout import HeldOut
from brainalign.engine.moments import Numbers
from brainalign.engine.screening import best, search_losses
from brainalign.engine.solvers import RidgeFactor, Splits, coefficients, factorise


def gaussian_masks(points: Numbers, cell: Numbers, centres: Numbers, sizes: Numbers) -> Numbers:
    """Return the mass of Gaussians within each place, so that pools of any size on maps of any resolution are comparable.

    Parameters
    ----------
    points : ndarray, (place, axis)
    cell : ndarray, (axis,)
        Extent of one place.
    centres : ndarray, (candidate, axis)
    sizes : ndarray, (candidate,)
        Standard deviations.

    Returns
    -------
    ndarray of float64, (candidate, place)

    Examples
    --------
    >>> gaussian_masks(np.array([[-0.25], [0.25]]), np.array([0.5]), np.array([[0.25]]), np.array([1e-9])).tolist()
    [[0.0, 1.0]]
    """
    from_centre = (points[None] - centres[:, None]) / sizes[:, None, None]
    half = cell / 2 / sizes[:, None, None]
    return np.asarray((ndtr(from_centre + half) - ndtr(from_centre - half)).prod(axis=2))


@dataclass(frozen=True)
class PoolSearch:
    """What :func:`search_pools` found for each target.

    Attributes
    ----------
    candidate : ndarray of int, (target,)
    alpha : ndarray of float64, (target,)
    alpha_at_edge : ndarray of bool, (target,)
    error : ndarray of float64, (target,)
        Σ(y−ŷ)² over the held-out rows of all folds.
    channel : ndarray of float64, (channel, target)
        Weights of the pooled maps, fitted to all rows.
    """

    candidate: Numbers
    alpha: Numbers
    alpha_at_edge: Numbers
    error: Numbers
    channel: Numbers


def search_pools(
    maps: Sequence[Array],
    masks: Sequence[Numbers],
    Y: Array,
    alphas: Numbers,
    splits: Splits,
    *,
    relative: bool,
    max_memory: float,
) -> PoolSearch:
    """Choose for each target the pool, and the ridge penalty of the pooled channels, with the least held-out error.

    Parameters
    ----------
    maps : sequence of array, (row, place, channel)
        One for each resolution.
    masks : sequence of ndarray, (candidate, place)
        Weights of the pools on each of them.
    Y : array, (row, target)
        Centred, of unit variance.
    alphas : ndarray of float64
        Ascending.
    splits : sequence of (train rows, test rows)
    relative : bool
        Alphas are in units of the summed variance of the pooled channels.
    max_memory : float
        Bytes of pooled maps held at a time.

    Returns
    -------
    PoolSearch

    Notes
    -----
    Source: St-Yves and Naselaris 2018, the feature-weighted receptive field. Held-out errors are exact (refitted per fold) and come
    from one decomposition per candidate: :mod:`brainalign.engine.heldout`.
    """
    t = Y.shape[1]
    least, winner, index = np.full(t, np.inf), np.zeros(t, dtype=np.int64), np.zeros(t, dtype=np.int64)
    alpha, channel = np.zeros(t), np.zeros((sum(m.shape[2] for m in maps), t))
    for k, pooled in pools(maps, masks, max_memory):
        fitted = ridge_of_pooled(pooled, Y, alphas, splits, relative=relative)
        better = np.flatnonzero(fitted.error < least)
        if better.size:
            least[better], winner[better] = fitted.error[better], k
            index[better], alpha[better] = fitted.alpha_index[better], fitted.alpha[better]
            channel[:, better] = fitted.weights(better)
    at_edge = (index == 0) | (index == len(alphas) - 1)
    return PoolSearch(winner, alpha, at_edge & (len(alphas) > 1), least, channel)


@dataclass(frozen=True)
class PooledRidge:
    """The best penalty of each target on one pooling of the maps.

    Attributes
    ----------
    alpha_index : ndarray of int, (target,)
    alpha : ndarray of float64, (target,)
    error : ndarray of float64, (target,)
        Σ(y−ŷ)² over the held-out rows of all folds.
    factor : RidgeFactor
    rotated : array, (k, target)
    """

    alpha_index: Numbers
    alpha: Numbers
    error: Numbers
    factor: RidgeFactor
    rotated: Array

    def weights(self, targets: Numbers) -> Numbers:
        """Return the weights of some targets, fitted to all rows, (channel, target)."""
        return to_numpy(coefficients(self.factor, self.rotated[:, targets], self.alpha[targets]))


def ridge_of_pooled(pooled: Array, Y: Array, alphas: Numbers, splits: Splits, *, relative: bool) -> PooledRidge:
    """Choose the penalty of each target on one pooling of the maps.

    Parameters
    ----------
    pooled : array, (row, channel)
    Y : array, (row, target)
        Centred, of unit variance.
    alphas : ndarray of float64
        Ascending.
    splits : sequence of (train rows, test rows)
    relative : bool
        Alphas are in units of the summed variance of the channels.

    Returns
    -------
    PooledRidge
        Of two alphas that tie, the larger.
    """
    factor, t = factorise(pooled, dtype=dtype_name(Y)), Y.shape[1]
    variance = float(factor.eigenvalues.sum()) / len(pooled)
    grid = alphas * (variance if relative and variance > 0 else 1.0)
    held = HeldOut(factor, splits)
    tile = held.prepare(Y)
    errors, _ = search_losses(held, tile, grid, screen=False, checked=np.zeros(t, dtype=bool))
    chosen = best(errors)
    return PooledRidge(chosen, grid[chosen], errors[chosen, np.arange(t)], factor, tile.rotated)


def pools(maps: Sequence[Array], masks: Sequence[Numbers], max_memory: float) -> Iterator[tuple[int, Array]]:
    """Yield every candidate's pooled maps, some candidates at a time in one product.

    Parameters
    ----------
    maps : sequence of array, (row, place, channel)
    masks : sequence of ndarray, (candidate, place)
    max_memory : float
        Bytes.

    Yields
    ------
    candidate : int
    pooled : array, (row, channel)
    """
    per_candidate = len(maps[0]) * sum(m.shape[2] for m in maps) * 8
    step = max(1, int(max_memory // (2 * per_candidate)))
    for start in range(0, len(masks[0]), step):
        parts = [cast(like(mask[start : start + step], m), dtype_name(m)) @ m for mask, m in zip(masks, maps, strict=True)]
        block = parts[0] if len(parts) == 1 else namespace(parts[0]).concatenate(parts, 2)
        for k in range(block.shape[1]):
            yield start + k, block[:, k]
