"""readout: a network and a fitted chain as one responder, equal to the chain's own predictions."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.preprocessing import QuantileTransformer, StandardScaler

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError
from brainalign.core.protocols import DifferentiableResponder


@pytest.fixture
def timed():
    """Stimuli in time, a layer that answers them, and a recording of other rows."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layer = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh()), layers="1", system="net")
    table = ba.stimuli.table(
        rng.normal(size=(80, 6)).astype("float32"),
        stimulus_id=[f"w{i:02d}" for i in range(80)],
        kind="array",
        onset_s=np.tile(np.arange(40) * 0.5, 2),
        duration_s=np.full(80, 0.5),
        run=np.repeat(["a", "b"], 40),
    )
    bold = ba.responses(
        rng.normal(size=(20, 3)),
        stimulus_id=[f"v{i}" for i in range(20)],
        neuroid_id=["x", "y", "z"],
        modality="fmri",
        system="sub-01",
        run=np.repeat(["a", "b"], 10),
        onset_s=np.tile(np.arange(10) * 2.0, 2),
        duration_s=2.0,
    )
    return layer, table, ba.record(layer, table, progress=False), bold


CHAINS = {
    "ridge after scaling and PCA": lambda: ba.chain(
        ba.WordsToVolumes("mean"), ba.Delay([2, 4]), StandardScaler(), PCA(4), ba.Ridge(alphas=[1.0])
    ),
    "a fitted step before the words are summed": lambda: ba.chain(
        StandardScaler(), ba.Reduce(3), ba.WordsToVolumes("sum"), ba.Delay([0, 2]), ba.Ridge(alphas=[1.0])
    ),
    "a response function": lambda: ba.chain(ba.WordsToVolumes("mean"), ba.TRF(-2.0, 6.0, alphas=[1.0])),
    "two mixings": lambda: ba.chain(ba.WordsToVolumes("sum"), ba.HRF(), ba.Delay([0, 2]), ba.Ridge(alphas=[1.0])),
}


@pytest.mark.parametrize("name", CHAINS)
def test_equals_the_chain_and_its_pieces_add_up(timed, name):
    layer, table, features, bold = timed
    model = CHAINS[name]().fit(features, bold)
    expected = model.predict(features).values
    voxel = ba.readout(layer, model)
    assert isinstance(voxel, DifferentiableResponder)
    recorded = ba.record(voxel, table, progress=False)
    np.testing.assert_allclose(recorded.values, expected, atol=1e-5)
    assert recorded.neuroid_id.values.tolist() == ["x", "y", "z"]
    assert (recorded.system.values == "sub-01").all()
    total = np.zeros_like(expected)
    for piece in voxel.pieces(table):
        np.add.at(total, piece.rows, piece.forward(piece.inputs).detach().numpy())
    np.testing.assert_allclose(total, expected, atol=1e-5)


def test_a_run_in_which_no_word_falls_is_what_the_chain_says_of_silence(timed):
    layer, table, _, bold = timed
    late = table.assign_coords(onset_s=table.onset_s + 100.0 * (table.run == "b"))
    x = ba.record(layer, late, progress=False)
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([0, 2]), ba.Ridge(alphas=[1.0])).fit(x, bold)
    np.testing.assert_allclose(ba.record(ba.readout(layer, model), late, progress=False), model.predict(x), atol=1e-5)


def test_scores_are_those_of_the_same_region(timed):
    layer, table, features, _ = timed
    regions = ["V1", "V4", "V4", "V1"]
    brain = features[:, :4].drop_vars("layer").assign_coords(neuroid_id=("neuroid", [0, 0, 1, 1]), region=("neuroid", regions))
    scores = (
        brain[0].reset_coords(drop=True).to_dataset(name="score").assign_coords({k: brain[k] for k in ("neuroid_id", "region")})
    )
    scores["score"] = "neuroid", [0.1, 0.2, 0.3, 0.4]
    voxels = ba.readout(layer, ba.Ridge(alphas=[1.0]).fit(features, brain), scores=scores[{"neuroid": [2, 0, 3, 1]}])
    names = [f"{region}/{k}" for region, group in voxels.neuroids(table).items() for k in group["neuroid_id"]]
    assert dict(zip(names, voxels.scores["mapping_score"], strict=True)) == {"V1/0": 0.1, "V4/0": 0.2, "V4/1": 0.3, "V1/1": 0.4}


def test_without_mixing_rows_are_the_stimuli(timed):
    layer, table, features, _ = timed
    brain = ba.responses(features.values @ np.ones((5, 2)), stimulus_id=features.stimulus_id, neuroid_id=[0, 1], modality="meg",
                         system="sub-01")  # fmt: skip
    model = ba.chain(StandardScaler(), ba.Ridge(alphas=[0.1])).fit(features, brain)
    np.testing.assert_allclose(
        ba.record(ba.readout(layer, model), table, progress=False).values, model.predict(features).values, atol=1e-5
    )


def test_answers_for_other_presentations(timed):
    layer, table, features, bold = timed
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2]), ba.Ridge(alphas=[1.0])).fit(features, bold[:10])
    other = ba.record(ba.readout(layer, model, presentations=bold[10:]), table, progress=False)
    np.testing.assert_allclose(other.values, model.predict(features, bold[10:]).values, atol=1e-5)


def test_fingerprint_follows_weights_and_steps(timed):
    layer, _, features, bold = timed
    make = lambda delay, alpha: ba.readout(  # noqa: E731
        layer, ba.chain(ba.WordsToVolumes("sum"), ba.Delay([delay]), ba.Ridge(alphas=[alpha])).fit(features, bold)
    )
    assert make(2, 1.0).fingerprint() == make(2, 1.0).fingerprint()
    assert len({make(2, 1.0).fingerprint(), make(4, 1.0).fingerprint(), make(2, 9.0).fingerprint()}) == 3


def test_says_what_cannot_be_read_out(timed):
    layer, table, features, bold = timed
    curved = ba.chain(ba.WordsToVolumes("sum"), QuantileTransformer(n_quantiles=10), ba.Ridge(alphas=[1.0])).fit(features, bold)
    with pytest.raises(CapabilityError, match="QuantileTransformer is not affine"):
        ba.readout(layer, curved)
    runwise = ba.chain(ba.WordsToVolumes("sum"), ba.ZScore(), ba.Ridge(alphas=[1.0])).fit(features, bold)
    with pytest.raises(CapabilityError, match="ZScore into a fixed affine map"):
        ba.readout(layer, runwise)
    with pytest.raises(CapabilityError, match="not fitted"):
        ba.readout(layer, ba.chain(ba.Ridge()))
    with pytest.raises(CapabilityError, match="no `pieces`"):
        ba.readout(object(), runwise)
    fitted = ba.chain(ba.WordsToVolumes("sum"), ba.Ridge(alphas=[1.0])).fit(features[:, :4], bold)
    with pytest.raises(AlignmentError, match=r"5 neuroids of 1.*fitted on 4"):
        ba.record(ba.readout(layer, fitted), table, progress=False)


def test_a_network_read_out_of_another_keeps_its_layers(timed):
    layer, table, features, _ = timed
    target = ba.responses(features.values @ np.arange(20).reshape(5, 4), stimulus_id=features.stimulus_id, neuroid_id=[0, 0, 1, 1],
                          modality="ann", system="other", layer=["a", "b", "a", "b"])  # fmt: skip
    model = ba.Ridge(alphas=[1e-3]).fit(features, target)
    units = ba.readout(layer, model)
    recorded = ba.record(units, table, progress=False)
    assert recorded.layer.values.tolist() == ["a", "a", "b", "b"]
    np.testing.assert_allclose(recorded.values, model.predict(features).values[:, [0, 2, 1, 3]], atol=1e-4)
    a = ba.attribute(units, table, neuroid=["b/1", "a/0"], presentations=[3])
    np.testing.assert_allclose(a.response.values[0], recorded.values[3, [3, 0]], atol=1e-4)
    assert a.layer.values.tolist() == ["b", "a"]


@pytest.fixture
def pictures():
    """Pictures, a convolutional layer that keeps its maps, and a recording of them."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3, stride=2), torch.nn.ReLU())
    layer = ba.TorchResponder(net, layers="1", system="net")
    rng = np.random.default_rng(0)
    table = ba.stimuli.table(
        rng.normal(size=(60, 1, 9, 9)).astype("float32"), stimulus_id=[f"p{i:02d}" for i in range(60)], kind="array"
    )
    features = ba.record(layer, table, progress=False)
    brain = ba.responses(features.values[:, :3] + 0.1 * rng.normal(size=(60, 3)), stimulus_id=features.stimulus_id, neuroid_id=["a", "b", "c"],
                         modality="fmri", system="sub-01", region=["V1", "V4", "V1"])  # fmt: skip
    return layer, table, features, brain


READOUTS = {
    "fwrf": lambda: ba.SpatialReadout(n_positions=4),
    "factorised": lambda: ba.SpatialReadout("factorised", n_positions=4),
    "attention by region": lambda: ba.AttentionReadout(max_steps=50),
    "attention by neuroid": lambda: ba.AttentionReadout("neuroid", max_steps=50),
    "behind a step": lambda: ba.chain(StandardScaler(), ba.AttentionReadout(max_steps=50)),
}


@pytest.mark.parametrize("name", READOUTS)
def test_readouts_of_maps_are_exact_and_differentiable(pictures, name):
    layer, table, features, brain = pictures
    model = READOUTS[name]().fit(features, brain)
    voxel = ba.readout(layer, model)
    recorded = ba.record(voxel, table, progress=False)
    assert recorded.neuroid_id.values.tolist() == ["a", "c", "b"]
    np.testing.assert_allclose(recorded.values, model.predict(features).values[:, [0, 2, 1]], atol=1e-5)
    attribution = ba.attribute(voxel, table, neuroid="b", presentations=[0, 1], n_steps=64)
    assert attribution.attrs["completeness_error"] < 0.05
    again = ba.readout(layer, READOUTS[name]().fit(features, brain))
    assert voxel.fingerprint() == again.fingerprint()
    assert voxel.fingerprint() != ba.readout(layer, READOUTS[name]().fit(features[::-1], brain[::-1])).fingerprint()


def test_attention_is_not_divided_among_mixed_stimuli(pictures):
    layer, _, features, brain = pictures
    onsets = {"onset_s": ("presentation", np.arange(60.0)), "run": ("presentation", ["a"] * 60)}
    model = ba.chain(ba.Delay([0.0, 1.0]), ba.AttentionReadout(max_steps=25))
    fitted = model.fit(features.assign_coords(onsets), brain.assign_coords(onsets))
    with pytest.raises(CapabilityError, match="cannot divide AttentionReadout among the stimuli"):
        ba.readout(layer, fitted)
