"""Kernels between stimuli, centred and compared: CKA with and without its bias, in batches, and the distance correlation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from brainalign.engine.backend import Array, cast
from brainalign.engine.distances import pairwise_distances
from brainalign.engine.gram import row_gram
from brainalign.engine.kernels import kernel_matrix, natural_gamma
from brainalign.engine.moments import Numbers


def linear_kernel(X: Array) -> Array:
    """Return the inner products of all pairs of stimuli, around the mean stimulus.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, stimulus)
    """
    return row_gram(centred(X))


def rbf_kernel(X: Array, fraction: float = 1.0) -> Array:
    """Return exp(−‖a − b‖² / 2σ²) of all pairs of stimuli, σ being a fraction of their median distance.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    fraction : float

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, stimulus)
    """
    return kernel_matrix(X, X, "rbf", gamma=natural_gamma(X, "rbf") / (2 * fraction**2))


def distance_kernel(X: Array) -> Array:
    """Return minus the Euclidean distances of all pairs of stimuli, whose CKA is the squared distance correlation.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, stimulus)
    """
    return -pairwise_distances(X, "euclidean")


def centred(X: Array) -> Array:
    """Return the deviations from the mean stimulus, in float64.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, neuroid)
    """
    wide = cast(X, "float64")
    return wide - wide.mean(0)


def centred_kernel(K: Array, *, unbiased: bool = False) -> Array:
    """Return a kernel of length 1 whose inner product with another is the CKA of the two.

    Parameters
    ----------
    K : ndarray or Tensor of float64, (stimulus, stimulus)
    unbiased : bool
        Centre so that the products estimate HSIC without bias (Song et al. 2012; "U-centring", Székely and Rizzo 2014): the diagonal
        takes no part, rows sum to zero without it. Else the double centring of Gretton et al. 2005.

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, stimulus)
        NaN where all stimuli are alike.
    """
    n, K = len(K), K * 1.0
    diagonal = np.arange(n)
    if unbiased:
        K[diagonal, diagonal] = 0.0
    rows = K.sum(1) / (n - 2 if unbiased else n)
    K = K - rows[:, None] - rows[None, :] + rows.sum() / (n - 1 if unbiased else n)
    if unbiased:
        K[diagonal, diagonal] = 0.0
    return unit_length(K)


def unit_length(x: Array) -> Array:
    """Return an array divided by the root of its sum of squares; NaN where that is 0.

    Parameters
    ----------
    x : ndarray or Tensor of float64

    Returns
    -------
    ndarray or Tensor of float64
    """
    length = float((x * x).sum()) ** 0.5
    return x / (length if length > 0 else np.nan)


def unit_features(X: Array, *, unbiased: bool = False) -> Array:
    """Return centred responses on a scale on which :func:`feature_alignment` is the CKA, without a stimulus × stimulus matrix.

    Parameters
    ----------
    X : ndarray or Tensor, (stimulus, neuroid)
    unbiased : bool

    Returns
    -------
    ndarray or Tensor of float64, (stimulus, neuroid)
    """
    x = centred(X)
    own = feature_alignment(x, x, unbiased=unbiased)
    return x / (own**0.25 if own > 0 else np.nan)


def feature_alignment(A: Array, B: Array, *, unbiased: bool = False) -> float:
    """Return the inner product of the centred linear kernels of two sets of centred responses, from their covariances.

    Parameters
    ----------
    A : ndarray or Tensor of float64, (stimulus, neuroid)
    B : ndarray or Tensor of float64, (stimulus, other neuroid)
    unbiased : bool

    Returns
    -------
    float

    Notes
    -----
    ‖AᵀB‖². Without bias it loses the diagonal of both kernels, whose rows sum to zero with it: with a = diag AAᵀ and b = diag BBᵀ,
    ‖AᵀB‖² − n/(n−2) aᵀb + Σa Σb / ((n−1)(n−2)).
    """
    cross = A.T @ B
    total = float((cross * cross).sum())
    if not unbiased:
        return total
    n, a, b = len(A), (A * A).sum(1), (B * B).sum(1)
    return total - n / (n - 2) * float(a @ b) + float(a.sum() * b.sum()) / ((n - 1) * (n - 2))


def minibatch_alignment(batches: Iterable[tuple[Array, Array]]) -> float:
    """Return the debiased linear CKA of systems that are seen a batch of stimuli at a time.

    Parameters
    ----------
    batches : iterable of (ndarray or Tensor, ndarray or Tensor), each (stimulus, neuroid)
        Both sides of the same four or more stimuli, which were put into batches at random.

    Returns
    -------
    float

    Notes
    -----
    The three HSIC are averaged over batches, each weighted by its pairs of stimuli, and then divided (Nguyen, Raghu and Kornblith 2021): each
    average is an unbiased estimate of that of all stimuli.
    """
    sums, weight = np.zeros(3), 0.0
    for X, Y in batches:
        x, y, n = centred(X), centred(Y), len(X)
        products = [feature_alignment(a, b, unbiased=True) for a, b in ((x, y), (x, x), (y, y))]
        sums += np.array(products) * (n - 1) / (n - 3)  # n(n−1) times HSIC₁, which is the product over n(n−3)
        weight += n * (n - 1)
    return float(sums[0] / np.sqrt(sums[1] * sums[2])) if weight and (sums[1:] > 0).all() else np.nan


def subset_alignments(first: Sequence[Array], second: Sequence[Array], members: Numbers, *, unbiased: bool) -> Numbers:
    """Return the CKA of every kernel of one side with every one of the other, from subsets of the stimuli.

    Parameters
    ----------
    first, second : sequence of ndarray of float64, (stimulus, stimulus)
        Not divided or centred in any particular way.
    members : ndarray of float64, (subset, stimulus)
        1 for the stimuli of a subset, else 0.
    unbiased : bool

    Returns
    -------
    ndarray of float64, (subset, first, second)
        As from centring the kernel of each subset anew; all subsets at once, by products with ``members``.
    """
    n = members.sum(1)
    kernels = [*first, *second]
    if unbiased:
        kernels = [K - np.diag(np.diagonal(K)) for K in kernels]
    rows = [(members @ K) * members for K in kernels]
    totals = [row.sum(1) for row in rows]
    of_total, of_rows = (1 / ((n - 1) * (n - 2)), 2 / (n - 2)) if unbiased else (1 / n**2, 2 / n)

    def product(i: int, j: int) -> Numbers:
        both = ((members @ (kernels[i] * kernels[j])) * members).sum(1)
        return np.asarray(both + of_total * totals[i] * totals[j] - of_rows * (rows[i] * rows[j]).sum(1))

    own = np.sqrt(np.stack([product(i, i) for i in range(len(kernels))]).clip(0))
    own[own == 0] = np.nan
    cells = range(len(first)), range(len(first), len(kernels))
    return np.stack([np.stack([product(i, j) / (own[i] * own[j]) for j in cells[1]], axis=1) for i in cells[0]], axis=1)
