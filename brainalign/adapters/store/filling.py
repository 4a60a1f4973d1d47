"""Filling the arrays of a recording from values that may be larger than memory, whichever way they are chunked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.store.zgroups import writing
from brainalign.core.errors import SchemaError
from brainalign.core.parameters import check_number, preview
from brainalign.core.progress import progress_bar
from brainalign.core.tiles import Positions, Tiles, chunk_bytes, compact, n_of, n_readers, part_of, plan_tiles, read_tiles

#: Bytes that a conversion takes unless another bound is given.
MAX_MEMORY = 2**30
#: Chunks that zarr compresses side by side; each is held about four times on its way to the disk.
_MOST_CHUNKS, _COPIES = 10, 4
_CHECKED = 2**20


@dataclass(frozen=True)
class Target:
    """The array of one layer or region, and where its neuroids stand in the recording.

    Attributes
    ----------
    path : Path
    array : zarr.Array
        Open for writing.
    group : str or None
    positions : slice or ndarray
    """

    path: Path
    array: Any
    group: str | None
    positions: Positions


@dataclass(frozen=True)
class _Part:
    """What a band holds of one group: columns of the group, and where they are in the band."""

    target: Target
    columns: slice
    places: Positions


def fill(x: xr.DataArray, targets: Sequence[Target], max_memory: int, progress: bool | None) -> None:
    """Write the values of a recording into the arrays of its groups.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
    targets : sequence of Target
    max_memory : int
        Bytes.
    progress : bool or None

    Raises
    ------
    ParameterError
        One chunk of the store does not fit into ``max_memory``.
    SchemaError
        A value is NaN or infinite, and the recording does not declare it.
    StoreError
        The disk is full, or fails.
    """
    import zarr

    max_memory = check_number("max_memory", max_memory, owner="save", low=1, integer=True)
    chunk = max(prod(target.array.chunks) for target in targets) * x.dtype.itemsize
    n_chunks = max(1, min(_MOST_CHUNKS, max_memory // (4 * _COPIES * chunk)))
    n_workers = n_readers(x.data, max_memory // 3)
    spare = max_memory // 16  # what libraries keep beside values
    budget = max_memory - spare - n_chunks * _COPIES * chunk - _in_flight(x.data, n_workers, max_memory)
    units = [(target, columns) for target in targets for columns in _spans(n_of(target.positions), target.array.chunks[1])]
    positions = [part_of(target.positions, columns) for target, columns in units]
    tiles = plan_tiles(x.data, positions, step=targets[0].array.chunks[0], budget=max(0, budget), owner="save")
    parts = [_parts(units, tiles, number) for number in range(len(tiles.bands))]
    with (
        zarr.config.set({"async.concurrency": n_chunks}),
        progress_bar(progress=progress, desc="saving", total=x.nbytes, unit="B", unit_scale=True) as bar,
    ):
        for rows, band, block in read_tiles(x.data, tiles, n_workers=n_workers):
            for part in parts[band]:
                _write(x, part, rows, block, n_chunks)
            bar.update(block.nbytes)


def _in_flight(data: Any, n_workers: int, max_memory: int) -> int:
    """Return the bytes that reading takes beside the values that are held; a chunk that is too large is read in slices."""
    return min(3 * n_workers * chunk_bytes(data), max_memory // 3)


def _parts(units: list[tuple[Target, slice]], tiles: Tiles, number: int) -> list[_Part]:
    """Return what a band holds of each group, the chunks of one group together."""
    within: dict[int, list[slice]] = {}
    owners = {}
    for i in tiles.bands[number]:
        target, columns = units[i]
        within.setdefault(id(target), []).append(columns)
        owners[id(target)] = target
    found = []
    for key, spans in within.items():
        target, columns = owners[key], slice(spans[0].start, spans[-1].stop)
        found.append(_Part(target, columns, _places(part_of(target.positions, columns), tiles.columns[number])))
    return found


def _places(positions: Positions, columns: Positions) -> Positions:
    """Return where some columns of the recording stand among those of a band."""
    if isinstance(columns, slice):
        if isinstance(positions, slice):
            return slice(positions.start - columns.start, positions.stop - columns.start)
        return positions - columns.start
    return compact(np.searchsorted(columns, np.r_[positions]))


def _write(x: xr.DataArray, part: _Part, rows: slice, block: np.ndarray[Any, Any], n_chunks: int) -> None:
    """Check and write what a block holds of one group: at once, or a few chunks at a time where its neuroids lie scattered."""
    array, width = part.target.array, n_of(part.columns)
    step = width if isinstance(part.places, slice) else max(1, n_chunks * prod(array.chunks[:2]) // len(block))
    for columns in _spans(width, -(-step // array.chunks[1]) * array.chunks[1]):
        values, within = block[:, part_of(part.places, columns)], part_of(part.columns, columns)
        _check_finite(x, values, part_of(part.target.positions, within), part.target.group)
        with writing(part.target.path):  # not around the reading: a source that fails is no disk that is full
            array[rows, within] = values


def _spans(n: int, step: int) -> Iterator[slice]:
    return (slice(start, min(n, start + step)) for start in range(0, n, step))


def _check_finite(x: xr.DataArray, block: np.ndarray[Any, Any], positions: Positions, group: str | None) -> None:
    if block.dtype.kind != "f" or bool(x.attrs.get("allow_nan", False)):
        return
    n_rows = max(1, _CHECKED // prod(block.shape[1:]))
    if all(np.isfinite(block[rows]).all() for rows in _spans(len(block), n_rows)):
        return
    bad = ~np.isfinite(block).all(axis=tuple(axis for axis in range(block.ndim) if axis != 1))
    raise SchemaError(
        f"responses have NaN or infinite values in neuroids {preview(x.coords['neuroid_id'].values[positions][bad])}"
        f"{f' of {group!r}' if group is not None else ''}. Expected finite numbers: drop them, or declare NaN with "
        "`x.attrs['allow_nan'] = True`."
    )
