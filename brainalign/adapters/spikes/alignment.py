"""Counts of spikes around events, or in the bins of a recording: what every reader of spike times shares."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import require_columns
from brainalign.adapters.files import per_run_ids
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.responses import responses
from brainalign.core.schema import DIMS, as_labels, dim_of

UNKNOWN = "unknown"
_SLACK_S = 1e-9  # a window that ends where the recording does may be late by the rounding of a sum


def spike_responses(
    count: Callable[[np.ndarray, np.ndarray], Any],
    edges: np.ndarray,
    events: pd.DataFrame | None,
    *,
    neuroid_id: Any,
    neuroid: Mapping[str, Any],
    system: str,
    who: Mapping[str, str | None],
    allow_nan: bool = False,
) -> xr.DataArray:
    """Return counts with their labels: one row an event, or one row a bin of a continuous recording.

    Parameters
    ----------
    count : callable
        ``count(onsets_s, edges_s)`` returns (event, unit, bin), in memory or lazy.
    edges : ndarray, (bin + 1,), seconds
        Relative to each event, or on the clock of the recording where there are none.
    events : DataFrame, optional
        As :func:`check_events` returns it.
    neuroid_id : sequence, (unit,)
    neuroid : mapping of str to sequence (unit,)
    system : str
    who : mapping of {"run", "subject", "session"} to str or None
        Of all presentations; events may bring their own ``run``.
    allow_nan : bool
        Bins that were not recorded are NaN.

    Returns
    -------
    DataArray, (presentation, neuroid[, time]), spikes/bin
        With events the edges are in the attr ``bin_edges_s`` (JSON), and ``n_overlapping_windows`` says how many windows begin
        before the one before them ends: a spike there counts for both events.
    """
    common: dict[str, Any] = {
        "neuroid_id": neuroid_id, "modality": "spikes", "system": system, "units": "spikes/bin", "allow_nan": allow_nan
    }  # fmt: skip
    if events is None:
        widths = np.diff(edges)
        rate = {"sampling_rate_hz": 1.0 / widths.mean()} if np.allclose(widths, widths[0], rtol=1e-6) else {}
        rows = pd.DataFrame({"onset_s": edges[:-1], "duration_s": widths, **known(who)})
        counts = count(np.zeros(1), edges)[0].T
        return responses(
            counts if hasattr(counts, "dask") else np.ascontiguousarray(counts), stimulus_id=per_run_ids(str(who["run"]), widths.size, "b"),
            presentation=rows, neuroid=neuroid, **rate, **common,
        )  # fmt: skip
    onsets = events["onset_s"].to_numpy(np.float64)
    ids, table = event_rows(events, taken=neuroid, who=who)
    x = responses(
        count(onsets, edges), stimulus_id=ids, presentation=table, neuroid=neuroid, time=(edges[:-1] + edges[1:]) / 2,
        time_reference="stimulus onset", **common,
    )  # fmt: skip
    return note_windows(x, onsets, edges)


def known(who: Mapping[str, str | None]) -> dict[str, str]:
    """Return the labels of a recording that are known.

    Parameters
    ----------
    who : mapping of str to str or None

    Returns
    -------
    dict of str to str
    """
    return {name: value for name, value in who.items() if value is not None}


def event_rows(
    events: pd.DataFrame, *, taken: Mapping[str, Any], who: Mapping[str, str | None]
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the stimulus ids and the further labels of the presentations that events make.

    Parameters
    ----------
    events : DataFrame
    taken : mapping
        Names that label neuroids already: a column of such a name becomes ``event_<name>``.
    who : mapping of {"run", "subject", "session"} to str or None
        ``run`` where the events name none.

    Returns
    -------
    (ndarray (event,), DataFrame)
    """
    renamed = {
        name: f"event_{name}" for name in events.columns if name in taken or name in DIMS or dim_of(name) in ("neuroid", "time")
    }
    rows = events.drop(columns=["stimulus_id", "repetition"], errors="ignore").rename(columns=renamed).reset_index(drop=True)
    rows = rows.assign(**{name: value for name, value in known(who).items() if name != "run" or "run" not in rows})
    return as_labels(events["stimulus_id"].to_numpy()), rows  # numbers with a point are refused: 1.0 is no name for 1


def note_windows(x: xr.DataArray, onsets: np.ndarray, edges: np.ndarray) -> xr.DataArray:
    """Return ``x`` with the edges of its bins, and how many windows of events overlap, in its attrs.

    Parameters
    ----------
    x : DataArray
    onsets : ndarray, (event,), seconds
        In the order of time.
    edges : ndarray, (bin + 1,), seconds

    Returns
    -------
    DataArray
    """
    overlapping = int((np.diff(onsets) < edges[-1] - edges[0] - _SLACK_S).sum())
    x.attrs |= {"bin_edges_s": json.dumps(edges.tolist()), "n_overlapping_windows": overlapping}
    return x


def check_events(events: pd.DataFrame, *, source: str = "events=") -> pd.DataFrame:
    """Return events if they have an id and an onset each, in the order of time.

    Parameters
    ----------
    events : DataFrame
        ``stimulus_id``, ``onset_s``, and further columns.
    source : str
        Where they come from, for the message.

    Returns
    -------
    DataFrame

    Raises
    ------
    ParameterError
        No table.
    FormatError
        A missing column, an onset that is no number, onsets that go back, two events at one time.
    """
    if not isinstance(events, pd.DataFrame):
        raise ParameterError(
            f"{source} got {preview([events])} ({type(events).__name__}). Expected a DataFrame with `stimulus_id` and `onset_s`."
        )
    require_columns(events, ["stimulus_id", "onset_s"], source)
    if not len(events):
        raise FormatError(f"{source} has no rows. Expected at least one event: look at what was selected.")
    try:
        onsets = events["onset_s"].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source} has `onset_s` that are no numbers ({error}). Expected seconds in every row.") from error
    if not np.isfinite(onsets).all():
        raise FormatError(
            f"{source} has no `onset_s` in rows {preview(np.flatnonzero(~np.isfinite(onsets)))}. Expected seconds in every row."
        )
    steps = np.diff(onsets)
    if (steps < 0).any():
        at = int(np.argmax(steps < 0))
        raise FormatError(
            f"{source} goes back from {onsets[at]:g} s in row {at} to {onsets[at + 1]:g} s. Expected one clock, in the order of time: sort "
            "the rows by `onset_s`, or open recordings whose clock starts anew one by one."
        )
    if (steps == 0).any():
        at = int(np.argmax(steps == 0))
        names = events["stimulus_id"].astype(str).iloc[at : at + 2].tolist()
        raise FormatError(
            f"{source} has two events at {onsets[at]:g} s, {names[0]!r} and {names[1]!r} in rows {at} and {at + 1}. Expected one stimulus at a "
            "time: drop one row, or name what was shown together as one stimulus."
        )
    return events


def check_recorded(
    onsets: np.ndarray, edges: np.ndarray, *, source: str, recorded_s: Sequence[float] | None, spikes_s: tuple[float, float]
) -> None:
    """Refuse windows that lie where nothing was recorded: counts of 0 there would say that the neurons were silent.

    Parameters
    ----------
    onsets : ndarray, (event,), seconds
        A single 0 for a continuous recording.
    edges : ndarray, (bin + 1,), seconds
    source : str
        Where the spikes come from, for the message.
    recorded_s : (start, stop), seconds, optional
        What was recorded; every window must lie inside.
    spikes_s : (first, last), seconds
        Where it is not known: first and last spike of all units; a window that does not touch them is refused.

    Raises
    ------
    ParameterError
        A window lies outside, or ``recorded_s`` is no pair of increasing seconds.
    """
    starts, stops = onsets + edges[0], onsets + edges[-1]
    if recorded_s is None:
        first, last = spikes_s
        if first == np.inf:
            raise ParameterError(
                f"{source} holds no spike at all. Expected at least one, or what was recorded: `recorded_s=(start, stop)`."
            )
        outside, what = (stops <= first) | (starts > last), "the first and the last spike are at"
        mend = "check the unit and the clock of the onsets, or say what was recorded with `recorded_s=(start, stop)`"
    else:
        span = np.asarray(recorded_s, dtype=np.float64)
        if span.shape != (2,) or not np.isfinite(span).all() or span[0] >= span[1]:
            raise ParameterError(
                f"The 'recorded_s' parameter must be (start, stop) in seconds, start before stop. Got {recorded_s!r} instead."
            )
        first, last = span
        outside, what = (starts < first - _SLACK_S) | (stops > last + _SLACK_S), "the recording spans"
        mend = "drop these events, or check the unit and the clock of their onsets"
    if outside.any():
        at = int(np.argmax(outside))
        raise ParameterError(
            f"{int(outside.sum())} of {outside.size} windows lie outside what {source} recorded: that of event {at} is {starts[at]:g} to "
            f"{stops[at]:g} s, and {what} {first:g} and {last:g} s. Expected windows inside: {mend}."
        )


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
    try:
        edges = np.asarray(edges_s, dtype=np.float64)
    except (TypeError, ValueError):
        edges = np.empty(0)
    if edges.ndim != 1 or edges.size < 2 or not np.isfinite(edges).all():
        raise ParameterError(
            f"The 'edges_s' parameter of {owner} must be the edges of bins: at least two finite seconds, such as "
            f"`np.arange(0.0, 60.0, 0.1)`. Got {preview(np.atleast_1d(edges_s))} instead."
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


def first_and_last(times: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the times of the first and the last spike of all units.

    Parameters
    ----------
    times : sequence of ndarray (spike,), seconds
        Sorted.

    Returns
    -------
    (float, float)
        Infinite where there is no spike at all.
    """
    ends = [(t[0], t[-1]) for t in times if t.size]
    return min((a for a, _ in ends), default=np.inf), max((b for _, b in ends), default=-np.inf)
