"""Sums of gradients along a path: known answers, forwards as backwards, in portions as at once."""

import pytest
import torch

from brainalign.engine.attribution import NoForwardMode, Path, System, by_group, directional, member, path_sums, values_at
from brainalign.engine.attribution_paths import end_point, gauss_legendre

ALL = torch.tensor([0])


def rowwise(function, inputs, groups=None, n_groups=0):
    return System(function, inputs, len(inputs), True, groups, n_groups)


def integrated(function, x, start=None, n=300, **options):
    x = torch.as_tensor(x, dtype=torch.float64)[None]
    system = rowwise(lambda z: function(z)[:, None], x)
    start = torch.zeros_like(x) if start is None else start
    return path_sums(system, gauss_legendre(start, n), ALL, ALL, mode="vjp", copies=50, **options)[0, 0]


def test_products_are_divided_as_the_integral_says():
    torch.testing.assert_close(integrated(lambda z: z[:, 0] * z[:, 1], [2.0, 3.0]), torch.tensor([3.0, 3.0]).double())
    torch.testing.assert_close(integrated(lambda z: z[:, 0] ** 2 * z[:, 1], [2.0, 3.0]), torch.tensor([8.0, 4.0]).double())


def test_where_the_gradient_is_flat_the_path_is_not():
    function = lambda z: 1 - torch.relu(1 - z[:, 0])  # noqa: E731
    torch.testing.assert_close(integrated(function, [2.0], n=16), torch.tensor([1.0]).double())
    flat = rowwise(lambda z: function(z)[:, None], torch.tensor([[2.0]]))
    assert path_sums(flat, end_point(torch.zeros(1, 1), times_step=True), ALL, ALL, mode="vjp", copies=1).item() == 0


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = torch.nn.Linear(6, 7), torch.nn.Tanh(), torch.nn.Linear(7, 5), torch.nn.Sigmoid()
    return torch.nn.Sequential(*layers).double().requires_grad_(False)


@pytest.mark.parametrize("copies", [1, 3, 100])
def test_forwards_and_backwards_give_the_same_sums_in_any_portions(network, copies):
    x = torch.randn(4, 6, dtype=torch.float64)
    groups = torch.tensor([[0, 0, 1, 1, 2, -1]])
    system = rowwise(network, x, groups, 3)
    path = gauss_legendre(0.1 * torch.ones_like(x), 8)
    outputs, rows = torch.tensor([3, 0]), torch.tensor([2, 1])
    back = path_sums(system, path, outputs, rows, mode="vjp", copies=copies)
    forth = path_sums(system, path, outputs, rows, mode="jvp", copies=copies)
    torch.testing.assert_close(back, forth)
    each = path_sums(rowwise(network, x), path, outputs, rows, mode="vjp", copies=2)
    torch.testing.assert_close(back, torch.stack([each[..., :2].sum(-1), each[..., 2:4].sum(-1), each[..., 4]], dim=-1))


@pytest.mark.parametrize("mode", ["vjp", "jvp"])
def test_a_system_in_half_precision_whose_responses_are_float32(network, mode):
    half, x = network.to(torch.bfloat16), torch.randn(4, 6).to(torch.bfloat16)
    system = rowwise(lambda z: half(z).float(), x, torch.zeros(1, 6, dtype=torch.int64), 1)
    sums = path_sums(system, gauss_legendre(torch.zeros_like(x), 8), ALL, torch.arange(4), mode=mode, copies=3)
    change = torch.diff(values_at(system, [torch.zeros_like(x), x], ALL), dim=0)[0]
    torch.testing.assert_close(sums[..., 0], change, atol=0.02, rtol=0.1)


def shared(network, x):
    """Return a system whose three rows are averages over positions of one window."""
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.3, 0.7]], dtype=torch.float64)
    forward = lambda z: (weights @ network(z).reshape(-1, 4, 5)).flatten(0, 1)  # noqa: E731
    return System(forward, x, 3, False, torch.tensor([[-1, 0, 0, 1]]), 2)


@pytest.mark.parametrize("mode", ["vjp", "jvp"])
def test_rows_that_share_inputs_are_attributed_one_by_one(network, mode):
    x = torch.randn(1, 4, 6, dtype=torch.float64)
    system, path = shared(network, x), gauss_legendre(torch.zeros_like(x), 12)
    found = path_sums(system, path, torch.tensor([4]), torch.tensor([0, 1, 2]), mode=mode, copies=5)[:, 0]
    at_position = [integrated(lambda z: network(z)[:, 4], x[0, i], n=12).sum() for i in range(4)]
    expected = [[0.0, 0.0], [0.5 * at_position[1], 0.0], [0.3 * at_position[2], 0.7 * at_position[3]]]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_values_are_summed_over_groups_of_leading_dims():
    x = torch.arange(12.0).reshape(2, 3, 2)
    system = rowwise(lambda z: z.flatten(1), x, torch.tensor([[1, -1, 0]]), 2)
    torch.testing.assert_close(by_group(system, x), torch.tensor([[9.0, 1.0], [21.0, 13.0]]))
    assert member(system, torch.tensor([1])).shape == (1, 1, 3, 1)
    joint = System(system.forward, x, 2, False, torch.tensor([[0, 0, 1], [1, 1, -1]]), 2)
    torch.testing.assert_close(by_group(joint, x), torch.tensor([[6.0, 9.0 + 30.0]]))


def test_attention_is_differentiated_forwards_and_what_cannot_be_is_named():
    x = torch.randn(1, 2, 4, 8, dtype=torch.float64)
    attend = lambda z: torch.nn.functional.scaled_dot_product_attention(z, z, z)  # noqa: E731
    tangent, step = torch.randn_like(x), 1e-6
    numeric = (attend(x + step * tangent) - attend(x - step * tangent)) / (2 * step)
    torch.testing.assert_close(directional(attend, x, tangent), numeric, atol=1e-7, rtol=1e-5)
    assert directional(lambda z: torch.ones(1), x, tangent).item() == 0  # nothing depends on the inputs

    class Backwards(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            return z.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    with pytest.raises(NoForwardMode, match="forward"):
        directional(Backwards.apply, x, tangent)


def test_an_error_of_the_function_itself_is_not_renamed():
    def fails(z):
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ") as caught:
        directional(fails, torch.ones(1), torch.ones(1))
    assert not isinstance(caught.value, NoForwardMode)


def test_values_at_points_keep_no_graph(network):
    x = torch.randn(2, 6, dtype=torch.float64)
    found = values_at(rowwise(network, x), [x, 0 * x], torch.tensor([1]))
    assert found.shape == (2, 2, 1)
    assert not found.requires_grad
    torch.testing.assert_close(found[0, :, 0], network(x)[:, 1])


def test_a_path_gives_points_and_steps():
    x = torch.ones(2, 3)
    path = Path(lambda at: 1.0 - at.reshape(-1, 1, 1).float(), torch.tensor([0.0, 0.5]), torch.ones(2))
    where, step = path.part(x, torch.tensor([1]))
    assert where.shape == step.shape == (1, 2, 3)
    assert (where == 0.5).all()
    assert (step == 1).all()
