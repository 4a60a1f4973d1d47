"""Controls made from stimuli and from a responder."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.networks.weights import WeightsHash
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.features.controls import controls


def images(n=8):
    values = np.random.default_rng(0).random((n, 1, 8, 8), dtype=np.float32)
    return ba.stimuli.table(values, stimulus_id=[f"i{i}" for i in range(n)], kind="array", dims=("channel", "y", "x"))


def network():
    torch.manual_seed(0)
    parts = [torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)]
    return ba.TorchResponder(torch.nn.Sequential(*parts), layers=["0", "3"], system="net")


def test_low_level_features_their_projection_and_untrained_networks():
    responder = network()
    before = WeightsHash(responder.model)()
    made = controls(images(), responder=responder, random_state=0, progress=False)
    assert list(made) == ["pixels", "gabor", "random-low-level", "untrained-0", "untrained-1", "untrained-2"]
    assert WeightsHash(responder.model)() == before
    trained = ba.record(responder, images(), progress=False)
    for x in made.values():
        ba.validate(x, deep=True)
        assert x.stimulus_id.values.tolist() == trained.stimulus_id.values.tolist()
    seeds = [made[f"untrained-{i}"] for i in range(3)]
    assert len({x.values.tobytes() for x in (*seeds, trained)}) == 4
    for x in seeds:
        np.testing.assert_array_equal(x.layer, trained.layer)
        np.testing.assert_array_equal(x.neuroid_id, trained.neuroid_id)
    width = made["pixels"].shape[1] + made["gabor"].shape[1]
    assert made["random-low-level"].shape == (8, width)


def test_a_recorded_seed_gives_the_control_again():
    made = controls(images(), responder=network(), n_untrained=2, progress=False)
    for i in range(2):
        x = made[f"untrained-{i}"]
        seed = ba.core.provenance(x).steps[-1]["seed"]
        np.testing.assert_array_equal(ba.record(network().untrained(seed), images(), progress=False), x)
    whole = controls(images(), responder=network(), n_untrained=2, random_state=5, progress=False)
    again = controls(images(), responder=network(), n_untrained=2, random_state=5, progress=False)
    for name in whole:
        np.testing.assert_array_equal(whole[name], again[name])


def test_a_projection_keeps_distances_and_mixes_all_features():
    made = controls(images(40), random_state=0)
    features = np.concatenate([made[name].values for name in ("pixels", "gabor")], axis=1)
    projected = made["random-low-level"].values
    i, j = np.triu_indices(40, 1)
    ratio = np.linalg.norm(projected[i] - projected[j], axis=1) / np.linalg.norm(features[i] - features[j], axis=1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.1)
    assert ratio.std() < 0.2


def test_untrained_recordings_are_kept_in_a_study(tmp_path):
    options = {"responder": network(), "n_untrained": 2, "random_state": 0, "progress": False}
    stored = controls(images(), store=tmp_path / "study.zarr", **options)
    here = controls(images(), **options)
    assert list(ba.open_study(tmp_path / "study.zarr")["responses"]) == ["net-untrained-0", "net-untrained-1"]
    for name in ("untrained-0", "untrained-1"):
        np.testing.assert_array_equal(stored[name].values, here[name].values)


@pytest.mark.parametrize("kind", ["word", "text"])
def test_a_stock_network_is_recorded_untrained_with_its_pooling(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    vocab = {word: i for i, word in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] the cat sat on mat".split())}
    transformers.BertTokenizer(vocab=vocab).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    lm = ba.TransformersResponder(tmp_path, layers=["h.1", "h.2"], system="tiny")
    texts = ["the", "cat", "sat"] if kind == "word" else ["the cat sat", "on the mat", "sat"]
    stimuli = ba.stimuli.table(texts, stimulus_id=list("abc"), kind=kind)
    before = lm.fingerprint()
    made = controls(stimuli, responder=lm, random_state=0, progress=False)
    trained = ba.record(lm, stimuli, progress=False)
    assert lm.fingerprint() == before
    assert list(made)[:2] == ["words", "random-low-level"]
    for i in range(3):
        np.testing.assert_array_equal(made[f"untrained-{i}"].layer, trained.layer)
        assert not np.allclose(made[f"untrained-{i}"], trained, atol=1e-3)


def test_what_has_no_untrained_self_is_refused():
    class Fitted:
        """A voxel, say."""

    with pytest.raises(CapabilityError, match="controls got a Fitted, which has no method `untrained`"):
        controls(images(), responder=Fitted())
    with pytest.raises(ParameterError, match="'n_untrained' parameter of controls must be an int"):
        controls(images(), responder=network(), n_untrained=0)
