"""Two geometries compared under a whole family of thresholds: all of them, and every permutation, from a few products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from brainalign.engine.moments import Numbers, deviations
from brainalign.engine.rdm_permutation import moved_entries
from brainalign.engine.topology import cuts, rescale

FAMILIES = ("local", "global", "geometry-sensitive", "topology-sensitive", "intermediate")

_NEAR = 0.05  # thresholds this near to the bottom or the top leave nearly all pairs alike
_NUMBERS = 2**25  # of parts of matrices that are worked on together: 256 MB
_PERMUTED = 2**19  # of permuted parts: 4 MB, which a cache holds


def grid(step: float = 0.05) -> tuple[Numbers, Numbers]:
    """Return the pairs of thresholds l < u on a grid from 0 to 1.

    Parameters
    ----------
    step : float
        1 / step is a whole number.

    Returns
    -------
    lower, upper : ndarray, (transform,)
        Without u ≤ .05 and l ≥ .95, which leave nearly all pairs alike.

    Examples
    --------
    >>> lower, upper = grid(0.25)
    >>> [f"{l}-{u}" for l, u in zip(lower.tolist(), upper.tolist())]
    ['0.0-0.25', '0.0-0.5', '0.0-0.75', '0.0-1.0', '0.25-0.5', '0.25-0.75', '0.25-1.0', '0.5-0.75', '0.5-1.0', '0.75-1.0']
    """
    n = round(1 / step)
    first, second = np.triu_indices(n + 1, 1)
    lower, upper = first / n, second / n
    kept = (upper > _NEAR + 1e-9) & (lower < 1.0 - _NEAR - 1e-9)
    return lower[kept], upper[kept]


def family_of(lower: Numbers, upper: Numbers) -> Numbers:
    """Say what transforms with these thresholds are sensitive to.

    Parameters
    ----------
    lower, upper : ndarray, (transform,)

    Returns
    -------
    ndarray of str, (transform,)
        ``"local"`` (both around .2 or less in the mean), ``"global"`` (around .8 or more), ``"geometry-sensitive"`` (at least .8 apart),
        ``"topology-sensitive"`` (both from .4 to .6), or ``"intermediate"``, asked in this order (Lin and Kriegeskorte 2023).

    Examples
    --------
    >>> family_of(np.array([0.0, 0.7, 0.0, 0.45, 0.2]), np.array([0.3, 1.0, 1.0, 0.6, 0.8])).tolist()
    ['local', 'global', 'geometry-sensitive', 'topology-sensitive', 'intermediate']
    """
    lower, upper = (np.round(np.asarray(side, dtype=np.float64), 9) for side in (lower, upper))
    middle = np.round((lower + upper) / 2, 9)
    is_any = [middle <= 0.2, middle >= 0.8, np.round(upper - lower, 9) >= 0.8, (lower >= 0.4) & (upper <= 0.6)]
    return np.select(is_any, FAMILIES[:4], default=FAMILIES[4])


@dataclass(frozen=True)
class Ramps:
    """The dissimilarities of one matrix between neighbouring thresholds, of which every transform is a sum.

    Attributes
    ----------
    columns : ndarray of float64, (part, pair)
        What each pair has between two thresholds next to each other; and, where thresholds coincide, whether it is above them.
    weights : ndarray of float64, (transform, part)
        1 for the parts that a transform is the sum of, up to a factor.
    """

    columns: Numbers
    weights: Numbers

    @cached_property
    def norms(self) -> Numbers:
        """Length of each transform; NaN where it is constant."""
        squared = np.einsum("ki,ki->k", self.weights @ (self.columns @ self.columns.T), self.weights)
        return np.sqrt(np.where(squared > 0, squared, np.nan))


def ramps(pairs: Numbers, lower: Numbers, upper: Numbers, *, scale: str, threshold: str, metric: str) -> Ramps:
    """Take a matrix apart between thresholds.

    Parameters
    ----------
    pairs : ndarray, (pair,)
    lower, upper : ndarray, (transform,)
    scale, threshold : str
        As in :func:`brainalign.engine.topology.geo_topological`.
    metric : {"pearson", "cosine"}
        Take each part around its mean, or not.

    Returns
    -------
    Ramps
    """
    levels = np.unique(np.concatenate([lower, upper]))
    values = rescale(pairs, scale)
    at = cuts(values, levels, threshold)
    first, last = np.searchsorted(levels, lower), np.searchsorted(levels, upper)
    parts = np.arange(len(levels) - 1)
    weights = ((parts >= first[:, None]) & (parts < last[:, None])).astype(np.float64)
    columns = np.clip(values, at[:-1, None], at[1:, None]) - at[:-1, None]
    sharp = np.flatnonzero(~(at[last] > at[first]))
    if sharp.size:
        where, which = np.unique(first[sharp], return_inverse=True)
        columns = np.concatenate([columns, np.where(np.isnan(values), np.nan, values > at[where, None])])
        weights[sharp] = 0.0
        weights = np.concatenate([weights, np.zeros((len(weights), len(where)))], axis=1)
        weights[sharp, len(parts) + which] = 1.0
    return Ramps(deviations(columns, axis=1) if metric == "pearson" else columns, weights)


def family_scores(
    source: Numbers,
    target: Numbers,
    lower: Numbers,
    upper: Numbers,
    *,
    scale: str = "rank",
    threshold: str = "quantile",
    metric: str = "pearson",
    orders: Numbers | None = None,
    shown: Callable[[Any], Iterable[Any]] = iter,
) -> Numbers:
    """Return the likeness of every source matrix to every target matrix after each transform.

    Parameters
    ----------
    source, target : ndarray, (matrix, pair), (other, pair)
        Dissimilarities above the diagonal, of the same conditions.
    lower, upper : ndarray, (transform,)
    scale, threshold : str
        As in :func:`brainalign.engine.topology.geo_topological`.
    metric : {"pearson", "cosine"}
    orders : ndarray of int, (draw, condition), optional
        Score the target's conditions in these orders instead.
    shown : callable
        From a list to what goes along it with a bar.

    Returns
    -------
    ndarray of float64, ([draw,] transform, matrix, other)
        NaN where a transform leaves all pairs of a matrix alike.

    Notes
    -----
    A transform is a sum of what lies between neighbouring thresholds, so that the products of those few parts give those of all transforms.
    It does not depend on the order of conditions: to permute them, the rows of the parts are permuted.
    """
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    options = {"scale": scale, "threshold": threshold, "metric": metric}
    out = np.empty((1 if orders is None else len(orders), len(lower), len(source), len(target)))
    together = max(1, _NUMBERS // (source.shape[1] * (len(np.unique([lower, upper])) + 1)))
    pieces = list(product(range(0, len(source), together), range(len(target))))
    outer, inner = (shown, iter) if len(pieces) > 1 else (iter, shown)
    for start, j in outer(pieces):
        if j == 0:
            some = [ramps(x, lower, upper, **options) for x in source[start : start + together]]
            parts = np.concatenate([x.columns for x in some])
            ends = np.cumsum([len(x.columns) for x in some[:-1]])
        one = ramps(target[j], lower, upper, **options)
        for draws in inner(_some(len(out), one.columns.size)):
            columns = one.columns[:, None] if orders is None else _permuted(one.columns, orders[draws])
            products = np.split(parts @ columns.reshape(-1, columns.shape[-1]).T, ends)
            for i, (x, of_one) in enumerate(zip(some, products, strict=True), start):
                sums = (x.weights @ of_one).reshape(len(lower), *columns.shape[:2])
                out[draws, :, i, j] = np.einsum("kpd,kp->dk", sums, one.weights) / (x.norms * one.norms)
    return out[0] if orders is None else out


def standardised(observed: Numbers, null: Numbers) -> tuple[Numbers, Numbers]:
    """Return scores in units of what chance gives each of them, so that the largest of many is not that which scatters most.

    Parameters
    ----------
    observed : ndarray, (...)
    null : ndarray, (draw, ...)

    Returns
    -------
    observed, null : ndarray of float64
        Less the mean and over the standard deviation of the null and the observed together, of which under chance each is any; NaN where
        they do not vary.
    """
    every = np.concatenate([observed[None], null])
    spread = every.std(axis=0)
    every = (every - every.mean(axis=0)) / np.where(spread > 1e-12, spread, np.nan)
    return every[0], every[1:]


def _some(n_draws: int, size: int) -> list[slice]:
    """Return which draws are made together of parts of this size."""
    step = max(1, _PERMUTED // size)
    return [slice(start, min(start + step, n_draws)) for start in range(0, n_draws, step)]


def _permuted(columns: Numbers, orders: Numbers) -> Numbers:
    """Return parts of a matrix, its conditions in other orders; (part, draw, pair)."""
    rows = moved_entries(orders, columns.shape[1])
    return np.stack([column[rows] for column in columns])
