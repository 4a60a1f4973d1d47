import numpy as np
import pytest
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError
from brainalign.models.banded import prior_root

RNG = np.random.default_rng(0)
N = 150


def space(n_neuroids, modality="ann", seed=0, **coords):
    values = np.random.default_rng(seed).normal(size=(N, n_neuroids))
    ids = [f"s{i}" for i in range(N)]
    labels = {"system": "net", "layer": "l1"} if modality == "ann" else {"system": "sub-01", "region": "V1"}
    return ba.responses(values, stimulus_id=ids, neuroid_id=range(n_neuroids), modality=modality, **labels, **coords)


@pytest.fixture(scope="module")
def sides():
    source = ba.bands(sound=space(6), meaning=space(30, seed=1))
    target = space(4, "fmri", seed=2)
    signal = source.values[:, :6] @ np.random.default_rng(3).normal(size=(6, 4))
    return source, target.copy(data=target.values + signal.astype("float32") * [2, 1, 0.5, 0])


def test_bands_come_from_the_source_and_predictions_of_each_are_labelled(sides):
    source, target = sides
    model = ba.BandedRidge().fit(source, target)
    assert model.bands_.tolist() == ["sound", "meaning"]
    assert (model.band_weights_[0, :2] > 0.9).all()
    shares = model.predict_bands(source)
    assert shares.dims == ("band", "presentation", "neuroid")
    assert shares.band.values.tolist() == ["sound", "meaning"]
    assert shares.region.values.tolist() == ["V1"] * 4
    assert ba.core.provenance(shares).steps[-1]["verb"] == "predict_bands"
    total = shares.sum("band").values + target.values.mean(axis=0)
    np.testing.assert_allclose(total, model.predict(source).values, atol=1e-5)
    power = np.array([x.sum() for x in np.split(source.values.var(axis=0), [6])])
    with np.errstate(divide="ignore"):
        expected = np.log(model.band_weights_ * (power.mean() / power)[:, None] / model.alpha_)
    np.testing.assert_allclose(model.deltas_, expected, rtol=1e-5)


def test_labels_of_features_do_as_well_as_a_coordinate(sides):
    source, target = sides
    folds = [(np.setdiff1d(np.arange(N), test), test) for test in np.array_split(np.arange(N), 5)]
    named = ba.BandedRidge(cv=folds).fit(source, target)
    plain = ba.BandedRidge(bands=source.band.values, cv=folds).fit(source.values, target.values)
    by_layer = ba.BandedRidge(bands="layer", cv=folds).fit(source, target)
    np.testing.assert_array_equal(plain.predict(source.values), named.predict(source).values)
    assert isinstance(plain.predict_bands(source.values), np.ndarray)
    assert by_layer.bands_.tolist() == ["l1"]


def test_candidates_that_are_given_are_compared_for_each_target_by_itself(sides):
    source, target = sides
    model = ba.BandedRidge(candidates=[[0.0, 1.0], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    assert (model.separate_targets, ba.BandedRidge().separate_targets) == (True, False)
    together = clone(model).fit(source, target)
    for k in range(4):
        alone = clone(model).fit(source, target[:, [k]])
        np.testing.assert_array_equal(alone.band_weights_[:, 0], together.band_weights_[:, k])
        np.testing.assert_allclose(alone.coef_[:, 0], together.coef_[:, k], atol=1e-6)


def test_bands_that_are_interleaved_are_sorted_out(sides):
    source, target = sides
    order = np.random.default_rng(0).permutation(source.sizes["neuroid"])
    mixed = ba.BandedRidge(dtype="float64").fit(source[:, order], target)
    model = ba.BandedRidge(dtype="float64").fit(source, target)
    np.testing.assert_allclose(mixed.predict(source[:, order]), model.predict(source), atol=1e-6)


def test_every_time_point_is_a_target_and_a_time_dim_of_the_source_keeps_its_band():
    source, target = ba.bands(a=space_in_time(3), b=space_in_time(2, seed=5)), space_in_time(4, seed=6)
    model = ba.BandedRidge(candidates=9).fit(source, target)
    shares = model.predict_bands(source)
    assert shares.dims == ("band", "presentation", "neuroid", "time")
    np.testing.assert_array_equal(model._band_of, np.repeat([0, 1], [6, 4]))


def space_in_time(n, seed=4):
    values = np.random.default_rng(seed).normal(size=(N, n, 2))
    return ba.responses(values, stimulus_id=[f"s{i}" for i in range(N)], neuroid_id=range(n), time=[0.0, 0.1], modality="meg",
                        system="s", region="V1", units="T")  # fmt: skip


def test_degenerate_targets_are_named_and_disturb_no_other(sides):
    source, target = (x.values for x in sides)
    bands = sides[0].band.values
    clean = ba.BandedRidge(bands=bands).fit(source, target[:, :2])
    bad = np.column_stack([target[:, 0], np.full(N, 4.0), target[:, 1], np.r_[np.nan, target[1:, 2]]])
    model = ba.BandedRidge(bands=bands).fit(source, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan"]
    np.testing.assert_array_equal(model.predict(source)[:, [0, 2]], clean.predict(source))
    assert model.alpha_[1] > model.alpha_[0] * 100
    for state in (model.alpha_[[3, 3, 3, 3]], model.band_weights_, model.deltas_, model.cv_score_):
        assert np.isnan(state[..., [1, 3]]).all()
    assert np.isnan(model.predict_bands(source)[:, :, [1, 3]]).all()
    assert model.intercept_[1] == 4.0


def test_all_targets_may_be_degenerate(sides):
    source, target = (x.values for x in sides)
    model = ba.BandedRidge(bands=sides[0].band.values).fit(source, target * np.nan)
    assert model.status_.tolist() == ["nan"] * 4
    assert np.isnan(model.predict(source)).all()


def test_features_with_nan_are_left_out_with_a_warning(sides):
    source, target = (x.values for x in sides)
    bands = sides[0].band.values
    spoilt = np.insert(source, [2, 20], np.nan, axis=1)
    with pytest.warns(DegenerateNeuroidWarning, match="2 of 38 features"):
        model = ba.BandedRidge(bands=np.insert(bands, [2, 20], ["sound", "meaning"])).fit(spoilt, target)
    clean = ba.BandedRidge(bands=bands).fit(source, target)
    np.testing.assert_allclose(model.predict(spoilt), clean.predict(source), atol=1e-4)


def delayed(n=300, n_features=6, noise=2.0):
    """Two bands at four delays; targets respond slowly to the features of the first."""
    rng = np.random.default_rng(0)
    rows = {"run": ["1"] * n, "onset_s": 2.0 * np.arange(n)}
    labels = {"stimulus_id": [f"v{i}" for i in range(n)], "presentation": rows}
    spaces = [ba.responses(rng.normal(size=(n, k)), neuroid_id=range(k), modality="ann", system="lm", layer="h.1", **labels)
              for k in (n_features, 2)]  # fmt: skip
    late = ba.Delay([2, 4, 6, 8]).transform(ba.bands(words=spaces[0], rate=spaces[1]))
    weights = np.zeros((4, n_features + 2, 20))
    weights[:, :n_features] = rng.normal(size=(n_features, 20)) * np.array([0.6, 1.0, 0.9, 0.5])[:, None, None]
    values = late.values @ weights.reshape(-1, 20) + noise * rng.normal(size=(n, 20))
    return late, ba.responses(values, neuroid_id=range(20), modality="fmri", system="s", region="V1", **labels)


def test_a_prior_over_delays_is_exact():
    source, target = delayed(n=80)
    model = ba.BandedRidge(alphas=5.0, candidates=[0.7, 0.3], smooth_s={"words": 3.0}, dtype="float64").fit(source, target)
    words = (source.band == "words").values
    x, y = source.values.astype(float), target.values.astype(float)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    kernel = np.exp(-0.5 * (np.subtract.outer(source.delay_s.values, source.delay_s.values) / 3.0) ** 2)
    same = np.equal.outer(np.tile(np.arange(8), 4), np.tile(np.arange(8), 4))
    covariance = np.where(np.outer(words, words), kernel * same, np.eye(32))
    power = np.array([np.trace(covariance[np.ix_(b, b)] @ x[:, b].T @ x[:, b]) for b in (words, ~words)])
    weight = np.array([0.7, 0.3]) * power.mean() / power
    covariance *= np.where(words, *weight)
    expected = np.linalg.solve(x.T @ x + 5.0 * np.linalg.inv(covariance), x.T @ y)
    np.testing.assert_allclose(model.coef_, expected, atol=1e-8)
    np.testing.assert_allclose(np.exp(model.deltas_[:, 0]), weight / 5.0, rtol=1e-9)


def test_a_prior_over_delays_helps_where_responses_are_slow():
    source, target = delayed()
    scores = []
    for smooth_s in (None, 3.0):
        model = ba.BandedRidge(candidates=9, smooth_s=smooth_s).fit(source[:200], target[:200])
        scores.append(np.mean((model.predict(source[200:]).values - target.values[200:]) ** 2))
    assert scores[1] < scores[0] - 0.05


def test_the_root_of_the_prior_takes_features_that_lack_a_delay():
    feature, delay = np.array([0, 1, 0, 1, 0]), np.array([2.0, 2.0, 4.0, 6.0, 8.0])
    root = prior_root(feature, delay, np.array([3.0, 0.0, 3.0, 0.0, 3.0])).toarray()
    kernel = np.exp(-0.5 * (np.subtract.outer(delay, delay) / 3.0) ** 2) * np.equal.outer(feature, feature)
    kernel[feature == 1] = np.eye(5)[feature == 1]
    np.testing.assert_allclose(root @ root.T, kernel, atol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bands": "layer"}, "'layer', which is no neuroid coordinate of the source .*none: the source is a plain array"),
        ({"bands": ["a", "b"]}, r"the shape \(2,\). Expected one label for each of 36 features"),
        (
            {"candidates": [0.5, 0.2]},
            r"one for each of 'sound', 'meaning'. Got \[0.5, 0.2\]",
        ),
        ({"candidates": [[-0.5, 1.5]]}, "non-negative"),
        ({"candidates": [[1.0, 0, 0]]}, "rows of 2"),
        ({"candidates": "many"}, "Got 'many'"),
        ({"candidates": 0}, "range \\[1, inf\\). Got 0"),
        ({"search": "none"}, "'search' parameter of BandedRidge must be one of 'screen', 'all'"),
        ({"smooth_s": {"sond": 2.0}}, "names the band 'sond'. .* Did you mean 'sound'"),
        ({"smooth_s": -1.0}, "smooth_s"),
        ({"smooth_s": 2.0}, "no coordinate `delay_s`"),
        ({"device": "tpu"}, "'device' parameter of BandedRidge must .* Got 'tpu'"),
        ({"alphas": -1.0}, "'alphas' parameter of BandedRidge must .* Got -1.0"),
    ],
)
def test_impossible_options_are_named(sides, options, message):
    source, target = (x.values for x in sides)
    with pytest.raises(ParameterError, match=message):
        ba.BandedRidge(**{"bands": sides[0].band.values, **options}).fit(source, target)


def test_a_source_without_bands_is_told_how_to_get_them():
    with pytest.raises(
        ParameterError, match=r"'band', which is no neuroid coordinate .*'layer', 'neuroid_id', 'system'.*ba.bands"
    ):
        ba.BandedRidge().fit(space(3), space(2, "fmri"))


def test_obeys_the_estimator_contract(sides):
    model = ba.BandedRidge(candidates=[[0.5, 0.5]], smooth_s={"a": 1.0}, search="all")
    assert clone(model).get_params()["candidates"] == [[0.5, 0.5]]
    source, target = sides
    chained = ba.chain(ba.BandedRidge(candidates=9)).fit(source, target)
    assert chained.band_weights_.shape == (2, 4)
    out = ba.evaluate(source, target, model=ba.BandedRidge(candidates=9), cv=3, random_state=0)
    assert float(out.score[0]) > 0.8
    assert out.alpha.shape == (3, 4)
