"""What a copy costs: bytes that grow with it, and the cheaper direction."""

import torch

from brainalign.engine.attribution import System
from brainalign.engine.attribution_cost import choose_mode, graph_bytes
from brainalign.engine.attribution_paths import gauss_legendre


def system(width=64, n_out=400, groups=None, n_groups=0):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Linear(width, n_out), torch.nn.Sigmoid())
    return System(net, torch.randn(4, 8), 4, True, groups, n_groups)


def test_bytes_are_those_of_one_more_copy_and_not_of_weights():
    known = {}
    assert graph_bytes(system(), known) == 4 * 4 * (
        8 + 64 + 8 + 400
    )  # inputs, what tanh and sigmoid give, and the copy of the inputs
    assert graph_bytes(system(width=256), {}) - known[4, 8] == 4 * 4 * (256 - 64)
    assert graph_bytes(system(width=256), known) == known[4, 8]  # asked once for each shape


def test_two_copies_are_not_tried_where_one_takes_little_weights_and_all():
    weights, own = 4 * 64 * (8 + 400), graph_bytes(system(), {})
    assert graph_bytes(system(), {}, enough=own + weights) == own + weights
    assert graph_bytes(system(), {}, enough=own + weights - 1) == own


def test_few_groups_go_forwards_and_few_outputs_backwards():
    one = torch.tensor([0])
    grouped = system(groups=torch.arange(8)[None] % 2, n_groups=2)
    path = gauss_legendre(torch.zeros(4, 8), 4)
    assert choose_mode(grouped, path, torch.arange(400), one) == "jvp"
    assert choose_mode(system(groups=torch.arange(8)[None], n_groups=80), path, one, one) == "vjp"
    assert choose_mode(system(), path, torch.arange(400), one) == "vjp"  # without groups there is one way
    assert choose_mode(grouped, path, torch.arange(3), one) in ("vjp", "jvp")  # timed
