"""Which group a pattern belongs to, told by the patterns of others: nearest centroids with one unit left out, from inner products."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers


def squared_to_centroids(gram: Numbers, units: Numbers, groups: Numbers, weights: Numbers) -> Numbers:
    """Return squared distances of patterns to the mean of each group in all other units.

    Parameters
    ----------
    gram : ndarray of float64, (item, item)
        Inner products of the patterns.
    units : ndarray of int, (item,)
        Who, or which network, each pattern comes from.
    groups : ndarray of int, (item,)
        What is to be told: its region, or layer.
    weights : ndarray, (draw, unit)
        How often each unit is drawn. None is among those that its own patterns are compared with, however often.

    Returns
    -------
    ndarray of float64, (draw, group, item)
        Infinite where no other unit that was drawn has the group.
    """
    n_units, n_groups = units.max() + 1, groups.max() + 1
    cells = np.zeros((n_groups * n_units, len(gram)))
    cells[groups * n_units + units, np.arange(len(gram))] = 1.0
    counts = cells.sum(axis=1).reshape(n_groups, n_units)
    apart = np.where(units[:, None] == units, 0.0, gram)
    with_others = (cells @ apart).reshape(n_groups, n_units, -1).swapaxes(0, 1)
    within = (cells @ gram @ cells.T).reshape(n_groups, n_units, n_groups, n_units)
    within = np.moveaxis(np.diagonal(within, axis1=0, axis2=2), -1, 0)  # of a group's patterns in two units
    w = weights.astype(np.float64)
    n = (w @ counts.T)[:, :, None] - w[:, None] * counts  # (draw, group, unit that is left out)
    row = w[:, None] * np.einsum("guv,dv->dgu", within, w)
    total = row.sum(axis=2, keepdims=True) - 2 * row + (w * w)[:, None] * np.diagonal(within, axis1=1, axis2=2)
    n = np.where(n > 0, n, np.nan)[..., units]
    squared = np.diagonal(gram) - 2 * np.tensordot(w, with_others, 1) / n + total[..., units] / n**2
    return np.where(np.isnan(n), np.inf, squared)


def nearest(squared: Numbers) -> Numbers:
    """Return the nearest group of each item; −1 where there is none to be near to.

    Parameters
    ----------
    squared : ndarray, (..., group, item)

    Returns
    -------
    ndarray of int, (..., item)

    Examples
    --------
    >>> nearest(np.array([[1.0, 5.0, np.inf], [4.0, 2.0, np.inf]])).tolist()
    [0, 1, -1]
    """
    return np.where(np.isfinite(squared).any(axis=-2), squared.argmin(axis=-2), -1)


def share_found(found: Numbers, groups: Numbers, weights: Numbers, units: Numbers) -> Numbers:
    """Return the share of items whose group was found, each as often as its unit was drawn.

    Parameters
    ----------
    found : ndarray of int, (draw, item)
    groups, units : ndarray of int, (item,)
    weights : ndarray, (draw, unit)

    Returns
    -------
    ndarray of float64, (draw,)
        NaN where a single unit was drawn, which leaves none to compare it with.
    """
    w = np.where(found < 0, 0, weights[:, units])
    n = w.sum(axis=1)
    return np.where(n > 0, (w * (found == groups)).sum(axis=1) / np.maximum(n, 1), np.nan)


def distance_ratio(gram: Numbers, units: Numbers, groups: Numbers) -> Numbers:
    """Return how far each item is from its group in other units, over how far it is from the other groups in them.

    Parameters
    ----------
    gram : ndarray of float64, (item, item)
    units, groups : ndarray of int, (item,)

    Returns
    -------
    ndarray of float64, (item,)
        Mean distances; below 1 where groups are alike across units. NaN where there is nothing to compare with.
    """
    squares = np.diagonal(gram)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * gram, 0.0))
    other, same = units[:, None] != units, groups[:, None] == groups

    def mean(where: Numbers) -> Numbers:
        n = where.sum(axis=1)
        return np.where(n > 0, (distances * where).sum(axis=1) / np.maximum(n, 1), np.nan)

    across = mean(other & ~same)
    return np.asarray(mean(other & same) / np.where(across > 0, across, np.nan))
