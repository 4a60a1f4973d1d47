import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.dataset.folds import Folds, check_sides
from brainalign.dataset.repeats import average_repeats
from brainalign.dataset.split import split


def brain(ids, **coords):
    return ba.responses(
        np.arange(2.0 * len(ids)).reshape(-1, 2), stimulus_id=list(ids), neuroid_id=[0, 1], modality="fmri", system="s", **coords
    )


def held_out(folds, x):
    return [sorted(x.stimulus_id.values[fold.test].tolist()) for fold in folds.on(x)]


def test_folds_follow_stimuli_through_averaging():
    x = brain("abcdabcd", onset_s=np.arange(8.0), run=list("11112222"))
    folds = split(x, n_splits=2, random_state=0)
    mean = average_repeats(x)
    assert "onset_s" not in mean.coords
    assert [sorted(set(ids)) for ids in held_out(folds, x)] == held_out(folds, mean)


def test_folds_of_one_brain_apply_to_another_that_saw_the_stimuli_in_another_order():
    # Same onsets, other stimuli at them: rows must be found by what was shown, not by when.
    one = brain("abcd", onset_s=np.arange(4.0) * 100, run=list("1122"))
    two = brain("dcba", onset_s=np.arange(4.0) * 100, run=list("1122"))
    folds = split(one)
    assert held_out(folds, one) == held_out(folds, two) == [["a", "b"], ["c", "d"]]


def test_rows_named_by_their_time_are_found_by_run_and_time():
    onset = np.tile(np.arange(5) * 0.1, 2)
    one = brain([f"a{i}" for i in range(10)], onset_s=onset, run=list("1111122222"))
    other = brain([f"b{i}" for i in range(10)], onset_s=onset + 2e-7, run=list("1111122222"))
    assert [fold.test.tolist() for fold in split(one).on(other)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_found_by_time_the_other_rows_stimuli_must_not_straddle():
    one = brain("abcd", onset_s=[0.0, 1.0, 0.0, 1.0], run=list("1122"))
    other = brain("xyxy", onset_s=[0.0, 1.0, 0.0, 1.0], run=list("1122"))
    with pytest.raises(ba.errors.SplitError, match="2 of 2 stimuli would be on both sides"):
        split(one).on(other)


def test_unknown_presentations_are_named():
    folds = split(brain("abcdef"), n_splits=2, random_state=0)
    with pytest.raises(ba.errors.SplitError, match=r"by stimulus_id: 1 of 3 are unknown, first 'z' in row 1"):
        folds.on(brain("azb"))


def test_a_fold_that_lost_its_rows_is_named():
    x = brain("abcdef", condition=list("xxyyzz"))
    with pytest.raises(ba.errors.SplitError, match="fold 'z' has nothing to test: 0 test and 4 training rows of 4"):
        split(x, by="condition").on(x[:4])


def test_forced_folds_find_repeats_by_their_group():
    x = brain("abab", run=list("1122"))
    folds = split(x, by="run", force=True)
    assert [fold.test.tolist() for fold in folds.on(x[[3, 0, 2]])] == [[1], [0, 2]]
    with pytest.raises(ba.errors.SplitError, match="by run: no such coordinate"):
        folds.on(average_repeats(x))


def test_forced_folds_find_repeats_by_counting():
    x = brain("aabbccdd")
    folds = split(x, test=np.arange(8) % 2 == 0, force=True)
    (fold,) = folds.on(x[::-1])
    assert fold.test.tolist() == [1, 3, 5, 7]


def test_single_presentations_of_repeated_stimuli_can_be_forced_apart():
    x = brain("ab" * 8)
    folds = split(
        x, by=("stimulus_id", "repetition"), stratify="stimulus_id", n_splits=4, shuffle=True, force=True, random_state=0
    )
    for fold in folds.on(x):
        assert sorted(x.stimulus_id.values[fold.test].tolist()) == ["a", "a", "b", "b"]
    assert folds.describe()["forced"] is True


def test_widen_only_ever_widens():
    x = brain([f"v{i}" for i in range(30)], onset_s=np.arange(30.0))
    folds = split(x, n_splits=3, gap_s=2.0)
    assert folds.widen(1.0) is folds
    wider = folds.widen(5.0)
    assert isinstance(wider, Folds)
    assert wider.describe()["gap_s"] == 5.0
    assert wider.on(x)[0].train.tolist() == list(range(15, 30))
    assert folds.on(x)[0].train.tolist() == list(range(12, 30))
    with pytest.raises(ba.errors.ParameterError, match=r"'gap_s' parameter of Folds\.widen"):
        folds.widen(-1.0)


def test_dropped_test_rows_still_cast_their_gap():
    x = brain([f"v{i}" for i in range(30)], onset_s=np.arange(30.0))
    folds = split(x, n_splits=3, gap_s=4.0)
    kept = x[[0, 1, 2, *range(10, 30)]]  # the end of the first block is gone
    assert kept.onset_s.values[folds.on(kept)[0].train].min() == 14.0


def test_a_gap_on_averaged_rows_leaves_out_every_stimulus_that_came_near():
    # a and b are neighbours in time; c is far from both
    x = brain("abcabcd", onset_s=[0.0, 1.0, 50.0, 100.0, 101.0, 150.0, 200.0])
    folds = split(x, test=["a"], gap_s=5.0)
    mean = average_repeats(x)
    (fold,) = folds.on(mean)
    assert mean.stimulus_id.values[fold.train].tolist() == ["c", "d"]


def test_a_gap_on_another_recording_follows_its_own_times():
    one = brain("abcd", onset_s=[0.0, 1.0, 50.0, 60.0])
    two = brain("abcd", onset_s=[0.0, 30.0, 2.0, 60.0])
    (fold,) = split(one, test=["a"], gap_s=5.0).on(two)
    assert two.stimulus_id.values[fold.train].tolist() == ["b", "d"]


def test_folds_take_tables_with_any_index():
    table = pd.DataFrame({"stimulus_id": list("abcdef")}, index=[9, 9, 4, 3, 2, 1])
    folds = split(table, n_splits=3, random_state=0)
    assert sorted(np.concatenate([fold.test for fold in folds.on(table)])) == list(range(6))


def test_a_hundred_thousand_rows_with_a_gap():
    n = 100_000
    x = pd.DataFrame(
        {"stimulus_id": np.arange(n).astype(str), "onset_s": np.arange(n) * 0.5, "run": np.repeat(list("1234"), n // 4)}
    )
    folds = split(x, n_splits=10)
    assert sum(len(fold.test) for fold in folds.on(x.iloc[::-1])) == n


def test_check_sides_passes_where_stimuli_stay_together():
    check_sides(pd.DataFrame({"stimulus_id": list("aabb")}), np.array([0, 0, 1, 1]))
