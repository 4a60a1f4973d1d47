import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.model_selection import LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.provenance import is_lazy, provenance


def epochs(values, time, **more):
    values = np.asarray(values)
    return ba.responses(
        values,
        stimulus_id=[f"s{i}" for i in range(len(values))],
        neuroid_id=range(values.shape[1]),
        modality="meg",
        system="s",
        time=time,
        **more,
    )


def continuous(values, onset, run="a", prefix="v", **labels):
    values = np.asarray(values, dtype=np.float32).reshape(len(values), -1)
    return ba.responses(
        values,
        stimulus_id=[f"{prefix}{i}" for i in range(len(values))],
        neuroid_id=range(values.shape[1]),
        modality="fmri",
        system="s",
        presentation={"onset_s": onset, "run": np.broadcast_to(run, len(values)).astype(str), **labels},
    )


def test_means_by_hand_with_half_open_bins():
    x = epochs([[[1.0, 2.0, 3.0, 4.0, 9.0]]], [-0.1, 0.0, 0.1, 0.2, 0.3])
    out = ba.validate(ba.BinTime([0.0, 0.2, 0.3]).fit_transform(x), deep=True)
    assert out.values.tolist() == [[[2.5, 4.0]]]
    np.testing.assert_allclose(out.time.values, [0.1, 0.25])
    assert out.time_start.values.tolist() == [0.0, 0.2]
    assert out.time_stop.values.tolist() == [0.2, 0.3]
    assert provenance(out).steps[-1]["verb"] == "BinTime"


@settings(max_examples=30)
@given(st.integers(2, 8), st.integers(1, 6), st.sampled_from([0.001, 0.1, 1 / 3]))
def test_counts_are_conserved(n_bins, per_bin, width):
    n = n_bins * per_bin
    counts = np.random.default_rng(0).poisson(2, size=(3, 2, n)).astype(np.int16)
    x = epochs(counts, (np.arange(n) - 3) * width)
    out = ba.BinTime((np.arange(n_bins + 1) * per_bin - 3) * width, how="sum").fit_transform(x)
    assert out.dtype.kind == "i"
    np.testing.assert_array_equal(out.values.sum(-1), counts.sum(-1))
    np.testing.assert_array_equal(out.values, counts.reshape(3, 2, n_bins, per_bin).sum(-1))


def test_baseline_is_subtracted_from_every_sample():
    x = epochs([[[1.0, 3.0, 5.0, 7.0]], [[2.0, 2.0, 2.0, 2.0]]], [-0.2, -0.1, 0.0, 0.1])
    assert ba.BinTime([0.0, 0.1, 0.2], baseline_s=(-0.2, 0.0)).fit_transform(x).values.tolist() == [[[3, 5]], [[0, 0]]]
    total = ba.BinTime([-0.2, 0.2], how="sum", baseline_s=(-0.2, 0.0)).fit_transform(x)
    assert total.values.tolist() == [[8], [0]]


def test_one_bin_loses_its_time_dim_unless_told_otherwise():
    x = epochs(np.arange(12.0).reshape(2, 2, 3), [0.0, 0.1, 0.2])
    flat = ba.validate(ba.BinTime([0.0, 0.3]).fit_transform(x))
    assert flat.dims == ("presentation", "neuroid")
    assert "time" not in flat.coords
    np.testing.assert_allclose(flat.values, x.values.mean(-1))
    kept = ba.validate(ba.BinTime([0.0, 0.3], squeeze=False).fit_transform(x))
    assert kept.shape == (2, 2, 1)


def test_lazy_epochs_stay_lazy():
    x = epochs(np.arange(24.0).reshape(2, 2, 6), np.arange(6) * 0.1)
    out = ba.BinTime([0.0, 0.3, 0.6], baseline_s=(0.0, 0.2)).fit_transform(x.chunk({"presentation": 1}))
    assert is_lazy(out)
    np.testing.assert_allclose(out.values, ba.BinTime([0.0, 0.3, 0.6], baseline_s=(0.0, 0.2)).fit_transform(x).values)


def test_blocks_take_the_mean_of_their_volumes():
    onset = np.arange(20) * 2.5
    bold = continuous(np.stack([np.arange(20.0), np.ones(20)], 1), onset)
    blocks = continuous(np.zeros(2), [5.0, 25.0], duration_s=[10.0, 10.0], prefix="block", condition=["face", "house"])
    out = ba.BinTime(window_s=(5.0, 2.5)).transform(bold, presentations=blocks)
    # 10 <= t < 17.5 are volumes 4, 5, 6; 30 <= t < 37.5 are 12, 13, 14
    np.testing.assert_allclose(out.values, [[5, 1], [13, 1]], rtol=1e-6)
    assert out.condition.values.tolist() == ["face", "house"]
    assert ba.BinTime(window_s=(5.0, 2.5), how="sum").transform(bold, presentations=blocks).values[:, 1].tolist() == [3, 3]


def test_blocks_stay_in_their_run_and_take_their_own_baseline():
    onset = np.tile(np.arange(6) * 1.0, 2)
    bold = continuous(np.r_[np.arange(6.0), 100 + 2 * np.arange(6.0)], onset, run=["a"] * 6 + ["b"] * 6)
    flashes = continuous(np.zeros(2), [2.0, 3.0], run=["b", "a"], duration_s=[2.0, 1.0], prefix="flash")
    assert ba.BinTime().transform(bold, presentations=flashes).values.ravel().tolist() == [105, 3]
    based = ba.BinTime(baseline_s=(-2.0, 0.0))
    assert based.transform(bold, presentations=flashes).values.ravel().tolist() == [4, 1.5]
    summed = ba.BinTime(baseline_s=(-2.0, 0.0), how="sum").transform(bold, presentations=flashes)
    assert summed.values.ravel().tolist() == [8, 1.5]
    assert based.reach_s == (2.0, 0.0)


def test_it_is_one_kind_of_step_or_the_other():
    bins, windows = ba.BinTime([0.0, 0.1]), ba.BinTime(window_s=(5.0, 2.5))
    assert (bins.stateless, bins.retimes, bins.reach_s) == (True, False, (0.0, 0.0))
    assert (windows.stateless, windows.retimes, windows.reach_s) == (False, True, (0.0, 2.5))
    assert clone(windows).get_params() == windows.get_params()
    assert ba.BinTime(window_s=(-1.0, 0.0)).reach_s == (1.0, 0.0)


def test_bad_input():
    x = epochs(np.ones((1, 1, 4)), [0.0, 0.1, 0.2, 0.3])
    bold = continuous(np.ones(4), np.arange(4) * 2.0)
    with pytest.raises(ParameterError, match=r"bins 1 hold no sample \(bin 1 is 0.4 to 0.5 s, `time` runs from 0 to 0.3 s"):
        ba.BinTime([0.0, 0.4, 0.5]).fit_transform(x)
    with pytest.raises(ParameterError, match="strictly increasing"):
        ba.BinTime([0.2, 0.1]).fit_transform(x)
    with pytest.raises(ParameterError, match="has no time dim"):
        ba.BinTime([0.0, 0.2]).fit_transform(bold)
    with pytest.raises(ParameterError, match="has a time dim"):
        ba.BinTime().fit_transform(x)
    with pytest.raises(ParameterError, match="got no `presentations`"):
        ba.BinTime().fit_transform(bold)
    with pytest.raises(ParameterError, match="Expected one: edges cut"):
        ba.BinTime([0.0, 0.2], window_s=(0, 1)).fit_transform(x)
    with pytest.raises(ParameterError, match="'baseline_s' parameter of BinTime holds no sample"):
        ba.BinTime([0.0, 0.2], baseline_s=(-0.2, 0.0)).fit_transform(x)
    with pytest.raises(ParameterError, match="must end after it starts"):
        ba.BinTime([0.0, 0.2], baseline_s=(0.0, -0.2)).fit_transform(x)
    with pytest.raises(ParameterError, match="two numbers of seconds"):
        ba.BinTime(window_s=5).transform(bold, presentations=bold)
    late = continuous(np.zeros(2), [2.0, 90.0], duration_s=[2.0, 2.0])
    with pytest.raises(AlignmentError, match=r"1 of 2 presentations have no sample in their window \(row 1: 90 to 92 s"):
        ba.BinTime().transform(bold, presentations=late)


@pytest.mark.real
def test_haxby_blocks_decode_as_published(shared_data):
    """Eight-way leave-one-run-out accuracy of the README: .703 of 64 blocks."""
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data("haxby2001") / "sub001" / "BOLD"
    runs, tables = [], []
    for k in range(1, 9):
        image = nibabel.load(folder / f"task001_run{k:03d}" / "bold_1slice.nii.gz").get_fdata()
        runs.append(image.reshape(-1, image.shape[-1]).T)
        tables.append(pd.read_csv(folder / f"task001_run{k:03d}" / "bold_events.tsv", sep="\t").assign(run=str(k)))
    brain = runs[0].mean(0) > 0.2 * runs[0].mean(0).max()
    values, run = np.vstack(runs)[:, brain], np.repeat(np.arange(1, 9).astype(str), len(runs[0]))
    bold = continuous(values, np.tile(np.arange(len(runs[0])) * 2.5, 8), run=run)
    events = pd.concat(tables).rename(columns={"onset": "onset_s", "duration": "duration_s", "trial_type": "condition"})
    events["stimulus_id"] = "run-" + events["run"] + "/" + events["condition"]
    order = np.random.default_rng(0).permutation(len(bold))
    clean = ba.Clean(standardize="std").fit_transform(bold[order])
    blocks = ba.BinTime(window_s=(5.0, 2.5)).transform(clean, presentations=events)
    model = make_pipeline(StandardScaler(), LinearSVC(C=0.01))
    labels = blocks.condition.values.astype(object)
    scores = cross_val_score(model, blocks.values, labels, groups=blocks.run.values.astype(object), cv=LeaveOneGroupOut())
    assert blocks.shape == (64, 488)
    assert scores.mean() == pytest.approx(0.703, abs=0.02)


def test_events_as_bids_names_them_are_told_their_names_here():
    bold = ba.responses(
        np.zeros((4, 1)),
        stimulus_id=list("abcd"),
        neuroid_id=["v"],
        modality="fmri",
        system="s",
        run="1",
        onset_s=np.arange(4) * 2.0,
    )
    events = pd.DataFrame({"onset": [0.0], "duration": [4.0], "run": "1"})
    with pytest.raises(SchemaError, match=r"the presentations have no `onset_s`.*events\.rename\(columns=\{'onset': 'onset_s'"):
        ba.BinTime().transform(bold, events)
    events = events.rename(columns={"onset": "onset_s", "duration": "duration_s"})
    with pytest.raises(SchemaError, match=r"presentations without `stimulus_id` \(columns: 'onset_s', 'duration_s', 'run'\)"):
        ba.BinTime().transform(bold, events)
    assert ba.BinTime().transform(bold, events.assign(stimulus_id="face")).shape == (1, 1)
