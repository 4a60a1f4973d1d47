"""Where the features of a source lie: channels that share their places, in units of a common field of view."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import preview
from brainalign.core.tables import coords_of
from brainalign.features.flat import flatten_time

Numbers = np.ndarray[Any, Any]

GRID, SPACE, TOKENS = ("channel_x", "channel_y", "channel_z"), ("x_mm", "y_mm", "z_mm"), ("token",)
_GROUPS = ("band", "layer", "region")  # each has maps of its own size
_CHANNELS = ("unit", "time_s", "delay_s")


@dataclass(frozen=True)
class Maps:
    """Channels at the same places: the maps of a layer, the units of tokens, a region's voxels at every delay.

    Attributes
    ----------
    columns : ndarray of int, (place, channel)
        Positions among the flattened features of the source.
    points : ndarray of float64, (place, axis)
        In fields of view, from the centre.
    cell : ndarray of float64, (axis,)
        Extent of one place.
    places : dict of str to ndarray, (place,)
        Their coordinates in the source, and the layer, region or band whose maps these are.
    """

    columns: Numbers
    points: Numbers
    cell: Numbers
    places: dict[str, Numbers]


@dataclass(frozen=True)
class FieldOfView:
    """All maps of a source, and what a field of view is.

    Attributes
    ----------
    maps : list of Maps
        One for each layer, region or band.
    axes : tuple of str
        ``("x", "y")``, or with a unit ``("x_mm", "y_mm", "z_mm")``.
    centre : ndarray of float64, (axis,)
    scale : float
        One field of view in the unit of the axes.
    """

    maps: list[Maps]
    axes: tuple[str, ...]
    centre: Numbers
    scale: float

    def one_grid(self, owner: str) -> Maps:
        """Return the maps of all layers, regions and bands as channels of one grid.

        Parameters
        ----------
        owner : str
            For the message.

        Returns
        -------
        Maps

        Raises
        ------
        CapabilityError
            They do not share their places.
        """
        first = self.maps[0]
        for other in self.maps[1:]:
            if not np.array_equal(first.points, other.points):
                raise CapabilityError(
                    f"{owner} got maps of {len(first.points)} and of {len(other.points)} places, which are not the same ones. Expected one "
                    "grid for all channels: select one layer (region, band), or use `ba.SpatialReadout(method='fwrf')`, which pools "
                    "maps of any resolution."
                )
        places = {name: values for name, values in first.places.items() if len(self.maps) == 1 or name not in _GROUPS}
        return Maps(np.concatenate([m.columns for m in self.maps], axis=1), first.points, first.cell, places)


def field_of_view(X: Any, *, owner: str, tokens: bool = False) -> FieldOfView:
    """Find the maps of a source by its labels, or of a plain array by its shape.

    Parameters
    ----------
    X : DataArray, (presentation, neuroid[, time]), or ndarray, (presentation, channel, y, x)
        Labelled features lie at ``channel_x``, ``channel_y`` (``channel_z``), or at ``x_mm``, ``y_mm``, ``z_mm``; those of
        one place are told apart by ``unit``, ``layer``, ``region``, ``band``, time and delay. Negative ``channel_x`` have
        no place (class and register tokens) and belong to no map.
    owner : str
        For the messages.
    tokens : bool
        Features may also lie at a ``token``; a plain array may be (presentation, token, unit).

    Returns
    -------
    FieldOfView
        For a grid its longer side is one field of view, x grows to the right and y upward (``channel_y`` counts rows
        downward). In space, all neuroids share one whose side is the longest extent.

    Raises
    ------
    CapabilityError
        Nothing says where the features lie, or the maps have holes.
    """
    if not isinstance(X, xr.DataArray):
        return _of_shape(np.shape(X), owner, tokens)
    labels = coords_of(flatten_time(X.isel(presentation=slice(0, 1))), "neuroid")
    names = _axes(labels, tokens)
    if not names:
        _no_places(owner, f"a source with the neuroid labels {', '.join(sorted(labels))}", tokens)
    where = np.stack([labels[name].astype(np.float64) for name in names], axis=1)
    lost = np.flatnonzero(np.isnan(where).any(axis=1))
    if lost.size:
        raise CapabilityError(
            f"{owner} got {lost.size} of {len(where)} features whose {' or '.join(f'`{name}`' for name in names)} is NaN, first "
            f"{preview(labels['neuroid_id'][lost])}. Expected a place for each: leave out the layers or neuroids that have none."
        )
    inside = np.ones(len(where), dtype=bool) if names[0] in SPACE else (where >= 0).all(axis=1)
    groups = _codes(labels, _GROUPS)
    codes = [np.flatnonzero(inside & (groups == k)) for k in np.unique(groups[inside])]
    labels["channel"] = _codes(labels, _CHANNELS)
    if names[0] in SPACE:
        low, high = where.min(axis=0), where.max(axis=0)
        centre, scale = (low + high) / 2, float((high - low).max())
        maps = [_maps(group, where, labels, names, lambda p: (p - centre) / scale, owner) for group in codes]
        return FieldOfView(maps, names, centre, scale)
    maps = [_maps(group, where, labels, names, _in_fields_of_view, owner) for group in codes]
    return FieldOfView(maps, tuple(name.removeprefix("channel_") for name in names), np.zeros(len(names)), 1.0)


def _axes(labels: dict[str, Numbers], tokens: bool) -> tuple[str, ...]:
    """Return the coordinates that say where features lie; of a volume or a surface, those that vary."""
    if {"channel_x", "channel_y"} <= labels.keys():
        return tuple(name for name in GRID if name in labels)
    found = tuple(name for name in SPACE if name in labels and len(np.unique(labels[name])) > 1)
    return found or (TOKENS if tokens and "token" in labels else ())


def _codes(labels: dict[str, Numbers], names: tuple[str, ...]) -> Numbers:
    """Return one integer for each combination of labels, in the order of first appearance."""
    codes = np.zeros(len(labels["neuroid_id"]), dtype=np.int64)
    for name in names:
        if name in labels:
            _, part = np.unique(labels[name], return_inverse=True)
            codes = codes * (part.max() + 1) + part
    _, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[codes]


def _maps(group: Numbers, where: Numbers, labels: dict[str, Numbers], names: tuple[str, ...], scaled: Any, owner: str) -> Maps:
    """Arrange the features of one group as (place, channel)."""
    spots, place = np.unique(where[group][:, ::-1], axis=0, return_inverse=True)  # row by row
    spots = spots[:, ::-1]
    _, channel = np.unique(labels["channel"][group], return_inverse=True)
    columns = np.full((len(spots), channel.max() + 1), -1, dtype=np.int64)
    columns[place.ravel(), channel] = group
    holes = int((columns < 0).sum())
    if holes or columns.size != len(group):
        what = f"lack {holes} of {columns.size} features" if holes else f"have {len(group) - columns.size} features twice"
        raise CapabilityError(
            f"{owner} got maps of {len(spots)} places and {columns.shape[1]} channels that {what}. Expected every channel once at every "
            "place, told apart by `unit`, `layer`, `region` or `band`: select whole maps, or give channels that lie apart a `region` each."
        )
    points = scaled(spots)
    places = {name: spots[:, k] for k, name in enumerate(names)}
    places |= {name: np.repeat(labels[name][group[:1]], len(spots)) for name in _GROUPS if name in labels}
    return Maps(columns, points, _cell(spots, points, names), places)


def _in_fields_of_view(spots: Numbers) -> Numbers:
    size = spots.max(axis=0) + 1
    points = (spots + 0.5 - size / 2) / size.max()
    if points.shape[1] > 1:
        points[:, 1] *= -1  # rows are counted downward
    return points


def _cell(spots: Numbers, points: Numbers, names: tuple[str, ...]) -> Numbers:
    """Return the extent of one place: a pixel, or the typical distance of neighbours in space."""
    if names[0] not in SPACE:
        return np.full(len(names), 1 / (spots.max() + 1))
    if len(points) == 1:
        return np.ones(len(names))
    from scipy.spatial import KDTree

    return np.full(len(names), float(np.median(KDTree(points).query(points, k=2)[0][:, 1])))


def _of_shape(shape: tuple[int, ...], owner: str, tokens: bool) -> FieldOfView:
    """Return the maps of an array (presentation, channel, y, x), or of (presentation, token, unit)."""
    if len(shape) == 3 and tokens:
        columns, spots, names = np.arange(shape[1] * shape[2]).reshape(shape[1:]), np.arange(shape[1])[:, None], TOKENS
    elif len(shape) == 4:
        columns = np.arange(int(np.prod(shape[1:]))).reshape(shape[1], -1).T
        spots, names = np.stack(np.divmod(np.arange(len(columns)), shape[3])[::-1], axis=1), GRID[:2]
    else:
        _no_places(owner, f"a plain array of shape {shape}", tokens)
    spots = spots.astype(np.float64)
    points = _in_fields_of_view(spots)
    maps = Maps(columns, points, _cell(spots, points, names), {name: spots[:, k] for k, name in enumerate(names)})
    return FieldOfView([maps], tuple(name.removeprefix("channel_") for name in names), np.zeros(len(names)), 1.0)


def _no_places(owner: str, what: str, tokens: bool) -> NoReturn:
    wanted = "`token`, `channel_x` and `channel_y`, or" if tokens else "`channel_x` and `channel_y`, or"
    plain = "(presentation, token, unit) or (presentation, channel, y, x)" if tokens else "(presentation, channel, y, x)"
    advice = "" if tokens else " Tokens without a place go to `ba.AttentionReadout`."
    raise CapabilityError(
        f"{owner} got {what}, which says nothing of where the features lie. Expected {wanted} `x_mm`, `y_mm`, `z_mm` (or a plain array "
        f"{plain}): record whole maps (pool='all' of a TransformersResponder), or assign the coordinates, and leave out steps that mix places (PCA, ba.Reduce)."
        f"{advice} Without places, use `ba.Ridge`."
    )
