"""A frozen language model captions features that are given to it; from a local folder only."""

import numpy as np
import pytest

import brainalign as ba

transformers = pytest.importorskip("transformers")
WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red blue cat dog runs sits".split()


def tiny_gpt(**extra):
    return transformers.GPT2Config(
        vocab_size=len(WORDS),
        n_embd=8,
        n_layer=1,
        n_head=2,
        n_positions=32,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
        **extra,
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A causal language model, and an encoder-decoder whose decoder looks at image features; random weights."""
    import torch

    torch.manual_seed(0)
    found = {kind: tmp_path_factory.mktemp(kind) for kind in ("causal", "encoder-decoder")}
    transformers.GPT2LMHeadModel(tiny_gpt()).save_pretrained(found["causal"])
    vit = transformers.ViTConfig(
        image_size=8, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(vit, tiny_gpt())
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    model = transformers.VisionEncoderDecoderModel(config)
    for name in ("decoder_start_token_id", "bos_token_id"):
        setattr(model.generation_config, name, 2)
    model.generation_config.pad_token_id = 0
    model.save_pretrained(found["encoder-decoder"])
    for folder in found.values():
        transformers.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return found


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_features_are_put_into_words_row_by_row(folders, kind):
    captioner = ba.adapters.TransformersCaptioner(folders[kind], max_new_tokens=5)
    assert isinstance(captioner, ba.protocols.Captioner)
    features = 30 * np.random.default_rng(0).normal(size=(6, 5 * 8))
    found = captioner.caption(features)
    assert len(found) == 6
    assert all(set(text.split()) <= set(WORDS) for text in found)
    assert found == captioner.caption(features)
    assert found[3:] == captioner.caption(features[3:])
    assert len(set(found)) > 1  # it looks at them


def test_its_own_encoder_s_features_give_its_own_captions(folders):
    import torch

    captioner = ba.adapters.TransformersCaptioner(folders["encoder-decoder"], max_new_tokens=5)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    features = captioner.model.encoder(images).last_hidden_state.reshape(3, -1)
    tokens = captioner.model.generate(images, max_new_tokens=5, do_sample=False)
    assert captioner.caption(features) == [
        text.strip() for text in captioner.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    ]


def test_what_it_cannot_caption_is_refused(folders, tmp_path):
    captioner = ba.adapters.TransformersCaptioner(folders["causal"])
    with pytest.raises(ba.errors.CapabilityError, match="8 numbers each"):
        captioner.caption(np.zeros((2, 12)))
    with pytest.raises(ba.errors.CapabilityError, match="16 of them NaN"):
        captioner.caption(np.full((2, 8), np.nan))
    with pytest.raises(ba.errors.ParameterError, match="which is no folder"):
        ba.adapters.TransformersCaptioner("some/name-on-the-hub")
    with pytest.raises(ba.errors.ParameterError, match="could not load"):
        ba.adapters.TransformersCaptioner(tmp_path)
    with pytest.raises(ba.errors.ParameterError, match="'device' parameter of TransformersCaptioner"):
        ba.adapters.TransformersCaptioner(folders["causal"], device="gpu")
