from pathlib import Path

import numpy as np
import pytest

from brainalign.adapters.fmri.runs import common_tr, map_rows, run_files, run_names, run_rows, stated_tr
from brainalign.core.errors import FormatError, ParameterError

CALL = {"header": "no TimeStep", "owner": "open_x"}


def test_runs_are_named_by_the_argument_then_the_entity_then_one():
    files = [Path("sub-1_run-02_bold.nii.gz"), Path("sub-1_run-01_bold.nii.gz")]
    assert run_names(None, files) == ["02", "01"]
    assert run_names(["a", "b"], files) == ["a", "b"]
    assert run_names("rest", files[:1]) == ["rest"]
    assert run_names(3, files[:1]) == ["3"]
    assert run_names(None, [Path("bold.nii")]) == ["1"]
    for run, some in ((None, [Path("a.nii"), Path("b.nii")]), (["a", "a"], files), (None, [])):
        with pytest.raises(ParameterError, match="one name a file, none twice"):
            run_names(run, some)


def test_one_path_is_one_run_and_each_file_is_there(tmp_path):
    (tmp_path / "a.nii").write_bytes(b"x")
    assert run_files(str(tmp_path / "a.nii")) == run_files([tmp_path / "a.nii"]) == [tmp_path / "a.nii"]
    with pytest.raises(FormatError, match=r"no file '.*b\.nii'"):
        run_files([tmp_path / "a.nii", tmp_path / "b.nii"])


def test_files_are_of_one_person_and_none_is_there_twice():
    files = [Path("sub-01_run-1_bold.nii"), Path("sub-02_run-2_bold.nii")]
    with pytest.raises(ParameterError, match=r"'sub-02_run-2_bold.nii' are of .*sub-01.*sub-02.*runs of one person"):
        run_names(["a", "b"], files)
    with pytest.raises(ParameterError, match="hold one twice"):
        run_names(["a", "b"], files[:1] * 2)


def test_rows_count_volumes_within_runs():
    ids, rows = run_rows(["a", "b"], [2, 1], 1.5, 10.0, {"subject": "01", "session": None})
    assert ids == ["run-a/v00000", "run-a/v00001", "run-b/v00000"]
    assert list(rows["run"]) == ["a", "a", "b"]
    assert rows["subject"] == ["01"] * 3
    assert "session" not in rows
    np.testing.assert_array_equal(rows["onset_s"], [10, 11.5, 10])
    np.testing.assert_array_equal(rows["duration_s"], [1.5] * 3)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".func.gii", ".dtseries.nii", ".gii"])
def test_the_sidecar_is_found_beside_every_kind_of_file(tmp_path, suffix):
    file = tmp_path / f"x.y_bold{suffix}"
    (tmp_path / "x.y_bold.json").write_text('\ufeff{"RepetitionTime": 2}')
    assert stated_tr(file, None, False, header_s=2.0005, **CALL) == 2.0
    with pytest.raises(FormatError, match=r"'x.y_bold.json' states a TR of 2 s and header of 2.1 s"):
        stated_tr(file, None, False, header_s=2.1, **CALL)
    with pytest.raises(FormatError, match=r"tr_s states a TR of 1 s and 'x.y_bold.json' of 2 s"):
        stated_tr(file, 1.0, False, header_s=None, **CALL)
    assert stated_tr(file, 1.0, True, header_s=3.0, **CALL) == 1.0


def test_what_states_no_tr_is_named(tmp_path):
    file = tmp_path / "bold.nii"
    with pytest.raises(FormatError, match=r"bold.nii' does not state its TR: .* no TimeStep. Pass `tr_s=`"):
        stated_tr(file, None, False, header_s=None, **CALL)
    with pytest.raises(ParameterError, match="open_x got override_tr=True without tr_s"):
        stated_tr(file, None, True, header_s=2.0, **CALL)
    for damaged in ('{"RepetitionTime": -1}', '{"RepetitionTime": Infinity}', "[1]", "{"):
        (tmp_path / "bold.json").write_text(damaged)
        with pytest.raises(FormatError, match=r"bold\.json"):
            stated_tr(file, None, False, header_s=2.0, **CALL)
    (tmp_path / "bold.json").write_text("{}")
    assert stated_tr(file, None, False, header_s=2.0, **CALL) == 2.0


def test_milliseconds_are_no_seconds(tmp_path):
    file = tmp_path / "bold.nii"
    for given, header in ((2000.0, None), (None, 2000.0), (2000.0, 2000.0)):
        with pytest.raises(FormatError, match=r"states a TR of 2000 s. Expected seconds, .* looks like milliseconds"):
            stated_tr(file, given, False, header_s=header, **CALL)
    (tmp_path / "bold.json").write_text('{"RepetitionTime": 2000}')
    with pytest.raises(FormatError, match=r"'bold.json' states a TR of 2000 s"):
        stated_tr(file, None, False, header_s=None, **CALL)
    assert stated_tr(file, 2.0, True, header_s=None, **CALL) == 2.0


def test_runs_share_one_tr():
    files = [Path("a.nii"), Path("b.nii")]
    assert common_tr(files, [2.0, 2.001]) == 2.0
    with pytest.raises(FormatError, match=r"'a.nii' has a TR of 2 s and 'b.nii' of 2.5 s"):
        common_tr(files, [2.0, 2.5])


def test_maps_are_named_or_numbered_and_have_no_clock(tmp_path):
    ids, rows = map_rows(["a", "b"], [["faces", ""], ["faces"]], {"subject": "01", "session": None})
    assert ids == ["faces", "run-a/m00001", "faces"]
    assert (list(rows["run"]), rows["subject"], set(rows)) == (["a", "a", "b"], ["01"] * 3, {"run", "subject"})
    assert stated_tr(tmp_path / "x.shape.gii", None, False, header_s=None, required=False, **CALL) is None
