"""The table of units of an NWB file: labels at once, spike times when counts are computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import naming
from brainalign.adapters.hdf5 import hdf5_file
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.adapters.spikes.alignment import UNKNOWN, check_spike_times
from brainalign.adapters.spikes.nwb_tables import bounds, column, labels, member, refuse_other_units, row_ids
from brainalign.adapters.spikes.quality import good_units, refuse_none
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.schema import DIMS, dim_of
from brainalign.engine.binning import bin_spikes

_VALUES_PER_CHUNK = 2**22
_SLACK_S = 1e-9
_NOT_LABELS = ("spike_times", "electrodes", "obs_intervals")


@dataclass(frozen=True)
class Units:
    """Units of a file: what is known of each, and where its spike times lie.

    Attributes
    ----------
    ids : ndarray, (unit,)
    labels : dict of str to ndarray (unit,)
    starts, stops : ndarray of int, (unit,)
        Where the spikes of each lie in ``units/spike_times``.
    observed : tuple of ndarray (interval, 2), seconds, or None
        When each was observed, touching intervals joined.
    region_from : str or None
        What the regions were taken from.
    cuts : list of dict
        As :func:`brainalign.adapters.spikes.quality.good_units` reports them.
    """

    ids: np.ndarray
    labels: dict[str, np.ndarray]
    starts: np.ndarray
    stops: np.ndarray
    observed: tuple[np.ndarray, ...] | None
    region_from: str | None
    cuts: list[dict[str, Any]]


def read_units(file: Any, quality: Mapping[str, Any] | None, source: str) -> Units:
    """Read the labels of the units that pass the cuts.

    Parameters
    ----------
    file : h5py.File
    quality : mapping of column to rule, optional
    source : str
        For the messages.

    Returns
    -------
    Units

    Raises
    ------
    FormatError
        No spike times, or a damaged table.
    ParameterError
        No unit passes the cuts.
    """
    table = file["units"]
    times = member(table, "spike_times")
    if times is None or getattr(times, "ndim", 0) != 1 or times.dtype.kind not in "iuf":
        raise FormatError(f"{source} has units without `spike_times`. Its columns are {sorted(table.keys())}.")
    refuse_other_units(times, source)
    ends, ids = bounds(table, "spike_times_index", times.size), row_ids(table)
    if ends.size != ids.size + 1:
        raise FormatError(
            f"{source} has {ids.size} units and spike times of {ends.size - 1}. Expected one entry a unit: it is damaged."
        )
    found = labels(table)
    keep, cuts = good_units(found, quality, ids.size, source)
    refuse_none(cuts, ids.size, source)
    region, channel, region_from = _places(file, table, found, source)
    plain = {_free(name): values[keep] for name, values in found.items() if name not in _NOT_LABELS}
    plain |= {name: values[keep] for name, values in (("region", region), ("channel", channel)) if values is not None}
    starts, stops = ends[:-1][keep], ends[1:][keep]
    return Units(
        ids[keep], {"n_spikes": stops - starts, **plain}, starts, stops, _observed(table, keep, source), region_from, cuts
    )  # fmt: skip


def spikes_span(file: Any, units: Units, stops_s: float, starts_s: float) -> tuple[float, float]:
    """Return the first and the last spike, of as many units as it takes to see that all windows touch them.

    Parameters
    ----------
    file : h5py.File
    units : Units
    stops_s, starts_s : float, seconds
        Where the first window stops, and where the last one starts.

    Returns
    -------
    (float, float), seconds
    """
    times, first, last = member(file, "units/spike_times"), np.inf, -np.inf
    for at in np.argsort(units.starts - units.stops, kind="stable"):  # the busiest first: mostly, it is enough
        if units.stops[at] > units.starts[at]:
            first = min(first, float(times[int(units.starts[at])]))
            last = max(last, float(times[int(units.stops[at]) - 1]))
        if first < stops_s and last >= starts_s:
            break
    return first, last


def check_observed(units: Units, onsets: np.ndarray, edges: np.ndarray, unobserved: str, source: str) -> np.ndarray:
    """Return how many bins of each unit lie outside its ``obs_intervals``, or refuse them.

    Parameters
    ----------
    units : Units
    onsets : ndarray, (event,), seconds
    edges : ndarray, (bin + 1,), seconds
    unobserved : {"refuse", "nan"}
    source : str
        For the message.

    Returns
    -------
    ndarray of int, (unit,)

    Raises
    ------
    ParameterError
        A bin was not observed, and ``unobserved`` is ``"refuse"``.
    """
    known: dict[bytes, np.ndarray] = {}
    counts = np.zeros(units.ids.size, dtype=np.int64)
    for at, intervals in enumerate(units.observed or ()):
        key = intervals.tobytes()
        if key not in known:
            known[key] = unseen_bins(intervals, onsets, edges)
        counts[at] = int(known[key].sum())
        if counts[at] and unobserved == "refuse":
            event, bin_ = (int(i) for i in np.argwhere(known[key])[0])
            raise ParameterError(
                f"{source}: unit {units.ids[at]} was not observed in {counts[at]} bins, the first from {onsets[event] + edges[bin_]:g} to "
                f"{onsets[event] + edges[bin_ + 1]:g} s (event {event}); its obs_intervals run from {intervals.min(initial=np.inf):g} to "
                f"{intervals.max(initial=-np.inf):g} s. Expected windows inside, since 0 would say that it was silent: drop these events, cut the "
                "unit with `quality=`, or mark the bins with `unobserved='nan'`."
            )
    return counts


def unseen_bins(intervals: np.ndarray, onsets: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return which bins lie not wholly inside one interval.

    Parameters
    ----------
    intervals : ndarray, (interval, 2), seconds
        Sorted, apart from each other.
    onsets : ndarray, (event,), seconds
    edges : ndarray, (bin + 1,), seconds

    Returns
    -------
    ndarray of bool, (event, bin)

    Examples
    --------
    >>> unseen_bins(np.array([[0.0, 1.0], [2.0, 3.0]]), np.array([0.0, 2.5]), np.array([0.0, 0.5, 1.0]))
    array([[False, False],
           [False,  True]])
    """
    times = onsets[:, None] + edges[None, :]
    if not len(intervals):
        return np.ones((onsets.size, edges.size - 1), dtype=bool)
    at = np.searchsorted(intervals[:, 0], times[:, :-1] + _SLACK_S, side="right") - 1
    inside = (at >= 0) & (times[:, 1:] <= intervals[np.maximum(at, 0), 1] + _SLACK_S)
    return np.asarray(~inside)


def lazy_counts(path: Path, units: Units, with_nan: bool) -> Callable[[np.ndarray, np.ndarray], Any]:
    """Return a function of onsets and edges that makes lazy counts: a block reads the spikes of its units alone.

    Parameters
    ----------
    path : Path
    units : Units
    with_nan : bool
        Bins that were not observed are NaN, and counts float32.

    Returns
    -------
    callable
        ``count(onsets_s, edges_s)`` returns a dask array, (event, unit, bin).
    """
    bare = replace(units, labels={}, cuts=[], observed=units.observed if with_nan else None)

    def count(onsets: np.ndarray, edges: np.ndarray) -> Any:
        shape = (onsets.size, units.ids.size, edges.size - 1)
        chunks = (shape[0], max(1, min(shape[1], _VALUES_PER_CHUNK // max(1, shape[0] * shape[2]))), shape[2])
        dtype = np.float32 if with_nan else np.int32
        return lazy_array(_Counts(path, bare, onsets, edges), shape, dtype, files=[path], what="NWB", chunks=chunks)

    return count


@dataclass(frozen=True)
class _Counts:
    path: Path
    units: Units
    onsets: np.ndarray
    edges: np.ndarray

    def __call__(self, spans: Spans) -> np.ndarray:
        events, chosen, bins = spans
        onsets, edges = self.onsets[events], self.edges[bins.start : bins.stop + 1]
        trains = []
        with hdf5_file(self.path, "NWB") as file, naming(repr(self.path.name)):
            stored = member(file, "units/spike_times")
            for at in range(chosen.start, chosen.stop):
                times = stored[int(self.units.starts[at]) : int(self.units.stops[at])]
                trains.append(check_spike_times(times, name=str(self.units.ids[at])))
        counts = bin_spikes(trains, onsets, edges)
        if self.units.observed is None:
            return counts
        marked = counts.astype(np.float32)
        for at, intervals in enumerate(self.units.observed[chosen]):
            marked[:, at][unseen_bins(intervals, onsets, edges)] = np.nan
        return marked


def _observed(table: Any, keep: np.ndarray, source: str) -> tuple[np.ndarray, ...] | None:
    if member(table, "obs_intervals") is None:
        return None
    found = column(table, "obs_intervals")
    if len(found) != keep.size:
        raise FormatError(f"{source} has obs_intervals for {len(found)} units, and {keep.size} units. Expected one entry a unit.")
    return tuple(_joined(found[at], at, source) for at in np.flatnonzero(keep))


def _joined(intervals: Any, at: int, source: str) -> np.ndarray:
    """Return intervals in order, those that touch as one: a bin across their border was observed."""
    array = np.asarray(intervals, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all() or (array[:, 1] < array[:, 0]).any():
        raise FormatError(
            f"{source} has obs_intervals of shape {array.shape} in row {at} of its units, or some that end before they start. Expected "
            "(interval, 2) in seconds."
        )
    out: list[list[float]] = []
    for start, stop in array[np.argsort(array[:, 0], kind="stable")].tolist():
        if out and start <= out[-1][1] + _SLACK_S:
            out[-1][1] = max(out[-1][1], stop)
        else:
            out.append([start, stop])
    return np.array(out, dtype=np.float64).reshape(-1, 2)


def _places(
    file: Any, table: Any, found: Mapping[str, np.ndarray], source: str
) -> tuple[np.ndarray | None, np.ndarray | None, str | None]:
    """Return region and channel of each unit, and what the region was taken from."""
    electrodes = member(file, "general/extracellular_ephys/electrodes")
    rows: list[Sequence[int]] | None = None
    if electrodes is not None and member(table, "electrodes") is not None:  # positions in the table of electrodes, from 0
        rows, how = [np.atleast_1d(item).tolist() for item in column(table, "electrodes")], "electrodes"
    elif electrodes is not None and "peak_channel_id" in found:  # ids in it
        place = {item: at for at, item in enumerate(row_ids(electrodes).tolist())}
        rows, how = [[place[c]] if c in place else [] for c in found["peak_channel_id"].tolist()], "peak_channel_id"
    if rows is None:
        return _regions(found["location"], "units.location") if "location" in found else (None, None, None)
    ids = row_ids(electrodes)
    wrong = next((at for at, items in enumerate(rows) if any(not 0 <= i < ids.size for i in items)), None)
    if wrong is not None or len(rows) != len(row_ids(table)):
        raise FormatError(
            f"{source}: unit {wrong} names the electrodes {rows[wrong or 0]}, and there are {ids.size}. Expected rows of that table, "
            "counted from 0: the file is damaged."
        )
    channel = np.array([str(ids[items[0]]) if items else UNKNOWN for items in rows], dtype=object)
    places = labels(electrodes).get("location")
    if places is None:
        return None, channel, None
    region, _, region_from = _regions(
        np.array(["+".join(dict.fromkeys(str(places[i]) for i in items)) for items in rows], dtype=object), f"{how}, location"
    )
    return region, channel, region_from


def _regions(values: np.ndarray, how: str) -> tuple[np.ndarray | None, None, str | None]:
    """Return regions with a word for those that are missing, or None where none is said."""
    said = np.array([UNKNOWN if str(v).strip().lower() in ("", "none", "nan") else str(v).strip() for v in values], dtype=object)
    return (None, None, None) if (said == UNKNOWN).all() else (said, None, how)


def _free(name: str) -> str:
    """Return a name that no other coordinate has: a column ``run`` of the units must not pass for that of presentations."""
    return f"unit_{name}" if dim_of(name) is not None or name in DIMS or name == "n_spikes" else name
