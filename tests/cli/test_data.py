import numpy as np
import pytest

import brainalign as ba
from brainalign.cli.data import check_path, read_options
from brainalign.cli.main import main
from brainalign.core.errors import ParameterError


def test_a_study_is_checked_recording_by_recording(tmp_path, capsys):
    study = ba.simulate(n_stimuli=20, random_state=0)
    dead = study.bold.copy(deep=True)
    dead.values[:, 3] = 0
    ba.save(study.fmri, tmp_path / "s.zarr", name="alive")
    ba.save(dead, tmp_path / "s.zarr", name="dead")
    ba.save(study.stimuli, tmp_path / "s.zarr")
    assert main(["data", "check", str(tmp_path / "s.zarr"), "--output", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "alive: fmri, 80 presentation × 90 neuroid in a.u., 20 stimuli, 4 presentations each; nothing stands out" in said
    assert "warning: constant neuroids: 1 neuroid has the same value throughout (neuroids 'V1-003')" in said
    assert "<h2>dead</h2>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_file_says_its_format_and_its_errors_decide_the_status(tmp_path, capsys, caplog):
    values = np.random.default_rng(0).normal(size=(30, 4))
    (tmp_path / "ids.txt").write_text("\n".join(f"image {i}" for i in range(30)))
    np.save(tmp_path / "x.npy", values)
    options = ["modality=fmri", "system=sub-01", "neuroid_id=['a', 'b', 'c', 'd']", f"stimulus_id={tmp_path / 'ids.txt'}"]
    flags = [part for option in options for part in ("--option", option)]
    assert main(["data", "check", str(tmp_path / "x.npy"), *flags]) == 0
    spoken = capsys.readouterr()
    assert "is opened as 'arrays': it starts as files of numpy do" in spoken.err
    assert "x.npy: fmri, 30 presentation × 4 neuroid, 30 stimuli, 1 presentation each; nothing stands out" in spoken.out
    assert main(["data", "check", str(tmp_path / "x.npy")]) == 1
    assert "needs `modality=`" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "gone.npy")]) == 1


@pytest.mark.parametrize("file", ["lazy.npy", "in_memory.csv"])
def test_nan_that_nobody_declared_is_reported_with_all_its_places(tmp_path, capsys, file):
    values = np.random.default_rng(0).normal(size=(30, 4))
    values[3, 1], values[:, 2] = np.nan, np.inf
    np.save(tmp_path / "lazy.npy", values)
    rows = [",".join([f"i{i}", *map(str, row)]) for i, row in enumerate(values)]
    (tmp_path / "in_memory.csv").write_text("\n".join(["stimulus_id,a,b,c,d", *rows]))
    ids = ["neuroid_id=['a', 'b', 'c', 'd']", f"stimulus_id={[f'i{i}' for i in range(30)]}"] if file == "lazy.npy" else []
    flags = [part for option in ("modality=fmri", "system=s", *ids) for part in ("--option", option)]
    assert main(["data", "check", str(tmp_path / file), *flags]) == 1
    assert (
        "error: values that are not finite: has NaN or infinite values in 2 of 4 neuroids ('b', 'c'). " in capsys.readouterr().out
    )
    assert main(["data", "check", str(tmp_path / file), *flags, "--option", "allow_nan=True"]) == 0
    assert "warning: declared NaN: 2 neuroids have NaN or infinite values (neuroids 'b', 'c')" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path / file), *flags, "--option", "allow_nan=False"]) == 1
    assert "allow_nan=True" in capsys.readouterr().err


def test_options_are_literals_or_text():
    assert read_options(["tr_s=2.0", "mask=a=b.nii", "runs=[1, 2]"]) == {"tr_s": 2.0, "mask": "a=b.nii", "runs": [1, 2]}
    with pytest.raises(ParameterError, match=r"--option 'tr_s'\. Expected key=value"):
        read_options(["tr_s"])


@pytest.mark.real
def test_a_recording_is_checked_without_saying_whose_it_is(shared_data, capsys):
    file = shared_data("eeg-visual-attention") / "eeglab_data.set"
    assert main(["data", "check", str(file), "--option", "events=samples"]) == 0
    assert "eeglab_data.set: eeg, 30,504 presentation × 30 neuroid in V" in capsys.readouterr().out


def test_what_a_format_needs_is_asked_for_as_the_command_line_takes_it(tmp_path):
    (tmp_path / "regions.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(ParameterError, match=r"needs `tr_s=`.*`--option tr_s=2\.0`"):
        check_path(tmp_path / "regions.csv")
