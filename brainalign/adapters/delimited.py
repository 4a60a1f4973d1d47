"""Delimited text tables (csv, tsv, whitespace) read strictly: no row is filled up, no header guessed away."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.files import existing, is_path
from brainalign.core.errors import FormatError
from brainalign.core.parameters import did_you_mean, preview

MISSING = ("n/a", "N/A", "NA", "nan", "NaN", "")
_SNIFF_BYTES = 2**16


def read_table(path: Any, *, header: bool | None = None, delimiter: str | None = None) -> pd.DataFrame:
    """Read a delimited text table as strings.

    Parameters
    ----------
    path : str or Path
        UTF-8, with or without byte-order mark; leading lines that start with ``#`` are comments.
    header : bool, optional
        The first line names the columns. By default it does where one of its cells is no number.
    delimiter : str, optional
        Default: tab, comma or semicolon where the first line has one, else runs of spaces.

    Returns
    -------
    DataFrame of str
        Columns named by the header, else numbered from 0.

    Raises
    ------
    FormatError
        Not text, no rows, rows of different length, or a column name used twice.
    """
    file = existing(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{str(file)!r} is not UTF-8 text ({error.reason} at byte {error.start}). Expected a delimited table."
        ) from error
    n_comments, lines = _body(text)
    if not lines:
        raise FormatError(f"{str(file)!r} holds no rows ({n_comments} comment lines). Expected a table.")
    delimiter = delimiter or _delimiter(lines[0])
    try:
        table = pd.read_csv(
            io.StringIO("\n".join(lines)), sep=delimiter, header=None, dtype=str, keep_default_na=False, na_filter=False,
            skipinitialspace=True, index_col=False,
        )  # fmt: skip
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError) as error:
        raise FormatError(
            f"{str(file)!r} has rows of different length ({' '.join(str(error).split())}). Expected the same number of cells in every "
            "row: it may be truncated, or have another delimiter (pass `delimiter=`)."
        ) from error
    _refuse_short_rows(file, lines, delimiter, table.shape[1])
    first = [cell.strip() for cell in table.iloc[0]]
    if header is None:
        header = any(not _is_number(cell) for cell in first)
    return _with_header(file, table, first) if header else table


def numeric_columns(table: pd.DataFrame, columns: Iterable[Any], source: str) -> np.ndarray[Any, Any]:
    """Return columns of a table of strings as float64; ``n/a`` and empty cells become NaN.

    Parameters
    ----------
    table : DataFrame of str
    columns : iterable
        Names of columns that are there.
    source : str
        The file, for the message.

    Returns
    -------
    ndarray, (row, column)

    Raises
    ------
    FormatError
        A cell is no number; its row and column are named.
    """
    found = []
    for column in columns:
        cells = table[column].str.strip()
        numbers = pd.to_numeric(cells.where(~cells.isin(MISSING), "nan"), errors="coerce").to_numpy(np.float64)
        wrong = np.flatnonzero(np.isnan(numbers) & ~cells.isin(MISSING).to_numpy())
        if wrong.size:
            raise FormatError(
                f"{source!r} has {cells.iloc[wrong[0]]!r} in row {wrong[0]} of column {str(column)!r}. Expected a number: mend the "
                "cell, or leave this column out."
            )
        found.append(numbers)
    return np.stack(found, axis=1) if found else np.empty((len(table), 0))


def as_id(value: Any) -> str:
    """Return a cell as the name of a stimulus.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
        Empty where the cell is. A whole number stays one where others of its column, missing ones, made it a float.

    Examples
    --------
    >>> as_id("7a"), as_id(1234567.0), as_id(0.5), as_id(float("nan")), as_id("n/a")
    ('7a', '1234567', '0.5', '', '')
    """
    if pd.isna(value) or str(value).strip() in MISSING:
        return ""
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def plain_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of numbers and text alone, in which a cell without text is ``n/a``.

    Parameters
    ----------
    table : DataFrame

    Returns
    -------
    DataFrame

    Examples
    --------
    >>> plain_cells(pd.DataFrame({"note": ["x", None], "rt": [0.5, np.nan]})).values.tolist()
    [['x', 0.5], ['n/a', nan]]
    """
    texts = [column for column in table.columns if table[column].dtype.kind not in "iufb"]
    return table.assign(**{name: table[name].astype(object).where(table[name].notna(), MISSING[0]).astype(str) for name in texts})


def require_columns(table: pd.DataFrame, columns: Sequence[str], source: str) -> None:
    """Refuse a table that lacks a column, and list those that it has.

    Parameters
    ----------
    table : DataFrame
    columns : sequence of str
    source : str
        The file, for the message.

    Raises
    ------
    FormatError
        A column is missing.
    """
    present = [str(name) for name in table.columns]
    for column in columns:
        if column not in present:
            raise FormatError(
                f"{source!r} has no column {column!r}. Its columns are {', '.join(map(repr, present))}."
                f"{did_you_mean(column, present)} Name the right one."
            )


def read_ids(path: Any) -> list[str]:
    """Read a sidecar list of ids: one a line, nothing else.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of str

    Raises
    ------
    FormatError
        A line is empty, or the file is not text.
    """
    file = existing(path)
    try:
        lines = file.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{str(file)!r} is not UTF-8 text. Expected one id a line.") from error
    ids = [line.strip() for line in lines]
    empty = [number for number, line in enumerate(ids, 1) if not line]
    if empty:
        raise FormatError(f"{str(file)!r} has no id on line {preview(empty)}. Expected one id a line, in the order of the rows.")
    return ids


def sniff(source: Any) -> tuple[list[str] | None, np.ndarray[Any, Any]] | None:
    """Look at the start of a file: its header (None if it has none) and its first rows of numbers.

    Parameters
    ----------
    source : object
        Anything; only text tables are recognised.

    Returns
    -------
    (list of str or None, ndarray (row, column)) or None
        None where it is no delimited text. Cells that are no numbers are NaN.
    """
    if not is_path(source):
        return None
    with Path(source).open("rb") as file:
        start = file.read(_SNIFF_BYTES)
    if not start or b"\x00" in start:
        return None
    # The last line may be cut by the size of the look.
    text = start.decode("utf-8-sig", errors="replace")
    _, lines = _body(text if len(start) < _SNIFF_BYTES else text.rpartition("\n")[0])
    if not lines or "\ufffd" in text[:-4]:
        return None
    try:
        rows = [_split(line, _delimiter(lines[0])) for line in lines]
    except csv.Error:
        return None
    if len(rows) > 2 and len(rows[-1]) < len(rows[0]):
        del rows[-1]  # a table that was cut is one still: its reader names the row
    if len({len(row) for row in rows}) != 1:
        return None
    named = any(not _is_number(cell) for cell in rows[0])
    body = rows[1:] if named else rows
    numbers = np.array([[float(c) if _is_number(c) and c not in MISSING else np.nan for c in row] for row in body], dtype=float)
    return ([cell.strip() for cell in rows[0]] if named else None), numbers.reshape(len(body), len(rows[0]))


def _body(text: str) -> tuple[int, list[str]]:
    """Return how many leading comment lines there are, and the lines after them that are not blank."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    return start, [line for line in lines[start:] if line.strip()]


def _delimiter(line: str) -> str:
    return next((mark for mark in ("\t", ",", ";") if mark in line.strip()), r"\s+")


def _split(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == r"\s+" else next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() in MISSING
    return True


def _refuse_short_rows(file: Path, lines: list[str], delimiter: str, width: int) -> None:
    # pandas fills short rows up; a truncated file must not pass for one with missing values.
    if len(delimiter) > 1 and delimiter != r"\s+":
        return
    quoted = any('"' in line for line in lines)
    counts: Iterable[int]
    if quoted:
        counts = (
            len(row) for row in csv.reader(lines, delimiter=" " if delimiter == r"\s+" else delimiter, skipinitialspace=True)
        )
    elif delimiter == r"\s+":
        counts = (len(line.split()) for line in lines)
    else:
        counts = (line.count(delimiter) + 1 for line in lines)
    for number, count in enumerate(counts):
        if count != width:
            raise FormatError(
                f"{str(file)!r} has {count} cells in row {number} ({lines[number][:60]!r}). Expected {width} as in the others: it may be "
                "truncated, or have another delimiter (pass `delimiter=`)."
            )


def _with_header(file: Path, table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice or "" in names:
        what = f"names the column {twice[0]!r} twice" if twice else f"has no name for column {names.index('')}"
        raise FormatError(f"{str(file)!r} {what}. Expected one name for each column: rename it in the file.")
    if len(table) == 1:
        raise FormatError(f"{str(file)!r} holds a header ({', '.join(names[:5])}) and no rows. Expected at least one row.")
    return table.iloc[1:].reset_index(drop=True).set_axis(names, axis=1)
