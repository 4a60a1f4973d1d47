"""Betas in arrays of HDF5 files, one a session or one for all: a block reads the voxels and trials that it needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.containers import kind_of
from brainalign.adapters.files import check_finite, existing, narrowed, reading
from brainalign.adapters.hdf5 import check_stored, hdf5_file
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.adapters.matfile import is_mat
from brainalign.core.errors import FormatError, require

_MOST_PLACES = 2**24  # of a grid: more is no brain but a damaged header, refused before anything is allocated
_MOST_TRIALS = 2**20
_DENSE = 8  # a box with at most this many voxels for each one wanted is read as a whole
_BLOCK_BYTES = 2**24
_CACHE_BYTES = 2**26


def first_key(source: Any, keys: Sequence[str], *, matlab: bool = False) -> str:
    """Return which of some names an HDF5 file holds at its top.

    Parameters
    ----------
    source : object
    keys : sequence of str
    matlab : bool
        A MATLAB file, version 7.3, will do too.

    Returns
    -------
    str
        The first that is there; empty where none is, or the file is no HDF5.
    """
    if kind_of(source) != "hdf5" and not (matlab and is_mat(source)):
        return ""
    try:
        with hdf5_file(source) as opened:
            return next((key for key in keys if key in opened), "")
    except FormatError:
        return ""


def array_shape(path: Any, key: str, *, reverse: bool = False, sparse: bool = False, kinds: str = "iuf") -> tuple[int, ...]:
    """Return the shape of an array of betas in an HDF5 file, (space..., trial); nothing else is read.

    Parameters
    ----------
    path : str or Path
    key : str
    reverse : bool
        MATLAB wrote it: HDF5 has its axes reversed.
    sparse : bool
        Chunks may be left out; they hold the fill value.
    kinds : str
        Of dtypes that are expected: ``"i"`` where floats would be in another unit.

    Returns
    -------
    tuple of int

    Raises
    ------
    FormatError
        No HDF5 file, a damaged one, no such array, one that is not all there, or an impossible size.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    file = existing(path)
    with hdf5_file(file) as opened:
        found = opened.get(key)
        if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "iuf" or len(found.shape or ()) < 2:
            raise FormatError(
                f"{str(file)!r} holds no array of betas at {key!r}. Expected numbers with the axes of space and trials; at its top are "
                f"{sorted(opened)[:20]}."
            )
        if found.dtype.kind not in kinds:
            raise FormatError(
                f"{str(file)!r} holds {found.dtype} at {key!r}. Expected whole numbers, which are scaled to the unit of the responses: floats may "
                "be scaled already. Take the published file, or open it as `format='arrays'`."
            )
        if not sparse:
            check_stored(found, file)
        shape = tuple(int(n) for n in (found.shape[::-1] if reverse else found.shape))
    if not 0 < prod(shape[:-1]) <= _MOST_PLACES or not 0 < shape[-1] <= _MOST_TRIALS:
        raise FormatError(
            f"{str(file)!r} has betas of shape {shape}, (space..., trial). Expected 1 to {_MOST_PLACES} places and 1 to {_MOST_TRIALS} "
            "trials: it is empty, or its header is damaged; copy the file again."
        )
    return shape


def lazy_trials(
    files: Sequence[Path],
    lengths: Sequence[int],
    key: str,
    places: np.ndarray[Any, Any],
    names: np.ndarray[Any, Any],
    *,
    reverse: bool = False,
    scale: float = 1.0,
    allow_nan: bool = False,
    what: str,
) -> Any:
    """Return the betas of one or more files as a lazy array.

    Parameters
    ----------
    files : sequence of Path
    lengths : sequence of int
        Trials of each.
    key : str
    places : ndarray of int, (neuroid, space dim)
        Index of each voxel to take, in C order.
    names : ndarray, (neuroid,)
        What they are called, for messages.
    reverse : bool
        MATLAB wrote it: HDF5 has its axes reversed.
    scale : float
        What stored numbers are divided by.
    allow_nan : bool
    what : str
        The format, for messages.

    Returns
    -------
    dask array of float32, (presentation, neuroid)
        A block holds the trials of one file, and is of about 16 MB.
    """
    starts = tuple(np.cumsum([0, *lengths]).tolist())
    read = _TrialRead(tuple(files), starts, key, places, names, reverse, scale, allow_nan)
    columns = min(len(places), max(1, _BLOCK_BYTES // (4 * max(lengths))))
    return lazy_array(read, (starts[-1], len(places)), np.float32, files=files, what=what, chunks=(tuple(lengths), columns))


@dataclass(frozen=True, eq=False)
class _TrialRead:
    files: tuple[Path, ...]
    starts: tuple[int, ...]  # first row of each file, and the number of all rows
    key: str
    places: np.ndarray[Any, Any]
    names: np.ndarray[Any, Any]
    reverse: bool
    scale: float
    allow_nan: bool

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        rows, neuroids = spans
        out = np.empty((rows.stop - rows.start, neuroids.stop - neuroids.start), dtype=np.float32)
        for file, (start, stop) in zip(self.files, pairwise(self.starts), strict=True):
            first, last = max(rows.start, start), min(rows.stop, stop)
            if first < last:
                part = out[first - rows.start : last - rows.start]
                with reading(file, "HDF5"):
                    self._fill(part, file, slice(first - start, last - start), self.places[neuroids])
                if not (self.allow_nan or np.isfinite(part).all()):
                    names = [f"neuroid {name}" for name in self.names[neuroids]]
                    check_finite(part, str(file), names, self.allow_nan, first_row=first - start)
        return out

    def _fill(self, out: np.ndarray[Any, Any], file: Path, trials: slice, places: np.ndarray[Any, Any]) -> None:
        with hdf5_file(file, rdcc_nbytes=_CACHE_BYTES) as opened:
            stored = opened[self.key]
            chunk = (stored.chunks or stored.shape)[slice(1, None) if self.reverse else slice(-1)]
            for part, box in boxes(places, alone=prod(chunk) == 1):
                spans = (*box, trials)
                block = stored[spans[::-1]].T if self.reverse else stored[spans]
                inside = tuple((places[part] - [span.start for span in box]).T)
                taken = block[inside] / self.scale if self.scale != 1.0 else block[inside]
                out[:, part] = narrowed(taken, np.float32, str(file)).T


def boxes(places: np.ndarray[Any, Any], *, alone: bool) -> Iterator[tuple[slice, tuple[slice, ...]]]:
    """Yield boxes of a grid that hold the places, few of them and without much else in them.

    Parameters
    ----------
    places : ndarray of int, (place, dim)
        In C order.
    alone : bool
        Each voxel has a chunk of its own: only runs of neighbours are read together.

    Yields
    ------
    (slice, tuple of slice)
        Which of the places, and the box.

    Examples
    --------
    >>> [box for _, box in boxes(np.array([[0, 1], [0, 2], [5, 0]]), alone=True)]
    [(slice(0, 1, None), slice(1, 3, None)), (slice(5, 6, None), slice(0, 1, None))]
    """
    if not len(places):
        return
    step, spread = np.diff(places, axis=0), np.ptp(places, axis=0)
    last = max(np.flatnonzero(spread), default=0)
    if alone or not spread[:last].any():
        new = (step[:, :last] != 0).any(axis=1) | (step[:, last] != 1)
    elif np.prod(spread + 1) <= _DENSE * len(places):
        new = np.zeros(len(step), dtype=bool)
    else:
        new = step[:, 0] != 0
    edges = [0, *(np.flatnonzero(new) + 1).tolist(), len(places)]
    for start, stop in pairwise(edges):
        low, high = places[start:stop].min(axis=0).tolist(), places[start:stop].max(axis=0).tolist()
        yield slice(start, stop), tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))
