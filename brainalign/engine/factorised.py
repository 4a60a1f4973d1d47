"""Masks × channel weights, y_v = Σ_pc s_v[p] u_v[c] M[p,c], by alternating ridge: each step is convex and has no learning rate.

All targets of a tile take their steps at once; so do, where penalties are compared, all penalties. The objective is
Σ(y − ŷ)² + α(‖s‖² + ‖u‖²); as s and u may trade scale, its minimum is that of Σ(y − ŷ)² + 2α‖s uᵀ‖, and one penalty does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, is_torch, like, namespace, rows_of, to_numpy
from brainalign.engine.moments import Numbers
from brainalign.engine.solvers import Splits


@dataclass(frozen=True)
class Path:
    """Where alternating ridge came to.

    Attributes
    ----------
    spatial : array of float64, (place, target)
    channel : array of float64, (channel, target)
    objective : ndarray of float64, (1 + step, target)
        From the start on; never increasing.
    heldout : ndarray of float64, (1 + step, target), or None
        Σ(y−ŷ)² over held-out rows.
    """

    spatial: Array
    channel: Array
    objective: Numbers
    heldout: Numbers | None


def alternate(
    maps: Array,
    Y: Array,
    spatial: Array,
    channel: Array,
    alpha: Numbers,
    n_steps: int,
    heldout: tuple[Array, Array] | None = None,
) -> Path:
    """Fit masks and channel weights in turns, from a start.

    Parameters
    ----------
    maps : array, (row, place, channel)
        Centred.
    Y : array, (row, target)
        Centred.
    spatial, channel : array of float64, (place, target) and (channel, target)
        The start.
    alpha : ndarray of float64, (target,)
        Positive.
    n_steps : int
        Of channel weights, then masks.
    heldout : tuple of (maps, Y), optional
        Centred as the training rows are.

    Returns
    -------
    Path
    """
    targets = cast(Y, "float64").T
    place_first, channel_first = _leading(maps, 1), _leading(maps, 2)
    held = None if heldout is None else (_leading(heldout[0], 2), heldout[1])
    objective = [_objective(_along(channel_first, channel), targets, spatial, channel, alpha)]
    errors = [_heldout(held, spatial, channel)]
    for _ in range(n_steps):
        channel = _ridge_each(_along(place_first, spatial), targets, alpha).T
        design = _along(channel_first, channel)
        spatial = _ridge_each(design, targets, alpha).T
        objective.append(_objective(design, targets, spatial, channel, alpha))
        spatial, channel = _balanced(spatial, channel)
        errors.append(_heldout(held, spatial, channel))
    return Path(spatial, channel, np.stack(objective), None if heldout is None else np.stack(errors))


def fit_factorised(
    maps: Array,
    Y: Array,
    spatial: Numbers,
    pool_alpha: Numbers,
    alphas: Numbers,
    splits: Splits,
    *,
    n_steps: int,
    max_memory: float,
) -> tuple[Numbers, Numbers, Numbers, Numbers, Numbers]:
    """Fit masks and channel weights, with the penalty and the number of steps that serve each target best on held-out rows.

    Parameters
    ----------
    maps : array, (row, place, channel)
        Centred.
    Y : array, (row, target)
        Centred, of unit variance.
    spatial : ndarray, (place, target)
        The masks to start from.
    pool_alpha : ndarray, (target,)
        Ridge penalty of the channel weights to start from.
    alphas : ndarray
        Ascending and positive, in units of what the start explains: Σ y ŷ, with s and u of unit length.
    splits : sequence of (train rows, test rows)
    n_steps : int
        At most.
    max_memory : float
        Bytes of per-target designs held at a time.

    Returns
    -------
    spatial, channel : ndarray of float64, (place, target) and (channel, target)
    alpha : ndarray of float64, (target,)
        Absolute; that of the start where no step was better than it.
    steps : ndarray of int, (target,)
        Steps taken; 0 keeps the start.
    error : ndarray of float64, (target,)
        Σ(y−ŷ)² over held-out rows.

    Notes
    -----
    Sources of the form: Klindt et al. 2017; alternating ridge takes the place of gradient descent and of its L1 penalty.
    """
    n, places, channels = maps.shape
    widest = max(places, channels)
    per_target = 8 * (2 * n * widest + 2 * min(n, widest) ** 2) * len(alphas)
    size = max(1, int(max_memory // per_target))
    parts = []
    for at in range(0, Y.shape[1], size):
        tile = slice(at, at + size)
        parts.append(_fit_tile(maps, Y[:, tile], spatial[:, tile], pool_alpha[tile], alphas, splits, n_steps))
    return tuple(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def _fit_tile(
    maps: Array, Y: Array, spatial: Numbers, pool_alpha: Numbers, alphas: Numbers, splits: Splits, n_steps: int
) -> tuple[Numbers, ...]:
    t, k = Y.shape[1], len(alphas)
    start = like(spatial, maps)
    total = np.zeros((1 + n_steps, k, t))
    for train, test in splits:
        x, y, x_test, y_test = _centred_split(maps, Y, train, test)
        channel, unit = _start(x, y, start, pool_alpha)
        tiled = (_tiled(start, k), _tiled(channel, k))
        path = alternate(
            x, _tiled(y, k), *_balanced(*tiled), np.outer(alphas, unit).ravel(), n_steps, (x_test, _tiled(y_test, k))
        )
        total += np.asarray(path.heldout).reshape(1 + n_steps, k, t)
    # The first of equals: fewer steps, and among those the larger penalty.
    order = total[:, ::-1].reshape(-1, t)
    at = np.argmin(order, axis=0)
    steps, chosen = at // k, k - 1 - at % k
    channel, unit = _start(maps, Y, start, pool_alpha)
    alpha = alphas[chosen] * unit
    masks, weights = to_numpy(start).copy(), to_numpy(channel).copy()
    for count in np.unique(steps[steps > 0]):
        own = np.flatnonzero(steps == count)
        begin = _balanced(start[:, own], channel[:, own])
        path = alternate(maps, Y[:, own], *begin, alpha[own], int(count))
        masks[:, own], weights[:, own] = to_numpy(path.spatial), to_numpy(path.channel)
    return masks, weights, np.where(steps > 0, alpha, pool_alpha), steps, order[at, np.arange(t)]


def _centred_split(maps: Array, Y: Array, train: Numbers, test: Numbers) -> tuple[Array, Array, Array, Array]:
    x, y = rows_of(maps, train), rows_of(Y, train)
    x_mean, y_mean = x.mean(0), y.mean(0)
    return x - x_mean, y - y_mean, rows_of(maps, test) - x_mean, rows_of(Y, test) - y_mean


def _start(maps: Array, Y: Array, spatial: Array, alpha: Numbers) -> tuple[Array, Numbers]:
    """Fit channel weights to the masks of the start; return them, and Σ y ŷ for masks and weights of unit length."""
    targets = cast(Y, "float64").T
    pooled = _along(_leading(maps, 1), spatial)
    channel = _ridge_each(pooled, targets, alpha).T
    explained = (targets * _applied(pooled, channel)).sum(1)
    length = ((spatial**2).sum(0) * (channel**2).sum(0)) ** 0.5
    unit = np.abs(to_numpy(explained)) / np.maximum(to_numpy(length), np.finfo(np.float64).tiny)
    return channel, np.where(unit > 0, unit, 1.0)


def _leading(maps: Array, axis: int) -> Array:
    """Return maps, in one stretch of memory, with the axis in front over which weights will sum."""
    moved = namespace(maps).moveaxis(maps, axis, 0)
    return moved.contiguous() if is_torch(maps) else np.ascontiguousarray(moved)


def _along(maps: Array, weights: Array) -> Array:
    """Sum (a, row, b) over the first dim with the weights of each target, (a, target): (target, row, b)."""
    a, n, b = maps.shape
    return (cast(weights, dtype_name(maps)).T @ maps.reshape(a, n * b)).reshape(-1, n, b)


def _ridge_each(designs: Array, targets: Array, alpha: Numbers) -> Array:
    """Solve one ridge regression a target, each with a design of its own, by the smaller of its Gram matrices."""
    xp = namespace(designs)
    n, k = designs.shape[1:]
    turned, dtype = xp.swapaxes(designs, 1, 2), dtype_name(designs)
    penalty = like(np.eye(min(n, k)), designs)[None] * like(alpha, designs)[:, None, None]
    if k <= n:
        right = turned @ cast(targets, dtype)[..., None]
        return xp.linalg.solve(cast(turned @ designs, "float64") + penalty, cast(right, "float64"))[..., 0]
    dual = xp.linalg.solve(cast(designs @ turned, "float64") + penalty, targets[..., None])
    return cast(turned @ cast(dual, dtype), "float64")[..., 0]


def _balanced(spatial: Array, channel: Array) -> tuple[Array, Array]:
    """Bring mask and weights to one length: the same prediction at the smallest penalty."""
    s, u = (spatial**2).sum(0) ** 0.25, (channel**2).sum(0) ** 0.25
    ratio = (u + (u == 0)) / (s + (s == 0)) * ((s > 0) & (u > 0)) + 1.0 * ((s == 0) | (u == 0))
    return spatial * ratio, channel / ratio


def _objective(designs: Array, targets: Array, spatial: Array, channel: Array, alpha: Numbers) -> Numbers:
    residual = targets - cast(_applied(designs, spatial), "float64")
    penalty = to_numpy((spatial**2).sum(0) + (channel**2).sum(0))
    return np.asarray(to_numpy((residual**2).sum(1)) + alpha * penalty)


def _applied(designs: Array, weights: Array) -> Array:
    """Multiply each target's design, (target, row, k), by its own column of weights, (k, target)."""
    return (designs @ cast(weights, dtype_name(designs)).T[..., None])[..., 0]


def _heldout(heldout: tuple[Array, Array] | None, spatial: Array, channel: Array) -> Numbers:
    if heldout is None:
        return np.zeros(spatial.shape[1])
    residual = cast(heldout[1].T - _applied(_along(heldout[0], channel), spatial), "float64")
    return to_numpy((residual**2).sum(1))


def _tiled(x: Array, k: int) -> Array:
    return namespace(x).concatenate([x] * k, 1)
