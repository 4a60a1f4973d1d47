"""From tokens or maps to one response a presentation."""

import numpy as np
import pytest
import torch

from brainalign.adapters.networks.pooling import patch_coords, pool_map, pool_tokens
from brainalign.adapters.networks.text_windows import Gather
from brainalign.core.errors import CapabilityError

HIDDEN = torch.as_tensor(np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32))
CHOSEN = Gather(np.array([1, 2, 3, 6, 7]), np.array([2, 1, 2]), np.array([4, 5, 6]), 10)


@pytest.mark.parametrize("shape", [(2, 5, 3), (10, 3)])
@pytest.mark.parametrize("pool", ["mean", "max"])
def test_segments_of_tokens_are_pooled(shape, pool):
    flat = HIDDEN.reshape(10, 3)
    parts = [flat[[1, 2]], flat[[3]], flat[[6, 7]]]
    expected = torch.stack([part.mean(0) if pool == "mean" else part.amax(0) for part in parts])
    torch.testing.assert_close(pool_tokens(HIDDEN.reshape(shape), CHOSEN, pool), expected)


def test_single_tokens_and_all_tokens():
    one = Gather(np.array([3, 8]), np.array([1, 1]), np.array([0, 1]), 10)
    assert torch.equal(pool_tokens(HIDDEN, one, "last"), HIDDEN[:, 3])
    both = Gather(np.array([0, 1, 5, 6]), np.array([2, 2]), np.array([0, 1]), 10)
    assert torch.equal(pool_tokens(HIDDEN, both, "all"), HIDDEN[:, :2])


def test_pooling_is_differentiable():
    point = HIDDEN.double().requires_grad_(True)
    (gradient,) = torch.autograd.grad(pool_tokens(point, CHOSEN, "mean").sum(), point)
    expected = torch.zeros(10, dtype=torch.float64)
    expected[[1, 2, 6, 7]], expected[3] = 0.5, 1
    torch.testing.assert_close(gradient[..., 0].reshape(10), expected)


def test_a_layer_of_other_tokens_is_refused():
    with pytest.raises(CapabilityError, match=r"\(4, 3\) for 10 tokens"):
        pool_tokens(HIDDEN[0, :4], CHOSEN, "mean")


def test_patches_are_pooled_without_their_prefix():
    assert torch.equal(pool_map(HIDDEN, "cls", 2), HIDDEN[:, 0])
    assert torch.equal(pool_map(HIDDEN, "first", 2), HIDDEN[:, 2])
    assert torch.equal(pool_map(HIDDEN, "last", 2), HIDDEN[:, 4])
    assert torch.equal(pool_map(HIDDEN, "mean", 2), HIDDEN[:, 2:].mean(1))
    assert torch.equal(pool_map(HIDDEN, "max", 2), HIDDEN[:, 2:].amax(1))
    assert pool_map(HIDDEN, "all", 2) is HIDDEN
    with pytest.raises(CapabilityError, match="without a class token"):
        pool_map(HIDDEN, "cls", 0)


def test_feature_maps_are_pooled_over_space():
    maps = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert pool_map(maps, "mean", 0).tolist() == [[5.5, 17.5]]
    assert pool_map(maps, "max", 0).tolist() == [[11, 23]]
    with pytest.raises(CapabilityError, match=r"'last' got a feature map of shape \(2, 3, 4\)"):
        pool_map(maps, "last", 0)
    assert pool_map(HIDDEN[0], "mean", 0) is not None


def test_patches_get_their_place():
    coords = {"token": np.arange(7), "unit": np.zeros(7, dtype=int)}
    placed = patch_coords(coords, (2, 3), 1)
    assert placed["channel_y"].tolist() == [-1, 0, 0, 0, 1, 1, 1]
    assert placed["channel_x"].tolist() == [-1, 0, 1, 2, 0, 1, 2]
    assert patch_coords(coords, (2, 2), 1) is coords
    assert patch_coords(coords, None, 1) is coords
