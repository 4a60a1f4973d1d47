"""selectivity: planted neuroids, scikit-learn's areas, both kinds of systems with one call, and honest NaN."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm
from sklearn.metrics import f1_score, roc_auc_score

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError

N = 120
LABEL = np.array(["face", "house", "tool", "word"])[np.arange(N) % 4]


def recorded(values, label=LABEL, **options):
    coords = {"stimulus_id": [f"s{i:03d}" for i in range(len(values))], "condition": label} | options
    return ba.responses(values, neuroid_id=range(values.shape[1]), modality="ann", system="net", **coords)


def planted(n=40, effect=3.0, seed=0):
    values = np.random.default_rng(seed).normal(size=(N, n))
    values[:, :4] += effect * (LABEL[:, None] == np.unique(LABEL))
    return values


def test_areas_are_those_of_scikit_learn():
    x = recorded(np.round(planted(), 1))
    out = ba.selectivity(x, "condition")
    assert out.score.dims == ("neuroid", "category")
    wanted = [[roc_auc_score(LABEL == name, column) for name in out.category.values] for column in x.values.T]
    np.testing.assert_allclose(out.score, wanted, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.dampening, np.where(out.score > 0.5, 1 - 2 * (out.score - 0.5), 1.0))


@pytest.mark.parametrize("metric", ["auroc", "dprime", "mutual-information"])
def test_planted_neuroids_are_found_and_no_others(metric):
    out = ba.selectivity(recorded(planted()), "condition", metric=metric, n_permutations=199, random_state=0)
    found = out.p_value_max.values <= 0.05
    assert found[:4].diagonal().all()
    assert not found[4:].any()
    assert (out.p_value.values >= 1 / 200).all()


def test_d_prime_and_area_agree_for_normals():
    rng = np.random.default_rng(0)
    label = np.repeat(["a", "b"], 4000)
    out = [
        ba.selectivity(recorded(rng.normal(size=(8000, 1)) + 1.0 * (label == "a")[:, None], label), "condition", metric=m)
        for m in ("auroc", "dprime")
    ]
    assert out[0].score[0, 0].item() == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.02)
    assert out[1].score[0, 0].item() == pytest.approx(1.0, abs=0.06)


def test_time_has_a_score_at_every_time():
    values = np.stack([planted(effect=0.0), planted()], axis=2)
    x = recorded(values, time=[0.0, 0.1])
    out = ba.selectivity(x, "condition", n_permutations=99, n_bootstraps=50, random_state=0)
    assert out.score.dims == ("neuroid", "category", "time")
    late = ba.selectivity(x[:, :, 1].drop_vars("time"), "condition")
    np.testing.assert_array_equal(out.score[..., 1], late.score)
    assert (out.p_value_max.values[range(4), range(4)] <= 0.05).tolist() == [[False, True]] * 4


def test_lazy_blocks_give_what_memory_gives():
    x = recorded(planted(n=70))
    whole, lazy = (
        ba.selectivity(y, "condition", n_permutations=29, random_state=0, max_memory=size)
        for y, size in ((x, 2**30), (x.chunk({"neuroid": 16}), N * 4 * 20))
    )
    for name in ("score", "p_value", "p_value_max"):
        np.testing.assert_array_equal(whole[name], lazy[name])


def test_a_planted_hundredth_of_language_neurons_is_found():
    rng = np.random.default_rng(0)
    active = rng.random((N, 500)) < 0.1
    active[:, :5] = (LABEL == "face")[:, None] & (rng.random((N, 5)) < 0.9)
    out = ba.selectivity(recorded(active * rng.exponential(size=(N, 500))), "condition", metric="lape")
    assert np.flatnonzero(out.expert).tolist() == [0, 1, 2, 3, 4]
    assert out.member.values[:5].tolist() == [[True, False, False, False]] * 5
    assert out.score.values[:5] == pytest.approx(0.0, abs=1e-12)
    assert (out.threshold == 0).all()


def test_three_types_over_five_conditions_are_told_apart():
    rng = np.random.default_rng(0)
    label = np.array(list("abcde"))[np.arange(300) % 5]
    kinds = np.repeat(["specific", "related", "agnostic"], 100)
    wide = {"specific": 1, "related": 3, "agnostic": 5}
    p = np.full((300, 5), 0.05)
    for row, kind in enumerate(kinds):
        p[row, rng.choice(5, wide[kind], replace=False)] = 0.8
    active = rng.random((300, 300)) < p[:, np.unique(label, return_inverse=True)[1]].T
    out = ba.selectivity(recorded(active.astype("float32"), label), "condition", metric="lape")
    assert f1_score(kinds, out.kind.values.astype(object), average="macro") >= 0.95


def test_signed_responses_are_active_above_a_recorded_threshold():
    x = recorded(planted())
    out = ba.selectivity(x, "condition", metric="lape", n_permutations=99, random_state=0)
    np.testing.assert_allclose(out.threshold, x.values.mean(axis=0) + x.values.std(axis=0), rtol=1e-5)
    assert out.attrs["direction"] == "lower is more selective"
    assert (out.p_value.values[:4] <= 0.05).all()
    assert (ba.selectivity(x, "condition", metric="lape", threshold=0.25).threshold == 0.25).all()


def test_things_that_do_not_exclude_each_other():
    rng = np.random.default_rng(0)
    shows = xr.DataArray(rng.random((N, 2)) < 0.4, dims=("presentation", "category"), coords={"category": ["tree", "sky"]})
    out = ba.selectivity(recorded(rng.normal(size=(N, 2)) + 3.0 * shows.values), shows, n_permutations=99, random_state=0)
    assert (out.p_value_max.values <= 0.05).tolist() == [[True, False], [False, True]]


def test_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    label, inside = np.repeat(["a", "b"], 30), []
    truth = {"auroc": norm.cdf(1 / np.sqrt(2)), "dprime": 1.0}
    x = recorded(rng.normal(size=(60, 300)) + 1.0 * (label == "a")[:, None], label)
    for metric, wanted in truth.items():
        out = ba.selectivity(x, "condition", metric=metric, n_bootstraps=200, random_state=0).isel(category=0)
        inside.append(((out.ci_low <= wanted) & (wanted <= out.ci_high)).mean().item())
    assert min(inside) >= 0.9


def test_repeats_of_a_stimulus_are_no_evidence_of_their_own():
    """Noise of 12 stimuli, shown ten times each: whole stimuli must change places."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.normal(size=(12, 200)), 10, axis=0) + 0.1 * rng.normal(size=(120, 200))
    x = recorded(values, np.repeat(["a", "b"], 60), stimulus_id=np.repeat([f"s{i}" for i in range(12)], 10))
    whole, single = (
        ba.selectivity(x, "condition", groups=g, n_permutations=99, random_state=0).p_value.values[:, 0] <= 0.05
        for g in ("stimulus_id", None)
    )
    assert whole.mean() < 0.1 < 0.2 < single.mean()


def test_both_sides_are_tested_on_demand():
    x = recorded(-planted())
    one, two = (
        ba.selectivity(x, "condition", two_sided=t, n_permutations=99, random_state=0).p_value.values[range(4), range(4)]
        for t in (False, True)
    )
    assert (one > 0.9).all()
    assert (two <= 0.01).all()


def test_degenerate_neuroids_and_categories_are_named():
    values, label = planted(), LABEL.copy()
    values[:, 5], label[0] = 2.0, "once"
    x = recorded(values, label).assign_attrs(allow_nan=True)
    x.values[3, 6] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="2 of 40 neuroids are constant or NaN, and have no score: 5, 6"):
        out = ba.selectivity(x, "condition", n_permutations=9, n_bootstraps=9, random_state=0)
    assert out.status.values[4:7].tolist() == ["ok", "constant", "nan"]
    assert out.category_status.sel(category=["face", "once"]).values.tolist() == ["ok", "few"]
    for name in ("score", "p_value", "p_value_max", "ci_low"):
        assert np.isnan(out[name].values[5:7]).all()
        assert np.isnan(out[name].sel(category="once")).all()
        assert np.isfinite(out[name].sel(category=["face", "tool"]).values[:5]).all()


@pytest.mark.parametrize("metric", ["auroc", "lape"])
def test_labels_that_each_occur_once_are_no_categories(metric):
    with pytest.raises(ParameterError, match=rf"metric='{metric}' for 0 categories of two presentations or more, of {N}"):
        ba.selectivity(recorded(planted()), "stimulus_id", metric=metric)


@pytest.mark.parametrize("metric", ["auroc", "dprime", "mutual-information", "lape"])
def test_nothing_but_constant_neuroids_is_no_error(metric):
    with pytest.warns(DegenerateNeuroidWarning, match="3 of 3 neuroids"):
        out = ba.selectivity(
            recorded(np.ones((N, 3))), "condition", metric=metric, n_permutations=9, n_bootstraps=9, random_state=0
        )
    assert np.isnan(out.score).all()
    assert np.isnan(out.p_value_fdr).all()


def test_voxels_that_are_units_have_their_selectivity():
    """A recording whose voxels are one-hot sums of units scores as they do."""
    units = recorded(planted())
    voxels = ba.responses(
        units.values[:, ::-1],
        stimulus_id=units.stimulus_id.values,
        neuroid_id=[f"v{i}" for i in range(40)],
        modality="fmri",
        system="sub-01",
        condition=LABEL,
    )
    np.testing.assert_array_equal(ba.selectivity(units, "condition").score[::-1], ba.selectivity(voxels, "condition").score)


def test_bad_input_is_named():
    x = recorded(planted())
    with pytest.raises(ParameterError, match=r"'metric' parameter of selectivity must be one of.*Did you mean 'auroc'"):
        ba.selectivity(x, "condition", metric="auc-roc")
    with pytest.raises(ParameterError, match="each category is one 'stimulus_id'"):
        ba.selectivity(x, "stimulus_id", n_permutations=9)
    with pytest.raises(ParameterError, match="two_sided=True for metric='lape'"):
        ba.selectivity(x, "condition", metric="lape", two_sided=True)
    with pytest.raises(ParameterError, match="metric='lape' for 1 categories"):
        ba.selectivity(x, xr.DataArray(np.arange(N)[:, None] < 9, dims=("presentation", "category")), metric="lape")
