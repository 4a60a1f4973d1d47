import numpy as np
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.random_projection import SparseRandomProjection

import brainalign as ba
from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError
from brainalign.core.provenance import provenance


def features(n=30, k=12, seed=0, **more):
    values = np.random.default_rng(seed).normal(size=(n, k)) * np.arange(1, k + 1) + 1000
    ids = [f"s{i}" for i in range(n)]
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(k), modality="ann", system="net", **more)


def test_pca_is_scikit_learns():
    x = features()
    got = ba.Reduce(5).fit(x).transform(x)
    wanted = PCA(5).fit_transform(x.values.astype(np.float64))
    np.testing.assert_allclose(got.values, wanted, atol=1e-3)
    white = ba.Reduce(5, whiten=True).fit_transform(x.values.astype(np.float64))
    np.testing.assert_allclose(white.std(0, ddof=1), 1, atol=1e-6)


def test_random_projection_is_scikit_learns_with_the_seed_kept():
    x = features()
    got = ba.Reduce(4, method="sparse-random-projection", random_state=3).fit(x)
    wanted = SparseRandomProjection(4, random_state=3).fit_transform(x.values.astype(np.float64))
    np.testing.assert_allclose(got.transform(x).values, wanted, rtol=1e-4)
    assert provenance(got.transform(x)).steps[-1]["seed"] == 3
    drawn = ba.Reduce(4, method="sparse-random-projection").fit(x)
    again = ba.Reduce(4, method="sparse-random-projection", random_state=drawn.seed_).fit(x)
    np.testing.assert_array_equal(drawn.transform(x).values, again.transform(x).values)


def test_it_learns_from_the_rows_of_fit_only():
    x = features()
    step = ba.Reduce(3).fit(x[:20])
    wanted = PCA(3).fit(x.values[:20].astype(np.float64)).transform(x.values[20:].astype(np.float64))
    np.testing.assert_allclose(step.transform(x[20:]).values, wanted, atol=1e-3)


def test_labels_that_hold_for_all_are_kept():
    x = features(layer="conv1", channel=np.arange(12), onset_s=np.arange(30.0))
    got = ba.validate(ba.Reduce(3).fit_transform(x), deep=True)
    assert got.neuroid_id.values.tolist() == ["pca/0", "pca/1", "pca/2"]
    assert got.layer.values.tolist() == ["conv1"] * 3
    assert got.system.values.tolist() == ["net"] * 3
    assert "channel" not in got.coords
    assert got.onset_s.values.tolist() == x.onset_s.values.tolist()
    assert ba.Reduce(2, method="sparse-random-projection").fit_transform(x).neuroid_id.values.tolist() == ["srp/0", "srp/1"]


def test_band_by_band():
    a, b = features(k=6, layer="l1"), features(k=8, seed=1, layer="l2")
    both = ba.bands(low=a, high=b)[:, np.random.default_rng(0).permutation(14)]
    got = ba.validate(ba.Reduce(2).fit_transform(both), deep=True)
    by_name = {str(name): got.values[:, got.band.values == name] for name in ("low", "high")}
    for name, x in (("low", a), ("high", b)):
        wanted = PCA(2).fit_transform(x.values.astype(np.float64))
        np.testing.assert_allclose(np.abs(by_name[name]), np.abs(wanted), atol=1e-3)
    assert sorted(got.neuroid_id.values.tolist()) == ["high/pca/0", "high/pca/1", "low/pca/0", "low/pca/1"]
    assert dict(zip(got.band.values.tolist(), got.layer.values.tolist(), strict=True)) == {"low": "l1", "high": "l2"}


def test_arrays_in_arrays_out_and_names():
    x = features()
    step = ba.Reduce(3).fit(x)
    plain = step.transform(x.values)
    assert isinstance(plain, np.ndarray)
    np.testing.assert_allclose(plain, step.transform(x).values, atol=1e-5)
    assert step.get_feature_names_out().tolist() == ["pca/0", "pca/1", "pca/2"]
    copy = clone(step)
    assert copy.get_params() == step.get_params()
    assert not hasattr(copy, "reducers_")


def test_time_points_are_features():
    values = np.random.default_rng(0).normal(size=(20, 3, 4))
    x = ba.responses(
        values, stimulus_id=[f"s{i}" for i in range(20)], neuroid_id=range(3), modality="meg", system="s", time=np.arange(4) * 0.1
    )
    got = ba.validate(ba.Reduce(2).fit_transform(x))
    np.testing.assert_allclose(got.values, PCA(2).fit_transform(values.reshape(20, 12)), atol=1e-4)
    assert "time" not in got.coords


def test_nan_features_are_left_out_with_a_warning_and_nan_rows_stay_nan():
    x = features().copy()
    x.attrs["allow_nan"] = True
    x.values[3, 5] = np.nan
    with pytest.warns(DegenerateNeuroidWarning, match="leaves out 1 of 12 features"):
        step = ba.Reduce(2).fit(x)
    wanted = PCA(2).fit_transform(np.delete(x.values, 5, axis=1).astype(np.float64))
    np.testing.assert_allclose(step.transform(x).values, wanted, atol=1e-3)
    later = x.copy(deep=True)
    later.values[7, 0] = np.nan
    out = step.transform(later).values
    assert np.isnan(out[7]).all()
    assert np.isfinite(np.delete(out, 7, axis=0)).all()


def test_bad_input():
    x = features()
    with pytest.raises(ParameterError, match=r"is 13, and there are 30 rows and 12 usable features. Expected at most 12"):
        ba.Reduce(13).fit(x)
    with pytest.raises(ParameterError, match=r"there are 5 rows .* at most 5"):
        ba.Reduce(6).fit(x[:5])
    with pytest.raises(ParameterError, match="usable features of band 'a'"):
        ba.Reduce(5).fit(ba.bands(a=x[:, :4], b=x))
    with pytest.raises(ParameterError, match="Did you mean 'pca'"):
        ba.Reduce(2, method="pcaa").fit(x)
    with pytest.raises(ParameterError, match="'n_components' parameter of Reduce must be an int"):
        ba.Reduce(2.5).fit(x)
    with pytest.raises(ParameterError, match="'whiten' parameter of Reduce is for method='pca' only"):
        ba.Reduce(2, method="sparse-random-projection", whiten=True).fit(x)
    with pytest.raises(NotFittedError):
        ba.Reduce(2).transform(x)
    with pytest.raises(AlignmentError, match="fitted on 12 features and got 4"):
        ba.Reduce(2).fit(x).transform(x[:, :4])
    with pytest.raises(ParameterError, match=r"shape \(3,\)"):
        ba.Reduce(1).fit(np.ones(3))


def test_bands_that_are_not_named_pass_through():
    rng = np.random.default_rng(0)
    make = lambda width, system: ba.responses(  # noqa: E731
        rng.normal(size=(30, width)),
        stimulus_id=[f"s{i}" for i in range(30)],
        neuroid_id=range(width),
        modality="ann",
        system=system,
    )
    rate, lm = make(1, "sound"), make(8, "lm")
    both = ba.bands(rate=rate, lm=lm)
    out = ba.Reduce(3, bands=["lm"], random_state=0).fit_transform(both)
    assert out.neuroid_id.values.tolist() == ["rate/0", "lm/pca/0", "lm/pca/1", "lm/pca/2"]
    assert out.band.values.tolist() == ["rate", "lm", "lm", "lm"]
    np.testing.assert_allclose(out.values[:, 0], rate.values[:, 0])
    np.testing.assert_allclose(out.values[:, 1:], ba.Reduce(3, random_state=0).fit_transform(lm).values, atol=1e-5)
    with pytest.raises(ParameterError, match=r"'bands'.*'sytax'.*'lm', 'rate'"):
        ba.Reduce(3, bands=["sytax"]).fit(both)
