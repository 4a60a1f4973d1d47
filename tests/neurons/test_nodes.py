"""Which elements of a layer are one node."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, UnsupportedModuleError
from brainalign.neurons.nodes import check_inner, find_layers, nodes_of, read_layers, run_copies, run_late

COORDS = {"neuroid_id": np.arange(6), "token": np.repeat([0, 1, 2], 2), "unit": np.tile([0, 1], 3)}


class Branch(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.side, self.last = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.side(x).tanh())


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ba.TorchResponder(Branch(), "last", system="net")


@pytest.fixture
def piece(net):
    return net.pieces(ba.stimuli.table(np.eye(3), stimulus_id=list("abc"), kind="array"))[0]


def test_elements_that_share_a_coordinate_are_one_node():
    assert nodes_of("h", COORDS, ["layer"]).codes.tolist() == [0] * 6
    by_token = nodes_of("h", COORDS, ["token"])
    assert (by_token.codes.tolist(), by_token.labels["token"].tolist()) == ([0, 0, 1, 1, 2, 2], [0, 1, 2])
    assert len(nodes_of("h", COORDS, ["token", "unit"])) == 6
    some = nodes_of("h", COORDS, ["token"], [2, 0])
    assert (some.codes.tolist(), some.labels["token"].tolist(), len(some)) == ([1, 1, -1, -1, 0, 0], [2, 0], 2)


def test_nodes_that_do_not_exist_are_refused(net):
    with pytest.raises(ParameterError, match=r"'h' has no 'head'.*layer, token, unit"):
        nodes_of("h", COORDS, ["head"])
    with pytest.raises(ParameterError, match=r"Got 3 of layer 'h'.*`token` is one of 0, 1, 2"):
        nodes_of("h", COORDS, ["token"], [1, 3])
    with pytest.raises(ParameterError, match="Got nothing of layer 'h'"):
        nodes_of("h", COORDS, ["token"], [])
    with pytest.raises(ParameterError, match="each once"):
        nodes_of("h", COORDS, ["token"], [1, 1])
    with pytest.raises(ParameterError, match="Got no layers"):
        find_layers(net, [])
    with pytest.raises(ParameterError, match="'3', which matches none"):
        find_layers(net, 3)
    with pytest.raises(ParameterError, match=r"'frist'.*Did you mean 'first'"):
        find_layers(net, {"frist": [0]})
    assert find_layers(net, {"first": [0], "s*": None}) == {"first": [0], "side": None}
    with pytest.raises(CapabilityError, match="patch got a object"):
        check_inner(object(), owner="patch")


def test_copies_part_at_a_layer_where_they_can_and_at_the_inputs_where_not(net, piece):
    values, out = read_layers(net, piece, ["first", "side"])
    masks = torch.tensor([[True, False, False, True], [False] * 4])
    late = run_late(net, piece, {"first": masks}, values, out)
    torch.testing.assert_close(late, run_copies(net, piece, {"first": masks}, values, at_inputs=True))
    assert run_late(net, piece, {"side": masks}, values, out) is None  # three rows of a branch are added to three, not to twelve
    masks = {"side": masks}
    runs = run_copies(net, piece, masks, {"side": torch.zeros(3, 4)}, at_inputs=True)
    torch.testing.assert_close(runs[1], out)
    first = values["first"]
    side = net.model.side(first) * torch.tensor([0.0, 1.0, 1.0, 0.0])
    torch.testing.assert_close(runs[0], net.model.last(first + side.tanh()))


def test_a_layer_without_the_inputs_as_rows_is_named(piece):
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten(0), torch.nn.Unflatten(0, (3, 3))), "1", system="net")
    inner = net.pieces(ba.stimuli.table(np.eye(3), stimulus_id=list("abc"), kind="array"))[0]
    with pytest.raises(UnsupportedModuleError, match=r"'0' gives shape \(9,\) for 3 inputs"):
        read_layers(net, inner, ["0"])
