import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from brainalign.engine.identification import distance_ratio, nearest, share_found, squared_to_centroids


@pytest.fixture
def population():
    """Five units with four groups, two items each, but one cell that has one item and one that has none."""
    rng = np.random.default_rng(0)
    units, groups = (part.ravel() for part in np.indices((5, 4, 2))[:2])
    patterns = rng.normal(size=(4, 30))[groups] + 3 * rng.normal(size=(40, 30))
    kept = np.r_[1:38]
    kept = kept[(units[kept] != 2) | (groups[kept] != 1)]
    return patterns[kept], units[kept], groups[kept]


def left_out(patterns, units, groups, weights):
    """Refit the centroids of scikit-learn for each unit, with copies."""
    found = np.full(len(units), -1)
    for unit in np.unique(units):
        rows = np.repeat(np.arange(len(units)), np.where(units == unit, 0, weights[units]))
        if len(np.unique(groups[rows])) > 1:
            found[units == unit] = NearestCentroid().fit(patterns[rows], groups[rows]).predict(patterns[units == unit])
    return found


def test_equal_to_centroids_refitted_for_each_unit(population):
    patterns, units, groups = population
    weights = np.array([[1, 1, 1, 1, 1], [3, 0, 1, 0, 1], [0, 2, 0, 3, 0]])
    found = nearest(squared_to_centroids(patterns @ patterns.T, units, groups, weights))
    for k, row in enumerate(weights):
        np.testing.assert_array_equal(found[k], left_out(patterns, units, groups, row))
    share = share_found(found, groups, weights, units)
    copies = np.repeat(found[1] == groups, weights[1][units])
    assert share[1] == pytest.approx(copies.mean())
    assert 0.25 < share[0] < 1


def test_a_unit_that_is_drawn_alone_has_none_to_be_compared_with(population):
    patterns, units, groups = population
    weights = np.array([[0, 5, 0, 0, 0]])
    squared = squared_to_centroids(patterns @ patterns.T, units, groups, weights)
    assert np.isinf(squared[0][:, units == 1]).all()
    found = nearest(squared)
    assert (found[0][units == 1] == -1).all()
    assert np.isnan(share_found(found, groups, weights, units))[0]


def test_distance_ratio_written_out(population):
    patterns, units, groups = population
    ratio = distance_ratio(patterns @ patterns.T, units, groups)
    far = np.linalg.norm(patterns[7] - patterns, axis=1)
    other = units != units[7]
    expected = far[other & (groups == groups[7])].mean() / far[other & (groups != groups[7])].mean()
    assert ratio[7] == pytest.approx(expected)
    alone = distance_ratio(patterns[units == 0] @ patterns[units == 0].T, units[units == 0], groups[units == 0])
    assert np.isnan(alone).all()
