"""Plain arrays from csv, npy, npz and HDF5 files, each row and column named by an explicit id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.containers import headers, kind_of, load, open_array
from brainalign.adapters.delimited import numeric_columns, read_ids, read_table, require_columns, sniff
from brainalign.adapters.files import (
    NAMES,
    Format,
    check_finite,
    existing,
    first_bytes,
    is_path,
    naming,
    narrowed,
    record_opening,
)
from brainalign.adapters.hdf5 import hdf5_file
from brainalign.adapters.meeg.things_eeg2 import is_things_eeg2
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import preview
from brainalign.core.responses import responses
from brainalign.core.schema import DIMS, PRESENTATION_COORDS

_ID_OF = {"presentation": "stimulus_id", "neuroid": "neuroid_id"}
_NUMERIC_LABELS = ("onset_s", "duration_s")


def open_arrays(
    path: Any,
    *,
    modality: str,
    system: Any,
    stimulus_id: Any = None,
    neuroid_id: Any = None,
    time: Any = None,
    time_reference: str = "stimulus onset",
    dims: Sequence[str] = DIMS,
    key: str | None = None,
    stimulus_column: str = "stimulus_id",
    presentation_columns: Sequence[str] = (),
    neuroid_columns: Sequence[str] | None = None,
    presentation: Any = None,
    neuroid: Any = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open responses from a csv table, or from an npy, npz or HDF5 file with lists of ids.

    Parameters
    ----------
    path : str or Path
        A table with a header (rows are presentations), numpy's own formats, or HDF5. Nothing is ever unpickled.
    modality : str
        One of :data:`brainalign.core.schema.MODALITIES`.
    system : str, or sequence of str (neuroid,)
    stimulus_id, neuroid_id : sequence, or str, optional
        Arrays: the ids of rows and columns; a string is the name of an array in the npz or HDF5 file, or the path of a text file
        with one id a line. Default: the arrays ``stimulus_id`` and ``neuroid_id`` of that file, or the column of that
        name in ``presentation`` and ``neuroid``. There are no default ids.
    time : sequence of float, or str, optional
        Seconds, or the name of an array in the npz or HDF5 file; with three dims only.
    time_reference : {"stimulus onset", "run onset"}
    dims : sequence of str
        Arrays: what the axes of the file are, in its order.
    key : str, optional
        npz and HDF5: which array holds the values (``"group/name"``); needed where several have two or three dims.
    stimulus_column : str
        csv: which column names the stimulus.
    presentation_columns : sequence of str
        csv: further columns that label presentations; those with a name of the schema (``run``, ``onset_s`` ...) always do.
    neuroid_columns : sequence of str, optional
        csv: which columns are neuroids, and their ids. Default: all the others.
    presentation, neuroid : DataFrame, path of a table, or mapping, optional
        Arrays: further labels, in the order of the rows and columns of the array.
    units : str, optional
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32 (integers stay integers except in csv), (presentation, neuroid[, time])
        Lazy, except csv: npy and HDF5 are read in slices, an array of an npz file as a whole.

    Raises
    ------
    FormatError
        Damaged file, pickled objects, a missing column or array, cells that are no numbers, undeclared NaN (of arrays: when they
        are computed).
    ParameterError
        Ids that are not given, or of another number than the rows and columns.
    """
    file = existing(path)
    common = {"modality": modality, "system": system, "units": units, "allow_nan": allow_nan}
    if kind_of(file):
        ids = {"stimulus_id": stimulus_id, "neuroid_id": neuroid_id}
        times = {"time": time, "time_reference": time_reference}
        tables = {"presentation": _table(presentation), "neuroid": _table(neuroid)}
        return _from_arrays(file, key, tuple(dims), ids, times, tables, common)
    for word, value in (("stimulus_id", stimulus_id), ("neuroid_id", neuroid_id), ("time", time), ("key", key)):
        if value is not None:
            raise ParameterError(
                f"open_arrays got {word}= for the table {str(file)!r}. A table names its own rows and columns: see `stimulus_column=`."
            )
    values, labels, names = _from_table(file, stimulus_column, presentation_columns, neuroid_columns)
    check_finite(values, str(file), names, allow_nan)
    with naming(repr(file.name)):
        x = responses(values, stimulus_id=labels.pop("stimulus_id"), presentation=labels, neuroid_id=names, **common)
    return record_opening(
        x, "arrays", [file.name], {"stimulus_column": stimulus_column, "scale": 1.0, "index_base": NAMES, **common}
    )


def _from_arrays(
    file: Path,
    key: str | None,
    dims: tuple[str, ...],
    ids: dict[str, Any],
    times: dict[str, Any],
    tables: dict[str, Any],
    common: dict[str, Any],
) -> xr.DataArray:
    arrays = headers(file)
    name, values = _values(file, arrays, key, dims, common["allow_nan"])
    given = {label: _ids(label, ids[label], arrays, tables[dim], file) for dim, label in _ID_OF.items()}
    if values.ndim == 3:
        given |= {"time": _axis(times["time"], arrays, file), "time_reference": times["time_reference"]}
    elif times["time"] is not None:
        raise ParameterError(
            f"open_arrays got time= for {str(file)!r}, whose values have shape {values.shape}: two dims, none of them time."
        )
    with naming(repr(file.name)):
        x = responses(values, **given, **tables, **common)
    return record_opening(
        x, "arrays", [file.name], {"key": name, "dims": list(dims), "scale": 1.0, "index_base": NAMES, **common}
    )


def _from_table(
    file: Path, stimulus_column: str, presentation_columns: Sequence[str], neuroid_columns: Sequence[str] | None
) -> tuple[np.ndarray, dict[str, Any], list[str]]:
    table, source = read_table(file, header=True), str(file)
    require_columns(table, [stimulus_column, *presentation_columns, *(neuroid_columns or ())], source)
    labels = [name for name in table.columns if name in PRESENTATION_COORDS or name in presentation_columns]
    labels = [name for name in labels if name not in (stimulus_column, "stimulus_id", "repetition")]
    taken = {stimulus_column, "repetition", *labels}
    columns = list(neuroid_columns) if neuroid_columns is not None else [name for name in table.columns if name not in taken]
    if not columns:
        raise FormatError(
            f"{source!r} has the columns {preview(table.columns, 8)}, none of them a neuroid. Name them with `neuroid_columns=`."
        )
    try:
        values = numeric_columns(table, columns, source)
    except FormatError as error:
        raise FormatError(f"{error} A column that labels presentations goes into `presentation_columns=`.") from error
    rows: dict[str, Any] = {"stimulus_id": table[stimulus_column].str.strip().to_numpy(object)}
    for name in labels:
        numeric = name in _NUMERIC_LABELS
        rows[name] = numeric_columns(table, [name], source)[:, 0] if numeric else table[name].str.strip().to_numpy(object)
    return narrowed(values, np.float32, source), rows, columns


def _values(file: Path, arrays: Mapping[str, Any], key: str | None, dims: tuple[str, ...], allow_nan: bool) -> tuple[str, Any]:
    """Return the name and the values of the responses, axes in the order of the schema."""
    shapes = {name: shape for name, (shape, _) in arrays.items()}
    candidates = [name for name, (shape, dtype) in arrays.items() if len(shape) in (2, 3) and dtype.kind in "iufb"]
    if key is not None and key not in arrays:
        raise FormatError(f"{str(file)!r} has no array {key!r}. It holds {shapes}: name one of them.")
    if key is None and len(candidates) != 1:
        raise FormatError(
            f"{str(file)!r} holds {len(candidates)} numeric arrays of two or three dims among {shapes}. Expected one: name it with `key=`."
        )
    name = key if key is not None else candidates[0]
    shape, dtype = arrays[name]
    ndim = len(shape)
    if dims == DIMS:
        dims = DIMS[:ndim]
    if dtype.kind not in "iufb" or len(dims) != ndim or sorted(dims) != sorted(DIMS[:ndim]):
        raise ParameterError(
            f"{str(file)!r}: the array {name!r} has shape {shape} and dtype {dtype}, and dims={dims}. Expected numbers, and each of "
            f"{DIMS[: max(2, min(ndim, 3))]} once, in the order of the file."
        )
    kept = np.float32 if dtype.kind == "f" else dtype
    values = open_array(file, name, dtype=kept, finite_axis=None if allow_nan else dims.index("neuroid"))
    axes = [dims.index(dim) for dim in DIMS[:ndim]]
    return name, values if axes == sorted(axes) else values.transpose(axes)


def _ids(name: str, given: Any, arrays: Mapping[str, Any], table: pd.DataFrame | None, file: Path) -> Any:
    if given is None and table is not None and name in table:
        return table.pop(name).to_numpy()
    if given is None and name in arrays:
        return load(file, name)
    if given is None:
        raise ParameterError(
            f"open_arrays got no {name} for {str(file)!r}, and positions are no names. Expected `{name}=`: a list, the path of a text file "
            "with one id a line, or the name of an array in the file."
        )
    if isinstance(given, str) and given in arrays:
        return load(file, given)
    if isinstance(given, Path) or (isinstance(given, str) and is_path(given)):
        return read_ids(given)
    if isinstance(given, str):
        raise ParameterError(
            f"{name}={given!r} is neither a file nor one of the arrays {[key for key in arrays if key]} of {str(file)!r}."
        )
    return np.asarray(given, dtype=object) if np.asarray(given).dtype.kind == "U" else np.asarray(given)


def _axis(time: Any, arrays: Mapping[str, Any], file: Path) -> Any:
    chosen = "time" if time is None else time
    if isinstance(chosen, str):
        if chosen not in arrays:
            raise ParameterError(
                f"open_arrays got time={time!r} for three dims, and {str(file)!r} holds {[key for key in arrays if key]}. Expected `time=`: "
                "seconds, or the name of an array."
            )
        return load(file, chosen)
    return np.asarray(chosen, dtype=np.float64)


def _table(table: Any) -> pd.DataFrame | None:
    if not isinstance(table, (str, Path)):
        return None if table is None else pd.DataFrame(table).copy()
    frame = read_table(table, header=True)
    numeric = [name for name in frame.columns if not pd.to_numeric(frame[name], errors="coerce").isna().any()]
    ids = [name for name in ("stimulus_id", "neuroid_id", "run", "session", "subject") if name in frame]
    return frame.assign(**{name: pd.to_numeric(frame[name]) for name in numeric if name not in ids})


def _matches(source: Any) -> str:
    """Numpy's formats by their magic number, HDF5 with the ids of an array at its top, or a table whose header names ``stimulus_id``."""
    if not is_path(source):
        return ""
    kind = kind_of(source)
    if kind == "npy" and is_things_eeg2(source):
        return ""
    if kind == "npz" and b".npy" not in first_bytes(Path(source), 300):
        return ""
    if kind == "hdf5":
        return "HDF5 with stimulus_id and neuroid_id at its top" if _names_itself(source) else ""
    if kind:
        return "it starts as files of numpy do"
    look = sniff(source)
    return "its header names stimulus_id" if look is not None and look[0] is not None and "stimulus_id" in look[0] else ""


def _names_itself(source: Any) -> bool:
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    try:
        with hdf5_file(source) as opened:
            found = [opened.get(name) for name in ("stimulus_id", "neuroid_id")]
            return all(isinstance(item, h5py.Dataset) and "DIMENSION_LIST" not in item.attrs for item in found)
    except FormatError:
        return False


adapter = Format("arrays", _matches, open_arrays)
