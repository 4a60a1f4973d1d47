"""Masks × weights: the objective never rises, and small problems have an exact solution to come to."""

import numpy as np
import pytest
import torch
from scipy.optimize import brentq

from brainalign.engine.factorised import alternate, fit_factorised


def problem(n=60, places=5, channels=3, targets=4, seed=0):
    rng = np.random.default_rng(seed)
    maps, y = rng.normal(size=(n, places, channels)), rng.normal(size=(n, targets))
    start = rng.normal(size=(places, targets)), rng.normal(size=(channels, targets))
    return maps - maps.mean(axis=0), y - y.mean(axis=0), start


@pytest.mark.parametrize("n", [60, 4])
def test_the_objective_never_rises(n):
    maps, y, start = problem(n=n)
    path = alternate(maps, y, *start, np.full(4, 0.7), 15)
    assert (np.diff(path.objective, axis=0) <= 1e-9).all()
    predicted = np.einsum("npc,pt,ct->nt", maps, path.spatial, path.channel)
    by_hand = ((y - predicted) ** 2).sum(axis=0) + 0.7 * ((path.spatial**2).sum(axis=0) + (path.channel**2).sum(axis=0))
    assert (by_hand <= path.objective[-1] + 1e-9).all()


def test_with_an_orthonormal_design_it_is_the_soft_thresholded_first_singular_pair():
    """‖B − s uᵀ‖² + α(‖s‖² + ‖u‖²) is least at the first singular pair of B = MᵀY, its value less α."""
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.normal(size=(40, 12)))
    maps, y = q.reshape(40, 4, 3), rng.normal(size=(40, 2))
    path = alternate(maps, y, rng.normal(size=(4, 2)), rng.normal(size=(3, 2)), np.array([0.2, 0.4]), 300)
    for t, alpha in enumerate((0.2, 0.4)):
        u, s, v = np.linalg.svd((maps.reshape(40, 12).T @ y[:, t]).reshape(4, 3))
        expected = max(s[0] - alpha, 0) * np.outer(u[:, 0], v[0])
        np.testing.assert_allclose(np.outer(path.spatial[:, t], path.channel[:, t]), expected, atol=1e-6)


def test_with_one_channel_it_is_ridge_at_the_alpha_of_its_own_length():
    """Σ(y − Mw)² + 2α‖w‖ is least where w is the ridge solution at α / ‖w‖."""
    maps, y, start = problem(channels=1, targets=1)
    x, alpha = maps[:, :, 0], 2.0
    ridge = lambda a: np.linalg.solve(x.T @ x + a * np.eye(5), x.T @ y[:, 0])  # noqa: E731
    at = brentq(lambda a: a * np.linalg.norm(ridge(a)) - alpha, 1e-6, 1e4)
    path = alternate(maps, y, *start, np.array([alpha]), 2000)
    np.testing.assert_allclose(path.spatial[:, 0] * path.channel[0, 0], ridge(at), atol=1e-6)


def test_without_a_penalty_to_speak_of_a_planted_product_comes_back():
    maps, _, start = problem(n=200)
    rng = np.random.default_rng(1)
    s, u = rng.normal(size=(5, 4)), rng.normal(size=(3, 4))
    path = alternate(maps, np.einsum("npc,pt,ct->nt", maps, s, u), *start, np.full(4, 1e-9), 60)
    found = np.einsum("pt,ct->tpc", path.spatial, path.channel)
    np.testing.assert_allclose(found, np.einsum("pt,ct->tpc", s, u), atol=1e-5)


def test_more_columns_than_rows_come_to_the_same_by_the_other_gram_matrix():
    maps, y, start = problem(n=8, places=6, channels=6)
    alpha = np.full(4, 0.5)
    few = alternate(maps, y, *start, alpha, 1)
    design = np.einsum("npc,pt->tnc", maps, start[0])
    for t in range(4):
        channel = np.linalg.solve(design[t].T @ design[t] + 0.5 * np.eye(6), design[t].T @ y[:, t])
        other = maps @ channel
        spatial = np.linalg.solve(other.T @ other + 0.5 * np.eye(6), other.T @ y[:, t])
        np.testing.assert_allclose(np.outer(few.spatial[:, t], few.channel[:, t]), np.outer(spatial, channel), atol=1e-9)


def splits(n, k=3):
    blocks = np.array_split(np.arange(n), k)
    return [(np.setdiff1d(np.arange(n), test), test) for test in blocks]


def planted(targets=6):
    maps, noise, _ = problem(n=150, targets=targets)
    rng = np.random.default_rng(1)
    s, u = rng.normal(size=(5, targets)), rng.normal(size=(3, targets))
    y = np.einsum("npc,pt,ct->nt", maps, s, u)
    y = y / y.std(axis=0) + noise
    return maps, (y - y.mean(axis=0)) / y.std(axis=0), s, u


def test_steps_from_a_bad_start_lead_to_the_planted_mask():
    maps, y, s, _ = planted()
    spatial, channel, alpha, steps, error = fit_factorised(
        maps, y, np.full((5, 6), 0.2), np.full(6, 1.0), np.array([0.01, 0.1]), splits(150), n_steps=8, max_memory=1e9
    )
    assert (steps > 0).all()
    cosine = (spatial * s).sum(axis=0) / np.linalg.norm(spatial, axis=0) / np.linalg.norm(s, axis=0)
    assert np.abs(cosine).min() > 0.9
    assert (error < (y**2).sum(axis=0)).all()
    assert (alpha > 0).all()
    assert channel.shape == (3, 6)


def test_a_start_that_cannot_be_bettered_is_kept():
    maps, _, _, _ = planted()
    masks = np.eye(5)[:, [0, 0, 3]]
    y = np.einsum("npc,pt->nt", maps, masks) + np.random.default_rng(2).normal(size=(150, 3))
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    spatial, _, alpha, steps, _ = fit_factorised(
        maps, y, masks, np.full(3, 2.0), np.array([1e-3]), splits(150), n_steps=2, max_memory=1e9
    )
    assert (steps == 0).all()
    np.testing.assert_array_equal(spatial, masks)
    np.testing.assert_array_equal(alpha, 2.0)


def test_tiles_and_torch_change_nothing():
    maps, y, _, _ = planted()
    options = {"n_steps": 3, "splits": splits(150), "alphas": np.array([0.01, 0.1])}
    start = np.full((5, 6), 0.2), np.full(6, 1.0)
    whole = fit_factorised(maps, y, *start, **options, max_memory=1e9)
    tiled = fit_factorised(maps, y, *start, **options, max_memory=1.0)
    other = fit_factorised(torch.as_tensor(maps), torch.as_tensor(y), *start, **options, max_memory=1e9)
    for a, b, c in zip(whole, tiled, other, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-8)
        np.testing.assert_allclose(c, a, atol=1e-8)
