"""Stacks of images in one HDF5 array, image by image, such as the stimuli of NSD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing
from brainalign.adapters.hdf5 import hdf5_file
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import preview

DIMS = ("y", "x", "channel")
_MAX_BYTES = 2**28  # of one image: a header that promises more is damaged


def describe_stack(path: str | Path, key: str, dims: Sequence[str] | None = None) -> tuple[int, tuple[str, ...]]:
    """Return how many images an array holds and the dims of one; only its header is read.

    Parameters
    ----------
    path : str or Path
    key : str
        Name of the array, with its groups. Its first axis counts the images.
    dims : sequence of str, optional
        Of the other axes as h5py shows them: ``y``, ``x`` and, where there is one, ``channel``. MATLAB writes axes in reverse, so
        that an array of y × x × 3 × n is ``("channel", "x", "y")`` here. Default: ``("y", "x", "channel")`` where the last axis has
        3 or 4 entries and only then.

    Returns
    -------
    n : int
    dims : tuple of str

    Raises
    ------
    FormatError
        No HDF5 file, no such array, or one of another type or shape.
    ParameterError
        The dims cannot be told, or do not fit.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    file = existing(path)
    with hdf5_file(file) as opened:
        found = opened.get(key)
        if not isinstance(found, h5py.Dataset):
            raise FormatError(
                f"{str(file)!r} holds {'nothing' if found is None else 'a group'} at {key!r}. Expected an array of images; at its top are "
                f"{preview(sorted(opened), 20)}: name one with `key=`."
            )
        shape, dtype = found.shape, found.dtype
    if dtype != np.uint8 or len(shape) not in (3, 4) or 0 in shape or prod(shape[1:]) > _MAX_BYTES:
        raise FormatError(
            f"{str(file)!r} has shape {shape} and dtype {dtype} at {key!r}. Expected images of uint8, (image, y, x, channel) or (image, y, x): "
            "name another array, or read it yourself and pass `ba.stimuli.table(array, kind='image')`."
        )
    wanted = DIMS[: len(shape) - 1]
    if dims is None and len(shape) == 4 and shape[3] in (3, 4) and shape[1] not in (1, 3, 4):
        dims = DIMS
    fits = (
        dims is not None
        and sorted(dims) == sorted(wanted)
        and dict(zip(dims, shape[1:], strict=True)).get("channel", 1) in (1, 3, 4)
    )
    if not fits:
        raise ParameterError(
            f"{str(file)!r} has images of shape {shape[1:]} at {key!r}, and dims={dims!r}. Expected the order of {wanted} as it is in the "
            "file, with 1, 3 or 4 channels: pass `dims=`. Python writes ('y', 'x', 'channel'), MATLAB ('channel', 'x', 'y')."
        )
    return shape[0], tuple(dims or ())


def raw_rows(path: str | Path, rows: Sequence[str]) -> Iterator[np.ndarray[Any, Any]]:
    """Yield some images as they lie in the file; nothing else of it is read, unless it is stored in larger chunks.

    Parameters
    ----------
    path : str or Path
    rows : sequence of str
        ``key/row``, counted from 0.

    Yields
    ------
    ndarray of uint8

    Raises
    ------
    FormatError
        No HDF5 file, no such array or row.
    """
    h5py = require("h5py", extra="spikes", purpose="reading HDF5")
    file = existing(path)
    with hdf5_file(file) as opened:
        for name in rows:
            key, _, row = name.rpartition("/")
            found = opened.get(key) if key else None
            if (
                not isinstance(found, h5py.Dataset)
                or not row.isdecimal()
                or not int(row) < len(found)
                or prod(found.shape[1:]) > _MAX_BYTES
            ):
                raise FormatError(
                    f"{str(file)!r} has no image {name!r}. Expected 'array/row': it may have been replaced; build the table again."
                )
            yield found[int(row)]


def read_rows(path: str | Path, rows: Sequence[str], dims: Sequence[str] | None) -> list[np.ndarray[Any, Any]]:
    """Return some images in red, green and blue.

    Parameters
    ----------
    path : str or Path
    rows : sequence of str
        ``key/row``, counted from 0.
    dims : sequence of str
        As of :func:`describe_stack`.

    Returns
    -------
    list of ndarray of uint8, (y, x, 3)
        Grey becomes three equal channels; a fourth one, transparency, is dropped.
    """
    order = [list(dims or DIMS).index(dim) for dim in DIMS if dim in (dims or DIMS)]
    return [_three_channels(np.transpose(row, order)) for row in raw_rows(path, rows)]


def _three_channels(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if image.ndim == 2 or image.shape[2] == 1:
        image = np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])
