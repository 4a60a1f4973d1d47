import json

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import squareform
from scipy.stats import pearsonr, spearmanr

import brainalign as ba
from brainalign.core.errors import AlignmentError, SchemaError

IDS = [f"s{i:02d}" for i in range(12)]


def matrices(n=12, leading=(), seed=0, ids=IDS):
    vectors = np.round(np.random.default_rng(seed).random((int(np.prod(leading, dtype=int)), n * (n - 1) // 2)), 2)
    values = np.stack([squareform(v) for v in vectors]).reshape(*leading, n, n)
    dims = (*["layer", "time"][: len(leading)], "stimulus", "stimulus_2")
    coords = {"stimulus": ids[:n], "stimulus_2": ids[:n]}
    if leading:
        coords["layer"] = [f"l{i}" for i in range(leading[0])]
    return xr.DataArray(values, dims=dims, coords=coords)


def condensed(x):
    return squareform(np.asarray(x), checks=False)


@pytest.mark.parametrize(("metric", "reference"), [("spearman", spearmanr), ("pearson", pearsonr)])
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
