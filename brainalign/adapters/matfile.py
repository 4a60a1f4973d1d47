"""MATLAB files as plain Python: structs are dicts, cells are lists, arrays keep MATLAB's axes."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, is_path, reading
from brainalign.adapters.hdf5 import SIGNATURE, attributes, check_stored, hdf5_file, members, open_hdf5
from brainalign.adapters.mat5 import check_mat5
from brainalign.core.errors import FormatError, require
from brainalign.core.parameters import did_you_mean, preview

_LAZY_BYTES = 2**24


def is_mat(source: Any) -> bool:
    """Return True for a MATLAB file, version 5 or 7.3, by its header.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    if not is_path(source):
        return False
    with Path(source).open("rb") as file:
        return file.read(6) == b"MATLAB"


def is_version_7_3(path: Path) -> bool:
    """Return True for a MATLAB file that is HDF5.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    with path.open("rb") as file:
        start = file.read(520)
    return SIGNATURE in (start[:8], start[512:])


def read_mat(path: Any, *, lazy: bool = False) -> dict[str, Any]:
    """Read the variables of a MATLAB file.

    Parameters
    ----------
    path : str or Path
        Version 5 to 7 through scipy; version 7.3 (HDF5) through h5py.
    lazy : bool
        Arrays of more than 16 MB in a version 7.3 file are dask arrays, which stay there until they are asked for.

    Returns
    -------
    dict of str to object
        Numeric arrays keep the axes they have in MATLAB, so at least two; text is str; a struct is a dict, an array of structs
        or a cell array is a list in MATLAB's linear order.

    Raises
    ------
    FormatError
        Not a MATLAB file, or damaged.
    OptionalDependencyError
        A version 7.3 file, and h5py is not installed.
    """
    file = existing(path)
    if is_version_7_3(file):
        return _read_hdf5(file, lazy)
    if not is_mat(file):
        with file.open("rb") as opened:
            start = opened.read(12)
        raise FormatError(f"{str(file)!r} starts with {start!r}. Expected a MATLAB file of version 5 or later.")
    from scipy.io import loadmat

    check_mat5(file)
    with reading(file, "MATLAB"):
        loaded = loadmat(file, struct_as_record=False, squeeze_me=False, chars_as_strings=True)
        return {name: _plain(value) for name, value in loaded.items() if not name.startswith("__")}


def find_fields(variables: Any, pattern: str, source: str) -> dict[str, Any]:
    """Return the fields that a dotted path names, by the last part of their name.

    Parameters
    ----------
    variables : dict
        As :func:`read_mat` returns it.
    pattern : str
        ``"D.neuron*"``: a field of a struct a dot; ``* ? [ ]`` in the last part match several, in the order of the file.
    source : str
        The file, for the message.

    Returns
    -------
    dict of str to object

    Raises
    ------
    FormatError
        There is no such field; those that are there are listed.
    """
    *parents, last = pattern.split(".")
    node = variables
    for depth, part in enumerate(parents):
        if not isinstance(node, dict) or part not in node:
            _refuse(node, part, ".".join(parents[:depth]), source)
        node = node[part]
    found = {name: node[name] for name in node if fnmatch.fnmatchcase(name, last)} if isinstance(node, dict) else {}
    if not found:
        _refuse(node, last, ".".join(parents), source)
    return found


def _refuse(node: Any, part: str, where: str, source: str) -> None:
    names = list(node) if isinstance(node, dict) else []
    place = f"the struct {where!r} of {source!r}" if where else repr(source)
    what = f"Its fields are {preview(names, 12)}." if names else f"It is a {type(node).__name__}, not a struct."
    raise FormatError(f"{place} has no field {part!r}. {what}{did_you_mean(part, names)}")


def _plain(value: Any) -> Any:
    from scipy.io.matlab import mat_struct

    if isinstance(value, mat_struct):
        return {name: _plain(getattr(value, name)) for name in value._fieldnames}
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.kind in "US":
        return str(value.ravel()[0]) if value.size == 1 else ("" if value.size == 0 else [str(item) for item in value.ravel()])
    if value.dtype.kind != "O":
        return value
    items = [_plain(item) for item in value.ravel(order="F")]
    is_struct = value.size == 1 and isinstance(value.ravel()[0], mat_struct)
    return items[0] if is_struct else items


def _read_hdf5(file: Path, lazy: bool) -> dict[str, Any]:
    h5py = require("h5py", extra="spikes", purpose="reading MATLAB 7.3 files")
    with hdf5_file(file, "MATLAB 7.3") as opened:
        return {name: _from_hdf5(h5py, opened, item, lazy) for name, item in members(opened).items() if not name.startswith("#")}


def _from_hdf5(h5py: Any, file: Any, item: Any, lazy: bool) -> Any:
    """Return one variable: HDF5 holds MATLAB's arrays with their axes reversed, and cells as references."""
    if isinstance(item, h5py.Group):
        stored = members(item)
        fields = {name: _from_hdf5(h5py, file, field, lazy) for name, field in stored.items()}
        is_array = fields and all(
            isinstance(field, h5py.Dataset) and "MATLAB_class" not in field.attrs for field in stored.values()
        )
        # A struct array is stored as a struct of reference arrays.
        return [dict(zip(fields, row, strict=True)) for row in zip(*fields.values(), strict=True)] if is_array else fields
    own = attributes(item)
    kind = own.get("MATLAB_class", b"").decode()
    if own.get("MATLAB_empty", 0):
        return "" if kind == "char" else [] if kind == "cell" else np.empty((0, 0))
    check_stored(item, Path(file.filename))
    if lazy and item.nbytes > _LAZY_BYTES and item.dtype.kind in "iufb":
        return open_hdf5(file.filename, item.name).T
    values = item[()]
    if kind == "char":
        return "".join(map(chr, np.asarray(values).T.ravel(order="F")))
    if values.dtype == object:  # references
        return [_from_hdf5(h5py, file, file[reference], lazy) for reference in np.asarray(values).T.ravel(order="F")]
    return np.asarray(values).T
