"""NWB files through h5py: their tables (ragged columns too) and time series, inside the one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.files import existing
from brainalign.adapters.hdf5 import attributes, check_stored, hdf5_file
from brainalign.core.errors import FormatError, require
from brainalign.core.parameters import did_you_mean, preview

_EVENT_PLACES = ("intervals", "stimulus/presentation")


@contextmanager
def open_file(path: Any) -> Iterator[Any]:
    """Give an NWB file of version 2, opened for reading.

    Parameters
    ----------
    path : str or Path

    Yields
    ------
    h5py.File

    Raises
    ------
    FormatError
        No HDF5 file, a damaged one, or NWB of another version.
    OptionalDependencyError
        h5py is not installed.
    """
    file = existing(path)
    with hdf5_file(file, "NWB") as opened:
        version = attributes(opened).get("nwb_version", opened["nwb_version"][()] if "nwb_version" in opened else None)
        text = _text(version)
        if not str(text).startswith("2"):
            raise FormatError(
                f"{str(file)!r} has nwb_version {text!r}. Expected NWB 2: convert older files with `pynwb` or take a newer release."
            )
        yield opened


def member(group: Any, path: str) -> Any:
    """Return what a group holds at a path, or None; nothing outside the file is ever followed.

    Parameters
    ----------
    group : h5py.Group
    path : str
        Names with slashes.

    Returns
    -------
    h5py.Group, h5py.Dataset or None

    Raises
    ------
    FormatError
        The path leads into another file.
    """
    h5py = require("h5py", extra="spikes", purpose="reading NWB")
    node = group
    for part in path.strip("/").split("/"):
        if not isinstance(node, h5py.Group) or part not in node.keys():
            return None
        if isinstance(node.get(part, getlink=True), h5py.ExternalLink):
            raise FormatError(
                f"{group.file.filename!r} keeps {path!r} in another file. Expected one whole file: export it into one first."
            )
        node = node.get(part)
    if node is not None and node.file.filename != group.file.filename:
        raise FormatError(
            f"{group.file.filename!r} links {path!r} to another file. Expected one whole file: export it into one first."
        )
    if isinstance(node, h5py.Dataset) and (node.external or node.is_virtual):
        raise FormatError(
            f"{group.file.filename!r} keeps the numbers of {path!r} in other files. Expected one whole file: export it first."
        )
    if isinstance(node, h5py.Dataset) and node.shape:
        check_stored(node, Path(group.file.filename))
    return node


def refuse_other_units(times: Any, source: str) -> None:
    """Refuse times that say that they are no seconds, the one unit that NWB has for them.

    Parameters
    ----------
    times : h5py.Dataset or None
    source : str
        For the message.

    Raises
    ------
    FormatError
        Its attribute ``unit`` names another one.
    """
    unit = _text(attributes(times).get("unit", "seconds")) if times is not None else "seconds"
    if str(unit).strip().lower() not in ("s", "second", "seconds"):
        raise FormatError(
            f"{source} has {times.name.rpartition('/')[2]!r} in {unit!r}. Expected seconds, as NWB says: write the file again in seconds."
        )


def column(table: Any, name: str) -> Any:
    """Return one column of a table, however ragged it is.

    Parameters
    ----------
    table : h5py.Group
        A DynamicTable.
    name : str

    Returns
    -------
    ndarray, (row, ...), or list of (lists of) ndarray where the column is ragged (doubly ragged)
        Text as objects of type str.

    Raises
    ------
    FormatError
        There is no such column, or an index points outside its target.
    """
    data = member(table, name)
    if data is None or not hasattr(data, "dtype"):
        names = columns(table)
        raise FormatError(
            f"{table.file.filename!r} has no column {name!r} in {table.name!r}. Its columns are {preview(names, 30)}."
            f"{did_you_mean(name, names)}"
        )
    if member(table, f"{name}_index") is None:
        return _decoded(data[()])
    values: Any = _decoded(data[()])
    while member(table, f"{name}_index") is not None:
        name = f"{name}_index"
        ends = bounds(table, name, len(values))
        values = [values[start:stop] for start, stop in pairwise(ends)]
    return values


def bounds(table: Any, name: str, length: int) -> np.ndarray:
    """Return where each row of a ragged column starts and ends in its target.

    Parameters
    ----------
    table : h5py.Group
    name : str
        Of the index, ``spike_times_index``.
    length : int
        Of its target.

    Returns
    -------
    ndarray of int64, (row + 1,)

    Raises
    ------
    FormatError
        There is no index, or it goes back, or does not end where its target does.
    """
    found = member(table, name)
    source = f"{table.file.filename!r}: the column {f'{table.name}/{name}'!r}"
    if found is None or not hasattr(found, "dtype") or found.dtype.kind not in "iu" or found.ndim != 1:
        raise FormatError(f"{source} is missing, or holds no integers. Expected where each row ends.")
    ends = np.concatenate([[0], found[()].astype(np.int64)])  # often uint8, in which differences would wrap
    if (np.diff(ends) < 0).any() or ends[-1] != length:
        raise FormatError(
            f"{source} ends at {ends[-1]} and {'goes back' if (np.diff(ends) < 0).any() else 'never goes back'}; what it divides has {length} "
            "entries. Expected an index that increases to there: the file is damaged."
        )
    return ends


def columns(table: Any) -> list[str]:
    """Return the names of a table's columns, without those that only divide ragged ones.

    Parameters
    ----------
    table : h5py.Group

    Returns
    -------
    list of str
        In the order of the attribute ``colnames`` where there is one.
    """
    stated = [_text(name) for name in np.atleast_1d(attributes(table).get("colnames", []))]
    there = [name for name in table.keys() if not name.endswith("_index") and name != "id"]
    return [*(name for name in stated if name in there), *(name for name in there if name not in stated)]


def row_ids(table: Any) -> np.ndarray:
    """Return the ``id`` of each row of a table.

    Parameters
    ----------
    table : h5py.Group

    Returns
    -------
    ndarray, (row,)

    Raises
    ------
    FormatError
        The table has none.
    """
    found = member(table, "id")
    if found is None or getattr(found, "ndim", 0) != 1:
        raise FormatError(f"{table.file.filename!r}: the table {table.name!r} has no `id`. Expected one for each row.")
    return np.asarray(_decoded(found[()]))


def labels(table: Any) -> dict[str, np.ndarray]:
    """Return the columns of a table that hold one number or text a row; lists of texts are joined by ``+``.

    Parameters
    ----------
    table : h5py.Group

    Returns
    -------
    dict of str to ndarray, (row,)
        Waveforms, references and other columns with more than one number a row are left out.

    Raises
    ------
    FormatError
        A column has another number of rows than the table.
    """
    n_rows, out = row_ids(table).size, {}
    for name in columns(table):
        data = member(table, name)
        divided = member(table, f"{name}_index") is not None
        if not hasattr(data, "dtype") or data.ndim != 1 or data.dtype.kind not in "iufbOSU" or (divided and not _is_text(data)):
            continue
        if data.dtype.kind == "O" and not _is_text(data):
            continue  # references to groups
        values = column(table, name)
        found = np.array(["+".join(_flat(value)) for value in values], dtype=object) if divided else values
        if len(found) != n_rows:
            raise FormatError(
                f"{table.file.filename!r}: the column {name!r} of {table.name!r} has {len(found)} rows, and the table {n_rows}. Expected one a "
                "row: the file is damaged."
            )
        out[name] = found
    return out


def event_tables(file: Any) -> dict[str, Any]:
    """Return the tables and series that say what was presented, by name.

    Parameters
    ----------
    file : h5py.File

    Returns
    -------
    dict of str to h5py.Group
        ``intervals/trials``, ``intervals/natural_scenes_presentations``, ``stimulus/presentation/images`` ...
    """
    found = {}
    for place in _EVENT_PLACES:
        group = member(file, place)
        for name in [] if group is None else group.keys():
            if (node := member(group, name)) is not None and hasattr(node, "keys"):
                found[f"{place}/{name}"] = node
    return found


def event_table(file: Any, name: str) -> tuple[pd.DataFrame, str]:
    """Return one table of events, and its full name.

    Parameters
    ----------
    file : h5py.File
    name : str
        Full, or its last part: ``"trials"``. A series with timestamps (``stimulus/presentation/...``) becomes a table of
        ``start_time`` and ``data``.

    Returns
    -------
    (DataFrame, str)

    Raises
    ------
    FormatError
        There is no such table (those that are there are listed), or it has no times.
    """
    tables = event_tables(file)
    fits = [full for full in tables if name in (full, full.rpartition("/")[2])]
    if len(fits) != 1:
        raise FormatError(
            f"{file.filename!r} has {len(fits)} tables of events named {name!r}. It has {preview(tables, 30) or 'none at all'}."
            f"{did_you_mean(name, [full.rpartition('/')[2] for full in tables])}"
        )
    node = tables[fits[0]]
    if member(node, "start_time") is not None:
        return pd.DataFrame(labels(node)), fits[0]
    times, data = member(node, "timestamps"), member(node, "data")
    if times is None or data is None or times.shape != data.shape[:1] or data.ndim != 1:
        raise FormatError(
            f"{file.filename!r}: {fits[0]!r} holds {sorted(node.keys())}, which is neither a table with `start_time` nor a series of one value a "
            "time. Expected one of them."
        )
    return pd.DataFrame({"start_time": times[()], "data": _decoded(data[()])}), fits[0]


def text_of(file: Any, path: str) -> str | None:
    """Return a text that a file holds, or None where it holds none.

    Parameters
    ----------
    file : h5py.File
    path : str
        ``general/subject/subject_id``.

    Returns
    -------
    str or None
    """
    found = member(file, path)
    value = _text(found[()]).strip() if found is not None and getattr(found, "shape", None) == () else ""
    return value or None


def _flat(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        for item in value:
            yield from _flat(item)


def _is_text(data: Any) -> bool:
    h5py = require("h5py", extra="spikes", purpose="reading NWB")
    return data.dtype.kind in "SU" or h5py.check_string_dtype(data.dtype) is not None


def _decoded(values: Any) -> Any:
    array = np.asarray(values)
    if array.dtype.kind in "SO" and array.dtype.names is None:
        flat = [_text(item) for item in array.ravel()]
        return np.array(flat, dtype=object).reshape(array.shape)
    return array


def _text(value: Any) -> Any:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
