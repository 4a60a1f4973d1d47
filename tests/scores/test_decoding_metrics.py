"""Sums of redrawn rows are those of rows that are repeated as often as they were drawn."""

import numpy as np
import pytest

from brainalign.scores.decoding_metrics import METRICS

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("times", [(), (3,)])
@pytest.mark.parametrize(("name", "n_classes"), [("auc", 2), ("accuracy", 2), ("accuracy", 3), ("balanced-accuracy", 3), ("pearson", 0)])  # fmt: skip
def test_weights_are_repeats(name, n_classes, times):
    metric, n, outputs = METRICS[name], 20, {2: 1, 3: 3, 0: 2}[n_classes]
    values = np.round(RNG.normal(size=(n, outputs, *times)), 1)  # with ties
    truth = np.arange(n) % n_classes if n_classes else RNG.normal(size=(n, outputs))
    weights = RNG.multinomial(n, np.full(n, 1 / n), size=4).astype(float)
    found = metric.value(metric.redrawn(values, truth, n_classes, weights))
    for draw, each in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(n), draw.astype(int))
        wanted = metric.value(metric.sums(values[rows][:, None], truth[rows][None], n_classes))[0]
        np.testing.assert_allclose(each, wanted, atol=1e-12)


def test_sums_of_folds_add_up():
    values, truth = RNG.normal(size=(40, 1, 1)), RNG.integers(2, size=(1, 40))
    metric = METRICS["accuracy"]
    parts = [metric.sums(values[rows], truth[:, rows], 2) for rows in (slice(0, 15), slice(15, 40))]
    np.testing.assert_array_equal(sum(parts), metric.sums(values, truth, 2))
