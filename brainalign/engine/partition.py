"""Variance that several groups of columns explain, taken apart: by subsets of the groups, and by their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from brainalign.engine.moments import Numbers, deviations


def subsets(n_bands: int) -> Numbers:
    """Return every non-empty subset, single bands first and all bands last.

    Parameters
    ----------
    n_bands : int

    Returns
    -------
    ndarray of bool, (2**n_bands - 1, n_bands)

    Examples
    --------
    >>> subsets(2).tolist()
    [[True, False], [False, True], [True, True]]
    """
    chosen = [some for size in range(1, n_bands + 1) for some in combinations(range(n_bands), size)]
    return np.array([np.isin(np.arange(n_bands), some) for some in chosen])


def commonality(r2: Numbers, members: Numbers) -> Numbers:
    """Return the variance that the bands of each subset explain in common, and no other band explains.

    Parameters
    ----------
    r2 : ndarray of float64, (subset, ...)
        Of the fit to each subset.
    members : ndarray of bool, (subset, band)
        As :func:`subsets` gives them.

    Returns
    -------
    ndarray of float64, (subset, ...)
        Of a single band, what it explains alone. They add up to the R² of all bands; negative ones are suppression or noise.

    Notes
    -----
    With g(A) = R²(all) − R²(all but A), what only bands of A explain, C(S) = Σ_{A ⊆ S} (−1)^{|S| − |A|} g(A), the inverse of
    g(S) = Σ_{A ⊆ S} C(A) (Mood, 1971).

    Examples
    --------
    >>> commonality(np.array([0.3, 0.4, 0.5]), subsets(2)).round(2).tolist()
    [0.1, 0.2, 0.2]
    """
    row = {tuple(some): k for k, some in enumerate(members.tolist())}
    nothing = np.zeros_like(r2[0])
    only = np.array([r2[-1] - (r2[row[tuple(rest)]] if any(rest) else nothing) for rest in (~members).tolist()])
    within = ~(members[None, :, :] & ~members[:, None, :]).any(axis=2)  # (S, A): A is within S
    sign = (-1.0) ** (members.sum(axis=1)[:, None] - members.sum(axis=1)[None, :])
    return np.asarray(np.tensordot(within * sign, only, axes=1))


@dataclass(frozen=True)
class ProductSums:
    """Sums over the test rows of one fold (or, pooled, of several), of which the product measure is made.

    Attributes
    ----------
    product : ndarray of float64, (band, column)
        Σ ŷ_b (2y − Σ_b ŷ_b), around the mean of the target in the fold.
    target_ss : ndarray of float64, (column,)
        Σ (y − ȳ)².
    """

    product: Numbers
    target_ss: Numbers


def product_sums(target: Numbers, shares: Numbers) -> ProductSums:
    """Return the sums of one fold, in float64.

    Parameters
    ----------
    target : ndarray, (row, column)
    shares : ndarray, (band, row, column)
        Their sum over bands is the prediction. What the mean of the prediction misses is shared out evenly.

    Returns
    -------
    ProductSums
    """
    y, parts = deviations(target), np.asarray(shares, dtype=np.float64)
    parts = parts - np.asarray(target, dtype=np.float64).mean(axis=0) / len(parts)
    return ProductSums((parts * (2 * y - parts.sum(axis=0))).sum(axis=1), (y * y).sum(axis=0))


def pool_products(folds: Sequence[ProductSums]) -> ProductSums:
    """Return the sums of several folds as one.

    Parameters
    ----------
    folds : sequence of ProductSums

    Returns
    -------
    ProductSums
    """
    return ProductSums(np.sum([fold.product for fold in folds], axis=0), np.sum([fold.target_ss for fold in folds], axis=0))


def product_measure(sums: ProductSums) -> Numbers:
    """Return the share of each band in R².

    Parameters
    ----------
    sums : ProductSums
        Pooled over folds.

    Returns
    -------
    ndarray of float64, (band, column)
        Σ_f Σ ŷ_b (2y − Σŷ) / Σ_f Σ (y − ȳ_f)²: they add up exactly to R² = 1 − Σ_f Σ (y − Σŷ)² / Σ_f Σ (y − ȳ_f)². NaN where the
        target does not vary within folds. A band whose prediction opposes the others' may have a negative share.

    Notes
    -----
    The product measure of linear models (Hoffman 1960; Dupré la Tour et al. 2022, NeuroImage).
    """
    parts = np.full(sums.product.shape, np.nan)
    np.divide(sums.product, sums.target_ss, out=parts, where=sums.target_ss > 0)
    return parts
