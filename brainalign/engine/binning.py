"""Counting events in time bins: every spike falls in exactly one half-open bin, or outside all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError

Array = np.ndarray[Any, Any]


def check_edges(edges_s: Any, *, owner: str) -> Array:
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


def check_spike_times(times_s: Any, *, name: str) -> Array:
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


def bin_spikes(times_s: Sequence[Any], event_onsets_s: Any, edges_s: Any) -> Array:
    """Count spikes in bins around events.

    Parameters
    ----------
    times_s : sequence of array_like (spike,), seconds
        Sorted spike times, one array a unit, on the clock of the events.
    event_onsets_s : array_like, (event,), seconds
    edges_s : array_like, (bin + 1,), seconds
        Relative to each event's onset, strictly increasing; widths may differ.

    Returns
    -------
    ndarray of int32, (event, unit, bin)

    Raises
    ------
    ParameterError
        Times that go back, edges that do not increase, onsets that are not finite.

    Notes
    -----
    Bins are half-open, ``[edge_i, edge_{i+1})``: neighbouring bins share one edge, computed once, so a spike
    inside the outer edges of an event is counted exactly once for that event. Where events overlap, a
    spike counts for each of them.

    Examples
    --------
    >>> bin_spikes([[0.0, 0.1, 1.05], [0.2]], event_onsets_s=[0.0, 1.0], edges_s=[0.0, 0.1, 0.25])[:, 0]
    array([[1, 1],
           [1, 0]], dtype=int32)
    """
    edges = check_edges(edges_s, owner="bin_spikes")
    onsets = np.asarray(event_onsets_s, dtype=np.float64)
    if onsets.ndim != 1 or not np.isfinite(onsets).all():
        raise ParameterError(
            f"The 'event_onsets_s' parameter of bin_spikes must be finite seconds, (event,). Got shape {onsets.shape}, "
            f"{int((~np.isfinite(onsets)).sum())} of them not finite."
        )
    bounds = onsets[:, None] + edges[None, :]
    counts = np.empty((onsets.size, len(times_s), edges.size - 1), dtype=np.int32)
    for unit, times in enumerate(times_s):
        below = np.searchsorted(check_spike_times(times, name=str(unit)), bounds, side="left")
        counts[:, unit] = np.diff(below, axis=1)
    return counts


def count_spikes(times_s: Sequence[Any], edges_s: Any) -> Array:
    """Count spikes in the bins of one continuous recording.

    Parameters
    ----------
    times_s : sequence of array_like (spike,), seconds
        Sorted spike times, one array a unit.
    edges_s : array_like, (bin + 1,), seconds
        Strictly increasing.

    Returns
    -------
    ndarray of int32, (bin, unit)

    Examples
    --------
    >>> count_spikes([[0.0, 0.1, 0.15, 0.3]], edges_s=[0.0, 0.1, 0.2, 0.3]).ravel()
    array([1, 2, 0], dtype=int32)
    """
    return np.ascontiguousarray(bin_spikes(times_s, [0.0], edges_s)[0].T)
