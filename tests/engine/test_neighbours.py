import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from brainalign.engine.neighbours import nearest, neighbour_overlap


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 5))
    return x, x + 0.5 * rng.normal(size=(30, 5))


def members(x, k):
    return [set(row[1:].tolist()) for row in NearestNeighbors(n_neighbors=k + 1, metric="cosine").fit(x).kneighbors(x)[1]]


def test_overlap_is_that_of_the_sets(pair):
    a, b = (nearest(z, 4) for z in pair)
    both = list(zip(members(pair[0], 4), members(pair[1], 4), strict=True))
    assert (a * b).sum() == pytest.approx(np.mean([len(p & q) / 4 for p, q in both]))
    assert neighbour_overlap(a, b) == pytest.approx(np.mean([len(p & q) / len(p | q) for p, q in both]))
    np.testing.assert_array_equal(nearest(torch.from_numpy(pair[0]), 4), a)


def test_nothing_is_its_own_neighbour_and_too_few_have_none(pair):
    assert (np.diagonal(nearest(pair[0], 29)) == 0).all()
    assert (nearest(pair[0], 29) > 0).sum() == 30 * 29
    assert np.isnan(nearest(pair[0], 30)).all()
    assert np.isnan(neighbour_overlap(nearest(pair[0], 30), nearest(pair[1], 3)))


def test_ties_share_the_last_places(pair):
    counts = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1.0], [0.0, 4.0]])  # three in one direction, two in another
    found = nearest(counts, 1) * np.sqrt(5)
    np.testing.assert_allclose(found[0], [0, 0.5, 0.5, 0, 0])
    np.testing.assert_allclose(found[3], [0, 0, 0, 0, 1])
    np.testing.assert_allclose((nearest(np.round(pair[0]), 4) * np.sqrt(30 / 4)).sum(axis=1), 1.0)
    order = np.random.default_rng(0).permutation(30)
    again = nearest(np.round(pair[0])[order], 4)
    np.testing.assert_allclose(again, nearest(np.round(pair[0]), 4)[np.ix_(order, order)])  # whatever their order


@pytest.mark.parametrize("x", [np.zeros((9, 3)), np.full((9, 3), 0.1), np.arange(1.0, 10.0)[:, None]])
def test_stimuli_that_nothing_tells_apart_have_no_neighbours(x):
    assert np.isnan(nearest(x, 3)).all()
    assert np.isnan(neighbour_overlap(nearest(x, 3), nearest(x, 3)))
