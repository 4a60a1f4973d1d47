"""Stock networks: where their layers are, and what is refused."""

import json

import pytest
import torch

from brainalign.adapters.networks import hub
from brainalign.adapters.networks.capture import capture
from brainalign.core.errors import CapabilityError, ParameterError

transformers = pytest.importorskip("transformers")

BLOCKS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
PATCHES = {**BLOCKS, "image_size": 16, "patch_size": 8}
SOUND = {
    **BLOCKS, "conv_dim": [8, 8], "conv_kernel": [4, 4], "conv_stride": [4, 4], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
TEXT = {
    "Bert": BLOCKS, "Roberta": BLOCKS, "Albert": {**BLOCKS, "embedding_size": 16}, "MPNet": BLOCKS, "Electra": BLOCKS,
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 1, "eos_token_id": 2},
    "DistilBert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "Llama": {**BLOCKS, "num_key_value_heads": 1}, "GPTNeoX": BLOCKS,
    "OPT": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "T5": {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_kv": 8, "d_ff": 32},
}  # fmt: skip
IMAGE = {"ViT": PATCHES, "DeiT": PATCHES, "Dinov2": {**PATCHES, "mlp_ratio": 2}, "SiglipVision": PATCHES, "Beit": PATCHES}
MAPS = {
    "ResNet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "ConvNext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
    "Swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "image_size": 32, "patch_size": 4, "window_size": 2},
}
AUDIO = {"Wav2Vec2": SOUND, "Hubert": SOUND, "Wav2Vec2-stable": {**SOUND, "do_stable_layer_norm": True}}


def network(name: str, options: dict) -> hub.Network:
    torch.manual_seed(0)
    extra = {"vocab_size": 30} if name in TEXT else {}
    config = getattr(transformers, f"{name.partition('-')[0]}Config")(**options, **extra)
    tower, inputs = hub._tower(transformers.AutoModel.from_config(config).eval(), None, name)
    if hasattr(tower.config, "use_cache"):
        tower.config.use_cache = False
    return hub.Network(tower, inputs, None)


def example(inputs: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    if inputs == "text":
        return {"input_ids": torch.randint(5, 30, (2, 7)), "attention_mask": torch.ones(2, 7, dtype=torch.long)}
    return {"pixel_values": torch.randn(2, 3, 16, 16)} if inputs == "image" else {"input_values": torch.randn(2, 400)}


def layers(net: hub.Network, kind: str, arguments: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        return capture(net.model, lambda: net.model(**arguments), hub.taps_of(net, kind), lambda tap, value: value.clone())


@pytest.mark.parametrize(("name", "options"), {**TEXT, **IMAGE, **MAPS, **AUDIO}.items())
def test_hidden_states_are_those_of_transformers(name, options):
    net = network(name, options)
    arguments = {"pixel_values": torch.randn(2, 3, 32, 32)} if name in MAPS else example(net.inputs)
    with torch.inference_mode():
        expected = net.model(**arguments, output_hidden_states=True).hidden_states
    found = layers(net, "hidden", arguments)
    assert list(found) == [f"h.{i}" for i in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(found.values(), expected, strict=True))


@pytest.mark.parametrize(("name", "options"), {**TEXT, **IMAGE, **AUDIO}.items())
def test_heads_and_neurons_are_what_their_projection_takes(name, options):
    net = network(name, options)
    arguments = example(net.inputs)
    heads, neurons = layers(net, "heads", arguments), layers(net, "mlp", arguments)
    width = 64 if name == "GPT2" else 32
    assert [(key, value.shape[-1]) for key, value in heads.items()] == [("heads.1", 16), ("heads.2", 16)]
    assert [(key, value.shape[-1]) for key, value in neurons.items()] == [("mlp.1", width), ("mlp.2", width)]
    assert hub.n_heads(net.model) == 2


def test_neurons_and_heads_sum_to_the_residual_stream():
    net = network("GPT2", TEXT["GPT2"])
    arguments = example("text")
    hidden, heads, neurons = (layers(net, kind, arguments) for kind in ("hidden", "heads", "mlp"))
    block = net.model.h[0]
    with torch.inference_mode():
        total = hidden["h.0"] + block.attn.c_proj(heads["heads.1"]) + block.mlp.c_proj(neurons["mlp.1"])
    torch.testing.assert_close(total, hidden["h.1"])


def test_networks_without_such_layers_are_refused():
    with pytest.raises(CapabilityError, match=r"ResNetStage has 0 projections.*ba\.TorchResponder"):
        hub.taps_of(network("ResNet", MAPS["ResNet"]), "mlp")
    with pytest.raises(CapabilityError, match="Linear has no list of blocks"):
        hub.blocks_of(torch.nn.Linear(2, 2))


@pytest.mark.parametrize(("name", "count"), [("ViT", 1), ("DeiT", 2), ("SiglipVision", 0), ("Beit", 1)])
def test_tokens_before_the_patches(name, count):
    net = network(name, IMAGE[name])
    assert hub.n_prefix_tokens(net.model) == count
    assert layers(net, "hidden", example("image"))["h.1"].shape[1] == count + 4
    assert hub.patch_grid(net.model, (16, 24)) == (2, 3)


def test_registers_come_before_the_patches():
    options = {**IMAGE["Dinov2"], "num_register_tokens": 3}
    assert hub.n_prefix_tokens(network("Dinov2WithRegisters", options).model) == 4


@pytest.mark.parametrize(("name", "expected"), [("Bert", True), ("GPT2", False), ("Llama", False), ("T5", True)])
def test_direction_is_tried_out(name, expected):
    class Tokenizer:
        all_special_ids = (0, 1)

    net = network(name, TEXT[name])
    assert hub.is_bidirectional(hub.Network(net.model, "text", Tokenizer)) is expected


def test_a_network_with_two_towers_needs_a_choice():
    config = transformers.CLIPConfig(text_config={**BLOCKS, "vocab_size": 30}, vision_config=PATCHES, projection_dim=8)
    whole = transformers.AutoModel.from_config(config).eval()
    with pytest.raises(ParameterError, match=r"towers for \['image', 'text'\].*inputs=None"):
        hub._tower(whole, None, "clip")
    for inputs in ("text", "image"):
        net = hub.Network(*hub._tower(whole, inputs, "clip"), None)
        with torch.inference_mode():
            expected = net.model(**example(inputs), output_hidden_states=True).hidden_states
        found = layers(net, "hidden", example(inputs))
        assert all(torch.equal(a, b) for a, b in zip(found.values(), expected, strict=True))


def test_the_wrong_tower_is_refused():
    with pytest.raises(ParameterError, match="inputs='audio'"):
        hub._tower(transformers.AutoModel.from_config(transformers.BertConfig(**BLOCKS, vocab_size=30)), "audio", "bert")


@pytest.mark.parametrize(("limits", "expected"), [((None, 10**30), 512), ((None, 256), 256), ((64, 256), 64)])
def test_the_limit_of_a_pass_is_the_smallest(limits, expected):
    class Tokenizer:
        model_max_length = limits[1]

    assert hub.token_limit(network("Bert", TEXT["Bert"]).model, Tokenizer, limits[0]) == expected


def test_roberta_counts_positions_from_behind_its_padding():
    class Tokenizer:
        model_max_length = 10**30

    assert hub.token_limit(network("Roberta", TEXT["Roberta"]).model, Tokenizer, None) == 510
    assert hub.token_limit(network("T5", TEXT["T5"]).model, Tokenizer, None) is None


def test_code_of_a_network_is_never_run(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Model"}})
    )
    (tmp_path / "own.py").write_text("raise SystemExit('this code ran')\n")
    for pretrained in (True, False):
        with pytest.raises(CapabilityError, match=r"never runs.*ba\.TorchResponder"):
            hub.load(tmp_path, pretrained=pretrained, seed=0, inputs=None, dtype="float32", device="cpu")


def test_a_text_network_needs_its_tokenizer(tmp_path):
    transformers.BertConfig(**BLOCKS, vocab_size=30).save_pretrained(tmp_path)
    with pytest.raises(ParameterError, match=r"knows 5 tokens, all of them special\. Expected tokenizer\.json"):
        hub.load(tmp_path, pretrained=False, seed=0, inputs=None, dtype="float32", device="cpu")


def test_untrained_weights_leave_the_random_state_alone(tmp_path):
    transformers.ViTConfig(**PATCHES).save_pretrained(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    one = hub.load(tmp_path, pretrained=False, seed=5, inputs=None, dtype="float32", device="cpu")
    assert torch.equal(torch.rand(2), expected)
    again = hub.load(tmp_path, pretrained=False, seed=5, inputs="image", dtype="float32", device="cpu")
    other = hub.load(tmp_path, pretrained=False, seed=6, inputs=None, dtype="float32", device="cpu")
    weights = [net.model.layers[0].mlp.fc1.weight for net in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert one.prepare is None
    assert not any(p.requires_grad for p in one.model.parameters())
    assert not one.model.training
