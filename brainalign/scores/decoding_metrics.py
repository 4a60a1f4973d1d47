"""Scores of decisions that are sums, which add up over folds: areas under curves, hits, products of deviations; and of redrawn rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from brainalign.engine.moments import Numbers, deviations
from brainalign.engine.timewise import area_under_curve


class Metric(NamedTuple):
    """A score that is made of sums, which add up over folds."""

    units: str  # as an axis names them
    sums: Callable[[Numbers, Numbers, int], Numbers]  # of values (row, labeling, output[, time]), truth and the number of classes
    redrawn: Callable[[Numbers, Numbers, int, Numbers], Numbers]  # of (row, output[, time]), truth, n, and weights (draw, row)
    value: Callable[[Numbers], Numbers]


def _auc_sums(values: Numbers, truth: Numbers, n_classes: int) -> Numbers:
    """Pairs of both classes that are in the right order, and all pairs."""
    positive = truth.T == 1
    area = area_under_curve(values[:, :, 0], positive)
    pairs = (positive.sum(axis=0) * (~positive).sum(axis=0)).reshape(-1, *[1] * (area.ndim - 1)) * np.ones(area.shape)
    return np.stack([np.where(pairs > 0, area, 0.0) * pairs, pairs])


def _auc_redrawn(values: Numbers, truth: Numbers, n_classes: int, weights: Numbers) -> Numbers:
    """As :func:`_auc_sums`: a pair counts as often as both its rows were drawn, which is bilinear in the draws."""
    up, down = truth == 1, truth == 0
    above, below = values[up, 0][:, None], values[down, 0][None]
    order = (above > below) + 0.5 * (above == below)
    right = np.einsum("dn...,dn->d...", np.tensordot(weights[:, up], order, 1), weights[:, down])
    pairs = (weights[:, up].sum(axis=1) * weights[:, down].sum(axis=1)).reshape(-1, *[1] * (right.ndim - 1))
    return np.stack([right, np.broadcast_to(pairs, right.shape)])


def _count_sums(values: Numbers, truth: Numbers, n_classes: int) -> Numbers:
    """Hits of each class, and how often it was shown."""
    found = values[:, :, 0] > 0 if values.shape[2] == 1 else values.argmax(axis=2)
    true = truth.T.reshape(*truth.T.shape, *[1] * (found.ndim - 2))
    shown = [np.broadcast_to((true == k).sum(axis=0), found.shape[1:]) for k in range(n_classes)]
    return np.stack([*(((found == k) & (true == k)).sum(axis=0) for k in range(n_classes)), *shown])


def _count_redrawn(values: Numbers, truth: Numbers, n_classes: int, weights: Numbers) -> Numbers:
    found = values[:, 0] > 0 if values.shape[1] == 1 else values.argmax(axis=1)
    true = truth.reshape(-1, *[1] * (found.ndim - 1))
    hits = [np.tensordot(weights, ((found == k) & (true == k)).astype(np.float64), 1) for k in range(n_classes)]
    shown = [(weights @ (truth == k)).reshape(-1, *[1] * (found.ndim - 1)) for k in range(n_classes)]
    return np.stack([*hits, *(np.broadcast_to(n, hits[0].shape) for n in shown)])


def _pearson_sums(values: Numbers, truth: Numbers, n_classes: int) -> Numbers:
    """Products of deviations from the fold's means: across, of the truth, of the prediction."""
    y = deviations(np.moveaxis(truth, 0, 1))
    y, p = y.reshape(*y.shape, *[1] * (values.ndim - y.ndim)), deviations(values)
    squares = (p * p).sum(axis=0)
    return np.stack([(y * p).sum(axis=0), np.broadcast_to((y * y).sum(axis=0), squares.shape), squares])


def _pearson_redrawn(values: Numbers, truth: Numbers, n_classes: int, weights: Numbers) -> Numbers:
    y, p = deviations(truth), deviations(values)
    y = y.reshape(*y.shape, *[1] * (values.ndim - y.ndim))
    n = np.maximum(weights.sum(axis=1), 1.0)

    def sums(a: Numbers, b: Numbers) -> Numbers:
        first, second = (np.tensordot(weights, x, 1) for x in (a, b))
        return np.tensordot(weights, a * b, 1) - first * second / n.reshape(-1, *[1] * (first.ndim - 1))

    squares = np.maximum(sums(p, p), 0.0)
    return np.stack([sums(y, p), np.broadcast_to(np.maximum(sums(y, y), 0.0), squares.shape), squares])


def _ratio(sums: Numbers) -> Numbers:
    return np.asarray(sums[0] / sums[1])


def _accuracy(sums: Numbers) -> Numbers:
    hits, shown = np.split(sums, 2)
    return np.asarray(hits.sum(axis=0) / shown.sum(axis=0))


def _balanced(sums: Numbers) -> Numbers:
    hits, shown = np.split(sums, 2)
    return np.asarray(np.where(shown > 0, hits / shown, 0.0).sum(axis=0) / (shown > 0).sum(axis=0))


def _pearson(sums: Numbers) -> Numbers:
    return np.asarray(sums[0] / np.sqrt(sums[1] * sums[2]))


METRICS = {
    "auc": Metric("area under the ROC curve", _auc_sums, _auc_redrawn, _ratio),
    "accuracy": Metric("accuracy", _count_sums, _count_redrawn, _accuracy),
    "balanced-accuracy": Metric("balanced accuracy", _count_sums, _count_redrawn, _balanced),
    "pearson": Metric("Pearson r", _pearson_sums, _pearson_redrawn, _pearson),
}
