import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.model_selection import GridSearchCV, KFold

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.engine.kernels import KERNELS
from brainalign.models.affine import affine_steps


def problem(n=60, p=4, n_targets=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 1
    return X, np.sin(X @ rng.normal(size=(p, n_targets))) + np.linspace(0.1, 2, n_targets) * rng.normal(size=(n, n_targets)) + 3


@pytest.mark.parametrize("p", [10, 100])
def test_the_linear_kernel_is_ridge(p):
    X, Y = problem(p=p)
    linear, ridge = ba.KernelRidge("linear", dtype="float64").fit(X, Y), ba.Ridge(dtype="float64").fit(X, Y)
    np.testing.assert_allclose(linear.alpha_, ridge.alpha_)
    np.testing.assert_allclose(linear.cv_score_, ridge.cv_score_, atol=1e-8)
    np.testing.assert_allclose(linear.predict(X), ridge.predict(X), atol=1e-8)


@pytest.mark.parametrize("kernel", ["rbf", "polynomial"])
def test_each_target_gets_the_alpha_of_a_grid_search_of_its_own(kernel):
    X, Y = problem()
    Y = Y - Y.mean(0)
    alphas = np.logspace(-2, 3, 11)
    ours = ba.KernelRidge(kernel, alphas=alphas, gamma=0.2, cv=4, fit_intercept=False, dtype="float64").fit(X, Y)
    for k in range(Y.shape[1]):
        reference = SklearnKernelRidge(kernel=kernel, gamma=0.2)
        search = GridSearchCV(reference, {"alpha": alphas}, cv=KFold(4), scoring="neg_mean_squared_error").fit(X, Y[:, k])
        assert ours.alpha_[k] == search.best_params_["alpha"]
        np.testing.assert_allclose(ours.predict(X)[:, k], search.predict(X), atol=1e-7)


@pytest.mark.parametrize("gap", [False, True])
def test_heldout_scores_equal_refitting_every_fold(gap):
    X, Y = problem()
    blocks = np.array_split(np.arange(60), 4)
    folds = [(np.setdiff1d(np.arange(60), np.r_[test, test[-1] + 1] if gap else test), test) for test in blocks]
    model = ba.KernelRidge("rbf", alphas=[0.5, 1e9], gamma=0.1, cv=folds, dtype="float64").fit(X, Y)
    error = spread = 0
    for train, test in folds:
        once = ba.KernelRidge("rbf", alphas=0.5, gamma=0.1, dtype="float64").fit(X[train], Y[train])
        error = error + ((once.predict(X[test]) - Y[test]) ** 2).sum(0)
        spread = spread + ((Y[test] - Y[test].mean(0)) ** 2).sum(0)
    assert (model.alpha_ == 0.5).any()
    np.testing.assert_allclose(model.cv_score_[model.alpha_ == 0.5], (1 - error / spread)[model.alpha_ == 0.5], atol=1e-8)


def test_a_product_of_features_needs_the_polynomial_kernel():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5))
    Y = (X[:, :1] * X[:, 1:2]) + 0.1 * rng.normal(size=(300, 1))
    assert ba.KernelRidge("linear").fit(X, Y).cv_score_[0] < 0.1
    assert ba.KernelRidge("polynomial", degree=2).fit(X, Y).cv_score_[0] > 0.95


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("scale", [1e-13, 1e5])
def test_units_of_neither_side_matter(kernel, scale):
    X, Y = (a.astype(np.float32) for a in problem())
    plain = ba.KernelRidge(kernel).fit(X, Y)
    moved = ba.KernelRidge(kernel).fit(X * np.float32(scale), Y * np.float32(scale))
    np.testing.assert_allclose(moved.predict(X * np.float32(scale)) / scale, plain.predict(X), atol=2e-3)


def test_the_bandwidth_is_the_median_distance_of_training_rows():
    X, Y = problem()
    model = ba.KernelRidge().fit(X, Y)
    distances = ((X[:, None] - X[None]) ** 2).sum(-1)[np.triu_indices(60, 1)]
    assert model.gamma_ == pytest.approx(1 / np.median(distances))
    assert ba.KernelRidge(gamma=0.25).fit(X, Y).gamma_ == 0.25


def test_degenerate_targets_and_features_disturb_no_other():
    X, Y = problem()
    clean = ba.KernelRidge().fit(X, Y)
    bad = np.column_stack([Y[:, 0], np.full(len(Y), 4.2), np.r_[np.nan, Y[1:, 0]], Y[:, 1:]])
    model = ba.KernelRidge().fit(np.insert(X, 0, 1e3, axis=1), bad)
    assert model.status_.tolist() == ["ok", "constant", "nan", "ok", "ok", "ok"]
    prediction = model.predict(np.insert(X, 0, 1e3, axis=1))
    np.testing.assert_allclose(prediction[:, [0, 3, 4, 5]], clean.predict(X), atol=1e-4)
    assert np.isnan(prediction[:, 1:3]).all()
    assert np.isnan(model.alpha_[2])


def test_a_source_without_variance_predicts_the_mean():
    _, Y = problem()
    np.testing.assert_allclose(ba.KernelRidge().fit(np.ones((60, 3)), Y).predict(np.ones((1, 3)))[0], Y.mean(0), rtol=1e-6)


def test_labels_are_kept_and_inner_folds_follow_them():
    X, Y = problem()
    names = [f"s{i // 2}" for i in range(60)]
    y = ba.responses(Y, stimulus_id=names, neuroid_id=range(4), modality="fmri", system="sub-01")
    model = ba.KernelRidge(cv=3).fit(X, y)
    by_hand = ba.KernelRidge(cv=[(f.train, f.test) for f in ba.split(y, n_splits=3, random_state=0).on(y)]).fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, by_hand.alpha_)
    assert model.per_target(model.alpha_).dims == ("neuroid",)


def test_it_is_no_affine_map():
    X, Y = problem(12)
    ids = [f"s{i}" for i in range(12)]
    x, y = (ba.responses(a, stimulus_id=ids, neuroid_id=range(4), modality="ann", system="net") for a in (X, Y))
    with pytest.raises(CapabilityError, match=r"KernelRidge is not affine.*a mapping that is linear"):
        affine_steps(ba.chain(ba.KernelRidge(alphas=1.0)).fit(x, y))


def test_parameters_pass_through_clone():
    model = ba.KernelRidge("polynomial", alphas=[1.0, 2.0], gamma=0.1, degree=2, coef0=0.0)
    assert clone(model).get_params() == model.get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "gauss"}, "'kernel' parameter of KernelRidge must be one of .* Got 'gauss'"),
        ({"gamma": 0.0}, r"'gamma' parameter of KernelRidge must be a float in the range \(0.0, inf\)"),
        ({"degree": 0}, "'degree' parameter of KernelRidge must be an int"),
        ({"coef0": -1.0}, "'coef0' parameter of KernelRidge must be a float"),
        ({"device": "tpu"}, "'device' parameter of KernelRidge must .* Got 'tpu'"),
        ({"alphas": "auto"}, "'alphas' parameter .* Got 'auto'"),
    ],
)
def test_impossible_parameters_are_named(options, message):
    with pytest.raises(ParameterError, match=message):
        ba.KernelRidge(**options).fit(*problem())
