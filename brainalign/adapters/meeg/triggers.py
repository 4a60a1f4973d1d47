"""When stimuli were shown, by a table and by a trigger channel of the recording: how far the two are apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview

_WINDOW_S = 0.25  # how far a trigger may be from where its event should be, once the constant offset is known


@dataclass(frozen=True)
class Alignment:
    """The triggers that belong to the events of a table.

    Attributes
    ----------
    onset_s : ndarray, (event,)
        Seconds from the first sample to the trigger; NaN where there is none.
    offset_s : float
        Median of trigger minus table.
    jitter_s : float
        Largest distance from that median.
    n_triggers : int
        All on the channel.
    """

    onset_s: np.ndarray[Any, Any]
    offset_s: float
    jitter_s: float
    n_triggers: int


def trigger_onsets(raw: Any, channel: str, name: str) -> np.ndarray[Any, Any]:
    """Return when a trigger channel rises, in seconds from the first sample.

    Parameters
    ----------
    raw : mne.io.Raw
    channel : str
        Its name, or ``"stim"`` for the one stimulus channel there is.
    name : str
        The recording, for messages.

    Returns
    -------
    ndarray of float
        A stimulus channel: where it takes a new value that is not 0. Any other (a photodiode): where it passes half of its range.

    Raises
    ------
    ParameterError
        No such channel.
    FormatError
        It never rises.
    """
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    stim = [each for each, kind in kinds.items() if kind == "stim"]
    chosen = stim[0] if channel == "stim" and len(stim) == 1 else channel
    if chosen not in kinds:
        raise ParameterError(
            f"{name!r} has no channel trigger_channel={channel!r}. Its stimulus channels are {stim}.{did_you_mean(channel, list(kinds))} Name "
            "one of them, or the channel of a photodiode."
        )
    values = raw.get_data(picks=[chosen], verbose="error")[0]
    if kinds[chosen] == "stim":
        rises = np.flatnonzero((values[1:] != values[:-1]) & (values[1:] != 0)) + 1
    else:
        high = values > (values.min() + values.max()) / 2
        rises = np.flatnonzero(high[1:] & ~high[:-1]) + 1
    if not len(rises):
        raise FormatError(
            f"{name!r}: the trigger channel {chosen!r} never rises. Expected one trigger a stimulus: name another channel."
        )
    return rises / float(raw.info["sfreq"])


def align(onset_s: np.ndarray[Any, Any], trigger_s: np.ndarray[Any, Any]) -> Alignment:
    """Find the constant offset between a table and triggers, and the trigger of each event.

    Parameters
    ----------
    onset_s : ndarray, (event,)
        By the table.
    trigger_s : ndarray, (trigger,)
        Ascending. There may be others (responses), and some may be missing.

    Returns
    -------
    Alignment

    Notes
    -----
    The offset is the one under which most events have a trigger near them; of several, that with the least spread, and then the
    smallest. Candidates are the distances of the first three events to all triggers.
    """
    gaps = np.diff(np.sort(onset_s))
    window = min(_WINDOW_S, float(gaps[gaps > 0].min()) / 2 if (gaps > 0).any() else _WINDOW_S)
    candidates = np.unique(np.round(np.subtract.outer(trigger_s, onset_s[:3]).ravel(), 4))
    few = onset_s[np.linspace(0, len(onset_s) - 1, min(len(onset_s), 50)).astype(int)]
    unmatched = np.array([np.isnan(_matched(few, trigger_s, candidate, window).onset_s).sum() for candidate in candidates])
    found = [_matched(onset_s, trigger_s, candidate, window) for candidate in candidates[unmatched == unmatched.min()]]
    return min(found, key=lambda each: (np.isnan(each.onset_s).sum(), round(each.jitter_s, 3), abs(each.offset_s)))


def _matched(onset_s: np.ndarray[Any, Any], trigger_s: np.ndarray[Any, Any], offset: float, window: float) -> Alignment:
    wanted = onset_s + offset
    after = np.clip(np.searchsorted(trigger_s, wanted), 1, max(len(trigger_s) - 1, 1))
    before = after - 1
    after = np.minimum(after, len(trigger_s) - 1)
    nearest = np.where(np.abs(trigger_s[before] - wanted) <= np.abs(trigger_s[after] - wanted), before, after)
    onsets = np.where(np.abs(trigger_s[nearest] - wanted) < window, trigger_s[nearest], np.nan)
    apart = (onsets - onset_s)[~np.isnan(onsets)]
    if not len(apart):
        return Alignment(onsets, np.inf, np.inf, len(trigger_s))
    return Alignment(onsets, float(np.median(apart)), float(np.abs(apart - np.median(apart)).max()), len(trigger_s))


def checked_onsets(
    onset_s: np.ndarray[Any, Any], ids: list[str], triggers: np.ndarray[Any, Any], *, by: str, tolerance_s: float, name: str
) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Return the onsets to use, and what is to be recorded of the comparison.

    Parameters
    ----------
    onset_s : ndarray, (event,)
    ids : list of str
        Of the events, for messages.
    triggers : ndarray
        As :func:`trigger_onsets` gives them.
    by : {"table", "trigger"}
        Whose onsets count.
    tolerance_s : float
        How far the table may be off where its onsets count.
    name : str
        The recording.

    Returns
    -------
    (ndarray, dict)

    Raises
    ------
    FormatError
        Events without a trigger, or a table that is off by more than the tolerance while its onsets count.
    """
    found = align(onset_s, triggers)
    missing = np.flatnonzero(np.isnan(found.onset_s))
    if len(missing):
        raise FormatError(
            f"{name!r}: {len(missing)} of {len(onset_s)} events have no trigger among {found.n_triggers} on the channel (best offset "
            f"{found.offset_s * 1e3:.1f} ms), the first of them {preview([ids[i] for i in missing])} at {onset_s[missing[0]]:g} s. Expected one for "
            "each: drop these events, or name another channel."
        )
    if by == "table" and max(abs(found.offset_s), found.jitter_s) > tolerance_s:
        raise FormatError(
            f"{name!r}: the triggers come {found.offset_s * 1e3:+.1f} ms from the onsets of the table (median of {len(onset_s)}; within "
            f"{found.jitter_s * 1e3:.1f} ms of that). Expected at most tolerance_s={tolerance_s:g}: pass `align='trigger'` to cut at the triggers, or "
            "mend the table."
        )
    record = {"offset_s": round(found.offset_s, 6), "jitter_s": round(found.jitter_s, 6), "n_triggers": found.n_triggers}
    return (found.onset_s if by == "trigger" else onset_s), record
