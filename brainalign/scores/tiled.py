"""Scores of targets larger than memory: a tile of neuroids at a time, each kept as soon as it is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import Metric
from brainalign.core.provenance import all_steps, fingerprint, hash_array, is_lazy, plain, provenance, write_step
from brainalign.core.tables import coords_of
from brainalign.dataset.folds import Folds
from brainalign.dataset.writing import ResultParts
from brainalign.features.chain import Chain
from brainalign.scores.ceiling import noise_ceiling

#: Bytes of a tile. Scoring it takes about eight times as many, and half a gigabyte in the solver.
TILE_BYTES = 2**26
#: Columns that a tile has at least, however many rows there are: where sources do not fit into memory, each tile decomposes them anew.
_LEAST_COLUMNS = 1024

Tile = tuple[str, slice]  # a system of the target, and some of its neuroids


def tiles_of(targets: Mapping[str, Any]) -> list[Tile]:
    """Cut the neuroids of targets into tiles; what is stored in one chunk stays together where it can.

    Parameters
    ----------
    targets : mapping of str to DataArray
        By system. What is no array (the name of a coordinate to decode) is one tile.

    Returns
    -------
    list of (str, slice)
        They follow from shapes and chunks alone.
    """
    return [(name, columns) for name, x in targets.items() for columns in _cut(x)]


def _cut(x: Any) -> list[slice]:
    if not isinstance(x, xr.DataArray):
        return [slice(None)]
    n_times = prod(x.shape[2:])
    most = max(1, max(TILE_BYTES // max(1, x.shape[0] * x.dtype.itemsize), _LEAST_COLUMNS) // n_times)
    chunks = x.chunks[1] if x.chunks else (x.shape[1],)
    stops = np.cumsum(chunks)
    found: list[slice] = []
    for start, stop in zip(stops - chunks, stops, strict=True):
        if found and stop - found[-1].start <= most:
            found[-1] = slice(found[-1].start, int(stop))
        else:
            found += [slice(at, min(at + most, int(stop))) for at in range(int(start), int(stop), most)]
    return found


def refuse_joint(model: Chain, tiles: Sequence[Tile]) -> None:
    """Refuse a model that looks at all targets together, where they are scored in several tiles.

    Parameters
    ----------
    model : Chain
    tiles : sequence of (str, slice)

    Raises
    ------
    CapabilityError
        Tiles would change the result.
    """
    systems = [name for name, _ in tiles]
    if model.separate_targets or len(set(systems)) == len(systems):
        return
    raise CapabilityError(
        f"store= got {len(tiles)} tiles of target neuroids for {type(model.steps[-1]).__name__}, which, or a step before which, learns from "
        "all targets together: tiles would change the result. Expected a mapping that fits each target by itself (its attribute "
        "`separate_targets` says so), such as `ba.Ridge()`: take one, or leave `store` out and `ba.save` the result."
    )


def keeping_sources(model: Chain) -> Chain:
    """Return a chain that keeps what its mapping makes of a source alone, where it can: the same source comes with every tile.

    Parameters
    ----------
    model : Chain

    Returns
    -------
    Chain
    """
    keep = getattr(model.steps[-1], "keeping_sources", None)
    return model if keep is None else Chain((*model.steps[:-1], keep()))


def score_in_tiles(
    parts: ResultParts,
    sources: Mapping[Any, Callable[[], xr.DataArray]],
    targets: Mapping[str, Any],
    score: Callable[[Any, str, xr.DataArray, Any, Any], xr.Dataset],
    *,
    ceiling: Any,
    seed: int,
    progress: bool | None = False,
) -> dict[tuple[Any, str], xr.Dataset]:
    """Score every tile of the targets from every source, and keep each result; what is kept already is not scored again.

    Parameters
    ----------
    parts : ResultParts
    sources : mapping of object to callable
        What reads each source.
    targets : mapping of str to DataArray
    score : callable
        From the name of a source and of a target, the source, the tile and its ceiling to the result.
    ceiling : {"repeat"}, DataArray (neuroid[, time]) or None
    seed : int
        Of the ceiling.
    progress : bool or None
        Show a progress bar over tiles.

    Returns
    -------
    dict of (source, target) to Dataset
        Lazy, the tiles joined along ``neuroid``.
    """
    tiles = tiles_of(targets)
    for number, (system, columns) in enumerate(progress_bar(tiles, progress=progress, desc="tiles of neuroids")):
        wanted = {name: part for i, name in enumerate(sources) if (part := _part(number, i)) not in parts.done}
        if not wanted:
            continue
        x = targets[system]
        tile = x.isel(neuroid=columns).compute() if isinstance(x, xr.DataArray) else x  # read once, for all sources
        of_tile = _ceiling(ceiling, x, tile, columns, seed)
        for name, part in wanted.items():
            parts.write(part, score(name, system, sources[name](), tile, of_tile))
    joined = {}
    for system, numbers in groupby(range(len(tiles)), key=lambda number: tiles[number][0]):
        own = list(numbers)
        for i, name in enumerate(sources):
            joined[name, system] = join_tiles([parts.read(_part(number, i)) for number in own])
    return joined


def _ceiling(ceiling: Any, target: Any, tile: Any, columns: slice, seed: int) -> Any:
    """Return the part of a ceiling that a tile has; what does not fit the target stays as it is, to be refused."""
    if isinstance(ceiling, str) and ceiling == "repeat" and isinstance(tile, xr.DataArray):
        # halves are drawn from rows and seed, the same for all tiles
        return noise_ceiling(tile, random_state=seed, progress=False)
    if isinstance(ceiling, xr.DataArray) and ceiling.sizes.get("neuroid") == target.sizes["neuroid"]:
        return ceiling.isel(neuroid=columns)
    return ceiling


def _part(tile: int, source: int) -> str:
    return f"{tile:05d}-{source:05d}"


def join_tiles(tiles: Sequence[xr.Dataset]) -> xr.Dataset:
    """Join results of the same sources and rows along ``neuroid``.

    Parameters
    ----------
    tiles : sequence of Dataset
        What only some of them have, such as the alpha of neuroids that could be fitted, is NaN in the others.

    Returns
    -------
    Dataset
        With the attrs of the first.
    """
    if len(tiles) == 1:
        return tiles[0]
    out = xr.concat(
        tiles, "neuroid", data_vars="minimal", coords="minimal", compat="override", join="outer", combine_attrs="override"
    )
    return out.assign_attrs(report=report_of_all(tiles))


def report_of_all(parts: Sequence[xr.Dataset]) -> str:
    """Return the report of the first of several results of one call, with the controls that failed in any.

    Parameters
    ----------
    parts : sequence of Dataset

    Returns
    -------
    str
        JSON.
    """
    first, *others = (json.loads(part.attrs["report"]) for part in parts)
    failed = {name: told for report in (*others, first) for name, told in report.get("controls_failed", {}).items()}
    return json.dumps({**first, "controls_failed": failed} if failed else first)


def of_whole(out: xr.Dataset, source: xr.DataArray, target: xr.DataArray) -> xr.Dataset:
    """Write the step that made the tiles anew, for the whole arrays that they are of.

    Parameters
    ----------
    out : Dataset
    source, target : DataArray

    Returns
    -------
    Dataset
    """
    step = provenance(out, verify=False).steps[-1]
    return write_step(out, step["verb"], params=step["params"], inputs={"source": source, "target": target}, seed=step["seed"])


def key_of(
    sources: Mapping[Any, xr.DataArray], targets: Mapping[str, Any], folds: Mapping[Any, Folds], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what decides a result, by argument name, in plain JSON.

    Parameters
    ----------
    sources, targets : mapping of str to DataArray
    folds : mapping of object to Folds
    arguments : mapping
        All others. Arrays are named by their content, estimators by their class and parameters.

    Returns
    -------
    dict
    """
    sides = {"source": {str(k): _mark(x) for k, x in sources.items()}, "target": {k: _mark(x) for k, x in targets.items()}}
    return {
        **{name: next(iter(marks.values())) if len(marks) == 1 else marks for name, marks in sides.items()},
        "cv": hash_array(np.array([repr([_named(each) for each in folds.values()])])),
        "tiles": hash_array(np.array([repr(tiles_of(targets))])),
        **{name: _named(value) for name, value in arguments.items()},
    }


def _named(value: Any) -> Any:
    if isinstance(value, xr.DataArray):
        return _mark(value)
    if isinstance(value, Folds):
        rows = value.presentations["stimulus_id"].to_numpy().astype(object)
        return [list(value.names), value.gap_s, hash_array(value.fold), hash_array(rows)]
    if isinstance(value, Mapping):
        return {str(name): _named(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    if is_dataclass(value):
        return {field.name: _named(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Metric):
        return value.name
    if hasattr(value, "get_params"):
        return json.dumps([type(value).__name__, _named(value.get_params(deep=False))])
    return plain(value)


def _mark(x: Any) -> Any:
    """Name an array by its values and labels; one that is lazy by how it was made, and by the values of its first neuroid."""
    if not isinstance(x, xr.DataArray):
        return plain(x)
    labels = [(name, hash_array(values)) for dim in x.dims for name, values in sorted(coords_of(x, str(dim)).items())]
    if is_lazy(x):
        made = provenance(x, verify=False)
        steps = [(step["verb"], step["params"]) for step in all_steps(made.steps)]
        values = repr([made.fingerprint, steps, x.shape, x.dtype.str, hash_array(x[:, :1].values)])
    else:
        values = fingerprint(x)
    return hash_array(np.array([repr(labels), values]))
