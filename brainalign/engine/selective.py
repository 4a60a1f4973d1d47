"""Measures of selectivity, each with one form: columns and weights of rows in, scores of every draw, column and label out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from brainalign.engine.auroc import auroc, weighted_auroc
from brainalign.engine.contrast import dprime, scaled
from brainalign.engine.correlate import ranks
from brainalign.engine.information import activation_entropy, mutual_information, quantile_codes
from brainalign.engine.moments import Numbers

NAMES = ("auroc", "dprime", "mutual-information", "lape")
_VALUES = 2**23  # of weights of rows that are held at a time: 64 MB


@dataclass(frozen=True)
class Selectivity:
    """One measure.

    Attributes
    ----------
    name : str
    prepare : callable
        Values, (row, column), to what ``score`` takes of them.
    score : callable
        That, ``positive`` (row, draw, label) and ``total`` (row, draw), or None where all rows count once, to scores (draw,
        column, label); one label where the measure is of all together.
    chance : float
        What a column scores that knows nothing.
    units : str
    lower : bool
        Whether the lower score is the more selective one.
    scale : callable
        Numbers of rows with and without a label to the factor that gives scores of all labels one spread under chance.
    """

    name: str
    prepare: Callable[[Numbers], Any]
    score: Callable[[Any, Numbers, Numbers | None], Numbers]
    chance: float
    units: str
    lower: bool = False
    scale: Callable[[Numbers, Numbers], Numbers] = lambda above, below: np.ones(len(above))

    def among(self, prepared: Any, labels: Numbers, orders: Numbers) -> Numbers:
        """Score labels whose rows were put into other orders.

        Parameters
        ----------
        prepared : object
        labels : ndarray of float64, (row, label)
        orders : ndarray of int, (draw, row)

        Returns
        -------
        ndarray of float64, (draw, column, label)
        """
        parts = self._parts(orders, labels)
        return np.concatenate([self.score(prepared, np.moveaxis(labels[part], 0, 1), None) for part in parts])

    def drawn(self, prepared: Any, labels: Numbers, weights: Numbers) -> Numbers:
        """Score rows that count as often as they were drawn.

        Parameters
        ----------
        prepared : object
        labels : ndarray of float64, (row, label)
        weights : ndarray of int, (draw, row)

        Returns
        -------
        ndarray of float64, (draw, column, label)
        """
        totals = [part.T.astype(np.float64) for part in self._parts(weights, labels)]
        return np.concatenate([self.score(prepared, total[..., None] * labels[:, None], total) for total in totals])

    def _parts(self, draws: Numbers, labels: Numbers) -> list[Numbers]:
        step = max(1, _VALUES // labels.size)
        return [draws[start : start + step] for start in range(0, len(draws), step)]


def measure(name: str, *, threshold: float | None = None, n_bins: int = 4) -> Selectivity:
    """Return a measure by its name.

    Parameters
    ----------
    name : {"auroc", "dprime", "mutual-information", "lape"}
    threshold : float, optional
        Of "lape"; default that of :func:`active_above`.
    n_bins : int
        Of "mutual-information".

    Returns
    -------
    Selectivity
    """
    if name == "auroc":
        return Selectivity(name, ranks, _auroc, 0.5, "AUROC", scale=lambda a, b: np.sqrt(12.0 * a * b / (a + b + 1.0)))
    if name == "dprime":
        return Selectivity(name, scaled, _dprime, 0.0, "d′", scale=lambda a, b: np.sqrt(a * b / (a + b)))
    if name == "mutual-information":
        return Selectivity(name, lambda x: quantile_codes(ranks(x), n_bins), partial(_information, n_bins), 0.0, "bits")
    return Selectivity(name, lambda x: x > active_above(x, threshold), _lape, np.nan, "nats", lower=True)


def active_above(x: Numbers, threshold: float | None) -> Numbers:
    """Return from which value on each column counts as active.

    Parameters
    ----------
    x : ndarray, (row, column)
    threshold : float or None
        One for all; None for 0 where the lowest value is exactly 0 (rectified units, spike counts), and one standard deviation
        above the mean elsewhere.

    Returns
    -------
    ndarray of float64, (column,)
    """
    if threshold is not None:
        return np.full(x.shape[1], float(threshold))
    wide = x.astype(np.float64)
    return np.where(x.min(axis=0) == 0, 0.0, wide.mean(axis=0) + wide.std(axis=0))


def activation_probability(active: Numbers, positive: Numbers) -> Numbers:
    """Return how often each column is active among the rows of each label.

    Parameters
    ----------
    active : ndarray of bool, (row, column)
    positive : ndarray of float64, (row, draw, label)

    Returns
    -------
    ndarray of float64, (draw, column, label)
    """
    counts = (active.T.astype(np.float64) @ positive.reshape(len(positive), -1)).reshape(-1, *positive.shape[1:])
    n = positive.sum(axis=0)
    return np.moveaxis(counts / np.where(n > 0, n, np.nan), 1, 0)


def _auroc(ranked: Numbers, positive: Numbers, total: Numbers | None) -> Numbers:
    if total is not None:
        return weighted_auroc(ranked, positive, total)
    areas = auroc(ranked, positive.reshape(len(positive), -1))
    return np.moveaxis(areas.reshape(-1, *positive.shape[1:]), 1, 0)


def _dprime(z: Numbers, positive: Numbers, total: Numbers | None) -> Numbers:
    return dprime(z, positive, np.ones((len(z), 1)) if total is None else total)


def _information(n_bins: int, codes: Numbers, positive: Numbers, total: Numbers | None) -> Numbers:
    return mutual_information(codes, n_bins, positive, np.ones((len(codes), 1)) if total is None else total)


def _lape(active: Numbers, positive: Numbers, total: Numbers | None) -> Numbers:
    return activation_entropy(activation_probability(active, positive))[..., None]
