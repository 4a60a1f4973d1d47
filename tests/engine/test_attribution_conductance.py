"""Conductance: known answers, the order of its error, and layers in one pass."""

from contextlib import contextmanager

import pytest
import torch

from brainalign.engine.attribution import System
from brainalign.engine.attribution_conductance import conductance
from brainalign.engine.attribution_paths import even_grid

ONE = torch.tensor([0])


class Read:
    """Run functions one after the other and keep what each gives."""

    def __init__(self, **stages):
        self.stages, self.seen = stages, {}

    def __call__(self, x):
        for name, stage in self.stages.items():
            x = self.seen[name] = stage(x)
        return x

    @contextmanager
    def reading(self, n):
        yield self.seen


def flows(net, x, n, copies=7):
    x = torch.as_tensor(x, dtype=torch.float64)
    system = System(net, x, len(x), True)
    rows = torch.arange(len(x))
    found, ends = conductance(system, even_grid(torch.zeros_like(x), n), list(net.stages), net.reading, ONE, rows, copies=copies)
    torch.testing.assert_close(ends, torch.stack([net(torch.zeros_like(x)), net(x)])[:, :, :1].detach())
    return found


def test_both_factors_of_a_product_conduct_half():
    net = Read(y=lambda x: torch.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1]], dim=1), out=lambda y: y.prod(dim=1, keepdim=True))
    found = flows(net, [[2.0, 3.0]], 32)["y"][0, 0]  # the left rule gives 11.5
    torch.testing.assert_close(found, torch.tensor([12.0, 12.0]).double())


def test_the_error_falls_with_the_square_of_the_step():
    net = Read(y=torch.sin, out=lambda y: (y**4).sum(dim=1, keepdim=True))
    exact = torch.sin(torch.tensor(2.0).double()) ** 4
    errors = [abs(flows(net, [[2.0]], n)["y"].item() - exact.item()) for n in (32, 64)]
    assert 3.5 < errors[0] / errors[1] < 4.5


@pytest.mark.parametrize("copies", [2, 3, 50])
def test_layers_that_cut_the_graph_conduct_all_and_dead_units_nothing(copies):
    torch.manual_seed(0)
    first, last = torch.nn.Linear(3, 4).double(), torch.nn.Linear(4, 1).double()
    with torch.no_grad():
        last.weight[0, 2] = 0
    net = Read(inputs=lambda x: 1 * x, hidden=lambda x: torch.tanh(first(x)), out=last)
    x = torch.randn(2, 3).double()
    found = flows(net, x, 64, copies)
    change = net(x) - net(torch.zeros_like(x))
    for layer in net.stages:
        torch.testing.assert_close(found[layer].sum(dim=2), change.detach(), atol=1e-3, rtol=0)
    assert (found["hidden"][:, :, 2] == 0).all()
    # of the input layer it is integrated gradients
    x0 = x.clone().requires_grad_(True)
    grads = [torch.autograd.grad(net(a * x0).sum(), x0)[0] / a for a in (torch.arange(400) + 0.5) / 400]
    torch.testing.assert_close(found["inputs"][:, 0], torch.stack(grads).mean(0) * x, atol=1e-3, rtol=0)


def test_rows_that_share_inputs_have_units_over_all_positions():
    torch.manual_seed(0)
    first, last = torch.nn.Linear(3, 4).double(), torch.nn.Linear(4, 2).double()
    net = Read(hidden=lambda x: torch.tanh(first(x)), out=lambda h: last(h).flatten(0, 1))
    x = torch.randn(1, 3, 3).double()  # one window of three positions, each of which is a row
    system = System(net, x, 3, False, torch.zeros(1, 3, dtype=torch.int64), 1)
    path = even_grid(torch.zeros_like(x), 32)
    found = conductance(system, path, ["hidden"], net.reading, torch.tensor([1]), torch.tensor([2, 0]), copies=9)[0]["hidden"]
    alone = Read(hidden=net.stages["hidden"], out=last)
    own = conductance(
        System(alone, x[0], 3, True), even_grid(torch.zeros(3, 3).double(), 32), ["hidden"], alone.reading, torch.tensor([1]),
        torch.tensor([2, 0]), copies=9,
    )[0]["hidden"]  # fmt: skip
    torch.testing.assert_close(found, own)


@pytest.mark.parametrize("copies", [3, 50])
def test_a_start_that_all_rows_share_is_run_once(copies):
    torch.manual_seed(0)
    first, x, seen = torch.nn.Linear(3, 4).double(), torch.randn(5, 3).double(), []
    net = Read(
        inputs=lambda x: seen.append(len(x)) or 1 * x,
        hidden=lambda x: torch.tanh(first(x)),
        out=lambda h: h.prod(1, keepdim=True),
    )
    start = torch.randn(3).double().expand(5, 3).clone()
    rows = torch.tensor([4, 0, 2])

    def ask(x, start, rows):
        return conductance(
            System(net, x, len(x), True), even_grid(start, 8), list(net.stages), net.reading, ONE, rows, copies=copies
        )

    found, ends = ask(x, start, rows)
    assert seen[0] == 1 + 5 * (min(copies, 9) - 1)
    seen.clear()
    start[1] += 1  # a row that is not asked for
    own, own_ends = ask(x, start, rows)
    assert seen[0] == 5 * min(copies, 9)
    torch.testing.assert_close(found, own)
    torch.testing.assert_close(ends, own_ends)
