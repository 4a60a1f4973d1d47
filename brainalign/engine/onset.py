"""When an effect begins and when it is largest, of a score over time."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers


def onset_and_peak(excess: Numbers, times: Numbers, share: float) -> tuple[Numbers, Numbers]:
    """Return the first time of the stretch around the peak in which a score reaches a share of it, and the time of the peak.

    Parameters
    ----------
    excess : ndarray, (..., time)
        Scores less chance.
    times : ndarray, (time,)
    share : float
        Of the peak's height.

    Returns
    -------
    onset, peak : ndarray of float64, (...)
        NaN where no time is above chance, or some have no value.

    Notes
    -----
    A share of the peak is not moved by the size of an effect, as the first time that passes a threshold is: a larger one passes earlier
    (Kiesel et al. 2008, Psychophysiology 45, 250-274). One goes back from the peak, so that a lone time before the effect does not count.

    Examples
    --------
    >>> onset_and_peak(np.array([0.0, 0.2, 0.0, 0.1, 0.3, 0.4, 0.1]), np.arange(7.0), 0.5)
    (array(4.), array(5.))
    """
    height, top = excess.max(axis=-1, keepdims=True), excess.argmax(axis=-1)
    low = (excess < share * height) & (np.arange(len(times)) < top[..., None])
    start = np.where(low, np.arange(len(times)), -1).max(axis=-1) + 1
    known = height[..., 0] > 0  # not so where a score is NaN
    return np.where(known, times[start], np.nan), np.where(known, times[top], np.nan)
