"""Reading a large array in tiles: bounded memory, rows in whole steps, and as few readings of its chunks as the bound allows.

Rows are read in the order of the file, across a band of columns. Where the rows of the source's chunks do not end with those of
the target's, what is left over waits for the next reading, so that no chunk is read twice for it. Where all columns do not fit into
memory there are several bands, and a chunk is read once for each band that it reaches into.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError

Positions = slice | np.ndarray[Any, Any]
#: Bytes that are tried before all that is allowed: what is small is still in the caches when it is written.
_ROOMS = (2**25, 2**27)


@dataclass(frozen=True)
class Tiles:
    """How an array is read.

    Attributes
    ----------
    bands : tuple of range
        Consecutive units that are read together.
    columns : tuple of slice or ndarray
        The columns of each band, ascending.
    cuts : tuple of int
        Rows where a reading starts or stops, from 0 to the last.
    depth : int
        Rows that are held at most.
    step : int
        What is handed out starts at a multiple of it.
    n_reads : int
        Chunks of the source that are read, each as often as it is.
    """

    bands: tuple[range, ...]
    columns: tuple[Positions, ...]
    cuts: tuple[int, ...]
    depth: int
    step: int
    n_reads: int


def plan_tiles(data: Any, units: Sequence[Positions], *, step: int, budget: int, owner: str) -> Tiles:
    """Choose bands of columns and cuts of rows that fit into memory and read the fewest chunks.

    Parameters
    ----------
    data : ndarray or dask array, (row, column, ...)
    units : sequence of slice or ndarray
        Columns that are not to be torn apart, e.g. those of one chunk of the target; together, each column once.
    step : int
        Rows that are not to be torn apart.
    budget : int
        Bytes for the values that are held.
    owner : str
        The function that was given the bound, for the message.

    Returns
    -------
    Tiles

    Raises
    ------
    ParameterError
        Not even one step of the widest unit fits.
    """
    n_rows, row_bytes = data.shape[0], data.dtype.itemsize * prod(data.shape[2:])
    step = min(step, n_rows)
    widths = np.array([n_of(unit) for unit in units])
    least = step * int(widths.max()) * row_bytes
    if least > budget:
        raise ParameterError(
            f"The 'max_memory' parameter of {owner} leaves {budget:,} bytes for values. Expected at least {least:,}, for {step} presentations "
            f"of {widths.max()} neuroids: raise it."
        )
    row_edges, column_edges = (np.cumsum(sizes) for sizes in _chunks(data, step))
    touched = [_touched(unit, column_edges) for unit in units]
    plans = []
    for room in (*(size for size in _ROOMS if least <= size < budget), budget):
        for bands in _bandings(widths, int(column_edges[0]), most=room // (step * row_bytes)):
            width = max(int(widths[band.start : band.stop].sum()) for band in bands)
            depth = min(n_rows, room // (width * row_bytes))
            cuts = _cuts(row_edges, step, depth)
            n_across = sum(np.unique(np.concatenate([touched[i] for i in band])).size for band in bands)
            plans.append((np.union1d(row_edges, cuts[1:]).size * n_across, bands, cuts, depth))
    n_reads, bands, cuts, depth = min(plans, key=lambda plan: plan[0])  # the first of several as good: little room, few bands
    columns = tuple(_joined([units[i] for i in band]) for band in bands)
    return Tiles(tuple(bands), columns, cuts, depth, step, n_reads)


def read_tiles(data: Any, tiles: Tiles, *, n_workers: int = 1) -> Iterator[tuple[slice, int, np.ndarray[Any, Any]]]:
    """Read an array as planned.

    Parameters
    ----------
    data : ndarray or dask array, (row, column, ...)
    tiles : Tiles
    n_workers : int
        Chunks of the source that are read at the same time.

    Yields
    ------
    tuple of (slice, int, ndarray)
        Rows, the number of the band, and the values (row, column of the band, ...), which are good until the next are asked for.
    """
    n_rows, widths, in_memory = data.shape[0], [n_of(columns) for columns in tiles.columns], isinstance(data, np.ndarray)
    room = np.empty(0 if in_memory else tiles.depth * max(widths) * prod(data.shape[2:]), dtype=data.dtype)  # one, for every band
    for number, columns in enumerate(tiles.columns):
        if in_memory:
            for start, stop in pairwise(tiles.cuts):
                yield slice(start, stop), number, data[start:stop][:, columns]
            continue
        shape = (tiles.depth, widths[number], *data.shape[2:])
        held = room[: prod(shape)].reshape(shape)
        first = n_held = 0
        for start, stop in pairwise(tiles.cuts):
            _compute(data[start:stop][:, columns], held[n_held : n_held + stop - start], n_workers)
            n_held += stop - start
            ready = n_held if stop == n_rows else n_held - n_held % tiles.step
            if ready:
                yield slice(first, first + ready), number, held[:ready]
                held[: n_held - ready] = held[ready:n_held]
                first, n_held = first + ready, n_held - ready


def chunk_bytes(data: Any) -> int:
    """Return the bytes of the largest chunk of a dask array; 0 for one in memory.

    Parameters
    ----------
    data : ndarray or dask array

    Returns
    -------
    int
    """
    return prod(max(sizes) for sizes in data.chunks) * int(data.dtype.itemsize) if hasattr(data, "dask") else 0


def n_readers(data: Any, budget: int) -> int:
    """Return how many chunks may be read at the same time: as many as there are cores, within some bytes.

    Parameters
    ----------
    data : ndarray or dask array
    budget : int
        Bytes; making a chunk out of a file costs about three times its size.

    Returns
    -------
    int
    """
    return max(1, min(os.cpu_count() or 1, budget // max(1, 3 * chunk_bytes(data))))


def part_of(positions: Positions, part: slice) -> Positions:
    """Return some of the positions.

    Parameters
    ----------
    positions, part : slice or ndarray, slice

    Returns
    -------
    slice or ndarray

    Examples
    --------
    >>> part_of(slice(10, 20), slice(2, 4)), part_of(np.array([3, 5, 9]), slice(1, 3))
    (slice(12, 14, None), array([5, 9]))
    """
    return slice(positions.start + part.start, positions.start + part.stop) if isinstance(positions, slice) else positions[part]


def compact(positions: np.ndarray[Any, Any]) -> Positions:
    """Return ascending positions as a slice where they are contiguous.

    Parameters
    ----------
    positions : ndarray of int

    Returns
    -------
    slice or ndarray

    Examples
    --------
    >>> compact(np.array([4, 5, 6]))
    slice(4, 7, None)
    """
    start, stop = int(positions[0]), int(positions[-1]) + 1
    return slice(start, stop) if stop - start == positions.size else positions


def _compute(part: Any, out: np.ndarray[Any, Any], n_workers: int) -> None:
    """Compute a dask array chunk by chunk into memory that is there."""
    import dask.array as da

    da.store(part, out, lock=False, scheduler="threads", num_workers=n_workers)


def _chunks(data: Any, step: int) -> tuple[Sequence[int], Sequence[int]]:
    """Return the sizes of the chunks along rows and columns; those of values in memory are what suits the reader."""
    if hasattr(data, "dask"):
        return data.chunks[0], data.chunks[1]
    n_rows = data.shape[0]
    return [min(step, n_rows - start) for start in range(0, n_rows, step)], [data.shape[1]]


def _bandings(widths: np.ndarray[Any, Any], chunk: int, most: int) -> Iterator[list[range]]:
    """Yield ways to put consecutive units into bands of at most ``most`` columns, few bands first."""
    total = int(widths.sum())
    n_bands = -(-total // most)
    while n_bands <= len(widths):
        even = -(-total // n_bands)
        for width in (even, even // chunk * chunk, min(most, -(-even // chunk) * chunk)):  # bands that end with chunks, too
            yield _packed(widths, max(width, int(widths.max())))
        n_bands += 1 + n_bands // 4


def _packed(widths: np.ndarray[Any, Any], most: int) -> list[range]:
    bands, first, ends = [], 0, np.cumsum(widths)
    while first < len(widths):
        last = int(np.searchsorted(ends, (ends[first - 1] if first else 0) + most, side="right"))
        bands.append(range(first, last))
        first = last
    return bands


def _cuts(edges: np.ndarray[Any, Any], step: int, depth: int) -> tuple[int, ...]:
    """Return where reading stops: at the end of a chunk, if one is near enough, else at a whole step."""
    cuts, n_rows = [0], int(edges[-1])
    while cuts[-1] < n_rows:
        reach = cuts[-1] - cuts[-1] % step + depth
        at = int(np.searchsorted(edges, reach, side="right"))
        end = int(edges[at - 1]) if at else 0
        cuts.append(end if end > cuts[-1] else reach - reach % step)
    return tuple(cuts)


def _touched(positions: Positions, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the numbers of the chunks that some columns lie in."""
    if isinstance(positions, slice):
        first, last = np.searchsorted(edges, [positions.start, positions.stop - 1], side="right")
        return np.arange(first, last + 1)
    return np.unique(np.searchsorted(edges, positions, side="right"))


def _joined(parts: list[Positions]) -> Positions:
    """Return the columns of several units, ascending; a slice where they are contiguous."""
    return compact(np.sort(np.concatenate([np.r_[part] for part in parts])))


def n_of(positions: Positions) -> int:
    """Return how many positions there are."""
    return int(positions.stop - positions.start) if isinstance(positions, slice) else int(positions.size)
