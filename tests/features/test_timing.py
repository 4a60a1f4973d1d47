import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.features.timing import durations_of, onsets_of, pairs_in_windows, run_codes, sampling_intervals, shared_run_codes


def table(**columns):
    return pd.DataFrame(columns)


def test_interval_of_each_run_with_missing_and_shuffled_rows():
    onset = np.r_[np.arange(6) * 2.0, np.delete(np.arange(8) * 1.5, [3, 4])]
    rows = table(onset_s=onset, run=["a"] * 6 + ["b"] * 6)
    order = np.random.default_rng(0).permutation(12)
    found = sampling_intervals(rows.iloc[order].reset_index(drop=True), owner="x")
    np.testing.assert_allclose(found, np.where(np.arange(12) < 6, 2.0, 1.5)[order])


def test_onsets_rounded_to_milliseconds_are_regular():
    onset = np.round(np.arange(300) * 4 / 3, 3)
    assert sampling_intervals(table(onset_s=np.delete(onset, np.arange(50, 150))), owner="x")[0] == pytest.approx(4 / 3, abs=1e-3)


def test_words_are_not_regular():
    with pytest.raises(ParameterError, match=r"not regularly sampled \(0.5 s is followed by 0.8 s"):
        sampling_intervals(table(onset_s=[0.0, 0.2, 0.5, 0.8, 1.31]), owner="x")


def test_word_onsets_of_one_decimal_are_no_grid_with_gaps():
    with pytest.raises(ParameterError, match="not regularly sampled"):
        sampling_intervals(table(onset_s=[0.0, 0.1, 0.5, 0.8, 1.3]), owner="x")


def test_two_rows_at_one_time_name_the_time():
    with pytest.raises(ParameterError, match="two rows have the onset 2 s"):
        sampling_intervals(table(onset_s=[0.0, 2.0, 2.0, 4.0]), owner="x")


def test_runs_of_two_subjects_are_apart():
    assert run_codes(table(subject=["a", "b", "a"], run=["1", "1", "1"])).tolist() == [0, 1, 0]
    assert run_codes(table(onset_s=[0.0, 1.0])).tolist() == [0, 0]


def test_shared_runs_by_name_and_what_cannot_be_told_apart():
    first, second = shared_run_codes(table(run=["b", "a"]), table(run=["a", "c", "b"], subject=["s", "t", "s"]), owner="x")
    assert first[0] == second[2]
    assert first[1] == second[0]
    assert second[1] not in first
    with pytest.raises(AlignmentError, match="share no run"):
        shared_run_codes(table(run=["b", "a"]), table(run=["c"]), owner="x")
    with pytest.raises(AlignmentError, match="target has 2 values of `run`"):
        shared_run_codes(table(onset_s=[0.0]), table(run=["c", "d"]), owner="x")
    with pytest.raises(AlignmentError, match="source has 2 values of `session`"):
        shared_run_codes(table(run=["1", "1"], session=["a", "b"]), table(run=["1"]), owner="x")


def test_missing_onsets_are_named():
    with pytest.raises(SchemaError, match="have no `onset_s`"):
        onsets_of(table(run=["a"]), owner="x")
    with pytest.raises(SchemaError, match=r"rows 1"):
        onsets_of(table(onset_s=[0.0, np.nan]), owner="x")


def test_durations_touch_where_they_are_derived():
    jittered = np.array([0.0, 2.001, 4.0, 8.0])
    np.testing.assert_allclose(durations_of(table(onset_s=jittered), owner="x"), [2.001, 1.999, 2.0, 2.0], atol=1e-9)
    np.testing.assert_allclose(durations_of(table(onset_s=[0.0, 2.0], duration_s=[1.0, np.nan]), owner="x"), [1.0, 2.0])
    with pytest.raises(SchemaError, match="no `duration_s`"):
        durations_of(table(onset_s=[0.0, 0.0], run=["a", "b"]), owner="x")


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 2)), max_size=30),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.integers(0, 2)), min_size=1, max_size=10),
)
def test_pairs_equal_brute_force(events, windows):
    onset, codes = np.array([e[0] for e in events]) * 0.1, np.array([e[1] for e in events], dtype=int)
    start = np.array([w[0] for w in windows]) * 0.1
    stop = start + np.array([w[1] for w in windows]) * 0.1
    wanted = {
        (i, j)
        for i, (low, length, run) in enumerate(windows)
        for j, (time, event_run) in enumerate(events)
        if low <= time < low + length and run == event_run
    }
    window, event = pairs_in_windows(onset, codes, start, stop, np.array([w[2] for w in windows]))
    assert set(zip(window.tolist(), event.tolist(), strict=True)) == wanted
    assert len(window) == len(wanted)
