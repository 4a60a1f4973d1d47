"""netCDF-4 files through h5py: named dims, flat variables, attributes; written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, first_bytes
from brainalign.adapters.hdf5 import attributes, check_stored, hdf5_file, members, whole_chunks
from brainalign.adapters.lazy import Spans, lazy_array, leading
from brainalign.core.errors import FormatError, require

_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
_INTERNAL = (
    "CLASS", "NAME", "REFERENCE_LIST", "DIMENSION_LIST", "DIMENSION_LABELS", "coordinates", "_NCProperties", "_Netcdf4Dimid",
    "_Netcdf4Coordinates", "_nc3_strict",
)  # fmt: skip
_PURPOSE = {"extra": "spikes", "purpose": "netCDF-4"}
_BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class Variable:
    """What the header says of a variable.

    Attributes
    ----------
    dims : tuple of str
    shape : tuple of int
    dtype : numpy dtype
        ``object`` for strings.
    chunks : tuple of int or None
    attrs : dict
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...] | None
    attrs: dict[str, Any]


def read_header(path: Any) -> tuple[dict[str, Variable], dict[str, Any]]:
    """Read what a netCDF-4 file holds, without its values.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    variables : dict of str to Variable
        Of the root group, in the order of the file.
    attrs : dict
        Of the file.

    Raises
    ------
    FormatError
        No netCDF-4 file, a damaged one, or a variable that is not all there.
    OptionalDependencyError
        h5py is not installed.
    """
    file = existing(path)
    if first_bytes(file, 3) == b"CDF":
        raise FormatError(
            f"{str(file)!r} is a netCDF file of the classic format. Expected netCDF-4 (HDF5): convert it with `nccopy -k nc4 old.nc new.nc`."
        )
    h5py = require("h5py", **_PURPOSE)
    with hdf5_file(file, "netCDF-4") as opened:
        found = {name: item for name, item in members(opened).items() if isinstance(item, h5py.Dataset)}
        own = {name: attributes(item) for name, item in found.items()}
        axes = _axes(opened, own)
        variables = {
            name: _variable(item, own[name], axes.get(name, {}), file)
            for name, item in found.items()
            if not _is_bare_dim(own[name])
        }
        return variables, _attributes(attributes(opened))


def read_variable(path: Path, name: str) -> np.ndarray[Any, Any]:
    """Read a variable of labels into memory: strings, numbers or truth values.

    Parameters
    ----------
    path : Path
    name : str

    Returns
    -------
    ndarray
        Strings as objects. In floats the fill value is NaN.

    Raises
    ------
    FormatError
        It cannot be read.
    """
    h5py = require("h5py", **_PURPOSE)
    with hdf5_file(path, "netCDF-4") as opened:
        item = opened[name]
        values = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
        attrs = _attributes(attributes(item))
    if attrs.get("dtype") == "bool":
        return np.asarray(values).astype(bool)
    return _filled(np.asarray(values), attrs.get("_FillValue"))


def open_variable(path: Path, name: str, variable: Variable, dims: tuple[str, ...], *, allow_nan: bool) -> Any:
    """Open a variable lazily, its axes in another order than in the file.

    Parameters
    ----------
    path : Path
    name : str
    variable : Variable
        As its header says.
    dims : tuple of str
        The wanted order; the second one names neuroids.
    allow_nan : bool
        Otherwise NaN and infinity are refused as they are read.

    Returns
    -------
    dask array of float32, or of the integers of the file

    Raises
    ------
    FormatError
        Packed values, or no numbers.
    """
    packed = [attr for attr in ("scale_factor", "add_offset") if attr in variable.attrs]
    if packed or variable.dtype.kind not in "iufb":
        what = f"packed values ({', '.join(packed)})" if packed else f"values of dtype {variable.dtype}"
        raise FormatError(
            f"{str(path)!r} holds {what} in {name!r}. Expected plain numbers: unpack them, and write the file again."
        )
    axes = tuple(variable.dims.index(dim) for dim in dims)
    chunks = whole_chunks(variable.shape, variable.chunks, variable.dtype.itemsize)
    dtype = np.float32 if variable.dtype.kind == "f" else variable.dtype.newbyteorder("=")
    return lazy_array(
        _Read(path, name, axes, variable.attrs.get("_FillValue")), [variable.shape[axis] for axis in axes], dtype, files=[path],
        what="netCDF-4", chunks=[chunks[axis] for axis in axes], finite_axis=None if allow_nan else 1,
    )  # fmt: skip


@dataclass(frozen=True)
class _Read:
    file: Path
    name: str
    axes: tuple[int, ...]
    fill: Any

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        in_file = tuple(spans[self.axes.index(axis)] for axis in range(len(spans)))
        with hdf5_file(self.file, "netCDF-4") as opened:
            block = np.asarray(opened[self.name][in_file])
        return _filled(np.transpose(block, self.axes), self.fill)


def write_netcdf(
    path: Path,
    sizes: Mapping[str, int],
    variables: Mapping[str, tuple[tuple[str, ...], Any, dict[str, Any]]],
    attrs: Mapping[str, Any],
) -> None:
    """Write a netCDF-4 file of flat variables; it is there only when it is whole.

    Parameters
    ----------
    path : Path
        Replaced where it exists.
    sizes : mapping of str to int
        Dims and their lengths.
    variables : mapping of str to (dims, values, attrs)
        Numpy or dask values; those of several dims are compressed, and written block by block.
    attrs : mapping
        Of the file.
    """
    h5py = require("h5py", **_PURPOSE)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with h5py.File(part, "x") as opened:
            scales = {dim: _write_dim(opened, dim, size, number) for number, (dim, size) in enumerate(sizes.items())}
            for variable, (dims, values, own) in variables.items():
                item = _write_values(h5py, opened, variable, values)
                for axis, dim in enumerate(dims):
                    item.dims[axis].attach_scale(scales[dim])
                item.attrs.update(own)
            opened.attrs.update(attrs)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_dim(opened: Any, dim: str, size: int, number: int) -> Any:
    scale = opened.create_dataset(dim, shape=(size,), dtype=">f4")
    scale.make_scale(f"{_NO_VARIABLE}{size:10d}")
    scale.attrs["_Netcdf4Dimid"] = np.int32(number)
    return scale


def _write_values(h5py: Any, opened: Any, name: str, values: Any) -> Any:
    if values.dtype.kind in "TUO":
        return opened.create_dataset(name, data=values.astype(object), dtype=h5py.string_dtype())
    if values.dtype.kind == "b":
        item = opened.create_dataset(name, data=np.asarray(values).astype(np.int8))
        item.attrs["dtype"] = "bool"
        return item
    if values.ndim < 2:
        return opened.create_dataset(name, data=np.asarray(values))
    chunks = leading(values.shape, values.dtype.itemsize, _BLOCK_BYTES // 16)
    item = opened.create_dataset(
        name, shape=values.shape, dtype=values.dtype, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
    )
    step = leading(values.shape, values.dtype.itemsize, _BLOCK_BYTES)[0]
    for start in range(0, len(values), step):
        item[start : start + step] = np.asarray(values[start : start + step])
    return item


def _axes(opened: Any, found: Mapping[str, Any]) -> dict[str, dict[int, str]]:
    """Return the dim of each axis of each variable, as the dims tell it."""
    axes: dict[str, dict[int, str]] = {}
    for dim, own in found.items():
        if is_scale(own):
            for reference, axis in own.get("REFERENCE_LIST", ()):
                axes.setdefault(_base(opened[reference].name), {})[int(axis)] = dim
    return axes


def _variable(item: Any, own: Any, axes: Mapping[int, str], file: Path) -> Variable:
    check_stored(item, file)
    name = _base(item.name)
    dims = (name,) if is_scale(own) else tuple(axes.get(axis, "") for axis in range(item.ndim))
    return Variable(dims, item.shape, item.dtype, item.chunks, _attributes(own))


def is_scale(own: Any) -> bool:
    """Return True for a dataset that stands for a dim.

    Parameters
    ----------
    own : h5py.AttributeManager
        Of the dataset.

    Returns
    -------
    bool
        Told by its attribute: the functions of HDF5 that ask for it abort the process at damaged files.
    """
    return _text(own.get("CLASS", b"")) == "DIMENSION_SCALE"


def _is_bare_dim(own: Any) -> bool:
    return is_scale(own) and str(_text(own.get("NAME", b""))).startswith(_NO_VARIABLE)


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _attributes(own: Any) -> dict[str, Any]:
    return {name: _text(own[name]) for name in own if name not in _INTERNAL}


def _text(value: Any) -> Any:
    """Return an attribute as plain Python where it is text or one number."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.ravel()[0]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if isinstance(value, np.generic) else value


def _filled(values: np.ndarray[Any, Any], fill: Any) -> np.ndarray[Any, Any]:
    if fill is None or values.dtype.kind != "f" or not isinstance(fill, (int, float)) or np.isnan(fill):
        return values
    return np.where(values == fill, np.asarray(np.nan, values.dtype), values)
