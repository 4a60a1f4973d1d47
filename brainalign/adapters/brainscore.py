"""Brain-Score assemblies: recordings of brains and networks in netCDF, with flat coordinates, in and out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import NAMES, Format, existing, first_bytes, is_path, naming, reading, record_opening
from brainalign.adapters.hdf5 import SIGNATURE, attributes, hdf5_file
from brainalign.adapters.netcdf import Variable, is_scale, open_variable, read_header, read_variable, write_netcdf
from brainalign.core.errors import FormatError, ParameterError, StoreError, require
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.provenance import provenance
from brainalign.core.responses import responses
from brainalign.core.schema import DIMS, dim_of, validate

#: Dims of an assembly, as Brain-Score names ours.
_DIMS = ("presentation", "neuroid", "time_bin")
_EDGES = ("time_bin_start", "time_bin_end")
_OURS = ("modality", "units", "deterministic", "allow_nan", "schema_version", "provenance")
_FROM_TIME = "made from time"


def open_brainscore(
    path: Any,
    *,
    modality: str | None = None,
    system: Any = None,
    variable: str | None = None,
    stimulus_coord: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open a Brain-Score (BrainIO) assembly.

    Parameters
    ----------
    path : str or Path
        netCDF-4 with dims presentation, neuroid and, if any, time_bin, in whatever order.
    modality : str, optional
        One of :data:`brainalign.core.schema.MODALITIES`; required where the file does not say.
    system : str, or sequence of str (neuroid,), optional
        Default: the coordinate ``subject`` along neuroid; required where there is none.
    variable : str, optional
        Which variable holds the responses, where there are several.
    stimulus_coord : str, optional
        Which coordinate names the stimuli. Default: ``stimulus_id``, or ``image_id`` in older files.
    units : str, optional
        Default: what the file says, if it does.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32 (integers stay integers), (presentation, neuroid[, time]), lazy
        ``time`` is the centre of each bin in seconds; ``time_bin_start`` and ``time_bin_end`` stay, in ms. All other coordinates
        keep their names, except those that label another dim in the schema (``session`` along neuroid becomes
        ``neuroid_session``). ``repetition`` is counted; where the file counts otherwise, it keeps that as ``file_repetition``.

    Raises
    ------
    FormatError
        No netCDF-4 file, or a damaged one; no variable along presentation and neuroid, or several; no ids; no bins.
    ParameterError
        The file does not say whose responses these are, or of what kind.
    """
    file = existing(path)
    variables, attrs = read_header(file)
    source = str(file)
    name = _responses_of(variables, variable, source)
    chosen = variables.pop(name)
    attrs = {**attrs, **{key: value for key, value in chosen.attrs.items() if key != "_FillValue"}}
    with reading(file, "a Brain-Score assembly"):
        labels, left_out = _labels(file, variables, chosen.dims)
    ids = _stimulus_ids(labels["presentation"], stimulus_coord, source)
    who = _system(labels["neuroid"], system, source)
    kind = attrs.get("modality") if modality is None else modality
    if kind is None:
        raise ParameterError(
            f"open_brainscore got no `modality=` for {source!r}, which does not say it. Expected one, such as 'spikes' or 'ann'."
        )
    seconds = _seconds(labels["time_bin"], source) if "time_bin" in chosen.dims else None
    dims = tuple(dim for dim in _DIMS if dim in chosen.dims)
    allow_nan = bool(allow_nan or attrs.get("allow_nan", False))
    stored = labels["presentation"].pop("repetition", None)
    with naming(repr(file.name)):
        x = responses(
            open_variable(file, name, chosen, dims, allow_nan=allow_nan), stimulus_id=ids, system=who, modality=kind,
            neuroid_id=_required(labels["neuroid"], "neuroid_id", source), presentation=_renamed(labels["presentation"], "presentation"),
            neuroid=_renamed(labels["neuroid"], "neuroid"), units=attrs.get("units") if units is None else units, time=seconds,
            time_reference=attrs.get("time_reference", "stimulus onset"), deterministic=bool(attrs.get("deterministic", False)),
            allow_nan=allow_nan,
        )  # fmt: skip
        x = _with_history(x, attrs)
    bins = {edge: ("time", values) for edge, values in labels["time_bin"].items()} if seconds is not None else {}
    x = x.assign_coords(bins | _disagreeing(stored, x.coords["repetition"].values))
    x.attrs |= {key: value for key, value in attrs.items() if key not in _OURS}
    params = {
        "variable": name,
        "stimulus_coord": stimulus_coord,
        "left_out": left_out or None,
        "scale": 1.0,
        "index_base": NAMES,
    }
    return record_opening(x, "brainscore", [file.name], {**params, "units": x.attrs.get("units")})


def save_brainscore(x: xr.DataArray, path: Any, *, overwrite: bool = False) -> None:
    """Write responses as a Brain-Score assembly: netCDF-4, flat coordinates, time bins in ms.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
        Bins are taken from its coordinates ``time_bin_start`` and ``time_bin_end`` along time; without them they reach halfway
        to the neighbouring time points.
    path : str or Path
        The file, usually ``assy_<name>.nc``. It is there only when it is whole.
    overwrite : bool
        Replace a file of this name.

    Raises
    ------
    SchemaError
        ``x`` is not valid; nothing is written.
    ParameterError
        A single time point without bins; a coordinate that is neither numbers nor strings.
    StoreError
        The file exists, or its folder does not.

    Notes
    -----
    ``system`` is written as ``subject`` along neuroid, the word of Brain-Score, unless presentations have a ``subject``. Attributes
    that netCDF cannot hold (nested ones) are left out.
    """
    validate(x)
    file = Path(path)
    if not file.parent.is_dir():
        raise StoreError(f"there is no folder {str(file.parent)!r}. Expected one to write {file.name!r} into: make it first.")
    if file.exists() and not overwrite:
        raise StoreError(f"{str(file)!r} exists. Expected a free name: choose another, or pass `overwrite=True`.")
    odd = [str(name) for name, coord in x.coords.items() if "/" in str(name) or not _fits(coord)]
    if odd:
        raise ParameterError(
            f"save got the coordinates {preview(odd)}, which netCDF cannot hold so. Expected numbers or strings without NUL, and names "
            "without '/'."
        )
    rename = dict(zip(DIMS, _DIMS, strict=True))
    variables: dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]] = {}
    for name, coord in x.coords.items():
        own = "subject" if name == "system" and "subject" not in x.coords and coord.dims else str(name)
        variables[own] = (tuple(rename.get(str(dim), str(dim)) for dim in coord.dims), coord.values, {})
    if "time" in x.dims:
        variables |= _bins(x)
    kept = {key: int(value) if isinstance(value, bool) else value for key, value in x.attrs.items()}
    kept = {str(key): value for key, value in kept.items() if isinstance(value, (str, int, float, np.generic))}
    variables["data"] = (tuple(rename[str(dim)] for dim in x.dims), x.data, {"coordinates": " ".join(variables)})
    write_netcdf(file, {rename[str(dim)]: size for dim, size in x.sizes.items()}, variables, kept)


def _fits(coord: xr.DataArray) -> bool:
    kind = coord.dtype.kind
    return kind in "iufb" or (
        kind in "TUO" and all(isinstance(item, str) and "\0" not in item for item in coord.values.ravel().tolist())
    )


def _responses_of(variables: Mapping[str, Variable], name: str | None, source: str) -> str:
    fits = [key for key, found in variables.items() if {"presentation", "neuroid"} <= set(found.dims)]
    if name is not None and name not in variables:
        raise FormatError(
            f"{source!r} has no variable {name!r}.{did_you_mean(name, fits)} Those with responses are {preview(fits, 8)}."
        )
    if name is None and len(fits) != 1:
        shown = {key: found.dims for key, found in variables.items() if len(found.dims) > 1 or key in fits}
        raise FormatError(
            f"{source!r} has {len(fits)} variables along presentation and neuroid; of several dims are {shown}. Expected one: "
            + ("name it with `variable=`." if fits else "an assembly of neuroids (behaviour and metadata have other dims).")
        )
    chosen = fits[0] if name is None else name
    dims = variables[chosen].dims
    if len(dims) != len(set(dims)) or not {"presentation", "neuroid"} <= set(dims) <= set(_DIMS):
        raise FormatError(
            f"{source!r} has dims {dims} for {chosen!r}. Expected {_DIMS[:2]} or {_DIMS}, in any order: average or select the others first."
        )
    return chosen


def _labels(file: Path, variables: Mapping[str, Variable], dims: tuple[str, ...]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return the coordinates of each dim, and the names of what is no coordinate of one dim."""
    labels: dict[str, dict[str, Any]] = {dim: {} for dim in _DIMS}
    left_out = []
    for name, variable in variables.items():
        if len(variable.dims) == 1 and variable.dims[0] in dims and name not in _DIMS:
            if variable.attrs.get("comment") != _FROM_TIME:
                labels[variable.dims[0]][name] = read_variable(file, name)
        elif variable.dims == ():
            value = read_variable(file, name)
            side = dim_of(name) or "presentation"
            labels[side if side in _DIMS else "presentation"].setdefault(name, value)
        elif name not in _DIMS:
            left_out.append(name)
    return labels, left_out


def _required(labels: dict[str, Any], name: str, source: str) -> Any:
    if name not in labels:
        raise FormatError(
            f"{source!r} has no coordinate {name!r}; along that dim are {preview(labels, 12)}.{did_you_mean(name, labels)}"
        )
    return labels.pop(name)


def _stimulus_ids(labels: dict[str, Any], given: str | None, source: str) -> Any:
    """Return the ids of the stimuli, under the name that older files have for them too."""
    if given is None and "stimulus_id" not in labels and "image_id" in labels:
        return labels.pop("image_id")
    if given not in (None, "stimulus_id") and "stimulus_id" in labels:
        labels["file_stimulus_id"] = labels.pop("stimulus_id")
    return _required(labels, given or "stimulus_id", source)


def _system(labels: dict[str, Any], given: Any, source: str) -> Any:
    if given is not None:
        return given
    for name in ("system", "subject"):
        if name in labels:
            return labels.pop(name)
    raise ParameterError(
        f"open_brainscore got no `system=` for {source!r}, whose neuroids have no `subject`; they have {preview(labels, 12)}. Expected "
        "whose responses these are."
    )


def _seconds(labels: dict[str, Any], source: str) -> Any:
    """Return the centre of each bin in seconds, from its edges in ms."""
    exact = labels.pop("time", None)  # in files of our own, to the last bit
    if exact is not None:
        return exact
    start, end = (_required(dict(labels), edge, source).astype(np.float64) for edge in _EDGES)
    wrong = np.flatnonzero(~(end > start))
    if wrong.size:
        at = int(wrong[0])
        raise FormatError(
            f"{source!r} has a time bin from {start[at]:g} to {end[at]:g} ms at position {at}. Expected an end after its start: mend "
            "`time_bin_start` and `time_bin_end`."
        )
    return (start + end) / 2e3


def _renamed(labels: Mapping[str, Any], dim: str) -> dict[str, Any]:
    """Return coordinates under names that are free for this dim."""
    return {f"{dim}_{name}" if dim_of(name) not in (None, dim) or name in DIMS else name: value for name, value in labels.items()}


def _disagreeing(stored: Any, counted: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return the file's repetitions where they are not those that were counted, from 0 or from 1."""
    if stored is None or any(np.array_equal(stored, counted + base) for base in (0, 1)):
        return {}
    return {"file_repetition": ("presentation", stored)}


def _with_history(x: xr.DataArray, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Return responses with the steps that a file of our own tells of."""
    if "schema_version" not in attrs or "provenance" not in attrs:
        return x
    told = x.assign_attrs(provenance=attrs["provenance"])
    provenance(told, verify=False)
    return told


def _bins(x: xr.DataArray) -> dict[str, tuple[tuple[str, ...], Any, dict[str, Any]]]:
    if all(edge in x.coords and x.coords[edge].dims == ("time",) for edge in _EDGES):
        return {}
    if x.sizes["time"] < 2:
        raise ParameterError(
            f"save got one time point, {float(x.time[0]):g} s, and no bins. Expected its bin in ms: "
            "`x.assign_coords(time_bin_start=('time', [...]), time_bin_end=('time', [...]))`."
        )
    time = x.coords["time"].values * 1e3
    between = (time[1:] + time[:-1]) / 2
    start, end = np.r_[2 * time[0] - between[0], between], np.r_[between, 2 * time[-1] - between[-1]]
    return {edge: (("time_bin",), values, {"comment": _FROM_TIME}) for edge, values in zip(_EDGES, (start, end), strict=True)}


def _matches(source: Any) -> str:
    """HDF5 with the dims presentation and neuroid; the classic format is recognised too, and refused with how to convert it."""
    start = first_bytes(Path(source), 4096) if is_path(source) else b""
    if start[:3] == b"CDF" and all(dim.encode() in start for dim in _DIMS[:2]):
        return "netCDF of the classic format that names presentation and neuroid"
    if not start.startswith(SIGNATURE):
        return ""
    h5py = require("h5py", extra="spikes", purpose="netCDF-4")
    try:
        with hdf5_file(source, "netCDF-4") as opened:
            fits = all(isinstance(opened.get(dim), h5py.Dataset) and is_scale(attributes(opened[dim])) for dim in _DIMS[:2])
    except FormatError:
        return ""
    return "netCDF-4 with the dims presentation and neuroid" if fits else ""


adapter = Format("brainscore", _matches, open_brainscore, save_brainscore)
