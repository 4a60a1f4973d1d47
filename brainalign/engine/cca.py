"""Canonical correlations between two systems, of all directions, of the principal ones, and weighted by what they explain."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, namespace, to_numpy
from brainalign.engine.cka import centred
from brainalign.engine.gram import null_floor
from brainalign.engine.moments import Numbers


def orthonormal(X: Array, *, share: float = 1.0) -> Array:
    """Return an orthonormal basis of what the neuroids do over stimuli.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    share : float
        Of the variance that the basis holds: as few principal components as reach it.

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, component)
        Principal components of unit length; none that only rounding makes.
    """
    left, values, _ = namespace(X).linalg.svd(centred(X), full_matrices=False)
    power = to_numpy(values) ** 2
    rank = int((power > null_floor(power, X)).sum())
    reached = int(np.searchsorted(np.cumsum(power) / max(power.sum(), np.finfo(float).tiny), share) + 1)
    return left[:, : rank if share >= 1 else min(rank, reached)]


def canonical_correlations(A: Array, B: Array) -> Numbers:
    """Return the canonical correlations of two systems, from orthonormal bases.

    Parameters
    ----------
    A, B : ndarray or Tensor of float64, (stimulus, component)

    Returns
    -------
    ndarray of float64, (min(component),)
        Descending. NaN where a basis has as many components as stimuli have directions, n − 1: it then holds everything, and all
        correlations are 1 whatever the data.
    """
    if _say_nothing(A, B):
        return np.full(max(min(A.shape[1], B.shape[1]), 1), np.nan)
    return np.asarray(np.clip(to_numpy(namespace(A).linalg.svdvals(A.T @ B)), 0.0, 1.0))


def projection_weighted(X: Array, Y: Array) -> float:
    """Return the mean canonical correlation, weighted by how much each canonical variate of the smaller system says of its neuroids.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    Y : ndarray or Tensor, (stimulus, other neuroid)
        The weights are those of the system with fewer directions; of the target where both have as many.

    Returns
    -------
    float

    Notes
    -----
    α_i = Σ_j |⟨h_i, x_j⟩| over neuroids j, h_i being the canonical variates, of unit length (Morcos, Raghu and Bengio 2018).
    """
    a, b = orthonormal(X), orthonormal(Y)
    return variate_weighted(b, a, X) if a.shape[1] < b.shape[1] else variate_weighted(a, b, Y)


def variate_weighted(A: Array, B: Array, Y: Array) -> float:
    """Return the mean canonical correlation, weighted by how much each canonical variate of ``B`` says of its neuroids.

    Parameters
    ----------
    A, B : ndarray or Tensor of float64, (stimulus, component)
        Orthonormal.
    Y : ndarray or Tensor, (stimulus, neuroid)
        What ``B`` is the basis of.

    Returns
    -------
    float
        NaN where :func:`canonical_correlations` are.
    """
    if _say_nothing(A, B):
        return np.nan
    _, rho, right = namespace(A).linalg.svd(A.T @ B, full_matrices=False)
    weights = abs((B @ right.T).T @ centred(Y)).sum(1)
    return float((weights * rho).sum() / weights.sum())


def _say_nothing(A: Array, B: Array) -> bool:
    """Say whether one basis has no component, or as many as stimuli have directions."""
    return not all(0 < basis.shape[1] < len(A) - 1 for basis in (A, B))
