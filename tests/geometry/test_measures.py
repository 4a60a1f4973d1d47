import numpy as np
import pytest

from brainalign.core.errors import SchemaError
from brainalign.geometry.conditions import Cell
from brainalign.geometry.measures import MEASURES, Settings, dissimilarities, summed

CELL = Cell({}, np.arange(12), np.arange(5))
NAMES = np.array(list("abc"), dtype=object)


def settings(metric, **options):
    given = {"folds": None, "between": None, "noise_by_fold": False, "noise_inverse": False, "across_times": False, "prior": (1.0, 0.1), "dtype": "float64",
             "device": "cpu"}  # fmt: skip
    return Settings(metric, **given | options)


@pytest.mark.parametrize("metric", MEASURES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("device", ["cpu", "torch"])
def test_every_measure_in_both_dtypes_and_libraries(metric, dtype, device, monkeypatch):
    rng = np.random.default_rng(0)
    block = rng.poisson(4.0, size=(12, 5, 2)).astype(float)
    codes, folds = np.tile(np.arange(3), 4), np.repeat(np.arange(4), 3)
    use = metric in ("crossnobis", "poisson-cv")
    ask = settings(metric, folds="run" if use else None, dtype=dtype)
    sums = summed(block, codes, folds if use else folds * 0, (4 if use else 1, 3))
    noise = np.diag([1.0, 2.0, 3.0, 4.0, 5.0]) if MEASURES[metric].noise != "never" else None
    args = (sums, NAMES, noise, CELL)
    expected = dissimilarities(*args, settings(metric, folds="run" if use else None))
    if device == "torch":
        torch = pytest.importorskip("torch")
        monkeypatch.setattr("brainalign.geometry.measures.move", lambda x, device: torch.from_numpy(np.ascontiguousarray(x)))
    found = dissimilarities(*args, ask)
    assert found.shape == (2, 3, 3)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=1e-12 if dtype == "float64" else 1e-5)
    np.testing.assert_array_equal(found, found.swapaxes(1, 2))
    assert not np.diagonal(found, axis1=1, axis2=2).any()


def test_singular_noise_is_named():
    block = np.random.default_rng(0).normal(size=(12, 5))
    sums = summed(block, np.tile(np.arange(3), 4), np.zeros(12, dtype=int), (1, 3))
    with pytest.raises(SchemaError, match="noise covariance of 5 neuroids in all presentations and neuroids cannot be inverted"):
        dissimilarities(sums, NAMES, np.ones((5, 5)), CELL, settings("mahalanobis"))


def test_sums_of_some_neuroids_are_those_of_their_responses():
    block, codes, folds = np.random.default_rng(0).normal(size=(12, 5, 2)), np.tile(np.arange(3), 4), np.repeat(np.arange(4), 3)
    sums, columns = summed(block, codes, folds, (4, 3)), np.array([0, 3])
    np.testing.assert_array_equal(sums.of(columns).values, summed(block[:, columns], codes, folds, (4, 3)).values)
    assert sums.of(np.arange(5)) is sums


def test_what_only_the_rounding_of_float32_left_is_no_pattern():
    """Two presentations that make a constant mean, but for the last digits of what was stored."""
    x = np.random.default_rng(0).uniform(size=(4, 9)).astype(np.float32)
    block, codes, one = np.r_[x, np.float32(2) - x[2:3]], np.array([0, 1, 2, 3, 2]), np.zeros(5, dtype=int)
    assert np.ptp(block[[2, 4]].mean(axis=0, dtype=np.float64)) > 1e-9
    with pytest.raises(SchemaError, match=r"1 of 4 conditions whose pattern is constant over neuroids.*'c'"):
        dissimilarities(
            summed(block, codes, one, (1, 4)), np.array(list("abcd"), dtype=object), None, CELL, settings("correlation")
        )
