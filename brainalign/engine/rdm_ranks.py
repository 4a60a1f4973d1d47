"""Rank correlations of dissimilarity matrices under redrawn stimuli: mid-ranks are sums of weights along an order that is found once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from brainalign.engine.correlate import ends_of_ties
from brainalign.engine.moments import Numbers

#: From how often each subject is drawn, (draw, subject), to the lower and upper bound of each, both (draw, subject).
Bounds = Callable[[Numbers], tuple[Numbers, Numbers]]


@dataclass(frozen=True)
class Sorted:
    """A matrix in order.

    Attributes
    ----------
    order : ndarray of int, (pair,)
    starts : ndarray of int, (group,)
        Where in that order each group of ties starts.
    group : ndarray of int, (pair,)
        To which of them each pair belongs.
    """

    order: Numbers
    starts: Numbers
    group: Numbers

    @classmethod
    def of(cls, x: Numbers) -> Sorted:
        """Sort the pairs of a matrix."""
        order = np.argsort(x)
        first = np.append(True, x[order[1:]] != x[order[:-1]])
        group = np.empty(len(x), dtype=np.int64)
        group[order] = np.cumsum(first) - 1
        return cls(order, np.flatnonzero(first), group)


def ranks_in_draws(matrices: Sequence[Sorted], weights: Numbers) -> Numbers:
    """Return the mid-ranks of pairs in each draw, around their mean: half of the weights below and up to a pair, less all weights.

    Parameters
    ----------
    matrices : sequence of Sorted
    weights : ndarray, (draw, pair)
        Whole numbers.

    Returns
    -------
    ndarray of float64, (draw, matrix, pair)
        Also of pairs that a draw does not hold.
    """
    whole = weights.astype(np.int32)  # their sums are exact, and faster
    n = whole.sum(axis=1, keepdims=True, dtype=np.int32)
    out = np.empty((len(weights), len(matrices), weights.shape[1]))
    for k, x in enumerate(matrices):
        own = whole.take(x.order, axis=1)  # several times as fast as an index
        if len(x.starts) < len(x.order):
            own = np.add.reduceat(own, x.starts, axis=1)
        twice = np.cumsum(own, axis=1, dtype=np.int32)
        twice *= 2
        twice -= own
        twice -= n
        out[:, k] = (0.5 * twice).take(x.group, axis=1)
    return out


def weighted_ranks(values: Numbers, weights: Numbers) -> Numbers:
    """Return the mid-ranks that each value would have if it were there as often as its weight says, around their mean.

    Parameters
    ----------
    values : ndarray, (row, value)
    weights : ndarray of float64, (value,)
        Whole and positive.

    Returns
    -------
    ndarray of float64, (row, value)

    Examples
    --------
    >>> weighted_ranks(np.array([[0.3, 0.1, 0.3]]), np.array([1.0, 2.0, 1.0])).tolist()   # 0.1 0.1 0.3 0.3
    [[1.0, -1.0, 1.0]]
    """
    order = np.argsort(values, axis=1)
    ordered, cumulated = np.take_along_axis(values, order, 1), np.cumsum(weights[order], axis=1)
    below = np.concatenate([np.zeros((len(values), 1)), cumulated[:, :-1]], axis=1)
    apart = ordered[:, 1:] != ordered[:, :-1]
    if not apart.all():  # ties take the weight below the first and up to the last of them
        below, cumulated = ends_of_ties(below, cumulated, apart)
    out = np.empty_like(cumulated)
    np.put_along_axis(out, order, (below + cumulated - weights.sum()) / 2, 1)
    return out


def compare_ranks(models: Sequence[Sorted], data: Sequence[Sorted], metric: str, weights: Numbers) -> tuple[Numbers, Bounds]:
    """Compare every model with every matrix of the data, under each draw of pairs.

    Parameters
    ----------
    models, data : sequence of Sorted
    metric : {"spearman", "rho-a"}
    weights : ndarray of float64, (draw, pair)

    Returns
    -------
    scores : ndarray of float64, (draw, model, matrix)
    bounds : callable
        As of :class:`brainalign.engine.rdm_bootstrap.Part`; pooled ranks are ranked again in each draw.
    """
    a, b = (ranks_in_draws(side, weights) for side in (models, data))
    weighted_a, weighted_b = a * weights[:, None], b * weights[:, None]
    squares = (np.einsum("dkp,dkp->dk", x, y) for x, y in ((weighted_a, a), (weighted_b, b)))
    of_a, of_b = (_rank_norms(x, weights.sum(axis=1, keepdims=True), metric) for x in squares)
    scores = weighted_a @ b.swapaxes(1, 2) / (of_a[:, :, None] * of_b[:, None])
    return scores, lambda units: _bounds_of_ranks(b, weights, metric, units)


def _rank_norms(squares: Numbers, n: Numbers, metric: str) -> Numbers:
    """Return the lengths of centred ranks: their own, or that of n ranks without ties."""
    return np.sqrt(np.where(squares > 0, squares if metric == "spearman" else (n**3 - n) / 12, np.nan))


def _bounds_of_ranks(ranked: Numbers, weights: Numbers, metric: str, units: Numbers) -> tuple[Numbers, Numbers]:
    lower, upper = np.full((2, *units.shape), np.nan)
    for draw, unit in enumerate(units):
        i, there = draw if len(ranked) > 1 else 0, np.flatnonzero(unit)
        known = weights[i] > 0
        own, u, w = ranked[i][np.ix_(there, known)], unit[there], weights[i, known]
        if not w.size:
            continue
        pooled = u @ own
        ranks_of = weighted_ranks(np.concatenate([pooled - u[:, None] * own, pooled[None]]), w)  # half numbers: ties are exact
        of_own, of_pooled = (_rank_norms((x * x) @ w, w.sum(), metric) for x in (own, ranks_of))
        upper[draw, there] = own @ (ranks_of[-1] * w) / (of_own * of_pooled[-1])
        if len(there) > 1:
            lower[draw, there] = ((own * ranks_of[:-1]) @ w) / (of_own * of_pooled[:-1])
    return lower, upper
