"""Kernel ridge against scikit-learn at one alpha, and against himalaya with an alpha for each target."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge as SklearnKernelRidge
from sklearn.model_selection import KFold

import brainalign as ba

SHAPES = [(60, 8), (40, 100)]
#: Ours, scikit-learn's and himalaya's name, and the options that all three share.
KERNELS = [
    ("linear", "linear", {}), ("polynomial", "poly", {"gamma": 0.02, "degree": 2, "coef0": 1.0}), ("rbf", "rbf", {"gamma": 0.01}), ("cosine", "cosine", {}),
]  # fmt: skip


def problem(n, p):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(n, p)) + 0.5, rng.normal(size=(15, p)) + 0.5
    Y = X[:, :5] @ rng.normal(size=(5, 6)) + X[:, :6] ** 2 + np.linspace(0.5, 8, 6) * rng.normal(size=(n, 6)) + 3
    return X, Y, new


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize(("kernel", "_", "options"), KERNELS, ids=lambda value: value if isinstance(value, str) else "")
def test_equal_to_sklearn_without_an_intercept(n, p, kernel, _, options):
    X, Y, new = problem(n, p)
    theirs = SklearnKernelRidge(alpha=0.7, kernel=kernel, **options).fit(X, Y)
    ours = ba.KernelRidge(kernel, alphas=0.7, fit_intercept=False, dtype="float64", **options).fit(X, Y)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=1e-6, atol=1e-6)
    if kernel == "rbf" or (kernel, p) == ("cosine", 100):  # of full rank: no null directions, in which weights are free
        np.testing.assert_allclose(ours.dual_coef_, theirs.dual_coef_, atol=1e-6)


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize(("kernel", "name", "options"), KERNELS, ids=lambda value: value if isinstance(value, str) else "")
def test_equal_to_himalaya_with_an_alpha_for_each_target(n, p, kernel, name, options):
    himalaya = pytest.importorskip("himalaya.kernel_ridge")
    X, Y, new = problem(n, p)
    alphas = np.logspace(-2, 4, 13)
    theirs = himalaya.KernelRidgeCV(
        alphas=alphas, kernel=name, kernel_params=options, fit_intercept=True, cv=KFold(4), warn=False
    ).fit(X, Y)
    ours = ba.KernelRidge(kernel, alphas=alphas, cv=4, dtype="float64", **options).fit(X, Y)
    np.testing.assert_allclose(ours.alpha_, theirs.best_alphas_)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new), rtol=1e-6, atol=1e-6)
