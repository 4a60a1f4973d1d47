"""Training by steps: the optimiser is torch's, and the best step on held-out rows is what is kept."""

import numpy as np
import pytest
import torch

from brainalign.engine.training import AdamW, train_to_best


def test_the_optimiser_is_that_of_torch():
    a, b = (torch.nn.Parameter(torch.arange(4.0)) for _ in range(2))
    ours, torchs = AdamW([a], 0.1, 0.05), torch.optim.AdamW([b], lr=0.1, weight_decay=0.05)
    for _ in range(20):
        for p, optimiser in ((a, ours), (b, torchs)):
            p.grad = None
            ((p - 1.7) ** 4).sum().backward()
            optimiser.step()
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize(("patience", "n_looks"), [(25, 4), (1000, 8)])
def test_the_best_step_is_kept_and_patience_ends_the_training(patience, n_looks):
    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.ones_(network.weight)
    held = iter([3.0, 2.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0])
    seen = []

    def held_loss():
        seen.append(float(network.weight))
        return next(held)

    step = train_to_best(
        network, lambda: network.weight.sum(), held_loss, steps=200, patience=patience, learning_rate=0.01, weight_decay=0.0
    )
    assert (step, len(seen)) == (75, n_looks)
    assert float(network.weight) == seen[2]


def test_parameters_that_take_no_gradient_stay_as_they_are():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    network[1].requires_grad_(False)
    before = [p.clone() for p in network.parameters()]
    train_to_best(
        network, lambda: network(torch.ones(1, 2)).sum(), lambda: 0.0, steps=3, patience=9, learning_rate=0.1, weight_decay=0.1
    )
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert moved == [True, True, False, False]


def test_a_loss_that_is_no_number_keeps_no_step():
    network = torch.nn.Linear(1, 1)
    options = {"steps": 3, "patience": 9, "learning_rate": 0.1, "weight_decay": 0.0}
    assert train_to_best(network, lambda: network(torch.ones(1, 1)).sum(), lambda: np.nan, **options) == 0
