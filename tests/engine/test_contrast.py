"""d′ from sums: a closed form, numpy's variances, weights and labels side by side."""

import numpy as np
import pytest

from brainalign.engine.contrast import dprime, scaled


def plain(x, label):
    a, b = x[label > 0], x[label == 0]
    return (a.mean(axis=0) - b.mean(axis=0)) / np.sqrt((a.var(axis=0, ddof=1) + b.var(axis=0, ddof=1)) / 2)


@pytest.fixture
def values():
    return (np.random.default_rng(0).normal(size=(50, 8)) + 3) * np.logspace(-12, 12, 8)


def test_equals_means_and_variances(values):
    labels = np.stack([np.arange(50) < 20, np.arange(50) % 3 == 0], axis=1) * 1.0
    found = dprime(scaled(values), labels[:, None], np.ones((50, 1)))[0]
    wanted = np.stack([plain(values, label) for label in labels.T], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


def test_weights_are_rows_that_are_there_as_often(values):
    label, count = (np.arange(50) < 20) * 1.0, np.random.default_rng(1).integers(0, 4, 50)
    found = dprime(scaled(values), (label * count)[:, None, None], count[:, None].astype(float))[0, :, 0]
    again = np.repeat(np.arange(50), count)
    np.testing.assert_allclose(found, plain(values[again], label[again]), rtol=1e-9)


def test_one_row_has_no_spread(values):
    assert np.isnan(dprime(scaled(values), np.eye(50)[:, :1, None], np.ones((50, 1)))).all()


def test_columns_are_scaled_and_constant_ones_are_zero():
    z = scaled(np.array([[1.0, 5.0], [3.0, 5.0]]))
    assert z.tolist() == [[-1.0, 0.0], [1.0, 0.0]]
