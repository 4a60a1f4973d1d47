"""attribute: exact where it is known, complete, additive, and one path for a unit and a voxel."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError, WeakMappingWarning


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


def test_all_voxels_are_the_weighted_sums_of_their_features(network):
    """More voxels than features: the features are attributed, and go through the weights; fewer: voxels are, one by one."""
    values = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
    table = ba.stimuli.table(values, stimulus_id=[f"s{i}" for i in range(40)], kind="array")
    layer = network.at("1")
    features = ba.record(layer, table, progress=False)
    y = features.values @ np.random.default_rng(1).normal(size=(5, 30))
    brain = ba.responses(y, stimulus_id=features.stimulus_id, neuroid_id=range(100, 130), modality="fmri", system="sub-01")
    model = ba.Ridge(alphas=[1e-6], dtype="float64").fit(features, brain)
    voxels, rows = ba.readout(layer, model), [0, 7, 33]
    with pytest.warns(WeakMappingWarning, match="30 of 30 neuroids, first '100'"):
        many = ba.attribute(voxels, table, presentations=rows)
    few = ba.attribute(voxels, table, neuroid=[102, 129], presentations=rows)
    np.testing.assert_allclose(many.sel(neuroid=[2, 29]).values, few.values, atol=1e-6)
    units = ba.attribute(layer, table, presentations=rows)
    np.testing.assert_allclose(many.values, np.einsum("pnf,nv->pvf", units.values, model.coef_), atol=1e-5)
    assert many.attrs["completeness_error"] < 1e-5
    for options in ({"method": "conductance"}, {"method": "gradient-times-input", "baseline": "silent"}):
        flow = ba.attribute(voxels, table, presentations=rows, wrt="1", **options)
        assert flow.shape == (3, 30, 5)
        with_act = features.values[rows][:, None] * model.coef_.T if "baseline" in options else None
        if with_act is not None:  # of a linear readout: weight times activation
            np.testing.assert_allclose(flow.values, with_act, atol=1e-5)


def test_held_out_scores_stand_beside_the_map(stimuli, network):
    layer = network.at("1")
    features = ba.record(layer, stimuli, progress=False)
    brain = ba.responses(features.values[:, :2], stimulus_id=features.stimulus_id, neuroid_id=["a", "b"], modality="fmri",
                         system="sub-01")  # fmt: skip
    model = ba.Ridge(alphas=[1e-3]).fit(features, brain)
    scores = xr.Dataset(
        {"score": ("neuroid", [0.4, 0.5]), "p_value": ("neuroid", [0.2, 0.01]), "ceiling": ("neuroid", [0.8, 0.9])},
        coords={"neuroid_id": ("neuroid", ["b", "a"])},
    )
    voxels = ba.readout(layer, model, scores=scores)
    with pytest.warns(WeakMappingWarning, match="1 of 2 neuroids, first 'b'"):
        a = ba.attribute(voxels, stimuli)
    assert a.mapping_score.values.tolist() == [0.5, 0.4]
    assert a.ceiling.values.tolist() == [0.9, 0.8]
    assert a.attrs["causal_scope"] == "model"
    assert "mapping_score" not in ba.attribute(layer, stimuli, neuroid=0).coords


def test_layers_share_one_path_and_say_how_much_flows_through_them(stimuli, network):
    unit = network.at("2")
    found = ba.attribute(unit, stimuli, neuroid=[0, 1], method="conductance", wrt=["0", "1"], n_steps=64)
    assert found.dims == ("presentation", "neuroid", "unit")
    assert found.unit_layer.values.tolist() == ["0"] * 5 + ["1"] * 5
    assert found.attrs["completeness_error"] < 1e-3
    flow = json.loads(found.attrs["through_flow"])
    assert flow == pytest.approx({"0": 1.0, "1": 1.0}, abs=1e-3)
    one = ba.attribute(unit, stimuli, neuroid=[0, 1], method="conductance", wrt="1", n_steps=64)
    np.testing.assert_allclose(found.isel(unit=slice(5, 10)).values, one.values, atol=1e-6)


def test_words_conduct_through_units_over_all_tokens_under_temporal_mixing(network):
    rng = np.random.default_rng(0)
    table = ba.stimuli.table(rng.normal(size=(20, 6)).astype("float32"), stimulus_id=[f"w{i:02d}" for i in range(20)], kind="array",
                             onset_s=np.arange(20) * 0.5, duration_s=np.full(20, 0.5), run=["a"] * 20)  # fmt: skip
    layer = network.at("2")
    features = ba.record(layer, table, progress=False)
    bold = ba.responses(rng.normal(size=(5, 9)), stimulus_id=[f"v{i}" for i in range(5)], neuroid_id=range(9), modality="fmri",
                        system="s", run=["a"] * 5, onset_s=np.arange(5) * 2.0, duration_s=2.0)  # fmt: skip
    chain = ba.chain(StandardScaler(), ba.Reduce(3), ba.WordsToVolumes("sum"), ba.Delay([2, 4]), ba.Ridge(alphas=[0.1]))
    voxels = ba.readout(layer, chain.fit(features, bold))
    assert voxels.pieces(table)[1].features.n == 3
    for mode in ("vjp", "jvp"):
        words = ba.attribute(voxels, table, mode=mode)
        assert words.attrs["completeness_error"] < 1e-4
        one = ba.attribute(voxels, table, neuroid=4, presentations=[3], mode=mode)
        np.testing.assert_allclose(one.values[0, 0], words.values[3, 4], atol=1e-5)
    units = ba.attribute(voxels, table, wrt="1", method="conductance", n_steps=64)
    assert units.shape == (5, 9, 5)
    np.testing.assert_allclose(units.sum("unit").values, words.sum("part").values, atol=2e-3)


def test_expected_gradients_of_a_linear_unit_are_weight_times_distance_from_the_mean(stimuli):
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 3)
    linear = ba.TorchResponder(torch.nn.Sequential(layer), layers="0", system="net")
    a = ba.attribute(linear, stimuli, neuroid=1, method="expected-gradients", n_steps=3000, random_state=0)
    values = stimuli["values"].values
    others = (values.sum(axis=0) - values) / 11  # a stimulus is no baseline of its own
    expected = (values - others) * layer.weight.detach().numpy()[1]
    np.testing.assert_allclose(a.values[:, 0], expected, atol=0.06)
    assert a.attrs["completeness_error"] < 1e-5  # beside the mean over the same draws
    some = ba.attribute(linear, stimuli, neuroid=1, method="expected-gradients", n_steps=3000, random_state=0, presentations=[4])
    np.testing.assert_array_equal(some.values[0], a.values[4])


def test_double_precision_networks_are_attributed_in_double_precision(stimuli):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4)).double()
    a = ba.attribute(ba.TorchResponder(net, layers="2", system="net"), stimuli, n_steps=40)
    assert a.attrs["completeness_error"] < 1e-12


@pytest.mark.parametrize("method", ["integrated-gradients", "conductance", "occlusion"])
def test_a_voxel_without_a_model_has_no_attribution_and_disturbs_no_other(stimuli, network, method):
    layer = network.at("1")
    features = ba.record(layer, stimuli, progress=False)
    values = np.random.default_rng(0).normal(size=(12, 4))
    values[:, 1], values[3, 2] = 2.0, np.nan
    brain = ba.responses(
        values, stimulus_id=features.stimulus_id, neuroid_id=list("abcd"), modality="fmri", system="s", allow_nan=True
    )
    found, fine = (
        ba.attribute(ba.readout(layer, ba.Ridge(alphas=[1.0]).fit(features, y)), stimuli, method=method, n_steps=32,
                     wrt="0" if method == "conductance" else "input")
        for y in (brain, brain[:, [0, 3]])
    )  # fmt: skip
    np.testing.assert_array_equal(np.isnan(found.values).all(axis=(0, 2)), [False, True, True, False])
    np.testing.assert_allclose(found.values[:, [0, 3]], fine.values, atol=1e-6)
    for name in fine.attrs.keys() & {"completeness_error", "through_flow"}:
        assert "nan" not in str(found.attrs[name]).lower()
        assert found.attrs[name] != 0


class Hard(torch.nn.Module):
    """One output that a threshold makes, and one that no input reaches."""

    def __init__(self):
        super().__init__()
        self.first, self.step, self.constant = torch.nn.Linear(6, 3), torch.nn.Identity(), torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.constant(self.step((self.first(x) > 0).float())[:, :1].detach())


@pytest.mark.parametrize("options", [{}, {"method": "conductance", "wrt": "first"}, {"wrt": "first"}])
def test_responses_without_a_gradient_are_named(options):
    table = ba.stimuli.table(np.random.default_rng(0).normal(size=(4, 6)), stimulus_id=list("abcd"), kind="array")
    responder = ba.TorchResponder(Hard(), layers=["step", "constant"], system="hard")
    with pytest.raises(CapabilityError, match=r"TorchResponder whose responses have no gradient.*method='occlusion'"):
        ba.attribute(responder.at("step"), table, **options)
    assert (ba.attribute(responder.at("constant"), table, **options).values == 0).all()
    assert ba.attribute(responder.at("step"), table, method="occlusion").shape == (4, 3, 6)
    with pytest.raises(CapabilityError, match=r"whose responses have no gradient.*method='exact'"):
        ba.patch(responder.at("step"), table, "zero", nodes="first", method="attribution")
    with torch.inference_mode(), pytest.raises(CapabilityError, match="inference_mode"):
        ba.attribute(responder.at("constant"), table, **options)


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
    unit = network.at("2")
    with pytest.raises(ParameterError, match="Expected inner layers, whose units conduct"):
        ba.attribute(unit, stimuli, neuroid=0, method="conductance")
    for wrt in ("7", 7):
        with pytest.raises(ParameterError, match=r"'7', which matches none"):
            ba.attribute(unit, stimuli, neuroid=0, wrt=wrt)
    with pytest.raises(ParameterError, match=r"no layers in wrt=\(\)"):
        ba.attribute(unit, stimuli, neuroid=0, wrt=())
    with pytest.raises(ParameterError, match=r"mode='jvp'.*Expected `groups=`"):
        ba.attribute(unit, stimuli, neuroid=0, mode="jvp")
    with pytest.raises(ParameterError, match="'max_memory' parameter of attribute leaves 250 bytes"):
        ba.attribute(unit, stimuli, neuroid=0, max_memory=1000)
    holes = stimuli.assign(values=stimuli["values"].where(stimuli.stimulus_id != stimuli.stimulus_id[5]))
    with pytest.raises(SchemaError, match="NaN or infinite values at 1 of 12 presentations, 5"):
        ba.attribute(unit, holes, neuroid=0)


def test_attributions_of_a_unit_are_saved_and_opened_identically(stimuli, network, tmp_path):
    maps = ba.attribute(network, stimuli, neuroid=["1/0", "2/1"], presentations=[0, 2])
    assert maps.system.values.tolist() == [network.system] * 2
    ba.save(maps, tmp_path / "study.zarr", name="maps")
    opened = ba.open_study(tmp_path / "study.zarr")["results/maps"].attribution.load()
    xr.testing.assert_identical(opened, maps)


def test_a_number_that_names_no_neuroid(stimuli, network):
    with pytest.raises(ParameterError, match=r"neuroid=3\.5"):
        ba.attribute(network, stimuli, neuroid=3.5)


@pytest.mark.parametrize("method", ["integrated-gradients", "conductance"])
def test_a_path_begins_at_one_presentation_where_baselines_are_drawn(stimuli, network, method):
    a = ba.attribute(network.at("2"), stimuli, method=method, wrt="1" if method == "conductance" else "input",
                     baseline="presentations", random_state=0)  # fmt: skip
    assert a.attrs["completeness_error"] < 1e-5
    others = ba.record(network.at("2"), stimuli, progress=False).values
    assert np.abs(a.baseline_response.values[:, None] - others).max(axis=2).min(axis=1).max() < 1e-5


def test_gradients_keep_the_digits_of_float32(stimuli):
    seen = []

    class Watched(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 1 * x

        @staticmethod
        def backward(ctx, gradient):
            seen.append(torch.backends.cudnn.allow_tf32)
            return gradient

    class Layer(torch.nn.Module):
        def forward(self, x):
            return Watched.apply(x)

    responder = ba.TorchResponder(torch.nn.Sequential(Layer(), torch.nn.Tanh()), layers="1", system="net")
    before = torch.backends.cudnn.allow_tf32
    ba.attribute(responder, stimuli, neuroid=0, mode="vjp")
    ba.patch(responder, stimuli, "zero", nodes="1", neuroid=0, method="attribution")
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32 == before
