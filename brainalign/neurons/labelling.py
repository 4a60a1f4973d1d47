"""What statistics of neuroids share: labels of presentations, what may change places by chance, and columns block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, presentation_table
from brainalign.core.tiles import plan_tiles, read_tiles
from brainalign.dataset.repeats import exchange_groups
from brainalign.engine.bootstrap import draw_weights
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import BLOCK_S, time_orders
from brainalign.features.timing import rows_by_run, run_codes

_COLUMNS = 512  # that are worked on together: they stay in the caches


@dataclass(frozen=True)
class Rows:
    """Presentations, and which of them are one when they change places or are drawn.

    Attributes
    ----------
    table : DataFrame
    groups : ndarray of int, (presentation,)
    within : ndarray of int, (presentation,), or None
    owner : str
        The verb, for messages.
    """

    table: pd.DataFrame
    groups: Numbers
    within: Numbers | None
    owner: str

    @property
    def timed(self) -> bool:
        """Whether presentations follow each other in time."""
        return "onset_s" in self.table

    def in_time(self) -> list[Numbers]:
        """Return the rows of each run in the order of their onsets.

        Returns
        -------
        list of ndarray of int
        """
        return rows_by_run(run_codes(self.table), self.table["onset_s"].to_numpy(dtype=np.float64))

    def orders(self, n: int, rng: np.random.Generator) -> Numbers:
        """Return orders of the rows: groups exchanged, or, in time, each run shifted in a circle.

        Parameters
        ----------
        n : int
        rng : Generator

        Returns
        -------
        ndarray of int, (draw, presentation)

        Raises
        ------
        ParameterError
            No group can change places. Where some cannot, a warning says so (:func:`brainalign.dataset.repeats.exchange_groups`).
        """
        if self.timed:
            return time_orders(self.in_time(), null="shift", n_permutations=n, rng=rng)
        return exchange_groups(self.groups, n, rng, owner=self.owner, within=self.within)

    def weights(self, n: int, rng: np.random.Generator) -> tuple[Numbers, int]:
        """Return how often each row is drawn, and from how many units: groups, or stretches of 20 s.

        Parameters
        ----------
        n : int
        rng : Generator

        Returns
        -------
        weights : ndarray of int, (draw, presentation)
        n_units : int

        Raises
        ------
        ParameterError
            Fewer than two units.
        """
        codes = self.groups
        if self.timed:
            block = np.floor(self.table["onset_s"].to_numpy(dtype=np.float64) / BLOCK_S)
            codes = np.unique(np.stack([run_codes(self.table), block]), axis=1, return_inverse=True)[1]
        units = int(codes.max()) + 1
        if units < 2:
            raise ParameterError(
                f"n_bootstraps={n} got {len(codes)} presentations that are one unit, drawn as one. Expected several: of a "
                "recording in time, stretches of 20 s; else groups, or groups=None for single presentations."
            )
        return draw_weights(units, n, rng)[:, codes], units


def without_time(responses: xr.DataArray, owner: str) -> xr.DataArray:
    """Return valid responses, after checking that they have no time dim.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid)
    owner : str
        The verb, for the message.

    Returns
    -------
    DataArray

    Raises
    ------
    SchemaError
        Not valid, or with a time dim.
    """
    if "time" in validate(responses).dims:
        raise SchemaError(
            f"{owner} got responses with {responses.sizes['time']} times. Expected (presentation, neuroid): select a time, or average "
            "over some with `x.sel(time=slice(0.1, 0.2)).mean('time', keep_attrs=True)`."
        )
    return responses


def rows_of(x: xr.DataArray, groups: str | None, within: str | None, *, owner: str) -> Rows:
    """Return what is known of the presentations.

    Parameters
    ----------
    x : DataArray, (presentation, ...)
    groups : str or None
        Presentation coordinate whose rows stay together; None for single rows.
    within : str or None
        Presentation coordinate within which they change places.
    owner : str

    Returns
    -------
    Rows

    Raises
    ------
    ParameterError
        No such coordinate; or a part for rows in time, which are shifted within their runs.
    """
    table = presentation_table(x)
    if within is not None and "onset_s" in table:
        raise ParameterError(
            f"{owner} got within={within!r} for presentations in time (they have `onset_s`), which are shifted within their "
            "runs. Leave it out; or drop `onset_s` where presentations are independent of their neighbours."
        )
    codes = [
        np.arange(len(table)) if name is None else pd.factorize(labelled(x, name, owner=owner))[0] for name in (groups, within)
    ]
    return Rows(table, codes[0], None if within is None else codes[1], owner)


def labelled(x: xr.DataArray, name: str, *, owner: str) -> Numbers:
    """Return the values of a presentation coordinate, none of them missing.

    Parameters
    ----------
    x : DataArray, (presentation, ...)
    name, owner : str

    Returns
    -------
    ndarray, (presentation,)

    Raises
    ------
    ParameterError
        There is none of this name.
    SchemaError
        A presentation has no value.
    """
    known = coords_of(x, "presentation", as_object=True)
    if name not in known:
        raise ParameterError(
            f"{owner} got {name!r}; presentations have {', '.join(sorted(known))}. Expected one of "
            f"these.{did_you_mean(name, known)}"
        )
    values = known[name]
    missing = np.flatnonzero(pd.isna(values) | np.isin(values.astype(str), ["", "nan", "n/a", "None", "<NA>"]))
    if missing.size:
        raise SchemaError(
            f"{owner} got {name!r} without a value at presentations {preview(missing)}. Expected one for each: leave these "
            "rows out with `x.isel(presentation=keep)`."
        )
    return values


def labels_of(x: xr.DataArray, target: Any, *, owner: str) -> tuple[Numbers, Numbers]:
    """Return the categories of presentations.

    Parameters
    ----------
    x : DataArray, (presentation, ...)
    target : str, or DataArray of bool (presentation, category)
        A presentation coordinate, or whether each presentation shows each of several things, which need not exclude each other.
    owner : str

    Returns
    -------
    names : ndarray, (category,)
    member : ndarray of float64, (presentation, category)
        1 or 0.

    Raises
    ------
    ParameterError, SchemaError
        It is neither; rows differ; a single category.
    """
    if isinstance(target, str):
        values = labelled(x, target, owner=owner)
        codes, names = pd.factorize(values, sort=True)
        if len(names) < 2:
            raise ParameterError(
                f"{owner} got {target!r}, which is {names[0]!r} in all {len(values)} presentations. Expected two values or "
                "more: what would it be selective against?"
            )
        return as_labels(names), np.eye(len(names))[codes]
    if not isinstance(target, xr.DataArray) or target.dims != ("presentation", "category") or target.dtype.kind != "b":
        got = f"dims {target.dims} of {target.dtype}" if isinstance(target, xr.DataArray) else f"a {type(target).__name__}"
        raise ParameterError(
            f"{owner} got a target with {got}. Expected the name of a presentation coordinate, or a DataArray of bool with dims "
            "('presentation', 'category')."
        )
    if target.sizes["presentation"] != len(x) or (
        "stimulus_id" in target.coords and (target.stimulus_id.values != x.stimulus_id.values).any()
    ):
        raise SchemaError(
            f"{owner} got a target of {target.sizes['presentation']} presentations for responses to {len(x)}, or under other "
            "`stimulus_id`. Expected its rows to be those of the responses: `target.sel(presentation=...)`."
        )
    names = target.category.values if "category" in target.coords else np.arange(target.shape[1])
    return as_labels(names), target.values.astype(np.float64)


def blocks_of(x: xr.DataArray, *, max_memory: int, owner: str, together: int = _COLUMNS) -> Iterator[tuple[slice, Numbers]]:
    """Read neuroids block by block, all presentations of each; lazy values chunk by chunk.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
    max_memory : int
        Bytes for the values that are held.
    owner : str
    together : int
        Columns of a block at most; a neuroid is one for each time.

    Yields
    ------
    tuple of (slice, ndarray)
        Neuroids, and their values, (presentation, neuroid × time).
    """
    n, n_times = x.shape[1], prod(x.shape[2:])
    fits = max_memory // (len(x) * n_times * x.dtype.itemsize)
    step = max(1, min(together // n_times, fits))
    units = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    tiles = plan_tiles(x.data, units, step=len(x), budget=max_memory, owner=owner)
    for _, number, values in read_tiles(x.data, tiles):
        band = tiles.bands[number]
        for unit in (units[i] for i in band):
            start = unit.start - units[band.start].start
            yield unit, values[:, start : start + unit.stop - unit.start].reshape(len(x), -1)


def neuroid_labels(x: xr.DataArray) -> dict[str, Any]:
    """Return the coordinates of neuroids and times, for a result.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    dict of str to (dim, ndarray)
    """
    dims = ("neuroid", *(["time"] if "time" in x.dims else []))
    return {name: (dim, values) for dim in dims for name, values in coords_of(x, dim).items()}
