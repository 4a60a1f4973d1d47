"""lesion: what is planted is found, and nothing else; a network and a mapping of recorded neuroids by one call."""

import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError, SchemaError


def recording(values, n_regions=2, **more):
    n, width = values.shape
    regions = np.repeat([f"V{k + 1}" for k in range(n_regions)], width // n_regions)
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(n)], neuroid_id=range(width), modality="fmri", system="sub-01",
                        region=regions, **more)  # fmt: skip


def behaviour(values):
    n, width = values.shape
    return ba.responses(
        values, stimulus_id=[f"s{i}" for i in range(n)], neuroid_id=range(width), modality="behaviour", system="sub-01"
    )


def test_a_zeroed_unit_changes_a_voxel_by_its_weight_and_one_without_weight_not_at_all(net, table):
    stimuli = table()
    features = ba.record(net, stimuli, progress=False)
    weights = np.array([[1.0, 0.5], [0.0, -1.0], [2.0, 0.3], [0.7, 0.0]])
    brain = behaviour(features.values @ weights)
    model = ba.Ridge(alphas=[1e-8], dtype="float64").fit(features, brain)
    model.coef_[1, 0] = 0.0
    voxel = ba.readout(net, model)
    out = ba.lesion(voxel, stimuli, units={"3": [1]})
    assert (out.response_lesioned == out.response).values[:, 0].all()
    np.testing.assert_allclose(
        (out.response - out.response_lesioned).values[:, 1], features.values[:, 1] * model.coef_[1, 1], atol=1e-5
    )
    np.testing.assert_allclose(out.effect.values[1], np.abs(features.values[:, 1] * model.coef_[1, 1]).mean(), rtol=1e-4)
    assert out.causal_scope == "model"


def test_the_same_lesion_of_a_network_and_of_what_a_mapping_reads_from_a_recording_gives_the_same_result(net, table):
    stimuli = table()
    features = ba.record(net, stimuli, progress=False)
    model = ba.Ridge(alphas=[1e-2], dtype="float64").fit(
        features, behaviour(features.values @ np.random.default_rng(1).normal(size=(4, 2)))
    )
    for mode in ("zero", "mean", "dampen"):
        one = ba.lesion(ba.readout(net, model), stimuli, units=["3/0", "3/2"], mode=mode, n_draws=9, random_state=0)
        other = ba.lesion(model, features, units=["3/0", "3/2"], mode=mode, n_draws=9, random_state=0)
        assert set(one.data_vars) == set(other.data_vars)
        np.testing.assert_allclose(one.effect, other.effect, atol=1e-5)
        np.testing.assert_allclose(one.effect_random, other.effect_random, atol=1e-5)
        assert (one.causal_scope, other.causal_scope) == ("model", "virtual")


def test_random_units_of_a_network_without_structure_give_uniform_percentiles(net, table):
    p = [float(ba.lesion(net, table(20), units={"1": [k % 5]}, n_draws=19, random_state=k).p_value.mean()) for k in range(10)]
    assert min(p) > 0.04
    assert 0.2 < np.mean(p) < 0.9


def test_a_unit_that_leads_nowhere_is_as_good_as_any_other_whatever_is_rounded(table):
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(6, 256), torch.nn.Tanh(), torch.nn.Linear(256, 300), torch.nn.Linear(300, 7))
    with torch.no_grad():
        model[2].weight[:, 10:] = 0
    net, stimuli = ba.TorchResponder(model, "3", system="net"), table(17)
    for target in (None, ba.record(net, stimuli, progress=False)):
        out = ba.lesion(net, stimuli, units={"1": [12]}, target=target, n_draws=99, random_state=2)
        assert out.p_value.values.tolist() == [1.0] * 7


def test_random_sets_leave_alone_what_is_spared(net, table):
    stimuli = table(20)
    features = ba.record(net, stimuli, progress=False)
    model = ba.Ridge(alphas=[1e-2], dtype="float64").fit(features, behaviour(features.values))
    for system, shown, layer in ((net, stimuli, "1"), (model, features, "3")):
        one, other = (ba.lesion(system, shown, units={layer: [k]}).effect.values for k in (1, 2))
        spared = [f"{layer}/{k}" for k in (0, 3, 4)][: 3 if layer == "1" else 2]
        drawn = ba.lesion(system, shown, units={layer: [1]}, spared=spared, n_draws=20, random_state=0).effect_random.values
        alike = [np.isclose(drawn, effect).all(axis=1) for effect in (one, other)]
        assert np.logical_xor(*alike).all()
        assert alike[0].any()
        assert alike[1].any()


@pytest.fixture
def decoded():
    """A recording of two regions whose neuroids have the same names, and which of two labels was shown."""
    rng, label = np.random.default_rng(0), np.array(["face", "house"] * 30)
    values = rng.normal(size=(60, 6)) + 2.0 * np.outer(label == "face", np.arange(6) < 3)
    return ba.responses(values, stimulus_id=range(60), neuroid_id=["0", "1", "02"] * 2, modality="fmri", system="s", condition=label,
                        region=["V1"] * 3 + ["V4"] * 3)  # fmt: skip


def test_labels_are_those_of_the_names_of_neuroids_and_none_is_missing(decoded):
    model = ba.Classifier("lda").fit(decoded, decoded.condition.values)
    options = {"units": {"V1": None}, "mode": "mean", "target": "condition"}
    whole, turned = (ba.lesion(model, decoded, neuroid=names, **options) for names in (None, ["house", "face"]))
    assert float(whole.score) == float(turned.score) > 0.9
    other = ba.Ridge(alphas=[1.0]).fit(decoded, decoded[:, :2].assign_coords(neuroid_id=("neuroid", ["b", "a"])))
    by_order = ba.lesion(other, decoded, neuroid=["b", "a"], **options).score  # no label's name: the first is of the first label
    right = decoded.values[:, :2].argmax(axis=1) == (decoded.condition.values == "house")
    assert float(by_order) == pytest.approx(np.mean([right[::2].mean(), right[1::2].mean()]), abs=0.1)
    some = decoded.condition.values.astype(object)
    some[:10] = np.nan
    with pytest.raises(SchemaError, match="10 of 60 presentations have no `condition`"):
        ba.lesion(model, decoded.assign_coords(condition=("presentation", some)), **options)


def test_neuroids_of_one_name_in_two_regions_are_told_apart(decoded):
    model = ba.Ridge(alphas=[1e-3]).fit(decoded, decoded)
    out = ba.lesion(model, decoded, units=["V1/1", "V4/02"], target=decoded)
    assert (out.score > 0.99).all()
    changed = np.abs(out.response_lesioned - out.response).max("presentation") > 0.5
    assert changed.values.tolist() == [False, True, False, False, False, True]
    for units in ({"V1": [1], "V4": ["02"]}, {"V1": ["1"], "V4": ["02"]}):
        np.testing.assert_array_equal(ba.lesion(model, decoded, units=units).response_lesioned, out.response_lesioned)
    alone = decoded[:, :3].drop_vars("region")
    with pytest.raises(AlignmentError, match="several of that name"):
        ba.lesion(model, decoded, units="V1", target=alone)


def test_a_constant_target_has_no_percentile(net, table):
    features = ba.record(net, table(), progress=False)
    target = features[:, :2].assign_coords(neuroid_id=("neuroid", ["a", "b"])) * [1.0, 0.0]
    voxels = ba.readout(net, ba.Ridge(alphas=[1.0]).fit(features, target.assign_attrs(features.attrs)))
    out = ba.lesion(voxels, table(), units={"1": [2]}, n_draws=4, random_state=0)
    for name in ("effect", "percentile", "p_value"):
        assert np.isnan(out[name].values).tolist() == [False, True]


def test_bad_input_is_refused(net, table):
    stimuli, x = table(), recording(np.random.default_rng(0).normal(size=(40, 6)))
    model = ba.Ridge(alphas=[1.0]).fit(x, behaviour(x.values[:, :2]))
    with pytest.raises(ParameterError, match=r"Got 9 of layer '1'.*`unit` is one of 0, 1, 2"):
        ba.lesion(net, stimuli, units={"1": [0, 9]})
    with pytest.raises(ParameterError, match=r"'one'.*matches none"):
        ba.lesion(net, stimuli, units={"one": [0]})
    with pytest.raises(ParameterError, match=r"units of 'V9'.*'V1', 'V2'"):
        ba.lesion(model, x, units={"V9": None})
    with pytest.raises(ParameterError, match=r"Got '?77'? of layer 'V1'"):
        ba.lesion(model, x, units=["V1/77"])
    with pytest.raises(ParameterError, match="got units="):
        ba.lesion(model, x, units=[])
    with pytest.raises(ParameterError, match=r"'mode'.*Did you mean 'zero'"):
        ba.lesion(model, x, units="V1", mode="zeros")
    with pytest.raises(ParameterError, match=r"factor=.*for the 5 units of '1'"):
        ba.lesion(net, stimuli, units={"1": [0]}, mode="dampen", factor={"1": [1.0]})
    with pytest.raises(ParameterError, match=r"leave \{'1': 0\} to draw from.*spare fewer"):
        ba.lesion(net, stimuli, units="1", n_draws=9)
    with pytest.raises(ParameterError, match=r"leave \{'1': -1\}"):
        ba.lesion(net, stimuli, units={"1": [0, 1, 2]}, spared={"1": [2, 3, 4]}, n_draws=9)
    with pytest.raises(ParameterError, match="target of type ndarray"):
        ba.lesion(net, stimuli, units={"1": [0]}, target=x.values)
    with pytest.raises(AlignmentError, match="neuroids 2, 3"):
        ba.lesion(net, stimuli, units={"1": [0]}, target=behaviour(x.values[:, :2]))
    with pytest.raises(AlignmentError, match=r"40 presentations.*for 40"):
        ba.lesion(net, stimuli, units={"1": [0]}, target=behaviour(x.values[:, :4])[::-1])
    with pytest.raises(ParameterError, match=r"target='label'.*presentation coordinate"):
        ba.lesion(model, x, units="V1", target="label")
    with pytest.raises(ParameterError, match=r"of 40 labels .* and 2 neuroids"):
        ba.lesion(model, x, units="V1", target="stimulus_id")
    with pytest.raises(CapabilityError, match="has no inner layers"):
        ba.lesion(model, x, units="V1", freeze="*")
    over_time = ba.Ridge(alphas=[1.0]).fit(x, behaviour(x.values[:, :2]).expand_dims(time=[0.0, 0.1], axis=2))
    with pytest.raises(CapabilityError, match=r"predicts .*'time'.*one time of the target"):
        ba.lesion(over_time, x, units="V1")
    with pytest.raises(CapabilityError, match="no `predict`"):
        ba.lesion(net, x, units="V1")
    with pytest.raises(CapabilityError, match="lesion got a Ridge"):
        ba.lesion(model, stimuli, units="V1")
    with pytest.raises(ParameterError, match="'swap' got 1 presentation"):
        ba.lesion(model, x[:1], units="V1", mode="swap")
