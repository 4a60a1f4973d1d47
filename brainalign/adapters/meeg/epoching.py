"""Continuous recordings cut around stimuli: from MNE events, annotations, or a table of events such as BIDS has."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.delimited import MISSING, as_id, numeric_columns, plain_cells, read_table, require_columns
from brainalign.adapters.files import reading
from brainalign.adapters.meeg.triggers import checked_onsets, trigger_onsets
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number, did_you_mean, preview

_NO_STIMULUS = re.compile(r"bad|edge|boundary|new segment", re.IGNORECASE)  # annotations about the recording itself


@dataclass(frozen=True)
class Cut:
    """What decides where a recording is cut; see ``open_meeg``."""

    events: Any = None
    event_id: Any = None
    tmin: float | None = None
    tmax: float | None = None
    baseline: Any = None
    trigger_channel: str | None = None
    align: str = "table"
    tolerance_s: float = 0.01
    check_ids: Any = None
    max_mismatched: int = 0
    overlap: str = "flag"

    def given(self) -> list[str]:
        """Return the names of the options that were set."""
        return [each.name for each in fields(self) if repr(getattr(self, each.name)) != repr(each.default)]


def cut(
    mne: Any, raw: Any, how: Cut, stimulus_column: str | None, proj: bool, name: str
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Cut a continuous recording around its events.

    Parameters
    ----------
    mne : module
    raw : mne.io.Raw
    how : Cut
    stimulus_column : str or None
        Column of a table of events that names the stimulus.
    proj : bool
        Apply projections.
    name : str
        The recording, for messages.

    Returns
    -------
    (mne.Epochs, dict, dict)
        The epochs, whose metadata hold ``stimulus_id`` and the other columns of the events; labels of the rows that MNE does not
        keep; and what is to be recorded.

    Raises
    ------
    FormatError, ParameterError
        As ``open_meeg`` says.
    """
    if how.events is None or how.tmin is None or how.tmax is None:
        raise ParameterError(
            f"{name!r} is a raw recording and events={'None' if how.events is None else 'given'}, tmin={how.tmin!r}, tmax={how.tmax!r}. Expected all "
            "three: an array (event, 3), a table, or 'annotations'; and the seconds around each event; or events='samples'."
        )
    _check_window(how)
    check_choice("align", how.align, ("table", "trigger"), owner="open_meeg")
    check_choice("overlap", how.overlap, ("flag", "raise"), owner="open_meeg")
    check_number("tolerance_s", how.tolerance_s, owner="open_meeg", low=0.0)
    rate = float(raw.info["sfreq"])
    record: dict[str, Any] = {}
    table = _table(raw, how, stimulus_column, name)
    table, mismatched = _checked_ids(table, how, stimulus_column, name)
    if mismatched:
        record["left_out"] = mismatched
    if how.trigger_channel is not None:
        triggers = trigger_onsets(raw, how.trigger_channel, name)
        onset_s, record["triggers"] = checked_onsets(
            table["onset_s"].to_numpy(),
            list(table["stimulus_id"]),
            triggers,
            by=how.align,
            tolerance_s=how.tolerance_s,
            name=name,
        )
        table = table.assign(onset_s=onset_s)
    elif how.align == "trigger":
        raise ParameterError(f"open_meeg got align='trigger' for {name!r} and no trigger_channel=. Name the channel.")
    epochs, kept = _epochs(mne, raw, table, how, proj, name)
    lost = Counter(reason for reasons in epochs.drop_log for reason in reasons)
    if lost:
        record["dropped"] = dict(lost)
    onset_s = table["onset_s"].to_numpy()[kept]
    labels = {
        "onset_s": onset_s,
        "trial": table.index.to_numpy()[kept],
        "window_overlaps": _overlapping(onset_s, how, rate, name),
    }
    return epochs, labels, record


def _check_window(how: Cut) -> None:
    first, last = (check_number(name, getattr(how, name), owner="open_meeg") for name in ("tmin", "tmax"))
    pair = how.baseline is None or (isinstance(how.baseline, (tuple, list)) and len(how.baseline) == 2)
    ends = [float(first), *(at for at in how.baseline or () if at is not None), float(last)] if pair else []
    if first >= last or not ends or not all(isinstance(at, (int, float)) for at in ends) or ends != sorted(ends):
        raise ParameterError(
            f"open_meeg got tmin={how.tmin!r}, tmax={how.tmax!r} and baseline={how.baseline!r}. Expected seconds that ascend, and the two ends of a "
            "baseline between them, such as tmin=-0.2, tmax=0.8, baseline=(None, 0)."
        )


def _epochs(mne: Any, raw: Any, table: pd.DataFrame, how: Cut, proj: bool, name: str) -> tuple[Any, np.ndarray[Any, Any]]:
    """Return epochs in the order of time, and the row of each in the table."""
    sample = np.round(table["onset_s"].to_numpy() * raw.info["sfreq"]).astype(np.int64) + raw.first_samp
    if len(np.unique(sample)) < len(sample):
        second = int(np.flatnonzero(pd.Series(sample).duplicated())[0])
        first = int(np.argmax(sample == sample[second]))
        ids = table["stimulus_id"]
        raise FormatError(
            f"{name!r} has two events at sample {sample[second]}: {ids.iloc[first]!r} in row {table.index[first]} and {ids.iloc[second]!r} in row {table.index[second]}. "
            "Expected one presentation at a time: choose with `event_id=`, or drop a row."
        )
    conditions = [as_id(value) or MISSING[0] for value in table["condition" if "condition" in table else "stimulus_id"]]
    codes = {kind: code for code, kind in enumerate(sorted(set(conditions)), 1)}
    array = np.column_stack([sample, np.zeros_like(sample), [codes[kind] for kind in conditions]])
    metadata = table.drop(columns=["onset_s", "condition"], errors="ignore").reset_index(drop=True)
    order = np.argsort(sample, kind="stable")  # MNE wants time to increase
    with reading(name, "epochs around the given events"):
        epochs = mne.Epochs(
            raw, array[order], codes, tmin=how.tmin, tmax=how.tmax, baseline=how.baseline, metadata=metadata.iloc[order].reset_index(drop=True),
            preload=True, proj=proj, verbose="error",
        )  # fmt: skip
    outside = [i for i, why in enumerate(epochs.drop_log) if set(why) & {"NO_DATA", "TOO_SHORT"}]
    if outside:
        first = order[outside[0]]
        raise FormatError(
            f"{name!r} does not hold {len(outside)} of the epochs, the first around event {table.index[first]} at sample {sample[first]}. The "
            f"recording has samples {raw.first_samp} to {raw.last_samp}: drop these events, or narrow tmin and tmax."
        )
    return epochs, order[epochs.selection]


def _table(raw: Any, how: Cut, stimulus_column: str | None, name: str) -> pd.DataFrame:
    """Return one row an event, numbered as it was given: ``stimulus_id``, ``onset_s`` from the first sample, and other labels."""
    events = how.events
    if isinstance(events, str) and events == "annotations":
        table, source = _from_annotations(raw, name), f"the annotations of {name!r}"
    elif isinstance(events, pd.DataFrame):
        # rows are told apart by their index, which tables that were put together may repeat
        table, source = events.copy() if events.index.is_unique else events.reset_index(drop=True), "`events=`"
    elif isinstance(events, (str, Path)):
        table, source = read_table(events, header=True), str(events)
    else:
        return _from_array(raw, events, how.event_id)
    return _chosen(_labelled(table, stimulus_column, source), how.event_id, name)


def _from_annotations(raw: Any, name: str) -> pd.DataFrame:
    notes = raw.annotations
    keep = [i for i, text in enumerate(notes.description) if not _NO_STIMULUS.match(text)]
    if not keep:
        raise FormatError(f"{name!r} has no annotations to make events of. Pass `events=` as an array or a table.")
    first = raw.first_time if notes.orig_time is not None else 0.0
    extras = pd.DataFrame([dict((notes.extras[i] if notes.extras else None) or {}) for i in keep], index=range(len(keep)))
    ids = [str(notes.description[i]) for i in keep]
    table = extras.rename(columns={"stimulus_id": "event_stimulus_id"}).assign(stimulus_id=ids, condition=ids)
    table = table.assign(onset_s=notes.onset[keep] - first)
    return table.assign(duration_s=notes.duration[keep]) if (notes.duration[keep] > 0).any() else table


def _labelled(table: pd.DataFrame, stimulus_column: str | None, source: str) -> pd.DataFrame:
    """Return a table whose ``stimulus_id`` and ``onset_s`` are known in each row; rows without a stimulus are no presentations."""
    table.columns = [str(column) for column in table.columns]
    bids = {"onset": "onset_s", "duration": "duration_s"}
    table = table.rename(columns={theirs: ours for theirs, ours in bids.items() if ours not in table})
    chosen = stimulus_column or "stimulus_id"
    for column, mend in (("onset_s", ""), (chosen, " Name the one that says the stimulus with `stimulus_column=`.")):
        if column not in table:
            close = did_you_mean(column, list(table.columns))
            raise FormatError(f"{source} has no column {column!r}. Its columns are {list(table.columns)}.{close}{mend}")
    runs = sorted(set(table["run"].astype(str))) if "run" in table else []
    if len(runs) > 1:
        raise FormatError(
            f"{source} has events of the runs {preview(runs)}. Expected those of this recording alone: `events=table[table.run == {runs[0]!r}]`."
        )
    for column in [column for column in ("onset_s", "duration_s") if column in table]:
        if table[column].dtype.kind not in "iuf":
            table[column] = numeric_columns(table.astype({column: str}), [column], source)[:, 0]
    table = plain_cells(table)
    ids = [as_id(value) for value in table[chosen]]
    if chosen != "stimulus_id" and "stimulus_id" in table:
        table = table.rename(columns={"stimulus_id": "event_stimulus_id"})
    table = table.assign(stimulus_id=ids)[~np.isin(ids, ["", "None"])]
    onsets = table["onset_s"].to_numpy(np.float64)
    if not len(onsets):
        raise FormatError(f"{source} names no stimulus in its column {chosen!r}. Expected at least one: name another column.")
    if not np.isfinite(onsets).all():
        at = int(np.argmin(np.isfinite(onsets)))
        raise FormatError(
            f"{source} has the onset {onsets[at]} in row {table.index[at]}. Expected seconds in every row: drop the row or mend it."
        )
    return table.drop(columns=["file"], errors="ignore")


def _from_array(raw: Any, events: Any, event_id: Any) -> pd.DataFrame:
    array = np.asarray(events)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise ParameterError(
            f"`events=` has shape {array.shape} and dtype {array.dtype}. Expected integers, (event, 3): sample, 0, code."
        )
    codes = list(event_id.values()) if isinstance(event_id, dict) else []
    if not codes or not all(isinstance(code, (int, np.integer)) for code in codes) or len(set(codes)) < len(codes):
        raise ParameterError(
            f"`events=` holds the codes {preview(np.unique(array[:, 2]))} and event_id is {event_id!r}. Expected `event_id={{name: code}}`, which "
            "says what each code stands for, with one name a code."
        )
    names = {int(code): str(label) for label, code in event_id.items()}
    keep = np.flatnonzero(np.isin(array[:, 2], list(names)))
    array = array[keep]
    if not len(array):
        raise FormatError(
            f"`events=` holds the codes {preview(np.unique(np.asarray(events)[:, 2]))}, none of them in event_id={dict(event_id)}. Name those codes."
        )
    onset_s = (array[:, 0] - raw.first_samp) / float(raw.info["sfreq"])
    return pd.DataFrame({"stimulus_id": [names[int(code)] for code in array[:, 2]], "onset_s": onset_s}, index=keep)


def _chosen(table: pd.DataFrame, event_id: Any, name: str) -> pd.DataFrame:
    """Return the rows of the stimuli that were named; all where none were."""
    if event_id is None:
        return table
    wanted = [event_id] if isinstance(event_id, str) else [str(each) for each in event_id]
    there = sorted(set(table["stimulus_id"]))
    absent = [each for each in wanted if each not in there]
    if absent:
        raise FormatError(
            f"{name!r} has no event {absent[0]!r}. Its events are named {preview(there, 8)}.{did_you_mean(absent[0], there)} Name those."
        )
    return table[np.isin(list(table["stimulus_id"]), wanted)]


def _checked_ids(table: pd.DataFrame, how: Cut, stimulus_column: str | None, name: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows whose stimulus a second list confirms, and those that it does not, as text."""
    if how.check_ids is None:
        return table, []
    second = how.check_ids
    if isinstance(second, (str, Path)):
        column = stimulus_column or "stimulus_id"
        read = read_table(second, header=True)
        require_columns(read, [column], str(second))
        second = read[column].str.strip()
    ids, others = list(table["stimulus_id"]), [as_id(each) for each in second]
    if len(others) != len(ids):
        raise FormatError(
            f"{name!r} has {len(ids)} events and check_ids= names {len(others)}. Expected one name an event, in their order."
        )
    wrong = [i for i, (one, other) in enumerate(zip(ids, others, strict=True)) if one != other]
    shown = [f"row {i}: {ids[i]!r} / {others[i]!r}" for i in wrong]
    if len(wrong) > how.max_mismatched:
        raise FormatError(
            f"{name!r}: the events and check_ids= name different stimuli in {len(wrong)} of {len(ids)} rows, {'; '.join(shown[:5])}. Expected at most "
            f"max_mismatched={how.max_mismatched}, which are left out: find out which list is right, or allow as many."
        )
    return table.drop(index=table.index[wrong]), shown


def _overlapping(onset_s: np.ndarray[Any, Any], how: Cut, rate: float, name: str) -> np.ndarray[Any, Any]:
    """Return which windows share samples with another one."""
    order = np.argsort(onset_s)
    close = np.diff(onset_s[order]) < float(how.tmax or 0) - float(how.tmin or 0) + 0.5 / rate
    shared = np.zeros(len(onset_s), dtype=bool)
    shared[order[:-1][close]] = shared[order[1:][close]] = True
    if how.overlap == "raise" and shared.any():
        first = order[int(np.argmax(close))]
        raise FormatError(
            f"{name!r}: {int(shared.sum())} of {len(shared)} windows from tmin={how.tmin} to tmax={how.tmax} s share samples with another, the first "
            f"around {onset_s[first]:g} s. Expected none: narrow tmin and tmax, or allow it with `overlap='flag'`."
        )
    return shared
