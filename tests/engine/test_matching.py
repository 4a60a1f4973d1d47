"""Matching of neuroids against the linear programme of all pairs, planted orders, and closed forms."""

import numpy as np
import pytest
from scipy.optimize import linprog

from brainalign.engine import matching
from brainalign.engine.matching import assigned_product, best_match, soft_distance, soft_product, transport_cost, unit_columns

RNG = np.random.default_rng(0)


def columns(n, p):
    x = RNG.normal(size=(n, p))
    return x - x.mean(axis=0)


def programme(cost):
    """The transport as one dense linear programme over all pairs."""
    p, q = cost.shape
    sums = np.r_[np.kron(np.eye(p), np.ones(q)), np.kron(np.ones(p), np.eye(q))]
    return linprog(cost.ravel(), A_eq=sums, b_eq=np.repeat([1 / p, 1 / q], [p, q])).fun


@pytest.mark.parametrize("copies", [4000, 0], ids=["copies", "pairs added as needed"])
@pytest.mark.parametrize(("p", "q"), [(7, 5), (5, 7), (6, 6), (12, 8), (3, 30), (1, 4), (26, 25)])
def test_a_transport_is_the_optimum_over_all_pairs(monkeypatch, copies, p, q):
    monkeypatch.setattr(matching, "_COPIES", copies)
    for cost in (RNG.normal(size=(p, q)), 1e9 * RNG.random((p, q)), np.ones((p, q)), RNG.integers(3, size=(p, q)).astype(float)):
        assert transport_cost(cost) == pytest.approx(programme(cost), rel=1e-9, abs=1e-12)


def test_a_hundred_neuroids_on_either_side_give_the_same_by_both_ways(monkeypatch):
    latent = RNG.normal(size=(60, 10))
    a, b = (unit_columns(latent @ RNG.normal(size=(10, p)) + RNG.normal(size=(60, p))) for p in (150, 100))
    by_copies = soft_product(a, b)
    monkeypatch.setattr(matching, "_COPIES", 0)
    assert soft_product(a, b) == pytest.approx(by_copies, abs=1e-10)


def test_a_hidden_order_is_found():
    x = columns(30, 8)
    shuffled = x[:, RNG.permutation(8)]
    assert assigned_product(x, shuffled) == pytest.approx((x * x).sum())
    assert soft_distance(x, shuffled) == pytest.approx(0, abs=1e-6)
    for score in (soft_product, best_match):
        assert score(unit_columns(x), unit_columns(shuffled)) == pytest.approx(1)


def test_copies_of_neuroids_change_nothing_that_has_shares():
    x, y = columns(30, 6), columns(30, 4)
    doubled = np.c_[x, x]
    assert soft_distance(x, doubled) == pytest.approx(0, abs=1e-6)
    assert soft_distance(doubled, y) == pytest.approx(soft_distance(x, y))
    assert best_match(unit_columns(doubled), unit_columns(y)) == pytest.approx(best_match(unit_columns(x), unit_columns(y)))


def test_the_soft_distance_is_a_metric_across_widths():
    for _ in range(20):
        a, b, c = (columns(10, p) for p in RNG.integers(1, 9, size=3))
        assert soft_distance(a, c) <= soft_distance(a, b) + soft_distance(b, c) + 1e-9
        assert soft_distance(a, b) == pytest.approx(soft_distance(b, a))


def test_columns_in_excess_stay_alone():
    x, y = columns(30, 8), columns(30, 3)
    padded = np.c_[y, np.zeros((30, 5))]
    assert assigned_product(x, y) == pytest.approx(assigned_product(x, padded)) == pytest.approx(assigned_product(y, x))


def test_columns_that_do_not_vary_are_left_out_and_none_left_is_undefined():
    x = np.c_[columns(20, 2), np.full(20, 3.0)]
    assert unit_columns(x).shape == (20, 2)
    np.testing.assert_allclose((unit_columns(x) ** 2).sum(axis=0), 1)
    nothing = unit_columns(np.ones((20, 2)))
    assert all(np.isnan(score(nothing, unit_columns(x))) for score in (soft_product, soft_distance, best_match))
    assert np.isnan(assigned_product(np.full((20, 2), np.nan), x))


def test_a_transport_that_cannot_be_solved_says_so(monkeypatch):
    monkeypatch.setattr(matching, "_COPIES", 0)
    monkeypatch.setattr(matching, "linprog", lambda *_, **__: type("Found", (), {"status": 4, "message": "Numerical trouble."}))
    with pytest.raises(ArithmeticError, match=r"between 7 and 5 neuroids was not solved: Numerical trouble\. Expected finite"):
        transport_cost(RNG.normal(size=(7, 5)))
