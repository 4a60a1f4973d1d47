"""Areas under the curve: exact cases, scikit-learn, and samples drawn with replacement as rows that are there twice."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from brainalign.engine.auroc import auroc, dampening, weighted_auroc
from brainalign.engine.correlate import ranks


@pytest.fixture
def values(rng):
    x = rng.normal(size=(60, 40))
    x[:, 20:] = np.round(x[:, 20:])  # ties
    return x


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def labels(rng):
    return (rng.random((60, 3)) < [0.5, 0.2, 0.05]) * 1.0 + np.eye(60, 3)


def test_perfect_tied_and_reversed():
    label = np.array([[0.0], [0.0], [1.0], [1.0]])
    x = np.array([[1.0, 5.0, 4.0], [2.0, 5.0, 3.0], [3.0, 5.0, 2.0], [4.0, 5.0, 1.0]])
    assert auroc(ranks(x), label)[:, 0].tolist() == [1.0, 0.5, 0.0]


def test_two_normals_a_standard_deviation_apart(rng):
    x = np.concatenate([rng.normal(1.0, 1.0, (20_000, 1)), rng.normal(0.0, 1.0, (20_000, 1))])
    area = auroc(ranks(x), np.repeat([[1.0], [0.0]], 20_000, axis=0)).item()
    assert norm.cdf(1 / np.sqrt(2)) == pytest.approx(0.7602, abs=1e-4)
    assert area == pytest.approx(0.7602, abs=0.008)


def test_equals_scikit_learn(values, labels):
    labels = np.minimum(labels, 1)
    wanted = [[roc_auc_score(label, x) for label in labels.T] for x in values.T]
    np.testing.assert_allclose(auroc(ranks(values), labels), wanted, rtol=0, atol=1e-12)


def test_a_label_of_none_or_all_has_none():
    assert np.isnan(auroc(ranks(np.arange(3.0)[:, None]), np.array([[0.0, 1.0]] * 3))).all()


def test_weights_are_rows_that_are_there_as_often(values, labels, rng):
    labels, counts = np.minimum(labels, 1), rng.integers(0, 4, size=(60, 5)).astype(float)
    found = weighted_auroc(ranks(values), counts[..., None] * labels[:, None], counts)
    for draw, count in enumerate(counts.T.astype(int)):
        again = np.repeat(np.arange(60), count)
        np.testing.assert_allclose(found[draw], auroc(ranks(values[again]), labels[again]), rtol=0, atol=1e-12)


def test_experts_are_dampened_by_as_much_as_they_are():
    assert dampening(np.array([1.0, 0.75, 0.5, 0.2])).tolist() == [0.0, 0.5, 1.0, 1.0]
