"""NIfTI images whose values stay in their file: headers are checked at opening, and a block reads its own volumes."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from brainalign.adapters.files import check_finite, existing, reading
from brainalign.adapters.lazy import Spans, lazy_array, leading
from brainalign.core.errors import FormatError, require

_UNITS = {8: ("sec", 1.0), 16: ("msec", 1e-3), 24: ("usec", 1e-6)}  # codes of xyzt_units
_OTHER_SPACE = {1: "meter", 3: "micron"}  # and 2 for mm
_STREAM_BYTES = 2**22
_RUN_BYTES = 2**29  # a compressed run is one block up to this size: each block streams the whole file


def load_image(path: Any, *, n_dims: int | None = None) -> Any:
    """Read the header of a NIfTI file, and check that the file is as long as it says.

    Parameters
    ----------
    path : str or Path
    n_dims : int, optional
        Dims that the image must have: 4 for a run of volumes.

    Returns
    -------
    nibabel image
        Its values are not read.

    Raises
    ------
    FormatError
        No NIfTI volume of real numbers, another number of dims, places in another unit than mm, or a header that promises more than
        the file holds.
    OptionalDependencyError
        nibabel is not installed.
    """
    nibabel = require("nibabel", extra="fmri", purpose="reading NIfTI images")
    file = existing(path)
    with reading(file, "NIfTI"):
        image = nibabel.load(file)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise FormatError(
            f"{str(file)!r} holds a {type(image).__name__}. Expected volumes in NIfTI: convert it, or open it as what it is."
        )
    if n_dims is not None and len(image.shape) != n_dims:
        raise FormatError(
            f"{str(file)!r} has shape {image.shape}. Expected {n_dims} dims, (x, y, z, volume): is it a mask, or a single volume?"
        )
    if min(image.shape, default=0) < 1 or image.dataobj.dtype.kind not in "iuf":
        raise FormatError(
            f"{str(file)!r} has shape {image.shape} and values of type {image.dataobj.dtype}. Expected real numbers, at least one."
        )
    unit = _OTHER_SPACE.get(int(image.header["xyzt_units"]) & 0b111)
    if unit is not None:
        raise FormatError(
            f"{str(file)!r} states its places in {unit} (xyzt_units). Expected mm: scale its affine, and write it again."
        )
    with reading(file, "NIfTI"):
        _check_length(_data_file(image), image)
    return image


def header_tr(image: Any) -> tuple[float | None, str]:
    """Return the seconds between volumes that a header states, and what it says in words.

    Parameters
    ----------
    image : nibabel image, (x, y, z, volume)

    Returns
    -------
    (float or None, str)
        None without a unit of time, or where the zoom is no positive number.
    """
    zoom = float(image.header.get_zooms()[3])
    unit, seconds = _UNITS.get(int(image.header["xyzt_units"]) & 0b111000, ("unknown", np.nan))
    stated = zoom * seconds
    return stated if np.isfinite(stated) and stated > 0 else None, f"header zoom {zoom:g} of unit {unit!r}"


def lazy_volumes(image: Any, keep: np.ndarray[Any, Any], *, allow_nan: bool) -> Any:
    """Return the voxels of a run as a dask array.

    Parameters
    ----------
    image : nibabel image, (x, y, z, volume)
    keep : ndarray of bool, (x, y, z)
        Voxels to take, in C order.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    dask array of float32, (volume, voxel)
        ``scl_slope`` and ``scl_inter`` applied. Of an uncompressed file a block reads its volumes, from the first wanted voxel to
        the last; a compressed one is streamed to its end, where the checksum is, once per block, and a run is one block where
        it fits into 512 MB.
    """
    file, n_volumes = _data_file(image), image.shape[3]
    at = np.flatnonzero(keep)
    # voxels are named in C order and lie in Fortran order
    stored = np.ravel_multi_index(np.unravel_index(at, keep.shape), keep.shape, order="F")
    proxy = image.dataobj
    read = _VolumeRead(
        file, int(proxy.offset), proxy.dtype, keep.size, stored, at, float(proxy.slope), float(proxy.inter), allow_nan
    )
    shape = (n_volumes, at.size)
    chunks = leading(shape, 4, _RUN_BYTES) if is_gzip(file) else leading(shape, 4)
    return lazy_array(read, shape, np.float32, files=[file], what="NIfTI", chunks=(chunks[0], at.size))


@dataclass(frozen=True, eq=False)
class _VolumeRead:
    """Reads some voxels of some volumes; nothing of nibabel, so that it travels."""

    file: Path
    offset: int
    dtype: np.dtype[Any]
    n_voxels: int  # of a volume
    stored: np.ndarray[Any, Any]  # where each wanted voxel lies in a volume
    names: np.ndarray[Any, Any]
    slope: float
    inter: float
    allow_nan: bool

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        rows, columns = spans
        wanted = self.stored[columns]
        out = np.empty((rows.stop - rows.start, wanted.size), dtype=np.float32)
        if out.size:
            low, high = int(wanted.min()), int(wanted.max()) + 1
            for row, slab in zip(out, self._slabs(range(rows.start, rows.stop), low, high), strict=True):
                picked = slab[wanted - low]
                with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused as such
                    row[:] = (
                        picked if (self.slope, self.inter) == (1.0, 0.0) else picked.astype(np.float64) * self.slope + self.inter
                    )
        if not (self.allow_nan or np.isfinite(out).all()):
            names = [f"voxel {name}" for name in self.names[columns]]
            check_finite(out, str(self.file), names, self.allow_nan, first_row=rows.start)
        return out

    def _slabs(self, volumes: range, low: int, high: int) -> Iterator[np.ndarray[Any, Any]]:
        """Yield the stored values from voxel ``low`` to ``high`` of each volume."""
        compressed = is_gzip(self.file)
        with gzip.open(self.file, "rb") if compressed else self.file.open("rb", buffering=0) as stream:
            for volume in volumes:
                stream.seek(self.offset + (volume * self.n_voxels + low) * self.dtype.itemsize)
                yield np.frombuffer(_exactly(stream, (high - low) * self.dtype.itemsize), dtype=self.dtype)
            if compressed:  # to the checksum: damaged values would pass for whole ones
                _n_left(stream)


def is_gzip(file: Path) -> bool:
    """Return True where a file starts as gzip does, whatever its name.

    Parameters
    ----------
    file : Path

    Returns
    -------
    bool
    """
    with file.open("rb") as start:
        return start.read(2) == b"\x1f\x8b"


def read_values(image: Any) -> np.ndarray[Any, Any]:
    """Return all values of a small image (a mask, labels), scaled, its checksum looked at.

    Parameters
    ----------
    image : nibabel image
        As :func:`load_image` returns it.

    Returns
    -------
    ndarray
    """
    file = _data_file(image)
    with reading(file, "NIfTI"):
        if is_gzip(file):
            with gzip.open(file, "rb") as stream:
                _n_left(stream)
        return np.asanyarray(image.dataobj)


def _data_file(image: Any) -> Path:
    file = Path(image.file_map["image"].filename)
    if file.suffix.lower() in (".bz2", ".zst"):
        raise FormatError(f"{str(file)!r} is compressed as {file.suffix}. Expected .nii or .nii.gz: decompress it.")
    return file


def _check_length(file: Path, image: Any) -> None:
    """Refuse a header that promises more than there is, before anything is allocated for it."""
    promised = int(image.dataobj.offset) + int(np.prod(image.shape, dtype=object)) * image.dataobj.dtype.itemsize
    there = file.stat().st_size
    if is_gzip(file):
        with file.open("rb") as end:
            end.seek(-4, 2)
            size = int.from_bytes(end.read(4), "little")  # of the last member, modulo 2**32
        if size == promised % 2**32 and promised < 1100 * there:  # deflate makes no file 1100 times smaller
            return
        with gzip.open(file, "rb") as stream:
            there = _n_left(stream)
    if there < promised:
        raise FormatError(
            f"{str(file)!r} holds {there} bytes; its header promises {promised} (shape {image.shape}, {image.dataobj.dtype}). Expected a "
            "whole file: it is truncated, or its header is damaged; copy it again."
        )


def _n_left(stream: Any) -> int:
    """Read a stream to its end and return how many bytes there were."""
    n = 0
    while block := stream.read(_STREAM_BYTES):
        n += len(block)
    return n


def _exactly(stream: BinaryIO | Any, n: int) -> bytearray:
    block = bytearray(n)
    view = memoryview(block)
    while view:
        done = stream.readinto(view)
        if not done:
            raise EOFError("the file ended early")
        view = view[done:]
    return block
