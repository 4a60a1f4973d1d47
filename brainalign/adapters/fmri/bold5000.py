"""BOLD5000: volumes of betas by session, or responses by region, with the list of images that were shown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.delimited import read_ids
from brainalign.adapters.files import Format, check_finite, existing, naming, narrowed, record_opening
from brainalign.adapters.fmri.betas import choose_sessions, grid_map, image_ids, mask_map, names_in, scaled
from brainalign.adapters.fmri.hdf5voxels import first_key
from brainalign.adapters.fmri.volumes import lazy_volumes, load_image
from brainalign.adapters.fmri.voxels import grid_json, places_mm
from brainalign.adapters.hdf5 import open_hdf5
from brainalign.adapters.joining import joined
from brainalign.adapters.lazy import open_npy
from brainalign.adapters.matfile import is_mat, read_mat
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.responses import responses

REGIONS = tuple(side + region for region in ("EarlyVis", "LOC", "OPA", "PPA", "RSC") for side in ("LH", "RH"))
TRIALS_PER_RUN = 37
_BETAS = re.compile(r"(CSI[1-4])_GLMbetas-([A-Z-]+)_(?:ses-(\d\d)\.nii(?:\.gz)?|allses_([LR]H\w+)\.npy)")
_ROIS = re.compile(r"(CSI[1-4])_ROIs_TR\d+\.(?:h5|mat)")


def open_bold5000(
    path: Any,
    *,
    subject: str | None = None,
    stimulus_list: Any = None,
    version: str = "TYPED-FITHRF-GLMDENOISE-RR",
    sessions: Sequence[int] | None = None,
    mask: Any = None,
    regions: Sequence[str] | None = None,
    zscore: str | None = None,
    system: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the responses of one person of BOLD5000.

    Parameters
    ----------
    path : str or Path
        Release 2: a folder of volumes, ``CSI1_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-01.nii.gz`` ..., or of regions,
        ``CSI1_GLMbetas-..._allses_LHPPA.npy`` .... Release 1: a file ``CSI1_ROIs_TR34.h5`` or ``.mat``, an array a region.
    subject : str, optional
        ``"CSI1"``; needed where the folder holds several.
    stimulus_list : str or Path, optional
        One image a trial, in the order of trials: ``CSI1_imgnames.txt`` or ``CSI01_stim_lists.txt``. Default: the former, or
        the latter, in the folder of the responses.
    version : str
        Of the betas.
    sessions : sequence of int, optional
        Volumes only: which to open, from 1. Default: all. The files of those before must be there, since the list goes on through all.
    mask : str, Path or ndarray, (x, y, z), optional
        Volumes only: voxels to take, 1 inside, ``CSI1_brainmask.nii.gz``.
    regions : sequence of str, optional
        Regions only: which to take, of :data:`REGIONS`. Default: all that are there.
    zscore : {None, "session"}
        Volumes only. ``"session"``: mean 0 and standard deviation 1 (divided by n) over the trials of each session, for each voxel.
    system : str, optional
        Default: the subject.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid), lazy (but version 5 of MATLAB)
        ``stimulus_id`` is the image without its suffix, and without the prefix ``rep_`` that marks a repeat: it is the same stimulus.
        Volumes carry ``session`` and ``run`` (of 37 trials each), and ``neuroid_id`` is the flat index in (x, y, z), C order; regions
        carry ``region`` and ``hemisphere``, and ``neuroid_id`` counts the voxels of each.

    Raises
    ------
    FormatError
        Missing or damaged files, a list of another length than trials, unequal grids.
    ParameterError
        Several subjects, options of the other kind of files, unknown regions.
    OptionalDependencyError
        nibabel or h5py is not installed.
    """
    found = _find(Path(path), subject, version)
    given = {"sessions": sessions, "mask": mask, "zscore": zscore} if found.regions else {"regions": regions}
    for option, value in given.items():
        if value is not None:
            kind = "regions over all sessions" if found.regions else "volumes by session"
            raise ParameterError(
                f"open_bold5000 got {option}= for {str(path)!r}, which holds {kind}. Expected no `{option}=`: leave it out."
            )
    if found.regions:
        values, columns = _regions(found, regions, allow_nan)
        rows, first, complete, attrs = {"subject": [found.subject] * len(values)}, 0, True, {}
    else:
        values, columns, rows, first, attrs = _volumes(found, sessions, mask, zscore, allow_nan)
        complete = sessions is None
    names = _image_names(found, stimulus_list, first + len(values), complete)[first : first + len(values)]
    ids = image_ids(names, "the list of images", rename=lambda name: name.removeprefix("rep_"))
    units = "z-score within session" if zscore else "a.u." if found.release == 1 else "% signal change"
    with naming(repr(str(path))):
        x = responses(
            values, stimulus_id=ids, neuroid_id=columns.pop("neuroid_id"), system=system or found.subject, modality="fmri",
            units=units, presentation=rows, neuroid=columns, allow_nan=allow_nan,
        )  # fmt: skip
    x.attrs |= attrs
    params = {"subject": found.subject, "version": version if found.release == 2 else None, "zscore": zscore, "index_base": 0}
    files = [*found.sessions.values(), *dict.fromkeys(found.regions.values())]
    return record_opening(x, "bold5000", [file.name for file in files], params | {"scale": 1.0})


@dataclass(frozen=True)
class _Found:
    subject: str
    folder: Path
    release: int
    sessions: dict[int, Path]  # volumes
    regions: dict[str, Path]  # one file a region, or the same for all


def _find(path: Path, subject: str | None, version: str) -> _Found:
    if not path.is_dir():
        match = _ROIS.fullmatch(existing(path).name)
        if match is None:
            raise FormatError(f"{str(path)!r} is no file of regions. Expected CSI1_ROIs_TR34.h5 or .mat, or a folder of betas.")
        keys = list(read_mat(path)) if is_mat(path) else [key for key in REGIONS if first_key(path, [key])]
        regions = {key: path for key in REGIONS if key in keys}
        if not regions:
            raise FormatError(f"{str(path)!r} holds none of the regions {preview(REGIONS, 10)}. Expected arrays of these names.")
        return _Found(match[1], path.parent, 1, {}, regions)
    matches = [match for match in map(_BETAS.fullmatch, sorted(names_in(path))) if match and match[2] == version]
    people = sorted({match[1] for match in matches})
    if not matches:
        raise FormatError(f"{str(path)!r} holds no betas of {version!r}. Expected CSI1_GLMbetas-{version}_ses-01.nii.gz ....")
    if len(people) > 1 if subject is None else subject not in people:
        raise ParameterError(
            f"{str(path)!r} holds {preview(people)}, and subject={subject!r}. Expected one: `subject={people[0]!r}`."
        )
    mine = [match for match in matches if match[1] == (subject or people[0])]
    sessions = {int(match[3]): path / match[0] for match in mine if match[3]}
    regions = {match[4]: path / match[0] for match in mine if match[4]}
    if sessions and regions:
        raise FormatError(f"{str(path)!r} holds volumes and regions. Expected one kind: put them into folders of their own.")
    return _Found(mine[0][1], path, 2, sessions, regions)


def _volumes(
    found: _Found, sessions: Sequence[int] | None, mask: Any, zscore: str | None, allow_nan: bool
) -> tuple[Any, dict[str, Any], dict[str, Any], int, dict[str, str]]:
    """Return values, labels of voxels and of trials, the first trial's place in the list, and attributes."""
    chosen = choose_sessions(found.sessions, sessions, found.folder)
    if chosen != list(range(chosen[0], chosen[-1] + 1)):
        raise ParameterError(f"open_bold5000 got sessions={chosen}. Expected neighbours: open the others apart, and join them.")
    before = range(1, chosen[-1] + 1)
    missing = [number for number in before if number not in found.sessions]
    if missing:
        raise FormatError(
            f"{str(found.folder)!r} lacks session {preview(missing, 8)} before session {chosen[0]}. Expected their files too: one list names "
            "the images of all sessions, and only the files tell how many are of each."
        )
    images = {number: load_image(found.sessions[number], n_dims=4) for number in before}
    grid = images[1].shape[:3]
    for number, image in images.items():
        if image.shape[:3] != grid:
            raise FormatError(
                f"{str(found.sessions[number])!r} has the grid {image.shape[:3]}, and session 1 has {grid}. Expected one grid: is it of another "
                "person?"
            )
    keep, affine = np.ones(grid, dtype=bool), None
    if mask is not None:
        inside, affine = grid_map(mask, grid, found.sessions[1])
        keep = mask_map(inside, "the mask").reshape(grid)
    columns: dict[str, Any] = {"neuroid_id": np.flatnonzero(keep)}
    if affine is not None:
        columns |= places_mm(np.argwhere(keep), affine)
    lengths = {number: int(image.shape[3]) for number, image in images.items()}
    for number in chosen:
        if lengths[number] % TRIALS_PER_RUN:
            raise FormatError(
                f"{str(found.sessions[number])!r} holds {lengths[number]} trials. Expected runs of {TRIALS_PER_RUN}: is it cut off?"
            )
    values = joined([lazy_volumes(images[number], keep, allow_nan=allow_nan) for number in chosen])
    taken = [lengths[number] for number in chosen]
    rows = {
        "subject": [found.subject] * sum(taken), "session": np.repeat([f"{number:02d}" for number in chosen], taken).astype(object),
        "run": np.concatenate([np.arange(n) // TRIALS_PER_RUN + 1 for n in taken]).astype(str).astype(object),
    }  # fmt: skip
    first = sum(lengths[number] for number in before if number < chosen[0])
    return scaled(values, taken, zscore, owner="open_bold5000"), columns, rows, first, {"grid": grid_json(grid, affine)}


def _regions(found: _Found, wanted: Sequence[str] | None, allow_nan: bool) -> tuple[Any, dict[str, Any]]:
    """Return values and labels of the voxels of regions, side by side."""
    chosen = list(found.regions) if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)
    for name in chosen:
        if name not in found.regions:
            raise ParameterError(
                f"{found.subject} has no region {name!r}.{did_you_mean(name, found.regions)} It has {preview(found.regions, 10)}."
            )
    arrays = _arrays({name: found.regions[name] for name in chosen}, allow_nan)
    for name, array in arrays.items():
        if array.ndim != 2 or array.dtype.kind not in "iuf" or len(array) != len(arrays[chosen[0]]):
            raise FormatError(
                f"{str(found.regions[name])!r} has {name!r} of shape {array.shape}, and {chosen[0]!r} of {arrays[chosen[0]].shape}. Expected "
                "(trial, voxel), of the same trials."
            )
    sizes = [array.shape[1] for array in arrays.values()]
    columns = {
        "neuroid_id": np.concatenate([np.arange(n) for n in sizes]), "region": np.repeat(chosen, sizes).astype(object),
        "hemisphere": np.repeat([name[0] for name in chosen], sizes).astype(object),
    }  # fmt: skip
    return joined(list(arrays.values()), axis=1), columns


def _arrays(files: dict[str, Path], allow_nan: bool) -> dict[str, Any]:
    """Return the array of each region, (trial, voxel); those of MATLAB, version 5, are in memory."""
    import dask.array as da

    options: dict[str, Any] = {"dtype": np.float32, "finite_axis": None if allow_nan else 1}
    first = next(iter(files.values()))
    if not is_mat(first):
        return {
            name: open_npy(file, **options) if file.suffix == ".npy" else open_hdf5(file, name, **options)
            for name, file in files.items()
        }
    found = read_mat(first)
    arrays = {}
    for name in files:
        values = np.asarray(found[name])
        if values.ndim == 2 and values.dtype.kind in "iuf":
            check_finite(values, str(first), [f"{name} voxel {i}" for i in range(values.shape[1])], allow_nan)
            values = narrowed(values, np.float32, str(first))
        arrays[name] = da.from_array(values, name=False)
    return arrays


def _image_names(found: _Found, stimulus_list: Any, n_trials: int, complete: bool) -> list[str]:
    number = found.subject[-1]
    default = [found.folder / f"CSI{number}_imgnames.txt", found.folder / f"CSI0{number}_stim_lists.txt"]
    file = next((name for name in default if name.is_file()), default[0]) if stimulus_list is None else Path(stimulus_list)
    names = read_ids(file)
    if len(names) < n_trials or (complete and len(names) > n_trials):
        raise FormatError(
            f"{str(file)!r} names {len(names)} images, and the responses of {found.subject} are of {n_trials} trials. Expected one a trial: is "
            "the list of another person, or are sessions missing at the end (name those that are there, `sessions=[...]`)?"
        )
    return names


def _matches(source: Any) -> str:
    """Betas that BOLD5000 names in a folder, or an HDF5 file of its regions."""
    if any(map(_BETAS.fullmatch, names_in(source))):
        return "a folder of CSI betas: BOLD5000"
    key = first_key(source, REGIONS)
    return f"HDF5 with {key} at its top: BOLD5000" if key else ""


adapter = Format("bold5000", _matches, open_bold5000)
