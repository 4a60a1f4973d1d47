"""The covariance of noise between channels, shrunk or not, and patterns made white by it: what a noise precision is for."""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.blas import get_blas_funcs

from brainalign.engine.backend import Array, dtype_name, is_torch, namespace
from brainalign.engine.moments import Numbers

METHODS = ("full", "diagonal", "shrinkage-eye", "shrinkage-diagonal")


def noise_covariance(residuals: Numbers, method: str, *, dof: float) -> tuple[Numbers, float]:
    """Estimate the covariance of residuals between channels.

    Parameters
    ----------
    residuals : ndarray of float64, (row, channel)
        Around their means, which are 0. Every channel varies.
    method : {"full", "diagonal", "shrinkage-eye", "shrinkage-diagonal"}
        The sample covariance; its diagonal; shrunk to a multiple of the identity (Ledoit and Wolf 2004); correlations shrunk
        to 0, variances kept (Schäfer and Strimmer 2005).
    dof : float
        Rows less the number of means that were taken out.

    Returns
    -------
    covariance : ndarray of float64, (channel, channel), or (1, channel) under ``"diagonal"``
    shrinkage : float
        0 where nothing is shrunk, 1 where nothing but the target is left.

    Notes
    -----
    Σ_jk Σ_i x_ij² x_ik² = Σ_i (Σ_j x_ij²)², so that the variance of all entries together needs no second product of matrices.

    Examples
    --------
    >>> noise_covariance(np.array([[1.0, 0.0], [-1.0, 2.0], [0.0, -2.0]]), "diagonal", dof=2)
    (array([[1., 4.]]), 0.0)
    """
    n, p = residuals.shape
    squares = residuals**2
    variance = squares.sum(axis=0) / dof
    if method == "diagonal":
        return variance[None, :], 0.0
    covariance = residuals.T @ residuals / dof
    if method == "full":
        return covariance, 0.0
    if method == "shrinkage-eye":
        covariance *= dof / n
        shrinkage = shrink_to_identity(covariance, squares.sum(axis=1))
        covariance *= n / dof
        return covariance, shrinkage
    # correlations as the source has them, over n - 1 whatever the degrees of freedom
    size = (((covariance * covariance) @ (1 / variance)) @ (1 / variance) - p) * (dof / (n - 1)) ** 2
    own = np.einsum("ij,ij->j", squares, squares)
    fourth = (((squares @ (1 / variance)) ** 2).sum() - (own / variance**2).sum()) / (n - 1)
    shrinkage = float(np.clip(n / dof**2 * (fourth - size) / size, 0, 1)) if size > 0 else 1.0
    covariance *= 1 - shrinkage
    covariance.flat[:: p + 1] = variance
    return covariance, shrinkage


def shrink_to_identity(covariance: Numbers, squares: Numbers) -> float:
    """Shrink a covariance to a multiple of the identity, in its own memory (Ledoit and Wolf 2004).

    Parameters
    ----------
    covariance : ndarray, (channel, channel)
        Of centred rows, divided by their number.
    squares : ndarray of float64, (row,)
        The sum of squares of each.

    Returns
    -------
    float
        How far it was shrunk, 0 to 1.
    """
    n, p = len(squares), len(covariance)
    size = np.einsum("ij,ij->", covariance, covariance, dtype=np.float64)
    level = float(np.trace(covariance)) / p
    spread, noise = size - p * level**2, ((squares**2).sum() / n - size) / n
    shrinkage = float(np.clip(noise / spread, 0, 1)) if spread > 0 else 1.0
    covariance *= 1 - shrinkage
    covariance.flat[:: p + 1] += shrinkage * level
    return shrinkage


def whiten(patterns: Array, covariance: Array) -> Array:
    """Return patterns in which noise of this covariance is white: their inner products are xᵀΣ⁻¹y.

    Parameters
    ----------
    patterns : ndarray or Tensor, (..., pattern, channel)
    covariance : ndarray or Tensor, (..., channel, channel), or (..., 1, channel) of variances
        Of the same library, device and dtype; leading axes as those of the patterns, or missing.

    Returns
    -------
    ndarray or Tensor, (..., pattern, channel)

    Raises
    ------
    LinAlgError
        The covariance is not positive definite, but for rounding.

    Examples
    --------
    >>> whiten(np.array([[2.0, 3.0]]), np.array([[4.0, 9.0]]))
    array([[1., 1.]])
    """
    if covariance.shape[-2] != covariance.shape[-1]:
        if not (covariance > 0).all():
            raise np.linalg.LinAlgError("a variance is not positive")
        return patterns / covariance**0.5
    if is_torch(patterns):
        linalg = namespace(patterns).linalg
        factor, failed = linalg.cholesky_ex(covariance)
        if failed.any():
            raise np.linalg.LinAlgError("the covariance is not positive definite")
        _refuse_singular(factor, covariance)
        return linalg.solve_triangular(factor, patterns.swapaxes(-1, -2), upper=False).swapaxes(-1, -2)
    if covariance.ndim == 2:
        factor = cholesky(covariance, lower=True, check_finite=False)  # a third faster than numpy's
        _refuse_singular(factor, covariance)
        rows = patterns.reshape(-1, patterns.shape[-1])
        return solve_triangular(factor, rows.T, lower=True, check_finite=False).T.reshape(patterns.shape)
    out = np.empty_like(patterns)
    for index in np.ndindex(covariance.shape[:-2]):
        at = (..., *index, slice(None), slice(None))
        out[at] = whiten(patterns[at], covariance[index])
    return out


def _refuse_singular(factor: Array, covariance: Array) -> None:
    """Refuse a covariance in which others tell all of a channel but for rounding, which whitening would divide by."""
    at = np.arange(covariance.shape[-1])
    left = factor[..., at, at] ** 2 / covariance[..., at, at]  # of a channel's variance, without what those before it tell
    if (left < float(np.finfo(dtype_name(covariance)).eps) ** 0.5).any():
        raise np.linalg.LinAlgError("channels are sums of one another")


def weighed_across(patterns: Array, means: Array, precision: Array) -> Array:
    """Return Σ (x_f − m_f) Λ (x_g − m_g)ᵀ over all pairs of different folds f and g.

    Parameters
    ----------
    patterns : ndarray or Tensor, (fold, ..., pattern, channel)
    means : ndarray or Tensor, (fold, ..., 1, channel)
        What is taken off.
    precision : ndarray or Tensor, (..., channel, channel)
        Symmetric, of the same library, device and dtype; leading axes as those of a fold, or missing.

    Returns
    -------
    ndarray or Tensor, (..., pattern, pattern)

    Notes
    -----
    With a triangular H of which H + Hᵀ is Λ, the sum is K + Kᵀ with K = Σ x_f H x_gᵀ: half the multiplications, and unlike whitening no
    factor of the precision. All products are scipy's: the threads of numpy's wait for a while at the cost of those of another library.

    Examples
    --------
    >>> weighed_across(np.array([[[2.0, 3.0]], [[1.0, 1.0]]]), np.zeros((2, 1, 2)), np.array([[4.0, 0.0], [0.0, 2.0]]))
    array([[28.]])
    """
    half = patterns - means
    total = half.sum(0)
    if is_torch(patterns) or precision.ndim > 2:
        return (half @ precision @ (total - half).swapaxes(-1, -2)).sum(0)
    trmm, gemm = get_blas_funcs(("trmm", "gemm"), (half, precision))
    half = trmm(1.0, precision.T, half.reshape(-1, half.shape[-1]).T, overwrite_b=True).T.reshape(half.shape)
    out, diagonal = np.zeros((*half.shape[1:-1], half.shape[-2]), dtype=half.dtype), np.diagonal(precision) / 2
    for fold, mean, part in zip(patterns, means, half, strict=True):
        fold = fold - mean  # once more: not all folds twice in memory
        part -= fold * diagonal
        others = total - fold
        for at in np.ndindex(out.shape[:-2]):
            out[at] = gemm(1.0, others[at].T, part[at].T, trans_a=True, beta=1.0, c=out[at].T, overwrite_c=True).T
    return out + out.swapaxes(-1, -2)
