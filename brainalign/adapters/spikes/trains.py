"""Spike times, from text tables or arrays, as integer counts in bins with explicit edges."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns, sniff
from brainalign.adapters.files import Format, is_path, naming, per_run_ids, record_opening
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.responses import responses
from brainalign.engine.binning import bin_spikes, count_spikes

TICKS_PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6}
_TIME_NAMES = ("spike_time", "spike_times", "spike_times_s", "spike_time_s", "spike_times_ms", "spike_times_us")


def open_spikes(
    source: Any,
    *,
    time_unit: str,
    edges_s: Any,
    system: str,
    events: pd.DataFrame | None = None,
    unit: str | None = None,
    unit_column: str | None = None,
    time_column: str | None = None,
    sampling_rate_hz: float | None = None,
    run: str = "1",
    subject: str | None = None,
    region: str | Mapping[str, str] | None = None,
) -> xr.DataArray:
    """Open spike times as counts: around events, or in the bins of a continuous recording.

    Parameters
    ----------
    source : str, Path or mapping of str to (array_like or path)
        One text table of spike times, or spike times by unit name. A table without header holds one column
        of times.
    time_unit : {"s", "ms", "us", "samples"}
        Unit of the times as they are stored. ``"samples"`` needs ``sampling_rate_hz``.
    edges_s : array_like, (bin + 1,), seconds
        Half-open bins ``[edge_i, edge_{i+1})``: relative to each event's onset where there are events, else on
        the clock of the recording.
    system : str
        Whose neurons these are.
    events : DataFrame, optional
        One row a presentation: ``stimulus_id``, ``onset_s`` (the clock of the spikes), and further coordinates.
    unit : str, optional
        Name of the one unit of a table without ``unit_column``.
    unit_column, time_column : str, optional
        Columns of a table with a header.
    sampling_rate_hz : float, optional
        Of the clock that ``"samples"`` counts.
    run : str
        Name of the recording; events may bring their own ``run``.
    subject : str, optional
    region : str or mapping of unit name to str, optional

    Returns
    -------
    DataArray of int32, spikes/bin
        With events: (presentation, neuroid, time), ``time`` at the centres of the bins, the edges in the attr
        ``bin_edges_s`` (JSON). Without: (presentation, neuroid), one row a bin, with ``onset_s`` (its left edge) and
        ``duration_s``. The neuroid coordinate ``n_spikes`` counts the spikes of the whole source.

    Raises
    ------
    FormatError
        A damaged table, a missing column, a time that is no number.
    ParameterError
        Times that go back, edges that do not increase, a unit without a name.
    """
    named = _spike_times(source, unit=unit, unit_column=unit_column, time_column=time_column)
    ticks = _ticks_per_second(time_unit, sampling_rate_hz)
    files = sorted({Path(item).name for item in _paths(source)})
    with naming(f"{files[0]!r}" if files else "spike times"):
        times = [check_spike_times(np.asarray(t, dtype=np.float64) / ticks, name=name) for name, t in named.items()]
        edges = check_edges(edges_s, owner="open_spikes")
    units = list(named)
    labels: dict[str, Any] = {"n_spikes": np.array([t.size for t in times])}
    if region is not None:
        labels["region"] = _regions(region, units)
    arguments = {"neuroid_id": units, "neuroid": labels, "modality": "spikes", "system": system, "units": "spikes/bin"}
    if events is None:
        x = _continuous(times, edges, run, subject, arguments)
    else:
        x = _around_events(times, edges, events, run, subject, arguments)
        x.attrs["bin_edges_s"] = json.dumps(edges.tolist())
    return record_opening(x, "spikes", files, {"time_unit": time_unit, "edges_s": edges, "sampling_rate_hz": sampling_rate_hz})


def _continuous(times: list[Any], edges: Any, run: str, subject: str | None, arguments: dict[str, Any]) -> xr.DataArray:
    widths = np.diff(edges)
    rows: dict[str, Any] = {"onset_s": edges[:-1], "duration_s": widths, "run": run}
    if subject is not None:
        rows["subject"] = subject
    if np.allclose(widths, widths[0], rtol=1e-6):
        arguments["neuroid"]["sampling_rate_hz"] = np.full(len(times), 1.0 / widths.mean())
    ids = per_run_ids(run, widths.size, "b")
    return responses(count_spikes(times, edges), stimulus_id=ids, presentation=_filled(rows, widths.size), **arguments)


def _around_events(
    times: list[Any], edges: Any, events: pd.DataFrame, run: str, subject: str | None, arguments: dict[str, Any]
) -> xr.DataArray:
    require_columns(events, ["stimulus_id", "onset_s"], "events=")
    onsets = events["onset_s"].to_numpy(np.float64)
    if not np.isfinite(onsets).all():
        raise FormatError(
            f"events= has no `onset_s` in rows {preview(np.flatnonzero(~np.isfinite(onsets)))}. Expected seconds in every row."
        )
    rows: dict[str, Any] = {name: events[name].to_numpy() for name in events.columns if name not in ("stimulus_id", "repetition")}
    rows.setdefault("run", run)
    if subject is not None:
        rows["subject"] = subject
    return responses(
        bin_spikes(times, onsets, edges),
        stimulus_id=events["stimulus_id"].astype(str).to_numpy(object),
        presentation=_filled(rows, len(events)),
        time=(edges[:-1] + edges[1:]) / 2,
        time_reference="stimulus onset",
        **arguments,
    )


def _filled(rows: dict[str, Any], length: int) -> pd.DataFrame:
    return pd.DataFrame(rows, index=range(length))


def _spike_times(source: Any, *, unit: str | None, unit_column: str | None, time_column: str | None) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        if not source:
            raise ParameterError("open_spikes got an empty mapping. Expected spike times by unit name.")
        return {
            str(name): _table_times(item, time_column) if is_path(item) else _numbers(item, str(name))
            for name, item in source.items()
        }
    if not isinstance(source, (str, Path)):
        raise ParameterError(
            f"open_spikes got a {type(source).__name__}. Expected a path, or a mapping of unit names to spike times: a list alone does "
            "not say which unit is which."
        )
    if (unit is None) == (unit_column is None):
        raise ParameterError(
            f"open_spikes got unit={unit!r} and unit_column={unit_column!r}. Expected one of the two: the column of {str(source)!r} that "
            "names the unit of each spike, or the name of its only unit."
        )
    if unit is not None:
        return {unit: _table_times(source, time_column)}
    table = read_table(source, header=True)
    name = str(source)
    if time_column is None:
        raise ParameterError(
            f"open_spikes got unit_column={unit_column!r} without time_column. {name!r} has {preview(table.columns, 8)}."
        )
    require_columns(table, [str(unit_column), time_column], name)
    times = _no_missing(numeric_columns(table, [time_column], name)[:, 0], name, time_column)
    groups = table[str(unit_column)].str.strip()
    return {str(key): times[(groups == key).to_numpy()] for key in dict.fromkeys(groups)}


def _numbers(times: Any, unit: str) -> np.ndarray:
    array = np.asarray(times)
    if array.size and array.dtype.kind not in "iuf":
        raise ParameterError(f"unit {unit!r} has spike times of dtype {array.dtype}. Expected a list of numbers.")
    return array.astype(np.float64) if not array.size else array


def _table_times(path: Any, time_column: str | None) -> np.ndarray:
    table, name = read_table(path, header=None if time_column is None else True), str(path)
    if time_column is None:
        if table.shape[1] != 1:
            raise FormatError(
                f"{name!r} has {table.shape[1]} columns, {preview(table.columns)}. Name that of the times with `time_column=`."
            )
        column = table.columns[0]
    else:
        require_columns(table, [time_column], name)
        column = time_column
    return _no_missing(numeric_columns(table, [column], name)[:, 0], name, column)


def _no_missing(times: np.ndarray, name: str, column: Any) -> np.ndarray:
    missing = np.flatnonzero(~np.isfinite(times))
    if missing.size:
        raise FormatError(
            f"{name!r} has no spike time in row {missing[0]} of column {str(column)!r}. Expected a number in every row."
        )
    return times


def _ticks_per_second(time_unit: str, sampling_rate_hz: float | None) -> float:
    # Times are divided, not multiplied by a small number: 5000 / 1e6 is the float nearest to 0.005, and so is an edge at 0.005.
    check_choice("time_unit", time_unit, (*TICKS_PER_SECOND, "samples"), owner="open_spikes")
    if time_unit == "samples":
        return float(check_number("sampling_rate_hz", sampling_rate_hz, owner="open_spikes", low=0, low_open=True))
    return TICKS_PER_SECOND[time_unit]


def _regions(region: str | Mapping[str, str], units: Sequence[str]) -> list[str]:
    if isinstance(region, str):
        return [region] * len(units)
    unknown = [name for name in units if name not in region]
    if unknown:
        raise ParameterError(
            f"open_spikes got no region for the units {preview(unknown)}. Expected one for each of {len(units)}."
        )
    return [region[name] for name in units]


def _paths(source: Any) -> list[Any]:
    return [item for item in (source.values() if isinstance(source, Mapping) else [source]) if isinstance(item, (str, Path))]


def _matches(source: Any) -> bool:
    """One column of numbers that never go back, or a header that names spike times."""
    look = sniff(source)
    if look is None:
        return False
    header, rows = look
    if header is not None and any(name.lower() in _TIME_NAMES for name in header):
        return True
    if rows.shape[1] != 1 or len(rows) < 2 or np.isnan(rows).any():
        return False
    steps = np.diff(rows[:, 0])
    return bool((steps >= 0).all() and steps.any())


adapter = Format("spikes", _matches, open_spikes)


def check_edges(edges_s: Any, *, owner: str) -> np.ndarray:
    """Return bin edges as float64 seconds if they are finite and strictly increasing.

    Parameters
    ----------
    edges_s : array_like, (bin + 1,), seconds
    owner : str
        The function that they were given to, for the message.

    Returns
    -------
    ndarray of float64, (bin + 1,)

    Raises
    ------
    ParameterError
        Fewer than two edges, or edges that do not increase.
    """
    edges = np.asarray(edges_s, dtype=np.float64)
    if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all():
        raise ParameterError(
            f"The 'edges_s' parameter of {owner} must be at least two finite seconds. Got shape {edges.shape} instead."
        )
    steps = np.diff(edges)
    if not (steps > 0).all():
        at = int(np.argmax(steps <= 0))
        raise ParameterError(
            f"The 'edges_s' parameter of {owner} must increase. Got {edges[at]:g} s followed by {edges[at + 1]:g} s at position {at + 1}: "
            "sort the edges and drop repeated ones."
        )
    return edges


def check_spike_times(times_s: Any, *, name: str) -> np.ndarray:
    """Return the spike times of one unit as float64 seconds if they are finite and sorted.

    Parameters
    ----------
    times_s : array_like, (spike,), seconds
        Equal times are allowed: they are two spikes.
    name : str
        The unit, for the message.

    Returns
    -------
    ndarray of float64, (spike,)

    Raises
    ------
    ParameterError
        Times that are not finite, or go back.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or not np.isfinite(times).all():
        raise ParameterError(
            f"the spike times of unit {name!r} have shape {times.shape} or are not all finite. Expected a list of seconds."
        )
    steps = np.diff(times)
    if (steps < 0).any():
        at = int(np.argmax(steps < 0))
        raise ParameterError(
            f"the spike times of unit {name!r} go back from {times[at]:g} s to {times[at + 1]:g} s at position {at + 1}. Expected one "
            "clock: sort them, or split recordings whose clock starts anew."
        )
    return times
