"""Methods as functions of a question: each with the answer that is known."""

import pytest
import torch

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.engine.attribution import System
from brainalign.neurons.attribution.methods import METHODS, Question

ONE = torch.tensor([0])


def question(function, x, **options):
    x = torch.as_tensor(x, dtype=torch.float64)[None]
    system = System(lambda z: function(z)[:, None], x, 1, True)
    start = torch.zeros_like(x)[None]
    return Question(system, lambda at: start, 1, ONE, ONE, **{"n_steps": 32, **options})


def test_each_method_attributes_a_product():
    product = lambda z: z[:, 0] * z[:, 1]  # noqa: E731
    for method, expected in {
        "gradient": [3.0, 2.0],
        "gradient-times-input": [6.0, 6.0],
        "integrated-gradients": [3.0, 3.0],
    }.items():
        found = METHODS[method].answer(question(product, [2.0, 3.0]))[0, 0]
        torch.testing.assert_close(found, torch.tensor(expected).double())
    drawn = METHODS["expected-gradients"].answer(question(product, [2.0, 3.0], n_steps=4000))[0, 0]
    torch.testing.assert_close(drawn, torch.tensor([3.0, 3.0]).double(), atol=1e-2, rtol=0)


def test_responses_are_those_at_the_mean_of_baselines_and_at_the_inputs():
    pool = torch.tensor([[[1.0]], [[3.0]]], dtype=torch.float64)
    system = System(lambda z: z**2, torch.tensor([[2.0]], dtype=torch.float64), 1, True)
    asked = Question(system, lambda at: pool[at], 2, ONE, ONE, n_steps=2)
    assert asked.responses()[:, 0, 0].tolist() == [5.0, 4.0]


class Backwards(torch.autograd.Function):
    """The identity, with a derivative backwards only."""

    @staticmethod
    def forward(ctx, z):
        return z.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_what_has_no_forward_mode_is_named_or_goes_backwards():
    x = torch.ones(1, 4)
    system = System(lambda z: Backwards.apply(z) @ torch.ones(4, 90), x, 1, True, torch.arange(4)[None] % 2, 2)
    asked = Question(system, lambda at: 0 * x[None], 1, torch.arange(90), ONE, 4, mode="jvp")
    with pytest.raises(CapabilityError, match="pass mode='vjp', or load the network with attn_implementation='eager'"):
        METHODS["integrated-gradients"].answer(asked)
    free = Question(system, lambda at: 0 * x[None], 1, torch.arange(90), ONE, 4)
    assert (METHODS["integrated-gradients"].answer(free) == 2).all()


def test_memory_bounds_copies():
    asked = question(lambda z: torch.tanh(z).sum(1), [1.0] * 100)
    each = 2 * 3 * 800  # a pass: the inputs, what tanh gives, and what its derivative is multiplied with
    within = Question(**{**asked.__dict__, "max_memory": 4 * 10 * each})
    assert 8 <= within.copies(64) <= 20
    assert asked.copies(64) == 64
    with pytest.raises(ParameterError, match="'max_memory' parameter of attribute leaves 25 bytes for a pass"):
        Question(**{**asked.__dict__, "max_memory": 100}).copies(4)
