"""Assembling a stimulus table: which of text, path and values it holds, its labels, and a hash of every content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.stimuli.folders import resolve
from brainalign.adapters.stimuli.media import array_bytes, content_hashes, hash_bytes, hash_file
from brainalign.adapters.stimuli.media import read_content as read_content  # the door for features, which do not reach adapters
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, did_you_mean
from brainalign.core.schema import PRESENTATION_COORDS, as_labels, dim_of
from brainalign.core.tables import CONTENT, KINDS, content_of, validate_stimuli

Array = np.ndarray[Any, Any]

#: Names that a coordinate cannot take.
RESERVED = ("stimulus_id", "sha256", "presentation", "path_part", *CONTENT)
#: Names of the dims of one stimulus, where they are not given.
_DIMS = {("image", 2): ("y", "x"), ("audio", 1): ("sample",), ("array", 1): ("feature",)}


def build(
    content: Any,
    stimulus_id: Any,
    kind: str,
    dims: Sequence[str] | None,
    root: str | os.PathLike[str] | None,
    coords: Mapping[str, Any],
    *,
    must_exist: bool = True,
    parts: Sequence[str] | None = None,
) -> xr.Dataset:
    """Return a valid stimulus table.

    Parameters
    ----------
    content, stimulus_id, kind, dims, root
        As in :func:`brainalign.stimuli.table`.
    coords : mapping of str to array_like
        Presentation coordinates; a scalar holds for all.
    must_exist : bool
        A file that is missing is an error; otherwise its ``sha256`` is empty.
    parts : sequence of str, optional
        Which part of its file each stimulus is. Parts are not read here, so that their ``sha256`` is empty.

    Returns
    -------
    Dataset, (presentation,)

    Raises
    ------
    ParameterError
        No such kind, columns of another length, or one with a reserved name.
    """
    check_choice("kind", kind, KINDS, owner="stimuli.table")
    attrs: dict[str, Any] = {"kind": kind}
    values = _as_array(content)
    _refuse_mismatch(values, kind)
    if values.dtype.kind in "iufb":
        variable = {"values": (("presentation", *_dims(values, kind, dims)), values)}
        hashes = [hash_bytes(*array_bytes(row)) for row in values]
    elif kind in ("text", "word"):
        variable = {"text": ("presentation", as_labels(values))}
        hashes = [hashlib.sha256(str(text).encode()).hexdigest() for text in values]
    else:
        folder, paths = _relative([str(path) for path in values], root)
        variable, attrs["root"] = {"path": ("presentation", as_labels(paths))}, str(folder)
        hashes = _hash_files(folder, paths, must_exist) if parts is None else [""] * len(paths)
    dims_taken = set(next(iter(variable.values()))[0]) if "values" in variable else set()
    labels = {"stimulus_id": _column("stimulus_id", stimulus_id, len(values)), "sha256": as_labels(hashes)}
    if labels["stimulus_id"].dtype.kind in "iu":
        labels["stimulus_id"] = as_labels(labels["stimulus_id"].astype(str))
    for name, column in coords.items():
        if name in RESERVED or name in dims_taken:
            raise ParameterError(
                f"the column {name!r} has a name that stimulus tables keep for themselves. Expected another: rename it."
            )
        labels[name] = _column(name, column, len(values))
    if parts is not None:
        labels["path_part"] = _column("path_part", parts, len(values))
    made = xr.Dataset(variable, coords={name: ("presentation", column) for name, column in labels.items()}, attrs=attrs)
    return validate_stimuli(made)


def hashed(stimuli: xr.Dataset) -> xr.Dataset:
    r"""Fill in the ``sha256`` of every stimulus, reading all of their content.

    Tables of parts of files (of a tar, a film, an HDF5 array) are made without it, since that would read all of them.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)

    Returns
    -------
    Dataset, (presentation,)
        Of a file, and of a member of a tar: the hash of its bytes. Of a row of an HDF5 array: of its type, shape and values. Of a
        frame of a film: of the bytes of the film, and which frame.

    Raises
    ------
    FormatError
        A file is missing or damaged.

    Examples
    --------
    >>> import brainalign as ba, io, tarfile, tempfile
    >>> shard = tempfile.mkdtemp() + "/shard.tar"
    >>> with tarfile.open(shard, "w") as tar:
    ...     member = tarfile.TarInfo("cat.pgm")
    ...     member.size = 15
    ...     tar.addfile(member, io.BytesIO(b"P5 2 2 255 \x01\x02\x03\x04"))
    >>> x = ba.stimuli.from_tars(shard)
    >>> x.sha256.values.tolist(), ba.stimuli.hashed(x).sha256.values[0][:8]
    ([''], '417b3713')
    """
    validate_stimuli(stimuli)
    if content_of(stimuli) != "path":
        return stimuli  # texts and arrays have theirs from the start
    return stimuli.assign_coords(sha256=("presentation", as_labels(content_hashes(stimuli))))


def paths_of(given: Any, *, owner: str) -> list[Path]:
    """Return one path, or several, as a list.

    Parameters
    ----------
    given : path or iterable of path
    owner : str
        The function it was given to, for the message.

    Returns
    -------
    list of Path

    Raises
    ------
    ParameterError
        It is neither, or empty.
    """
    single = isinstance(given, (str, os.PathLike))
    found = [given] if single else list(given) if isinstance(given, Iterable) else []
    if not found or not all(isinstance(path, (str, os.PathLike)) for path in found):
        raise ParameterError(f"{owner} got {given!r:.80}. Expected a path, or a sequence of at least one.")
    return [Path(path) for path in found]


def known_coords(coords: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword coordinates if each is a presentation coordinate of the schema; None leaves one out.

    Parameters
    ----------
    coords : mapping of str to array_like

    Returns
    -------
    dict

    Raises
    ------
    ParameterError
        An unknown name, or one that labels neuroids.
    """
    for name in coords:
        if dim_of(name) != "presentation" or name in RESERVED:
            raise ParameterError(
                f"stimuli.table got an unknown coordinate {name!r}.{did_you_mean(name, PRESENTATION_COORDS)} Coordinates of your own go in "
                "as a column of `presentation=`."
            )
    return {name: values for name, values in coords.items() if values is not None}


def _as_array(content: Any) -> Array:
    if isinstance(content, (str, bytes, os.PathLike, Mapping)):
        raise ParameterError(f"stimuli.table got {content!r:.60} as content. Expected a sequence, one entry a presentation.")
    if not hasattr(content, "dtype"):
        content = list(content)
        if any(isinstance(item, (str, os.PathLike)) for item in content):  # numpy would turn numbers among them into text
            return np.array([os.fspath(item) if isinstance(item, os.PathLike) else item for item in content], dtype=object)
    try:
        values = np.asarray(content)
    except ValueError as error:
        raise ParameterError(
            f"stimuli.table got {len(content)} arrays of different shapes ({error}). Expected one shape: crop or resize them, or pass files."
        ) from error
    if values.ndim == 0 or not len(values):
        raise ParameterError(f"stimuli.table got content of shape {values.shape}. Expected at least one presentation.")
    return values.astype(object) if values.dtype.kind in "TU" else values


def _refuse_mismatch(values: Array, kind: str) -> None:
    numbers = values.dtype.kind in "iufb"
    strings = values.dtype.kind == "O" and values.ndim == 1 and all(isinstance(value, str) for value in values)
    if numbers and kind not in ("text", "word") and values.ndim > 1:
        return
    if strings and kind != "array":
        return
    wanted = {"text": "texts", "word": "words", "array": "numbers of shape (presentation, ...)"}.get(kind, "file paths or arrays")
    raise ParameterError(
        f"stimuli.table got content of dtype {values.dtype} and shape {values.shape} for kind={kind!r}. Expected {wanted}, one entry a "
        "presentation."
    )


def _dims(values: Array, kind: str, dims: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the dims of one stimulus; where they cannot be told they are numbered."""
    n = values.ndim - 1
    if dims is not None:
        if len(dims) != n or "presentation" in dims or len(set(dims)) != n:
            raise ParameterError(
                f"stimuli.table got dims={tuple(dims)!r} for one stimulus of shape {values.shape[1:]}. Expected {n} names."
            )
        return tuple(dims)
    if kind == "image" and n == 3:
        first, last = (size in (1, 3, 4) for size in (values.shape[1], values.shape[3]))
        if first != last:
            return ("channel", "y", "x") if first else ("y", "x", "channel")
    return _DIMS.get((kind, n)) or tuple(f"dim_{axis}" for axis in range(1, n + 1))


def _relative(paths: list[str], root: str | os.PathLike[str] | None) -> tuple[Path, list[str]]:
    """Return the folder of all files, and their paths below it."""
    if root is not None:
        folder = Path(os.path.abspath(root))
        below = {path: _below(folder, folder / path, path) for path in dict.fromkeys(paths)}
    else:
        absolute = {path: Path(os.path.abspath(path)) for path in dict.fromkeys(paths)}
        folder = Path(os.path.commonpath([path.parent for path in absolute.values()]))
        below = {path: file.relative_to(folder).as_posix() for path, file in absolute.items()}
    for name in below.values():
        if not name.isprintable() and any("\ud800" <= letter <= "\udfff" for letter in name):
            raise FormatError(f"the stimulus file {name!a} has a name that is no UTF-8. Expected text: rename the file.")
    return folder, [below[path] for path in paths]


def _below(folder: Path, file: Path, given: str) -> str:
    plain = Path(os.path.abspath(file))
    if not plain.is_relative_to(folder):
        raise FormatError(
            f"the stimulus path {given!r} leads out of root={str(folder)!r}. Expected a file inside that folder: pass the folder that holds "
            "all stimuli as `root=`."
        )
    return plain.relative_to(folder).as_posix()


def _hash_files(folder: Path, paths: list[str], must_exist: bool) -> list[str]:
    """Hash each file once, however often it is presented."""
    found = {path: resolve(folder, path) for path in dict.fromkeys(paths)}
    missing = [path for path, file in found.items() if not file.is_file()]
    if missing and must_exist:
        raise FormatError(
            f"{len(missing)} of {len(found)} stimulus files are not in {str(folder)!r}, first {missing[0]!r}. Expected a file for each: "
            "check the paths, or name their folder with `root=`."
        )
    hashes = {path: hash_file(file) if file.is_file() else "" for path, file in found.items()}
    return [hashes[path] for path in paths]


def _column(name: str, values: Any, length: int) -> Array:
    array = as_labels(getattr(values, "values", values))
    if array.ndim == 0:
        return np.repeat(array, length)
    if array.shape != (length,):
        raise ParameterError(f"stimuli.table got `{name}` of shape {array.shape}. Expected {length} values, one a presentation.")
    return array
