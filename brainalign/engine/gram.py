"""Means, Gram matrices and inverses in float64 whatever the dtype of the data, which is widened block by block."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, empty, is_torch, like, namespace

_BLOCK = 2**22  # values that are widened to float64 at a time for a matrix product: 32 MB
_PASS = 2**17  # and for a pass over them: 1 MB, which stays in cache
_SMALL = 32  # matrices up to this size are inverted all at once
_WIDE = 128  # and those are multiplied at once, their zeros too


def column_gram(X: Array) -> Array:
    """Return XᵀX.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)

    Returns
    -------
    ndarray or Tensor of float64, (column, column)
    """
    total = namespace(X).zeros_like(cast(X[:0], "float64").T @ cast(X[:0], "float64"))
    for rows in _blocks(X, _BLOCK):
        block = cast(X[rows], "float64")
        total += block.T @ block
    return total


def row_gram(X: Array) -> Array:
    """Return XXᵀ.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)

    Returns
    -------
    ndarray or Tensor of float64, (row, row)
    """
    return column_gram(X.T)


def wide_matmul(X: Array, W: Array) -> Array:
    """Return X W in float64, widening ``X`` block by block.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    W : ndarray or Tensor of float64, (column, k)

    Returns
    -------
    ndarray or Tensor of float64, (row, k)
    """
    out = empty((X.shape[0], W.shape[1]), "float64", X)
    for rows in _blocks(X, _BLOCK):
        out[rows] = cast(X[rows], "float64") @ W
    return out


def column_mean(X: Array, weights: Array | None = None) -> Array:
    """Return the mean of each column, summed in float64.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    weights : ndarray or Tensor of float64, (row,), optional
        Of the rows; default all the same.

    Returns
    -------
    ndarray or Tensor of float64, (column,)
    """
    total = cast(X[0], "float64") * 0
    for rows in _blocks(X, _PASS):
        block = cast(X[rows], "float64")
        total += block.sum(0) if weights is None else weights[rows] @ block
    return total / (len(X) if weights is None else weights.sum())


def standardised(X: Array, mean: Array, dtype: str, *, scale: Array | None = None, root: Array | None = None) -> Array:
    """Return (X − mean) / scale in a dtype, differences taken in float64 so that an offset costs no precision.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    mean : ndarray or Tensor of float64, (column,)
    dtype : {"float32", "float64"}
    scale : ndarray or Tensor of float64, (column,), optional
    root : ndarray or Tensor of float64, (row,), optional
        √w of weighted rows, by which they are multiplied.

    Returns
    -------
    ndarray or Tensor, (row, column)
    """
    out = empty(tuple(X.shape), dtype, X)
    for rows in _blocks(X, _PASS):
        block = cast(X[rows], "float64") - mean
        block = block if scale is None else block / scale
        out[rows] = cast(block if root is None else block * root[rows, None], dtype)
    return out


def deviation(X: Array, mean: Array, weights: Array | None = None) -> Array:
    """Return the root mean square of each column around some values.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    mean : ndarray or Tensor of float64, (column,)
    weights : ndarray or Tensor of float64, (row,), optional

    Returns
    -------
    ndarray or Tensor of float64, (column,)
    """
    total = 0 * mean
    for rows in _blocks(X, _PASS):
        apart = cast(X[rows], "float64") - mean
        apart *= apart
        total += apart.sum(0) if weights is None else weights[rows] @ apart
    return (total / (len(X) if weights is None else weights.sum())) ** 0.5


def column_scale(X: Array, weights: Array | None = None) -> Array:
    """Return the standard deviation of each column; 1 where a column varies by no more than rounding.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    weights : ndarray or Tensor of float64, (row,), optional

    Returns
    -------
    ndarray or Tensor of float64, (column,)
    """
    mean = column_mean(X, weights)
    spread = deviation(X, mean, weights)
    name = dtype_name(X)
    unit = float(np.finfo(name).eps) if name.startswith("float") else 0.0  # counts are exact
    still = spread <= 10 * unit * abs(mean)
    return spread * ~still + still * 1.0


def inverse(stack: Array) -> Array:
    """Return the inverses of symmetric positive definite matrices.

    Parameters
    ----------
    stack : ndarray or Tensor, (matrix, k, k)

    Returns
    -------
    ndarray or Tensor, (matrix, k, k)
        Pseudo-inverses, where rounding left a matrix that is not positive definite.

    Notes
    -----
    By products of blocks, as quick as those of LAPACK, which scipy has one thread wait for and runs on other threads than numpy's.
    """
    xp = namespace(stack)
    if is_torch(stack):
        lower, failed = xp.linalg.cholesky_ex(stack)
        return xp.linalg.pinv(stack, hermitian=True) if bool(failed.any()) else xp.cholesky_inverse(lower)
    try:
        return np.linalg.inv(stack) if stack.shape[1] <= _SMALL else _own_products(_inverse_of_lower(np.linalg.cholesky(stack)))
    except np.linalg.LinAlgError:
        if len(stack) == 1:
            return np.linalg.pinv(stack, hermitian=True)
        return np.concatenate([inverse(matrix[None]) for matrix in stack])


def _inverse_of_lower(lower: Array) -> Array:
    """Return L⁻¹ of lower triangles (..., k, k)."""
    h = lower.shape[-1] // 2
    if 2 * h <= _SMALL:
        return np.linalg.inv(lower)
    out = np.zeros_like(lower)
    a, c = (_inverse_of_lower(block) for block in (lower[..., :h, :h], lower[..., h:, h:]))
    out[..., :h, :h], out[..., h:, :h], out[..., h:, h:] = a, -c @ lower[..., h:, :h] @ a, c
    return out


def _own_products(lower: Array) -> Array:
    """Return LᵀL of lower triangles (..., k, k)."""
    h = lower.shape[-1] // 2
    if 2 * h <= _WIDE:
        return lower.swapaxes(-1, -2) @ lower
    b, c, out = lower[..., h:, :h], lower[..., h:, h:], np.empty_like(lower)
    out[..., :h, :h] = _own_products(lower[..., :h, :h]) + b.swapaxes(-1, -2) @ b
    out[..., h:, :h], out[..., h:, h:] = c.swapaxes(-1, -2) @ b, _own_products(c)
    out[..., :h, h:] = out[..., h:, :h].swapaxes(-1, -2)
    return out


def eigh(gram: Array) -> tuple[Array, Array]:
    """Return eigenvalues (ascending) and eigenvectors of a symmetric matrix that is not negative.

    Parameters
    ----------
    gram : ndarray or Tensor of float64, (k, k)

    Returns
    -------
    values : ndarray or Tensor of float64, (k,)
    vectors : ndarray or Tensor of float64, (k, k)

    Notes
    -----
    Where the solver does not converge it gets a diagonal of 1e-7 of the mean eigenvalue added (which is taken off again), and
    then a singular value decomposition instead.
    """
    linalg = namespace(gram).linalg
    lift = 1e-7 * float(namespace(gram).trace(gram)) / max(1, len(gram))
    for added in (0.0, lift):
        try:
            values, vectors = linalg.eigh(gram + added * like(np.eye(len(gram)), gram) if added else gram)
        except linalg.LinAlgError:
            continue
        return values - added, vectors
    vectors, values, _ = linalg.svd(gram)
    return namespace(gram).flip(values, (0,)), namespace(gram).flip(vectors, (1,))


def null_floor(values: Array, X: Array) -> float:
    """Return the eigenvalue up to which directions of a matrix are null: rounding, not variance.

    Parameters
    ----------
    values : ndarray or Tensor of float64, (k,)
        Eigenvalues of a Gram matrix of ``X``.
    X : ndarray or Tensor, (row, column)

    Returns
    -------
    float
        Near eps² of the largest, which the rounding of ``X`` leaves, or eps(float64), which that of the decomposition leaves.
    """
    unit = max(np.finfo(np.float64).eps, np.finfo(dtype_name(X)).eps ** 2) * max(X.shape)
    return float(unit * max(float(values.max()), 0.0)) if len(values) else 0.0


def _blocks(X: Array, size: int) -> Iterator[slice]:
    size = 16 * _BLOCK if is_torch(X) and X.device.type == "cuda" else size  # many small steps would only wait for each other
    step = max(1, size // max(1, X.shape[1]))
    return (slice(start, start + step) for start in range(0, X.shape[0], step))
