"""What decides a recording: the key by which a stored one is known to be the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.provenance import versions
from brainalign.core.tables import content_of, coords_of
from brainalign.dataset.stimulus_table import content_hashes

_PACKAGES = ("brainalign", "torch", "transformers")
#: Attributes of a stimulus table that say where it lies or comes from, not what it is.
_PLACE = ("root", "provenance")


def recording_key(responder: str, stimuli: xr.Dataset, blocks: list[slice], labels: xr.DataArray) -> dict[str, Any]:
    """Return what decides the values and labels of a recording, part by part, in plain JSON.

    Parameters
    ----------
    responder : str
        The responder's fingerprint, which stands for weights, preprocessing, tokenizer and options.
    stimuli : Dataset, (presentation,)
        All bytes are read: files, arrays or texts, and their labels and timing.
    blocks : list of slice
        The batch plan: another one gives other rounding errors.
    labels : DataArray, (presentation, neuroid)
        The coordinates that the responses will carry.

    Returns
    -------
    dict of str to str or dict
        ``responder``, ``stimuli``, ``labels``, ``batches``, ``versions``.
    """
    coords = [(str(name), coord.dims, _array_hash(coord.values)) for name, coord in sorted(labels.coords.items())]
    return {
        "responder": responder,
        "stimuli": stimulus_hash(stimuli),
        "labels": _digest(repr([*coords, labels.shape])),
        "batches": _digest(repr([(rows.start, rows.stop) for rows in blocks])),
        "versions": versions(_PACKAGES),
    }


def stimulus_hash(stimuli: xr.Dataset) -> str:
    """Return a hash of the content of every stimulus in order, and of its labels and timing.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
        Files are hashed by their bytes, wherever they lie, and of a tar or a stack only the parts that are stimuli; arrays by
        their values, a part at a time.

    Returns
    -------
    str

    Raises
    ------
    FormatError
        A file is missing.
    """
    content = content_of(stimuli)
    labels = coords_of(stimuli, "presentation")
    attrs = {name: value for name, value in stimuli.attrs.items() if name not in _PLACE}
    parts: list[Any] = [
        content,
        [(name, _array_hash(labels[name])) for name in sorted(labels)],
        json.dumps(attrs, sort_keys=True, default=repr),
        content_hashes(stimuli) if content == "path" else _values_hash(stimuli[content]),
    ]
    return _digest(repr(parts))


def _values_hash(values: xr.DataArray) -> str:
    """Hash values without holding all of a lazy array in memory; the parts do not show in the result."""
    if values.dtype.kind in "TUO":
        return _array_hash(values.values)
    digest = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
    per_row = values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
    step = max(1, 2**24 // max(per_row, 1))
    for start in range(0, values.shape[0], step):
        digest.update(np.ascontiguousarray(values[start : start + step].values).tobytes())
    return digest.hexdigest()


def _array_hash(values: np.ndarray[Any, Any]) -> str:
    if values.dtype.kind in "TUO":
        return _digest(f"{values.shape}", (f"{len(text)}:{text}" for text in map(str, values.ravel().tolist())))
    return _digest(f"{values.dtype.str}{values.shape}", (), np.ascontiguousarray(values).tobytes())


def _digest(head: str, texts: Iterable[str] = (), content: bytes = b"") -> str:
    digest = hashlib.sha256(head.encode())
    digest.update("".join(texts).encode())
    digest.update(content)
    return digest.hexdigest()
