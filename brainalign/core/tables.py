"""Stimulus tables, and the presentation table of any responses: the rows of an experiment with their labels.

A stimulus table is a plain ``xarray.Dataset`` along ``presentation``: ``stimulus_id``, the timing where there is
one, and the content as exactly one of ``text`` (str), ``path`` (str, relative to the attr ``root``) or ``values``
(an array with dims of its own, such as ``channel, y, x``). Where a stimulus is a part of a file, the coordinate
``path_part`` says which: ``member:cat.jpg`` of a tar, ``pts:1024`` or ``frame:3`` of a film, ``row:imgBrick/12`` of an
array in an HDF5 file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SchemaError
from brainalign.core.parameters import preview
from brainalign.core.schema import missing_labels

CONTENT = ("text", "path", "values")
KINDS = ("text", "word", "image", "audio", "array")


def validate_stimuli(stimuli: xr.Dataset, *, name: str = "stimuli") -> xr.Dataset:
    """Return ``stimuli`` if it is a valid stimulus table; otherwise say what is wrong with it.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
    name : str
        What to call the table in the message.

    Returns
    -------
    Dataset
        ``stimuli`` itself.

    Raises
    ------
    SchemaError
        Wrong type or dims, missing ids, times that are no numbers, no content or more than one, one id with two contents.
    """
    if not isinstance(stimuli, xr.Dataset):
        raise SchemaError(f"{name} is a {type(stimuli).__name__}. Expected a stimulus table: build one with `ba.stimuli.table`.")
    content = [c for c in CONTENT if c in stimuli.data_vars]
    if "stimulus_id" not in stimuli.coords or stimuli.coords["stimulus_id"].dims != ("presentation",):
        raise SchemaError(f"{name} has no `stimulus_id` along presentation. Expected one string a row.")
    if stimuli.coords["stimulus_id"].dtype.kind not in "TU":
        raise SchemaError(
            f"{name} has `stimulus_id` of dtype {stimuli.coords['stimulus_id'].dtype}. Expected strings: "
            "`stimuli.assign_coords(stimulus_id=stimuli.stimulus_id.astype(str))`."
        )
    if stimuli.sizes["presentation"] == 0:
        raise SchemaError(f"{name} has no rows. Expected at least one presentation: look at what was selected.")
    if len(content) != 1 or stimuli[content[0]].dims[:1] != ("presentation",):
        raise SchemaError(
            f"{name} holds the variables {list(map(str, stimuli.data_vars))}. Expected exactly one of {CONTENT} along presentation."
        )
    if stimuli.attrs.get("kind") not in KINDS:
        raise SchemaError(f"{name} has kind {stimuli.attrs.get('kind')!r}. Expected one of {KINDS}: set `stimuli.attrs['kind']`.")
    ids = stimuli.coords["stimulus_id"].values
    missing = missing_labels(ids)
    if missing.size:
        raise SchemaError(f"{name} has no `stimulus_id` in rows {preview(missing)}. Expected a name for each.")
    for coord in ("onset_s", "duration_s"):
        if coord in stimuli.coords and stimuli.coords[coord].dtype.kind not in "iuf":
            raise SchemaError(
                f"{name} has `{coord}` of dtype {stimuli.coords[coord].dtype}. Expected seconds as numbers, with NaN where it is unknown."
            )
    if content[0] != "values":
        pairs = pd.DataFrame({"id": ids.astype(object), "content": stimuli[content[0]].values.astype(object)})
        if "path_part" in stimuli.coords:
            pairs["part"] = stimuli.coords["path_part"].values.astype(object)
        pairs = pairs.drop_duplicates()
        twice = pairs["id"][pairs["id"].duplicated()]
        if len(twice):
            raise SchemaError(
                f"{name} has {len(twice)} `stimulus_id` values that stand for two different contents: {preview(twice)}. Expected one "
                "content per id: give each its own name."
            )
    return stimuli


def content_of(stimuli: xr.Dataset) -> str:
    """Return which of ``text``, ``path`` or ``values`` holds the content of a stimulus table.

    Parameters
    ----------
    stimuli : Dataset

    Returns
    -------
    str
    """
    return next(name for name in CONTENT if name in stimuli.data_vars)


def presentation_table(x: xr.DataArray | xr.Dataset) -> pd.DataFrame:
    """Return the presentation coordinates as a table, one row per presentation, strings as objects.

    Parameters
    ----------
    x : DataArray or Dataset
        Responses or stimuli.

    Returns
    -------
    DataFrame
    """
    return pd.DataFrame(coords_of(x, "presentation", as_object=True))


def coords_of(x: xr.DataArray | xr.Dataset, dim: str, *, as_object: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """Return the coordinates along one dim as plain arrays.

    Parameters
    ----------
    x : DataArray or Dataset
    dim : str
    as_object : bool
        Strings as Python objects, as pandas handles them best.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    SchemaError
        Not an xarray object.
    """
    if not isinstance(x, xr.DataArray | xr.Dataset):
        raise SchemaError(
            f"Got a {type(x).__name__} without labels. Expected an xarray.DataArray or Dataset: build one from plain arrays with `ba.responses`."
        )
    found = {str(name): coord.values for name, coord in x.coords.items() if coord.dims == (dim,)}
    if as_object:
        found = {name: values.astype(object) if values.dtype.kind in "TU" else values for name, values in found.items()}
    return found


def order_of_neuroids(x: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return the order that sorts neuroids by name, so that what is drawn of them does not depend on the order in which they lie.

    Parameters
    ----------
    x : DataArray, (..., neuroid, ...)

    Returns
    -------
    ndarray of int, (neuroid,)
        By ``system``, ``region``, ``layer`` and ``neuroid_id``, of which it has some.
    """
    return _sorted_by(coords_of(x, "neuroid", as_object=True), ("system", "region", "layer", "neuroid_id"))


def order_of_presentations(x: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return the order that sorts presentations by name: by stimulus, and those of one by person, session, run, time and repetition.

    Parameters
    ----------
    x : DataArray, (presentation, ...)

    Returns
    -------
    ndarray of int, (presentation,)
        Presentations that no label tells apart keep their order.
    """
    names = ("stimulus_id", "subject", "session", "run", "onset_s", "repetition")
    return _sorted_by(coords_of(x, "presentation", as_object=True), names)


def _sorted_by(labels: dict[str, np.ndarray[Any, Any]], names: tuple[str, ...]) -> np.ndarray[Any, Any]:
    ranks = [pd.factorize(labels[name], sort=True)[0] for name in names if name in labels]
    return np.lexsort(ranks[::-1])


def numbered(labels: Any, name: str, dim: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the number of each label, and the labels in the order in which they first appear.

    Parameters
    ----------
    labels : array_like, (row,)
    name, dim : str
        What they are called, and what they label, for the message.

    Returns
    -------
    codes : ndarray of int, (row,)
    names : ndarray, (label,)
        Strings as Python objects.

    Raises
    ------
    SchemaError
        A label is missing. (Of :func:`pandas.factorize` it is number -1, which is the last one to whoever takes it as a position.)
    """
    values = np.asarray(labels)
    codes, names = pd.factorize(values.astype(object) if values.dtype.kind in "TU" else values)
    lost = np.flatnonzero(codes < 0)
    if lost.size:
        raise SchemaError(
            f"{lost.size} of {len(codes)} {dim}s have no `{name}`, first {preview(lost)}. Expected one for each: drop them, or name them."
        )
    return codes, np.asarray(names)


def positions_among(wanted: Mapping[str, Any], among: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Return where neuroids are among others: by ``neuroid_id``, and by system, layer and region where ids alone do not tell.

    Parameters
    ----------
    wanted, among : mapping of str to array_like, (neuroid,)
        Coordinates of neuroids.

    Returns
    -------
    ndarray of int64, (neuroid,)
        -1: nowhere, or no telling which of several.

    Examples
    --------
    >>> wanted, among = ({"neuroid_id": [0, 0], "region": names} for names in (["V4", "V1"], ["V1", "V4"]))
    >>> positions_among(wanted, among).tolist(), positions_among(wanted, {"neuroid_id": [1, 0]}).tolist()
    ([1, 0], [-1, -1])
    """
    names = ["neuroid_id"]
    if any(len(set(map(str, side["neuroid_id"]))) < len(side["neuroid_id"]) for side in (wanted, among)):
        names += [name for name in ("system", "layer", "region") if name in wanted and name in among]
    own, others = (list(zip(*(map(str, side[name]) for name in names), strict=True)) for side in (wanted, among))
    position, often = {row: i for i, row in enumerate(others)}, Counter(own) | Counter(others)
    return np.array([position.get(row, -1) if often[row] == 1 else -1 for row in own], dtype=np.int64)
