"""Imaging series of NWB files: traces of regions of interest, lazily, with the labels of their plane segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import narrowed
from brainalign.adapters.hdf5 import attributes, hdf5_file, whole_chunks
from brainalign.adapters.lazy import Spans
from brainalign.adapters.spikes.nwb_tables import labels, member, refuse_other_units, row_ids, text_of
from brainalign.adapters.spikes.traces import trace_responses
from brainalign.core.errors import FormatError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import DIMS, dim_of

_DEPTH = 6


def series_names(file: Any) -> list[str]:
    """Return the full names of the series of regions of interest in a file.

    Parameters
    ----------
    file : h5py.File

    Returns
    -------
    list of str
        ``processing/ophys/DfOverF/RoiResponseSeries`` ...
    """
    processing = member(file, "processing")
    return [] if processing is None else list(_below(processing, "processing", _DEPTH))


def _below(group: Any, path: str, depth: int) -> Any:
    for name in group.keys():
        node = member(group, name)
        if not hasattr(node, "keys") or depth == 0:
            continue
        kind = attributes(node).get("neurodata_type", "")
        if (kind.decode() if isinstance(kind, bytes) else kind) == "RoiResponseSeries":
            yield f"{path}/{name}"
        else:
            yield from _below(node, f"{path}/{name}", depth - 1)


def open_series(
    file: Any,
    path: Path,
    series: str,
    *,
    system: str,
    edges: np.ndarray | None,
    events: pd.DataFrame | None,
    who: Mapping[str, str | None],
    allow_nan: bool,
) -> tuple[xr.DataArray, dict[str, Any]]:
    """Open one series of regions of interest.

    Parameters
    ----------
    file : h5py.File
    path : Path
        Of the file.
    series : str
        Full name, or its last parts.
    system : str
    edges : ndarray, (bin + 1,), seconds, optional
    events : DataFrame, optional
    who : mapping of {"run", "subject", "session"} to str or None
    allow_nan : bool

    Returns
    -------
    (DataArray, dict)
        The traces, and what is to be recorded: the full name, where the times came from, the scale.

    Raises
    ------
    FormatError
        No such series, or one without data, times or regions of interest.
    """
    names = series_names(file)
    fits = [name for name in names if f"/{name}".endswith(f"/{series.strip('/')}") or name.split("/")[-2] == series]
    if len(fits) != 1:
        raise FormatError(
            f"{str(path)!r} has {len(fits)} series named {series!r}. It has {preview(names, 20) or 'none at all'}."
            f"{did_you_mean(series, [name.rpartition('/')[2] for name in names])} Name one in full."
        )
    node = file[fits[0]]
    data = member(node, "data")
    if data is None or getattr(data, "ndim", 0) not in (1, 2) or data.dtype.kind not in "iuf":
        raise FormatError(
            f"{str(path)!r}: {fits[0]!r} has no `data` of numbers, (frame, region of interest). It holds {sorted(node.keys())}."
        )
    n_frames, n_rois = (*data.shape, 1)[:2]
    ids, known = _rois(node, n_frames, n_rois, fits[0], path)
    times, rate_from = _times(node, n_frames, fits[0], path)
    own = attributes(data)
    scale, shift, unit = float(own.get("conversion", 1.0)), float(own.get("offset", 0.0)), own.get("unit")
    shape, column_of = (n_frames, n_rois), data.ndim == 1
    chunks = whole_chunks(shape, None if data.chunks is None else (*data.chunks, 1)[:2], data.dtype.itemsize)
    read = _Series(path, f"{fits[0]}/data", scale, shift, column_of)
    x = trace_responses(
        read, shape, times, chunks=chunks, files=[path], what="NWB", neuroid_id=ids, neuroid=known, system=system, edges=edges,
        events=events, who=who, allow_nan=allow_nan, units=unit.decode() if isinstance(unit, bytes) else unit,
    )  # fmt: skip
    return x, {"series": fits[0], "times_from": rate_from, "scale": scale, "offset": shift}


@dataclass(frozen=True)
class _Series:
    """Reads a block of frames and regions, in the unit of the series."""

    path: Path
    key: str
    scale: float
    shift: float
    is_vector: bool

    def __call__(self, spans: Spans) -> np.ndarray:
        with hdf5_file(self.path, "NWB") as file:
            stored = member(file, self.key)
            block = stored[spans[0]][:, None] if self.is_vector else stored[spans]
        block = narrowed(np.asarray(block), np.float32, str(self.path))
        return block if (self.scale, self.shift) == (1.0, 0.0) else block * np.float32(self.scale) + np.float32(self.shift)


def _rois(node: Any, n_frames: int, n_rois: int, name: str, path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the ids and labels of the columns, through the rows of the plane segmentation that they name."""
    found = member(node, "rois")
    if found is None or getattr(found, "ndim", 0) != 1:
        raise FormatError(f"{str(path)!r}: {name!r} has no `rois`, so its columns have no names. It holds {sorted(node.keys())}.")
    rows = found[()].astype(np.int64)
    if rows.size != n_rois:
        turned = " Its data seem to lie as (region of interest, frame)." if rows.size == n_frames else ""
        raise FormatError(
            f"{str(path)!r}: {name!r} has data of {n_frames} frames x {n_rois} columns and {rows.size} rois.{turned} Expected one column each."
        )
    reference = attributes(found).get("table")
    table = node.file[reference] if reference else None
    if table is None or member(table, "id") is None:
        return rows, {}
    ids = row_ids(table)
    if rows.size and (rows.min() < 0 or rows.max() >= ids.size):
        raise FormatError(
            f"{str(path)!r}: {name!r} names roi {int(rows.max())}, and {table.name!r} has {ids.size} rows, counted from 0. It is damaged."
        )
    plain = {
        f"roi_{key}" if dim_of(key) is not None or key in DIMS else key: values[rows] for key, values in labels(table).items()
    }
    place = text_of(table, "imaging_plane/location")
    return ids[rows], plain if place is None else {**plain, "region": np.full(rows.size, place, dtype=object)}


def _times(node: Any, n_frames: int, name: str, path: Path) -> tuple[np.ndarray, str]:
    """Return when each frame was taken, and how that is known."""
    stamps, start = member(node, "timestamps"), member(node, "starting_time")
    refuse_other_units(start if stamps is None else stamps, f"{str(path)!r}: {name!r}")
    if stamps is not None:
        return np.asarray(stamps[()], dtype=np.float64), "timestamps"
    rate = None if start is None else attributes(start).get("rate")
    if start is None or rate is None or not float(rate) > 0:
        raise FormatError(
            f"{str(path)!r}: {name!r} has neither `timestamps` nor a `starting_time` with a rate above 0 ({rate!r}). Expected one of them."
        )
    return float(start[()]) + np.arange(n_frames) / float(rate), "starting_time and rate"
