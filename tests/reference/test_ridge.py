"""Ridge equals scikit-learn and himalaya to 1e-6 in float64, with fewer and with more features than rows."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV as SklearnRidgeCV
from sklearn.model_selection import GridSearchCV, KFold

import brainalign as ba
from brainalign.engine.factor import fixed_ridge

ALPHAS = np.logspace(-1, 5, 13)
SHAPES = [(120, 30), (80, 200), (100, 95)]


@pytest.fixture(params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def data(request):
    n, p = request.param
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, p)) / np.arange(1, p + 1) ** 0.5 + rng.normal(size=p)
    signal = X @ rng.normal(size=(p, 40))
    return X, signal / signal.std(0) * np.linspace(0, 2, 40) + rng.normal(size=(n, 40)) + 5


@pytest.fixture(params=["RidgeCV", "KernelRidgeCV"])
def himalaya(request):
    pytest.importorskip("himalaya")
    from himalaya import kernel_ridge, ridge
    from himalaya.backend import set_backend

    set_backend("numpy")
    return getattr(ridge, request.param, None) or getattr(kernel_ridge, request.param)


@pytest.mark.filterwarnings("ignore:Solving .* is slower")
@pytest.mark.parametrize("search", ["screen", "all"])
def test_each_target_equals_himalaya(data, himalaya, search):
    X, Y = data
    folds = list(KFold(4).split(X))
    theirs = himalaya(alphas=ALPHAS, cv=KFold(4), fit_intercept=True).fit(X, Y)
    ours = ba.Ridge(alphas=ALPHAS, cv=folds, criterion="mse", search=search, dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, theirs.best_alphas_, rtol=1e-12)
    np.testing.assert_allclose(ours.cv_score_, theirs.cv_scores_, rtol=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=1e-6)
    if hasattr(theirs, "coef_"):
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)


def test_alphas_of_their_own_equal_himalaya(data):
    ridge = pytest.importorskip("himalaya.ridge")
    X, Y = data
    alphas = np.resize(ALPHAS, Y.shape[1])
    theirs = ridge.Ridge(alpha=alphas, fit_intercept=True, solver_params={"warn": False}).fit(X, Y)
    np.testing.assert_allclose(fixed_ridge(X, X, dtype="float64").predict(Y, alphas), theirs.predict(X), rtol=1e-6, atol=1e-6)


def test_leave_one_out_equals_sklearn(data):
    X, Y = data
    single = [(np.delete(np.arange(len(X)), i), np.array([i])) for i in range(len(X))]
    theirs = SklearnRidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X, Y)
    ours = ba.Ridge(alphas=ALPHAS, cv=single, criterion="mse", dtype="float64").fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, theirs.alpha_, rtol=1e-12)
    np.testing.assert_allclose(ours.cv_score_, theirs.best_score_, rtol=1e-6)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-6)


def test_a_grid_search_of_sklearn_chooses_the_same(data):
    X, Y = data
    ours = ba.Ridge(alphas=ALPHAS, cv=list(KFold(4).split(X)), criterion="mse", dtype="float64").fit(X, Y)
    for k in range(0, 40, 10):
        grid = GridSearchCV(SklearnRidge(solver="svd"), {"alpha": ALPHAS}, cv=KFold(4), scoring="neg_mean_squared_error")
        theirs = grid.fit(X, Y[:, k])
        assert ours.alpha_[k] == theirs.best_params_["alpha"]
        np.testing.assert_allclose(ours.cv_score_[k], theirs.best_score_, rtol=1e-6)
        np.testing.assert_allclose(ours.coef_[:, k], theirs.best_estimator_.coef_, atol=1e-6)


def test_sample_weights_equal_sklearn(data):
    X, Y = data
    weights = np.random.default_rng(1).uniform(0.1, 4, len(X))
    ours = ba.Ridge(alphas=2.0, sample_weight=weights, dtype="float64").fit(X, Y)
    theirs = SklearnRidge(alpha=2.0, solver="svd").fit(X, Y, sample_weight=weights)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
