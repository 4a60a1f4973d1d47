"""Files that hold arrays by name (npy, npz, HDF5): headers first, values when they are wanted; nothing is ever unpickled."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import first_bytes, is_path, reading
from brainalign.adapters.hdf5 import SIGNATURE, check_stored, hdf5_file, open_hdf5
from brainalign.adapters.lazy import Spans, lazy_array, open_npy, read_npy_header
from brainalign.core.errors import FormatError, require

_MAGIC = {b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", SIGNATURE: "hdf5"}
_MOST_DEFLATED = 1100  # times smaller than its bytes: deflate gains at most 1032
_HDF5 = {"extra": "spikes", "purpose": "reading HDF5"}


def kind_of(source: Any) -> str:
    """Return what a file is, by its first bytes.

    Parameters
    ----------
    source : object

    Returns
    -------
    {"npy", "npz", "hdf5", ""}
        Empty where it is none of them. A zip file of anything but arrays is told by :func:`headers`.
    """
    start = first_bytes(Path(source), 8) if is_path(source) else b""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")


def headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the arrays of a file by name, as shape and dtype; no values are read.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to (shape, dtype)
        The one array of an npy file has the name ``""``; those of HDF5 have their groups in it, ``"group/name"``; strings in HDF5
        have dtype object.

    Raises
    ------
    FormatError
        Damaged, pickled objects, or a header that promises more than the file holds.
    """
    kind = kind_of(path)
    if kind == "npy":
        array = open_npy(path)
        return {"": (array.shape, array.dtype)}
    if kind == "npz":
        with reading(path, "numpy"), zipfile.ZipFile(path) as opened:
            return {
                info.filename.removesuffix(".npy"): _member(opened, info, path) for info in opened.infolist() if not info.is_dir()
            }
    if kind == "hdf5":
        h5py = require("h5py", **_HDF5)
        found: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.shape is not None:
                found[name] = (item.shape, item.dtype)

        with hdf5_file(path) as opened:
            opened.visititems(note)
        return found
    raise FormatError(f"{str(path)!r} starts with {first_bytes(path, 8)!r}. Expected an npy, npz or HDF5 file.")


def load(path: Path, name: str) -> np.ndarray[Any, Any]:
    """Read one array into memory.

    Parameters
    ----------
    path : Path
    name : str
        As :func:`headers` calls it.

    Returns
    -------
    ndarray
        Strings of HDF5 as objects.
    """
    kind = kind_of(path)
    if kind == "npy":
        return np.asarray(open_npy(path).compute())
    if kind == "npz":
        with reading(path, "numpy"), np.load(path, allow_pickle=False) as opened:
            return np.asarray(opened[name])
    h5py = require("h5py", **_HDF5)
    with hdf5_file(path) as opened:
        check_stored(opened[name], path)
        return np.asarray(opened[name].asstr()[()] if h5py.check_string_dtype(opened[name].dtype) else opened[name][()])


def open_array(path: Path, name: str, *, dtype: Any = None, finite_axis: int | None = None) -> Any:
    """Open one array of numbers lazily.

    Parameters
    ----------
    path : Path
    name : str
        As :func:`headers` calls it.
    dtype, finite_axis
        As in :func:`brainalign.adapters.lazy.lazy_array`.

    Returns
    -------
    dask array
        An array of an npz file is one block: it is compressed as a whole.

    Raises
    ------
    FormatError
        Damaged, or no array of numbers.
    """
    kind = kind_of(path)
    if kind == "npy":
        return open_npy(path, dtype=dtype, finite_axis=finite_axis)
    if kind == "hdf5":
        return open_hdf5(path, name, dtype=dtype, finite_axis=finite_axis)
    shape, stored = headers(path)[name]
    return lazy_array(
        _NpzRead(path, name), shape, dtype or stored, files=[path], what="numpy", chunks=shape, finite_axis=finite_axis
    )


@dataclass(frozen=True)
class _NpzRead:
    file: Path
    name: str

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        return load(self.file, self.name)[spans]


def _member(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if not info.filename.endswith(".npy"):
        raise FormatError(f"{str(path)!r} is a zip file that holds {info.filename!r}. Expected an npz file: arrays only.")
    if info.file_size > _MOST_DEFLATED * max(info.compress_size, 1) + 1000:
        raise FormatError(
            f"{str(path)!r} promises {info.file_size} bytes of {info.filename!r} in {info.compress_size}. Expected a file that numpy wrote: "
            "it is damaged, copy it again."
        )
    with opened.open(info) as member:
        shape, _, dtype, _ = read_npy_header(member, f"{path}:{info.filename}", info.file_size)
    return shape, dtype
