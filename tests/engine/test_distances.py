import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist, pdist, squareform

from brainalign.engine.distances import METRICS, cross_distances, distances_across, pairwise_distances

values = arrays(np.float64, (5, 4), elements=st.floats(-1e3, 1e3, width=32))


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e-13, 0.0), (1.0, 1e4)])
def test_equal_to_scipy(metric, scale, offset):
    patterns = np.random.default_rng(0).normal(size=(20, 37)) * scale + offset
    expected = squareform(pdist(patterns, metric))
    np.testing.assert_allclose(pairwise_distances(patterns, metric), expected, rtol=1e-7, atol=1e-12 * expected.max())


@pytest.mark.parametrize("metric", METRICS)
def test_leading_groups_are_independent(metric):
    patterns = np.random.default_rng(0).normal(size=(3, 2, 6, 9))
    together = pairwise_distances(patterns, metric)
    for i in range(3):
        for j in range(2):
            np.testing.assert_allclose(together[i, j], pairwise_distances(patterns[i, j], metric), rtol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@given(patterns=values)
@settings(max_examples=30)
def test_symmetric_with_exact_zeros_on_the_diagonal(metric, patterns):
    distance = pairwise_distances(patterns, metric)
    np.testing.assert_array_equal(distance, distance.T)
    diagonal = np.diag(distance)
    assert ((diagonal == 0) | np.isnan(diagonal)).all()
    assert not (distance < 0).any()


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_rounding_takes_no_distance_out_of_its_range(metric):
    x = np.random.default_rng(0).normal(size=(200, 7))
    same = pairwise_distances(np.r_[x, 3 * x, -x], metric)
    assert same.min() >= 0
    assert same.max() <= 2
    across = cross_distances(x, np.r_[3 * x, -x], metric)
    assert across.min() >= 0
    assert across.max() <= 2


def test_close_pairs_keep_their_digits():
    patterns = np.random.default_rng(0).normal(size=(8, 50)) * 1e3
    patterns[1] = patterns[0]
    patterns[2] = patterns[0] + 1e-6
    distance = pairwise_distances(patterns, "euclidean")
    assert distance[0, 1] == 0
    np.testing.assert_allclose(distance[0, 2], 1e-6 * np.sqrt(50), rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_pattern_is_nan_and_disturbs_no_other(metric):
    patterns = np.random.default_rng(0).normal(size=(2, 6, 9))
    whole = pairwise_distances(patterns, metric)
    patterns[0, 2, 4] = np.nan
    holed = pairwise_distances(patterns, metric)
    assert np.isnan(holed[0, 2]).all()
    assert np.isnan(holed[0, :, 2]).all()
    rest = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(holed[0][np.ix_(rest, rest)], whole[0][np.ix_(rest, rest)], rtol=1e-9)
    np.testing.assert_allclose(holed[1], whole[1], rtol=1e-9)


def test_a_constant_pattern_has_no_correlation_but_a_distance():
    patterns = np.random.default_rng(0).normal(size=(4, 9))
    patterns[1] = 0.1
    assert np.isnan(pairwise_distances(patterns, "correlation")[1]).all()
    assert np.isfinite(pairwise_distances(patterns, "correlation")[0, 2])
    assert np.isfinite(pairwise_distances(patterns, "euclidean")).all()


@pytest.mark.parametrize("metric", METRICS)
def test_torch_equals_numpy(metric):
    torch = pytest.importorskip("torch")
    patterns = np.random.default_rng(0).normal(size=(3, 6, 9))
    patterns[0, 1] = patterns[0, 2]
    patterns[1, 2] = 3.0
    patterns[2, 0, 0] = np.nan
    tensor = pairwise_distances(torch.from_numpy(patterns), metric)
    np.testing.assert_allclose(tensor.numpy(), pairwise_distances(patterns, metric), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_between_two_sets_and_between_folds(metric, library):
    rng = np.random.default_rng(0)
    folds = rng.normal(size=(3, 2, 4, 9)) + 50
    convert, back = (lambda x: x), np.asarray
    if library == "torch":
        torch = pytest.importorskip("torch")
        convert, back = torch.from_numpy, lambda x: x.numpy()
    pair = back(cross_distances(convert(folds[0, 0]), convert(folds[1, 0, :3]), metric))
    np.testing.assert_allclose(pair, cdist(folds[0, 0], folds[1, 0, :3], metric), rtol=1e-9, atol=1e-12)
    holed = folds[0, 0].copy()
    holed[1, 2] = np.nan
    found = back(cross_distances(convert(holed), convert(folds[1, 0]), metric))
    assert np.isnan(found[1]).all()
    rest = [0, 2, 3]
    np.testing.assert_allclose(found[rest], cdist(folds[0, 0][rest], folds[1, 0], metric), rtol=1e-7)
    present = np.array([[True, True, True, False], [True, True, True, True], [True, False, True, True]])
    found = back(distances_across(convert(folds), present, metric))
    for k in range(2):
        kept = np.where(present[:, :, None], folds[:, k], np.nan)
        pairs = [cdist(kept[f], kept[g], metric) for f in range(3) for g in range(3) if f != g]
        np.testing.assert_allclose(found[k], np.nanmean(pairs, axis=0), rtol=1e-9, atol=1e-12)


def test_float32_keeps_the_digits_of_close_pairs():
    patterns = np.random.default_rng(0).normal(size=(8, 50)).astype(np.float32) * 100 + 1000
    patterns[1] = patterns[0] + 0.25
    found = pairwise_distances(patterns, "euclidean", dtype="float32")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, squareform(pdist(patterns.astype(np.float64))), rtol=1e-4)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_patterns_that_are_widened_a_part_at_a_time(metric, offset, monkeypatch):
    monkeypatch.setattr("brainalign.engine.distances._WIDE", 100)
    patterns = (np.random.default_rng(0).normal(size=(2, 6, 53)) + offset).astype(np.float32)
    wide = patterns.astype(np.float64)
    wide -= wide.mean(axis=-1, keepdims=True) if metric == "correlation" else 0  # which changes nothing but scipy's rounding
    found = pairwise_distances(patterns, metric)
    for one, expected in zip(found, wide, strict=True):
        np.testing.assert_allclose(one, squareform(pdist(expected, metric)), rtol=1e-10, atol=1e-15)
    np.testing.assert_array_equal(found, found.swapaxes(1, 2))
    narrow = pairwise_distances(wide, metric, dtype="float32")
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, found, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", ["correlation", "sqeuclidean"])
def test_patterns_are_not_copied_whole(metric):
    patterns = np.random.default_rng(0).normal(size=(20, 500_000)).astype(np.float32)
    tracemalloc.start()
    pairwise_distances(patterns, metric)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < patterns.nbytes  # a copy in float64 takes twice as much
