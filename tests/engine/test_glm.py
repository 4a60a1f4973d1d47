import numpy as np
import pytest
from scipy.optimize import minimize

from brainalign.engine import glm
from brainalign.engine.glm import deviance, fit_poisson


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    return X, rng.poisson(np.exp(X @ rng.normal(size=(4, 5)) * 0.5 + [-2, -1, 0, 1, 2])).astype(float)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("stack", [2**22, 1])
def test_the_objective_is_at_its_least(sides, intercept, stack, monkeypatch):
    monkeypatch.setattr(glm, "_STACK", stack)
    (X, Y), alpha = sides, np.array([0.1, 1.0, 10.0, 100.0, 1.0])
    found = fit_poisson(X, Y, alpha, fit_intercept=intercept)
    assert found.converged.all()
    gradient = X.T @ (np.exp(found.log_rate(X)) - Y) + alpha * found.coef
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    if intercept:
        np.testing.assert_allclose(np.exp(found.log_rate(X)).sum(axis=0), Y.sum(axis=0), rtol=1e-9)

    def objective(w):
        log_rate = X @ w[:4] + (w[4] if intercept else 0)
        return (np.exp(log_rate) - Y[:, 2] * log_rate).sum() + alpha[2] * (w[:4] ** 2).sum() / 2

    least = minimize(objective, np.zeros(4 + intercept), method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(found.coef[:, 2], least.x[:4], atol=1e-5)


def test_steps_that_go_too_far_are_halved_and_a_start_changes_nothing(sides):
    X, Y = 30 * sides[0], sides[1]
    alone = fit_poisson(X, Y, np.full(5, 1e-3))
    started = fit_poisson(X, Y, np.full(5, 1e-3), start=fit_poisson(X, Y, np.full(5, 1e6)))
    assert alone.converged.all()
    np.testing.assert_allclose(started.coef, alone.coef, atol=1e-9)


def test_a_rate_that_goes_to_zero_does_no_harm():
    X = np.r_[np.ones(10), np.zeros(10)][:, None]
    Y = np.stack([1 - X[:, 0], np.arange(20) % 3], axis=1)  # the first never fires where the feature is 1
    for alpha in (0.0, 1.0):
        found = fit_poisson(X, Y, np.full(2, alpha))
        assert found.converged.all()
        assert found.coef[0, 0] < -1
        assert np.isfinite(found.coef).all()


def test_deviance_of_the_truth_is_zero_and_of_silence_infinite():
    Y = np.array([[0.0, 1.0], [3.0, 2.0]])
    np.testing.assert_allclose(deviance(Y, Y), 0)
    assert deviance(Y, np.zeros((2, 2)))[0] == np.inf
