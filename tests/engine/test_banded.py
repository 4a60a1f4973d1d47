import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from brainalign.engine.banded import solve_banded
from brainalign.engine.solvers import solve_ridge

ALPHAS = np.logspace(-1, 4, 11)
BANDS = [np.arange(0, 10), np.arange(10, 40), np.arange(40, 55)]


def problem(n=120, p=55, n_targets=30, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) * np.repeat([1.0, 0.1, 30.0], [10, p - 25, 15]) + 3
    Z = (X - X.mean(0)) / X.std(0)
    mix = rng.dirichlet([0.4] * 3, n_targets).T
    signal = sum(Z[:, b] @ rng.normal(size=(len(b), n_targets)) * (m / len(b)) ** 0.5 for b, m in zip(BANDS, mix, strict=True))
    return X, signal + rng.normal(size=(n, n_targets)) + 7, mix


def folds(n, k=5, gap=0):
    blocks = np.array_split(np.arange(n), k)
    return [(np.setdiff1d(np.arange(n), np.arange(b[0] - gap, b[-1] + gap + 1)), b) for b in blocks]


def brute(X, Y, gammas, scale, splits):
    """Ridge on weighted columns for every candidate: the best of all by error on held-out rows."""
    error = []
    for gamma in gammas:
        root = np.zeros(X.shape[1])
        for b, columns in enumerate(BANDS):
            root[columns] = (gamma[b] * scale[b]) ** 0.5
        Z = (X - X.mean(0)) * root
        total = np.zeros((len(ALPHAS), Y.shape[1]))
        for train, test in splits:
            mean, y_mean = Z[train].mean(0), Y[train].mean(0)
            A, b = Z[train] - mean, Y[train] - y_mean
            for i, alpha in enumerate(ALPHAS):
                w = np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ b)
                total[i] += ((Y[test] - y_mean - (Z[test] - mean) @ w) ** 2).sum(0)
        error.append(total)
    return np.array(error)


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("n", [120, 60, 40], ids=["p<n", "short folds", "p>n"])
def test_all_candidates_are_scored_as_if_every_fold_were_fitted_anew(n, gap):
    X, Y, _ = problem(n)
    splits = folds(n, gap=gap)
    gammas = np.array([[1.0, 0, 0], [0, 0.5, 0.5], [0.2, 0.3, 0.5], [0.6, 0.2, 0.2]])
    found = solve_banded(X, Y, BANDS, ALPHAS, splits, gammas, search="all", dtype="float64")
    error = brute(X, Y, gammas, found.scale, splits)
    best = error.min(axis=(0, 1))
    spread = sum(((Y[test] - Y[test].mean(0)) ** 2).sum(0) for _, test in splits)
    np.testing.assert_allclose(found.heldout_r2, 1 - best / spread, atol=1e-8)
    np.testing.assert_array_equal(error[found.candidate_index, found.alpha_index, np.arange(30)], best)


@pytest.mark.parametrize(("n", "lost"), [(200, 0.02), (45, 0.05)], ids=["p<n", "p>n"])
def test_screening_loses_little_of_the_best_of_all_noisy_scores(n, lost):
    X, Y, _ = problem(n)
    gammas = np.random.default_rng(0).dirichlet([0.5] * 3, 25)
    screened, full = (solve_banded(X, Y, BANDS, ALPHAS, folds(n), gammas, search=s, dtype="float64") for s in ("screen", "all"))
    assert (full.heldout_r2 >= screened.heldout_r2 - 1e-12).all()
    assert (full.heldout_r2 - screened.heldout_r2).mean() < lost


def test_the_refined_list_predicts_new_rows_nearly_as_well_as_a_dense_one():
    X, Y, _ = problem(900)
    rng = np.random.default_rng(1)
    dense = np.concatenate([rng.dirichlet([c] * 3, 150) for c in (0.2, 1.0)])
    errors = []
    for candidates in (50, dense):
        found = solve_banded(X[:300], Y[:300], BANDS, ALPHAS, folds(300), candidates, dtype="float64")
        predicted = (X[300:] - found.source_mean) @ found.coef + found.target_mean
        errors.append(((Y[300:] - predicted) ** 2).mean() / Y.var())
    assert errors[0] < errors[1] + 0.005


def test_bands_without_signal_are_left_out_exactly():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 55))
    Y = X[:, :10] @ rng.normal(size=(10, 20)) + 3 * rng.normal(size=(400, 20))
    found = solve_banded(X, Y, BANDS, ALPHAS, folds(400), 50)
    weights = found.candidates[found.candidate_index]
    assert (weights[:, 0] > 0.8).all()
    zero = weights == 0
    assert zero[:, 1:].mean() > 0.5
    for b, columns in enumerate(BANDS):
        assert (found.coef[np.ix_(columns, np.flatnonzero(zero[:, b]))] == 0).all()


def test_units_and_widths_of_bands_do_not_matter():
    X, Y, _ = problem()
    root = np.repeat([1e-3, 7.0, 100.0], [10, 30, 15])
    doubled = [np.concatenate([b, b + 55]) for b in BANDS]
    plain = solve_banded(X, Y, BANDS, ALPHAS * 55, folds(120), 50, dtype="float64")
    total = lambda x: ((x - x.mean(0)) ** 2).sum()  # noqa: E731
    scaled = solve_banded(X * root, Y, BANDS, ALPHAS * 55 * total(X * root) / total(X), folds(120), 50, dtype="float64")
    np.testing.assert_array_equal(scaled.candidate_index, plain.candidate_index)
    np.testing.assert_allclose(scaled.coef * root[:, None], plain.coef, atol=1e-8)
    twice = solve_banded(np.hstack([X, X]), Y, doubled, ALPHAS * 110, folds(120), 50, dtype="float64")
    np.testing.assert_allclose(twice.coef[:55] + twice.coef[55:], plain.coef, atol=1e-6)


def test_precision_tiles_and_order_of_targets_change_nothing():
    X, Y, _ = problem()
    wide = solve_banded(X, Y, BANDS, ALPHAS, folds(120), 50, dtype="float64")
    tiled = solve_banded(X, Y, BANDS, ALPHAS, folds(120), 50, dtype="float64", target_batch=7)
    np.testing.assert_array_equal(tiled.alpha_index, wide.alpha_index)
    np.testing.assert_allclose(tiled.coef, wide.coef, atol=1e-10)
    backward = solve_banded(X, Y[:, ::-1], BANDS, ALPHAS, folds(120), wide.candidates, dtype="float64")
    np.testing.assert_allclose(backward.heldout_r2[::-1], wide.heldout_r2, atol=0.01)
    narrow = solve_banded(X.astype("float32"), Y.astype("float32"), BANDS, ALPHAS, folds(120), wide.candidates)
    np.testing.assert_allclose(narrow.heldout_r2, wide.heldout_r2, atol=1e-3)


@pytest.mark.parametrize("n", [120, 50])
@pytest.mark.parametrize("search", ["screen", "all"])
def test_workers_change_nothing(n, search):
    X, Y, _ = problem(n)
    found = []
    for threads in (1, 4):
        with threadpool_limits(threads, user_api="blas"):
            found.append(solve_banded(X, Y, BANDS, ALPHAS, folds(n), candidates=12, search=search, dtype="float64"))
    for name in ("alpha_index", "candidate_index"):
        np.testing.assert_array_equal(*(getattr(solution, name) for solution in found))
    np.testing.assert_allclose(*(solution.coef for solution in found), atol=1e-8)


def test_torch_and_numpy_agree():
    torch = pytest.importorskip("torch")
    for n in (120, 40):
        X, Y, _ = problem(n)
        ours = solve_banded(X, Y, BANDS, ALPHAS, folds(n), 40, dtype="float64")
        theirs = solve_banded(torch.as_tensor(X), torch.as_tensor(Y), BANDS, ALPHAS, folds(n), 40, dtype="float64")
        np.testing.assert_array_equal(ours.candidate_index, theirs.candidate_index)
        np.testing.assert_allclose(ours.coef, theirs.coef, atol=1e-9)


@pytest.mark.parametrize("n", [120, 40])
def test_a_band_that_is_empty_or_constant_takes_no_part(n):
    X, Y, _ = problem(n)
    X[:, BANDS[2]] = 4.0
    lost = [BANDS[0], BANDS[1], np.empty(0, dtype=int)]
    for bands in (BANDS, lost):
        found = solve_banded(X, Y, bands, ALPHAS, folds(n), 50)
        assert np.isfinite(found.coef).all()
        assert (found.coef[BANDS[2]] == 0).all()
    nothing = solve_banded(X, Y, BANDS, ALPHAS, folds(n), np.array([[0.0, 0, 1]]))
    assert (nothing.coef == 0).all()


def test_one_candidate_is_ridge_on_weighted_columns():
    X, Y, _ = problem()
    found = solve_banded(X, Y, [np.arange(55)], ALPHAS, folds(120), 50, dtype="float64")
    plain = solve_ridge(X, Y, ALPHAS, folds(120), dtype="float64")
    np.testing.assert_array_equal(found.alpha_index, plain.alpha_index)
    np.testing.assert_allclose(found.coef, plain.coef, atol=1e-10)
    np.testing.assert_array_equal(found.scale, [1.0])
