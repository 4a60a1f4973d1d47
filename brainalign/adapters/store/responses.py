"""The study store: responses, stimuli and results in one zarr v3 folder, and back without loss.

``responses/<system>`` holds one array per layer or region, the presentation and neuroid labels once, and opens as one lazy
DataArray in the original order of neuroids.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.store.filling import MAX_MEMORY, Target, fill
from brainalign.adapters.store.study import (
    SECTIONS,
    check_study,
    check_version,
    claim,
    find_item,
    is_study,
    item_folder,
    items,
    prepare_study,
    publish,
    withdraw_study,
)
from brainalign.adapters.store.zarrays import (
    StoredArray,
    create_array,
    open_array,
    open_dataset,
    response_chunks,
    seal_array,
    write_dataset,
)
from brainalign.adapters.store.zgroups import META, discard, quote, read_group, write_group, writing
from brainalign.core.errors import StoreError
from brainalign.core.schema import SCHEMA_VERSION, group_label, validate
from brainalign.core.tiles import Positions, compact, n_of

#: Folders beside those of the groups; :func:`quote` gives no group a name that starts with an underscore.
_LABELS, _UNGROUPED = "_labels", "_all"


def groups_of(labels: xr.DataArray | xr.Dataset) -> list[tuple[str | None, Positions]]:
    """Return the layers or regions in order of appearance, each with the positions of its neuroids.

    Parameters
    ----------
    labels : DataArray or Dataset
        Anything with the coordinates of responses.

    Returns
    -------
    list of (label, positions)
        Positions are a slice where they are contiguous. One group without a label where there is neither.
    """
    coord = group_label(labels)
    if coord is None or labels.coords[coord].ndim == 0:
        return [(None if coord is None else str(labels.coords[coord].values[()]), slice(0, labels.sizes["neuroid"]))]
    values = labels.coords[coord].values
    values = values.astype(object) if values.dtype.kind in "TU" else values
    codes, names = pd.factorize(values, use_na_sentinel=False)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    return [(str(name), compact(order[a:b])) for name, a, b in zip(names, np.r_[0, ends[:-1]], ends, strict=True)]


def create_responses(folder: Path, template: xr.DataArray, label: str, recording: dict[str, Any] | None = None) -> list[Path]:
    """Write all of a recording but its values.

    Parameters
    ----------
    folder : Path
        Hidden place to write in; emptied first.
    template : DataArray, (presentation, neuroid[, time])
        Labels, dtype and attrs; the values are not read.
    label : str
        Name of the item.
    recording : dict, optional
        The key by which :func:`brainalign.record` knows its own work.

    Returns
    -------
    list of Path
        The array of each group, in the order of :func:`groups_of`.
    """
    discard(folder)
    groups = groups_of(template)
    header = {
        "kind": "responses",
        "label": label,
        "schema_version": SCHEMA_VERSION,
        "name": None if template.name is None else str(template.name),
        "groups": [name for name, _ in groups],
        "arrays": [_group_file(name) for name, _ in groups],
        "recording": recording,
    }
    write_group(folder, header, template.attrs)
    write_dataset(folder / _LABELS, template.coords.to_dataset(), {"kind": "labels"})
    paths = []
    for name, positions in groups:
        shape = (template.shape[0], n_of(positions), *template.shape[2:])
        paths.append(folder / _group_file(name))
        create_array(paths[-1], shape, template.dtype, dims=tuple(map(str, template.dims)), chunks=response_chunks(shape))
    return paths


def save_responses(
    x: xr.DataArray,
    path: str | os.PathLike[str],
    *,
    name: str,
    overwrite: bool = False,
    max_memory: int = MAX_MEMORY,
    progress: bool | None = False,
) -> None:
    """Write a recording into a study.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
        In memory or lazy; lazy values stream through :mod:`brainalign.core.tiles`.
    path : path
        The study; made where there is none.
    name : str
    overwrite : bool
        Replace responses of this name.
    max_memory : int
        Bytes that the conversion may take beside what is in memory already.
    progress : bool or None

    Raises
    ------
    SchemaError
        It is not valid, or has undeclared NaN. Nothing is written.
    ParameterError
        One chunk of the store does not fit into ``max_memory``.
    StoreError
        The name is taken, or the place is no study.
    """
    validate(x, deep=not hasattr(x.data, "dask"))

    def write(folder: Path) -> None:
        groups, paths = groups_of(x), create_responses(folder, x, name)
        fill(
            x,
            [Target(path, open_array_for_writing(path), *group) for path, group in zip(paths, groups, strict=True)],
            max_memory,
            progress,
        )
        for path in paths:
            seal_array(path)

    save_item(path, "responses", name, overwrite, write)


def save_dataset(dataset: xr.Dataset, path: str | os.PathLike[str], *, section: str, name: str, overwrite: bool = False) -> None:
    """Write a stimulus table or a result into a study.

    Parameters
    ----------
    dataset : Dataset
    path : path
    section : {"stimuli", "results"}
    name : str
    overwrite : bool

    Raises
    ------
    SchemaError
        It holds what cannot be stored. Nothing is written.
    StoreError
        The name is taken, or the place is no study.
    """

    def write(folder: Path) -> None:
        discard(folder)
        write_dataset(folder, dataset, {"kind": section, "label": name, "schema_version": SCHEMA_VERSION})

    save_item(path, section, name, overwrite, write)


def open_item(folder: Path) -> xr.DataArray:
    """Open one recording lazily.

    Parameters
    ----------
    folder : Path
        ``<study>/responses/<system>``.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        dask chunks end where a layer or region ends.

    Raises
    ------
    StoreError
        A part is missing, truncated, or of a newer version.
    """
    header, attrs = read_group(folder)
    if header.get("kind") != "responses":
        raise StoreError(f"{folder} holds {header.get('kind')!r}. Expected responses: pass the study, or one of its responses.")
    check_version(folder, header)
    labels = open_dataset(folder / _LABELS)
    groups = groups_of(labels)
    if [name for name, _ in groups] != header["groups"]:
        raise StoreError(f"{folder / META} names other groups than its labels do. Expected the same: copy the store again.")
    stored = [open_array(folder / _group_file(name)) for name, _ in groups]
    for (name, positions), array in zip(groups, stored, strict=True):
        if array.shape[:2] != (labels.sizes["presentation"], n_of(positions)):
            raise StoreError(
                f"{array.path / META} has shape {array.shape}. Expected {labels.sizes['presentation']} presentations of "
                f"{n_of(positions)} neuroids, as the labels of {name!r} say: copy the store again, or record it anew."
            )
    data = _in_original_order(stored, [positions for _, positions in groups])
    x = xr.DataArray(data, dims=stored[0].dims, coords=labels.coords, attrs=attrs)
    # given as None to the constructor, xarray would take the name of the dask array
    x = x.rename(header["name"])
    x.encoding["source"] = str(folder.absolute())  # by which the stimuli beside it are found; no part of the values or labels
    return validate(x, name=str(folder))


def open_tree(path: str | os.PathLike[str]) -> xr.DataTree:
    """Open a whole study lazily.

    Parameters
    ----------
    path : path

    Returns
    -------
    DataTree
        ``/stimuli/<name>``, ``/responses/<system>`` (a Dataset of the one variable ``responses``), ``/results/<name>``. A name
        that cannot be that of a node stands there percent-encoded.

    Raises
    ------
    StoreError
        It is no study, or a part is damaged.
    """
    root = check_study(path)
    nodes: dict[str, xr.Dataset] = {f"/{section}": xr.Dataset() for section in SECTIONS}
    for section in SECTIONS:
        for name, folder in items(root, section).items():
            node = quote(name) if "/" in name or name in ("", ".", "..") else name
            check_version(folder, read_group(folder)[0])
            nodes[f"/{section}/{node}"] = (
                open_item(folder).rename("responses").to_dataset() if section == "responses" else open_dataset(folder)
            )
    return xr.DataTree.from_dict(nodes)


class StoreAdapter:
    """Opens responses from a study store."""

    def matches(self, path: Any) -> str:
        """Return why this is a study, or one item of it.

        Parameters
        ----------
        path : object

        Returns
        -------
        str
            Empty where it is none.
        """
        return "it is a folder that brainalign wrote" if is_study(path) else ""

    def open(self, path: str | os.PathLike[str], *, name: str | None = None) -> xr.DataArray:
        """Open one recording lazily.

        Parameters
        ----------
        path : path
            A study, or ``<study>/responses/<system>``.
        name : str, optional
            Which responses, where the study holds several.

        Returns
        -------
        DataArray, (presentation, neuroid[, time])

        Raises
        ------
        StoreError
            No such responses, several to choose from, or a damaged store.
        """
        if (
            (Path(path) / META).is_file()
            and read_group(Path(path))[0].get("kind") == "responses"
            and (Path(path) / _LABELS).exists()
        ):
            return open_item(Path(path))
        return open_item(find_item(check_study(path), "responses", name))


adapter = StoreAdapter()


def open_array_for_writing(path: Path) -> Any:
    """Open an array that :func:`create_responses` made, to fill it.

    Parameters
    ----------
    path : Path

    Returns
    -------
    zarr.Array
    """
    import zarr

    # `open_array` takes no config, and a chunk of zeros that is left out could not be told from one that is missing
    return zarr.open_array(zarr.storage.LocalStore(path), mode="r+").with_config({"write_empty_chunks": True})


def save_item(path: str | os.PathLike[str], section: str, name: str, overwrite: bool, write: Callable[[Path], None]) -> None:
    """Write one item of a study, which becomes visible when it is whole.

    Parameters
    ----------
    path : path
        The study; made where there is none.
    section : {"stimuli", "responses", "results"}
    name : str
    overwrite : bool
    write : callable
        Fills the hidden folder that it is given.

    Raises
    ------
    StoreError
        The name is taken, another process is writing it, or the place is no study. Nothing is left behind, whatever is raised.
    """
    item_folder(Path(), section, name)  # an impossible name is refused before a study is made
    fresh = isinstance(path, (str, os.PathLike)) and not Path(path).exists()
    root = prepare_study(path)
    final = item_folder(root, section, name)
    try:
        with ExitStack() as stack:
            with writing(root):
                folder = stack.enter_context(claim(final))
            if final.exists() and not overwrite:
                raise StoreError(
                    f"{root} already holds {section} named {name!r}. Expected a new name: pass `name=`, or `overwrite=True` to "
                    "replace it."
                )
            try:
                write(folder)
            except BaseException:
                discard(folder)
                raise
            publish(final)
    except BaseException:
        if fresh:
            withdraw_study(root)
        raise


def _group_file(name: str | None) -> str:
    return _UNGROUPED if name is None else quote(name)


def _in_original_order(stored: list[StoredArray], positions: list[Positions]) -> Any:
    import dask.array as da

    data = da.concatenate([array.lazy() for array in stored], axis=1)
    if all(isinstance(part, slice) for part in positions):
        return data  # groups in order of appearance, each contiguous: already the original order
    order = np.concatenate([np.arange(part.start, part.stop) if isinstance(part, slice) else part for part in positions])
    return da.take(data, np.argsort(order), axis=1)
