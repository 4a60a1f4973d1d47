import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist, squareform

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError


def recording(values, **coords):
    values = np.asarray(values)
    ids = coords.pop("stimulus_id", [f"s{i}" for i in range(len(values))])
    options = {"modality": "fmri", "system": "sub-01", "neuroid_id": np.arange(values.shape[1])} | coords
    return ba.responses(values, stimulus_id=ids, **options)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_equal_to_scipy(metric):
    x = noise(10, 25)
    out = ba.rdm(recording(x), metric=metric)
    assert out.dims == ("stimulus", "stimulus_2")
    expected = squareform(pdist(x.astype(np.float64), metric)) / (25 if metric == "sqeuclidean" else 1)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-9)
    assert out.attrs["metric"] == metric


def test_repeats_are_averaged_in_order_of_first_appearance():
    x = noise(6, 9)
    out = ba.rdm(recording(x, stimulus_id=["b", "a", "b", "c", "a", "b"]), metric="euclidean")
    assert out.stimulus.values.tolist() == ["b", "a", "c"]
    b, a = x[[0, 2, 5]].mean(0), x[[1, 4]].mean(0)
    np.testing.assert_allclose(out.sel(stimulus="b", stimulus_2="a"), np.linalg.norm(b - a), rtol=1e-5)
    with pytest.raises(SchemaError, match="2 conditions that are presented more than once: 'b', 'a'"):
        ba.rdm(recording(x, stimulus_id=["b", "a", "b", "c", "a", "b"]), repeats="refuse")


def test_subjects_in_one_array_are_not_averaged_unasked():
    x = noise(8, 12)
    people = recording(x, stimulus_id=list("abcd") * 2, subject=["p"] * 4 + ["q"] * 4)
    with pytest.raises(
        SchemaError, match=r"rdm got stimuli that several subjects saw, 'p', 'q', .*`by='subject'` keeps subjects apart"
    ):
        ba.rdm(people)
    whole = ba.average_repeats(people)
    np.testing.assert_allclose(ba.rdm(people.drop_vars("subject")), ba.rdm(whole), rtol=1e-6)
    assert ba.rdm(people, folds="subject").shape == (4, 4)  # compared with each other, not averaged
    once = ba.rdm(people, by="subject", repeats="refuse")  # nobody saw anything twice
    np.testing.assert_array_equal(once, ba.rdm(people, by="subject"))
    with pytest.raises(SchemaError, match="4 conditions that are presented more than once"):
        ba.rdm(people.drop_vars("subject"), repeats="refuse")


def test_one_matrix_per_layer_and_per_subject():
    x = noise(8, 12)
    layered = recording(x, layer=["u"] * 5 + ["v"] * 7)
    out = ba.rdm(layered, by="layer")
    assert out.dims == ("layer", "stimulus", "stimulus_2")
    assert out.n_neuroids.values.tolist() == [5, 7]
    for layer, part in (("u", x[:, :5]), ("v", x[:, 5:])):
        np.testing.assert_allclose(out.sel(layer=layer), ba.rdm(recording(part)), rtol=1e-10)
    people = recording(x, stimulus_id=list("abcd") * 2, subject=["p"] * 4 + ["q"] * 4)
    out = ba.rdm(people, by="subject")
    np.testing.assert_allclose(out.sel(subject="q"), ba.rdm(recording(x[4:])), rtol=1e-10)


def test_a_condition_that_a_group_lacks_is_nan_there():
    people = recording(noise(5, 12), stimulus_id=list("abcab"), subject=["p"] * 3 + ["q"] * 2)
    with pytest.warns(DegenerateNeuroidWarning, match="group subject='q'"):
        out = ba.rdm(people, by="subject")
    assert np.isnan(out.sel(subject="q", stimulus="c")).all()
    assert np.isfinite(out.sel(subject="q", stimulus="a", stimulus_2="b"))
    assert np.isfinite(out.sel(subject="p")).all()


def test_every_time_point_has_its_own_matrix():
    x = noise(6, 9, 4)
    out = ba.rdm(recording(x, time=[0.0, 0.1, 0.2, 0.3]), metric="correlation")
    assert out.dims == ("time", "stimulus", "stimulus_2")
    for i in range(4):
        np.testing.assert_allclose(out[i], ba.rdm(recording(x[:, :, i])), rtol=1e-10)


@pytest.mark.parametrize(("metric", "value", "what"), [("correlation", 0.3, "constant over neuroids"), ("cosine", 0.0, "zero")])
def test_a_pattern_that_cannot_be_scaled_is_an_error_that_names_it(metric, value, what, tmp_path):
    x = noise(5, 9)
    x[2] = value
    for where in ({}, {"store": tmp_path / "study.zarr"}):
        with pytest.raises(SchemaError, match=rf"1 of 5 conditions whose pattern is {what} .*'s2'.*metric='euclidean'"):
            ba.rdm(recording(x), metric=metric, **where)
    assert np.isfinite(ba.rdm(recording(x), metric="euclidean")).all()


def test_a_pattern_that_is_constant_at_some_times_is_nan_there_and_named():
    x = noise(5, 9, 3)
    x[2, :, 0] = 0.3
    with pytest.warns(DegenerateNeuroidWarning, match=r"1 of 5 conditions .*'s2'"):
        out = ba.rdm(recording(x, time=[0.0, 0.1, 0.2]))
    assert np.isnan(out[0, 2]).all()
    assert np.isfinite(out[1:]).all()
    assert np.isfinite(np.delete(np.delete(out[0].values, 2, 0), 2, 1)).all()
    x[2] = 0.3
    with pytest.raises(SchemaError, match="constant over neuroids"):
        ba.rdm(recording(x, time=[0.0, 0.1, 0.2]))


def test_nan_neuroids_are_left_out_with_a_warning():
    x = noise(5, 9)
    x[1, 3] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 9 neuroids") as seen:
        out = ba.rdm(recording(x, allow_nan=True))
    assert seen[0].filename == __file__
    np.testing.assert_allclose(out, ba.rdm(recording(np.delete(x, 3, axis=1))), rtol=1e-10)
    assert out.n_neuroids == 8


def test_tiny_units_are_as_good_as_any():
    x = noise(6, 20)
    np.testing.assert_allclose(ba.rdm(recording(1e-13 * x)), ba.rdm(recording(x)), atol=1e-6)


def test_any_presentation_coordinate_can_name_the_conditions():
    x = recording(noise(6, 9), condition=list("uvwuvw"))
    out = ba.rdm(x, condition="condition")
    assert out.stimulus.values.tolist() == ["u", "v", "w"]
    with pytest.raises(ParameterError, match="Did you mean 'condition'"):
        ba.rdm(x, condition="conditon")
    with pytest.raises(ParameterError, match="by='layer'"):
        ba.rdm(x, by="layer")


def test_the_input_is_left_alone_and_named():
    x = recording(noise(6, 9))
    before = x.copy(deep=True)
    steps = ba.core.provenance(ba.rdm(x)).steps
    assert x.identical(before)
    assert [step["verb"] for step in steps] == ["responses", "rdm"]


def trials(n=6, p=10, runs=4, repeats=2, signal=1.0, times=(), seed=0, **coords):
    """Return presentations of conditions in runs: the same means plus independent noise of variance 1."""
    rng = np.random.default_rng(seed)
    means = signal * rng.normal(size=(n, p, *times))
    values = np.tile(means, (runs * repeats, *[1] * (1 + len(times)))) + rng.normal(size=(runs * repeats * n, p, *times))
    time = {"time": np.arange(times[0]) / 10} if times else {}
    ids = [f"c{i}" for i in range(n)] * (runs * repeats)
    return recording(
        values, stimulus_id=ids, run=[f"r{i}" for i in np.repeat(np.arange(runs), repeats * n)], **time, **coords
    ), means


def off(x):
    return np.asarray(x)[..., *np.triu_indices(x.shape[-1], 1)]


@pytest.mark.parametrize("noise", [None, "shrinkage-diagonal", "diagonal"])
def test_noise_alone_has_a_mean_cross_validated_distance_of_zero(noise):
    """Card §5: a published estimator whose training mean holds the test data has the ordinary, positive distance here."""
    found = [ba.rdm(trials(signal=0.0, seed=s)[0], metric="crossnobis", folds="run", noise=noise) for s in range(60)]
    means = np.array([off(x).mean() for x in found])
    assert abs(means.mean()) < 3 * means.std() / np.sqrt(60)
    assert off(ba.rdm(trials(signal=0.0)[0], metric="sqeuclidean")).mean() > 10 * abs(means.mean())


def test_rates_that_do_not_differ_have_a_mean_cross_validated_divergence_of_zero():
    means, biased = [], []
    for seed in range(60):
        values = np.random.default_rng(seed).poisson(4.0, size=(24, 10))
        x = recording(values, stimulus_id=list("abcdef") * 4, run=np.repeat(list("1234"), 6))
        means.append(off(ba.rdm(x, metric="poisson-cv", folds="run")).mean())
        biased.append(off(ba.rdm(x, metric="poisson")).mean())
    assert abs(np.mean(means)) < 3 * np.std(means) / np.sqrt(60)
    assert np.mean(biased) > 10 * abs(np.mean(means))


@pytest.mark.parametrize("kept", [1.0, 0.7])
def test_crossnobis_estimates_the_distance_of_the_means_however_many_presentations_are_lost(kept):
    errors = []
    for seed in range(20):
        x, means = trials(seed=seed)
        x = x[np.random.default_rng(seed).random(len(x)) <= kept]
        order = [f"c{i}" for i in range(6)]
        out = ba.rdm(x, metric="crossnobis", folds="run").sel(stimulus=order, stimulus_2=order)
        errors.append(off(out) - pdist(means, "sqeuclidean") / 10)
    errors = np.array(errors)
    assert abs(errors.mean()) < 3 * errors.mean(axis=1).std() / np.sqrt(20)
    assert errors.std() < 0.7


def test_all_pairs_of_times():
    x, _ = trials(times=(3,))
    for options in ({"metric": "crossnobis"}, {"metric": "crossnobis", "noise": "shrinkage-eye"}, {"metric": "correlation"}):
        out, same = ba.rdm(x, folds="run", time="all", **options), ba.rdm(x, folds="run", **options)
        assert out.dims == ("time", "time_2", "stimulus", "stimulus_2")
        for t in range(3):
            np.testing.assert_allclose(out[t, t], same[t], atol=1e-10)
    np.testing.assert_allclose(out, out.values.transpose(1, 0, 3, 2), atol=1e-12)
    flat = x.copy(data=np.repeat(x.values[:, :, :1], 3, axis=2))
    np.testing.assert_allclose(ba.rdm(flat, metric="crossnobis", folds="run", time="all"), flat_first(flat), atol=1e-6)
    rates = x.copy(data=np.abs(x.values))
    divergence, same = (ba.rdm(rates, metric="poisson-cv", folds="run", time=time) for time in ("all", "match"))
    for t in range(3):
        np.testing.assert_allclose(divergence[t, t], same[t], atol=1e-10)


def flat_first(x):
    return np.broadcast_to(ba.rdm(x[:, :, 0].drop_vars("time"), metric="crossnobis", folds="run"), (3, 3, 6, 6))


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_patterns_of_different_runs_only(metric):
    x, _ = trials(n=4, runs=3, repeats=1)
    scale = 10 if metric == "sqeuclidean" else 1
    runs = x.values.reshape(3, 4, 10).astype(np.float64)
    expected = np.mean([cdist(runs[f], runs[g], metric) for f in range(3) for g in range(3) if f != g], axis=0) / scale
    out = ba.rdm(x, metric=metric, folds="run")
    np.testing.assert_allclose(out, expected, atol=1e-10)
    assert (np.diagonal(out) > 0).all()
    first = ba.rdm(x, metric=metric, folds="run", between=("r2", "r0"))
    np.testing.assert_allclose(first, cdist(runs[2], runs[0], metric) / scale, atol=1e-10)
    assert first.attrs["symmetric"] is False
    with pytest.raises(SchemaError, match="not symmetric"):
        ba.compare_rdms(first, out)


def test_runs_that_lack_a_condition():
    x, _ = trials(n=4, runs=3, repeats=1)
    x = x[1:]  # c0 is not in r0
    runs = np.concatenate([np.full((1, 10), np.nan), x.values.astype(np.float64)]).reshape(3, 4, 10)
    pairs = [cdist(runs[f], runs[g], "euclidean") for f in range(3) for g in range(3) if f != g]
    out = ba.rdm(x, metric="euclidean", folds="run").sel(
        stimulus=[f"c{i}" for i in range(4)], stimulus_2=[f"c{i}" for i in range(4)]
    )
    np.testing.assert_allclose(out, np.nanmean(pairs, axis=0), atol=1e-10)
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 4 conditions"):
        assert np.isnan(ba.rdm(x, metric="euclidean", folds="run", between=("r0", "r1")).sel(stimulus="c0")).all()
    with pytest.raises(SchemaError, match=r"1 of 4 conditions are missing from some of the 3 folds of 'run'.*'c0'"):
        ba.rdm(np.abs(x), metric="poisson-cv", folds="run")
    with pytest.raises(SchemaError, match=r"4 of 4 conditions are in one fold of 'stimulus_id' only"):
        ba.rdm(x, metric="crossnobis", folds="stimulus_id")


def test_a_grid_of_subjects_and_layers_each_with_its_own_noise():
    x, _ = trials(runs=2, repeats=4, layer=["u"] * 4 + ["v"] * 6, subject=np.tile(["p"] * 6 + ["q"] * 6, 4).tolist())
    noise = ba.geometry.noise_covariance(x, by="subject")
    out = ba.rdm(x, metric="crossnobis", by=("subject", "layer"), folds="run", noise=noise)
    assert out.dims == ("subject", "layer", "stimulus", "stimulus_2")
    assert out.n_neuroids.values.tolist() == [[4, 6], [4, 6]]
    alone = ba.rdm(x[x.subject == "q", 4:], metric="crossnobis", folds="run", noise=noise[1, 4:, 4:])
    np.testing.assert_allclose(out.sel(subject="q", layer="v"), alone, atol=1e-10)


def test_movies_of_several_subjects_keep_their_folds_and_their_noise():
    x, _ = trials(runs=2, repeats=4, times=(3,), subject=np.tile(["p"] * 6 + ["q"] * 6, 4).tolist())
    noise = ba.geometry.noise_covariance(x, by=("subject", "run"), time="each")
    out = ba.rdm(x, metric="crossnobis", by="subject", folds="run", noise=noise)
    assert out.dims == ("subject", "time", "stimulus", "stimulus_2")
    for t in range(3):
        one = x[x.subject == "q", :, t].drop_vars("time")
        alone = ba.rdm(one, metric="crossnobis", folds="run", noise=ba.geometry.noise_covariance(one, by="run"))
        np.testing.assert_allclose(out.sel(subject="q")[t], alone, atol=1e-9)


@pytest.mark.parametrize("dims", [{}, {"time": "each"}, {"by": "run"}, {"method": "diagonal"}])
@pytest.mark.parametrize("metric", ["crossnobis", "mahalanobis"])
def test_an_inverse_covariance_does_what_the_covariance_does(metric, dims):
    x, _ = trials(times=(2,), layer=["u"] * 4 + ["v"] * 6)
    noise = ba.geometry.noise_covariance(x, **dims)
    given = 1 / noise if "method" in dims else noise.copy(data=np.linalg.inv(noise))
    given.attrs["inverse"] = True
    before = given.copy(deep=True)
    for by in (None, "layer"):  # a layer is in the units of its own noise
        options = {"metric": metric, "by": by, "folds": "run"}
        if metric == "mahalanobis":
            options["folds"] = None
            if "by" in dims:
                continue
        out = ba.rdm(x, noise=given, **options)
        np.testing.assert_allclose(out, ba.rdm(x, noise=noise, **options), atol=1e-10)
        np.testing.assert_array_equal(out, out.values.swapaxes(-1, -2))
    assert given.identical(before)


@pytest.mark.parametrize("metric", ["correlation", "crossnobis", "mahalanobis", "poisson"])
@pytest.mark.parametrize(("modality", "by"), [("fmri", "region"), ("ann", "layer")])
def test_many_regions_or_layers_at_once_are_each_of_them_alone(modality, by, metric):
    """Their responses are summed together, without a neuroid that has NaN, and each gets its own noise."""
    rng, options = np.random.default_rng(0), {"folds": "run"} if metric == "crossnobis" else {}
    options |= {"noise": "shrinkage-diagonal"} if metric in ("crossnobis", "mahalanobis") else {}
    x = ba.responses(
        rng.poisson(5.0, size=(18, 12, 2)), stimulus_id=list("abcdef") * 3, neuroid_id=range(12), modality=modality, system="s",
        run=np.repeat(["1", "2", "3"], 6), time=[0.1, 0.2], **{by: list("uvwuvwuvwuuv")},
    )[np.arange(18) != 4].astype(float)  # fmt: skip
    x[3, 3] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="1 of 12 neuroids have NaN or infinity .*: 3"):
        found = ba.rdm(x, metric=metric, by=by, **options)
    assert found.n_neuroids.values.tolist() == [4, 4, 3]
    for label in "uvw":
        alone = ba.rdm(x[:, (x[by].values == label) & (np.arange(12) != 3)], metric=metric, **options)
        np.testing.assert_allclose(found.sel({by: label}), alone, rtol=1e-12, atol=1e-12)
    if metric == "poisson":
        with pytest.raises(SchemaError, match="poisson got negative responses, down to -5, of 11 of 11 neuroids: 0, 1, 2"):
            ba.rdm(-x.drop_isel(neuroid=3).clip(1, 5), metric=metric, by=by)


@pytest.mark.parametrize("modality", ["fmri", "ann"])
@pytest.mark.parametrize("metric", ["crossnobis", "mahalanobis", "correlation"])
def test_what_switches_is_repeats_and_not_a_kind(modality, metric):
    x, _ = trials(modality=modality)
    options = {} if metric == "correlation" else {"noise": "shrinkage-diagonal", "folds": "run"}
    np.testing.assert_array_equal(ba.rdm(x, metric=metric, **options), ba.rdm(trials()[0], metric=metric, **options))


def test_one_neuroid_has_differences_but_no_direction():
    """An area's mean, a neuron, a reaction time: squared differences of means, over the variance of the noise where it is given."""
    x, _ = trials()
    one, means = x[:, :1], ba.average_repeats(x[:, :1]).values.astype(float)
    apart, noise = (means - means.T) ** 2, ba.geometry.noise_covariance(one, method="full").values
    np.testing.assert_allclose(ba.rdm(one, metric="euclidean"), np.sqrt(apart), atol=1e-6)
    np.testing.assert_allclose(ba.rdm(one, metric="sqeuclidean"), apart, atol=1e-6)
    np.testing.assert_allclose(ba.rdm(one, metric="mahalanobis", noise="full"), apart / noise, atol=1e-6)
    plain, white = (ba.rdm(one, metric="crossnobis", folds="run", noise=noise) for noise in (None, "shrinkage-diagonal"))
    np.testing.assert_allclose(white, plain / noise, rtol=1e-6, atol=1e-9)
    for metric in ("correlation", "cosine"):
        with pytest.raises(SchemaError, match=f"rdm has 1 finite neuroids in .*metric='{metric}'. Expected at least 3"):
            ba.rdm(one, metric=metric)


def test_float32_is_near_and_half_the_size():
    x, _ = trials(times=(2,))
    for metric, options in (
        ("correlation", {}),
        ("crossnobis", {"folds": "run", "noise": "full"}),
        ("mahalanobis", {"noise": "full"}),
    ):
        out = ba.rdm(x, metric=metric, dtype="float32", **options)
        assert out.dtype == "float32"
        np.testing.assert_allclose(out, ba.rdm(x, metric=metric, **options), atol=1e-4)


def test_bad_input_is_named():
    x, _ = trials()
    few = x[:, :2]
    with pytest.raises(SchemaError, match="rdm got 2 conditions"):
        ba.rdm(x[x.stimulus_id.isin(["c0", "c1"])])
    for metric in ("correlation", "cosine"):
        with pytest.raises(SchemaError, match=r"rdm has 2 finite neuroids in all .*Expected at least 3"):
            ba.rdm(few, metric=metric)
    assert np.isfinite(ba.rdm(x[:, :1], metric="euclidean")).all()
    with pytest.raises(ParameterError, match=r"needs `folds=` for metric='crossnobis'"):
        ba.rdm(x, metric="crossnobis")
    with pytest.raises(ParameterError, match=r"needs `noise=` for metric='mahalanobis'"):
        ba.rdm(x, metric="mahalanobis")
    with pytest.raises(
        ParameterError, match=r"`noise=` for metric='correlation', which has none. Expected one of 'mahalanobis', 'crossnobis'"
    ):
        ba.rdm(x, noise="full")
    with pytest.raises(ParameterError, match=r"`folds=` for metric='poisson'"):
        ba.rdm(x, metric="poisson", folds="run")
    with pytest.raises(ParameterError, match=r"must be one of 'correlation', 'cosine'.*Did you mean 'crossnobis'"):
        ba.rdm(x, metric="crossnobi", folds="run")
    with pytest.raises(ParameterError, match=r"between=\('r0', 'r9'\) names 'r9'. Expected two values of 'run'"):
        ba.rdm(x, folds="run", between=("r0", "r9"))
    for between in (5, "12", ("r0",), ("r0", "r0")):
        with pytest.raises(ParameterError, match="must name two folds of 'run'"):
            ba.rdm(x, folds="run", between=between)
    with pytest.raises(ParameterError, match="its matrix is symmetric"):
        ba.rdm(x, metric="crossnobis", folds="run", between=("r0", "r1"))
    with pytest.raises(ParameterError, match="'device' parameter of rdm must be 'cpu', 'auto' or a device of this machine"):
        ba.rdm(x, device="cuda:99")
    with pytest.raises(ParameterError, match="time='all' with folds=None"):
        ba.rdm(x, time="all")
    with pytest.raises(ParameterError, match="The 'prior' parameter"):
        ba.rdm(np.abs(x), metric="poisson", prior=(1.0, 0.0))
    with pytest.raises(ParameterError, match=r"a noise covariance for each fold with metric='mahalanobis'"):
        ba.rdm(x, metric="mahalanobis", folds="run", noise=ba.geometry.noise_covariance(x, by="run"))
    with pytest.raises(SchemaError, match=r"conditions that are presented more than once: 'c0'"):
        ba.rdm(x, metric="crossnobis", folds="run", repeats="refuse")
    with pytest.raises(SchemaError, match=r"noise covariance of 10 neuroids .* cannot be inverted .*shrink it"):
        ba.rdm(x[:14], metric="mahalanobis", noise="full")
    for seed in range(8):  # eight residuals of nine neuroids, whose covariance passes a factorisation by rounding
        values = np.random.default_rng(seed).normal(size=(16, 9))
        singular = ba.responses(values, stimulus_id=list("abcdefgh") * 2, neuroid_id=range(9), modality="fmri", system="s")
        for dtype in ("float64", "float32"):
            with pytest.raises(SchemaError, match=r"noise covariance of 9 neuroids .* cannot be inverted"):
                ba.rdm(singular, metric="mahalanobis", noise="full", dtype=dtype)


def test_nothing_of_the_input_is_changed():
    x, _ = trials(times=(2,))
    before = x.copy(deep=True)
    noise = ba.geometry.noise_covariance(x)
    kept = noise.copy(deep=True)
    for metric, options in (
        ("correlation", {}),
        ("cosine", {}),
        ("euclidean", {}),
        ("crossnobis", {"folds": "run", "noise": noise}),
    ):
        ba.rdm(x, metric=metric, **options)
    assert x.identical(before)
    assert noise.identical(kept)
