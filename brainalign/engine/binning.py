"""Counting events in time bins: every spike falls in exactly one half-open bin, or outside all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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

    Notes
    -----
    Sorted times and increasing edges are the caller's to check.
    Bins are half-open, ``[edge_i, edge_{i+1})``: neighbouring bins share one edge, computed once, so a spike
    inside the outer edges of an event is counted exactly once for that event. Where events overlap, a
    spike counts for each of them.

    Examples
    --------
    >>> bin_spikes([[0.0, 0.1, 1.05], [0.2]], event_onsets_s=[0.0, 1.0], edges_s=[0.0, 0.1, 0.25])[:, 0]
    array([[1, 1],
           [1, 0]], dtype=int32)
    """
    edges, onsets = np.asarray(edges_s, dtype=np.float64), np.asarray(event_onsets_s, dtype=np.float64)
    bounds = onsets[:, None] + edges[None, :]
    counts = np.empty((onsets.size, len(times_s), edges.size - 1), dtype=np.int32)
    for unit, times in enumerate(times_s):
        below = np.searchsorted(np.asarray(times, dtype=np.float64), bounds, side="left")
        counts[:, unit] = np.diff(below, axis=1)
    return counts
