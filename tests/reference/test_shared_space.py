"""Procrustes against scipy, square and padded with zeros."""

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

import brainalign as ba


@pytest.mark.parametrize(("n", "p", "q"), [(60, 8, 8), (60, 5, 9), (30, 29, 29)])
def test_the_rotation_is_that_of_scipy(n, p, q):
    rng = np.random.default_rng(0)
    X, Y, new = rng.normal(size=(n, p)) + 1, rng.normal(size=(n, q)) - 2, rng.normal(size=(7, p))
    width = max(p, q)
    x, y = (np.pad(a - a.mean(0), ((0, 0), (0, width - a.shape[1]))) for a in (X, Y))
    R = orthogonal_procrustes(x, y)[0][:p, :q]
    model = ba.SharedSpace(scale=False).fit(X, Y)
    np.testing.assert_allclose(model.coef_, R, atol=1e-8)
    np.testing.assert_allclose(model.predict(new), (new - X.mean(0)) @ R + Y.mean(0), atol=1e-8)


def test_with_more_neuroids_than_rows_training_rows_go_where_those_of_scipy_go():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(12, 40)), rng.normal(size=(12, 40))
    x, y = X - X.mean(0), Y - Y.mean(0)
    theirs = x @ orthogonal_procrustes(x, y)[0] + Y.mean(0)
    np.testing.assert_allclose(ba.SharedSpace(scale=False).fit(X, Y).predict(X), theirs, atol=1e-8)
