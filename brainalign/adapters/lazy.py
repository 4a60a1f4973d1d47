"""Values that stay in their file until they are asked for: a slice is read when it is computed, and only that slice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, narrowed, reading
from brainalign.core.errors import FormatError

Spans = tuple[slice, ...]
#: Bytes of a chunk, unless the file asks for others.
CHUNK_BYTES = 2**24


@dataclass(frozen=True)
class FileArray:
    """An array in a file; indexing reads.

    Attributes
    ----------
    read : callable
        ``read(spans)`` returns the block that a tuple of slices (start and stop, step 1) names. A plain function of a module or a
        ``functools.partial`` of one, so that it travels to the workers of dask.
    shape : tuple of int
    dtype : numpy dtype
        What the values become as they are read.
    files : tuple of Path
        Looked at before each read: a file that changed since it was opened is refused.
    what : str
        The format, as a message calls it.
    stamps : tuple
    finite_axis : int, optional
        Axis of the neuroids, where NaN and infinity are refused as they are read.
    """

    read: Callable[[Spans], np.ndarray[Any, Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    files: tuple[Path, ...]
    what: str
    stamps: tuple[tuple[int, int], ...]
    finite_axis: int | None = None

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        for file, stamp in zip(self.files, self.stamps, strict=True):
            if _stamp(file) != stamp:
                raise FormatError(
                    f"{str(file)!r} changed or went away after it was opened. Expected what was opened: open it again."
                )
        spans, rest = zip(*map(_span, key, self.shape), strict=True)
        source = self.files[0] if self.files else self.what
        with reading(source, self.what):
            block = narrowed(self.read(spans), self.dtype, str(source))
            wanted = tuple(span.stop - span.start for span in spans)
            if block.shape != wanted:
                raise FormatError(f"{str(source)!r} gave a block of shape {block.shape}. Expected {wanted}: it may be truncated.")
        if self.finite_axis is not None:
            _refuse_not_finite(block, spans, self.finite_axis, self.files)
        for axis in reversed(range(len(rest))):  # one by one: two lists of numbers are not paired up
            block = block[(slice(None),) * axis + (rest[axis],)]
        return block


def lazy_array(
    read: Callable[[Spans], np.ndarray[Any, Any]],
    shape: Sequence[int],
    dtype: Any,
    *,
    files: Sequence[Path],
    what: str,
    chunks: Sequence[Any] | None = None,
    finite_axis: int | None = None,
) -> Any:
    """Return a dask array whose blocks are read from files when they are computed.

    Parameters
    ----------
    read : callable
        See :class:`FileArray`.
    shape : sequence of int
    dtype : dtype
        What the values become as they are read.
    files : sequence of Path
        What it reads.
    what : str
        The format, for messages.
    chunks : sequence, optional
        As dask takes them. What lies together in the file should lie in one chunk. Default: the first dims are cut, 16 MB each.
    finite_axis : int, optional
        Axis of the neuroids: NaN and infinity are then a FormatError that names it, where and when a block holds them.

    Returns
    -------
    dask array
    """
    import dask.array as da
    from dask.base import tokenize

    dtype = np.dtype(dtype)
    stamps = tuple(_stamp(file) for file in files)
    array = FileArray(read, tuple(shape), dtype, tuple(files), what, stamps, finite_axis)
    name = f"file-{tokenize(read, array.shape, str(dtype), [str(file) for file in files], stamps, finite_axis)}"
    meta = np.empty((0,) * len(array.shape), dtype=dtype)
    parts = leading(array.shape, dtype.itemsize) if chunks is None else tuple(chunks)
    return da.from_array(array, chunks=parts, name=name, asarray=False, meta=meta)


def leading(shape: Sequence[int], itemsize: int, n_bytes: int = CHUNK_BYTES) -> tuple[int, ...]:
    """Return chunks of at most ``n_bytes`` that cut the first dims and keep the last ones whole, as they lie in the file.

    Parameters
    ----------
    shape : sequence of int
    itemsize : int
        Bytes of a value.
    n_bytes : int

    Returns
    -------
    tuple of int

    Examples
    --------
    >>> leading((1000, 300, 500), 4), leading((10, 10**9), 4)
    ((27, 300, 500), (1, 4194304))
    """
    chunks: list[int] = []
    budget = max(1, n_bytes // itemsize)
    for size in reversed(tuple(shape)):
        chunks.append(max(1, min(size, budget)))
        budget = max(1, budget // chunks[-1])
    return tuple(reversed(chunks))


def open_npy(path: Any, *, dtype: Any = None, finite_axis: int | None = None) -> Any:
    """Open an npy file lazily.

    Parameters
    ----------
    path : str or Path
    dtype, finite_axis
        As in :func:`lazy_array`. Default: the dtype of the file.

    Returns
    -------
    dask array
        In the axes of the file; Fortran order is read as it lies.

    Raises
    ------
    FormatError
        No npy file, pickled objects, or a header that promises more than the file holds.
    """
    file = existing(path)
    with reading(file, "numpy"), file.open("rb") as opened:
        shape, fortran, stored, offset = read_npy_header(opened, str(file), file.stat().st_size)
    read = _NpyRead(file, offset, tuple(shape), stored, fortran)
    chunks = leading(shape[::-1], stored.itemsize)[::-1] if fortran else None
    return lazy_array(read, shape, dtype or stored, files=[file], what="numpy", chunks=chunks, finite_axis=finite_axis)


def read_npy_header(opened: Any, source: str, n_bytes: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the header of an npy file, and hold it against the size of the file.

    Parameters
    ----------
    opened : binary file
        At its start.
    source : str
        The file, for the message.
    n_bytes : int
        Its size.

    Returns
    -------
    shape, fortran, dtype, offset
        ``fortran``: the first axis runs fastest. ``offset``: where the values start.

    Raises
    ------
    FormatError
        Pickled objects, or a header that promises more than there is.
    """
    version = np.lib.format.read_magic(opened)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(opened)
    offset = opened.tell()
    if dtype.hasobject:
        raise FormatError(
            f"{source!r} holds pickled Python objects, which can run code and are never opened. Save plain arrays instead: numbers, and "
            "strings of fixed width."
        )
    promised = offset + prod(shape) * dtype.itemsize
    if n_bytes < promised:
        raise FormatError(
            f"{source!r} has {n_bytes} bytes; its header promises {promised} (shape {shape}, {dtype}). Expected a whole file: it is "
            "truncated, copy it again."
        )
    return shape, fortran, dtype, offset


@dataclass(frozen=True)
class _NpyRead:
    """Reads a block of a file; only the runs of bytes that it needs, so that what is read can be counted."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        if self.fortran:  # the same bytes as the transposed array in C order
            return replace(self, shape=self.shape[::-1], fortran=False)(spans[::-1]).T
        whole = len(self.shape)  # the last dims that are wanted whole lie in one run with the dim before them
        while whole > 0 and spans[whole - 1] == slice(0, self.shape[whole - 1]):
            whole -= 1
        cut = max(whole - 1, 0)
        inner = prod(self.shape[cut + 1 :])
        out = np.empty(tuple(span.stop - span.start for span in spans), dtype=self.dtype)
        if not out.size:
            return out
        runs = out.reshape(prod(out.shape[:cut]), -1)
        first = spans[cut].start * inner if spans else 0
        outer = [range(span.start, span.stop) for span in spans[:cut]]
        with self.file.open("rb", buffering=0) as opened:
            for row, at in zip(runs, _flat(outer, self.shape[:cut]), strict=True):
                opened.seek(self.offset + (at * prod(self.shape[cut:]) + first) * self.dtype.itemsize)
                _fill(opened, memoryview(row).cast("B") if row.size else memoryview(b""))
        return out


def _flat(ranges: list[range], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return the flat positions of a block's leading indices, in C order."""
    if not ranges:
        return np.zeros(1, dtype=np.int64)
    return np.ravel_multi_index(np.meshgrid(*ranges, indexing="ij"), shape).ravel()


def _fill(opened: Any, view: memoryview) -> None:
    while view:
        n = opened.readinto(view)
        if not n:
            raise EOFError("the file ended early")
        view = view[n:]


def _span(part: Any, size: int) -> tuple[slice, Any]:
    """Return the contiguous rows that an index needs, and what is to be taken of them."""
    if isinstance(part, (int, np.integer)):
        at = int(part) + (size if part < 0 else 0)
        return slice(at, at + 1), 0
    if not isinstance(part, slice):
        at = np.arange(size)[part]
        low = int(at.min(initial=size))
        return slice(low, int(at.max(initial=low - 1)) + 1), at - low
    start, stop, step = part.indices(size)
    if step == 1:
        return slice(start, max(stop, start)), slice(None)
    rows = range(start, stop, step)
    low, high = (min(rows[0], rows[-1]), max(rows[0], rows[-1])) if rows else (0, -1)
    return slice(low, high + 1), slice(None, None, step)


def _refuse_not_finite(block: np.ndarray[Any, Any], spans: Spans, axis: int, files: Sequence[Path]) -> None:
    """Refuse NaN and infinity in a block, and say where they are in the whole array."""
    if block.dtype.kind != "f" or np.isfinite(block).all():
        return
    bad = ~np.isfinite(block)
    at = [int(i) + span.start for i, span in zip(np.argwhere(bad)[0], spans, strict=True)]
    source = repr(str(files[0])) if len(files) == 1 else f"the array of {str(files[0])!r} and {len(files) - 1} more files"
    raise FormatError(
        f"{source} holds {int(bad.sum())} values that are NaN or infinite in the block that was read, the first at {tuple(at)}: neuroid "
        f"{at[axis]}, counted from 0. Expected finite numbers: leave such neuroids out, or declare NaN with `allow_nan=True`."
    )


def _stamp(file: Path) -> tuple[int, int]:
    try:
        found = os.stat(file)
    except OSError as error:
        raise FormatError(f"there is no file {str(file)!r} any more. Expected what was opened: open it again.") from error
    return found.st_size, found.st_mtime_ns
