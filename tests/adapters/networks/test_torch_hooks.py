"""Any module as a responder."""

import numpy as np
import pytest
import torch
import xarray as xr

from brainalign.adapters.networks.torch_hooks import TorchResponder
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.protocols import DifferentiableResponder
from brainalign.core.schema import as_labels


def table(values, kind="array") -> xr.Dataset:
    name, dims = ("text", ["presentation"]) if kind == "text" else ("values", ["presentation", *"abc"[: np.ndim(values) - 1]])
    data = as_labels(values) if kind == "text" else values
    ids = as_labels([f"s{i}" for i in range(len(values))])
    return xr.Dataset({name: (dims, data)}, coords={"stimulus_id": ("presentation", ids)}, attrs={"kind": kind})


@pytest.fixture
def convnet() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(inplace=True), torch.nn.Dropout(0.5), torch.nn.Flatten(),
        torch.nn.Linear(4 * 6 * 6, 5),
    )  # fmt: skip


@pytest.fixture
def pixels() -> xr.Dataset:
    return table(np.random.default_rng(0).normal(size=(7, 3, 8, 8)).astype(np.float32))


def test_it_keeps_the_protocol(convnet):
    responder = TorchResponder(convnet, layers=["0", "5"], system="net")
    assert isinstance(responder, DifferentiableResponder)
    assert (responder.layers, responder.system, responder.modality, responder.deterministic) == (("0", "5"), "net", "ann", True)


def test_responses_equal_a_plain_forward_pass(convnet, pixels):
    x = torch.as_tensor(pixels["values"].values)
    found = TorchResponder(convnet, layers="*", system="net").respond(pixels, slice(2, 6))
    convnet.eval()
    with torch.no_grad():
        for name, values in found.items():
            expected = convnet[: int(name) + 1](x[2:6])
            np.testing.assert_array_equal(values, expected.reshape(4, -1).numpy())
            assert values.dtype == np.float32
    assert list(found) == ["0", "1", "2", "3", "4", "5"]


def test_a_layer_is_read_before_it_is_overwritten_in_place(convnet, pixels):
    before = TorchResponder(convnet, layers=["1", "5"], system="net").respond(pixels, slice(0, 7))["1"]
    assert (before < 0).any()  # the next module rectifies in place


def test_coordinates_say_where_a_neuroid_is(convnet, pixels):
    responder = TorchResponder(convnet, layers=["0", "5"], system="net")
    coords, values = responder.neuroids(pixels), responder.respond(pixels, slice(0, 1))
    convnet.eval()
    with torch.no_grad():
        maps = convnet[0](torch.as_tensor(pixels["values"].values[:1]))[0].numpy()
    where = coords["0"]
    np.testing.assert_array_equal(maps[where["unit"], where["channel_y"], where["channel_x"]], values["0"][0])
    assert list(coords["5"]) == ["neuroid_id", "unit"]
    assert coords["5"]["neuroid_id"].tolist() == list(range(5))


def test_one_dimensional_convolutions_and_tokens():
    torch.manual_seed(0)
    waves = table(np.random.default_rng(0).normal(size=(2, 1, 16)).astype(np.float32))
    conv = TorchResponder(torch.nn.Sequential(torch.nn.Conv1d(1, 3, 5)), system="net").neuroids(waves)["0"]
    assert conv["token"].max() == 11
    assert conv["unit"].max() == 2
    tokens = table(np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32))
    linear = TorchResponder(torch.nn.Sequential(torch.nn.Linear(4, 3)), system="net").neuroids(tokens)["0"]
    assert (linear["token"].max(), linear["unit"].max()) == (5, 2)


def test_later_layers_never_run(convnet, pixels):
    calls = []
    convnet[5].register_forward_hook(lambda *args: calls.append(1))
    responder = TorchResponder(convnet, layers=["0", "2"], system="net")
    responder.respond(pixels, slice(0, 7))
    responder.neuroids(pixels)
    assert calls == []


def test_tuples_of_recurrent_networks(pixels):
    torch.manual_seed(0)
    rnn = torch.nn.Sequential(torch.nn.LSTM(4, 3, batch_first=True))
    sequences = table(np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32))
    found = TorchResponder(rnn, system="net").respond(sequences, slice(0, 2))["0"]
    with torch.inference_mode():  # another kernel than that with gradients
        expected = rnn[0](torch.as_tensor(sequences["values"].values))[0]
    np.testing.assert_allclose(found, expected.reshape(2, -1).numpy(), rtol=1e-5)  # other kernels where nothing has a gradient
    time_first = torch.nn.Sequential(torch.nn.Unflatten(0, (1, -1)), torch.nn.Flatten(0, 1), torch.nn.Module())
    time_first[2].forward = lambda x: x.transpose(0, 1)
    with pytest.raises(CapabilityError, match=r"\(6, 2, 4\) for a batch of 2"):
        TorchResponder(time_first, layers="2", system="net").respond(sequences, slice(0, 2))


class Twice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.relu, self.fc = torch.nn.ReLU(), torch.nn.Linear(4, 4)

    def forward(self, x):
        return self.relu(self.fc(self.relu(x)))


def test_a_reused_module_responds_with_its_first_call_or_the_one_asked_for():
    torch.manual_seed(0)
    model, data = Twice(), table(np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32))
    x = torch.as_tensor(data["values"].values)
    first = TorchResponder(model, layers=["relu", "fc"], system="net").respond(data, slice(0, 3))["relu"]
    np.testing.assert_array_equal(first, x.relu().numpy())
    responder = TorchResponder(model, layers=["relu#2", "relu"], system="net")
    assert responder.layers == ("relu", "relu#2")
    np.testing.assert_array_equal(responder.respond(data, slice(0, 3))["relu#2"], model(x).detach().numpy())
    with pytest.raises(CapabilityError, match="called 2 times"):
        TorchResponder(model, layers="relu#3", system="net").respond(data, slice(0, 3))


def test_globs_and_close_names(convnet):
    model = torch.nn.ModuleDict({"stem": convnet, "head": torch.nn.Linear(5, 2)})
    assert TorchResponder(model, layers="stem.?", system="net").layers == tuple(f"stem.{i}" for i in range(6))
    with pytest.raises(ParameterError, match="Did you mean 'stem'"):
        TorchResponder(model, layers="stemm", system="net")
    with pytest.raises(ParameterError, match=r"Expected a torch\.nn\.Module"):
        TorchResponder("resnet50", system="net")


def test_devices_are_those_of_the_mappings(convnet):
    found = "cuda" if torch.cuda.is_available() else "cpu"
    assert TorchResponder(convnet, system="net", device="auto").device.type == found
    for wrong in ("gpu", "cuda:99"):
        with pytest.raises(ParameterError, match=f"'device' parameter of TorchResponder .* Got '{wrong}'"):
            TorchResponder(convnet, system="net", device=wrong)


def test_the_mode_and_the_running_statistics_are_left_alone(convnet, pixels):
    convnet.train()
    mean = convnet[1].running_mean.clone()
    TorchResponder(convnet, layers="5", system="net").respond(pixels, slice(0, 7))
    assert all(module.training for module in convnet.modules())
    assert torch.equal(convnet[1].running_mean, mean)


def test_dropout_left_on_is_not_deterministic(convnet, pixels):
    still, noisy = TorchResponder(convnet, system="net"), TorchResponder(convnet, system="net", dropout=True)
    assert (still.deterministic, noisy.deterministic) == (True, False)
    one, two = (noisy.respond(pixels, slice(0, 7)) for _ in range(2))
    assert not np.array_equal(one["5"], two["5"])
    assert np.array_equal(one["1"], two["1"])
    assert TorchResponder(convnet[:2], system="net", dropout=True).deterministic
    same = [
        TorchResponder(convnet, system="net", dropout=True, random_state=1).respond(pixels, slice(0, 7))["5"] for _ in range(2)
    ]
    np.testing.assert_array_equal(*same)
    seeded = noisy.seeded()
    assert seeded.seeded().random_state == seeded.at("5").random_state == seeded.random_state
    assert len({still.fingerprint(), noisy.fingerprint(), seeded.fingerprint(), noisy.seeded().fingerprint()}) == 4
    assert still.seeded() is still
    assert not TorchResponder(convnet, system="net", deterministic=False).deterministic


def test_one_layer_and_some_neuroids(convnet, pixels):
    responder = TorchResponder(convnet, layers=["0", "5"], system="net")
    part = responder.at("0", neuroid=[17, 3])
    np.testing.assert_array_equal(part.respond(pixels, slice(0, 7))["0"], responder.respond(pixels, slice(0, 7))["0"][:, [17, 3]])
    assert part.neuroids(pixels)["0"]["neuroid_id"].tolist() == [17, 3]
    assert (part.layers, responder.layers) == (("0",), ("0", "5"))
    assert part.fingerprint() != responder.at("0").fingerprint()
    with pytest.raises(ParameterError, match="'7'"):
        responder.at("7")
    with pytest.raises(ParameterError, match="neuroid 144"):
        responder.at("0", neuroid=144).neuroids(pixels)


def test_blocks_cover_every_row_once(convnet, pixels):
    assert TorchResponder(convnet, system="net").blocks(pixels, 3) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    with pytest.raises(ParameterError, match="batch_size"):
        TorchResponder(convnet, system="net").blocks(pixels, 0)


def test_presentations_are_those_of_the_stimuli(convnet, pixels):
    pixels = pixels.assign_coords(run=("presentation", as_labels(list("aabbccc"))))
    rows = TorchResponder(convnet, system="net").presentations(pixels)
    assert list(rows["run"]) == list("aabbccc")
    assert rows["stimulus_id"][6] == "s6"


def test_images_become_channels_in_0_to_1(monkeypatch):
    from brainalign.adapters.networks import torch_hooks

    seen = []
    model = torch.nn.Sequential(torch.nn.Identity())
    model[0].register_forward_hook(lambda module, args, output: seen.append(output))
    images = [np.full((2, 4, 3), 255, dtype=np.uint8), np.zeros((2, 4, 3), dtype=np.uint8)]
    images[1][1, 2, 0] = 51
    monkeypatch.setattr(torch_hooks, "read_content", lambda stimuli, rows: [images[i] for i in rows])
    responder = TorchResponder(model, system="net")
    data = table(np.zeros((2, 1)), kind="image")
    responder.respond(data, slice(0, 2))
    assert seen[0].shape == (2, 3, 2, 4)
    assert seen[0][0].min() == 1
    assert seen[0][1, 0, 1, 2] == pytest.approx(0.2)
    images[1] = images[1][:1]
    with pytest.raises(ParameterError, match=r"2 sizes, \(1, 4, 3\) and \(2, 4, 3\)"):
        responder.respond(data, slice(0, 2))


def test_image_files_become_channels_whether_of_one_size_or_not(tmp_path):
    from PIL import Image

    for i, size in enumerate([(4, 2), (4, 2), (3, 3)]):  # width, height
        Image.new("RGB", size, (255, 0, 51)).save(tmp_path / f"{i}.png")
    data = xr.Dataset(
        {"path": ("presentation", as_labels([f"{i}.png" for i in range(3)]))},
        coords={"stimulus_id": ("presentation", as_labels(list("abc")))},
        attrs={"kind": "image", "root": str(tmp_path)},
    )
    responder = TorchResponder(torch.nn.Sequential(torch.nn.Identity()), system="net")
    values = responder.respond(data, slice(0, 2))["0"].reshape(2, 3, 2, 4)
    np.testing.assert_allclose(values[1, :, 1, 3], [1, 0, 0.2], atol=1e-6)
    sizes = []
    own = TorchResponder(
        torch.nn.Sequential(torch.nn.Identity()),
        system="net",
        preprocess=lambda images: sizes.append([image.shape for image in images]) or torch.zeros(len(images), 1),
    )
    own.respond(data, slice(0, 2))
    own.respond(data, slice(0, 3))
    assert sizes == [[(2, 4, 3)] * 2, [(2, 4, 3)] * 2 + [(3, 3, 3)]]


def test_images_as_float_arrays_go_in_as_they_are(pixels):
    responder = TorchResponder(torch.nn.Sequential(torch.nn.Identity()), system="net")
    found = responder.respond(pixels.assign_attrs(kind="image"), slice(0, 2))["0"]
    np.testing.assert_array_equal(found, pixels["values"].values[:2].reshape(2, -1))


def test_text_needs_a_preprocess(convnet):
    texts = table(["one", "three"], kind="text")
    with pytest.raises(ParameterError, match=r"no `preprocess`.*'one'"):
        TorchResponder(convnet, system="net").respond(texts, slice(0, 2))

    def lengths(content):
        return torch.tensor([[float(len(text))] for text in content])

    found = TorchResponder(torch.nn.Sequential(torch.nn.Identity()), system="net", preprocess=lengths).respond(texts, slice(0, 2))
    assert found["0"].tolist() == [[3], [5]]
    with pytest.raises(ParameterError, match=r"\(1, 1\) for 2 stimuli"):
        TorchResponder(convnet, system="net", preprocess=lambda content: lengths(content)[:1]).respond(texts, slice(0, 2))
    ids = TorchResponder(
        torch.nn.Sequential(torch.nn.Embedding(9, 2)), system="net", preprocess=lambda c: lengths(c).long()[:, 0]
    )
    assert ids.respond(texts, slice(0, 2))["0"].shape == (2, 2)
    assert ids.pieces(texts)[0].inputs.tolist() == [3, 5]


def test_the_fingerprint_knows_weights_layers_and_preprocessing(convnet, pixels):
    responder = TorchResponder(convnet, layers="5", system="net")
    before = responder.fingerprint()
    others = [
        TorchResponder(convnet, layers="4", system="net"),
        TorchResponder(convnet, layers="5", system="net", preprocess=lambda content: torch.as_tensor(content)),
        TorchResponder(convnet, layers="5", system="net", dropout=True),
    ]
    assert len({before, *(other.fingerprint() for other in others)}) == 4
    responder.respond(pixels, slice(0, 2))
    assert responder.fingerprint() == before
    with torch.no_grad():
        convnet[5].bias.add_(1)
    assert responder.fingerprint() != before


def test_pieces_give_the_responses_and_their_gradients(convnet, pixels):
    convnet.double().train()
    model = torch.nn.Sequential(convnet[0], convnet[1], torch.nn.Tanh(), *convnet[3:])
    responder = TorchResponder(model, layers=["2", "5"], system="net")
    pieces = responder.pieces(pixels, np.array([5, 1]))
    (piece,) = pieces
    assert (piece.dims, piece.parts, piece.rows.tolist()) == (("channel", "y", "x"), None, [5, 1])
    point = piece.inputs.clone().requires_grad_(True)
    out = piece.forward(point)
    whole = np.concatenate(list(responder.respond(pixels, slice(0, 7)).values()), axis=1)
    np.testing.assert_allclose(out.detach().numpy(), whole[[5, 1]], rtol=1e-5, atol=1e-6)
    column = out.shape[1] - 2
    (gradient,) = torch.autograd.grad(out[:, column].sum(), point)
    step = torch.zeros_like(piece.inputs)
    step[0, 1, 4, 3] = 1e-2
    slope = (piece.forward(piece.inputs + step) - piece.forward(piece.inputs - step))[:, column] / 2e-2
    assert slope[0].item() == pytest.approx(gradient[0, 1, 4, 3].item(), rel=1e-2, abs=1e-5)
    assert slope[1].item() == 0
    assert model.training


def test_pieces_are_small_and_cover_the_rows(convnet):
    many = table(np.zeros((80, 3, 8, 8), dtype=np.float32))
    pieces = TorchResponder(convnet, layers="5", system="net").pieces(many)
    assert np.concatenate([piece.rows for piece in pieces]).tolist() == list(range(80))
    assert max(len(piece.inputs) for piece in pieces) <= 32


@pytest.mark.parametrize(("size", "dims"), [((4,), ("feature",)), ((2, 4), ("channel", "sample")), ((1, 2, 3, 4), None)])
def test_dims_follow_the_input(size, dims):
    data = np.zeros((2, *size), dtype=np.float32)
    stimuli = xr.Dataset(
        {"values": (["presentation", *"abcd"[: len(size)]], data)},
        coords={"stimulus_id": ("presentation", as_labels(["a", "b"]))},
        attrs={"kind": "array"},
    )
    (piece,) = TorchResponder(torch.nn.Sequential(torch.nn.Tanh()), system="net").pieces(stimuli)
    assert piece.dims == (dims or ("channel", "z", "y", "x"))
