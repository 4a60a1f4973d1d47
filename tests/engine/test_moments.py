import numpy as np
import pytest

from brainalign.engine.moments import column_status, deviations, fold_sums, is_constant, pool_sums, weighted_fold_sums


def test_status_tells_tiny_from_constant():
    rng = np.random.default_rng(0)
    columns = {
        "meg": rng.normal(size=50) * 1e-13,
        "constant": np.full(50, 1000.1),
        "zero": np.zeros(50),
        "offset": 1e3 + rng.normal(size=50),
        "nan": np.r_[np.nan, rng.normal(size=49)],
        "inf": np.r_[np.inf, rng.normal(size=49)],
    }
    for dtype in (np.float32, np.float64):
        status = column_status(np.stack(list(columns.values()), axis=1).astype(dtype))
        assert dict(zip(columns, status.tolist(), strict=True)) == {
            "meg": "ok", "constant": "constant", "zero": "constant", "offset": "ok", "nan": "nan", "inf": "nan",
        }  # fmt: skip


def test_status_of_counts_and_of_further_dims():
    assert column_status(np.array([[1, 2], [1, 3]])).tolist() == ["constant", "ok"]
    assert column_status(np.zeros((4, 2, 3))).shape == (2, 3)


def test_rounding_of_a_constant_is_no_variance():
    x = np.full((100, 1), 0.1) * np.linspace(1, 1 + 2e-16, 100)[:, None]
    assert is_constant(x).all()
    assert (deviations(x) == 0).all()


def test_pooled_sums_are_centred_within_folds():
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(30, 4)), rng.normal(size=(30, 4))
    parts = [slice(0, 7), slice(7, 30)]
    pooled = pool_sums([fold_sums(y[k], p[k]) for k in parts])
    cross = sum(((y[k] - y[k].mean(0)) * (p[k] - p[k].mean(0))).sum(0) for k in parts)
    np.testing.assert_allclose(pooled.cross, cross)
    np.testing.assert_allclose(pooled.error_ss, ((y - p) ** 2).sum(0))
    assert pooled.n == 30
    shifted = pool_sums([fold_sums(y[k] + 5 * i, p[k] - i) for i, k in enumerate(parts)])
    np.testing.assert_allclose(shifted.cross, cross)


def test_nan_stays_in_its_column():
    y = np.random.default_rng(0).normal(size=(10, 3))
    p = y.copy()
    p[4, 1] = np.nan
    sums = fold_sums(y, p)
    assert np.isnan(sums.cross).tolist() == [False, True, False]


SUMS = ("target_ss", "prediction_ss", "cross", "error_ss")


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_weights_are_repeats(offset):
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 30, 4)) + offset
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5)
    found = weighted_fold_sums(y, p, weights.astype(float))
    for draw, count in enumerate(weights):
        rows = np.repeat(np.arange(30), count)
        expected = fold_sums(y[rows], p[rows])
        for name in SUMS:
            np.testing.assert_allclose(getattr(found, name)[draw], getattr(expected, name), rtol=1e-9)


def test_a_draw_of_one_row_or_none_has_no_variance():
    y = np.random.default_rng(0).normal(size=(6, 2)) + 3.0
    found = weighted_fold_sums(y, y + 1, np.array([[0, 4.0, 0, 0, 0, 0], np.zeros(6)]))
    assert (found.target_ss == 0).all()
    assert (found.cross == 0).all()
    np.testing.assert_allclose(found.error_ss, [[4.0, 4.0], [0.0, 0.0]])
