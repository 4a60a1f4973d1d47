import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from brainalign.engine.cca import canonical_correlations, orthonormal, projection_weighted


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6))
    return x, x[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(60, 4))


def test_they_are_the_correlations_of_canonical_variates(pair):
    x, y = pair
    a, b = CCA(n_components=4, max_iter=5000, tol=1e-12).fit_transform(x, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    rho = canonical_correlations(orthonormal(x), orthonormal(y))
    np.testing.assert_allclose(rho, expected, atol=1e-5)
    tensors = [orthonormal(torch.from_numpy(z)) for z in pair]
    np.testing.assert_allclose(canonical_correlations(*tensors), rho, atol=1e-12)


def test_a_neuroid_twice_adds_no_direction(pair):
    x = pair[0]
    assert orthonormal(np.c_[x, x[:, :2]]).shape == (60, 6)
    assert orthonormal(np.c_[x, x[:, :2]].astype(np.float32)).shape == (60, 6)
    assert orthonormal(np.ones((5, 2))).shape == (5, 0)


def test_as_many_components_as_hold_the_share(pair):
    x = pair[0] * np.array([10.0, 5.0, 1.0, 0.1, 0.1, 0.1])
    power = np.linalg.svd(x - x.mean(0), compute_uv=False) ** 2
    for share in (0.5, 0.9, 0.99):
        k = orthonormal(x, share=share).shape[1]
        assert power[:k].sum() >= share * power.sum() > power[: k - 1].sum()


def test_weights_are_those_of_the_smaller_system(pair):
    x, y = pair
    a, b = (np.linalg.qr(z - z.mean(0))[0] for z in pair)
    u, rho, _ = np.linalg.svd(b.T @ a, full_matrices=False)
    weights = np.abs((b @ u).T @ (y - y.mean(0))).sum(1)
    expected = weights @ rho / weights.sum()
    assert projection_weighted(x, y) == pytest.approx(expected, abs=1e-12)
    assert projection_weighted(y, x) == pytest.approx(expected, abs=1e-12)


def test_directions_that_fill_the_stimuli_say_nothing():
    rng = np.random.default_rng(1)
    full, y = rng.normal(size=(10, 9)), rng.normal(size=(10, 2))
    assert np.isnan(canonical_correlations(orthonormal(full), orthonormal(y))).all()
    assert np.isnan(projection_weighted(full, y))
    assert np.isnan(canonical_correlations(orthonormal(np.ones((10, 2))), orthonormal(y))).all()
