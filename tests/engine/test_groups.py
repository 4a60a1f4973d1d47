import numpy as np
import pytest

from brainalign.engine.groups import group_sums


@pytest.mark.parametrize("times", [(), (3,)])
def test_sums_and_counts(times):
    values = np.random.default_rng(0).normal(size=(20, 5, *times)).astype(np.float32)
    codes = np.random.default_rng(1).integers(0, 6, 20)
    sums, counts = group_sums(values, codes, 8)
    assert sums.dtype == np.float64
    for group in range(8):
        np.testing.assert_allclose(sums[group], values[codes == group].sum(axis=0, dtype=np.float64), rtol=1e-12)
        assert counts[group] == (codes == group).sum()


def test_one_row_a_group_is_not_copied_in_order_and_sorted_otherwise():
    values = np.random.default_rng(0).normal(size=(4, 3))
    assert np.shares_memory(group_sums(values, np.arange(4), 4)[0], values)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(group_sums(values, order, 4)[0][order], values)
