import h5py
import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.adapters.brainscore import adapter, open_brainscore, save_brainscore
from brainalign.adapters.netcdf import write_netcdf
from brainalign.core.errors import FormatError, ParameterError, SchemaError, StoreError
from brainalign.core.schema import as_labels

VALUES = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32)
PRESENTATION = {
    "stimulus_id": np.array(["a", "b", "a", "c"]),
    "repetition": np.array([0, 0, 1, 0]),
    "object_name": np.array(list("xyxz")),
}
NEUROID = {
    "neuroid_id": np.array(["n1", "n2", "n3"]),
    "subject": np.array(["monkey"] * 3),
    "nc_testset": np.array([40.0, 50.0, np.nan]),
}
BINS = {"time_bin_start": np.array([70, 90]), "time_bin_end": np.array([90, 110])}
WHO = {"modality": "spikes"}


def assembly(path, *, values=VALUES, dims=("presentation", "neuroid", "time_bin"), name="data", attrs=None, **changed):
    """Write an assembly as xarray does after ``reset_index``; ``changed`` replaces coordinates, None leaves one out."""
    labels = {"presentation": PRESENTATION, "neuroid": NEUROID, "time_bin": BINS}
    flat = {key: (dim, values) for dim in dims for key, values in labels[dim].items()}
    flat |= {key: (flat[key][0] if key in flat else "neuroid", value) for key, value in changed.items()}
    variables = {key: ((dim,), np.asarray(value), {}) for key, (dim, value) in flat.items() if value is not None}
    variables[name] = (tuple(dims), values, {})
    write_netcdf(path, dict(zip(dims, values.shape, strict=True)), variables, attrs or {})
    return path


@pytest.fixture
def responses():
    return ba.responses(
        VALUES, stimulus_id=["a", "b", "a", "c"], neuroid_id=["n1", "n2", "n3"], modality="spikes", system="monkey", region=["V4", "IT", "IT"],
        time=[0.08, 0.1], units="Hz", presentation={"object_name": list("xyxz"), "seen": [True, False, True, True]},
        neuroid={"nc_testset": [40.0, 50.0, np.nan]},
    )  # fmt: skip


def test_coordinates_keep_their_names_and_bins_become_seconds(tmp_path):
    x = open_brainscore(assembly(tmp_path / "a.nc", attrs={"stimulus_set_identifier": "dicarlo.X"}), **WHO)
    np.testing.assert_array_equal(x.values, VALUES)
    assert x.stimulus_id.values.tolist() == ["a", "b", "a", "c"]
    assert x.repetition.values.tolist() == [0, 0, 1, 0]
    assert "file_repetition" not in x.coords  # it says the same
    assert x.system.values.tolist() == ["monkey"] * 3
    assert x.object_name.values.tolist() == list("xyxz")
    np.testing.assert_array_equal(x.nc_testset, [40, 50, np.nan])
    np.testing.assert_allclose(x.time, [0.08, 0.1])
    assert x.time_bin_start.values.tolist() == [70, 90]
    assert x.attrs["stimulus_set_identifier"] == "dicarlo.X"
    ba.validate(x, deep=True)


@pytest.mark.parametrize("name", ["data", "__xarray_dataarray_variable__", "dicarlo.hong"])
@pytest.mark.parametrize("dims", [("presentation", "neuroid", "time_bin"), ("neuroid", "time_bin", "presentation")])
def test_any_variable_name_and_any_order_of_dims(tmp_path, name, dims):
    order = [("presentation", "neuroid", "time_bin").index(dim) for dim in dims]
    x = open_brainscore(assembly(tmp_path / "a.nc", values=VALUES.transpose(order), dims=dims, name=name), **WHO)
    assert x.dims == ("presentation", "neuroid", "time")
    np.testing.assert_array_equal(x.values, VALUES)
    np.testing.assert_array_equal(x[2:3, :2, 1].values, VALUES[2:3, :2, 1])


def test_without_time_and_with_integer_counts(tmp_path):
    counts = np.arange(12).reshape(4, 3)
    x = open_brainscore(assembly(tmp_path / "a.nc", values=counts, dims=("presentation", "neuroid")), **WHO)
    assert (x.dims, x.dtype) == (("presentation", "neuroid"), np.int64)
    np.testing.assert_array_equal(x.values, counts)


def test_older_names_and_a_stimulus_coordinate_of_your_own(tmp_path):
    old = assembly(tmp_path / "a.nc", stimulus_id=None, repetition=None)
    with h5py.File(old, "a") as file:
        file["image_id"] = np.array(["i1", "i2", "i3", "i4"], dtype=object)
        file["image_id"].dims[0].attach_scale(file["presentation"])
    assert open_brainscore(old, **WHO).stimulus_id.values.tolist() == ["i1", "i2", "i3", "i4"]
    x = open_brainscore(assembly(tmp_path / "b.nc"), stimulus_coord="object_name", **WHO)
    assert x.stimulus_id.values.tolist() == list("xyxz")
    assert x.file_stimulus_id.values.tolist() == ["a", "b", "a", "c"]
    with pytest.raises(FormatError, match=r"no coordinate 'stimulus_id'; along that dim are .*'object_name'"):
        open_brainscore(assembly(tmp_path / "c.nc", stimulus_id=None), **WHO)


def test_repetitions_are_counted_and_those_of_the_file_kept_where_they_differ(tmp_path):
    x = open_brainscore(assembly(tmp_path / "a.nc", repetition=np.array([1, 1, 1, 1])), **WHO)
    assert x.repetition.values.tolist() == [0, 0, 1, 0]
    assert x.file_repetition.values.tolist() == [1, 1, 1, 1]
    assert "file_repetition" not in open_brainscore(assembly(tmp_path / "b.nc", repetition=np.array([1, 1, 2, 1])), **WHO).coords


def test_coordinates_of_the_other_dim_get_a_name_that_is_free(tmp_path):
    x = open_brainscore(assembly(tmp_path / "a.nc", session=np.array([1, 1, 2])), system="m", **WHO)
    assert x.neuroid_session.values.tolist() == [1, 1, 2]
    assert x.neuroid_subject.values.tolist() == ["monkey"] * 3  # the name that was given is the system


def test_who_and_what_it_is_must_be_known(tmp_path):
    file = assembly(tmp_path / "a.nc", subject=None)
    with pytest.raises(ParameterError, match=r"no `system=` .* neuroids have no `subject`; they have 'n"):
        open_brainscore(file, **WHO)
    with pytest.raises(ParameterError, match=r"no `modality=`"):
        open_brainscore(file, system="m")


def test_saved_responses_come_back_identical(tmp_path, responses):
    for x, name in ((responses, "a"), (responses.isel(time=0, drop=True), "b"), (responses.chunk(presentation=1), "c")):
        ba.save(x, tmp_path / f"{name}.nc", format="brainscore")
        y = ba.open_responses(tmp_path / f"{name}.nc")
        steps = [step["verb"] for step in ba.core.provenance(y).steps]
        assert steps == ["responses", "open:brainscore", "open_responses"]
        y.attrs["provenance"] = x.attrs["provenance"]
        assert y.compute().identical(x.compute())


def test_the_layout_that_is_written(tmp_path, responses):
    save_brainscore(responses, tmp_path / "a.nc")
    with h5py.File(tmp_path / "a.nc") as file:
        assert [axis[0].name for axis in file["data"].dims] == ["/presentation", "/neuroid", "/time_bin"]
        np.testing.assert_allclose(file["time_bin_start"][()], [70, 90])
        np.testing.assert_allclose(file["time_bin_end"][()], [90, 110])
        assert file["subject"].asstr()[()].tolist() == ["monkey"] * 3
        assert file["presentation"].attrs["NAME"].decode().startswith("This is a netCDF dimension but not a netCDF variable.")
        assert set(file["data"].attrs["coordinates"].split()) == set(file) - {"data", "presentation", "neuroid", "time_bin"}


def test_bins_of_the_file_are_written_back(tmp_path):
    x = open_brainscore(assembly(tmp_path / "a.nc", time_bin_end=np.array([80, 100])), **WHO)
    save_brainscore(x, tmp_path / "b.nc")
    y = open_brainscore(tmp_path / "b.nc")
    np.testing.assert_array_equal(y.time_bin_end, [80, 100])
    np.testing.assert_array_equal(y.time, x.time)
    one = x.isel(time=[0])
    save_brainscore(one, tmp_path / "c.nc")
    np.testing.assert_array_equal(open_brainscore(tmp_path / "c.nc").values, VALUES[:, :, :1])
    with pytest.raises(ParameterError, match=r"one time point, 0.075 s, and no bins.*time_bin_start"):
        save_brainscore(one.drop_vars(["time_bin_start", "time_bin_end"]), tmp_path / "d.nc")


def test_what_cannot_be_saved(tmp_path, responses):
    save_brainscore(responses, tmp_path / "a.nc")
    with pytest.raises(StoreError, match=r"a.nc' exists.*overwrite=True"):
        ba.save(responses, tmp_path / "a.nc", format="brainscore")
    ba.save(responses * 2, tmp_path / "a.nc", format="brainscore", overwrite=True)
    np.testing.assert_array_equal(open_brainscore(tmp_path / "a.nc").values, VALUES * 2)
    with pytest.raises(StoreError, match="no folder"):
        ba.save(responses, tmp_path / "no" / "a.nc", format="brainscore")
    with pytest.raises(SchemaError, match="stimulus_id"):
        ba.save(responses.drop_vars("stimulus_id"), tmp_path / "b.nc", format="brainscore")
    with pytest.raises(ParameterError, match=r"must be one of 'brainscore'. Got 'arrays'"):
        ba.save(responses, tmp_path / "b.nc", format="arrays")
    with pytest.raises(ParameterError, match="coordinates 'when', which netCDF cannot hold"):
        save_brainscore(responses.assign_coords(when=("presentation", np.zeros(4, "M8[s]"))), tmp_path / "b.nc")
    with pytest.raises(ParameterError, match="coordinates 'note', which netCDF cannot hold"):
        save_brainscore(responses.assign_coords(note=("presentation", as_labels(["a\0", "b", "c", "d"]))), tmp_path / "b.nc")
    with pytest.raises(ParameterError, match="name='x' for one file"):
        ba.save(responses, tmp_path / "b.nc", name="x", format="brainscore")
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_files_that_are_no_assembly(tmp_path):
    file = assembly(tmp_path / "a.nc")
    with h5py.File(file, "a") as opened:
        opened["second"] = VALUES
        for axis, dim in enumerate(("presentation", "neuroid", "time_bin")):
            opened["second"].dims[axis].attach_scale(opened[dim])
    with pytest.raises(FormatError, match=r"2 variables along presentation and neuroid.*`variable=`"):
        open_brainscore(file, **WHO)
    assert open_brainscore(file, variable="data", **WHO).shape == (4, 3, 2)
    with pytest.raises(FormatError, match=r"no variable .dta.\. Did you mean .data."):
        open_brainscore(file, variable="dta", **WHO)
    with h5py.File(tmp_path / "b.nc", "w") as opened:
        opened["x"] = VALUES
    with pytest.raises(FormatError, match=r"0 variables along presentation and neuroid.*an assembly of neuroids"):
        open_brainscore(tmp_path / "b.nc", **WHO)
    assert not adapter.matches(tmp_path / "b.nc")
    assert adapter.matches(file) == "netCDF-4 with the dims presentation and neuroid"


def test_dims_of_other_kinds_are_named(tmp_path):
    sizes = {"presentation": 4, "neuroid": 3, "fold": 2}
    labels = {
        key: ((dim,), value, {})
        for dim, held in (("presentation", PRESENTATION), ("neuroid", NEUROID))
        for key, value in held.items()
    }
    write_netcdf(tmp_path / "a.nc", sizes, {**labels, "data": (tuple(sizes), VALUES, {})}, {})
    with pytest.raises(
        FormatError, match=r"has dims \('presentation', 'neuroid', 'fold'\) for 'data'. .*average or select the others"
    ):
        open_brainscore(tmp_path / "a.nc", **WHO)


def test_what_xarray_writes_by_scipy_is_named_with_how_to_convert_it(tmp_path):
    x = xr.DataArray(VALUES[:, :, 0], dims=("presentation", "neuroid"), coords={"stimulus_id": ("presentation", list("abac"))})
    x.to_netcdf(tmp_path / "old.nc", engine="scipy")
    with pytest.raises(FormatError, match=r"old.nc' is a netCDF file of the classic format.*nccopy -k nc4"):
        ba.open_responses(tmp_path / "old.nc")


def test_bins_that_end_before_they_start_and_values_that_are_nan(tmp_path):
    with pytest.raises(FormatError, match=r"time bin from 90 to 90 ms at position 1"):
        open_brainscore(assembly(tmp_path / "a.nc", time_bin_end=np.array([90, 90])), **WHO)
    with pytest.raises(FormatError, match=r"no coordinate 'time_bin_end'"):
        open_brainscore(assembly(tmp_path / "b.nc", time_bin_end=None), **WHO)
    values = VALUES.copy()
    values[3, 1] = np.nan
    x = open_brainscore(assembly(tmp_path / "c.nc", values=values), **WHO)
    with pytest.raises(FormatError, match=r"c.nc' holds 2 values that are NaN .* neuroid 1"):
        x.compute()
    assert np.isnan(open_brainscore(tmp_path / "c.nc", allow_nan=True, **WHO).values).sum() == 2


def test_an_assembly_runs_in_evaluate(tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 6)).astype(np.float32)
    ids = {"stimulus_id": [f"s{i}" for i in range(40)], "neuroid_id": np.arange(6)}
    for name, values in (("a", a), ("b", a @ rng.normal(size=(6, 6)).astype(np.float32) + 0.1 * b)):
        ba.save(ba.responses(values, modality="ann", system=name, **ids), tmp_path / f"{name}.nc", format="brainscore")
    source, target = (ba.open_responses(tmp_path / f"{name}.nc") for name in "ab")
    assert float(ba.evaluate(source, target, model=ba.Ridge(), cv=4).score.mean()) > 0.9


def test_damage(tmp_path, hdf5_survives_damage):
    file = assembly(tmp_path / "a.nc", attrs={"note": "x" * 5000})
    assert hdf5_survives_damage(file, lambda: open_brainscore(file, **WHO).compute()) > 100


@pytest.mark.real
def test_damage_of_what_netcdf_itself_wrote(tmp_path, shared_data, hdf5_survives_damage):
    file = tmp_path / "a.nc"
    file.write_bytes((shared_data("brainio-assembly") / "assy_test_package_assembly.nc").read_bytes())
    assert hdf5_survives_damage(file, lambda: open_brainscore(file, system="m", **WHO).compute()) > 100
