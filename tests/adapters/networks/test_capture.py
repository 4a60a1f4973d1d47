"""Reading layers out of a forward pass."""

from collections import namedtuple

import numpy as np
import pytest
import torch

from brainalign.adapters.networks.capture import (
    OnDemand,
    Tap,
    capture,
    check_columns,
    check_finite,
    first_tensor,
    flatten,
    map_coords,
    matches,
    pick,
    recording,
    select,
)
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError

NAMES = ["conv1", "layer1", "layer1.0", "layer1.0.conv1", "layer2", "layer2.0", "layer2.0.conv1", "fc"]


class Counting(torch.nn.Linear):
    calls = 0

    def forward(self, x):
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("layer*", ["layer1", "layer2"]),
        ("*", ["conv1", "layer1", "layer2", "fc"]),
        ("**", NAMES),
        ("**.conv1", ["conv1", "layer1.0.conv1", "layer2.0.conv1"]),
        ("layer2.**", ["layer2", "layer2.0", "layer2.0.conv1"]),
        (["fc", "conv1"], ["conv1", "fc"]),
    ],
)
def test_globs_stay_within_a_part_unless_doubled(pattern, expected):
    assert select(NAMES, pattern, owner="X") == expected


def test_dots_are_no_wildcards():
    assert not matches("layerX0", "layer.0")


def test_a_name_that_matches_nothing_lists_close_ones():
    with pytest.raises(ParameterError, match=r"'layer3'.*none of its 8 layers.*Did you mean 'layer"):
        select(NAMES, ["fc", "layer3"], owner="X")
    with pytest.raises(ParameterError, match="at least one"):
        select(NAMES, [], owner="X")


def test_the_pass_ends_after_the_last_wanted_layer():
    stages = [Counting(3, 3) for _ in range(3)]
    model = torch.nn.Sequential(*stages)
    found = capture(model, lambda: model(torch.ones(2, 3)), [Tap("b", stages[1]), Tap("a", stages[0])], lambda tap, value: value)
    assert list(found) == ["b", "a"]
    assert [stage.calls for stage in stages] == [1, 1, 0]
    model(torch.ones(2, 3))  # no hook stays behind
    assert [stage.calls for stage in stages] == [2, 2, 1]


def test_an_input_tap_stops_before_its_module():
    stages = [Counting(3, 3), Counting(3, 3)]
    model = torch.nn.Sequential(*stages)
    found = capture(model, lambda: model(torch.ones(1, 3)), [Tap("in", stages[1], "input")], lambda tap, value: value)
    assert torch.equal(found["in"], stages[0](torch.ones(1, 3)))
    assert stages[1].calls == 0


def test_a_module_that_is_called_again_is_read_at_the_call_asked_for():
    layer = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    found = capture(layer, lambda: layer(layer(x)), [Tap("one", layer), Tap("two", layer, call=2)], lambda tap, value: value)
    assert torch.equal(found["one"], layer(x))
    assert torch.equal(found["two"], layer(layer(x)))


def test_a_layer_that_is_not_reached_is_named():
    used, unused = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    with pytest.raises(CapabilityError, match=r"'unused' \(Linear\) was called 0 times"):
        capture(used, lambda: used(torch.ones(1, 2)), [Tap("used", used), Tap("unused", unused)], lambda tap, value: value)
    with pytest.raises(CapabilityError, match=r"was called 1 times.*at least 2"):
        capture(used, lambda: used(torch.ones(1, 2)), [Tap("used#2", used, call=2)], lambda tap, value: value)


def test_errors_of_the_model_pass_through_and_leave_no_hook():
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError):
        capture(layer, lambda: layer(torch.ones(1, 5)), [Tap("a", layer)], lambda tap, value: value)
    assert not layer._forward_hooks


def test_one_tensor_stands_for_any_output():
    a, b = torch.zeros(1), torch.ones(1)
    Output = namedtuple("Output", "first second")
    assert first_tensor(a, "x") is a
    assert first_tensor((None, b), "x") is b
    assert first_tensor(((a, b), b), "x") is a
    assert first_tensor(Output(a, b), "x") is a
    assert first_tensor({"loss": a, "last_hidden_state": b}, "x") is b
    assert first_tensor({"features": [a]}, "x") is a


@pytest.mark.parametrize("value", [None, {}, "text", (None, 3), torch.zeros(2, dtype=torch.complex64)])
def test_an_output_without_a_real_tensor_is_refused(value):
    with pytest.raises(CapabilityError, match="'stem'"):
        first_tensor(value, "stem")


def test_modes_are_restored_module_by_module():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(2), torch.nn.Dropout(0.0))
    model.train()
    model[1].eval()
    with recording(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == [True, True, False, True]
    with pytest.raises(RuntimeError), recording(model):
        model(torch.ones(1, 5))
    assert model[2].training


def test_kept_values_are_copies_in_float32():
    value = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    whole, some = flatten(value, None), flatten(value, np.array([2, 0]))
    value.zero_()
    assert whole.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert some.tolist() == [[2, 0], [5, 3]]
    assert flatten(torch.ones(2, dtype=torch.bfloat16), None).dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "first", "names"),
    [
        ((), False, ["unit"]),
        ((4,), False, ["unit"]),
        ((2, 3), False, ["token", "unit"]),
        ((2, 3), True, ["unit", "token"]),
        ((2, 3, 4), False, ["unit", "channel_y", "channel_x"]),
        ((2, 3, 4, 5), False, ["unit", "channel_z", "channel_y", "channel_x"]),
    ],
)
def test_coordinates_point_back_into_the_map(shape, first, names):
    coords = map_coords(shape, channels_first=first)
    values = np.random.default_rng(0).normal(size=shape or (1,))
    assert list(coords) == ["neuroid_id", *names]
    assert np.array_equal(values[tuple(coords[name] for name in names)], values.ravel())
    assert coords["neuroid_id"].tolist() == list(range(values.size))


def test_too_many_dims_are_refused():
    with pytest.raises(CapabilityError, match=r"\(1, 1, 1, 1, 1\)"):
        map_coords((1,) * 5)


def test_neuroids_are_checked():
    coords = map_coords((3,))
    assert pick(coords, None) is coords
    assert pick(coords, check_columns([2, 0]))["unit"].tolist() == [2, 0]
    assert check_columns(None) is None
    assert check_columns(1).tolist() == [1]
    with pytest.raises(ParameterError, match=r"neuroid 3.*below 3"):
        pick(coords, check_columns([3]))
    for wrong in ([], [-1], [0.5], ["a"], [[1]], [1, 1]):
        with pytest.raises(ParameterError, match="neuroid="):
            check_columns(wrong)


def test_entries_are_made_on_demand():
    made = []
    entries = OnDemand([lambda i=i: made.append(i) or i for i in range(5)])
    assert len(entries) == 5
    assert made == []
    assert entries[-1] == 4
    assert list(entries[1:3]) == [1, 2]
    assert made == [4, 1, 2]


def test_inputs_that_are_not_finite_are_named_by_presentation():
    check_finite(torch.zeros(2, 3), np.array([4, 7]), "net")
    with pytest.raises(SchemaError, match=r"'net' got NaN or infinite values at 1 of 2 presentations, 7\."):
        check_finite(torch.tensor([[0.0], [torch.inf]]), np.array([4, 7]), "net")
