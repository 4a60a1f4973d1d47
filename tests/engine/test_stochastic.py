"""Stochastic shape distances: closed forms, planted rotations, a search over all maps, and what a metric must keep."""

from itertools import permutations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import ortho_group

from brainalign.engine.shape import procrustes_distance
from brainalign.engine.stochastic import GROUPS, response_moments, stochastic_distances

RNG = np.random.default_rng(0)
ALPHAS = (0.0, 0.5, 1.0, 1.5, 2.0)


def trials(n=12, repeats=8, d=4, rng=RNG):
    mixed = rng.normal(size=(n, repeats, d)) @ rng.normal(size=(n, d, d))
    return rng.normal(size=(n, 1, d)) + mixed


def moments(**sizes):
    return response_moments(trials(**sizes))


def distance(a, b, **options):
    return float(stochastic_distances([a, b], [(0, 1)], **options)[0])


def written_out(a, b, T, alpha):
    """The distance at one map, from covariances and their square roots."""
    total = alpha * ((a[..., 0] - b[..., 0] @ T) ** 2).sum()
    for x, y in zip(a[..., 1:], b[..., 1:], strict=True):
        A, B = x @ x.T, T.T @ y @ y.T @ T
        root = sqrtm(A)
        cross = np.sqrt(np.clip(np.linalg.eigvalsh(root @ B @ root), 0, None)).sum()
        total += (2 - alpha) * (np.trace(A) + np.trace(B) - 2 * cross)
    return np.sqrt(total / len(a))


def test_moments_are_means_and_covariances_of_repeats_whatever_their_number():
    x = trials(n=5, repeats=6, d=3)
    x[1, 4:] = np.nan
    x[2, 1:] = np.nan
    found = response_moments(x)
    assert found.shape == (5, 3, 4)
    means = np.nanmean(x, axis=1)
    np.testing.assert_allclose(found[..., 0], means - means.mean(axis=0))
    for i, n in ((0, 6), (1, 4)):
        np.testing.assert_allclose(found[i, :, 1:] @ found[i, :, 1:].T, np.cov(x[i, :n].T), atol=1e-12)
    assert (found[2, :, 1:] == 0).all()
    assert response_moments(x[:, :2]).shape == (5, 3, 3)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_identity_is_the_formula(alpha):
    a, b = moments(), moments()
    assert distance(a, b, alpha=alpha, group="identity") == pytest.approx(written_out(a, b, np.eye(4), alpha), rel=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_best_order_is_that_of_a_search_over_all(alpha):
    a, b = moments(), moments()
    best = min(written_out(a, b, np.eye(4)[list(order)], alpha) for order in permutations(range(4)))
    assert distance(a, b, alpha=alpha, group="permutation", n_restarts=100) == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_rotation_among_many_does_better(alpha):
    a, b = moments(), moments()
    ours = distance(a, b, alpha=alpha, n_restarts=8)
    assert ours <= min(written_out(a, b, T, alpha) for T in ortho_group.rvs(4, size=300, random_state=0))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_nothing_is_apart_from_itself_turned(group, alpha):
    x = trials()
    turn = {"orthogonal": ortho_group.rvs(4, random_state=0), "permutation": np.eye(4)[[2, 0, 3, 1]], "identity": np.eye(4)}[
        group
    ]
    a, b = response_moments(x), response_moments((x + 3.0) @ turn)
    assert distance(a, b, alpha=alpha, group=group) == pytest.approx(0, abs=1e-5)


def test_systems_without_spread_have_the_distance_of_procrustes():
    a, b = response_moments(trials(repeats=1)), response_moments(trials(repeats=1))
    expected = procrustes_distance(a[..., 0], b[..., 0]) / np.sqrt(12)
    assert distance(a, b, alpha=1.0) == pytest.approx(expected)
    assert distance(a, b, alpha=2.0) == pytest.approx(np.sqrt(2) * expected)
    noisy = moments()
    spread = (noisy[..., 1:] ** 2).sum()
    assert distance(a, noisy, alpha=0.0) == pytest.approx(np.sqrt(2 * spread / 12))


@pytest.mark.parametrize("group", GROUPS)
def test_it_is_a_metric_and_lies_above_the_mix_of_its_ends(group):
    systems = [moments(n=6, d=3) for _ in range(6)]
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    found = {}
    for alpha in ALPHAS:
        D = np.zeros((6, 6))
        D[tuple(np.transpose(pairs))] = stochastic_distances(systems, pairs, alpha=alpha, group=group, n_restarts=12)
        np.testing.assert_allclose(D, D.T, atol=1e-5)
        assert (D[:, None, :] <= D[:, :, None] + D[None] + 1e-5).all()
        found[alpha] = D
    for alpha, D in found.items():
        assert (np.sqrt((1 - alpha / 2) * found[0.0] ** 2 + alpha / 2 * found[2.0] ** 2) <= D + 1e-5).all()


def test_systems_may_differ_in_width_and_repeats():
    x = trials(repeats=5)
    a, b = response_moments(x), response_moments(np.concatenate([x, np.zeros((12, 5, 3))], axis=2))
    assert distance(a, b) == pytest.approx(0, abs=1e-5)
    c, d = moments(repeats=2, d=7), moments(repeats=12, d=3)
    assert distance(c, d) == pytest.approx(distance(d, c), abs=1e-5)


def test_many_neuroids_are_compared_in_the_space_of_the_responses():
    wide = [trials(n=4, repeats=3, d=4) @ np.linalg.qr(RNG.normal(size=(60, 4)))[0].T for _ in range(2)]
    narrow = [x @ np.linalg.svd(x.reshape(-1, 60), full_matrices=False)[2][:4].T for x in wide]
    far, near = (distance(*map(response_moments, both), n_restarts=20) for both in (wide, narrow))
    assert far == pytest.approx(near, rel=1e-6)


def test_many_pairs_at_once_are_those_one_by_one(monkeypatch):
    systems = [moments() for _ in range(4)]
    pairs = [(0, 1), (2, 3), (1, 3)]
    together = stochastic_distances(systems, pairs)
    np.testing.assert_allclose([distance(systems[i], systems[j]) for i, j in pairs], together, atol=1e-7)
    monkeypatch.setattr("brainalign.engine.stochastic._MEMORY", 1)
    np.testing.assert_allclose(stochastic_distances(systems, pairs), together, atol=1e-7)
    assert stochastic_distances(systems, []).shape == (0,)


def test_more_starts_are_never_worse_than_the_means_alone():
    systems = [moments(d=6) for _ in range(5)]
    pairs = [(i, j) for i in range(5) for j in range(i)]
    alone, many = (stochastic_distances(systems, pairs, n_restarts=n) for n in (0, 4))
    assert (many <= alone + 1e-6).all()
    assert (many < alone - 1e-3).any()
