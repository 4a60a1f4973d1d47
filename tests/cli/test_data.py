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
    assert read_options(["edges_s=[0, 1]"]) == {"edges_s": [0, 1]}
    assert read_options(["edges_s=-0.1:0.2:0.1"]) == {"edges_s": [-0.1, 0.0, 0.1, 0.2]}
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


@pytest.fixture
def files(tmp_path):
    """A recording of a brain in a table, and one of a network in numpy's format, of the same stimuli."""
    rng = np.random.default_rng(0)
    values, ids = rng.normal(size=(30, 4)), [f"image {i}" for i in range(30)]
    np.savez(tmp_path / "net.npz", values=values, stimulus_id=ids)
    rows = [",".join([name, *map(str, row)]) for name, row in zip(ids, values + rng.normal(size=values.shape), strict=True)]
    (tmp_path / "brain.csv").write_text("\n".join(["stimulus_id,a,b,c,d", *rows]))
    return {
        "sub-01": [str(tmp_path / "brain.csv"), *options("modality=fmri", "system=sub-01", "units=% signal change")],
        "net": [str(tmp_path / "net.npz"), *options("modality=ann", "system=net", "key=values", "neuroid_id=[0, 1, 2, 3]")],
    }


def options(*given):
    return [part for option in given for part in ("--option", option)]


def test_recordings_of_a_brain_and_of_a_network_are_brought_into_a_study_and_work_there(files, tmp_path, capsys):
    study = str(tmp_path / "study.zarr")
    for system, (path, *rest) in files.items():
        assert main(["data", "add", path, study, *rest]) == 0
        said = capsys.readouterr()
        assert said.out.endswith(f", 30 stimuli, 1 presentation each; saved in {study} as responses/{system}\n")
        assert said.out.count("\n") == 1
        assert "is opened as 'arrays'" in said.err
    held = ba.open_responses(study, name="sub-01")
    opened = ba.open_responses(files["sub-01"][0], modality="fmri", system="sub-01", units="% signal change")
    assert held.equals(opened)
    assert held.attrs == opened.attrs | {"provenance": held.attrs["provenance"]}  # which has the time of opening
    assert main(["data", "check", study]) == 0
    assert "net: ann, 30 presentation × 4 neuroid" in capsys.readouterr().out
    for source, target in (("net", "sub-01"), ("sub-01", "net")):
        spec = "".join(
            f'{side} = {{path = "{study}", name = "{name}"}}\n' for side, name in (("source", source), ("target", target))
        )
        (tmp_path / "spec.toml").write_text(spec + f'cv = 3\nrandom_state = 0\nstore = "{study}"\nname = "from {source}"')
        assert main(["evaluate", str(tmp_path / "spec.toml")]) == 0
        assert ba.open_study(study)[f"results/from {source}"].score.sizes == {"neuroid": 4}


@pytest.mark.parametrize("system", ["sub-01", "net"])
def test_what_a_study_holds_is_replaced_only_on_demand(files, system, tmp_path, capsys):
    study, (path, *rest) = str(tmp_path / "study.zarr"), files[system]
    ba.save(ba.simulate(n_stimuli=20, random_state=0).fmri, study, name=system)
    before = ba.open_responses(study, name=system).compute()
    assert main(["data", "add", path, study, *rest]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"StoreError: {study} already holds responses named {system!r}.")
    assert error.endswith("On the command line these are `--name` and `--overwrite`.")
    assert ba.open_responses(study, name=system).identical(before)
    assert main(["data", "add", path, study, *rest, "--name", "other"]) == 0
    assert main(["data", "add", path, study, *rest, "--overwrite"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"as responses/{system}")
    opened = {name: ba.open_responses(study, name=name) for name in (system, "other")}
    assert opened[system].shape == (30, 4)
    np.testing.assert_array_equal(opened[system], opened["other"])


def test_trials_become_stimuli_of_their_own(tmp_path, capsys):
    file, study = tmp_path / "trials.csv", str(tmp_path / "study.zarr")
    file.write_text("\n".join(["stimulus_id,a,b,c", *(f"{('cat', 'dog')[i % 2]},{i},{i % 3},{i**2}" for i in range(8))]))
    asked = ["data", "add", str(file), study, *options("modality=spikes", "system=m")]
    assert main([*asked, "--single-trials"]) == 0
    assert "8 stimuli, 1 presentation each" in capsys.readouterr().out
    x = ba.open_responses(study)
    assert x.stimulus_id.values[:3].tolist() == ["cat/0", "dog/1", "cat/2"]
    assert x.condition.values[:3].tolist() == ["cat", "dog", "cat"]
    assert len(set(x.repetition.values.tolist())) == 1
    assert ba.core.provenance(x).steps[-1]["params"] == {"single_trials": True}
    (tmp_path / "decode.toml").write_text(
        f'source = "{study}"\ntarget = {{coordinate = "condition"}}\nmodel = "Classifier"\ncv = 2'
    )
    assert (
        main(["evaluate", str(tmp_path / "decode.toml")]) == 0
    )  # of two stimuli, named by their condition, no two folds can be made


def test_one_recording_of_a_study_is_chosen_by_an_option(tmp_path, capsys):
    ours, theirs = str(tmp_path / "ours.zarr"), str(tmp_path / "theirs.zarr")
    study = ba.simulate(n_stimuli=20, random_state=0)
    ba.save(study.fmri, theirs, name="first")
    assert main(["data", "add", theirs, ours, "--name", "alone"]) == 0
    ba.save(study.bold, theirs, name="second")
    assert main(["data", "add", theirs, ours]) == 1
    assert "Expected one: choose with `name=`. On the command line options are given one by one" in capsys.readouterr().err
    assert main(["data", "add", theirs, ours, "--option", "name=first"]) == 0
    assert list(ba.open_study(ours)["responses"]) == ["alone", "sub-01"]
    assert ba.open_responses(ours, name="sub-01").identical(ba.open_responses(theirs, name="first"))


def test_what_cannot_be_saved_leaves_no_study(files, tmp_path, capsys):
    study, values = tmp_path / "study.zarr", np.ones((30, 4))
    assert main(["data", "add", files["net"][0], str(study), *options("modality=ann", "neuroid_id=[0, 1, 2, 3]")]) == 1
    assert "needs `system=`" in capsys.readouterr().err  # a check asks for none
    values[3, 1] = np.nan
    np.save(tmp_path / "nan.npy", values)
    labels = options("modality=fmri", "system=s", "neuroid_id=['a', 'b', 'c', 'd']", f"stimulus_id={list(map(str, range(30)))}")
    assert main(["data", "add", str(tmp_path / "nan.npy"), str(study), *labels]) == 1
    assert "declare NaN with `allow_nan=True`" in capsys.readouterr().err
    two = ba.simulate(n_stimuli=20, random_state=0).fmri
    two.coords["system"] = ("neuroid", np.where(np.arange(two.sizes["neuroid"]) < 9, "one", "two"))
    ba.save(two, tmp_path / "two.zarr", name="both")
    assert main(["data", "add", str(tmp_path / "two.zarr"), str(study)]) == 1
    assert "must be given for responses of 2 systems. Got None instead. On the command line these are" in capsys.readouterr().err
    assert main(["data", "add", str(tmp_path / "gone.npy"), str(study)]) == 1
    assert not study.exists()
    assert main(["data", "add", str(tmp_path / "nan.npy"), str(study), *labels, *options("allow_nan=True")]) == 0
    assert int(np.isnan(ba.open_responses(study)).sum()) == 1
