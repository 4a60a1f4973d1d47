"""Epochs that stay in their FIF files, all parts of a split one, until they are asked for."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import reading
from brainalign.adapters.lazy import Spans, lazy_array, leading
from brainalign.adapters.meeg.fif import find_tag, parts
from brainalign.core.errors import FormatError

_EPOCHS_TAG, _MATRIX = 302, 1 << 30
_DTYPES = {4: ">f4", 5: ">f8"}


def open_epochs(mne: Any, path: Path) -> tuple[Any, Any, list[Path]]:
    """Open epochs without reading their values.

    Parameters
    ----------
    mne : module
    path : Path
        The first part, not compressed.

    Returns
    -------
    (mne.Epochs, dask array (trial, channel, time) of float32, list of Path)
        The epochs carry events, metadata and channels; the array the values in SI units, not projected, 16 MB a chunk, whole
        trials as they lie; NaN and infinity are refused as they are read.

    Raises
    ------
    FormatError
        Damaged or truncated, a part is missing, or it holds no epochs of real numbers.
    """
    import dask.array as da

    files, kind = parts(path)
    if kind != "epochs":
        raise FormatError(f"{str(path)!r} is a FIF file that holds {kind}. Expected epochs.")
    with reading(path, "FIF"):
        epochs = mne.read_epochs(path, preload=False, proj=False, verbose="error")
        cals = np.array([[ch["cal"] * ch.get("scale", 1.0)] for ch in epochs.info["chs"]])
        shape = (len(epochs.ch_names), len(epochs.times))
    arrays = [_part(file, shape, cals) for file in files]
    values = da.concatenate(arrays) if len(arrays) > 1 else arrays[0]
    if len(values) != len(epochs):
        raise FormatError(
            f"{str(path)!r} and its parts hold {len(values)} trials of values and {len(epochs)} events. Expected as many: it is damaged."
        )
    return epochs, values, files


def _part(file: Path, shape: tuple[int, int], cals: np.ndarray[Any, Any]) -> Any:
    found = find_tag(file, _EPOCHS_TAG)
    form = _DTYPES.get(found[2] & ~_MATRIX) if found else None
    if found is None or form is None:
        raise FormatError(f"{str(file)!r} has no epochs of real numbers (tag {_EPOCHS_TAG}, type 4 or 5). Expected them.")
    bytes_a_trial = prod(shape) * np.dtype(form).itemsize
    n_trials = (found[1] - 16) // bytes_a_trial  # a matrix ends in its dims, 16 bytes
    if found[1] != n_trials * bytes_a_trial + 16:
        raise FormatError(
            f"{str(file)!r} holds {found[1]} bytes of epochs. Expected whole trials of {shape[0]} channels and {shape[1]} samples: it is damaged."
        )
    read = _EpochsRead(file, found[0], shape, form, tuple(cals[:, 0].tolist()))
    chunks = (leading((n_trials, *shape), 4)[0], *shape)
    return lazy_array(read, (n_trials, *shape), np.float32, files=[file], what="FIF", chunks=chunks, finite_axis=1)


@dataclass(frozen=True)
class _EpochsRead:
    file: Path
    offset: int
    shape: tuple[int, int]
    form: str
    cals: tuple[float, ...]

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        a_trial, first, n = prod(self.shape), spans[0].start, spans[0].stop - spans[0].start
        dtype = np.dtype(self.form)
        with self.file.open("rb", buffering=0) as opened:
            opened.seek(self.offset + first * a_trial * dtype.itemsize)
            stored = np.frombuffer(opened.read(n * a_trial * dtype.itemsize), dtype=dtype)
        block = stored.reshape(n, *self.shape)[:, spans[1], spans[2]]
        return block * np.array(self.cals)[spans[1], None]
