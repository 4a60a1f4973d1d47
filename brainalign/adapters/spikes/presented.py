"""Tables of what was presented: which stimulus a row shows, which rows are blank, and when each began."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.delimited import require_columns
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, preview

BLANK = "blank"
_BLANK_TEXT = ("null", "", "n/a", "na", "nan", "none")


def presented(
    table: pd.DataFrame,
    *,
    stimulus_column: str | Sequence[str] | None,
    stimulus_format: str | None,
    blank: Sequence[Any] | None,
    blanks: str,
    source: str,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table of presentations with a ``stimulus_id`` each, and what was decided about blank ones.

    Parameters
    ----------
    table : DataFrame
        One row a presentation; its other columns are kept.
    stimulus_column : str or sequence of str
        Which columns name the stimulus.
    stimulus_format : str, optional
        How their values make a name: ``"{}"``, ``"ori-{orientation:g}/c-{contrast:g}"``. Whole numbers that were stored as floats
        or as text of floats (``"45.0"``) are integers here. Required for several columns.
    blank : sequence, optional
        Values that say that nothing was shown. By default ``null``, ``n/a``, empty cells and NaN; and -1 in a column ``frame``. A
        row is blank where all of its stimulus columns are.
    blanks : {"keep", "drop"}
        Blank rows are named ``"blank"``, or left out.
    source : str
        For the messages.

    Returns
    -------
    (DataFrame, dict)
        The dict says how many rows were blank and what was done: ``{"blanks": "keep", "n_blank": 50}``.

    Raises
    ------
    FormatError
        A column is missing; those that are there are listed.
    ParameterError
        No column was named, or the format does not fit its values.
    """
    check_choice("blanks", blanks, ("keep", "drop"), owner="open_responses")
    if not len(table):
        raise FormatError(f"{source} has no rows. Expected at least one presentation.")
    if stimulus_column is None:
        raise ParameterError(
            f"{source} needs `stimulus_column=`: no column is known to name the stimulus. Its columns are {preview(table.columns, 30)}."
        )
    columns = [stimulus_column] if isinstance(stimulus_column, str) else list(stimulus_column)
    require_columns(table, columns, source)
    if stimulus_format is None and len(columns) > 1:
        raise ParameterError(
            f"{source} got {len(columns)} stimulus columns and no `stimulus_format=`. Expected how they make one name, such as "
            f"{'/'.join(f'{{{name}}}' for name in columns)!r}."
        )
    cells = {name: table[name].to_numpy(object) for name in columns}
    empty = {name: _is_blank(values, name, blank) for name, values in cells.items()}
    is_blank = np.logical_and.reduce(list(empty.values()))
    plain = {name: _plain(values, empty[name]) for name, values in cells.items()}
    ids = np.full(len(table), BLANK, dtype=object)
    for row in np.flatnonzero(~is_blank):
        ids[row] = _named(stimulus_format or "{}", {name: values[row] for name, values in plain.items()}, row, source)
    named = table.drop(columns="stimulus_id", errors="ignore").assign(stimulus_id=ids)
    kept = named if blanks == "keep" else named[~is_blank].reset_index(drop=True)
    if not len(kept):
        raise FormatError(
            f"{source}: all {len(table)} rows are blank in {preview(columns)}. Expected stimuli: keep blanks, or name other columns."
        )
    return kept, {"blanks": blanks, "n_blank": int(is_blank.sum())}


def timed(table: pd.DataFrame, *, start: str, stop: str | None, source: str) -> pd.DataFrame:
    """Return a table with ``onset_s`` and ``duration_s`` in place of its start and stop, in the order of time.

    Parameters
    ----------
    table : DataFrame
    start : str
        Column of onsets, in seconds.
    stop : str, optional
        Column of ends, where there are any.
    source : str
        For the messages.

    Returns
    -------
    DataFrame

    Raises
    ------
    FormatError
        A column is missing or holds no numbers, an onset is missing, or an interval ends before it starts.
    """
    names = [start] if stop is None else [start, stop]
    require_columns(table, names, source)
    try:
        seconds = table[names].to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise FormatError(f"{source} has times in {preview(names)} that are no numbers ({error}). Expected seconds.") from error
    missing = np.flatnonzero(~np.isfinite(seconds[:, 0]))
    if missing.size:
        raise FormatError(f"{source} has no {start!r} in rows {preview(missing)}. Expected seconds in every row.")
    out = table.drop(columns=[*names, "onset_s", "duration_s"], errors="ignore").assign(onset_s=seconds[:, 0])
    if stop is not None:
        late = np.flatnonzero(seconds[:, 1] < seconds[:, 0])
        if late.size:
            row = late[0]
            raise FormatError(
                f"{source} ends before it starts in row {row}: {start!r} is {seconds[row, 0]:g} s and {stop!r} {seconds[row, 1]:g} s. "
                "Expected intervals in seconds: mend the row."
            )
        out = out.assign(duration_s=seconds[:, 1] - seconds[:, 0])
    return out.sort_values("onset_s", kind="stable").reset_index(drop=True)


def _is_blank(values: np.ndarray, name: str, blank: Sequence[Any] | None) -> np.ndarray:
    if blank is not None:
        return np.array([_says_nothing(value) or any(_same(value, item) for item in blank) for value in values], dtype=bool)
    index = name == "frame"  # Allen's tables count the images of a movie or set from 0; -1 is the grey screen between them
    return np.array([_says_nothing(value) or (index and _same(value, -1)) for value in values], dtype=bool)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in _BLANK_TEXT
    return value is None or (isinstance(value, (float, np.floating)) and bool(np.isnan(value)))


def _same(value: Any, item: Any) -> bool:
    """Say whether two cells are one value; ``"-1.0"`` is -1, since columns with blanks are stored as text."""
    number = _number(value) if isinstance(value, str) and not isinstance(item, str) else value
    return bool(number == item)


def _number(text: str) -> Any:
    """Return the number that was turned into this text, or the text: ``"007"`` was none."""
    for kind in (int, float):
        try:
            if str(kind(text)) == text.strip():
                return kind(text)
        except ValueError:
            continue
    return text


def _plain(values: np.ndarray, empty: np.ndarray) -> list[Any]:
    """Return cells ready to be formatted: whole floats as integers where the whole column is."""
    cells = [_number(value) if isinstance(value, str) else value for value in values]
    found = [cell for cell, blank in zip(cells, empty, strict=True) if not blank]
    whole = all(isinstance(cell, (int, float, np.number)) and float(cell).is_integer() for cell in found)
    return [int(cell) if whole and not blank else cell for cell, blank in zip(cells, empty, strict=True)]


def _named(form: str, values: dict[str, Any], row: Any, source: str) -> str:
    try:
        return form.format(*values.values(), **values)
    except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        raise ParameterError(
            f"stimulus_format={form!r} does not fit row {row} of {source}, {values} ({error}). Expected a format of the stimulus columns, such as "
            f"{'/'.join(f'{{{name}}}' for name in values)!r}; where only some rows have these values, drop the others."
        ) from error
