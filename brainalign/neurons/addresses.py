"""Neuroids by their names: ``neuroid_id`` values, or addresses such as ``"layer.3/17"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import as_labels, group_label


def names_of(x: xr.DataArray) -> tuple[list[str], list[str]]:
    """Return the ids of neuroids as text, and their addresses ``"group/id"``.

    Parameters
    ----------
    x : DataArray, (..., neuroid)

    Returns
    -------
    ids, addresses : list of str, (neuroid,)
        The same where neuroids have no layer or region.
    """
    ids, group = [str(name) for name in x["neuroid_id"].values.tolist()], group_label(x)
    return ids, ids if group is None else [f"{place}/{name}" for place, name in zip(x[group].values.tolist(), ids, strict=True)]


def short_names(x: xr.DataArray) -> list[str]:
    """Return the ids of neuroids as text, or their addresses where two groups have one of an id.

    Parameters
    ----------
    x : DataArray, (..., neuroid)

    Returns
    -------
    list of str, (neuroid,)
    """
    ids, addresses = names_of(x)
    return ids if len(set(ids)) == len(ids) else addresses


def columns_of(ids: Sequence[str], addresses: Sequence[str], wanted: Any, *, owner: str) -> np.ndarray[Any, Any]:
    """Return the columns of the wanted neuroids.

    Parameters
    ----------
    ids, addresses : sequence of str, (neuroid,)
        As :func:`names_of` gives them.
    wanted : str, int or sequence of them
        ``neuroid_id`` values or ``"group/id"`` addresses.
    owner : str
        The verb, for the message.

    Returns
    -------
    ndarray of int

    Raises
    ------
    ParameterError
        A name that is unknown, or that several groups have; or none.
    """
    index: dict[str, set[int]] = {}
    for names in (ids, addresses):
        for position, name in enumerate(names):
            index.setdefault(name, set()).add(position)
    items = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    if not items:
        raise ParameterError(f"{owner} got an empty `neuroid`. Expected at least one neuroid_id or address.")
    columns = []
    for item in items:
        found = sorted(index.get(str(item), ()))
        if len(found) != 1:
            what = f"matches {len(found)} neuroids, {preview([addresses[i] for i in found])}" if found else "matches no neuroid"
            raise ParameterError(
                f"{owner} got neuroid={item!r}, which {what}. Expected a neuroid_id such as {preview(ids)} or an address "
                f"'group/id'.{'' if found else did_you_mean(str(item), index)}"
            )
        columns.append(found[0])
    return np.array(columns)


def find_neuroids(
    groups: Mapping[str, Mapping[str, np.ndarray[Any, Any]]], wanted: Any, *, owner: str
) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return the columns of the wanted neuroids, and their coordinates.

    Parameters
    ----------
    groups : mapping
        Neuroid coordinates by group, as a responder gives them.
    wanted : str, int or sequence of them, or None
        ``neuroid_id`` values or ``"group/id"`` addresses. None: all.
    owner : str
        The verb, for the message.

    Returns
    -------
    columns : ndarray of int
    coords : dict of str to ndarray

    Raises
    ------
    ParameterError
        A name that is unknown, or that several groups have.
    """
    names = [str(i) for coords in groups.values() for i in coords["neuroid_id"].tolist()]
    layers = [group for group, coords in groups.items() for _ in range(len(coords["neuroid_id"]))]
    addresses = [f"{layer}/{name}" for layer, name in zip(layers, names, strict=True)]
    chosen = np.arange(len(names)) if wanted is None else columns_of(names, addresses, wanted, owner=owner)
    joined = {name: np.concatenate([coords[name] for coords in groups.values()]) for name in _shared(groups)}
    if not {"layer", "region"} & joined.keys():  # the address of a unit is its layer and its id
        joined["layer"] = as_labels(layers)
    return chosen, {name: values[chosen] for name, values in joined.items()}


def _shared(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first, *others = groups.values()
    return [name for name in first if all(name in coords for coords in others)]
