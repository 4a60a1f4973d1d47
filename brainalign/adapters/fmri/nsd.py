"""Betas of the Natural Scenes Dataset (NSD): one file a session, stimuli named by the design of the experiment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, existing, naming, reading, record_opening
from brainalign.adapters.fmri.betas import choose_sessions, grid_map, mask_map, names_in, region_of, scaled
from brainalign.adapters.fmri.hdf5voxels import array_shape, lazy_trials
from brainalign.adapters.fmri.nsd_design import TRIALS, read_design
from brainalign.adapters.fmri.volumes import lazy_volumes
from brainalign.adapters.fmri.voxels import grid_json, places_mm
from brainalign.adapters.joining import joined
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_number, preview
from brainalign.core.responses import responses

SCALE = 300.0  # int16 volumes hold 300 times the % signal change
_FILE = re.compile(r"(?:(lh|rh)\.)?betas_session(\d\d)\.(hdf5|mgh)")
_SIDES = {"lh": "L", "rh": "R"}

#: Names of the labels 1, 2, ... in the region images of NSD, by the name of the image.
REGIONS = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
    "nsdgeneral": ("nsdgeneral",),
}


def open_nsd(
    path: Any,
    *,
    design: Any = None,
    subject: int | None = None,
    system: str | None = None,
    sessions: Sequence[int] | None = None,
    mask: Any = None,
    rois: Any = (),
    regions: Sequence[str] | None = None,
    region_names: Mapping[int, str] | None = None,
    ncsnr: Any = None,
    zscore: str | None = None,
) -> xr.DataArray:
    """Open the betas of one subject of NSD, volumes or surfaces.

    Parameters
    ----------
    path : str or Path
        Folder of ``betas_session01.hdf5`` ... (volumes, array ``betas``), or of ``lh.betas_session01.mgh`` and ``rh.`` ...
        (surfaces).
    design : str or Path, optional
        ``nsd_expdesign.mat``. Default: the file of that name in the folder.
    subject : int, optional
        1 to 8. Default: the ``subj01`` in the path.
    system : str, optional
        Default: ``"subj01"``.
    sessions : sequence of int, optional
        Which to open, from 1. Default: all, none missing before the last.
    mask : str, Path, ndarray or list of them, optional
        Voxels or vertices to take, on the grid of the betas: 1 inside, 0 or −1 outside (``brainmask``, ``nsdgeneral``). For
        surfaces one file a hemisphere (``lh.``, ``rh.``), or one array of both. Default: all, also those outside the brain, which are 0.
    rois : str, Path, or list of them
        Label images on the grid of the betas; labels below 1 are no region. Each region becomes the coordinate ``roi_<name>``.
    regions : sequence of str, optional
        Which of their regions to take; they become ``region``. Default: all of ``rois``.
    region_names : mapping of int to str, optional
        Names of the labels of images that are not in :data:`REGIONS`.
    ncsnr : str, Path or list of them, optional
        Noise ceiling signal-to-noise ratio, as of the folder of the betas. Default: ``ncsnr.nii.gz``, or ``lh.ncsnr.mgh`` and
        ``rh.ncsnr.mgh``, where they are there.
    zscore : {None, "session"}
        ``"session"``: mean 0 and standard deviation 1 (divided by n) over the 750 trials of each session, for each neuroid.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy; unit: % signal change
        ``stimulus_id`` is ``nsd-00013``: the image's index among the 73000 counted from 0, as in the names of Algonauts 2023 and in
        ``nsd_stimuli.hdf5``. Presentations carry ``subject``, ``session`` (``"01"``), ``trial`` (from 0, within the session)
        and ``shared1000``. ``neuroid_id`` is the flat index in the volume (x, y, z), C order; of surfaces ``"L731"``,
        with ``hemisphere`` and ``vertex``. With ``ncsnr`` also ``nc_singletrial``.

    Raises
    ------
    FormatError
        A missing session or design, damaged files, another grid, indices that are not counted from 1.
    ParameterError
        No subject, unknown or overlapping regions, labels without names.
    OptionalDependencyError
        h5py or nibabel is not installed.

    Notes
    -----
    NC% = 100 ncsnr² / (ncsnr² + 1/n), n trials averaged; ``nc_singletrial`` is that for n = 1. Source: Allen et al. 2022, Nature
    Neuroscience 25, 116-126, "Noise ceiling estimation".
    """
    folder = Path(path)
    number = _subject(folder, subject)
    files = _files(folder)
    chosen = choose_sessions(files, sessions, folder)
    grid = _grid({session: files[session] for session in chosen})
    ids, shared = read_design(folder / "nsd_expdesign.mat" if design is None else design, number, chosen)
    keep, columns, affine = _neuroids(grid, folder, mask, _listed(rois), regions, region_names, ncsnr)
    values = scaled(_values(grid, keep), [TRIALS] * len(chosen), zscore, owner="open_nsd")
    name = f"subj{number:02d}"
    rows = {
        "subject": [name] * len(ids), "session": np.repeat([f"{session:02d}" for session in chosen], TRIALS).astype(object),
        "trial": np.tile(np.arange(TRIALS), len(chosen)), "shared1000": shared,
    }  # fmt: skip
    units = "z-score within session" if zscore else "% signal change"
    with naming(repr(str(folder))):
        x = responses(
            values, stimulus_id=ids, neuroid_id=columns.pop("neuroid_id"), system=system or name, modality="fmri", units=units,
            presentation=rows, neuroid=columns,
        )  # fmt: skip
    if grid.shape:
        x.attrs["grid"] = grid_json(grid.shape, affine)
    params = {"subject": number, "sessions": chosen, "index_base": 1, "scale": grid.scale, "zscore": zscore, "regions": regions}
    return record_opening(x, "nsd", [file.name for session in chosen for file in files[session].values()], params)


@dataclass(frozen=True)
class _Grid:
    files: dict[int, dict[str, Path]]  # by session and side ("" for volumes)
    shape: tuple[int, ...]  # of the volume, () for surfaces
    sizes: dict[str, int]  # places of each side
    scale: float  # what stored numbers are divided by
    images: dict[int, dict[str, Any]]  # nibabel images of surfaces


def _grid(files: dict[int, dict[str, Path]]) -> _Grid:
    first = next(iter(files.values()))
    if "" in first:
        shapes = {
            file: array_shape(file, "betas", reverse=True, sparse=True, kinds="i")
            for sides in files.values()
            for file in sides.values()
        }
        images: dict[int, dict[str, Any]] = {}
    else:
        images = {session: {side: _surface(file) for side, file in sides.items()} for session, sides in files.items()}
        shapes = {files[session][side]: images[session][side].shape for session in files for side in files[session]}
    grids = {side: shapes[file][:-1] for side, file in first.items()}
    for session, sides in files.items():
        for side, file in sides.items():
            if shapes[file] != (*grids[side], TRIALS) or (side == "" and len(shapes[file]) != 4):
                raise FormatError(
                    f"{str(file)!r} has the shape {shapes[file]}, and {str(first[side])!r} {shapes[first[side]]}. Expected one grid, "
                    f"and the {TRIALS} trials of session {session}: is it of another subject or space, or damaged?"
                )
    sizes = {side: int(np.prod(grid)) for side, grid in grids.items()}
    return _Grid(files, grids.get("", ()), sizes, SCALE if "" in first else 1.0, images)


def _surface(file: Path) -> Any:
    nibabel = require("nibabel", extra="fmri", purpose="reading MGH files")
    with reading(existing(file), "MGH"):
        image = nibabel.load(file)
        promised = int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * image.dataobj.dtype.itemsize
    if len(image.shape) != 4 or min(image.shape) < 1 or image.dataobj.dtype.kind != "f" or file.stat().st_size < promised:
        raise FormatError(
            f"{str(file)!r} has {file.stat().st_size} bytes; its header promises {promised} (shape {image.shape}, {image.dataobj.dtype}). "
            "Expected floats, (vertex, 1, 1, trial), whole: it is truncated or of another kind; copy it again."
        )
    return image


def _values(grid: _Grid, keep: np.ndarray[Any, Any]) -> Any:
    names = np.flatnonzero(keep)
    if grid.shape:
        files = [sides[""] for sides in grid.files.values()]
        places = np.argwhere(keep.reshape(grid.shape))
        return lazy_trials(files, [TRIALS] * len(files), "betas", places, names, reverse=True, scale=SCALE, what="NSD betas")
    sides = np.split(keep, np.cumsum(list(grid.sizes.values()))[:-1])
    parts = [
        [
            lazy_volumes(images[side], part.reshape(images[side].shape[:3]), allow_nan=False)
            for side, part in zip(grid.sizes, sides, strict=True)
            if part.any()
        ]
        for images in grid.images.values()
    ]
    return joined([joined(session, axis=1) for session in parts])


def _neuroids(
    grid: _Grid, folder: Path, mask: Any, rois: list[Any], regions: Any, region_names: Any, ncsnr: Any
) -> tuple[np.ndarray[Any, Any], dict[str, Any], Any]:
    """Return which places to take, their labels, and the affine where an image tells it."""
    affines: list[Any] = []

    def read(source: Any) -> np.ndarray[Any, Any]:
        return _map(grid, source, affines)

    keep = np.ones(sum(grid.sizes.values()), dtype=bool)
    if mask is not None:
        keep = np.any([mask_map(read(source), f"the mask {_said(source)}") for source in _listed(mask)], axis=0)
    members: dict[str, np.ndarray[Any, Any]] = {}
    for source in rois:
        for name, inside in _members(read(source), source, region_names).items():
            members[name] = members.get(name, False) | inside
    columns: dict[str, Any] = {}
    if members:
        within = {name: inside & keep for name, inside in members.items()}
        keep, columns["region"] = region_of(within, regions, f"the 'rois' of {str(folder)!r}")
        columns |= {f"roi_{name}": inside[keep] for name, inside in members.items()}
    elif regions is not None:
        raise ParameterError(f"open_nsd got regions={list(regions)} without `rois=`. Expected the label images that hold them.")
    beside = [folder / (f"{side}.ncsnr.mgh" if side else "ncsnr.nii.gz") for side in grid.sizes]
    files = _listed(ncsnr) or [file for file in beside if all(file.is_file() for file in beside)]
    sides = [Path(file).name[:2] for file in files if not isinstance(file, np.ndarray)]
    if sides and (len(sides) != len(beside) or (not grid.shape and len(set(sides)) < len(sides))):
        raise ParameterError(f"open_nsd got ncsnr={preview(files)}. Expected {len(beside)}: one a volume, or one a hemisphere.")
    if files:
        ratio = np.sum([read(file).astype(np.float64) for file in files], axis=0)[keep]
        columns |= {"ncsnr": ratio, "nc_singletrial": 100.0 * ratio**2 / (ratio**2 + 1.0)}
    at = np.flatnonzero(keep)
    if grid.shape and affines:
        columns |= places_mm(np.stack(np.unravel_index(at, grid.shape), axis=1), affines[0])
    columns["neuroid_id"] = at
    if not grid.shape:
        side = np.repeat([_SIDES[side] for side in grid.sizes], list(grid.sizes.values())).astype(object)[keep]
        vertex = np.concatenate([np.arange(n) for n in grid.sizes.values()])[keep]
        columns |= {"hemisphere": side, "vertex": vertex, "neuroid_id": side + vertex.astype(str).astype(object)}
    return keep, columns, affines[0] if affines else None


def _map(grid: _Grid, source: Any, affines: list[Any]) -> np.ndarray[Any, Any]:
    """Return a map on all places; a surface file fills those of its hemisphere."""
    first = next(iter(next(iter(grid.files.values())).values()))
    if grid.shape or isinstance(source, np.ndarray):
        values, affine = grid_map(source, grid.shape or (sum(grid.sizes.values()),), first)
        affines += [] if affine is None else [affine]
        return values
    side = Path(source).name[:2]
    if side not in grid.sizes:
        raise ParameterError(
            f"{_said(source)} is a map of a surface. Expected a name that starts with {preview(grid.sizes)} and a dot."
        )
    out, start = np.zeros(sum(grid.sizes.values())), 0
    for name, size in grid.sizes.items():
        if name == side:
            out[start : start + size] = grid_map(source, (size,), first)[0]
        start += size
    return out


def _members(labels: np.ndarray[Any, Any], source: Any, region_names: Any) -> dict[str, np.ndarray[Any, Any]]:
    if isinstance(source, np.ndarray):
        raise ParameterError(
            f"open_nsd got rois= an {_said(source)}. Expected label images, whose names say what their numbers stand for."
        )
    stem = re.sub(r"^(lh|rh)\.|\.(nii|nii\.gz|mgz|mgh)$", "", Path(source).name)
    names = dict(enumerate(REGIONS.get(stem, ()), 1)) | dict(region_names or {})
    codes = np.unique(labels[labels >= 1])
    unnamed = [f"{code:g}" for code in codes if code not in names]
    if unnamed:
        raise ParameterError(
            f"{_said(source)} holds the labels {preview(unnamed)} without names. Expected `region_names={{label: name}}` for each of them."
        )
    return {names[int(code)]: labels == code for code in codes}


def _files(folder: Path) -> dict[int, dict[str, Path]]:
    """Return the files of each session, by side."""
    if not folder.is_dir():
        raise FormatError(f"there is no folder {str(folder)!r}. Expected the folder of the betas of one subject and version.")
    found: dict[int, dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        match = _FILE.fullmatch(file.name)
        if match and (match[1] is None) == (match[3] == "hdf5"):
            found.setdefault(int(match[2]), {})[match[1] or ""] = file
    sides = {side for session in found.values() for side in session}
    if not found or ("" in sides and len(sides) > 1):
        held = "volumes and surfaces" if found else f"no betas that are read ({preview(names_in(folder))})"
        raise FormatError(
            f"{str(folder)!r} holds {held}. Expected betas_session01.hdf5 ... (of .nii.gz there is an .hdf5 too), or "
            "lh.betas_session01.mgh ... and rh.betas_session01.mgh ..., of one version."
        )
    for session, files in found.items():
        if set(files) != sides:
            lacking = ", ".join(sorted(sides - set(files)))
            raise FormatError(f"{str(folder)!r} lacks {lacking} of session {session}. Expected both hemispheres: copy it too.")
    return found


def _subject(folder: Path, subject: int | None) -> int:
    if subject is not None:
        return int(check_number("subject", subject, owner="open_nsd", low=1, high=8, integer=True))
    found = re.findall(r"(?<![A-Za-z0-9])subj0([1-8])(?![0-9])", str(folder.absolute()))
    if not found:
        raise ParameterError(
            f"the path {str(folder)!r} names no subject. Expected a folder subj01 ... subj08 in it, or `subject=1` ... 8."
        )
    return int(found[-1])


def _listed(source: Any) -> list[Any]:
    return [] if source is None else list(source) if isinstance(source, (list, tuple)) else [source]


def _said(source: Any) -> str:
    return f"array of shape {source.shape}" if isinstance(source, np.ndarray) else repr(str(source))


def _matches(source: Any) -> str:
    """Files of betas by session in a folder, as NSD names them."""
    return "a folder of betas_sessionNN files: NSD" if any(map(_FILE.fullmatch, names_in(source))) else ""


adapter = Format("nsd", _matches, open_nsd)
