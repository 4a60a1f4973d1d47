import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import brainalign as ba
from brainalign.dataset.split import split


def events(ids, **columns):
    return pd.DataFrame({"stimulus_id": list(ids), **columns})


def volumes(*lengths, tr=2.0):
    """Rows of a continuous recording, one run for each length."""
    run = np.repeat([str(i + 1) for i in range(len(lengths))], lengths)
    index = np.concatenate([np.arange(n) for n in lengths])
    return events([f"run-{r}/v{i:05d}" for r, i in zip(run, index, strict=True)], run=run, onset_s=index * tr)


def times_tested(folds, x):
    """How often each row is tested."""
    return np.bincount(np.concatenate([fold.test for fold in folds.on(x)]), minlength=len(x))


def sides_by_label(folds, x):
    """Labels of the training and test rows of each fold."""
    labels = (x["stimulus_id"] + "@" + (x["onset_s"].astype(str) if "onset_s" in x else "")).to_numpy()
    return {fold.name: (set(labels[fold.train]), set(labels[fold.test])) for fold in folds.on(x)}


# what is chosen by default


def test_single_stimuli_without_onsets_are_drawn():
    x = events([f"s{i}" for i in range(20)])
    folds = split(x, random_state=0)
    assert len(folds) == 5
    assert (times_tested(folds, x) == 1).all()
    assert [len(fold.test) for fold in folds.on(x)] == [4] * 5
    assert not all(np.diff(fold.test).max() == 1 for fold in folds.on(x))
    assert folds.describe()["seed"] == 0


def test_repeats_stay_together_by_default():
    x = events([f"s{i % 7}" for i in range(28)], run=np.repeat(["1", "2", "3", "4"], 7), onset_s=np.tile(np.arange(7.0), 4))
    folds = split(x, random_state=1)
    for _, train, test in folds.on(x):
        assert not set(x.stimulus_id[train]) & set(x.stimulus_id[test])
    assert folds.describe()["by"] == ["stimulus_id"]


def test_runs_are_left_out_one_by_one():
    x = volumes(4, 6, 5)
    folds = split(x)
    assert folds.names == ("1", "2", "3")
    assert [fold.test.tolist() for fold in folds.on(x)] == [list(range(4)), list(range(4, 10)), list(range(10, 15))]
    assert folds.describe()["kind"] == "leave one run out"


def test_rows_in_runs_without_onsets_may_be_neighbours_in_time():
    x = events([f"v{i}" for i in range(24)], run=np.repeat(["1", "2", "3"], 8))
    folds = split(x)
    assert folds.names == ("1", "2", "3")
    assert folds.describe()["kind"].startswith("leave one run out: without onset_s, neighbours may be alike; shuffle=True draws")
    assert split(x, by="run").describe()["kind"] == "leave one run out"
    blocks = split(x, n_splits=6)  # more than there are runs: as the inner folds of a mapping may be
    assert [np.ptp(fold.test) for fold in blocks.on(x)] == [3] * 6
    assert (blocks.gap_s, blocks.describe()["shuffle"]) == (0, False)
    assert [fold.test.tolist() for fold in split(x[:8]).on(x[:8])] == [[0, 1], [2, 3], [4], [5, 6], [7]]
    drawn = split(x, shuffle=True, random_state=0)  # images: who knows that they were shown in random order says so
    assert (drawn.describe()["kind"], drawn.describe()["forced"]) == ("K-fold over stimulus_id", False)
    repeated = events([f"s{i}" for i in range(8)] * 3, run=np.repeat(["1", "2", "3"], 8))
    for fold in split(repeated, random_state=0).on(repeated):  # groups are kept whatever the runs
        assert not set(repeated["stimulus_id"][fold.train]) & set(repeated["stimulus_id"][fold.test])


def test_runs_are_put_together_where_fewer_folds_are_asked_for():
    x = volumes(4, 4, 4, 4)
    folds = split(x, n_splits=2)
    assert [sorted(set(x.run[fold.test])) for fold in folds.on(x)] == [["1", "2"], ["3", "4"]]


def test_runs_of_several_sessions_are_told_apart():
    x = pd.concat([volumes(3, 3).assign(session=s) for s in ("a", "b")], ignore_index=True)
    x["stimulus_id"] = x["session"] + x["stimulus_id"]
    assert split(x).names == ("a/1", "a/2", "b/1", "b/2")


def test_one_run_is_cut_into_blocks_with_a_gap():
    x = volumes(100)
    folds = split(x)
    first, second, *_ = folds.on(x)
    assert first.test.tolist() == list(range(20))
    assert first.train.tolist() == list(range(25, 100))  # 10 s of 2 s volumes: five are left out
    assert second.train.tolist() == [*range(15), *range(45, 100)]
    assert folds.describe()["gap_s"] == 10.0
    assert folds.describe()["kind"] == "contiguous blocks of time"


def test_more_folds_than_runs_are_blocks_and_the_gap_stays_in_the_run():
    x = volumes(20, 20)
    folds = split(x, n_splits=4)
    assert (times_tested(folds, x) == 1).all()
    second = folds.on(x)[1]
    assert second.test.tolist() == list(range(10, 20))
    assert second.train.tolist() == [*range(5), *range(20, 40)]


def test_the_gap_follows_onsets_not_rows():
    x = volumes(60)
    shuffled = x.sample(frac=1, random_state=3)
    assert sides_by_label(split(x), x) == sides_by_label(split(shuffled), shuffled)


# what is asked for


def test_each_group_is_left_out_once():
    x = events([f"s{i}" for i in range(9)], condition=list("abcabcabc"))
    folds = split(x, by="condition")
    assert folds.names == ("a", "b", "c")
    assert folds.on(x)[1].test.tolist() == [1, 4, 7]


def test_several_coordinates_make_a_group():
    x = events([f"s{i}" for i in range(4)], session=list("aabb"), run=[1, 2, 1, 2])
    assert split(x, by=("session", "run")).names == ("a/1", "a/2", "b/1", "b/2")


def test_strata_are_spread_evenly():
    condition = np.repeat(["face", "house", "cat"], [10, 7, 5])
    x = events([f"s{i}" for i in range(22)], condition=condition)
    folds = split(x, stratify="condition", n_splits=5, random_state=2)
    counts = pd.crosstab(
        np.concatenate([np.full(len(f.test), f.name) for f in folds.on(x)]),
        condition[np.concatenate([f.test for f in folds.on(x)])],
    )
    assert (counts.max() - counts.min() <= 1).all()
    assert counts.sum(axis=1).between(4, 5).all()


def test_strata_of_trials_in_time_follow_the_order_of_the_rows():
    x = events([f"t{i}" for i in range(12)], condition=list("ab" * 6), onset_s=np.arange(12.0))
    folds = split(x, stratify="condition", n_splits=3)
    assert [fold.test.tolist() for fold in folds.on(x)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert folds.describe()["shuffle"] is False


@pytest.mark.parametrize(
    "test", [["c", "a"], np.array([True, False, True, False]), {"run": ["2", 2]}, "fold"], ids=["ids", "mask", "values", "one id"]
)
def test_a_fixed_split(test):
    x = events("abcd", run=[2, 1, 2, 1])
    folds = split(x, test="a" if isinstance(test, str) else test)
    assert folds.names == ("test",)
    (fold,) = folds.on(x)
    assert fold.test.tolist() == ([0] if isinstance(test, str) else [0, 2])
    assert sorted([*fold.train, *fold.test]) == [0, 1, 2, 3]


def test_a_long_fixed_test_set_is_found_in_passing():
    """Comparing every name with every other would take an hour here."""
    ids = [f"img-{i}" for i in range(73_000)]
    fold = split(pd.DataFrame({"stimulus_id": ids}), test=ids[36_500:]).on(pd.DataFrame({"stimulus_id": ids}))[0]
    assert (fold.test.tolist(), len(fold.train)) == (list(range(36_500, 73_000)), 36_500)


def test_a_gap_around_a_fixed_test_set():
    x = volumes(10)
    (fold,) = split(x, test=np.arange(10) < 3, gap_s=4.0).on(x)
    assert fold.train.tolist() == [5, 6, 7, 8, 9]


def test_networks_and_stimulus_tables_are_split_like_brains():
    net = ba.responses(np.ones((6, 2)), stimulus_id=list("abcabc"), neuroid_id=[0, 1], modality="ann", system="net")
    brain = net.copy()
    brain.attrs["modality"] = "fmri"
    rows = [split(x, n_splits=3, random_state=0).on(x) for x in (net, brain, net.coords.to_dataset())]
    for fold, other, third in zip(*rows, strict=True):
        np.testing.assert_array_equal(fold.test, other.test)
        np.testing.assert_array_equal(fold.train, third.train)


# what is refused


def test_a_stimulus_on_both_sides_is_refused_unless_forced():
    x = events("abcabc", run=list("111222"))
    with pytest.raises(ba.errors.SplitError, match=r"3 of 3 stimuli would be on both sides, first 'a' in rows 0 and 3") as caught:
        split(x, by="run")
    assert "force=True" in str(caught.value)
    folds = split(x, by="run", force=True)
    assert folds.describe()["forced"] is True
    assert [fold.test.tolist() for fold in folds.on(x)] == [[0, 1, 2], [3, 4, 5]]
    assert split(events("abcd", run=list("1122")), by="run", force=True).describe()["forced"] is False


def test_a_fixed_test_set_must_not_share_stimuli():
    with pytest.raises(ba.errors.SplitError, match="1 of 2 stimuli would be on both sides"):
        split(events("aab"), test=[True, False, False])


def test_a_shuffled_split_in_time_is_refused_unless_forced():
    x = volumes(30)
    with pytest.raises(ba.errors.SplitError, match="neighbours in time"):
        split(x, shuffle=True)
    with pytest.raises(ba.errors.SplitError, match="neighbours in time"):
        split(x.assign(condition=["a", "b", "c"] * 10), stratify="condition", shuffle=True)
    with pytest.raises(ba.errors.SplitError, match="neighbours in time"):
        split(x, by="stimulus_id", n_splits=5, shuffle=True)
    folds = split(x, shuffle=True, force=True, random_state=0)
    assert folds.describe()["forced"] is True
    assert (times_tested(folds, x) == 1).all()


def test_whole_runs_may_be_drawn():
    x = volumes(3, 3, 3, 3)
    folds = split(x, by="run", n_splits=2, shuffle=True, random_state=0)
    assert folds.describe()["forced"] is False
    assert (times_tested(folds, x) == 1).all()


def test_too_few_groups_and_empty_sides_are_refused():
    with pytest.raises(ba.errors.SplitError, match="3 values of stimulus_id for 5 folds"):
        split(events("abc"))
    with pytest.raises(ba.errors.SplitError, match="1 values of run for 2 folds"):
        split(volumes(5), by="run")
    with pytest.raises(
        ba.errors.SplitError, match=r"'fold-1' has nothing to train on with a gap of 500 s: 20 test and 0 training"
    ):
        split(volumes(100), gap_s=500.0)
    with pytest.raises(ba.errors.SplitError, match="nothing to train on"):
        split(events("ab"), test=["a", "b"])


def test_strata_that_cannot_be_spread_are_refused():
    x = events("aabbcc", condition=list("xyxxyy"))
    with pytest.raises(ba.errors.SplitError, match=r"several values within one stimulus_id, first in row 1 \('y'\)"):
        split(x, stratify="condition", n_splits=2)
    with pytest.raises(ba.errors.SplitError, match="'y' occurs in 1 stimulus_id groups, fewer than the 2 folds"):
        split(events("abc", condition=list("xxy")), stratify="condition", n_splits=2)


def test_onsets_for_some_rows_only_are_refused():
    with pytest.raises(ba.errors.SplitError, match="no `onset_s` in 1 of 3 presentations, first 1"):
        split(events("abc", onset_s=[0.0, np.nan, 1.0]))


def test_bad_arguments_name_the_value():
    x = events("abcdef", run=list("112233"))
    with pytest.raises(ba.errors.ParameterError, match=r"by='runs'.*Did you mean 'run'"):
        split(x, by="runs")
    with pytest.raises(ba.errors.ParameterError, match="'n_splits' parameter of split must be an int in the range"):
        split(x, n_splits=1)
    with pytest.raises(ba.errors.ParameterError, match="`test` and 'by'"):
        split(x, by="run", test=["a"])
    with pytest.raises(ba.errors.ParameterError, match="row numbers would not survive"):
        split(x, test=[0, 1])
    with pytest.raises(ba.errors.SplitError, match="1 values of `stimulus_id` to test that no presentation has: 'z'"):
        split(x, test=["a", "z"])
    with pytest.raises(ba.errors.SplitError, match="1 values of `run` to test"):
        split(x, test={"run": "9"})
    with pytest.raises(ba.errors.SplitError, match="no `onset_s`"):
        split(x, gap_s=4.0)


def test_the_seed_decides():
    x = events([f"s{i}" for i in range(40)])
    first, again, other = (split(x, random_state=seed) for seed in (3, 3, 4))
    assert first.describe() == again.describe()
    assert first.describe()["assignment"] != other.describe()["assignment"]
    assert json.loads(json.dumps(first.describe())) == first.describe()


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ({}, {}),
        ({"condition": np.tile(["face", "house", "cat"], 20)}, {"stratify": "condition", "n_splits": 4}),
        ({"subject": np.repeat(["10", "9", "8"], 20)}, {"by": ["subject", "stimulus_id"], "n_splits": 4, "shuffle": True}),
        ({"run": np.repeat(["b", "a"], 30), "onset_s": np.tile(np.arange(30.0), 2)}, {"n_splits": 5, "gap_s": 0}),
    ],
    ids=["stimuli", "strata", "groups", "blocks"],
)
def test_folds_follow_names_and_not_rows(labels, options):
    """Two recordings of the same stimuli, each in an order of its own, are scored on the same folds."""
    x = events([f"s{i}" for i in range(60)], **labels)
    mixed = x.sample(frac=1, random_state=1)
    found = [sides_by_label(split(table, random_state=0, **options), x) for table in (x, mixed)]
    assert found[0] == found[1]


# properties

tables = st.builds(
    lambda ids, seed, timed: events(
        [f"s{i}" for i in ids],
        **(
            {"onset_s": np.arange(len(ids)) * 3.0, "run": np.sort(np.random.default_rng(seed).choice(list("12"), len(ids)))}
            if timed
            else {}
        ),
    ),
    st.one_of(st.lists(st.integers(0, 8), min_size=12, max_size=40), st.integers(12, 40).map(range)),
    st.integers(0, 1000),
    st.booleans(),
)


@settings(max_examples=30)
@given(tables, st.integers(2, 4), st.integers(0, 1000))
def test_every_row_is_tested_once_and_no_stimulus_is_on_both_sides(x, n_splits, seed):
    if x.stimulus_id.nunique() < n_splits:
        return
    folds = (
        split(x, n_splits=n_splits, gap_s=0, random_state=seed)
        if "onset_s" in x
        else split(x, n_splits=n_splits, random_state=seed)
    )
    assert (times_tested(folds, x) == 1).all()
    for _, train, test in folds.on(x):
        assert not set(x.stimulus_id.iloc[train]) & set(x.stimulus_id.iloc[test])
        assert len(train) + len(test) == len(x)


@settings(max_examples=30)
@given(st.lists(st.integers(30, 60), min_size=1, max_size=3), st.floats(0, 12), st.integers(0, 1000))
def test_the_gap_holds_and_labels_survive_reordering_and_dropping(lengths, gap_s, seed):
    x = volumes(*lengths)
    folds = split(x, n_splits=len(lengths) + 2, gap_s=gap_s)
    onset, run = x.onset_s.to_numpy(), x.run.to_numpy()
    for _, train, test in folds.on(x):
        near = (np.abs(onset[:, None] - onset[test]) <= gap_s + 1e-6) & (run[:, None] == run[test])
        is_test = np.isin(np.arange(len(x)), test)
        assert set(train) == set(np.flatnonzero(~near.any(axis=1) & ~is_test))
    rng = np.random.default_rng(seed)
    whole = sides_by_label(folds, x)
    some = x.iloc[rng.permutation(len(x))[: rng.integers(len(x) - 3, len(x) + 1)]]
    kept = set(some.stimulus_id + "@" + some.onset_s.astype(str))
    assert sides_by_label(folds, some) == {name: (train & kept, test & kept) for name, (train, test) in whole.items()}


def test_splitters_that_count_rows_are_told_of_those_that_follow_labels():
    from sklearn.model_selection import KFold

    x = ba.responses(np.ones((8, 2)), stimulus_id=range(8), neuroid_id=range(2), modality="ann", system="net")
    with pytest.raises(
        ba.errors.ParameterError, match=r"evaluate got cv=KFold.*which counts rows.*`ba\.split\(target, n_splits=5\)`"
    ):
        ba.evaluate(x, x, cv=KFold(4))


@pytest.mark.parametrize("bad", [3, 1.5, True, [2]])
def test_what_is_no_name_is_refused(bad):
    x = ba.responses(np.ones((4, 1)), stimulus_id=list("abcd"), neuroid_id=[0], modality="fmri", system="s")
    with pytest.raises(ba.errors.ParameterError, match="'by' parameter of split must be a name, or a sequence of names"):
        ba.split(x, by=bad)
    with pytest.raises(ba.errors.ParameterError, match="'by' parameter of average_repeats must be a name"):
        ba.average_repeats(x, by=bad)
    with pytest.raises(ba.errors.ParameterError, match="'stratify' parameter of split must be a name"):
        ba.split(x, n_splits=2, stratify=bad)


def test_the_gap_of_a_short_recording_is_no_longer_than_a_block():
    for n, gap in ((100, 10.0), (20, 19 * 0.5 / 5)):
        x = ba.responses(
            np.zeros((n, 1)),
            stimulus_id=[f"v{i}" for i in range(n)],
            neuroid_id=[0],
            modality="spikes",
            system="m",
            run="1",
            onset_s=0.5 * np.arange(n),
        )
        folds = ba.split(x)
        assert folds.describe()["gap_s"] == pytest.approx(min(gap, (n - 1) * 0.5 / 5))
        assert all(len(fold.train) for fold in folds.on(x))


def test_alternating_events_are_said_to_share_their_ids():
    x = ba.responses(
        np.zeros((20, 1)),
        stimulus_id=["square", "press"] * 10,
        neuroid_id=[0],
        modality="eeg",
        system="p",
        run="1",
        onset_s=1.0 * np.arange(20),
    )
    with pytest.raises(ba.errors.SplitError, match=r"2 values of stimulus_id for 5 folds.* Trials that are named by their event"):
        ba.split(x)
