"""Energy distances after alignment: the formula written out, searches over maps, planted ones, and no bias."""

from itertools import permutations

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import ortho_group

from brainalign.engine.energy import centred_trials, energy_distance
from brainalign.engine.stochastic import GROUPS

RNG = np.random.default_rng(0)


def trials(n=8, repeats=6, d=3, rng=RNG):
    return centred_trials(rng.normal(size=(n, 1, d)) + rng.normal(size=(n, repeats, d)) @ rng.normal(size=(n, d, d)))


def written_out(a, b, T):
    parts = []
    for x, y in zip(a, b, strict=True):
        x, y = x[np.isfinite(x).all(axis=1)], y[np.isfinite(y).all(axis=1)] @ T
        parts.append(cdist(x, y).mean() - pdist(x).mean() / 2 - pdist(y).mean() / 2)
    return np.sqrt(max(0, np.mean(parts)))


def test_identity_is_the_formula_whatever_the_repeats():
    a, b = trials(repeats=6), trials(repeats=4)
    a[0, 4:] = np.nan
    assert energy_distance(a, b, group="identity") == pytest.approx(written_out(a, b, np.eye(3)))


def test_the_best_order_is_that_of_a_search_over_all():
    a, b = trials(), trials()
    best = min(written_out(a, b, np.eye(3)[list(order)]) for order in permutations(range(3)))
    assert energy_distance(a, b, group="permutation", n_restarts=30) == pytest.approx(best)


def test_no_rotation_among_many_does_better():
    a, b = trials(), trials()
    ours = energy_distance(a, b)
    assert ours <= min(written_out(a, b, T) for T in ortho_group.rvs(3, size=300, random_state=0))
    assert ours == pytest.approx(energy_distance(b, a), abs=1e-6)


@pytest.mark.parametrize("group", GROUPS)
def test_draws_from_one_distribution_turned_are_hardly_apart(group):
    rng = np.random.default_rng(0)
    means, mixing = 3 * rng.normal(size=(8, 1, 3)), rng.normal(size=(8, 3, 3))
    turn = {"orthogonal": ortho_group.rvs(3, random_state=1), "permutation": np.eye(3)[[2, 0, 1]], "identity": np.eye(3)}[group]
    x, y = (centred_trials(means + rng.normal(size=(8, 60, 3)) @ mixing) for _ in range(2))
    assert energy_distance(x, y @ turn, group=group) < 0.2
    assert energy_distance(x, x @ turn, group=group) == 0
    assert energy_distance(x, trials(repeats=60), group=group) > 0.5


def test_systems_that_respond_alike_each_time_have_the_mean_gap_after_alignment():
    x = trials(repeats=1)
    assert energy_distance(x, x @ ortho_group.rvs(3, random_state=0)) == pytest.approx(0, abs=1e-3)
    y = trials(repeats=1)
    gap = np.linalg.norm(x - y, axis=2).mean()
    assert energy_distance(x, y, group="identity") == pytest.approx(np.sqrt(gap))
    assert energy_distance(0 * x, 0 * x) == 0


def test_many_neuroids_are_compared_in_the_space_of_the_responses():
    a, b = trials(n=3, repeats=4), trials(n=3, repeats=4, d=5)
    wide = a @ np.linalg.qr(RNG.normal(size=(40, 3)))[0].T
    assert energy_distance(wide, b, n_restarts=20) == pytest.approx(energy_distance(a, b, n_restarts=20), rel=1e-5)
