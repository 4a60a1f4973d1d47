"""fMRI in grayordinates from CIFTI-2, one row a volume or a map, one neuroid a grayordinate or a parcel."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, first_bytes, is_path, naming, reading, record_opening
from brainalign.adapters.fmri.grayordinates import PREFIX, columns_of, grid_of_axis, is_parcellated, places_of, structures_of
from brainalign.adapters.fmri.runs import common_tr, map_rows, run_files, run_names, run_rows, stated_tr
from brainalign.adapters.joining import joined
from brainalign.adapters.lazy import Spans, lazy_array, leading
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_number, did_you_mean, preview
from brainalign.core.responses import responses

_UNNAMED = ("", "???")  # names of what no region was given to
_INTENTS = range(3000, 3100)  # of a NIfTI-2 header: some CIFTI


def open_cifti(
    path: Any,
    *,
    system: str,
    structures: Sequence[str] | None = None,
    labels: Any = None,
    tr_s: float | None = None,
    override_tr: bool = False,
    run: str | Sequence[str] | None = None,
    first_onset_s: float = 0.0,
    subject: str | None = None,
    session: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open dense or parcellated data from CIFTI-2 files, one row a volume (or a map), one neuroid a grayordinate or a parcel.

    Parameters
    ----------
    path : str, Path or list of them
        ``*.dtseries.nii``, ``*.dscalar.nii``, ``*.ptseries.nii``, ``*.pscalar.nii``; several are runs on the same grayordinates.
    system : str
        Whose brain this is.
    structures : sequence of str, optional
        Which of the structures to take (``"CORTEX_LEFT"``, ``"THALAMUS_RIGHT"``), of dense files. None takes all.
    labels : str or Path, optional
        ``*.dlabel.nii`` with one map: its names become ``region``, matched by structure and vertex or voxel. Grayordinates of
        key 0, named ``???`` or not in it are left out.
    tr_s : float, seconds, optional
        Time from one volume to the next. Default: ``RepetitionTime`` of the json beside the file, else the step of its series.
    override_tr : bool
        ``tr_s`` holds even where the sidecar or the file say otherwise.
    run : str or sequence of str, optional
        Names of the runs, one a file. Default: the ``run-`` entity of each file name; ``"1"`` for a single file.
    first_onset_s : float, seconds
        When the first volume of each run was recorded, on the clock of its events; where a series starts in its file is not
        looked at.
    subject, session : str, optional
    units : str, optional
        Physical unit of the values.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        Lazy: in the file, time runs fastest, so a block holds some grayordinates and all volumes. Dense: ``neuroid_id`` is the
        column in the file, with the coordinates ``structure``, ``hemisphere`` and ``vertex`` on surfaces (elsewhere "" and -1),
        ``x_mm y_mm z_mm`` and ``voxel_i voxel_j voxel_k`` in volumes (elsewhere NaN and -1); the medial wall is not there, as in
        the file. Parcellated: ``neuroid_id`` and ``region`` are the parcel. Volumes are named as by :func:`open_images`; maps by
        their name, without onsets. The attr ``grid`` (JSON) holds all brain models, each with its full number of vertices.

    Raises
    ------
    FormatError
        A damaged file, another kind of CIFTI, a series that is not in seconds, runs on other grayordinates, undeclared NaN.
    ParameterError
        No such structure, or runs without names.
    OptionalDependencyError
        nibabel is not installed.
    """
    files = run_files(path)
    names = run_names(run, files)
    images = [_load(file) for file in files]
    first = images[0]
    _check_same(images)
    keep, regions = _selection(first, structures, labels)
    stated = [_repetition_time(image, tr_s, override_tr) for image in images]
    timed = [(image.file, step) for image, step in zip(images, stated, strict=True) if step is not None]
    step = common_tr(*zip(*timed, strict=True)) if timed else None
    start = check_number("first_onset_s", first_onset_s, owner="open_cifti")
    constant = {"subject": subject, "session": session}
    lengths = [image.shape[0] for image in images]
    ids, rows = (
        run_rows(names, lengths, step, start, constant) if step else map_rows(names, [image.maps for image in images], constant)
    )
    columns = columns_of(first.brain, keep)
    with naming(repr(files[0].name)):
        x = responses(
            _values(images, keep, allow_nan), stimulus_id=ids, presentation=rows, neuroid=columns, region=regions, system=system,
            neuroid_id=columns.pop("neuroid_id"), modality="fmri", units=units, sampling_rate_hz=1.0 / step if step else None,
            allow_nan=allow_nan,
        )  # fmt: skip
    x.attrs["grid"] = json.dumps({"kind": "cifti", **grid_of_axis(first.brain)})
    scales = [image.stored[3:] for image in images]
    params = {"tr_s": step, "override_tr": override_tr, "run": names, "index_base": 0, "scale": scales, "structures": structures}
    labelled = None if labels is None else Path(labels).name
    return record_opening(x, "cifti", [file.name for file in files], {**params, "labels": labelled})


@dataclass(frozen=True, eq=False)
class _Image:
    """What a file says before its values are read."""

    file: Path
    series: Any  # nibabel axis of the rows
    brain: Any  # and of the columns
    maps: tuple[str, ...]  # their names, where the rows are maps
    stored: tuple[Any, ...]  # shape, dtype, offset, slope and intercept, as nibabel's ArrayProxy takes them

    @property
    def shape(self) -> tuple[int, int]:
        return self.stored[0]


def _load(file: Path) -> _Image:
    nibabel = require("nibabel", extra="fmri", purpose="reading CIFTI-2")
    if not is_cifti(file):
        raise FormatError(f"{str(file)!r} is no uncompressed CIFTI-2 file. Expected .dtseries.nii or like it: decompress it.")
    with reading(file, "CIFTI-2"):
        image = nibabel.load(file)
        data, header = image.dataobj, image.header
        promised = data.offset + int(np.prod(image.shape, dtype=object)) * data.dtype.itemsize
        if promised > file.stat().st_size:  # before any axis of that length is made
            raise FormatError(
                f"{str(file)!r} has {file.stat().st_size} bytes; its header promises {promised} (shape {image.shape}, {data.dtype}). Expected "
                "a whole file: it is truncated, copy it again."
            )
        axes = [header.get_axis(i) for i in range(len(image.shape))]
        kinds = [type(axis).__name__.removesuffix("Axis") for axis in axes]
        named = header.matrix.get_index_map(0).named_maps if kinds[0] == "Scalar" else ()
        maps = tuple(str(each.map_name or "") for each in named)
        volume = header.matrix.get_index_map(1).volume if len(axes) > 1 else None
    if len(axes) != 2 or kinds[1] not in ("BrainModel", "Parcels") or kinds[0] not in ("Series", "Scalar", "Label"):
        raise FormatError(
            f"{str(file)!r} is CIFTI of {' × '.join(kinds)}. Expected a series, maps or labels × grayordinates or parcels."
        )
    if tuple(map(len, axes)) != image.shape or data.dtype.kind not in "iuf":
        raise FormatError(
            f"{str(file)!r} holds {data.dtype} of shape {image.shape}, and its axes {kinds} promise {tuple(map(len, axes))}. Expected real "
            "numbers, as many as the axes name: its header is damaged."
        )
    if volume is not None and axes[1].affine is not None:  # nibabel takes every affine for one in mm
        exponent = volume.transformation_matrix_voxel_indices_ijk_to_xyz.meter_exponent
        axes[1].affine = np.diag([10.0 ** (exponent + 3)] * 3 + [1.0]) @ axes[1].affine if exponent != -3 else axes[1].affine
    return _Image(file, *axes, maps, (image.shape, data.dtype, int(data.offset), float(data.slope), float(data.inter)))


def _check_same(images: list[_Image]) -> None:
    for image in images:
        if type(image.series).__name__ == "LabelAxis":
            raise FormatError(f"{str(image.file)!r} is a label map, not a recording. Expected values: pass it as `labels=`.")
        if type(image.series) is not type(images[0].series) or image.brain != images[0].brain:
            raise FormatError(
                f"{str(image.file)!r} holds {_said(image)} and {str(images[0].file)!r} {_said(images[0])}, and they differ. Runs must hold the "
                "same kind of rows on the same grayordinates or parcels: open them one by one."
            )


def _said(image: _Image) -> str:
    return f"{type(image.series).__name__.removesuffix('Axis').lower()} × {image.shape[1]} {'parcels' if is_parcellated(image.brain) else 'grayordinates'}"


def _repetition_time(image: _Image, tr_s: float | None, override: bool) -> float | None:
    series = image.series
    if type(series).__name__ != "SeriesAxis":
        return None
    if series.unit != "SECOND":
        raise FormatError(f"{str(image.file)!r} holds a series in {series.unit}. Expected SECOND: time is what events are in.")
    header = series.step if np.isfinite(series.step) and series.step > 0 else None
    return stated_tr(image.file, tr_s, override, header_s=header, header=f"series step {series.step:g} s", owner="open_cifti")


def _selection(image: _Image, structures: Sequence[str] | None, labels: Any) -> tuple[np.ndarray[Any, Any], Any]:
    """Return which columns to take, and the region of each (None without labels)."""
    keep = np.arange(image.shape[1])
    if (structures is not None or labels is not None) and is_parcellated(image.brain):
        raise ParameterError(
            f"`structures` and `labels` choose grayordinates, and {str(image.file)!r} holds parcels. Leave them out."
        )
    if structures is not None:
        asked = [str(name).upper().removeprefix(PREFIX) for name in ([structures] if isinstance(structures, str) else structures)]
        there = structures_of(image.brain)
        for name in asked:
            if name not in there:
                known = pd.unique(there).tolist()
                raise ParameterError(
                    f"{str(image.file)!r} has no structure {name!r}.{did_you_mean(name, known)} It has {', '.join(known)}."
                )
        keep = np.flatnonzero(np.isin(there.astype(str), asked))
    if labels is None:
        return keep, None
    regions = _regions(image, _load(existing(labels)))[keep]
    named = ~np.isin(regions.astype(str), _UNNAMED)
    if not named.any():
        raise FormatError(f"{str(labels)!r} names none of the {keep.size} grayordinates of {str(image.file)!r}. Expected some.")
    return keep[named], regions[named]


def _regions(image: _Image, atlas: _Image) -> np.ndarray[Any, Any]:
    """Return the name of the label of each grayordinate, found by structure and vertex or voxel; "" where there is none."""
    if type(atlas.series).__name__ != "LabelAxis" or is_parcellated(atlas.brain) or len(atlas.series) != 1:
        raise FormatError(
            f"{str(atlas.file)!r} holds {len(atlas.series)} × {_said(atlas)}. Expected a dense label map, just one."
        )
    one, other = image.brain, atlas.brain
    sizes = {name: (n, one.nvertices[name]) for name, n in other.nvertices.items() if one.nvertices.get(name, n) != n}
    volumes = one.volume_shape and other.volume_shape
    moved = volumes and (one.volume_shape != other.volume_shape or not np.allclose(one.affine, other.affine, atol=1e-3))
    if sizes or moved:
        what = f"have other numbers of vertices ({sizes})" if sizes else "lie in other volumes"
        raise FormatError(f"{str(atlas.file)!r} and {str(image.file)!r} {what}. Expected one space: resample the labels.")
    keys = np.asarray(_Read(atlas.file, atlas.stored, np.arange(atlas.shape[1]), True)((slice(0, 1), slice(0, atlas.shape[1]))))[
        0
    ].astype(np.int64)
    table = {int(key): str(name) for key, (name, _) in atlas.series.label[0].items()}
    unknown = [int(key) for key in np.unique(keys) if int(key) not in table and key != 0]
    if unknown:
        raise FormatError(
            f"{str(atlas.file)!r} holds the keys {preview(unknown)}, which its label table does not name. Mend the table."
        )
    names = pd.Series([{**table, 0: ""}[int(key)] for key in keys], index=places_of(other), dtype=object)
    return names.reindex(places_of(one), fill_value="").to_numpy()


def _values(images: list[_Image], keep: np.ndarray[Any, Any], allow_nan: bool) -> Any:
    """Return (volume, grayordinate) as a dask array, cut along grayordinates, as they lie in the file."""
    blocks = []
    for image in images:
        shape = (image.shape[0], keep.size)
        chunks = leading(shape[::-1], 4)[::-1]
        read = _Read(image.file, image.stored, keep, allow_nan)
        blocks.append(lazy_array(read, shape, np.float32, files=[image.file], what="CIFTI-2", chunks=chunks))
    return joined(blocks)


@dataclass(frozen=True, eq=False)
class _Read:
    """Reads the wanted columns, from the first to the last of a block."""

    file: Path
    stored: tuple[Any, ...]
    keep: np.ndarray[Any, Any]
    allow_nan: bool

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        nibabel = require("nibabel", extra="fmri", purpose="reading CIFTI-2")
        columns = self.keep[spans[1]]
        low, high = (int(columns.min()), int(columns.max()) + 1) if columns.size else (0, 0)
        slab = nibabel.arrayproxy.ArrayProxy(self.file, self.stored, mmap=False)[spans[0], low:high]
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
            out = np.asarray(slab[:, columns - low], dtype=np.float32)
        if not (self.allow_nan or np.isfinite(out).all()):
            check_finite(out, str(self.file), [f"column {column}" for column in columns], False, first_row=spans[0].start)
        return out


def is_cifti(path: Path) -> bool:
    """Return True where a file has the header of CIFTI-2: NIfTI-2 with an intent of its own.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    start = first_bytes(path, 508)
    orders: tuple[Any, ...] = ("little", "big")
    return start[4:8] == b"n+2\0" and any(int.from_bytes(start[504:508], order) in _INTENTS for order in orders)


def _matches(source: Any) -> str:
    """NIfTI-2 with an intent of CIFTI."""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    return "it is NIfTI-2 with an intent of CIFTI" if is_path(first) and is_cifti(Path(first)) else ""


adapter = Format("cifti", _matches, open_cifti)
