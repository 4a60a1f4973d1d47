"""Mixtures of inputs and a baseline, group by group."""

import torch

from brainalign.engine.attribution import System
from brainalign.engine.mixtures import in_groups, mixture_responses, occlusions

ALL = torch.tensor([0, 1])


def test_shares_of_groups_lie_between_start_and_inputs_and_the_rest_stays():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    system = System(lambda z: z, x, 2, True, torch.tensor([[0, -1, 1]]), 2)
    out = mixture_responses(system, -x, torch.tensor([[0.0, 1.0], [0.5, 0.0], [1, 1]]), torch.arange(3), ALL, copies=2)
    assert out.dtype == torch.float64
    assert out[:, 0].tolist() == [[-1, 2, 3], [0, 2, -3], [1, 2, 3]]
    assert torch.equal(out[2], x.double())


def test_groups_of_leading_dims_take_the_others_along():
    x = torch.ones(1, 2, 3)
    system = System(lambda z: z.sum((1, 2), keepdim=False)[:, None], x, 1, True, torch.tensor([[0, 1]]), 2)
    lost = occlusions(lambda s: mixture_responses(system, 0 * x, s, ALL[:1], ALL[:1], 4), 2)
    assert lost[0, 0].tolist() == [3, 3]


def test_elements_are_groups_of_their_own_and_a_linear_response_loses_weight_times_difference():
    torch.manual_seed(0)
    x, start, w = torch.randn(2, 300).double(), torch.randn(2, 300).double(), torch.randn(300, 2).double()
    system = in_groups(System(lambda z: z @ w, x, 2, True))
    assert system.n_groups == 300
    lost = occlusions(lambda s: mixture_responses(system, start, s, ALL, ALL, 64), 300)
    torch.testing.assert_close(lost, (x - start)[:, None] * w.T[None])
