"""RDMs larger than memory: tile by tile into a study, each pair of blocks of conditions compared once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations_with_replacement
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError, SchemaError
from brainalign.core.parameters import preview
from brainalign.core.progress import progress_bar
from brainalign.core.tiles import compact
from brainalign.dataset.writing import save_parts
from brainalign.engine.backend import move, to_numpy
from brainalign.engine.distances import METRICS, SCALED, cross_distances, pairwise_distances, scaled_patterns
from brainalign.engine.groups import group_sums
from brainalign.engine.moments import rounding_unit
from brainalign.geometry.conditions import Array, Cell
from brainalign.geometry.measures import SUMS, Settings, holes_of, refuse_few, refuse_undefined

#: Conditions along the side of a chunk in the store: 4 MB of float32.
_CHUNK = 1024


def store_tiles(
    responses: xr.DataArray,
    cells: list[Cell],
    codes: Array,
    template: xr.DataArray,
    ask: Settings,
    *,
    store: str | os.PathLike[str],
    name: str,
    max_memory: int,
    progress: bool | None,
) -> tuple[xr.DataArray, Array]:
    """Write the matrices of all cells into a study, and open them.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Read block by block where it is lazy: each block of conditions once for itself and each block before it, at each time.
    cells : list of Cell
        In the order of the leading dims of the template.
    codes : ndarray of int, (presentation,)
        Condition of each row.
    template : DataArray, (..., stimulus, stimulus_2)
        Labels and attrs.
    ask : Settings
    store : path
    name : str
    max_memory : int
        Bytes for two blocks of conditions, each held twice, and two tiles.
    progress : bool or None
        Show a progress bar over tiles.

    Returns
    -------
    matrices : DataArray
        Lazy.
    holes : ndarray of bool, (cell, condition)
        Where a condition has no defined pattern.

    Raises
    ------
    CapabilityError
        A measure of folds or of noise.
    ParameterError
        ``max_memory`` holds no tile.
    SchemaError
        NaN in the responses, too few neuroids, or patterns that cannot be scaled: told once all are read for the first time (at the last time).
    """
    if ask.metric not in METRICS or ask.folds is not None:
        raise CapabilityError(
            f"rdm got store= with metric={ask.metric!r} and folds={ask.folds!r}. Expected one of {', '.join(map(repr, METRICS))} without folds, "
            "which need no more than two blocks of conditions at a time: leave `store` out, and `ba.save` the result."
        )
    for cell in cells:
        if len(cell.rows) and len(cell.columns):
            refuse_few(len(cell.columns), cell, ask.metric)
    n = template.shape[-1]
    side = _side(n, max(len(cell.columns) for cell in cells), template.dtype.itemsize, max_memory)
    chunk = min(side, _CHUNK)
    holes = np.zeros((len(cells), n), dtype=bool)
    n_tiles = prod(template.shape[:-2]) * len(range(0, n, side)) ** 2
    made = _parts(responses, cells, codes, template, ask, side, holes)
    parts = progress_bar(made, progress=progress, desc="tiles", total=n_tiles)
    return save_parts(template, store, name=name, parts=parts, chunks=(1,) * (template.ndim - 2) + (chunk, chunk)), holes


def _side(n: int, width: int, itemsize: int, max_memory: int) -> int:
    """Return how many conditions go into a block: as many as the memory holds, and whole chunks where it holds those."""
    side = int((width**2 + max_memory / itemsize / 2) ** 0.5 - width)  # 2 side² + 4 side width values
    if side < min(n, 16):
        raise ParameterError(
            f"The 'max_memory' parameter of rdm holds {side} conditions of {width} neuroids at a time, {max_memory:,} bytes. Expected at least "
            f"{min(n, 16)}: raise it."
        )
    return n if side >= n else side - side % _CHUNK if side >= _CHUNK else side


def _parts(
    responses: xr.DataArray, cells: list[Cell], codes: Array, template: xr.DataArray, ask: Settings, side: int, holes: Array
) -> Iterator[tuple[tuple[Any, ...], Array]]:
    """Yield where each tile stands, and the tile; and then its mirror image; and note which conditions are holes."""
    n, n_times = template.shape[-1], responses.sizes.get("time", 0)
    blocks = [slice(start, min(start + side, n)) for start in range(0, n, side)]
    places = np.ndindex(template.shape[: template.ndim - 2 - bool(n_times)])
    for at, cell, hole in zip(places, cells, holes, strict=True):
        undefined = np.ones(n, dtype=bool)
        for time in range(n_times) if n_times else [None]:
            lead = at if time is None else (*at, time)
            for rows, columns in combinations_with_replacement(blocks, 2):
                second = _patterns(responses, cell, codes, columns, time, ask)
                if rows is blocks[0]:
                    undefined[columns] &= _undefined(second, ask)
                    if columns is blocks[-1] and time in (None, n_times - 1):  # all are read, for the first time
                        refuse_undefined(undefined, template.coords["stimulus"].values, cell, ask.metric)
                if rows is columns:
                    first = second
                    tile = _tile(first, None, ask)
                    hole[rows] |= holes_of(tile)
                    yield (*lead, rows, rows), tile
                else:
                    tile = _tile(first, second, ask)
                    yield (*lead, rows, columns), tile
                    yield (*lead, columns, rows), tile.T
                del tile, second  # before the next ones are made beside them


def _patterns(
    responses: xr.DataArray, cell: Cell, codes: Array, block: slice, time: int | None, ask: Settings
) -> tuple[Any, float]:
    """Return the mean responses to a block of conditions, (condition, neuroid), NaN where there are none, and their rounding."""
    inside = (codes[cell.rows] >= block.start) & (codes[cell.rows] < block.stop)
    rows, own = cell.rows[inside], codes[cell.rows[inside]] - block.start
    n = block.stop - block.start
    if not len(rows) or not len(cell.columns):
        return move(np.full((n, max(1, len(cell.columns))), np.nan, dtype=ask.dtype), ask.device), 0.0
    values = responses.data[compact(rows)][:, compact(cell.columns)]
    values = np.asarray(values if time is None else values[..., time])
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise SchemaError(
            f"{int(bad.sum())} of {len(bad)} neuroids have NaN or infinity in {cell}: "
            f"{preview(responses.coords['neuroid_id'].values[cell.columns][bad])}. Expected finite numbers in what is stored tile by tile: leave "
            "them out with `x[:, keep]`."
        )
    sums, counts = group_sums(values, own, n)
    if (counts != 1).any():
        sums /= np.where(counts, counts, np.nan)[:, None]
    return move(sums.astype(ask.dtype, copy=False), ask.device), rounding_unit(values)


def _undefined(patterns: tuple[Any, float], ask: Settings) -> Array | bool:
    """Say which patterns were presented and cannot be scaled."""
    values, unit = patterns
    return ask.metric in SCALED and to_numpy(
        scaled_patterns(values, ask.metric, unit=max(unit, float(np.finfo(ask.dtype).eps)))[1]
    )


def _tile(first: Any, second: Any, ask: Settings) -> Array:
    """Return the dissimilarities of one block of conditions with itself or with another."""
    patterns, unit = first
    if second is None:
        tile = pairwise_distances(patterns, ask.metric, unit=unit, dtype=ask.dtype)
    else:
        tile = cross_distances(patterns, second[0], ask.metric, unit=max(unit, second[1]))
    if ask.metric in SUMS:
        tile /= patterns.shape[-1]
    return to_numpy(tile)
