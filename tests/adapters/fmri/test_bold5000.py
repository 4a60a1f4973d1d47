import gzip
import json

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

import brainalign as ba
from brainalign.adapters.fmri.bold5000 import adapter, open_bold5000
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

GRID, LENGTHS = (4, 3, 2), (74, 111)
VALUES = [np.random.default_rng(n).normal(size=(*GRID, n)).astype(np.float32) for n in LENGTHS]
FLAT = np.concatenate([values.reshape(24, -1).T for values in VALUES])
NAMES = [f"n0{i}_7.JPEG" if i % 3 else f"COCO_train2014_{i:012d}.jpg" for i in range(sum(LENGTHS) - 1)] + ["n01_7.JPEG"]
REGIONS = {"LHPPA": 3, "RHPPA": 2, "LHEarlyVis": 4}
MASK = np.random.default_rng(9).random(GRID) < 0.5
VERSION = "TYPED-FITHRF-GLMDENOISE-RR"


def volumes(folder, suffix=".nii.gz", subject="CSI1"):
    for session, values in enumerate(VALUES, 1):
        image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
        nibabel.save(image, folder / f"{subject}_GLMbetas-{VERSION}_ses-{session:02d}{suffix}")
    (folder / f"{subject}_imgnames.txt").write_text("\n".join(NAMES) + "\n")
    return folder


def arrays():
    return {name: np.random.default_rng(size).normal(size=(len(NAMES), size)) for name, size in REGIONS.items()}


def regions(folder, kind, found=None):
    """Write as the releases do: npy files of release 2; one HDF5 or MATLAB file of release 1, with rep_ before repeats in its list."""
    found, file = found or arrays(), folder / f"CSI2_ROIs_TR34.{kind}"
    if kind == "npy":
        for name, values in found.items():
            np.save(folder / f"CSI2_GLMbetas-{VERSION}_allses_{name}.npy", values)
        (folder / "CSI2_imgnames.txt").write_text("\n".join(NAMES))
        return folder
    if kind == "h5":
        with h5py.File(file, "w") as opened:
            for name, values in found.items():
                opened[name] = values
    else:
        savemat(file, found)
    (folder / "CSI02_stim_lists.txt").write_text("\n".join([*NAMES[:-1], "rep_" + NAMES[-1]]) + "\n\n")
    return file


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_by_session_are_those_of_the_list(tmp_path, suffix):
    x = open_bold5000(volumes(tmp_path, suffix))
    np.testing.assert_array_equal(x.values, FLAT)
    assert list(x.stimulus_id.values[:2]) == ["COCO_train2014_000000000000", "n01_7"]
    assert (x.session.values[73], x.session.values[74]) == ("01", "02")
    assert (x.run.values[36], x.run.values[37], x.run.values[74], x.run.values[184]) == ("1", "2", "1", "3")
    assert list(x.repetition.values[[1, -1]]) == [0, 1]
    assert (x.attrs["units"], x.system.values[0], x.subject.values[0]) == ("% signal change", "CSI1", "CSI1")
    np.testing.assert_array_equal(x.neuroid_id, np.arange(24))
    assert "x_mm" not in x.coords
    ba.validate(x, deep=True)


def test_sessions_and_masks_take_their_part(tmp_path):
    volumes(tmp_path)
    affine = np.array([[-2.0, 0, 0, 70], [0, 2, 0, -90], [0, 0, 2, -50], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(MASK.astype(np.uint8), affine), tmp_path / "CSI1_brainmask.nii.gz")
    x = open_bold5000(tmp_path, sessions=[2], mask=tmp_path / "CSI1_brainmask.nii.gz")
    np.testing.assert_array_equal(x.values, FLAT[74:, MASK.ravel()])
    assert x.stimulus_id.values[0] == "n074_7"
    xyz = np.stack([x[name].values for name in ("x_mm", "y_mm", "z_mm")], axis=1)  # the betas themselves have no origin
    np.testing.assert_allclose(xyz, nibabel.affines.apply_affine(affine, np.argwhere(MASK)))
    assert json.loads(x.attrs["grid"])["affine"] == affine.tolist()
    z = open_bold5000(tmp_path, zscore="session")
    np.testing.assert_allclose(z.values[74:], (FLAT[74:] - FLAT[74:].mean(0)) / FLAT[74:].std(0), atol=1e-5)


@pytest.mark.parametrize("kind", ["npy", "h5", "mat"])
def test_regions_lie_side_by_side_and_repeats_have_one_id(tmp_path, kind):
    source, found = regions(tmp_path, kind), arrays()
    x = open_bold5000(source)
    assert x.shape == (len(NAMES), sum(REGIONS.values()))
    for name, values in found.items():
        np.testing.assert_array_equal(x.values[:, x.region.values == name], values.astype(np.float32))
        assert set(x.hemisphere.values[x.region.values == name]) == {name[0]}
    assert x.stimulus_id.values[-1] == x.stimulus_id.values[1] == "n01_7"
    assert int(x.repetition[-1]) == 1
    assert x.attrs["units"] == ("% signal change" if kind == "npy" else "a.u.")
    part = open_bold5000(source, regions=["RHPPA"])
    np.testing.assert_array_equal(part.values, found["RHPPA"].astype(np.float32))
    np.testing.assert_array_equal(part.neuroid_id, [0, 1])
    with pytest.raises(ParameterError, match=r"no region 'RHPA'\. Did you mean 'RHPPA'\?"):
        open_bold5000(source, regions=["RHPA"])
    ba.validate(x, deep=True)


def test_the_list_must_be_of_these_trials(tmp_path):
    volumes(tmp_path)
    (tmp_path / "CSI1_imgnames.txt").write_text("\n".join(NAMES[:-1]))
    with pytest.raises(FormatError, match=r"names 184 images, and the responses of CSI1 are of 185 trials"):
        open_bold5000(tmp_path)
    (tmp_path / "CSI1_imgnames.txt").write_text("\n".join([*NAMES, "another.jpg"]))
    with pytest.raises(FormatError, match="names 186 images"):
        open_bold5000(tmp_path)
    assert open_bold5000(tmp_path, sessions=[1, 2]).shape == (185, 24)
    (tmp_path / "CSI1_imgnames.txt").unlink()
    with pytest.raises(FormatError, match=r"no file '.*CSI1_imgnames\.txt'"):
        open_bold5000(tmp_path)
    (tmp_path / "own.txt").write_text("\n".join([*NAMES[:-1], "n01_7.png"]))
    with pytest.raises(FormatError, match=r"'n01_7\.JPEG' and 'n01_7\.png', which have one id"):
        open_bold5000(tmp_path, stimulus_list=tmp_path / "own.txt")


def test_what_is_missing_or_mixed_is_named(tmp_path):
    volumes(tmp_path)
    first = tmp_path / f"CSI1_GLMbetas-{VERSION}_ses-01.nii.gz"
    kept = first.read_bytes()
    first.unlink()
    with pytest.raises(FormatError, match="lacks session 1; it holds 2"):
        open_bold5000(tmp_path)
    with pytest.raises(FormatError, match="lacks session 1 before session 2"):
        open_bold5000(tmp_path, sessions=[2])
    nibabel.save(nibabel.Nifti1Image(VALUES[0][:3], np.eye(4)), first)
    with pytest.raises(FormatError, match=r"has the grid \(4, 3, 2\), and session 1 has \(3, 3, 2\)"):
        open_bold5000(tmp_path)
    nibabel.save(nibabel.Nifti1Image(VALUES[0][..., :50], np.eye(4)), first)
    with pytest.raises(FormatError, match=r"holds 50 trials\. Expected runs of 37"):
        open_bold5000(tmp_path)
    first.write_bytes(kept)
    with pytest.raises(FormatError, match="no betas of 'TYPEB-FITHRF'"):
        open_bold5000(tmp_path, version="TYPEB-FITHRF")
    with pytest.raises(ParameterError, match=r"regions= for .*, which holds volumes by session"):
        open_bold5000(tmp_path, regions=["LHPPA"])
    volumes(tmp_path, subject="CSI3")
    with pytest.raises(ParameterError, match="holds 'CSI1', 'CSI3', and subject=None"):
        open_bold5000(tmp_path)
    assert open_bold5000(tmp_path, subject="CSI3").system.values[0] == "CSI3"
    regions(tmp_path, "npy")
    np.save(tmp_path / f"CSI1_GLMbetas-{VERSION}_allses_LHPPA.npy", np.zeros((2, 2)))
    with pytest.raises(FormatError, match="holds volumes and regions"):
        open_bold5000(tmp_path, subject="CSI1")
    with pytest.raises(ParameterError, match=r"mask= for .*, which holds regions"):
        open_bold5000(tmp_path, subject="CSI2", mask=MASK)


@pytest.mark.parametrize("kind", ["npy", "h5", "mat"])
def test_undeclared_nan_and_unequal_regions_are_named(tmp_path, kind):
    bad = arrays()
    bad["RHPPA"][3, 1] = np.nan
    source = regions(tmp_path, kind, bad)
    with pytest.raises(FormatError, match="NaN or infinite"):
        open_bold5000(source).compute()
    assert np.isnan(open_bold5000(source, allow_nan=True).values).sum() == 1
    bad["RHPPA"] = bad["RHPPA"][1:]
    regions(tmp_path, kind, bad)
    with pytest.raises(FormatError, match=r"'RHPPA' of shape \(184, 2\), and 'LHEarlyVis' of \(185, 4\)"):
        open_bold5000(source, allow_nan=True)


def test_other_files_are_refused_and_content_is_recognised(tmp_path):
    assert not adapter.matches(tmp_path)
    with h5py.File(tmp_path / "CSI1_ROIs_TR34.h5", "w") as file:
        file["V1"] = np.zeros((3, 2))
    with pytest.raises(FormatError, match="none of the regions 'LHEarlyVis'"):
        open_bold5000(tmp_path / "CSI1_ROIs_TR34.h5")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(FormatError, match="is no file of regions"):
        open_bold5000(tmp_path / "a.txt")
    for source in (tmp_path / "CSI1_ROIs_TR34.h5", tmp_path / "a.txt", 3, None):
        assert not adapter.matches(source)
    (tmp_path / "npy").mkdir()
    for source in (regions(tmp_path, "h5"), volumes(tmp_path), regions(tmp_path / "npy", "npy")):
        assert [name for name in FORMATS.names() if FORMATS.get(name).matches(source)] == ["bold5000"]


def test_unpacked_volumes_read_little(tmp_path, bytes_read):
    for session in (1, 2):
        image = nibabel.Nifti1Image(np.zeros((30, 30, 30, 37), np.float32), np.eye(4))  # 4 MB
        nibabel.save(image, tmp_path / f"CSI1_GLMbetas-{VERSION}_ses-{session:02d}.nii")
    (tmp_path / "CSI1_imgnames.txt").write_text("\n".join(f"{i}.jpg" for i in range(74)))
    x = open_bold5000(tmp_path)
    assert bytes_read(open_bold5000, tmp_path) < 50_000  # of 8 MB
    assert bytes_read(x[40:42].compute) < 2 * 27000 * 4 + 20_000
    assert bytes_read(x[:, 13_000:13_030].compute) < 74 * 27000 * 4  # along z: a slab of each volume


@pytest.mark.parametrize("kind", ["nii.gz", "h5", "txt"])
def test_damaged_files(tmp_path, kind, survives_damage):
    if kind == "h5":
        file = source = regions(tmp_path, "h5")
    else:
        source = volumes(tmp_path)
        file = source / ("CSI1_imgnames.txt" if kind == "txt" else f"CSI1_GLMbetas-{VERSION}_ses-02.nii.gz")
    assert survives_damage(file, lambda: open_bold5000(source, allow_nan=True).compute())


def test_the_checksum_of_a_packed_session_is_looked_at(tmp_path):
    file = volumes(tmp_path) / f"CSI1_GLMbetas-{VERSION}_ses-02.nii.gz"
    whole = bytearray(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=0))
    whole[-20] ^= 1
    file.write_bytes(whole)
    with pytest.raises(FormatError, match=r"ses-02\.nii\.gz' could not be read as NIfTI"):
        open_bold5000(tmp_path).compute()
