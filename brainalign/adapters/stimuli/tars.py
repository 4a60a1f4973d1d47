"""Tar archives in the layout of WebDataset: ``key.jpg``, ``key.cls``, ``key.json`` are one sample; nothing is ever extracted."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.stimuli.images import decode_image
from brainalign.core.errors import FormatError
from brainalign.core.parameters import preview

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
# As in WebDataset: the key ends at the first dot of the last part of the name; hidden files have none.
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


@dataclass(frozen=True)
class Member:
    """Where the bytes of a member lie, from the start of the archive.

    Attributes
    ----------
    offset, size : int
    """

    offset: int
    size: int


def index_tar(path: str | Path) -> dict[str, Member]:
    """Return where each file of an archive lies; only the headers are read.

    Parameters
    ----------
    path : str or Path
        An uncompressed tar.

    Returns
    -------
    dict of str to Member
        By name, in the order of the archive.

    Raises
    ------
    FormatError
        Compressed, truncated or damaged; a link, a device, a name that leads out of the archive, or one name twice.
    """
    file = existing(path)
    found = file.stat()
    return _index(file, found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=256)
def _index(file: Path, size: int, stamp: int) -> dict[str, Member]:
    """Index an archive once for all reads; one that changed is indexed anew."""
    found: dict[str, Member] = {}
    end = 0
    with reading(file, "a tar"), file.open("rb") as opened:
        start = opened.read(2)
        opened.seek(0)
        if start in _COMPRESSED:
            raise FormatError(
                f"{str(file)!r} is compressed ({_COMPRESSED[start]}). Expected a plain tar, in which a member is found by its place: "
                "decompress it once (images are compressed already) and pass the .tar."
            )
        with tarfile.open(fileobj=opened, mode="r:") as archive:
            while (member := archive.next()) is not None:
                _refuse_unsafe(file, member, found)
                last, end = end, member.offset_data + -(-max(member.size, 0) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                if member.size < 0 or end <= last or member.offset_data + member.size > size:
                    raise _truncated(
                        file, f"its member {member.name!r} is to end at byte {member.offset_data + member.size} of {size}"
                    )
                if member.isreg():
                    found[member.name] = Member(member.offset_data, member.size)
        opened.seek(end)
        after = opened.read(tarfile.BLOCKSIZE)
    if after != tarfile.NUL * tarfile.BLOCKSIZE:  # what follows the last member must be the mark of the end
        raise _truncated(file, f"it has no mark of its end at byte {end} of {size}")
    return found


def _refuse_unsafe(file: Path, member: tarfile.TarInfo, found: dict[str, Member]) -> None:
    what = None
    if not (member.isreg() or member.isdir()) or member.issparse():
        what = "a link, a device or a sparse file"
    elif member.name.startswith("/") or ".." in member.name.split("/") or "\\" in member.name:
        what = "a name that leads out of the archive"
    elif any("\ud800" <= letter <= "\udfff" for letter in member.name):
        what = "a name that is no UTF-8"
    elif member.name in found:
        what = "the name of an earlier member"
    if what is not None:
        raise FormatError(
            f"{str(file)!r} has the member {member.name!r}, which is {what}. Expected plain files with names of their own: write the archive "
            "again without it."
        )


def _truncated(file: Path, what: str) -> FormatError:
    return FormatError(f"{str(file)!r} is truncated or damaged: {what}. Expected a whole tar: copy it again.")


def read_members(path: str | Path, names: Sequence[str]) -> Iterator[bytes]:
    """Yield the bytes of some members; nothing else of the archive is read.

    Parameters
    ----------
    path : str or Path
    names : sequence of str

    Yields
    ------
    bytes

    Raises
    ------
    FormatError
        There is no such member.
    """
    file = existing(path)
    index = index_tar(file)
    missing = [name for name in names if name not in index]
    if missing:
        raise FormatError(
            f"{str(file)!r} has no member {missing[0]!r}. Expected one of {preview(index)}: it may have been replaced."
        )
    with file.open("rb", buffering=0) as opened:
        for name in names:
            opened.seek(index[name].offset)
            yield opened.read(index[name].size)


def read_images(path: str | Path, names: Sequence[str]) -> list[np.ndarray[Any, Any]]:
    """Return some members as images.

    Parameters
    ----------
    path : str or Path
    names : sequence of str

    Returns
    -------
    list of ndarray of uint8, (y, x, 3)
    """
    contents = read_members(path, names)
    return [decode_image(io.BytesIO(content), name=f"{path}:{name}") for name, content in zip(names, contents, strict=True)]


def read_samples(files: Sequence[Path]) -> dict[str, dict[str, tuple[Path, str]]]:
    """Return the samples of some shards: for each key, the shard and the name of each of its members, by suffix.

    Parameters
    ----------
    files : sequence of Path

    Returns
    -------
    dict of str to dict of str to (Path, str)
        ``{"dir/0001": {"jpg": (shard, "dir/0001.jpg"), "cls": ...}}``; names without a suffix and hidden ones are left aside.

    Raises
    ------
    FormatError
        One key in two shards or twice with one suffix, or no sample at all.
    """
    samples: dict[str, dict[str, tuple[Path, str]]] = {}
    for file in files:
        for name in index_tar(file):
            parts = _NAME.fullmatch(name.removeprefix("./"))
            if parts is None:
                continue
            key, suffix = parts[1], parts[2].lower()
            members = samples.setdefault(key, {})
            other = next(iter(members.values()), None)
            if other is not None and (other[0] != file or suffix in members):
                raise FormatError(
                    f"the key {key!r} is in {str(other[0])!r} as {other[1]!r} and in {str(file)!r} as {name!r}. Expected each key once, in one "
                    "shard: rename the members of one of them."
                )
            members[suffix] = (file, name)
    if not samples:
        raise FormatError(
            f"{preview(map(str, files))} holds no sample. Expected members such as '0001.jpg' with '0001.cls' beside it."
        )
    return samples
