"""Where the neuroids of a brain lie: the attr ``grid``, by which a map can be written back into the file format it came from.

Responses carry it as an attr (JSON with ``kind``: ``nifti``, ``gifti`` or ``cifti``); a result carries it on its ``neuroid_id``,
where it outlives arithmetic and selection. Nothing but the adapters that write it and the reports that use it look inside.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def grid_of(x: xr.DataArray | xr.Dataset) -> str | None:
    """Return the grid that responses or a result carry.

    Parameters
    ----------
    x : DataArray or Dataset

    Returns
    -------
    str or None
        JSON; None where there is none.
    """
    carriers = [x, *([x.coords["neuroid_id"]] if "neuroid_id" in x.coords else [])]
    return next((str(carrier.attrs["grid"]) for carrier in carriers if "grid" in carrier.attrs), None)


def grid_attrs(x: xr.DataArray) -> dict[str, str]:
    """Return the attrs of ``neuroid_id`` in a result about these responses.

    Parameters
    ----------
    x : DataArray

    Returns
    -------
    dict of str to str
        ``{"grid": ...}``, or empty.
    """
    grid = grid_of(x)
    return {} if grid is None else {"grid": grid}


def pack_indices(indices: np.ndarray[Any, Any]) -> list[int]:
    """Return whole numbers as runs, which for the vertices of a cortex is a hundredth of their length.

    Parameters
    ----------
    indices : ndarray of int

    Returns
    -------
    list of int
        First number and length of each run of consecutive numbers, in order.

    Examples
    --------
    >>> pack_indices(np.array([4, 5, 6, 9, 2, 3]))
    [4, 3, 9, 1, 2, 2]
    """
    at = np.flatnonzero(np.r_[True, np.diff(indices) != 1]) if len(indices) else np.zeros(0, dtype=np.int64)
    pairs = np.stack([indices[at], np.diff(np.r_[at, len(indices)])], axis=1)
    return [int(number) for number in pairs.ravel()]


def unpack_indices(runs: list[int]) -> np.ndarray[Any, Any]:
    """Return the numbers that :func:`pack_indices` packed.

    Parameters
    ----------
    runs : list of int

    Returns
    -------
    ndarray of int64

    Examples
    --------
    >>> unpack_indices([4, 3, 9, 1]).tolist()
    [4, 5, 6, 9]
    """
    return np.concatenate(
        [np.zeros(0, dtype=np.int64), *(np.arange(a, a + n) for a, n in zip(runs[::2], runs[1::2], strict=True))]
    )
