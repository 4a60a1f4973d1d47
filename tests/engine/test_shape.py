import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, sqrtm

from brainalign.engine.cka import centred
from brainalign.engine.shape import gulp_distance, nuclear_product, partially_whitened, procrustes_distance, ridge_whitened


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 6))
    return x, x @ rng.normal(size=(6, 4)) + rng.normal(size=(25, 4))


def test_it_is_the_distance_after_the_best_rotation(pair):
    a, b = centred(pair[0]), np.c_[centred(pair[1]), np.zeros((25, 2))]
    rotation, product = orthogonal_procrustes(a, b)
    assert procrustes_distance(a, b) == pytest.approx(np.linalg.norm(a @ rotation - b), abs=1e-12)
    assert nuclear_product(a, b) == pytest.approx(product, abs=1e-12)
    assert procrustes_distance(*(torch.from_numpy(z) for z in (a, b))) == pytest.approx(procrustes_distance(a, b), abs=1e-12)


def test_it_is_the_bures_distance_of_gram_matrices(pair):
    a, b = (centred(z) for z in pair)
    K, L = a @ a.T, b @ b.T
    root = sqrtm(K + 1e-12 * np.eye(25)).real
    fidelity = np.trace(sqrtm(root @ L @ root).real)
    assert procrustes_distance(a, b) == pytest.approx(np.sqrt(np.trace(K) + np.trace(L) - 2 * fidelity), rel=1e-4)


def test_whitening_goes_from_none_to_all(pair):
    x = centred(pair[0])
    np.testing.assert_allclose(
        partially_whitened(pair[0], 1.0) @ partially_whitened(pair[0], 1.0).T, x @ x.T / (x**2).sum(), atol=1e-14
    )
    white = partially_whitened(pair[0], 0.0)
    np.testing.assert_allclose(white.T @ white, np.eye(6) / 6, atol=1e-14)


def test_gulp_is_its_definition(pair):
    n, penalty = 25, 0.3
    x, y = (centred(z) / np.linalg.norm(centred(z)) * np.sqrt(n) for z in pair)

    def inverse(z):
        return np.linalg.inv(z.T @ z / n + penalty * np.eye(z.shape[1]))

    def term(a, b):
        cross = a.T @ b / n
        return np.trace(inverse(a) @ cross @ inverse(b) @ cross.T)

    expected = np.sqrt(term(x, x) + term(y, y) - 2 * term(x, y))
    assert gulp_distance(*(ridge_whitened(z, penalty) for z in pair)) == pytest.approx(expected, abs=1e-12)


def test_alike_stimuli_have_no_shape(pair):
    still = np.ones((25, 3))
    assert np.isnan(nuclear_product(partially_whitened(still, 1.0), partially_whitened(pair[0], 1.0)))
    assert np.isnan(gulp_distance(ridge_whitened(still, 0.1), ridge_whitened(pair[0], 0.1)))
