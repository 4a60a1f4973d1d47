import pytest

from brainalign.adapters.bids.entities import parse
from brainalign.adapters.bids.layout import bold_runs, companions, dataset_folder, one_session, run_names, start_s, told_apart
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.responses import responses


def test_runs_come_in_the_order_of_their_numbers(tree):
    for run in ("1", "2", "10"):
        for hemi in "LR":
            tree.path(f"sub-01_task-x_run-{run}_hemi-{hemi}_space-fsaverage_bold.func.gii").write_bytes(b"x")
    files = bold_runs(tree.root, space="fsaverage")
    assert [(file.entities["run"], file.entities["hemi"]) for file in files] == [(r, h) for r in ("1", "2", "10") for h in "LR"]
    assert run_names(files) == ["1", "1", "2", "2", "10", "10"]
    assert one_session(files) is None


def test_sessions_are_in_order_and_run_1_is_run_01(tree):
    for ses in ("10", "2", "1"):
        tree.path(f"sub-01_ses-{ses}_task-x_run-1_bold.nii.gz").write_bytes(b"x")
    assert [file.entities["ses"] for file in bold_runs(tree.root)] == ["1", "2", "10"]
    tree.path("sub-01_ses-2_task-x_run-01_bold.nii.gz").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"run-01_bold.nii.gz' and '.*run-1_bold.nii.gz' are one run"):
        bold_runs(tree.root)


def test_preprocessed_is_what_is_meant_where_nothing_is_said(tree):
    for desc in ("preproc", "smoothAROMAnonaggr"):
        tree.path(f"sub-01_task-x_space-A_desc-{desc}_bold.nii.gz").write_bytes(b"x")
    assert bold_runs(tree.root)[0].entities["desc"] == "preproc"
    assert bold_runs(tree.root, desc="smoothAROMAnonaggr")[0].entities["desc"] == "smoothAROMAnonaggr"
    tree.path("sub-01_task-y_hemi-L_space-B_bold.func.gii").write_bytes(b"x")
    assert len(bold_runs(tree.root, task="y")) == 1
    tree.path("sub-01_task-y_space-B_bold.dtseries.nii").write_bytes(b"x")
    with pytest.raises(
        FormatError, match=r"fits files of 'cifti', 'gifti'.*choose by a part of their names, such as `den=` or `hemi=`"
    ):
        bold_runs(tree.root, task="y")
    assert bold_runs(tree.root, task="y", hemi="none")[0].extension == ".dtseries.nii"


def test_what_is_no_data_set(tree):
    with pytest.raises(FormatError, match="there is no folder"):
        bold_runs(tree.root / "nowhere")
    tree.path("sub-01_T1w.nii.gz", datatype="anat").write_bytes(b"x")
    with pytest.raises(FormatError, match=r"holds no bold of sub-\*.*name a derivative with `derivatives=`"):
        bold_runs(tree.root)
    with pytest.raises(FormatError, match=r"has no derivatives of 'x'. It has none"):
        dataset_folder(tree.root, "x")
    assert dataset_folder(tree.root, None) == tree.root


def test_masks_belong_to_one_run_and_space(tree):
    image = "sub-01_task-x_run-1_space-A_res-2_desc-preproc_bold.nii.gz"
    for name in (image, "sub-01_task-x_run-1_space-A_res-2_desc-brain_mask.nii.gz", "sub-01_task-x_run-1_space-A_desc-brain_mask.nii.gz",
                 "sub-01_task-x_run-2_space-A_res-2_desc-brain_mask.nii.gz", "sub-01_task-x_run-1_desc-confounds_timeseries.tsv"):  # fmt: skip
        tree.path(name).write_bytes(b"x")
    file = parse(tree.path(image))
    found = companions(file, ["mask"], [".nii.gz"], desc="brain", same=("space", "res"))
    assert [path.name for path in found] == ["sub-01_task-x_run-1_space-A_res-2_desc-brain_mask.nii.gz"]
    assert len(companions(file, ["timeseries"], [".tsv"], desc="confounds")) == 1


def test_the_start_is_that_of_the_sidecars(tree):
    files = [parse(tree.path(f"sub-01_task-x_run-{run}_bold.nii.gz")) for run in "12"]
    assert start_s(files, None, owner="f") == 0.0
    tree.json("task-x_bold.json", StartTime=0.5)
    assert start_s(files, None, owner="f") == 0.5
    assert start_s(files, 3, owner="f") == 3.0
    tree.json("sub-01/func/sub-01_task-x_run-2_bold.json", StartTime=1.0)
    with pytest.raises(FormatError, match=r"StartTime is 0.5 for '.*run-1.*' and 1.0 for '.*run-2"):
        start_s(files, None, owner="f")
    with pytest.raises(ParameterError, match="'first_onset_s' parameter of f"):
        start_s(files, "x", owner="f")


def test_sessions_are_told_apart():
    files = [parse(f"sub-1_ses-{session}_bold.nii") for session in "ab"]
    names = run_names(files)
    assert names == ["ses-a_run-1", "ses-b_run-1"]
    ids = [f"run-{name}/v00000" for name in names]
    x = responses([[1.0], [2.0]], stimulus_id=ids, neuroid_id=[0], modality="fmri", system="s", run=names)
    x = told_apart(x, files)
    assert x.stimulus_id.values.tolist() == ["ses-a_run-1/v00000", "ses-b_run-1/v00000"]
    assert x.session.values.tolist() == ["a", "b"]
    assert x.run.values.tolist() == ["1", "1"]


def test_the_names_that_fmriprep_gives(tree):
    """Its own list of outputs of ds054, version 25: the mask of volumes without a space says space-run."""
    stem = "sub-100185_task-machinegame_run-{}_"
    for run in ("01", "02"):
        for name in (
            "space-run_desc-brain_mask.nii.gz", "desc-confounds_timeseries.tsv", "space-run_boldref.nii.gz", "space-orig_desc-hmc_boldref.nii.gz",
            "desc-preproc_bold.nii.gz", "space-MNI152NLin2009cAsym_res-2_boldref.nii.gz", "space-T1w_desc-brain_mask.nii.gz",
            "space-MNI152NLin2009cAsym_res-2_desc-brain_mask.nii.gz", "space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz",
            "space-T1w_boldref.nii.gz", "space-T1w_desc-preproc_bold.nii.gz",
        ):  # fmt: skip
            tree.path(stem.format(run) + name).write_bytes(b"x")
    with pytest.raises(FormatError, match=r"'MNI152NLin2009cAsym' \(2 files\), 'T1w' \(2 files\), 'none' \(2 files\)"):
        bold_runs(tree.root)
    for space, mask in (("none", "space-run"), ("T1w", "space-T1w"), ("MNI152NLin2009cAsym", "space-MNI152NLin2009cAsym_res-2")):
        for file in bold_runs(tree.root, space=space):
            found = companions(file, ["mask"], [".nii.gz"], desc="brain", same=("space", "res"))
            assert [path.name for path in found] == [stem.format(file.entities["run"]) + mask + "_desc-brain_mask.nii.gz"]
            assert len(companions(file, ["timeseries"], [".tsv"], desc="confounds")) == 1
