"""Distances between shapes: systems up to rotation, between none and complete whitening."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, namespace, to_numpy
from brainalign.engine.cka import centred, unit_length
from brainalign.engine.gram import null_floor


def partially_whitened(X: Array, alpha: float) -> Array:
    """Return centred responses of length 1, between as they are (alpha 1) and white (alpha 0).

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    alpha : float
        In [0, 1].

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, component)
        Up to a rotation, X V (α + (1 − α) Λ^−½) with XᵀX = V Λ Vᵀ, over its length (Williams et al. 2021). Between 0 and 1 it
        depends on the units of the responses, and on the number of stimuli.
    """
    left, values, _ = namespace(X).linalg.svd(centred(X), full_matrices=False)
    keep = to_numpy(values) ** 2 > null_floor(to_numpy(values) ** 2, X)
    return unit_length(left[:, keep] * (alpha * values[keep] + (1 - alpha)))


def ridge_whitened(X: Array, penalty: float) -> Array:
    """Return responses whose Gram matrix is the smoother of ridge regression: all that linear tasks can make of them.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    penalty : float
        λ over the total variance.

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, component)
        U √(Λ / (Λ + λ tr Λ)), with the centred X = U Λ^½ Vᵀ.
    """
    left, values, _ = namespace(X).linalg.svd(centred(X), full_matrices=False)
    power = values**2
    total = float(power.sum())
    return left * (power / (power + penalty * (total if total > 0 else np.nan))) ** 0.5


def gulp_distance(A: Array, B: Array) -> float:
    """Return ‖AAᵀ − BBᵀ‖ from covariances: how far the predictions of two systems for linear tasks are apart (Boix-Adserà et al. 2022).

    Parameters
    ----------
    A, B : ndarray or Tensor of float64, (stimulus, component)
        From :func:`ridge_whitened`.

    Returns
    -------
    float
    """
    own = sum(float(((x.T @ x) ** 2).sum()) for x in (A, B))
    return float(np.sqrt(max(own - 2 * float(((A.T @ B) ** 2).sum()), 0.0)))


def nuclear_product(A: Array, B: Array) -> float:
    """Return ‖AᵀB‖_*, the largest inner product of A and B that a rotation can make.

    Parameters
    ----------
    A, B : ndarray or Tensor of float64, (stimulus, component)

    Returns
    -------
    float
        NaN where a side has no component, or NaN.
    """
    product = A.T @ B
    if 0 in product.shape or not bool(namespace(product).isfinite(product).all()):
        return np.nan
    return float(namespace(product).linalg.svdvals(product).sum())


def procrustes_distance(A: Array, B: Array) -> float:
    """Return the least ‖A R − B‖ over rotations R, √(‖A‖² + ‖B‖² − 2‖AᵀB‖_*); as a distance of Gram matrices, that of Bures.

    Parameters
    ----------
    A, B : ndarray or Tensor of float64, (stimulus, component)
        Centred.

    Returns
    -------
    float
    """
    total = float((A * A).sum()) + float((B * B).sum())
    return float(np.sqrt(np.maximum(total - 2 * nuclear_product(A, B), 0.0)))
