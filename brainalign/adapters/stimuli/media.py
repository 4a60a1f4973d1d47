"""The content of stimuli: texts, arrays, and files or parts of files that are decoded only when they are wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.stimuli import film, stacks, tars
from brainalign.adapters.stimuli.folders import resolve
from brainalign.adapters.stimuli.images import decode_image
from brainalign.adapters.stimuli.sound import read_sound
from brainalign.core.errors import FormatError
from brainalign.core.parameters import preview
from brainalign.core.tables import content_of

#: How the parts of a file are read, by the first word of ``path_part``: ``read(file, parts, dims)``, one image each.
_READERS: dict[str, Callable[[Path, list[str], Any], list[np.ndarray]]] = {
    "member": lambda file, parts, dims: tars.read_images(file, parts),
    "pts": lambda file, parts, dims: film.read_timed_frames(file, parts),
    "frame": lambda file, parts, dims: film.read_numbered_frames(file, parts),
    "row": stacks.read_rows,
}


def read_content(stimuli: xr.Dataset, rows: slice | np.ndarray) -> Any:
    """Return the content of some rows of a stimulus table.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
    rows : slice or ndarray of int
        Which presentations. Only their files, or parts of files, are read.

    Returns
    -------
    list of str, or ndarray, or list of ndarray
        Texts; rows of ``values`` as they are; decoded images, (row, y, x, 3) uint8 where they are of one size, else a list of
        (y, x, 3); or sounds at the attr ``sampling_rate_hz``, (row, sample) float32 or a list of (sample,).

    Raises
    ------
    FormatError
        A file is missing, damaged, or outside the attr ``root``.
    """
    name = content_of(stimuli)
    chosen = stimuli[name].isel(presentation=rows)
    if name == "values":
        return np.asarray(chosen.values)
    items = [str(item) for item in chosen.values]
    if name == "text":
        return items
    parts = [str(part) for part in chosen.coords["path_part"].values] if "path_part" in chosen.coords else [""] * len(items)
    decoded: dict[tuple[str, str], np.ndarray] = {}
    for item, own in _by_file(items, parts).items():  # what is presented twice is decoded once
        file = resolve(stimuli.attrs.get("root", "."), item)
        decoded |= {(item, part): value for part, value in zip(own, _decode(file, own, stimuli.attrs), strict=True)}
    found = [decoded[pair] for pair in zip(items, parts, strict=True)]
    return np.stack(found) if len({value.shape for value in found}) == 1 else found


def _decode(file: Path, parts: list[str], attrs: dict[str, Any]) -> list[np.ndarray]:
    """Return the decoded parts of one file; the one part ``""`` is all of it."""
    if parts == [""]:
        if attrs.get("kind") == "audio":
            return [read_sound(file, rate_hz=attrs.get("sampling_rate_hz"), channel=attrs.get("channel"))]
        return [decode_image(file)]
    return _READERS[_scheme(file, parts)](file, [part.partition(":")[2] for part in parts], attrs.get("stack_dims"))


def _scheme(file: Path, parts: list[str]) -> str:
    schemes = {part.partition(":")[0] for part in parts}
    if len(schemes) != 1 or not schemes <= _READERS.keys():
        raise FormatError(
            f"the stimuli in {str(file)!r} have path_part {preview(parts)}. Expected parts of one kind, {', '.join(_READERS)}: build the table "
            "with `ba.stimuli`."
        )
    return schemes.pop()


def _by_file(items: list[str], parts: list[str]) -> dict[str, list[str]]:
    """Return the parts wanted of each file, each once, in the order in which they come."""
    found: dict[str, dict[str, None]] = {}
    for item, part in zip(items, parts, strict=True):
        found.setdefault(item, {})[part] = None
    return {item: list(own) for item, own in found.items()}


def content_hashes(stimuli: xr.Dataset) -> list[str]:
    """Return the sha256 of the content of every row of a table of files, reading all of it.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
        With ``path``.

    Returns
    -------
    list of str
        Of a file and of a member of a tar: its bytes, so that an image has one hash wherever it lies. Of a row of an HDF5
        array: its values, as of a row of ``values``. Of a frame: the bytes of the film, and which frame.

    Raises
    ------
    FormatError
        A file is missing or damaged.
    """
    items = stimuli["path"].values.astype(object).tolist()
    parts = stimuli.coords["path_part"].values.astype(object).tolist() if "path_part" in stimuli.coords else [""] * len(items)
    hashes = {}
    for item, own in _by_file(items, parts).items():
        file = resolve(stimuli.attrs.get("root", "."), item)
        if not file.is_file():
            raise FormatError(
                f"the stimulus file {str(file)!r} cannot be read: it is not there. Expected a file for each stimulus: look at the attr "
                "`root` of the stimuli."
            )
        hashes |= {(item, part): value for part, value in zip(own, _hash_parts(file, own), strict=True)}
    return [hashes[pair] for pair in zip(items, parts, strict=True)]


def _hash_parts(file: Path, parts: list[str]) -> list[str]:
    if parts == [""]:
        return [hash_file(file)]
    scheme, names = _scheme(file, parts), [part.partition(":")[2] for part in parts]
    if scheme == "member":
        return [hash_bytes(content) for content in tars.read_members(file, names)]
    if scheme == "row":
        return [hash_bytes(*array_bytes(row)) for row in stacks.raw_rows(file, names)]
    whole = hash_file(file)
    return [hash_bytes(f"{whole} {part}".encode()) for part in parts]


def hash_file(file: str | Path) -> str:
    """Return the sha256 of the bytes of a file, in hex.

    Parameters
    ----------
    file : str or Path

    Returns
    -------
    str
    """
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hash_bytes(*pieces: bytes) -> str:
    """Return the sha256 of some bytes, in hex.

    Parameters
    ----------
    *pieces : bytes
        One after another.

    Returns
    -------
    str
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def array_bytes(row: np.ndarray) -> tuple[bytes, bytes]:
    """Return what the hash of an array is made of: its type and shape, and its values.

    Parameters
    ----------
    row : ndarray

    Returns
    -------
    tuple of bytes
    """
    return f"{row.dtype.str}{row.shape}".encode(), np.ascontiguousarray(row).tobytes()
