import numpy as np
import pytest

from brainalign.engine import rdm_sums
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.rdm_sums import SUMMED, compare_sums

RNG = np.random.default_rng(0)
N = 6


def geometries(n_rdms):
    return RNG.gamma(2.0, size=(n_rdms, N * (N - 1) // 2))


@pytest.mark.parametrize("metric", SUMMED)
def test_without_copies_sums_are_those_of_the_measure(metric):
    """Leaving stimuli out is a draw too."""
    models, data, counts = geometries(2), geometries(3), 1 - np.eye(N, dtype=int)
    scores, _ = compare_sums(models, data, metric, counts, False)
    first, second = np.triu_indices(N, 1)
    for draw in range(N):
        kept = (first != draw) & (second != draw)
        wanted = COMPARATORS[metric].product(*(COMPARATORS[metric].prepare(x[:, kept]) for x in (models, data)))
        np.testing.assert_allclose(scores[draw], wanted, rtol=1e-10)


@pytest.mark.parametrize("metric", SUMMED)
def test_tiles_of_pairs_change_nothing(metric, monkeypatch):
    models, data, counts = geometries(2), geometries(3), RNG.integers(1, 3, size=(4, N))
    whole, bounds = compare_sums(models, data, metric, counts, True)
    monkeypatch.setattr(rdm_sums, "_BUDGET", 60)
    tiled, of_tiles = compare_sums(models, data, metric, counts, True)
    np.testing.assert_allclose(tiled, whole, rtol=1e-10)
    units = RNG.integers(3, size=(4, 3))
    np.testing.assert_allclose(of_tiles(units), bounds(units), rtol=1e-9)


def test_where_one_stimulus_outweighs_whitening_there_is_no_score():
    """Four of one stimulus among six: the closed form divides by zero, and the draw counts as undefined."""
    counts = np.array([[4, 1, 1, 0, 0, 0], [3, 1, 1, 1, 0, 0]])
    scores, _ = compare_sums(geometries(2), geometries(3), "whitened-cosine", counts, False)
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()


def test_sums_lose_no_digits_to_a_large_mean():
    models, data, counts = geometries(2), geometries(3), RNG.integers(1, 3, size=(4, N))
    near, far = (compare_sums(models + shift, data + shift, "pearson", counts, False)[0] for shift in (0.0, 1e6))
    np.testing.assert_allclose(far, near, atol=1e-8)
