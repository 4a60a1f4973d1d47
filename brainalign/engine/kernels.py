"""Kernels between rows, and features whose inner products they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.engine.backend import Array, cast, namespace, to_numpy
from brainalign.engine.gram import eigh

KERNELS = ("linear", "polynomial", "rbf", "cosine")


def kernel_matrix(A: Array, B: Array, kernel: str, *, gamma: float = 1.0, degree: int = 3, coef0: float = 1.0) -> Array:
    """Return the kernel between every row of ``A`` and every row of ``B``.

    Parameters
    ----------
    A : ndarray or Tensor, (row, column)
    B : ndarray or Tensor, (other, column)
    kernel : {"linear", "polynomial", "rbf", "cosine"}
        a·b; (γ a·b + c)^degree; exp(−γ‖a − b‖²); a·b / ‖a‖‖b‖, which is 0 for rows of zeros.
    gamma, coef0 : float
        γ and c.
    degree : int

    Returns
    -------
    ndarray or Tensor of float64, (row, other)
    """
    a, b = cast(A, "float64"), cast(B, "float64")
    if kernel == "rbf":
        return namespace(a).exp(-gamma * squared_distances(a, b))
    if kernel == "cosine":
        a, b = (x / ((norm := (x * x).sum(1) ** 0.5) + (norm == 0) * 1.0)[:, None] for x in (a, b))
    products = a @ b.T
    return (gamma * products + coef0) ** degree if kernel == "polynomial" else products


def squared_distances(A: Array, B: Array) -> Array:
    """Return ‖a − b‖² between every row of ``A`` and every row of ``B``.

    Parameters
    ----------
    A : ndarray or Tensor of float64, (row, column)
    B : ndarray or Tensor of float64, (other, column)

    Returns
    -------
    ndarray or Tensor of float64, (row, other)
    """
    mean = B.mean(0)  # far from 0, the difference of squares would cancel
    a, b = A - mean, B - mean
    return ((a * a).sum(1)[:, None] + (b * b).sum(1)[None, :] - 2 * (a @ b.T)).clip(0)


def natural_gamma(X: Array, kernel: str) -> float:
    """Return the γ that makes a kernel blind to the units of its features.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    kernel : {"linear", "polynomial", "rbf", "cosine"}

    Returns
    -------
    float
        One over the median squared distance between two rows (rbf), or over the mean squared norm of a row
        (polynomial); 1 where that is 0, and for kernels without γ.
    """
    x, size = cast(X, "float64"), 1.0
    if kernel == "rbf" and len(x) > 1:
        size = float(np.median(to_numpy(squared_distances(x, x))[np.triu_indices(len(x), 1)]))
    elif kernel == "polynomial":
        size = float((x * x).sum(1).mean())
    return 1 / size if size > 0 else 1.0


@dataclass(frozen=True)
class KernelFeatures:
    """Explicit features of the rows of a kernel, and of rows to come.

    Attributes
    ----------
    values : array of float64, (row, k)
        Z Zᵀ is the kernel, or the centred kernel.
    offset : array of float64, (row,)
        Mean of each column of the kernel; zeros where it is not centred.
    projection : array of float64, (row, k)
    """

    values: Array
    offset: Array
    projection: Array

    @classmethod
    def of(cls, kernel: Array, *, centred: bool) -> KernelFeatures:
        """Decompose a kernel; centred, it is that of features whose mean over rows is 0.

        Parameters
        ----------
        kernel : ndarray or Tensor of float64, (row, row)
        centred : bool

        Returns
        -------
        KernelFeatures
        """
        offset = kernel.mean(0) if centred else 0 * kernel[0]
        if centred:
            kernel = kernel - offset
            kernel = kernel - kernel.mean(1)[:, None]
        values, vectors = eigh((kernel + kernel.T) / 2)
        unit = np.finfo(np.float64).eps * len(kernel)
        keep = values > unit * abs(values).max()
        keep[-1] = True  # a source without variance has one feature, of zeros
        root = (values[keep] * (values[keep] > 0)) ** 0.5
        vectors = vectors[:, keep]
        return cls(vectors * root, offset, vectors * (root > 0) / (root + (root == 0) * 1.0))

    def of_new(self, kernel: Array) -> Array:
        """Return the features of new rows.

        Parameters
        ----------
        kernel : ndarray or Tensor of float64, (new row, row)
            Their kernel with the rows of before.

        Returns
        -------
        ndarray or Tensor of float64, (new row, k)
        """
        return (kernel - self.offset) @ self.projection
