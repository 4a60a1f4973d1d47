"""Distances made of products of different folds only, so that independent noise adds nothing on average."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, is_torch, like, namespace
from brainalign.engine.moments import Numbers
from brainalign.engine.precision import weighed_across, whiten


def products_across(sums: Array, counts: Numbers, covariances: Array | None = None, *, precision: Array | None = None) -> Array:
    """Return the mean inner product of every two conditions over all pairs of presentations of different folds.

    Parameters
    ----------
    sums : ndarray or Tensor, (fold, ..., condition, channel)
        Sums over the presentations of a condition in a fold, 0 where there is none; of white patterns, unless noise is given.
    counts : ndarray of int, (fold, condition)
    covariances : ndarray or Tensor, (fold, ..., channel, channel) or (fold, ..., 1, channel), optional
        Noise of each fold; the patterns are then made white for each pair of folds, by the mean of the two.
    precision : ndarray or Tensor, (..., channel, channel), optional
        The inverse of one covariance for all folds.

    Returns
    -------
    ndarray or Tensor, (..., condition, condition)
        Symmetric. Its :func:`differences` are the crossnobis distances.

    Notes
    -----
    (SᵢᵀSⱼ − Σ_f sᵢfᵀsⱼf) / (CᵢCⱼ − Σ_f cᵢf cⱼf), S and C being the sums over folds: with equal counts this is the mean over
    leave-one-fold-out splits (Walther et al. 2016), without one product per split. Equal counts also allow each fold to be
    centred, which changes no difference and keeps digits; with other counts a run's own mean would stay, in part.
    """
    centred = (counts == counts[0, 0]).all()
    means = sums.mean(-2)[..., None, :] if centred else 0 * sums[..., :1, :]
    # one at a time: memory that is used again
    folds = (fold - mean if centred else fold for fold, mean in zip(sums, means, strict=True))
    products: Array = 0.0
    if covariances is not None:
        for (f, first), (g, second) in combinations(enumerate(folds), 2):
            noise = (covariances[f] + covariances[g]) / 2
            one = whiten(first, noise) @ whiten(second, noise).swapaxes(-1, -2)
            products = products + (one + one.swapaxes(-1, -2))
    elif precision is not None:
        products = weighed_across(sums, means, precision)
    else:
        total = sums.sum(0) - means.sum(0)
        products = total @ total.swapaxes(-1, -2)
        for fold in folds:
            products -= fold @ fold.swapaxes(-1, -2)
    if is_torch(products):
        products = (products + products.swapaxes(-1, -2)) / 2
    every = counts.sum(axis=0, dtype=np.float64)
    pairs = np.outer(every, every) - counts.T @ counts.astype(np.float64)
    pairs[pairs == 0] = np.nan
    return products / cast(like(pairs, products), dtype_name(products))


def poisson_products_across(sums: Array, counts: Numbers, prior: tuple[float, float]) -> Array:
    """Return Σ λᵢ log λⱼ, the mean over folds of rates of all other folds with log rates of this one.

    Parameters
    ----------
    sums : ndarray or Tensor, (fold, ..., condition, channel)
        Counts of events, summed over the presentations of a condition in a fold.
    counts : ndarray of int, (fold, condition)
        Presentations; at least one of each.
    prior : tuple of float
        As in :func:`poisson_rates`.

    Returns
    -------
    ndarray or Tensor, (..., condition, condition)
        Not symmetric. Its :func:`differences` are the cross-validated symmetrised divergences.
    """
    xp, total, every = namespace(sums), sums.sum(0), counts.sum(axis=0)
    products = 0.0
    for fold, n in zip(sums, counts, strict=True):
        train = (total - fold) / cast(like(every - n, fold), dtype_name(fold))[:, None]
        test = fold / cast(like(n, fold), dtype_name(fold))[:, None]
        products = products + poisson_rates(train, prior) @ xp.log(poisson_rates(test, prior)).swapaxes(-1, -2)
    return products / len(counts)


def poisson_products(rates: Array, prior: tuple[float, float]) -> Array:
    """Return Σ λᵢ log λⱼ of every two conditions.

    Parameters
    ----------
    rates : ndarray or Tensor, (..., condition, channel)
        Mean counts.
    prior : tuple of float
        As in :func:`poisson_rates`.

    Returns
    -------
    ndarray or Tensor, (..., condition, condition)
        Not symmetric. Its :func:`differences` are symmetrised Kullback–Leibler divergences of Poisson distributions,
        Σ (λᵢ − λⱼ)(log λᵢ − log λⱼ).
    """
    smooth = poisson_rates(rates, prior)
    return smooth @ namespace(smooth).log(smooth).swapaxes(-1, -2)


def poisson_rates(rates: Array, prior: tuple[float, float]) -> Array:
    """Return rates drawn towards a prior, so that none is 0: (λ + rate · weight) / (1 + weight).

    Parameters
    ----------
    rates : ndarray or Tensor
    prior : tuple of float
        Rate and weight.

    Returns
    -------
    ndarray or Tensor
    """
    rate, weight = prior
    return (rates + rate * weight) / (1 + weight)


def differences(products: Array, n_times: int | None = None) -> Array:
    """Return Kᵢᵢ + Kⱼⱼ − Kᵢⱼ − Kⱼᵢ: what inner products say of differences.

    Parameters
    ----------
    products : ndarray or Tensor, (..., condition, condition)
    n_times : int, optional
        The conditions are those of this many times, one after the other: differences at one time with those at another.

    Returns
    -------
    ndarray or Tensor, (..., condition, condition) or (time, time, condition, condition)
        Symmetric in the conditions, exactly 0 on their diagonal.
    """
    if n_times is not None:
        n = products.shape[-1] // n_times
        products = products.reshape(n_times, n, n_times, n).swapaxes(1, 2)
    at = np.arange(products.shape[-1])
    own = products[..., at, at]
    return own[..., :, None] + own[..., None, :] - (products + products.swapaxes(-1, -2))
