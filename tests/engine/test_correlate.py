import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import r2_score

from brainalign.engine.correlate import (
    correlation_matrix,
    pearson_columns,
    pooled_pearson,
    pooled_r2,
    ranks,
)
from brainalign.engine.moments import fold_sums, pool_sums


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def spearman_columns(a, b):
    return pearson_columns(ranks(a), ranks(b))


@pytest.mark.parametrize(("ours", "theirs"), [(pearson_columns, pearsonr), (spearman_columns, spearmanr)])
@pytest.mark.parametrize("scale", [1.0, 1e-13])
def test_equal_to_scipy(ours, theirs, scale):
    a, b = np.round(noise(40, 5), 1) * scale, np.round(noise(40, 5, seed=1), 1) * scale + 3 * scale
    np.testing.assert_allclose(ours(a, b), [theirs(a[:, k], b[:, k])[0] for k in range(5)], rtol=1e-10)


@given(x=arrays(np.float64, (10,), elements=st.floats(-100, 100, width=16), unique=True), gain=st.floats(1e-3, 1e3))
@settings(max_examples=30)
def test_r_of_a_column_with_itself_is_one(x, gain):
    np.testing.assert_allclose(pearson_columns(x[:, None], gain * x[:, None] + 2), 1.0)
    np.testing.assert_allclose(pearson_columns(x[:, None], -gain * x[:, None]), -1.0)


def test_undefined_is_nan_never_zero():
    a = noise(20, 3)
    a[:, 1] = 7.7
    a[3, 2] = np.nan
    for score in (pearson_columns, spearman_columns):
        assert np.isnan(score(a, noise(20, 3, seed=1))).tolist() == [False, True, True]
        assert np.isnan(score(noise(20, 3, seed=1), a)).tolist() == [False, True, True]


def test_correlation_matrix_holds_every_pair():
    a, b = noise(30, 4), noise(30, 3, seed=1)
    matrix = correlation_matrix(a, b)
    np.testing.assert_allclose(matrix, np.corrcoef(a.T, b.T)[:4, 4:])
    np.testing.assert_allclose(np.diag(matrix[:3]), pearson_columns(a[:, :3], b))


def test_one_fold_gives_the_plain_scores():
    y, p = noise(50, 3), noise(50, 3, seed=1)
    sums = pool_sums([fold_sums(y, p)])
    np.testing.assert_allclose(pooled_pearson(sums), pearson_columns(y, p))
    np.testing.assert_allclose(pooled_r2(sums), r2_score(y, p, multioutput="raw_values"))


def test_pooling_is_unbiased_where_concatenation_is_not():
    y = noise(60, 400)
    folds = np.array_split(np.arange(60), 10)
    # The best prediction of noise is the training mean, to which some chance is added.
    predicted = [np.delete(y, test, axis=0).mean(0) + 0.1 * noise(len(test), 400, seed=9 + i) for i, test in enumerate(folds)]
    pooled = pooled_pearson(pool_sums([fold_sums(y[test], p) for test, p in zip(folds, predicted, strict=True)]))
    assert abs(pooled.mean()) < 0.02
    assert pearson_columns(y, np.concatenate(predicted)).mean() < -0.1


def test_a_fold_without_variance_adds_nothing():
    y, p = noise(20, 1), noise(20, 1, seed=1)
    alone = fold_sums(y, p)
    flat = fold_sums(np.full((5, 1), 3.3), noise(5, 1, seed=2) * 0 + 1.1)
    np.testing.assert_allclose(pooled_pearson(pool_sums([alone, flat])), pooled_pearson(alone))
    assert np.isnan(pooled_pearson(flat)).all()
    assert np.isnan(pooled_r2(flat)).all()


def test_ranks_are_those_of_scipy_with_ties_holes_and_along_any_axis():
    x = np.round(np.random.default_rng(0).normal(size=(7, 40, 3)), 1)
    x[3, 5, 1] = np.nan
    for values in (x, x[..., 0], np.arange(6.0)[::-1], x[:0], (10 * x[..., 0]).astype(np.int16), np.zeros((0, 3))):
        for axis in range(values.ndim):
            np.testing.assert_array_equal(ranks(values, axis=axis), rankdata(values, axis=axis, nan_policy="propagate"))
