"""Stock networks are attributed as they come: complete, at inputs and at layers, in both directions, and no hook stays behind."""

import numpy as np
import pytest
import torch

import brainalign as ba

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

WORDS = "the cat sat on a mat".split()
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "initializer_range": 0.3}
IMAGE = {"image_size": 16, "patch_size": 8}
TEXT = {"vocab_size": 270, "max_position_embeddings": 32}
CONFIGS = {
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=270, n_embd=16, n_layer=2, n_head=2, n_positions=32, initializer_range=0.3
    ),
    "bert": lambda: transformers.BertConfig(**SMALL, **TEXT),
    "llama": lambda: transformers.LlamaConfig(**SMALL, **TEXT, num_key_value_heads=1),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL, **TEXT, num_key_value_heads=1),
    "vit": lambda: transformers.ViTConfig(**SMALL, **IMAGE),
    "clip": lambda: transformers.CLIPConfig(
        vision_config={**SMALL, **IMAGE, "projection_dim": 8}, text_config={**SMALL, **TEXT}, projection_dim=8
    ),
    "dinov2": lambda: transformers.Dinov2Config(**SMALL, **IMAGE),
    "wav2vec2": lambda: transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8, 8), conv_kernel=(4, 3), conv_stride=(4, 2), num_feat_extract_layers=2, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    ),
}  # fmt: skip


class Block(torch.nn.Module):
    """A residual block with a batch norm and a ReLU in place."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.relu = (
            torch.nn.Conv2d(4, 4, 3, padding=1),
            torch.nn.BatchNorm2d(4),
            torch.nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)) + x)


def resnet():
    torch.manual_seed(0)
    pooled = torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(4, 5)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), Block(), Block(), *pooled)
    return ba.TorchResponder(net, layers=["1", "5"], system="resnet")


def stimuli_of(name):
    rng, ids = np.random.default_rng(0), list("abc")
    if name in ("gpt2", "bert", "llama", "qwen2"):
        return ba.stimuli.table(WORDS, stimulus_id=[f"w{i}" for i in range(6)], kind="word")
    shape = (3, 400) if name == "wav2vec2" else (3, 3, 16, 16)
    return ba.stimuli.table(rng.normal(size=shape).astype("float32"), stimulus_id=ids, kind="array")


@pytest.fixture(scope="module", params=[*CONFIGS, "resnet"])
def network(request, tmp_path_factory):
    name = request.param
    if name == "resnet":
        return resnet().at("5"), "1", stimuli_of(name)
    folder = tmp_path_factory.mktemp("models") / name
    CONFIGS[name]().save_pretrained(folder)
    if name in ("gpt2", "bert", "llama", "qwen2"):
        pieces = tokenizers.Tokenizer(tokenizers.models.BPE())
        pieces.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
        pieces.train_from_iterator(
            WORDS, tokenizers.trainers.BpeTrainer(vocab_size=266, initial_alphabet=letters, show_progress=False)
        )
        transformers.PreTrainedTokenizerFast(tokenizer_object=pieces).save_pretrained(folder)
    tower = {"inputs": "image"} if name == "clip" else {}
    responder = ba.TransformersResponder(folder, layers="h.*", pretrained=False, random_state=0, **tower)
    return responder.at("h.2"), "h.1", stimuli_of(name)


def hooks_of(responder):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in responder.model.modules())


#: Normalisation makes networks blind to how far along the line from zero an input lies; the mean input is no such place.
HOW = {"baseline": "mean", "presentations": [1, 2], "neuroid": [0, 3]}


def test_attributions_are_complete_and_the_same_both_ways(network):
    responder, layer, stimuli = network
    before, weights = hooks_of(responder), [p.clone() for p in responder.model.parameters()]
    sizes = responder.pieces(stimuli)[0].inputs.shape
    groups = None if stimuli.attrs["kind"] == "word" else np.arange(sizes[-1]) % 4
    back, forth = (ba.attribute(responder, stimuli, groups=groups, mode=mode, n_steps=32, **HOW) for mode in ("vjp", "jvp"))
    assert back.dims == ("presentation", "neuroid", "part" if groups is None else "group")
    assert back.attrs["completeness_error"] < 0.05  # of ReLUs; of smooth networks far less
    np.testing.assert_allclose(forth.values, back.values, atol=2e-4 * np.abs(back.values).max())
    of_units = ba.attribute(responder, stimuli, wrt=layer, n_steps=32, **HOW)
    assert of_units.attrs["completeness_error"] < 0.05
    assert hooks_of(responder) == before
    assert all(torch.equal(p, w) for p, w in zip(responder.model.parameters(), weights, strict=True))


def test_layers_that_cut_the_network_conduct_what_changes(network):
    responder, layer, stimuli = network
    before = hooks_of(responder)
    found = ba.attribute(responder, stimuli, method="conductance", wrt=layer, n_steps=64, **HOW)
    assert found.dims == ("presentation", "neuroid", "unit")
    assert found.attrs["completeness_error"] < 0.05
    assert hooks_of(responder) == before
