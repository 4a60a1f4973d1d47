"""Matrices of any size as results of a study, written a part at a time in any order."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.store.responses import save_item
from brainalign.adapters.store.study import check_study, find_item, item_folder
from brainalign.adapters.store.zarrays import create_array, open_dataset, seal_array, write_array
from brainalign.adapters.store.zgroups import discard, quote, write_group, writing
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.schema import SCHEMA_VERSION

#: Chunks that zarr compresses side by side: each is held several times on its way to the disk.
_CHUNKS = 1


def save_parts(
    template: xr.DataArray, path: str | os.PathLike[str], *, name: str, parts: Iterable[tuple[tuple[Any, ...], np.ndarray[Any, Any]]],
    chunks: tuple[int, ...],
) -> xr.DataArray:  # fmt: skip
    """Write an array into a study as its parts come, and open it.

    Parameters
    ----------
    template : DataArray
        Labels, dtype, attrs and a name; its values are not read.
    path : path
        The study; made where there is none.
    name : str
        Name of the result.
    parts : iterable of (tuple of int and slice, ndarray)
        Where a part stands, and its values; together, all of the array. Parts that end where chunks end are written once.
    chunks : tuple of int

    Returns
    -------
    DataArray
        Lazy.

    Raises
    ------
    StoreError
        The name is taken, or the place cannot be written. Whatever is raised, also while parts are made, leaves nothing behind.
    """
    import zarr

    variable = str(template.name)

    def write(folder: Path) -> None:
        discard(folder)
        names = {"coords": list(template.coords), "data_vars": [variable], "indexes": list(template.xindexes)}
        with writing(folder):
            write_group(folder, {"kind": "results", "label": name, "schema_version": SCHEMA_VERSION, **names}, {})
            for key, coord in template.coords.items():
                write_array(folder / quote(str(key)), coord.values, tuple(map(str, coord.dims)), coord.attrs)
            place, dims = folder / quote(variable), tuple(map(str, template.dims))
            array = create_array(place, template.shape, template.dtype, dims=dims, chunks=chunks, attrs=template.attrs)
        with zarr.config.set({"async.concurrency": _CHUNKS}):
            for where, values in parts:
                with writing(folder):  # not around the making of parts: a source that fails is no disk that is full
                    array[where] = values
                del values  # before the next part is made beside it
        seal_array(place)

    save_item(path, "results", name, False, write)
    return open_dataset(item_folder(Path(path), "results", name))[variable]


def open_rdms(path: str | os.PathLike[str], *, stimulus_id: Any = None, key: str | None = None) -> xr.DataArray:
    """Open RDMs of a study.

    Parameters
    ----------
    path : path
    stimulus_id : None
        The study names its conditions.
    key : str, optional
        Which result; needed where there are several.

    Returns
    -------
    DataArray, (..., stimulus, stimulus_2)
        Lazy.

    Raises
    ------
    FormatError
        The result holds no RDMs, or several arrays of them.
    ParameterError
        Names for conditions that have some.
    StoreError
        No such result.
    """
    if stimulus_id is not None:
        raise ParameterError(
            f"open_rdms got `stimulus_id=` for the study {str(path)!r}. Expected none: its conditions have names."
        )
    folder = find_item(check_study(path), "results", key)
    found = [x for x in open_dataset(folder).data_vars.values() if x.dims[-2:] == ("stimulus", "stimulus_2")]
    if len(found) != 1:
        raise FormatError(
            f"{folder} holds {len(found)} arrays (..., 'stimulus', 'stimulus_2'). Expected one: choose a result with `key=`."
        )
    return found[0]
