"""Stimulus tables from texts: lists of sentences, and transcripts with times."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns
from brainalign.adapters.stimuli.transcripts import read_ctm, read_textgrid, read_word_table, refuse_overlap
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.provenance import write_step
from brainalign.dataset.stimulus_table import build, known_coords

SILENCE = ("sp", "", "sil")


def from_table(
    path: str | os.PathLike[str],
    *,
    text_column: str | Sequence[str],
    id_column: str | Sequence[str] | None = None,
    condition_column: str | None = None,
    join: str | None = None,
    name: str | None = None,
    columns: Mapping[str, str] | None = None,
    delimiter: str | None = None,
) -> xr.Dataset:
    r"""Build a stimulus table from a list of texts: a CSV or TSV file with a header.

    Parameters
    ----------
    path : path
        UTF-8, with or without byte-order mark.
    text_column : str or sequence of str
        The column that holds the text, or those that hold its words; then ``join`` must say how they are put together.
    id_column : str or sequence of str, optional
        The column whose values become ``stimulus_id``, as they are; of several columns joined by ``/``, where items are counted
        within a condition. Default: ``<name>/00000`` by position, from 0.
    condition_column : str, optional
        Column to use as ``condition``.
    join : str, optional
        What stands between the words of several columns, such as ``" "``; empty cells are left out.
    name : str, optional
        What the texts belong to; put in front of the ids: ``<name>/<id>``. By default ids of a column stand alone, and those by
        position follow the file name without its suffix.
    columns : mapping of str to str, optional
        Further presentation coordinates, and the columns that hold them: ``{"run": "Run", "onset_s": "Onset"}``.
    delimiter : str, optional
        Default: told from the first line.

    Returns
    -------
    Dataset, (presentation,), of kind "text"

    Raises
    ------
    FormatError
        A column that is not there (those that are get listed), a row without text, rows of different length.
    ParameterError
        Several columns without ``join``, or an unknown coordinate.
    SchemaError
        One id with two texts.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "items.csv"
    >>> _ = file.write_text("item,w1,w2,type\n1,THE,CAT,S\n2,FLORP,DAX,N\n")
    >>> x = ba.stimuli.from_table(file, text_column=["w1", "w2"], join=" ", id_column="item", condition_column="type", name="set1")
    >>> x.stimulus_id.values.tolist(), x.text.values.tolist(), x.condition.values.tolist()
    (['set1/1', 'set1/2'], ['THE CAT', 'FLORP DAX'], ['S', 'N'])
    """
    several = not isinstance(text_column, str)
    words = list(text_column) if several else [text_column]
    if several != (join is not None) or not words:
        raise ParameterError(
            f"from_table got text_column={text_column!r} and join={join!r}. Expected one column, or several and what stands between their "
            "words, such as join=' '."
        )
    named = [id_column] if isinstance(id_column, str) else list(id_column or [])
    source = str(path)
    rows = read_table(path, header=True, delimiter=delimiter)
    wanted = {"condition": condition_column, **(columns or {})}
    wanted = {coord: column for coord, column in wanted.items() if column is not None}
    require_columns(rows, [*words, *named, *wanted.values()], source)
    cells = [[cell for cell in row if cell] for row in rows[words].map(str.strip).itertuples(index=False)]
    empty = next((row for row, own in enumerate(cells) if not own), None)
    if empty is not None:
        raise FormatError(f"{source!r} has no text in row {empty} of {words}. Expected a text in each: remove the row.")
    ids = (
        ["/".join(map(str.strip, row)) for row in rows[named].itertuples(index=False)]
        if named
        else [f"{i:05d}" for i in range(len(rows))]
    )
    prefix = name if name is not None or named else Path(path).stem
    coords = {coord: _cells(rows, coord, column, source) for coord, column in wanted.items()}
    made = build(
        [(join or "").join(own) for own in cells], [i if prefix is None else f"{prefix}/{i}" for i in ids], "text", None, None,
        known_coords(coords),
    )  # fmt: skip
    params = {
        "file": Path(path).name,
        "text_column": text_column,
        "id_column": id_column,
        "join": join,
        "name": name,
        "columns": wanted,
    }
    return write_step(made, "stimuli.from_table", params=params)


def _cells(rows: pd.DataFrame, coord: str, column: str, source: str) -> Any:
    """Return a column as times in seconds, or as labels."""
    if coord in ("onset_s", "duration_s"):
        return numeric_columns(rows, [column], source)[:, 0]
    return rows[column].str.strip().to_numpy()


def from_transcript(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    name: str | None = None,
    run: str = "1",
    tier: str | None = None,
    columns: Mapping[str, str] | None = None,
    drop: Sequence[str] = SILENCE,
    offset_s: float = 0.0,
    allow_overlap: bool = False,
) -> xr.Dataset:
    r"""Build a table of words with their times from a transcript.

    Parameters
    ----------
    path : path
        A Praat TextGrid (long or short text format), a CTM file, or a table (TSV, CSV) with a header.
    format : {"textgrid", "ctm", "table"}, optional
        Default: told from the suffix.
    name : str, optional
        What the words belong to; default the file name without its suffix. Ids are ``<name>/w<position in the file>``, so a
        word has the same id whatever is dropped.
    run : str
        The run of the recording in which the words were heard.
    tier : str, optional
        Tier of a TextGrid, or recording of a CTM file, where there are several.
    columns : mapping of str to str, optional
        For a table: which column is ``text``, ``onset_s``, and ``duration_s`` or ``end_s``.
    drop : sequence of str
        Labels that are no words.
    offset_s : float
        Added to every onset: -20 where the file counts from 20 s before the first volume.
    allow_overlap : bool
        Words may start before the last one has ended, as those of several speakers do.

    Returns
    -------
    Dataset, (presentation,), of kind "word"
        ``text`` (without spaces around it), ``onset_s``, ``duration_s``, ``run``.

    Raises
    ------
    FormatError
        A damaged file, one without the tier or column, or words that overlap.
    ParameterError
        A format that the suffix does not tell, or a table without ``columns``.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "story.ctm"
    >>> _ = file.write_text("story 1 0.50 0.20 the\nstory 1 0.70 0.30 cat\n")
    >>> words = ba.stimuli.from_transcript(file, offset_s=-0.5)
    >>> words.stimulus_id.values.tolist(), words.onset_s.values.round(2).tolist()
    (['story/w00000', 'story/w00001'], [0.0, 0.2])
    """
    shift = check_number("offset_s", offset_s, owner="from_transcript")
    words = _read_transcript(Path(path), format, tier, columns)
    text = words["text"].str.strip()
    kept = (~text.isin(list(drop))).to_numpy()
    if not kept.any():
        raise FormatError(
            f"{str(path)!r} has no word: its {len(words)} labels are all in drop={tuple(drop)!r}. Expected words: name another tier or column."
        )
    if not allow_overlap:
        refuse_overlap(words[kept], Path(path).name)
    story = Path(path).stem if name is None else name
    times = {"onset_s": words["onset_s"].to_numpy()[kept] + shift, "duration_s": words["duration_s"].to_numpy()[kept]}
    ids = [f"{story}/w{position:05d}" for position in np.flatnonzero(kept)]
    made = build(text[kept].tolist(), ids, "word", None, None, {**times, "run": str(run)})
    params = {
        "file": Path(path).name,
        "tier": tier,
        "run": run,
        "drop": list(drop),
        "offset_s": shift,
        "n_dropped": int((~kept).sum()),
    }
    return write_step(made, "stimuli.from_transcript", params=params)


def _read_transcript(path: Path, format: str | None, tier: str | None, columns: Mapping[str, str] | None) -> pd.DataFrame:
    suffixes = {".textgrid": "textgrid", ".ctm": "ctm", ".tsv": "table", ".csv": "table"}
    chosen = format or suffixes.get(path.suffix.lower(), f"suffix {path.suffix!r}")
    check_choice("format", chosen, tuple(dict.fromkeys(suffixes.values())), owner="from_transcript")
    if (columns is not None) != (chosen == "table"):
        raise ParameterError(
            f"from_transcript got columns={columns!r} for {path.name!r}, read as {chosen}. Expected columns={{'text': ..., 'onset_s': ..., "
            "'end_s': ...} for a table, and none for other formats."
        )
    if chosen == "table" and tier is not None:
        raise ParameterError(f"from_transcript got tier={tier!r} for a table, which has none. Leave it out.")
    if chosen == "textgrid":
        return read_textgrid(path, tier=tier)
    return read_ctm(path, recording=tier) if chosen == "ctm" else read_word_table(path, columns=columns or {})
