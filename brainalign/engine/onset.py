"""When an effect begins and when it is largest, of a score over time."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers


def onset_and_peak(excess: Numbers, times: Numbers, share: float, raised: Numbers | float = 0.0) -> tuple[Numbers, Numbers]:
    """Return from when on, up to its peak, a score is above a share of the peak more than below it, and the time of the peak.

    Parameters
    ----------
    excess : ndarray, (..., time)
        Scores less chance.
    times : ndarray, (time,)
    share : float
        Of the peak's height.
    raised : ndarray, (...), or float
        By how much noise raises the highest of all times; taken off the height.

    Returns
    -------
    onset, peak : ndarray of float64, (...)
        NaN where no time is above chance, or some have no value.

    Notes
    -----
    The onset s maximises Σ (excess(t) − share · height) over t from s to the peak: neither a lone time before the effect nor one within it
    that is low counts for much. A share of the peak is not moved by the size of an effect, as the first time that passes a threshold is: a
    larger one passes earlier (Kiesel et al. 2008, Psychophysiology 45, 250-274).

    Examples
    --------
    >>> onset_and_peak(np.array([0.0, 0.2, 0.0, 0.1, 0.3, 0.4, 0.1]), np.arange(7.0), 0.5)
    (array(4.), array(5.))
    """
    highest, top = excess.max(axis=-1), excess.argmax(axis=-1)
    level = share * np.maximum(highest - raised, 0.0)
    before = np.cumsum(excess - level[..., None], axis=-1) - (excess - level[..., None])  # of all times before each
    start = np.where(np.arange(len(times)) <= top[..., None], before, np.inf).argmin(axis=-1)
    known = highest > 0  # not so where a score is NaN
    return np.where(known, times[start], np.nan), np.where(known, times[top], np.nan)
