"""Transcripts with times: Praat TextGrid (long and short text), NIST CTM, and word tables with named columns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns
from brainalign.adapters.files import existing
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview

_TOLERANCE_S = 1e-3

# A quoted string ("" stands for a quote), a comment, a flag, or any other word.
_TOKEN = re.compile(r'"(?:[^"]|"")*"|![^\n]*|<[^<>\s]*>|[^\s"]+')


def read_textgrid(path: str | Path, *, tier: str | None = None) -> pd.DataFrame:
    """Read one tier of a TextGrid, in Praat's long or short text format.

    Parameters
    ----------
    path : str or Path
        UTF-8, or UTF-16 with a byte-order mark.
    tier : str, optional
        Name of the tier; not needed where there is one.

    Returns
    -------
    DataFrame
        ``text``, ``onset_s``, ``duration_s`` of every interval, empty ones too; points have duration 0.

    Raises
    ------
    FormatError
        No TextGrid, a truncated one, one without the tier, or with an interval past the end that it states.
    """
    file = existing(path)
    tiers = _tiers(_Tokens(file, _decode(file)))
    names = [name for name, _ in tiers]
    if tier is None and len(tiers) == 1:
        tier = names[0]
    if names.count(tier) != 1:
        raise FormatError(
            f"{str(file)!r} has {names.count(tier)} tiers named {tier!r}. Its {len(names)} tiers are {preview(names, 20)}. Name one with "
            f"`tier=`.{did_you_mean(tier, names)}"
        )
    rows = next(rows for name, rows in tiers if name == tier)
    if not rows:
        raise FormatError(f"{str(file)!r} has nothing in tier {tier!r}. Expected at least one interval: name another tier.")
    return _checked(pd.DataFrame(rows, columns=["onset_s", "end_s", "text"]), str(file))


def read_ctm(path: str | Path, *, recording: str | None = None) -> pd.DataFrame:
    """Read a CTM file: a word a line, as ``recording channel onset duration word [confidence]``.

    Parameters
    ----------
    path : str or Path
        Lines that start with ``;;`` are comments.
    recording : str, optional
        Which recording; not needed where there is one.

    Returns
    -------
    DataFrame
        ``text``, ``onset_s``, ``duration_s``.

    Raises
    ------
    FormatError
        A line of another shape, or several recordings and none named.
    """
    file = existing(path)
    rows = []
    for number, line in enumerate(_decode(file).splitlines(), 1):
        cells = line.split()
        if not cells or line.startswith(";;"):
            continue
        if len(cells) not in (5, 6) or not (_is_number(cells[2]) and _is_number(cells[3])):
            raise FormatError(
                f"{str(file)!r} has {line.strip()!r} on line {number}. Expected 'recording channel onset duration word [confidence]' with "
                "seconds: mend the line, or read the file as a table with `columns=`."
            )
        rows.append((cells[0], float(cells[2]), float(cells[3]), cells[4]))
    table = pd.DataFrame(rows, columns=["recording", "onset_s", "duration_s", "text"])
    found = table["recording"].unique().tolist()
    if recording is None and len(found) == 1:
        recording = found[0]
    if recording not in found:
        raise FormatError(
            f"{str(file)!r} has no recording {recording!r}. Its {len(found)} recordings are {preview(found, 20)}. Name one with `tier=`."
            f"{did_you_mean(recording, found)}"
        )
    table = table[table["recording"] == recording].reset_index(drop=True)
    return _checked(table.assign(end_s=table["onset_s"] + table["duration_s"]), str(file))


def read_word_table(path: str | Path, *, columns: Mapping[str, str], delimiter: str | None = None) -> pd.DataFrame:
    """Read a table of words, such as a TSV or CSV file.

    Parameters
    ----------
    path : str or Path
        With a header line.
    columns : mapping of str to str
        Which column is ``text``, which is ``onset_s``, and which is ``duration_s`` or ``end_s``; all in seconds.
    delimiter : str, optional
        Default: told from the first line.

    Returns
    -------
    DataFrame
        ``text``, ``onset_s``, ``duration_s``.

    Raises
    ------
    ParameterError
        ``columns`` does not name them.
    FormatError
        A column is missing, or a time is no number.
    """
    wanted = [{"text", "onset_s", "duration_s"}, {"text", "onset_s", "end_s"}]
    if set(columns) not in wanted:
        raise ParameterError(
            f"columns={dict(columns)!r} names {preview(sorted(columns))}. Expected text, onset_s and either duration_s or end_s, such as "
            "columns={'text': 'word', 'onset_s': 'start', 'end_s': 'end'}."
        )
    file = existing(path)
    table = read_table(file, header=True, delimiter=delimiter)
    require_columns(table, list(columns.values()), str(file))
    last = "end_s" if "end_s" in columns else "duration_s"
    times = numeric_columns(table, [columns["onset_s"], columns[last]], str(file))
    missing = np.flatnonzero(~np.isfinite(times).all(axis=1))
    if missing.size:
        raise FormatError(
            f"{str(file)!r} has {missing.size} words without a time, first row {missing[0]}. Expected seconds for each: remove these rows."
        )
    ends = times[:, 1] if last == "end_s" else times.sum(axis=1)
    return _checked(pd.DataFrame({"text": table[columns["text"]], "onset_s": times[:, 0], "end_s": ends}), str(file))


def refuse_overlap(words: pd.DataFrame, source: str) -> None:
    """Refuse words that start before the one before them has ended.

    Parameters
    ----------
    words : DataFrame
        ``text``, ``onset_s``, ``duration_s``, in the order of time.
    source : str
        The file, for the message.

    Raises
    ------
    FormatError
        Two words overlap by more than a millisecond; both are named.
    """
    onset, end = words["onset_s"].to_numpy(), (words["onset_s"] + words["duration_s"]).to_numpy()
    early = np.flatnonzero(onset[1:] < end[:-1] - _TOLERANCE_S)
    if early.size:
        row = early[0]
        raise FormatError(
            f"{source!r} has {early.size} words that start before the last one ended, first {words['text'].iloc[row + 1]!r} at "
            f"{onset[row + 1]:g} s while {words['text'].iloc[row]!r} lasts to {end[row]:g} s. Expected one speaker, word after word: mend the "
            "times, read one speaker at a time, or pass allow_overlap=True."
        )


def _checked(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the three columns; words must come in the order of time and not end before they start."""
    onset, end = table["onset_s"].to_numpy(np.float64), table["end_s"].to_numpy(np.float64)
    wrong = np.flatnonzero(~(end >= onset))
    if wrong.size:
        row = wrong[0]
        raise FormatError(
            f"{source!r}: row {row} lasts from {onset[row]:g} to {end[row]:g} s. Expected an end after its start: mend it."
        )
    back = np.flatnonzero(np.diff(onset) < 0)
    if back.size:
        row = back[0]
        raise FormatError(
            f"{source!r}: {onset[row]:g} s in row {row} is followed by {onset[row + 1]:g} s. Expected words in the order of time: sort the "
            "rows, or split the runs into files."
        )
    # Durations come from the file where it has them: end - onset would not give them back exactly.
    duration = table["duration_s"].to_numpy(np.float64) if "duration_s" in table else end - onset
    return pd.DataFrame({"text": table["text"].astype(object), "onset_s": onset, "duration_s": duration})


def _decode(file: Path) -> str:
    data = file.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{str(file)!r} is not {encoding.removesuffix('-sig').upper()} text ({error.reason} at byte {error.start}). Expected a text file: save it as UTF-8 "
            "(Praat: 'Save as text file')."
        ) from error


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


class _Tokens:
    """The free-standing numbers, strings and flags of a TextGrid; all else (``xmin =``, ``intervals [3]:``) is decoration.

    Short and long files hold the same tokens in the same order, so one reader serves both.
    """

    def __init__(self, file: Path, text: str) -> None:
        self.file, self.position = file, 0
        self.items = [token for token in _TOKEN.findall(text) if token[0] in '"<' or _is_number(token)]

    def take(self, kind: str) -> Any:
        """Return the next token, which must be a ``"string"``, ``"number"`` or ``"flag"``."""
        token = self.items[self.position] if self.position < len(self.items) else None
        self.position += 1
        if token is not None and kind == "string" and token[0] == '"' and len(token) > 1:
            return token[1:-1].replace('""', '"')
        if token is not None and kind == "number" and token[0] not in '"<':
            return float(token)
        if token is not None and kind == "flag" and token[0] == "<":
            return token
        found = "the file ends" if token is None else f"there is {token[:40]}"
        raise FormatError(
            f"{str(self.file)!r} is no whole TextGrid: a {kind} is due at value {self.position} and {found}. Expected Praat's text format: "
            "the file may be truncated; save it again with Praat's 'Save as text file'."
        )


def _tiers(tokens: _Tokens) -> list[tuple[str, list[tuple[float, float, str]]]]:
    """Return the name and the (onset, end, text) rows of each tier."""
    header = [tokens.take("string"), tokens.take("string")]
    if not header[0].startswith("ooTextFile") or header[1] != "TextGrid":
        raise FormatError(
            f"{str(tokens.file)!r} starts with {header}. Expected a TextGrid ('ooTextFile', 'TextGrid'): look at the path."
        )
    tokens.take("number"), tokens.take("number")
    if tokens.take("flag") != "<exists>":
        raise FormatError(f"{str(tokens.file)!r} has no tiers. Expected at least one: annotate it first.")
    return [_tier(tokens) for _ in range(int(tokens.take("number")))]


def _tier(tokens: _Tokens) -> tuple[str, list[tuple[float, float, str]]]:
    kind, name = tokens.take("string"), tokens.take("string")
    tokens.take("number")
    end = tokens.take("number")
    n_rows = int(tokens.take("number"))
    if kind not in ("IntervalTier", "TextTier"):
        raise FormatError(
            f"{str(tokens.file)!r} has a tier of class {kind!r}. Expected 'IntervalTier' or 'TextTier': remove that tier."
        )
    rows = []
    for _ in range(n_rows):
        onset = tokens.take("number")
        rows.append((onset, tokens.take("number") if kind == "IntervalTier" else onset, tokens.take("string")))
    late = next((row for row in rows if row[1] > end + _TOLERANCE_S), None)
    if late is not None:
        raise FormatError(
            f"{str(tokens.file)!r} has {late[2]!r} from {late[0]:g} to {late[1]:g} s in tier {name!r}, which ends at {end:g} s. Expected "
            "intervals within it: mend the times, or the end of the tier."
        )
    return name, rows
