import warnings

import numpy as np
import pytest
import xarray as xr
from threadpoolctl import threadpool_limits

import brainalign as ba
from brainalign.core.errors import CapabilityError, UndefinedDrawsWarning
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.rdm_bootstrap import redrawn_parts
from brainalign.engine.reliability import geometry_bounds

N, N_SUBJECTS = 14, 8


@pytest.fixture(autouse=True)
def workers():
    """Pieces go side by side, whatever this run allows products."""
    with threadpool_limits(3, user_api="blas"):
        yield


def geometries(shape, *, noise, stream, n=N, shared=0, signal=1.0, **coords):
    """Squared distances of patterns, of which a part is the same in all."""
    rng = np.random.default_rng(stream)
    base = signal * np.random.default_rng(shared).normal(size=(n, 10))
    x = base + np.reshape(noise, np.shape(noise) + (1,) * (len(shape) + 2 - np.ndim(noise))) * rng.normal(size=(*shape, n, 10))
    values = np.square(x[..., :, None, :] - x[..., None, :, :]).sum(axis=-1)
    ids = [f"s{i:02d}" for i in range(n)]
    return xr.DataArray(values, dims=(*coords, "stimulus", "stimulus_2"), coords={**coords, "stimulus": ids, "stimulus_2": ids})


def layers(**options):
    return geometries((3,), noise=[0.3, 0.8, 3.0], stream=1, layer=["a", "b", "c"], **options)


def people(dim="subject", noise=0.7, n_units=N_SUBJECTS, **options):
    return geometries((n_units,), noise=noise, stream=2, **{dim: [f"u{i}" for i in range(n_units)]}, **options)


def over_time(noise=0.7, **options):
    """The geometry is there in the middle third of the time."""
    x = geometries((6, 12), noise=noise, stream=3, subject=range(6), time=0.1 * np.arange(12), **options)
    nothing = geometries((6, 12), noise=1.0, stream=4, signal=0.0, subject=range(6), time=0.1 * np.arange(12), **options)
    there = xr.DataArray((np.arange(12) // 4 == 1) * 1.0, dims="time")
    return (there * x + nothing).transpose(*x.dims)


def swapped(out):
    """Name the sides of a result the other way round."""
    names = {name: f"target_{name[7:]}" if name.startswith("source_") else f"source_{name[7:]}" for name in [*out.dims, *out.coords]
             if str(name).startswith(("source_", "target_"))}  # fmt: skip
    return out.rename(names)


@pytest.mark.parametrize("dim", ["subject", "session", "seed"])
@pytest.mark.parametrize("metric", ["cosine", "pearson", "spearman", "rho-a", "tau-a", "whitened-cosine", "whitened-pearson"])
def test_sides_swap_whoever_was_measured_several_times(metric, dim):
    source, target = layers(), people(dim)
    options = {"metric": metric, "over": ("stimulus", dim), "n_bootstraps": 12, "n_permutations": 12, "random_state": 0}
    forward = ba.compare_rdms(source, target, between="source_layer", **options)
    back = ba.compare_rdms(target, source, between="target_layer", **options)
    assert forward[f"score_by_{dim}"].dims == ("source_layer", f"target_{dim}")
    assert forward.score.dims == forward.ci_low.dims == ("source_layer",)
    assert forward.score_bootstrap.dims == ("bootstrap", "source_layer")
    assert forward.ceiling_low.dims == ()
    for name, x in swapped(back).data_vars.items():
        np.testing.assert_allclose(x.transpose(*forward[name].dims), forward[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_stimuli_are_drawn_by_name_whatever_their_order():
    source, target = layers(), people()
    options = {"metric": "pearson", "over": ("stimulus", "subject"), "n_bootstraps": 12, "n_permutations": 12, "random_state": 0}
    out = ba.compare_rdms(source, target, **options)
    orders = [np.random.default_rng(seed).permutation(N) for seed in range(2)]
    moved = [x[..., order, order] for x, order in zip((source, target), orders, strict=True)]
    xr.testing.assert_allclose(ba.compare_rdms(*moved, **options), out)
    trsa = {"step": 0.25, "n_permutations": 9, "n_bootstraps": 9, "random_state": 0}
    xr.testing.assert_allclose(ba.trsa(*moved, **trsa), ba.trsa(source, target, **trsa))


def test_a_draw_is_the_score_of_the_sample_that_it_draws():
    """Of subjects alone, the draws are weighted means of scores by subject; of stimuli alone, each subject has its own."""
    out = ba.compare_rdms(layers(), people(), over="subject", n_bootstraps=500, random_state=0)
    assert np.abs(out.score_bootstrap.mean("bootstrap") - out.score).max() < 0.02
    ends = out.score_by_subject.min("target_subject"), out.score_by_subject.max("target_subject")
    assert ((out.score_bootstrap > ends[0]) & (out.score_bootstrap < ends[1])).all()
    each = ba.compare_rdms(layers(), people(), n_bootstraps=10, random_state=0)
    assert each.score_bootstrap.dims == ("bootstrap", "source_layer", "target_subject")
    one = ba.compare_rdms(layers(), people()[2], n_bootstraps=10, random_state=0)
    np.testing.assert_allclose(each.score_bootstrap[..., 2], one.score_bootstrap, rtol=1e-12)
    again = ba.bootstrap(each, over="stimulus")
    np.testing.assert_allclose(again.ci_low, each.ci_low)
    without = ba.compare_rdms(layers()[:, 1:, 1:], people()[:, 1:, 1:])
    np.testing.assert_allclose(each.score_left_out[0], without.score, rtol=1e-10)


def test_intervals_over_people_and_stimuli_have_the_corrected_variance():
    """Not that of draws of both, which count the noise of single measurements three times."""
    source, target, n, pairs = layers(), people(noise=2.0), 200, np.triu_indices(N, 1)
    out = ba.compare_rdms(source, target, metric="pearson", over=("subject", "stimulus"), n_bootstraps=n, random_state=0)
    rng = np.random.default_rng(np.random.SeedSequence(0).spawn(2)[0])
    units, stimuli = draw_weights(N_SUBJECTS, n, rng), draw_weights(N, n, rng)
    (part,) = (
        made()
        for made in redrawn_parts(source.values[:, *pairs], target.values[None, :, *pairs], "pearson", stimuli, ceiling=False)
    )
    both, of_units = (np.einsum("dms,ds->dm", x, units) / N_SUBJECTS for x in (part.scores, out.score_by_subject.values[None]))
    np.testing.assert_allclose(out.score_bootstrap, both, rtol=1e-10)
    drawn = Drawn(out.score.values, both, (of_units, part.scores.mean(axis=-1)), [N_SUBJECTS, N])
    np.testing.assert_allclose([out.ci_low, out.ci_high], drawn.interval(0.95), rtol=1e-10)
    apart = Drawn(out.score.values, both, (), [N_SUBJECTS, N])
    assert (drawn.spread[0] < 0.95 * apart.spread[0]).all()


@pytest.mark.parametrize("metric", ["pearson", "spearman", "cosine"])
def test_ceilings_are_those_of_each_subject_or_their_mean(metric):
    x = people()
    first, second = np.triu_indices(N, 1)
    wanted = geometry_bounds(x.values[:, first, second].T, metric)
    each = ba.compare_rdms(layers(), x, metric=metric, ceiling="subject")
    mean = ba.compare_rdms(layers(), x, metric=metric, over="subject", n_bootstraps=50, random_state=0)
    for name, bound in zip(("ceiling_low", "ceiling_high"), wanted, strict=True):
        np.testing.assert_allclose(each[name], bound, rtol=1e-10)
        np.testing.assert_allclose(mean[name], bound.mean(), rtol=1e-10)
        assert mean[f"{name}_ci_low"] < mean[name] < mean[f"{name}_ci_high"]
    assert "ci_low" not in each
    undrawn = ba.compare_rdms(layers(), x, metric=metric, over="subject", ceiling="subject")
    for name, bound in zip(("ceiling_low", "ceiling_high"), wanted, strict=True):
        np.testing.assert_allclose(undrawn[name], bound.mean(), rtol=1e-10)
    groups = ba.compare_rdms(layers(), over_time(), metric=metric, ceiling="subject").ceiling_low
    assert groups.dims == ("target_subject", "target_time")
    at = ba.compare_rdms(layers(), over_time()[:, 5], metric=metric, ceiling="subject").ceiling_low
    np.testing.assert_allclose(groups[:, 5], at, rtol=1e-10)


def test_a_good_model_is_not_below_the_ceiling_and_a_bad_one_is():
    options = {"metric": "pearson", "over": ("subject", "stimulus"), "n_bootstraps": 300, "random_state": 0}
    out = ba.compare_rdms(layers(n=30), people(n_units=12, n=30), **options)
    assert (out.ceiling_difference_p_value > 0.05).values.tolist() == [True, False, False]
    assert out.ceiling_difference_high[0] > 0
    assert (out.ceiling_difference_high[1:] < 0).all()
    np.testing.assert_allclose(out.ceiling_difference, out.score - out.ceiling_low)


def test_models_are_compared_on_the_same_draws():
    out = ba.compare_rdms(layers(), people()[0], n_bootstraps=300, between="source_layer", random_state=0)
    assert list(zip(out["first"].values, out["second"].values, strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair, (i, j) in enumerate([(0, 1), (0, 2), (1, 2)]):
        draws = (out.score_bootstrap[:, i] - out.score_bootstrap[:, j]).values
        left_out = (out.score_left_out[:, i] - out.score_left_out[:, j]).values
        drawn = Drawn((out.score[i] - out.score[j]).values, draws, (), [N], left_out=left_out)
        np.testing.assert_allclose([out.difference_low[pair], out.difference_high[pair]], drawn.interval(0.95))
        np.testing.assert_allclose(out.difference_p_value[pair], drawn.p()[0])
    assert out.difference_p_value[1] < 0.05
    assert (out.difference_p_value_max >= out.difference_p_value).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_intervals_hold_scores_of_either_sign(sign):
    x = layers()
    target = people()[0]
    target = target if sign > 0 else target.max() - target
    out = ba.compare_rdms(x, target, metric="pearson", n_bootstraps=200, random_state=0)
    assert (np.sign(out.score) == sign)[:2].all()
    assert ((out.ci_low < out.score) & (out.score < out.ci_high)).all()


@pytest.mark.parametrize(("metric", "over", "noise"), [("cosine", "stimulus", 0.2), ("spearman", ("subject", "stimulus"), 0.05)])
def test_intervals_end_where_scores_do(metric, over, noise):
    """Percentiles that are stretched, of draws that are moved, pass 1 where scores are near to it."""
    options = {"metric": metric, "over": over, "n_bootstraps": 200, "random_state": 0}
    out = ba.compare_rdms(layers(), people(noise=noise), **options)
    assert max(float(out[name].max()) for name in out if name.endswith("ci_high")) == 1.0
    assert (out.score_bootstrap < 1).all()


def test_few_stimuli_leave_draws_without_a_score_which_are_counted_and_said():
    """A peer gives p = NaN."""
    few = {"stimulus": slice(5), "stimulus_2": slice(5)}
    with pytest.warns(UndefinedDrawsWarning, match=r"of 200 draws have no value .* expected more units than \[5\]") as caught:
        out = ba.compare_rdms(layers().isel(few), people()[0].isel(few), n_bootstraps=200, between="source_layer", random_state=0)
    assert caught[0].filename == __file__
    assert (out.n_undefined == np.isnan(out.score_bootstrap).sum("bootstrap")).all()
    assert (out.n_undefined > 0).all()
    assert not any(np.isnan(out[name]).any() for name in ("ci_low", "ci_high", "difference_p_value"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (ba.compare_rdms(layers(), people()[0], n_bootstraps=200, random_state=0).n_undefined == 0).all()


def test_renamed_stimuli_say_what_is_more_than_chance():
    target = xr.concat([people(), people(shared=99)], xr.Variable("region", ["there", "elsewhere"]))
    out = ba.compare_rdms(layers(), target, over="subject", n_permutations=199, random_state=0)
    assert out.p_value.dims == ("source_layer", "target_region")
    assert (out.p_value[:2, 0] == 1 / 200).all()
    assert (out.p_value[:, 1] > 0.05).all()
    assert (out.p_value_max >= out.p_value).all()
    assert out.attrs["n_permutations"] == 199
    each = ba.compare_rdms(layers(), target, n_permutations=9, random_state=0)
    assert each.p_value.shape == (3, 2, N_SUBJECTS)
    tiny = {"stimulus": slice(4), "stimulus_2": slice(4)}
    assert ba.compare_rdms(layers().isel(tiny), people()[0].isel(tiny), n_permutations=500).attrs["n_permutations"] == 23


@pytest.mark.parametrize("metric", ["pearson", "spearman", "whitened-pearson"])
def test_names_that_a_model_does_not_tell_apart_are_ties(metric):
    """Of the 24 orders of two pairs of stimuli, 8 keep the pairs; their scores differ by rounding."""
    ids = list("abcd")
    model, data = np.ones((4, 4)) - np.eye(4), np.zeros((4, 4))
    model[0, 1] = model[1, 0] = model[2, 3] = model[3, 2] = 0.3
    data[np.triu_indices(4, 1)] = [0.11, 0.83, 0.79, 0.97, 0.71, 0.13]
    source, target = (
        xr.DataArray(x, dims=("stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})
        for x in (model, data + data.T)
    )
    out = ba.compare_rdms(source, target, metric=metric, n_permutations=99, random_state=0)
    assert out.attrs["n_permutations"] == 23
    assert out.p_value.item() == out.p_value_max.item() == pytest.approx(8 / 24)


def test_within_groups_only_what_groups_do_not_explain_counts():
    """Both sides know two categories, and share nothing else."""
    category = np.repeat(["x", "y"], 15)
    apart = 5.0 * (category[:, None] != category)
    source, target = (geometries((), noise=1.0, stream=s, n=30, shared=s) / 20 + apart for s in (5, 6))
    source = source.assign_coords(category=("stimulus", category))
    options = {"metric": "pearson", "n_permutations": 199, "random_state": 0}
    assert ba.compare_rdms(source, target, **options).p_value < 0.01
    labels = source.stimulus.values.astype(np.dtypes.StringDType())  # as `ba.rdm` gives them
    source = source.assign_coords(stimulus=labels, stimulus_2=labels)
    for sides in ((source, target), (target, source)):
        assert ba.compare_rdms(*sides, within="category", **options).p_value > 0.05


def test_distances_count_as_alike_when_they_are_small():
    out = ba.compare_rdms(layers(n=8), people(n=8)[0], metric="riemannian", n_permutations=39, random_state=0)
    assert out.attrs["direction"] == "lower is more alike"
    assert (out.p_value[:2] < 0.05).all()


@pytest.mark.parametrize("null", ["exchange", "sign"])
@pytest.mark.parametrize("clusters", ["mass", "tfce"])
def test_clusters_over_time_find_the_stretch(null, clusters):
    options = {"null": null, "clusters": clusters, "over": "subject", "n_permutations": 99, "random_state": 0}
    out = ba.compare_rdms(layers(), over_time(), metric="pearson", **options)
    assert out.p_value_cluster.dims == ("source_layer", "target_time")
    assert (out.p_value_cluster[0, 4:8] <= 0.05).all()
    assert (out.p_value_cluster[0, [0, 1, 2, 10, 11]] > 0.05).all()
    back = ba.compare_rdms(over_time(), layers(), metric="pearson", **options).p_value_cluster
    assert back.dims == ("source_time", "target_layer")
    np.testing.assert_array_equal(back.values.T, out.p_value_cluster)


def test_clusters_over_two_times():
    source = over_time().mean("subject")
    out = ba.compare_rdms(source, over_time(), over="subject", clusters="mass", n_permutations=99, random_state=0)
    assert out.p_value_cluster.dims == ("source_time", "target_time")
    assert (out.p_value_cluster[4:8, 4:8] <= 0.05).all()
    assert (out.p_value_cluster[:3, 9:] > 0.05).all()


def test_subjects_may_be_drawn_where_stimuli_may_not():
    drawn = ba.compare_rdms(layers(), people(), metric="bures", over="subject", n_bootstraps=40, random_state=0)
    assert ((drawn.ci_low < drawn.score) & (drawn.score < drawn.ci_high)).all()
    assert drawn.ceiling_low < drawn.ceiling_high
    ids = layers().stimulus.values
    noise = xr.DataArray(np.eye(N) + 0.3, dims=("stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})
    options = {"metric": "whitened-cosine", "covariance": noise, "random_state": 0}
    assert ba.compare_rdms(layers(), people(), over="subject", n_bootstraps=40, n_permutations=9, **options).ceiling_low > 0
    for bad in (options, {"metric": "bures"}):
        with pytest.raises(CapabilityError, match="compare_rdms got over="):
            ba.compare_rdms(layers(), people(), n_bootstraps=10, **bad)


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize("partial", ["both", "source", "target"])
def test_what_is_held_constant_is_redrawn_too(metric, partial):
    """A drawn sample, with its copies, is a set of RDMs of its own, but for pairs of copies."""
    held = layers()[2].drop_vars("layer")
    options = {"metric": metric, "partial": partial, "random_state": 0}
    out = ba.compare_rdms(layers()[:2], people(), controlling=held, over="subject", n_bootstraps=20, **options)
    assert ((out.ci_low < out.score) & (out.score < out.ci_high)).all()
    back = {"both": "both", "source": "target", "target": "source"}[partial]
    swap = ba.compare_rdms(
        people(), layers()[:2], controlling=held, over="subject", n_bootstraps=20, **options | {"partial": back}
    )
    np.testing.assert_allclose(swap.ceiling_low_ci_low, out.ceiling_low_ci_low)
    one = ba.compare_rdms(layers()[:2], people()[0], controlling=held, n_bootstraps=20, **options)
    free = ba.compare_rdms(layers()[:2], people()[0], metric=metric, n_bootstraps=20, random_state=0)
    assert np.corrcoef(one.score_bootstrap[:, 0], free.score_bootstrap[:, 0])[0, 1] > 0.7
    assert np.abs(one.score_bootstrap.mean("bootstrap") - one.score).max() < 0.1
    signs = ba.compare_rdms(layers()[:2], people(), controlling=held, over="subject", null="sign", n_permutations=300, **options)
    assert signs.p_value[0] == 1 / 256


@pytest.mark.parametrize(("over", "drawn"), [("stimulus", True), ("subject", False), (("subject", "stimulus"), True)])
def test_long_draws_show_a_bar_which_changes_nothing(over, drawn, capsys):
    options = {"over": over, "n_bootstraps": 20, "n_permutations": 30, "random_state": 0}
    silent = ba.compare_rdms(layers(), people(), **options)
    assert capsys.readouterr().err == ""  # no terminal
    shown = ba.compare_rdms(layers(), people(), **options, progress=True)
    bars = capsys.readouterr().err
    assert ("draws: 100%" in bars) == drawn
    assert "permutations: 100%" in bars
    xr.testing.assert_equal(shown, silent)
    assert "progress" not in ba.core.provenance(shown).steps[-1]["params"]


def test_one_seed_gives_one_result_and_is_recorded():
    options = {"n_bootstraps": 20, "n_permutations": 20, "over": ("subject", "stimulus")}
    first = ba.compare_rdms(layers(), people(), **options)
    step = ba.core.provenance(first).steps[-1]
    again = ba.compare_rdms(layers(), people(), random_state=step["seed"], **options)
    xr.testing.assert_equal(first, again)
    assert step["params"]["over"] == ["subject", "stimulus"]
    assert step["params"]["ceiling"] == "target_subject"


def test_onsets_are_as_uncertain_as_their_draws_though_no_single_stimulus_moves_them():
    out = ba.compare_rdms(layers()[:1], over_time()[0], metric="pearson", over="stimulus", n_bootstraps=60, random_state=0)
    out = out.rename(target_time="time")
    kept, without = (ba.bootstrap(x, over="stimulus", onset=0.5) for x in (out, out.drop_vars("score_left_out")))
    for name in ("onset_low", "onset_high", "peak_low", "peak_high"):
        np.testing.assert_array_equal(kept[name], without[name])
    assert not np.array_equal(kept.ci_low, without.ci_low)
