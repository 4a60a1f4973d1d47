"""What the p-values and intervals of similarity promise, on simulated pairs: the false-positive rate, and the coverage."""

import numpy as np
import pytest
from scipy.stats import binom

from brainalign.engine.bootstrap import Drawn
from brainalign.engine.similarity import draw_halves, grid_scores, half_scores, p_of_orders, permuted_scores, spread_of_halves
from brainalign.geometry.metrics import similarity_metric

N_SETS, N_ORDERS, LEVEL = 500, 19, 0.05


def null_ranks(metric, rng):
    """Return p-values of four pairs of systems that share nothing, alone and together, for responses with heavy tails."""
    sides = [[rng.standard_t(3, size=(16, p)) * rng.gamma(1.0, size=(16, 1)) for p in widths] for widths in ((4, 9), (5, 3))]
    prepared = [[metric.prepare(x) for x in side] for side in sides]
    orders = rng.permuted(np.tile(np.arange(16), (N_ORDERS, 1)), axis=1)
    p, p_max = p_of_orders(
        grid_scores(metric, *prepared), permuted_scores(metric, *prepared, orders), higher_is_alike=metric.higher_is_alike
    )
    return p[0, 0], p_max.min()


@pytest.mark.parametrize("name", ["cka-debiased", "cka", "shape-1", "mutual-knn", "cca"])
def test_as_much_noise_passes_as_was_asked_for(name):
    metric, rng = similarity_metric(name), np.random.default_rng(0)
    passed = np.array([null_ranks(metric, rng) for _ in range(N_SETS)]) <= LEVEL
    low, high = binom.ppf([0.005, 0.995], N_SETS, LEVEL)
    alone, together = passed.sum(axis=0)
    assert low <= alone <= high
    assert low <= together <= high


MIXTURES = [np.random.default_rng(1).normal(size=(10, p)) for p in (15, 12)]


def related(n, rng):
    """Return two systems that share ten directions, each under noise of its own."""
    shared = rng.standard_normal((n, 10)) * np.linspace(2, 0.5, 10)
    return [shared @ mixture + 2.0 * rng.standard_normal((n, mixture.shape[1])) for mixture in MIXTURES]


@pytest.mark.parametrize("name", ["cka-debiased", "cka", "shape-1"])
def test_intervals_hold_the_mean_score_of_so_many_other_stimuli(name):
    metric, rng, n = similarity_metric(name), np.random.default_rng(0), 60

    def score(x, y):
        return grid_scores(metric, [metric.prepare(x)], [metric.prepare(y)])[0, 0]

    truth = np.mean([score(*related(n, rng)) for _ in range(500)])
    held, replaced = [], []
    for _ in range(100):
        x, y = related(n, rng)
        observed, halves = score(x, y), draw_halves(np.arange(n), 100, rng)
        draws = spread_of_halves(observed, half_scores(metric, [x], [y], halves)[:, 0, 0])
        low, high = Drawn(np.array(observed), draws, (), [n]).interval(0.95)
        held.append(low <= truth <= high)
        rows = rng.integers(n, size=(20, n))
        low, high = np.quantile([score(x[row], y[row]) for row in rows], [0.025, 0.975])
        replaced.append(low <= truth <= high)
    assert np.sum(held) >= binom.ppf(0.005, 100, 0.93)  # 93 to 97% of 300 sets of 60 stimuli: the docstring
    assert np.mean(replaced) < np.mean(held)  # why stimuli are not drawn with replacement
