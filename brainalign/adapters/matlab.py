"""Responses from MATLAB files: which field holds what is said, never guessed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import NAMES, Format, check_finite, existing, naming, narrowed, record_opening
from brainalign.adapters.fmri.pereira import is_pereira
from brainalign.adapters.matfile import find_fields, is_mat, read_mat
from brainalign.adapters.meeg.eeglab import is_eeglab
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.responses import responses
from brainalign.core.schema import DIMS


def open_matlab(
    path: Any,
    *,
    values: str | Sequence[str],
    dims: Sequence[str],
    stimulus_id: Any,
    modality: str,
    system: str,
    neuroid_id: Any = None,
    stimulus_format: str = "{}",
    time: Any = None,
    time_unit: str = "s",
    time_reference: str = "stimulus onset",
    presentation: Mapping[str, str] | None = None,
    neuroid: Mapping[str, str] | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open responses from the fields of a MATLAB file.

    Parameters
    ----------
    path : str or Path
        Version 5 to 7; version 7.3 needs h5py, and arrays of more than 16 MB stay in the file until they are asked for.
    values : str or sequence of str
        Dotted path of the array, ``"data.betas"``; or of one field for each neuroid, ``"D.neuron*"``. Several paths are several
        neuroids or groups of them: ``["D.neuron*", "D.speed"]`` makes the running speed one more neuroid.
    dims : sequence of str
        What the axes of that array are, in MATLAB's order. Without ``neuroid`` among them each field is one neuroid.
    stimulus_id : str or sequence
        Field with one label a presentation, or the labels themselves.
    modality, system : str
    neuroid_id : str or sequence, optional
        Field, or labels. Default: the names of the fields where each is a neuroid; required otherwise.
    stimulus_format : str
        How a label becomes a name: ``"direction-{:03d}"`` makes 45 ``direction-045``.
    time : str or sequence of float, optional
        Field, or values; with a time dim only, and required there.
    time_unit : {"s", "ms"}
        Unit of ``time`` as it is stored.
    time_reference : {"stimulus onset", "run onset"}
    presentation, neuroid : mapping of coordinate to field, optional
        Further labels: ``{"condition": "TE.direction"}``.
    units : str, optional
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid[, time])
        Lazy where the array is.

    Raises
    ------
    FormatError
        Damaged file, missing field, fields of different shape, undeclared NaN.
    ParameterError
        dims or labels that do not fit the array.
    OptionalDependencyError
        A version 7.3 file, and h5py is not installed.
    """
    file = existing(path)
    variables, source, axes = read_mat(file, lazy=True), str(file), tuple(dims)
    array, names = _values(variables, [values] if isinstance(values, str) else list(values), axes, source)
    neuroids = _neuroid_names(variables, neuroid_id, names, array.shape[1], source)
    array = _finite(array, source, neuroids, allow_nan)
    given = _time_axis(variables, time, time_unit, time_reference, axes, source)
    labels = _labels(variables, stimulus_id, source)
    with naming(repr(file.name)):
        x = responses(
            array, stimulus_id=_formatted(labels, stimulus_format), neuroid_id=neuroids, modality=modality, system=system, units=units,
            presentation={name: _labels(variables, field, source) for name, field in (presentation or {}).items()},
            neuroid={name: _labels(variables, field, source) for name, field in (neuroid or {}).items()}, allow_nan=allow_nan, **given,
        )  # fmt: skip
    params = {"values": values, "dims": list(axes), "stimulus_id": stimulus_id, "stimulus_format": stimulus_format, "time": time}
    params |= {"time_unit": time_unit if time is not None else None, "units": units, "scale": 1.0, "index_base": NAMES}
    return record_opening(x, "matlab", [file.name], params)


def _values(
    variables: dict[str, Any], paths: list[str], axes: tuple[str, ...], source: str
) -> tuple[np.ndarray, list[str] | None]:
    """Return the values in the order of the schema, and the names of the fields where each is a neuroid."""
    if len(set(axes)) != len(axes) or "presentation" not in axes or not set(axes) <= set(DIMS):
        raise ParameterError(
            f"open_matlab got dims={axes}. Expected names among {DIMS}, 'presentation' among them, each at most once."
        )
    fields: dict[str, np.ndarray] = {}
    for path in paths:
        for name, value in find_fields(variables, path, source).items():
            if name in fields:
                raise ParameterError(
                    f"open_matlab got values={paths}, which name the field {name!r} twice. Name each neuroid once."
                )
            fields[name] = _array(value, len(axes), name, source)
    shapes = {name: array.shape for name, array in fields.items()}
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise FormatError(
                f"{source!r}: the field {name!r} has shape {shape} and {first!r} {shapes[first]}. Expected one shape."
            )
    if "neuroid" not in axes:
        names, axes = list(fields), (*axes, "neuroid")
        stacked = np.stack(list(fields.values()), axis=-1)
    elif len(fields) == 1:
        names, stacked = None, fields[first]
    else:
        raise ParameterError(
            f"open_matlab got dims={axes} for {len(fields)} fields, {preview(fields)}. Expected one field with a neuroid axis, or dims without "
            "'neuroid', where each field is a neuroid."
        )
    order = [axes.index(dim) for dim in DIMS if dim in axes]
    ordered = np.transpose(stacked, order)
    if hasattr(ordered, "dask"):
        return ordered.map_blocks(narrowed, np.float32, source, dtype=np.float32), names
    return np.ascontiguousarray(narrowed(ordered, np.float32, source)), names


def _finite(array: Any, source: str, neuroids: Any, allow_nan: bool) -> Any:
    """Return the values, checked now or, where they are still in the file, block by block as they are read."""
    if not hasattr(array, "dask") or allow_nan:
        check_finite(array, source, neuroids, allow_nan)
        return array
    return array.map_blocks(_checked, source=source, neuroids=list(neuroids), dtype=array.dtype, meta=array._meta)


def _checked(block: np.ndarray, *, source: str, neuroids: list[Any], block_info: Any = None) -> np.ndarray:
    check_finite(block, source, neuroids[block_info[0]["array-location"][1][0] :], allow_nan=False)
    return block


def _neuroid_names(variables: dict[str, Any], given: Any, names: list[str] | None, n: int, source: str) -> Any:
    if given is None and names is None:
        raise ParameterError(
            f"open_matlab got no neuroid_id for {source!r}, and positions are no names. Expected a field of the file, or a list of {n} names."
        )
    found: Any = names if given is None else _labels(variables, given, source)
    if len(found) != n:
        raise ParameterError(f"neuroid_id has {len(found)} names for {n} neuroids of {source!r}. Expected one each.")
    return found


def _array(value: Any, ndim: int, name: str, source: str) -> np.ndarray:
    """Return a numeric array of ``ndim`` axes; a cell array of vectors is stacked, one cell a row."""
    if isinstance(value, list):
        cells = [np.asarray(cell) for cell in value]
        sizes = sorted({cell.size for cell in cells})
        if len(sizes) != 1 or any(cell.dtype.kind not in "iufb" or cell.size != max(cell.shape, default=1) for cell in cells):
            raise FormatError(
                f"{source!r}: the cell array {name!r} holds {len(cells)} cells of sizes {preview(sizes)}. Expected vectors of numbers of one length."
            )
        value = np.stack([cell.ravel() for cell in cells])
    array = value if hasattr(value, "dask") else np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise FormatError(
            f"{source!r}: the field {name!r} holds {type(value).__name__} of dtype {array.dtype}. Expected numbers."
        )
    # MATLAB has no array of one axis, and drops a third one of length 1.
    if ndim == 1 and array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    elif ndim == 3 and array.ndim == 2:
        array = array[..., None]
    if array.ndim != ndim:
        raise ParameterError(
            f"{source!r}: the field {name!r} has shape {array.shape}, and dims name {ndim} axes. Expected a name for each axis."
        )
    return array


def _labels(variables: dict[str, Any], given: Any, source: str) -> Any:
    """Return one label a row, from a dotted path or as given."""
    if not isinstance(given, str):
        return np.asarray(given, dtype=object) if np.asarray(given).dtype.kind == "U" else np.asarray(given)
    found = find_fields(variables, given, source)
    if len(found) > 1:
        raise ParameterError(
            f"{given!r} names {len(found)} fields of {source!r}: {preview(found)}. Expected one that holds the labels."
        )
    value = next(iter(found.values()))
    if isinstance(value, list):
        return np.array([_scalar(item) for item in value])
    array = np.asarray(value)
    if array.ndim > 1 and max(array.shape) != array.size:
        raise FormatError(f"{source!r}: the field {given!r} has shape {array.shape}. Expected one label a row: a vector.")
    return array.ravel()


def _scalar(item: Any) -> Any:
    return item if isinstance(item, str) else np.asarray(item).ravel()[0]


def _formatted(labels: np.ndarray, form: str) -> list[str]:
    """Return names; whole numbers that MATLAB keeps as doubles are formatted as integers."""
    whole = labels.dtype.kind == "f" and bool(np.isfinite(labels).all()) and bool((labels == np.round(labels)).all())
    plain = labels.astype(np.int64) if whole else labels
    try:
        return [form.format(item) for item in plain.tolist()]
    except (ValueError, IndexError, KeyError) as error:
        raise ParameterError(
            f"stimulus_format={form!r} does not fit the label {plain.tolist()[0]!r} ({error}). Expected a format such as '{{:03d}}'."
        ) from error


def _time_axis(
    variables: dict[str, Any], time: Any, unit: str, reference: str, axes: tuple[str, ...], source: str
) -> dict[str, Any]:
    """Return the arguments of ``responses`` that name the time axis; none where there is none."""
    if "time" not in axes:
        if time is not None:
            raise ParameterError(
                f"open_matlab got time={time!r} for {source!r}, and dims={axes} has no time. Name the axis, or leave it out."
            )
        return {}
    if time is None:
        raise ParameterError(
            f"open_matlab got dims={axes} for {source!r} and no time=. Expected a field of the file, or seconds."
        )
    check_choice("time_unit", unit, ("s", "ms"), owner="open_matlab")
    seconds = np.asarray(_labels(variables, time, source), dtype=np.float64) / (1.0 if unit == "s" else 1e3)
    return {"time": seconds, "time_reference": reference}


def _matches(source: Any) -> str:
    known = is_mat(source) and (is_eeglab(source) or is_pereira(source))
    return "it has the header of a MATLAB file" if is_mat(source) and not known else ""


adapter = Format("matlab", _matches, open_matlab)
