"""Stimulus tables from files that hold many stimuli: tar archives, and images stacked in an HDF5 array."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import reading
from brainalign.adapters.stimuli.folders import SUFFIXES, list_files
from brainalign.adapters.stimuli.stacks import describe_stack
from brainalign.adapters.stimuli.tars import read_members, read_samples
from brainalign.core.errors import FormatError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import PRESENTATION_COORDS, dim_of
from brainalign.dataset.stimulus_table import RESERVED, build, paths_of


def from_tars(shards: Any, *, content: str | None = None) -> xr.Dataset:
    r"""Build a stimulus table from tar archives in the layout of WebDataset; nothing is extracted.

    Parameters
    ----------
    shards : path, or sequence of path
        Uncompressed tars, or a folder of them. ``key.jpg``, ``key.cls``, ``key.txt`` and ``key.json`` are one sample.
    content : str, optional
        Suffix of the member that is the stimulus: an image, or ``"txt"``. Default: the image, where there is one; else the text.

    Returns
    -------
    Dataset, (presentation,), of kind "image" or "text"
        The key is the ``stimulus_id``; ``cls`` becomes ``condition``, a ``txt`` beside an image ``txt``, and each entry of ``json`` a
        coordinate (with ``json_`` in front where the name is taken). Images are found by ``path`` and ``path_part``, and decoded when
        they are needed; their ``sha256`` is empty: :func:`hashed` fills it in.

    Raises
    ------
    FormatError
        An archive that is compressed, truncated or unsafe (links, devices, names that lead out); a key that is there twice, or
        without the content that the others have.

    Examples
    --------
    >>> import brainalign as ba, io, tarfile, tempfile
    >>> shard = tempfile.mkdtemp() + "/shard-000.tar"
    >>> with tarfile.open(shard, "w") as tar:
    ...     for name, content in (("0001.txt", b"a cat"), ("0001.cls", b"7"), ("0002.txt", b"a dog"), ("0002.cls", b"8")):
    ...         member = tarfile.TarInfo(name)
    ...         member.size = len(content)
    ...         tar.addfile(member, io.BytesIO(content))
    >>> x = ba.stimuli.from_tars(shard)
    >>> x.stimulus_id.values.tolist(), x.text.values.tolist(), x.condition.values.tolist()
    (['0001', '0002'], ['a cat', 'a dog'], ['7', '8'])
    """
    folder = isinstance(shards, (str, os.PathLike)) and Path(shards).is_dir()
    files = list_files(shards, (".tar",), what="tar") if folder else paths_of(shards, owner="from_tars")
    samples = read_samples([Path(os.path.abspath(file)) for file in files])
    suffix = _content_suffix(samples, content)
    lacking = [key for key, members in samples.items() if suffix not in members]
    if lacking:
        raise FormatError(
            f"{len(lacking)} of {len(samples)} samples have no {suffix!r}, first {lacking[0]!r}, which has {sorted(samples[lacking[0]])}. Expected "
            "it in each: name another with `content=`, or write the archive again."
        )
    coords = _labels(samples, suffix)
    chosen = [members[suffix] for members in samples.values()]
    params = {"shards": [file.name for file in files], "content": suffix}
    if suffix == "txt":
        texts = [text.strip() for text in _texts(chosen)]
        return write_step(build(texts, list(samples), "text", None, None, coords), "stimuli.from_tars", params=params)
    parts = [f"member:{name}" for _, name in chosen]
    made = build([file for file, _ in chosen], list(samples), "image", None, None, coords, parts=parts)
    return write_step(made, "stimuli.from_tars", params=params)


def from_stack(
    path: str | os.PathLike[str],
    *,
    key: str,
    prefix: str,
    index_base: int,
    dims: Sequence[str] | None = None,
) -> xr.Dataset:
    """Build a stimulus table from images stacked in one HDF5 array; an image is read only when it is needed.

    Parameters
    ----------
    path : path
    key : str
        Name of the array, uint8, whose first axis counts the images: ``"imgBrick"`` in ``nsd_stimuli.hdf5``.
    prefix : str
        Put in front of the number of an image: ``"nsd-"`` gives ``nsd-00013``, with as many digits as the last one needs.
    index_base : {0, 1}
        What the first image is called. NSD counts its 73k images from 0 in names (``nsd-00013``), and from 1 in its
        ``nsd_expdesign.mat``.
    dims : sequence of str, optional
        Order of ``y``, ``x`` and ``channel`` in the file. Default: that of Python; where it cannot be told it is asked for.

    Returns
    -------
    Dataset, (presentation,), of kind "image"
        Select rows before use: ``x.isel(presentation=...)``. ``sha256`` is empty: :func:`hashed` fills it in, and ``ba.record`` hashes
        what it records.

    Raises
    ------
    FormatError
        No HDF5 file, no such array, or one of another type or shape.
    ParameterError
        ``dims`` cannot be told, or do not fit.
    OptionalDependencyError
        h5py is not installed.

    Examples
    --------
    >>> import brainalign as ba, h5py, numpy as np, tempfile
    >>> file = tempfile.mkdtemp() + "/stimuli.hdf5"
    >>> with h5py.File(file, "w") as opened:
    ...     opened["imgBrick"] = np.zeros((12, 8, 8, 3), dtype="uint8")
    >>> x = ba.stimuli.from_stack(file, key="imgBrick", prefix="nsd-", index_base=0)
    >>> x.stimulus_id.values[[0, 11]].tolist(), x.path_part.values[11]
    (['nsd-00', 'nsd-11'], 'row:imgBrick/11')
    """
    check_choice("index_base", index_base, (0, 1), owner="from_stack")
    n, order = describe_stack(path, key, dims)
    digits = len(str(n - 1 + index_base))
    ids = [f"{prefix}{row + index_base:0{digits}d}" for row in range(n)]
    made = build([Path(path)] * n, ids, "image", None, None, {}, parts=[f"row:{key}/{row}" for row in range(n)])
    params = {"file": Path(path).name, "key": key, "index_base": index_base, "dims": order}
    return write_step(made.assign_attrs(stack_dims=list(order)), "stimuli.from_stack", params=params)


def _content_suffix(samples: Mapping[str, Mapping[str, Any]], content: str | None) -> str:
    found = sorted({suffix for members in samples.values() for suffix in members})
    images = [suffix for suffix in found if f".{suffix}" in SUFFIXES["image"]]
    known = [*images, *(["txt"] if "txt" in found else [])]
    if content is not None:
        return check_choice("content", content.lstrip("."), known, owner="from_tars")
    if len(images) > 1 or not known:
        raise FormatError(
            f"the {len(samples)} samples have members {preview(found, 10)}. Expected images of one suffix, or texts ('txt'): name the one that "
            "is the stimulus with `content=`."
        )
    return known[0]


def _labels(samples: Mapping[str, Mapping[str, tuple[Path, str]]], content: str) -> dict[str, Any]:
    """Return the small members of all samples as coordinates."""
    coords: dict[str, Any] = {}
    for suffix, coord in (("cls", "condition"), ("txt", "txt")):
        if suffix != content and any(suffix in members for members in samples.values()):
            coords[coord] = [text.strip() for text in _texts([members.get(suffix) for members in samples.values()])]
    records = [members.get("json") for members in samples.values()]
    parsed = [_record(place, text) for place, text in zip(records, _texts(records), strict=True)]
    taken = {*coords, *PRESENTATION_COORDS, *RESERVED}
    for name in dict.fromkeys(name for record in parsed for name in record):
        coords[f"json_{name}" if name in taken or dim_of(name) else name] = _column([record.get(name) for record in parsed])
    return coords


def _texts(places: Sequence[tuple[Path, str] | None]) -> list[str]:
    found = []
    for place in places:
        if place is None:
            found.append("")
            continue
        file, name = place
        with reading(f"{file}:{name}", "UTF-8 text"):
            found.append(next(read_members(file, [name])).decode("utf-8-sig"))
    return found


def _record(place: tuple[Path, str] | None, text: str) -> dict[str, Any]:
    if place is None:
        return {}
    with reading(f"{place[0]}:{place[1]}", "JSON"):
        record = json.loads(text)
        json.dumps(record, ensure_ascii=False).encode()  # half a character, which JSON can name, is no text
    if not isinstance(record, dict):
        raise FormatError(
            f"'{place[0]}:{place[1]}' holds a {type(record).__name__}. Expected a JSON object, with a name for each entry."
        )
    return record


def _column(values: list[Any]) -> Any:
    """Return entries of JSON as numbers where all are, NaN where one is missing; else as texts."""
    if all(value is None or type(value) in (int, float) for value in values):
        numbers = np.asarray([np.nan if value is None else value for value in values])
        if numbers.dtype.kind in "if":
            return numbers
    return ["" if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
