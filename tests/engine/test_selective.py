"""Measures have one form: labels in other orders and rows drawn again give what plain calls give."""

import numpy as np
import pytest

from brainalign.engine import selective
from brainalign.engine.selective import NAMES, activation_probability, active_above, measure


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = np.eye(3)[rng.integers(0, 3, 40)]
    return rng.normal(size=(40, 5)) + 2 * labels[:, [0, 1, 2, 0, 1]], labels, rng


@pytest.mark.parametrize("name", NAMES)
def test_orders_are_labels_in_other_rows(case, name, monkeypatch):
    x, labels, rng = case
    what, orders = measure(name), rng.permuted(np.tile(np.arange(40), (6, 1)), axis=1)
    prepared = what.prepare(x)
    monkeypatch.setattr(selective, "_VALUES", 2 * labels.size)  # three parts
    found = what.among(prepared, labels, orders)
    wanted = [what.score(prepared, labels[order][:, None], None)[0] for order in orders]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_one_are_all_rows(case, name):
    x, labels, _ = case
    what = measure(name)
    prepared = what.prepare(x)
    found = what.drawn(prepared, labels, np.ones((1, 40), dtype=int))[0]
    np.testing.assert_allclose(found, what.score(prepared, labels[:, None], None)[0], atol=1e-12)


@pytest.mark.parametrize("name", NAMES[:2])
def test_scores_of_rare_and_common_labels_have_one_spread_under_chance(name):
    rng = np.random.default_rng(0)
    labels = np.stack([np.arange(100) < n for n in (5, 20, 50)], axis=1) * 1.0
    what = measure(name)
    found = what.score(what.prepare(rng.normal(size=(100, 4000))), labels[:, None], None)[0]
    above = labels.sum(axis=0)
    spread = (found * what.scale(above, 100 - above)).std(axis=0)
    np.testing.assert_allclose(spread, 1.0, atol=0.15)


def test_what_counts_as_active():
    x = np.array([[0.0, -1.0], [2.0, 0.0], [1.0, 1.0]])
    assert active_above(x, None).tolist() == [0.0, pytest.approx(np.sqrt(2 / 3))]
    assert active_above(x, 0.3).tolist() == [0.3, 0.3]
    found = activation_probability(x > 0, np.array([[1.0, 0], [1, 0], [0, 1]])[:, None])
    assert found[0].tolist() == [[0.5, 1.0], [0.0, 1.0]]
