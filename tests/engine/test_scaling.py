import numpy as np
import pytest
from scipy.spatial.distance import pdist

from brainalign.engine.scaling import align_in_time, classical_scaling


def test_positions_have_the_distances_they_were_made_of():
    patterns = np.random.default_rng(0).normal(size=(2, 9, 3)) * [3, 2, 1]
    squared = np.stack([pdist(p) ** 2 for p in patterns])
    positions, share = classical_scaling(squared, 4)
    for i in range(2):
        np.testing.assert_allclose(pdist(positions[i]) ** 2, squared[i], atol=1e-9)
    np.testing.assert_allclose(share, 1)
    np.testing.assert_allclose(positions[..., 3], 0, atol=1e-12)
    np.testing.assert_allclose(positions.mean(axis=1), 0, atol=1e-12)
    two, some = classical_scaling(squared, 2)
    np.testing.assert_allclose(two, positions[..., :2])
    assert (some < 1).all()
    axes = (positions[..., :3] ** 2).sum(axis=1)
    assert (np.diff(axes) < 0).all()


def test_what_is_no_euclidean_distance_is_left_out():
    squared = np.array([1.0, 1.0, 9.0]) ** 2  # breaks the triangle
    positions, share = classical_scaling(squared, 2)
    np.testing.assert_allclose(positions[:, 1], 0, atol=1e-12)
    assert share == pytest.approx(1)
    assert np.isnan(classical_scaling(np.zeros(3), 1)[1])
    patterns = np.random.default_rng(0).normal(size=(2, 15, 8))
    below = np.stack([-pdist(p) for p in patterns])  # cross-validated, where there is nothing but noise
    positions, share = classical_scaling(below, 2)
    assert np.isnan(share).all()
    assert (positions == 0).all()


def test_turns_that_mean_nothing_are_undone():
    rng = np.random.default_rng(0)
    first, drift = rng.normal(size=(2, 8, 3))
    truth = np.stack([first + 0.03 * t * drift for t in range(6)])
    truth -= truth.mean(axis=1, keepdims=True)
    turned = np.stack([x @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for x in truth])
    turned[0] = truth[0]
    found = align_in_time(turned)
    np.testing.assert_array_equal(found[0], truth[0])
    np.testing.assert_allclose(found, truth, atol=0.15)
    assert np.linalg.norm(np.diff(found, axis=0)) <= np.linalg.norm(np.diff(truth, axis=0)) + 1e-9
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), np.linalg.norm(turned, axis=-1))
