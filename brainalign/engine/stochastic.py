"""Shapes of systems whose responses vary: distances between distributions of responses, after the best rotation or order of neuroids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from brainalign.engine.moments import Numbers
from brainalign.engine.subspace import polar_factors

GROUPS = ("orthogonal", "permutation", "identity")

_HEAT = (1, 4, 6)  # steps of random starts before each time that half of them are given up
_GIVEN_UP = 8  # until one in so many is left
_ROUNDS, _CALM, _EXACT = 1000, 4, 1  # most steps of those; steps from the means, and exact ones at the end
_STILL, _NEARLY, _PATIENCE = 1e-9, 1e-6, 2  # relative gains at which a step stands still, and how many of these end a climb
_MEMORY = 2**21  # numbers that the systems of all pairs and starts may take at a time, in the processor's cache for the most part
_CACHED = 2**15  # numbers of small matrices that are multiplied at a time

Polar = Callable[[Numbers], Numbers]


def response_moments(trials: Numbers) -> Numbers:
    """Return the mean response to each stimulus, and a root of the covariance of its repeats.

    Parameters
    ----------
    trials : ndarray, (stimulus, repeat, neuroid)
        NaN where a stimulus has fewer repeats. One repeat has no covariance: a system that responds alike each time.

    Returns
    -------
    ndarray of float64, (stimulus, neuroid, 1 + k)
        The mean, around the mean stimulus, and k columns R with R Rᵀ the covariance, over the repeats less one.
    """
    known = np.asarray(np.isfinite(trials).all(axis=2))
    counts = known.sum(axis=1)[:, None]
    wide = np.where(known[..., None], trials, 0.0).astype(np.float64)
    means = wide.sum(axis=1) / counts
    apart = np.where(known[..., None], wide - means[:, None], 0.0) / np.sqrt(np.maximum(counts - 1, 1))[:, None]
    if apart.shape[1] > apart.shape[2]:
        apart = np.linalg.qr(apart, mode="r")
    return np.concatenate([(means - means.mean(axis=0))[..., None], apart.swapaxes(1, 2)], axis=2)


def stochastic_distances(
    systems: Sequence[Numbers],
    pairs: Any,
    *,
    alpha: float = 1.0,
    group: str = "orthogonal",
    n_restarts: int = 4,
    seed: int = 0,
) -> Numbers:
    """Return how far the distributions of the responses of two systems are apart, for many pairs of systems at once.

    Parameters
    ----------
    systems : sequence of ndarray, (stimulus, neuroid, 1 + k)
        From :func:`response_moments`, of any widths.
    pairs : array_like of int, (pair, 2)
    alpha : float
        0 compares covariances only, 1 is the 2-Wasserstein distance of Gaussians, 2 compares means only.
    group : {"orthogonal", "permutation", "identity"}
        Maps that neuroids may go through; the narrower system is filled up with neuroids of zeros.
    n_restarts : int
        Random maps to start from, each with its inverse, beside the one that fits the means.
    seed : int

    Returns
    -------
    ndarray of float64, (pair,)

    Notes
    -----
    d² = min_T mean_i α‖μ_i − ν_i T‖² + (2 − α) B²(Σ_i, Tᵀ Ω_i T), with B the Bures distance (Duong et al. 2023): a metric for every α. With
    means times √α and roots R_i, S_i of the covariances times √(2 − α), it is d² = (c − 2 F(T)) / n, F(T) = ⟨Σ ν_iᵀ μ_i, T⟩ + Σ‖S_iᵀ T R_i‖_*.
    F is convex, so the map that fits its tangent best never lowers it; tangents some way ahead save two of three steps. Polar factors are
    made by products of matrices alone, roughly and in float32 at first, until an exact step at the end. F has many local maxima: the random
    starts climb for a while, the worse half of them is given up, and so on; the best of them and the one from the means go on to
    the end.
    """
    systems = [spanned(x) if group == "orthogonal" else x for x in systems]
    where = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    widths = np.array([x.shape[1] for x in systems])[where].max(axis=1)
    out = np.empty(len(where))
    for d in np.unique(widths):  # by width, so that a distance does not depend on which others are asked for
        rows = np.flatnonzero(widths == d)
        used, index = np.unique(where[rows], return_inverse=True)
        out[rows] = _of_one_width([systems[i] for i in used], index.reshape(-1, 2), int(d), alpha, group, n_restarts, seed)
    return out


def _of_one_width(
    systems: Sequence[Numbers], pairs: Numbers, d: int, alpha: float, group: str, n_restarts: int, seed: int
) -> Numbers:
    n, k = len(systems[0]), max(x.shape[2] for x in systems)
    stacked = np.zeros((len(systems), n, d, k))
    for into, x in zip(stacked, systems, strict=True):
        into[:, : x.shape[1], : x.shape[2]] = x
    weights = np.sqrt(np.r_[alpha, np.full(k - 1, 2.0 - alpha)])
    # Means alone have one best map.
    if alpha == 2:
        stacked, weights, n_restarts = stacked[..., :2], weights[:2], 0  # one root stays, which weighs nothing
    starts = random_maps(d, group, n_restarts, np.random.default_rng(seed))
    step = max(1, _MEMORY // ((1 + len(starts)) * stacked[0].size))
    return np.concatenate([_chunk(stacked, weights, pairs[i : i + step], starts, group) for i in range(0, len(pairs), step)])


def spanned(x: Numbers) -> Numbers:
    """Return a system in a basis of the space that all its vectors span, where that has fewer dimensions than neuroids.

    Parameters
    ----------
    x : ndarray of float64, (stimulus, neuroid, vector)

    Returns
    -------
    ndarray of float64, (stimulus, dimension, vector)
    """
    n, d, k = x.shape
    if d <= n * k:
        return x
    turned = np.asarray(np.linalg.qr(x.transpose(1, 0, 2).reshape(d, n * k), mode="r"))
    return np.asarray(turned.reshape(-1, n, k).transpose(1, 0, 2))


def random_maps(d: int, group: str, n: int, rng: np.random.Generator) -> Numbers:
    """Draw maps of a group, each followed by its inverse, so that exchanged sides start from the same ones.

    Parameters
    ----------
    d : int
    group : {"orthogonal", "permutation", "identity"}
        The last has none.
    n : int
    rng : Generator

    Returns
    -------
    ndarray of float64, (2 n, d, d)
    """
    if group == "identity":
        return np.empty((0, d, d))
    if group == "permutation":
        maps = np.eye(d)[rng.permuted(np.tile(np.arange(d), (n, 1)), axis=1)]
    else:
        q, r = np.linalg.qr(rng.normal(size=(n, d, d)))
        maps = q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]
    return np.stack([maps, maps.swapaxes(1, 2)], axis=1).reshape(-1, d, d)


def _chunk(stacked: Numbers, weights: Numbers, pairs: Numbers, starts: Numbers, group: str) -> Numbers:
    first, second = stacked[pairs[:, 0]], stacked[pairs[:, 1]]
    unweighted = second[..., 0].swapaxes(1, 2) @ first[..., 0]
    problem = _Pairs.of(first * weights, second * weights)
    if group == "identity":
        return problem.distance(np.broadcast_to(np.eye(stacked.shape[2]), problem.cross.shape))
    turns = group == "orthogonal"
    fast, fine, exact = (_rough, _polar, polar_factors) if turns else (assignments,) * 3
    n = len(pairs)
    light = problem.astype(np.float32)
    of_pair, maps = _best_starts(light, starts.astype(np.float32), turns)
    of_means, _ = _climb(light, exact(unweighted).astype(np.float32), fast, _CALM, polar=_rough)  # so as to stay near the means
    of_pair, maps = np.r_[np.arange(n), of_pair], np.concatenate([of_means, maps])
    maps, _ = _climb(light[of_pair], maps, fast, _ROUNDS, polar=_rough, hurried=turns, still=_NEARLY)
    maps, height = _climb(problem[of_pair], maps.astype(np.float64), fine, _ROUNDS, hurried=turns)
    maps = maps[height.reshape(-1, n).argmax(axis=0) * n + np.arange(n)]
    return problem.distance(_climb(problem, maps, exact, _EXACT, polar=polar_factors)[0])


def _best_starts(problem: _Pairs, starts: Numbers, turns: bool) -> tuple[Numbers, Numbers]:
    """Return the pair and the map of the starts that go on: all climb some steps, then the better half of each pair's, and so on."""
    n, k = len(problem.cross), len(starts)
    of_pair, maps = np.tile(np.arange(n), k), np.repeat(starts, n, axis=0)
    left, project = -(-k // _GIVEN_UP), _rough if turns else assignments
    steps = iter(_HEAT)
    while k > left:
        n_steps = next(steps, _HEAT[-1])
        parts = [slice(i, i + n) for i in range(0, k * n, n)]  # as many as stay in the processor's cache
        climbed = [_climb(problem[of_pair[i]], maps[i], project, n_steps, polar=_rough, hurried=turns) for i in parts]
        maps, height = np.concatenate([x for x, _ in climbed]), np.concatenate([y for _, y in climbed])
        k = max(left, k // 2)
        best = np.argsort(-height.reshape(-1, n), axis=0)[:k]
        best = (best * n + np.arange(n)).ravel()
        of_pair, maps = of_pair[best], maps[best]
    return of_pair, maps


@dataclass(frozen=True)
class _Pairs:
    """What the likeness of two systems is made of, pair by pair; means and roots are weighted."""

    cross: Numbers  # (pair, d, d), Σ ν_iᵀ μ_i
    means: tuple[Numbers, Numbers]  # (pair, stimulus, d) of both
    first: Numbers  # (pair, d, stimulus, k), the roots R_i side by side, for one product with all of them
    second: Numbers  # (pair, stimulus, d, k), the roots S_i

    @classmethod
    def of(cls, first: Numbers, second: Numbers) -> _Pairs:
        a, b = first[..., 0], second[..., 0]
        roots = np.ascontiguousarray(first[..., 1:].swapaxes(1, 2)), np.ascontiguousarray(second[..., 1:])
        return cls(b.swapaxes(1, 2) @ a, (a, b), *roots)

    def __getitem__(self, rows: Numbers) -> _Pairs:
        return _Pairs(self.cross[rows], (self.means[0][rows], self.means[1][rows]), self.first[rows], self.second[rows])

    def astype(self, dtype: Any) -> _Pairs:
        a, b = self.means
        means = a.astype(dtype), b.astype(dtype)
        return _Pairs(self.cross.astype(dtype), means, self.first.astype(dtype), self.second.astype(dtype))

    def turned(self, maps: Numbers, polar: Polar) -> Numbers:
        """Return S_i Q_i, with Q_i the rotation of the roots of the second system that fits best, (pair, d, stimulus * k)."""
        n, d = self.first.shape[:2]
        ahead = (maps @ self.first.reshape(n, d, -1)).reshape(self.first.shape).swapaxes(1, 2)
        out = np.empty_like(self.first)
        np.matmul(self.second, polar(self.second.swapaxes(-1, -2) @ ahead), out=out.swapaxes(1, 2))
        return out.reshape(n, d, -1)

    def slope(self, maps: Numbers, polar: Polar) -> Numbers:
        """Return the gradient of F, (pair, d, d)."""
        roots = self.first.reshape(*self.cross.shape[:2], -1)
        return np.asarray(self.cross + self.turned(maps, polar) @ roots.swapaxes(1, 2))

    def distance(self, maps: Numbers) -> Numbers:
        """Return d, from residuals, which do not cancel where systems are alike."""
        means = self.means[0] - self.means[1] @ maps
        roots = self.first.reshape(*self.cross.shape[:2], -1) - maps.swapaxes(1, 2) @ self.turned(maps, polar_factors)
        total = (means * means).sum(axis=(1, 2)) + (roots * roots).sum(axis=(1, 2))
        return np.asarray(np.sqrt(total / means.shape[1]))


def _climb(
    problem: _Pairs,
    maps: Numbers,
    project: Polar,
    n_rounds: int,
    *,
    polar: Polar | None = None,
    hurried: bool = False,
    still: float = _STILL,
) -> tuple[Numbers, Numbers]:
    """Return better maps, and a bound from below on F there that never falls; in a hurry, from tangents ahead of each map."""
    polar = polar or _polar
    out, height = maps.copy(), np.full(len(maps), -np.inf)
    live, before = np.arange(len(maps)), maps
    age, idle = np.zeros(len(maps), dtype=maps.dtype), np.zeros(len(maps), dtype=int)
    for _ in range(n_rounds):
        ahead = maps + (age / (age + 3))[:, None, None] * (maps - before) if hurried else maps
        slope = problem.slope(ahead, polar)
        new = project(slope)
        reached = (new * slope).sum(axis=(1, 2))  # ≤ F(new), as F is convex and of degree 1
        gain = reached - height[live]
        better = gain > 0
        idle = np.where(gain > still * np.abs(reached), 0, idle + 1)
        age = np.where(better, age + 1, 0).astype(maps.dtype)
        before, maps = maps, np.where(better[:, None, None], new, maps)
        height[live] = np.maximum(reached, height[live])
        out[live] = maps
        going = idle < _PATIENCE
        if not going.any():
            break
        if going.mean() < 0.7:
            live, maps, before, problem = live[going], maps[going], before[going], problem[going]
            age, idle = age[going], idle[going]
    return out, height


def assignments(M: Numbers) -> Numbers:
    """Return the permutation matrices with the largest inner products with some matrices.

    Parameters
    ----------
    M : ndarray, (..., d, d)

    Returns
    -------
    ndarray, (..., d, d)
    """
    out = np.zeros_like(M)
    for one, products in zip(out.reshape(-1, *M.shape[-2:]), M.reshape(-1, *M.shape[-2:]), strict=True):
        one[linear_sum_assignment(products, maximize=True)] = 1.0
    return out


def _schedule(low: float, short: float) -> list[float]:
    """Return the scales of Newton–Schulz steps that bring [low, 1] into [1 - short, 1] soonest (Chen and Chow 2014)."""
    scales: list[float] = []
    while low < 1 - short:
        scales.append(float(np.sqrt(3 / (1 + low + low * low))))
        low = scales[-1] * low * (3 - scales[-1] ** 2 * low**2) / 2
    return scales


_SCALES, _FEW = _schedule(1e-2, 1e-12), _schedule(1e-1, 1e-3)


def _rough(M: Numbers) -> Numbers:
    """Return polar factors that will do to tell good starts from bad ones."""
    return _polar(M, _FEW)


def _polar(M: Numbers, scales: Sequence[float] = _SCALES) -> Numbers:
    """Return polar factors by products alone; singular values that are small beside the others come out below 1, never above."""
    k = M.shape[-1]
    flat, diagonal = M.reshape(-1, k, k), np.arange(k)
    out = np.empty_like(flat)
    step = max(1, _CACHED // max(1, k * k))
    spare = np.empty((3, min(step, len(flat)), k, k), dtype=M.dtype)
    for start in range(0, len(flat), step):
        part = flat[start : start + step]
        X, Y, gram = spare[:, : len(part)]
        length = np.sqrt(np.einsum("nij,nij->n", part, part))[:, None, None]
        np.divide(part, np.where(length > 0, length, 1), out=X)
        for scale in scales:
            np.copyto(Y, X.swapaxes(1, 2))  # many small products of a matrix and its own transpose are slow otherwise
            np.matmul(Y, X, out=gram)
            gram *= -0.5 * scale**3
            gram[:, diagonal, diagonal] += 1.5 * scale
            np.matmul(X, gram, out=Y)
            X, Y = Y, X
        out[start : start + step] = X
    return out.reshape(M.shape)
