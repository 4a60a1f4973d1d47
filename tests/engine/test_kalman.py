import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from brainalign.engine.kalman import Dynamics, Evidence, discriminative_evidence, filter_states, learn_dynamics, linear_evidence


def system(d=3, p=8, n=60, seed=0):
    """Return dynamics, H, R and observed rows of a stationary linear-Gaussian system."""
    rng = np.random.default_rng(seed)
    A = 0.9 * np.linalg.qr(rng.normal(size=(d, d)))[0]
    noise = (root := rng.normal(size=(d, d))) @ root.T / d
    H, R = rng.normal(size=(p, d)), (root := rng.normal(size=(p, p))) @ root.T / p + np.eye(p)
    dynamics = Dynamics(A, noise, solve_discrete_lyapunov(A, noise))
    z = [rng.multivariate_normal(np.zeros(d), dynamics.prior)]
    for _ in range(n - 1):
        z.append(A @ z[-1] + rng.multivariate_normal(np.zeros(d), noise))
    return dynamics, H, R, np.array(z), np.array(z) @ H.T + rng.multivariate_normal(np.zeros(p), R, n)


def conditioned(dynamics, H, R, x):
    """Return E[z_T | x_1..x_T] and its covariance from the joint Gaussian of all states and rows, inverted as a whole."""
    A, _, S = dynamics
    T, d = len(x), len(S)
    powers = [np.linalg.matrix_power(A, k) for k in range(T)]
    joint = np.block([[powers[t - s] @ S if t >= s else (powers[s - t] @ S).T for s in range(T)] for t in range(T)])
    lift = np.kron(np.eye(T), H)
    gain = joint @ lift.T @ np.linalg.inv(lift @ joint @ lift.T + np.kron(np.eye(T), R))
    return (gain @ x.ravel())[-d:], (joint - gain @ lift @ joint)[-d:, -d:]


def test_the_kalman_filter_is_gaussian_conditioning_on_all_rows_so_far():
    dynamics, H, R, _, x = system(n=12)
    mean, covariance = filter_states(linear_evidence(x, H, R), dynamics)
    for t in (0, 1, 5, 11):
        expected = conditioned(dynamics, H, R, x[: t + 1])
        np.testing.assert_allclose(mean[t], expected[0], atol=1e-10)
        np.testing.assert_allclose(covariance[t], expected[1], atol=1e-10)


@pytest.mark.parametrize("p", [8, 2], ids=["more features than states", "fewer"])
def test_the_discriminative_filter_with_the_exact_regressor_is_the_kalman_filter(p):
    dynamics, H, R, _, x = system(p=p)
    weights = np.linalg.solve(R, H)
    Q = np.linalg.inv(np.linalg.inv(dynamics.prior) + H.T @ weights)
    evidence, guarded = discriminative_evidence(x @ weights @ Q, Q[None], dynamics.prior)
    ours, theirs = filter_states(evidence, dynamics), filter_states(linear_evidence(x, H, R), dynamics)
    assert not guarded.any()
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-10)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-10)


def test_the_recursion_is_that_of_the_paper_from_the_first_row_on():
    dynamics, *_ = system(d=2)
    rng = np.random.default_rng(1)
    f, root = rng.normal(size=(6, 2)), rng.normal(size=(6, 2, 2))
    prior_inverse = np.linalg.inv(dynamics.prior)
    Q = np.linalg.inv(prior_inverse + root @ root.transpose(0, 2, 1) + 0.1 * np.eye(2))
    mean, covariance = filter_states(discriminative_evidence(f, Q, dynamics.prior)[0], dynamics)
    mu, sigma = f[0], Q[0]
    for t in range(6):
        if t:
            M = np.linalg.inv(dynamics.transition @ sigma @ dynamics.transition.T + dynamics.noise)
            before = dynamics.transition @ mu
            sigma = np.linalg.inv(M + np.linalg.inv(Q[t]) - prior_inverse)
            mu = sigma @ (M @ before + np.linalg.solve(Q[t], f[t]))
        np.testing.assert_allclose(mean[t], mu, atol=1e-10)
        np.testing.assert_allclose(covariance[t], sigma, atol=1e-10)


def test_a_regressor_less_certain_than_the_prior_is_guarded_row_by_row_and_the_robust_form_needs_no_guard():
    prior, f = np.eye(2), np.ones((3, 2))
    Q = np.stack([0.5 * np.eye(2), np.diag([0.5, 2.0]), 3 * np.eye(2)])
    evidence, guarded = discriminative_evidence(f, Q, prior)
    assert guarded.tolist() == [False, True, True]
    np.testing.assert_allclose(evidence.precision[0], np.eye(2))
    np.testing.assert_allclose(evidence.precision[1:], np.linalg.inv(Q[1:]))  # of (Q⁻¹ + S⁻¹)⁻¹, less S⁻¹
    np.testing.assert_allclose(evidence.potential[2], 1 / 3 + 1)
    robust, none = discriminative_evidence(f, Q, prior, robust=True)
    assert not none.any()
    np.testing.assert_allclose(robust.precision, np.linalg.inv(Q))
    np.testing.assert_allclose(robust.potential, np.linalg.inv(Q) @ np.ones(2))


def test_dynamics_are_learned_within_stretches_only():
    dynamics, _, _, z, _ = system(n=20_000)
    learned = learn_dynamics(z, [np.arange(20_000)])
    for ours, true in zip(learned, dynamics, strict=True):
        np.testing.assert_allclose(ours, true, atol=0.1)
    # two runs that follow z' = z / 2 exactly, and a jump between them that no step may explain
    two = np.array([8.0, 4.0, 2.0, -8.0, -4.0, -2.0])[:, None]
    exact = learn_dynamics(two, [np.arange(3), np.arange(3, 6)])
    np.testing.assert_allclose([exact.transition, exact.noise], [[[0.5]], [[0.0]]], atol=1e-12)


def test_a_state_that_is_part_exact_needs_no_inverse_of_its_noise():
    A, noise = np.array([[0.9, 0.1], [0.0, 0.9]]), np.diag([0.0, 1.0])  # a position that its velocity moves exactly
    dynamics = Dynamics(A, noise, solve_discrete_lyapunov(A, noise))
    mean, _ = filter_states(Evidence(np.zeros((1, 2, 2)), np.zeros((5, 2))), dynamics)
    np.testing.assert_array_equal(mean, 0)
    _, covariance = filter_states(Evidence(np.zeros((1, 2, 2)), np.zeros((5, 2))), dynamics)
    np.testing.assert_allclose(covariance, np.broadcast_to(dynamics.prior, (5, 2, 2)), atol=1e-10)
