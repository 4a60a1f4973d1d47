"""Distances of spike trains: what it costs to change one into another, and of trains whose spikes decay. All pairs at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.engine.moments import Numbers

_BLOCK = 2**18  # pairs that are worked on together, times the spikes of one of them: 2 MB


def victor_purpura(trains: Sequence[Numbers], cost: float) -> Numbers:
    """Return the least cost of changing each train into each other: 1 to add or remove a spike, cost · |dt| to move one.

    Parameters
    ----------
    trains : sequence of ndarray, (spike,)
        Times, ascending.
    cost : float
        Per unit of time; 0 counts spikes, infinity keeps only those at the same time.

    Returns
    -------
    ndarray of float64, (train, train)

    Notes
    -----
    Victor and Purpura (1996), J. Neurophysiol. 76, 1310-1326. G(i, j), the cost of the first i spikes of one and the first j of the
    other, is the least of G(i−1, j) + 1, G(i, j−1) + 1 and G(i−1, j−1) + cost · |dt|; it is filled in for all pairs together.

    Examples
    --------
    >>> victor_purpura([np.array([0.0, 1.0]), np.array([0.1])], 2.0)[0, 1].item()
    1.2
    """
    n, counts = len(trains), np.array([len(train) for train in trains], dtype=np.int64)
    times = np.zeros((n, max(1, int(counts.max(initial=0)))))
    for row, train in zip(times, trains, strict=True):
        row[: len(train)] = train
    out, pairs = np.zeros((n, n)), np.transpose(np.triu_indices(n, 1))
    step = max(1, _BLOCK // (times.shape[1] + 1))
    for some in (pairs[start : start + step] for start in range(0, len(pairs), step)):
        a, b = some.T
        out[a, b] = out[b, a] = _cheapest(times[a], counts[a], times[b], counts[b], cost)
    return out


def _cheapest(a: Numbers, n_a: Numbers, b: Numbers, n_b: Numbers, cost: float) -> Numbers:
    """Return the cost of each pair of rows; what is beyond a row's count is filled in and never read."""
    rows, width = np.arange(len(a)), int(n_b.max(initial=0))
    before = np.tile(np.arange(width + 1.0), (len(a), 1))
    found = np.where(n_a == 0, before[rows, n_b], 0.0)
    for i in range(int(n_a.max(initial=0))):
        apart = np.abs(a[:, i, None] - b[:, :width])
        moved = before[:, :-1] + np.where(apart > 0, cost, 0.0) * np.where(apart > 0, apart, 1.0)
        now = np.empty_like(before)
        now[:, 0] = i + 1.0
        now[:, 1:] = np.minimum(before[:, 1:] + 1.0, moved)
        # Of added spikes, min over k ≤ j of now(k) + (j − k): a running minimum once j is taken off.
        ramp = np.arange(width + 1.0)
        before = np.minimum.accumulate(now - ramp, axis=1) + ramp
        found = np.where(n_a == i + 1, before[rows, n_b], found)
    return found


def van_rossum(counts: Numbers, times: Numbers, tau: float) -> Numbers:
    """Return (1 / tau) ∫ (f − g)² of each pair of trains, every spike of which jumps by 1 and decays within tau.

    Parameters
    ----------
    counts : ndarray, (train, ..., time)
        Spikes at each time. Axes between are summed over: neurons, each of which is compared with itself.
    times : ndarray, (time,)
    tau : float

    Returns
    -------
    ndarray of float64, (train, train)

    Notes
    -----
    van Rossum (2001), Neural Comput. 13, 751-763: ½ Σ Σ exp(−|t − u| / tau) over spikes of each train less twice that across, so that one
    product with the kernel at all times serves all pairs. One further spike adds ½. Far below the gaps between spikes it is half the
    number of those that the trains do not share; far above, half the squared difference of their counts.

    Examples
    --------
    >>> van_rossum(np.array([[1, 0, 0], [0, 0, 0]]), np.arange(3.0), 1.0)[0, 1].item()
    0.5
    """
    flat = counts.reshape(-1, counts.shape[-1]).astype(np.float64)
    kernel = np.exp(-np.abs(times[:, None] - times) / tau)
    rows = flat.reshape(len(counts), -1)
    inner = (flat @ kernel).reshape(len(counts), -1) @ rows.T
    own = np.diag(inner)
    out = np.maximum(0.5 * (own[:, None] + own) - 0.5 * (inner + inner.T), 0.0)
    np.fill_diagonal(out, 0.0)
    return np.asarray(out)
