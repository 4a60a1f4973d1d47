"""A real BIDS tree without signals: its events and sidecars, alone and with volumes simulated from them."""

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import compute_regressor

import brainalign as ba

pytestmark = pytest.mark.real

FACES = {"subject": "01", "task": "facerecognition"}


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data("bids-ds000117-meta")


def test_the_events_are_those_of_the_readme(root):
    """README: 887 rows, 450 stimuli, 437 of them twice and 13 once, 297/295/295 conditions; a repeat is in the same run."""
    x = ba.stimuli.from_bids(root, **FACES, session="meg", stimulus_column="stim_file", condition_column="stim_type")
    assert x.sizes["presentation"] == 887
    table = pd.DataFrame({name: x[name].values.astype(object) for name in ("stimulus_id", "condition", "run")})
    counts = table["stimulus_id"].value_counts()
    assert len(counts) == 450
    assert counts.value_counts().to_dict() == {2: 437, 1: 13}
    assert table["condition"].value_counts().to_dict() == {"Scrambled": 297, "Unfamiliar": 295, "Famous": 295}
    assert (table.groupby("stimulus_id")["run"].nunique() == 1).all()
    with pytest.raises(ba.errors.FormatError, match=r"no column 'trial_type'. Its columns are .*'stim_type'"):
        ba.stimuli.from_bids(root, **FACES, session="meg", stimulus_column="trial_type")


def test_two_kinds_of_recording_are_told_apart(root):
    with pytest.raises(ba.errors.FormatError, match=r"several kinds: beh \(1 files\), func \(9 files\), meg \(6 files\)"):
        ba.stimuli.from_bids(root, **FACES, stimulus_column="stim_file")
    x = ba.stimuli.from_bids(root, **FACES, datatype="func", stimulus_column="stim_file", condition_column="stim_type")
    counts = pd.Series(x.condition.values.astype(object)).value_counts().to_dict()
    assert counts == {"FAMOUS": 280, "SCRAMBLED": 280, "UNFAMILIAR": 278, "n/a": 54}


@pytest.fixture(scope="module")
def copy(root, tmp_path_factory):
    """The tree with three runs of two voxels, simulated: one answers to faces, one to nothing; the TR is in the sidecar only."""
    copy = tmp_path_factory.mktemp("bids") / "ds000117"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    for folder in (copy, *copy.rglob("*")):
        folder.chmod(0o755 if folder.is_dir() else 0o644)
    frames = 2.0 * np.arange(208)
    for run in ("01", "02", "03"):
        name = copy / f"sub-01/ses-mri/func/sub-01_ses-mri_task-facerecognition_run-{run}"
        events = pd.read_csv(f"{name}_events.tsv", sep="\t")
        faces = events[events["stim_type"].isin(["FAMOUS", "UNFAMILIAR"])]
        shown = np.stack([faces["onset"], faces["duration"], np.ones(len(faces))])
        answer = compute_regressor(shown, "spm", frames)[0][:, 0]
        noise = np.random.default_rng(int(run)).normal(size=(2, 208))
        values = 1000 + 300 * np.stack([answer / answer.std() + 0.5 * noise[0], noise[1]])
        image = nibabel.Nifti1Image(values.reshape(2, 1, 1, 208).astype(np.int16), np.eye(4))
        nibabel.save(image, f"{name}_bold.nii.gz")  # without a unit of time
    for run in range(4, 10):
        (copy / f"sub-01/ses-mri/func/sub-01_ses-mri_task-facerecognition_run-{run:02d}_events.tsv").unlink()
    return copy


def test_events_and_volumes_of_a_tree_meet(copy):
    bold = ba.open_responses(copy, **FACES)
    assert bold.shape == (624, 2)
    assert set(bold.session.values) == {"mri"}
    assert float(bold.onset_s[207]) == 414.0
    x = ba.stimuli.from_bids(copy, **FACES, datatype="func", stimulus_column="stim_file", condition_column="stim_type")
    conditions = ["FAMOUS", "UNFAMILIAR", "SCRAMBLED"]
    shown = (x.condition.values.astype(object)[:, None] == conditions).astype(np.float32)
    labels = {name: x[name].values for name in ("onset_s", "duration_s", "run", "session", "subject")}
    design = ba.responses(shown, stimulus_id=x.stimulus_id, neuroid_id=conditions, modality="ann", system="task", **labels)
    model = ba.chain(ba.HRF("spm", at="target"), ba.Ridge(alphas=[1e-3]))
    score = ba.evaluate(design, bold, model=model, cv=ba.split(bold, by="run")).score.values
    assert score[0] > 0.8  # sqrt(1 / 1.25) = .894 is the most that this noise allows
    assert abs(score[1]) < 0.15


def test_a_run_that_was_cut_short_is_noticed(copy, tmp_path):
    short = tmp_path / "short"
    shutil.copytree(copy, short)
    file = short / "sub-01/ses-mri/func/sub-01_ses-mri_task-facerecognition_run-02_bold.nii.gz"
    image = nibabel.load(file)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[..., :170], image.affine), file)
    wanted = {**FACES, "datatype": "func", "stimulus_column": "stim_file"}
    with pytest.raises(
        ba.errors.FormatError, match=r"run-02_events.tsv': the event in row \d+ .* after the last volume .* ends at 340 s"
    ):
        ba.stimuli.from_bids(short, **wanted)
    assert ba.stimuli.from_bids(short, **wanted, past_end="keep").sizes["presentation"] > 250
