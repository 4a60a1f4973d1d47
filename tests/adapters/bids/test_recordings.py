import json

import nibabel
import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.bids.recordings import adapter, open_bids
from brainalign.core.errors import FormatError, ParameterError

MNI = "space-MNI152NLin2009cAsym_res-2"


@pytest.fixture
def prepared(tree):
    """Two runs in two spaces, with masks that differ in one voxel, and confounds."""
    for run in ("01", "02"):
        for space, shape in ((MNI, (3, 4, 2)), ("space-T1w", (2, 2, 2))):
            tree.bold(f"sub-01_task-faces_run-{run}_{space}_desc-preproc_bold.nii.gz", seed=int(run), shape=shape)
            mask = np.ones(shape, np.uint8)
            mask[0, 0, int(run) - 1] = 0
            tree.volume(f"sub-01_task-faces_run-{run}_{space}_desc-brain_mask.nii.gz", mask)
        tree.confounds(f"sub-01_task-faces_run-{run}")
    return tree


def test_a_derivative_opens_with_its_runs_in_one_space(prepared):
    x = ba.open_responses(prepared.root, subject="01", task="faces", space="MNI152NLin2009cAsym")
    assert x.shape == (60, 24)
    assert x.attrs["space"] == "MNI152NLin2009cAsym"
    assert list(dict.fromkeys(x.run.values)) == ["01", "02"]
    assert set(x.subject.values) == {"01"}
    assert set(x.system.values) == {"sub-01"}
    assert "session" not in x.coords
    assert x.stimulus_id.values[30] == "run-02/v00000"
    np.testing.assert_allclose(x.onset_s.values[28:32], [56, 58, 0, 2])
    file = prepared.path(f"sub-01_task-faces_run-02_{MNI}_desc-preproc_bold.nii.gz")
    np.testing.assert_array_equal(x.values[30:], nibabel.load(file).get_fdata(dtype=np.float32).reshape(24, 30).T)
    step = ba.core.provenance(x).steps[-2]
    assert step["verb"] == "open:bids"
    assert step["params"]["source"][0] == f"sub-01/func/sub-01_task-faces_run-01_{MNI}_desc-preproc_bold.nii.gz"
    ba.validate(x, deep=True)


def test_several_spaces_are_listed(prepared):
    with pytest.raises(
        FormatError, match=r"several 'space': 'MNI152NLin2009cAsym' \(2 files\), 'T1w' \(2 files\).*choose with `space="
    ):
        open_bids(prepared.root)
    with pytest.raises(FormatError, match=r"no bold of space-MNI152.*'space-MNI152NLin2009cAsym', 'space-T1w'"):
        open_bids(prepared.root, space="MNI152")
    prepared.bold(f"sub-01_task-faces_run-01_{MNI.replace('res-2', 'res-1')}_desc-preproc_bold.nii.gz")
    with pytest.raises(FormatError, match=r"several 'res': '1' \(1 file\), '2' \(2 files\)"):
        open_bids(prepared.root, space="MNI152NLin2009cAsym")
    assert open_bids(prepared.root, space="MNI152NLin2009cAsym", res=2).shape == (60, 24)
    prepared.bold("sub-01_task-faces_run-01_desc-preproc_bold.nii.gz", shape=(1, 1, 1))
    assert open_bids(prepared.root, space="none", run="01").shape == (30, 1)


def test_the_brain_is_what_every_run_has(prepared):
    x = open_bids(prepared.root, space="T1w", mask="brain")
    assert x.neuroid_id.values.tolist() == [2, 3, 4, 5, 6, 7]
    assert open_bids(prepared.root, space="T1w", mask="brain", run="02").neuroid_id.values.tolist() == [0, 2, 3, 4, 5, 6, 7]
    prepared.path("sub-01_task-faces_run-01_space-T1w_desc-brain_mask.nii.gz").unlink()
    with pytest.raises(FormatError, match="has 0 files desc-brain_mask of its run and space"):
        open_bids(prepared.root, space="T1w", mask="brain")


def test_segmentations_name_regions(prepared):
    for run in ("01", "02"):
        labels = np.array([0, 0, 3, 3, 7, 7, 7, 0], np.int16).reshape(2, 2, 2)
        prepared.volume(f"sub-01_task-faces_run-{run}_space-T1w_desc-aseg_dseg.nii.gz", labels)
    (prepared.root / "desc-aseg_dseg.tsv").write_text("index\tname\n3\tcortex\n7\tthalamus\n")
    x = open_bids(prepared.root, space="T1w", labels="aseg")
    assert x.region.values.tolist() == ["cortex"] * 2 + ["thalamus"] * 3
    prepared.volume("sub-01_task-faces_run-02_space-T1w_desc-aseg_dseg.nii.gz", labels * 2)
    with pytest.raises(FormatError, match=r"differ\. Expected one segmentation"):
        open_bids(prepared.root, space="T1w", labels="aseg")


def test_volumes_before_the_steady_state_are_marked_and_kept(prepared):
    x = open_bids(prepared.root, space="T1w")
    assert x.non_steady_state.values.reshape(2, 30)[:, :5].tolist() == [[True, True, True, False, False]] * 2
    file = prepared.path("sub-01_task-faces_run-02_desc-confounds_timeseries.tsv")
    file.write_text("\n".join(file.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(FormatError, match=r"run-02_desc-confounds_timeseries.tsv' has 29 rows and '.*run-02.*' 30 volumes"):
        open_bids(prepared.root, space="T1w")
    file.unlink()
    assert "non_steady_state" not in open_bids(prepared.root, space="T1w").coords


def test_raw_sessions_keep_their_runs_apart(tree):
    for session in ("a", "b"):
        for run in ("1", "2", "10"):
            tree.bold(f"sub-01_ses-{session}_task-x_run-{run}_bold.nii.gz", seed=int(run), shape=(1, 1, 1), n=2)
    x = open_bids(tree.root)
    assert x.session.values.tolist() == ["a"] * 6 + ["b"] * 6
    assert x.run.values.tolist() == ["1", "1", "2", "2", "10", "10"] * 2
    assert x.stimulus_id.values[-1] == "ses-b_run-10/v00001"
    assert set(x.repetition.values) == {0}
    one = open_bids(tree.root, session="ses-b", run=["1", "10"])
    assert one.stimulus_id.values.tolist() == ["run-1/v00000", "run-1/v00001", "run-10/v00000", "run-10/v00001"]
    assert set(one.session.values) == {"b"}


def test_the_sidecar_says_tr_and_start(tree):
    tree.bold("sub-01_task-x_desc-preproc_bold.nii", n=4, tr=0.0)
    tree.json("task-x_bold.json", RepetitionTime=1.5, StartTime=0.75)
    np.testing.assert_allclose(open_bids(tree.root).onset_s, [0.75, 2.25, 3.75, 5.25])
    np.testing.assert_allclose(open_bids(tree.root, first_onset_s=0.0).onset_s, [0, 1.5, 3, 4.5])
    tree.bold("sub-01_task-x_desc-preproc_bold.nii", n=4, tr=2.0)
    with pytest.raises(FormatError, match=r"'task-x_bold.json' states a TR of 1.5 s and header of 2 s"):
        open_bids(tree.root)
    np.testing.assert_allclose(open_bids(tree.root, tr_s=2.0, override_tr=True).onset_s, [0.75, 2.75, 4.75, 6.75])
    tree.json("task-x_bold.json", RepetitionTime=2, StartTime="late")
    with pytest.raises(FormatError, match="StartTime is 'late'"):
        open_bids(tree.root)


def test_opening_reads_headers_and_a_block_its_volumes(tree, bytes_read):
    for run in "12":
        tree.bold(f"sub-01_task-x_run-{run}_bold.nii", shape=(20, 20, 20), n=50)  # 1.6 MB each, 32 kB a volume
    open_bids(tree.root)
    assert bytes_read(open_bids, tree.root) < 100_000
    x = open_bids(tree.root)
    assert bytes_read(x[60:63].load) < 3 * 32_000 + 20_000


def test_volumes_at_times_of_their_own_are_refused(tree):
    tree.bold("sub-01_task-x_bold.nii", n=4, tr=1.0)
    tree.json("task-x_bold.json", VolumeTiming=[0, 1, 5, 6], AcquisitionDuration=1.0)
    with pytest.raises(FormatError, match=r"has VolumeTiming: volumes at times of their own"):
        open_bids(tree.root)
    assert open_bids(tree.root, tr_s=2.0, override_tr=True).shape[0] == 4


def test_runs_on_different_grids_or_with_other_trs_are_named(tree):
    tree.bold("sub-01_task-x_run-1_bold.nii", n=4)
    tree.bold("sub-01_task-x_run-2_bold.nii", n=4, shape=(3, 4, 3))
    with pytest.raises(FormatError, match=r"run-2_bold.nii' has the grid \(3, 4, 3\) and '.*run-1_bold.nii' \(3, 4, 2\)"):
        open_bids(tree.root)
    tree.bold("sub-01_task-x_run-2_bold.nii", n=4, tr=2.5)
    with pytest.raises(FormatError, match=r"run-1_bold.nii' has a TR of 2 s and '.*run-2_bold.nii' of 2.5 s"):
        open_bids(tree.root)


def test_derivatives_below_a_raw_data_set(prepared, tmp_path):
    (tmp_path / "raw" / "derivatives").mkdir(parents=True)
    prepared.root.rename(tmp_path / "raw" / "derivatives" / "fmriprep")
    raw = type(prepared)(tmp_path / "raw")
    raw.bold("sub-01_task-faces_run-01_bold.nii.gz", shape=(1, 1, 1), n=3)
    assert open_bids(raw.root).shape == (3, 1)
    assert open_bids(raw.root, derivatives="fmriprep", space="T1w").shape == (60, 8)
    with pytest.raises(FormatError, match=r"no derivatives of 'fmriprp'. It has 'fmriprep'.*Did you mean 'fmriprep'"):
        open_bids(raw.root, derivatives="fmriprp")
    with pytest.raises(FormatError, match=r"no derivatives of '\.\./\.\.'"):
        open_bids(raw.root, derivatives="../..")
    with pytest.raises(FormatError, match=r"it is raw. Expected a derivative for space='T1w': name one with `derivatives=`"):
        open_bids(raw.root, space="T1w")


def test_echoes_tasks_and_copies_are_not_mixed(tree):
    for echo in "12":
        tree.bold(f"sub-01_task-x_echo-{echo}_bold.nii", n=3, shape=(1, 1, 1))
    with pytest.raises(FormatError, match=r"several 'echo': '1' \(1 file\), '2' \(1 file\)"):
        open_bids(tree.root)
    assert open_bids(tree.root, echo="2").shape == (3, 1)
    tree.bold("sub-01_task-x_echo-2_bold.nii.gz", n=3, shape=(1, 1, 1))
    with pytest.raises(FormatError, match=r"are one run\. Expected one file"):
        open_bids(tree.root, echo="2")
    tree.bold("sub-01_task-y_bold.nii", n=3, shape=(1, 1, 1))
    with pytest.raises(FormatError, match="several 'task'"):
        open_bids(tree.root)
    with pytest.raises(ParameterError, match=r"unknown option 'sapce'. Did you mean 'space'\?"):
        open_bids(tree.root, sapce="x")


def write_surfaces(tree, run):
    values = {}
    for side, structure in (("L", "CortexLeft"), ("R", "CortexRight")):
        values[side] = np.random.default_rng(int(run)).normal(size=(5, 4)).astype(np.float32)
        arrays = [nibabel.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES") for row in values[side].T]
        meta = nibabel.gifti.GiftiMetaData(AnatomicalStructurePrimary=structure)
        nibabel.save(
            nibabel.GiftiImage(darrays=arrays, meta=meta),
            tree.path(f"sub-01_task-x_run-{run}_hemi-{side}_space-fsaverage5_bold.func.gii"),
        )
    return np.concatenate([values["L"], values["R"]]).T


def test_surfaces_of_both_hemispheres(tree):
    expected = np.concatenate([write_surfaces(tree, run) for run in "12"])
    tree.json("task-x_bold.json", RepetitionTime=2)
    tree.bold("sub-01_task-x_run-1_space-T1w_desc-preproc_bold.nii", n=4)
    x = open_bids(tree.root, space="fsaverage5")
    np.testing.assert_array_equal(x.values, expected)
    assert x.hemisphere.values.tolist() == ["L"] * 5 + ["R"] * 5
    assert x.run.values.tolist() == ["1"] * 4 + ["2"] * 4
    np.testing.assert_array_equal(open_bids(tree.root, space="fsaverage5", hemi="R").values, expected[:, 5:])
    with pytest.raises(ParameterError, match="mask='brain' for files of format 'gifti'"):
        open_bids(tree.root, space="fsaverage5", mask="brain")
    tree.path("sub-01_task-x_run-2_hemi-R_space-fsaverage5_bold.func.gii").unlink()
    with pytest.raises(FormatError):
        open_bids(tree.root, space="fsaverage5")


def test_grayordinates(tree):
    brain = nibabel.cifti2.BrainModelAxis.from_surface(np.arange(4), 6, "CortexLeft")
    brain += nibabel.cifti2.BrainModelAxis.from_surface(np.arange(3), 6, "CortexRight")
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    image = nibabel.Cifti2Image(values, (nibabel.cifti2.SeriesAxis(0, 2, 5), brain))
    image.nifti_header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE_SERIES")
    nibabel.save(image, tree.path("sub-01_task-x_space-fsLR_den-91k_bold.dtseries.nii"))
    x = ba.open_responses(tree.root, format="bids", subject="01", task="x", space="fsLR")
    np.testing.assert_array_equal(x.values, values)
    assert open_bids(tree.root, structures=["CORTEX_RIGHT"]).shape == (5, 3)
    np.testing.assert_allclose(x.onset_s, [0, 2, 4, 6, 8])


def test_other_recordings_are_sent_to_their_adapter(tree, shared_data):
    tree.path("sub-01_task-x_meg.fif", datatype="meg").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"recordings in 'meg', which format 'bids' does not open.*format='meeg', events="):
        open_bids(tree.root)
    tree.bold("sub-01_task-x_bold.nii", n=3)
    with pytest.raises(FormatError, match="does not open"):
        open_bids(tree.root, datatype="meg")
    assert open_bids(tree.root, datatype="func").shape[0] == 3


@pytest.mark.real
def test_the_face_study_has_no_signals(shared_data):
    root = shared_data("bids-ds000117-meta")
    assert adapter.matches(root)
    with pytest.raises(FormatError, match="recordings in 'meg'"):
        ba.open_responses(root, subject="01")


def test_folders_of_others_are_not_claimed(tree, tmp_path):
    assert not adapter.matches(tree.root)  # nobody in it
    tree.bold("sub-01_task-x_bold.nii", n=3)
    assert adapter.matches(tree.root)
    assert adapter.matches(str(tree.root))
    for other in (tree.root / "sub-01", tmp_path, tree.root / "dataset_description.json", np.zeros(2), [tree.root]):
        assert not adapter.matches(other)


def test_damaged_sidecars_and_links_are_named(tree):
    tree.bold("sub-01_task-x_run-1_bold.nii", n=3)
    (tree.root / "task-x_bold.json").write_text('{"RepetitionTime":')
    with pytest.raises(FormatError, match=r"task-x_bold.json' could not be read as JSON"):
        open_bids(tree.root)
    tree.json("task-x_bold.json")
    tree.path("sub-01_task-x_run-2_bold.nii").symlink_to(tree.root / "gone")
    with pytest.raises(FormatError, match="content that is not here"):
        open_bids(tree.root)
    assert open_bids(tree.root, run="1").shape[0] == 3


def test_opened_data_are_evaluated(prepared):
    brain = open_bids(prepared.root, space="T1w", mask="brain")
    source = ba.responses(
        brain.values[:, :3], stimulus_id=brain.stimulus_id, neuroid_id=list("abc"), modality="ann", system="net"
    )
    score = ba.evaluate(source, brain, model=ba.Ridge(alphas=[0.01]), cv=ba.split(brain, by="run")).score
    assert float(score[0]) > 0.9
    assert json.loads(brain.attrs["grid"])["shape"] == [2, 2, 2]
