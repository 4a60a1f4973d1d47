import json

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform
from scipy.stats import kendalltau, pearsonr, rankdata, spearmanr

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.engine.comparators import COMPARATORS

IDS = [f"s{i:02d}" for i in range(12)]


def matrices(n=12, leading=(), seed=0, ids=IDS):
    vectors = np.round(np.random.default_rng(seed).random((int(np.prod(leading, dtype=int)), n * (n - 1) // 2)), 2)
    values = np.stack([squareform(v) for v in vectors]).reshape(*leading, n, n)
    dims = (*["layer", "time"][: len(leading)], "stimulus", "stimulus_2")
    coords = {"stimulus": ids[:n], "stimulus_2": ids[:n]}
    if leading:
        coords["layer"] = [f"l{i}" for i in range(leading[0])]
    return xr.DataArray(values, dims=dims, coords=coords)


def squared_distances(n=12, leading=(), seed=0, n_channels=20):
    x = np.random.default_rng(seed).normal(size=(*leading, n, n_channels))
    values = ((x[..., :, None, :] - x[..., None, :, :]) ** 2).sum(axis=-1)
    return matrices(n, leading).copy(data=values)


def condensed(x):
    return squareform(np.asarray(x), checks=False)


@pytest.mark.parametrize(("metric", "reference"), [("spearman", spearmanr), ("pearson", pearsonr), ("tau-b", kendalltau)])
def test_equal_to_scipy_for_every_pair_of_matrices(metric, reference):
    a, b = matrices(leading=(3,)), matrices(leading=(2,), seed=1).rename(layer="region")
    out = ba.compare_rdms(a, b, metric=metric)
    assert out.score.dims == ("source_layer", "target_region")
    assert out.source_layer.values.tolist() == ["l0", "l1", "l2"]
    for i in range(3):
        for j in range(2):
            np.testing.assert_allclose(out.score[i, j], reference(condensed(a[i]), condensed(b[j]))[0], rtol=1e-10)
    assert (out.n_pairs == 66).all()
    assert (out.n_stimuli == 12).all()


def test_symmetric_in_its_arguments():
    a, b = matrices(leading=(3,)), matrices(leading=(2, 4), seed=1)
    forward, back = ba.compare_rdms(a, b), ba.compare_rdms(b, a)
    assert back.score.dims == ("source_layer", "source_time", "target_layer")
    np.testing.assert_allclose(forward.score.values, back.score.transpose("target_layer", ...).values, rtol=1e-12)


def test_matched_by_stimulus_never_by_position():
    a, b = matrices(), matrices(seed=1)
    order = np.random.default_rng(2).permutation(12)
    shuffled = b.isel(stimulus=order, stimulus_2=order)
    plain = ba.compare_rdms(a, b).score
    np.testing.assert_allclose(ba.compare_rdms(a, shuffled).score, plain, rtol=1e-12)
    renamed = b.assign_coords(stimulus=np.array(IDS)[order], stimulus_2=np.array(IDS)[order])
    assert abs(ba.compare_rdms(a, renamed).score - plain) > 1e-3
    np.testing.assert_allclose(ba.compare_rdms(b, b.isel(stimulus=order, stimulus_2=order)).score, 1.0)


def test_what_is_not_shared_is_reported_or_refused():
    a, b = matrices(10), matrices(ids=["new", *IDS[:11]], seed=1)
    out = ba.compare_rdms(a, b)
    report = json.loads(out.attrs["report"])
    assert (report["n_shared"], report["source_only"], report["target_only"]) == (10, 0, 2)
    assert report["first_target_only"] == ["new", "s10"]
    expected = spearmanr(condensed(a), condensed(b.sel(stimulus=IDS[:10], stimulus_2=IDS[:10])))[0]
    np.testing.assert_allclose(out.score, expected)
    with pytest.raises(AlignmentError, match="share 10 of 10 / 12"):
        ba.compare_rdms(a, b, join="exact")
    with pytest.raises(AlignmentError, match="share 0 of 12 / 12 stimuli"):
        ba.compare_rdms(matrices(), matrices(ids=[f"x{i}" for i in range(12)]))


def test_nan_pairs_are_dropped_and_counted():
    a, b = matrices(leading=(2,)), matrices(seed=1)
    a[0, 3, :] = a[0, :, 3] = np.nan
    b[5, 7] = b[7, 5] = np.nan
    out = ba.compare_rdms(a, b)
    keep = np.delete(np.arange(12), 3)
    u, v = condensed(a[0].values[np.ix_(keep, keep)]), condensed(b.values[np.ix_(keep, keep)])
    fine = np.isfinite(v)
    np.testing.assert_allclose(out.score[0], spearmanr(u[fine], v[fine])[0], rtol=1e-10)
    assert out.n_pairs.values.tolist() == [66 - 11 - 1, 66 - 1]
    assert out.n_pairs_dropped.values.tolist() == [12, 1]
    assert out.n_stimuli.values.tolist() == [11, 12]


def test_a_flat_geometry_has_no_score():
    flat = matrices() * 0
    assert np.isnan(ba.compare_rdms(flat, matrices(seed=1)).score)
    empty = matrices() * np.nan
    assert np.isnan(ba.compare_rdms(empty, matrices(seed=1)).score)


def test_bad_matrices_are_named():
    a = matrices()
    with pytest.raises(SchemaError, match="source has dims"):
        ba.compare_rdms(a.rename(stimulus_2="other"), a)
    with pytest.raises(SchemaError, match="target is not symmetric"):
        ba.compare_rdms(a, a + np.triu(np.ones((12, 12))))
    with pytest.raises(SchemaError, match="rows and columns differently, first at position 0"):
        ba.compare_rdms(a, a.assign_coords(stimulus=IDS[::-1]))
    with pytest.raises(SchemaError, match="1 repeated stimuli: 's00'"):
        ba.compare_rdms(a, a.assign_coords(stimulus=["s00", *IDS[:11]], stimulus_2=["s00", *IDS[:11]]))


def test_the_result_says_what_was_compared():
    out = ba.compare_rdms(matrices(), matrices(seed=1))
    step = ba.core.provenance(out).steps[-1]
    assert step["verb"] == "compare_rdms"
    assert set(step["inputs"]) == {"source", "target"}


@pytest.mark.parametrize(
    ("metric", "units"), [("pearson", "Pearson r"), ("spearman", "Spearman ρ"), ("cosine", "cosine"), ("tau-a", "Kendall τ-a")]
)
def test_scores_say_what_they_are_in_and_what_is_made_of_them_does_not(metric, units):
    a, b = matrices(leading=(3,)), matrices(leading=(4,), seed=1).rename(layer="subject")
    drawn = ba.compare_rdms(a, b, metric=metric, over="subject", n_bootstraps=9, n_permutations=9, random_state=0)
    for out, named in ((ba.compare_rdms(a, b, metric=metric), {"score"}), (drawn, {"score", "score_by_subject"})):
        assert {name: x.attrs["units"] for name, x in out.data_vars.items() if "units" in x.attrs} == dict.fromkeys(named, units)


@pytest.mark.parametrize("metric", COMPARATORS)
def test_every_measure_compares_all_pairs_of_matrices_by_stimulus_and_says_its_direction(metric):
    a, b = squared_distances(leading=(3,)), squared_distances(leading=(2,), seed=1)
    order = np.random.default_rng(2).permutation(12)
    out = ba.compare_rdms(a.isel(stimulus=order, stimulus_2=order), b, metric=metric)
    assert out.score.dims == ("source_layer", "target_layer")
    assert out.direction == ("lower is more alike" if metric == "riemannian" else "higher is more alike")
    one = ba.compare_rdms(a[1], b[1], metric=metric)
    np.testing.assert_allclose(out.score[1, 1], one.score, rtol=1e-6)
    own = ba.compare_rdms(a, a, metric=metric).score
    np.testing.assert_allclose(np.diag(own), 0.0 if metric == "riemannian" else 1.0, atol=1e-7)
    assert np.isnan(ba.compare_rdms(a * 0, b, metric=metric).score).all()


@pytest.mark.parametrize("metric", COMPARATORS)
def test_a_stimulus_that_was_not_presented_is_left_out_by_every_measure(metric):
    a, b = squared_distances(leading=(2,)), squared_distances(seed=1)
    a[0, 3, :] = a[0, :, 3] = np.nan
    out = ba.compare_rdms(a, b, metric=metric)
    without = ba.compare_rdms(a[0].drop_isel(stimulus=3, stimulus_2=3), b, metric=metric)
    np.testing.assert_allclose(out.score[0], without.score, rtol=1e-6)
    assert out.n_stimuli.values.tolist() == [11, 12]


def correlation(u, v):
    return np.corrcoef(u, v)[0, 1]


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_a_matrix_held_constant_gives_partial_and_semipartial_correlations(metric):
    a, b, c = (matrices(seed=seed) for seed in range(3))
    a, b = a + c, b + c
    x, y, z = (condensed(m) if metric == "pearson" else rankdata(condensed(m)) for m in (a, b, c))
    xy, xz, yz = correlation(x, y), correlation(x, z), correlation(y, z)
    expected = {
        "both": (xy - xz * yz) / np.sqrt((1 - xz**2) * (1 - yz**2)),
        "source": (xy - xz * yz) / np.sqrt(1 - xz**2),
        "target": (xy - xz * yz) / np.sqrt(1 - yz**2),
    }
    for partial, value in expected.items():
        out = ba.compare_rdms(a, b, metric=metric, controlling=c, partial=partial)
        np.testing.assert_allclose(out.score, value, rtol=1e-10)
        assert out.partial == partial


def test_several_matrices_are_held_constant_at_once_and_the_one_in_question_leaves_nothing():
    a, b, c = matrices(leading=(2,)), matrices(seed=1), matrices(leading=(3,), seed=2)
    x, y, z = (np.array([condensed(m) for m in s.values.reshape(-1, 12, 12)]) for s in (a, b, c))
    design = np.c_[np.ones(66), z.T]
    left = [v.T - design @ np.linalg.lstsq(design, v.T, rcond=None)[0] for v in (x, y)]
    expected = [correlation(left[0][:, k], left[1][:, 0]) for k in range(2)]
    named = {"one": c[0], "two": c[1:]}
    for controlling in (c, named):
        np.testing.assert_allclose(ba.compare_rdms(a, b, metric="pearson", controlling=controlling).score, expected, rtol=1e-10)
    assert np.isnan(ba.compare_rdms(a, b, metric="pearson", controlling=a[0]).score).values.tolist() == [True, False]
    holed = c.copy(deep=True)
    holed[0, 2, 3] = holed[0, 3, 2] = np.nan
    assert (ba.compare_rdms(a, b, controlling=holed).n_pairs == 65).all()
    names = [f"x{i}" for i in range(12)]
    other = {"one": c[0].assign_coords(stimulus=names, stimulus_2=names)}
    with pytest.raises(AlignmentError, match=r"source and target and controlling\['one'\] share 0 of 12 / 12 / 12"):
        ba.compare_rdms(a, b, controlling=other)
    with pytest.raises(
        ParameterError, match=r"controlling= under metric='tau-a'\. Expected one of cosine, pearson, spearman, whitened"
    ):
        ba.compare_rdms(a, b, metric="tau-a", controlling=c)
    with pytest.raises(ParameterError, match="partial='source' without controlling="):
        ba.compare_rdms(a, b, partial="source")
    with pytest.raises(ParameterError, match=r"controlling=\{\}\. Expected RDMs by name"):
        ba.compare_rdms(a, b, controlling={})


def test_covariance_is_matched_by_stimulus():
    a, b = squared_distances(leading=(2,)), squared_distances(seed=1)
    values = np.cov(np.random.default_rng(0).normal(size=(14, 60)))
    names = [*IDS, "other", "another"]
    covariance = xr.DataArray(values, dims=("stimulus", "stimulus_2"), coords={"stimulus": names, "stimulus_2": names})
    out = ba.compare_rdms(a, b, metric="whitened-cosine", covariance=covariance)
    order = np.random.default_rng(1).permutation(14)
    shuffled = covariance.isel(stimulus=order, stimulus_2=order)
    np.testing.assert_allclose(ba.compare_rdms(a, b, metric="whitened-cosine", covariance=shuffled).score, out.score, rtol=1e-10)
    assert (abs(out.score - ba.compare_rdms(a, b, metric="whitened-cosine").score) > 1e-3).all()
    rest = {"stimulus": IDS[1:], "stimulus_2": IDS[1:]}
    holed = a.where((a.stimulus != "s00") & (a.stimulus_2 != "s00"))  # its rows leave the covariance, too
    found, wanted = (ba.compare_rdms(x, b, metric="whitened-cosine", covariance=covariance).score for x in (holed, a.sel(rest)))
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    identity = covariance.copy(data=3 * np.eye(14))
    plain = ba.compare_rdms(a, b, metric="whitened-pearson").score
    np.testing.assert_allclose(ba.compare_rdms(a, b, metric="whitened-pearson", covariance=identity).score, plain, rtol=1e-10)


def test_a_covariance_that_cannot_serve_is_named():
    a, b = squared_distances(), squared_distances(seed=1)
    covariance = xr.DataArray(np.eye(12), dims=("stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})
    with pytest.raises(ParameterError, match=r"covariance= under metric='spearman'\. Expected one of whitened-cosine"):
        ba.compare_rdms(a, b, covariance=covariance)
    with pytest.raises(ParameterError, match=r"must be a DataArray .* Got ndarray instead"):
        ba.compare_rdms(a, b, metric="whitened-cosine", covariance=covariance.values)
    with pytest.raises(ParameterError, match=r"positive definite\. Got a least eigenvalue of -1"):
        ba.compare_rdms(a, b, metric="whitened-cosine", covariance=-covariance)
    with pytest.raises(AlignmentError, match="covariance lacks 2 of the 12 stimuli that are compared: 's10', 's11'"):
        ba.compare_rdms(a, b, metric="whitened-cosine", covariance=covariance[:10, :10])


@pytest.mark.parametrize("metric", ["bures", "riemannian"])
def test_what_comes_from_no_patterns_is_refused_by_measures_of_patterns(metric):
    a, b = squared_distances(leading=(2,)), squared_distances(seed=1)
    negative = a.copy(deep=True)
    negative[1, 2, 5] = negative[1, 5, 2] = -0.25
    match = f"source at layer='l1' has 1 negative dissimilarities, first -0.25 between 's02' and 's05'. Expected none under metric='{metric}'"
    with pytest.raises(SchemaError, match=match):
        ba.compare_rdms(negative, b, metric=metric)
    assert np.isfinite(ba.compare_rdms(negative, b, metric="whitened-cosine").score).all()
    far = b.copy(deep=True)
    far[2, 5] = far[5, 2] = 1e4
    with pytest.raises(
        SchemaError, match="target holds no squared distances of any patterns: its Gram matrix has eigenvalues from -"
    ):
        ba.compare_rdms(a, far, metric=metric)
    holed = b.copy(deep=True)
    holed[2, 5] = holed[5, 2] = np.nan
    with pytest.raises(SchemaError, match="A side lacks the pair 's02', 's05'"):
        ba.compare_rdms(a, holed, metric=metric)


def test_the_target_of_a_riemannian_distance_must_have_full_rank():
    full, flat = squared_distances(), squared_distances(n_channels=4)
    with pytest.raises(
        SchemaError, match=r"target has 4 independent patterns for 12 stimuli\. Expected 11 under metric='riemannian'"
    ):
        ba.compare_rdms(full, flat, metric="riemannian")
    assert np.isfinite(ba.compare_rdms(flat, full, metric="riemannian").score)


def test_ties_flatter_a_model_of_categories_but_not_under_rho_a():
    """A model that knows two categories and no more must not beat the very geometry that it is made of, seen through noise."""
    rng = np.random.default_rng(0)
    category = np.repeat([0.0, 1.0], 12)
    graded = category[:, None] * 3 + rng.normal(size=(24, 10))
    ids = [f"s{i:02d}" for i in range(24)]

    def of(values):
        return xr.DataArray(values, dims=("stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})

    target = of(squareform(pdist(graded)))
    binary = of((category[:, None] != category).astype(float))
    noisy = of(squareform(pdist(graded + 0.6 * rng.normal(size=graded.shape))))
    scores = {
        m: [ba.compare_rdms(x, target, metric=m).score.item() for x in (binary, noisy)] for m in ("spearman", "rho-a", "tau-a")
    }
    assert scores["spearman"][0] / scores["rho-a"][0] == pytest.approx(2 / np.sqrt(3), rel=0.01)
    np.testing.assert_allclose(scores["spearman"][1], scores["rho-a"][1])
    assert scores["rho-a"][0] < scores["rho-a"][1]
