import hashlib
import json

import numpy as np
import pandas as pd
import pytest

import brainalign as ba
from brainalign.core.provenance import provenance
from brainalign.core.tables import validate_stimuli


def recording(ids, **coords):
    return ba.responses(np.ones((len(ids), 1)), stimulus_id=list(ids), neuroid_id=[0], modality="fmri", system="s", **coords)


def test_table_takes_columns_by_name_and_by_table():
    x = ba.stimuli.table(
        ["a", "b"],
        stimulus_id=["1", "2"],
        kind="text",
        onset_s=[0.5, 1.5],
        run="1",
        presentation=pd.DataFrame({"length": [1, 1]}),
    )
    assert validate_stimuli(x) is x
    assert x.onset_s.values.tolist() == [0.5, 1.5]
    assert x.length.values.tolist() == [1, 1]
    assert x.attrs["kind"] == "text"
    assert provenance(x).steps[-1]["verb"] == "stimuli.table"
    assert not provenance(x).altered
    with pytest.raises(ba.errors.ParameterError, match="Did you mean 'duration_s'"):
        ba.stimuli.table(["a"], stimulus_id=["1"], kind="text", duration=[1.0])


def test_repeated_presentations_are_rows():
    x = ba.stimuli.table(["a", "b", "a"], stimulus_id=["1", "2", "1"], kind="text", onset_s=[0.0, 1.0, 2.0])
    assert x.sha256.values[0] == x.sha256.values[2]


# BIDS


@pytest.fixture
def bids(tmp_path):
    def put(text, name="sub-01_task-a_run-1_events.tsv"):
        folder = tmp_path / "sub-01" / "func"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        return tmp_path

    return put


def test_bids_events_name_their_files(bids):
    root = bids(
        "onset\tduration\tstim_file\ttrial_type\n0.5\t1\tx.png\tface\n1.5\t1\tn/a\trest\n2.5\t1\ty.png\tcar\n3.5\t1\tx.png\tface\n"
    )
    (root / "stimuli").mkdir()
    (root / "stimuli" / "x.png").write_bytes(b"x")
    x = ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="stim_file", condition_column="trial_type")
    assert x.attrs["kind"] == "image"
    assert x.path.values.tolist() == x.stimulus_id.values.tolist() == ["x.png", "y.png", "x.png"]
    assert x.sha256.values.tolist() == [hashlib.sha256(b"x").hexdigest(), "", hashlib.sha256(b"x").hexdigest()]
    assert x.onset_s.values.tolist() == [0.5, 2.5, 3.5]
    assert x.condition.values.tolist() == x.trial_type.values.tolist() == ["face", "car", "face"]
    assert x.run.values.tolist() == ["1", "1", "1"]
    report = json.loads(x.attrs["report"])
    assert report == {"files": ["sub-01/func/sub-01_task-a_run-1_events.tsv"], "n_events": 4, "n_without_stimulus": 1}


def test_nothing_is_derived_that_was_not_asked_for(bids):
    root = bids("onset\tduration\ttrial_type\n0.5\t1\tface\n")
    x = ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="trial_type")
    assert x.attrs["kind"] == "text"
    assert "condition" not in x.coords
    assert "session" not in x.coords


def test_columns_whose_name_is_taken_are_kept_under_another(bids):
    root = bids("onset\tduration\tword\ttext\tunit\tonset_s\tneuroid\n0.5\t1\tcat\tx\t3\t9\t1\n")
    x = ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="word")
    assert x.bids_text.values.tolist() == ["x"]
    assert x.bids_unit.values.tolist() == [3]
    assert x.bids_onset_s.values.tolist() == [9]
    assert x.onset_s.values.tolist() == [0.5]


def test_stimulus_files_of_unknown_kind_are_refused(bids):
    root = bids("onset\tduration\tstim_file\n0.5\t1\tx.mp4\n")
    with pytest.raises(ba.errors.ParameterError, match=r"suffixes '\.mp4', first 'x\.mp4'"):
        ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="stim_file")


def test_stimulus_files_outside_the_data_set_are_refused(bids):
    root = bids("onset\tduration\tstim_file\n0.5\t1\t../../secret.png\n")
    with pytest.raises(ba.errors.FormatError, match="leads out of"):
        ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="stim_file")


def test_a_column_without_a_stimulus_is_refused(bids):
    root = bids("onset\tduration\tstim_file\n0.5\t1\tn/a\n")
    with pytest.raises(ba.errors.FormatError, match="has a value in 'stim_file'"):
        ba.stimuli.from_bids(root, subject="01", task="a", stimulus_column="stim_file")


@pytest.mark.real
def test_the_face_study(shared_data):
    root = shared_data("bids-ds000117-meta")
    x = ba.stimuli.from_bids(root, subject="01", task="facerecognition", session="meg", stimulus_column="stim_file")
    counts = pd.Series(x.stimulus_id.values.astype(object)).value_counts()
    assert x.sizes["presentation"] == 887
    assert len(counts) == 450
    assert counts.value_counts().to_dict() == {2: 437, 1: 13}
    assert x.attrs["kind"] == "image"
    assert (x.sha256.values == "").all()  # the images are not part of this copy
    folds = ba.split(x, random_state=0)
    assert folds.describe()["by"] == ["stimulus_id"]
    with pytest.raises(ba.errors.FormatError, match=r"no column 'trial_type'.*'stim_type'"):
        ba.stimuli.from_bids(root, subject="01", task="facerecognition", session="meg", stimulus_column="trial_type")


# the stimuli of a recording


def test_stimuli_of_a_recording_come_once_in_first_appearance_order():
    shown = ba.stimuli.table(
        ["x", "y", "z", "x"], stimulus_id=list("abca"), kind="text", onset_s=[0.0, 1.0, 2.0, 3.0], condition=list("uvvu")
    )
    x = ba.stimuli.of(recording("cacb"), shown)
    assert x.stimulus_id.values.tolist() == ["c", "a", "b"]
    assert x.text.values.tolist() == ["z", "x", "y"]
    assert x.condition.values.tolist() == ["v", "u", "v"]
    assert "onset_s" not in x.coords
    assert x.attrs["kind"] == "text"
    assert ba.stimuli.of(recording("cb"), shown.isel(presentation=[1, 2])).onset_s.values.tolist() == [2.0, 1.0]


def test_stimuli_that_are_not_in_the_table_are_named():
    shown = ba.stimuli.table(["x"], stimulus_id=["a"], kind="text")
    with pytest.raises(
        ba.errors.AlignmentError, match=r"lacks 1 of 2 stimulus_id values of the responses, first 'b' \(it starts 'a'\)"
    ):
        ba.stimuli.of(recording("ab"), shown)
    with pytest.raises(ba.errors.AlignmentError, match="not opened from a study"):
        ba.stimuli.of(recording("ab"))


def test_stimuli_are_found_beside_the_recording(tmp_path):
    path = tmp_path / "study.zarr"
    ba.save(recording("ab"), path)
    with pytest.raises(ba.errors.AlignmentError, match="holds no stimuli"):
        ba.stimuli.of(ba.open_responses(path))
    ba.save(ba.stimuli.table(["other"], stimulus_id=["z"], kind="text"), path, name="others")
    ba.save(ba.stimuli.table(["x", "y"], stimulus_id=list("ba"), kind="text"), path, name="words")
    opened = ba.open_responses(path)
    assert ba.stimuli.of(opened).text.values.tolist() == ["y", "x"]
    assert ba.stimuli.of(opened[[1]]).text.values.tolist() == ["x"]
    assert ba.stimuli.of(recording("b"), path).text.values.tolist() == ["x"]
