"""Gram matrices, accumulated in float64 whatever the dtype of the data."""

from __future__ import annotations

from brainalign.engine.backend import Array, cast, namespace

_BLOCK = 2**24  # values that are widened to float64 at a time: 128 MB


def column_gram(X: Array) -> Array:
    """Return XᵀX.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)

    Returns
    -------
    ndarray or Tensor of float64, (column, column)
    """
    step = max(1, _BLOCK // max(1, X.shape[1]))
    total = namespace(X).zeros_like(cast(X[:0], "float64").T @ cast(X[:0], "float64"))
    for start in range(0, X.shape[0], step):
        block = cast(X[start : start + step], "float64")
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
    step = max(1, _BLOCK // max(1, X.shape[1]))
    blocks = [cast(X[start : start + step], "float64") @ W for start in range(0, X.shape[0], step)]
    return blocks[0] if len(blocks) == 1 else namespace(X).concatenate(blocks)
