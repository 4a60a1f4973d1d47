import numpy as np
from scipy.optimize import nnls

from brainalign.engine.rdm_models import fit_weights, regress, residual_units


def units(shape, seed):
    x = np.random.default_rng(seed).normal(size=shape)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_residuals_are_those_of_least_squares():
    x, z = units((3, 40), 0), units((2, 40), 1)
    left = x.T - z.T @ np.linalg.lstsq(z.T, x.T, rcond=None)[0]
    np.testing.assert_allclose(residual_units(x, z), (left / np.linalg.norm(left, axis=0)).T, rtol=1e-10)


def test_what_controls_span_leaves_nothing_and_a_control_that_does_not_vary_takes_nothing():
    x, z = units((3, 40), 0), units((2, 40), 1)
    spanned = (z[:1] - 2 * z[1:]) / np.linalg.norm(z[0] - 2 * z[1])
    assert np.isnan(residual_units(spanned, z)).all()
    repeated = np.concatenate([z, z, np.full((1, 40), np.nan)])
    np.testing.assert_allclose(residual_units(x, repeated), residual_units(x, z), rtol=1e-9)
    np.testing.assert_allclose(residual_units(x, np.full((1, 40), np.nan)), x)


def test_weights_of_a_mixture_are_found_and_those_of_a_nonnegative_one_are_those_of_nnls():
    parts, weights = (
        units((4, 60), 0) * np.array([[1.0], [30.0], [0.1], [4.0]]),
        np.array([[0.5, 0.0, 2.0, 1.0], [0.0, 3.0, 0.0, 0.2]]),
    )
    for model in ("weighted", "free"):
        np.testing.assert_allclose(fit_weights(parts, weights @ parts, model), weights, atol=1e-9)
    noise = np.random.default_rng(1).normal(size=(6, 60))
    np.testing.assert_allclose(fit_weights(parts, noise, "weighted"), [nnls(parts.T, y)[0] for y in noise], atol=1e-8)
    np.testing.assert_allclose(fit_weights(parts, noise, "free"), np.linalg.lstsq(parts.T, noise.T, rcond=None)[0].T)


def test_interpolation_finds_the_place_between_two_neighbours():
    parts = units((4, 60), 0)
    targets = np.stack([0.3 * parts[1] + 0.7 * parts[2], 5 * parts[3], -parts[0] - parts[1] - parts[2] - parts[3]])
    expected = [[0, 0.3, 0.7, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    np.testing.assert_allclose(fit_weights(parts, targets, "interpolated"), expected, atol=1e-9)


def test_no_combination_of_a_cone_has_a_larger_cosine():
    parts, targets = units((3, 40), 0), units((5, 40), 1)
    best = residual_free_cosine(fit_weights(parts, targets, "weighted") @ parts, targets)
    tried = np.random.default_rng(2).random((500, 3)) @ parts
    others = (tried / np.linalg.norm(tried, axis=1, keepdims=True)) @ targets.T
    found = np.isfinite(best)
    assert found.any()
    assert (best[found] >= others.max(axis=0)[found]).all()
    assert (others.max(axis=0)[~found] <= 0.05).all()


def residual_free_cosine(x, y):
    length = np.linalg.norm(x, axis=1)
    return np.where(length > 0, (x * y).sum(axis=1) / np.where(length > 0, length, 1), np.nan)


def test_unique_share_is_what_r2_loses_without_a_component():
    parts, targets = units((3, 40), 0), units((5, 40), 1)
    coefficients, unique, r2 = regress(parts, targets)
    np.testing.assert_allclose(coefficients, np.linalg.lstsq(parts.T, targets.T, rcond=None)[0])
    np.testing.assert_allclose(r2, 1 - ((targets - coefficients.T @ parts) ** 2).sum(axis=1))
    for k in range(3):
        without = regress(np.delete(parts, k, axis=0), targets)[2]
        np.testing.assert_allclose(unique[k], r2 - without, atol=1e-12)
