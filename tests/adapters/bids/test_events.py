import nibabel
import numpy as np
import pytest

from brainalign.adapters.bids.events import read_events
from brainalign.core.errors import FormatError, ParameterError

HEADER = "onset\tduration\tstim_file\n"


@pytest.fixture
def study(tmp_path):
    def put(name, text, folder="func"):
        place = tmp_path / name.split("_")[0] / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(text.encode("utf-8"))
        return tmp_path

    return put


def test_runs_are_read_in_order_with_their_labels(study):
    study("sub-01_task-a_run-02_events.tsv", HEADER + "3\t1\tx.png\n")
    root = study("sub-01_task-a_run-01_events.tsv", HEADER + "1\t1\tx.png\n2.5\tn/a\ty.png\n")
    study("sub-01_task-b_run-01_events.tsv", HEADER + "9\t1\tz.png\n")
    study("sub-02_task-a_run-01_events.tsv", HEADER + "9\t1\tz.png\n")
    events = read_events(root, subject="sub-01", task="task-a")
    assert events.onset.tolist() == [1.0, 2.5, 3.0]
    assert events.duration.isna().tolist() == [False, True, False]
    assert events.run.tolist() == ["01", "01", "02"]
    assert set(events.subject) == {"01"}
    assert "session" not in events
    assert events.file.iloc[-1] == "sub-01/func/sub-01_task-a_run-02_events.tsv"


def test_run_10_comes_after_run_2_and_sessions_likewise(study, tmp_path):
    for ses in ("10", "2"):
        for run in ("10", "2"):
            place = tmp_path / f"sub-01/ses-{ses}/func/sub-01_ses-{ses}_task-a_run-{run}_events.tsv"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(HEADER + "1\t1\tx.png\n")
    events = read_events(tmp_path, subject="01", task="a")
    assert list(zip(events.session, events.run, strict=True)) == [("2", "2"), ("2", "10"), ("10", "2"), ("10", "10")]


def test_byte_order_mark_and_windows_lines(study):
    root = study("sub-01_task-a_events.tsv", "\ufeff" + HEADER.replace("\n", "\r\n") + "1\t1\tx.png\r\n")
    assert read_events(root, subject="01", task="a", stimulus_column="stim_file").stim_file.tolist() == ["x.png"]


def test_columns_are_numbers_only_where_they_are_plain_numbers(study):
    root = study(
        "sub-01_task-a_events.tsv",
        "onset\tduration\tid\tkey\trt\tword\tcode\n1\t0\t001\t1\t.5\tNA\t7\n2\t0\t002\tn/a\t1e-1\tnan\t8\n",
    )
    events = read_events(root, subject="01", task="a")
    assert events.id.tolist() == ["001", "002"]
    assert events.word.tolist() == ["NA", "nan"]
    assert events.rt.tolist() == [0.5, 0.1]
    assert events.key.isna().tolist() == [False, True]
    assert events.code.dtype == "int64"


def test_a_column_that_one_run_lacks_is_missing_there(study):
    study("sub-01_task-a_run-1_events.tsv", "onset\tduration\tword\n1\t0\tx\n")
    root = study("sub-01_task-a_run-2_events.tsv", "onset\tduration\n1\t0\n")
    assert read_events(root, subject="01", task="a").word.tolist() == ["x", "n/a"]


def test_a_cell_that_was_left_empty_is_missing(study):
    root = study("sub-01_task-a_events.tsv", "onset\tduration\tstim_file\trt\n1\t1\t\t0.5\n2\t1\tx.png\t\n")
    events = read_events(root, subject="01", task="a")
    assert events.stim_file.tolist() == ["n/a", "x.png"]
    np.testing.assert_array_equal(events.rt, [0.5, np.nan])


def test_a_missing_column_lists_those_that_are_there(study):
    root = study("sub-01_task-a_events.tsv", HEADER + "1\t1\tx.png\n")
    with pytest.raises(FormatError, match=r"no column 'trial_type'. Its columns are 'onset', 'duration', 'stim_file'"):
        read_events(root, subject="01", task="a", stimulus_column="trial_type")
    root = study("sub-01_task-b_events.tsv", "onset\tstim_file\n1\tx.png\n")
    with pytest.raises(FormatError, match="no column 'duration'"):
        read_events(root, subject="01", task="b")


def test_what_is_not_there_is_named_with_what_is(study):
    root = study("sub-01_ses-x_task-faces_events.tsv", HEADER + "1\t1\tx.png\n")
    with pytest.raises(FormatError, match=r"has no 'sub-03'. It has 'sub-01'"):
        read_events(root, subject="03", task="faces")
    with pytest.raises(FormatError, match=r"no events of task-face. It has 'task-faces'"):
        read_events(root, subject="01", task="face")
    with pytest.raises(FormatError, match=r"no events of ses-y. It has 'ses-x'"):
        read_events(root, subject="01", task="faces", session="y")
    with pytest.raises(FormatError, match="there is no folder"):
        read_events(root / "nowhere", subject="01", task="faces")


def test_labels_cannot_be_paths(study):
    root = study("sub-01_task-a_events.tsv", HEADER + "1\t1\tx.png\n")
    with pytest.raises(ParameterError, match=r"BIDS label sub='\.\./x' is not made of letters"):
        read_events(root, subject="../x", task="a")


def test_two_kinds_of_recording_are_two_sets_of_presentations(study):
    study("sub-01_ses-a_task-a_run-1_events.tsv", HEADER + "1\t1\tx.png\n", "func")
    root = study("sub-01_ses-b_task-a_run-1_events.tsv", HEADER + "2\t1\tx.png\n", "meg")
    with pytest.raises(FormatError, match=r"several kinds: func \(1 files\), meg \(1 files\). Choose one with `datatype=`"):
        read_events(root, subject="01", task="a")
    assert read_events(root, subject="01", task="a", datatype="meg").onset.tolist() == [2.0]
    assert read_events(root, subject="01", task="a", session="ses-a").onset.tolist() == [1.0]
    with pytest.raises(FormatError, match="not of datatype 'eeg'"):
        read_events(root, subject="01", task="a", datatype="eeg")


def test_what_macos_leaves_beside_files_is_no_table(study):
    root = study("sub-01_task-a_events.tsv", HEADER + "1\t1\tx.png\n")
    for place in (root, root / "sub-01", root / "sub-01/func"):
        (place / "._task-a_events.tsv").write_bytes(b"\x00\x05\x16\x07")
    assert read_events(root, subject="01", task="a").onset.tolist() == [1.0]


def test_two_files_of_one_run_must_be_told_apart(study):
    study("sub-01_task-a_acq-lo_run-1_events.tsv", HEADER + "1\t1\tx.png\n")
    root = study("sub-01_task-a_acq-hi_run-1_events.tsv", HEADER + "2\t1\tx.png\n")
    with pytest.raises(FormatError, match="events of one session and run"):
        read_events(root, subject="01", task="a")
    assert read_events(root, subject="01", task="a", acq="lo").onset.tolist() == [1.0]


@pytest.mark.parametrize("text", [HEADER + "1\t1\n", HEADER, HEADER + "soon\t1\tx.png\n", "", HEADER + "1\t1\tx.png\tmore\n"])
def test_damaged_tables_are_named(study, text):
    root = study("sub-01_task-a_events.tsv", text)
    with pytest.raises(FormatError, match=r"sub-01_task-a_events\.tsv"):
        read_events(root, subject="01", task="a")


def test_tables_are_read_by_name_too(tmp_path):
    files = [tmp_path / f"run-{k}_events.tsv" for k in (3, 4)]
    files[0].write_text("\ufeffonset\tduration\tstim_type\tstim_file\n-1.5\tn/a\tFamous\tf1.bmp\n2.0\t0.5\tScrambled\ts1.bmp\n")
    files[1].write_text(HEADER + "0\t1\tf1.bmp\n")
    events = read_events(files, stimulus_column="stim_file")
    assert events.stim_file.tolist() == ["f1.bmp", "s1.bmp", "f1.bmp"]
    assert events.run.tolist() == ["3", "3", "4"]
    assert events.file.tolist() == ["run-3_events.tsv"] * 2 + ["run-4_events.tsv"]
    np.testing.assert_array_equal(events.duration, [np.nan, 0.5, 1])
    with pytest.raises(FormatError, match=r"no column 'trial_type'.*'stim_type', 'stim_file'"):
        read_events(files[0], stimulus_column="trial_type")
    with pytest.raises(ParameterError, match="one of them twice"):
        read_events([files[0], files[0]])
    with pytest.raises(ParameterError, match="subject=None and task='a'"):
        read_events(tmp_path, task="a")


def test_what_bids_allows_is_accepted(study):
    """Onsets before the first volume, durations of n/a and 0, overlap, any order of rows."""
    root = study("sub-01_task-a_events.tsv", HEADER + "2\t5\tx.png\n-3\tn/a\ty.png\n3\t0\tx.png\n")
    assert read_events(root, subject="01", task="a").onset.tolist() == [2, -3, 3]


@pytest.mark.parametrize(("row", "said"), [("n/a\t1\tx.png", "has no onset"), ("3\t-1\tx.png", "has a negative duration")])
def test_events_that_cannot_be_are_named(study, row, said):
    root = study("sub-01_task-a_events.tsv", HEADER + "1\t1\tx.png\n" + row + "\n")
    with pytest.raises(FormatError, match=rf"sub-01_task-a_events\.tsv': the event in row 1 .* {said}; 1 such rows"):
        read_events(root, subject="01", task="a")


def test_events_after_the_last_volume(study):
    root = study("sub-01_task-a_run-1_events.tsv", HEADER + "1\t1\tx.png\n19.9\t5\tx.png\n20\t1\ty.png\n31\t1\ty.png\n")
    image = nibabel.Nifti1Image(np.zeros((1, 1, 1, 10), np.int16), np.eye(4))
    nibabel.save(image, root / "sub-01/func/sub-01_task-a_run-1_echo-1_bold.nii.gz")
    (root / "task-a_bold.json").write_text('{"RepetitionTime": 2}')
    with pytest.raises(FormatError, match=r"in row 2 \(onset 20, .* ends at 20 s; 2 such rows.*past_end='keep'"):
        read_events(root, subject="01", task="a")
    assert len(read_events(root, subject="01", task="a", past_end="keep")) == 4
    (root / "task-a_bold.json").write_text('{"RepetitionTime": 4}')
    assert len(read_events(root, subject="01", task="a")) == 4


def test_a_table_at_the_root_holds_for_all_runs_without_their_own(study):
    for run in "12":
        study(f"sub-01_task-a_run-{run}_bold.nii.gz", "x")
    root = study("sub-01_task-b_bold.nii.gz", "x")
    (root / "task-a_events.tsv").write_text(HEADER + "1\t1\tx.png\n2\t1\ty.png\n")
    events = read_events(root, subject="01", task="a", past_end="keep")
    assert events.run.tolist() == ["1", "1", "2", "2"]
    assert set(events.file) == {"task-a_events.tsv"}
    study("sub-01_task-a_run-2_events.tsv", HEADER + "7\t1\tz.png\n")
    assert read_events(root, subject="01", task="a", past_end="keep").onset.tolist() == [1, 2, 7]
    (root / "sub-01" / "sub-01_task-a_events.tsv").write_text(HEADER + "5\t1\tx.png\n")
    assert read_events(root, subject="01", task="a", past_end="keep").onset.tolist() == [5, 7]
    with pytest.raises(FormatError, match=r"no table of events holds for '.*sub-01_task-b_bold"):
        read_events(root, subject="01", task="b")
    with pytest.raises(FormatError, match=r"bold.nii.gz' could not be read as NIfTI"):  # its end is looked for
        read_events(root, subject="01", task="a")


def test_damage_gives_events_or_a_typed_error(study, survives_damage):
    root = study("sub-01_task-a_events.tsv", HEADER + "1\t1\tx.png\n2.5\tn/a\ty.png\n")
    assert survives_damage(root / "sub-01/func/sub-01_task-a_events.tsv", lambda: read_events(root, subject="01", task="a"))


@pytest.mark.real
def test_the_face_study(shared_data):
    root = shared_data("bids-ds000117-meta")
    events = read_events(root, subject="01", task="facerecognition", session="meg", stimulus_column="stim_file")
    assert len(events) == 887
    assert events.stim_type.value_counts().to_dict() == {"Scrambled": 297, "Unfamiliar": 295, "Famous": 295}
    assert sorted(set(events.run)) == ["01", "02", "03", "04", "05", "06"]
    # answers without a recording stand apart, and have no onsets
    answers = read_events(root, subject="01", task="facerecognition", session="meg", datatype="beh")
    assert answers.onset.isna().all()
