import numpy as np
import pytest
import xarray as xr
from scipy import stats

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.provenance import write_step

RNG = np.random.default_rng(0)


def scores(values, stimuli=None, **coords):
    """Return a result of (subject, layer) scores, and with ``stimuli`` (bootstrap, subject, layer) those of redrawn stimuli."""
    out = xr.Dataset({"score": (("subject", "layer"), values), "n_units": 100}, coords)
    return out if stimuli is None else out.assign(score_bootstrap=(("bootstrap", "subject", "layer"), stimuli))


def two_factors(n_subjects, n_stimuli, layers, rng, n_draws=400):
    """Return scores that are means over stimuli of subject + stimulus + single noise, with stimuli redrawn for all at once."""
    x = 0.5 * rng.normal(size=(n_subjects, 1, layers)) + 0.8 * rng.normal(size=(1, n_stimuli, layers))
    x = x + 2.0 * rng.normal(size=(n_subjects, n_stimuli, layers))
    weights = rng.multinomial(n_stimuli, np.full(n_stimuli, 1 / n_stimuli), size=n_draws) / n_stimuli
    return scores(x.mean(axis=1), np.einsum("bs,usl->bul", weights, x)).assign(n_units=n_stimuli)


def test_intervals_over_many_subjects_are_those_of_t():
    values = RNG.normal(size=(200, 2))
    out = ba.bootstrap(scores(values), over="subject", n_bootstraps=4000, random_state=0)
    for i in range(2):
        low, high = stats.t.interval(0.95, 199, values[:, i].mean(), stats.sem(values[:, i]))
        assert out.ci_low[i] == pytest.approx(low, abs=0.02)
        assert out.ci_high[i] == pytest.approx(high, abs=0.02)
    narrow = ba.bootstrap(scores(values), over="subject", level=0.5, random_state=0)
    assert (narrow.ci_high - narrow.ci_low < 0.5 * (out.ci_high - out.ci_low)).all()


@pytest.mark.parametrize("n", [6, 15])
def test_p_of_a_paired_difference_is_near_that_of_t(n):
    values = RNG.normal(loc=[0, 0.4, 1.0], size=(n, 3)) + RNG.normal(size=(n, 1))
    out = ba.bootstrap(scores(values, layer=["a", "b", "c"]), over="subject", between="layer", n_bootstraps=4000, random_state=0)
    assert list(zip(out["first"].values.tolist(), out["second"].values.tolist(), strict=True)) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for pair, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        np.testing.assert_allclose(out.difference[pair], (values[:, i] - values[:, j]).mean())
        assert out.p_value[pair] == pytest.approx(stats.ttest_rel(values[:, i], values[:, j]).pvalue, abs=0.03)
    assert (out.p_value_max >= out.p_value).all()


@pytest.mark.parametrize(("over", "n_subjects"), [("subject", 6), (("subject", "stimulus"), 6), (("subject", "stimulus"), 15)])
def test_intervals_hold_the_truth_as_often_as_they_say(over, n_subjects):
    rng, held = np.random.default_rng(1), []
    for seed in range(150):
        out = ba.bootstrap(two_factors(n_subjects, 40, 3, rng, 300), over=over, n_bootstraps=300, random_state=seed)
        held.append(((out.ci_low <= 0) & (out.ci_high >= 0)).values)
    wanted = 0.9 if over == "subject" else 0.95  # subjects alone miss the noise of stimuli
    assert np.mean(held) == pytest.approx(wanted, abs=0.07 if over == "subject" else 0.035)


def test_stimuli_alone_read_what_the_result_kept():
    result = two_factors(5, 60, 2, RNG)
    one = result.isel(subject=0)
    out = ba.bootstrap(one, over="stimulus", between="layer")
    low, high = np.quantile(one.score_bootstrap.values, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(out.ci_low, low, rtol=0.1, atol=0.02)
    np.testing.assert_allclose(out.ci_high, high, rtol=0.1, atol=0.02)
    assert out.difference.dims == ("pair",)
    assert (out.attrs["n_units"], out.attrs["n_bootstraps"]) == ([60], 400)


def test_models_of_folds_would_be_others_for_other_stimuli():
    one = two_factors(5, 60, 2, RNG).isel(subject=0).assign_coords(fold=range(5))
    any_model, fitted = (ba.bootstrap(one, over="stimulus", between="layer", models=models) for models in ("any", "fitted"))
    np.testing.assert_allclose(any_model.ci_high - any_model.ci_low, 1.5 * (fitted.ci_high - fitted.ci_low))  # √(1 + 5/4)
    assert (any_model.p_value_bound >= fitted.p_value).all()
    assert "p_value" not in any_model  # what is called so passes 5% of noise
    once = ba.bootstrap(one.drop_vars("fold"), over="stimulus", between="layer")  # one test set: nothing is shared
    xr.testing.assert_equal(once, fitted)
    assert (any_model.attrs["training"], fitted.attrs["training"]) == ("bound", "as fitted")


@pytest.mark.parametrize("over", ["stimulus", ("subject", "stimulus")])
def test_refits_take_the_place_of_the_bound(over):
    options = {"over": over, "between": "layer", "random_state": 0}
    result = two_factors(5, 60, 2, RNG).assign_coords(fold=range(5))
    result = result.isel(subject=0) if over == "stimulus" else result
    refits = result.score + 0.05 * xr.DataArray(RNG.normal(size=(30, 2)), dims=("refit", "layer"))
    found, fitted = (ba.bootstrap(result.assign(score_refit=refits), **options, models=models) for models in ("any", "fitted"))
    assert found.attrs["training"] == "refits"
    if over == "stimulus":  # jackknife: leaving a fifth out moves the score by half of what drawing all anew would
        drawn = 60 / 59 * result.score_bootstrap.var("bootstrap", ddof=1)
        wanted = np.sqrt((drawn + 4 * refits.var("refit", ddof=1)) / drawn)
        np.testing.assert_allclose((found.ci_high - found.ci_low) / (fitted.ci_high - fitted.ci_low), wanted, rtol=0.02)
    same = ba.bootstrap(result.assign(score_refit=refits * 0 + result.score), **options)
    xr.testing.assert_allclose(same, ba.bootstrap(result, **options, models="fitted"))
    assert (found.p_value >= same.p_value).all()


def test_whole_results_are_compared_where_their_draws_are_the_same():
    result = two_factors(5, 60, 2, RNG)
    better = result.assign(score=result.score + 1, score_bootstrap=result.score_bootstrap + 1)
    first, second, other = (write_step(x, "evaluate", seed=s) for x, s in ((result, 1), (better, 1), (better, 2)))
    out = ba.bootstrap({"small": first, "large": second}, over="stimulus")
    assert (out["first"].values.tolist(), out["second"].values.tolist()) == (["small"], ["large"])
    np.testing.assert_allclose(out.difference, -1)
    np.testing.assert_allclose(out.difference_low, -1)  # paired: what stimuli do to both is no difference
    assert out.score.dims == ("result", "subject", "layer")
    with pytest.raises(ParameterError, match=r"seeds \{'small': 1, 'large': 2\}"):
        ba.bootstrap({"small": first, "large": other}, over="stimulus")
    with pytest.raises(ParameterError, match="differ in their labels"):
        ba.bootstrap({"small": first.assign_coords(layer=[0, 1]), "large": second.assign_coords(layer=[0, 2])}, over="subject")


def some_of_a_study(verb):
    """Return results of three networks, of which one saw other stimuli than two."""
    study = ba.simulate(n_stimuli=40, n_neuroids=4, modalities=("fmri",), random_state=0)
    networks = {"a": study.network[:30], "b": study.network[::-1][10:], "c": study.network[10:]}
    options = {"evaluate": {"cv": 3, "controls": "none"}, "similarity": {}}[verb] | {"n_bootstraps": 20, "random_state": 0}
    return networks, study.brain, lambda x, y: getattr(ba, verb)(x, y, **options)


@pytest.mark.parametrize("verb", ["evaluate", "similarity"])
def test_systems_with_other_stimuli_are_no_pairs(verb):
    networks, brain, score = some_of_a_study(verb)
    other = (
        r"'a' on 30 \(without 'stim-0[^)]*\), 'c' on 30 \(without 'stim-0[^)]*\)\. Expected the same.*x\.stimulus_id\.isin\(ids\)"
    )
    same, two = ({name: networks[name] for name in names} for names in ("ab", "ac"))
    assert ba.bootstrap(score(same, brain), over="stimulus", between="source").difference.sizes["pair"] == 1  # in another order
    with pytest.raises(ParameterError, match=f"along 'source': {other}"):
        ba.bootstrap(score(two, brain), over="stimulus", between="source")
    apart = {name: score(x, brain) for name, x in two.items()}
    with pytest.raises(ParameterError, match=f"along 'result': {other}"):
        ba.bootstrap(apart, over="stimulus")
    ba.bootstrap(score(two, brain), over="stimulus")  # nothing is compared
    with pytest.raises(ParameterError, match=r"along 'result'.*'a' on 30.*'c' on 20"):
        ba.bootstrap({"a": score(two["a"], brain), "c": score(two["c"][:20], brain)}, over="stimulus")


def test_targets_with_other_stimuli_are_no_pairs_either():
    networks, brain, score = some_of_a_study("similarity")
    names = dict(zip("bc", networks.values(), strict=False))  # as those of the other side: which side is meant is not mistaken
    both = score(networks, {name: brain for name in "ab"})
    assert ba.bootstrap(both, over="stimulus", between="target").difference.sizes["pair"] == 1
    with pytest.raises(ParameterError, match=r"along 'source': 'a' on 30 .*, 'b' on 30 .*, 'c' on 30"):
        ba.bootstrap(both, over="stimulus", between="source")
    with pytest.raises(ParameterError, match=r"along 'target': 'b' on 30 .*, 'c' on 20"):
        ba.bootstrap(score(brain, {"b": names["b"], "c": names["c"][:20]}), over="stimulus", between="target")


def test_subjects_may_be_a_label_of_neuroids():
    values = RNG.normal(size=(6, 1)) + 0.1 * RNG.normal(size=(6, 5))
    result = xr.Dataset({"score": ("neuroid", values.ravel())}, {"subject": ("neuroid", np.repeat(list("abcdef"), 5))})
    out = ba.bootstrap(result, over="subject", random_state=0)
    assert out.score.item() == pytest.approx(values.mean())
    assert float(out.ci_high - out.ci_low) > 0.5  # of 6 people, not of 30 neuroids


def test_one_seed_one_answer_and_what_is_undefined_stays_so():
    values = RNG.normal(size=(6, 3))
    values[2, 1] = np.nan
    first, again = (ba.bootstrap(scores(values), over="subject", between="layer", random_state=3) for _ in range(2))
    xr.testing.assert_equal(first, again)
    assert np.isnan(first.ci_low).values.tolist() == [False, True, False]
    assert np.isnan(first.p_value).values.tolist() == [True, False, True]


def test_messages():
    result = scores(RNG.normal(size=(6, 3)))
    with pytest.raises(SchemaError, match=r"without `score_bootstrap`.*n_bootstraps=1000"):
        ba.bootstrap(result, over="stimulus")
    with pytest.raises(ParameterError, match="'over' parameter of bootstrap"):
        ba.bootstrap(result, over=("subject", "layer"))
    with pytest.raises(ParameterError, match=r"between='region'"):
        ba.bootstrap(result, over="subject", between="region")
    with pytest.raises(ParameterError, match="level"):
        ba.bootstrap(result, over="subject", level=95)
    with pytest.raises(SchemaError, match="got a NoneType as its result"):
        ba.bootstrap({}, over="subject")
    with pytest.raises(SchemaError, match="result 'b'"):
        ba.bootstrap({"a": result, "b": 1}, over="subject")


def test_draws_of_other_units_are_not_taken_for_stimuli():
    result = scores(RNG.normal(size=(8, 2)), RNG.normal(size=(20, 8, 2))).assign_attrs(over=["subject", "stimulus"])
    with pytest.raises(SchemaError, match=r"draws are over \['subject', 'stimulus'\]"):
        ba.bootstrap(result, over="stimulus")


def test_onsets_and_peaks_of_every_layer():
    """Two layers whose effects begin at 100 and at 150 ms; the score has a chance of its own."""
    times, rng = np.arange(30) / 100, np.random.default_rng(0)
    shape = np.stack([np.clip((times - start) / 0.1, 0, 1) * (times < start + 0.15) for start in (0.05, 0.1)])
    score = 0.5 + 0.3 * shape + 0.03 * rng.normal(size=(10, 2, 30))
    result = xr.Dataset(
        {"score": (("subject", "layer", "time"), score), "chance": 0.5}, {"layer": ["early", "late"], "time": times}
    )
    out = ba.bootstrap(result, over="subject", onset=0.5, random_state=0)
    assert out.onset.dims == out.peak_high.dims == ("layer",)
    assert float(out.chance) == float(ba.bootstrap(result.assign(chance=("subject", [0.5] * 10)), over="subject").chance) == 0.5
    assert (out.onset_low <= [0.1, 0.15]).all()
    assert (out.onset_high >= [0.1, 0.15]).all()
    assert float(out.onset_high[0]) < float(out.onset_low[1])
    assert (out.peak > out.onset).all()
    assert ba.core.provenance(out).steps[-1]["params"]["onset"] == 0.5
    assert np.isnan(ba.bootstrap(result.assign(score=result.score - 1), over="subject", onset=0.5, random_state=0).onset).all()
    with pytest.raises(ParameterError, match=r"'onset' parameter of bootstrap must be a float in the range \(0.0, 1.0\]"):
        ba.bootstrap(result, over="subject", onset=1.5)
    with pytest.raises(ParameterError, match=r"onset=0.5 for a score with the dims \('layer',\)"):
        ba.bootstrap(result.mean("time"), over="subject", onset=0.5)
