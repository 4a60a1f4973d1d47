"""compare: every source group against every target group, from the same folds and with honest aggregates."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError, UnknownNameError
from brainalign.reports.diagnoses import diagnose

FIXED = ba.Ridge(alphas=[10.0], dtype="float64")


@pytest.fixture(scope="module")
def study():
    return ba.simulate(n_stimuli=60, n_neuroids=5, n_repeats=2, modalities=("fmri",), random_state=0)


def test_each_cell_is_the_median_of_evaluate(study):
    folds = ba.split(study.fmri, n_splits=3, random_state=0)
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), model=FIXED, cv=folds)
    layer = study.network[:, study.network.layer.values == "layer2"]
    alone = ba.evaluate(layer, study.fmri, model=FIXED, cv=folds)
    np.testing.assert_allclose(out.score_neuroid.sel(source_layer="layer2"), alone.score, atol=1e-6)
    assert out.score.attrs == alone.score.attrs == {"units": "Pearson r"}
    for region in ("V1", "V4", "IT"):
        expected = np.median(alone.score.values[alone.region.values == region])
        assert float(out.score.sel(source_layer="layer2", target_region=region)) == pytest.approx(expected, abs=1e-6)
    assert int(out.n_features.sel(source_layer="layer2")) == layer.sizes["neuroid"]


def test_alphas_at_the_end_of_their_grid_are_counted_in_each_cell(study):
    folds = ba.split(study.fmri, n_splits=3, random_state=0)
    model = ba.Ridge(alphas=[1e-3, 1e-2, 10.0])
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), model=model, cv=folds, controls="none")
    layer = study.network[:, study.network.layer.values == "layer2"]
    alone = ba.evaluate(layer, study.fmri, model=model, cv=folds, controls="none").alpha_at_edge
    for region, share in zip(out.target_region.values, out.alpha_at_edge.sel(source_layer="layer2").values, strict=True):
        assert share == alone.values[:, study.fmri.region.values == region].mean() > 0
    assert out.alpha_at_edge.dims == out.score.dims
    assert any("of the chosen alphas lie at the end of their grid" in line for line in diagnose(out))


def test_a_control_that_fails_for_a_later_source_group_is_named(study):
    class Picky(ba.Ridge):
        def fit(self, X, Y):
            if X.system.values[0] == "other" and X.layer.values[0] == "layer4":
                raise ValueError("not this layer")
            return super().fit(X, Y)

    other = study.network.assign_coords(system=("neuroid", ["other"] * study.network.sizes["neuroid"]))
    options = {"by": ("layer", "region"), "model": Picky(alphas=[1.0]), "cv": 3, "random_state": 0}
    out = ba.compare(study.network, study.fmri, controls={"other": other}, **options)
    assert np.isnan(out.score_control.sel(control="other")).all("target_region").values.tolist() == [False, False, False, True]
    assert json.loads(out.attrs["report"])["controls_failed"] == {"other": "not this layer"}


def test_one_name_on_both_sides_keeps_two_dims(study):
    out = ba.compare(study.network, study.network, by=("layer", "layer"), model=FIXED, cv=3, random_state=0)
    assert out.score.dims == ("source_layer", "target_layer")
    assert (out.score.values.argmax(1) == np.arange(4)).all()


def test_degenerate_neuroids_are_left_out_and_counted(study):
    broken = study.fmri.copy(deep=True)
    dead = np.flatnonzero(broken.region.values == "V4")[:2]
    broken[:, dead] = 0.0
    folds = ba.split(study.fmri, n_splits=3, random_state=0)
    out, whole = (ba.compare(study.network, y, by=("layer", "region"), model=FIXED, cv=folds) for y in (broken, study.fmri))
    assert int(out.n_neuroids.sel(target_region="V4")) == 3
    assert np.isfinite(out.score.values).all()
    np.testing.assert_allclose(out.score.sel(target_region="V1"), whole.score.sel(target_region="V1"))


def test_normalised_scores_are_ratios_of_means(study):
    folds = ba.split(study.fmri, n_splits=3, random_state=0)
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), model=FIXED, cv=folds, ceiling="repeat", random_state=0)
    ceiling = ba.noise_ceiling(study.fmri, random_state=0)
    v1 = study.fmri.region.values == "V1"
    expected = out.score_neuroid.values[:, v1].mean(1) / ceiling.values[v1].mean()
    np.testing.assert_allclose(out.score_normalized.sel(target_region="V1"), expected, rtol=1e-6)


def test_time_is_kept():
    study = ba.simulate(n_stimuli=40, n_neuroids=4, n_channels=4, n_repeats=1, random_state=0)
    meg = study.meg.assign_coords(region=("neuroid", ["left", "left", "right", "right"]))
    out = ba.compare(study.network, meg, by=("layer", "region"), model=FIXED, cv=3, random_state=0)
    assert out.score.dims == ("source_layer", "target_region", "time")


def test_an_unknown_group_is_named(study):
    with pytest.raises(ParameterError, match=r"by='regions' for target.*Did you mean 'region'"):
        ba.compare(study.network, study.fmri, by=("layer", "regions"))


@pytest.mark.parametrize("metric", ["pearson", "cka"])
def test_neuroids_without_a_group_are_not_left_out_in_silence(study, metric):
    depth = np.where(np.arange(study.fmri.sizes["neuroid"]) > 1, 1.0, np.nan)
    with pytest.raises(SchemaError, match=r"2 of \d+ neuroids have no `depth`, first 0, 1"):
        ba.compare(study.network, study.fmri.assign_coords(depth=("neuroid", depth)), by=("layer", "depth"), metric=metric)


@pytest.mark.parametrize(("side", "call"), [("source", "x, target"), ("target", "source, x")])
@pytest.mark.parametrize("metric", [None, "cka"])
def test_a_dict_is_told_how_to_go(study, side, call, metric):
    sides = {"source": study.network, "target": study.brain}
    sides[side] = {"early": sides[side], "late": sides[side]}
    with pytest.raises(
        ParameterError, match=rf"dict of 'early', 'late' as its {side}.*ba\.compare\({call}, by=by, random_state=0\)"
    ):
        ba.compare(**sides, by=("layer", "region"), metric=metric)


def test_grids_of_people_join_as_the_message_says(study):
    """People have other numbers of voxels; their cells are the same."""
    people = {"early": study.fmri, "late": study.fmri[:, 1:]}
    options = {"model": FIXED, "cv": 3, "controls": "none", "n_bootstraps": 20, "random_state": 0}
    grids = {name: ba.compare(study.network, x, by=("layer", "region"), **options) for name, x in people.items()}
    joined = xr.concat([x[["score"]] for x in grids.values()], pd.Index(list(grids), name="subject"))
    assert ba.bootstrap(joined, over="subject", random_state=0).score.dims == ("source_layer", "target_region")
    assert ba.bootstrap(grids, over="stimulus").difference.dims == ("pair", "source_layer", "target_region")


def test_a_sensor_without_a_ceiling_at_rest_has_one_during_the_response():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    y = np.repeat(np.stack([0 * x, x @ rng.normal(size=(4, 4))], axis=2), 4, axis=0) + 0.3 * rng.normal(size=(200, 4, 2))
    y[:, 0, 0] = 0.0  # nothing at all before the response
    ids = [f"s{i}" for i in range(50)]
    net = ba.responses(x, stimulus_id=ids, neuroid_id=range(4), modality="ann", system="net", layer="a")
    meg = ba.responses(
        y, stimulus_id=np.repeat(ids, 4), neuroid_id=range(4), time=[0.0, 0.1], modality="meg", system="s", region=["L", "R"] * 2
    )
    out = ba.compare(net, meg, by=("layer", "region"), model=FIXED, cv=4, ceiling="repeat", random_state=0)
    ceiling = ba.noise_ceiling(meg, random_state=0)
    np.testing.assert_allclose(out.ceiling.sel(target_region="L", time=0.1), ceiling.values[[0, 2], 1].mean())
    assert np.isfinite(out.score_normalized.sel(time=0.1).values).all()


@pytest.mark.parametrize("by", ["layer", None, ("layer",)])
def test_two_coordinates_are_asked_for(study, by):
    with pytest.raises(ParameterError, match="'by' parameter of compare must be two"):
        ba.compare(study.network, study.fmri, by=by)


def test_a_grid_says_whether_it_could_have_known(study):
    low = ba.controls(study.stimuli, random_state=0)
    recovery = {"without": ["untrained"], "n_draws": 2}
    out = ba.compare(
        study.network, study.fmri, by=("layer", "region"), model=FIXED, cv=3, controls=low, recovery=recovery, random_state=0
    )
    assert out.recovery_accuracy.sizes == {"target_region": 3, "source_layer": 4}
    assert set(low) <= set(out.recovery_candidate.values.tolist())
    assert "Would this comparison know" in out.attrs["verdict"]
    with pytest.raises(ParameterError, match="low-level"):
        ba.compare(study.network, study.fmri, by=("layer", "region"), model=FIXED, cv=3, recovery=True, random_state=0)


def test_a_metric_of_similarity_needs_no_mapping(study):
    options = {"by": ("layer", "region"), "metric": "cka-debiased", "n_permutations": 9, "ceiling": "repeat", "random_state": 0}
    out, alone = ba.compare(study.network, study.fmri, **options), ba.similarity(study.network, study.fmri, **options)
    for name in alone.data_vars:
        np.testing.assert_array_equal(out[name], alone[name])
    assert out.attrs["direction"] == "higher is more alike"
    assert "compare" in str(ba.core.provenance(out))


@pytest.mark.parametrize(("metric", "sign"), [("cka-debiased", 1), ("shape-1", -1)])
def test_controls_of_a_similarity_are_whole_or_group_by_group(study, metric, sign):
    rng = np.random.default_rng(0)
    same = study.network.copy(data=study.network.values @ rng.normal(size=(study.network.shape[1],) * 2).astype(np.float32))
    controls = {
        "pixels": study.network[:, :5].drop_vars("layer"),
        "untrained-0": same,
        "untrained-1": same[:, same.layer.values != "layer2"],
    }
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), metric=metric, controls=controls)
    pixels, untrained = (out.score_control.sel(control=name) for name in ("pixels", "untrained"))
    assert (pixels == pixels[0]).all()
    expected = ba.similarity(same, study.fmri, by=("layer", "region"), metric=metric).score
    np.testing.assert_allclose(untrained.sel(source_layer="layer1"), expected.sel(source_layer="layer1"), atol=1e-12)
    assert np.isnan(untrained.sel(source_layer="layer2")).all()
    best = sign * np.fmax(sign * pixels.values, sign * untrained.values)
    np.testing.assert_allclose(out.score_minus_best_control, out.score.values - best)


def test_a_control_that_a_metric_cannot_take_is_named_and_costs_nothing(study):
    rng = np.random.default_rng(0)
    pixels = study.network[:, :5].drop_vars("layer")
    pixels = pixels.copy(data=rng.normal(size=pixels.shape).astype(np.float32))
    flat = pixels.copy(deep=True)
    flat[3] = 2.0
    options = {"by": ("layer", "region"), "metric": "rsa"}
    out = ba.compare(study.network, study.fmri, controls={"flat": flat, "pixels": pixels}, **options)
    expected = ba.compare(study.network, study.fmri, controls={"pixels": pixels}, **options)
    xr.testing.assert_equal(out, expected)
    [(name, told)] = json.loads(out.attrs["report"])["controls_failed"].items()
    assert name == "flat"
    assert told.startswith("similarity got 1 of 60 conditions whose pattern is constant over neuroids in controls['flat']: ")
    assert any(line.startswith("Controls that could not be scored: 'flat'") for line in diagnose(out))
    with pytest.raises(AlignmentError, match=r"controls\['pixels'\] has 40 of the 60 presentations that are scored"):
        ba.compare(study.network, study.fmri, controls={"pixels": pixels[:40]}, **options)


def test_a_control_without_time_is_the_same_at_every_time(study):
    timed = ba.simulate(n_stimuli=60, random_state=0).meg.isel(time=[30, 31, 32], neuroid=slice(8))  # as many times as regions
    timed = timed.assign_coords(layer=("neuroid", list("aabb") * 2))
    pixels = study.network[:, :5].drop_vars("layer")
    options = {"by": ("layer", "region"), "metric": "cka"}
    out = ba.compare(timed, study.fmri, controls={"pixels": pixels, "self": timed}, **options)
    expected = ba.similarity(pixels, study.fmri, metric="cka", by=(None, "region")).score
    assert (out.score_control.sel(control="pixels", drop=True) == expected).all()
    np.testing.assert_allclose(out.score_control.sel(control="self"), out.score)
    with pytest.raises(ParameterError, match=r"controls\['meg'\] has other times than the score, which has 3"):
        ba.compare(timed, study.fmri, controls={"meg": timed[..., 1:]}, **options)
    with pytest.raises(ParameterError, match="other times than the score, which has none"):
        ba.compare(study.network, study.fmri, controls={"meg": timed}, **options)


def test_recovery_takes_a_similarity_as_its_scorer(study):
    recovery, v1 = {"n_draws": 3, "without": ["low-level", "untrained"]}, study.fmri[:, study.fmri.region.values == "V1"]
    for metric in ("cka-debiased", "procrustes-normalised"):
        out = ba.compare(study.network, v1, by=("layer", "region"), metric=metric, recovery=recovery, random_state=0)
        assert out.recovery_accuracy.shape == (1, 4)
        assert "Would this comparison know" in out.attrs["verdict"]
    assert float(out.recovery_accuracy.mean()) > 0.5  # a distance is turned round


def test_what_only_a_mapping_uses_is_refused_beside_a_similarity(study):
    with pytest.raises(ParameterError, match=r"compare got cv=5, aggregate='mean' beside a metric of similarity"):
        ba.compare(study.network, study.fmri, by=("layer", "region"), metric="cka", cv=5, aggregate="mean")
    with pytest.raises(
        UnknownNameError, match=r"of predictions, accuracy, .* of similarity, cca, .* Did you mean 'cka-debiased'"
    ):
        ba.compare(study.network, study.fmri, by=("layer", "region"), metric="cka-debias")
