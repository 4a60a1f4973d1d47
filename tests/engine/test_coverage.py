"""States, bins and counts of coverage."""

import numpy as np

from brainalign.engine.coverage import bin_counts, bins_of, seen, states


def test_states_lie_between_0_and_1():
    x = np.array([[-50.0, 0.0], [50.0, 0.0]])
    for transform in ("normal", "sigmoid"):
        found = states(x, np.zeros(2), np.array([1.0, 0.0]), transform)
        np.testing.assert_allclose(found, [[0, 0.5], [1, 0.5]], atol=1e-12)
        assert bins_of(found, 10).tolist() == [[0, 5], [9, 5]]


def test_counts_add_over_rows():
    bins = np.random.default_rng(0).integers(0, 5, size=(30, 4))
    whole = bin_counts(bins, 5)
    assert (whole == bin_counts(bins[:11], 5) + bin_counts(bins[11:], 5)).all()
    assert (whole.sum(axis=1) == 30).all()
    assert whole[2].tolist() == np.bincount(bins[:, 2], minlength=5).tolist()


def test_bins_are_covered_from_a_number_on():
    assert seen(np.array([0, 1, 2, 9]), 2).tolist() == [0.0, 0.5, 1.0, 1.0]
