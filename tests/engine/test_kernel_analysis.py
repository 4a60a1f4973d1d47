"""Kernel analysis: golden values, the projection written out, and kernels of low rank."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from brainalign.engine.kernel_analysis import error_curve, gaussian_error_curve


@pytest.fixture(scope="module")
def waves():
    X = np.random.RandomState(42).uniform(-1, 1, [100, 1])
    return X, (np.cos(4 * np.pi * X) > 0) * np.array([[1.0, -1.0]])


def test_golden_values(waves):
    """bangmetric's linear kernel; its Gaussian ones with the sorted quantiles that it discards."""
    X, Y = waves
    assert error_curve(X @ X.T, Y)[1] == pytest.approx(0.9791195552917774, abs=1e-14)
    error = gaussian_error_curve(X, Y)
    assert error[[0, 1, 6]] == pytest.approx([1.0, 0.9261098631, 0.7523116786], abs=1e-10)


def test_no_component_adds_to_the_error_and_those_a_kernel_lacks_change_nothing(waves):
    X, Y = waves
    error = error_curve(X @ X.T, Y)
    assert error.shape == (101,)
    np.testing.assert_array_equal(error[1:], error[1])
    assert (np.diff(gaussian_error_curve(X, Y)) <= 0).all()


def test_all_components_explain_what_ridge_without_penalty_does():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(20, 6)), rng.normal(size=(20, 2))
    centred, wanted = X - X.mean(0), Y - Y.mean(0)
    fitted = KernelRidge(alpha=1e-9).fit(centred, wanted).predict(centred)
    left = ((wanted - fitted) ** 2).sum() / (wanted**2).sum()
    assert error_curve(X @ X.T, Y)[-1] == pytest.approx(left, abs=1e-6)


def test_rows_that_are_mostly_alike_are_undefined(waves):
    assert np.isnan(gaussian_error_curve(np.zeros((100, 2)), waves[1])).all()
