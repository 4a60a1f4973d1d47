"""What is legal in a recording and seldom meant; each rule says what, where, how many, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.parameters import preview

#: Share of a neuroid's values that lie on one of its extremes, from which on it counts as clipped; at least how many, and how many times more
#: than on the value next to it.
CLIPPED_SHARE, CLIPPED_N, CLIPPED_TIMES = 0.01, 10, 3
#: Standard deviations that are possible, in the unit that is declared; beyond, values are in another unit.
PLAUSIBLE_SD = {
    "V": (1e-9, 5e-3),
    "µV": (1e-2, 5e3),
    "uV": (1e-2, 5e3),
    "T": (1e-16, 1e-10),
    "T/m": (1e-15, 1e-8),
    "fT": (1e-1, 1e5),
}
#: Above this, seconds are rather milliseconds.
LONG_EPOCH_S, LONG_GAP_S = 60.0, 600.0


_OF_ONE = {"have": "has", "are": "is"}


@dataclass(frozen=True)
class Finding:
    """One thing that stands out."""

    severity: str
    check: str
    n: int
    what: str
    where: str
    mend: str


def of_labels(x: xr.DataArray, stimuli: Any, count: Callable[[Any], Any]) -> Iterator[Finding]:
    """Yield what stands out in names and counts of presentations.

    Parameters
    ----------
    x : DataArray
    stimuli : Dataset or DataFrame, optional
    count : callable
        Counts repetitions.

    Yields
    ------
    Finding
    """
    ids = x.coords["stimulus_id"].values.astype(object)
    known = pd.unique(ids)
    plain = pd.Series(known).str.strip().str.casefold()
    alike = known[plain.duplicated(keep=False).to_numpy()]
    if alike.size:
        yield Finding(
            "warning", "ids that differ by case or spaces", alike.size, "stimulus ids are the same but for case or spaces", preview(alike),
            "If they are one stimulus, give it one name before anything is joined on it.",
        )  # fmt: skip
    if "repetition" in x.coords and x.coords["repetition"].dims == ("presentation",):
        labels = {name: x.coords[name].values for name in ("subject", "stimulus_id") if name in x.coords and x.coords[name].ndim}
        wrong = np.flatnonzero(x.coords["repetition"].values != count(labels))
        selected = set(np.unique(x.coords["repetition"].values).tolist()) != set(np.unique(count(labels)).tolist())
        if wrong.size and not selected:  # rows that were selected keep the count they had
            yield Finding(
                "warning", "repetitions that do not count", wrong.size,
                _agreeing(wrong.size, "presentations have a `repetition` other than counting gives"),
                f"presentations {preview(wrong)}", "Build the array with `ba.responses`, which counts them.",
            )  # fmt: skip
    if stimuli is not None and "stimulus_id" in stimuli:
        lost = known[~pd.Series(known).isin(np.asarray(stimuli["stimulus_id"]).astype(object)).to_numpy()]
        if lost.size and lost.size < known.size:  # none in common: rows of a continuous recording
            yield Finding(
                "warning", "ids that match no stimulus", lost.size,
                f"of {known.size} ids {'is' if lost.size == 1 else 'are'} not among the stimuli", preview(lost),
                "Look for another index base or a missing extension, and rename one side.",
            )  # fmt: skip


def of_values(x: xr.DataArray, table: xr.Dataset, all_whole: bool) -> Iterator[Finding]:
    """Yield what stands out in the values.

    Parameters
    ----------
    x : DataArray
    table : Dataset
        Of :func:`brainalign.reports.check`.
    all_whole : bool
        Every value is a whole number.

    Yields
    ------
    Finding
    """
    ids, status = x.coords["neuroid_id"].values, table["status"].values
    declared = np.flatnonzero(table["n_not_finite"].values) if x.attrs.get("allow_nan") else np.array([], dtype=int)
    mends = {
        "declared NaN": "Their scores will be NaN: mask them out, or interpolate before opening.",
        "constant neuroids": "Their scores will be NaN and are named by `status`: drop them, or look at the mask.",
        "duplicated time courses": "Look for a channel or voxel that was written twice; drop one of each pair.",
        "clipped values": "Look at the range of the recording or of the conversion to integers; drop what is saturated.",
    }
    several = {
        "declared NaN": (declared, "NaN or infinite values"),
        "constant neuroids": (
            np.flatnonzero(status == "constant") if x[:, 0].size > 1 else np.array([], dtype=int),
            "the same value throughout",
        ),
        "duplicated time courses": (_twins(x, table), "the values of another one"),
        "clipped values": (
            _clipped(x, table),
            f"over {CLIPPED_SHARE:.0%} of their values on their minimum or maximum",
        ),
    }
    for name, (where, what) in several.items():
        if where.size:
            yield Finding(
                "warning",
                name,
                where.size,
                _agreeing(where.size, f"neuroids have {what}"),
                f"neuroids {preview(ids[where])}",
                mends[name],
            )
    same = np.flatnonzero(table["same_as"].values >= 0)
    coarse = all_whole or (table["minimum"].values == 0).any()  # few values, or rectified: rows of few neuroids are often equal
    if same.size and x.dtype.kind == "f" and (status == "ok").any() and (not coarse or x[0].size >= 20):
        pairs = [f"{x.stimulus_id.values[row]!s} = {x.stimulus_id.values[table.same_as.values[row]]!s}" for row in same[:3]]
        yield Finding(
            "warning", "equal presentations of different stimuli", same.size,
            _agreeing(same.size, "presentations have the values of one with another id"),
            ", ".join(pairs) + (", ..." if same.size > 3 else ""), "Look for a row that was written twice, or ids that were shifted.",
        )  # fmt: skip
    yield from _of_scale(x, table, all_whole)


def _agreeing(n: int, what: str) -> str:
    """Return what is said of several, ``neuroids have ...``, as it is said of ``n``."""
    noun, verb, rest = what.split(" ", 2)
    return what if n != 1 else f"{noun.removesuffix('s')} {_OF_ONE.get(verb, f'{verb}s')} {rest}"


def _twins(x: xr.DataArray, table: xr.Dataset) -> np.ndarray[Any, Any]:
    """Return positions of neuroids that equal an earlier one by more than chance: a few counts are easily equal."""
    n_values = x.shape[0] * int(np.prod(x.shape[2:]))
    distinct = (x.dtype.kind == "f" and n_values > 4) | (table["mean"].values * n_values > 20)
    return np.flatnonzero((table["status"].values == "duplicate") & distinct)


def _clipped(x: xr.DataArray, table: xr.Dataset) -> np.ndarray[Any, Any]:
    """Return positions of neuroids with a mass at an extreme that is not 0: rectified units and counts have one at 0."""
    n_values = x.shape[0] * int(np.prod(x.shape[2:]))
    if x.attrs["modality"] == "behaviour" or (x.dtype.kind in "iub" and x.attrs["modality"] == "spikes"):
        return np.array([], dtype=int)  # answers on a scale, and counts, have few values
    least, found = max(CLIPPED_N, CLIPPED_SHARE * n_values), np.zeros(x.shape[1], dtype=bool)
    for side in ("minimum", "maximum"):
        n, n_next = table[f"n_at_{side}"].values, table[f"n_next_{side}"].values
        # coarse values pile up at their extremes, too, but no more than beside them
        found |= (n >= least) & (n > CLIPPED_TIMES * n_next) & (table[side].values != 0)
    varied = (table["n_at_minimum"] + table["n_at_maximum"]).values < 0.5 * n_values  # not of two values only
    return np.flatnonzero(found & varied & (table["status"].values != "constant"))


def _of_scale(x: xr.DataArray, table: xr.Dataset, all_whole: bool) -> Iterator[Finding]:
    """Yield hints that values are in another unit than the one they are said to be in."""
    units = table.coords["units"].values if "units" in table.coords and table.coords["units"].dims == ("neuroid",) else None
    units = np.full(x.shape[1], x.attrs.get("units") or "", dtype=object) if units is None else units.astype(object)
    sd = table["sd"].values
    for unit in dict.fromkeys(units.tolist()):
        here = (units == unit) & (sd > 0)
        low, high = PLAUSIBLE_SD.get(str(unit), (0.0, np.inf))
        middle = float(np.median(sd[here])) if here.any() else 0.0
        if here.any() and not low <= middle <= high:
            yield Finding(
                "warning", "implausible scale", int(here.sum()),
                _agreeing(int(here.sum()), f"neuroids have a median standard deviation of {middle:.2g} {unit}"),
                f"neuroids {preview(x.neuroid_id.values[here])}", "Look at the unit of the file, and multiply, or correct `units`.",
            )  # fmt: skip
    middle = float(np.median(sd[sd > 0])) if (sd > 0).any() else 0.0
    percent = any("%" in str(unit) or "percent" in str(unit) for unit in units[:1])
    centred = (
        bool((table["minimum"].values[sd > 0] < 0).mean() > 0.5) if (sd > 0).any() else False
    )  # volumes of a scanner are positive
    if x.attrs["modality"] == "fmri" and (
        (all_whole and centred and x.dtype.kind == "f" and middle > 20) or (percent and middle > 50)
    ):
        yield Finding(
            "warning", "implausible scale", x.shape[1],
            _agreeing(x.shape[1], f"neuroids look like unscaled integers (median standard deviation {middle:.3g})"), "all",
            "Betas of NSD are stored as % signal change × 300, other files have a slope: divide, or open the file with its scale.",
        )  # fmt: skip
    if x.attrs["modality"] == "spikes" and "bin" in str(units[0]) and (table["minimum"].values < 0).any():
        where = np.flatnonzero(table["minimum"].values < 0)
        yield Finding(
            "warning", "negative counts", where.size,
            _agreeing(where.size, "neuroids have negative spike counts"), f"neuroids {preview(x.neuroid_id.values[where])}",
            "If a baseline was taken off, say so in `units`.",
        )  # fmt: skip


def of_timing(x: xr.DataArray, stimuli: Any) -> Iterator[Finding]:
    """Yield what stands out in the time axis, in onsets within runs, and in events beside them.

    Parameters
    ----------
    x : DataArray
    stimuli : Dataset or DataFrame, optional

    Yields
    ------
    Finding
    """
    if "time" in x.coords:
        time = x.coords["time"].values
        steps = np.diff(time)
        odd = np.abs(steps - np.median(steps)) > 0.01 * np.median(steps) if steps.size else steps
        if odd.any():
            yield Finding(
                "warning", "irregular time axis", int(odd.sum()), _agreeing(int(odd.sum()), f"steps are not {np.median(steps):.4g} s"),
                f"after {preview(time[:-1][odd])} s", "Look for samples that were dropped; resample where a method needs even steps.",
            )  # fmt: skip
        if x.attrs.get("time_reference") == "stimulus onset" and np.ptp(time) > LONG_EPOCH_S:
            yield Finding(
                "warning", "time axis in milliseconds?", 1, f"axis goes from {time[0]:g} to {time[-1]:g} s around each stimulus", "time",
                "Divide by 1000 where it is in milliseconds.",
            )  # fmt: skip
    if "onset_s" not in x.coords or x.coords["onset_s"].dims != ("presentation",):
        return
    table = _runs(x.coords, x.shape[0])
    checks = {"onsets that go back": _back, "irregular spacing": _gaps, "overlapping events": _overlaps}
    if "time" in x.dims or pd.Series(x.coords["stimulus_id"].values.astype(object)).duplicated().any():
        del checks["irregular spacing"]  # rows are events, whose spacing is the design; volumes and bins have names of their own
    for name, check in checks.items():
        bad = np.concatenate([check(run) for _, run in table.groupby("run", sort=False)])
        if bad.size:
            what, mend = _TIMING[name]
            shown = [f"{table.onset_s[row]:g} s in run {table.run[row]}" for row in bad[:3]]
            yield Finding(
                "warning", name, bad.size, _agreeing(bad.size, what), ", ".join(shown) + (", ..." if bad.size > 3 else ""), mend
            )
    steps = table.groupby("run", sort=False).onset_s.diff().dropna()
    if len(steps) and steps.median() > LONG_GAP_S:
        yield Finding(
            "warning",
            "onsets in milliseconds?",
            1,
            f"median step between onsets is {steps.median():g} s",
            "onset_s",
            "Divide by 1000.",
        )
    if stimuli is not None and "onset_s" in stimuli:
        yield from _beyond(table, _runs(stimuli, len(np.asarray(stimuli["onset_s"]))))


_TIMING = {
    "onsets that go back": ("onsets are not after the one before them", "Sort by run and onset, or look for two runs under one name."),
    "irregular spacing": ("steps break an otherwise even spacing", "Look for dropped volumes, or a repetition time that is not that of the file."),
    "overlapping events": ("events last beyond the next onset", "Look at `duration_s`: its unit, and whether events of two kinds are mixed."),
}  # fmt: skip


def _runs(labels: Any, n: int) -> pd.DataFrame:
    """Return onset and duration of each row, with the name of its run (within subject and session)."""
    parts = [
        np.broadcast_to(np.asarray(labels[name]).astype(object), n) for name in ("subject", "session", "run") if name in labels
    ]
    run = pd.Series("", index=range(n)) if not parts else pd.Series(["/".join(map(str, row)) for row in zip(*parts, strict=True)])
    duration = np.asarray(labels["duration_s"], dtype=float) if "duration_s" in labels else np.full(n, np.nan)
    return pd.DataFrame({"run": run, "onset_s": np.asarray(labels["onset_s"], dtype=float), "duration_s": duration})


def _back(run: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.asarray(run.index[1:][np.diff(run.onset_s) <= 0])


def _gaps(run: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Return rows after a step that differs where most are equal; where few are equal, the design is jittered."""
    steps = np.diff(run.onset_s)
    if len(steps) < 4:
        return np.array([], dtype=int)
    odd = np.abs(steps - np.median(steps)) > 0.02 * abs(np.median(steps))
    return np.asarray(run.index[1:][odd]) if 0 < odd.mean() < 0.2 else np.array([], dtype=int)


def _overlaps(run: pd.DataFrame) -> np.ndarray[Any, Any]:
    steps = np.diff(run.onset_s)
    return np.asarray(run.index[:-1][(steps > 0) & (run.duration_s.to_numpy()[:-1] > 1.02 * steps)])


def _beyond(table: pd.DataFrame, events: pd.DataFrame) -> Iterator[Finding]:
    """Yield events outside the run that they are said to be in; runs are compared where both sides name the same ones."""
    ends = (table.onset_s + table.duration_s.fillna(0)).groupby(table.run).max()
    late = events[(events.onset_s >= events.run.map(ends)) | (events.onset_s < 0)]
    if len(late):
        first = late.iloc[0]
        end = ends.get(first.run, np.nan)
        yield Finding(
            "warning", "events beyond the run", len(late),
            _agreeing(len(late), "events start before or after the recording of their run"),
            f"the first at {first.onset_s:g} s in run {first.run}, which ends at {end:g} s",
            "Look at the repetition time, the unit of onsets, and whether the run was cut.",
        )  # fmt: skip
