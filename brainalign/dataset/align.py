"""``align``: bring two recordings to rows that correspond, by their labels and never by their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import presentation_table

Array = np.ndarray[Any, Any]

#: Times closer than this are the same time, in seconds.
SAME_TIME_S = 1e-6


def align(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    on: str | Sequence[str] | Mapping[str, str] = "stimulus_id",
    join: str = "inner",
    source_name: str = "source",
    target_name: str = "target",
) -> tuple[xr.DataArray, xr.DataArray, dict[str, Any]]:
    """Join two recordings, so that row ``i`` of one and row ``i`` of the other stand for the same presentation.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time])
    on : str, sequence of str, or mapping
        Presentation coordinate to join on; several, such as ``("run", "onset_s")`` for continuous recordings (times
        match to 1e-6 s); or ``{source id: target id}``, which renames ``stimulus_id`` of the source first.
    join : {"inner", "exact"}
        Drop (and report) what only one side has, or raise.
    source_name, target_name : str
        What to call the two sides in messages.

    Returns
    -------
    source, target : DataArray
        Rows correspond one to one, in the target's order. A side that needs no change is returned as it is.
    report : dict
        Plain values: ``n_shared`` (ids on both sides), ``shared`` (their digest), ``n_presentations`` (rows of the result), and for
        each side what was dropped (``n_dropped_ids``, ``first_dropped``, ``n_dropped_repeats``), duplicated (``n_duplicated`` rows)
        and unmatched (rows without a value of ``on``); with two time axes also ``time``.

    Raises
    ------
    ParameterError
        ``on`` or ``join`` is no choice, or renames two stimuli to one.
    SchemaError
        A side is no valid responses array.
    AlignmentError
        The sides share no id or no time, or a coordinate is missing; with ``join="exact"`` if anything would be dropped.

    Notes
    -----
    Repeats: where one side has every shared id once, its row is repeated for each presentation of the other side.
    Where both sides repeat, the first presentation of an id goes with the first, the second with the second, and
    presentations without a partner are dropped and reported.

    Where both sides have a ``time`` dim, its values are joined too (to 1e-6 s), and the target's are kept.

    Examples
    --------
    >>> import brainalign as ba
    >>> net = ba.responses([[1.0], [2.0], [3.0]], stimulus_id=["a", "b", "c"], neuroid_id=[0], modality="ann", system="net")
    >>> cell = ba.responses([[9.0], [8.0], [7.0]], stimulus_id=["c", "a", "c"], neuroid_id=[0], modality="spikes", system="m1")
    >>> x, y, report = ba.align(net, cell)
    >>> x.values.ravel().tolist(), y.values.ravel().tolist(), report["source"]["first_dropped"]
    ([3.0, 1.0, 3.0], [9.0, 8.0, 7.0], ['b'])
    """
    check_choice("join", join, ("inner", "exact"), owner="align")
    validate(source, name=source_name)
    validate(target, name=target_name)
    sides = (source_name, target_name)
    if not isinstance(on, (str, Mapping, Sequence)) or (not on and not isinstance(on, Mapping)):
        raise ParameterError(
            f"The 'on' parameter of align must be a coordinate, several, or a mapping of ids. Got {on!r} instead."
        )
    keys = ("stimulus_id",) if isinstance(on, Mapping) else (on,) if isinstance(on, str) else tuple(on)
    renamed = _rename(source, on, source_name) if isinstance(on, Mapping) else source
    rows, report = _match(renamed, target, keys, sides)
    out = (_take(renamed, rows[0], "presentation"), _take(target, rows[1], "presentation"))
    if "time" in source.dims and "time" in target.dims:
        out, report["time"] = _join_time(*out, sides)
    if join == "exact":
        _refuse_drops(report, sides)
    params = {"on": report["on"], "join": join, "n_shared": report["n_shared"]}
    aligned = [
        new if new is old else write_step(new, "align", params=params, inputs={"responses": old})
        for new, old in zip(out, (source, target), strict=True)
    ]
    return aligned[0], aligned[1], {"join": join, **report}


def _match(
    source: xr.DataArray, target: xr.DataArray, keys: tuple[str, ...], sides: tuple[str, str]
) -> tuple[tuple[Array, Array], dict[str, Any]]:
    """Return the rows of both sides that belong together, and the report."""
    tables = (presentation_table(source), presentation_table(target))
    codes = shared_codes(*tables, keys, names=sides)
    shared = np.intersect1d(*codes)
    shared = shared[shared >= 0]
    if not shared.size:
        raise AlignmentError(_nothing_shared(tables, codes, keys, sides))
    rows = _matched_rows(*codes, shared)
    report: dict[str, Any] = {"on": list(keys), "n_shared": int(shared.size), "n_presentations": int(rows[1].size)}
    for side, table, code, row in zip(("source", "target"), tables, codes, rows, strict=True):
        report[side] = _side_report(table, code, shared, row, keys)
    report["shared"] = _digest(tables[1].iloc[rows[1]], [key for key in keys if tables[1][key].dtype.kind != "f"])
    return rows, report


def _digest(rows: pd.DataFrame, keys: list[str]) -> str:
    """Return what is the same for the same names, in whatever order and however often; times, which match to 1e-6, are no names."""
    names = rows[keys].astype(str).drop_duplicates()
    return f"{pd.util.hash_pandas_object(names, index=False).sum():016x}" if keys else ""


def shared_codes(
    source: pd.DataFrame, target: pd.DataFrame, keys: Sequence[str], *, names: tuple[str, str] = ("source", "target")
) -> tuple[Array, Array]:
    """Give rows of two tables that have the same values of ``keys`` the same number.

    Parameters
    ----------
    source, target : DataFrame
        Presentation tables.
    keys : sequence of str
        Columns that both have. Floats match to 1e-6; whole numbers match their text (run 1 is run ``"1"``).
    names : (str, str)
        What to call the two sides in messages.

    Returns
    -------
    source_codes, target_codes : ndarray of int64, (presentation,)
        -1 for rows without a value.

    Raises
    ------
    AlignmentError
        A column is missing, or text on one side and fractions on the other.
    """
    if not keys:
        raise AlignmentError("there is no coordinate to join on. Expected at least one: on='stimulus_id'.")
    for table, name in zip((source, target), names, strict=True):
        for key in keys:
            if key not in table:
                raise AlignmentError(
                    f"{name} has no presentation coordinate {key!r}. Expected it on both sides, to join on it; {name} has "
                    f"{', '.join(map(str, table.columns))}.{did_you_mean(key, table.columns)}"
                )
    codes = np.zeros(len(source) + len(target), dtype=np.int64)
    for key in keys:
        column = _common_type(source[key], target[key], key, names)
        part = _time_codes(column) if column.dtype.kind == "f" else pd.factorize(column)[0].astype(np.int64)
        missing = (part < 0) | (codes < 0)
        codes = pd.factorize(codes * (part.max(initial=0) + 1) + part)[0].astype(np.int64)
        codes[missing] = -1
    return codes[: len(source)], codes[len(source) :]


def _common_type(source: pd.Series, target: pd.Series, key: str, names: tuple[str, str]) -> Array:
    """Both columns in one array: numbers as numbers; text beside whole numbers as text."""
    columns = [np.asarray(series.array if series.dtype.kind in "iufb" else series.astype(object)) for series in (source, target)]
    is_text = [column.dtype.kind not in "iufb" for column in columns]
    if is_text[0] == is_text[1]:
        return np.concatenate(columns)
    number = columns[is_text.index(False)]
    if number.dtype.kind not in "iu":
        raise AlignmentError(
            f"`{key}` is {'text' if is_text[0] else number.dtype} in {names[0]} and {'text' if is_text[1] else number.dtype} in "
            f"{names[1]}. Expected one type on both sides: convert one with `x.assign_coords({key}=x.{key}.astype(...))`."
        )
    return np.concatenate(
        [column if text else column.astype(str).astype(object) for column, text in zip(columns, is_text, strict=True)]
    )


def _time_codes(values: Array) -> Array:
    # Neighbours closer than the tolerance are one time: rounding instead would part two times at a rounding edge.
    distinct, inverse = np.unique(values, return_inverse=True)
    codes = np.concatenate([[0], np.cumsum(np.diff(distinct) > SAME_TIME_S)])[inverse]
    return np.where(np.isfinite(values), codes, -1).astype(np.int64)


def _rename(x: xr.DataArray, names: Mapping[str, str], side: str) -> xr.DataArray:
    ids = x.coords["stimulus_id"].values.astype(object)
    known = {str(old): str(new) for old, new in names.items()}
    before = pd.unique(ids)
    after = pd.Series([known.get(name, name) for name in before], dtype=object)
    if after.duplicated().any():
        twice = after[after.duplicated()].iloc[0]
        both = [str(name) for name in before[(after == twice).to_numpy()]]
        raise ParameterError(
            f"align got an `on` that gives {len(both)} stimuli of {side} the name {twice!r}: {preview(both)}. Expected one name for "
            "each; average them first, or join on another coordinate."
        )
    new = as_labels([known.get(name, name) for name in ids])
    return x if (new == x.coords["stimulus_id"].values).all() else x.assign_coords(stimulus_id=("presentation", new))


def _matched_rows(source: Array, target: Array, shared: Array) -> tuple[Array, Array]:
    """Return row numbers of both sides that belong together, in the target's order."""
    rows = [np.flatnonzero(np.isin(codes, shared)) for codes in (source, target)]
    kept = [codes[row] for codes, row in zip((source, target), rows, strict=True)]
    once = [len(codes) == len(shared) for codes in kept]
    if not any(once):  # both repeat: the n-th presentation on one side goes with the n-th on the other
        counts = [pd.Series(codes).groupby(codes).cumcount().to_numpy() for codes in kept]
        width = max(count.max() for count in counts) + 1
        kept = [codes * width + count for codes, count in zip(kept, counts, strict=True)]
    left = pd.DataFrame({"code": kept[0], "source": rows[0]})
    right = pd.DataFrame({"code": kept[1], "target": rows[1]})
    joined = right.merge(left, on="code", how="inner").sort_values(["target", "source"], kind="stable")
    return joined["source"].to_numpy(), joined["target"].to_numpy()


def _side_report(table: pd.DataFrame, codes: Array, shared: Array, rows: Array, keys: Sequence[str]) -> dict[str, Any]:
    known = codes >= 0
    absent = known & ~np.isin(codes, shared)
    first = np.flatnonzero(absent & ~pd.Series(codes).duplicated().to_numpy())
    used = np.unique(rows).size
    return {
        "n_presentations": len(codes),
        "n_ids": int(np.unique(codes[known]).size),
        "n_repeated_ids": int((np.unique(codes[known], return_counts=True)[1] > 1).sum()),
        "n_dropped_ids": int(first.size),
        "first_dropped": [_name_of(table, row, keys) for row in first[:3]],
        "n_dropped_presentations": int(absent.sum()),
        "n_dropped_repeats": int(known.sum() - absent.sum() - used),
        "n_duplicated": int(rows.size - used),
        "n_unmatched": int((~known).sum()),
    }


def _name_of(table: pd.DataFrame, row: int, keys: Sequence[str]) -> Any:
    values = [value.item() if isinstance(value, np.generic) else value for value in (table[key].iloc[row] for key in keys)]
    return values[0] if len(values) == 1 else values


def _nothing_shared(tables: Any, codes: Any, keys: Sequence[str], sides: tuple[str, str]) -> str:
    n_ids = [np.unique(code[code >= 0]).size for code in codes]
    starts = [f"{side} starts {_name_of(table, 0, keys)!r}" for side, table in zip(sides, tables, strict=True)]
    mend = (
        "rename one side with `ba.align(..., on={...})`, or look at `x.stimulus_id`"
        if tuple(keys) == ("stimulus_id",)
        else f"look at {' and '.join(f'`x.{key}`' for key in keys)} on both sides, or join on another coordinate"
    )
    if "onset_s" in keys:
        mend += (
            ". Events that have times of their own, such as words, are brought to volumes or samples by the model's first step, "
            "`ba.chain(ba.WordsToVolumes(), ba.Delay([2, 4, 6, 8]), ba.Ridge())`; where they are what is predicted, beforehand: "
            f"`{sides[1]} = ba.WordsToVolumes().transform({sides[1]}, {sides[0]})`"
        )
    return (
        f"{sides[0]} and {sides[1]} share 0 of {n_ids[0]} / {n_ids[1]} {', '.join(keys)} values ({', '.join(starts)}). They must name "
        f"the same stimuli: {mend}."
    )


def _take(x: xr.DataArray, rows: Array, dim: str) -> xr.DataArray:
    return x if np.array_equal(rows, np.arange(x.sizes[dim])) else x.isel({dim: rows})


def _join_time(source: xr.DataArray, target: xr.DataArray, sides: tuple[str, str]) -> tuple[Any, dict[str, Any]]:
    """Keep the times that both sides have; the target's values stand for both."""
    references = [x.attrs["time_reference"] for x in (source, target)]
    if references[0] != references[1]:
        raise AlignmentError(
            f"time of {sides[0]} counts from {references[0]} and time of {sides[1]} from {references[1]}. Expected the same reference: "
            "cut one side into presentations, or drop its time dim with `ba.BinTime` or a mean."
        )
    times = [x.coords["time"].values for x in (source, target)]
    codes = _time_codes(np.concatenate(times))
    n = len(times[0])
    shared = np.intersect1d(codes[:n], codes[n:])
    if not shared.size:
        spans = [f"{side} {time[0]:g} to {time[-1]:g} s" for side, time in zip(sides, times, strict=True)]
        raise AlignmentError(
            f"{sides[0]} and {sides[1]} share 0 of {n} / {len(times[1])} time points ({', '.join(spans)}). Expected some within 1e-6 s: "
            "bring both to the same bins with `ba.BinTime`, or shift one with `x.assign_coords(time=...)`."
        )
    rows = [np.flatnonzero(np.isin(part, shared)) for part in (codes[:n], codes[n:])]
    out = [_take(x, row, "time") for x, row in zip((source, target), rows, strict=True)]
    if not np.array_equal(out[0].coords["time"].values, out[1].coords["time"].values):
        out[0] = out[0].assign_coords(time=out[1].coords["time"].values)
    report = {
        "n_shared": int(shared.size),
        "n_dropped_source": n - rows[0].size,
        "n_dropped_target": len(times[1]) - rows[1].size,
    }
    return tuple(out), report


def _refuse_drops(report: dict[str, Any], sides: tuple[str, str]) -> None:
    found = []
    for side, name in zip(("source", "target"), sides, strict=True):
        entry = report[side]
        if entry["n_dropped_ids"]:
            found.append(f"{entry['n_dropped_ids']} of {entry['n_ids']} ids of {name} (first {preview(entry['first_dropped'])})")
        if entry["n_dropped_repeats"]:
            found.append(f"{entry['n_dropped_repeats']} repeated presentations of {name}")
        if entry["n_unmatched"]:
            found.append(f"{entry['n_unmatched']} presentations of {name} without a value")
        if report.get("time", {}).get(f"n_dropped_{side}"):
            found.append(f"{report['time'][f'n_dropped_{side}']} time points of {name}")
    if found:
        raise AlignmentError(
            f"join='exact' would drop {'; '.join(found)}. Expected two sides with the same presentations: select them first, or use "
            "join='inner', which drops and reports."
        )
