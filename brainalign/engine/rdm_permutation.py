"""Comparisons of dissimilarity matrices whose stimuli have changed names: what chance would give."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from brainalign.engine.backend import even_slices
from brainalign.engine.comparators import COMPARATORS, inner_products, n_conditions
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side

_BUDGET = 2**22  # numbers of permuted matrices that are held at a time: 32 MB


def permuted_scores(
    models: Numbers,
    data: Numbers,
    metric: str,
    orders: Numbers,
    *,
    averaged: bool = False,
    covariance: Numbers | None = None,
    shown: Callable[[Any], Any] = iter,
) -> Numbers:
    """Compare every model, its stimuli in other orders, with every matrix of the data.

    Parameters
    ----------
    models : ndarray of float64, (model, pair)
        Pairs above the diagonal, row by row; no NaN.
    data : ndarray of float64, (group, subject, pair)
    metric : str
        A name in ``COMPARATORS``.
    orders : ndarray of int, (draw, stimulus)
    averaged : bool
        Whether the mean score over subjects is wanted.
    covariance : ndarray, (stimulus, stimulus), optional
        As the measure takes it.
    shown : callable
        From a list to what goes along it with a bar.

    Returns
    -------
    ndarray of float64, (draw, model, group[, subject])

    Notes
    -----
    Whatever is made of a matrix before it is compared (centring, ranks, whitening) is made once, for it moves with the stimuli; not so
    where they have a covariance, and under measures that are no product.
    """
    measure = COMPARATORS[metric]
    of_data = measure.prepare(data.reshape(-1, data.shape[-1]), covariance)
    moves = measure.product is inner_products and covariance is None
    x, shape = measure.prepare(models) if moves else models, data.shape[:2]
    if moves and averaged:  # a mean of products is the product with the mean
        of_data, shape = of_data.reshape(*shape, -1).mean(axis=1), (shape[0], 1)
    workers = n_workers(x)

    def scored(draws: slice) -> Numbers:
        moved = x.take(moved_entries(orders[draws], x.shape[1]), axis=1).swapaxes(0, 1)
        if moves:
            scores = inner_products(moved.reshape(-1, x.shape[1]), of_data)
        else:
            scores = np.stack([measure.product(measure.prepare(m, covariance), of_data) for m in moved])
        scores = scores.reshape(len(moved), len(x), *shape)
        return np.asarray(scores.mean(axis=-1) if averaged else scores)

    pieces = even_slices(len(orders), max(1, _BUDGET // workers // (x.shape[1] * len(models))))
    return np.concatenate(side_by_side(scored, pieces, workers, shown))


def moved_entries(orders: Numbers, width: int) -> Numbers:
    """Return where each entry of a matrix comes from after its stimuli were put in another order.

    Parameters
    ----------
    orders : ndarray of int, (draw, stimulus)
    width : int
        How many entries it has: all pairs above the diagonal, or a square row by row.

    Returns
    -------
    ndarray of int, (draw, entry)

    Examples
    --------
    >>> moved_entries(np.array([[2, 0, 1]]), 3)
    array([[1, 2, 0]])
    """
    n = orders.shape[1]
    if width == n * n:
        return np.asarray(n * orders[:, :, None] + orders[:, None]).reshape(len(orders), -1)
    first, second = np.triu_indices(n_conditions(width), 1)
    position = np.zeros((n, n), dtype=np.int64)
    position[first, second] = position[second, first] = np.arange(width)
    return np.asarray(position[orders[:, first], orders[:, second]])
