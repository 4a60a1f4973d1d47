"""fMRI in BIDS folders, raw and preprocessed: the files of one person, task and space as one recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.bids.confounds import non_steady_state
from brainalign.adapters.bids.entities import BidsFile
from brainalign.adapters.bids.layout import (
    KINDS,
    bold_runs,
    companions,
    dataset_folder,
    one_session,
    run_names,
    start_s,
    told_apart,
)
from brainalign.adapters.files import Format, record_opening
from brainalign.adapters.fmri.cifti import open_cifti
from brainalign.adapters.fmri.gifti import open_gifti
from brainalign.adapters.fmri.nifti import open_images
from brainalign.adapters.fmri.volumes import load_image, read_values
from brainalign.adapters.fmri.voxels import mask_values
from brainalign.core.errors import FormatError, ParameterError

_IMAGES = (".nii", ".nii.gz")


def open_bids(
    root: str | Path,
    *,
    subject: str | None = None,
    task: str | None = None,
    session: str | Sequence[str] | None = None,
    run: str | Sequence[str] | None = None,
    space: str | None = None,
    res: str | None = None,
    den: str | None = None,
    desc: str | None = None,
    datatype: str | None = None,
    derivatives: str | None = None,
    mask: Any = None,
    labels: Any = None,
    region_names: Mapping[int, str] | str | Path | None = None,
    structures: Sequence[str] | None = None,
    tr_s: float | None = None,
    override_tr: bool = False,
    first_onset_s: float | None = None,
    system: str | None = None,
    units: str | None = None,
    allow_nan: bool = False,
    **entities: str,
) -> xr.DataArray:
    """Open the fMRI of one person and task from a BIDS folder, all runs.

    Parameters
    ----------
    root : str or Path
        A raw data set, or a derivative such as that of fMRIPrep.
    subject, task : str, optional
        Labels, with or without ``sub-`` and ``task-``; may be left out where there is only one.
    session, run : str or sequence of str, optional
        Which of them. Default: all.
    space, res, den, desc : str, optional
        Where a derivative holds several, which; ``"none"`` for files without this part. ``desc`` is ``"preproc"`` where there is
        one.
    datatype : str, optional
        Only ``"func"``: other recordings are opened by file.
    derivatives : str, optional
        Name of a pipeline below ``derivatives/`` of a raw data set.
    mask : "brain", path, image or ndarray, optional
        ``"brain"`` takes the voxels that are in the ``desc-brain_mask`` of every run. Others as :func:`open_images` takes them.
    labels : str, path or image, optional
        A segmentation beside the volumes by its name (``"aparcaseg"``, ``"aseg"``), whose table lies at the root; others as
        :func:`open_images`, :func:`open_gifti` or :func:`open_cifti` take them.
    region_names : mapping, str or Path, optional
        As :func:`open_images` takes them.
    structures : sequence of str, optional
        As :func:`open_cifti` takes them.
    tr_s, override_tr : optional
        TR, where the files say none or a wrong one.
    first_onset_s : float, seconds, optional
        When the first volume was recorded. Default: ``StartTime`` of the sidecars, else 0.
    system : str, optional
        Default: ``sub-<subject>``.
    units : str, optional
    allow_nan : bool
    **entities : str
        Further parts of the file names: ``acq="x"``, ``echo="1"``, ``hemi="L"``.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        Lazy, as the adapter of the files makes it: :func:`open_images` for volumes, :func:`open_gifti` for surfaces (both
        hemispheres), :func:`open_cifti` for grayordinates. No volume is dropped: ``non_steady_state`` marks those that fMRIPrep
        found before the steady state, where its confounds are there. Rows are named ``run-<run>/v<volume>``, with
        ``ses-<session>_`` in front where there are several sessions. The attr ``space`` says where coordinates are.

    Raises
    ------
    FormatError
        No such label, several tasks or spaces (which are listed), two TRs, runs on different grids, no mask.
    ParameterError
        An option that these files cannot heed.
    """
    folder = dataset_folder(root, derivatives)
    chosen = {"sub": subject, "task": task, "ses": session, "run": run, "space": space, "res": res, "den": den, "desc": desc}
    files = bold_runs(folder, datatype=datatype, **chosen, **entities)
    kind = KINDS[files[0].extension]
    _refuse_unheeded(kind, mask=mask, region_names=region_names, structures=structures)
    own: dict[str, Any] = {"labels": labels}
    used: dict[str, Any] = {}
    if kind == "nifti":
        own |= {"mask": mask, "region_names": region_names}
        if isinstance(mask, str) and mask == "brain":
            own["mask"], used["mask"] = _brain(files)
        if isinstance(labels, str) and labels.isalnum() and not Path(labels).exists():
            own["labels"], used["labels"] = _segmentation(files, labels)
            own["region_names"] = folder / f"desc-{labels}_dseg.tsv" if region_names is None else region_names
    elif kind == "cifti":
        own["structures"] = structures
    opener = {"nifti": open_images, "gifti": open_gifti, "cifti": open_cifti}[kind]
    person = files[0].entities["sub"]
    x = opener(
        [file.path for file in files], system=system or f"sub-{person}", run=run_names(files),
        tr_s=tr_s, override_tr=override_tr, first_onset_s=start_s(files, first_onset_s, owner="open_bids"), subject=person,
        session=one_session(files), units=units, allow_nan=allow_nan, **own,
    )  # fmt: skip
    x = told_apart(_flagged(x, files), files)
    common = set.intersection(*(set(file.entities.items()) for file in files)) - {("sub", person)}
    if "space" in dict(common):
        x.attrs["space"] = dict(common)["space"]
    names = [file.path.relative_to(folder).as_posix() for file in files]
    return record_opening(x, "bids", names, {"subject": person, **dict(sorted(common)), "derivatives": derivatives, **used})


def _flagged(x: xr.DataArray, files: Sequence[BidsFile]) -> xr.DataArray:
    runs = x.coords["run"].values.astype(object)
    flags = np.zeros(len(runs), dtype=bool)
    for file, name in zip(files, run_names(files), strict=True):
        rows = np.flatnonzero(runs == name)
        found = non_steady_state(file, len(rows))
        if found is None:
            return x
        flags[rows] = found
    return x.assign_coords(non_steady_state=("presentation", flags))


def _brain(files: Sequence[BidsFile]) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Return the voxels that are in the brain masks of all runs, and the names of the masks."""
    first = load_image(files[0].path, n_dims=4)
    paths = [_one(file, "mask", "brain") for file in files]
    masks = [mask_values(path, first, files[0].path) for path in paths]
    return np.logical_and.reduce(masks), [path.name for path in paths]


def _segmentation(files: Sequence[BidsFile], desc: str) -> tuple[Path, str]:
    """Return the segmentation of the first run, which must be that of all."""
    paths = [_one(file, "dseg", desc) for file in files]
    first = read_values(load_image(paths[0]))
    for path in paths[1:]:
        if not np.array_equal(read_values(load_image(path)), first):
            raise FormatError(
                f"{str(paths[0])!r} and {path.name!r} differ. Expected one segmentation of all runs: choose another space, or pass the path of "
                "one as `labels=`."
            )
    return paths[0], paths[0].name


def _one(file: BidsFile, suffix: str, desc: str) -> Path:
    found = companions(file, [suffix], _IMAGES, desc=desc, same=("space", "res"))
    if len(found) != 1:
        raise FormatError(
            f"{file.path.name!r} has {len(found)} files desc-{desc}_{suffix} of its run and space beside it. Expected one: pass the path of an "
            "image instead."
        )
    return found[0]


def _refuse_unheeded(kind: str, **options: Any) -> None:
    heeded = {"nifti": ("mask", "region_names"), "gifti": (), "cifti": ("structures",)}[kind]
    for name, value in options.items():
        if value is not None and name not in heeded:
            raise ParameterError(
                f"open_bids got {name}={value!r} for files of format {kind!r}. Expected no such option there: leave it out, or choose another "
                "`space=`."
            )


def _matches(source: Any) -> str:
    """Return a reason where a folder has people and says that it is BIDS."""
    if not isinstance(source, (str, Path)) or not (Path(source) / "dataset_description.json").is_file():
        return ""
    people = sum(path.is_dir() for path in Path(source).glob("sub-*"))
    return f"a folder with dataset_description.json and {people} people: BIDS" if people else ""


adapter = Format("bids", _matches, open_bids)
