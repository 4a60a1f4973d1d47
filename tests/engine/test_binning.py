import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.engine.binning import bin_spikes


def test_bins_are_half_open():
    counts = bin_spikes([[0.0, 0.1, 0.2, 0.3]], [0.0], [0.0, 0.1, 0.2, 0.3])
    np.testing.assert_array_equal(counts[0, 0], [1, 1, 1])  # the spike on the last edge is outside


@settings(max_examples=30)
@given(
    spikes=st.lists(st.integers(0, 1000), max_size=60),
    widths=st.lists(st.integers(1, 50), min_size=1, max_size=20),
    onsets=st.lists(st.integers(-200, 900), min_size=1, max_size=5),
)
def test_every_spike_is_counted_once_and_as_numpy_counts(spikes, widths, onsets):
    # Integers as seconds are exact, so the edges of neighbouring bins meet without rounding.
    times, edges = np.sort(np.array(spikes, dtype=float)), np.r_[0.0, np.cumsum(widths)].astype(float)
    counts = bin_spikes([times], onsets, edges)
    for row, onset in enumerate(onsets):
        inside = ((times >= onset) & (times < onset + edges[-1])).sum()
        assert counts[row, 0].sum() == inside
        expected = [((times >= onset + lo) & (times < onset + hi)).sum() for lo, hi in itertools.pairwise(edges)]
        np.testing.assert_array_equal(counts[row, 0], expected)


def test_counts_equal_numpy_histogram():
    rng = np.random.default_rng(0)
    times = [np.sort(rng.uniform(0, 10, n)) for n in (500, 0, 37)]
    edges = np.linspace(0, 10.001, 334)
    counts = bin_spikes(times, [0.0], edges)[0]
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, np.stack([np.histogram(t, edges)[0] for t in times]))
    np.testing.assert_array_equal(counts.sum(1), [500, 0, 37])


def test_shifting_spikes_and_events_together_changes_nothing():
    times, onsets = np.array([1.0, 1.25, 3.5, 3.5]), np.array([1.0, 3.0])
    edges = np.array([-0.5, 0.0, 0.5, 1.0])
    np.testing.assert_array_equal(bin_spikes([times], onsets, edges), bin_spikes([times + 64.0], onsets + 64.0, edges))
