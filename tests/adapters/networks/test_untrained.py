"""Untrained copies: every weight drawn anew, as the network's own modules draw it, and the trained one left alone."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.networks.untrained import draw_weights
from brainalign.adapters.networks.weights import WeightsHash
from brainalign.core.errors import CapabilityError

IMAGES = ba.stimuli.table(
    np.random.default_rng(0).random((6, 3, 8, 8), dtype=np.float32), stimulus_id=list("abcdef"), kind="array"
)


class Net(torch.nn.Module):
    """What networks are made of; every weight is far from where it started."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm = torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)
        self.attention = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.recurrent = torch.nn.LSTM(8, 8, batch_first=True)
        self.out = torch.nn.Linear(8, 4)
        self.register_buffer("positions", torch.arange(8.0))
        with torch.no_grad():
            for value in (*self.parameters(), self.norm.running_mean, self.norm.running_var):
                value.add_(5.0)

    def forward(self, x):
        tokens = self.norm(self.conv(x)).flatten(2).transpose(1, 2) + self.positions
        return self.out(self.recurrent(self.attention(tokens, tokens, tokens)[0])[0][:, -1])


def test_a_copy_is_drawn_and_the_network_stays_as_it_was():
    net = Net()
    responder = ba.TorchResponder(net, layers=["conv", "out"], system="net")
    before, state = WeightsHash(net)(), torch.random.get_rng_state()
    copies = [responder.untrained(seed) for seed in (0, 1, 0)]
    assert WeightsHash(net)() == before
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [copy.fingerprint() == copies[0].fingerprint() for copy in copies] == [True, False, True]
    for name, value in copies[0].model.state_dict().items():
        if value.is_floating_point() and name != "positions":
            assert float(value.mean()) < 3.0, f"{name} stayed trained"
    assert torch.equal(copies[0].model.positions, net.positions)
    assert (copies[1].system, copies[1].random_state, copies[1].layers) == ("net-untrained", 1, responder.layers)


def test_the_draw_is_that_of_the_constructor():
    """Each module draws what it draws when it is made; with a single one even the numbers are the same."""
    torch.manual_seed(3)
    fresh = torch.nn.Linear(5, 4)
    drawn = torch.nn.Linear(5, 4)
    draw_weights(drawn, 3)
    assert torch.equal(fresh.weight, drawn.weight)
    assert torch.equal(fresh.bias, drawn.bias)


def test_what_is_recorded_differs_by_seed_and_only_by_seed():
    responder = ba.TorchResponder(Net(), layers=["conv", "out"], system="net")
    trained, one, other = (
        ba.record(r, IMAGES, progress=False) for r in (responder, responder.untrained(0), responder.untrained(1))
    )
    again = ba.record(responder.untrained(0), IMAGES, progress=False)
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert not np.allclose(one, trained)
    np.testing.assert_array_equal(one.neuroid_id, trained.neuroid_id)
    assert set(one.system.values) == {"net-untrained"}


def test_one_layer_of_a_responder_stays_one_layer():
    layer = ba.TorchResponder(Net(), layers=["conv", "out"], system="net").at("out", [1, 3])
    x = ba.record(layer.untrained(0), IMAGES, progress=False)
    assert x.shape == (6, 2)
    assert x.neuroid_id.values.tolist() == [1, 3]


def test_a_checkpoint_is_not_said_of_the_untrained(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "net.pt")
    responder = ba.TorchResponder(Net(1), layers="out", system="net", checkpoint=tmp_path / "net.pt")
    assert responder.checkpoint["file"]
    assert responder.untrained(0).checkpoint is None


class WithToken(Net):
    def __init__(self):
        super().__init__()
        self.token = torch.nn.Parameter(torch.zeros(8))


class FrozenNorm(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running_mean", torch.ones(3))
        self.out = torch.nn.Linear(3, 2)


def test_weights_behind_a_norm_are_drawn_too():
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3))
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(100.0)
    draw_weights(layer, 0)
    assert float(layer.weight.detach().abs().max()) <= 0.5  # 1 / sqrt(4)


@pytest.mark.parametrize(("network", "name"), [(WithToken, "'token'"), (FrozenNorm, "'running_mean'")])
def test_weights_that_nothing_draws_are_named_and_never_stay_trained(network, name):
    with pytest.raises(
        CapabilityError, match=rf"1 of \d+ weights of {network.__name__} are drawn by none of its modules.*{name}"
    ):
        ba.TorchResponder(network(), layers="out", system="net").untrained(0)


def test_a_network_without_weights_has_no_untrained_one():
    with pytest.raises(CapabilityError, match="Flatten has no weights"):
        draw_weights(torch.nn.Flatten(), 0)


STOCK = {
    "bert": lambda t: t.BertModel(t.BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)),
    "gpt2": lambda t: t.GPT2Model(t.GPT2Config(vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=16)),
    "vit": lambda t: t.ViTModel(
        t.ViTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4)
    ),
    "clip vision": lambda t: t.CLIPVisionModel(
        t.CLIPVisionConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=8, patch_size=4)
    ),
    "resnet": lambda t: t.ResNetModel(t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])),
    "wav2vec2": lambda t: t.Wav2Vec2Model(
        t.Wav2Vec2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24, conv_dim=(8, 8), conv_stride=(5, 2),
            conv_kernel=(10, 3), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=30,
        )
    ),
    "llama": lambda t: t.LlamaModel(
        t.LlamaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STOCK)
def test_stock_networks_are_drawn_as_their_configuration_says(name, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = STOCK[name](transformers)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(5.0)
    made.save_pretrained(tmp_path)
    model = type(made).from_pretrained(tmp_path).eval()  # marks its weights as trained
    draw_weights(model, 1)
    torch.manual_seed(1)
    fresh = STOCK[name](transformers).state_dict()
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            assert abs(float(value.mean() - fresh[key].mean())) < 1.0, f"{key} stayed trained"
            np.testing.assert_allclose(value.std(correction=0), fresh[key].std(correction=0), rtol=0.7, atol=0.02, err_msg=key)


def test_some_modules_alone_are_drawn_anew():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))
    responder = ba.TorchResponder(net, layers="2", system="net")
    assert responder.weighted_modules() == ["0", "2"]
    other = responder.untrained(1, modules=["2"])
    assert torch.equal(other.model[0].weight, net[0].weight)
    assert torch.equal(other.model[2].weight, responder.untrained(1).model[2].weight)
