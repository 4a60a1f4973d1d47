"""fMRI volumes from NIfTI, masked or labelled by region, one row a volume; and tables of events."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import MISSING, numeric_columns, read_table, require_columns
from brainalign.adapters.files import (
    Format,
    check_finite,
    existing,
    first_bytes,
    is_path,
    naming,
    reading,
    record_opening,
)
from brainalign.adapters.fmri.runs import common_tr, run_names, run_rows, stated_tr
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_number, preview
from brainalign.core.responses import responses

_GRID_TOLERANCE_MM = 1e-3
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}


def open_images(
    path: Any,
    *,
    system: str,
    mask: Any = None,
    labels: Any = None,
    region_names: Mapping[int, str] | None = None,
    tr_s: float | None = None,
    override_tr: bool = False,
    run: str | Sequence[str] | None = None,
    first_onset_s: float = 0.0,
    subject: str | None = None,
    session: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open fMRI runs from NIfTI files, one row a volume and one neuroid a voxel.

    Parameters
    ----------
    path : str, Path or list of them
        4-D images, (x, y, z, volume); several are runs of one person on one grid.
    system : str
        Whose brain this is.
    mask : str, Path, nibabel image or ndarray of bool, (x, y, z), optional
        Voxels to take. An image must hold 0 and 1 only, on the grid of the runs: apply a threshold of your own
        first and pass the boolean array. None takes every voxel.
    labels : str, Path or nibabel image, (x, y, z), optional
        Integer label image on the same grid; label 0 is left out, the others become ``region``.
    region_names : mapping of int to str, optional
        A name for each label that occurs; required with ``labels``.
    tr_s : float, seconds, optional
        Time from one volume to the next. Default: ``RepetitionTime`` of the json beside the image, else the header.
    override_tr : bool
        ``tr_s`` holds even where the sidecar or the header say otherwise.
    run : str or sequence of str, optional
        Names of the runs, one a file. Default: the ``run-`` entity of each file name; ``"1"`` for a single file.
    first_onset_s : float, seconds
        When the first volume of each run was recorded, on the clock of its events.
    subject, session : str, optional
    units : str, optional
        Physical unit of the values, after ``scl_slope`` and ``scl_inter`` were applied.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        ``stimulus_id`` is ``run-<run>/v<volume>``, ``onset_s`` is ``first_onset_s + volume * TR``. ``neuroid_id`` is the flat
        index of the voxel (C order); ``x_mm y_mm z_mm`` come from the affine. The attr ``grid`` (JSON: ``shape``,
        ``affine``, ``order``) is what a map needs to be written back.

    Raises
    ------
    FormatError
        Damaged file; two statements of TR that differ; grids that differ; undeclared NaN.
    ParameterError
        Runs without names, labels without names.
    OptionalDependencyError
        nibabel is not installed.
    """
    files = [existing(item) for item in ([path] if isinstance(path, (str, Path)) else path)]
    names = run_names(run, files)
    images = [_load(file) for file in files]
    _same_grid(files, images)
    step = common_tr(files, [_repetition_time(file, image, tr_s, override_tr) for file, image in zip(files, images, strict=True)])
    keep, regions = _selection(images[0], files[0], mask, labels, region_names)
    lengths = [image.shape[3] for image in images]
    values = _values(files, images, keep, allow_nan)
    start = check_number("first_onset_s", first_onset_s, owner="open_images")
    ids, rows = run_rows(names, lengths, step, start, {"subject": subject, "session": session})
    with naming(repr(files[0].name)):
        x = responses(
            values, neuroid_id=np.flatnonzero(keep), neuroid=_voxels(images[0], keep, regions), presentation=rows,
            stimulus_id=ids, sampling_rate_hz=1.0 / step, system=system, modality="fmri", units=units, allow_nan=allow_nan,
        )  # fmt: skip
    x.attrs["grid"] = json.dumps({"shape": list(keep.shape), "affine": np.asarray(images[0].affine).tolist(), "order": "C"})
    params = {"tr_s": step, "override_tr": override_tr, "run": names, "n_voxels": int(keep.sum()), "mask": _said(mask)}
    return record_opening(x, "nifti", [file.name for file in files], {**params, "labels": _said(labels)})


def read_events(
    path: Any,
    *,
    stimulus_column: str,
    onset_column: str = "onset",
    duration_column: str | None = "duration",
    condition_column: str | None = None,
    run: str | Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read tables of events, BIDS style, as rows of presentations.

    Parameters
    ----------
    path : str, Path or list of them
        Tab- or comma-separated, with a header; several are runs.
    stimulus_column : str
        Which column names the stimulus; there is no default, since ``stim_file``, ``trial_type`` and others are in use.
    onset_column, duration_column : str
        Seconds from the start of the run; ``n/a`` durations become NaN.
    condition_column : str, optional
        Becomes ``condition``.
    run : str or sequence of str, optional
        Names of the runs, one a file. Default: the ``run-`` entity of each file name; ``"1"`` for a single file.

    Returns
    -------
    DataFrame, one row an event, in the order of the files
        ``stimulus_id``, ``onset_s``, ``duration_s``, ``run``, ``condition`` where asked for, and the other columns as strings.

    Raises
    ------
    FormatError
        A column is missing (those that are there are listed), an onset or a stimulus is missing or no number.
    """
    files = [existing(item) for item in ([path] if isinstance(path, (str, Path)) else path)]
    tables = []
    for file, name in zip(files, run_names(run, files), strict=True):
        table, source = read_table(file, header=True), str(file)
        wanted = [column for column in (stimulus_column, onset_column, duration_column, condition_column) if column is not None]
        require_columns(table, wanted, source)
        onsets = numeric_columns(table, [onset_column], source)[:, 0]
        ids = table[stimulus_column].str.strip()
        for what, missing in (("onset", ~np.isfinite(onsets)), ("stimulus", ids.isin(MISSING).to_numpy())):
            if missing.any():
                raise FormatError(
                    f"{source!r} has no {what} in row {int(np.argmax(missing))}. Expected one for each event: drop the row or mend it."
                )
        events: dict[str, Any] = {"stimulus_id": ids, "onset_s": onsets}
        if duration_column is not None:
            events["duration_s"] = numeric_columns(table, [duration_column], source)[:, 0]
        if condition_column is not None:
            events["condition"] = table[condition_column].str.strip()
        rest = {name: table[name] for name in table.columns if name not in {onset_column, duration_column, *events, "run"}}
        tables.append(pd.DataFrame({**events, "run": name, **rest}))
    return pd.concat(tables, ignore_index=True)


def _load(file: Path) -> Any:
    nibabel = require("nibabel", extra="fmri", purpose="reading NIfTI images")
    with reading(file, "NIfTI"):
        image = nibabel.load(file)
        _check_gzip(file)
    if len(image.shape) != 4 or image.shape[3] < 1:
        raise FormatError(
            f"{str(file)!r} has shape {image.shape}. Expected 4 dims, (x, y, z, volume): is it a mask, or a single volume?"
        )
    return image


def _check_gzip(file: Path) -> None:
    """Read a compressed file to its end, where its checksum is: nibabel stops before, and damaged values pass for whole ones."""
    with file.open("rb") as start:
        if start.read(2) != b"\x1f\x8b":
            return
    with gzip.open(file, "rb") as stream:
        while stream.read(2**24):
            pass


def _values(files: list[Path], images: list[Any], keep: np.ndarray, allow_nan: bool) -> np.ndarray:
    """Return (volume, voxel), float32, one run in memory at a time beside the result."""
    parts, voxels = [], np.flatnonzero(keep)
    for file, image in zip(files, images, strict=True):
        with reading(file, "NIfTI"):
            volumes = image.get_fdata(dtype=np.float32, caching="unchanged")
        part = np.ascontiguousarray(volumes[keep].T)
        check_finite(part, str(file), [f"voxel {index}" for index in voxels] if not np.isfinite(part).all() else [], allow_nan)
        parts.append(part)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _same_grid(files: list[Path], images: list[Any]) -> None:
    first = images[0]
    for file, image in zip(files[1:], images[1:], strict=True):
        _check_grid(repr(str(file)), image.shape[:3], image.affine, repr(str(files[0])), first)


def _check_grid(name: str, shape: Any, affine: Any, other: str, image: Any) -> None:
    if tuple(shape) != tuple(image.shape[:3]):
        raise FormatError(
            f"{name} has the grid {tuple(shape)} and {other} {tuple(image.shape[:3])}. Expected one grid: resample one."
        )
    if affine is not None:
        apart = float(np.abs(np.asarray(affine) - np.asarray(image.affine)).max())
        if not apart <= _GRID_TOLERANCE_MM:
            raise FormatError(
                f"{name} and {other} have affines that differ by up to {apart:.4g} mm. Expected one grid (within "
                f"{_GRID_TOLERANCE_MM:g} mm): resample one to the other."
            )


def _volume(source: Any, what: str, file: Path, image: Any) -> tuple[str, np.ndarray]:
    """Return the name and the values of a mask or label image, after its grid was checked."""
    if isinstance(source, np.ndarray):
        name, values, affine = f"the {what} array", source, None
    else:
        nibabel = require("nibabel", extra="fmri", purpose="reading NIfTI images")
        name = repr(str(existing(source))) if isinstance(source, (str, Path)) else f"the {what} image"
        with reading(name, "NIfTI"):
            loaded = nibabel.load(source) if isinstance(source, (str, Path)) else source
            values, affine = np.asanyarray(loaded.dataobj), loaded.affine
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    _check_grid(name, values.shape, affine, repr(str(file)), image)
    return name, values


def _selection(image: Any, file: Path, mask: Any, labels: Any, names: Mapping[int, str] | None) -> tuple[np.ndarray, Any]:
    """Return which voxels to take, and the region of each (None without labels)."""
    keep = np.ones(image.shape[:3], dtype=bool)
    if mask is not None:
        name, values = _volume(mask, "mask", file, image)
        found = np.unique(values)
        if not np.isin(found, [0, 1]).all():
            raise FormatError(
                f"{name} holds {found.size} different values, up to {found[-1]:g}. Expected a mask of 0 and 1: pass the boolean array "
                "`values > threshold`, or use it as `labels=`."
            )
        keep &= values.astype(bool)
    regions = None
    if labels is not None:
        name, values = _volume(labels, "label", file, image)
        if not (values == np.round(values)).all():
            raise FormatError(
                f"{name} holds values that are no whole numbers. Expected a label image: one integer a region, 0 elsewhere."
            )
        keep &= values != 0
        codes = values[keep].astype(np.int64)
        unnamed = [int(code) for code in np.unique(codes) if int(code) not in (names or {})]
        if unnamed:
            raise ParameterError(
                f"{name} holds the labels {preview(unnamed)} without names. Expected `region_names={{label: name}}` for each of them."
            )
        regions = np.array([(names or {})[int(code)] for code in codes], dtype=object)
    if not keep.any():
        raise FormatError(f"the mask or labels leave 0 of {keep.size} voxels of {str(file)!r}. Expected some: look at the mask.")
    return keep, regions


def _voxels(image: Any, keep: np.ndarray, regions: Any) -> dict[str, Any]:
    ijk = np.argwhere(keep)
    xyz = ijk @ np.asarray(image.affine)[:3, :3].T + np.asarray(image.affine)[:3, 3]
    columns: dict[str, Any] = {name: xyz[:, axis] for axis, name in enumerate(("x_mm", "y_mm", "z_mm"))}
    return columns if regions is None else {**columns, "region": regions}


def _repetition_time(file: Path, image: Any, tr_s: float | None, override: bool) -> float:
    zoom, unit = float(image.header.get_zooms()[3]), image.header.get_xyzt_units()[1]
    known = unit in _SECONDS and np.isfinite(zoom) and zoom > 0
    header = f"header zoom {zoom:g} of unit {unit!r}"
    return stated_tr(file, tr_s, override, header_s=zoom * _SECONDS[unit] if known else None, header=header, owner="open_images")


def _said(source: Any) -> Any:
    return (
        Path(source).name
        if isinstance(source, (str, Path))
        else source
        if isinstance(source, np.ndarray) or source is None
        else "image"
    )


def _matches(source: Any) -> str:
    """NIfTI-1 or NIfTI-2 by the magic number of the first file."""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    if not is_path(first):
        return ""
    start = first_bytes(Path(first), 352)
    magic = start[344:348] in (b"n+1\0", b"ni1\0") or start[4:8] in (b"n+2\0", b"ni2\0")
    return "it has the magic number of NIfTI" if magic else ""


adapter = Format("nifti", _matches, open_images)
