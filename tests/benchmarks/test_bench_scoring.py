"""Pearson's r of 10,000 neuroids, against a Python loop over ``scipy.stats.pearsonr``: CPU time, and the same numbers."""

from statistics import median
from time import process_time

import numpy as np
import pytest
from scipy.stats import pearsonr

from brainalign.engine.correlate import pearson_columns

pytestmark = pytest.mark.bench

N_NEUROIDS, ROUNDS = 10_000, 3


@pytest.mark.parametrize("n_presentations", [100, 400])
def test_pearson_of_ten_thousand_neuroids(benchmark, n_presentations):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(n_presentations, N_NEUROIDS)).astype(np.float32)
    prediction = truth + rng.normal(size=truth.shape).astype(np.float32)
    ours, theirs, results, loops = [], [], [], []

    def timed(function, into):
        start = process_time()
        result = function()
        into.append(process_time() - start)
        return result

    def loop():
        loops.append(timed(lambda: [pearsonr(truth[:, k], prediction[:, k])[0] for k in range(N_NEUROIDS)], theirs))

    benchmark.pedantic(
        lambda: results.append(timed(lambda: pearson_columns(truth, prediction), ours)),
        setup=loop,
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    np.testing.assert_allclose(results[-1], loops[-1], atol=1e-6)
    benchmark.extra_info["target"] = "100 times fewer CPU seconds than the loop"
    benchmark.extra_info["ratio, interleaved, CPU time"] = round(median(theirs[1:]) / median(ours[1:]), 1)
    benchmark.extra_info["presentations"] = n_presentations
