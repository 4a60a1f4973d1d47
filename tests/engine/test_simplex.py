import numpy as np
import pytest

from brainalign.engine.simplex import finalists, midpoints, simplex_lattice


@pytest.mark.parametrize(
    ("n_bands", "n_points", "expected"), [(1, 50, 1), (2, 50, 9), (3, 50, 28), (4, 50, 35), (3, 10, 10), (12, 50, 78)]
)
def test_a_lattice_holds_vertices_and_faces(n_bands, n_points, expected):
    points = simplex_lattice(n_bands, n_points)
    assert len(points) == expected
    np.testing.assert_allclose(points.sum(axis=1), 1, atol=1e-12)
    assert len(np.unique(points, axis=0)) == len(points)
    rows = set(map(tuple, points.tolist()))
    assert {tuple(vertex) for vertex in np.eye(n_bands).tolist()} <= rows


def test_midpoints_stand_between_the_two_best_and_come_by_demand():
    tried = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    loss = np.array([[0.0, 0.1, 0.2, 0.0], [0.1, 0.0, 0.1, 0.2], [0.2, 0.2, 0.0, 0.1]])
    np.testing.assert_array_equal(midpoints(tried, loss), [[0.75, 0.25], [0.25, 0.75]])  # (0, 2) is known: it is tried[1]
    np.testing.assert_array_equal(midpoints(tried, loss[:, 3:]), np.empty((0, 2)))


def test_finalists_are_the_best_of_each_set_of_bands():
    tried = np.array([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5], [0.1, 0.9], [0.0, 1.0]])
    loss = np.array([[0.3, 0.1], [0.0, 0.4], [0.1, 0.3], [0.2, 0.2], [0.4, 0.0]])
    assert np.argwhere(finalists(tried, loss)).tolist() == [[0, 0], [0, 1], [1, 0], [3, 1], [4, 0], [4, 1]]


def test_no_more_than_three_finalists_and_the_best_is_one_of_them():
    tried = simplex_lattice(4, 50)
    loss = np.random.default_rng(0).random((len(tried), 100))
    entries = finalists(tried, loss)
    assert (entries.sum(axis=0) == 3).all()
    assert entries[np.argmin(loss, axis=0), np.arange(100)].all()
    assert (finalists(np.full((4, 2), 0.5), loss[:4]).sum(axis=0) == 1).all()  # one set of bands
