"""How well one system predicts another linearly, cross-validated, as one number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.engine.backend import Array, to_numpy
from brainalign.engine.correlate import pooled_pearson
from brainalign.engine.gram import column_mean, deviation
from brainalign.engine.moments import Numbers, column_status, fold_sums, pool_sums
from brainalign.engine.solvers import solve_ridge

_ALPHAS = np.logspace(-4, 4, 9)  # over the mean variance of a direction


def linear_predictivities(first: Sequence[Array], second: Sequence[Array], n_folds: int = 5) -> Numbers:
    """Return the correlation of every target with its ridge prediction from every source, mean over target neuroids.

    Parameters
    ----------
    first, second : sequence of ndarray, (stimulus, neuroid)
        Sources and targets. All targets go through one fit of each source.
    n_folds : int
        Every ``n_folds``-th stimulus is held out, and the penalty of each target neuroid chosen among those left, in the same way.

    Returns
    -------
    ndarray of float64, (first, second)
        r pooled over folds around the mean of each; NaN where no target neuroid varies, or nothing is predicted of any.
    """
    targets = [to_numpy(y) for y in second]
    targets = [y[:, column_status(y) == "ok"] for y in targets]
    together, ends = np.concatenate(targets, axis=1), np.cumsum([y.shape[1] for y in targets])
    out = np.full((len(first), len(second)), np.nan)
    for row, x in zip(out, first, strict=True):
        parts = np.split(_correlations(to_numpy(x), together, n_folds), ends[:-1])
        row[:] = [np.nanmean(r) if np.isfinite(r).any() else np.nan for r in parts]
    return out


def _correlations(x: Numbers, y: Numbers, n_folds: int) -> Numbers:
    if not y.shape[1]:
        return np.zeros(0)
    size = float((deviation(x, column_mean(x)) ** 2).sum()) * len(x) / min(x.shape)
    alphas, sums = _ALPHAS * (size if size > 0 else 1.0), []
    for train, test in _folds(len(x), n_folds):
        found = solve_ridge(x[train], y[train], alphas, _folds(len(train), n_folds), dtype="float64")
        predicted = (x[test] - found.source_mean) @ found.coef + found.target_mean
        sums.append(fold_sums(y[test], predicted))
    return pooled_pearson(pool_sums(sums))


def _folds(n: int, n_folds: int) -> list[tuple[Numbers, Numbers]]:
    number = np.arange(n) % n_folds
    return [(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(n_folds)]
