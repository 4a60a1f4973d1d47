"""What goes into a network in one forward pass."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from brainalign.adapters.networks.feeds import describe_processor, replaced, signal_feeds, text_feed
from brainalign.adapters.networks.hub import Network
from brainalign.adapters.networks.text_windows import Tokens, Window
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError

transformers = pytest.importorskip("transformers")


def network(inputs="image", name="pixel_values", prepare=None) -> Network:
    model = SimpleNamespace(dtype=torch.float32, device=torch.device("cpu"), main_input_name=name)
    return Network(model, inputs, prepare)


def feeds(net, content, **options):
    defaults = {"prepared": False, "rate_hz": None, "pool": "mean", "n_prefix": 0}
    return signal_feeds(net, content, np.arange(len(content)) + 10, **{**defaults, **options})


def test_arrays_that_are_prepared_go_in_as_they_are():
    values = np.random.default_rng(0).normal(size=(3, 3, 4, 4))
    (feed,) = feeds(network(), values, prepared=True)
    np.testing.assert_allclose(feed.arguments["pixel_values"].numpy(), values, rtol=1e-6)
    assert (feed.rows.tolist(), feed.dims, feed.parts) == ([10, 11, 12], ("channel", "y", "x"), None)


def test_inputs_of_one_shape_go_together():
    waves = [np.zeros(5), np.zeros(7), np.ones(5)]
    one, other = feeds(network("audio", "input_values"), waves, prepared=True)
    assert (one.rows.tolist(), other.rows.tolist()) == ([10, 12], [11])
    assert one.arguments["input_values"].shape == (2, 5)
    assert one.dims == ("sample",)
    assert one.pool(torch.ones(2, 4, 3)).shape == (2, 3)
    with pytest.raises(CapabilityError, match="for 2 stimuli"):
        one.pool(torch.ones(8, 4, 3))


def test_images_go_through_the_processor():
    options = {"size": {"height": 4, "width": 6}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = transformers.ViTImageProcessor(**options)
    images = [np.full((8, 8, 3), 255, dtype=np.uint8), np.zeros((5, 9), dtype=np.uint8)]
    (feed,) = feeds(network(prepare=processor), images)
    assert feed.arguments["pixel_values"].shape == (2, 3, 4, 6)
    assert feed.arguments["pixel_values"][:, 0, 0, 0].tolist() == [1, -1]
    assert describe_processor(processor) != describe_processor(
        transformers.ViTImageProcessor(**{**options, "image_mean": [0.4] * 3})
    )
    assert describe_processor(processor) == describe_processor(transformers.ViTImageProcessor(**options))


def test_sounds_must_have_the_rate_of_the_network():
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=16000)
    waves = [np.random.default_rng(0).normal(size=100)]
    (feed,) = feeds(network("audio", "input_values", extractor), waves, rate_hz=16000.0)
    assert feed.arguments["input_values"].std().item() == pytest.approx(1, abs=0.05)
    for rate in (None, 44100.0):
        with pytest.raises(ParameterError, match="Expected 16000"):
            feeds(network("audio", "input_values", extractor), waves, rate_hz=rate)


def test_without_a_processor_only_prepared_arrays_pass():
    with pytest.raises(CapabilityError, match=r"preprocessor_config\.json"):
        feeds(network(), [np.zeros((4, 4, 3), dtype=np.uint8)])


def test_text_is_padded_and_its_parts_are_known():
    net = network("text", "input_ids", SimpleNamespace(pad_token_id=9))
    encoded = [
        Tokens(np.array([1, 5, 2]), np.array([-1, 0, -1]), Window(0, 0, 1)),
        Tokens(np.array([1, 5, 6, 2]), np.array([-1, 1, 1, -1]), Window(1, 1, 2)),
    ]
    feed = text_feed(net, encoded, np.arange(2), "mean", False)
    assert feed.arguments["input_ids"].tolist() == [[1, 5, 2, 9], [1, 5, 6, 2]]
    assert feed.arguments["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert feed.parts.tolist() == [[-1, 0, -1, -1], [-1, 1, 1, -1]]
    hidden = torch.arange(8.0).reshape(2, 4, 1)
    assert feed.pool(hidden).tolist() == [[1], [5.5]]


def test_tokenizers_are_told_apart_and_settings_of_a_call_do_not_count():
    one = transformers.BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "a": 5})
    other = transformers.BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4, "b": 5})
    before = describe_processor(one)
    one(["a a a"], truncation=True, max_length=3, padding="max_length")
    assert describe_processor(one) == before
    assert describe_processor(other) != before
    slow = SimpleNamespace(get_vocab=lambda: {"a": 0}, all_special_tokens=[])
    assert describe_processor(slow) != describe_processor(None)


def test_a_module_gives_another_value_for_a_while():
    layer = torch.nn.Linear(2, 2)
    x = torch.ones(1, 2)
    with replaced(layer, torch.zeros(1, 2, dtype=torch.float64)):
        assert layer(x).tolist() == [[0, 0]]
        assert layer(x).dtype == torch.float32
    assert layer(x).abs().sum() > 0


def test_images_that_are_not_finite_are_refused():
    with pytest.raises(SchemaError, match="'SimpleNamespace' got NaN or infinite values at 1 of 2 presentations, 11"):
        feeds(network(), [np.zeros((3, 4, 4)), np.full((3, 4, 4), np.nan)], prepared=True)
