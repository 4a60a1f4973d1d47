"""FIF files before a reader sees them: whole or truncated, and what they hold, from their tags alone."""

from __future__ import annotations

import gzip
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brainalign.adapters.files import first_bytes, reading
from brainalign.core.errors import FormatError

_HEADER = struct.Struct(">iIii")  # kind, type, size, next
_FILE_ID = struct.pack(">iI", 100, 31)
_DIRECTORY_POINTER, _BLOCK_START, _LAST = 101, 104, -1
_ROLE, _FILE_NUMBER, _FILE_NAME, _NEXT_FILE = 115, 117, 118, 2  # tags of a reference to the next part of a split file
_KINDS = {373: "epochs", 104: "evoked", 102: "raw", 112: "raw", 119: "raw"}  # block types of MNE's and Elekta's files


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


@contextmanager
def whole_fif(path: Path) -> Iterator[tuple[Path, str]]:
    """Give a FIF file, decompressed, that was found whole, and what it holds.

    Parameters
    ----------
    path : Path
        ``.fif`` or ``.fif.gz``.

    Yields
    ------
    (Path, str)
        Where the decompressed file is while the block runs (a FIF reader jumps about, which costs minutes inside
        gzip), and ``"epochs"``, ``"evoked"``, ``"raw"`` or ``"nothing known"``.

    Raises
    ------
    FormatError
        Not a FIF file, or damaged or truncated; the byte is named.
    """
    if not is_fif(path):
        raise FormatError(
            f"{str(path)!r} starts with {first_bytes(path, 8)!r}. Expected a FIF file (file-id tag 100 of type 31)."
        )
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    if not compressed:
        yield path, what_it_holds(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.name.removesuffix(".gz")
        with reading(path, "gzip"), gzip.open(path, "rb") as packed, plain.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        kind, following = _scan(plain)
        if following:
            raise FormatError(
                f"{str(path)!r} is compressed and goes on in {following!r}. Expected a compressed file alone: decompress all its parts."
            )
        yield plain, kind


def read_fif(mne: Any, path: Path, *, proj: bool) -> Any:
    """Read a FIF file, all its parts.

    Parameters
    ----------
    mne : module
    path : Path
    proj : bool
        Apply the projections that epochs and averages carry.

    Returns
    -------
    mne.Epochs, list of mne.Evoked, or mne.io.Raw
        Values of a raw recording stay in the file, unless it is compressed.

    Raises
    ------
    FormatError
        Damaged, truncated, without one of its parts, or it holds something else.
    """
    with whole_fif(path) as (plain, kind), reading(path, "FIF"):
        if kind == "epochs":
            return mne.read_epochs(plain, preload=True, proj=proj, verbose="error")
        if kind == "evoked":
            return mne.read_evokeds(plain, proj=proj, verbose="error")
        if kind == "raw":
            return mne.io.read_raw_fif(plain, preload=plain != path, verbose="error")
    raise FormatError(f"{str(path)!r} is a FIF file that holds {kind}. Expected epochs, averages or a raw recording.")


def what_it_holds(path: Path) -> str:
    """Say what a FIF file holds, after every one of its tags was found to lie inside it.

    Parameters
    ----------
    path : Path
        Not compressed.

    Returns
    -------
    {"epochs", "evoked", "raw", "nothing known"}

    Raises
    ------
    FormatError
        A tag reaches past the end of the file, or points back.

    Notes
    -----
    A reader that scans tags until the end of the file returns fewer conditions from a truncated file and says nothing.
    The last tag of a whole file says so: its ``next`` field is -1. A directory may follow it, where the directory
    pointer (tag 101) says.
    """
    return parts(path)[1]


def parts(path: Path) -> tuple[list[Path], str]:
    """Return the files of a recording that was split, in order, and what they hold, once all were found whole.

    Parameters
    ----------
    path : Path
        The first of them, not compressed.

    Returns
    -------
    (list of Path, str)

    Raises
    ------
    FormatError
        A part is missing, damaged or truncated.
    """
    kind, following = _scan(path)
    files = [path]
    while following:
        part = path.parent / following
        if Path(following).name != following or part in files or not part.is_file():
            raise FormatError(
                f"{str(files[-1])!r} goes on in {following!r}, which is not another file in {str(path.parent)!r}. Expected all parts of the "
                "recording beside each other, under the names they were written with: copy that one too."
            )
        files.append(part)
        following = _scan(part)[1]
    return files, kind


def find_tag(path: Path, wanted: int) -> tuple[int, int, int] | None:
    """Return where the value of the first tag of a kind lies in a file, how many bytes it has, and its type.

    Parameters
    ----------
    path : Path
        Not compressed.
    wanted : int
        The kind.

    Returns
    -------
    (int, int, int) or None
        None where there is no such tag.
    """
    size, start = path.stat().st_size, 0
    with path.open("rb") as file:
        while True:
            kind, following, end = _tag(file, start, size, path)
            if kind == wanted:
                file.seek(start)
                _, code, length, _ = _HEADER.unpack(file.read(_HEADER.size))
                return start + _HEADER.size, length, code
            if following == _LAST:
                return None
            start = following if following > 0 else end


def _scan(path: Path) -> tuple[str, str]:
    """Return what the blocks of one file hold, and the name of the file in which it goes on ("" where it does not)."""
    size, blocks, directory, start = path.stat().st_size, set(), 0, 0
    reference: dict[int, bytes] = {}
    with path.open("rb") as file:
        while True:
            kind, following, end = _tag(file, start, size, path)
            if kind == _DIRECTORY_POINTER:
                directory = int.from_bytes(file.read(4), "big", signed=True)
            elif kind == _BLOCK_START:
                blocks.add(int.from_bytes(file.read(4), "big"))
            elif kind in (_ROLE, _FILE_NUMBER, _FILE_NAME):
                reference[kind] = file.read(min(end - file.tell(), 1024))
            if following == _LAST:
                break
            start = following if following > 0 else end
        if directory > 0:
            _tag(file, directory, size, path)
    return next((name for block, name in _KINDS.items() if block in blocks), "nothing known"), _next_name(path, reference)


def _next_name(path: Path, reference: dict[int, bytes]) -> str:
    if int.from_bytes(reference.get(_ROLE, b""), "big") != _NEXT_FILE:
        return ""
    if _FILE_NAME in reference:
        return reference[_FILE_NAME].decode("latin-1").rstrip("\0")
    stem, _, end = path.name.partition(".")
    stem = stem.rpartition("-")[0] if stem.rpartition("-")[2].isdigit() else stem
    return f"{stem}-{int.from_bytes(reference.get(_FILE_NUMBER, b''), 'big')}.{end}"


def _tag(file: Any, start: int, size: int, path: Path) -> tuple[int, int, int]:
    """Return kind, place of the next tag and end of the tag at ``start``, once it was found inside the file."""
    file.seek(start)
    header = file.read(_HEADER.size)
    kind, _, length, following = _HEADER.unpack(header) if len(header) == _HEADER.size else (0, 0, 0, 0)
    end = start + _HEADER.size + length
    if len(header) < _HEADER.size or end > size:
        raise FormatError(
            f"{path.name!r} ends at byte {size}, inside the tag that starts at {start} or before its last one. Expected a whole FIF file: it is "
            "truncated; copy it again from the source."
        )
    if length < 0 or 0 < following <= start:
        raise FormatError(f"{path.name!r} is damaged: the tag at byte {start} has size {length} and points to byte {following}.")
    return kind, following, end
