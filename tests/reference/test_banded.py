"""Banded ridge against himalaya's group ridge and multiple-kernel ridge, and against scikit-learn on weighted columns."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.model_selection import KFold

import brainalign as ba

SIZES = (12, 20, 8)
ALPHAS = np.logspace(-1, 4, 11)
GAMMAS = np.array([[1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5], [1 / 3] * 3, [0, 0.1, 0.9], [0.8, 0.1, 0.1]])
LABELS = np.repeat(["a", "b", "c"], SIZES)


def problem(n, width=1, n_targets=9):
    rng = np.random.default_rng(0)
    X = [rng.normal(size=(n, width * size)) * scale + 2 for size, scale in zip(SIZES, (1.0, 3.0, 0.2), strict=True)]
    Z = [x / x.std() / x.shape[1] ** 0.5 for x in X]
    mix = rng.dirichlet([0.5] * 3, n_targets).T
    signal = sum(z @ rng.normal(size=(z.shape[1], n_targets)) * w**0.5 for z, w in zip(Z, mix, strict=True))
    return np.concatenate(X, axis=1), signal + rng.normal(size=(n, n_targets)) * np.linspace(0.3, 2, n_targets) + 5


def balanced(X, labels):
    """The bands at one total variance, as list, and the factor of each."""
    centred = X - X.mean(axis=0)
    power = np.array([(centred[:, labels == b] ** 2).sum() for b in "abc"])
    scale = power.mean() / power
    return [centred[:, labels == b] * s**0.5 for b, s in zip("abc", scale, strict=True)], scale


@pytest.mark.parametrize(("n", "width"), [(90, 1), (60, 3)], ids=["p<n", "p>n"])
def test_equal_to_group_ridge_on_one_list_of_candidates(n, width):
    from himalaya.ridge import GroupRidgeCV

    X, Y = problem(n, width)
    labels = np.repeat(["a", "b", "c"], np.array(SIZES) * width)
    spaces, scale = balanced(X, labels)
    gammas = GAMMAS[(GAMMAS > 0).all(axis=1)]  # theirs divides by a weight of 0
    ours = ba.BandedRidge(alphas=ALPHAS, bands=labels, candidates=gammas, search="all", dtype="float64").fit(X, Y)
    options = {"n_iter": gammas, "alphas": ALPHAS, "progress_bar": False, "warn": False}
    theirs = GroupRidgeCV(groups="input", cv=KFold(5), fit_intercept=True, solver_params=options).fit(spaces, Y)
    np.testing.assert_allclose(ours.deltas_, theirs.deltas_ + np.log(scale)[:, None], rtol=1e-9)
    factor = np.repeat(scale**0.5, np.array(SIZES) * width)
    np.testing.assert_allclose(ours.coef_, theirs.coef_ * factor[:, None], atol=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(spaces), atol=1e-6)
    assert len(np.unique(ours.band_weights_, axis=1).T) > 1


@pytest.mark.parametrize(("n", "width"), [(90, 1), (60, 3)], ids=["p<n", "p>n"])
def test_equal_to_multiple_kernel_ridge_with_bands_of_weight_0(n, width):
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    X, Y = problem(n, width)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    labels = np.repeat(["a", "b", "c"], np.array(SIZES) * width)
    spaces, scale = balanced(X, labels)
    options = {"alphas": ALPHAS, "candidates": GAMMAS, "search": "all", "fit_intercept": False, "dtype": "float64"}
    ours = ba.BandedRidge(bands=labels, **options).fit(X, Y)
    kernels = np.stack([space @ space.T for space in spaces])
    with np.errstate(divide="ignore"):
        deltas, dual, _ = solve_multiple_kernel_ridge_random_search(
            kernels, Y, n_iter=GAMMAS, alphas=ALPHAS, progress_bar=False, cv=KFold(5), return_weights="dual"
        )
    np.testing.assert_allclose(ours.deltas_, deltas + np.log(scale)[:, None], rtol=1e-9)
    np.testing.assert_allclose(ours.predict_bands(X), np.exp(deltas)[:, None] * (kernels @ dual), atol=1e-6)
    assert np.isneginf(ours.deltas_).any()


@pytest.mark.parametrize(("n", "width"), [(90, 1), (60, 3)], ids=["p<n", "p>n"])
def test_equal_to_sklearn_on_weighted_columns(n, width):
    X, Y = problem(n, width)
    labels = np.repeat(["a", "b", "c"], np.array(SIZES) * width)
    ours = ba.BandedRidge(alphas=3.0, bands=labels, candidates=[0.2, 0.3, 0.5], dtype="float64").fit(X, Y)
    root = np.repeat((np.array([0.2, 0.3, 0.5]) * balanced(X, labels)[1]) ** 0.5, np.array(SIZES) * width)
    theirs = SklearnRidge(alpha=3.0).fit(X * root, Y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_.T * root[:, None], atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)
    assert np.isnan(ours.cv_score_).all()


@pytest.mark.parametrize(("n", "width"), [(90, 1), (60, 3)], ids=["p<n", "p>n"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_with_one_band_it_is_ridge(n, width, fit_intercept):
    X, Y = problem(n, width)
    options = {"fit_intercept": fit_intercept, "cv": 4, "dtype": "float64"}
    ours, plain = ba.BandedRidge(bands=["x"] * X.shape[1], **options).fit(X, Y), ba.Ridge(**options).fit(X, Y)
    np.testing.assert_array_equal(ours.alpha_, plain.alpha_)
    np.testing.assert_allclose(ours.coef_, plain.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.intercept_, plain.intercept_, atol=1e-9)
    np.testing.assert_allclose(ours.cv_score_, plain.cv_score_, atol=1e-9)
    np.testing.assert_allclose(ours.predict(X), plain.predict(X), atol=1e-9)
