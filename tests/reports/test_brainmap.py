import json

import nibabel
import numpy as np
import pytest
import xarray as xr
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, ParcelsAxis, ScalarAxis, SeriesAxis

import brainalign as ba
from brainalign.core.errors import CapabilityError, ParameterError, SchemaError
from brainalign.reports import to_brain

N_LEFT, N_RIGHT, N_ROWS = 14, 10, 60
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 2.5, 0, -20], [0, 0, 3, 5], [0, 0, 0, 1]])


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(N_ROWS, N_LEFT + N_RIGHT)).astype(np.float32)


def nifti(folder, values):
    image = nibabel.Nifti1Image(values.T.reshape(3, 4, 2, -1), AFFINE)
    image.header.set_zooms((2, 2.5, 3, 1.5))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, folder / "bold.nii.gz")
    return folder / "bold.nii.gz"


def gifti(folder, values):
    files = []
    for side, structure, part in (("L", "CortexLeft", values[:, :N_LEFT]), ("R", "CortexRight", values[:, N_LEFT:])):
        arrays = [
            nibabel.gifti.GiftiDataArray(row, intent="NIFTI_INTENT_TIME_SERIES", datatype="NIFTI_TYPE_FLOAT32") for row in part
        ]
        meta = nibabel.gifti.GiftiMetaData({"AnatomicalStructurePrimary": structure, "TimeStep": "1500.000"})
        files.append(folder / f"bold_hemi-{side}.func.gii")
        nibabel.save(nibabel.gifti.GiftiImage(meta=meta, darrays=arrays), files[-1])
    return files


def brain_models():
    """Return a left cortex with a medial wall, a right cortex, and voxels of two structures."""
    left = BrainModelAxis.from_surface([0, 1, 5, 6, 7, 9], 12, name="CORTEX_LEFT")
    right = BrainModelAxis.from_surface(np.arange(8), 8, name="CORTEX_RIGHT")
    inside = np.zeros((3, 4, 2), dtype=bool)
    inside[0, :, 0] = True
    other = np.zeros((3, 4, 2), dtype=bool)
    other[1:, 1, :] = True
    other[2, 3, :] = True
    return (
        left + right + BrainModelAxis.from_mask(inside, name="THALAMUS_LEFT", affine=AFFINE)
        + BrainModelAxis.from_mask(other, name="PUTAMEN_RIGHT", affine=AFFINE)
    )  # fmt: skip


def cifti(folder, values, rows=None, brain=None, name="bold.dtseries.nii"):
    axes = (SeriesAxis(0, 1.5, len(values), "SECOND") if rows is None else rows, brain_models() if brain is None else brain)
    Cifti2Image(values, axes).to_filename(folder / name)
    return folder / name


def maps_of(files):
    """Return what nibabel reads in written files, as (map, place), in the order of neuroids."""
    images = [nibabel.load(file) for file in files]
    if isinstance(images[0], nibabel.gifti.GiftiImage):
        return np.concatenate([np.stack([array.data for array in image.darrays]) for image in images], axis=1)
    data = np.asarray(images[0].dataobj)
    if isinstance(images[0], Cifti2Image):
        return data
    return data.reshape(24, -1).T


WRITERS = {"nifti": (nifti, "map.nii.gz"), "gifti": (gifti, "map.func.gii"), "cifti": (cifti, "map.dscalar.nii")}


def test_the_same_data_in_three_formats_gives_the_same_scores_and_the_same_maps(tmp_path, values):
    rng = np.random.default_rng(1)
    features = values[:, :3] + rng.normal(size=(N_ROWS, 3))
    scores, written = {}, {}
    for kind, (write, name) in WRITERS.items():
        x = ba.open_responses(write(tmp_path, values), system="sub-01", first_onset_s=2.0)
        source = ba.responses(features, stimulus_id=x.stimulus_id.values, neuroid_id=range(3), modality="ann", system="net")
        result = ba.evaluate(source, x, cv=5)
        scores[kind], written[kind] = result.score.values, maps_of(to_brain(result.score, tmp_path / "out" / name))
        np.testing.assert_array_equal(written[kind][0], result.score.values.astype(np.float32))
    for kind in ("gifti", "cifti"):
        assert scores[kind].tobytes() == scores["nifti"].tobytes()
        assert written[kind].tobytes() == written["nifti"].tobytes()
    assert np.isfinite(scores["nifti"]).all()


@pytest.mark.parametrize(("kind", "name"), [("nifti", "x.nii"), ("gifti", "x.func.gii"), ("cifti", "x.dtseries.nii")])
def test_from_file_to_responses_to_file_and_back_is_exact(tmp_path, values, kind, name):
    x = ba.open_responses(WRITERS[kind][0](tmp_path, values), system="s", first_onset_s=3.0)
    files = to_brain(x, tmp_path / "again" / name)
    np.testing.assert_array_equal(maps_of(files), values)
    again = ba.open_responses(list(files) if len(files) > 1 else files[0], system="s", first_onset_s=3.0)
    xr.testing.assert_equal(again.load(), x.load())
    assert again.attrs["grid"] == x.attrs["grid"]


def test_the_axes_of_cifti_come_back(tmp_path, values):
    (file,) = to_brain(ba.open_responses(cifti(tmp_path, values), system="s"), tmp_path / "again.dtseries.nii")
    image = nibabel.load(file)
    assert image.header.get_axis(1) == brain_models()
    assert image.header.get_axis(0) == SeriesAxis(0, 1.5, N_ROWS, "SECOND")
    assert image.nifti_header.get_intent()[0] == "ConnDenseSeries"


def test_parcels_come_back(tmp_path, values):
    parcels = ParcelsAxis.from_brain_models(
        [("V1", brain_models()[:3]), ("deep", brain_models()[14:20]), ("both", brain_models()[4:12])]
    )
    file = cifti(tmp_path, values[:2, :3], ScalarAxis(["faces", "houses"]), parcels, "x.pscalar.nii")
    x = ba.open_responses(file, system="s")
    (again,) = to_brain(x, tmp_path / "again.pscalar.nii")
    assert nibabel.load(again).header.get_axis(1) == parcels
    np.testing.assert_array_equal(maps_of([again]), values[:2, :3])
    assert list(nibabel.load(again).header.get_axis(0).name) == ["faces", "houses"]
    part = x[:, [2, 0]]
    np.testing.assert_array_equal(
        maps_of(to_brain(part, tmp_path / "part.pscalar.nii", fill=-1.0))[0], [*values[0, :1], -1, values[0, 2]]
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_some_neuroids_in_any_order_leave_the_rest_filled(tmp_path, values, kind):
    write, name = WRITERS[kind]
    x = ba.open_responses(write(tmp_path, values), system="s")
    some = x.isel(presentation=0, neuroid=[20, 3, 11])
    for fill in (np.nan, -7.0):
        found = maps_of(to_brain(some, tmp_path / "out" / name, fill=fill))[0]
        expected = np.full(24, fill, dtype=np.float32)
        expected[[20, 3, 11]] = values[0, [20, 3, 11]]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_further_dim_becomes_volumes_arrays_or_rows(tmp_path, values, kind):
    write, name = WRITERS[kind]
    x = ba.open_responses(write(tmp_path, values), system="s")
    layers = xr.concat([x[0], x[1] * 2], "layer", coords="minimal", compat="override").assign_coords(layer=["conv1", "fc"])
    files = to_brain(layers.transpose("neuroid", "layer"), tmp_path / "out" / name)
    np.testing.assert_array_equal(maps_of(files), [values[0], values[1] * 2])
    if kind == "gifti":
        assert [array.meta["Name"] for array in nibabel.load(files[1]).darrays] == ["conv1", "fc"]
        assert [file.name for file in files] == ["map_hemi-L.func.gii", "map_hemi-R.func.gii"]
    if kind == "cifti":
        assert list(nibabel.load(files[0]).header.get_axis(0).name) == ["conv1", "fc"]


@pytest.mark.parametrize("kind", WRITERS)
def test_grids_survive_the_study_store_arithmetic_ceilings_and_grids_of_scores(tmp_path, values, kind):
    write, name = WRITERS[kind]
    opened = ba.open_responses(write(tmp_path, values), system="s")
    ba.save(opened, tmp_path / "study.zarr", name="brain")
    x = ba.open_responses(tmp_path / "study.zarr", name="brain")
    assert x.attrs["grid"] == opened.attrs["grid"]
    repeated = x.assign_coords(stimulus_id=("presentation", [f"s{i // 3}" for i in range(N_ROWS)])).drop_vars(["run", "onset_s"])
    source = ba.responses(
        values[:, :6], stimulus_id=repeated.stimulus_id.values, neuroid_id=range(6), modality="ann", system="net",
        layer=["a"] * 3 + ["b"] * 3,
    )  # fmt: skip
    result = ba.evaluate(source, repeated, cv=3, ceiling="repeat")
    ba.save(result, tmp_path / "study.zarr", name="result")
    stored = ba.open_study(tmp_path / "study.zarr")["results/result"].to_dataset()
    by_layer = ba.compare(source, repeated.assign_coords(region=("neuroid", ["V1"] * 24)), by=("layer", "region"), cv=3)
    for score in (result.score_normalized, stored.score, stored.score_by_fold.mean("fold") * 2, by_layer.score_neuroid,
                  ba.noise_ceiling(repeated, random_state=0), xr.where(result.score > 0, result.score, 0.0)):  # fmt: skip
        np.testing.assert_array_equal(maps_of(to_brain(score, tmp_path / "out" / name)), np.atleast_2d(score).astype(np.float32))


def test_results_of_two_brains_keep_a_grid_only_where_it_is_both_of_theirs(tmp_path, values):
    file = nifti(tmp_path, values)
    one = ba.open_responses(file, system="one")
    same = ba.open_responses(file, system="two")
    other = ba.open_responses(cifti(tmp_path, values), system="two")
    source = ba.responses(values[:, :3], stimulus_id=one.stimulus_id.values, neuroid_id=range(3), modality="ann", system="net")
    score = ba.evaluate(source, {"one": one, "two": same}, cv=3).score
    with pytest.raises(ParameterError, match=r"values of 2 systems \('one', 'two'\).*values.system == 'one'"):
        to_brain(score, tmp_path / "x.nii")
    to_brain(score[score.system == "two"], tmp_path / "x.nii")
    score = ba.evaluate(source, {"one": one, "two": other}, cv=3).score
    second = score[score.system == "two"]
    with pytest.raises(CapabilityError, match=r"values without the attr `grid`.*pass those as `like=`"):
        to_brain(second, tmp_path / "x.dscalar.nii")
    np.testing.assert_array_equal(
        maps_of(to_brain(second, tmp_path / "x.dscalar.nii", like=other))[0], second.values.astype("f4")
    )


def test_what_is_no_map_is_refused(tmp_path, values):
    x = ba.open_responses(nifti(tmp_path, values), system="s")
    for bad, error, message in (
        (x.to_dataset(name="score"), ParameterError, r"a Dataset\. Expected a DataArray with a neuroid dim.*`result.score`"),
        (x[:, 0], ParameterError, r"a DataArray with dims \('presentation',\)"),
        (x[0].drop_attrs(), CapabilityError, "without the attr `grid`"),
        (x[0].isel(neuroid=[3, 4, 3]), SchemaError, "neuroids 3 are there more than once"),
        (x[0].assign_coords(neuroid_id=("neuroid", np.arange(24) + 5)), SchemaError, r"24, 25, .* do not lie on the grid, .* 24 places"),
        (x[0].assign_coords(neuroid_id=("neuroid", [f"pca/{i}" for i in range(24)])), SchemaError, "'pca/0', .* do not lie on the grid"),
        (x.expand_dims(layer=2), ParameterError, "neuroid and at most one more"),
        (x[0].astype(str), ParameterError, "dtype <U"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            to_brain(bad, tmp_path / "never.nii")
    with pytest.raises(ParameterError, match=r"must end with .nii or .nii.gz .* Got 'x.func.gii'"):
        to_brain(x[0], tmp_path / "x.func.gii")
    with pytest.raises(ParameterError, match="'fill' parameter of to_brain must be a float"):
        to_brain(x[0], tmp_path / "never.nii", fill="0")
    with pytest.raises(CapabilityError, match="`like` without the attr"):
        to_brain(x[0], tmp_path / "never.nii", like=x.drop_attrs())
    assert not (tmp_path / "never.nii").exists()
    surface = ba.open_responses(gifti(tmp_path, values), system="s")
    with pytest.raises(SchemaError, match="neuroids 'L14' do not lie"):
        to_brain(surface[0].assign_coords(neuroid_id=("neuroid", ["L14", *surface.neuroid_id.values[1:]])), tmp_path / "x.gii")
    dense = ba.open_responses(cifti(tmp_path, values), system="s")
    with pytest.raises(ParameterError, match=r"must end with .dscalar.nii for these values. Got 'x.dtseries.nii'"):
        to_brain(dense[0], tmp_path / "x.dtseries.nii")


def test_a_series_keeps_its_clock_and_several_runs_have_none(tmp_path, values):
    x = ba.open_responses(nifti(tmp_path, values), system="s")
    (file,) = to_brain(x, tmp_path / "x.nii")
    assert nibabel.load(file).header.get_zooms()[3] == 1.5
    assert nibabel.load(file).header.get_xyzt_units() == ("mm", "sec")
    two = ba.open_responses([file, to_brain(x, tmp_path / "y.nii")[0]], system="s", run=["1", "2"])
    (file,) = to_brain(two, tmp_path / "z.nii")
    assert nibabel.load(file).header.get_xyzt_units() == ("mm", "unknown")


def test_a_grid_without_kind_is_nifti(tmp_path):
    grid = {"shape": [2, 2, 1], "affine": np.eye(4).tolist(), "order": "C"}
    scores = xr.DataArray(
        [0.5, 0.25], dims="neuroid", coords={"neuroid_id": ("neuroid", [0, 3])}, attrs={"grid": json.dumps(grid)}
    )
    np.testing.assert_array_equal(
        nibabel.load(to_brain(scores, tmp_path / "x.nii", fill=0)[0]).get_fdata().ravel(), [0.5, 0, 0, 0.25]
    )
