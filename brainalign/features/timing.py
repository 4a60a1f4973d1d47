"""Runs, onsets and windows of presentation tables: the arithmetic that every temporal step shares.

Rows that differ in any of ``RUN_LABELS`` belong to different runs, and no step mixes them.
Times are compared as whole microseconds, so that a word at 0.3 s and a volume that starts at ``3 * 0.1`` s meet,
and half-open windows that touch count every event exactly once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import preview
from brainalign.dataset.folds import RUN_LABELS

Array = np.ndarray[Any, Any]

_JITTER = 0.01  # of the sampling interval: scanners and rounded event files stay below it


def ticks(seconds: Any) -> Array:
    """Return times as whole microseconds.

    Parameters
    ----------
    seconds : array_like of float

    Returns
    -------
    ndarray of int64

    Examples
    --------
    >>> ticks([0.3, 3 * 0.1])
    array([300000, 300000])
    """
    return np.rint(np.asarray(seconds, dtype=np.float64) * 1e6).astype(np.int64)


def _named(table: pd.DataFrame) -> str:
    """How the seconds get their name: those of BIDS have another one."""
    if "onset" in table:
        return "events.rename(columns={'onset': 'onset_s', 'duration': 'duration_s'})"
    return "x.assign_coords(onset_s=('presentation', seconds))"


def onsets_of(table: pd.DataFrame, *, owner: str, side: str = "the responses") -> Array:
    """Return ``onset_s`` of every row.

    Parameters
    ----------
    table : DataFrame
        Presentation table.
    owner, side : str
        The step and the side that are named in the message.

    Returns
    -------
    ndarray of float64, (row,); seconds

    Raises
    ------
    SchemaError
        No ``onset_s``, or a row without one.
    """
    if "onset_s" not in table:
        raise SchemaError(
            f"{owner} needs the time of every row, and {side} have no `onset_s` (coordinates: {preview(map(str, table.columns), 8)}). "
            f"Expected seconds from the start of the run: `{_named(table)}`."
        )
    onset = table["onset_s"].to_numpy(dtype=np.float64)
    missing = np.flatnonzero(~np.isfinite(onset))
    if missing.size:
        raise SchemaError(
            f"{owner}: {side} have no finite `onset_s` in rows {preview(missing)}. Expected seconds for each: drop these rows."
        )
    return onset


def run_codes(table: pd.DataFrame) -> Array:
    """Return a code per row that rows of one run share; without any run label there is one run.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    ndarray of int64, (row,)

    Examples
    --------
    >>> run_codes(pd.DataFrame({"run": ["b", "a", "b"]}))
    array([0, 1, 0])
    """
    labels = [name for name in RUN_LABELS if name in table]
    return _codes(table, labels)


def shared_run_codes(source: pd.DataFrame, target: pd.DataFrame, *, owner: str) -> tuple[Array, Array]:
    """Return codes of the runs of two tables, by the run labels that both have.

    Parameters
    ----------
    source, target : DataFrame
    owner : str
        The step that is named in the message.

    Returns
    -------
    source_codes, target_codes : ndarray of int64, (row,)

    Raises
    ------
    AlignmentError
        No run is on both sides, or one side tells runs apart that the other cannot.
    """
    labels = [name for name in RUN_LABELS if name in source and name in target]
    both = pd.concat([source[labels], target[labels]], ignore_index=True)
    codes = _codes(both, labels)
    first, second = codes[: len(source)], codes[len(source) :]
    _refuse_ambiguous(source, target, first, second, labels, owner)
    if not np.isin(first, second).any():
        raise AlignmentError(
            f"{owner}: source and target share no run (source has {', '.join(labels)} {preview(_names(source, labels))}, target "
            f"{preview(_names(target, labels))}). Expected the same names on both sides: rename one with `x.assign_coords(run=...)`."
        )
    return first, second


def _refuse_ambiguous(
    source: pd.DataFrame, target: pd.DataFrame, first: Array, second: Array, labels: list[str], owner: str
) -> None:
    """Raise where a label of one side alone tells apart rows that the shared labels hold to be one run."""
    # Several subjects in the target may share one stimulus track, so only `run` is asked of both sides.
    checks = [(source, first, "source", "target", RUN_LABELS), (target, second, "target", "source", ("run",))]
    for table, codes, side, other, wanted in checks:
        for name in wanted:
            if name in table and name not in labels:
                per_run = pd.Series(table[name].astype(str).to_numpy()).groupby(codes).nunique()
                if per_run.max() > 1:
                    raise AlignmentError(
                        f"{owner}: the {side} has {table[name].nunique()} values of `{name}` ({preview(table[name].unique())}) and the "
                        f"{other} has no `{name}`, so rows of different runs cannot be told apart. Expected `{name}` on both sides: "
                        f"`x.assign_coords({name}=('presentation', names))`."
                    )


def _names(table: pd.DataFrame, labels: list[str]) -> list[Any]:
    return list(table[labels].astype(str).agg("/".join, axis=1).unique()) if labels else []


def _codes(table: pd.DataFrame, labels: list[str]) -> Array:
    codes = np.zeros(len(table), dtype=np.int64)
    for name in labels:
        code = pd.factorize(table[name].astype(str).to_numpy(dtype=object))[0]
        codes = pd.factorize(codes * (code.max(initial=0) + 1) + code)[0].astype(np.int64)
    return codes


def rows_by_run(codes: Array, onset: Array) -> list[Array]:
    """Return the row numbers of each run, in order of onset (ties in row order).

    Parameters
    ----------
    codes : ndarray of int, (row,)
    onset : ndarray of float, (row,)

    Returns
    -------
    list of ndarray of int
        One per code, ascending.
    """
    order = np.lexsort((onset, codes))
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []


def sampling_intervals(table: pd.DataFrame, *, owner: str, side: str = "the responses") -> Array:
    """Return the sampling interval of each row's run, where runs are regularly sampled; rows may be missing.

    Parameters
    ----------
    table : DataFrame
        Presentation table; rows need not be sorted.
    owner, side : str
        The step and the side that are named in the message.

    Returns
    -------
    ndarray of float64, (row,); seconds
        NaN in runs of one row.

    Raises
    ------
    SchemaError
        No ``onset_s``.
    ParameterError
        Two rows of a run share their onset, or the onsets are no regular grid.
    """
    onset, codes = onsets_of(table, owner=owner, side=side), run_codes(table)
    out = np.full(len(onset), np.nan)
    for rows in rows_by_run(codes, onset):
        if len(rows) > 1:
            where = f"{owner}: {side}, {_run_name(table, rows[0])}"
            out[rows] = _interval(onset[rows], where)
    return out


def _run_name(table: pd.DataFrame, row: int) -> str:
    named = [f"{name} {table[name].iloc[row]!s}" for name in RUN_LABELS if name in table]
    return ", ".join(named) or "the only run"


def _interval(onset: Array, where: str) -> float:
    steps = np.diff(onset)
    at = int(np.argmin(steps))
    if ticks(steps[at]) == 0:
        raise ParameterError(
            f"{where}: two rows have the onset {onset[at]:g} s. Expected one row a time point: average repeats, or give the rows a "
            "`run` (or `session`, `subject`) that tells them apart."
        )
    close = steps < 1.5 * steps[at]
    interval = float(np.median(steps[close]))
    ratio = steps / interval
    worst = int(np.argmax(np.abs(ratio - np.rint(ratio)) / np.maximum(np.rint(ratio), 1)))
    off_grid = abs(ratio[worst] - np.rint(ratio[worst])) > _JITTER * max(np.rint(ratio[worst]), 1)
    # Word onsets of one decimal lie on a grid too: most rows must follow each other at the interval.
    if off_grid or 2 * np.count_nonzero(close) < len(steps):
        worst = worst if off_grid else int(np.argmax(steps))
        raise ParameterError(
            f"{where}: rows are not regularly sampled ({onset[worst]:g} s is followed by {onset[worst + 1]:g} s, the shortest step is "
            f"{interval:g} s). Expected volumes or samples at one interval: bring events to volumes first, with `ba.WordsToVolumes` "
            "or `ba.HRF(at='target')`."
        )
    return interval


def durations_of(table: pd.DataFrame, *, owner: str, side: str = "the target") -> Array:
    """Return how long each row lasts: ``duration_s``, or where it is missing the step to the next sample.

    Parameters
    ----------
    table : DataFrame
    owner, side : str
        The step and the side that are named in the message.

    Returns
    -------
    ndarray of float64, (row,); seconds

    Raises
    ------
    SchemaError, ParameterError
        No duration, and none can be derived because the rows are not regularly sampled.
    """
    given = table["duration_s"].to_numpy(dtype=np.float64) if "duration_s" in table else np.full(len(table), np.nan)
    missing = ~np.isfinite(given)
    if not missing.any():
        return given
    interval, onset = sampling_intervals(table, owner=owner, side=side), onsets_of(table, owner=owner, side=side)
    if np.isnan(interval[missing]).any():
        raise SchemaError(
            f"{owner}: {side} have no `duration_s`, and a run of one row has no sampling interval to derive it from. Expected seconds: "
            "`x.assign_coords(duration_s=('presentation', seconds))`."
        )
    derived = interval.copy()
    for rows in rows_by_run(run_codes(table), onset):
        steps = np.diff(onset[rows])
        # Windows of jittered samples must touch, or an event falls between them.
        derived[rows[:-1]] = np.where(steps < 1.5 * interval[rows[:-1]], steps, interval[rows[:-1]])
    return np.where(missing, derived, given)


def pairs_in_windows(onset: Array, codes: Array, start: Array, stop: Array, window_codes: Array) -> tuple[Array, Array]:
    """Return all (window, event) pairs with ``start <= onset < stop`` inside one run.

    Parameters
    ----------
    onset, codes : ndarray, (event,)
        Seconds, and the run of each event.
    start, stop, window_codes : ndarray, (window,)
        Seconds, and the run of each window.

    Returns
    -------
    windows, events : ndarray of int64, (pair,)
        Sorted by window, and by onset within it.

    Examples
    --------
    >>> none = np.zeros(3, int)
    >>> pairs_in_windows(np.array([0.0, 1.9, 2.0]), none, np.array([0.0, 2.0]), np.array([2.0, 4.0]), none[:2])
    (array([0, 0, 1]), array([0, 1, 2]))
    """
    low, high = np.zeros(len(start), dtype=np.int64), np.zeros(len(start), dtype=np.int64)
    order = np.lexsort((onset, codes))
    times, runs = ticks(onset)[order], codes[order]
    for code in np.unique(window_codes):
        begin, end = np.searchsorted(runs, [code, code + 1])
        rows = window_codes == code
        low[rows] = begin + np.searchsorted(times[begin:end], ticks(start[rows]))
        high[rows] = begin + np.searchsorted(times[begin:end], ticks(stop[rows]))
    windows, positions = ranges(low, np.maximum(high, low))
    return windows, order[positions]


def ranges(low: Array, high: Array) -> tuple[Array, Array]:
    """Return ``(i, j)`` for every ``low[i] <= j < high[i]``.

    Parameters
    ----------
    low, high : ndarray of int, (n,)
        ``high >= low``.

    Returns
    -------
    index, value : ndarray of int64

    Examples
    --------
    >>> ranges(np.array([2, 5]), np.array([4, 6]))
    (array([0, 0, 1]), array([2, 3, 5]))
    """
    count = high - low
    index = np.repeat(np.arange(len(low)), count)
    value = np.arange(len(index)) - np.repeat(np.cumsum(count) - count, count) + low[index]
    return index, value
