"""Weights from files."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import brainalign as ba
from brainalign.adapters.networks.checkpoints import load_checkpoint
from brainalign.core.errors import FormatError


def net(seed=0, width=2):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width))


def saved(path, state):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_weights_of_the_file_are_those_of_the_network(tmp_path, name):
    file, model = saved(tmp_path / name, net(1).state_dict()), net(0)
    assert load_checkpoint(model, file) == {"file": name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    for key, value in net(1).state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_a_training_checkpoint_and_names_of_a_parallel_network(tmp_path):
    state = {f"module.{name}": value for name, value in net(1).state_dict().items()}
    model = net(0)
    load_checkpoint(model, saved(tmp_path / "a.pth", {"state_dict": state, "epoch": 3}))
    assert torch.equal(model[0].weight, net(1)[0].weight)


def test_a_tied_weight_is_not_missing(tmp_path):
    def tied(seed):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
        torch.nn.init.normal_(model[0].weight, generator=torch.Generator().manual_seed(seed))
        model[1].weight = model[0].weight
        return model

    model = tied(0)
    load_checkpoint(model, saved(tmp_path / "a.safetensors", {"0.weight": tied(1)[0].weight.detach()}))
    assert torch.equal(model[1].weight, tied(1)[0].weight)


def test_what_does_not_fit_is_named_and_the_network_left_as_it_was(tmp_path):
    state = net(1).state_dict()
    del state["0.bias"]
    state |= {"head.weight": torch.zeros(2), "1.bias": torch.zeros(7)}
    model = net(0)
    said = r"Sequential with 7 weights: it lacks '0.bias'; holds besides 'head.weight'; has of other shape '1.bias \(7,\) for \(2,\)'"
    with pytest.raises(FormatError, match=said):
        load_checkpoint(model, saved(tmp_path / "a.safetensors", state))
    for name, value in net(0).state_dict().items():
        assert torch.equal(model.state_dict()[name], value)


def test_files_without_a_state_dict(tmp_path):
    with pytest.raises(FormatError, match=r"a.pt' holds Tensor. Expected a state dict"):
        load_checkpoint(net(), saved(tmp_path / "a.pt", torch.zeros(3)))
    with pytest.raises(FormatError, match=r"holds 'epoch'. Expected a state dict"):
        load_checkpoint(net(), saved(tmp_path / "b.pt", {"epoch": 3}))
    torch.save(net(), tmp_path / "c.pt")  # a pickled module would run code
    with pytest.raises(FormatError, match=r"c.pt' could not be read as a state dict of torch"):
        load_checkpoint(net(), tmp_path / "c.pt")
    with pytest.raises(FormatError, match="no file"):
        load_checkpoint(net(), tmp_path / "d.pt")


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt"])
def test_damage(tmp_path, survives_damage, name):
    file = saved(tmp_path / name, net(1).state_dict())
    assert survives_damage(file, lambda: load_checkpoint(net(), file), header=600, examples=25)


def test_a_responder_loads_its_checkpoint_and_the_record_names_it(tmp_path):
    file = saved(tmp_path / "a.safetensors", net(1).state_dict())
    stimuli = ba.stimuli.table(np.eye(3, dtype=np.float32), stimulus_id=list("abc"), kind="array")
    loaded = ba.TorchResponder(net(0), layers="0", system="net", checkpoint=file)
    plain = ba.TorchResponder(net(1), layers="0", system="net")
    assert loaded.fingerprint() == plain.fingerprint()  # weights are weights, wherever they come from
    assert loaded.fingerprint() != ba.TorchResponder(net(0), layers="0", system="net").fingerprint()
    x = ba.record(loaded, stimuli)
    np.testing.assert_array_equal(x.values, ba.record(plain, stimuli).values)
    assert ba.core.provenance(x).steps[-1]["params"]["checkpoint"] == loaded.checkpoint
    assert plain.checkpoint is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_weights_that_are_not_finite_are_named_and_the_network_left_as_it_was(tmp_path, value):
    state, model = net(1).state_dict(), net(0).half() if value == 1e30 else net(0)
    before = {name: there.clone() for name, there in model.state_dict().items()}
    state["0.weight"][1, 2] = value
    with pytest.raises(
        FormatError, match=r"a.safetensors' holds 1 of 6 values in '0.weight' that are NaN or infinite as torch.float"
    ):
        load_checkpoint(model, saved(tmp_path / "a.safetensors", state))
    assert all(torch.equal(there, before[name]) for name, there in model.state_dict().items())


def test_a_mask_may_be_infinite_and_no_buffer_nan(tmp_path):
    model = net(0)
    model.register_buffer("mask", torch.zeros(3))
    state = model.state_dict() | {"mask": torch.tensor([0.0, -torch.inf, 0.0])}
    load_checkpoint(model, saved(tmp_path / "a.pt", state))
    assert torch.isinf(model.mask).sum() == 1
    with pytest.raises(FormatError, match=r"holds 1 of 3 values in 'mask' that are NaN"):
        load_checkpoint(model, saved(tmp_path / "b.pt", state | {"mask": torch.tensor([0.0, torch.nan, 0.0])}))
