"""Known answers: scikit-learn's Ridge, one target and one alpha at a time."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from brainalign.engine.factor import coefficients, factorise, fixed_ridge, intercept_direction, project, shrink

SHAPES = [(40, 12), (40, 90), (30, 30), (30, 1)]


def problem(n, p, n_targets=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 3
    return X, X @ rng.normal(size=(p, n_targets)) + rng.normal(size=(n, n_targets)) - 9


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_fixed_alphas_predict_what_sklearn_predicts(n, p, fit_intercept, weighted):
    X, Y = problem(n + 7, p)
    w = np.random.default_rng(1).uniform(0.2, 3, n) if weighted else None
    alphas = np.logspace(-1, 3, 5)
    fold = fixed_ridge(X[:n], X[n:], fit_intercept=fit_intercept, dtype="float64", weights=w)
    found = fold.predict(Y[:n], alphas)
    for k, alpha in enumerate(alphas):
        model = SklearnRidge(alpha=alpha, fit_intercept=fit_intercept, solver="cholesky").fit(X[:n], Y[:n, k], sample_weight=w)
        np.testing.assert_allclose(found[:, k], model.predict(X[n:]), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("p", [12, 90])
def test_permuted_targets_are_further_columns(p):
    X, Y = problem(50, p)
    rng = np.random.default_rng(2)
    orders = [rng.permutation(40) for _ in range(6)]
    fold, alphas = fixed_ridge(X[:40], X[40:], dtype="float64"), np.logspace(0, 2, 5)
    together = fold.predict(np.hstack([Y[order] for order in orders]), np.tile(alphas, 6), target_batch=7).reshape(10, 6, 5)
    for i, order in enumerate(orders):
        np.testing.assert_allclose(together[:, i], fold.predict(Y[order], alphas), rtol=1e-10, atol=1e-10)


def test_a_bad_target_spoils_no_other():
    X, Y = problem(50, 12)
    fold, alphas = fixed_ridge(X[:40], X[40:]), np.ones(5)
    clean = fold.predict(Y[:40], alphas)
    bad = Y[:40].copy()
    bad[3, 2] = np.nan
    found = fold.predict(bad, alphas)
    assert np.isnan(found[:, 2]).all()
    np.testing.assert_array_equal(np.delete(found, 2, axis=1), np.delete(clean, 2, axis=1))


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_weights_are_copies_of_rows(n, p):
    X, Y = problem(n, p)
    copies = np.random.default_rng(3).integers(1, 4, n)
    rows = np.repeat(np.arange(n), copies)
    alphas = np.array([0.1, 1.0, 10.0, 100.0, 1e3])
    found = []
    for source, target, weights in ((X, Y, copies.astype(float)), (X[rows], Y[rows], None)):
        factor = factorise(source, weights=weights)
        mean = np.average(target, axis=0, weights=weights)
        root = np.ones(len(target)) if weights is None else weights**0.5
        found.append(coefficients(factor, factor.left.T @ (root[:, None] * (target - mean)), alphas))
        np.testing.assert_allclose(factor.mean, np.average(source, axis=0, weights=weights))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-8, atol=1e-10)


def test_the_left_vectors_leave_the_intercept_out():
    X, _ = problem(30, 50)
    weights = np.linspace(1, 2, 30)
    factor = factorise(X, weights=weights)
    constant = intercept_direction(X, weights)
    np.testing.assert_allclose(factor.left.T @ constant, 0, atol=1e-12)
    np.testing.assert_allclose(factor.left.T @ factor.left, np.eye(29), atol=1e-12)


@pytest.mark.parametrize("complete", [False, True])
def test_projected_rows_times_shrunken_targets_are_predictions(complete):
    X, Y = problem(40, 12)
    factor = factorise(X, complete=complete)
    shrunk = shrink(factor, factor.left.T @ (Y - Y.mean(0)), np.full(5, 2.0))
    expected = SklearnRidge(alpha=2.0).fit(X, Y).predict(X[:4])
    np.testing.assert_allclose(project(factor, X[:4] - factor.mean) @ shrunk + Y.mean(0), expected, rtol=1e-9)


@pytest.mark.parametrize("p", [12, 90])
def test_tensors_give_what_arrays_give(p):
    torch = pytest.importorskip("torch")
    X, Y = problem(50, p)
    alphas = np.logspace(0, 2, 5)
    ours = fixed_ridge(X[:40], X[40:], dtype="float64").predict(Y[:40], alphas)
    theirs = fixed_ridge(torch.from_numpy(X[:40]), torch.from_numpy(X[40:]), dtype="float64").predict(
        torch.from_numpy(Y[:40]), alphas
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
