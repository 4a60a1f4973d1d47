"""Spike times, from text tables or arrays, as integer counts in bins with explicit edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns, sniff
from brainalign.adapters.files import NAMES, Format, is_path, naming, record_opening
from brainalign.adapters.spikes.alignment import (
    check_edges,
    check_events,
    check_recorded,
    check_spike_times,
    first_and_last,
    spike_responses,
)
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.engine.binning import bin_spikes

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
    recorded_s: Sequence[float] | None = None,
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
        One row a presentation, in the order of time: ``stimulus_id``, ``onset_s`` (the clock of the spikes), and further
        coordinates. Where windows overlap, a spike counts for each of them; the attr ``n_overlapping_windows`` says how many do.
    unit : str, optional
        Name of the one unit of a table without ``unit_column``.
    unit_column, time_column : str, optional
        Columns of a table with a header.
    sampling_rate_hz : float, optional
        Of the clock that ``"samples"`` counts.
    recorded_s : (start, stop), seconds, optional
        What was recorded: windows must lie inside. Where it is not known, they must touch the time from the first to the last spike.
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
        A damaged table, a missing column, a time that is no number; events that go back, or two at one time.
    ParameterError
        Times that go back, edges that do not increase, a unit without a name, windows where nothing was recorded.
    """
    named = _spike_times(source, unit=unit, unit_column=unit_column, time_column=time_column)
    ticks = _ticks_per_second(time_unit, sampling_rate_hz)
    files = sorted({Path(item).name for item in _paths(source)})
    shown = repr(files[0]) if files else "spike times"
    with naming(shown):
        times = [check_spike_times(np.asarray(t, dtype=np.float64) / ticks, name=name) for name, t in named.items()]
        edges = check_edges(edges_s, owner="open_spikes")
    units = list(named)
    labels: dict[str, Any] = {"n_spikes": np.array([t.size for t in times])}
    if region is not None:
        labels["region"] = _regions(region, units)
    table = None if events is None else check_events(events)
    onsets = np.zeros(1) if table is None else table["onset_s"].to_numpy(np.float64)
    check_recorded(onsets, edges, source=shown, recorded_s=recorded_s, spikes_s=first_and_last(times))
    x = spike_responses(
        partial(bin_spikes, times),
        edges,
        table,
        neuroid_id=units,
        neuroid=labels,
        system=system,
        who={"run": run, "subject": subject},
    )
    params = {"time_unit": time_unit, "edges_s": edges, "sampling_rate_hz": sampling_rate_hz, "recorded_s": recorded_s}
    params |= {"scale": 1.0, "index_base": NAMES}
    return record_opening(x, "spikes", files, params)


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


def _matches(source: Any) -> str:
    """One column of numbers that never go back, or a header that names spike times."""
    look = sniff(source)
    if look is None:
        return ""
    header, rows = look
    if header is not None and any(name.lower() in _TIME_NAMES for name in header):
        return "its header names spike times"
    if rows.shape[1] != 1 or len(rows) < 2 or np.isnan(rows).any():
        return ""
    steps = np.diff(rows[:, 0])
    return "it is one column of numbers that never go back" if (steps >= 0).all() and steps.any() else ""


adapter = Format("spikes", _matches, open_spikes)
