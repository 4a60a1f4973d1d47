import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.engine.resample import (
    draw_shifts,
    exchanged,
    false_discovery_rate,
    p_of_the_maximum,
    p_values,
)

RNG = np.random.default_rng(0)


def test_p_is_counted_and_never_zero():
    null = RNG.normal(size=(99, 3))
    p = p_values(np.array([10.0, -10.0, np.nan]), null)
    assert p[:2].tolist() == [0.01, 1.0]
    assert np.isnan(p[2])
    assert p_values(np.array([1.0]), np.array([[np.nan], [0.0], [0.0]])).tolist() == [0.5]


def test_p_of_the_maximum_is_the_share_of_permutations_with_any_score_as_high():
    null, observed = RNG.normal(size=(499, 4, 5)), RNG.normal(size=(4, 5)) + 2
    wanted = [(1 + (null.max(axis=(1, 2)) >= score).sum()) / 500 for score in observed.ravel()]
    np.testing.assert_allclose(p_of_the_maximum(observed, null).ravel(), wanted)
    assert (p_of_the_maximum(observed, null) >= p_values(observed, null)).all()
    null[:, 0, 0] = np.nan  # a score that is nowhere defined takes no part
    assert np.isfinite(p_of_the_maximum(observed, null)).all()


def test_false_discoveries_are_controlled_as_benjamini_and_hochberg_say():
    p = np.array([[0.001, 0.008, np.nan], [0.039, 0.041, 0.9]])
    wanted = [0.005, 0.02, np.nan, 0.05125, 0.05125, 0.9]
    np.testing.assert_allclose(false_discovery_rate(p).ravel(), wanted)
    assert np.isnan(false_discovery_rate(np.full(3, np.nan))).all()


@settings(deadline=None)
@given(groups=st.lists(st.integers(0, 4), min_size=1, max_size=12), seed=st.integers(0, 99))
def test_whole_groups_change_places(groups, seed):
    codes = np.array(groups)
    order = exchanged(codes, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(codes)))
    for code in np.unique(codes):
        rows = order[codes == code]
        assert len(set(codes[rows].tolist())) == 1  # the rows of one other group, all of them, in their order
        assert rows.tolist() == np.flatnonzero(codes == codes[rows[0]]).tolist()


def test_every_group_comes_to_every_place():
    places = np.array([exchanged(np.arange(3), np.random.default_rng(seed)) for seed in range(600)])
    counts = np.stack([np.bincount(column, minlength=3) for column in places.T])
    assert counts.min() > 150


def test_shifts_are_no_shorter_than_asked():
    shifts = draw_shifts([100, 50], [10, 5], 2000, RNG)
    assert shifts.shape == (2000, 2)
    assert [shifts.min(axis=0).tolist(), shifts.max(axis=0).tolist()] == [[10, 5], [90, 45]]
    assert draw_shifts([8, 4], [10, 1], 5, RNG).max() <= 7


@pytest.mark.parametrize(("n", "draws", "wanted"), [(50, 1000, 31), (50, 7, 7)])
def test_a_single_run_has_only_so_many_shifts(n, draws, wanted):
    shifts = draw_shifts([n], [10], draws, RNG)
    assert len(shifts) == len(np.unique(shifts)) == wanted
