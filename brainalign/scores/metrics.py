"""The metrics that ``evaluate`` knows: each turns test rows into sums, and the sums of all folds into scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.core.registry import Registry
from brainalign.engine.correlate import pooled_pearson, pooled_r2
from brainalign.engine.moments import fold_sums, pool_sums

Numbers = np.ndarray[Any, Any]


@dataclass(frozen=True)
class FoldMetric:
    """A score that can be pooled over folds without keeping their predictions.

    Attributes
    ----------
    name : str
    sums : callable
        ``(target, prediction)``, both (row, column), to the sums of one fold.
    pool : callable
        A sequence of such sums to the sums of all.
    score : callable
        Sums to scores (column,).
    """

    name: str
    sums: Callable[[Numbers, Numbers], Any]
    pool: Callable[[Sequence[Any]], Any]
    score: Callable[[Any], Numbers]


def class_counts(target: Numbers, prediction: Numbers) -> dict[Any, Numbers]:
    """Count presentations and hits of each class.

    Parameters
    ----------
    target, prediction : ndarray of int, (row, column)

    Returns
    -------
    dict of class to ndarray, (2, column)
        How often it was shown, and how often it was recognised.
    """
    hits = target == prediction
    return {c: np.stack([(target == c).sum(axis=0), (hits & (target == c)).sum(axis=0)]) for c in np.unique(target).tolist()}


def add_counts(folds: Sequence[dict[Any, Numbers]]) -> dict[Any, Numbers]:
    """Add the counts of several folds class by class.

    Parameters
    ----------
    folds : sequence of dict

    Returns
    -------
    dict of class to ndarray, (2, column)
    """
    classes = dict.fromkeys(c for fold in folds for c in fold)
    return {c: np.sum([fold[c] for fold in folds if c in fold], axis=0) for c in classes}


def accuracy(counts: dict[Any, Numbers]) -> Numbers:
    """Return the share of presentations whose class was recognised.

    Parameters
    ----------
    counts : dict of class to ndarray, (2, column)

    Returns
    -------
    ndarray of float64, (column,)

    Examples
    --------
    >>> accuracy({0: np.array([[3], [3]]), 1: np.array([[1], [0]])})
    array([0.75])
    """
    shown, hits = np.sum(list(counts.values()), axis=0)
    return np.asarray(hits / shown)


def balanced_accuracy(counts: dict[Any, Numbers]) -> Numbers:
    """Return the mean over classes of the share recognised.

    Parameters
    ----------
    counts : dict of class to ndarray, (2, column)

    Returns
    -------
    ndarray of float64, (column,)

    Examples
    --------
    >>> balanced_accuracy({0: np.array([[3], [3]]), 1: np.array([[1], [0]])})
    array([0.5])
    """
    shown, hits = np.stack(list(counts.values()), axis=1).astype(np.float64)  # each (class, column)
    recall = np.divide(hits, shown, out=np.full(shown.shape, np.nan), where=shown > 0)
    return np.asarray(np.nanmean(recall, axis=0))


PEARSON = FoldMetric("pearson", fold_sums, pool_sums, pooled_pearson)
R2 = FoldMetric("r2", fold_sums, pool_sums, pooled_r2)
ACCURACY = FoldMetric("accuracy", class_counts, add_counts, accuracy)
BALANCED_ACCURACY = FoldMetric("balanced-accuracy", class_counts, add_counts, balanced_accuracy)

METRICS = Registry(
    "brainalign.metrics",
    {
        "pearson": "brainalign.scores.metrics:PEARSON",
        "r2": "brainalign.scores.metrics:R2",
        "accuracy": "brainalign.scores.metrics:ACCURACY",
        "balanced-accuracy": "brainalign.scores.metrics:BALANCED_ACCURACY",
    },
)
