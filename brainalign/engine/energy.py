"""Energy distance between the responses of two systems to each stimulus, after the best rotation or order of neuroids."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers
from brainalign.engine.stochastic import assignments, random_maps, spanned
from brainalign.engine.subspace import polar_factors

_ROUNDS, _STILL = 500, 1e-9  # most steps, and the relative gain at which they end
_NEAR = 1e-9  # of the mean distance: nearer draws count as being so far apart


def centred_trials(trials: Numbers) -> Numbers:
    """Return single responses around the mean stimulus.

    Parameters
    ----------
    trials : ndarray, (stimulus, repeat, neuroid)
        NaN where a stimulus has fewer repeats.

    Returns
    -------
    ndarray of float64, (stimulus, repeat, neuroid)
    """
    wide = trials.astype(np.float64)
    return np.asarray(wide - np.nanmean(wide, axis=1).mean(axis=0))


def energy_distance(a: Numbers, b: Numbers, *, group: str = "orthogonal", n_restarts: int = 4, seed: int = 0) -> float:
    """Return the energy distance between two systems, mean over stimuli and least over maps of their neuroids.

    Parameters
    ----------
    a, b : ndarray of float64, (stimulus, repeat, neuroid)
        From :func:`centred_trials`, of any widths and numbers of repeats.
    group : {"orthogonal", "permutation", "identity"}
        Maps that neuroids may go through; the narrower system is filled up with neuroids of zeros.
    n_restarts : int
        Random maps to start from, each with its inverse, beside the one that fits the means.
    seed : int

    Returns
    -------
    float
        d² = min_T mean_i E‖x − yT‖ − ½E‖x − x'‖ − ½E‖y − y'‖ (Duong et al. 2023), expectations within a system over distinct repeats, so that
        it is unbiased; 0 where that makes it negative.

    Notes
    -----
    Iteratively reweighted least squares: ‖r‖ lies below ‖r‖²/2c + c/2, which it touches at c = ‖r‖, so that no step goes up. The weighted
    products of all pairs of repeats are made without the pairs.
    """
    (x, of_x), (y, of_y) = _filled(a, group), _filled(b, group)
    d = max(x.shape[2], y.shape[2])
    x, y = (np.pad(z, ((0, 0), (0, 0), (0, d - z.shape[2]))) for z in (x, y))
    shares = of_x[:, :, None] * of_y[:, None, :] / len(x)
    project = assignments if group == "permutation" else polar_factors
    fit = project(np.einsum("ir,ird,is,ise->ed", of_x, x, of_y, y, optimize=True)[None])
    maps = np.concatenate([fit, random_maps(d, group, n_restarts, np.random.default_rng(seed))])
    if group == "identity":
        maps = np.eye(d)[None]
    apart = _gaps(x, y @ maps[:, None])
    least = (shares * apart).sum(axis=(1, 2, 3))
    near = _NEAR * (float(least.mean()) or 1.0)
    for _ in range(0 if group == "identity" else _ROUNDS):
        pull = (shares / np.maximum(apart, near)).swapaxes(2, 3)
        maps = project((y.swapaxes(1, 2) @ (pull @ x)).sum(axis=1))
        apart = _gaps(x, y @ maps[:, None])
        before, least = least, np.minimum(least, (shares * apart).sum(axis=(1, 2, 3)))
        if (before - least <= _STILL * least).all():
            break
    return float(np.sqrt(max(0.0, least.min() - (_within(x, of_x) + _within(y, of_y)) / 2)))


def _filled(x: Numbers, group: str) -> tuple[Numbers, Numbers]:
    """Return trials without NaN, and the share of its stimulus that each has: 0 where there is none."""
    known = np.asarray(np.isfinite(x).all(axis=2))
    filled = np.where(known[..., None], x, 0.0)
    if group == "orthogonal":
        filled = spanned(filled.swapaxes(1, 2)).swapaxes(1, 2)
    return filled, known / known.sum(axis=1, keepdims=True)


def _gaps(x: Numbers, y: Numbers) -> Numbers:
    """Return ‖x − y‖ between all repeats of each stimulus, (..., stimulus, repeat, repeat)."""
    squares = (x * x).sum(axis=-1)[..., :, None] + (y * y).sum(axis=-1)[..., None, :] - 2 * x @ y.swapaxes(-1, -2)
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def _within(x: Numbers, shares: Numbers) -> float:
    """Return the mean distance between distinct repeats of a stimulus, mean over stimuli."""
    counts = (shares > 0).sum(axis=1)
    pairs = shares[:, :, None] * shares[:, None, :] * (counts / np.maximum(counts - 1, 1))[:, None, None]
    repeats = np.arange(x.shape[1])
    pairs[:, repeats, repeats] = 0.0
    return float((pairs * _gaps(x, x)).sum() / len(x))
