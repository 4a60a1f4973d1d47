import numpy as np

from brainalign.engine.rdm_models import residual_units


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
