"""Rules of relevance: forward bitwise as it was, gradient × value conserved."""

import torch

from brainalign.engine.relevance import half_rule, identity_rule, normalised, through


def leaf(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.double).requires_grad_(True)


def test_the_value_of_one_and_the_gradient_of_another():
    x = leaf(5)
    y = through(3 * x, x.exp())
    assert torch.equal(y, x.exp())
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, torch.full_like(x, 3))


def test_an_activation_keeps_its_relevance_also_at_zero():
    z = torch.cat([leaf(6), torch.zeros(1, dtype=torch.double)]).detach().requires_grad_(True)
    y = identity_rule(z, torch.nn.functional.gelu(z), torch.tensor(0.5, dtype=torch.double))
    (gradient,) = torch.autograd.grad(y.sum(), z)
    torch.testing.assert_close(gradient * z, torch.nn.functional.gelu(z), atol=1e-15, rtol=0)
    assert gradient[-1] == 0.5


def test_two_factors_share_the_relevance_of_their_product():
    a, b = leaf(4), (leaf(4) + 1).detach().requires_grad_(True)
    y = half_rule(a * b)
    assert torch.equal(y, a * b)
    one, other = torch.autograd.grad(y.sum(), (a, b))
    torch.testing.assert_close(one * a + other * b, a * b)


def test_a_normalised_pattern_passes_relevance_whole():
    x = leaf(2, 3, 4)
    for centred, n_dims in ((True, 1), (False, 1), (True, 2)):
        y = normalised(x, n_dims, 1e-5, centred=centred)
        (gradient,) = torch.autograd.grad(y[0, 0, 1], x)
        torch.testing.assert_close((gradient * x).sum(), y[0, 0, 1], atol=1e-14, rtol=0)
    torch.testing.assert_close(normalised(x, 1, 1e-5, centred=True), torch.nn.functional.layer_norm(x, (4,)))
