"""Known answers: components found by singular vectors of deflated matrices, and every fold fitted anew."""

import numpy as np
import pytest

from brainalign.engine.gram import column_gram, row_gram
from brainalign.engine.pls import pls_rotations, solve_pls

SHAPES = [(60, 20), (40, 100), (40, 40), (30, 1)]


def problem(n, p, n_targets=5, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) / p**0.5 + 5
    return X, X @ rng.normal(size=(p, n_targets)) + 3 * rng.normal(size=(n, n_targets)) + 7


def textbook(X, Y, k):
    """Wold's algorithm with deflation, one singular value decomposition a component."""
    means = X.mean(0), Y.mean(0)
    x, y = X - means[0], Y - means[1]
    W, P, Q = [], [], []
    for _ in range(k):
        w = np.linalg.svd(x.T @ y, full_matrices=False)[0][:, 0]
        t = x @ w
        W, P, Q = [*W, w], [*P, x.T @ t / (t @ t)], [*Q, y.T @ t / (t @ t)]
        x, y = x - np.outer(t, P[-1]), y - np.outer(t, Q[-1])
    W, P, Q = (np.stack(a, 1) for a in (W, P, Q))
    return means, W @ np.linalg.inv(P.T @ W) @ Q.T


def unequal_folds(n, seed=1):
    order = np.random.default_rng(seed).permutation(n)
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.split(order, [n // 8, n // 3])]


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("k", [1, 4, 10])
def test_weights_equal_those_of_the_textbook(n, p, k):
    X, Y = problem(n, p)
    k = min(k, p)
    (x_mean, y_mean), coef = textbook(X, Y, k)
    solution = solve_pls(X, Y, [k], dtype="float64")
    np.testing.assert_allclose(solution.coef, coef, atol=1e-8 * np.abs(coef).max())
    np.testing.assert_allclose(solution.source_mean, x_mean)
    np.testing.assert_allclose(solution.target_mean, y_mean)


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("gap", [0, 3, 25])
def test_heldout_scores_equal_refitting_every_fold(n, p, gap):
    X, Y = problem(n, p)
    splits = [(train[min(gap, len(train) - 8) :], test) for train, test in unequal_folds(n)]
    candidates = np.arange(1, min(6, p) + 1)
    error, spread = np.zeros((len(candidates), 5)), np.zeros(5)
    for train, test in splits:
        spread += ((Y[test] - Y[test].mean(0)) ** 2).sum(0)
        for i, k in enumerate(candidates):
            (x_mean, y_mean), coef = textbook(X[train], Y[train], k)
            error[i] += (((X[test] - x_mean) @ coef + y_mean - Y[test]) ** 2).sum(0)
    solution = solve_pls(X, Y, candidates, splits, dtype="float64")
    np.testing.assert_allclose(solution.heldout_r2, 1 - error / spread, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(solution.n_components, candidates[error.argmin(0)])


def test_each_target_gets_the_weights_of_its_own_number_of_components():
    X, Y = problem(80, 30, n_targets=12)
    Y = Y * np.logspace(0, 2, 12) + 20 * np.random.default_rng(3).normal(size=Y.shape)
    solution = solve_pls(X, Y, [1, 3, 9], unequal_folds(80), dtype="float64")
    assert len(np.unique(solution.n_components)) > 1
    for column, k in enumerate(solution.n_components):
        np.testing.assert_allclose(solution.coef[:, column], textbook(X, Y, k)[1][:, column], atol=1e-7)


def test_scores_are_uncorrelated_and_of_unit_size():
    X, Y = problem(60, 20)
    X, Y = X - X.mean(0), Y - Y.mean(0)
    R = pls_rotations(column_gram(X), row_gram(X.T @ Y), 8)
    np.testing.assert_allclose((X @ R).T @ (X @ R), np.eye(8), atol=1e-9)


def test_components_end_where_nothing_is_left_to_explain():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 2)) @ rng.normal(size=(2, 10))
    Y = X @ rng.normal(size=(10, 3))
    solution = solve_pls(X, Y, [6], dtype="float64")
    np.testing.assert_allclose((X - X.mean(0)) @ solution.coef, Y - Y.mean(0), atol=1e-9)
    assert (solve_pls(X, 0 * Y, [6]).coef == 0).all()
    assert (solve_pls(X, Y, [1, 2, 3, 4], unequal_folds(50), dtype="float64").n_components <= 2).all()


def test_leave_one_out_has_choices_but_no_r2():
    X, Y = problem(25, 6)
    solution = solve_pls(X, Y, [1, 2, 3], [(np.delete(np.arange(25), i), np.array([i])) for i in range(25)])
    assert np.isnan(solution.heldout_r2).all()
    assert set(solution.n_components) <= {1, 2, 3}


@pytest.mark.parametrize("p", [15, 150])
@pytest.mark.parametrize(("scale", "offset"), [(1e-13, 0.0), (1.0, 1e3), (1e5, -1e8)])
def test_units_and_offsets_change_no_choice(p, scale, offset):
    X, Y = problem(60, p)
    splits = unequal_folds(60)
    plain, moved = (solve_pls(a, b, [1, 2, 4, 8], splits) for a, b in ((X, Y), (scale * X + offset, scale * Y + offset)))
    np.testing.assert_array_equal(plain.n_components, moved.n_components)
    np.testing.assert_allclose(plain.coef, moved.coef, atol=2e-4)


@pytest.mark.parametrize("p", [15, 150])
def test_float32_products_choose_as_float64_ones(p):
    X, Y = (a.astype(np.float32) for a in problem(60, p))
    narrow, wide = (solve_pls(X, Y, [1, 2, 4, 8], unequal_folds(60), dtype=dtype) for dtype in ("float32", "float64"))
    assert narrow.coef.dtype == np.float32
    np.testing.assert_allclose(narrow.heldout_r2, wide.heldout_r2, atol=1e-5)
    np.testing.assert_allclose(narrow.coef, wide.coef, atol=1e-4)


@pytest.mark.parametrize("p", [15, 150])
def test_torch_tensors_give_what_arrays_give(p):
    torch = pytest.importorskip("torch")
    X, Y = problem(60, p)
    ours, theirs = (
        solve_pls(a, b, [1, 2, 4], unequal_folds(60), dtype="float64") for a, b in ((X, Y), (torch.from_numpy(X), torch.from_numpy(Y)))
    )  # fmt: skip
    assert isinstance(theirs.coef, np.ndarray)
    np.testing.assert_allclose(ours.coef, theirs.coef, atol=1e-8)
    np.testing.assert_allclose(ours.heldout_r2, theirs.heldout_r2, rtol=1e-7)
