import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, KFold

import brainalign as ba
from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SplitError
from brainalign.models.ridge import RELATIVE_ALPHAS, inner_splits


def problem(n=80, p=20, n_targets=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 2
    return X, X @ rng.normal(size=(p, n_targets)) + rng.normal(size=(n, n_targets)) * np.linspace(1, 20, n_targets) + 3


@pytest.mark.parametrize(("n", "p"), [(80, 20), (40, 100), (50, 1)])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_equal_to_sklearn_at_one_alpha(n, p, fit_intercept):
    X, Y = problem(n, p)
    ours = ba.Ridge(alphas=7.0, fit_intercept=fit_intercept, dtype="float64").fit(X, Y)
    theirs = SklearnRidge(alpha=7.0, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-8)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-8)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X).reshape(Y.shape), atol=1e-8)
    narrow = ba.Ridge(alphas=7.0, fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_allclose(narrow.predict(X), theirs.predict(X).reshape(Y.shape), rtol=1e-5, atol=1e-5 * Y.std())
    assert np.isnan(ours.cv_score_).all()
    assert not ours.alpha_at_edge_.any()


@pytest.mark.parametrize(("n", "p"), [(80, 20), (40, 100)])
def test_each_target_gets_the_alpha_of_a_grid_search_of_its_own(n, p):
    X, Y = problem(n, p)
    alphas = np.logspace(-2, 4, 13)
    ours = ba.Ridge(alphas=alphas, cv=4, dtype="float64").fit(X, Y)
    for k in range(Y.shape[1]):
        search = GridSearchCV(SklearnRidge(), {"alpha": alphas}, cv=KFold(4), scoring="neg_mean_squared_error").fit(X, Y[:, k])
        assert ours.alpha_[k] == search.best_params_["alpha"]
        np.testing.assert_allclose(ours.coef_[:, k], search.best_estimator_.coef_, atol=1e-7)
        alone = ba.Ridge(alphas=alphas, cv=4, dtype="float64").fit(X, Y[:, [k]])
        np.testing.assert_allclose(alone.coef_[:, 0], ours.coef_[:, k], atol=1e-10)
    assert len(np.unique(ours.alpha_)) > 1


def test_leave_one_out_chooses_as_sklearn_does():
    X, Y = problem(40, 10)
    alphas = np.logspace(-2, 4, 13)
    folds = [(np.delete(np.arange(40), i), [i]) for i in range(40)]
    ours = ba.Ridge(alphas=alphas, cv=folds, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, RidgeCV(alphas=alphas, alpha_per_target=True).fit(X, Y).alpha_)


@pytest.mark.parametrize("p", [15, 150])
@pytest.mark.parametrize(("scale", "offset"), [(1e-13, 0.0), (1.0, 1e3), (1e5, 0.0)])
def test_units_of_neither_side_matter(p, scale, offset):
    X, Y = (a.astype(np.float32) for a in problem(60, p))
    plain = ba.Ridge().fit(X, Y)
    moved = ba.Ridge().fit(X * np.float32(scale) + np.float32(offset), Y * np.float32(scale) + np.float32(offset))
    np.testing.assert_allclose(moved.alpha_, plain.alpha_ * scale**2, rtol=1e-4)
    prediction = (moved.predict(X * np.float32(scale) + np.float32(offset)) - offset) / scale
    np.testing.assert_allclose(prediction, plain.predict(X), atol=2e-3)


def test_default_alphas_are_relative_to_the_variance_of_the_source():
    X, Y = problem()
    model = ba.Ridge(dtype="float64").fit(X, Y)
    ratio = model.alpha_ / X.var(axis=0).sum()
    assert all(np.isclose(RELATIVE_ALPHAS, r).any() for r in ratio)


def test_a_grid_that_ends_too_early_says_so():
    rng = np.random.default_rng(0)
    model = ba.Ridge(alphas=[1e-3, 1e-2, 1e-1]).fit(rng.normal(size=(100, 60)), rng.normal(size=(100, 6)))
    assert (model.alpha_ == 0.1).all()
    assert model.alpha_at_edge_.all()
    X, Y = problem()
    assert not ba.Ridge().fit(X, Y).alpha_at_edge_.all()


def test_recovers_the_planted_correlation():
    rng = np.random.default_rng(0)
    X, W = rng.normal(size=(3000, 30)), rng.normal(size=(30, 20)) / 30**0.5
    Y = np.sqrt(0.3) * X @ W + np.sqrt(0.7) * rng.normal(size=(3000, 20))
    model = ba.Ridge().fit(X[:2000], Y[:2000])
    prediction = model.predict(X[2000:])
    r = [np.corrcoef(prediction[:, k], Y[2000:, k])[0, 1] for k in range(20)]
    assert np.mean(r) == pytest.approx(np.sqrt(0.3), abs=0.02)
    assert np.mean(model.cv_score_) == pytest.approx(0.3, abs=0.03)


def test_degenerate_targets_are_named_and_disturb_no_other():
    X, Y = problem(n_targets=3)
    clean = ba.Ridge().fit(X, Y)
    bad = np.column_stack([Y[:, 0], np.full(len(Y), 4.2), Y[:, 1], np.r_[np.nan, Y[1:, 0]], Y[:, 2]])
    model = ba.Ridge().fit(X, bad)
    assert model.status_.tolist() == ["ok", "constant", "ok", "nan", "ok"]
    prediction = model.predict(X)
    np.testing.assert_array_equal(prediction[:, [0, 2, 4]], clean.predict(X))
    assert np.isnan(prediction[:, [1, 3]]).all()
    assert np.isnan(model.alpha_[[1, 3]]).all()
    assert (model.coef_[:, 1] == 0).all()
    assert model.intercept_[1] == pytest.approx(4.2)
    assert np.isnan(model.coef_[:, 3]).all()


def test_all_targets_may_be_degenerate():
    X, Y = problem(n_targets=2)
    model = ba.Ridge().fit(X, Y * np.nan)
    assert model.status_.tolist() == ["nan", "nan"]
    assert np.isnan(model.predict(X)).all()


def test_features_with_nan_are_left_out_with_a_warning():
    X, Y = problem()
    with_nan = np.insert(X, 3, np.nan, axis=1)
    with pytest.warns(DegenerateNeuroidWarning, match=r"1 of 21 features .* positions 3"):
        model = ba.Ridge().fit(with_nan, Y)
    np.testing.assert_array_equal(np.delete(model.coef_, 3, axis=0), ba.Ridge().fit(X, Y).coef_)
    assert (model.coef_[3] == 0).all()
    np.testing.assert_array_equal(model.predict(with_nan), ba.Ridge().fit(X, Y).predict(X))
    with pytest.raises(ParameterError, match="All 20 features"):
        ba.Ridge().fit(X * np.nan, Y)


def test_constant_features_are_harmless():
    X, Y = problem()
    model = ba.Ridge(dtype="float64").fit(np.insert(X, 0, 1e3, axis=1), Y)
    np.testing.assert_allclose(model.coef_[0], 0, atol=1e-9)
    np.testing.assert_allclose(model.coef_[1:], ba.Ridge(dtype="float64").fit(X, Y).coef_, atol=1e-9)
    only_constant = ba.Ridge().fit(np.ones((80, 3)), Y)
    np.testing.assert_allclose(only_constant.predict(np.ones((4, 3))), np.tile(Y.mean(0), (4, 1)), rtol=1e-5)


def test_tiles_change_nothing():
    X, Y = problem(n_targets=11)
    whole, tiled = ba.Ridge(dtype="float64").fit(X, Y), ba.Ridge(dtype="float64", target_batch=4).fit(X, Y)
    np.testing.assert_array_equal(whole.alpha_, tiled.alpha_)
    np.testing.assert_allclose(whole.coef_, tiled.coef_, atol=1e-12)


def test_a_vector_target_gives_a_vector():
    X, Y = problem()
    assert ba.Ridge().fit(X, Y[:, 0]).predict(X).shape == (80,)
    assert ba.Ridge().fit(X, Y[:, :1]).predict(X).shape == (80, 1)


def test_inner_folds_keep_groups_together():
    groups = np.repeat(list("abcdefg"), [10, 3, 8, 8, 1, 5, 5])
    for train, test in inner_splits(3, groups, 40, None):
        assert not set(groups[train]) & set(groups[test])
        assert len(train) + len(test) == 40
        assert 8 <= len(test) <= 18
    X, Y = problem(40)
    model = ba.Ridge(groups=groups, cv=3, dtype="float64").fit(X, Y)
    expected = ba.Ridge(cv=inner_splits(3, groups, 40, None), dtype="float64").fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, expected.alpha_)


def test_groups_that_leak_would_choose_another_alpha():
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(6), 20)
    drift = rng.normal(size=(6, 40))[run] + 0.1 * rng.normal(size=(120, 40))
    Y = rng.normal(size=(6, 3))[run] + rng.normal(size=(120, 3))
    shuffled = [(np.setdiff1d(np.arange(120), test), test) for test in np.array_split(rng.permutation(120), 5)]
    leaky, honest = ba.Ridge(cv=shuffled).fit(drift, Y), ba.Ridge(groups=run).fit(drift, Y)
    assert (leaky.cv_score_ > 0.1).all()
    assert (honest.cv_score_ < 0.1).all()
    assert (honest.alpha_ > leaky.alpha_).all()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alphas": [-1.0, 2.0]}, ParameterError, "Got \\[-1.0, 2.0\\]"),
        ({"alphas": []}, ParameterError, "alphas"),
        ({"dtype": "float16"}, ParameterError, "'float16'"),
        ({"cv": 1}, ParameterError, "Got 1 instead"),
        ({"cv": 100}, SplitError, "80 training rows cannot make 100"),
        ({"cv": []}, SplitError, "no folds"),
        ({"cv": [([0, 1], [1, 2])]}, SplitError, "1 rows in both"),
        ({"cv": [([0, 1], [99])]}, SplitError, "row 99 of 80"),
        ({"cv": [([0, 1], [])]}, SplitError, "0 test rows"),
        ({"groups": "run"}, ParameterError, "plain array"),
        ({"groups": np.zeros(80)}, SplitError, "single value"),
        ({"groups": np.zeros(3)}, ParameterError, "3 labels for 80"),
        ({"target_batch": 0}, ParameterError, "target_batch"),
    ],
)
def test_impossible_options_are_named(options, error, message):
    with pytest.raises(error, match=message):
        ba.Ridge(**options).fit(*problem())


def test_obeys_the_estimator_contract():
    model = ba.Ridge(alphas=[1.0, 2.0], cv=3, target_batch=7)
    assert clone(model).get_params() == model.get_params()
    with pytest.raises(Exception, match="not fitted"):
        model.predict(np.zeros((2, 3)))


def test_labelled_rows_are_split_by_their_labels():
    rng = np.random.default_rng(0)
    ids = np.repeat([f"s{i}" for i in range(20)], 3)
    X = ba.responses(rng.normal(size=(60, 6)), stimulus_id=ids, neuroid_id=range(6), modality="ann", system="net")
    Y = ba.responses(
        rng.normal(size=(60, 2)), stimulus_id=ids, neuroid_id=range(2), modality="meg", system="p", session=["a"] * 60
    )
    for train, test in inner_splits(5, None, 60, Y):
        assert not set(ids[train]) & set(ids[test])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ba.Ridge().fit(X, Y).alpha_.shape == (2,)
    with pytest.raises(ParameterError, match="groups='runs'"):
        ba.Ridge(groups="runs").fit(X, Y)
    grouped = inner_splits(2, "stimulus_id", 60, Y)
    assert len(grouped) == 2


@pytest.mark.parametrize("device", ["tpu", "cuda:99", 3.5])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(ParameterError, match=r"'device' parameter of Ridge must be .* Got"):
        ba.Ridge(device=device).fit(np.eye(4), np.eye(4))


def test_labels_are_sent_to_the_classifier():
    with pytest.raises(ParameterError, match=r"target of dtype .*Expected numbers: labels go to `ba\.Classifier"):
        ba.Ridge().fit(np.eye(4), np.array(list("abab")))


def test_alphas_that_are_no_numbers():
    with pytest.raises(ParameterError, match=r"'alphas' parameter of Ridge must be .* Got 'auto'"):
        ba.Ridge(alphas="auto").fit(np.eye(4), np.eye(4))
