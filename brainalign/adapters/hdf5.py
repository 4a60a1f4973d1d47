"""Datasets of HDF5 files, lazily, and only where all that they promise is there."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.lazy import CHUNK_BYTES, Spans, lazy_array, leading
from brainalign.core.errors import FormatError, require

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_COMPRESSED = 10_000  # times smaller than its values: more than any filter gains, little enough to be read into memory
#: Where HDF5 keeps strings and other values of no fixed size: the signature of such a heap, and the head of each object in it.
_HEAP, _OBJECT = b"GCOL", {2: struct.Struct("<H6xH6x"), 4: struct.Struct("<H6xI4x"), 8: struct.Struct("<H6xQ")}

#: Messages of an object header, and the class of a type of no fixed size.
_ATTRIBUTE, _CONTINUED, _NO_FIXED_SIZE = 0x0C, 0x10, 9


@contextmanager
def hdf5_file(path: Any, what: str = "HDF5", **options: Any) -> Iterator[Any]:
    """Give an HDF5 file, opened for reading, that cannot hang where its strings are damaged.

    Parameters
    ----------
    path : str or Path
    what : str
        The format, as messages call it ("NWB").
    **options
        Of ``h5py.File``.

    Yields
    ------
    h5py.File

    Raises
    ------
    FormatError
        No HDF5 file, a damaged one, or one that another program is writing.
    OptionalDependencyError
        h5py is not installed.

    Notes
    -----
    HDF5 walks a heap of strings from object to object and trusts their sizes: an empty object without a number, or a size that wraps,
    and it walks for ever, in C, where no signal reaches. So it reads through :class:`_Checked`, which walks each heap first. This takes
    0.2 microseconds a string, half of what reading it takes; numbers are read as fast as without.
    """
    h5py = require("h5py", extra="spikes", purpose=f"reading {what}")
    file = existing(path)
    with reading(file, what), _Checked(file) as raw, h5py.File(file, "r", driver="fileobj", fileobj=raw, **options) as opened:
        raw.lengths, raw.is_open = opened.id.get_create_plist().get_sizes()[1], True
        yield opened


class _Checked(io.FileIO):
    """A file that HDF5 reads through: heaps are walked before it sees them."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, "r")
        self.lengths, self.is_open = 8, False  # bytes of a size; whether HDF5 has found its start
        _lock(self, file)

    def readinto(self, buffer: Any, /) -> int:
        at, n = self.tell(), 0
        if self.is_open and at == 0:  # a link: HDF5 opens the file that it names through this one
            raise FormatError(f"{str(self.name)!r} links to another file. Expected one whole file: export it into one first.")
        view = memoryview(buffer)
        while n < len(view) and (more := super().readinto(view[n:])):
            n += more
        if n < len(view):
            raise EOFError(f"it ends {len(view) - n} bytes before the end of what is to be read at {at}")
        if view[:4] == _HEAP:
            self._walk(view, at)
        return n

    def _walk(self, heap: memoryview, at: int) -> None:
        size, place = int.from_bytes(heap[8 : 8 + self.lengths], "little"), 16
        if len(heap) < size <= self.seek(0, io.SEEK_END) - at:  # HDF5 reads the start of a large one first, and then the rest
            self.seek(at)
            heap = memoryview(self.read(size))
        if len(heap) < size:
            return  # HDF5 refuses what ends behind the file
        while place + 16 <= size:
            number, length = _OBJECT[self.lengths].unpack_from(heap, place)
            step = 16 + -(-length // 8) * 8 if number else length  # number 0 is free space, its head included
            if not 0 < step <= size - place:
                raise FormatError(
                    f"{str(self.name)!r} is damaged where it keeps strings: at byte {at + place}, an object of {length} bytes in a heap "
                    f"with {size - place} left. Expected objects that fill it: compare the file with its source, and copy it again."
                )
            place += step


def _lock(opened: Any, file: Path) -> None:
    """Refuse a file that is being written, as HDF5 does where it opens files itself."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FormatError(f"{str(file)!r} is being written. Expected a file that is closed: open it when it is done.") from error
    except OSError:
        return  # a file system without locks


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
    with hdf5_file(file) as opened:
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


def members(group: Any) -> dict[str, Any]:
    """Return what a group holds by name.

    Parameters
    ----------
    group : h5py.Group

    Returns
    -------
    dict of str to h5py.Group or h5py.Dataset
        All at once: while ``group.items()`` is walked h5py holds its lock, and an error halfway keeps it as long as the error is
        known, so that every thread that opens a file waits for ever.
    """
    return dict(list(group.items()))


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
    if not here or dataset.external or dataset.is_virtual:
        raise FormatError(f"{str(file)!r} keeps the values of {dataset.name!r} in another file. Expected them here: copy them.")
    filtered = dataset.id.get_create_plist().get_nfilters()  # and has checksums
    if there < promised and there * (_MOST_COMPRESSED if filtered else 1) < promised:
        raise FormatError(
            f"{str(file)!r} holds {there} bytes at {dataset.name!r}; its header promises {promised} (shape {dataset.shape}, {dataset.dtype}). "
            "Expected all values in this file: it was not written to its end, or is damaged; copy or make it again."
        )
    if dataset.dtype.kind == "O" and there and not filtered and not dataset.dtype.metadata.get("ref"):
        _check_lengths(dataset, file)


def _check_lengths(dataset: Any, file: Path) -> None:
    """Refuse strings that are longer than their file: HDF5 sets the memory aside, up to 4 GB, before it looks."""
    size = file.stat().st_size
    item = np.dtype([("length", "<u4"), ("place", f"V{dataset.file.id.get_create_plist().get_sizes()[0] + 4}")])
    runs = [(dataset.id.get_offset(), dataset.size)]
    if dataset.chunks:
        runs = []
        dataset.id.chunk_iter(lambda chunk: runs.append((chunk.byte_offset, chunk.size // item.itemsize)))
    for start, n in runs:
        lengths = np.fromfile(file, item, count=n, offset=start)["length"] if start is not None else np.zeros(1, dtype=int)
        if lengths.max(initial=0) > size:
            raise FormatError(
                f"{str(file)!r} has {size} bytes and holds a string of {lengths.max()} bytes at {dataset.name!r}. Expected strings that fit: it is "
                "damaged; copy it again."
            )


def attributes(item: Any) -> Any:
    """Return the attributes of a group or dataset, once their strings are known to fit into the file.

    Parameters
    ----------
    item : h5py.Group or h5py.Dataset
        Of a file that :func:`hdf5_file` gave.

    Returns
    -------
    h5py.AttributeManager

    Raises
    ------
    FormatError
        A string is longer than its file: HDF5 sets the memory aside, up to 4 GB, before it looks.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    opened = h5py.h5i.get_file_id(item.id)
    plist, path = opened.get_create_plist(), os.fsdecode(opened.name)
    start, sizes = plist.get_userblock(), plist.get_sizes()
    with open(path, "rb", buffering=0) as file:
        size = file.seek(0, io.SEEK_END)
        for message in _attribute_messages(file, start + h5py.h5o.get_info(item.id).addr, start, sizes):
            n_max = _longest(message, sizes[0])
            if n_max > size:
                raise FormatError(
                    f"{path!r} has {size} bytes and holds a string of {n_max} bytes in an attribute of {item.name!r}. Expected strings that fit: "
                    "it is damaged; copy it again."
                )
    return item.attrs


def _attribute_messages(file: Any, at: int, start: int, sizes: tuple[int, int]) -> Iterator[bytes]:
    """Yield the attributes that an object header of version 1 holds; those of version 2 have checksums, which HDF5 compares."""
    file.seek(at)
    version, n_bytes = struct.unpack("<B7xI4x", file.read(16))
    blocks = [(at + 16, n_bytes)] if version == 1 else []
    for place, n_bytes in blocks:  # a header goes on elsewhere: the list grows
        file.seek(place)
        block, here = file.read(n_bytes), 0
        while here + 8 <= len(block):
            kind, length, flags = struct.unpack_from("<HHB", block, here)
            body, here = block[here + 8 : here + 8 + length], here + 8 + length
            if kind == _CONTINUED:
                place, n_bytes = (int.from_bytes(part, "little") for part in (body[: sizes[0]], body[sizes[0] : sum(sizes)]))
                blocks.append((start + place, n_bytes))
            elif kind == _ATTRIBUTE and not flags & 2:  # else it is kept elsewhere, with a checksum
                yield body


def _longest(attribute: bytes, n_address: int) -> int:
    """Return how long the longest of the values of no fixed size is; 0 where there are none."""
    version, flags, *lengths = struct.unpack_from("<BBHHH", attribute)
    place, pad = (8, 8) if version == 1 else (8 + (version == 3), 1)
    parts = []
    for length in lengths:  # its name, type and shape; then values
        parts.append(place)
        place += -(-length // pad) * pad
    is_named_type = version > 1 and flags & 1
    if is_named_type or attribute[parts[1]] & 15 != _NO_FIXED_SIZE:
        return 0
    items = np.dtype([("length", "<u4"), ("place", f"V{n_address + 4}")])
    return int(np.frombuffer(attribute[place:], items, count=(len(attribute) - place) // items.itemsize)["length"].max(initial=0))


@dataclass(frozen=True)
class _HDF5Read:
    file: Path
    key: str

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        with hdf5_file(self.file) as opened:
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
