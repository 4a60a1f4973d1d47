import json

import pytest

from brainalign.adapters.bids.entities import check_entities, find, label_of, parse, refuse_absent, refuse_several, stated
from brainalign.core.errors import FormatError, ParameterError

BOLD = {"suffix": "bold", "extensions": [".nii.gz"], "what": "bold"}


@pytest.fixture
def tree(tmp_path):
    def put(*names):
        for name in names:
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x")
        return tmp_path

    return put


def say(path, **keys):
    path.write_text("\ufeff" + json.dumps(keys), encoding="utf-8")


def test_names_are_taken_apart():
    file = parse("a/sub-01_ses-a_task-rest_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz")
    assert file.entities == {
        "sub": "01", "ses": "a", "task": "rest", "space": "MNI152NLin2009cAsym", "res": "2", "desc": "preproc",
    }  # fmt: skip
    assert (file.suffix, file.extension) == ("bold", ".nii.gz")
    assert parse("sub-1_hemi-L_bold.func.gii").extension == ".func.gii"
    assert parse("bold_25mm.nii.gz").entities == {}


def test_labels_lose_their_key_and_are_no_paths():
    assert label_of("sub", "sub-01") == label_of("sub", "01") == "01"
    assert check_entities({"run": ["run-1", 2], "acq": None}, owner="f") == {"run": ["1", "2"]}
    with pytest.raises(ParameterError, match=r"BIDS label acq='\.\./x' is not made of letters"):
        check_entities({"acq": "../x"}, owner="f")
    with pytest.raises(ParameterError, match=r"f got an unknown option 'tsk'. Did you mean 'task'\?"):
        check_entities({"tsk": "a"}, owner="f")


def test_files_of_one_person(tree):
    root = tree(
        "sub-01/func/sub-01_task-a_run-2_bold.nii.gz", "sub-01/func/sub-01_task-a_run-1_bold.nii.gz",
        "sub-01/func/sub-01_task-a_bold.json", "sub-01/func/sub-01_task-a_sbref.nii.gz",
        "sub-01/ses-x/func/sub-01_ses-x_task-b_bold.nii.gz",
    )  # fmt: skip
    assert [file.entities.get("run") for file in find(root, {"task": "a"}, **BOLD)] == ["1", "2"]
    assert len(find(root, {"sub": "01", "run": ["2"]}, **BOLD)) == 1
    assert [file.entities["task"] for file in find(root, {"run": "none"}, **BOLD)] == ["b"]
    with pytest.raises(FormatError, match=r"no bold of run-3. It has 'run-1', 'run-2'"):
        find(root, {"task": "a", "run": ["1", "3"]}, **BOLD)
    with pytest.raises(FormatError, match=r"has no 'sub-02'. It has 'sub-01'"):
        find(root, {"sub": "02"}, **BOLD)
    tree("sub-02/x_y.txt")
    with pytest.raises(FormatError, match="holds 2 people and none was named"):
        find(root, {}, **BOLD)


def test_links_without_content_are_named(tree):
    root = tree("sub-01/func/sub-01_task-a_run-1_bold.nii.gz")
    (root / "sub-01/func/sub-01_task-a_run-2_bold.nii.gz").symlink_to(root / ".git/annex/objects/gone")
    refuse_absent(find(root, {"run": "1"}, **BOLD))
    with pytest.raises(FormatError, match=r"sub-01_task-a_run-2_bold.nii.gz' is a link to content that is not here.*datalad get"):
        refuse_absent(find(root, {}, **BOLD))


def test_several_values_are_listed(tree):
    files = [parse(f"sub-1_run-{run}{space}_bold.nii.gz") for run in "12" for space in ("_space-A", "_space-B", "")]
    with pytest.raises(
        FormatError,
        match=r"bold of several 'space': 'A' \(2 files\), 'B' \(2 files\), 'none' \(2 files\).*`space='A'`, where none",
    ):
        refuse_several(files, but=("run",), what="bold")
    refuse_several(files[::3], but=("run",), what="bold")


def test_the_nearest_sidecar_wins(tree):
    root = tree("sub-01/ses-a/func/sub-01_ses-a_task-x_run-1_bold.nii.gz")
    image = root / "sub-01/ses-a/func/sub-01_ses-a_task-x_run-1_bold.nii.gz"
    assert stated(image, "RepetitionTime") is None
    places = [
        "bold.json", "task-x_bold.json", "sub-01/sub-01_task-x_bold.json", "sub-01/ses-a/sub-01_ses-a_bold.json",
        "sub-01/ses-a/func/sub-01_ses-a_task-x_bold.json", "sub-01/ses-a/func/sub-01_ses-a_task-x_run-1_bold.json",
    ]  # fmt: skip
    for tr, place in enumerate(places, 1):
        say(root / place, RepetitionTime=tr)
        sidecar, value = stated(image, "RepetitionTime")
        assert (sidecar, value) == (root / place, tr)
    say(root / places[-1], EchoTime=0.03)  # a key that the nearest lacks is inherited
    assert stated(image, "RepetitionTime")[1] == 5


def test_sidecars_of_others_do_not_hold(tree):
    root = tree("sub-01/func/sub-01_task-x_run-1_bold.nii.gz")
    for name in ("task-y_bold.json", "task-x_acq-a_bold.json", "task-x_events.json", "sub-01/func/sub-01_task-x_run-2_bold.json"):
        say(root / name, RepetitionTime=1)
    say(root.parent / "task-x_bold.json", RepetitionTime=1)  # above the data set
    image = root / "sub-01/func/sub-01_task-x_run-1_bold.nii.gz"
    assert stated(image, "RepetitionTime") is None
    (root.parent / "task-x_bold.json").unlink()


def test_what_macos_leaves_beside_files_is_no_sidecar(tmp_path):
    file = tmp_path / "sub-01_task-a_bold.nii.gz"
    (tmp_path / "._sub-01_task-a_bold.json").write_bytes(b"\x00\x05\x16\x07")
    assert stated(file, "RepetitionTime") is None


def test_two_statements_of_one_rank_must_agree(tree):
    root = tree("sub-01/func/sub-01_task-x_run-1_bold.nii.gz")
    for name, tr in (("task-x_bold.json", 1), ("run-1_bold.json", 2)):
        say(root / name, RepetitionTime=tr)
    with pytest.raises(FormatError, match=r"task-x_bold.json' says RepetitionTime 1 and '.*run-1_bold.json' 2, and both hold"):
        stated(root / "sub-01/func/sub-01_task-x_run-1_bold.nii.gz", "RepetitionTime")


def test_damage_gives_a_statement_or_a_typed_error(tree, survives_damage):
    root = tree("sub-01/func/sub-01_task-x_bold.nii.gz")
    say(root / "task-x_bold.json", RepetitionTime=2.0, TaskName="x")
    assert survives_damage(
        root / "task-x_bold.json", lambda: stated(root / "sub-01/func/sub-01_task-x_bold.nii.gz", "RepetitionTime")
    )


@pytest.mark.real
def test_the_face_study_states_its_tr_at_the_root(shared_data):
    root = shared_data("bids-ds000117-meta")
    image = root / "sub-01/ses-mri/func/sub-01_ses-mri_task-facerecognition_run-01_bold.nii.gz"  # not in this copy
    sidecar, value = stated(image, "RepetitionTime")
    assert (sidecar.name, value) == ("task-facerecognition_bold.json", 2)
