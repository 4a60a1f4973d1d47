import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainalign.engine.resample import (
    block_orders,
    distinct_orders,
    draw_phases,
    draw_shifts,
    draw_signs,
    exchange_orders,
    exchanged,
    false_discovery_rate,
    movable,
    p_of_the_maximum,
    p_values,
    time_orders,
    turn_phases,
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


def test_groups_change_places_within_their_part_only():
    groups, parts = np.repeat(np.arange(12), 2), np.repeat([0, 1, 2], 8)
    orders = exchange_orders(groups, 40, RNG, within=parts)
    assert (parts[orders] == parts).all()
    assert (groups[orders[:, 0::2]] == groups[orders[:, 1::2]]).all()
    assert (np.sort(orders, axis=1) == np.arange(24)).all()


def test_the_rows_that_can_move_are_those_that_some_order_moves():
    groups, parts = np.array([0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 5, 6]), np.repeat([0, 1, 2], [5, 5, 2])
    for within in (None, parts):
        orders = exchange_orders(groups, 200, RNG, within=within)
        assert movable(groups, within=within).tolist() == (orders != np.arange(12)).any(axis=0).tolist()


@pytest.mark.parametrize(("n", "draws", "wanted"), [(4, 1000, 23), (5, 1000, 119), (6, 100, 100), (30, 50, 50)])
def test_few_groups_have_only_so_many_orders(n, draws, wanted):
    orders = distinct_orders(np.repeat(np.arange(n), 3), draws, RNG)
    assert len(orders) == len(np.unique(orders, axis=0)) == wanted
    assert (orders != np.arange(3 * n)).any(axis=1).all()


def test_blocks_of_neighbours_stay_together_within_their_run():
    lengths, block = [23, 40], 5
    orders = block_orders(lengths, block, 60, RNG)
    for start, n in ((0, 23), (23, 40)):
        part = orders[:, start : start + n] - start
        assert (np.sort(part, axis=1) == np.arange(n)).all()
        assert ((np.diff(part, axis=1) % n == 1).sum(axis=1) >= n - n // block).all()  # all but the seams
    assert np.unique(orders[:, 0]).size > 15
    assert block_orders([3], 10, 4, RNG).shape == (4, 3)  # a run shorter than a block turns as a whole


def test_every_shift_of_every_run_is_drawn():
    shifts = draw_shifts([10, 5], 2000, RNG)
    assert shifts.shape == (2000, 2)
    assert [shifts.min(axis=0).tolist(), shifts.max(axis=0).tolist()] == [[0, 0], [9, 4]]
    assert sorted(draw_shifts([20], 100, RNG).ravel().tolist()) == list(range(1, 20))


@pytest.mark.parametrize(("draws", "wanted"), [(1000, 49), (7, 7)])
def test_a_single_run_has_only_so_many_shifts(draws, wanted):
    shifts = draw_shifts([50], draws, RNG)
    assert len(shifts) == len(np.unique(shifts)) == wanted
    assert shifts.min() >= 1


@pytest.mark.parametrize("n", [40, 41])
def test_other_phases_keep_spectra_and_correlations_at_all_lags(n):
    x = RNG.normal(size=(n, 3)).cumsum(axis=0)
    (phases,) = draw_phases([n], 5, RNG)
    for angles in phases:
        turned = turn_phases(x, angles)
        np.testing.assert_allclose(np.abs(np.fft.rfft(turned, axis=0)), np.abs(np.fft.rfft(x, axis=0)), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(np.cov(turned.T), np.cov(x.T), rtol=1e-10)
        for lag in (1, 7):
            before, after = (np.roll(y, lag, axis=0).T @ y for y in (x, turned))
            np.testing.assert_allclose(after, before, rtol=1e-10)
        assert np.abs(turned - x).max() > 0.1


def test_signs_of_few_units_are_all_there_are():
    signs = draw_signs(5, 1000, RNG)
    assert len(np.unique(signs, axis=0)) == 31
    assert (signs.sum(axis=1) < 5).all()
    x = RNG.normal(size=5) + 0.5
    every = np.array(np.meshgrid(*[[1, -1]] * 5)).reshape(5, -1).T
    wanted = (every @ x >= x.sum() - 1e-12).mean()
    assert p_values(x.sum() - 1e-12, signs @ x) == pytest.approx(wanted)
    drawn = draw_signs(40, 500, RNG)
    assert drawn.shape == (500, 40)
    assert abs(drawn.mean()) < 0.03


def test_runs_are_shifted_in_circles_wherever_their_rows_lie_and_whole_ones_change_places():
    runs = [np.array([5, 0, 2]), np.array([1, 4, 3])]
    circles = {(5, 0, 2), (0, 2, 5), (2, 5, 0)}, {(1, 4, 3), (4, 3, 1), (3, 1, 4)}
    for order in time_orders(runs, null="shift", n_permutations=20, rng=np.random.default_rng(0)):
        assert all(tuple(order[run]) in shifts for run, shifts in zip(runs, circles, strict=True))
    (exchanged_once,) = time_orders(runs, null="runs", n_permutations=9, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(exchanged_once[np.concatenate(runs)], [1, 4, 3, 5, 0, 2])
