import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.geometry.flexible import fit_rdms, regress_rdms

N = 24
IDS = [f"s{i:02d}" for i in range(N)]
LINEAR = ["cosine", "pearson", "whitened-cosine", "whitened-pearson"]


def labelled(vectors, dim="layer"):
    values = np.stack([squareform(v) for v in vectors])
    coords = {dim: [f"{dim[0]}{k}" for k in range(len(values))], "stimulus": IDS, "stimulus_2": IDS}
    return xr.DataArray(values, dims=(dim, "stimulus", "stimulus_2"), coords=coords)


def geometries(n_rdms, seed=0, dim="layer"):
    patterns = np.random.default_rng(seed).normal(size=(n_rdms, N, 10))
    return labelled([pdist(x, "sqeuclidean") for x in patterns], dim)


def noise(n_rdms, seed, dim="subject"):
    return labelled(np.random.default_rng(seed).random((n_rdms, N * (N - 1) // 2)), dim)


@pytest.mark.parametrize("metric", LINEAR)
def test_a_mixture_gives_its_weights_back(metric):
    layers = geometries(4)
    target = 0.5 * layers[0] + 3 * layers[2]
    out = fit_rdms(layers, target, metric=metric, n_repeats=2, random_state=0)
    np.testing.assert_allclose(out.weights, [0.5, 0, 3, 0], atol=1e-6)
    np.testing.assert_allclose([out.score, out.score_by_fold.min()], 1, atol=1e-8)
    contrast = layers[1] - 0.2 * layers[3]
    free = fit_rdms(layers, contrast, model="free", metric=metric, n_repeats=2, random_state=0)
    np.testing.assert_allclose(free.weights, [0, 1, 0, -0.2], atol=1e-8)


def test_interpolation_and_selection_find_the_place_among_layers():
    layers = geometries(4)
    between = fit_rdms(layers, 0.3 * layers[1] + 0.7 * layers[2], model="interpolated", random_state=0)
    np.testing.assert_allclose(between.weights, [0, 0.3, 0.7, 0], atol=1e-6)
    for metric in ("spearman", "tau-a", "pearson"):
        chosen = fit_rdms(layers, layers[2] + 0.1 * layers[0], model="select", metric=metric, n_repeats=2, random_state=0)
        assert chosen.weights.values.tolist() == [0, 0, 1, 0]
        np.testing.assert_allclose(chosen.score, chosen.score_source[2], rtol=1e-12)


@pytest.mark.parametrize("model", ["weighted", "free", "select", "interpolated"])
def test_a_flexible_model_does_not_win_on_noise(model):
    """Fitted to 80 targets of noise it is alike them in training, by construction, and not on held-out stimuli."""
    out = fit_rdms(geometries(5), noise(80, seed=1), model=model, n_repeats=2, random_state=0)
    spread = float(out.score.std() / np.sqrt(80))
    assert abs(out.score.mean()) < 3 * spread
    assert spread < 0.02


def test_a_fit_beats_each_component_alone_where_the_truth_is_a_mixture():
    layers = geometries(3)
    target = layers[0] + layers[1] + 0.5 * noise(1, seed=1)[0].values * layers[0].std().item()
    out = fit_rdms(layers, target, random_state=0)
    assert out.score > out.score_source.max() + 0.1
    assert out.score_source.dims == out.weights.dims == ("source_layer",)


def test_dims_and_labels_of_the_target_are_kept_wherever_subjects_are():
    layers, people = geometries(3), geometries(4, seed=1, dim="subject")
    over_time = xr.concat([people, people + layers[1].values], dim=xr.Variable("time", [0.1, 0.2]))
    for target in (over_time, over_time.transpose("subject", "time", ...)):
        out = fit_rdms(layers, target, over="subject", n_repeats=2, random_state=0)
        assert out.score.dims == tuple(f"target_{dim}" for dim in target.dims[:2])
        assert out.weights.dims == ("source_layer", *out.score.dims)
        assert (out.score.sel(target_time=0.2) > out.score.sel(target_time=0.1)).all()
        assert out.source_layer.values.tolist() == ["l0", "l1", "l2"]
        one = fit_rdms(layers, target.sel(time=0.2), over="subject", n_repeats=2, random_state=0)
        np.testing.assert_allclose(out.score.sel(target_time=0.2), one.score)


def test_neither_the_subject_nor_the_stimuli_that_are_scored_take_part_in_the_fit():
    layers, people = geometries(3), geometries(4, seed=1, dim="subject")
    options = {"over": "subject", "n_repeats": 1, "random_state": 0}
    before = fit_rdms(layers, people, **options)
    other = people.copy(deep=True)
    other[1] = noise(1, seed=3)[0].values
    after = fit_rdms(layers, other, **options)
    np.testing.assert_array_equal(after.weights[:, 1], before.weights[:, 1])
    assert (after.weights[:, 0] != before.weights[:, 0]).any()
    held = before.tested[0].values
    other = people.copy(deep=True)
    other.values[:, held] += 5 * (1 - np.eye(N))[held]
    other.values[:, :, held] = other.values[:, held].swapaxes(1, 2)
    changed = fit_rdms(layers, other, **options)
    np.testing.assert_allclose(changed.score_by_fold[0], before.score_by_fold[0])  # of Pearson r, whose test pairs all grew by 5
    assert (changed.score_by_fold[1:] != before.score_by_fold[1:]).any()


def test_stimuli_are_matched_and_dealt_by_the_seed():
    layers, target = geometries(3), geometries(2, seed=1, dim="region")
    order = np.random.default_rng(0).permutation(N)
    first = fit_rdms(layers.isel(stimulus=order, stimulus_2=order), target, random_state=5)
    xr.testing.assert_allclose(first, fit_rdms(layers, target, random_state=5))
    assert (first.score != fit_rdms(layers, target, random_state=6).score).any()
    assert first.sizes["fold"] == 10 * 4
    assert (first.tested.sum("fold") == 10).all()
    step = ba.core.provenance(first).steps[-1]
    assert (step["verb"], step["seed"]) == ("fit_rdms", 5)


def test_bad_input_is_named():
    layers, target = geometries(3), geometries(2, seed=1, dim="subject")
    with pytest.raises(ParameterError, match=r"source with dims \('stimulus', 'stimulus_2'\)\. Expected one dim of components"):
        fit_rdms(layers[0], target)
    with pytest.raises(ParameterError, match=r"'cv' parameter of fit_rdms must be an int in the range \[2, 8\]\. Got 9"):
        fit_rdms(layers, target, cv=9)
    with pytest.raises(ParameterError, match=r"5 stimuli\. Expected at least 6"):
        fit_rdms(layers[:, :5, :5], target)
    with pytest.raises(ParameterError, match=r"'over' parameter of fit_rdms must be one of 'subject'\. Got 'people'"):
        fit_rdms(layers, target, over="people")
    with pytest.raises(ParameterError, match="over='subject' with one entry"):
        fit_rdms(layers, target[:1], over="subject")
    with pytest.raises(ParameterError, match=r"model='interpolated' and one source\. Expected two or more"):
        fit_rdms(layers[:1], target, model="interpolated")
    with pytest.raises(ParameterError, match="'metric' parameter of fit_rdms must be one of 'cosine'"):
        fit_rdms(layers, target, metric="bures")
    holed = target.copy(deep=True)
    holed[1, 2, 3] = holed[1, 3, 2] = np.nan
    with pytest.raises(SchemaError, match="target at subject='s1' has 1 missing pairs"):
        fit_rdms(layers, holed)


def rank_of(x):
    return np.argsort(np.argsort(x, axis=-1), axis=-1).astype(float)


@pytest.mark.parametrize(("metric", "prepare"), [("pearson", lambda x: x), ("spearman", rank_of)])
def test_regression_is_that_of_least_squares_on_all_sources_at_once(metric, prepare):
    layers, target = geometries(3), geometries(2, seed=1, dim="region") + geometries(3)[0].values
    upper = np.triu_indices(N, 1)
    X, Y = (prepare(x.values[:, upper[0], upper[1]]) for x in (layers, target))
    X, Y = ((x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True) for x in (X, Y))

    def r2(which):
        beta = np.linalg.lstsq(X[which].T, Y.T, rcond=None)[0]
        return 1 - ((Y.T - X[which].T @ beta) ** 2).sum(axis=0) / (Y**2).sum(axis=1)

    out = regress_rdms(layers, target, metric=metric)
    np.testing.assert_allclose(out.coefficient, np.linalg.lstsq(X.T, Y.T, rcond=None)[0], rtol=1e-8)
    np.testing.assert_allclose(out.r2, r2([0, 1, 2]), rtol=1e-8)
    np.testing.assert_allclose(out.unique, [r2([0, 1, 2]) - r2([k for k in range(3) if k != j]) for j in range(3)], atol=1e-10)
    assert out.coefficient.dims == ("source_layer", "target_region")


def test_unique_share_is_the_squared_semipartial_correlation():
    layers, target = geometries(3), geometries(2, seed=1, dim="region") + geometries(3)[0].values
    unique = regress_rdms(layers, target).unique
    semi = ba.compare_rdms(layers[0], target, metric="pearson", controlling=layers[1:], partial="source").score
    np.testing.assert_allclose(unique[0], semi**2, rtol=1e-8)


def test_sources_that_cannot_be_told_apart_are_named():
    layers = geometries(3)
    double = xr.concat([layers, 2 * layers[:1].assign_coords(layer=["copy"])], dim="layer")
    with pytest.raises(SchemaError, match=r"one is a combination of the others, among \"layer='l0'\", \"layer='copy'\""):
        regress_rdms(double, layers[0])
    with pytest.raises(SchemaError, match="source at layer='l1' does not vary"):
        regress_rdms(layers * np.array([1, 0, 1])[:, None, None], layers[0])


def test_renamed_stimuli_test_the_whole_fit():
    layers, options = geometries(3), {"n_repeats": 1, "random_state": 0}
    target = xr.concat([layers[0] + layers[2], noise(1, seed=3, dim="layer")[0]], "region")
    for model in ("weighted", "select"):
        out = fit_rdms(layers, target, model=model, n_permutations=39, **options)
        assert out.p_value[0] <= 0.05
        assert out.p_value[1] > 0.1
        assert (out.p_value_max >= out.p_value).all()
        assert out.attrs["n_permutations"] == 39
        untested = fit_rdms(layers, target, model=model, **options)
        xr.testing.assert_identical(untested.drop_attrs(), out[list(untested.data_vars)].drop_attrs())
    people = noise(4, seed=5) + layers[1]
    assert fit_rdms(layers, people, over="subject", n_permutations=39, **options).p_value.max() <= 0.05
    with pytest.raises(ParameterError, match="'n_permutations' parameter of fit_rdms must be an int"):
        fit_rdms(layers, target, n_permutations=-1)
