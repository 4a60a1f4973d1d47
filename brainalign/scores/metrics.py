"""The metrics that ``evaluate`` knows: each turns test rows into sums, and the sums of all folds into scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from brainalign.core.errors import ParameterError
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
    units : str
        What a score is in, as an axis names it.
    sums : callable
        ``(target, prediction)``, both (row, column), to the sums of one fold.
    pool : callable
        A sequence of such sums to the sums of all.
    score : callable
        Sums to scores (column,).
    chance : callable, optional
        Sums to the score (column,) of guesses that know how often each class comes. Without one it is 0.
    """

    name: str
    units: str
    sums: Callable[[Numbers, Numbers], Any]
    pool: Callable[[Sequence[Any]], Any]
    score: Callable[[Any], Numbers]
    chance: Callable[[Any], Numbers] | None = None


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


def _largest_share(counts: dict[Any, Numbers]) -> Numbers:
    """Return the accuracy of always guessing the class that comes most often."""
    shown = np.stack([shown for shown, _ in counts.values()])
    return np.asarray(shown.max(axis=0) / shown.sum(axis=0))


def _equal_share(counts: dict[Any, Numbers]) -> Numbers:
    """Return the balanced accuracy of any guess: one over the number of classes that came."""
    return np.asarray(1 / np.sum([shown > 0 for shown, _ in counts.values()], axis=0))


def spike_sums(target: Numbers, prediction: Numbers) -> Numbers:
    """Return log-likelihoods of counts, but for the term log y! that all share, and how many there were.

    Parameters
    ----------
    target, prediction : ndarray, (row, column)
        Counts, and the rates that were predicted for them.

    Returns
    -------
    ndarray of float64, (4, column)
        Σ(y log μ − μ) of the prediction, of the fold's mean rate, and of the counts themselves; Σy.

    Raises
    ------
    ParameterError
        A count or a rate is negative.
    """
    y, rate = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    for side, values in (("target", y), ("prediction", rate)):
        if (values < 0).any():
            raise ParameterError(
                f"The metrics 'bits-per-spike' and 'pseudo-r2' got a {side} with {int((values < 0).sum())} negative values, such as "
                f"{values.min():g}. Expected counts of spikes and rates that are predicted for them: use `ba.models.PoissonGLM`."
            )
    mean = np.broadcast_to(y.mean(axis=0), y.shape)
    return np.stack([*((xlogy(y, mu) - mu).sum(axis=0) for mu in (rate, mean, y)), y.sum(axis=0)])


def add_sums(folds: Sequence[Numbers]) -> Numbers:
    """Add the sums of several folds.

    Parameters
    ----------
    folds : sequence of ndarray

    Returns
    -------
    ndarray
    """
    return np.asarray(np.sum(folds, axis=0))


def bits_per_spike(sums: Numbers) -> Numbers:
    """Return by how many bits a spike the counts are likelier than under each fold's mean rate.

    Parameters
    ----------
    sums : ndarray of float64, (4, column)
        Of :func:`spike_sums`.

    Returns
    -------
    ndarray of float64, (column,)
        NaN without spikes, −inf where a rate was 0 and a spike came.

    Notes
    -----
    (log L − log L₀) / (log 2 · number of spikes): Pillow et al. 2008, Nature.

    Examples
    --------
    >>> y = np.array([[0], [2], [0], [2]])
    >>> bits_per_spike(spike_sums(y, np.array([[0.0], [2.0], [0.0], [2.0]]))), bits_per_spike(spike_sums(y, np.ones((4, 1))))
    (array([1.]), array([0.]))
    """
    model, null, _, spikes = sums
    return np.asarray(np.divide(model - null, np.log(2) * spikes, out=np.full(len(spikes), np.nan), where=spikes > 0))


def pseudo_r2(sums: Numbers) -> Numbers:
    """Return the share of the deviance from each fold's mean rate that is explained.

    Parameters
    ----------
    sums : ndarray of float64, (4, column)
        Of :func:`spike_sums`.

    Returns
    -------
    ndarray of float64, (column,)
        NaN where counts do not vary.

    Notes
    -----
    (log L − log L₀) / (log L_saturated − log L₀): Cameron and Windmeijer 1997, Journal of Econometrics.
    """
    model, null, saturated, _ = sums
    room = saturated - null
    known = room > 1e-12 * np.abs(saturated)
    return np.asarray(np.divide(model - null, room, out=np.full(len(room), np.nan), where=known))


PEARSON = FoldMetric("pearson", "Pearson r", fold_sums, pool_sums, pooled_pearson)
R2 = FoldMetric("r2", "R²", fold_sums, pool_sums, pooled_r2)
ACCURACY = FoldMetric("accuracy", "accuracy", class_counts, add_counts, accuracy, _largest_share)
BALANCED_ACCURACY = FoldMetric(
    "balanced-accuracy", "balanced accuracy", class_counts, add_counts, balanced_accuracy, _equal_share
)
BITS_PER_SPIKE = FoldMetric("bits-per-spike", "bits per spike", spike_sums, add_sums, bits_per_spike)
PSEUDO_R2 = FoldMetric("pseudo-r2", "pseudo-R²", spike_sums, add_sums, pseudo_r2)

METRICS = Registry(
    "brainalign.metrics",
    {
        "pearson": "brainalign.scores.metrics:PEARSON",
        "r2": "brainalign.scores.metrics:R2",
        "accuracy": "brainalign.scores.metrics:ACCURACY",
        "balanced-accuracy": "brainalign.scores.metrics:BALANCED_ACCURACY",
        "bits-per-spike": "brainalign.scores.metrics:BITS_PER_SPIKE",
        "pseudo-r2": "brainalign.scores.metrics:PSEUDO_R2",
    },
)
