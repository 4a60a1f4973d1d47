"""What is opened can travel, whatever the format: from another folder, to another process, into a study and back."""

import os
import re
from pathlib import Path

import dask
import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ScalarAxis, SeriesAxis
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiMetaData
from scipy.io import savemat

import brainalign as ba
from brainalign.core.errors import AlignmentError, FormatError
from brainalign.dataset.open import find_format

RNG = np.random.default_rng(0)
AFFINE = np.diag([2.0, 2, 2, 1])
IMAGES = [f"dog_{i:02d}s.jpg" for i in range(4)]


def hdf5(file, **arrays):
    file.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(file, "w") as opened:
        for name, values in arrays.items():
            opened[name] = values
    return file


def image(file, shape=(3, 2, 2, 4), dtype=np.float32):
    file.parent.mkdir(parents=True, exist_ok=True)
    made = nibabel.Nifti1Image((100 * RNG.normal(size=shape)).astype(dtype), AFFINE)
    made.header.set_xyzt_units("mm", "sec")
    nibabel.save(made, file)
    return file


def nifti(folder):
    return [image(folder / f"run-{i}_bold.nii{end}") for i, end in ((1, ""), (2, ".gz"))], {"system": "s", "tr_s": 1.0}


def gifti(folder):
    files = []
    for side, name in (("R", "CortexRight"), ("L", "CortexLeft")):
        rows = [GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32") for row in noise(3, 5)]
        files.append(folder / f"run-1_hemi-{side}_bold.func.gii")
        nibabel.save(GiftiImage(meta=GiftiMetaData({"AnatomicalStructurePrimary": name}), darrays=rows), files[-1])
    return files, {"system": "s", "tr_s": 1.5}


def cifti(folder, rows=None, name="a.dtseries.nii"):
    brain = BrainModelAxis.from_surface([0, 2, 3], 5, name="CORTEX_LEFT") + BrainModelAxis(
        "THALAMUS_LEFT", voxel=np.array([[1, 1, 1], [1, 2, 1]]), affine=AFFINE, volume_shape=(4, 4, 4)
    )
    Cifti2Image(noise(3, 5), (rows or SeriesAxis(0, 0.72, 3, "SECOND"), brain)).to_filename(folder / name)
    return folder / name, {"system": "s"}


def cifti_maps(folder):
    return cifti(folder, ScalarAxis(["faces", "places", "größe"]), "a.dscalar.nii")


def bids(folder):
    for ses in ("10", "2"):
        for run in ("1", "2"):
            image(folder / f"sub-01/ses-{ses}/func/sub-01_ses-{ses}_task-a_run-{run}_bold.nii.gz")
    (folder / "dataset_description.json").write_text("{}")
    (folder / "task-a_bold.json").write_text('{"RepetitionTime": 1.0}')
    return folder, {}


def nsd(folder, side=""):
    order = RNG.permutation(np.repeat(np.arange(1, 1001), 3))[:1500]
    design = {"subjectim": np.tile(np.arange(1, 1001), (8, 1)), "masterordering": order[None], "sharedix": np.arange(1, 1001)}
    savemat(folder / "nsd_expdesign.mat", design)
    for session in (1, 2):
        hdf5(folder / f"betas_session0{session}.hdf5", betas=RNG.integers(-300, 300, size=(750, 2, 1, 2), dtype=np.int16))
    image(folder / "ncsnr.nii.gz", (2, 1, 2))
    return folder, {"subject": 1, "zscore": "session"}


def nsd_surface(folder):
    nsd(folder)
    for session in (1, 2):
        (folder / f"betas_session0{session}.hdf5").unlink()
        for side in ("rh", "lh"):
            nibabel.save(nibabel.MGHImage(noise(3, 1, 1, 750), np.eye(4)), folder / f"{side}.betas_session0{session}.mgh")
    return folder, {"subject": 1}


def glmsingle(folder):
    hdf5(folder / "TYPED_FITHRF_GLMDENOISE_RR.hdf5", betasmd=noise(2, 2, 1, 4), R2=noise(2, 2, 1))
    return folder, {"system": "s", "stimulus_id": list("abab"), "presentation": {"run": [1, 1, 2, 2]}}


def things_fmri(folder):
    with h5py.File(folder / "sub-01_ResponseData.h5", "w") as file:
        group = file.create_group("ResponseData")
        group["block0_values"], group["block0_items"] = RNG.normal(size=(3, 4)), np.array(list("0123"), dtype="S")
    rows = {"trial_type": "train", "session": [1, 1, 2, 2], "run": 1, "trial_id": range(4), "stimulus": IMAGES}
    pd.DataFrame(rows).to_csv(folder / "sub-01_StimulusMetadata.csv", index=False)
    pd.DataFrame({"voxel_id": range(3), "voxel_x": 1, "nc_testset": [0, np.nan, 9.5], "V1": [1, 0, 1]}).to_csv(
        folder / "sub-01_VoxelMetadata.csv", index=False
    )
    return folder, {"regions": ["V1"]}


def bold5000(folder):
    for session in (1, 2):
        image(folder / f"CSI1_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-0{session}.nii.gz", (2, 2, 1, 37))
    (folder / "CSI1_imgnames.txt").write_text("\n".join(f"n{i}.jpg" for i in range(74)))
    return folder, {}


def algonauts_2023(folder):
    folder = folder / "subj01"
    for name in ("training_split/training_fmri", "training_split/training_images", "roi_masks"):
        (folder / name).mkdir(parents=True)
    for side in ("lh", "rh"):
        np.save(folder / f"training_split/training_fmri/{side}_training_fmri.npy", noise(2, 3))
        np.save(folder / f"roi_masks/{side}.all-vertices_fsaverage_space.npy", np.array([1, 0, 1, 1]))
        np.save(folder / f"roi_masks/{side}.streams_challenge_space.npy", np.array([1, 0, 5]))
    for name in ("train-0001_nsd-00013", "train-0002_nsd-00007"):
        (folder / f"training_split/training_images/{name}.png").touch()
    return folder, {"region": "streams"}


def algonauts_2025(folder):
    return hdf5(folder / "sub-01_task-friends_bold.h5", **{"s01e01a": noise(3, 4), "life01_run-1": noise(2, 4)}), {}


def lebel(folder):
    hdf5(folder / "UTS01/souls.hf5", data=noise(5, 3), individual_repeats=noise(2, 5, 3))
    return folder / "UTS01", {"first_onset_s": 10.0, "repeats": "keep"}


def tuckute(folder):
    rows = {
        "target_UID": "848",
        "item_id": ["1", "2"],
        "sentence": ["Grün?", "No."],
        "roi": "lang",
        "response_target": [0.5, 1.0],
    }
    pd.DataFrame(rows).to_csv(folder / "brain.csv", index=False)
    return folder / "brain.csv", {}


def pereira(folder):
    fields = {"keySentences": np.array([["A."], ["B."]], dtype=object), "keyPassages": np.array([["x"]], dtype=object)}
    file = folder / "examples_243sentences.mat"
    savemat(file, {"examples": RNG.normal(size=(2, 3)), "labelsPassageForEachSentence": np.array([[1], [1]]), **fields})
    return file, {}


def timecourses(folder):
    np.savetxt(folder / "run-1.tsv", noise(4, 2), header="V1\tIT", comments="", delimiter="\t")
    return folder / "run-1.tsv", {"system": "s", "tr_s": 2.0}


def raw(folder):
    mne = pytest.importorskip("mne")
    made = mne.io.RawArray(1e-6 * RNG.normal(size=(2, 500)), mne.create_info(["Pz", "Oz"], 100.0, "eeg"), verbose="error")
    made.set_annotations(mne.Annotations([1.0, 2.0, 3.0], 0.1, ["größe", "b", "größe"]))
    made.save(folder / "a_raw.fif", verbose="error")
    return folder / "a_raw.fif", {"system": "s", "events": "annotations", "tmin": -0.1, "tmax": 0.2}


def epochs(folder, name="a-epo.fif", **columns):
    mne = pytest.importorskip("mne")
    table = pd.DataFrame({"stimulus_id": ["größe", "b", "größe"], "note": [None, "x", np.nan], "rt": [0.5, np.nan, 1], **columns})
    events = np.column_stack([np.arange(3) * 100, np.zeros(3, int), [1, 2, 1]])
    made = mne.EpochsArray(RNG.normal(size=(3, 2, 9)), mne.create_info(["MEG1", "MEG2"], 100.0, "mag"), events, metadata=table)
    made.save(folder / name, verbose="error")
    return folder / name, {"system": "s"}


def things_meg(folder):
    paths = ["x/dog_01b.jpg", "x/dog_02b.jpg", None]
    more = {"image_path": paths, "trial_type": ["exp", "test", "catch"], "things_image_nr": [1, 2, np.nan]}
    epochs(folder, "preprocessed_P1-epo.fif", session_nr=[1, 1, 2], run_nr=1, **more)
    return folder, {"system": "s"}


def things_eeg2(folder):
    held = {"preprocessed_eeg_data": noise(4, 2, 3, 5), "ch_names": ["Pz", "Oz", "O1"], "times": np.linspace(-0.1, 0.3, 5)}
    np.save(folder / "preprocessed_eeg_training.npy", held, allow_pickle=True)
    names = {
        "train_img_files": IMAGES,
        "train_img_concepts": list("abcd"),
        "test_img_files": ["t.jpg"],
        "test_img_concepts": ["t"],
    }
    np.save(folder / "image_metadata.npy", names, allow_pickle=True)
    return folder / "preprocessed_eeg_training.npy", {"system": "s", "unpickle": True}


def sources(folder):
    mne = pytest.importorskip("mne")
    mne.SourceEstimate(noise(5, 4), [np.array([3, 5, 9]), np.array([0, 2])], tmin=-0.1, tstep=0.1).save(
        folder / "a", verbose="error"
    )
    return folder / "a-rh.stc", {"system": "s", "stimulus_id": "face", "units": "dSPM"}


def noise(*shape):
    return RNG.normal(size=shape).astype(np.float32)


MAKERS = [
    nifti, gifti, cifti, cifti_maps, bids, nsd, nsd_surface, glmsingle, things_fmri, bold5000, algonauts_2023, algonauts_2025, lebel,
    tuckute, pereira, timecourses, raw, epochs, things_meg, things_eeg2, sources,
]  # fmt: skip


@pytest.fixture(scope="module", params=MAKERS, ids=lambda make: make.__name__)
def made(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param.__name__) / "Größe 大"
    folder.mkdir()
    return folder, *request.param(folder)


def texts(source):
    return [str(item) for item in source] if isinstance(source, list) else str(source)


def test_a_relative_path_holds_after_the_folder_was_left(made, monkeypatch, tmp_path):
    folder, source, options = made
    monkeypatch.chdir(folder.parent)
    near = [os.path.relpath(item) for item in source] if isinstance(source, list) else os.path.relpath(source)
    x = ba.open_responses(near, **options)
    monkeypatch.chdir(tmp_path)
    whole = ba.open_responses(texts(source), **options)
    np.testing.assert_array_equal(x.values, whole.values)
    assert x.coords.to_dataset().identical(whole.coords.to_dataset())


def test_index_base_scale_and_what_decided_the_labels_are_recorded(made):
    _, source, options = made
    x = ba.open_responses(source, **options)
    steps = ba.core.provenance(x).steps
    opened = [step for step in steps if step["verb"].startswith("open:")]
    assert all({"index_base", "scale", "source"} <= step["params"].keys() for step in opened[:1])
    assert steps[-1]["params"]["because"]
    assert {"stimulus_id", "repetition", "neuroid_id", "system"} <= set(x.coords)


def test_another_process_reads_the_same(made, worker):
    _, source, options = made
    x = ba.open_responses(source, **options)
    far = dask.compute(x.data, scheduler="processes", pool=worker)[0]
    np.testing.assert_array_equal(far, x.values)


def test_a_study_gives_back_what_was_opened(made, tmp_path):
    _, source, options = made
    x = ba.open_responses(source, **options)
    ba.save(x, tmp_path / "study.zarr", name="x", progress=False)
    back = ba.open_responses(tmp_path / "study.zarr", name="x")
    assert back.identical(x)
    assert ba.core.provenance(back).steps == ba.core.provenance(x).steps


def test_links_to_content_elsewhere_are_followed(made, tmp_path, link_tree):
    """DataLad keeps content under names of its own, which say neither the person nor the format."""
    folder, source, options = made
    link_tree(folder, tmp_path)
    there = [tmp_path / Path(item).relative_to(folder.parent) for item in (source if isinstance(source, list) else [source])]
    x, y = (ba.open_responses(item, **options) for item in (source, there if isinstance(source, list) else there[0]))
    np.testing.assert_array_equal(y.values, x.values)
    assert y.coords.to_dataset().identical(x.coords.to_dataset())


def test_opening_and_reading_write_nothing(made):
    folder, source, options = made
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    ba.open_responses(source, **options).compute()
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


def test_any_text_and_any_kind_of_path_is_understood(tmp_path):
    class OfAnotherLibrary:
        def __fspath__(self):
            return str(tmp_path / "run-1_bold.nii")

    image(tmp_path / "run-1_bold.nii")
    assert ba.open_responses(OfAnotherLibrary(), system="s", tr_s=1.0).shape == (4, 12)
    assert ba.open_responses([OfAnotherLibrary()], system="s", tr_s=1.0).shape == (4, 12)
    for text in ("x" * 5000, "a\0b"):
        with pytest.raises(FormatError, match="Expected a file or folder"):
            ba.open_responses(text)


def test_data_sets_that_name_other_stimuli_are_told_apart_by_their_ids(tmp_path):
    for name in ("nsd", "things"):
        (tmp_path / name).mkdir()
    images, things = (
        ba.open_responses(nsd(tmp_path / "nsd")[0], subject=1),
        ba.open_responses(things_fmri(tmp_path / "things")[0]),
    )
    with pytest.raises(AlignmentError, match=r"share 0 of .*'nsd-.*'dog_00s'"):
        ba.evaluate(images, things, cv=2)


def test_the_page_says_whether_values_stay_in_the_file(made):
    _, source, options = made
    page = Path(__file__).parents[2] / "docs" / "formats" / "index.md"
    rows = re.findall(r"^\| (`.*?`) \|.*\| ([^|]+) \| \[", page.read_text(encoding="utf-8"), re.M)
    (said,) = [lazy for names, lazy in rows if f"`{find_format(source)[0]}`" in names]
    assert said in ("large epochs", "no" if ba.open_responses(source, **options).chunks is None else "yes")
