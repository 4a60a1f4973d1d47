"""What a network is, as a hash."""

from functools import partial

import numpy as np
import pytest
import torch

from brainalign.adapters.networks.weights import WeightsHash, describe_callable, digest, stable_repr


def net(seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2)).to(dtype)


def test_equal_weights_have_one_hash_and_others_another():
    assert WeightsHash(net())() == WeightsHash(net())()
    assert WeightsHash(net())() != WeightsHash(net(1))()
    assert WeightsHash(net())() != WeightsHash(net(dtype=torch.bfloat16))()


@pytest.mark.parametrize("change", ["step", "load", "buffer"])
def test_a_change_of_the_weights_is_seen(change):
    model = net()
    hashed = WeightsHash(model)
    before = hashed()
    assert hashed() == before
    with torch.no_grad():
        if change == "step":
            model[0].weight.add_(1e-3)
        elif change == "load":
            model.load_state_dict(net(1).state_dict())
        else:
            model[1].running_mean.fill_(3)
    assert hashed() != before


def test_the_hash_is_computed_once(monkeypatch):
    from brainalign.adapters.networks import weights

    calls = []
    original = weights._hash_state
    monkeypatch.setattr(weights, "_hash_state", lambda state: calls.append(1) or original(state))
    hashed = WeightsHash(net())
    assert hashed() == hashed()
    assert len(calls) == 1


def closing_over(value):
    def inner(x):
        return x * value

    return inner


class Transform:
    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        return x

    def method(self, x):
        return x


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (closing_over(1), closing_over(2)),
        (closing_over(np.arange(3)), closing_over(np.arange(3) + 1)),
        (closing_over(torch.zeros(2)), closing_over(torch.ones(2))),
        (closing_over(closing_over(1)), closing_over(closing_over(2))),
        (partial(max, 1), partial(max, 2)),
        (Transform(1), Transform(2)),
        (Transform(1).method, Transform(2).method),
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
        (None, max),
        (lambda x: x + 1, lambda x: x + 2),
    ],
)
def test_callables_that_differ_read_differently(one, other):
    assert describe_callable(one) != describe_callable(other)


@pytest.mark.parametrize(
    "make", [lambda: closing_over(np.arange(3)), lambda: partial(max, 1), lambda: Transform(3), lambda: None]
)
def test_a_callable_made_anew_reads_the_same(make):
    assert describe_callable(make()) == describe_callable(make())


def test_addresses_do_not_count():
    assert "0x" not in stable_repr(object())
    assert digest("ab", "c") != digest("a", "bc")
