"""Permutations against one plain fit of the same data: all circular shifts of predictions at once, and models fitted anew."""

from statistics import median
from time import process_time

import numpy as np
import pytest

import brainalign as ba
from brainalign.engine.correlate import pearson_columns
from brainalign.engine.factor import fixed_ridge
from brainalign.engine.shifts import shifted_sums

pytestmark = pytest.mark.bench

N_ROWS, N_FEATURES, N_TARGETS, ROUNDS, N_LOOPED = 2000, 1000, 10_000, 3, 10


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((N_ROWS, N_FEATURES), dtype=np.float32)
    target = rng.standard_normal((N_ROWS, N_TARGETS), dtype=np.float32)
    return source, target, rng.standard_normal((N_ROWS, N_TARGETS), dtype=np.float32)


def seconds(call, spent):
    """Run, and note the CPU time; return what came out."""
    start = process_time()
    out = call()
    spent.append(process_time() - start)
    return out


@pytest.mark.parametrize("n_runs", [1, 5])
def test_all_circular_shifts_of_predictions(benchmark, data, n_runs):
    source, target, prediction = data
    runs = np.split(np.arange(N_ROWS), n_runs)
    shifts = np.tile(np.arange(1, N_ROWS // n_runs)[:, None], n_runs)
    ours, fits, loops, results = [], [], [], []

    def plain():
        results.clear()
        seconds(lambda: ba.Ridge(alphas=[100.0]).fit(source, target), fits)
        for shift in shifts[:N_LOOPED]:
            order = np.concatenate([np.roll(run, -s) for run, s in zip(runs, shift, strict=True)])
            results.append(seconds(lambda order=order: pearson_columns(target[order], prediction), loops))

    benchmark.pedantic(
        lambda: results.append(seconds(lambda: shifted_sums(target, prediction, runs).at(shifts), ours)),
        setup=plain,
        rounds=ROUNDS,
    )
    if n_runs == 1:  # the loop centres all rows together, as one run is
        np.testing.assert_allclose(results[-1][:N_LOOPED], results[:-1], atol=1e-10)
    n_shifts = len(shifts)
    benchmark.extra_info["target"] = "all shifts within 1 plain fit"
    benchmark.extra_info["shifts"] = n_shifts
    benchmark.extra_info["ratio to one fit at one alpha, CPU time"] = round(median(ours) / median(fits), 3)
    benchmark.extra_info["times faster than the loop over shifts"] = round(n_shifts * median(loops) / median(ours), 1)


def test_one_permutation_fitted_anew_at_fixed_alphas(benchmark, data):
    source, target, _ = data
    train, test = slice(0, N_ROWS * 4 // 5), slice(N_ROWS * 4 // 5, None)
    fold, alphas = fixed_ridge(source[train], source[test]), np.full(N_TARGETS, 100.0)
    order = np.random.default_rng(0).permutation(N_ROWS * 4 // 5)
    ours, fits, choices, results = [], [], [], []

    def plain():
        model = seconds(lambda: ba.Ridge(alphas=[100.0]).fit(source[train], target[train][order]), fits)
        seconds(lambda: ba.Ridge().fit(source[train], target[train][order]), choices)
        results[:] = [model.predict(source[test])]

    benchmark.pedantic(
        lambda: results.append(seconds(lambda: fold.predict(target[train][order], alphas), ours)), setup=plain, rounds=ROUNDS
    )
    np.testing.assert_allclose(results[-1], results[0], atol=2e-3)
    benchmark.extra_info["target"] = "0.5 plain fits"
    benchmark.extra_info["ratio to a fit that chooses alphas, CPU time"] = round(median(ours) / median(choices), 3)
    benchmark.extra_info["ratio to a fit at one alpha, CPU time"] = round(median(ours) / median(fits), 3)
