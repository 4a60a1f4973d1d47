import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.engine.columns import ColumnFacts, same_as


def in_blocks(values, rows, columns):
    facts = ColumnFacts(values.shape)
    for a in range(0, values.shape[0], rows):
        for b in range(0, values.shape[1], columns):
            at, across = slice(a, min(a + rows, values.shape[0])), slice(b, min(b + columns, values.shape[1]))
            facts.add(at, across, values[at, across])
    return facts


@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 9), st.sampled_from(["f4", "f8", "i2"]), st.booleans())
@settings(max_examples=40)
def test_facts_do_not_depend_on_the_blocks(seed, rows, columns, dtype, timed):
    values = np.random.default_rng(seed).integers(-3, 4, size=(20, 9, 2) if timed else (20, 9)).astype(dtype)
    facts, flat = in_blocks(values, rows, columns), np.moveaxis(values.astype(float), 1, 0).reshape(9, -1)
    np.testing.assert_array_equal(facts.minimum, flat.min(axis=1))
    np.testing.assert_array_equal(facts.maximum, flat.max(axis=1))
    np.testing.assert_array_equal(facts.n_maximum[0], (flat == flat.max(axis=1, keepdims=True)).sum(axis=1))
    second = np.where(flat == flat.min(axis=1, keepdims=True), np.inf, flat).min(axis=1, keepdims=True)
    np.testing.assert_array_equal(facts.n_minimum[1], np.where(np.isinf(second), 0, flat == second).sum(axis=1))
    np.testing.assert_allclose(facts.mean, flat.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(facts.sd, flat.std(axis=1), atol=1e-7)
    equal = [[bool((a == b).all()) for b in flat] for a in flat]
    np.testing.assert_array_equal(facts.column_key[:, None] == facts.column_key, equal)
    by_row = values.reshape(20, -1)
    np.testing.assert_array_equal(facts.row_key[:, None] == facts.row_key, (by_row[:, None] == by_row).all(axis=-1))
    assert facts.all_whole


def test_nan_and_infinity_are_counted_and_left_out():
    values = np.float32([[1, np.nan, np.nan], [2, np.inf, 5], [4, 3, 5]])
    facts = in_blocks(values, 1, 3)
    np.testing.assert_array_equal(facts.n_bad, [0, 2, 1])
    np.testing.assert_array_equal(facts.minimum, [1, 3, 5])
    np.testing.assert_allclose(facts.mean, [7 / 3, 3, 5])
    assert not in_blocks(values + np.float32(0.5), 2, 2).all_whole
    empty = in_blocks(np.full((3, 1), np.nan, "f4"), 2, 1)
    assert np.isnan([empty.minimum[0], empty.mean[0], empty.sd[0]]).all()


def test_spread_far_from_zero_is_exact():
    values = np.random.default_rng(0).normal(1e6, 1.0, size=(1000, 2))
    np.testing.assert_allclose(in_blocks(values, 100, 2).sd, values.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_both_zeros_are_one_value(zero):
    facts = in_blocks(np.float32([[zero, 0.0], [1.0, 1.0]]), 2, 2)
    assert facts.column_key[0] == facts.column_key[1]


def test_same_as_names_the_first():
    keys = np.array([5, 6, 5, 6, 5], dtype=np.uint64)
    assert same_as(keys, np.array([True, True, True, True, True])).tolist() == [-1, -1, 0, 1, 0]
    assert same_as(keys, np.array([False, True, True, False, True])).tolist() == [-1, -1, -1, -1, 2]
