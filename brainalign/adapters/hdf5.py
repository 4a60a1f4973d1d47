"""Datasets of HDF5 files, lazily, and only where all that they promise is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.lazy import CHUNK_BYTES, Spans, lazy_array, leading
from brainalign.core.errors import FormatError, require

_MOST_COMPRESSED = 10_000  # times smaller than its values: more than any filter gains, little enough to be read into memory


def open_hdf5(
    path: Any, key: str, *, chunks: Sequence[Any] | None = None, dtype: Any = None, finite_axis: int | None = None
) -> Any:
    """Open one dataset of an HDF5 file lazily.

    Parameters
    ----------
    path : str or Path
    key : str
        Name of the dataset, with its groups.
    chunks : sequence, optional
        As dask takes them. Default: whole chunks of the file, about 16 MB together.
    dtype, finite_axis
        As in :func:`lazy_array`. Default: the dtype of the file.

    Returns
    -------
    dask array
        In the axes that h5py shows; MATLAB wrote them in reverse.

    Raises
    ------
    FormatError
        No HDF5 file, a truncated one, no such dataset, one that is not an array of numbers, or that is not all there.
    OptionalDependencyError
        h5py is not installed.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    file = existing(path)
    with reading(file, "HDF5"), h5py.File(file, "r") as opened:
        found = opened.get(key)
        if not isinstance(found, h5py.Dataset):
            kind = "a group" if found is not None else "nothing"
            raise FormatError(f"{str(file)!r} holds {kind} at {key!r}. Expected an array; at its top are {sorted(opened)[:20]}.")
        shape, kept, stored = found.shape, found.dtype, found.chunks
        check_stored(found, file)
    if kept.kind not in "iufb" or not shape:
        raise FormatError(f"{str(file)!r} has shape {shape} and dtype {kept} at {key!r}. Expected an array of numbers.")
    parts = whole_chunks(shape, stored, kept.itemsize) if chunks is None else chunks
    return lazy_array(
        _HDF5Read(file, key), shape, dtype or kept, files=[file], what="HDF5", chunks=parts, finite_axis=finite_axis
    )


def check_stored(dataset: Any, file: Path) -> None:
    """Refuse a dataset of an HDF5 file whose values are not all there: h5py would fill them up without a word.

    Parameters
    ----------
    dataset : h5py.Dataset
    file : Path

    Raises
    ------
    FormatError
        It promises more than the file holds, or leads to another file.
    """
    there, promised = dataset.id.get_storage_size(), dataset.nbytes
    here = Path(dataset.file.filename) == file
    if here and dataset.dtype.kind == "O" and there >= promised:
        return  # asking damaged strings for their layout can hang in HDF5
    if not here or dataset.external or dataset.is_virtual:
        raise FormatError(f"{str(file)!r} keeps the values of {dataset.name!r} in another file. Expected them here: copy them.")
    if there < promised and there * (_MOST_COMPRESSED if dataset.id.get_create_plist().get_nfilters() else 1) < promised:
        raise FormatError(
            f"{str(file)!r} holds {there} bytes at {dataset.name!r}; its header promises {promised} (shape {dataset.shape}, {dataset.dtype}). "
            "Expected all values in this file: it was not written to its end, or is damaged; copy or make it again."
        )


@dataclass(frozen=True)
class _HDF5Read:
    file: Path
    key: str

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        h5py = require("h5py", extra="spikes", purpose="reading HDF5")
        with h5py.File(self.file, "r") as opened:
            return np.asarray(opened[self.key][spans])


def whole_chunks(shape: tuple[int, ...], stored: tuple[int, ...] | None, itemsize: int) -> tuple[int, ...]:
    """Return chunks of dask that hold whole chunks of the file: grown along the last dims first, as the file lies.

    Parameters
    ----------
    shape : tuple of int
    stored : tuple of int or None
        Chunks of the file; None where it has none.
    itemsize : int
        Bytes of a value.

    Returns
    -------
    tuple of int
    """
    if stored is None:
        return leading(shape, itemsize)
    grown, budget = list(stored), max(1, CHUNK_BYTES // (prod(stored) * itemsize))
    for dim in reversed(range(len(shape))):
        times = max(1, min(-(-shape[dim] // stored[dim]), budget))
        grown[dim] = min(shape[dim], stored[dim] * times)
        budget //= times
    return tuple(grown)
