"""attribute: exact where it is known, complete, additive, and one path for a unit and a voxel."""

import numpy as np
import pytest
import torch
import xarray as xr

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError


@pytest.fixture
def stimuli():
    values = np.random.default_rng(0).normal(size=(12, 6)).astype("float32")
    return ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(12)], kind="array")


@pytest.fixture
def network():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))
    return ba.TorchResponder(net, layers=["1", "2"], system="net")


def test_a_linear_unit_is_attributed_exactly(stimuli):
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 3)
    linear = ba.TorchResponder(torch.nn.Sequential(layer), layers="0", system="net")
    for method in ("gradient-times-input", "integrated-gradients"):
        a = ba.attribute(linear, stimuli, neuroid=1, method=method)
        expected = stimuli["values"].values * layer.weight.detach().numpy()[1]
        np.testing.assert_allclose(a.values[:, 0], expected, atol=1e-6)
        assert a.attrs["completeness_error"] < 1e-6


def test_integrated_gradients_equal_a_fine_riemann_sum(stimuli, network):
    a = ba.attribute(network.at("2"), stimuli, neuroid=3, n_steps=20)
    x = torch.as_tensor(stimuli["values"].values)
    total = torch.zeros_like(x)
    for step in (np.arange(2000) + 0.5) / 2000:
        point = (step * x).requires_grad_(True)
        total += torch.autograd.grad(network_of(network)(point)[:, 3].sum(), point)[0]
    np.testing.assert_allclose(a.values[:, 0], (total / 2000 * x).numpy(), atol=1e-5)
    difference = (network_of(network)(x) - network_of(network)(torch.zeros_like(x)))[:, 3].detach().numpy()
    np.testing.assert_allclose(a.response.values[:, 0] - a.baseline_response.values[:, 0], difference, atol=1e-5)
    assert a.attrs["completeness_error"] < 1e-5


def network_of(responder):
    return responder.model


def test_a_mean_baseline_is_the_mean_stimulus(stimuli, network):
    a = ba.attribute(network.at("2"), stimuli, neuroid=0, baseline="mean")
    mean = torch.as_tensor(stimuli["values"].values.mean(0, keepdims=True))
    expected = network_of(network)(mean)[0, 0].item()
    np.testing.assert_allclose(a.baseline_response.values[:, 0], expected, atol=1e-5)
    assert a.attrs["completeness_error"] < 1e-4


def test_a_voxel_is_the_weighted_sum_of_its_units(stimuli, network):
    layer = network.at("1")
    features = ba.record(layer, stimuli, progress=False)
    weights = np.random.default_rng(1).normal(size=(5, 2))
    brain = ba.responses(features.values @ weights, stimulus_id=features.stimulus_id, neuroid_id=["v1", "v2"], modality="fmri",
                         system="sub-01", region="V1")  # fmt: skip
    model = ba.Ridge(alphas=[1e-8], dtype="float64").fit(features, brain)
    voxel = ba.attribute(ba.readout(layer, model), stimuli, neuroid="v2")
    units = ba.attribute(layer, stimuli, neuroid=list(range(5)))
    np.testing.assert_allclose(voxel.values[:, 0], np.einsum("pnf,n->pf", units.values, model.coef_[:, 1]), atol=1e-4)
    assert voxel.region.values.tolist() == ["V1"]


def test_under_temporal_mixing_parts_are_stimuli_and_no_run_is_crossed(network):
    rng = np.random.default_rng(0)
    table = ba.stimuli.table(
        rng.normal(size=(40, 6)).astype("float32"),
        stimulus_id=[f"w{i:02d}" for i in range(40)],
        kind="array",
        onset_s=np.tile(np.arange(20) * 0.5, 2),
        duration_s=np.full(40, 0.5),
        run=np.repeat(["a", "b"], 20),
    )
    layer = network.at("1")
    features = ba.record(layer, table, progress=False)
    bold = ba.responses(rng.normal(size=(10, 2)), stimulus_id=[f"v{i}" for i in range(10)], neuroid_id=["x", "y"], modality="fmri",
                        system="sub-01", run=np.repeat(["a", "b"], 5), onset_s=np.tile(np.arange(5) * 2.0, 2), duration_s=2.0)  # fmt: skip
    model = ba.chain(ba.WordsToVolumes("sum"), ba.Delay([2, 4]), ba.Ridge(alphas=[0.1])).fit(features, bold)
    a = ba.attribute(ba.readout(layer, model), table, neuroid="y")
    assert a.dims == ("presentation", "neuroid", "part")
    assert a.attrs["completeness_error"] < 1e-4
    np.testing.assert_allclose(a.response.values[:, 0], model.predict(features).values[:, 1], atol=1e-4)
    strength = np.abs(a.values[:, 0])
    assert strength[:5, 20:].max() == 0  # volumes of run a, words of run b
    assert strength[0].max() == 0  # nothing was heard before the first volume
    assert strength[1, :4].min() > 0  # the words of the first volume, one volume later
    assert strength[1, 4:].max() == 0
    some = ba.attribute(ba.readout(layer, model), table, neuroid="y", presentations=[1, 7])
    np.testing.assert_allclose(some.values, a.values[[1, 7]], atol=1e-6)


def test_bad_input_is_refused(stimuli, network):
    with pytest.raises(ParameterError, match=r"matches 2 neuroids.*group/id"):
        ba.attribute(network, stimuli, neuroid=0)
    assert ba.attribute(network, stimuli, neuroid="1/0").layer.values.tolist() == ["1"]
    with pytest.raises(ParameterError, match="matches no neuroid"):
        ba.attribute(network, stimuli, neuroid="2/77")
    with pytest.raises(ParameterError, match=r"'method'.*integrated-gradients"):
        ba.attribute(network, stimuli, neuroid="1/0", method="saliency")
    with pytest.raises(ParameterError, match="positions between 0 and 11"):
        ba.attribute(network, stimuli, neuroid="1/0", presentations=[12])
    with pytest.raises(CapabilityError, match="no `pieces`"):
        ba.attribute(object(), stimuli, neuroid=0)


def test_attributions_of_a_unit_are_saved_and_opened_identically(stimuli, network, tmp_path):
    maps = ba.attribute(network, stimuli, neuroid=["1/0", "2/1"], presentations=[0, 2])
    assert maps.system.values.tolist() == [network.system] * 2
    ba.save(maps, tmp_path / "study.zarr", name="maps")
    opened = ba.open_study(tmp_path / "study.zarr")["results/maps"].attribution.load()
    xr.testing.assert_identical(opened, maps)


def test_a_number_that_names_no_neuroid(stimuli, network):
    with pytest.raises(ParameterError, match=r"neuroid=3\.5"):
        ba.attribute(network, stimuli, neuroid=3.5)
