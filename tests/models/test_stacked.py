import numpy as np
import pytest
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError

BANDS = np.repeat(["seen", "heard", "junk"], 20)


def complementary(n, n_targets=30, seed=0, overlap=0.075):
    """Two spaces whose signals correlate a little, each with a share of 0.286 of the variance, and one that explains nothing."""
    rng = np.random.default_rng(seed)
    seen, heard, junk = rng.normal(size=(3, n, 20))
    heard = overlap * seen + np.sqrt(1 - overlap**2) * heard
    w = rng.normal(size=(20, n_targets))
    w *= np.sqrt(0.286 / (w**2).sum(0))
    return np.hstack([seen, heard, junk]), (seen + heard) @ w + np.sqrt(1 - 2 * 0.286 * (1 + overlap)) * rng.normal(
        size=(n, n_targets)
    )


def r2(truth, prediction):
    return (1 - ((truth - prediction) ** 2).sum(0) / ((truth - truth.mean(0)) ** 2).sum(0)).mean()


def test_known_answers_on_complementary_spaces():
    X, Y = complementary(n=4000, n_targets=10)
    train, test = slice(0, 3000), slice(3000, None)
    simplex = ba.Stacked(bands=BANDS, weights="simplex").fit(X[train], Y[train])
    free = ba.Stacked(bands=BANDS).fit(X[train], Y[train])
    joint = ba.Ridge().fit(X[train], Y[train])
    np.testing.assert_allclose(simplex.band_weights_.mean(1), [0.5, 0.5, 0.0], atol=0.03)
    np.testing.assert_allclose(free.band_weights_.mean(1), [0.93, 0.93, 0.04], atol=0.05)
    scores = [r2(Y[test], model.predict(X[test])) for model in (simplex, free, joint)]
    np.testing.assert_allclose(scores, [0.483, 0.613, 0.620], atol=0.015)
    np.testing.assert_allclose(simplex.band_weights_.sum(0), 1)
    np.testing.assert_allclose([model.cv_score_.mean() for model in (simplex, free)], scores[:2], atol=0.03)
    np.testing.assert_allclose(free.band_score_.mean(1), [0.33, 0.33, 0.0], atol=0.02)


@pytest.mark.parametrize("weights", ["simplex", "nonnegative"])
def test_a_band_that_could_memorise_the_training_rows_gets_no_weight(weights):
    rng = np.random.default_rng(0)
    X = np.hstack([rng.normal(size=(100, 5)), rng.normal(size=(100, 2000))])
    Y = X[:, :5] @ rng.normal(size=(5, 20)) + rng.normal(size=(100, 20))
    model = ba.Stacked(ba.Ridge(alphas=1e-3), bands=["true"] * 5 + ["wide"] * 2000, weights=weights).fit(X, Y)
    assert model.band_weights_[1].mean() < 0.15
    assert model.band_weights_[0].mean() > 0.8


def labelled(n=60, time=None):
    X, Y = complementary(n=n, n_targets=4)
    ids = [f"s{i // 2}" for i in range(n)]
    parts = {
        name: ba.responses(X[:, BANDS == name], stimulus_id=ids, neuroid_id=range(20), modality="ann", system="net", layer=f"h.{k}")
        for k, name in enumerate(("seen", "heard", "junk"))
    }  # fmt: skip
    if time is not None:
        Y = np.stack([Y, 2 * Y], -1)
    y = ba.responses(Y, stimulus_id=ids, neuroid_id=range(4), time=time, modality="fmri", system="sub-01", region="V1")
    return ba.bands(**parts), y


def test_weights_are_a_labelled_map():
    x, y = labelled()
    model = ba.Stacked(ba.Ridge(alphas=10.0), weights="simplex").fit(x, y)
    out = model.weight_map()
    assert out.dims == ("band", "neuroid")
    assert out.band.values.tolist() == ["seen", "heard", "junk"]
    assert out.region.values.tolist() == ["V1"] * 4
    assert model.predict(x).dims == ("presentation", "neuroid")
    by_layer = ba.Stacked(ba.Ridge(alphas=10.0), bands="layer", weights="simplex").fit(x, y)
    assert by_layer.bands_.tolist() == ["h.0", "h.1", "h.2"]
    np.testing.assert_array_equal(by_layer.band_weights_, model.band_weights_)


def test_every_time_point_has_weights():
    x, y = labelled(time=[0.0, 0.1])
    model = ba.Stacked(ba.Ridge(alphas=10.0)).fit(x, y)
    assert model.weight_map().dims == ("band", "neuroid", "time")
    np.testing.assert_allclose(model.weight_map()[..., 0], model.weight_map()[..., 1], atol=1e-6)


def test_folds_follow_the_labels():
    x, y = labelled()
    fold_rows = [(f.train, f.test) for f in ba.split(y, n_splits=3, random_state=0).on(y)]
    by_label, by_hand = (ba.Stacked(ba.Ridge(alphas=10.0), cv=cv).fit(x, y) for cv in (3, fold_rows))
    np.testing.assert_array_equal(by_label.band_weights_, by_hand.band_weights_)


def test_affine_mappings_make_an_affine_whole():
    X, Y = complementary(n=100, n_targets=3)
    model = ba.Stacked(ba.Ridge(alphas=10.0, dtype="float64"), bands=BANDS).fit(X, Y)
    np.testing.assert_allclose(X @ model.coef_ + model.intercept_, model.predict(X), atol=1e-8)
    chained = ba.Stacked(ba.chain(StandardScaler(), ba.Ridge(alphas=10.0)), bands=BANDS).fit(X, Y)
    assert not hasattr(chained, "intercept_")
    assert chained.predict(X).shape == Y.shape


def test_it_goes_through_evaluate_in_a_chain():
    x, y = labelled()
    model = ba.chain(StandardScaler(), ba.Stacked(ba.Ridge(alphas=10.0), cv=3))
    out = ba.evaluate(x, y, model=model, cv=3, random_state=0)
    assert np.isfinite(out.score).all()


def test_degenerate_targets_are_named_and_disturb_no_other():
    X, Y = complementary(n=80, n_targets=3)
    clean = ba.Stacked(bands=BANDS).fit(X, Y)
    bad = np.column_stack([Y[:, 0], np.full(len(Y), 4.2), Y[:, 1], np.r_[np.nan, Y[1:, 0]], Y[:, 2]])
    model = ba.Stacked(bands=BANDS).fit(X, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    np.testing.assert_allclose(model.predict(X)[:, [0, 2, 4]], clean.predict(X), atol=1e-6)
    assert np.isnan(model.predict(X)[:, [1, 3]]).all()
    assert np.isnan(model.band_weights_[:, [1, 3]]).all()


def test_a_target_that_varies_in_one_fold_only_has_weights():
    X, _ = complementary(n=50, n_targets=1)
    Y = np.r_[X[:10, :1], np.zeros((40, 1))]
    model = ba.Stacked(bands=BANDS).fit(X, Y)
    assert np.isfinite(model.band_weights_).all()
    assert np.isfinite(model.predict(X)).all()


def test_parameters_pass_through_clone():
    model = ba.Stacked(ba.Ridge(alphas=1.0), bands="layer", weights="simplex", cv=3)
    assert clone(model).get_params().keys() == model.get_params().keys()
    assert clone(model).weights == "simplex"


def test_bad_input_is_named():
    X, Y = complementary(n=40, n_targets=2)
    with pytest.raises(ParameterError, match=r"'weights' parameter of Stacked must be one of .* Got 'sum'"):
        ba.Stacked(bands=BANDS, weights="sum").fit(X, Y)
    with pytest.raises(ParameterError, match="'bands' parameter of Stacked is 'band', which is no neuroid coordinate"):
        ba.Stacked().fit(X, Y)
    with pytest.raises(ParameterError, match=r"labels go to `ba\.Classifier"):
        ba.Stacked(bands=BANDS).fit(X, np.array(list("ab" * 20)))
    lost = X.copy()
    lost[0, :20] = np.nan
    with (
        pytest.warns(DegenerateNeuroidWarning),
        pytest.raises(ParameterError, match="band 'seen', whose 20 features all have NaN"),
    ):
        ba.Stacked(bands=BANDS).fit(lost, Y)
