"""Fold metrics: pooled from sums, equal to scikit-learn on all rows at once."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, d2_tweedie_score

from brainalign.core.errors import ParameterError
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


def test_bits_per_spike_of_constant_true_and_impossible_rates(rng):
    """A rate that is r₁ or r₂ as often: ½ Σ rᵢ log2(rᵢ/r̄) / r̄."""
    rate = np.where(np.arange(100_000) % 2, 3.0, 0.2)[:, None]
    truth, metric = rng.poisson(rate), METRICS.get("bits-per-spike")
    score = lambda prediction: float(metric.score(metric.sums(truth, prediction))[0])  # noqa: E731
    assert score(np.full(rate.shape, truth.mean())) == pytest.approx(0, abs=1e-12)
    assert score(rate) == pytest.approx(sum(0.5 * r * np.log2(r / 1.6) for r in (3.0, 0.2)) / 1.6, abs=0.01)
    assert score(2 * rate) < score(rate)
    assert score(np.where(truth == truth.max(), 0.0, rate)) == -np.inf
    assert np.isnan(metric.score(metric.sums(0 * truth, rate)))[0]
    with pytest.raises(ParameterError, match=r"got a target with 1 negative values, such as -1\. Expected counts"):
        metric.sums(np.array([[-1], [2]]), np.ones((2, 1)))


def test_bits_of_folds_are_pooled_around_the_mean_of_each(rng):
    truth, metric = rng.poisson(2.0, size=(60, 2)), METRICS.get("bits-per-spike")
    folds = np.array_split(np.arange(60), 3)
    constant = [np.broadcast_to(truth[f].mean(axis=0), truth[f].shape) for f in folds]
    pooled = metric.pool([metric.sums(truth[f], p) for f, p in zip(folds, constant, strict=True)])
    np.testing.assert_allclose(metric.score(pooled), 0, atol=1e-12)


def test_pseudo_r2_is_that_of_scikit_learn(rng):
    truth, rate = rng.poisson(2.0, size=(60, 2)), rng.uniform(1, 3, size=(60, 2))
    metric = METRICS.get("pseudo-r2")
    expected = [d2_tweedie_score(truth[:, k], rate[:, k], power=1) for k in range(2)]
    np.testing.assert_allclose(metric.score(metric.sums(truth, rate)), expected, atol=1e-12)
    assert metric.score(metric.sums(truth, truth)) == pytest.approx(1.0)
    assert np.isnan(metric.score(metric.sums(np.ones((9, 1)), np.ones((9, 1)))))[0]
