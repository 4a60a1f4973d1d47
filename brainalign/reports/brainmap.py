"""``to_brain``: a value per neuroid written back as the brain image that its recording came from."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError, SchemaError, require
from brainalign.core.grids import grid_of, unpack_indices
from brainalign.core.parameters import check_number, preview
from brainalign.reports.writing import write_whole

_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight"}
_PREFIX = "CIFTI_STRUCTURE_"
_SHORTEST_TR_S = 0.05  # less would be taken for seconds


def to_brain(
    values: xr.DataArray, path: str | os.PathLike[str], *, like: xr.DataArray | None = None, fill: float = np.nan
) -> tuple[Path, ...]:
    """Write values per neuroid as NIfTI, GIFTI or CIFTI-2, on the grid that the recording was opened from.

    Parameters
    ----------
    values : DataArray, (neuroid) or (any one dim, neuroid)
        Scores, ceilings, responses. A further dim (layers, folds, presentations) becomes volumes, arrays or rows; a dim in
        regular time becomes a series.
    path : path-like
        ``.nii`` or ``.nii.gz`` for volumes; ``.func.gii`` or ``.shape.gii`` for surfaces, where ``_hemi-L`` and ``_hemi-R`` are
        put before the suffix; ``.dscalar.nii`` or ``.dtseries.nii`` for grayordinates, ``.pscalar.nii`` or ``.ptseries.nii`` for
        parcels. Written whole or not at all; a file of that name is replaced.
    like : DataArray, optional
        Responses of the same brain, where the values themselves carry no grid.
    fill : float
        Where there is no neuroid.

    Returns
    -------
    tuple of Path
        What was written: one file, or one a hemisphere. Values are float32.

    Raises
    ------
    CapabilityError
        There is no grid: the recording was not opened from a brain image.
    SchemaError
        Neuroids that are named twice, or do not lie on the grid.
    ParameterError
        Several systems at once, more than one further dim, or a suffix of another format.

    Examples
    --------
    >>> import tempfile
    >>> grid = {"kind": "nifti", "shape": [2, 2, 1], "affine": np.eye(4).tolist(), "order": "C"}
    >>> scores = xr.DataArray([0.5, 0.25], dims="neuroid", coords={"neuroid_id": ("neuroid", [0, 3], {"grid": json.dumps(grid)})})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in to_brain(scores, folder + "/scores.nii.gz")]
    ['scores.nii.gz']
    """
    grid = _grid(values, like)
    check_number("fill", 0.0 if isinstance(fill, float) and np.isnan(fill) else fill, owner="to_brain")
    maps, names, step = _maps(values)
    target = Path(path)
    files = _BUILDERS[grid["kind"]](grid, maps, values.coords["neuroid_id"].values, names, step, target, fill)
    return tuple(write_whole(file, content, owner="to_brain") for file, content in files.items())


def _grid(values: Any, like: Any) -> dict[str, Any]:
    """Return the grid, after asking whether the values are one map (or several) of one brain."""
    if not isinstance(values, xr.DataArray) or "neuroid" not in values.dims or "neuroid_id" not in values.coords:
        what = f"a {type(values).__name__}" + (f" with dims {values.dims}" if isinstance(values, xr.DataArray) else "")
        raise ParameterError(
            f"to_brain got {what}. Expected a DataArray with a neuroid dim and its names, such as `result.score`."
        )
    systems = pd.unique(values.coords["system"].values.astype(object)) if "system" in values.coords and values.system.ndim else []
    if len(systems) > 1:
        raise ParameterError(
            f"to_brain got values of {len(systems)} systems ({preview(systems)}). Expected one brain: choose it, "
            f"`values[..., values.system == {str(systems[0])!r}]`."
        )
    text = grid_of(values if like is None else like)
    if text is None:
        raise CapabilityError(
            f"to_brain got {'values' if like is None else '`like`'} without the attr `grid`, which says where neuroids lie. Expected what was "
            "made from responses that were opened from NIfTI, GIFTI or CIFTI: pass those as `like=`."
        )
    grid = json.loads(text)
    return grid if "kind" in grid else {"kind": "nifti", **grid}


def _maps(values: xr.DataArray) -> tuple[np.ndarray[Any, Any], list[str], tuple[float, float] | None]:
    """Return (map, neuroid) as float32, the name of each map, and (start, step) in seconds where they are a series."""
    others = [str(dim) for dim in values.dims if dim != "neuroid"]
    if len(others) > 1:
        raise ParameterError(
            f"to_brain got values with dims {values.dims}. Expected neuroid and at most one more: choose with `isel`, or average."
        )
    array = np.asarray(values.transpose(..., "neuroid").values)
    if array.dtype.kind not in "iufb":
        raise ParameterError(f"to_brain got values of dtype {array.dtype}. Expected numbers.")
    if not others:
        return array[None].astype(np.float32), [str(values.name or "map")], None
    label = "stimulus_id" if others[0] == "presentation" else others[0]
    named = values.coords[label].values.tolist() if label in values.coords else range(len(array))
    times = values.coords.get("onset_s" if others[0] == "presentation" else "time")
    return array.astype(np.float32), [str(name) for name in named], None if times is None else _series(times.values)


def _series(times: np.ndarray[Any, Any]) -> tuple[float, float] | None:
    if times.ndim != 1 or len(times) < 2:
        return None
    step = float((times[-1] - times[0]) / (len(times) - 1))
    regular = step > 0 and np.allclose(np.diff(times), step, rtol=1e-6, atol=0)
    return (float(times[0]), round(step, 9)) if regular else None


def _placed(maps: np.ndarray[Any, Any], at: np.ndarray[Any, Any], ids: Any, size: int, fill: float) -> np.ndarray[Any, Any]:
    """Return (map, place): the values at their places, ``fill`` elsewhere."""
    outside = np.flatnonzero((at < 0) | (at >= size))
    if outside.size:
        raise SchemaError(
            f"neuroids {preview(ids[outside])} do not lie on the grid, which has {size} places. Expected neuroids of the recording that the "
            "grid is of, named as they were opened."
        )
    twice = np.flatnonzero(pd.Series(at).duplicated())
    if twice.size:
        raise SchemaError(
            f"neuroids {preview(ids[twice])} are there more than once. Expected one value for each place: choose one."
        )
    out = np.full((len(maps), size), fill, dtype=np.float32)
    out[:, at] = maps
    return out


def _numbers(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return ids.astype(np.int64) if ids.dtype.kind in "iu" else np.full(len(ids), -1)


def _check_suffix(path: Path, *suffixes: str) -> None:
    if not path.name.endswith(suffixes):
        raise ParameterError(
            f"The 'path' parameter of to_brain must end with {' or '.join(suffixes)} for these values. Got {path.name!r} instead."
        )


def _nifti(grid: Mapping[str, Any], maps: Any, ids: Any, names: Any, step: Any, path: Path, fill: float) -> dict[Path, bytes]:
    nibabel = require("nibabel", extra="fmri", purpose="writing NIfTI")
    _check_suffix(path, ".nii", ".nii.gz")
    shape = tuple(grid["shape"])
    placed = _placed(maps, _numbers(ids), ids, int(np.prod(shape)), fill).reshape(len(maps), *shape, order=grid["order"])
    image = nibabel.Nifti1Image(np.moveaxis(placed, 0, -1) if len(maps) > 1 else placed[0], np.array(grid["affine"]))
    image.header.set_xyzt_units("mm", "sec" if step else None)
    if step:
        image.header.set_zooms((*image.header.get_zooms()[:3], step[1]))
    content = image.to_bytes()
    return {path: gzip.compress(content, mtime=0) if path.name.endswith(".gz") else content}


def _gifti(grid: Mapping[str, Any], maps: Any, ids: Any, names: Any, step: Any, path: Path, fill: float) -> dict[Path, bytes]:
    gifti = require("nibabel", extra="fmri", purpose="writing GIFTI").gifti
    _check_suffix(path, ".gii")
    sizes = {str(side): int(n) for side, n in grid["n_vertices"].items()}
    first = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    found = [re.fullmatch(r"([LR])(\d+)", str(name)) for name in ids]
    at = [first[m[1]] + int(m[2]) if m and m[1] in sizes and int(m[2]) < sizes[m[1]] else -1 for m in found]
    placed = _placed(maps, np.array(at, dtype=np.int64), ids, sum(sizes.values()), fill)
    stem, suffix = re.fullmatch(r"(.*?)((?:\.(?:func|shape|time))?\.gii)", re.sub(r"_hemi-[LR]", "", path.name)).groups()  # type: ignore[union-attr]
    intent = "NIFTI_INTENT_TIME_SERIES" if step else "NIFTI_INTENT_NONE"
    files = {}
    for side, size in sizes.items():
        meta = {"AnatomicalStructurePrimary": _STRUCTURES[side]}
        if step and step[1] >= _SHORTEST_TR_S:
            meta["TimeStep"] = f"{step[1] * 1000:.6f}"  # ms, as FreeSurfer
        image = gifti.GiftiImage(meta=gifti.GiftiMetaData(meta))
        for row, name in zip(placed[:, first[side] : first[side] + size], names, strict=True):
            array = gifti.GiftiDataArray(np.ascontiguousarray(row), intent=intent, datatype="NIFTI_TYPE_FLOAT32")
            array.meta = gifti.GiftiMetaData({"Name": name})
            image.add_gifti_data_array(array)
        files[path.with_name(f"{stem}_hemi-{side}{suffix}")] = image.to_bytes()
    return files


def _cifti(grid: Mapping[str, Any], maps: Any, ids: Any, names: Any, step: Any, path: Path, fill: float) -> dict[Path, bytes]:
    cifti = require("nibabel", extra="fmri", purpose="writing CIFTI-2").cifti2
    letter, what = ("p", "PARCELLATED") if "parcels" in grid else ("d", "DENSE")
    _check_suffix(path, f".{letter}scalar.nii", *([f".{letter}tseries.nii"] if step else []))
    brain = _parcels(cifti, grid) if "parcels" in grid else _models(cifti, grid)
    at = pd.Index(brain.name).get_indexer(ids.astype(object)) if "parcels" in grid else _numbers(ids)
    placed = _placed(maps, at, ids, len(brain), fill)
    series = path.name.endswith("tseries.nii")
    rows = cifti.SeriesAxis(*step, len(maps), "SECOND") if series else cifti.ScalarAxis(names)
    image = cifti.Cifti2Image(placed, (rows, brain))
    ending = "SERIES" if series else "SCALAR" if letter == "p" else "SCALARS"
    image.nifti_header.set_intent(f"NIFTI_INTENT_CONNECTIVITY_{what}_{ending}")
    return {path: image.to_bytes()}


def _space(grid: Mapping[str, Any]) -> dict[str, Any]:
    """Return what both kinds of axis know of their surfaces and their volume."""
    volume = {"volume_shape": tuple(grid["shape"]), "affine": np.array(grid["affine"])} if "shape" in grid else {}
    return {"nvertices": {_PREFIX + name: n for name, n in grid["n_vertices"].items()}, **volume}


def _voxels(runs: list[int], grid: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    if not runs:
        return np.zeros((0, 3), dtype=np.int64)
    return np.stack(np.unravel_index(unpack_indices(runs), grid["shape"], order="F"), axis=1)


def _models(cifti: Any, grid: Mapping[str, Any]) -> Any:
    structure, vertex, voxel = [], [], []
    for model in grid["models"]:
        at, ijk = unpack_indices(model.get("vertices", [])), _voxels(model.get("voxels", []), grid)
        n = len(at) + len(ijk)
        structure += [_PREFIX + model["structure"]] * n
        vertex.append(at if len(at) else np.full(n, -1))
        voxel.append(ijk if len(ijk) else np.full((n, 3), -1))
    return cifti.BrainModelAxis(structure, voxel=np.concatenate(voxel), vertex=np.concatenate(vertex), **_space(grid))


def _parcels(cifti: Any, grid: Mapping[str, Any]) -> Any:
    vertices = [{_PREFIX + name: unpack_indices(at) for name, at in parcel["vertices"].items()} for parcel in grid["parcels"]]
    voxels = [_voxels(parcel["voxels"], grid) for parcel in grid["parcels"]]
    return cifti.ParcelsAxis([parcel["name"] for parcel in grid["parcels"]], voxels, vertices, **_space(grid))


_BUILDERS: Mapping[str, Any] = {"nifti": _nifti, "gifti": _gifti, "cifti": _cifti}
