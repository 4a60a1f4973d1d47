"""Pseudo-depth against planted layers, and against RSA written out."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import brainalign as ba
from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.engine.kernel_analysis import gaussian_error_curve
from brainalign.geometry.protocols import kernel_analysis, pseudo_depth


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=60, n_neuroids=40, n_repeats=2, snr=2.0, random_state=0)


def test_areas_lie_at_the_layers_that_they_read(study):
    out = pseudo_depth(study.network, study.brain, n_neuroids=[4, 40], n_stimuli=[15, 60], n_draws=20, random_state=0)
    assert out.score.dims == ("n_stimuli", "n_neuroids", "source_layer", "target_region")
    all_of_it = out.sel(n_neuroids=40, n_stimuli=60)
    assert all_of_it.depth.sel(summary="argmax").values.tolist() == pytest.approx([0.0, 1 / 3, 1.0])
    assert (all_of_it.share.max("source_layer") == 1.0).all()  # all neuroids and stimuli: every draw is the same
    np.testing.assert_allclose(all_of_it.depth_low, all_of_it.depth_high)
    few = out.sel(n_neuroids=4, n_stimuli=15)
    width = few.depth_high - few.depth_low
    assert (width.sel(summary="argmax") > 0.3).any()
    assert (few.share.max("source_layer") < 1.0).any()
    assert (
        np.diff(out.depth.sel(summary="centre-of-mass", n_stimuli=60).values, axis=-1) > 0
    ).all()  # the order holds at any size


def test_all_neuroids_and_stimuli_give_rsa(study):
    v1 = study.brain[:, study.brain.region.values == "V1"]
    out = pseudo_depth(study.network, v1, n_neuroids=40, n_draws=1, random_state=0)
    x, y, _ = ba.align(study.network, ba.average_repeats(v1))
    upper = np.triu_indices(60, 1)
    for layer in np.unique(x.layer.values):
        a, b = (1 - np.corrcoef(values)[upper] for values in (x.values[:, x.layer.values == layer], y.values))
        assert float(out.score.sel(source_layer=layer).item()) == pytest.approx(spearmanr(a, b).statistic, abs=1e-5)


def test_both_sides_may_be_either(study):
    back = pseudo_depth(study.brain, study.network, by=("region", "layer"), n_draws=3, random_state=0)
    assert back.score.dims == ("n_stimuli", "n_neuroids", "source_region", "target_layer")
    assert float(back.depth.sel(summary="argmax", target_layer="layer4").item()) > float(
        back.depth.sel(summary="argmax", target_layer="layer1").item()
    )


def test_one_seed_one_answer_and_neuroids_with_nan_are_left_out(study):
    first, again = (pseudo_depth(study.network, study.brain, n_draws=3, random_state=4) for _ in range(2))
    xr.testing.assert_equal(first, again)
    x = study.brain.copy().assign_attrs(allow_nan=True)
    x[:, 0] = np.nan
    with pytest.warns(
        DegenerateNeuroidWarning, match="pseudo_depth leaves out 1 of 40 neuroids of target 'V1', which have NaN"
    ) as seen:
        assert np.isfinite(pseudo_depth(study.network, x, n_draws=2, random_state=0).score).all()
    assert seen[0].filename == __file__
    pearson = pseudo_depth(study.network, study.brain, n_draws=3, metric="pearson", random_state=4)
    assert not np.allclose(pearson.score, first.score)


def test_draws_in_which_nothing_is_similar_have_no_depth_and_spare_the_others():
    weak = ba.simulate(n_stimuli=30, n_neuroids=8, n_repeats=1, snr=0.02, random_state=0)
    out = pseudo_depth(weak.network, weak.brain, n_neuroids=[4, 8], n_draws=50, random_state=0)
    assert ((out.depth >= 0) & (out.depth <= 1)).all()
    assert (out.depth_low <= out.depth_high).all()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_stimulus_to_which_all_neuroids_respond_alike_is_named(study, side):
    sides = {"source": study.network, "target": ba.average_repeats(study.brain)}
    by = {"source": "layer", "target": "region"}[side]
    x = sides[side].copy()
    label, stimulus = x[by].values[0], x.stimulus_id.values[3]
    x[{"presentation": 3, "neuroid": x[by].values == label}] = 0.25
    with pytest.raises(SchemaError, match=f"1 stimuli to which all neuroids of {side} '{label}' respond alike: '{stimulus}'"):
        pseudo_depth(**sides | {side: x}, n_draws=1)


def test_labels_stay_what_they_are(study):
    depth = np.unique(study.network.layer.values, return_inverse=True)[1]
    out = pseudo_depth(study.network.assign_coords(layer=("neuroid", depth)), study.brain, n_draws=2, random_state=0)
    assert out.source_layer.values.tolist() == [0, 1, 2, 3]


def test_bad_input_is_named(study):
    with pytest.raises(ParameterError, match="by='area' for target"):
        pseudo_depth(study.network, study.brain, by=("layer", "area"))
    with pytest.raises(ParameterError, match=r"'n_neuroids' parameter .* \[3, 40\]. Got 41"):
        pseudo_depth(study.network, study.brain, n_neuroids=41)
    with pytest.raises(ParameterError, match="'n_stimuli' parameter"):
        pseudo_depth(study.network, study.brain, n_stimuli=[2])
    with pytest.raises(AlignmentError, match="share 3 of 3 / 60"):
        pseudo_depth(study.network[:3], study.brain)
    with pytest.raises(ParameterError, match=r"must be two coordinates, of the source and of the target. Got 'layer'"):
        pseudo_depth(study.network, study.brain, by="layer")
    with pytest.raises(SchemaError, match=r"2 neuroids without NaN or infinity in target 'V1'. Expected at least 3"):
        pseudo_depth(study.network, study.brain[:, :2])
    with pytest.raises(SchemaError, match=r"2 neuroids without NaN or infinity in source 'layer1'. Expected at least 3"):
        pseudo_depth(study.network[:, :2], study.brain)
    with pytest.raises(ParameterError, match="Expected no time"):
        pseudo_depth(study.network, study.meg)


def test_draws_go_by_name_and_not_by_the_order_of_presentations_and_neuroids(study):
    options = {"n_stimuli": 20, "n_neuroids": 10, "n_draws": 3, "random_state": 0}
    out = pseudo_depth(study.network, study.brain, **options)
    rng = np.random.default_rng(0)
    brain = study.brain[rng.permutation(study.brain.shape[0]), rng.permutation(study.brain.shape[1])]
    again = pseudo_depth(study.network, brain, **options)
    assert again.target_region.values.tolist() != out.target_region.values.tolist()
    xr.testing.assert_allclose(again.sel(target_region=out.target_region), out, rtol=1e-5)


def stacked(x):
    """Call the repeats of each stimulus two subjects."""
    return x.assign_coords(subject=("presentation", np.where(x.repetition == 0, "p", "q")))


def test_subjects_in_one_array_are_not_averaged_unasked(study, told):
    both = stacked(study.brain)
    with pytest.raises(SchemaError, match="pseudo_depth got stimuli that several subjects saw, 'p', 'q'"):
        pseudo_depth(study.network, both)
    with pytest.raises(SchemaError, match="pseudo_depth got stimuli that several subjects saw"):
        pseudo_depth(both, study.network, by=("region", "layer"))
    with pytest.raises(SchemaError, match="kernel_analysis got stimuli that several subjects saw, 'p', 'q'"):
        kernel_analysis(stacked(told["brain"][0]), "side")
    pseudo_depth(study.network, ba.average_repeats(both), n_draws=1)


@pytest.fixture(scope="module")
def told(study):
    """Both sides with classes of stimuli that the first neuroid of the network separates."""
    classes = dict(zip(study.network.stimulus_id.values.tolist(), study.network.values[:, 0] > 0, strict=True))

    def labelled(x):
        return x.assign_coords(side=("presentation", ["right" if classes[i] else "left" for i in x.stimulus_id.values.tolist()]))

    return {"brain": (labelled(study.brain), "region"), "network": (labelled(study.network), "layer")}


@pytest.mark.parametrize("side", ["brain", "network"])
def test_kernel_analysis_of_either_side(told, side):
    x, by = told[side]
    out = kernel_analysis(x, "side", by=by)
    assert out.error.dims == ("n_components", by)
    assert out.attrs["direction"] == "lower is better"
    once = ba.average_repeats(x)
    first = once[:, once[by].values == out[by].values[0]].values.astype(np.float64)
    right = (once.side.values == "right") * 1.0
    expected = gaussian_error_curve(first, np.stack([right, 1 - right], axis=1))
    np.testing.assert_allclose(out.error.isel({by: 0}), expected, atol=1e-10)
    assert float(out.area.isel({by: 0})) == pytest.approx(expected.mean())
    assert float(out.area.isel({by: 0})) < float(out.area.isel({by: -1}))  # where the classes come from
    whole = kernel_analysis(x, "side")
    assert whole.error.dims == ("n_components",)
    assert ba.core.provenance(out).steps[-1]["verb"] == "kernel_analysis"


def test_kernel_analysis_of_a_number(told):
    x = ba.average_repeats(told["network"][0])
    number = x.assign_coords(size=("presentation", x.values[:, 0].astype(np.float64)))
    error = kernel_analysis(number, "size", by="layer").error.isel(n_components=25)
    assert error.values.argmin() == 0  # the layer that has it
    with pytest.raises(ParameterError, match="or finite numbers that differ"):
        kernel_analysis(number.assign_coords(size=number["size"] * np.nan), "size")


def test_bad_input_of_kernel_analysis_is_named(study, told):
    x = told["brain"][0]
    with pytest.raises(ParameterError, match=r"target='sides'; its stimuli have .* Did you mean 'side'"):
        kernel_analysis(x, "sides")
    with pytest.raises(ParameterError, match=r"target='one', which is 'a', 'a', 'a', .* Expected two classes"):
        kernel_analysis(x.assign_coords(one=("presentation", ["a"] * len(x))), "one")
    with pytest.raises(ParameterError, match="by='area' for responses,"):
        kernel_analysis(x, "side", by="area")
    with pytest.raises(ParameterError, match=r"quantiles=\(\)"):
        kernel_analysis(x, "side", quantiles=())
    silent = x.copy().assign_attrs(allow_nan=True)
    silent[:, x.region.values == "V1"] = np.nan
    with pytest.raises(SchemaError, match=r"0 neuroids without NaN or infinity in responses 'V1'. Expected at least 1"):
        kernel_analysis(silent, "side", by="region")
    with pytest.raises(ParameterError, match="'quantiles' parameter of kernel_analysis"):
        kernel_analysis(x, "side", quantiles=[0.0])
    with pytest.raises(ParameterError, match=r"kernel_analysis got responses with dims .* Expected no time"):
        kernel_analysis(study.meg, "side")
