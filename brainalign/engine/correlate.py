"""Correlation and its kin, column by column; undefined values are NaN, never 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from brainalign.engine.moments import ClassSums, FoldSums, Numbers, class_sums, deviations, moment_sums, pool_classes, pool_sums


def pearson_columns(A: Numbers, B: Numbers) -> Numbers:
    """Return Pearson's r of each column of ``A`` with the same column of ``B``.

    Parameters
    ----------
    A, B : ndarray, (row, column...)

    Returns
    -------
    ndarray of float64, (column...)
        NaN where either side is constant or has a NaN.

    Examples
    --------
    >>> pearson_columns(np.array([[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]), np.array([[2.0, 1.0], [4.0, 2.0], [6.0, 0.0]]))
    array([ 1., nan])
    """
    return pooled_pearson(moment_sums(A, B))


def spearman_columns(A: Numbers, B: Numbers) -> Numbers:
    """Return Spearman's rank correlation of each column of ``A`` with the same column of ``B``.

    Parameters
    ----------
    A, B : ndarray, (row, column...)

    Returns
    -------
    ndarray of float64, (column...)
        NaN where either side is constant or has a NaN.
    """
    return pearson_columns(ranks(A), ranks(B))


def ranks(x: Numbers, *, axis: int = 0) -> Numbers:
    """Return mid-ranks from 1; ties share their average rank, and one NaN makes its whole column NaN.

    Parameters
    ----------
    x : ndarray
    axis : int

    Returns
    -------
    ndarray of float64
    """
    return np.asarray(rankdata(x, axis=axis, nan_policy="propagate"), dtype=np.float64)


def pooled_pearson(sums: FoldSums) -> Numbers:
    """Return r from pooled fold-centred sums: Σ_f Σ(y−ȳ_f)(ŷ−ŷ̄_f) / √(Σ_f Σ(y−ȳ_f)² Σ_f Σ(ŷ−ŷ̄_f)²).

    Parameters
    ----------
    sums : FoldSums
        Of all folds, from :func:`brainalign.engine.moments.pool_sums`.

    Returns
    -------
    ndarray of float64, (column...)
        NaN where targets or predictions do not vary within folds.

    Notes
    -----
    Predictions of different folds must not be concatenated before r is taken: the training mean moves against
    the test mean, and pure noise then scores r = -0.3 (ten folds) or -0.98 (leave one out).
    """
    return _ratio(sums.cross, np.sqrt(sums.target_ss) * np.sqrt(sums.prediction_ss), limit=1.0)


def pooled_r2(sums: FoldSums) -> Numbers:
    """Return R² from pooled sums: 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)².

    Parameters
    ----------
    sums : FoldSums

    Returns
    -------
    ndarray of float64, (column...)
        NaN where targets do not vary within folds.
    """
    return 1.0 - _ratio(sums.error_ss, sums.target_ss)


def pooled_mse(sums: FoldSums) -> Numbers:
    """Return the mean squared error over all test rows.

    Parameters
    ----------
    sums : FoldSums

    Returns
    -------
    ndarray of float64, (column...)
    """
    return np.asarray(sums.error_ss / sums.n)


def pooled_accuracy(sums: ClassSums, *, balanced: bool = False) -> Numbers:
    """Return the share of rows named rightly.

    Parameters
    ----------
    sums : ClassSums
    balanced : bool
        Mean over classes of the share within the class: chance is 1 / n_classes however unequal the classes are.

    Returns
    -------
    ndarray of float64, (column...)
    """
    if balanced:
        shares = _ratio(sums.hits, sums.count)
        present = sums.count > 0
        return _ratio(np.where(present, shares, 0.0).sum(axis=0), present.sum(axis=0))
    return _ratio(sums.hits.sum(axis=0), sums.count.sum(axis=0))


def fold_sums(target: Numbers, prediction: Numbers, metric: str = "pearson") -> FoldSums | ClassSums:
    """Return all that a metric needs to know of one fold.

    Parameters
    ----------
    target, prediction : ndarray, (row, column...)
        Test rows: responses, or class codes for the two accuracies.
    metric : {"pearson", "r2", "mse", "accuracy", "balanced-accuracy"}

    Returns
    -------
    FoldSums or ClassSums
    """
    return class_sums(target, prediction) if metric.endswith("accuracy") else moment_sums(target, prediction)


def pooled_score(folds: Sequence[Any], metric: str = "pearson") -> tuple[Numbers, Numbers]:
    """Return the score over all folds, from pooled sums, and of each fold alone.

    Parameters
    ----------
    folds : sequence of FoldSums or ClassSums
        One per fold, from :func:`fold_sums` with the same metric.
    metric : {"pearson", "r2", "mse", "accuracy", "balanced-accuracy"}

    Returns
    -------
    score : ndarray of float64, (column...)
        A fold in which the metric is undefined adds nothing to it.
    by_fold : ndarray of float64, (fold, column...)
        NaN where undefined.
    """
    if metric.endswith("accuracy"):
        balanced = metric.startswith("balanced")
        each = [pooled_accuracy(fold, balanced=balanced) for fold in folds]
        return pooled_accuracy(pool_classes(folds), balanced=balanced), np.stack(each)
    score = {"pearson": pooled_pearson, "r2": pooled_r2, "mse": pooled_mse}[metric]
    return score(pool_sums(folds)), np.stack([score(fold) for fold in folds])


def correlation_matrix(A: Numbers, B: Numbers) -> Numbers:
    """Return Pearson's r of every column of ``A`` with every column of ``B``.

    Parameters
    ----------
    A : ndarray, (row, column)
    B : ndarray, (row, other)

    Returns
    -------
    ndarray of float64, (column, other)
        NaN where either side is constant or has a NaN.
    """
    a, b = deviations(A), deviations(B)
    norms = np.sqrt((a * a).sum(axis=0))[:, None] * np.sqrt((b * b).sum(axis=0))[None, :]
    return _ratio(a.T @ b, norms, limit=1.0)


def _ratio(numerator: Any, denominator: Any, limit: float = np.inf) -> Numbers:
    top, bottom = np.broadcast_arrays(np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64))
    out = np.full(top.shape, np.nan)
    np.divide(top, bottom, out=out, where=bottom > 0)
    return np.asarray(np.clip(out, -limit, limit))  # rounding alone can take r past 1
