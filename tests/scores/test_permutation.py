"""A held-out prediction against chance: the r is Pearson's, noise passes as often as it should, and each mistake is named."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats

import brainalign as ba
from brainalign.core.errors import AlignmentError, NullWarning, ParameterError, SplitError

RNG = np.random.default_rng(0)
TIMED = ("shift", "runs", "block", "phase")


def sides(prediction, truth, **coords):
    ids = coords.pop("ids", [f"s{i:04d}" for i in range(len(truth))])
    labels = {"stimulus_id": ids, "neuroid_id": range(truth.shape[1]), **coords}
    return (
        ba.responses(prediction, modality="ann", system="net", layer="l", **labels),
        ba.responses(truth, modality="fmri", system="sub", region="r", **labels),
    )


def in_runs(n_runs, length):
    return {"run": np.repeat([str(i) for i in range(n_runs)], length), "onset_s": np.tile(2.0 * np.arange(length), n_runs)}


def slow(n_runs, length, columns, phi=0.6):
    x = RNG.normal(size=(n_runs, length, columns))
    for i in range(1, length):
        x[:, i] = phi * x[:, i - 1] + np.sqrt(1 - phi**2) * x[:, i]
    return x.reshape(-1, columns)


def test_the_score_is_pearson_and_p_that_of_scipy():
    x, y = sides(RNG.normal(size=(40, 3)), RNG.normal(size=(40, 3)))
    y[:, 1] += 0.7 * x[:, 1]
    out = ba.permutation_test(x, y, n_permutations=2000, random_state=0)
    for i in range(3):
        r, p = stats.pearsonr(x[:, i], y[:, i], alternative="greater")
        assert out.score[i] == pytest.approx(r, abs=1e-6)
        assert out.p_value[i] == pytest.approx(p, abs=0.04)
    assert out.status.values.tolist() == ["ok"] * 3
    assert (out.attrs["null"], int(out.n_presentations)) == ("exchange", 40)
    again = ba.permutation_test(x, y[::-1], n_permutations=2000, random_state=0)  # joined by label
    np.testing.assert_allclose(again.score, out.score)


@pytest.mark.parametrize("null", TIMED)
def test_noise_in_time_passes_as_often_as_it_should_and_effects_do(null):
    x, y = sides(slow(6, 60, 400), slow(6, 60, 400), **in_runs(6, 60))
    y[:, 300:] += 0.5 * x[:, 300:]
    out = ba.permutation_test(x, y, null=null, block_s=30.0 if null == "block" else None, n_permutations=199, random_state=0)
    low, high = stats.binom.ppf([0.0005, 0.9995], 300, 0.05) / 300
    assert low <= (out.p_value[:300] <= 0.05).mean() <= high
    assert (out.p_value[300:] <= 0.05).mean() > 0.95
    runs = [y.run.values == str(i) for i in range(6)]
    centred = [np.concatenate([side[run].values - side[run].values.mean(axis=0) for run in runs]) for side in (x, y)]
    np.testing.assert_allclose(
        out.score, [np.corrcoef(a, b)[0, 1] for a, b in zip(*(c.T for c in centred), strict=True)], atol=1e-6
    )


def test_time_chooses_its_null_and_slow_runs_are_named():
    pair = sides(slow(2, 100, 3), slow(2, 100, 3), **in_runs(2, 100))
    assert ba.permutation_test(*pair, n_permutations=9, random_state=0).attrs["null"] == "shift"
    slower = sides(slow(6, 40, 3, 0.97), slow(6, 40, 3, 0.97), **in_runs(6, 40))
    assert ba.permutation_test(*slower, n_permutations=9, random_state=0).attrs["null"] == "runs"
    with pytest.warns(NullWarning, match="Runs of 40 rows"):
        ba.permutation_test(*slower, null="shift", n_permutations=9, random_state=0)


def test_stimuli_are_exchanged_whole_and_within():
    """Sessions differ in level on both sides: exchanged at will, noise looks alike; within sessions it does not."""
    level = np.repeat(RNG.normal(size=(4, 1)) * 3, 15, axis=0)
    x, y = sides(RNG.normal(size=(60, 100)) + level, RNG.normal(size=(60, 100)) + level, session=np.repeat(list("abcd"), 15))
    free = ba.permutation_test(x, y, n_permutations=99, random_state=0)
    within = ba.permutation_test(x, y, within="session", n_permutations=99, random_state=0)
    assert (free.p_value <= 0.05).mean() > 0.9
    assert (within.p_value <= 0.05).mean() < 0.15
    np.testing.assert_array_equal(free.score, within.score)


def test_time_points_keep_their_dim_and_degenerate_neuroids_their_nan():
    values = RNG.normal(size=(30, 3, 2))
    values[:, 1] = 4.0
    y = ba.responses(
        values, stimulus_id=[f"s{i}" for i in range(30)], neuroid_id=range(3), time=[0.0, 0.1], modality="meg", system="m"
    )
    out = ba.permutation_test(y, y, n_permutations=19, random_state=0)
    assert out.p_value.dims == ("neuroid", "time")
    assert np.isnan(out.p_value.values).tolist() == [[False, False], [True, True], [False, False]]
    assert out.status.values.tolist() == ["ok", "constant", "ok"]
    assert (out.p_value_max.values[0] == 0.05).all()
    flat = ba.permutation_test(y * [[1.0], [1.0], [0.0]], y, n_permutations=19, random_state=0)
    assert flat.status.values.tolist() == ["ok", "constant", "undefined"]


def test_two_results_on_the_same_folds_are_compared_over_folds():
    x, y = sides(RNG.normal(size=(120, 4)), RNG.normal(size=(120, 4)))
    y += 2.0 * x.values
    folds = ba.split(y, n_splits=8, random_state=0)
    good, bad = (ba.evaluate(x[:, columns], y, cv=folds, random_state=0) for columns in (slice(None), slice(0, 1)))
    out = ba.permutation_test(good, bad, over="fold", random_state=0)
    assert out.p_value_bound.values[1:].max() < 0.05
    assert "p_value" not in out
    assert "no more than the bound" in out.attrs["assumes"]
    some = {"cv": folds, "controls": "none", "n_refits": 10}
    good, bad, other = (
        ba.evaluate(x[:, columns], y, random_state=seed, **some)
        for columns, seed in ((slice(None), 0), (slice(0, 1), 0), (slice(0, 1), 1))
    )
    refits = ba.permutation_test(good, bad, over="fold", random_state=0)
    assert "what refits show" in refits.attrs["assumes"]
    assert (refits.p_value <= out.p_value_bound).all()  # the bound is one
    with pytest.raises(ParameterError, match=r"seeds \{'x': 0, 'y': 1\}"):
        ba.permutation_test(good, other, over="fold")
    assert ba.core.provenance(out).steps[-1]["verb"] == "permutation_test"


def test_one_seed_one_answer():
    pair = sides(RNG.normal(size=(30, 5)), RNG.normal(size=(30, 5)))
    first, again = (ba.permutation_test(*pair, n_permutations=50, random_state=4) for _ in range(2))
    np.testing.assert_array_equal(first.p_value, again.p_value)


@pytest.mark.parametrize("null", ["exchange", "runs", "block"])
def test_long_draws_show_a_bar_which_changes_nothing(null, capsys):
    x, y = sides(slow(6, 10, 3), slow(6, 10, 3), **({} if null == "exchange" else in_runs(6, 10)))
    options = {"null": null, "block_s": 6.0 if null == "block" else None, "n_permutations": 30, "random_state": 0}
    silent = ba.permutation_test(x, y, **options)
    assert "permutations" not in capsys.readouterr().err  # no terminal
    shown = ba.permutation_test(x, y, **options, progress=True)
    assert "permutations: 100%" in capsys.readouterr().err
    xr.testing.assert_equal(shown, silent)
    assert "progress" not in ba.core.provenance(shown).steps[-1]["params"]


def test_messages():
    x, y = sides(RNG.normal(size=(30, 4)), RNG.normal(size=(30, 4)))
    with pytest.raises(AlignmentError, match=r"predictions of shape \(30, 2\)"):
        ba.permutation_test(x[:, :2], y)
    with pytest.raises(AlignmentError, match="same neuroids"):
        ba.permutation_test(x[:, ::-1], y)
    with pytest.raises(ParameterError, match="within='sesion'"):
        ba.permutation_test(x, y, within="sesion")
    with pytest.raises(ParameterError, match=r"'spin' for predictions"):
        ba.permutation_test(x, y, null="spin")
    with pytest.raises(ParameterError, match=r"null='phase' .* without `onset_s`"):
        ba.permutation_test(x, y, null="phase")
    with pytest.raises(SplitError, match="null='shift'"):
        ba.permutation_test(x, y, null="shift")
    timed = sides(x.values, y.values, **in_runs(2, 15))
    with pytest.raises(SplitError, match="null='exchange'"):
        ba.permutation_test(*timed, null="exchange")
    with pytest.raises(ParameterError, match="block_s"):
        ba.permutation_test(*timed, null="block")
    with pytest.raises(ParameterError, match="null"):
        ba.permutation_test(x, y, null="shuffle")


def test_clusters_over_people_ask_for_people_and_times():
    rng = np.random.default_rng(0)
    score = xr.DataArray(0.5 + 0.1 * rng.normal(size=(8, 6, 2)), dims=("subject", "time", "layer"))
    score[:, 2:5, 1] += 0.3
    x, y = (xr.Dataset({"score": s, "chance": 0.5}) for s in (score, 0.5 + 0 * score))
    out = ba.permutation_test(x, over="subject", clusters="tfce", n_permutations=255, random_state=0)
    assert out.p_value_cluster.dims == ("time", "layer")
    assert float(out.chance) == 0.5
    assert (out.p_value_cluster.values < 0.05).tolist() == [[False, 1 < t < 5] for t in range(6)]
    both = ba.permutation_test(y, x, over="subject", clusters="mass", random_state=0)
    assert (both.p_value_cluster.values[2:5, 1] < 0.05).all()  # lower counts too
    with pytest.raises(ParameterError, match=r"scores \(subject, layer\)\. Expected one time or two"):
        ba.permutation_test(x.mean("time"), over="subject", clusters="mass")
    with pytest.raises(ParameterError, match="units that share no training rows"):
        ba.permutation_test(x.rename(subject="fold"), over="fold", clusters="mass")
    with pytest.raises(ParameterError, match="'clusters' parameter of permutation_test must be one of None, 'mass', 'tfce'"):
        ba.permutation_test(x, over="subject", clusters="maas")
    study = ba.simulate(n_stimuli=30, random_state=0)
    brain = ba.average_repeats(study.brain)
    with pytest.raises(ParameterError, match="clusters='mass' for null='exchange'"):
        ba.permutation_test(brain, brain, clusters="mass", n_permutations=9)
