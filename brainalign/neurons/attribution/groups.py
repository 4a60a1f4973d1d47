"""Groups by name: along a dim or a coordinate of the inputs, in blocks such as patches, or in bands of frequencies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import as_labels
from brainalign.neurons.attribution.inputs import group_index

#: Edges of the usual bands, in Hz.
BANDS = {"delta": (1.0, 4.0), "theta": (4.0, 8.0), "alpha": (8.0, 13.0), "beta": (13.0, 30.0), "gamma": (30.0, 100.0)}
REST = "rest"

Grouped = tuple[torch.Tensor, np.ndarray[Any, Any]]


def find_groups(groups: Any, shape: tuple[int, ...], dims: tuple[str, ...], coords: Mapping[str, Any]) -> Grouped:
    """Return the group of each element of an input, and the labels of the groups.

    Parameters
    ----------
    groups : str, mapping, DataArray or array_like
        A dim or a coordinate of the input (``"channel"``, ``"region"``); ``"bands"`` of frequencies; sizes of blocks along dims
        (``{"y": 8, "x": 8}``: patches); bands by name, ``{"alpha": (8, 13)}`` in Hz, what is in none of them being ``"rest"``; or labels, as
        :func:`group_index` takes them.
    shape : tuple of int
    dims : tuple of str
    coords : mapping of str to (dims, ndarray)

    Returns
    -------
    index : Tensor of int64, (1, ...)
    labels : ndarray, (group,)

    Raises
    ------
    ParameterError
        No such dim or coordinate; labels that leave elements out; bands that overlap, hold no frequency, or have no Hz.
    """
    if isinstance(groups, str) and groups == "bands":
        groups = BANDS
    if isinstance(groups, str):
        return group_index(_named(groups, shape, dims, coords), shape, dims, coded=False)
    if not isinstance(groups, Mapping):
        return group_index(groups, shape, dims)
    if groups and all(np.ndim(edges) == 1 and len(edges) == 2 for edges in groups.values()):
        return _in_bands(groups, shape, dims, coords)
    return _in_blocks(groups, shape, dims)


def _named(name: str, shape: tuple[int, ...], dims: tuple[str, ...], coords: Mapping[str, Any]) -> xr.DataArray:
    for own in (name, f"source_{name}"):  # of a recording that is the input, labels of its neuroids have this prefix
        if own in coords:
            along, values = coords[own]
            return xr.DataArray(_as_text(values), dims=along)
        if own in dims:
            return xr.DataArray(np.arange(shape[dims.index(own)]), dims=own)
    known = [*dims, *coords]
    raise ParameterError(
        f"attribute got groups={name!r}. Expected a dim or a coordinate of the input, one of {preview(known, 8)}, 'bands' of a domain of "
        f"frequencies, sizes of blocks such as {{'y': 8, 'x': 8}}, or a label for each element.{did_you_mean(name, known)}"
    )


def _in_blocks(groups: Mapping[Any, Any], shape: tuple[int, ...], dims: tuple[str, ...]) -> Grouped:
    index: np.ndarray[Any, Any] = np.zeros((1,) * len(shape), dtype=np.int64)
    for dim, size in groups.items():
        if dim not in dims or not isinstance(size, (int, np.integer)) or size < 1:
            raise ParameterError(
                f"attribute got groups={dict(groups)!r}. Expected numbers of positions along dims of the input, {dims}, as in "
                f"{{{dims[-1]!r}: 8}}, or bands as pairs of Hz."
            )
        block = np.arange(shape[dims.index(dim)]) // size
        index = index * (block[-1] + 1) + block.reshape([-1 if d == dim else 1 for d in dims])
    return group_index(index, shape, dims)


def _in_bands(groups: Mapping[Any, Any], shape: tuple[int, ...], dims: tuple[str, ...], coords: Mapping[str, Any]) -> Grouped:
    if "frequency_hz" not in coords:
        known = "have no sampling rate: set `stimuli.attrs['sampling_rate_hz']`" if "frequency" in dims else "are no frequencies"
        raise ParameterError(
            f"attribute got groups that are bands, {preview(groups)}, and inputs with dims {dims} that {known}. Expected domain='frequency', and "
            "a recording with times or stimuli with a sampling rate."
        )
    _, hertz = coords["frequency_hz"]
    codes = np.full(len(hertz), len(groups))
    for k, (name, (low, high)) in enumerate(groups.items()):
        inside = (hertz >= low) & (hertz < high)
        taken = inside & (codes < len(groups))
        if taken.any() or not inside.any():
            what = f"shares {hertz[taken][0]:g} Hz with another" if taken.any() else "holds no frequency"
            raise ParameterError(
                f"attribute got the band {name!r} of {low:g} to {high:g} Hz, which {what}. Expected bands apart from each other, each with some "
                f"of the {len(hertz)} frequencies from {hertz[0]:g} to {hertz[-1]:g} Hz, {hertz[1] - hertz[0]:g} Hz apart."
            )
        codes[inside] = k
    present, codes = np.unique(codes, return_inverse=True)
    along = xr.DataArray(codes, dims="frequency")
    index, _ = group_index(along, shape, dims)
    return index, as_labels([[*map(str, groups), REST][k] for k in present])


def _as_text(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return labels that xarray can spread: ``StringDType`` as objects."""
    return values.astype(object) if values.dtype.kind == "T" else values
