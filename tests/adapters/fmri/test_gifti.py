import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.gifti import GiftiDataArray, GiftiImage, GiftiLabel, GiftiLabelTable, GiftiMetaData

import brainalign as ba
from brainalign.adapters.fmri.gifti import adapter, open_gifti
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.provenance import provenance
from brainalign.dataset.open import FORMATS

SERIES, MAPS, LABELS = "NIFTI_INTENT_TIME_SERIES", "NIFTI_INTENT_NONE", "NIFTI_INTENT_LABEL"
STRUCTURES = {"L": "CortexLeft", "R": "CortexRight", None: None}


def gifti(path, rows, side=None, *, intent=SERIES, step="1500.0", names=None, inner=False, structure=None):
    """Write a file as FreeSurfer (metadata in the arrays) or Workbench (in the file) would."""
    meta = {"AnatomicalStructurePrimary": structure or STRUCTURES[side], "TimeStep": step}
    meta = {key: value for key, value in meta.items() if value}
    arrays = []
    for i, row in enumerate(rows):
        array = GiftiDataArray(row, intent=intent, datatype="NIFTI_TYPE_FLOAT32" if row.dtype.kind == "f" else "NIFTI_TYPE_INT32")
        array.meta = GiftiMetaData({**(meta if inner else {}), **({"Name": names[i]} if names else {})})
        arrays.append(array)
    nibabel.save(GiftiImage(meta=GiftiMetaData({} if inner else meta), darrays=arrays), path)
    return path


def label_file(path, keys, names, side=None):
    table = GiftiLabelTable()
    for key, name in names.items():
        label = GiftiLabel(key=key)
        label.label = name
        table.labels.append(label)
    array = GiftiDataArray(np.asarray(keys, dtype=np.int32), intent=LABELS, datatype="NIFTI_TYPE_INT32")
    meta = GiftiMetaData({"AnatomicalStructurePrimary": STRUCTURES[side]} if side else {})
    nibabel.save(GiftiImage(meta=meta, darrays=[array], labeltable=table), path)
    return path


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(2, 6, 13)).astype(np.float32)  # (run, volume, vertex)


@pytest.fixture
def files(tmp_path, values):
    """Two runs of two hemispheres of 7 and 6 vertices."""
    return [
        gifti(tmp_path / f"sub-1_run-0{run}_hemi-{side}_bold.func.gii", values[run][:, part], side, inner=run == 1)
        for run in (0, 1) for side, part in (("L", slice(0, 7)), ("R", slice(7, None)))
    ]  # fmt: skip


def test_hemispheres_and_runs_are_joined_by_what_they_state(files, values):
    for order in ([0, 1, 2, 3], [3, 0, 1, 2]):
        x = open_gifti([files[i] for i in order], system="sub-1", subject="1", units="a.u.", first_onset_s=4.0)
        runs = list(dict.fromkeys(x.run.values.tolist()))
        np.testing.assert_array_equal(x.values, np.concatenate([values[int(run)] for run in runs]))
    x = open_gifti(files, system="sub-1", subject="1", units="a.u.", first_onset_s=4.0)
    assert x.neuroid_id.values.tolist() == [f"L{i}" for i in range(7)] + [f"R{i}" for i in range(6)]
    assert x.hemisphere.values.tolist() == ["L"] * 7 + ["R"] * 6
    assert x.vertex.values.tolist() == [*range(7), *range(6)]
    assert x.run.values.tolist() == ["00"] * 6 + ["01"] * 6
    assert x.stimulus_id.values[7] == "run-01/v00001"
    np.testing.assert_array_equal(x.onset_s, 4 + 1.5 * np.tile(np.arange(6), 2))
    assert json.loads(x.attrs["grid"]) == {"kind": "gifti", "n_vertices": {"L": 7, "R": 6}}
    step = provenance(x, verify=False).steps[-1]["params"]
    assert (step["index_base"], step["scale"], step["tr_s"], x.attrs["units"]) == (0, 1.0, 1.5, "a.u.")
    ba.validate(x.load(), deep=True)


def test_hemispheres_of_two_people_are_no_brain(tmp_path, values):
    files = [gifti(tmp_path / f"sub-{i}_run-1_hemi-{side}_bold.func.gii", values[0], side) for i, side in enumerate("LR")]
    with pytest.raises(ParameterError, match=r"are of .*sub-0.*sub-1"):
        open_gifti(files, system="s")


def test_one_hemisphere_alone_keeps_its_names(files, values):
    right = open_gifti([files[1], files[3]], system="s")
    assert right.neuroid_id.values[0] == "R0"
    np.testing.assert_array_equal(right.values, np.concatenate(values)[:, 7:])
    np.testing.assert_array_equal(open_gifti(files[0], system="s").values, values[0][:, :7])


def test_names_of_runs_may_be_given(tmp_path, values):
    files = [gifti(tmp_path / f"{run}.{side}.func.gii", values[run], side) for run in (0, 1) for side in "LR"]
    x = open_gifti(files, system="s", run=["a", "a", "b", "b"])
    assert x.run.values.tolist() == ["a"] * 6 + ["b"] * 6
    with pytest.raises(ParameterError, match="one name a file, none twice"):
        open_gifti(files, system="s")
    with pytest.raises(ParameterError, match="one name a file, none twice"):
        open_gifti(files, system="s", run=["a", "b"])
    with pytest.raises(FormatError, match=r"run 'b' has a file of one hemisphere only \('.*1.L.func.gii'\)"):
        open_gifti(files[:3], system="s", run=["a", "a", "b"])
    with pytest.raises(ParameterError, match="0 files"):
        open_gifti([], system="s")


def test_values_stay_in_their_files(tmp_path, bytes_read):
    rows = np.random.default_rng(0).normal(size=(40, 4000)).astype(np.float32)
    files = [gifti(tmp_path / f"x_hemi-{side}.func.gii", rows, side) for side in "LR"]
    size = files[0].stat().st_size
    open_gifti(files, system="s")
    assert bytes_read(open_gifti, files, system="s") < 0.4 * size
    x = open_gifti(files, system="s")
    assert 0.99 * size < bytes_read(x[3, :10].compute) < 1.2 * size  # the left file, and not the right one
    files[1].write_bytes(files[0].read_bytes())
    with pytest.raises(FormatError, match=r"x_hemi-R.func.gii' changed or went away"):
        x.compute()


@pytest.mark.parametrize(("step", "seconds"), [("1500.000000", 1.5), ("1.5", 1.5), ("720", 0.72), ("2", 2.0)])
def test_time_steps_are_in_milliseconds_or_seconds(tmp_path, values, step, seconds):
    file = gifti(tmp_path / "hemi-L.func.gii", values[0], "L", step=step)
    assert float(open_gifti(file, system="s").onset_s[1]) == seconds


def test_the_sidecar_and_the_file_must_agree(tmp_path, values):
    file = gifti(tmp_path / "x_hemi-L_bold.func.gii", values[0], "L", step="2000")
    (tmp_path / "x_hemi-L_bold.json").write_text('{"RepetitionTime": 2.0}')
    assert float(open_gifti(file, system="s").onset_s[1]) == 2.0
    (tmp_path / "x_hemi-L_bold.json").write_text('{"RepetitionTime": 1.0}')
    with pytest.raises(FormatError, match=r"'x_hemi-L_bold.json' states a TR of 1 s and header of 2 s"):
        open_gifti(file, system="s")
    assert float(open_gifti(file, system="s", tr_s=1.0, override_tr=True).onset_s[1]) == 1.0
    (tmp_path / "x_hemi-L_bold.json").unlink()
    for step in ("0.000000", "", "fast", "nan"):  # FreeSurfer's mri_surf2surf has written zeros
        other = gifti(tmp_path / "y_hemi-L_bold.func.gii", values[0], "L", step=step)
        with pytest.raises(FormatError, match=f"does not state its TR: .* TimeStep '{step}' inside"):
            open_gifti(other, system="s")
        assert float(open_gifti(other, system="s", tr_s=1.25).onset_s[1]) == 1.25


def test_hemispheres_must_be_stated_once(tmp_path, values):
    for name in ("lh.bold.func.gii", "x.L.func.gii", "x_hemi-L_bold.func.gii", "hemi-L.gii"):
        assert open_gifti(gifti(tmp_path / name, values[0]), system="s").hemisphere.values[0] == "L"
    for structure in ("CORTEX_RIGHT", "CIFTI_STRUCTURE_CORTEX_RIGHT"):
        assert open_gifti(gifti(tmp_path / "x.gii", values[0], structure=structure), system="s").hemisphere.values[0] == "R"
    for name, structure, message in (
        ("hemi-L.gii", "CortexRight", r"'CortexRight' as AnatomicalStructurePrimary and 'L' in its name"),
        ("x.gii", None, "None as AnatomicalStructurePrimary and None in its name"),
        ("x.gii", "Cerebellum", "'Cerebellum' as AnatomicalStructurePrimary"),
    ):
        with pytest.raises(FormatError, match=message):
            open_gifti(gifti(tmp_path / name, values[0], structure=structure), system="s")


def test_labels_become_regions_and_unlabelled_vertices_are_left_out(tmp_path, files, values):
    names = {0: "Medial_Wall", 1: "V1", 5: "???", 7: "IT"}
    left = label_file(tmp_path / "left.label.gii", [0, 1, 1, 7, 5, 0, 7], names, "L")
    right = label_file(tmp_path / "hemi-R.label.gii", [1] * 6, {0: "???", 1: "V1"})
    x = open_gifti(files, system="s", labels=[right, left])
    assert x.neuroid_id.values.tolist() == ["L1", "L2", "L3", "L6", *(f"R{i}" for i in range(6))]
    assert x.region.values.tolist() == ["V1", "V1", "IT", "IT"] + ["V1"] * 6
    np.testing.assert_array_equal(x.values, np.concatenate(values)[:, [1, 2, 3, 6, *range(7, 13)]])
    assert json.loads(x.attrs["grid"])["n_vertices"] == {"L": 7, "R": 6}
    for labels, message in (
        ([left], r"given for \['L'\] and not for hemisphere R"),
        ([left, left], "for hemisphere L twice"),
        ([label_file(tmp_path / "a_hemi-L.gii", [1] * 6, names), right], "labels 6 vertices and .* has 7"),
        ([label_file(tmp_path / "b_hemi-L.gii", [1, 2, 3, 1, 1, 1, 1], names), right], "keys 2, 3, which its label table does not name"),
        ([files[0], right], "holds the intents 'TIME_SERIES'"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=message):
            open_gifti(files, system="s", labels=labels)
    none = [label_file(tmp_path / f"c_hemi-{side}.gii", [0] * n, names) for side, n in (("L", 7), ("R", 6))]
    with pytest.raises(FormatError, match="leave no vertex"):
        open_gifti(files, system="s", labels=none)


def test_maps_have_names_and_no_time(tmp_path, values):
    pair = [gifti(tmp_path / f"hemi-{side}.shape.gii", values[0][:2], side, intent=MAPS, step="", names=["faces", "houses"])
            for side in "LR"]  # fmt: skip
    x = open_gifti(pair, system="s")
    assert x.stimulus_id.values.tolist() == ["faces", "houses"]
    assert "onset_s" not in x.coords
    assert float(open_gifti(pair, system="s", tr_s=2.0).onset_s[1]) == 2.0
    gifti(pair[1], values[0][:2], "R", intent=MAPS, step="", names=["houses", "faces"])
    with pytest.raises(FormatError, match=r"maps 'houses', 'faces' and .* 'faces', 'houses'. Expected one order"):
        open_gifti(pair, system="s")
    gifti(pair[1], values[0][:2], "R", intent=MAPS, step="", names=["rh.faces", "houses"])
    assert open_gifti(pair, system="s").stimulus_id.values.tolist() == ["run-1/m00000", "houses"]


def test_sizes_must_agree(tmp_path, files, values):
    for name, rows, side, message in (
        ("a_run-00_hemi-R.gii", values[0][:5, 7:], "R", r"run '00' has 6 arrays in .* and 5 in .*a_run-00_hemi-R.gii"),
        ("a_run-01_hemi-L.gii", values[0][:, :6], "L", r"a_run-01_hemi-L.gii' has 6 vertices and .*run-00_hemi-L_bold.func.gii' 7"),
        ("a_run-01_hemi-L.gii", values[0][:, :7], "L", r"TR of 1.5 s and .*a_run-01_hemi-L.gii' of 2 s"),
    ):  # fmt: skip
        other = gifti(tmp_path / name, rows, side, step="2000" if "TR" in message else "1500")
        keep = [file for file in files if f"{name[2:8]}_{name[9:15]}" not in file.name]
        assert len(keep) == 3
        with pytest.raises(FormatError, match=message):
            open_gifti([*keep, other], system="s")


def test_meshes_wide_arrays_and_nan_are_refused(tmp_path, values):
    mesh = gifti(tmp_path / "hemi-L.surf.gii", [values[0][:, :3]], "L", intent="NIFTI_INTENT_POINTSET")
    with pytest.raises(FormatError, match=r"intent POINTSET and shape \(6, 3\).* a mesh is no recording"):
        open_gifti(mesh, system="s")
    with pytest.raises(FormatError, match=r"shape \(6, 3\)"):
        open_gifti(gifti(tmp_path / "hemi-L.gii", [values[0][:, :3]], "L"), system="s")
    values[0][4, 2] = np.nan
    file = gifti(tmp_path / "hemi-R.gii", values[0], "R")
    x = open_gifti(file, system="s")
    np.testing.assert_array_equal(x[:, 3:].values, values[0][:, 3:])
    with pytest.raises(FormatError, match="first in row 4 of 'R2'"):
        x.compute()
    np.testing.assert_array_equal(open_gifti(file, system="s", allow_nan=True).values, values[0])
    rows = np.random.default_rng(0).normal(size=(4, 20_000)).astype(np.float32)
    gifti(file, [*rows[:3], rows[3, :5]], "R")
    with pytest.raises(FormatError, match=r"as array 3 one of intent TIME_SERIES and shape \(5,\). Expected 20000 values"):
        open_gifti(file, system="s").compute()


def test_files_are_recognised_by_content_alone(tmp_path, files):
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(files[0])] == ["gifti"]
    shutil.copy(files[0], tmp_path / "hemi-L.xml")
    assert adapter.matches([tmp_path / "hemi-L.xml"]) == "it is XML with a GIFTI element"
    (tmp_path / "x.gii").write_text("<xml/>")
    for other in (tmp_path / "x.gii", tmp_path, 3, []):
        assert not adapter.matches(other)
    assert ba.open_responses(files, system="s").shape == (12, 13)


def test_damage_is_an_error_or_no_matter(tmp_path, values, survives_damage):
    file = gifti(tmp_path / "hemi-L.func.gii", values[0], "L")
    assert survives_damage(file, lambda: open_gifti(file, system="s").compute())


def test_the_surfaces_that_nilearn_ships(tmp_path):
    spec = find_spec("nilearn")  # importing it takes seconds; these are the files of `fetch_surf_fsaverage("fsaverage5")`
    if spec is None or spec.origin is None:
        pytest.skip("nilearn, which carries fsaverage5, is not installed")
    shipped = Path(spec.origin).parent / "datasets" / "data" / "fsaverage5"
    files = []
    for side, word in (("L", "left"), ("R", "right")):
        files.append(tmp_path / f"fsaverage5_hemi-{side}_sulc.shape.gii.gz")
        shutil.copy(shipped / f"sulc_{word}.gii.gz", files[-1])
    x = ba.open_responses(files, system="fsaverage5", units="mm")
    assert x.shape == (1, 2 * 10242)
    for side, file in zip("LR", files, strict=True):
        np.testing.assert_array_equal(x.values[0, x.hemisphere.values == side], nibabel.load(file).darrays[0].data)
    assert x.stimulus_id.values.tolist() == ["run-1/m00000"]  # both name the file that they were made from
    written = ba.reports.to_brain(x, tmp_path / "again.shape.gii")
    np.testing.assert_array_equal(nibabel.load(written[1]).darrays[0].data, nibabel.load(files[1]).darrays[0].data)
    with pytest.raises(FormatError, match=r"POINTSET and shape \(10242, 3\)"):
        open_gifti(shipped / "pial_left.gii.gz", system="s")
