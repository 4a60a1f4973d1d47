"""Sobol indices with the answers that are known."""

import torch

from brainalign.engine.sobol import sobol_indices


def test_ishigami():
    def ishigami(shares):
        x = torch.pi * (2 * shares - 1)
        return (x[:, 0].sin() + 7 * x[:, 1].sin() ** 2 + 0.1 * x[:, 2] ** 4 * x[:, 0].sin())[:, None, None]

    total, first = sobol_indices(ishigami, 3, 2**13, seed=0)
    torch.testing.assert_close(first[0, 0], torch.tensor([0.3139, 0.4424, 0.0]).double(), atol=5e-3, rtol=0)
    torch.testing.assert_close(total[0, 0], torch.tensor([0.5576, 0.4424, 0.2437]).double(), atol=5e-3, rtol=0)


def test_of_an_additive_function_both_indices_are_the_same_and_add_up_to_one():
    weights = torch.tensor([[3.0, 4.0, 0.0], [1.0, 1.0, 1.0]]).double()
    total, first = sobol_indices(lambda s: 1000 + (s @ weights.T)[:, None], 3, 2**12, seed=0)
    expected = weights**2 / (weights**2).sum(dim=1, keepdim=True)
    torch.testing.assert_close(total[0], expected, atol=2e-3, rtol=0)
    torch.testing.assert_close(first[0], expected, atol=2e-3, rtol=0)


def test_a_product_of_centred_shares_is_all_interaction():
    total, first = sobol_indices(lambda s: ((s[:, 0] - 0.5) * (s[:, 1] - 0.5))[:, None, None], 2, 2**12, seed=0)
    torch.testing.assert_close(total[0, 0], torch.ones(2).double(), atol=1e-2, rtol=0)
    torch.testing.assert_close(first[0, 0], torch.zeros(2).double(), atol=1e-2, rtol=0)


def test_a_response_that_does_not_vary_has_no_index():
    total, first = sobol_indices(lambda s: torch.full((len(s), 1, 1), 0.1).double(), 2, 8, seed=0)
    assert total.isnan().all()
    assert first.isnan().all()
