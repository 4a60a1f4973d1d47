"""Equal to shifting, or turning, and correlating again."""

import numpy as np
import pytest

from brainalign.engine.correlate import pearson_columns, pooled_pearson
from brainalign.engine.moments import fold_sums, pool_sums
from brainalign.engine.resample import draw_phases, turn_phases
from brainalign.engine.shifts import autocorrelation_time, phase_correlations, shifted_sums

RNG = np.random.default_rng(0)


def sides(n, columns=4):
    truth = RNG.normal(size=(n, columns)).cumsum(axis=0) + 100
    return truth, truth + RNG.normal(size=(n, columns)) * 3


def looped(truth, prediction, runs, shift, parts):
    moved = truth.copy()
    for run, s in zip(runs, shift, strict=True):
        moved[run] = truth[np.roll(run, -s)]
    return pooled_pearson(pool_sums([fold_sums(moved[parts == p], prediction[parts == p]) for p in np.unique(parts)]))


def test_all_shifts_of_one_run_equal_the_loop():
    truth, prediction = sides(61)
    runs = [np.arange(61)]
    r = shifted_sums(truth, prediction, runs).at(np.arange(61)[:, None])
    wanted = [pearson_columns(np.roll(truth, -s, axis=0), prediction) for s in range(61)]
    np.testing.assert_allclose(r, wanted, atol=1e-10)


def test_runs_are_shifted_each_by_its_own(monkeypatch):
    monkeypatch.setattr("brainalign.engine.shifts._TILE", 3)
    truth, prediction = sides(90)
    order = RNG.permutation(90)
    runs = [order[:25], order[25:60], order[60:]]  # rows in no order of time
    parts = np.empty(90, dtype=int)
    for number, run in enumerate(runs):
        parts[run] = number
    shifts = np.stack([RNG.integers(len(run), size=20) for run in runs], axis=1)
    r = shifted_sums(truth, prediction, runs).at(shifts)
    np.testing.assert_allclose(r, [looped(truth, prediction, runs, s, parts) for s in shifts], atol=1e-10)


def test_folds_in_blocks_of_a_run_are_centred_where_they_stand():
    truth, prediction = sides(50)
    parts, runs = np.repeat([0, 1, 2], [20, 20, 10]), [np.arange(50)]
    r = shifted_sums(truth, prediction, runs, parts=parts).at(np.arange(50)[:, None])
    np.testing.assert_allclose(r, [looped(truth, prediction, runs, [s], parts) for s in range(50)], atol=1e-10)


@pytest.mark.parametrize("lengths", [[40], [31, 24]])
def test_turned_phases_equal_turning_and_correlating_again(lengths):
    n = sum(lengths)
    truth, prediction = sides(n)
    runs = np.split(np.arange(n), np.cumsum(lengths)[:-1])
    phases = draw_phases(lengths, 9, RNG)
    r = phase_correlations(truth, prediction, runs, phases)
    for b in range(9):
        moved = np.concatenate([turn_phases(truth[run], angles[b]) for run, angles in zip(runs, phases, strict=True)])
        wanted = pooled_pearson(pool_sums([fold_sums(moved[run], prediction[run]) for run in runs]))
        np.testing.assert_allclose(r[b], wanted, atol=1e-10)


def test_what_does_not_vary_has_no_correlation():
    truth, prediction = sides(20)
    truth[:, 1] = 7.0
    prediction[:, 2] = np.nan
    runs = [np.arange(20)]
    for r in (
        shifted_sums(truth, prediction, runs).at(np.array([[3]])),
        phase_correlations(truth, prediction, runs, draw_phases([20], 1, RNG)),
    ):
        assert np.isnan(r).tolist() == [[False, True, True, False]]


@pytest.mark.parametrize("phi", [0.5, 0.8, 0.95])
def test_autocorrelation_lasts_as_long_as_it_was_made_to(phi):
    x = RNG.normal(size=(6000, 3))
    for i in range(1, len(x)):
        x[i] += phi * x[i - 1]
    wanted = -1 / np.log(phi)
    assert autocorrelation_time(x, np.split(np.arange(6000), 2)).mean() == pytest.approx(wanted, rel=0.2)
    constant = np.column_stack([x[:, 0], np.full(6000, 2.0)])
    assert autocorrelation_time(constant, [np.arange(6000)])[1] == 0
