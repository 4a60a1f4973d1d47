"""Which voxels of a grid are taken, and what they are called: masks, label images and their tables of names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns
from brainalign.adapters.files import existing, reading
from brainalign.adapters.fmri.volumes import load_image, read_values
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import preview

_GRID_TOLERANCE_MM = 1e-3


def select_voxels(
    image: Any, file: Path, *, mask: Any = None, labels: Any = None, region_names: Mapping[int, str] | str | Path | None = None
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return which voxels to take, and their labels.

    Parameters
    ----------
    image : nibabel image, (x, y, z, volume)
        Its grid is the one that counts.
    file : Path
        Where it comes from, for messages.
    mask : str, Path, nibabel image or ndarray of bool, (x, y, z), optional
    labels : str, Path or nibabel image, (x, y, z), optional
    region_names : mapping of int to str, str or Path, optional
        A name for each label that occurs, or the table that holds them.

    Returns
    -------
    keep : ndarray of bool, (x, y, z)
    columns : dict of str to ndarray, (voxel,) in C order
        ``x_mm y_mm z_mm`` and, with ``labels``, ``region``.

    Raises
    ------
    FormatError
        Another grid, a mask of other values than 0 and 1, labels that are no whole numbers, no voxel left.
    ParameterError
        A label without a name.
    """
    keep = np.ones(image.shape[:3], dtype=bool) if mask is None else mask_values(mask, image, file)
    regions = None
    if labels is not None:
        codes = _label_values(labels, image, file)
        keep &= codes != 0
        regions = _regions(codes[keep].astype(np.int64), labels, region_names)
    if not keep.any():
        raise FormatError(f"the mask or labels leave 0 of {keep.size} voxels of {str(file)!r}. Expected some: look at the mask.")
    places = places_mm(np.argwhere(keep), np.asarray(image.affine))
    return keep, places if regions is None else {**places, "region": regions}


def places_mm(ijk: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return where voxels are.

    Parameters
    ----------
    ijk : ndarray of int, (voxel, 3)
    affine : ndarray, (4, 4)

    Returns
    -------
    dict of str to ndarray (voxel,), mm
        ``x_mm y_mm z_mm``.
    """
    return dict(zip(("x_mm", "y_mm", "z_mm"), (ijk @ affine[:3, :3].T + affine[:3, 3]).T, strict=True))


def grid_json(shape: Sequence[int], affine: np.ndarray[Any, Any] | None) -> str:
    """Return what it takes to write a map on a grid of voxels back, for the attr ``grid``.

    Parameters
    ----------
    shape : sequence of int
    affine : ndarray, (4, 4), optional
        None where it is not known.

    Returns
    -------
    str
        JSON; voxels are numbered in C order.
    """
    return json.dumps(
        {"shape": [int(n) for n in shape], "affine": None if affine is None else np.asarray(affine).tolist(), "order": "C"}
    )


def mask_values(mask: Any, image: Any, file: Path) -> np.ndarray[Any, Any]:
    """Return a mask as booleans, after its grid and its values were checked.

    Parameters
    ----------
    mask : str, Path, nibabel image or ndarray, (x, y, z)
    image : nibabel image
    file : Path

    Returns
    -------
    ndarray of bool, (x, y, z)

    Raises
    ------
    FormatError
        Another grid, or other values than 0 and 1.
    """
    name, values = _volume(mask, "mask", image, file)
    found = np.unique(values)
    if not np.isin(found, [0, 1]).all():
        raise FormatError(
            f"{name} holds {found.size} different values, up to {found[-1]:g}. Expected a mask of 0 and 1: pass the boolean array "
            "`values > threshold`, or use it as `labels=`."
        )
    return values.astype(bool)


def read_region_names(path: str | Path) -> dict[int, str]:
    """Read the table of names that comes with a label image.

    Parameters
    ----------
    path : str or Path
        Tab-separated, with the columns ``index`` and ``name`` (BIDS ``*_dseg.tsv``).

    Returns
    -------
    dict of int to str

    Raises
    ------
    FormatError
        A column is missing, an index is no whole number or stands twice with two names.
    """
    table = read_table(path, header=True, delimiter="\t")
    require_columns(table, ["index", "name"], str(path))
    codes, names = numeric_columns(table, ["index"], str(path))[:, 0], table["name"].str.strip()
    found: dict[int, str] = {}
    for row, (code, name) in enumerate(zip(codes, names, strict=True)):
        if not float(code).is_integer() or found.setdefault(int(code), name) != name:
            raise FormatError(
                f"{str(path)!r} has index {code:g} and name {name!r} in row {row}. Expected whole numbers, each with one name: mend the row."
            )
    return found


def check_same_grid(name: str, shape: Any, affine: Any, other: str, image: Any) -> None:
    """Refuse a grid that differs from that of an image.

    Parameters
    ----------
    name : str
        What is checked, for the message.
    shape : tuple of int
    affine : ndarray, (4, 4), or None
        None where it is not known.
    other : str
        Where ``image`` comes from.
    image : nibabel image

    Raises
    ------
    FormatError
        Another shape, or an affine that differs by more than 0.001 mm.
    """
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


def _volume(source: Any, what: str, image: Any, file: Path) -> tuple[str, np.ndarray[Any, Any]]:
    """Return the name and the values of a mask or label image, after its grid was checked."""
    affine: Any = None
    if isinstance(source, np.ndarray):
        name, values = f"the {what} array", source
    elif isinstance(source, (str, Path)):
        name, loaded = repr(str(existing(source))), load_image(source)
        values, affine = read_values(loaded), loaded.affine
    else:
        name = f"the {what} image"
        with reading(name, "NIfTI"):
            values, affine = np.asanyarray(source.dataobj), source.affine
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    check_same_grid(name, values.shape, affine, repr(str(file)), image)
    return name, values


def _label_values(labels: Any, image: Any, file: Path) -> np.ndarray[Any, Any]:
    name, values = _volume(labels, "label", image, file)
    if not (values == np.round(values)).all():
        raise FormatError(
            f"{name} holds values that are no whole numbers. Expected a label image: one integer a region, 0 elsewhere."
        )
    return values


def _regions(codes: np.ndarray[Any, Any], labels: Any, region_names: Any) -> np.ndarray[Any, Any]:
    names = read_region_names(region_names) if isinstance(region_names, (str, Path)) else dict(region_names or {})
    unnamed = [int(code) for code in np.unique(codes) if int(code) not in names]
    if unnamed:
        what = repr(str(labels)) if isinstance(labels, (str, Path)) else "the label image"
        raise ParameterError(
            f"{what} holds the labels {preview(unnamed)} without names. Expected `region_names={{label: name}}` for each of them, or the "
            "path of a table with the columns `index` and `name`."
        )
    return np.array([names[int(code)] for code in codes], dtype=object)
