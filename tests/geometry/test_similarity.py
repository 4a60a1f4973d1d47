"""One engine for every metric: joins, p-values, intervals, draws of neuroids and ceilings, against what is written out."""

import json
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError, SchemaError, UnknownNameError
from brainalign.geometry.metrics import METRICS, cka_minibatch, rsa, similarity_metric

BY = ("layer", "region")
#: Metrics of averaged responses; others take single presentations.
OF_MEANS = [name for name in sorted(METRICS) if not similarity_metric(name).trials]


@pytest.fixture(scope="module")
def study():
    found = ba.simulate(n_stimuli=60, n_neuroids=12, n_repeats=2, snr=4.0, random_state=0)
    return replace(found, network=narrowed(found.network))


def narrowed(network):
    """Keep 12 principal components of each layer as neuroids, so that half of the stimuli suffice for canonical correlations."""
    layers, values = network.layer.values, network.values.copy()
    kept = [np.flatnonzero(layers == layer)[:12] for layer in np.unique(layers)]
    for columns, layer in zip(kept, np.unique(layers), strict=True):
        left, scale, _ = np.linalg.svd(values[:, layers == layer], full_matrices=False)
        values[:, columns] = left[:, :12] * scale[:12]
    return network.copy(data=values).isel(neuroid=np.concatenate(kept))


def debiased(x, y):
    def centred(z):
        gram = z @ z.T
        gram, n = gram - np.diag(np.diag(gram)), len(gram)
        rows = gram.sum(1) / (n - 2)
        out = gram - rows[:, None] - rows + gram.sum() / ((n - 1) * (n - 2))
        return out - np.diag(np.diag(out))

    a, b = centred(x), centred(y)
    return (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())


def test_cells_are_those_of_joined_and_averaged_groups(study):
    brain = study.brain[::-1]
    out = ba.similarity(study.network, brain, by=BY)
    x, y, _ = ba.align(study.network, ba.average_repeats(brain))
    assert out.score.dims == ("source_layer", "target_region")
    for layer in out.source_layer.values:
        for region in out.target_region.values:
            pair = (x.values[:, x.layer.values == layer], y.values[:, y.region.values == region])
            expected = debiased(*(z.astype(np.float64) for z in pair))
            assert float(out.score.sel(source_layer=layer, target_region=region)) == pytest.approx(expected, abs=1e-10)
    assert out.attrs["direction"] == "higher is more alike"
    assert out.attrs["invariances"] == "translate, permute, rotate, scale"
    assert json.loads(out.attrs["report"])["join"]["n_shared"] == 60
    whole = ba.similarity(study.network, brain)
    assert whole.score.dims == ()
    assert ba.similarity(study.network, brain, by=(None, "region")).score.dims == ("target_region",)


@pytest.mark.parametrize("name", OF_MEANS)
def test_every_metric_has_the_same_inference(study, name):
    network = study.network[:, np.isin(study.network.layer.values, ["layer1", "layer4"])]
    brain = study.brain[:, np.isin(study.brain.region.values, ["V1", "IT"])]
    out = ba.similarity(
        network, brain, metric=name, by=BY, n_permutations=19, n_bootstraps=20, n_neuroids=[4, 12], n_draws=3,
        ceiling="repeat", random_state=0,
    )  # fmt: skip
    cells = ("source_layer", "target_region")
    for variable in ("score", "p_value", "p_value_fdr", "p_value_max", "ci_low", "ci_high", "score_chance"):
        assert out[variable].dims == cells
    assert out.score_bootstrap.dims == ("bootstrap", *cells)
    assert out.score_drawn.dims == ("n_drawn", *cells)
    assert out.ceiling.dims == ("target_region",)
    assert all(np.isfinite(variable).all() for variable in out.data_vars.values())
    assert (out.p_value.values >= 0.05).all()
    assert (out.p_value_max.values >= 0.05).all()
    best = out.score.sel(source_layer="layer1", target_region="V1")
    chance = out.score_chance.sel(source_layer="layer1", target_region="V1")
    assert (best > chance) == similarity_metric(name).higher_is_alike
    assert float(out.p_value.sel(source_layer="layer1", target_region="V1")) == 0.05
    again = ba.similarity(network, brain, metric=name, by=BY, n_permutations=19, random_state=0)
    xr.testing.assert_equal(again.p_value, out.p_value)


def test_directions_are_the_same_for_brains_and_networks(study):
    forth, back = ba.similarity(study.network, study.brain, by=BY), ba.similarity(study.brain, study.network, by=BY[::-1])
    np.testing.assert_allclose(forth.score.values, back.score.values.T, atol=1e-12)


def test_lazy_sides_are_read_group_by_group(study):
    lazy = ba.similarity(study.network.chunk({"neuroid": 5}), study.brain.chunk({"presentation": 7}), by=BY)
    np.testing.assert_allclose(lazy.score, ba.similarity(study.network, study.brain, by=BY).score, atol=1e-6)


def test_permutations_move_the_target_once_for_all_cells(study):
    out = ba.similarity(study.network, study.brain, by=BY, n_permutations=199, random_state=3)
    assert (out.p_value.values >= 1 / 200).all()
    assert (out.p_value_max.values >= out.p_value.values - 1e-12).all()
    assert abs(out.score_chance).max() < 0.03  # debiased
    assert (
        ba.similarity(study.network, study.brain, metric="cka", by=BY, n_permutations=19, random_state=0).score_chance > 0.1
    ).all()


@pytest.mark.parametrize("metric", ["procrustes", "cka-debiased"])
def test_long_draws_show_a_bar_which_changes_nothing(study, metric, capsys):
    sides = study.network[:, :3], study.brain[:, :3]
    options = {"metric": metric, "n_permutations": 5, "n_bootstraps": 5, "random_state": 0}
    silent = ba.similarity(*sides, **options)
    assert "draws" not in capsys.readouterr().err  # no terminal
    xr.testing.assert_equal(ba.similarity(*sides, **options, progress=True), silent)
    assert "draws: 100%" in capsys.readouterr().err
    timed = xr.concat([sides[1]] * 3, xr.Variable("time", [0.0, 0.1, 0.2], {"units": "s"}), coords="minimal").transpose(
        ..., "time"
    )
    ba.similarity(sides[0], timed.assign_attrs(time_reference="stimulus onset"), **options, progress=True)
    shown = capsys.readouterr().err
    assert "times: 100%|██████████| 3/3" in shown
    assert "draws" not in shown


def test_a_distance_is_significant_when_it_is_small(study):
    out = ba.similarity(study.network, study.brain, metric="shape-1", by=BY, n_permutations=99, random_state=0)
    assert float(out.p_value_max.sel(source_layer="layer1", target_region="V1")) == 0.01
    assert out.attrs["direction"] == "lower is more alike"


def test_draws_of_stimuli_are_paired_and_lie_around_the_score(study):
    out = ba.similarity(study.network, study.brain, by=BY, n_bootstraps=300, random_state=0)
    np.testing.assert_allclose(out.score_bootstrap.mean("bootstrap"), out.score, atol=1e-12)
    assert ((out.ci_low < out.score) & (out.score < out.ci_high)).all()
    between = ba.bootstrap(out, over="stimulus", between="source_layer")
    v1 = between.sel(target_region="V1")
    assert float(v1.difference_low[0]) > 0  # layer1 is nearer to V1 than layer2
    assert int(out.n_units) == 60


def test_all_neuroids_drawn_are_all_neuroids(study):
    out = ba.similarity(study.network, study.brain, by=BY, n_neuroids=[4, 12], n_draws=5, random_state=0)
    whole = ba.similarity(study.network, study.brain, by=BY, n_neuroids=12, n_draws=2, random_state=0)
    np.testing.assert_allclose(whole.score_drawn.sel(n_drawn=12), whole.score, atol=1e-12)
    np.testing.assert_allclose(whole.score_drawn_low, whole.score_drawn_high, atol=1e-12)
    assert (out.score_drawn_low <= out.score_drawn).all()
    with pytest.raises(ParameterError, match=r"'n_neuroids' parameter .* \[1, 12\]. Got 13"):
        ba.similarity(study.network, study.brain, by=BY, n_neuroids=13)


def test_ceilings_come_from_repeats_or_from_other_systems(study):
    out = ba.similarity(study.network, study.brain, by=BY, ceiling="repeat", n_draws=100, random_state=0)
    y, rng = study.brain.sortby("stimulus_id"), np.random.default_rng(1)
    for region in out.target_region.values:
        pairs = y.values[:, y.region.values == region].astype(np.float64).reshape(60, 2, -1)
        swaps = rng.integers(2, size=(100, 60))
        expected = np.mean([debiased(pairs[np.arange(60), swap], pairs[np.arange(60), 1 - swap]) for swap in swaps])
        assert float(out.ceiling.sel(target_region=region)) == pytest.approx(expected, abs=0.02)
    people = {"a": study.brain, "b": study.brain[:, study.brain.region.values == "V1"]}
    across = ba.similarity(study.network, study.brain, by=BY, ceiling=people).ceiling
    np.testing.assert_allclose(across, 1.0, atol=1e-12)  # IT is only in "a"
    assert float(ba.similarity(study.network, study.brain, ceiling={"a": study.network}).ceiling) < 1
    with pytest.raises(SchemaError, match="0 of the 60 stimuli are repeated in the target"):
        ba.similarity(study.brain, study.network, ceiling="repeat")
    with pytest.raises(ParameterError, match="must be 'repeat', or a dict of other responses"):
        ba.similarity(study.network, study.brain, ceiling=0.5)


def test_neuroids_left_out_of_a_score_or_a_ceiling_are_said_where_it_was_asked_for(study):
    target, once = study.brain.copy(), study.network.copy()
    target[0, 0] = np.nan  # the mean of both repeats is not
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 36 neuroids of target '' have NaN") as seen:
        ba.similarity(study.network, target.assign_attrs(allow_nan=True), ceiling="repeat", n_draws=2)
    assert [w.filename for w in seen] == [__file__]
    once[0, 0] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="of source '' have NaN") as seen:
        ba.similarity(once.assign_attrs(allow_nan=True), study.brain)
    assert [w.filename for w in seen] == [__file__]


def test_each_time_of_either_side_is_compared(study):
    out = ba.similarity(
        study.network, study.meg, by=("layer", None), n_permutations=9, ceiling="repeat", n_draws=2, random_state=0
    )
    assert out.score.dims == ("source_layer", "time")
    assert out.ceiling.dims == ("time",)
    back = ba.similarity(study.meg, study.network, by=(None, "layer"))
    np.testing.assert_allclose(back.score.values, out.score.values, atol=1e-12)
    both = ba.similarity(study.meg, study.meg)
    np.testing.assert_allclose(both.score, 1.0)


def test_recordings_in_time_are_shifted_and_drawn_in_stretches(study):
    out = ba.similarity(study.bold, study.bold, n_permutations=19, n_bootstraps=19, random_state=0)
    assert float(out.p_value) == 0.05
    assert int(out.n_units) < out.n_presentations / 5  # 2 s a volume, 20 s a stretch
    still = study.bold.drop_vars(["onset_s", "duration_s"])
    assert int(ba.similarity(study.bold, still, n_bootstraps=9, random_state=0).n_units) == int(out.n_units)  # either side knows


def test_canonical_correlations_of_too_many_neuroids_are_undefined_and_said_to_be():
    rng = np.random.default_rng(0)
    wide, few = (
        ba.responses(
            rng.normal(size=(12, p)), stimulus_id=[f"s{i}" for i in range(12)], neuroid_id=range(p), modality="ann", system="n"
        )
        for p in (30, 3)
    )
    with pytest.warns(DegenerateNeuroidWarning, match="with 12 stimuli 'cca' is undefined"):
        out = ba.similarity(wide, few, metric="cca", n_permutations=9, random_state=0)
    assert np.isnan(out.score)
    assert np.isnan(out.p_value)
    with pytest.warns(DegenerateNeuroidWarning, match="20 of 20 scores are NaN: with 11 stimuli 'cca' is undefined"):
        most = ba.similarity(wide[:, :10], few, metric="cca", n_bootstraps=20, random_state=0)
    assert np.isfinite(most.score)
    assert np.isnan(most.ci_low)


@pytest.mark.parametrize("name", ["cca", "cca-r2", "pwcca", "shape-0"])
@pytest.mark.parametrize("back", [False, True])
def test_intervals_of_canonical_correlations_need_no_more_than_twice_as_many_stimuli_as_neuroids(name, back):
    study = ba.simulate(n_stimuli=60, n_neuroids=40, snr=4.0, random_state=0)
    sides, by = (study.network, study.brain), BY
    sides, by = (sides[::-1], by[::-1]) if back else (sides, by)
    chosen = [side[:, ~np.isin(side[label], ["layer1", "V4"])] for side, label in zip(sides, by, strict=True)]
    out = ba.similarity(*chosen, metric=name, by=by, n_bootstraps=20, random_state=0)
    assert out.n_features.max() > 30
    assert ((out.ci_low < out.score) & (out.score < out.ci_high)).all()


def flat_in(x, stimulus="stim-0003"):
    """Let all neuroids respond alike to a stimulus."""
    return x.copy(data=np.where(x.stimulus_id.values[:, None].astype(object) == stimulus, np.float32(1.0), x.values))


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_pattern_that_cannot_be_correlated_is_an_error_as_in_rdm(study, side):
    both = {"source": study.network, "target": study.brain, "by": BY}
    part = "source 'layer1'" if side == "source" else "target 'V1'"
    both[side] = flat_in(both[side])
    with pytest.raises(
        SchemaError, match=f"similarity got 1 of 60 conditions whose pattern is constant over neuroids in {part}: 'stim-0003'"
    ):
        ba.similarity(**both, metric="rsa", n_bootstraps=9)
    with pytest.raises(
        SchemaError, match=r"metric='rsa-correlation-pearson': .* or use `metric=ba.geometry.metrics.rsa\('euclidean'\)`"
    ):
        ba.similarity(**both, metric=rsa(measure="pearson"))
    assert np.isfinite(ba.similarity(**both, metric=rsa("euclidean")).score).all()
    both[side] = study.brain[:, :2]
    with pytest.raises(SchemaError, match=f"similarity has 2 finite neuroids in {side} .*for metric='rsa'. Expected at least 3"):
        ba.similarity(both["source"], both["target"], metric="rsa")


def test_a_pattern_that_is_constant_at_some_times_has_no_score_there_and_is_said(study):
    meg = study.meg.copy()
    meg[meg.stimulus_id.values.astype(object) == "stim-0003", :, 1] = 0.0
    with pytest.warns(DegenerateNeuroidWarning, match="scores are NaN: .* to which all neuroids respond alike") as seen:
        out = ba.similarity(study.network, meg, metric="rsa")
    assert seen[0].filename == __file__
    assert np.flatnonzero(np.isnan(out.score.values)).tolist() == [1]
    meg[meg.stimulus_id.values.astype(object) == "stim-0003"] = 0.0
    with pytest.raises(SchemaError, match="1 of 60 conditions whose pattern is constant over neuroids in target: 'stim-0003'"):
        ba.similarity(study.network, meg, metric="rsa")


def test_draws_that_cannot_be_correlated_are_errors(study):
    """Neuroids that respond to one stimulus each: of few that are drawn, none responds to most stimuli."""
    with pytest.raises(ParameterError, match=r"'n_neuroids' parameter of similarity .*\[3, 36\]. Got 1"):
        ba.similarity(study.network, study.brain, metric="rsa", n_neuroids=[1, 4])
    labels = {"stimulus_id": [f"s{i}" for i in range(20)], "neuroid_id": range(20), "modality": "ann", "system": "n"}
    sparse = ba.responses(np.eye(20) * np.arange(1, 21), **labels)
    with pytest.raises(SchemaError, match=r"similarity drew 5 neuroids, and in 3 of 3 draws 'rsa' is undefined.*: draw more"):
        ba.similarity(sparse, sparse, metric="rsa", n_neuroids=5, n_draws=3)
    repeated = np.repeat(np.random.default_rng(0).normal(size=(20, 20)), 2, axis=0)
    repeated[6] = 0.0
    twice = ba.responses(repeated, **(labels | {"stimulus_id": [f"s{i // 2}" for i in range(40)]}))
    with pytest.raises(SchemaError, match="similarity drew halves of the repeats, and in 4 of 4 draws 'rsa' is undefined"):
        ba.similarity(sparse, twice, metric="rsa", ceiling="repeat", n_draws=4)


def test_a_ceiling_of_systems_with_some_of_the_times_has_all_that_any_has(study, recwarn):
    part = {"a": study.meg.isel(time=[0, 1, 2]), "b": study.meg.isel(time=[1, 2, 3])}
    out = ba.similarity(study.network, study.meg.isel(time=[0, 1, 2, 3]), ceiling=part)
    np.testing.assert_allclose(out.ceiling, 1.0)
    assert not [w for w in recwarn if w.category is FutureWarning]


def test_subjects_in_one_array_are_not_averaged_unasked(study):
    target = study.brain.assign_coords(subject=("presentation", np.where(study.brain.repetition == 0, "p", "q")))
    with pytest.raises(SchemaError, match="similarity got stimuli that several subjects saw, 'p', 'q'"):
        ba.similarity(study.network, target)
    ba.similarity(study.network, ba.average_repeats(target))


@pytest.mark.parametrize("side", ["source", "target"])
def test_systems_of_a_dict_are_compared_one_by_one_with_the_same_draws(study, side):
    """People who saw other stimuli, and one who lacks an area: each as if alone, areas in the order in which they come."""
    people = {
        "one": study.brain[:, study.brain.region.values != "V1"],
        "two": study.brain[study.brain.stimulus_id != "stim-0000"],
        "three": study.brain,
    }
    both = {"source": study.network, "target": study.network} | {side: people}
    by = BY if side == "target" else BY[::-1]
    options = {"by": by, "n_permutations": 9, "n_bootstraps": 9, "random_state": 0}
    out = ba.similarity(**both, **options)
    assert out.score.dims == (side, f"source_{by[0]}", f"target_{by[1]}")
    assert out[f"{side}_region"].values.tolist() == ["V4", "IT", "V1"]
    assert np.isnan(out.score).values.sum() == np.isnan(out.p_value).values.sum() == 4
    assert out.n_presentations.values.tolist() == [60, 59, 60]
    for name, x in people.items():
        alone = ba.similarity(**(both | {side: x}), **options)
        for variable in ("score", "p_value_max", "ci_low", "score_bootstrap"):
            of_one = out[variable].sel({side: name, f"{side}_region": alone[f"{side}_region"]})
            np.testing.assert_array_equal(of_one.transpose(*alone[variable].dims), alone[variable])
    assert json.loads(out.attrs["report"])["each"]["two"]["join"]["n_shared"] == 59
    step = ba.core.provenance(out).steps[-1]
    assert (step["verb"], step["params"]["each"]) == ("similarity", side)


def shuffled(x, seed):
    """Present the stimuli in another order, the repeats of each in theirs."""
    order = np.random.default_rng(seed).permutation(sorted(set(x.stimulus_id.values.tolist()))).tolist()
    return x[np.argsort([order.index(name) for name in x.stimulus_id.values.tolist()], kind="stable")]


@pytest.mark.parametrize(
    "metric", ["cka-debiased", "procrustes", "rsa", "linear-predictivity", "stochastic-energy", cka_minibatch(20)]
)
def test_draws_and_folds_go_by_stimulus_and_not_by_the_order_of_presentations(study, metric):
    options = {"metric": metric, "n_permutations": 9, "n_bootstraps": 9, "n_neuroids": 6, "n_draws": 2, "random_state": 0}
    sides = study.brain[:, study.brain.region == "V1"], study.brain[:, study.brain.region == "IT"]
    options |= {} if metric == "stochastic-energy" else {"ceiling": "repeat"}
    out = ba.similarity(*sides, **options)
    again = ba.similarity(*(shuffled(side, seed) for seed, side in enumerate(sides)), **options)
    xr.testing.assert_allclose(again, out, rtol=1e-6)


def test_draws_go_by_name_and_not_by_the_order_of_neuroids_nor_of_repeats(study):
    options = {"by": BY, "n_neuroids": [4, 8], "n_draws": 2, "ceiling": "repeat", "random_state": 0}
    out = ba.similarity(study.network, study.brain, **options)
    rng = np.random.default_rng(0)
    brain = study.brain[rng.permutation(study.brain.shape[0]), rng.permutation(study.brain.shape[1])]
    again = ba.similarity(study.network[:, ::-1], brain, **options)
    assert again.target_region.values.tolist() != out.target_region.values.tolist()
    xr.testing.assert_allclose(again.sel(source_layer=out.source_layer, target_region=out.target_region), out, rtol=1e-6)


def test_draws_of_recordings_in_time_do_not_depend_on_the_order_of_volumes(study):
    options = {"n_permutations": 9, "n_bootstraps": 9, "random_state": 0}
    sides = study.bold[:, :3], study.bold[:, 3:6]
    out = ba.similarity(*sides, **options)
    xr.testing.assert_allclose(ba.similarity(*(shuffled(x, seed) for seed, x in enumerate(sides)), **options), out, rtol=1e-6)


def test_people_who_saw_the_same_stimuli_in_other_orders_have_the_same_draws(study):
    people = {"one": study.brain, "two": shuffled(study.brain, 0)}
    out = ba.similarity(study.network, people, n_bootstraps=9, n_permutations=9, random_state=0)
    xr.testing.assert_allclose(out.sel(target="two", drop=True), out.sel(target="one", drop=True), rtol=1e-6)


def test_both_sides_may_be_dicts(study, tmp_path):
    people = {"one": study.brain, "two": study.brain[::-1]}
    out = ba.similarity(people, people, metric="cka")
    assert out.score.dims == ("source", "target")
    np.testing.assert_allclose(out.score, 1.0)
    out.to_zarr(tmp_path / "result.zarr", zarr_format=3)
    assert xr.open_zarr(tmp_path / "result.zarr").target.values.tolist() == ["one", "two"]
    with pytest.raises(ParameterError, match="similarity got an empty dict as its target"):
        ba.similarity(study.network, {})


def test_bad_input_is_named(study):
    with pytest.raises(UnknownNameError, match="Did you mean 'procrustes'"):
        ba.similarity(study.network, study.brain, metric="procrust")
    with pytest.raises(ParameterError, match=r"'by' parameter of similarity must be two coordinates.* Got 'layer'"):
        ba.similarity(study.network, study.brain, by="layer")
    with pytest.raises(ParameterError, match="by='area' for target"):
        ba.similarity(study.network, study.brain, by=("layer", "area"))
    with pytest.raises(AlignmentError, match=r"share 3 of 3 / 60 .* at least 4 for the metric 'cka'"):
        ba.similarity(study.network[:3], study.brain, metric="cka")
    with pytest.raises(
        AlignmentError, match=r"n_bootstraps=9 for 20 stimuli .* at least 22, to draw halves for the metric 'mutual-knn'"
    ):
        ba.similarity(study.network[:20], study.brain, metric="mutual-knn", n_bootstraps=9)
    with pytest.raises(ParameterError, match="one draw has no spread"):
        ba.similarity(study.network, study.brain, n_bootstraps=1)
    with pytest.raises(ParameterError, match="'n_permutations' parameter"):
        ba.similarity(study.network, study.brain, n_permutations=-1)
    with pytest.raises(AlignmentError, match="exact"):
        ba.similarity(study.network[:30], study.brain, join="exact")
