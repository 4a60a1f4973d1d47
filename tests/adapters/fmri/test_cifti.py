import json

import nibabel
import numpy as np
import pytest
from nibabel.cifti2 import BrainModelAxis, Cifti2Image, LabelAxis, ParcelsAxis, ScalarAxis, SeriesAxis

import brainalign as ba
from brainalign.adapters.fmri.cifti import adapter, open_cifti
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.provenance import provenance
from brainalign.dataset.open import FORMATS

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
SHAPE = (91, 109, 91)
SERIES = SeriesAxis(0, 0.72, 6, "SECOND")


def models(left=(0, 1, 5, 9), n_left=12, voxels=((40, 50, 60), (41, 50, 60), (40, 51, 60)), affine=AFFINE, shape=SHAPE):
    """Return a left cortex without its medial wall, a whole right cortex and some voxels of the thalamus."""
    return (
        BrainModelAxis.from_surface(left, n_left, name="CORTEX_LEFT") + BrainModelAxis.from_surface(np.arange(3), 3, name="CORTEX_RIGHT")
        + BrainModelAxis("THALAMUS_LEFT", voxel=np.array(voxels), affine=affine, volume_shape=shape)
    )  # fmt: skip


def cifti(path, values, rows=SERIES, brain=None, dtype=None):
    Cifti2Image(values, (rows, models() if brain is None else brain), dtype=dtype).to_filename(path)
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)


def test_structures_vertices_and_places_are_kept(tmp_path, values):
    x = open_cifti(
        cifti(tmp_path / "x.dtseries.nii", values), system="s", subject="1", units="% signal change", first_onset_s=2.0
    )
    np.testing.assert_array_equal(x.values, values)
    assert x.neuroid_id.values.tolist() == list(range(10))
    assert x.structure.values.tolist() == ["CORTEX_LEFT"] * 4 + ["CORTEX_RIGHT"] * 3 + ["THALAMUS_LEFT"] * 3
    assert x.hemisphere.values.tolist() == ["L"] * 4 + ["R"] * 3 + [""] * 3
    assert x.vertex.values.tolist() == [0, 1, 5, 9, 0, 1, 2, -1, -1, -1]
    ijk = np.stack([x[f"voxel_{axis}"].values for axis in "ijk"], axis=1)
    assert ijk[6:].tolist() == [[-1, -1, -1], [40, 50, 60], [41, 50, 60], [40, 51, 60]]
    xyz = np.stack([x[name].values for name in ("x_mm", "y_mm", "z_mm")], axis=1)
    assert np.isnan(xyz[:7]).all()
    np.testing.assert_allclose(xyz[7:], nibabel.affines.apply_affine(AFFINE, ijk[7:]))
    np.testing.assert_allclose(x.onset_s, 2 + 0.72 * np.arange(6))
    assert json.loads(x.attrs["grid"])["n_vertices"] == {"CORTEX_LEFT": 12, "CORTEX_RIGHT": 3}
    step = provenance(x, verify=False).steps[-1]["params"]
    assert (step["index_base"], step["scale"], x.attrs["units"]) == (0, [[1.0, 0.0]], "% signal change")
    ba.validate(x.load(), deep=True)


def test_structures_are_chosen_by_name(tmp_path, values):
    file = cifti(tmp_path / "x.dtseries.nii", values)
    x = open_cifti(file, system="s", structures=["CIFTI_STRUCTURE_THALAMUS_LEFT", "cortex_left"])
    np.testing.assert_array_equal(x.values, values[:, [0, 1, 2, 3, 7, 8, 9]])
    assert x.neuroid_id.values.tolist() == [0, 1, 2, 3, 7, 8, 9]
    surface = open_cifti(file, system="s", structures="CORTEX_RIGHT")
    assert "x_mm" not in surface.coords
    assert "vertex" not in open_cifti(file, system="s", structures="THALAMUS_LEFT").coords
    with pytest.raises(
        ParameterError, match=r"no structure 'THALAMUS_LEFTT'. Did you mean 'THALAMUS_LEFT'\? It has CORTEX_LEFT, CORTEX_RIGHT, "
    ):
        open_cifti(file, system="s", structures=["THALAMUS_LEFTT"])


def real_sized(path, n_rows):
    """Write a simulated file of the 91k grayordinates of fsLR and MNI at 2 mm."""
    wall = {
        name: np.r_[np.arange(start), np.arange(start + 32492 - n, 32492)]
        for name, start, n in (("CORTEX_LEFT", 4000, 29696), ("CORTEX_RIGHT", 7000, 29716))
    }
    brain = BrainModelAxis.from_surface(wall["CORTEX_LEFT"], 32492, name="CORTEX_LEFT")
    brain += BrainModelAxis.from_surface(wall["CORTEX_RIGHT"], 32492, name="CORTEX_RIGHT")
    inside = np.stack(np.unravel_index(300_000 + np.arange(31870), SHAPE, order="F"), axis=1)
    brain += BrainModelAxis("BRAIN_STEM", voxel=inside, affine=AFFINE, volume_shape=SHAPE)
    values = np.random.default_rng(0).normal(size=(n_rows, len(brain))).astype(np.float32)
    return cifti(path, values, SeriesAxis(0, 1, n_rows, "SECOND"), brain), values


def test_opening_91k_grayordinates_touches_the_header_only(tmp_path, bytes_read):
    file, values = real_sized(tmp_path / "x.dtseries.nii", 60)
    open_cifti(cifti(tmp_path / "small.dtseries.nii", values[:6, :10]), system="s")  # what it imports is read now
    header = nibabel.load(file).dataobj.offset
    assert file.stat().st_size == header + values.nbytes
    x = open_cifti(file, system="s")
    assert x.shape == (60, 91282)
    assert bytes_read(open_cifti, file, system="s") < 2 * header + 20_000
    part = x[:, 50_000:50_100]
    assert bytes_read(part.compute) < 60 * 100 * 4 + 10_000  # time runs fastest: the volumes of a grayordinate lie together
    np.testing.assert_array_equal(part.values, values[:, 50_000:50_100])
    np.testing.assert_array_equal(x[7].values, values[7])
    assert len(x.attrs["grid"]) < 2000
    cortex = open_cifti(file, system="s", structures=["CORTEX_LEFT", "CORTEX_RIGHT"])
    assert cortex.shape == (60, 59412)
    assert bytes_read(cortex.compute) < 59412 * 60 * 4 + 20_000


def test_integers_with_a_scale_are_scaled(tmp_path, values):
    file = cifti(tmp_path / "x.dtseries.nii", np.arange(60, dtype=np.int16).reshape(6, 10))
    raw = bytearray(file.read_bytes())
    assert nibabel.load(file).get_data_dtype() == np.int16
    raw[176:192] = np.array([0.5, 3.0]).tobytes()  # scl_slope and scl_inter of NIfTI-2
    file.write_bytes(raw)
    np.testing.assert_array_equal(open_cifti(file, system="s").values, np.arange(60).reshape(6, 10) * 0.5 + 3)


def test_runs_share_grayordinates_and_tr(tmp_path, values):
    files = [cifti(tmp_path / f"sub-1_run-{run}_bold.dtseries.nii", values + run) for run in (1, 2)]
    x = open_cifti(files, system="s")
    np.testing.assert_array_equal(x.values, np.concatenate([values + 1, values + 2]))
    assert x.run.values.tolist() == ["1"] * 6 + ["2"] * 6
    assert x.stimulus_id.values[6] == "run-2/v00000"
    for brain in (
        models(left=(0, 1, 5, 8)),
        models(n_left=13),
        models(affine=AFFINE * 1.5),
        models(voxels=((1, 2, 3), (2, 2, 3), (3, 2, 3))),
    ):
        other = cifti(tmp_path / "sub-1_run-3_bold.dtseries.nii", values, brain=brain)
        with pytest.raises(FormatError, match=r"run-3_bold.dtseries.nii' holds series × 10 grayordinates and .* Runs must hold"):
            open_cifti([*files, other], system="s")
    other = cifti(tmp_path / "sub-1_run-3_bold.dtseries.nii", values, SeriesAxis(0, 1, 6, "SECOND"))
    with pytest.raises(FormatError, match=r"TR of 0.72 s and .*run-3_bold.dtseries.nii' of 1 s"):
        open_cifti([*files, other], system="s")
    (tmp_path / "sub-1_run-1_bold.json").write_text('{"RepetitionTime": 0.8}')
    with pytest.raises(FormatError, match=r"'sub-1_run-1_bold.json' states a TR of 0.8 s and header of 0.72 s"):
        open_cifti(files[0], system="s")
    assert float(open_cifti(files[0], system="s", tr_s=0.8, override_tr=True).onset_s[1]) == 0.8


def test_a_series_must_be_in_seconds(tmp_path, values):
    with pytest.raises(FormatError, match=r"a series in HERTZ. Expected SECOND"):
        open_cifti(cifti(tmp_path / "x.dtseries.nii", values, SeriesAxis(0, 1, 6, "HERTZ")), system="s")
    file = cifti(tmp_path / "x.dtseries.nii", values, SeriesAxis(0, 0, 6, "SECOND"))
    with pytest.raises(FormatError, match=r"does not state its TR: .* series step 0 s"):
        open_cifti(file, system="s")
    assert float(open_cifti(file, system="s", tr_s=2.0).onset_s[1]) == 2.0


def test_a_volume_in_other_units_than_mm_is_brought_to_mm(tmp_path, values):
    file = cifti(tmp_path / "x.dtseries.nii", values)
    raw = file.read_bytes()
    assert raw.count(b'MeterExponent="-3"') == 1
    file.write_bytes(raw.replace(b'MeterExponent="-3"', b'MeterExponent="-2"'))  # the same length
    x = open_cifti(file, system="s")
    np.testing.assert_allclose(x.x_mm[7], 10 * (AFFINE[0, 0] * 40 + AFFINE[0, 3]))


def test_maps_and_parcels(tmp_path, values):
    x = open_cifti(cifti(tmp_path / "x.dscalar.nii", values[:2], ScalarAxis(["faces", "houses"])), system="s")
    assert x.stimulus_id.values.tolist() == ["faces", "houses"]
    assert "onset_s" not in x.coords
    assert "sampling_rate_hz" not in x.coords
    x = open_cifti(cifti(tmp_path / "x.dscalar.nii", values[:2], ScalarAxis(["", "houses"])), system="s")
    assert x.stimulus_id.values.tolist() == ["run-1/m00000", "houses"]
    parcels = ParcelsAxis.from_brain_models([("V1", models()[:3]), ("STR", models()[7:9]), ("wide", models()[2:8])])
    x = open_cifti(cifti(tmp_path / "x.ptseries.nii", values[:, :3], brain=parcels), system="s")
    np.testing.assert_array_equal(x.values, values[:, :3])
    assert x.region.values.tolist() == x.neuroid_id.values.tolist() == ["V1", "STR", "wide"]
    assert x.hemisphere.values.tolist() == ["L", "", ""]
    with pytest.raises(ParameterError, match=r"choose grayordinates, and .* holds parcels"):
        open_cifti(tmp_path / "x.ptseries.nii", system="s", structures=["CORTEX_LEFT"])


def atlas(path, keys, brain, names=(("???", 0), ("V1", 1), ("IT", 4)), n=1):
    table = {key: (name, (1.0, 1.0, 1.0, 1.0)) for name, key in names}
    rows = LabelAxis([f"map{i}" for i in range(n)], [table] * n)
    return cifti(path, np.array([keys] * n, dtype=np.float32), rows, brain)


def test_labels_are_matched_by_structure_and_vertex(tmp_path, values):
    file = cifti(tmp_path / "x.dtseries.nii", values)
    brain = BrainModelAxis.from_surface(np.arange(3), 3, name="CORTEX_RIGHT") + BrainModelAxis.from_surface(
        np.arange(12), 12, name="CORTEX_LEFT"
    )
    labels = atlas(tmp_path / "a.dlabel.nii", [4, 0, 4, *([1] * 6), 4, 0, 0, 0, 0, 0], brain)
    x = open_cifti(file, system="s", labels=labels)
    assert x.neuroid_id.values.tolist() == [0, 1, 2, 4, 6]  # vertex 9 left and 1 right have key 0; no voxel has a label
    assert x.region.values.tolist() == ["V1", "V1", "V1", "IT", "IT"]
    np.testing.assert_array_equal(x.values, values[:, [0, 1, 2, 4, 6]])
    x = open_cifti(file, system="s", labels=atlas(tmp_path / "b.dlabel.nii", [0] * 7 + [1, 0, 4], models()))
    assert x.voxel_i.values.tolist() == [40, 40]
    assert x.region.values.tolist() == ["V1", "IT"]
    for name, keys, axis, options, message in (
        ("c", [1] * 10, models(n_left=13), {}, r"have other numbers of vertices .*\(13, 12\)"),
        ("d", [1] * 10, models(affine=AFFINE + np.eye(4)), {}, "lie in other volumes"),
        ("e", [1] * 9 + [7], models(), {}, "keys 7, which its label table does not name"),
        ("f", [0] * 10, models(), {}, "names none of the 10 grayordinates"),
        ("g", [1] * 10, models(), {"n": 2}, "holds 2 × label × 10 grayordinates. Expected a dense label map, just one"),
    ):
        with pytest.raises(FormatError, match=message):
            open_cifti(file, system="s", labels=atlas(tmp_path / f"{name}.dlabel.nii", keys, axis, **options))
    with pytest.raises(FormatError, match=r"is a label map, not a recording.*`labels=`"):
        open_cifti(labels, system="s")
    with pytest.raises(FormatError, match=r"holds 6 × series × 10 grayordinates"):
        open_cifti(file, system="s", labels=file)


def test_truncated_files_nan_and_other_kinds_are_named(tmp_path, values):
    file = cifti(tmp_path / "x.dtseries.nii", values)
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(FormatError, match=r"x.dtseries.nii' has \d+ bytes; its header promises \d+ \(shape \(6, 10\), float32\)"):
        open_cifti(file, system="s")
    values[4, 8] = np.nan
    x = open_cifti(cifti(file, values), system="s")
    np.testing.assert_array_equal(x[:, :8].values, values[:, :8])
    with pytest.raises(FormatError, match="first in row 4 of 'column 8'"):
        x.compute()
    np.testing.assert_array_equal(open_cifti(file, system="s", allow_nan=True).values, values)
    assert open_cifti(file, system="s", structures="CORTEX_LEFT").values.shape == (6, 4)
    cifti(tmp_path / "x.dconn.nii", np.zeros((10, 10), np.float32), models())
    with pytest.raises(FormatError, match="CIFTI of BrainModel × BrainModel"):
        open_cifti(tmp_path / "x.dconn.nii", system="s")
    nibabel.save(nibabel.Nifti2Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(FormatError, match="no uncompressed CIFTI-2 file"):
        open_cifti(tmp_path / "x.nii", system="s")


def test_files_are_recognised_by_content_alone(tmp_path, values):
    file = cifti(tmp_path / "x.dat.nii", values)
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(file)] == ["cifti"]
    assert adapter.matches([file]) == "it is NIfTI-2 with an intent of CIFTI"
    nibabel.save(nibabel.Nifti2Image(np.zeros((2, 2, 2, 2), np.float32), np.eye(4)), tmp_path / "x.nii")
    for other in (tmp_path / "x.nii", tmp_path, 3, []):
        assert not adapter.matches(other)
    assert ba.open_responses(file, system="s").shape == (6, 10)


def test_damage_is_an_error_or_no_matter(tmp_path, values, survives_damage):
    file = cifti(tmp_path / "x.dtseries.nii", values)
    assert survives_damage(file, lambda: open_cifti(file, system="s").compute(), header=4000)
