import h5py
import numpy as np
import pytest
import xarray as xr

from brainalign.adapters.netcdf import open_variable, read_header, read_variable, write_netcdf
from brainalign.core.errors import FormatError

VALUES = np.arange(24, dtype=np.float64).reshape(3, 4, 2)
SIZES = {"presentation": 3, "neuroid": 4, "time_bin": 2}


def written(path, values=VALUES, **attrs):
    variables = {
        "names": (("presentation",), np.array(["a", "ß", ""], dtype=np.dtypes.StringDType()), {}),
        "flag": (("neuroid",), np.array([True, False, True, True]), {}),
        "size": (("neuroid",), np.array([1.0, -9.0, 3.0, np.nan]), {"_FillValue": -9.0}),
        "whole": ((), np.array(7), {}),
        "data": (("presentation", "neuroid", "time_bin"), values, attrs),
    }
    write_netcdf(path, SIZES, variables, {"units": "Hz", "n": 3})
    return path


def test_what_is_written_is_read(tmp_path):
    file = written(tmp_path / "a.nc", note="x")
    variables, attrs = read_header(file)
    assert attrs == {"units": "Hz", "n": 3}
    assert {name: variable.dims for name, variable in variables.items()} == {
        "names": ("presentation",), "flag": ("neuroid",), "size": ("neuroid",), "whole": (), "data": tuple(SIZES),
    }  # fmt: skip
    assert variables["data"].attrs == {"note": "x"}
    assert read_variable(file, "names").tolist() == ["a", "ß", ""]
    assert read_variable(file, "flag").tolist() == [True, False, True, True]
    np.testing.assert_array_equal(read_variable(file, "size"), [1, np.nan, 3, np.nan])
    assert int(read_variable(file, "whole")) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


@pytest.mark.parametrize("engine", ["netcdf4", "h5netcdf"])
def test_other_libraries_read_it(tmp_path, engine):
    pytest.importorskip({"netcdf4": "netCDF4"}.get(engine, engine))
    with xr.open_dataset(written(tmp_path / "a.nc"), engine=engine) as found:
        np.testing.assert_array_equal(found["data"].values, VALUES)
        assert found["data"].dims == tuple(SIZES)
        assert (found["flag"].dtype, list(found["names"].values), found.attrs["units"]) == (bool, ["a", "ß", ""], "Hz")


def test_axes_in_another_order_and_only_the_wanted_block_is_read(tmp_path, bytes_read):
    file = written(tmp_path / "a.nc")
    variable = read_header(file)[0]["data"]
    array = open_variable(file, "data", variable, ("time_bin", "neuroid", "presentation"), allow_nan=False)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[1, 1:3].compute(), VALUES.transpose(2, 1, 0)[1, 1:3])
    values = np.random.default_rng(0).normal(size=(3, 4, 200_000))
    write_netcdf(tmp_path / "b.nc", {**SIZES, "time_bin": 200_000}, {"data": (tuple(SIZES), values, {})}, {})
    big = open_variable(tmp_path / "b.nc", "data", read_header(tmp_path / "b.nc")[0]["data"], tuple(SIZES), allow_nan=True)
    assert bytes_read(read_header, tmp_path / "b.nc") < 50_000
    assert bytes_read(big[1].compute) < values.nbytes / 2


def test_fill_values_and_packed_values(tmp_path):
    values = VALUES.copy()
    values[1, 2, 0] = 1e36
    file = written(tmp_path / "a.nc", values, _FillValue=1e36)
    variable = read_header(file)[0]["data"]
    assert np.isnan(open_variable(file, "data", variable, tuple(SIZES), allow_nan=True)[1, 2, 0].compute())
    with pytest.raises(FormatError, match=r"1 values that are NaN .* \(1, 2, 0\): neuroid 2"):
        open_variable(file, "data", variable, tuple(SIZES), allow_nan=False).compute()
    file = written(tmp_path / "b.nc", VALUES.astype(np.int16), scale_factor=0.1)
    with pytest.raises(FormatError, match=r"packed values \(scale_factor\) in 'data'"):
        open_variable(file, "data", read_header(file)[0]["data"], tuple(SIZES), allow_nan=False)


def test_a_file_that_cannot_be_finished_leaves_nothing(tmp_path):
    file = written(tmp_path / "a.nc")
    before = file.read_bytes()
    with pytest.raises(TypeError):
        write_netcdf(file, SIZES, {"data": (("presentation",), np.array([object()] * 3), {})}, {})
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_other_files_and_values_that_are_not_there(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"CDF\x01" + bytes(100))
    with pytest.raises(FormatError, match=r"classic format.*nccopy -k nc4"):
        read_header(tmp_path / "a.nc")
    (tmp_path / "b.nc").write_text("no netCDF")
    with pytest.raises(FormatError, match=r"b.nc' could not be read as netCDF-4"):
        read_header(tmp_path / "b.nc")
    with h5py.File(tmp_path / "c.nc", "w") as file:
        file.create_dataset("data", shape=(10**6, 10**6), dtype="f4", chunks=(10, 10), compression="gzip")
    with pytest.raises(FormatError, match=r"c.nc' holds 0 bytes at '/data'; its header promises"):
        read_header(tmp_path / "c.nc")
