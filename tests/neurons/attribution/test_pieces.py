"""Pieces are asked at inputs and layers, and through features where these are fewer."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import UnsupportedModuleError
from brainalign.neurons.attribution.inputs import Baseline
from brainalign.neurons.attribution.methods import METHODS
from brainalign.neurons.attribution.pieces import Asked, ask, holds_no_stimulus


class Turned(torch.nn.Module):
    def forward(self, x):
        return x.T


class Branch(torch.nn.Module):
    """What a batch norm gives is overwritten in place, and added to what was not."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.act = torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU(inplace=True)
        self.side, self.last = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

    def forward(self, x):
        x = self.act(self.norm(self.first(x)))
        return self.last(torch.tanh(self.side(x) + x))


class Recurrent(torch.nn.Module):
    """Steps come before rows within it; a scale is one number for all rows."""

    def __init__(self):
        super().__init__()
        self.rnn, self.scale, self.last = torch.nn.RNN(1, 3), torch.nn.Identity(), torch.nn.Linear(3, 2)

    def forward(self, x):
        steps, _ = self.rnn(x.T.unsqueeze(-1))
        return self.last(steps[-1] * self.scale(x.square().mean()))


@pytest.fixture
def case():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    values = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    table = ba.stimuli.table(values, stimulus_id=list("abcdef"), kind="array")
    return ba.TorchResponder(net, layers=["1", "2"], system="net"), table


def asked(responder, table, columns, method="integrated-gradients", **options):
    baseline = Baseline("zero", responder, table, n_draws=1, seed=0)
    return Asked(responder, METHODS[method], baseline, np.asarray(columns), 16, "auto", None, 0, **options)


def test_only_the_wanted_rows_are_answered(case):
    responder, table = case
    unit = responder.at("2")
    (piece,) = unit.pieces(table)
    (found,) = ask(asked(unit, table, [1]), piece, np.array([4, 2]))
    assert found.values.shape == (2, 1, 4)
    assert found.dims == ("feature",)
    total = found.values.sum(dim=2)
    torch.testing.assert_close(total, found.responses[1] - found.responses[0], atol=1e-6, rtol=0)


def test_features_are_asked_where_they_are_fewer(case, monkeypatch):
    responder, table = case
    layer = responder.at("1")
    features = ba.record(layer, table, progress=False)
    brain = ba.responses(np.random.default_rng(1).normal(size=(6, 8)), stimulus_id=features.stimulus_id, neuroid_id=range(8),
                         modality="fmri", system="s")  # fmt: skip
    voxels = ba.readout(layer, ba.Ridge(alphas=[1.0]).fit(features, brain))
    (piece,) = voxels.pieces(table)
    asked_for = []
    answer = METHODS["integrated-gradients"].answer
    monkeypatch.setitem(
        METHODS, "integrated-gradients",
        METHODS["integrated-gradients"].__class__(lambda q: asked_for.append(len(q.outputs)) or answer(q)),
    )  # fmt: skip
    for columns in ([0, 5], range(8)):
        (found,) = ask(asked(voxels, table, columns), piece, np.arange(6))
        assert found.values.shape == (6, len(columns), 4)
    assert asked_for == [2, 3]
    layer.model.to(torch.bfloat16)  # of whose inputs there are numbers, and of its responses more digits
    half = ba.readout(ba.TorchResponder(layer.model, layers="1", system="net"), ba.Ridge(alphas=[1.0]).fit(features, brain))
    (low,) = ask(asked(half, table, range(8)), half.pieces(table)[0], np.arange(6))
    assert low.values.dtype == torch.float32
    torch.testing.assert_close(low.values.double(), found.values.double(), atol=0.05, rtol=0)


def test_each_layer_is_answered_and_one_without_rows_is_refused(case):
    responder, table = case
    unit = responder.at("2")
    (piece,) = unit.pieces(table)
    found = list(ask(asked(unit, table, [0], layers=("0", "1")), piece, np.arange(6)))
    assert [(one.layer, one.values.shape) for one in found] == [("0", (6, 1, 3)), ("1", (6, 1, 3))]
    assert sorted(found[0].labels) == ["unit_channel", "unit_id"]
    turned = torch.nn.Sequential(Turned(), Turned(), torch.nn.Linear(4, 2))
    other = ba.TorchResponder(turned, layers="2", system="net")
    with pytest.raises(UnsupportedModuleError, match=r"'0' gives shape \(4, 6\) for 6 inputs"):
        list(ask(asked(other, table, [0], layers=("0",)), other.pieces(table)[0], np.arange(6)))


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion"])
@pytest.mark.parametrize("layer", ["side", "norm"])
def test_layers_of_a_branch_and_before_a_module_in_place_are_attributed(case, method, layer):
    _, table = case
    torch.manual_seed(0)
    net = Branch()
    responder = ba.TorchResponder(net, layers="last", system="net")
    a = ba.attribute(responder, table, wrt=layer, baseline="silent", method=method, n_steps=32)
    net.eval()
    with torch.no_grad():
        normed = net.norm(net.first(torch.as_tensor(table["values"].values)))
        held = {"norm": normed, "side": net.side(normed.relu())}[layer]

    def behind(held):
        x = held.relu() if layer == "norm" else normed.relu()
        return net.last(torch.tanh((net.side(x) if layer == "norm" else held) + x))

    found = torch.zeros(6, 2, 3)
    for k in range(3):
        if method == "occlusion":
            found[:, :, k] = behind(held) - behind(held * (torch.arange(3) != k))
            continue
        nodes, weights = np.polynomial.legendre.leggauss(32)
        for at, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            x = (at * held).requires_grad_()
            for j in range(2):
                (gradient,) = torch.autograd.grad(behind(x)[:, j].sum(), x)
                found[:, j, k] += weight * gradient[:, k] * held[:, k]
    np.testing.assert_allclose(a.values, found.detach(), atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "shapes"), [("rnn", (r"\(4, 97, 3\) for 97", r"\(4, 6, 3\) for 6")), ("scale", (r"\(\) for 97", r"\(\) for 6"))]
)
def test_a_layer_that_does_not_hold_inputs_as_rows_is_named(case, layer, shapes):
    _, table = case
    responder = ba.TorchResponder(Recurrent(), layers="last", system="net")
    for method, shape in zip(("conductance", "integrated-gradients"), shapes, strict=True):
        with pytest.raises(UnsupportedModuleError, match=rf"'{layer}' gives shape {shape} inputs.*first dim.*batch_first"):
            list(ask(asked(responder, table, [0], method, layers=(layer,)), responder.pieces(table)[0], np.arange(6)))


def test_constants_hold_no_stimulus(case):
    responder, table = case
    (piece,) = responder.pieces(table)
    assert not holds_no_stimulus(piece)
    assert holds_no_stimulus(piece.__class__(piece.inputs, piece.forward, piece.rows, np.full((6, 1), -1), piece.dims))
