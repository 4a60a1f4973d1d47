"""The one data type: what makes an ``xarray.DataArray`` a recording, of a brain or of a network.

``presentation × neuroid [× time]``, with labels that name every row and column. Nothing here reads values,
except ``validate(deep=True)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SchemaError
from brainalign.core.parameters import preview

SCHEMA_VERSION = 1
DIMS = ("presentation", "neuroid", "time")
MODALITIES = ("fmri", "meg", "eeg", "ieeg", "spikes", "calcium", "behaviour", "ann")
TIME_REFERENCES = ("stimulus onset", "run onset")
STRING = np.dtypes.StringDType()

#: Coordinates whose name fixes their dim. Others are allowed on either dim.
PRESENTATION_COORDS = (
    "stimulus_id", "subject", "session", "run", "repetition", "onset_s", "duration_s", "condition",
)  # fmt: skip
NEUROID_COORDS = (
    "neuroid_id", "system", "region", "layer", "unit", "x_mm", "y_mm", "z_mm", "hemisphere", "vertex", "channel",
    "token", "channel_x", "channel_y", "sampling_rate_hz", "band",
)  # fmt: skip
_NUMERIC_COORDS = ("repetition", "onset_s", "duration_s", "x_mm", "y_mm", "z_mm", "sampling_rate_hz")


def dim_of(coord: str) -> str | None:
    """Return the dim that a coordinate of this name labels, or None where the name is free.

    Parameters
    ----------
    coord : str

    Returns
    -------
    str or None

    Examples
    --------
    >>> dim_of("onset_s"), dim_of("region"), dim_of("my_label")
    ('presentation', 'neuroid', None)
    """
    if coord in PRESENTATION_COORDS:
        return "presentation"
    return "neuroid" if coord in NEUROID_COORDS else ("time" if coord == "time" else None)


def as_labels(values: Any) -> np.ndarray[Any, Any]:
    """Return labels as integers, floats, bools, or strings of ``StringDType``.

    Parameters
    ----------
    values : array_like
        Fixed-width strings and objects become ``StringDType``, in which a million labels cost 16 MB.

    Returns
    -------
    ndarray
    """
    array = np.asarray(values)
    if array.dtype.kind in "iufbMT":
        return array
    if isinstance(values, (str, list, tuple)) and array.dtype.kind == "U":
        return np.asarray(values, dtype=STRING)  # not by way of fixed width, which loses a NUL at the end
    return np.asarray(array.astype(str) if array.dtype.kind == "S" else array, dtype=STRING)


def group_label(x: xr.DataArray) -> str | None:
    """Return the coordinate that groups neuroids: ``"layer"``, else ``"region"``, else None.

    Parameters
    ----------
    x : DataArray
        Responses, or a result labelled by neuroids.

    Returns
    -------
    str or None
    """
    return next((name for name in ("layer", "region") if name in x.coords), None)


def validate(x: xr.DataArray, *, deep: bool = False, name: str = "responses") -> xr.DataArray:
    """Return ``x`` if it is a valid responses array; otherwise say all that is wrong with it.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
    deep : bool
        Also read the values: NaN and infinity are errors unless the attr ``allow_nan`` is true.
    name : str
        What to call the array in the message.

    Returns
    -------
    DataArray
        ``x`` itself.

    Raises
    ------
    SchemaError
        One message with every problem: what was wrong, what was expected, how to mend it.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 2.0]], stimulus_id=["a"], neuroid_id=[0, 1], modality="ann", system="net")
    >>> ba.validate(x) is x
    True
    >>> ba.validate(x.rename(neuroid="voxel"))
    Traceback (most recent call last):
    ...
    brainalign.core.errors.SchemaError: responses has dims ('presentation', 'voxel'). Expected ('presentation', ...
    """
    if not isinstance(x, xr.DataArray):
        raise SchemaError(
            f"{name} is a {type(x).__name__}. Expected an xarray.DataArray: build one from plain arrays with `ba.responses`."
        )
    problems = label_problems(x)
    if not problems and deep and x.dtype.kind == "f":
        other_dims = tuple(axis for axis, dim in enumerate(x.dims) if dim != "neuroid")
        problems = value_problems(x, np.asarray((~np.isfinite(x.data)).any(axis=other_dims)))
    if problems:
        raise SchemaError(f"{name} " + "\nAlso, it ".join(problems))
    return x


def check_array(x: Any, *, name: str) -> None:
    """Refuse a Dataset where responses or a plain array are expected.

    Parameters
    ----------
    x : object
    name : str
        What to call it in the message.

    Raises
    ------
    SchemaError

    Examples
    --------
    >>> check_array(xr.Dataset({"bold": 0}), name="X")
    Traceback (most recent call last):
    ...
    brainalign.core.errors.SchemaError: X is a Dataset. Expected an xarray.DataArray or an array: take one of its variables ('bold').
    """
    if isinstance(x, xr.Dataset):
        raise SchemaError(
            f"{name} is a Dataset. Expected an xarray.DataArray or an array: take one of its variables ({preview(x.data_vars)})."
        )


def label_problems(x: xr.DataArray) -> list[str]:
    """List what is wrong with dims, labels and attrs; :func:`validate` raises these.

    Parameters
    ----------
    x : DataArray

    Returns
    -------
    list of str
        Each goes on from the name of the array: what was wrong, what was expected, how to mend it.
    """
    return _dim_problems(x) or [
        *_presentation_problems(x), *_neuroid_problems(x), *_time_problems(x), *_coord_problems(x), *_attr_problems(x),
    ]  # fmt: skip


def value_problems(x: xr.DataArray, bad: np.ndarray[Any, Any]) -> list[str]:
    """List what is wrong with the values; :func:`validate` raises these when it is deep.

    Parameters
    ----------
    x : DataArray
    bad : ndarray of bool, (neuroid,)
        Where any value is NaN or infinite.

    Returns
    -------
    list of str
    """
    if bool(x.attrs.get("allow_nan", False)) or not bad.any():
        return []
    where = preview(x.coords["neuroid_id"].values[bad])
    return [
        f"has NaN or infinite values in {int(bad.sum())} of {bad.size} neuroids ({where}). Expected finite numbers: drop them with "
        "`x[:, keep]`, or declare NaN with `allow_nan=True` (of an array that there is: `x.attrs['allow_nan'] = True`)."
    ]


def _dim_problems(x: xr.DataArray) -> list[str]:
    problems = []
    if x.dims not in (DIMS[:2], DIMS):
        problems.append(
            f"has dims {x.dims}. Expected ('presentation', 'neuroid') or ('presentation', 'neuroid', 'time'), in this order: "
            "use `x.rename(...)` and `x.transpose(...)`; repeats are rows of presentation."
        )
    elif 0 in x.shape:
        problems.append(f"has shape {x.shape}. Expected at least one entry on every dim: look at what was selected.")
    if x.dtype.kind not in "iufb":
        problems.append(f"has dtype {x.dtype}. Expected real numbers: convert with `x.astype('float32')`.")
    for index_name, index in x.xindexes.items():
        if isinstance(index.to_pandas_index(), pd.MultiIndex):
            problems.append(
                f"has a MultiIndex on {index_name!r}. Expected plain coordinates: use `x.reset_index({index_name!r})`."
            )
            break
    return problems


def _presentation_problems(x: xr.DataArray) -> list[str]:
    if "stimulus_id" not in x.coords:
        return [
            "has no `stimulus_id`. Expected one string per presentation: `x.assign_coords(stimulus_id=('presentation', ids))`."
        ]
    ids = x.coords["stimulus_id"]
    if ids.dims != ("presentation",):
        return []  # reported with the other misplaced coordinates
    if ids.dtype.kind not in "TU":
        return [
            f"has `stimulus_id` of dtype {ids.dtype}. Expected strings: `x.assign_coords(stimulus_id=x.stimulus_id.astype(str))`."
        ]
    missing = missing_labels(ids.values)
    if missing.size:
        return [
            f"has no `stimulus_id` at presentations {preview(missing)}. Expected a name for each: drop these rows or name them."
        ]
    return []


def _neuroid_problems(x: xr.DataArray) -> list[str]:
    if "neuroid_id" not in x.coords:
        return ["has no `neuroid_id`. Expected a name or integer per neuroid: `x.assign_coords(neuroid_id=('neuroid', ids))`."]
    ids = x.coords["neuroid_id"]
    if ids.dims != ("neuroid",):
        return []
    if ids.dtype.kind not in "TUiu":
        return [f"has `neuroid_id` of dtype {ids.dtype}. Expected strings or integers: use `.astype(str)`."]
    missing = missing_labels(ids.values)
    if missing.size:
        return [
            f"has no `neuroid_id` at neuroids {preview(missing)}. Expected a name for each: name them, or number them from 0."
        ]
    repeated = _first_repeat(x)
    if repeated is None:
        return []
    first, second, count = repeated
    return [
        f"has {count} repeated `neuroid_id` values, first {ids.values[first]!s} at positions {first} and {second}. Expected names "
        "that are unique within their system and layer or region: add a `layer` or `region`, or rename them."
    ]


def missing_labels(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the positions of labels that are missing: NaN, empty, or the text that a missing value turns into.

    Parameters
    ----------
    labels : ndarray, (row,)
        As of :func:`as_labels`.

    Returns
    -------
    ndarray of int

    Examples
    --------
    >>> missing_labels(as_labels(["face", None, "house", ""])).tolist()
    [1, 3]
    """
    if labels.dtype.kind in "fM":
        return np.flatnonzero(np.isnan(labels) if labels.dtype.kind == "f" else np.isnat(labels))
    if labels.dtype.kind not in "TU":
        return np.array([], dtype=np.intp)
    return np.flatnonzero(np.isin(labels, ["", "nan", "n/a", "None", "<NA>"]))


def _first_repeat(x: xr.DataArray) -> tuple[int, int, int] | None:
    """Return (first position, second position, how many) of a name used twice in one group."""
    ids = x.coords["neuroid_id"].values
    if ids.dtype.kind in "iu" and (ids.size < 2 or bool((ids[1:] > ids[:-1]).all())):
        return None  # ascending integers, the common case at a million neuroids
    codes = pd.factorize(ids if ids.dtype.kind in "iu" else ids.astype(object))[0]
    if codes.max() + 1 == codes.size:
        return None
    labels = ("system", *(["layer"] if "layer" in x.coords else ["region"] if "region" in x.coords else []))
    for label in labels:
        if label in x.coords and x.coords[label].dims == ("neuroid",):
            group = _run_codes(x.coords[label].values)
            codes = codes * (group.max() + 1) + group
    duplicated = pd.Series(codes).duplicated()
    if not duplicated.any():
        return None
    second = int(np.argmax(duplicated.to_numpy()))
    return int(np.argmax(codes == codes[second])), second, int(duplicated.sum())


def _run_codes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integer codes of labels that come in long runs: only the run starts are factorised."""
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1]])
    codes = pd.factorize(values[starts].astype(object), use_na_sentinel=False)[0]
    return np.repeat(codes, np.diff(np.r_[starts, values.size])).astype(np.int64)


def _time_problems(x: xr.DataArray) -> list[str]:
    if "time" not in x.dims:
        return []
    if "time" not in x.coords:
        return ["has a time dim without `time`. Expected seconds as floats: `x.assign_coords(time=seconds)`."]
    problems, time = [], x.coords["time"].values
    if time.dtype.kind != "f" or not np.isfinite(time).all():
        problems.append(f"has `time` of dtype {time.dtype}. Expected finite seconds as floats.")
    elif not (np.diff(time) > 0).all():
        at = int(np.argmax(np.diff(time) <= 0))
        problems.append(
            f"has `time` that does not increase: {time[at]:g} s is followed by {time[at + 1]:g} s at position {at + 1}. "
            "Expected strictly increasing seconds: use `x.sortby('time')` and drop repeated samples."
        )
    if x.attrs.get("time_reference") not in TIME_REFERENCES:
        problems.append(
            f"has time_reference {x.attrs.get('time_reference')!r}. Expected one of {TIME_REFERENCES}: set `x.attrs['time_reference']`."
        )
    return problems


def _coord_problems(x: xr.DataArray) -> list[str]:
    problems = []
    for name, coord in x.coords.variables.items():
        dim = dim_of(str(name))
        if dim is not None and coord.dims not in ((dim,), ()):
            problems.append(f"has `{name}` on dims {coord.dims}. Expected ({dim!r},): assign it as `{name}=({dim!r}, values)`.")
        elif coord.dims == () and name in ("stimulus_id", "neuroid_id"):
            problems.append(f"has `{name}` as a scalar. Expected one value per {dim}: select with a list, `x.isel({dim}=[i])`.")
        elif name in _NUMERIC_COORDS and coord.dtype.kind not in "iuf":
            problems.append(f"has `{name}` of dtype {coord.dtype}. Expected numbers: convert it, with NaN where it is unknown.")
    return problems


def _attr_problems(x: xr.DataArray) -> list[str]:
    problems = []
    if x.attrs.get("modality") not in MODALITIES:
        problems.append(
            f"has modality {x.attrs.get('modality')!r}. Expected one of {', '.join(MODALITIES)}: set `x.attrs['modality']`."
        )
    version = x.attrs.get("schema_version")
    if not isinstance(version, (int, np.integer)) or version < 1:
        problems.append(f"has schema_version {version!r}. Expected {SCHEMA_VERSION}: build it with `ba.responses`.")
    elif version > SCHEMA_VERSION:
        problems.append(
            f"has schema_version {version}, newer than {SCHEMA_VERSION}, which this brainalign reads: upgrade brainalign."
        )
    return problems
