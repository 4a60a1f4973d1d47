"""Neuroids by their names: ``neuroid_id`` values, or addresses such as ``"layer.3/17"``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import as_labels


def find_neuroids(
    groups: Mapping[str, Mapping[str, np.ndarray[Any, Any]]], wanted: Any
) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return the columns of the wanted neuroids, and their coordinates.

    Parameters
    ----------
    groups : mapping
        Neuroid coordinates by group, as a responder gives them.
    wanted : str, int or sequence of them, or None
        ``neuroid_id`` values or ``"group/id"`` addresses. None: all.

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
    chosen = np.arange(len(names)) if wanted is None else _columns(names, layers, wanted)
    joined = {name: np.concatenate([coords[name] for coords in groups.values()]) for name in _shared(groups)}
    if not {"layer", "region"} & joined.keys():  # the address of a unit is its layer and its id
        joined["layer"] = as_labels(layers)
    return chosen, {name: values[chosen] for name, values in joined.items()}


def _columns(names: list[str], layers: list[str], wanted: Any) -> np.ndarray[Any, Any]:
    index: dict[str, list[int]] = {}
    for position, (group, name) in enumerate(zip(layers, names, strict=True)):
        for address in {name, f"{group}/{name}"}:
            index.setdefault(address, []).append(position)
    items = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    if not items:
        raise ParameterError("attribute got an empty `neuroid`. Expected at least one neuroid_id or address.")
    for item in items:
        found = index.get(str(item), [])
        if len(found) != 1:
            where = preview(dict.fromkeys(layers[i] for i in found))
            what = f"matches {len(found)} neuroids, in {where}" if found else "matches no neuroid"
            raise ParameterError(
                f"attribute got neuroid={item!r}, which {what}. Expected a neuroid_id such as {preview(names)} or an address "
                f"'group/id'.{did_you_mean(str(item), index)}"
            )
    return np.array([index[str(item)][0] for item in items])


def _shared(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first, *others = groups.values()
    return [name for name in first if all(name in coords for coords in others)]
