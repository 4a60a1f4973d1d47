"""Story fMRI and a language model: 18 people, six regions, the words that they heard.

The figures of the data's README were made by concatenating the folds' predictions before r is taken; ours pool
fold-centred sums, which scores a little higher where there is signal and a little closer to 0 where there is none.
Tolerances are stated at each figure.
"""

import json
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import LeakWarning, SplitError, WeakMappingWarning
from brainalign.reports.diagnoses import diagnose

pytestmark = pytest.mark.real

REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]
README_RATE = [0.224, 0.125, 0.286, 0.290, 0.234, 0.145]
README_MODEL = [0.426, 0.255, 0.355, 0.263, 0.177, 0.146]
#: Alphas of the README, chosen by leaving out one volume at a time, as its RidgeCV does.
RIDGE = ba.Ridge(alphas=np.logspace(0, 6, 13), cv=400, groups="stimulus_id")
DELAYS = ba.Delay([2, 4, 6, 8])


@pytest.fixture(scope="module")
def people(shared_data):
    """Region time courses of 19 people, motion and drift removed, z-scored within the run."""
    folder = shared_data("alice-fmri-roi")
    found = {}
    for path in sorted((folder / "10mm").glob("*.txt")):
        name = re.match(r"s\d+", path.name)[0]
        bold = ba.open_responses(
            path,
            format="timecourses",
            tr_s=2.0,
            system=name,
            regions=REGIONS,
            run="story",
            first_onset_s=20.0,
            units="scanner units",
        )
        motion = pd.DataFrame(np.loadtxt(next(folder.glob(f"{name}-rp_*.txt")))).add_prefix("motion_")
        motion = motion.assign(onset_s=2.0 * np.arange(len(motion)), run="story")
        found[name] = ba.Clean(motion, drift_order=2, n_cosines=12, standardize="zscore").transform(bold)
    return found


@pytest.fixture(scope="module")
def words(shared_data):
    path = shared_data("alice-fmri-roi") / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    return ba.stimuli.from_transcript(path, run="story")


@pytest.fixture(scope="module")
def lm(minilm):
    return ba.TransformersResponder(minilm, layers="*", pool="word", context_words=32, stride_words=32, system="minilm")


@pytest.fixture(scope="module")
def features(lm, words):
    return ba.record(lm, words, progress=False)


@pytest.fixture(scope="module")
def group(people):
    """Mean over the people whose every region has a usable time course."""
    usable = ba.evaluate(next(iter(people.values())), people, model=ba.Ridge(alphas=[1.0]), cv=6, controls="none").status
    broken = set(usable.system.values[usable.values != "ok"].tolist())
    kept = [x.drop_vars("system") for name, x in people.items() if name not in broken]
    mean = xr.concat(kept, "person", coords="minimal", compat="override").mean("person", keep_attrs=True)
    return broken, mean.transpose("presentation", "neuroid").assign_coords(system=("neuroid", ["group"] * 6))


@pytest.fixture(scope="module")
def folds(group):
    return ba.split(group[1], n_splits=6, gap_s=10.0)


def layer_of(features, name):
    return features[:, features.layer.values == name]


def shifted(x, n=120):
    """The same responses, four minutes late: everything but the timing is kept."""
    return x.copy(data=np.roll(x.values, n, axis=0))


def rate_of(words):
    """One for every word."""
    rows = {name: words.coords[name].values for name in ("run", "onset_s", "duration_s")}
    return ba.responses(np.ones((words.sizes["presentation"], 1)), stimulus_id=words.stimulus_id, neuroid_id=["rate"], modality="ann",
                        system="word rate", presentation=rows)  # fmt: skip


def rate_and_words(words, values):
    """Word rate and a layer's features; twenty components of the latter are fitted inside each fold."""
    both = ba.bands(rate=rate_of(words), lm=values)
    return both, ba.chain(ba.Reduce(20, bands=["lm"], random_state=0), ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), RIDGE)


def test_a_person_without_signal_is_kept_out_by_status(people, group):
    broken, mean = group
    assert len(people) == 19
    assert broken == {"s33"}
    assert np.isfinite(mean.values).all()


def test_word_rate_predicts_every_region(words, group, folds):
    out = ba.evaluate(
        rate_of(words),
        group[1],
        model=ba.chain(ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), RIDGE),
        cv=folds,
        controls="none",
    )
    np.testing.assert_allclose(out.score.values, README_RATE, atol=0.03)


def test_middle_layer_beats_permuted_embeddings_in_all_regions(words, features, group, folds):
    middle = layer_of(features, "h.3")
    scores = []
    for order in (np.arange(len(middle)), *(np.random.default_rng(seed).permutation(len(middle)) for seed in range(3))):
        source, model = rate_and_words(words, middle.copy(data=middle.values[order]))
        scores.append(ba.evaluate(source, group[1], model=model, cv=folds, controls="none").score.values)
    real, *null = scores
    assert (real > null[0]).all()
    assert (real > np.mean(null, axis=0)).all()
    np.testing.assert_allclose(real, README_MODEL, atol=0.06)
    assert real[0] - null[0][0] > 0.35  # the left anterior temporal lobe, .426 against .040 in the README


def test_the_figure_is_gone_when_the_ids_of_the_words_are_permuted(words, features, group, folds):
    """Word rate and embeddings are joined on `stimulus_id`: wrong names put the wrong embedding at every word."""
    middle = layer_of(features, "h.3")
    ids = np.random.default_rng(0).permutation(middle.stimulus_id.values)
    source, model = rate_and_words(words, middle.assign_coords(stimulus_id=("presentation", ids)))
    assert float(ba.evaluate(source, group[1], model=model, cv=folds, controls="none").score[0]) < 0.15


def test_the_report_is_clean_and_the_hand_made_step_is_named(words, features, group, folds):
    middle = layer_of(features, "h.3")
    source, model = rate_and_words(words, middle)
    out = ba.evaluate(source, group[1], model=model, cv=folds)
    assert json.loads(out.attrs["report"])["leaks"] == []
    by_hand = ba.bands(rate=rate_of(words), lm=ba.Reduce(20, random_state=0).fit_transform(middle))
    with pytest.warns(LeakWarning, match="Reduce"):
        ba.evaluate(by_hand, group[1], model=ba.chain(*model.steps[1:]), cv=folds, controls="none")


def test_folds_are_contiguous_with_a_gap_and_shuffled_ones_are_refused_and_higher(features, group):
    """Under shuffled folds a model of time alone beats the language model in all six regions; under contiguous ones it has nothing."""
    bold = group[1]
    plan = ba.split(bold)
    assert (plan.describe()["kind"], plan.gap_s) == ("contiguous blocks of time", 10.0)
    with pytest.raises(SplitError, match="neighbours in time are alike"):
        ba.split(bold, shuffle=True)
    forced = ba.split(bold, n_splits=6, shuffle=True, force=True, random_state=0)
    mixed = DELAYS.transform(ba.WordsToVolumes("sum").transform(layer_of(features, "h.3"), bold))
    model = ba.chain(StandardScaler(), ba.Ridge())
    blocks, shuffled = (
        ba.evaluate(mixed, bold, model=model, cv=cv, random_state=0) for cv in (ba.split(bold, n_splits=6), forced)
    )
    assert (blocks.score < shuffled.score).all()
    time_alone = [out.score_control.sel(control="autocorrelation").values for out in (blocks, shuffled)]
    assert abs(time_alone[0].mean()) < 0.1
    assert (time_alone[1] > shuffled.score.values + 0.05).all()
    assert any("no higher than that of a control (autocorrelation 6)" in note for note in diagnose(shuffled))


def test_permuted_embeddings_are_far_below_the_model_in_all_six_regions(features, group, folds):
    middle = layer_of(features, "h.3")
    model = ba.chain(ba.Reduce(20, random_state=0), ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), RIDGE)
    orders = [np.random.default_rng(seed).permutation(len(middle)) for seed in range(5)]
    sources = [middle, *(middle.copy(data=middle.values[order]) for order in orders)]
    real, *null = [ba.evaluate(x, group[1], model=model, cv=folds, controls="none").score.values for x in sources]
    assert (np.mean(null, axis=0) < 0.25 * real).all()
    assert real.mean() - np.mean(null) > 0.25


def test_an_untrained_network_and_word_timing_stand_beside_the_model(lm, words, features, group, folds):
    """Summed over a volume, what an untrained network holds of words is how many there were: it scores what word rate scores."""
    found = ba.controls(words, responder=lm.at("h.3"), random_state=0, progress=False)
    model = ba.chain(ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), RIDGE)
    out = ba.evaluate(layer_of(features, "h.3"), group[1], model=model, cv=folds, controls=found, random_state=0)
    beside = {name: out.score_control.sel(control=name).values for name in ("words", "untrained")}
    np.testing.assert_allclose(beside["words"], README_RATE, atol=0.06)
    np.testing.assert_allclose(beside["untrained"], README_RATE, atol=0.1)
    assert float(out.score_minus_best_control[0]) > 0.05  # the left anterior temporal lobe hears more than that
    assert float(out.score_minus_best_control[3]) < 0.0  # the left inferior parietal lobe does not
    assert any("scores are no higher than that of a control" in note for note in diagnose(out))


def test_reverse_direction_regions_predict_units(features, group, folds):
    """The same call with the sides swapped: regions, looked at later, predict what a layer held during a volume."""
    per_volume = ba.WordsToVolumes("mean").transform(layer_of(features, "h.3"), group[1])
    model = ba.chain(ba.Delay([-2, -4, -6, -8]), StandardScaler(), ba.Ridge(alphas=[100.0]))
    real, null = (
        ba.evaluate(source, per_volume, model=model, cv=folds, controls="none").score for source in (group[1], shifted(group[1]))
    )
    assert real.sizes == {"neuroid": 384}
    assert float(real.mean()) > 0.03
    assert float(null.mean()) < 0.01


def test_between_brains_and_only_with_the_right_ids(people):
    """Each of three people from the mean of the others, volume by volume."""
    usable = [name for name in people if name != "s33"]
    scores, permuted, late = [], [], []
    for name in ("s22", "s30", "s36"):
        others = [people[other].values for other in usable if other != name]
        source = people[name].copy(data=np.mean(others, axis=0))
        ids = np.random.default_rng(0).permutation(source.stimulus_id.values)
        wrong = source.assign_coords(stimulus_id=("presentation", ids))
        for found, x in ((scores, source), (permuted, wrong), (late, shifted(source))):
            found.append(ba.evaluate(x, people[name], model=ba.Ridge(alphas=[100.0]), cv=6, controls="none").score.values)
    assert np.mean(scores) > 0.14
    assert abs(np.mean(permuted)) < 0.06
    assert np.mean(late) < 0.06


def test_a_region_and_a_unit_are_attributed_to_words_by_the_same_call(lm, words, features, group):
    layer = lm.at("h.3")
    values = layer_of(features, "h.3")
    model = ba.chain(ba.Reduce(20, random_state=0), ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), RIDGE).fit(
        values, group[1]
    )
    region = ba.readout(layer, model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", WeakMappingWarning)  # scores of a mapping are the next test's
        maps = {
            "region": ba.attribute(region, words, neuroid="LATL", presentations=[40, 41]),
            "unit": ba.attribute(layer, words, neuroid=17, presentations=[100, 101]),
        }
    for a in maps.values():
        assert a.dims == ("presentation", "neuroid", "part")
        assert a.attrs["completeness_error"] < 0.01
        assert (a.completeness_error.values < 0.01 * np.abs(a.response.values - a.baseline_response.values).max()).all()
    # Delays of 2 to 8 s: what drives a volume was said in the ten seconds before its end, and around it in context.
    strength, onset = np.abs(maps["region"].values[0, 0]), maps["region"].part_onset_s.values
    recent = (onset > maps["region"].onset_s.values[0] - 10) & (onset < maps["region"].onset_s.values[0])
    assert strength[recent].sum() > 0.6 * strength.sum()
    np.testing.assert_allclose(maps["region"].response.values[:, 0], model.predict(values).values[[40, 41], 0], atol=1e-3)


def test_where_a_region_and_a_unit_point_is_more_than_chance_by_the_same_call(lm, words, features, group, folds):
    """A region, and a unit by volume, are read out of one layer by one mapping; maps stand beside those of responses that were shifted."""
    layer, values = lm.at("h.3"), layer_of(features, "h.3")
    steps = ba.Reduce(20, random_state=0), ba.WordsToVolumes("sum"), DELAYS, StandardScaler(), ba.Ridge(alphas=[100.0, 1000.0])
    per_volume = ba.WordsToVolumes("sum").transform(values, group[1])
    delayed = ba.Delay([4]).transform(per_volume)[:, 17:18]
    for target in (group[1][:, :1], delayed):
        scores = ba.evaluate(values, target, model=ba.chain(*steps), cv=folds, controls="none")
        responder = ba.readout(layer, ba.chain(*steps).fit(values, target), scores=scores)
        a = ba.attribute(
            responder, words, presentations=range(60, 64), method="gradient-times-input", null="permutation", n_permutations=19, target=target,
            random_state=0,
        )  # fmt: skip
        assert a.mapping_score.values[0] > 0.2
        assert a.p_value.dims == ("neuroid", "part")
        heard = a.share.values[0] > 0
        assert 5 < heard.sum() < 200
        assert (a.p_value.values[0][~heard] == 1.0).all()
        assert ((a.p_value.values >= 1 / 20) & (a.p_value.values <= 1)).all()
        assert a.p_value.values[0][heard].min() == 1 / 20
        assert np.isfinite(a.share.values).all()


def test_a_band_of_its_own_keeps_what_the_word_rate_predicts(words, features, group, folds):
    """Ridge on word rate and embeddings loses some regions to the rate alone; banded ridge, chosen likewise, does not."""
    steps = (ba.WordsToVolumes("sum"), DELAYS, StandardScaler())
    options = {"cv": folds, "controls": "none", "random_state": 0}
    rate = ba.evaluate(rate_of(words), group[1], model=ba.chain(*steps, RIDGE), **options).score
    source, joint = rate_and_words(words, layer_of(features, "h.3"))
    banded = ba.chain(joint.steps[0], *steps, ba.BandedRidge(alphas=RIDGE.alphas, cv=RIDGE.cv, groups=RIDGE.groups))
    lost = ba.evaluate(source, group[1], model=joint, **options).score - rate
    kept = ba.evaluate(source, group[1], model=banded, **options).score - rate
    assert (lost < -0.02).sum() >= 2
    assert (kept > -0.03).all()
    assert float(kept.mean()) > float(lost.mean()) - 0.01


def test_the_variance_that_embeddings_explain_beside_the_word_rate(words, features, group, folds):
    source, joint = rate_and_words(words, layer_of(features, "h.3"))
    parts = ba.partition_variance(source, group[1], model=ba.chain(*joint.steps[:-1], ba.BandedRidge()), cv=folds, random_state=0)
    temporal = parts.isel(neuroid=[0, 2]).unique.sel(band="lm")  # left anterior and posterior temporal lobe
    assert (temporal > 0.02).all()
    np.testing.assert_allclose(parts["product"].sum("band"), parts.score, atol=1e-5)
    np.testing.assert_allclose(parts.unique.sum("band") + parts.shared, parts.score, atol=1e-12)


def test_bands_of_regions_predict_units_and_bands_of_people_predict_a_person(people, features, group, folds):
    """The same call as forward: anterior and other regions as bands of a layer; two halves of the people as bands of one."""
    per_volume = ba.WordsToVolumes("mean").transform(layer_of(features, "h.3"), group[1])
    lobe = np.where(np.isin(group[1].neuroid_id.values.astype(object), ["LATL", "RATL"]), "anterior", "other")
    regions = group[1].assign_coords(band=("neuroid", lobe))
    model = ba.chain(ba.Delay([-2, -4, -6, -8]), StandardScaler(), ba.BandedRidge(alphas=[100.0], candidates=9))
    options = {"cv": folds, "controls": "none", "random_state": 0}
    real, null = (ba.evaluate(x, per_volume, model=model, **options).score for x in (regions, shifted(regions)))
    assert float(real.mean()) > 0.03 > float(null.mean())
    others = [x.values for name, x in people.items() if name not in ("s33", "s36")]
    halves = {name: people["s22"].copy(data=np.mean(others[k::2], axis=0)) for k, name in enumerate(("one", "two"))}
    out = ba.evaluate(ba.bands(**halves), people["s36"], model=ba.BandedRidge(candidates=9), **options)
    assert out.score.sizes == {"neuroid": 6}
    assert float(out.score.mean()) > 0.1
