"""Whole or truncated: the tag structure of a FIF file, walked without reading its data."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

from brainalign.adapters.files import first_bytes, reading
from brainalign.core.errors import FormatError

_HEADER = struct.Struct(">iIii")  # kind, type, size, next
_FILE_ID = struct.pack(">iI", 100, 31)
_DIRECTORY_POINTER, _LAST = 101, -1


def is_fif(path: Path) -> bool:
    """Return True where the file starts with a FIF file-id tag, compressed or not.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return first_bytes(path, 8) == _FILE_ID


def check_whole(path: Path) -> None:
    """Refuse a FIF file that ends before its last tag.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FormatError
        Not a FIF file, or truncated; the byte that is missing is named.

    Notes
    -----
    A reader that scans tags until the end of the file returns fewer conditions from a truncated file and says nothing.
    The last tag of a whole file says so: its ``next`` field is -1. A directory may follow it, where the directory
    pointer (tag 101) says.
    """
    if not is_fif(path):
        raise FormatError(
            f"{str(path)!r} starts with {first_bytes(path, 8)!r}. Expected a FIF file (file-id tag 100 of type 31)."
        )
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with reading(path, "FIF"), gzip.open(path, "rb") if compressed else path.open("rb") as tags:
        stop = _walk(tags, None if compressed else path.stat().st_size)
    if stop is not None:
        raise FormatError(
            f"{str(path)!r} ends before byte {stop}, which one of its tags reaches. Expected a whole FIF file: it is truncated; copy it again "
            "from the source."
        )


def _walk(file: Any, size: int | None) -> int | None:
    """Return None where the last tag and the directory are whole, else the byte that a tag reaches and the file does not."""
    directory = 0
    while True:
        start = file.tell()
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return int(start + _HEADER.size)
        kind, _, length, following = _HEADER.unpack(header)
        end = start + _HEADER.size + length
        if kind == _DIRECTORY_POINTER:
            directory = int.from_bytes(file.read(4), "big", signed=True)
        if length and not _reaches(file, end, size):
            return int(end)
        if following == _LAST:
            break
        file.seek(following if following > 0 else end)
    if directory <= 0:
        return None
    file.seek(directory)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not _reaches(file, directory + _HEADER.size + _HEADER.unpack(header)[2], size):
        return int(directory + _HEADER.size)
    return None


def _reaches(file: Any, end: int, size: int | None) -> bool:
    if size is not None:
        return end <= size
    file.seek(end - 1)
    return len(file.read(1)) == 1
