"""Reading and altering inner layers: exact, in the graph, at every address, and nothing stays behind."""

from collections import namedtuple

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.networks.inside import swapped
from brainalign.core.errors import ParameterError, UnsupportedModuleError
from brainalign.core.protocols import InnerResponder


class Residual(torch.nn.Module):
    """Two branches that are added up, an in-place nonlinearity, and a module that is called twice."""

    def __init__(self):
        super().__init__()
        self.first, self.branch, self.last = torch.nn.Linear(6, 5), torch.nn.Linear(5, 5), torch.nn.Linear(5, 3)
        self.act, self.attention = torch.nn.ReLU(inplace=True), torch.nn.MultiheadAttention(5, 1, batch_first=True)
        self.unused = torch.nn.Linear(5, 5)

    def forward(self, x):
        x = self.act(self.first(x))
        x = x + self.act(self.branch(x))
        token = x[:, None]
        return self.last(x + self.attention(token, token, token)[0][:, 0])


@pytest.fixture
def stimuli():
    return ba.stimuli.table(np.random.default_rng(0).normal(size=(4, 6)), stimulus_id=list("abcd"), kind="array")


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ba.TorchResponder(Residual(), "last", system="net")


def hooks_of(responder):
    return [hook for m in responder.model.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]


def test_what_is_read_lies_in_the_graph_and_is_not_overwritten(net, stimuli):
    (piece,) = net.pieces(stimuli)
    with net.reading(["first", "act", "act#2"]) as found:
        out = piece.forward(piece.inputs.requires_grad_(True))
    first = net.model.first(piece.inputs)
    assert torch.equal(found["first"], first)  # although the ReLU behind it works in place
    assert torch.equal(found["act"], first.relu())
    assert torch.equal(found["act#2"], net.model.branch(first.relu()).relu())
    (by_layer,) = torch.autograd.grad(out.sum(), found["first"], retain_graph=True)
    (by_input,) = torch.autograd.grad(out.sum(), piece.inputs)
    torch.testing.assert_close(by_layer @ net.model.first.weight, by_input)
    assert not hooks_of(net)


def test_an_altered_layer_changes_what_lies_behind_it_only(net, stimuli):
    before = net.respond(stimuli, slice(0, 4))["last"]
    with net.altering({"branch": torch.zeros_like, "act#2": lambda value: value + 1}), net.reading(["first", "act#2"]) as found:
        after = net.respond(stimuli, slice(0, 4))["last"]
        assert torch.equal(found["act#2"], torch.ones(4, 5))
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_array_equal(net.respond(stimuli, slice(0, 4))["last"], before)


def test_a_network_that_works_in_place_overwrites_neither_its_input_nor_what_is_put_into_a_layer(net, stimuli):
    net.model.register_forward_pre_hook(lambda module, args: (args[0].mul_(2.0),))
    (piece,) = net.pieces(stimuli)
    before, held = piece.inputs.clone(), torch.full((4, 5), -1.0)
    first, second = piece.forward(piece.inputs), piece.forward(piece.inputs.requires_grad_(True))
    assert torch.equal(first, second)
    assert torch.equal(piece.inputs, before)
    with net.altering({"first": lambda value: held}):
        piece.forward(piece.inputs)
    assert torch.equal(held, torch.full((4, 5), -1.0))


def test_copies_part_at_the_layer_and_come_one_after_the_other(net, stimuli):
    piece = net.pieces(stimuli, np.array([2]))[0]
    factors = torch.tensor([1.0, 0.0, -2.0])
    with (
        net.altering({"branch": lambda v: v.repeat(3, 1) * factors[:, None]}, copies=3),
        net.reading(["first", "branch"]) as found,
    ):
        together = piece.forward(piece.inputs)
    assert (len(found["first"]), len(found["branch"])) == (1, 3)
    for factor, row in zip(factors, together, strict=True):
        with net.altering({"branch": lambda v, f=factor: v * f}):
            torch.testing.assert_close(piece.forward(piece.inputs)[0], row)


def test_responses_of_layers_before_the_copies_part_are_repeated(stimuli):
    torch.manual_seed(0)
    net = ba.TorchResponder(Residual(), ["first", "last"], system="net")
    piece = net.pieces(stimuli)[0]
    with net.altering({"act": lambda v: v.repeat(2, 1)}, copies=2):
        out = piece.forward(piece.inputs)
    torch.testing.assert_close(out, piece.forward(piece.inputs).repeat(2, 1))


def test_a_readout_is_altered_through_its_backbone_with_every_chain(net, stimuli):
    rng = np.random.default_rng(1)
    table = ba.stimuli.table(rng.normal(size=(20, 6)), stimulus_id=[f"w{i:02d}" for i in range(20)], kind="array",
                             onset_s=np.arange(20) * 0.5, duration_s=np.full(20, 0.5), run=["a"] * 20)  # fmt: skip
    features = ba.record(net, table, progress=False)
    bold = ba.responses(rng.normal(size=(5, 2)), stimulus_id=list("vwxyz"), neuroid_id=[1, 2], modality="fmri", system="sub-01",
                        run=["a"] * 5, onset_s=np.arange(5) * 2.0, duration_s=2.0)  # fmt: skip
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Ridge(alphas=[0.1])).fit(features, bold)
    voxel = ba.readout(net, model)
    assert isinstance(voxel, InnerResponder)
    assert isinstance(net, InnerResponder)
    assert voxel.inner_layers("act*") == ["act"]
    assert voxel.inner_layers() == [name for name, _ in voxel.backbone.model.named_modules() if name]
    with voxel.altering({"act": torch.zeros_like}):
        expected = voxel.respond(table, slice(0, 5))["readout"]
    pieces = list(voxel.pieces(table))
    with voxel.altering({"act": lambda v: torch.cat([v, torch.zeros_like(v)])}, copies=2):
        outs = [piece.forward(piece.inputs).reshape(-1, len(piece.rows), 2) for piece in pieces]
        with pytest.raises(ba.errors.CapabilityError, match="`copies` is for the forward of a piece"):
            voxel.respond(table, slice(0, 5))
    total = np.zeros((5, 2))
    for piece, out in zip(pieces, outs, strict=True):
        total[piece.rows] += out[-1].detach().numpy()
    np.testing.assert_allclose(total, expected, atol=1e-5)


def test_hooks_are_removed_after_an_error(net, stimuli):
    with pytest.raises(ZeroDivisionError), net.altering({"branch": lambda v: 1 / 0}, copies=2):
        net.respond(stimuli, slice(0, 1))
    assert not hooks_of(net)
    assert net._copies.n == 1
    assert net.respond(stimuli, slice(0, 2))["last"].shape == (2, 3)


def test_a_module_whose_call_is_never_reached_is_named(net, stimuli):
    with net.reading(["attention.out_proj"]) as found:
        net.respond(stimuli, slice(0, 1))
        with pytest.raises(UnsupportedModuleError, match=r"'attention\.out_proj' cannot be read.*module around it"):
            found["attention.out_proj"]
    with (
        pytest.raises(UnsupportedModuleError, match=r"'unused' \(Linear\) cannot be altered"),
        net.altering({"unused": torch.zeros_like}),
    ):
        net.respond(stimuli, slice(0, 1))
    with net.altering({"unused": torch.zeros_like}):
        pass  # nothing ran, so nothing was missed


def test_bad_changes_and_addresses_are_refused(net, stimuli):
    for change, got in ((lambda v: v[:, :2], r"\(1, 2\)"), (lambda v: None, "NoneType"), (lambda v: v.repeat(3, 1), r"\(3, 5\)")):
        with (
            pytest.raises(ParameterError, match=f"'branch' gave {got}.*Expected the same shape"),
            net.altering({"branch": change}),
        ):
            net.respond(stimuli, slice(0, 1))
    with pytest.raises(ParameterError, match=r"'brunch'.*Did you mean 'branch'"), net.reading(["brunch"]):
        pass
    with pytest.raises(ParameterError, match="one at a time"), net.altering({}, copies=2), net.altering({}, copies=2):
        pass


def test_a_network_is_another_while_it_is_altered(stimuli, tmp_path):
    net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh()), "1", system="net")
    whole, store = net.fingerprint(), tmp_path / "study.zarr"
    intact = ba.record(net, stimuli, store=store, progress=False).values
    for scale in (0.0, 2.0):
        with net.altering({"0": lambda value, scale=scale: scale * value}):
            altered, again = ba.record(net, stimuli, store=store, progress=False), net.at("1").fingerprint()
            assert not np.allclose(altered, intact)
            assert again == net.fingerprint() != whole
    assert net.fingerprint() == whole
    np.testing.assert_array_equal(ba.record(net, stimuli, store=store, progress=False), intact)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_module_is_refused(stimuli):
    scripted = torch.jit.script(torch.nn.Linear(6, 5))
    net = ba.TorchResponder(torch.nn.Sequential(scripted, torch.nn.Linear(5, 2)), "1", system="net")
    with pytest.raises(UnsupportedModuleError, match=r"'0' is a RecursiveScriptModule.*eager"), net.reading(["0"]):
        pass
    assert not net.model._forward_pre_hooks
    both = torch.nn.Sequential(torch.nn.Linear(6, 6), scripted)
    with pytest.raises(UnsupportedModuleError, match=r"'1' is a RecursiveScriptModule"):
        ba.TorchResponder(both, ["0", "1"], system="net").respond(stimuli, slice(0, 1))
    assert not both[0]._forward_hooks


def test_one_tensor_of_any_output_is_exchanged():
    a, b, new = torch.zeros(1), torch.ones(1), torch.full((1,), 2.0)
    Output = namedtuple("Output", "first second")
    assert swapped((a, (b, None)), b, new, "x")[1][0] is new
    assert swapped(Output(a, b), a, new, "x") == Output(new, b)
    assert swapped({"h": a, "again": [a]}, a, new, "x") == {"h": new, "again": [new]}

    class Odd(tuple):
        def __new__(cls, one, two):
            return super().__new__(cls, (one, two))

    with pytest.raises(UnsupportedModuleError, match="'stem' gives a Odd"):
        swapped(Odd(a, b), a, new, "stem")


def test_coordinates_of_an_inner_layer(net):
    assert net.inner_coords("branch", (5,))["unit"].tolist() == [0, 1, 2, 3, 4]
    conv = ba.TorchResponder(torch.nn.Sequential(torch.nn.Conv1d(2, 3, 1), torch.nn.Flatten()), "1", system="c")
    assert conv.inner_coords("0", (3, 2))["unit"].tolist() == [0, 0, 1, 1, 2, 2]
