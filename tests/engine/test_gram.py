import numpy as np
import pytest

from brainalign.engine import gram
from brainalign.engine.gram import column_gram, row_gram, wide_matmul


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
