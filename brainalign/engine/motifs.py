"""Patterns of spikes with a delay for each neuron: the delayed raster, and what each of its spikes says for and against a motif."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from brainalign.engine.lagged import Line
from brainalign.engine.moments import Numbers

_LEAST = 0.5  # of a spike, and of a silence: what was never seen is not impossible


def delayed_raster(x: Numbers, line: Line) -> Any:
    """Return what every neuron did at every delay before each row, as a convolution of the raster padded on the left sees it.

    Parameters
    ----------
    x : ndarray, (row, neuron)
        Counts of spikes, most of them 0.
    line : Line
        Runs, and the delays in samples; from :func:`brainalign.engine.lagged.lay_out`.

    Returns
    -------
    sparse array of float64, (row, neuron · delay)
        Delays of a neuron lie together, ascending. What lies before a run is 0.

    Examples
    --------
    >>> from brainalign.engine.lagged import lay_out
    >>> line = lay_out([(np.arange(4), np.arange(4))], 0, 2)
    >>> delayed_raster(np.array([[0], [1], [0], [0]]), line).toarray().tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    rows, neurons = np.nonzero(x)
    delays = np.arange(line.n_lags)
    seen = line.row_at[line.place[rows][:, None] + line.first + delays]
    kept = seen >= 0
    columns = (neurons[:, None] * line.n_lags + delays)[kept]
    values = np.broadcast_to(x[rows, neurons].astype(np.float64)[:, None], seen.shape)[kept]
    return sparse.csr_array((values, (seen[kept], columns)), shape=(len(x), x.shape[1] * line.n_lags))


def log_odds(delayed: Any, events: Numbers) -> tuple[Numbers, Numbers]:
    """Return the weights and offsets of the best detector of events whose spikes are independent of one another.

    Parameters
    ----------
    delayed : sparse array, (row, feature)
        Any count is a spike.
    events : ndarray of {0, 1}, (row, motif)

    Returns
    -------
    weights : ndarray of float64, (feature, motif)
        log p₁/(1−p₁) − log p₀/(1−p₀), of a spike where there is the motif and where there is not.
    offset : ndarray of float64, (motif,)
        The log odds of the motif, plus Σ log (1−p₁)/(1−p₀).
    """
    y = events.astype(np.float64)
    spikes = delayed.astype(bool).astype(np.float64)
    n, with_motif, total = len(y), spikes.T @ y, np.asarray(spikes.sum(axis=0))[:, None]
    shown = y.sum(axis=0)
    p1 = (with_motif + _LEAST) / (shown + 2 * _LEAST)
    p0 = (total - with_motif + _LEAST) / (n - shown + 2 * _LEAST)
    weights = np.log(p1 / (1 - p1)) - np.log(p0 / (1 - p0))
    prior = np.log((shown + _LEAST) / (n - shown + _LEAST))
    return weights, prior + np.log((1 - p1) / (1 - p0)).sum(axis=0)
