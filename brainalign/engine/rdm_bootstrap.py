"""Comparisons of dissimilarity matrices with their stimuli redrawn: sums over weighted pairs, so that no sample is ever made.

A stimulus that is drawn m times gives its pairs with a stimulus that is drawn m' times the weight m m'; a stimulus paired with itself is no
pair. ``models`` are (model, pair), ``data`` (group, subject, pair): subjects are whatever measures one geometry several times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.correlate import ranks
from brainalign.engine.moments import Numbers
from brainalign.engine.rdm_models import residual_units
from brainalign.engine.rdm_ranks import Bounds, Sorted, compare_ranks
from brainalign.engine.rdm_sums import SUMMED, compare_sums

RANKED = ("spearman", "rho-a")
_BUDGET = 2**20  # numbers in each of the few arrays that a worker holds at a time: 8 MB, more were slower
_LEAST_STIMULI = 3  # distinct ones, for a draw to have a score


@dataclass(frozen=True)
class Part:
    """What some draws make of one group of matrices.

    Attributes
    ----------
    draws : slice
    group : int
    scores : ndarray of float64, (draw, model, subject)
        NaN where a draw has fewer than three distinct stimuli, or a side does not vary in it.
    bounds : callable
        The noise ceiling of each subject under each draw of subjects: the likeness to the pooled others (its own copies left out with it),
        and to all pooled. NaN for subjects that were not drawn, and where no others were.
    """

    draws: slice
    group: int
    scores: Numbers
    bounds: Bounds


@dataclass(frozen=True)
class Held:
    """Matrices that are held constant.

    Attributes
    ----------
    controls : ndarray of float64, (control, pair)
    of_models, of_data : bool
        Which sides they are taken out of; pooled data are compared as models are.
    """

    controls: Numbers
    of_models: bool = True
    of_data: bool = True


def redrawn_parts(
    models: Numbers,
    data: Numbers,
    metric: str,
    counts: Numbers,
    *,
    ceiling: bool = True,
    covariance: Numbers | None = None,
    held: Held | None = None,
) -> list[Callable[[], Part]]:
    """Compare every model with every matrix of the data, under each draw of stimuli: what is to be called, in any order.

    Parameters
    ----------
    models : ndarray of float64, (model, pair)
        Pairs above the diagonal, row by row; no NaN.
    data : ndarray of float64, (group, subject, pair)
    metric : str
        A name in ``COMPARATORS``. Those that need every pair of stimuli can be compared under ``counts`` of 1 only.
    counts : ndarray of int, (draw, stimulus)
        How often each draw holds each stimulus; a row of ones is the data as they are.
    ceiling : bool
        False where no bounds are wanted: subjects are then not compared with each other.
    covariance : ndarray, (stimulus, stimulus), optional
        As the measure takes it; under ``counts`` of 1 only.
    held : Held, optional
        Matrices that are held constant; under whitened measures with ``counts`` of 1 only.

    Returns
    -------
    list of callable
        Each returns a :class:`Part`, some draws of one group.

    Notes
    -----
    Cosine and Pearson r, plain or whitened, of all pairs of matrices are ratios of sums of products of their entries, which for all
    draws are one matrix product, made in tiles. Ranks need each matrix sorted once: mid-ranks in a draw are sums of weights along
    that order. Under other measures each sample is made.
    """
    width = data.shape[2]  # of what is held for each matrix and draw
    compare: Callable[..., tuple[Numbers, Bounds]] = _from_samples
    if covariance is not None or held is not None:
        compare = partial(_from_samples, covariance=covariance, held=held)
    elif metric in SUMMED:
        compare, width = compare_sums, max(counts.shape[1], data.shape[1] if ceiling else len(models))
    elif metric in RANKED:
        compare = _from_ranks
    step = max(1, _BUDGET // ((len(models) + data.shape[1]) * width))
    counts = np.where(np.count_nonzero(counts, axis=1, keepdims=True) < _LEAST_STIMULI, 0, counts)
    ready: Any = (models, data)
    if compare is _from_ranks:  # sorted once for all draws
        ready = [Sorted.of(x) for x in models], [[Sorted.of(x) for x in group] for group in data]

    def made(draws: slice, group: int) -> Part:
        return Part(draws, group, *compare(ready[0], ready[1][group], metric, counts[draws], ceiling))

    starts = range(0, len(counts), step)
    return [partial(made, slice(at, min(at + step, len(counts))), group) for at in starts for group in range(len(data))]


def pair_weights(counts: Numbers) -> Numbers:
    """Return how often each draw holds each pair of stimuli.

    Parameters
    ----------
    counts : ndarray of int, (draw, stimulus)

    Returns
    -------
    ndarray of float64, (draw, pair)
        Pairs above the diagonal, row by row.

    Examples
    --------
    >>> pair_weights(np.array([[2, 0, 1]])).tolist()
    [[0.0, 2.0, 0.0]]
    """
    first, second = np.triu_indices(counts.shape[1], 1)
    counts = counts.astype(np.float64)
    return np.asarray(counts.take(first, axis=1) * counts.take(second, axis=1))


def _from_ranks(models: Any, data: Any, metric: str, counts: Numbers, ceiling: bool) -> tuple[Numbers, Bounds]:
    return compare_ranks(models, data, metric, pair_weights(counts))


def _from_samples(
    models: Numbers,
    data: Numbers,
    metric: str,
    counts: Numbers,
    ceiling: bool,
    *,
    covariance: Numbers | None = None,
    held: Held | None = None,
) -> tuple[Numbers, Bounds]:
    measure, weights = COMPARATORS[metric], pair_weights(counts).astype(np.int64)

    def sample(x: Numbers, draw: int) -> Numbers:
        return np.repeat(x, weights[draw], axis=1)

    def ready(x: Numbers, draw: int, controlled: bool) -> Numbers:
        prepared = measure.prepare(x, covariance)
        if held is None or not controlled:
            return prepared
        return residual_units(prepared, measure.prepare(sample(held.controls, draw), covariance))

    def bounds(units: Numbers) -> tuple[Numbers, Numbers]:
        lower, upper = np.full((2, *units.shape), np.nan)
        for draw, unit in enumerate(units):
            i, there = draw if len(weights) > 1 else 0, np.flatnonzero(unit)
            if not weights[i].any():
                continue
            x = sample(data[there], i)
            pooled = _as_pooled(x, metric) * unit[there][:, None]
            total = pooled.sum(axis=0, keepdims=True)
            own = ready(x, i, of_data)
            upper[draw, there] = measure.product(ready(total, i, of_models), own)[0]
            if len(there) > 1:
                others = ready(total - pooled, i, of_models)
                lower[draw, there] = [measure.product(a[None], b[None])[0, 0] for a, b in zip(others, own, strict=True)]
        return lower, upper

    of_models, of_data = (False, False) if held is None else (held.of_models, held.of_data)
    scores = np.full((len(counts), len(models), len(data)), np.nan)
    for draw in np.flatnonzero(weights.any(axis=1)).tolist():
        a, b = ready(sample(models, draw), draw, of_models), ready(sample(data, draw), draw, of_data)
        scores[draw] = measure.product(a, b)
    return scores, bounds


def _as_pooled(x: Numbers, metric: str) -> Numbers:
    """Return matrices on the scale on which they are averaged: ranks, or of root mean square 1."""
    if metric in RANKED or metric.startswith("tau"):
        return ranks(x, axis=1)
    x = x - x.mean(axis=1, keepdims=True) if metric.endswith("pearson") else x
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=1, keepdims=True)))
