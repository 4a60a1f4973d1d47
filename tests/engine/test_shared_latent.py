"""Shared latents: the trunk starts alike whatever systems there are, a penalty shrinks maps, and no worse step than the start is kept."""

import numpy as np
import pytest
import torch

from brainalign.engine.shared_latent import SharedLatentNetwork, disagreement, train

OPTIONS = {"contrast": 0.0, "steps": 50, "patience": 99, "batch_size": 16, "learning_rate": 1e-2, "weight_decay": 0.0}


def generator():
    return torch.Generator().manual_seed(0)


def part(n_features=6, noise=0.0):
    rng = np.random.default_rng(n_features)
    x = torch.as_tensor(rng.normal(size=(60, n_features)), dtype=torch.float32)
    y = x[:, :3] + noise * torch.as_tensor(rng.normal(size=(60, 3)), dtype=torch.float32)
    return x, y, (np.arange(40), np.arange(40, 60))


def test_the_trunk_does_not_depend_on_how_many_systems_there_are():
    one, two = SharedLatentNetwork([6], 4, 8, 3, generator()), SharedLatentNetwork([5, 6], 4, 8, 3, generator())
    assert all(torch.equal(one.trunk[name], two.trunk[name]) for name in one.trunk)
    assert two(torch.zeros(2, 6), 1).shape == (2, 3)


def test_systems_are_learned_together_and_a_penalty_shrinks_their_maps():
    norms = []
    for alpha in (0.0, 0.3):
        network = SharedLatentNetwork([6, 9], 4, 8, 3, generator())
        parts = [part(6), part(9)]
        with torch.no_grad():
            before = [float((network(x, k) - y).square().mean()) for k, (x, y, _) in enumerate(parts)]
        assert train(network, parts, alpha=alpha, **OPTIONS, generator=generator()) > 0
        with torch.no_grad():
            after = [float((network(x, k) - y).square().mean()) for k, (x, y, _) in enumerate(parts)]
        assert all(b < a for a, b in zip(before, after, strict=True))
        norms.append(float(network.into[0].detach().norm()))
    assert norms[1] < 0.8 * norms[0]


@pytest.mark.parametrize("learning_rate", [1e-2, 1e30])
def test_no_step_worse_than_the_start_is_kept(learning_rate):
    network = SharedLatentNetwork([6], 4, 8, 3, generator())
    x, _, split = part()
    with torch.no_grad():
        y = network(x, 0)  # the start is perfect
    before = [p.clone() for p in network.parameters()]
    assert train(network, [(x, y, split)], alpha=0.1, **OPTIONS | {"learning_rate": learning_rate}, generator=generator()) == 0
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_disagreement_is_as_by_hand_and_its_penalty_brings_latents_of_one_stimulus_together():
    network, parts = SharedLatentNetwork([6, 9, 4], 4, 8, 3, generator()), [part(6), part(9), part(4)]
    shared = [(0, 1, np.array([3, 5, 5]), np.array([2, 0, 1])), (1, 2, np.array([7]), np.array([7]))]
    z = [(x @ e).detach().numpy() for (x, _, _), e in zip(parts, network.into, strict=True)]
    want = np.mean([((z[0][i] - z[1][j]) ** 2).sum() for i, j in ((3, 2), (5, 0), (5, 1))]) + ((z[1][7] - z[2][7]) ** 2).sum()
    assert float(disagreement(network, parts, shared).detach()) == pytest.approx(want, rel=1e-5)
    assert float(disagreement(network, parts, [])) == 0
    x, y, split = part(6)
    rotated, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator()))  # the same stimuli, seen by another
    parts, own = [(x, y, split), (x @ rotated, y, split)], split[0]
    found = []
    for alignment in (0.0, 1.0):
        network = SharedLatentNetwork([6, 6], 4, 8, 3, generator())
        options = OPTIONS | {"steps": 200, "alignment": alignment, "shared": [(0, 1, own, own)]}
        train(network, parts, alpha=0.0, **options, generator=generator())
        with torch.no_grad():
            spread = (parts[0][0] @ network.into[0]).var(0).sum()
            found.append(float(disagreement(network, parts, [(0, 1, split[1], split[1])]) / spread))
    assert found[1] < 0.05 < found[0]
