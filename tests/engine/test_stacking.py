import numpy as np
import pytest
from scipy.optimize import minimize, nnls

from brainalign.engine.stacking import nonnegative_quadratic, stacking_weights


def problem(n_targets=40, n_predictions=5, seed=0, n=60, noise=2.0):
    rng = np.random.default_rng(seed)
    D = rng.normal(size=(n_targets, n, n_predictions)) + rng.normal(size=(n_targets, n, 1))
    y = (D @ rng.normal(size=(n_targets, n_predictions, 1)))[:, :, 0] + noise * rng.normal(size=(n_targets, n))
    return D, y, np.einsum("tni,tnj->tij", D, D), np.einsum("tni,tn->ti", D, y), (y**2).sum(1)


@pytest.mark.parametrize("n_predictions", [1, 2, 5, 30])
def test_nonnegative_weights_equal_those_of_scipy(n_predictions):
    D, y, gram, cross, total = problem(n_predictions=n_predictions)
    ours = stacking_weights(gram, cross, total, "nonnegative")
    np.testing.assert_allclose(ours, [nnls(d, t)[0] for d, t in zip(D, y, strict=True)], atol=1e-8)
    assert n_predictions == 1 or (ours == 0).any()


@pytest.mark.parametrize("n_predictions", [2, 5])
def test_weights_on_the_simplex_are_no_worse_than_those_of_a_solver(n_predictions):
    D, y, gram, cross, total = problem(n_predictions=n_predictions)
    ours = stacking_weights(gram, cross, total, "simplex")
    np.testing.assert_allclose(ours.sum(1), 1)
    assert (ours >= 0).all()
    for k in range(len(y)):
        error = lambda s, k=k: ((y[k] - D[k] @ s) ** 2).sum()  # noqa: E731
        sums_to_one = {"type": "eq", "fun": lambda s: s.sum() - 1}
        theirs = minimize(
            error, np.full(n_predictions, 1 / n_predictions), bounds=[(0, 1)] * n_predictions, constraints=[sums_to_one], method="SLSQP", options={"ftol": 1e-12}
        )  # fmt: skip
        assert error(ours[k]) <= theirs.fun * (1 + 1e-7)
        np.testing.assert_allclose(ours[k], theirs.x, atol=1e-4)


@pytest.mark.parametrize("constraint", ["nonnegative", "simplex"])
@pytest.mark.parametrize("scale", [1e-13, 1e5])
def test_units_change_no_weight(constraint, scale):
    _, _, gram, cross, total = problem()
    moved = stacking_weights(gram * scale**2, cross * scale**2, total * scale**2, constraint)
    np.testing.assert_allclose(moved, stacking_weights(gram, cross, total, constraint), atol=1e-7)


def test_two_equal_predictions_share_one_weight():
    _, _, gram, cross, total = problem(n_predictions=2)
    twice = np.array([0, 0, 1])
    for constraint in ("nonnegative", "simplex"):
        doubled = stacking_weights(gram[:, twice][:, :, twice], cross[:, twice], total, constraint)
        single = stacking_weights(gram, cross, total, constraint)
        np.testing.assert_allclose(np.c_[doubled[:, :2].sum(1), doubled[:, 2]], single, atol=1e-6)


def test_what_only_predicts_the_opposite_gets_nothing():
    assert stacking_weights(np.full((1, 1, 1), 2.0), np.array([[-1.0]]), np.array([1.0]), "nonnegative").tolist() == [[0.0]]
    assert stacking_weights(np.full((1, 1, 1), 2.0), np.array([[-1.0]]), np.array([1.0]), "simplex").tolist() == [[1.0]]


def test_a_perfect_prediction_and_one_of_nothing():
    gram, cross = np.array([[[4.0, 0.0], [0.0, 0.0]]]), np.array([[4.0, 0.0]])
    for constraint in ("nonnegative", "simplex"):
        np.testing.assert_allclose(stacking_weights(gram, cross, np.array([4.0]), constraint), [[1, 0]], atol=1e-9)
    zero = stacking_weights(0 * gram, 0 * cross, np.array([0.0]), "simplex")
    np.testing.assert_allclose(zero.sum(), 1)


def test_conditions_of_the_optimum_hold():
    _, _, A, b, _ = problem(n_targets=200, n_predictions=12, seed=3)
    u = nonnegative_quadratic(A, b)
    slope = np.einsum("tij,tj->ti", A, u) - b
    assert (u >= 0).all()
    assert (slope >= -1e-8 * np.abs(b).max()).all()
    np.testing.assert_allclose(u * slope, 0, atol=1e-7 * np.abs(b).max())
