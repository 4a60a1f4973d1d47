"""Which group a pattern belongs to, told by the patterns of others: nearest centroids with one unit left out, from inner products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.engine.moments import Numbers


@dataclass(frozen=True)
class Centroids:
    """Inner products of patterns, summed as centroids need them.

    Attributes
    ----------
    squares : ndarray of float64, (item,)
        Of each pattern with itself.
    with_others : ndarray of float64, (unit, group, item)
        Of each pattern with those of a group in a unit; 0 where it is its own.
    within : ndarray of float64, (group, unit, unit)
        Of the patterns of a group in two units.
    counts : ndarray of float64, (group, unit)
        How many there are.
    units : ndarray of int, (item,)
    """

    squares: Numbers
    with_others: Numbers
    within: Numbers
    counts: Numbers
    units: Numbers

    @classmethod
    def of(cls, gram: Numbers, units: Numbers, groups: Numbers) -> Centroids:
        """Sum inner products.

        Parameters
        ----------
        gram : ndarray of float64, (item, item)
        units : ndarray of int, (item,)
            Who, or which network, each pattern comes from.
        groups : ndarray of int, (item,)
            What is to be told: its region, or layer.
        """
        n_units, n_groups = units.max() + 1, groups.max() + 1
        cells = np.zeros((n_groups * n_units, len(gram)))
        cells[groups * n_units + units, np.arange(len(gram))] = 1.0
        apart = np.where(units[:, None] == units, 0.0, gram)
        within = (cells @ gram @ cells.T).reshape(n_groups, n_units, n_groups, n_units)
        return cls(
            np.diagonal(gram),
            (cells @ apart).reshape(n_groups, n_units, -1).swapaxes(0, 1),
            np.moveaxis(np.diagonal(within, axis1=0, axis2=2), -1, 0),
            cells.sum(axis=1).reshape(n_groups, n_units),
            units,
        )

    def squared_distances(self, weights: Numbers) -> Numbers:
        """Return squared distances to the centroids of all other units.

        Parameters
        ----------
        weights : ndarray, (draw, unit)
            How often each unit is drawn. None is among those that its own patterns are compared with, however often.

        Returns
        -------
        ndarray of float64, (draw, group, item)
            Infinite where no other unit that was drawn has the group.
        """
        w = weights.astype(np.float64)
        n = (w @ self.counts.T)[:, :, None] - w[:, None] * self.counts  # (draw, group, unit that is left out)
        row = w[:, None] * np.einsum("guv,dv->dgu", self.within, w)
        total = row.sum(axis=2, keepdims=True) - 2 * row + (w * w)[:, None] * np.diagonal(self.within, axis1=1, axis2=2)
        cross = np.tensordot(w, self.with_others, 1)
        n = np.where(n > 0, n, np.nan)[..., self.units]
        squared = self.squares - 2 * cross / n + total[..., self.units] / n**2
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
