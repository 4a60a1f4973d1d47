"""Cosines and correlations of dissimilarity matrices under redrawn stimuli: one matrix product gives the sums of all draws."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from brainalign.engine.comparators import square
from brainalign.engine.moments import Numbers
from brainalign.engine.rdm_ranks import Bounds

SUMMED = ("cosine", "pearson", "whitened-cosine", "whitened-pearson")
_BUDGET = 2**22  # numbers in each of the few arrays that are held at a time: 32 MB
_ROUNDING = 1e-12  # of a sum of squares that is left after its mean is taken out


def compare_sums(models: Numbers, data: Numbers, metric: str, counts: Numbers, ceiling: bool) -> tuple[Numbers, Bounds]:
    """Compare every model with every matrix of the data, under each draw of stimuli.

    Parameters
    ----------
    models, data : ndarray of float64, (matrix, pair)
    metric : {"cosine", "pearson", "whitened-cosine", "whitened-pearson"}
    counts : ndarray of int, (draw, stimulus)
    ceiling : bool
        False where no bounds are wanted.

    Returns
    -------
    scores : ndarray of float64, (draw, model, matrix)
    bounds : callable
        As of :class:`brainalign.engine.rdm_bootstrap.Part`: ratios of sums of products between the matrices of the data.
    """
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
    with np.errstate(divide="ignore"):  # where one stimulus is N / 2 + 1 of the sample, which then has no score
        v = m / (n - 2 * m + 2)
    v = np.where(np.isinf(v), np.nan, v)
    q, whole = np.einsum("bki,bi->bk", r, v), 1 + v.sum(axis=1)[:, None]
    scaled = r * v[:, None]

    def product(x: slice, y: slice) -> Numbers:
        return np.asarray(scaled[:, x] @ r[:, y].swapaxes(1, 2) - q[:, x, None] * q[:, None, y] / whole[..., None])

    def own(x: slice, y: slice) -> Numbers:
        return np.asarray(np.einsum("bki,bki->bk", scaled[:, x], r[:, y]) - q[:, x] * q[:, y] / whole)

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
