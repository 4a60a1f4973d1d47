"""Fold metrics: pooled from sums, equal to scikit-learn on all rows at once."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from brainalign.scores.metrics import METRICS


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("name", "reference"), [("accuracy", accuracy_score), ("balanced-accuracy", balanced_accuracy_score)])
def test_class_metrics_pool_to_sklearn(rng, name, reference):
    truth, prediction = rng.integers(0, 4, (90, 2)), rng.integers(0, 4, (90, 2))
    metric, folds = METRICS.get(name), np.array_split(np.arange(90), 7)
    pooled = metric.score(metric.pool([metric.sums(truth[f], prediction[f]) for f in folds]))
    expected = [reference(truth[:, i], prediction[:, i]) for i in range(2)]
    np.testing.assert_allclose(pooled, expected)


def test_a_class_that_a_fold_lacks_is_not_scored_there():
    metric = METRICS.get("balanced-accuracy")
    first, second = (metric.sums(np.array([[c]] * 3), np.array([[0]] * 3)) for c in (0, 1))
    assert metric.score(first) == pytest.approx([1.0])
    assert metric.score(second) == pytest.approx([0.0])
    assert metric.score(metric.pool([first, second])) == pytest.approx([0.5])


def test_pearson_and_r2_of_one_fold_are_the_plain_ones(rng):
    truth = rng.normal(size=(50, 3))
    prediction = 0.5 * truth + rng.normal(size=(50, 3))
    for name in ("pearson", "r2"):
        metric = METRICS.get(name)
        score = metric.score(metric.pool([metric.sums(truth, prediction)]))
        plain = [np.corrcoef(truth[:, i], prediction[:, i])[0, 1] for i in range(3)]
        if name == "r2":
            plain = 1 - ((truth - prediction) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)
        np.testing.assert_allclose(score, plain, atol=1e-12)


def test_an_offset_between_folds_does_not_count_as_correlation(rng):
    truth = rng.normal(size=(40, 1))
    moved = np.r_[truth[:20] + 100, truth[20:] - 100]
    noise = np.r_[rng.normal(size=(20, 1)) + 100, rng.normal(size=(20, 1)) - 100]
    metric = METRICS.get("pearson")
    halves = (slice(0, 20), slice(20, 40))
    assert abs(float(metric.score(metric.pool([metric.sums(moved[h], noise[h]) for h in halves]))[0])) < 0.5
    assert np.corrcoef(moved[:, 0], noise[:, 0])[0, 1] > 0.99
