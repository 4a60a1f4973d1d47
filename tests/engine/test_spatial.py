"""Gaussian pools: masses that hold at every resolution, and a search that no memory bound changes."""

import numpy as np
import pytest
import torch

from brainalign.engine.spatial import gaussian_masks, pools, ridge_of_pooled, search_pools


def grid(side):
    y, x = np.mgrid[:side, :side]
    return np.stack([(x.ravel() + 0.5) / side - 0.5, 0.5 - (y.ravel() + 0.5) / side], axis=1)


def test_masses_add_up_to_one_and_to_those_of_a_coarser_map():
    centre, size = np.array([[0.05, -0.1]]), np.array([0.08])
    fine, coarse = (gaussian_masks(grid(side), np.full(2, 1 / side), centre, size)[0] for side in (16, 4))
    assert fine.sum() == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(fine.reshape(4, 4, 4, 4).sum(axis=(1, 3)).ravel(), coarse, atol=1e-12)
    density = np.exp(-((grid(16) - centre) ** 2).sum(axis=1) / 2 / 0.08**2) / (2 * np.pi * 0.08**2) / 256
    np.testing.assert_allclose(fine, density, atol=5e-3)  # a mass, not a density: the pixel is part of the pool


def test_a_pool_smaller_than_a_place_is_that_place():
    mask = gaussian_masks(grid(4), np.full(2, 0.25), grid(4)[5:6], np.array([1e-6]))
    np.testing.assert_array_equal(mask[0], np.eye(16)[5])


@pytest.fixture
def planted():
    rng = np.random.default_rng(0)
    maps, coarse = rng.normal(size=(90, 16, 3)), rng.normal(size=(90, 4, 2))
    y = np.einsum("npc,pt,ct->nt", maps, np.eye(16)[:, [2, 9]], rng.normal(size=(3, 2))) + 0.1 * rng.normal(size=(90, 2))
    y = (y - y.mean(axis=0)) / y.std(axis=0)
    masks = [gaussian_masks(grid(side), np.full(2, 1 / side), grid(4), np.full(16, 0.06)) for side in (4, 2)]
    splits = [(np.setdiff1d(np.arange(90), test), test) for test in np.array_split(np.arange(90), 3)]
    centred = [m - m.mean(axis=0) for m in (maps, coarse)]
    return {"maps": centred, "masks": masks, "Y": y, "alphas": np.logspace(-2, 2, 5), "splits": splits, "relative": True}


def test_the_planted_pool_wins(planted):
    found = search_pools(**planted, max_memory=1e9)
    assert found.candidate.tolist() == [2, 9]
    assert (found.error < 0.2 * 90).all()
    assert found.channel.shape == (5, 2)
    predicted = [
        p @ found.channel[:, k]
        for k, at in enumerate(found.candidate)
        for i, p in pools(planted["maps"], planted["masks"], 1e9)
        if i == at
    ]
    assert min(np.corrcoef(p, y)[0, 1] for p, y in zip(predicted, planted["Y"].T, strict=True)) > 0.95


def test_memory_and_torch_change_nothing(planted):
    whole, small = search_pools(**planted, max_memory=1e9), search_pools(**planted, max_memory=1.0)
    tensors = planted | {"maps": [torch.as_tensor(m) for m in planted["maps"]], "Y": torch.as_tensor(planted["Y"])}
    for other in (small, search_pools(**tensors, max_memory=1e9)):
        np.testing.assert_array_equal(other.candidate, whole.candidate)
        np.testing.assert_allclose(other.channel, whole.channel, atol=1e-8)
        np.testing.assert_allclose(other.alpha, whole.alpha)


def test_an_alpha_at_the_edge_says_so(planted):
    pooled = next(iter(pools(planted["maps"], planted["masks"], 1e9)))[1]
    one = ridge_of_pooled(pooled, planted["Y"], np.array([3.0]), planted["splits"], relative=False)
    np.testing.assert_array_equal(one.alpha, 3.0)
    assert not search_pools(**planted | {"alphas": np.array([1.0])}, max_memory=1e9).alpha_at_edge.any()
    assert search_pools(**planted | {"alphas": np.array([1e3, 1e4])}, max_memory=1e9).alpha_at_edge.all()
