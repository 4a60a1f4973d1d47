"""The pairs of dissimilarity matrices that are to be compared: checked, joined by stimulus, as vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, SchemaError
from brainalign.core.parameters import preview
from brainalign.engine.moments import Numbers

SQUARE = ("stimulus", "stimulus_2")


@dataclass(frozen=True)
class JoinedRdms:
    """Matrices of several sides over the stimuli that all sides have.

    Attributes
    ----------
    stimuli : list of str
        In the order of their names, so that draws of them depend neither on the order nor on which side is which.
    vectors : dict of str to ndarray of float64, (rdm, pair)
        Of each side, the pairs above the diagonal, row by row; leading dims are flattened.
    report : dict
        How many stimuli are shared and how many each side has for itself, with the first of them.
    """

    stimuli: list[str]
    vectors: dict[str, Numbers]
    report: dict[str, Any]


def join_rdms(sides: Mapping[str, xr.DataArray], join: str) -> JoinedRdms:
    """Return the pairs of stimuli that all sides have.

    Parameters
    ----------
    sides : mapping of str to DataArray, (..., stimulus, stimulus_2)
        By the name that messages use; one is the ``"target"``.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.

    Returns
    -------
    JoinedRdms

    Raises
    ------
    AlignmentError
        Fewer than three stimuli in common; any that is not shared under ``join="exact"``.
    SchemaError
        A side is no set of symmetric matrices with unique stimuli, or has no matrix.
    """
    ids = {name: _checked_ids(x, name) for name, x in sides.items()}
    shared = _shared(ids, join)
    everywhere = set(shared)
    only = {name: [i for i in names if i not in everywhere] for name, names in ids.items()}
    report: dict[str, Any] = {"n_shared": len(shared)} | {f"{name}_only": len(left) for name, left in only.items()}
    report |= {f"first_{name}_only": left[:3] for name, left in only.items() if left}
    return JoinedRdms(shared, {name: _vectors(x, ids[name], shared) for name, x in sides.items()}, report)


def pairs_of(x: xr.DataArray, name: str) -> Numbers:
    """Return the pairs above the diagonal of one set of matrices, after checking that it is one.

    Parameters
    ----------
    x : DataArray, (..., stimulus, stimulus_2)
    name : str
        What messages call it.

    Returns
    -------
    ndarray of float64, (rdm, pair)
        Leading dims are flattened.

    Raises
    ------
    SchemaError
        It is no set of symmetric matrices with unique stimuli.
    """
    ids = _checked_ids(x, name)
    return _vectors(x, ids, ids)


def leading(x: xr.DataArray, side: str) -> tuple[list[str], list[int], dict[str, Any]]:
    """Return what a result calls the leading dims of a side: their names, their sizes, and their coordinates.

    Parameters
    ----------
    x : DataArray, (..., stimulus, stimulus_2)
    side : str
        ``"source"`` or ``"target"``.

    Returns
    -------
    dims : list of str
    shape : list of int
    coords : dict
    """
    coords = {
        f"{side}_{name}": (tuple(f"{side}_{d}" for d in c.dims), c.values)
        for name, c in x.coords.items()
        if not set(c.dims) & set(SQUARE)
    }
    return [f"{side}_{dim}" for dim in x.dims[:-2]], list(x.shape[:-2]), coords


def label_of(x: xr.DataArray, position: int) -> str:
    """Return what a message calls one matrix of a set: its labels, or nothing where there is one only.

    Parameters
    ----------
    x : DataArray, (..., stimulus, stimulus_2)
    position : int
        Among the flattened leading dims.

    Returns
    -------
    str
    """
    where = dict(zip(x.dims[:-2], np.unravel_index(position, x.shape[:-2]), strict=True))
    names = {dim: x.coords[dim].values.tolist()[i] if dim in x.coords else int(i) for dim, i in where.items()}
    return "" if not names else f" at {', '.join(f'{dim}={name!r}' for dim, name in names.items())}"


def _checked_ids(x: Any, name: str) -> list[str]:
    """Return the stimuli of a set of matrices, after checking that it is one."""
    if not isinstance(x, xr.DataArray) or x.dims[-2:] != SQUARE or not set(SQUARE) <= set(x.coords):
        seen = f"dims {x.dims}" if isinstance(x, xr.DataArray) else f"type {type(x).__name__}"
        raise SchemaError(
            f"{name} has {seen}. Expected a DataArray (..., 'stimulus', 'stimulus_2') labelled on both: make it with `ba.rdm`, or open "
            "it with `ba.open_rdms`."
        )
    if 0 in x.shape[:-2]:
        raise SchemaError(f"{name} has no matrix: {dict(x.sizes)}. Expected one at least: look at what was selected.")
    first, second = ([str(i) for i in x.coords[dim].values.tolist()] for dim in SQUARE)
    if first != second:
        at = next((i for i, (u, v) in enumerate(zip(first, second, strict=False)) if u != v), min(len(first), len(second)))
        raise SchemaError(
            f"{name} names its rows and columns differently, first at position {at}. Expected the same order on both."
        )
    if len(set(first)) < len(first):
        seen_once: set[Any] = set()
        twice = [i for i in first if i in seen_once or seen_once.add(i)]
        raise SchemaError(
            f"{name} has {len(twice)} repeated stimuli: {preview(twice)}. Expected each once: average them in `ba.rdm`."
        )
    values = x.values
    mirrored = values.swapaxes(-1, -2)
    if np.array_equal(values, mirrored, equal_nan=True):
        return first
    scale = np.nanmax(np.abs(values), initial=0.0, where=np.isfinite(values))
    if not np.allclose(values, mirrored, rtol=1e-5, atol=1e-6 * scale, equal_nan=True):
        alone = int(np.count_nonzero(np.isnan(values) < np.isnan(mirrored)))
        gap = np.nanmax(np.abs(np.subtract(values, mirrored, dtype=np.float64)), initial=0.0)
        seen = (
            f"{alone} entries have a NaN as mirror image"
            if alone
            else f"entries differ from their mirror image by up to {gap:.3g}"
        )
        raise SchemaError(
            f"{name} is not symmetric: {seen}. Expected symmetric dissimilarities: average the two triangles if they estimate the same thing, "
            "or fill the one that is empty from the other."
        )
    return first


def _shared(ids: Mapping[str, list[str]], join: str) -> list[str]:
    sets = {name: set(names) for name, names in ids.items()}
    everywhere = set.intersection(*sets.values())
    shared = sorted(everywhere)
    sizes = " / ".join(str(len(names)) for names in ids.values())
    who = " and ".join(ids)
    if len(shared) < 3:
        starts = ", ".join(f"{name} starts {names[0]!r}" for name, names in ids.items() if names)
        raise AlignmentError(
            f"{who} share {len(shared)} of {sizes} stimuli ({starts}). Expected at least 3: name the same stimuli on all sides, with "
            "`x.assign_coords(stimulus=ids, stimulus_2=ids)`."
        )
    lost = [i for names in ids.values() for i in names if i not in everywhere]
    if join == "exact" and lost:
        raise AlignmentError(
            f"{who} share {len(shared)} of {sizes} stimuli; one side lacks {preview(lost)}. Expected the same on all under join='exact': "
            "use join='inner', or select the shared ones."
        )
    return shared


def _vectors(x: xr.DataArray, ids: list[str], shared: list[str]) -> Numbers:
    """Return the pairs above the diagonal in the shared order; what is infinite is missing."""
    position = {name: i for i, name in enumerate(ids)}
    order = np.array([position[name] for name in shared])
    first, second = np.triu_indices(len(shared), 1)
    vectors = x.values.reshape(-1, len(ids), len(ids))[:, order[first], order[second]].astype(np.float64)
    vectors[np.isinf(vectors)] = np.nan
    return vectors
