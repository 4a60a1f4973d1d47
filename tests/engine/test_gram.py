import numpy as np
import pytest

from brainalign.engine import gram
from brainalign.engine.gram import column_gram, column_scale, inverse, row_gram, wide_matmul


@pytest.mark.parametrize("block", [1, 64, 2**24])
def test_blocks_change_nothing(monkeypatch, block):
    monkeypatch.setattr(gram, "_BLOCK", block)
    x = np.random.default_rng(0).normal(size=(23, 7)).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(column_gram(x), wide.T @ wide, rtol=1e-12)
    np.testing.assert_allclose(row_gram(x), wide @ wide.T, rtol=1e-12)
    np.testing.assert_allclose(wide_matmul(x, wide.T), wide @ wide.T, rtol=1e-12)


def test_accumulates_in_float64():
    x = np.full((10**6, 1), 1.1, dtype=np.float32)
    assert column_gram(x).dtype == np.float64
    np.testing.assert_allclose(column_gram(x)[0, 0], 10**6 * float(np.float32(1.1)) ** 2, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool", "float32"])
def test_deviations_of_counts(dtype):
    x = np.array([[0, 3, 1], [1, 3, 0], [1, 3, 0]]).astype(dtype)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(column_scale(x), np.where(np.ptp(wide, axis=0) > 0, wide.std(axis=0), 1.0))


@pytest.mark.parametrize("k", [1, 31, 32, 33, 64, 65, 129, 300])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_inverses_of_positive_definite_matrices(k, dtype):
    x = np.random.default_rng(k).normal(size=(3, k, 2 * k))
    stack = (np.eye(k) + x @ x.swapaxes(1, 2) / k).astype(dtype)
    found = inverse(stack)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, np.linalg.inv(stack.astype(np.float64)), atol=50 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found, found.swapaxes(1, 2), atol=50 * np.finfo(dtype).eps)


@pytest.mark.parametrize("k", [8, 80])
def test_a_matrix_that_is_not_positive_definite_has_a_pseudo_inverse_and_the_others_their_inverses(k):
    good, singular = 2 * np.eye(k), np.zeros((k, k))
    singular[0, 0] = 4.0
    np.testing.assert_allclose(inverse(np.stack([good, singular, good])), [good / 4, singular / 16, good / 4], atol=1e-15)
