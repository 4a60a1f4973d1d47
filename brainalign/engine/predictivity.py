"""How well one system predicts another linearly, cross-validated, as one number."""

from __future__ import annotations

import numpy as np

from brainalign.engine.backend import Array, to_numpy
from brainalign.engine.correlate import pooled_pearson
from brainalign.engine.gram import column_mean, deviation
from brainalign.engine.moments import Numbers, column_status, fold_sums, pool_sums
from brainalign.engine.solvers import solve_ridge

_ALPHAS = np.logspace(-5, 5, 11)  # over the mean variance of a direction


def linear_predictivity(X: Array, Y: Array, n_folds: int = 5) -> float:
    """Return the correlation of the target with its ridge prediction from the source, mean over target neuroids.

    Parameters
    ----------
    X : ndarray, (stimulus, neuroid)
    Y : ndarray, (stimulus, other neuroid)
    n_folds : int
        Every ``n_folds``-th stimulus is held out, and the penalty of each target chosen among those left, in the same way.

    Returns
    -------
    float
        r pooled over folds around the mean of each; NaN where no target neuroid varies.
    """
    x, y = to_numpy(X), to_numpy(Y)
    y = y[:, column_status(y) == "ok"]
    if not y.shape[1]:
        return np.nan
    size = float((deviation(x, column_mean(x)) ** 2).sum()) * len(x) / min(x.shape)
    alphas, sums = _ALPHAS * (size if size > 0 else 1.0), []
    for train, test in _folds(len(x), n_folds):
        found = solve_ridge(x[train], y[train], alphas, _folds(len(train), n_folds), search="screen", dtype="float64")
        predicted = (x[test] - found.source_mean) @ found.coef + found.target_mean
        sums.append(fold_sums(y[test], predicted))
    r = pooled_pearson(pool_sums(sums))
    return float(np.nanmean(r)) if np.isfinite(r).any() else np.nan


def _folds(n: int, n_folds: int) -> list[tuple[Numbers, Numbers]]:
    number = np.arange(n) % n_folds
    return [(np.flatnonzero(number != fold), np.flatnonzero(number == fold)) for fold in range(n_folds)]
