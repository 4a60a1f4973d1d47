"""Replacements of what units hold, random sets, and what a lesion costs."""

import numpy as np
import pytest

from brainalign.engine.lesioning import balanced_accuracies, change, correlations, random_sets, replacements, through_origin

RNG = np.random.default_rng(0)
CODES = np.array([0, 0, 1, 2])


def test_random_sets_have_their_size_and_reach_every_unit():
    free = np.arange(9) < 7
    sets = random_sets(free, 3, 200, np.random.default_rng(0))
    assert (sets.sum(axis=1) == 3).all()
    np.testing.assert_allclose(sets.mean(axis=0), free * 3 / 7, atol=0.1)


def test_a_unit_is_replaced_by_its_mean_over_rows_and_elements_of_all_parts():
    parts = [(RNG.normal(size=(3, 4)), CODES), (RNG.normal(size=(2, 3)), CODES[1:])]
    new = replacements(parts, "mean", 3, RNG)
    first = np.r_[parts[0][0][:, :2].ravel(), parts[1][0][:, 0]].mean()
    np.testing.assert_allclose(new[0][:, :2], first)
    np.testing.assert_allclose(new[1][:, 0], first)
    np.testing.assert_allclose(new[1][0, 1:], [np.r_[parts[0][0][:, k], parts[1][0][:, k - 1]].mean() for k in (2, 3)])


def test_noise_has_the_spread_of_its_unit():
    values = RNG.normal(size=(4000, 4)) * [1.0, 1.0, 5.0, 0.0] + 3
    (noise,) = replacements([(values, CODES)], "noise", 3, np.random.default_rng(1))
    np.testing.assert_allclose(noise.std(axis=0), [1, 1, 5, 0], rtol=0.05, atol=1e-6)


def test_swapped_rows_come_whole_from_others_and_resampled_units_from_rows_of_their_own():
    values = np.arange(40.0).reshape(10, 4)
    new = np.concatenate(replacements([(values[:6], CODES), (values[6:], CODES)], "swap", 3, np.random.default_rng(0)))
    assert sorted(new[:, 0]) == sorted(values[:, 0])
    assert (new[:, 0] != values[:, 0]).all()
    assert (np.diff(new, axis=1) == 1).all()
    (new,) = replacements([(values, CODES)], "resample", 3, np.random.default_rng(0))
    assert (new % 4 == np.arange(4)).all()
    assert (new[:, 1] - new[:, 0] == 1).all()  # two elements of one unit
    assert (new[:, 2] - new[:, 1] != 1).any()


def test_costs():
    intact = RNG.normal(size=(6, 2))
    lesioned = np.stack([intact, intact + np.array([1.0, -2.0])])
    np.testing.assert_allclose(change(lesioned, intact), [[0, 0], [1, 2]])
    assert correlations(np.stack([intact, 0 * intact]), intact) == pytest.approx(np.array([[1, 1], [0, 0]]))
    scores = np.eye(3)[[0, 1, 2, 0, 0]][None]
    assert balanced_accuracies(scores, np.array([0, 1, 2, 1, 1]))[0] == pytest.approx((1 + 1 / 3 + 1) / 3)
    np.testing.assert_allclose(through_origin(0.3 * intact, intact), 0.3)
    assert np.isnan(through_origin(intact, 0 * intact)).all()
