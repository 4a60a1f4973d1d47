"""Comparisons of dissimilarity matrices with their stimuli redrawn: sums over weighted pairs, so that no sample is ever made.

A stimulus that is drawn m times gives its pairs with a stimulus that is drawn m' times the weight m m'; a stimulus paired with itself is no
pair. ``models`` are (model, pair), ``data`` (group, subject, pair): subjects are whatever measures one geometry several times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from brainalign.engine.comparators import COMPARATORS, square
from brainalign.engine.correlate import ranks
from brainalign.engine.moments import Numbers
from brainalign.engine.rdm_models import residual_units
from brainalign.engine.rdm_ranks import Bounds, Sorted, compare_ranks

SUMMED = ("cosine", "pearson", "whitened-cosine", "whitened-pearson")
RANKED = ("spearman", "rho-a")
_BUDGET = 2**22  # numbers in each of the few arrays that are held at a time: 32 MB
_LEAST_STIMULI = 3  # distinct ones, for a draw to have a score
_ROUNDING = 1e-12  # of a sum of squares that is left after its mean is taken out


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


def redrawn_scores(
    models: Numbers,
    data: Numbers,
    metric: str,
    counts: Numbers,
    *,
    ceiling: bool = True,
    covariance: Numbers | None = None,
    held: Held | None = None,
) -> Iterator[Part]:
    """Compare every model with every matrix of the data, under each draw of stimuli.

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

    Yields
    ------
    Part

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
        compare, width = _from_sums, max(counts.shape[1], data.shape[1] if ceiling else len(models))
    elif metric in RANKED:
        compare = _from_ranks
    step = max(1, _BUDGET // ((len(models) + data.shape[1]) * width))
    counts = np.where(np.count_nonzero(counts, axis=1, keepdims=True) < _LEAST_STIMULI, 0, counts)
    ready: Any = (models, data)
    if compare is _from_ranks:  # sorted once for all draws
        ready = [Sorted.of(x) for x in models], [[Sorted.of(x) for x in group] for group in data]
    for start in range(0, len(counts), step):
        draws = slice(start, min(start + step, len(counts)))
        for group, matrices in enumerate(ready[1]):
            yield Part(draws, group, *compare(ready[0], matrices, metric, counts[draws], ceiling))


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
    return np.asarray(counts[:, first] * counts[:, second])


def _from_sums(models: Numbers, data: Numbers, metric: str, counts: Numbers, ceiling: bool) -> tuple[Numbers, Bounds]:
    centred = metric.endswith("pearson")
    if centred:  # no shift changes it, and sums of deviations lose no digits
        models, data = (x - x.mean(axis=1, keepdims=True) for x in (models, data))
    plain = _pair_sums(models, data, counts, ceiling)
    sums = plain.minus(_row_sums(models, data, counts, ceiling)) if metric.startswith("whitened") else plain
    spread = plain.of_data
    if centred:
        n_pairs = np.where(plain.one > 0, plain.one, np.nan)
        means = plain.models_by_one / n_pairs, plain.data_by_one / n_pairs
        sums, spread = sums.around(*means), plain.around(*means).of_data
    of_models, of_data = (
        np.where(x > _ROUNDING * y, x, np.nan) for x, y in ((sums.of_models, plain.of_models), (sums.of_data, plain.of_data))
    )
    with np.errstate(invalid="ignore"):
        scores = sums.cross / np.sqrt(of_models[:, :, None] * of_data[:, None])
        length = np.sqrt(np.where(np.isnan(of_data), np.nan, spread))  # by which each is divided before they are pooled
    products = sums.within / (length[:, :, None] * length[:, None]) if ceiling else sums.within
    return np.clip(scores, -1.0, 1.0), lambda units: _bounds_of_products(products, units)


@dataclass(frozen=True)
class _Sums:
    """Products of matrices, and of a matrix of ones, summed over pairs under each draw."""

    cross: Numbers  #: (draw, model, matrix)
    of_models: Numbers  #: (draw, model), each with itself
    of_data: Numbers
    models_by_one: Numbers
    data_by_one: Numbers
    one: Numbers  #: (draw, 1)
    within: Numbers  #: (draw, matrix, matrix of the data), empty where it is not wanted

    def minus(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, field.name) - getattr(other, field.name) for field in fields(self)))

    def around(self, a: Numbers, b: Numbers) -> _Sums:
        """Return the sums of matrices less multiples ``a`` and ``b`` of ones."""

        def less(xy: Numbers, x: Numbers, y: Numbers, by_x: Numbers, by_y: Numbers) -> Numbers:
            one = self.one.reshape(-1, *[1] * (xy.ndim - 1))
            return np.asarray(xy - x * by_y - by_x * y + x * y * one)

        a1, b1 = self.models_by_one, self.data_by_one
        return replace(
            self,
            cross=less(self.cross, a[:, :, None], b[:, None], a1[:, :, None], b1[:, None]),
            of_models=less(self.of_models, a, a, a1, a1),
            of_data=less(self.of_data, b, b, b1, b1),
            within=less(self.within, b[:, :, None], b[:, None], b1[:, :, None], b1[:, None]) if self.within.size else self.within,
        )


def _pair_sums(models: Numbers, data: Numbers, counts: Numbers, ceiling: bool) -> _Sums:
    n_models, n_data, n_draws = len(models), len(data), len(counts)
    upper = np.triu_indices(n_data, 1) if ceiling else (np.empty(0, dtype=np.int64),) * 2
    widths = [n_models * n_data, n_models, n_data, n_models, n_data, 1, len(upper[0])]
    first, second = np.triu_indices(counts.shape[1], 1)
    sums, counts = np.zeros((n_draws, sum(widths))), counts.astype(np.float64)
    step = max(1, _BUDGET // max(sums.shape))
    for start in range(0, models.shape[1], step):
        pairs = slice(start, start + step)
        a, b = models[:, pairs], data[:, pairs]
        columns = [
            (a[:, None] * b).reshape(-1, a.shape[1]),
            a * a,
            b * b,
            a,
            b,
            np.ones((1, a.shape[1])),
            b[upper[0]] * b[upper[1]],
        ]
        sums += (counts[:, first[pairs]] * counts[:, second[pairs]]) @ np.concatenate(columns).T
    cross, of_models, of_data, by_models, by_data, one, products = np.split(sums, np.cumsum(widths)[:-1], axis=1)
    within = np.empty((n_draws, n_data, n_data) if ceiling else (n_draws, 0, 0))
    if ceiling:
        within[:, *upper] = within[:, *upper[::-1]] = products
        within[:, range(n_data), range(n_data)] = of_data
    return _Sums(cross.reshape(n_draws, n_models, n_data), of_models, of_data, by_models, by_data, one, within)


def _row_sums(models: Numbers, data: Numbers, counts: Numbers, ceiling: bool) -> _Sums:
    """Return what whitening takes out of the products: the effects of single stimuli.

    With d the matrix of the drawn sample in which pairs of copies are missing, x the least-squares solution of d_ij ~ x_i + x_j, zeros on the
    diagonal: (N − 2 m_i + 2) x_i + Σ_j m_j x_j = r_i, with r_i = Σ_j m_j d_ij the sum of a row; the products lose Σ_i m_i x_i r_i.
    """
    m, n_models = counts.astype(np.float64), len(models)
    full = square(np.concatenate([models, data, np.ones((1, data.shape[1]))]))
    r = np.tensordot(m, full, axes=(1, 1))  # (draw, matrix, stimulus)
    n = m.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):  # without a solution where a stimulus is N / 2 + 1 of the sample
        v = m / (n - 2 * m + 2)
        v = np.where(np.isinf(v), np.nan, v)
    q = np.einsum("bki,bi->bk", r, v) / np.sqrt(1 + v.sum(axis=1, keepdims=True))
    scaled = r * v[:, None]

    def product(x: slice, y: slice) -> Numbers:
        return np.asarray(scaled[:, x] @ r[:, y].swapaxes(1, 2) - q[:, x, None] * q[:, None, y])

    def own(x: slice, y: slice) -> Numbers:
        return np.asarray(np.einsum("bki,bki->bk", scaled[:, x], r[:, y]) - q[:, x] * q[:, y])

    a, b, one = slice(n_models), slice(n_models, -1), slice(-1, None)
    within = product(b, b) if ceiling else np.empty((len(m), 0, 0))
    return _Sums(product(a, b), own(a, a), own(b, b), product(a, one)[..., 0], product(b, one)[..., 0], own(one, one), within)


def _bounds_of_products(products: Numbers, units: Numbers) -> tuple[Numbers, Numbers]:
    """Return the bounds from the products of matrices that are scaled as they are pooled, (draw or 1, subject, subject)."""
    u, there = units.astype(np.float64), units > 0
    products = np.where(there[:, :, None] & there[:, None], products, 0.0)
    of_self = np.diagonal(products, axis1=1, axis2=2)
    by_all = (products @ u[:, :, None])[..., 0]
    total = (by_all * u).sum(axis=1, keepdims=True)
    by_others, others = by_all - u * of_self, total - 2 * u * by_all + u * u * of_self
    several = np.count_nonzero(there, axis=1, keepdims=True) > 1
    with np.errstate(divide="ignore", invalid="ignore"):
        lower, upper = by_others / np.sqrt(of_self * others), by_all / np.sqrt(of_self * total)
    return np.where(there & several, lower, np.nan), np.where(there, upper, np.nan)


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

    def compare(a: Numbers, b: Numbers, draw: int) -> Numbers:
        a, b = (measure.prepare(x, covariance) for x in (a, b))
        if held is not None:
            constant = measure.prepare(sample(held.controls, draw), covariance)
            a, b = (residual_units(x, constant) if out else x for x, out in ((a, held.of_models), (b, held.of_data)))
        return measure.product(a, b)

    def bounds(units: Numbers) -> tuple[Numbers, Numbers]:
        lower, upper = np.full((2, *units.shape), np.nan)
        for draw, unit in enumerate(units):
            i, there = draw if len(weights) > 1 else 0, np.flatnonzero(unit)
            if not weights[i].any():
                continue
            x = sample(data[there], i)
            pooled = _as_pooled(x, metric) * unit[there][:, None]
            total = pooled.sum(axis=0, keepdims=True)
            upper[draw, there] = compare(total, x, i)[0]
            if len(there) > 1:
                pairs = zip((total - pooled)[:, None], x[:, None], strict=True)
                lower[draw, there] = [compare(others, own, i)[0, 0] for others, own in pairs]
        return lower, upper

    scores = np.full((len(counts), len(models), len(data)), np.nan)
    for draw in np.flatnonzero(weights.any(axis=1)).tolist():
        scores[draw] = compare(sample(models, draw), sample(data, draw), draw)
    return scores, bounds


def _as_pooled(x: Numbers, metric: str) -> Numbers:
    """Return matrices on the scale on which they are averaged: ranks, or of root mean square 1."""
    if metric in RANKED or metric.startswith("tau"):
        return ranks(x, axis=1)
    x = x - x.mean(axis=1, keepdims=True) if metric.endswith("pearson") else x
    return np.asarray(x / np.sqrt(np.square(x).mean(axis=1, keepdims=True)))
