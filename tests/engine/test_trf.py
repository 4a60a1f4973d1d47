from dataclasses import replace

import numpy as np
import pytest

from brainalign.engine.lagged import lagged_sums, lay_out
from brainalign.engine.trf import solve_trf

N_LAGS, P = 4, 2
SMOOTH = np.kron(np.diff(np.eye(N_LAGS), axis=0).T @ np.diff(np.eye(N_LAGS), axis=0), np.eye(P))
FOLDS = [(np.array([1.0, 1, 0]), np.array([0.0, 0, 1])), (np.array([0.0, 1, 1]), np.array([1.0, 0, 0]))]


@pytest.fixture(scope="module")
def problem():
    """Return the lagged design, the targets, the cell of each row, and the sums."""
    rng = np.random.default_rng(0)
    x, code = rng.normal(size=(150, P)) + 1, np.repeat([0, 1, 2], 50)
    padded = np.vstack([np.zeros((N_LAGS - 1, P)), x])
    D = np.hstack([padded[i : i + 150] for i in range(N_LAGS)])
    y = D @ rng.normal(size=(N_LAGS * P, 3)) + 5 * rng.normal(size=(150, 3))
    line = lay_out([(np.arange(150), np.arange(150))], 0, N_LAGS - 1)
    return D, y, code, lagged_sums(x, y, line, np.zeros(P), code)


def direct(D, y, alpha, penalty):
    return np.linalg.solve(D.T @ D + alpha * penalty, D.T @ y)


@pytest.mark.parametrize("penalty", [None, SMOOTH], ids=["ridge", "smooth"])
@pytest.mark.parametrize("criterion", ["r2", "mse", "pearson"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("copies", [1, 7])
def test_every_alpha_and_fold_is_that_of_its_own_fit(problem, penalty, criterion, intercept, copies):
    """Of few targets, whose weights are turned back, and of many, for which the held-out sums are turned."""
    D, y, code, sums = problem
    alphas, P_ = np.array([0.1, 10.0, 1000.0]), np.eye(D.shape[1]) if penalty is None else penalty
    wide = replace(sums, target=np.tile(sums.target, copies), power=np.tile(sums.power, copies), products=np.concatenate(
        [sums.products[:, :P], np.tile(sums.products[:, P:-1], (1, copies, 1)), sums.products[:, -1:]], axis=1))  # fmt: skip
    solution = solve_trf(wide, alphas, FOLDS, fit_intercept=intercept, criterion=criterion, penalty=penalty)
    curves = []
    for alpha in alphas:
        error = cross = ss = total = n = 0
        for train, test in FOLDS:
            tr, te = train[code] > 0, test[code] > 0
            mean, centre = (D[tr].mean(axis=0), y[tr].mean(axis=0)) if intercept else (0, 0)
            p = (D[te] - mean) @ direct(D[tr] - mean, y[tr] - centre, alpha, P_) + centre
            own, apart = y[te] - y[te].mean(axis=0), p - p.mean(axis=0)
            error, total, n = error + ((y[te] - p) ** 2).sum(axis=0), total + (own**2).sum(axis=0), n + te.sum()
            cross, ss = cross + (own * apart).sum(axis=0), ss + (apart**2).sum(axis=0)
        curves.append({"r2": 1 - error / total, "mse": -error / n, "pearson": cross / np.sqrt(ss * total)}[criterion])
    np.testing.assert_array_equal(solution.alpha_index, np.tile(np.argmax(curves, axis=0), copies))
    np.testing.assert_allclose(solution.heldout_score, np.tile(np.max(curves, axis=0), copies), atol=1e-10)
    mean, centre = (D.mean(axis=0), y.mean(axis=0)) if intercept else (0, 0)
    for k in range(3):
        expected = direct(D - mean, (y - centre)[:, k], alphas[solution.alpha_index[k]], P_)
        np.testing.assert_allclose(solution.coef[:, k], expected, atol=1e-10)


def test_without_a_penalty_the_fit_of_smallest_norm(problem):
    _, y, code, _ = problem
    x = np.repeat(np.random.default_rng(0).normal(size=(150, 1)), 2, axis=1)
    line = lay_out([(np.arange(150), np.arange(150))], 0, 1)
    found = solve_trf(lagged_sums(x, y, line, np.zeros(2), code), np.zeros(1), None, fit_intercept=False)
    D = np.hstack([np.vstack([np.zeros((1, 2)), x[:-1]]), x])
    np.testing.assert_allclose(found.coef, np.linalg.pinv(D) @ y, atol=1e-10)


def test_directions_without_variance_or_penalty_are_left_out(problem):
    _, y, code, _ = problem
    x = np.random.default_rng(0).normal(size=(150, 1)) * np.array([1.0, 0.0])
    line = lay_out([(np.arange(150), np.arange(150))], 0, N_LAGS - 1)
    both = solve_trf(lagged_sums(x, y, line, np.zeros(2), code), np.ones(1), None, penalty=SMOOTH)
    alone = solve_trf(lagged_sums(x[:, :1], y, line, np.zeros(1), code), np.ones(1), None, penalty=SMOOTH[::P, ::P])
    np.testing.assert_allclose(both.coef[::2], alone.coef, atol=1e-9)
    np.testing.assert_allclose(both.coef[1::2], 0, atol=1e-9)


def test_scales_compete_for_each_target(problem):
    sums = problem[3]
    scales = np.stack([np.tile(scale, N_LAGS) for scale in ([1.0, 0.0], [0.0, 1.0], [0.6, 0.8])])
    alphas = np.array([1.0, 100.0])
    found = solve_trf(sums, alphas, FOLDS, scales=scales)
    alone = [solve_trf(sums, alphas, FOLDS, scales=scale[None]).heldout_score for scale in scales]
    np.testing.assert_allclose(found.heldout_score, np.max(alone, axis=0), rtol=1e-12)
    assert (found.scale_index == np.argmax(alone, axis=0)).all()
