"""Stock Hugging Face networks as responders."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from brainalign.adapters.networks.transformers import TransformersResponder
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.protocols import DifferentiableResponder
from brainalign.core.schema import as_labels

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghij"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
RNG = np.random.default_rng(0)
WORDS = ["".join(RNG.choice(list(LETTERS), size=n)) for n in RNG.integers(1, 5, size=23)]
RUNS = ["1"] * 13 + ["2"] * 10
TEXTS = [" ".join(WORDS[:n]) for n in (3, 9, 1, 6)]


def table(values, kind, **coords) -> xr.Dataset:
    is_text = kind in ("text", "word")
    dims = ["presentation", *"abc"[: np.ndim(values) - 1]]
    content = (
        {"text": ("presentation", as_labels(values))} if is_text else {"values": (dims, np.asarray(values, dtype=np.float32))}
    )
    labels = {"stimulus_id": [f"s{i}" for i in range(len(values))], **coords}
    return xr.Dataset(content, coords={name: ("presentation", as_labels(v)) for name, v in labels.items()}, attrs={"kind": kind})


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=24,
        max_position_embeddings=64, initializer_range=0.5,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate(PIECES)}, model_max_length=64).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False))
    transformers.PreTrainedTokenizerFast(tokenizer_object=backend).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=280, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0, initializer_range=0.5
    )
    transformers.GPT2Model(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny-vit"
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16, patch_size=4
    )
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def words():
    return table(WORDS, "word", run=RUNS)


@pytest.fixture(scope="module")
def texts():
    return table(TEXTS, "text")


def whole(responder, stimuli, batch_size=2):
    parts = [responder.respond(stimuli, block) for block in responder.blocks(stimuli, batch_size)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def by_hand(folder, words, runs, context, stride, pieces="mean"):
    """One window at a time, unpadded, with ``output_hidden_states``: (layer, word, unit)."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for run in dict.fromkeys(runs):
        mine = [word for word, other in zip(words, runs, strict=True) if other == run]
        for start in range(0, len(mine), stride):
            first = max(0, start - context)
            encoded = tokenizer([mine[first : start + stride]], is_split_into_words=True, return_tensors="pt")
            with torch.no_grad():
                hidden = torch.stack(model(**encoded, output_hidden_states=True).hidden_states)[:, 0]
            owner = np.array([-1 if i is None else i for i in encoded.word_ids(0)])
            for i in range(start - first, len(mine[first : start + stride])):
                part = hidden[:, owner == i]
                rows.append({"mean": part.mean(1), "first": part[:, 0], "last": part[:, -1], "max": part.amax(1)}[pieces])
    return torch.stack(rows, dim=1).numpy()


def test_it_keeps_the_protocol(bert):
    responder = TransformersResponder(bert)
    assert isinstance(responder, DifferentiableResponder)
    assert responder.layers == ("h.0", "h.1", "h.2", "h.3")
    assert (responder.system, responder.modality, responder.deterministic, responder.inputs) == ("tiny-bert", "ann", True, "text")
    assert responder.max_length == 64


@pytest.mark.parametrize("pieces", ["mean", "first", "last", "max"])
def test_words_in_context_equal_a_loop_over_windows(bert, words, pieces):
    responder = TransformersResponder(bert, context_words=4, stride_words=3, pool_pieces=pieces)
    found = whole(responder, words)
    expected = by_hand(bert, WORDS, RUNS, 4, 3, pieces)
    for i, values in enumerate(found.values()):
        assert values.dtype == np.float32
        np.testing.assert_allclose(values, expected[i], atol=1e-5)


def test_a_causal_network_takes_words_in_context(gpt2, words):
    responder = TransformersResponder(gpt2, context_words=4, stride_words=3)
    found = whole(responder, words)["h.2"]
    shorter = whole(responder, words.isel(presentation=slice(0, 12)))["h.2"]
    np.testing.assert_allclose(found[:12], shorter, atol=1e-5)  # no word hears the next one
    one, other = (whole(TransformersResponder(gpt2, context_words=c), words)["h.2"] for c in (0, 32))
    np.testing.assert_allclose(one, other, atol=1e-5)  # each run fits into one window


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_the_batch_changes_nothing(bert, words, texts, batch_size):
    responder = TransformersResponder(bert, context_words=2, stride_words=4)
    for stimuli in (words, texts):
        one, other = whole(responder, stimuli, 1), whole(responder, stimuli, batch_size)
        for name in responder.layers:
            np.testing.assert_allclose(one[name], other[name], atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "last", "max"])
def test_texts_of_unlike_length_go_in_several_passes_and_nothing_changes(bert, texts, pool, monkeypatch):
    responder = TransformersResponder(bert, pool=pool)
    together = responder.respond(texts, slice(0, 4))
    monkeypatch.setattr("brainalign.adapters.networks.feeds._PASS_TOKENS_CPU", 0)
    assert len(responder._feeds(texts, np.arange(4))) == 4
    apart = responder.respond(texts, slice(0, 4))
    for name, values in together.items():
        np.testing.assert_allclose(apart[name], values, atol=1e-5)


def test_blocks_are_whole_windows(bert, words):
    responder = TransformersResponder(bert, stride_words=5)
    assert responder.blocks(words, 2) == [slice(0, 10), slice(10, 18), slice(18, 23)]
    with pytest.raises(ParameterError, match="batch_size"):
        responder.blocks(words, 0)


def test_rows_that_are_no_whole_window_get_the_same_responses(bert, words):
    responder = TransformersResponder(bert, layers=3, context_words=2, stride_words=4)
    np.testing.assert_allclose(responder.respond(words, slice(6, 15))["h.3"], whole(responder, words)["h.3"][6:15], atol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "max", "first", "last", "cls"])
def test_texts_are_pooled_over_their_tokens(bert, texts, pool):
    found = TransformersResponder(bert, layers="h.2", pool=pool).respond(texts, slice(0, 4))["h.2"]
    model = transformers.AutoModel.from_pretrained(bert).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)
    for row, text in zip(found, TEXTS, strict=True):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states[2][0]
        expected = {"mean": hidden.mean(0), "max": hidden.amax(0), "last": hidden[-1]}.get(pool, hidden[0])
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)


def test_special_tokens_can_be_left_out(bert, texts):
    hidden = TransformersResponder(bert, layers="h.2", pool="last", special_tokens=False)
    assert not np.allclose(
        hidden.respond(texts, slice(0, 1))["h.2"],
        TransformersResponder(bert, layers="h.2", pool="last").respond(texts, slice(0, 1))["h.2"],
    )


def test_every_token_is_a_neuroid_where_texts_are_equally_long(bert):
    stimuli = table(["a b c", "d e f"], "text")
    responder = TransformersResponder(bert, layers="h.1", pool="all")
    coords, values = responder.neuroids(stimuli)["h.1"], responder.respond(stimuli, slice(0, 2))["h.1"]
    assert values.shape == (2, 5 * 16)
    assert coords["token"].max() == 4
    single = TransformersResponder(bert, layers="h.1", pool="last").respond(stimuli, slice(0, 2))["h.1"]
    np.testing.assert_allclose(values[:, coords["token"] == 4], single, atol=1e-6)
    with pytest.raises(ParameterError, match="texts of"):
        responder.neuroids(table(TEXTS, "text"))


def test_devices_are_those_of_the_mappings(bert, words):
    assert TransformersResponder(bert, device="auto").model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ParameterError, match="'device' parameter of TransformersResponder"):
        TransformersResponder(bert, device="gpu")


def test_later_blocks_never_run(bert, words):
    responder = TransformersResponder(bert, layers="h.1")
    calls = []
    for block in responder.model.encoder.layer:
        block.register_forward_hook(lambda *args: calls.append(1))
    responder.respond(words, slice(0, 23))
    assert len(calls) == 1


def test_heads_and_neurons(bert, words):
    heads = TransformersResponder(bert, kind="heads", layers="heads.*")
    assert heads.layers == ("heads.1", "heads.2", "heads.3")
    coords = heads.neuroids(words)["heads.2"]
    assert coords["head"].tolist() == np.repeat(np.arange(4), 4).tolist()
    assert heads.respond(words, slice(0, 5))["heads.2"].shape == (5, 16)
    neurons = TransformersResponder(bert, kind="mlp", layers=[1, 3])
    assert {name: values.shape for name, values in neurons.respond(words, slice(0, 5)).items()} == {
        "mlp.1": (5, 24),
        "mlp.3": (5, 24),
    }
    with pytest.raises(ParameterError, match=r"'h\.1', which matches none of its 3 layers"):
        TransformersResponder(bert, kind="mlp", layers="h.1")


def test_layers_by_name_glob_and_number(bert):
    assert TransformersResponder(bert, layers=["h.3", 0]).layers == ("h.0", "h.3")
    assert TransformersResponder(bert, layers="h.[12]").layers == ("h.1", "h.2")
    with pytest.raises(ParameterError, match=r"'layer\.1'.*'h\.0', 'h\.1'"):
        TransformersResponder(bert, layers="layer.1")


def test_one_layer_and_some_neuroids(bert, words):
    responder = TransformersResponder(bert, context_words=2)
    part = responder.at("h.2", neuroid=[5, 1])
    np.testing.assert_allclose(
        part.respond(words, slice(0, 9))["h.2"], responder.respond(words, slice(0, 9))["h.2"][:, [5, 1]], atol=1e-6
    )
    assert part.neuroids(words)["h.2"]["neuroid_id"].tolist() == [5, 1]
    assert responder.at(2).layers == ("h.2",)
    with pytest.raises(ParameterError, match=r"'h\.9'"):
        responder.at(9)


def test_neuroids_are_numbered_by_unit(bert, words):
    coords = TransformersResponder(bert).neuroids(words)
    assert list(coords) == ["h.0", "h.1", "h.2", "h.3"]
    assert all(list(labels) == ["neuroid_id", "unit"] and len(labels["unit"]) == 16 for labels in coords.values())


def test_direction_is_tried_out(bert, gpt2, vit):
    assert TransformersResponder(bert).bidirectional
    assert not TransformersResponder(gpt2).bidirectional
    assert TransformersResponder(vit).bidirectional


def test_what_is_too_long_is_refused(bert):
    long = table(["abcd"] * 40, "word")
    with pytest.raises(ParameterError, match=r"Rows 0 to 31 have 130 tokens\. Expected at most 64: pass fewer `context_words`"):
        TransformersResponder(bert).respond(long, slice(0, 40))
    assert TransformersResponder(bert, context_words=4, stride_words=8).respond(long, slice(0, 40))["h.0"].shape == (40, 16)
    text = table(["a b c d e f"], "text")
    with pytest.raises(ParameterError, match=r"8 tokens\. Expected at most 6: shorten them"):
        TransformersResponder(bert, max_length=6).respond(text, slice(0, 1))
    cut = TransformersResponder(bert, max_length=6, truncation=True).respond(text, slice(0, 1))["h.0"]
    np.testing.assert_allclose(
        cut, TransformersResponder(bert).respond(table(["a b c d"], "text"), slice(0, 1))["h.0"], atol=1e-6
    )


def test_stimuli_that_do_not_fit_are_refused(bert, gpt2, vit, words, texts):
    with pytest.raises(ParameterError, match=r"pool='mean' does not fit stimuli of kind 'word'"):
        TransformersResponder(bert, pool="mean").respond(words, slice(0, 2))
    with pytest.raises(ParameterError, match=r"pool='word' does not fit stimuli of kind 'text'"):
        TransformersResponder(bert, pool="word").respond(texts, slice(0, 2))
    with pytest.raises(CapabilityError, match=r"takes image\. Got stimuli of kind 'text'"):
        TransformersResponder(vit).respond(texts, slice(0, 2))
    with pytest.raises(CapabilityError, match="no class token"):
        TransformersResponder(gpt2, pool="cls").respond(texts, slice(0, 2))


@pytest.mark.parametrize(
    "wrong", [{"kind": "logits"}, {"pool": "sum"}, {"stride_words": 0}, {"context_words": -1}, {"dtype": "int8"}]
)
def test_parameters_are_checked_before_anything_is_loaded(wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        TransformersResponder("no/such-network", **wrong)


def test_trust_remote_code_is_no_parameter(bert, tmp_path):
    with pytest.raises(TypeError, match="trust_remote_code"):
        TransformersResponder(bert, trust_remote_code=True)
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}})
    )
    (tmp_path / "own.py").write_text("raise SystemExit('this code ran')\n")
    with pytest.raises(CapabilityError, match="never runs"):
        TransformersResponder(tmp_path)


def test_the_untrained_control_is_another_network_with_a_seed(bert, words):
    trained = TransformersResponder(bert, layers=3)
    one, again = (TransformersResponder(bert, layers=3, pretrained=False, random_state=4) for _ in range(2))
    drawn = TransformersResponder(bert, layers=3, pretrained=False)
    values = [r.respond(words, slice(0, 23))["h.3"] for r in (trained, one, again)]
    np.testing.assert_array_equal(values[1], values[2])
    assert not np.allclose(values[0], values[1])
    assert one.fingerprint() == again.fingerprint() != trained.fingerprint()
    assert (one.system, one.random_state, trained.random_state) == ("tiny-bert-untrained", 4, None)
    assert drawn.fingerprint() != one.fingerprint()
    repeat = TransformersResponder(bert, layers=3, pretrained=False, random_state=drawn.random_state)
    assert repeat.fingerprint() == drawn.fingerprint()


def test_the_fingerprint_knows_weights_tokenizer_and_options(bert, words, tmp_path):
    import shutil

    moved = shutil.copytree(bert, tmp_path / "moved")
    base = TransformersResponder(bert)
    before = base.fingerprint()
    base.respond(words, slice(0, 23))
    assert base.fingerprint() == before == TransformersResponder(moved).fingerprint()
    options = [
        {"layers": 1},
        {"pool": "max"},
        {"pool_pieces": "last"},
        {"context_words": 3},
        {"stride_words": 3},
        {"kind": "mlp"},
    ]
    options += [{"special_tokens": False}, {"truncation": True}, {"max_length": 9}, {"dtype": "bfloat16"}]
    assert len({before, *(TransformersResponder(bert, **option).fingerprint() for option in options)}) == len(options) + 1
    changed = transformers.BertTokenizer(vocab={piece: i for i, piece in enumerate([*PIECES[:5], *PIECES[5:][::-1]])})
    changed.save_pretrained(moved)
    assert TransformersResponder(moved, max_length=64).fingerprint() != before


def slope(piece, index, column, row):
    step = torch.zeros_like(piece.inputs)
    step[index] = 1e-2
    return ((piece.forward(piece.inputs + step) - piece.forward(piece.inputs - step))[row, column] / 2e-2).item()


@pytest.mark.parametrize("model", ["bert", "gpt2"])
def test_pieces_of_words_are_windows(model, words, request):
    responder = TransformersResponder(request.getfixturevalue(model), layers=[1, 2], context_words=3, stride_words=5)
    pieces = responder.pieces(words)
    assert len(pieces) == 5
    assert np.concatenate([piece.rows for piece in pieces]).tolist() == list(range(23))
    values = np.concatenate(list(whole(responder, words).values()), axis=1)
    for piece in pieces:
        assert piece.dims == ("position", "embedding")
        assert piece.parts.shape == tuple(piece.inputs.shape[:2])
        assert set(piece.parts.ravel()) - {-1} == set(
            range(max(piece.rows[0] - 3, 0 if piece.rows[0] < 13 else 13), piece.rows[-1] + 1)
        )
        np.testing.assert_allclose(piece.forward(piece.inputs).detach().numpy(), values[piece.rows], atol=1e-5)
    assert (pieces[0].parts == -1).sum() == (2 if model == "bert" else 0)


def test_gradients_of_words_equal_finite_differences(bert, words):
    responder = TransformersResponder(bert, layers=2, context_words=3, stride_words=5, dtype="float64")
    piece = responder.pieces(words)[1]
    point = piece.inputs.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(piece.forward(point)[3, 7], point)
    for index in ((0, 2, 4), (0, 8, 0)):
        assert slope(piece, index, 7, 3) == pytest.approx(gradient[index].item(), rel=1e-2, abs=1e-4)


def test_only_the_windows_of_wanted_rows_are_made(bert, words):
    responder = TransformersResponder(bert, layers="h.2", context_words=3, stride_words=5)
    pieces = responder.pieces(words, np.array([21, 6, 7]))
    assert [piece.rows.tolist() for piece in pieces] == [[6, 7], [21]]
    values = responder.respond(words, slice(6, 8))["h.2"]
    np.testing.assert_allclose(pieces[0].forward(pieces[0].inputs).detach().numpy(), values, atol=1e-5)


def test_pieces_of_texts_belong_to_their_row(bert, texts):
    responder = TransformersResponder(bert, layers="h.3")
    pieces = responder.pieces(texts)
    assert [piece.rows.tolist() for piece in pieces] == [[0], [1], [2], [3]]
    assert set(pieces[1].parts[0, 1:-1]) == {1}
    assert pieces[1].parts[0, [0, -1]].tolist() == [-1, -1]
    values = responder.respond(texts, slice(0, 4))["h.3"]
    np.testing.assert_allclose(pieces[1].forward(pieces[1].inputs).detach().numpy(), values[[1]], atol=1e-5)


def test_images_by_class_token_mean_and_patch(vit):
    pixels = np.random.default_rng(0).normal(size=(3, 3, 16, 16))
    stimuli = table(pixels, "array")
    model = transformers.AutoModel.from_pretrained(vit).eval()
    with torch.no_grad():
        hidden = model(torch.as_tensor(pixels, dtype=torch.float32), output_hidden_states=True).hidden_states[1].numpy()
    found = {pool: TransformersResponder(vit, layers=1, pool=pool) for pool in ("cls", "mean", "all")}
    values = {pool: responder.respond(stimuli, slice(0, 3))["h.1"] for pool, responder in found.items()}
    np.testing.assert_array_equal(values["cls"], hidden[:, 0])
    np.testing.assert_allclose(values["mean"], hidden[:, 1:].mean(1), atol=1e-6)
    coords = found["all"].neuroids(stimuli)["h.1"]
    at = (coords["channel_x"] == 2) & (coords["channel_y"] == 1)
    np.testing.assert_array_equal(values["all"][:, at], hidden[:, 1 + 1 * 4 + 2])
    assert TransformersResponder(vit).blocks(stimuli, 2) == [slice(0, 2), slice(2, 3)]


def test_gradients_of_pixels_equal_finite_differences(vit):
    stimuli = table(np.random.default_rng(0).normal(size=(3, 3, 16, 16)), "array")
    responder = TransformersResponder(vit, layers=2, pool="cls", dtype="float64")
    pieces = responder.pieces(stimuli, np.array([2]))
    (piece,) = pieces
    assert (piece.dims, piece.parts, piece.rows.tolist()) == (("channel", "y", "x"), None, [2])
    np.testing.assert_allclose(
        piece.forward(piece.inputs).detach().numpy(), responder.respond(stimuli, slice(2, 3))["h.2"], atol=1e-5
    )
    point = piece.inputs.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(piece.forward(point)[0, 3], point)
    index = (0, *np.unravel_index(gradient.abs().argmax().item(), gradient.shape)[1:])
    assert slope(piece, index, 3, 0) == pytest.approx(gradient[index].item(), rel=2e-2)


def test_sounds_answer_over_frames(tmp_path):
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, conv_dim=[8, 8], conv_kernel=[4, 4],
        conv_stride=[4, 4], num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    model = transformers.Wav2Vec2Model(config).eval()
    model.save_pretrained(tmp_path)
    waves = np.random.default_rng(0).normal(size=(2, 320))
    responder = TransformersResponder(tmp_path, layers="h.1", system="ear")
    assert (responder.inputs, responder.system) == ("audio", "ear")
    with torch.no_grad():
        hidden = model(torch.as_tensor(waves, dtype=torch.float32), output_hidden_states=True).hidden_states[1]
    found = responder.respond(table(waves, "array"), slice(0, 2))["h.1"]
    np.testing.assert_allclose(found, hidden.mean(1).numpy(), atol=1e-6)
    (piece,) = responder.pieces(table(waves[:1], "array"))
    assert piece.dims == ("sample",)


def test_without_transformers_the_extra_is_named(monkeypatch):
    from brainalign.adapters.networks import hub
    from brainalign.core.errors import OptionalDependencyError

    def missing(module, *, extra, purpose):
        raise OptionalDependencyError(f"{purpose} needs {module}: brainalign[{extra}]")

    monkeypatch.setattr(hub, "require", missing)
    with pytest.raises(OptionalDependencyError, match=r"brainalign\[transformers\]"):
        TransformersResponder("no/such-network")


@pytest.mark.real
def test_minilm_word_vectors_equal_a_loop(minilm):
    story = "Alice was beginning to get very tired of sitting by her sister on the bank and of having nothing to do".split() * 5
    runs = ["1"] * 60 + ["2"] * (len(story) - 60)
    responder = TransformersResponder(minilm)
    assert responder.layers == tuple(f"h.{i}" for i in range(7))
    stimuli = table(story, "word", run=runs)
    expected = by_hand(minilm, story, runs, 32, 32)
    found = whole(responder, stimuli, 8)
    for i, values in enumerate(found.values()):
        assert values.shape == (len(story), 384)
        np.testing.assert_allclose(values, expected[i], atol=1e-5)
    assert responder.bidirectional


@pytest.mark.real
def test_minilm_pieces_heads_and_neurons(minilm):
    stimuli = table("once there were three little sisters".split(), "word")
    layer = TransformersResponder(minilm, layers="h.3")
    (piece,) = layer.pieces(stimuli)
    np.testing.assert_allclose(
        piece.forward(piece.inputs).detach().numpy(), layer.respond(stimuli, slice(0, 6))["h.3"], atol=1e-5
    )
    heads = TransformersResponder(minilm, layers=3, kind="heads")
    assert heads.neuroids(stimuli)["heads.3"]["head"].max() == 11
    assert TransformersResponder(minilm, layers=3, kind="mlp").respond(stimuli, slice(0, 6))["mlp.3"].shape == (6, 1536)


def test_a_network_that_was_left_in_training_mode_responds_as_in_evaluation(gpt2, words):
    lm = TransformersResponder(gpt2, layers=2)
    still = lm.respond(words, slice(0, 3))["h.2"]
    lm.model.train()  # as after fine-tuning: its dropout is on
    np.testing.assert_array_equal(lm.respond(words, slice(0, 3))["h.2"], still)
    assert lm.model.training
    assert not lm.bidirectional


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
def test_inner_layers_of_stock_networks_are_read_and_altered_by_their_names(name, request, words):
    stimuli = table(RNG.normal(size=(2, 3, 16, 16)), "array") if name == "vit" else words
    lm = TransformersResponder(request.getfixturevalue(name), layers=2)
    piece = lm.pieces(stimuli)[0]
    layers = lm.inner_layers(["h.[01]", "heads.*", "mlp.1", "**.intermediate" if name == "bert" else "**.mlp"])
    with lm.reading(layers) as found:
        clean = piece.forward(piece.inputs.requires_grad_(True))
    other = TransformersResponder(request.getfixturevalue(name), kind="heads").at("heads.2")
    torch.testing.assert_close(
        other.pieces(stimuli)[0].forward(piece.inputs), other._keeper(_feed(lm, stimuli))(None, found["heads.2"])
    )
    assert all(g is not None for g in torch.autograd.grad(clean.sum(), [found["h.0"], found["heads.1"], found["mlp.1"]]))
    n_tokens, width = found["heads.1"].shape[-2:]
    assert lm.inner_coords("heads.1", (n_tokens, width))["head"].max() + 1 == lm.model.config.num_attention_heads
    patched = {
        "h.1": found["h.1"].detach().flip(-1),
        "heads.1": found["heads.1"].detach() * 0,
        "mlp.1": found["mlp.1"].detach() * 0,
    }
    for layer, value in patched.items():  # the clean row and the altered one, from the layer on
        with lm.altering({layer: lambda v, to=value: torch.cat([v, to])}, copies=2):
            both = piece.forward(piece.inputs).reshape(2, *clean.shape)
        with lm.altering({layer: lambda v, to=value: to}):
            alone = piece.forward(piece.inputs)
        torch.testing.assert_close(both, torch.stack([clean, alone]), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(alone, clean, atol=1e-3)


def _feed(lm, stimuli):
    return lm._feeds(stimuli, np.asarray(lm.pieces(stimuli)[0].rows))[0]


def test_the_last_hidden_state_and_the_embeddings_can_be_altered(gpt2, words):
    lm = TransformersResponder(gpt2, layers="h.*")
    with lm.altering({"h.2": lambda v: v * 2}):
        doubled = lm.respond(words, slice(0, 5))
    piece = lm.pieces(words)[0]
    with lm.altering({"wte": torch.zeros_like}):
        silent = piece.forward(piece.inputs)
    np.testing.assert_allclose(doubled["h.2"], 2 * lm.respond(words, slice(0, 5))["h.2"], rtol=1e-5)
    torch.testing.assert_close(silent, piece.forward(torch.zeros_like(piece.inputs)))
    assert not torch.allclose(silent, piece.forward(piece.inputs), atol=1e-3)
