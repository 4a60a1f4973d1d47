import gzip
import json

import nibabel
import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.fmri.nifti import adapter, open_images
from brainalign.core.errors import FormatError, ParameterError

AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


def nifti(path, values, *, tr=2.0, unit="sec", affine=AFFINE, slope=None):
    image = nibabel.Nifti1Image(values, affine)
    if values.ndim == 4:
        image.header.set_zooms((*image.header.get_zooms()[:3], tr))
    image.header.set_xyzt_units("mm", unit)
    if slope is not None:
        image.header.set_slope_inter(*slope)
        image.header.set_data_dtype(np.int16)
    nibabel.save(image, path)
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(3, 4, 2, 5)).astype(np.float32)


def test_round_trip_of_values_places_and_times(tmp_path, values):
    x = open_images(nifti(tmp_path / "b.nii.gz", values), system="sub-01", units="a.u.")
    np.testing.assert_array_equal(x.values, values.reshape(24, 5).T)
    np.testing.assert_array_equal(x.neuroid_id, np.arange(24))
    ijk = np.stack(np.unravel_index(x.neuroid_id.values, (3, 4, 2)), axis=1)
    xyz = np.stack([x[name].values for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    np.testing.assert_allclose(xyz, nibabel.affines.apply_affine(AFFINE, ijk), atol=1e-5)
    np.testing.assert_allclose(x.onset_s, [0, 2, 4, 6, 8])
    assert set(x.duration_s.values) == {2.0}
    assert x.stimulus_id.values[3] == "run-1/v00003"
    assert (x.attrs["modality"], x.attrs["units"], float(x.sampling_rate_hz[0])) == ("fmri", "a.u.", 0.5)
    ba.validate(x, deep=True)


def test_a_map_can_be_written_back_from_the_attributes(tmp_path, values):
    mask = np.zeros((3, 4, 2), dtype=bool)
    mask[1, 2, 0] = mask[2, 0, 1] = True
    x = open_images(nifti(tmp_path / "b.nii", values), system="s", mask=mask)
    grid = json.loads(x.attrs["grid"])
    volume = np.full(grid["shape"], np.nan)
    volume.reshape(-1)[x.neuroid_id.values] = x.values[4]
    np.testing.assert_array_equal(volume[mask], values[..., 4][mask])
    np.testing.assert_allclose(grid["affine"], AFFINE)


def test_slope_and_intercept_are_applied(tmp_path):
    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 2, 2)
    file = nifti(tmp_path / "b.nii.gz", stored, slope=(0.5, 3.0))
    assert np.asarray(nibabel.load(file).dataobj.get_unscaled()).dtype == np.int16
    np.testing.assert_allclose(open_images(file, system="s").values, (stored * 0.5 + 3.0).reshape(12, 2).T)


def test_runs_follow_each_other_and_labels_become_regions(tmp_path, values):
    files = [nifti(tmp_path / f"sub-01_run-0{i}_bold.nii.gz", values + i) for i in (1, 2)]
    labels = np.zeros((3, 4, 2), dtype=np.int16)
    labels[0], labels[1, :2] = 7, 3
    file = nifti(tmp_path / "labels.nii.gz", labels)
    x = open_images(files, system="s", labels=file, region_names={7: "V1", 3: "IT", 9: "unused"}, subject="01", first_onset_s=4.0)
    assert x.shape == (10, 12)
    assert list(x.run.values) == ["01"] * 5 + ["02"] * 5
    np.testing.assert_allclose(x.onset_s, [4, 6, 8, 10, 12] * 2)
    assert x.stimulus_id.values[5] == "run-02/v00000"
    for region, code in (("V1", 7), ("IT", 3)):
        np.testing.assert_array_equal(x.values[:5, x.region.values == region], (values + 1)[labels == code].T)
    with pytest.raises(ParameterError, match="labels 7 without names"):
        open_images(files, system="s", labels=file, region_names={3: "IT"})


def test_masks_hold_zero_and_one_on_the_grid_of_the_runs(tmp_path, values):
    file = nifti(tmp_path / "b.nii.gz", values)
    with pytest.raises(FormatError, match=r"grid \(2, 4, 2\) .* \(3, 4, 2\)"):
        open_images(file, system="s", mask=np.ones((2, 4, 2), bool))
    with pytest.raises(FormatError, match="differ by up to 1 mm"):
        open_images(
            file,
            system="s",
            mask=nifti(tmp_path / "m.nii", np.ones((3, 4, 2), np.uint8), affine=AFFINE + np.eye(4)[:, [1, 2, 3, 0]]),
        )
    with pytest.raises(FormatError, match="Expected a mask of 0 and 1"):
        open_images(file, system="s", mask=np.full((3, 4, 2), 0.3))
    with pytest.raises(FormatError, match="leave 0 of 24 voxels"):
        open_images(file, system="s", mask=np.zeros((3, 4, 2), bool))


def test_runs_must_share_grid_names_and_tr(tmp_path, values):
    a = nifti(tmp_path / "a.nii.gz", values)
    moved = nifti(tmp_path / "moved.nii.gz", values, affine=np.diag([2.0, 2, 2, 1]))
    slower = nifti(tmp_path / "slower.nii.gz", values, tr=2.5)
    with pytest.raises(FormatError, match=r"moved.nii.gz' and '.*a.nii.gz' have affines that differ"):
        open_images([a, moved], system="s", run=["1", "2"])
    with pytest.raises(FormatError, match=r"TR of 2 s and .*slower.nii.gz' of 2.5 s"):
        open_images([a, slower], system="s", run=["1", "2"])
    with pytest.raises(ParameterError, match="one name a file, none twice"):
        open_images([a, moved], system="s")
    with pytest.raises(ParameterError, match="hold one twice"):
        open_images([a, a], system="s", run=["1", "2"])


def test_statements_of_tr_must_agree(tmp_path, values):
    file = nifti(tmp_path / "b.nii.gz", values, tr=2000.0, unit="msec")
    assert float(open_images(file, system="s").onset_s[1]) == 2.0
    with pytest.raises(FormatError, match=r"tr_s states a TR of 1.5 s and header of 2 s"):
        open_images(file, system="s", tr_s=1.5)
    assert float(open_images(file, system="s", tr_s=1.5, override_tr=True).onset_s[1]) == 1.5
    (tmp_path / "b.json").write_text('{"RepetitionTime": 2.2}')
    with pytest.raises(FormatError, match=r"'b.json' states a TR of 2.2 s and header of 2 s"):
        open_images(file, system="s")
    (tmp_path / "b.json").write_text('{"RepetitionTime": "two"}')
    with pytest.raises(FormatError, match="RepetitionTime 'two'"):
        open_images(file, system="s")
    (tmp_path / "b.json").write_text('{"RepetitionTime":')
    with pytest.raises(FormatError, match="could not be read as JSON"):
        open_images(file, system="s")


def test_a_header_without_unit_states_no_tr(tmp_path, values):
    file = nifti(tmp_path / "b.nii.gz", values, tr=2.0, unit="unknown")
    with pytest.raises(FormatError, match="does not state its TR"):
        open_images(file, system="s")
    assert float(open_images(file, system="s", tr_s=1.5).onset_s[1]) == 1.5


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_truncated_files_are_named(tmp_path, share, suffix):
    noise = np.random.default_rng(1).normal(size=(6, 6, 6, 20)).astype(np.float32)
    whole = nifti(tmp_path / f"whole{suffix}", noise).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(FormatError, match=rf"cut{suffix}"):
        open_images(cut, system="s", tr_s=2.0)


def test_nan_and_wrong_shapes_are_named(tmp_path, values):
    values[1, 0, 0, 2] = np.nan
    file = nifti(tmp_path / "b.nii.gz", values)
    with pytest.raises(FormatError, match="first in row 2 of 'voxel 8'"):
        open_images(file, system="s").load()
    x = open_images(nifti(tmp_path / "b.nii", values), system="s")
    assert np.isfinite(x[3:]).all()  # the policy is that of each block
    with pytest.raises(FormatError, match="first in row 2 of 'voxel 8'"):
        x[2:4, 5:].load()
    assert int(np.isnan(open_images(file, system="s", allow_nan=True)).sum()) == 1
    with pytest.raises(FormatError, match=r"shape \(3, 4, 2\)"):
        open_images(nifti(tmp_path / "m.nii.gz", values[..., 0]), system="s")
    with pytest.raises(FormatError, match="no file"):
        open_images(tmp_path / "none.nii.gz", system="s")


def test_files_are_recognised_by_content(tmp_path, values):
    file = nifti(tmp_path / "b.nii.gz", values)
    (tmp_path / "renamed.dat").write_bytes(gzip.decompress(file.read_bytes()))
    assert adapter.matches(file)
    assert adapter.matches([file])
    assert adapter.matches(tmp_path / "renamed.dat")
    (tmp_path / "fake.nii").write_text("no image")
    assert not adapter.matches(tmp_path / "fake.nii")
    assert not adapter.matches(np.zeros(3))


@pytest.mark.real
def test_haxby_opens_with_its_shapes_runs_and_tr(shared_data):
    folder = shared_data("haxby2001") / "sub001"
    files = [folder / f"BOLD/task001_run00{run}/bold_25mm.nii.gz" for run in range(1, 9)]
    runs = [str(run) for run in range(1, 9)]
    x = open_images(files, system="sub001", run=runs, mask=folder / "masks/25mm/brain.nii.gz")
    brain = nibabel.load(folder / "masks/25mm/brain.nii.gz").get_fdata().astype(bool)
    assert x.shape == (8 * 121, brain.sum())
    assert float(x.onset_s[120]) == 300.0
    for i, file in enumerate(files):
        np.testing.assert_array_equal(x.values[x.run.values == runs[i]], nibabel.load(file).get_fdata(dtype=np.float32)[brain].T)
    with pytest.raises(FormatError, match=r"TR of 2 s and header of 2.5 s"):
        open_images(files[0], system="sub001", tr_s=2.0)
    with pytest.raises(FormatError, match="Expected a mask of 0 and 1"):
        open_images(files[0], system="sub001", mask=folder / "masks/25mm/hoc.nii.gz")


@pytest.mark.real
def test_haxby_slices_have_the_brain_voxels_that_were_measured(shared_data):
    folder = shared_data("haxby2001") / "sub001/BOLD"
    x = open_images(folder / "task001_run001/bold_1slice.nii.gz", system="sub001")
    assert x.shape == (121, 800)
    mean = x.values.mean(axis=0)
    assert int((mean > 0.2 * mean.max()).sum()) == 488


@pytest.mark.parametrize("damage", ["last byte gone", "bit flipped"])
def test_damage_that_leaves_all_values_readable_is_found_by_the_checksum(tmp_path, values, damage):
    whole = bytearray(nifti(tmp_path / "b.nii.gz", values).read_bytes())
    if damage == "bit flipped":
        # stored, not deflated, so that the flipped bit is a value and nothing but the checksum can tell
        whole = bytearray(gzip.compress(gzip.decompress(whole), compresslevel=0))
        whole[-20] ^= 1
    (tmp_path / "c.nii.gz").write_bytes(whole[:-1] if damage == "last byte gone" else whole)
    with pytest.raises(FormatError, match=r"'.*c\.nii\.gz' could not be read as NIfTI .*copy it again"):
        open_images(tmp_path / "c.nii.gz", system="sub-01")[0, 0].load()


def test_labels_come_with_a_table_of_names(tmp_path, values):
    labels = np.zeros((3, 4, 2), dtype=np.int16)
    labels[0], labels[1, :2] = 7, 3
    images = {"path": nifti(tmp_path / "b.nii", values), "labels": nifti(tmp_path / "atlas_dseg.nii.gz", labels)}
    table = tmp_path / "atlas_dseg.tsv"
    table.write_text("\ufeffindex\tname\tcolor\n0\tbackground\t#0\n3\tIT\t#1\n7\tV1\t#2\n")
    x = open_images(**images, system="s", region_names=table)
    np.testing.assert_array_equal(x.region == "V1", labels[labels > 0] == 7)
    table.write_text("index\tname\n3\tIT\n")
    with pytest.raises(ParameterError, match=r"atlas_dseg.nii.gz' holds the labels 7 without names"):
        open_images(**images, system="s", region_names=table)


def test_cifti_is_not_claimed(tmp_path, values):
    axes = nibabel.cifti2.SeriesAxis(0, 1, 4), nibabel.cifti2.ScalarAxis(["a", "b"])
    nibabel.save(nibabel.Cifti2Image(np.zeros((4, 2), np.float32), axes), tmp_path / "x.dtseries.nii")
    assert not adapter.matches(tmp_path / "x.dtseries.nii")
    with pytest.raises(FormatError, match="holds a Cifti2Image"):
        open_images(tmp_path / "x.dtseries.nii", system="s")
    nibabel.save(nibabel.Nifti2Image(values, AFFINE), tmp_path / "2.nii")
    assert adapter.matches(tmp_path / "2.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_damage_gives_values_or_a_typed_error(tmp_path, values, survives_damage, suffix):
    file = nifti(tmp_path / f"b{suffix}", values)
    assert survives_damage(file, lambda: open_images(file, system="s", tr_s=2.0, override_tr=True).load(), header=352)


def test_what_is_opened_is_evaluated_unchanged(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    bold = (features @ rng.normal(size=(3, 8)) + 0.1 * rng.normal(size=(40, 8))).astype(np.float32)
    files = [nifti(tmp_path / f"run-{r}_bold.nii.gz", bold[20 * r : 20 * r + 20].T.reshape(2, 2, 2, 20)) for r in (0, 1)]
    brain = open_images(files, system="s")
    source = ba.responses(features, stimulus_id=brain.stimulus_id, neuroid_id=list("abc"), modality="ann", system="net")
    score = ba.evaluate(source, brain, model=ba.Ridge(alphas=[1.0]), cv=ba.split(brain, by="run")).score
    assert float(score.min()) > 0.8


def test_volumes_of_one_of_several_runs_read_their_own_bytes(tmp_path, bytes_read):
    files = [nifti(tmp_path / f"run-{run}_bold.nii", np.zeros((30, 30, 30, 40), np.float32)) for run in (1, 2)]  # 4.3 MB each
    x = open_images(files, system="s")
    assert bytes_read(x[50:52].compute) < 2 * 27_000 * 4 + 20_000
