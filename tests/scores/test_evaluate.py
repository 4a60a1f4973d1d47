"""evaluate: equal to a loop by hand, blind to row order, honest about folds, repeats and degenerate neuroids."""

import json

import numpy as np
import pytest
import xarray as xr
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.linear_model import Ridge as SklearnRidge

import brainalign as ba
from brainalign.core.errors import AlignmentError, LeakWarning, ParameterError, SplitError, UnknownNameError


def pair_of(n=120, p=8, v=5, noise=1.0, seed=0, **labels):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p))
    y = x @ rng.normal(size=(p, v)) / np.sqrt(p) + noise * rng.normal(size=(n, v))
    ids = [f"s{i:03d}" for i in range(n)]
    source = ba.responses(x, stimulus_id=ids, neuroid_id=np.arange(p), modality="ann", system="net", layer="a", **labels)
    target = ba.responses(y, stimulus_id=ids, neuroid_id=[f"v{i}" for i in range(v)], modality="fmri", system="sub-01", **labels)
    return source, target


FIXED = ba.Ridge(alphas=[10.0], dtype="float64")


def pooled_by_hand(x, y, folds, alpha=10.0):
    yy, pp, yp = 0.0, 0.0, 0.0
    for fold in folds:
        prediction = SklearnRidge(alpha=alpha).fit(x[fold.train], y[fold.train]).predict(x[fold.test])
        a, b = y[fold.test] - y[fold.test].mean(0), prediction - prediction.mean(0)
        yy, pp, yp = yy + (a * a).sum(0), pp + (b * b).sum(0), yp + (a * b).sum(0)
    return yp / np.sqrt(yy * pp)


def test_equals_a_loop_with_sklearn():
    source, target = pair_of()
    folds = ba.split(target, n_splits=4, random_state=0)
    out = ba.evaluate(source, target, model=FIXED, cv=folds)
    expected = pooled_by_hand(source.values.astype(float), target.values.astype(float), folds.on(target))
    np.testing.assert_allclose(out.score.values, expected, atol=1e-6)
    assert out.score_by_fold.shape == (4, 5)
    assert int(out.n_presentations) == 120
    assert (out.alpha == 10.0).all()


def test_row_order_does_not_matter_and_ids_do():
    source, target = pair_of()
    rng = np.random.default_rng(1)
    folds = ba.split(target, n_splits=4, random_state=0)
    straight = ba.evaluate(source, target, model=FIXED, cv=folds)
    shuffled = ba.evaluate(source[rng.permutation(120)], target, model=FIXED, cv=folds)
    np.testing.assert_allclose(shuffled.score.values, straight.score.values, atol=1e-6)
    wrong = source.assign_coords(stimulus_id=("presentation", rng.permutation(source.stimulus_id.values)))
    assert ba.evaluate(wrong, target, model=FIXED, cv=folds).score.mean() < 0.3 * straight.score.mean()


def test_what_is_drawn_does_not_depend_on_the_order_of_the_rows():
    """Folds, alphas, controls, nulls and intervals: every draw is of names."""
    source, target = pair_of()
    rng = np.random.default_rng(1)
    options = {"model": ba.Ridge(dtype="float64"), "n_permutations": 20, "n_bootstraps": 20, "n_refits": 2, "random_state": 0}
    straight = ba.evaluate(source, target, **options)
    mixed = ba.evaluate(source[rng.permutation(120)], target[rng.permutation(120)], **options)
    for name, values in straight.items():
        np.testing.assert_allclose(mixed[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_noise_scores_around_zero_even_when_one_is_left_out():
    source, target = pair_of(n=60, v=200, seed=3)
    noise = target.copy(data=np.random.default_rng(4).normal(size=target.shape).astype("float32"))
    pooled = ba.evaluate(source, noise, model=FIXED, cv=30, random_state=0)  # two stimuli a fold
    assert abs(float(pooled.score.mean())) < 0.05


def test_reaches_the_planted_ceiling():
    study = ba.simulate(n_stimuli=400, n_neuroids=10, n_repeats=4, snr=2.0, random_state=0)
    out = ba.compare(study.network, study.fmri, by=("layer", "region"), cv=5, ceiling="repeat", random_state=0)
    for region, layer in study.truth.layer.items():
        column = out.score.sel(target_region=region)
        assert str(column.source_layer.values[column.values.argmax()]) == layer
    best = out.score_normalized.max("source_layer")
    assert (best > 0.8).all()
    assert (best < 1.05).all()


def test_degenerate_neuroids_are_named_and_disturb_nobody():
    source, target = pair_of()
    broken = target.copy(deep=True)
    broken[:, 1] = 3.0
    broken[5, 3] = np.nan
    broken.attrs["allow_nan"] = True
    folds = ba.split(target, n_splits=4, random_state=0)
    healthy, out = (ba.evaluate(source, y, model=FIXED, cv=folds) for y in (target, broken))
    assert out.status.values.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    assert np.isnan(out.score.values[[1, 3]]).all()
    np.testing.assert_allclose(out.score.values[[0, 2, 4]], healthy.score.values[[0, 2, 4]], atol=1e-7)


def test_a_fold_that_cannot_be_scored_is_counted_and_left_out():
    source, target = pair_of()
    folds = ba.split(target, n_splits=4, random_state=0)
    quiet = target.copy(deep=True)
    quiet[folds.on(target)[0].test, 2] = 1.0  # constant in one test fold
    out = ba.evaluate(source, quiet, model=FIXED, cv=folds)
    assert out.n_undefined_folds.values.tolist() == [0, 0, 1, 0, 0]
    assert np.isnan(out.score_by_fold.values[0, 2])
    assert np.isfinite(out.score.values[2])


def test_repeats_are_averaged_within_folds():
    study = ba.simulate(n_stimuli=60, n_neuroids=4, n_repeats=3, random_state=0)
    folds = ba.split(study.fmri, n_splits=4, random_state=0)
    averaged = ba.average_repeats(study.fmri)
    before = ba.evaluate(study.network, averaged, model=FIXED, cv=folds)
    inside = ba.evaluate(study.network, study.fmri, model=FIXED, cv=folds)
    np.testing.assert_allclose(inside.score.values, before.score.values, atol=1e-5)
    assert int(inside.n_presentations) == 60
    assert int(ba.evaluate(study.network, study.fmri, model=FIXED, cv=folds, repeats="keep").n_presentations) == 180
    single = ba.evaluate(study.network, study.fmri, model=FIXED, cv=folds, repeats="train-single")
    assert int(single.n_presentations) == 60
    assert not np.allclose(single.score, inside.score)


def test_time_of_the_target_and_of_both():
    study = ba.simulate(n_stimuli=60, n_neuroids=4, n_channels=6, n_repeats=2, random_state=0)
    options = {"model": FIXED, "cv": 3, "controls": "none", "random_state": 0}
    out = ba.evaluate(study.network, study.meg, **options)
    assert out.score.dims == ("neuroid", "time")
    single = ba.evaluate(study.network, study.meg.isel(time=[7]), **options)
    np.testing.assert_allclose(out.score.isel(time=7), single.score.isel(time=0), atol=1e-6)
    both = ba.evaluate(study.meg, study.meg, **options)
    alone = ba.evaluate(study.meg.isel(time=[7]), study.meg.isel(time=[7]), **options)
    np.testing.assert_allclose(both.score.isel(time=7), alone.score.isel(time=0), atol=1e-6)
    assert ba.evaluate(study.meg, study.fmri, **options).score.dims == ("neuroid",)


def test_systems_that_saw_different_stimuli_are_scored_in_one_call():
    source, target = pair_of()
    other = target[:80].assign_coords(system=("neuroid", ["sub-02"] * 5))
    out = ba.evaluate(source, {"sub-01": target, "sub-02": other}, model=FIXED, cv=4, random_state=0)
    assert out.system.values.tolist() == ["sub-01"] * 5 + ["sub-02"] * 5
    alone = ba.evaluate(source, other, model=FIXED, cv=4, random_state=0)
    np.testing.assert_allclose(out.score.values[5:], alone.score.values)
    sources = ba.evaluate({"a": source, "b": source[:, :2]}, target, model=FIXED, cv=4, random_state=0)
    assert sources.score.dims == ("source", "neuroid")
    assert sources.fold.values.tolist() == ["fold-1", "fold-2", "fold-3", "fold-4"]


def test_what_was_dropped_from_each_system_stays_in_a_joint_result(tmp_path):
    source, target = pair_of()
    other = target[:80].assign_coords(
        system=("neuroid", ["sub-02"] * 5), region=("neuroid", ["V1"] * 5), x_mm=("neuroid", np.ones(5))
    )
    out = ba.evaluate({"net": source}, {"sub-01": target, "sub-02": other}, model=FIXED, cv=4)
    each = json.loads(out.attrs["report"])["each"]["net"]["each"]
    assert [each[name]["join"]["source"]["n_dropped_ids"] for name in ("sub-01", "sub-02")] == [0, 40]
    assert out.region.values.tolist() == [""] * 5 + ["V1"] * 5
    assert np.isnan(out.x_mm.values[:5]).all()
    trail = ba.core.provenance(out)
    assert trail.altered is False
    systems = trail.steps[-2]["lineage"]
    assert {name: steps[-1]["verb"] for name, steps in systems.items()} == {"sub-01": "evaluate", "sub-02": "evaluate"}
    ba.save(out, tmp_path / "study.zarr", name="both")
    xr.testing.assert_identical(ba.open_study(tmp_path / "study.zarr")["results/both"].to_dataset().load(), out)


def test_systems_whose_neuroids_are_named_by_numbers_and_by_words():
    source, target = pair_of()
    out = ba.evaluate(source[:, :4], {"a": target, "b": source[:, 4:]}, model=FIXED, cv=4)
    assert out.neuroid_id.values.tolist() == [*target.neuroid_id.values.tolist(), "4", "5", "6", "7"]
    assert out.layer.values.tolist() == [""] * 5 + ["a"] * 4


def test_leaving_one_out_is_refused_where_its_score_would_be_nan():
    source, target = pair_of(n=30)
    with pytest.raises(SplitError, match="30 folds tests one presentation, on which pearson is undefined"):
        ba.evaluate(source, target, model=FIXED, cv=30)


def test_sources_of_a_dict_are_scored_on_the_same_drawn_folds():
    source, target = pair_of()
    out = ba.evaluate({"a": source, "again": source}, target, model=FIXED, cv=4)
    np.testing.assert_array_equal(out.score[0], out.score[1])


def test_a_ceiling_follows_the_times_that_both_sides_have():
    rng = np.random.default_rng(0)
    signal = np.repeat(rng.normal(size=(40, 4, 6)), 3, axis=0)
    labels = {"stimulus_id": np.repeat([f"s{i}" for i in range(40)], 3), "neuroid_id": range(4), "modality": "meg"}
    early = ba.responses(signal[:, :, :4], time=np.arange(4) / 10, system="sub-01", **labels)
    late = ba.responses(
        signal[:, :, 2:] + 0.5 * rng.normal(size=(120, 4, 4)), time=np.arange(2, 6) / 10, system="sub-02", **labels
    )
    out = ba.evaluate(early, late, model=FIXED, cv=4, ceiling="repeat", random_state=0)
    np.testing.assert_allclose(out.time, [0.2, 0.3])
    np.testing.assert_allclose(out.ceiling, ba.noise_ceiling(late, random_state=0)[:, :2])


def test_mappings_of_scikit_learn_with_other_penalties_than_one_a_target():
    source, target = pair_of()
    one = ba.evaluate(source, target, model=RidgeCV(alphas=[10.0]), cv=4, random_state=0)
    np.testing.assert_allclose(one.score, ba.evaluate(source, target, model=FIXED, cv=4, random_state=0).score, atol=1e-5)
    assert one.alpha.shape == (4, 5)
    assert (one.alpha == 10.0).all()
    assert "alpha" not in ba.evaluate(source, target, model=GaussianProcessRegressor(), cv=4)  # its alpha_ has a row a sample


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_a_classifier_of_scikit_learn_is_scored_as_one():
    source, _ = pair_of(n=150)
    labelled = source.assign_coords(condition=("presentation", np.where(source.values[:, 0] > 0, "left", "right")))
    out = ba.evaluate(labelled, "condition", model=LogisticRegression(), cv=5, random_state=0)
    assert out.attrs["metric"] == "balanced-accuracy"
    assert float(out.score[0]) > 0.85


def test_impossible_requests_are_named():
    source, target = pair_of()
    for call, words in [
        (lambda: ba.evaluate(source, {}), "empty dict as its target"),
        (lambda: ba.evaluate({}, target), "empty dict as its source"),
        (lambda: ba.evaluate(source, target, cv=4, ceiling=0.5), r"'ceiling'.*Got 0\.5"),
        (lambda: ba.evaluate(source, target, cv=4, metric="accuracy"), "predicts numbers"),
    ]:
        with pytest.raises(ParameterError, match=words):
            call()


def test_a_metric_of_ones_own():
    source, target = pair_of()

    class WorstError:
        name = "worst-error"
        sums = staticmethod(lambda target, prediction: np.abs(target - prediction).max(axis=0))
        pool = staticmethod(lambda folds: np.max(folds, axis=0))
        score = staticmethod(lambda worst: -worst)

    out = ba.evaluate(source, target, model=FIXED, cv=4, metric=WorstError(), random_state=0)
    np.testing.assert_allclose(out.score.values, out.score_by_fold.values.min(axis=0))
    assert (out.attrs["metric"], out.score.attrs["units"]) == ("worst-error", "worst-error")


def test_scores_say_what_they_are_in_and_what_is_made_of_them_does_not(tmp_path):
    network, brain = pair_of()
    for source, target, metric, units in ((network, brain, "pearson", "Pearson r"), (brain, network, "r2", "R²")):
        ask = {"model": FIXED, "cv": 4, "metric": metric, "n_permutations": 9, "random_state": 0}
        out = ba.evaluate(source, target, store=tmp_path / metric, **ask)
        for result in (out, ba.open_study(tmp_path / metric)["results/evaluate"].to_dataset()):
            said = {name: x.attrs["units"] for name, x in result.data_vars.items() if "units" in x.attrs}
            assert said == {"score": units, "score_by_fold": units}
        tested = ba.permutation_test(out, over="fold", n_permutations=9, random_state=0)
        assert {name for name, x in tested.data_vars.items() if x.attrs.get("units") == units} == {"score"}


def test_decodes_a_label_of_the_source():
    source, _ = pair_of(n=150)
    label = np.where(source.values[:, 0] > 0, "left", "right")
    out = ba.evaluate(
        source.assign_coords(side=("presentation", label)), "side", model=ba.Classifier("lda"), cv=5, random_state=0
    )
    assert float(out.score[0]) > 0.85
    assert out.attrs["metric"] == "balanced-accuracy"


def test_the_report_says_what_was_dropped_and_split():
    source, target = pair_of()
    out = ba.evaluate(source[:100], target, model=FIXED, cv=4, random_state=7)
    report = json.loads(out.attrs["report"])
    assert "20" in json.dumps(report["join"])
    step = ba.core.provenance(out).steps[-1]
    assert step["verb"] == "evaluate"
    assert step["seed"] == 7
    assert set(step["inputs"]) == {"source", "target"}


def test_what_was_fitted_by_hand_is_named():
    source, target = pair_of()
    with pytest.warns(LeakWarning, match="Reduce was fitted on all presentations"):
        out = ba.evaluate(ba.Reduce(3).fit_transform(source), target, model=FIXED, cv=4, random_state=0)
    assert "Reduce" in json.loads(out.attrs["report"])["leaks"][0]


def test_bad_input_is_refused():
    source, target = pair_of()
    stranger = target.assign_coords(stimulus_id=("presentation", [f"nsd_{i}" for i in range(120)]))
    with pytest.raises(AlignmentError, match="share 0"):
        ba.evaluate(source, stranger, model=FIXED, cv=4)
    with pytest.raises(AlignmentError):
        ba.evaluate(source[:100], target, model=FIXED, cv=4, join="exact")
    with pytest.raises(UnknownNameError, match="Did you mean 'pearson'"):
        ba.evaluate(source, target, model=FIXED, cv=4, metric="pearsn")
    with pytest.raises(ParameterError, match="an object with `name`, `sums`, `pool`"):
        ba.evaluate(source, target, model=FIXED, cv=4, metric=np.corrcoef)
    with pytest.raises(ParameterError, match="no presentation coordinate"):
        ba.evaluate(source, "categry", cv=4)
    with pytest.raises(ParameterError, match="both cv=Folds and groups"):
        ba.evaluate(source, target, cv=ba.split(target, n_splits=3), groups="run")
