import numpy as np
import pytest
from scipy.stats import spearmanr

from brainalign.engine.correlate import ranks
from brainalign.engine.rdm_ranks import Sorted, compare_ranks, ranks_in_draws, weighted_ranks

RNG = np.random.default_rng(0)


def test_weighted_ranks_are_ranks_of_copies():
    values, weights = RNG.integers(6, size=(3, 20)) / 2, RNG.integers(1, 4, size=20)
    wanted = ranks(np.repeat(values, weights, axis=1), axis=1)
    wanted -= wanted.mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(np.repeat(weighted_ranks(values, weights.astype(float)), weights, axis=1), wanted)


def test_ranks_in_draws_are_those_of_copies():
    values, weights = RNG.integers(6, size=20) / 2, RNG.integers(4, size=(5, 20))
    found = ranks_in_draws([Sorted.of(values)], weights)[:, 0]
    for draw, weight in enumerate(weights):
        wanted = ranks(np.repeat(values, weight))
        np.testing.assert_array_equal(np.repeat(found[draw], weight), wanted - wanted.mean())


@pytest.mark.parametrize("metric", ["spearman", "rho-a"])
def test_scores_are_rank_correlations_of_copies(metric):
    x, y, weights = RNG.normal(size=30), RNG.normal(size=30), RNG.integers(4, size=(5, 30))
    scores, _ = compare_ranks([Sorted.of(x)], [Sorted.of(y)], metric, weights.astype(float))
    for draw, weight in enumerate(weights):
        a, b = (ranks(np.repeat(side, weight)) for side in (x, y))
        n = weight.sum()
        rho_a = 12 * ((a - a.mean()) * (b - b.mean())).sum() / (n**3 - n)
        np.testing.assert_allclose(scores[draw, 0, 0], spearmanr(a, b)[0] if metric == "spearman" else rho_a, rtol=1e-10)
