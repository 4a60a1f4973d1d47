import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.adapters.bids.events import read_events
from brainalign.adapters.meeg.recordings import open_meeg
from brainalign.core.errors import FormatError, ParameterError

mne = pytest.importorskip("mne")
mne.set_log_level("ERROR")
RATE = 100.0
ONSETS = np.array([2.0, 4.0, 6.5, 9.0, 12.0])
AROUND = {"system": "s", "tmin": -0.1, "tmax": 0.2}


def raw(seconds=20, triggers=None, first_samp=0):
    """Two EEG channels that count samples, one stimulus channel, one photodiode."""
    n = int(seconds * RATE)
    info = mne.create_info(["EEG 0", "EEG 1", "STI", "DIODE"], RATE, ["eeg", "eeg", "stim", "misc"])
    data = np.zeros((4, n))
    data[0] = np.arange(n) * 1e-6
    data[1] = -data[0]
    for onset in ONSETS if triggers is None else triggers:
        at = round(onset * RATE)
        data[2, at : at + 3], data[3, at : at + 20] = 64, 2.5
    return mne.io.RawArray(data, info, first_samp=first_samp)


def table(**columns):
    return pd.DataFrame({"stimulus_id": list("abcab"), "onset_s": ONSETS, **columns})


def steps(x):
    return ba.core.provenance(x).steps[-1]["params"]


@pytest.mark.parametrize("first_samp", [0, 1234])
def test_each_window_is_cut_where_its_event_is(first_samp):
    x = open_meeg(raw(first_samp=first_samp), events=table(), **AROUND)
    wanted = np.round(ONSETS[:, None] * RATE + np.arange(-10, 21)) * 1e-6
    np.testing.assert_allclose(x.values[:, 0], wanted, rtol=1e-6)
    np.testing.assert_allclose(x.onset_s, ONSETS)
    assert not x.window_overlaps.any()


def test_events_of_a_bids_folder_by_file_and_by_table(tmp_path):
    folder = tmp_path / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    file = folder / "sub-01_task-look_run-02_events.tsv"
    rows = [f"{onset}\t0.5\timages/{name}.png\t{i}" for i, (onset, name) in enumerate(zip(ONSETS, "abcab", strict=True))]
    file.write_text(
        "\ufeffonset\tduration\tstim_file\tresponse_time\n" + "\n".join([rows[0], "3.5\tn/a\tn/a\tn/a", *rows[1:]]) + "\n",
        encoding="utf-8",
    )
    events = read_events(tmp_path, subject="01", task="look")
    for given in (file, events):
        x = open_meeg(raw(), events=given, stimulus_column="stim_file", **AROUND)
        assert list(x.stimulus_id.values) == [f"images/{name}.png" for name in "abcab"]
        assert list(x.repetition.values) == [0, 0, 0, 1, 1]
        assert list(x.trial.values) == [0, 2, 3, 4, 5]  # the response in row 1 is no presentation
        np.testing.assert_allclose(x.onset_s, ONSETS)
        np.testing.assert_allclose(x.duration_s, 0.5)
    assert set(x.run.values) == {"02"}
    assert set(x.subject.values) == {"01"}
    with pytest.raises(FormatError, match=r"no column 'stimulus_id'. Its columns are .*'stim_file'.*`stimulus_column=`"):
        open_meeg(raw(), events=file, **AROUND)
    with pytest.raises(FormatError, match="names no stimulus in its column 'file'"):
        open_meeg(raw(), events=events.assign(file="n/a"), stimulus_column="file", **AROUND)
    two = pd.concat([events, events.assign(run="03")])
    with pytest.raises(FormatError, match=r"runs '02', '03'.*table.run == '02'"):
        open_meeg(raw(), events=two, stimulus_column="stim_file", **AROUND)


def test_large_numbers_beside_missing_ones_stay_different_stimuli():
    ids = [1234567, 1234568, np.nan, 0.25, 1234567]  # a missing cell makes floats of the column
    x = open_meeg(raw(), events=table(image=ids), stimulus_column="image", **AROUND)
    assert list(x.stimulus_id.values) == ["1234567", "1234568", "0.25", "1234567"]
    assert list(x.repetition.values) == [0, 0, 0, 1]


def test_triggers_that_agree_are_recorded():
    x = open_meeg(raw(triggers=ONSETS + 0.01), events=table(), trigger_channel="STI", **AROUND)
    np.testing.assert_allclose(x.onset_s, ONSETS)
    assert steps(x)["triggers"] == {"offset_s": 0.01, "jitter_s": 0.0, "n_triggers": 5}
    y = open_meeg(raw(triggers=ONSETS + 0.01), events=table(), trigger_channel="stim", align="trigger", **AROUND)
    np.testing.assert_allclose(y.onset_s, ONSETS + 0.01)


@pytest.mark.parametrize("channel", ["STI", "DIODE"])
def test_a_table_that_is_150_ms_off_is_named_and_mended(channel):
    """THINGS-MEG's onsets in the tsv are about 150 ms off the trigger."""
    late = raw(triggers=ONSETS + 0.15)
    with pytest.raises(FormatError, match=r"triggers come \+150.0 ms from the onsets .*tolerance_s=0.01: pass `align='trigger'`"):
        open_meeg(late, events=table(), trigger_channel=channel, **AROUND)
    x = open_meeg(late, events=table(), trigger_channel=channel, align="trigger", **AROUND)
    np.testing.assert_allclose(x.onset_s, ONSETS + 0.15)
    assert steps(x)["triggers"]["offset_s"] == pytest.approx(0.15)
    assert steps(x)["align"] == "trigger"


def test_triggers_and_events_that_do_not_fit():
    with pytest.raises(FormatError, match=r"1 of 5 events have no trigger among 4 .*'c' at 6.5 s"):
        open_meeg(raw(triggers=np.delete(ONSETS, 2)), events=table(), trigger_channel="STI", **AROUND)
    with pytest.raises(ParameterError, match=r"no channel trigger_channel='STJ'.*\['STI'\].*Did you mean 'STI'"):
        open_meeg(raw(), events=table(), trigger_channel="STJ", **AROUND)
    with pytest.raises(FormatError, match="'STI' never rises"):
        open_meeg(raw(triggers=[]), events=table(), trigger_channel="STI", **AROUND)
    with pytest.raises(ParameterError, match="no trigger_channel="):
        open_meeg(raw(), events=table(), align="trigger", **AROUND)
    with pytest.raises(ParameterError, match=r"'align' parameter .*'tables'"):
        open_meeg(raw(), events=table(), align="tables", **AROUND)


def test_lists_that_name_other_stimuli(tmp_path):
    """In THINGS-MEG up to 20 of a run's ids differ between csv and tsv."""
    with pytest.raises(
        FormatError, match=r"different stimuli in 1 of 5 rows, row 2: 'c' / 'z'. Expected at most max_mismatched=0"
    ):
        open_meeg(raw(), events=table(), check_ids=list("abzab"), **AROUND)
    (tmp_path / "shown.csv").write_text("stimulus_id,x\na,1\nb,1\nz,1\na,1\nb,1\n")
    x = open_meeg(raw(), events=table(), check_ids=tmp_path / "shown.csv", max_mismatched=1, **AROUND)
    assert list(x.trial.values) == [0, 1, 3, 4]
    assert steps(x)["left_out"] == ["row 2: 'c' / 'z'"]
    with pytest.raises(FormatError, match="5 events and check_ids= names 4"):
        open_meeg(raw(), events=table(), check_ids=list("abab"), **AROUND)


def test_overlapping_windows_are_marked_or_refused():
    around = {**AROUND, "tmax": 1.95}
    x = open_meeg(raw(), events=table(), **around)
    assert list(x.window_overlaps.values) == [True, True, False, False, False]
    with pytest.raises(FormatError, match=r"2 of 5 windows .*the first around 2 s.*overlap='flag'"):
        open_meeg(raw(), events=table(), overlap="raise", **around)
    twice = table().assign(onset_s=[2.0, 2.001, 6.5, 9.0, 12.0])
    with pytest.raises(FormatError, match="two events at sample 200: 'a' in row 0 and 'b' in row 1"):
        open_meeg(raw(), events=twice, **AROUND)


def test_events_past_the_end():
    late = table().assign(onset_s=[2.0, 4.0, 6.5, 9.0, 25.0])
    with pytest.raises(FormatError, match="does not hold 1 of the epochs, the first around event 4 at sample 2500"):
        open_meeg(raw(), events=late, **AROUND)


def test_rows_need_not_be_in_the_order_of_time():
    x = open_meeg(raw(), events=table().iloc[::-1], **AROUND)
    assert list(x.stimulus_id.values) == list("abcab")
    assert list(x.trial.values) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(x.onset_s, ONSETS)


def test_annotations_about_the_recording_are_no_stimuli_and_bad_spans_drop_trials():
    made = raw()
    names = ["a", "b", "c", "a", "b", "BAD blink", "New Segment/", "boundary"]
    extras = [{"side": side} for side in ("left", "right", None, "left", "right")] + [None] * 3
    made.set_annotations(mne.Annotations([*ONSETS, 8.95, 0.0, 15.0], [0] * 5 + [0.2, 0, 0], names, extras=extras))
    x = open_meeg(made, events="annotations", **AROUND)
    assert list(x.stimulus_id.values) == ["a", "b", "c", "b"]
    assert list(x.side.values) == ["left", "right", "n/a", "right"]
    assert list(x.trial.values) == [0, 1, 2, 4]
    assert steps(x)["dropped"] == {"BAD blink": 1}
    y = open_meeg(made, events="annotations", event_id=["b"], **AROUND)
    assert list(y.trial.values) == [1, 4]
    by_side = open_meeg(made, events="annotations", stimulus_column="side", **AROUND)
    assert list(by_side.stimulus_id.values) == ["left", "right", "right"]
    assert list(by_side.condition.values) == ["a", "b", "b"]
    with pytest.raises(FormatError, match=r"no event 'd'. Its events are named 'a', 'b', 'c'"):
        open_meeg(made, events="annotations", event_id=["d"], **AROUND)


def test_tables_that_were_put_together_keep_all_their_rows():
    twice = pd.concat([table()[:2], table().iloc[2:].reset_index(drop=True)])  # the index goes 0 1 0 1 2
    x = open_meeg(raw(), events=twice, check_ids=list("abcaz"), max_mismatched=1, **AROUND)
    assert list(x.trial.values) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "window",
    [{"tmin": 0.5, "tmax": 0.1}, {"baseline": (-0.5, 0)}, {"baseline": (0.1, 0)}, {"baseline": ("a", 0)}, {"baseline": 0.1}],
)
def test_windows_that_cannot_be_are_named(window):
    with pytest.raises(ParameterError, match=r"Expected seconds that ascend, .* baseline=\(None, 0\)"):
        open_meeg(raw(), events=table(), **{**AROUND, **window})
    with pytest.raises(ParameterError, match="'tmin' parameter of open_meeg"):
        open_meeg(raw(), events=table(), **{**AROUND, "tmin": "a"})


def test_events_of_another_person_are_refused():
    mine = table(subject="01", run="2")
    assert set(open_meeg(raw(), events=mine, subject="sub-01", run="2", **AROUND).subject.values) == {"sub-01"}
    with pytest.raises(ParameterError, match=r"subject='02' for 'RawArray', whose events or metadata are of '01'"):
        open_meeg(raw(), events=mine, subject="02", **AROUND)


def test_names_may_be_numbers():
    x = open_meeg(
        raw(), events=table(stimulus_id=[1, 2, 3, 1, 2], condition=[1.0, 2, np.nan, 1, 2]), check_ids=[1.0, 2, 3, 1, 2], **AROUND
    )
    assert list(x.stimulus_id.values) == list("12312")
    assert list(x.condition.values) == ["1", "2", "n/a", "1", "2"]
    assert open_meeg(raw(), events=table(stimulus_id=["tone"] * 4 + ["click"]), event_id="click", **AROUND).shape[0] == 1


@pytest.mark.parametrize("event_id", [{1: "a"}, {"a": 1, "b": 1}, ["a"], {}])
def test_codes_have_one_name_each(event_id):
    with pytest.raises(ParameterError, match=r"holds the codes 1 and event_id is .*one name a code"):
        open_meeg(raw(), events=np.array([[200, 0, 1]]), event_id=event_id, **AROUND)


def test_nothing_is_subtracted_unless_asked():
    x = open_meeg(raw(), events=table(), **AROUND)
    y = open_meeg(raw(), events=table(), baseline=(None, 0), **AROUND)
    assert abs(float(x.sel(time=slice(None, 1e-9)).mean())) == pytest.approx(0, abs=1e-9)
    assert float(x.isel(neuroid=0).sel(time=slice(None, 1e-9)).mean()) > 1e-4
    np.testing.assert_allclose(y.sel(time=slice(None, 1e-9)).mean("time"), 0, atol=1e-9)
    assert steps(y)["baseline"] == [None, 0]
