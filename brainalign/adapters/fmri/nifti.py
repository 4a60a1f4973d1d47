"""fMRI volumes from NIfTI, masked or labelled by region, one row a volume."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, first_bytes, is_path, naming, record_opening
from brainalign.adapters.fmri.runs import common_tr, run_files, run_names, run_rows, stated_tr
from brainalign.adapters.fmri.volumes import header_tr, lazy_volumes, load_image
from brainalign.adapters.fmri.voxels import check_same_grid, grid_json, select_voxels
from brainalign.adapters.joining import joined
from brainalign.core.parameters import check_number
from brainalign.core.responses import responses


def open_images(
    path: Any,
    *,
    system: str,
    mask: Any = None,
    labels: Any = None,
    region_names: Mapping[int, str] | str | Path | None = None,
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
    region_names : mapping of int to str, str or Path, optional
        A name for each label that occurs, or a table with the columns ``index`` and ``name`` (BIDS ``*_dseg.tsv``); required
        with ``labels``.
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
        Lazy: a block of volumes reads these volumes only, or the whole run where it is compressed. ``stimulus_id`` is ``run-<run>/v<volume>``, ``onset_s`` is ``first_onset_s + volume * TR``. ``neuroid_id`` is the flat
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
    files = run_files(path)
    names = run_names(run, files)
    images = [load_image(file, n_dims=4) for file in files]
    for file, image in zip(files[1:], images[1:], strict=True):
        check_same_grid(repr(str(file)), image.shape[:3], image.affine, repr(str(files[0])), images[0])
    step = common_tr(files, [_tr(file, image, tr_s, override_tr) for file, image in zip(files, images, strict=True)])
    keep, voxels = select_voxels(images[0], files[0], mask=mask, labels=labels, region_names=region_names)
    parts = [lazy_volumes(image, keep, allow_nan=allow_nan) for image in images]
    start = check_number("first_onset_s", first_onset_s, owner="open_images")
    ids, rows = run_rows(names, [len(part) for part in parts], step, start, {"subject": subject, "session": session})
    with naming(repr(files[0].name)):
        x = responses(
            joined(parts), neuroid_id=np.flatnonzero(keep), neuroid=voxels, presentation=rows,
            stimulus_id=ids, sampling_rate_hz=1.0 / step, system=system, modality="fmri", units=units, allow_nan=allow_nan,
        )  # fmt: skip
    x.attrs["grid"] = grid_json(keep.shape, images[0].affine)
    params = {"tr_s": step, "override_tr": override_tr, "run": names, "n_voxels": int(keep.sum()), "mask": _said(mask)}
    scales = [[float(image.dataobj.slope), float(image.dataobj.inter)] for image in images]
    params |= {"labels": _said(labels), "index_base": 0, "scale": scales}
    return record_opening(x, "nifti", [file.name for file in files], params)


def _tr(file: Path, image: Any, tr_s: float | None, override: bool) -> float:
    stated, header = header_tr(image)
    return stated_tr(file, tr_s, override, header_s=stated, header=header, owner="open_images")


def _said(source: Any) -> Any:
    if isinstance(source, (str, Path)):
        return Path(source).name
    return source if isinstance(source, np.ndarray) or source is None else "image"


def _matches(source: Any) -> str:
    """NIfTI-1 or NIfTI-2 by the magic number of the first file; a CIFTI says so by its intent."""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    if not is_path(first):
        return ""
    start = first_bytes(Path(first), 540)
    if start[344:348] in (b"n+1\0", b"ni1\0"):
        return "NIfTI-1 by its magic number"
    if start[4:8] not in (b"n+2\0", b"ni2\0"):
        return ""
    intents = [int.from_bytes(start[504:508], order) for order in ("little", "big")]
    return "" if any(3000 <= intent < 3100 for intent in intents) else "NIfTI-2 by its magic number"


adapter = Format("nifti", _matches, open_images)
