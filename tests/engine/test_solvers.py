"""Known answers: scikit-learn's Ridge, refitted fold by fold; lstsq; closed-form limits."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from threadpoolctl import threadpool_limits

from brainalign.engine.heldout import HeldOut
from brainalign.engine.solvers import coefficients, factorise, solve_ridge

ALPHAS = np.logspace(-3, 4, 6)
SHAPES = [(60, 20), (60, 100), (60, 52), (40, 40), (200, 4), (30, 1)]


def problem(n, p, n_targets=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 5
    return X, X @ rng.normal(size=(p, n_targets)) + 3 * rng.normal(size=(n, n_targets)) + 7


def unequal_folds(n, seed=1):
    order = np.random.default_rng(seed).permutation(n)
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.split(order, [n // 8, n // 3, n - n // 3])]


def with_gap(splits):
    return [(train[3:], test) for train, test in splits]


def refitted_r2(X, Y, alphas, splits, fit_intercept):
    error = np.zeros((len(alphas), Y.shape[1]))
    spread = sum(((Y[test] - Y[test].mean(0)) ** 2).sum(0) for _, test in splits)
    for train, test in splits:
        for i, alpha in enumerate(alphas):
            model = SklearnRidge(alpha=alpha, fit_intercept=fit_intercept, solver="svd").fit(X[train], Y[train])
            error[i] += ((model.predict(X[test]).reshape(len(test), -1) - Y[test]) ** 2).sum(0)
    return 1 - error / spread


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("gap", [False, True])
def test_heldout_scores_equal_refitting_every_fold(n, p, fit_intercept, gap):
    X, Y = problem(n, p)
    splits = with_gap(unequal_folds(n)) if gap else unequal_folds(n)
    solution = solve_ridge(X, Y, ALPHAS, splits, fit_intercept=fit_intercept, dtype="float64")
    expected = refitted_r2(X, Y, ALPHAS, splits, fit_intercept)
    np.testing.assert_allclose(solution.heldout_score, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_array_equal(solution.alpha_index, expected.argmax(0))


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_mixed_alphas_equal_one_fit_per_target(n, p, fit_intercept):
    X, Y = problem(n, p, n_targets=6)
    solution = solve_ridge(X, Y, ALPHAS, unequal_folds(n), fit_intercept=fit_intercept, dtype="float64")
    for column, index in enumerate(solution.alpha_index):
        model = SklearnRidge(alpha=ALPHAS[index], fit_intercept=fit_intercept, solver="svd").fit(X, Y[:, column])
        np.testing.assert_allclose(solution.coef[:, column], model.coef_, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("n", "p"), [(60, 20), (40, 90)])
def test_both_forms_of_the_decomposition_give_the_same_weights(n, p):
    X, Y = problem(n, p)
    weights = []
    for complete in (False, True):
        factor = factorise(X, complete=complete)
        weights.append(coefficients(factor, factor.left.T @ (Y - Y.mean(0)), np.array([0.1, 1.0, 10.0, 1e3])))
    np.testing.assert_allclose(weights[0], weights[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("n", "p"), [(60, 20), (20, 60)])
def test_alpha_zero_is_the_minimum_norm_fit(n, p):
    X, Y = problem(n, p)
    solution = solve_ridge(X, Y, [0.0], dtype="float64")
    expected = np.linalg.lstsq(X - X.mean(0), Y - Y.mean(0), rcond=None)[0]
    np.testing.assert_allclose(solution.coef, expected, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [10, 80])
def test_duplicated_columns_share_the_weight(dtype, p):
    X, Y = problem(50, p)
    single = solve_ridge(X, Y, [0.0], dtype=dtype)
    double = solve_ridge(np.hstack([X, X]), Y, [0.0], dtype=dtype)
    np.testing.assert_allclose(double.coef[:p], single.coef / 2, atol=1e-4)
    np.testing.assert_allclose(double.coef[p:], single.coef / 2, atol=1e-4)


def test_alpha_zero_scores_rank_deficient_folds_with_finite_numbers():
    X, Y = problem(40, 6)
    X = np.hstack([X, np.eye(40)[:, :1]])  # varies in one row only: null wherever that row is held out
    solution = solve_ridge(X, Y, [0.0, 1.0], unequal_folds(40), dtype="float64")
    assert np.isfinite(solution.heldout_score).all()


@pytest.mark.parametrize("p", [15, 150])
@pytest.mark.parametrize(("scale", "offset"), [(1e-13, 0.0), (1.0, 1e3), (1e6, -1e9)])
def test_units_and_offsets_change_no_choice(p, scale, offset):
    X, Y = problem(60, p)
    X = X - 5
    splits = unequal_folds(60)
    plain = solve_ridge(X, Y, ALPHAS, splits)
    moved = solve_ridge(scale * X + offset, scale * Y + offset, scale**2 * ALPHAS, splits)
    np.testing.assert_array_equal(plain.alpha_index, moved.alpha_index)
    np.testing.assert_allclose(plain.coef, moved.coef, atol=2e-4)


@pytest.mark.parametrize("p", [15, 150])
def test_tiles_change_nothing(p):
    X, Y = problem(60, p, n_targets=7)
    whole = solve_ridge(X, Y, ALPHAS, unequal_folds(60), dtype="float64")
    tiled = solve_ridge(X, Y, ALPHAS, unequal_folds(60), dtype="float64", target_batch=3)
    np.testing.assert_array_equal(whole.alpha_index, tiled.alpha_index)
    np.testing.assert_allclose(whole.coef, tiled.coef, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(whole.heldout_score, tiled.heldout_score, rtol=1e-10)


@pytest.mark.parametrize(("n", "p", "n_folds"), [(60, 20, 5), (60, 90, 5), (60, 8, 60)])
@pytest.mark.parametrize("search", ["screen", "all"])
def test_workers_change_nothing(monkeypatch, n, p, n_folds, search):
    monkeypatch.setattr("brainalign.engine.solvers._LEAST", 10)
    monkeypatch.setattr("brainalign.engine.ridge_folds._WORTH", 0)
    X, Y = problem(n, p, 45)
    folds = [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), n_folds)]
    with threadpool_limits(1, user_api="blas"):
        alone = solve_ridge(X, Y, ALPHAS, folds, dtype="float64", search=search, criterion="mse")
    with threadpool_limits(4, user_api="blas"):
        for t in (45, 15):  # some tiles, each of a worker; or one, of which the workers make the operators
            beside = solve_ridge(X, Y[:, :t], ALPHAS, folds, dtype="float64", search=search, criterion="mse")
            np.testing.assert_array_equal(beside.alpha_index, alone.alpha_index[:t])
            np.testing.assert_allclose(beside.coef, alone.coef[:, :t], atol=1e-10)


def test_ties_take_the_largest_alpha():
    X = np.zeros((20, 3))
    X[0] = 1.0
    Y = np.random.default_rng(0).normal(size=(20, 2))
    constant = solve_ridge(X * 0, Y, [0.1, 1.0, 10.0], unequal_folds(20))
    assert (constant.alpha_index == 2).all()
    assert (constant.coef == 0).all()


def test_folds_need_not_cover_every_row():
    X, Y = problem(60, 20)
    splits = unequal_folds(60)[:2]
    solution = solve_ridge(X, Y, ALPHAS, splits, dtype="float64")
    np.testing.assert_allclose(solution.heldout_score, refitted_r2(X, Y, ALPHAS, splits, True), rtol=1e-8)


def test_leave_one_out_has_errors_but_no_r2():
    X, Y = problem(25, 5)
    splits = [(np.delete(np.arange(25), i), np.array([i])) for i in range(25)]
    solution = solve_ridge(X, Y, ALPHAS, splits, dtype="float64")
    assert np.isnan(solution.heldout_score).all()
    error = np.zeros((len(ALPHAS), 4))
    for train, test in splits:
        for i, alpha in enumerate(ALPHAS):
            error[i] += ((SklearnRidge(alpha=alpha).fit(X[train], Y[train]).predict(X[test]) - Y[test]) ** 2).sum(0)
    np.testing.assert_array_equal(solution.alpha_index, error.argmin(0))


@pytest.mark.parametrize(("n", "p"), [(60, 20), (60, 100), (60, 52)])
@pytest.mark.parametrize("gap", [False, True])
def test_torch_tensors_give_what_arrays_give(n, p, gap):
    torch = pytest.importorskip("torch")
    X, Y = problem(n, p)
    splits = with_gap(unequal_folds(n)) if gap else unequal_folds(n)
    ours = solve_ridge(X, Y, ALPHAS, splits, dtype="float64")
    theirs = solve_ridge(torch.from_numpy(X), torch.from_numpy(Y), ALPHAS, splits, dtype="float64")
    assert isinstance(theirs.coef, np.ndarray)
    np.testing.assert_allclose(ours.coef, theirs.coef, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(ours.heldout_score, theirs.heldout_score, rtol=1e-8)


def test_float32_products_choose_as_float64_ones():
    X, Y = problem(120, 200, n_targets=50)
    splits = unequal_folds(120)
    narrow, wide = (solve_ridge(X, Y, ALPHAS, splits, dtype=dtype) for dtype in ("float32", "float64"))
    assert narrow.coef.dtype == np.float32
    np.testing.assert_allclose(narrow.heldout_score, wide.heldout_score, atol=1e-5)


def test_heldout_error_is_a_sum_of_squares():
    X, Y = problem(30, 3)
    Y = Y - Y.mean(0)
    train, test = unequal_folds(30)[0]
    held = HeldOut(factorise(X), [(train, test)])
    error = held.loss(held.prepare(Y), 1e12, slice(0, Y.shape[1]))
    np.testing.assert_allclose(error, ((Y[test] - Y[train].mean(0)) ** 2).sum(0), rtol=1e-6)
