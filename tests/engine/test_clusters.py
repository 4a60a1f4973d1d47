import numpy as np
import pytest
from scipy import stats

from brainalign.engine.clusters import cluster_mass, cluster_p_values, cluster_p_values_along, sign_flip_t, tfce
from brainalign.engine.resample import draw_signs

RNG = np.random.default_rng(0)


def test_clusters_are_neighbours_of_one_map_and_one_sign():
    maps = np.array([[3.0, 2.0, -2.0, -4.0, 1.0, 5.0], [2.0, 0.0, 0.0, 0.0, 0.0, 9.0]])
    np.testing.assert_array_equal(cluster_mass(maps, 1.0), [[5, 5, 0, 0, 0, 5], [2, 0, 0, 0, 0, 9]])
    np.testing.assert_array_equal(cluster_mass(maps, 1.0, tail=0), [[5, 5, 6, 6, 0, 5], [2, 0, 0, 0, 0, 9]])


def test_over_two_times_neighbours_are_before_and_after_in_each():
    plane = np.zeros((1, 4, 4))
    plane[0, 0, :2] = plane[0, 1, 1] = 2.0
    plane[0, 2, 2] = 3.0  # touches by a corner only
    found = cluster_mass(plane, 1.0)[0]
    assert found[0, 0] == found[1, 1] == 6.0
    assert found[2, 2] == 3.0


def test_enhancement_is_the_integral_over_heights():
    """A plateau of height 2 over 4 points: the sum tends to 4^½ ∫ h² dh."""
    maps = np.array([[0.0, 2.0, 2.0, 2.0, 2.0, 0.0]])
    np.testing.assert_allclose(tfce(maps, step=0.001)[0, 1:5], 2.0 * 2.0**3 / 3, rtol=2e-3)
    np.testing.assert_array_equal(tfce(maps)[0, [0, 5]], 0.0)
    np.testing.assert_allclose(tfce(-maps, tail=0), tfce(maps))
    assert not tfce(-maps).any()


def test_t_of_changed_signs_is_that_of_scipy():
    x = RNG.normal(0.3, 1.0, size=(7, 5))
    signs = draw_signs(7, 20, RNG)
    wanted = [stats.ttest_1samp(sign[:, None] * x, 0).statistic for sign in signs]
    np.testing.assert_allclose(sign_flip_t(x, signs), wanted, rtol=1e-10)
    assert np.isnan(sign_flip_t(np.full((3, 1), 0.7), np.ones((1, 3)))).all()  # a variance of rounding


@pytest.mark.parametrize("method", ["mass", "tfce"])
def test_noise_passes_as_often_as_it_should_and_a_long_effect_is_found(method):
    found = []
    for effect in (0.0, 0.8):
        p = []
        for _ in range(100):
            x = RNG.normal(size=(12, 2, 40)) + RNG.normal(size=(12, 2, 1))  # points of a subject go together
            x[:, 1, 10:25] += 2.5 * effect
            signs = draw_signs(12, 99, RNG)
            t, null = sign_flip_t(x, np.ones((1, 12)))[0], sign_flip_t(x, signs)
            p.append(cluster_p_values(t, null, method=method, threshold=stats.t.isf(0.05, 11)).min())
        found.append(np.mean(np.array(p) <= 0.05))
    assert found[0] <= 0.13  # 99.9% band of 100
    assert found[1] >= 0.8


def test_what_has_no_value_is_in_no_cluster():
    observed, null = np.array([[2.0, np.nan, 2.0, 0.0]]), np.zeros((9, 1, 4))
    p = cluster_p_values(observed, null, method="mass", threshold=1.0)
    np.testing.assert_array_equal(p, [[0.1, np.nan, 0.1, 1.0]])
    np.testing.assert_array_equal(cluster_mass(observed, 1.0), [[2.0, 0.0, 2.0, 0.0]])


@pytest.mark.parametrize("method", ["mass", "tfce"])
def test_tiles_change_nothing(method, monkeypatch):
    observed, null = RNG.normal(size=(2, 20)) + 1.0, RNG.normal(size=(30, 2, 20))
    whole = cluster_p_values(observed, null, method=method, threshold=1.0)
    monkeypatch.setattr("brainalign.engine.clusters._BUDGET", 50)
    np.testing.assert_array_equal(cluster_p_values(observed, null, method=method, threshold=1.0), whole)


def test_times_may_be_any_axes():
    observed, null = RNG.normal(size=(6, 3, 5)), RNG.normal(size=(20, 6, 3, 5))
    found = cluster_p_values_along(observed, null, [2, 0], method="mass", threshold=0.5, tail=0)
    wanted = cluster_p_values(observed.transpose(1, 2, 0), null.transpose(0, 2, 3, 1), method="mass", threshold=0.5, tail=0)
    np.testing.assert_array_equal(found, wanted.transpose(2, 0, 1))
