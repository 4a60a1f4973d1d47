import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from brainalign.engine.dependence import adaptive_correlations, distance_correlation

LEVELS = np.linspace(0, 1, 5)


def distances(n=12, p=2, seed=0):
    return squareform(pdist(np.random.default_rng(seed).normal(size=(n, p))))


def clipped(x, lower, upper):
    return np.clip((x / x.max() - lower) / (upper - lower), 0, 1)


def test_golden_value():
    r = np.random.RandomState(0)
    x = r.randn(50, 20)
    y = np.c_[x[:, :10] @ r.randn(10, 12), r.randn(50, 3)] + 0.5 * r.randn(50, 15)
    found = distance_correlation(*(squareform(pdist(side)) for side in (x, y)))
    assert float(found) == pytest.approx(0.8484622519, abs=1e-10)


def test_of_a_side_with_itself_and_with_nothing():
    x = distances()
    assert float(distance_correlation(x, 3 * x)) == pytest.approx(1)
    assert np.isnan(distance_correlation(x, np.zeros_like(x)))
    both = distance_correlation(np.stack([x, x]), np.stack([x, distances(seed=1)]))
    assert both[0] == pytest.approx(1)
    assert 0 < both[1] < 0.9


def test_the_unit_of_distances_does_not_matter():
    """Squared distances between fields in tesla are of the order of 1e-26."""
    x, y = distances(), distances(seed=1)
    assert float(distance_correlation(1e-26 * x, y)) == pytest.approx(float(distance_correlation(x, y)), abs=1e-12)
    assert np.isnan(adaptive_correlations(0 * x, y, LEVELS)[0]).all()


def test_every_pair_of_thresholds_on_both_sides_equals_distances_clipped_one_by_one():
    x, y = distances(), distances(seed=1)
    observed, _ = adaptive_correlations(x, y, LEVELS)
    between = [(LEVELS[i], LEVELS[j]) for i, j in zip(*np.triu_indices(5, 1), strict=True)]
    for i, a in enumerate(between):
        for j, b in enumerate(between):
            if np.isfinite(observed[i, j]):
                expected = distance_correlation(clipped(x, *a), clipped(y, *b))
                assert observed[i, j] == pytest.approx(float(expected), abs=1e-12)
    assert observed.shape == (10, 10)
    assert np.isfinite(observed).mean() > 0.5


def test_the_rows_of_the_second_side_are_permuted():
    x, y = distances(), distances(seed=1)
    orders = np.stack([np.random.default_rng(i).permutation(12) for i in range(3)])
    _, null = adaptive_correlations(x, y, LEVELS, orders=orders)
    for order, found in zip(orders, null, strict=True):
        np.testing.assert_allclose(found, adaptive_correlations(x, y[np.ix_(order, order)], LEVELS)[0], atol=1e-12)


def test_thresholds_that_tell_no_pair_from_another_say_nothing():
    """All pairs above them make a constant matrix, whose distance correlation with any other of the kind would be 1."""
    far = distances(p=50)
    apart = squareform(far) / far.max()
    assert apart.min() > 0.25
    observed, _ = adaptive_correlations(far, distances(seed=1), LEVELS)
    assert np.isnan(observed[0]).all()
    assert np.isfinite(observed[-1]).any()
