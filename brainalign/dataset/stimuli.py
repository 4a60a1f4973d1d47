"""Stimulus tables: what was shown, when, and where its content lies (``ba.stimuli``).

A table is a plain ``xarray.Dataset`` along ``presentation`` with the content as one of ``text``, ``path`` or ``values``;
see :mod:`brainalign.core.tables`. The coordinate ``sha256`` names the content itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.bids.events import MISSING, read_events
from brainalign.adapters.stimuli.folders import SUFFIXES
from brainalign.core.errors import AlignmentError, FormatError, ParameterError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import PRESENTATION_COORDS, dim_of
from brainalign.core.tables import KINDS, presentation_table, validate_stimuli
from brainalign.dataset.repeats import group_rows, is_constant
from brainalign.dataset.stimulus_archives import from_stack, from_tars
from brainalign.dataset.stimulus_files import from_film, from_images, from_sounds
from brainalign.dataset.stimulus_sets import from_stimulus_set, from_words_per_tr
from brainalign.dataset.stimulus_table import RESERVED, build, hashed, known_coords
from brainalign.dataset.stimulus_texts import from_table, from_transcript

__all__ = [
    "from_bids", "from_film", "from_images", "from_sounds", "from_stack", "from_stimulus_set", "from_table", "from_tars", "from_transcript",
    "from_words_per_tr", "hashed", "of", "table",
]  # fmt: skip


def table(
    content: Any,
    *,
    stimulus_id: Any,
    kind: str,
    dims: Sequence[str] | None = None,
    root: str | os.PathLike[str] | None = None,
    presentation: pd.DataFrame | Mapping[str, Any] | None = None,
    **coords: Any,
) -> xr.Dataset:
    """Build a stimulus table from texts, files or arrays.

    Parameters
    ----------
    content : sequence of str, sequence of path, or array_like (presentation, ...)
        Texts for the kinds ``"text"`` and ``"word"``; files or arrays for ``"image"`` and ``"audio"``; an array of numbers
        for ``"array"``.
    stimulus_id : sequence of str, (presentation,)
        A stimulus that is presented again is one more row with the same id and content.
    kind : {"text", "word", "image", "audio", "array"}
    dims : sequence of str, optional
        Names of the dims of one array, e.g. ``("channel", "y", "x")``.
    root : path, optional
        Folder that holds all files; paths are relative to it. Default: the folder that they have in common.
    presentation : DataFrame or mapping, optional
        Further coordinates, a column each.
    **coords
        Presentation coordinates of the schema by name (``onset_s``, ``duration_s``, ``run``, ``session``, ``condition``);
        a scalar holds for all.

    Returns
    -------
    Dataset, (presentation,)
        With ``sha256`` of each text, file or array.

    Raises
    ------
    ParameterError
        Content of another kind, a coordinate of unknown name or wrong length.
    SchemaError
        Ids that are missing, or stand for two contents.
    FormatError
        A file that is missing, or outside ``root``.

    Examples
    --------
    >>> import brainalign as ba
    >>> words = ba.stimuli.table(["the", "cat"], stimulus_id=["w0", "w1"], kind="word", onset_s=[0.1, 0.4], run="1")
    >>> words.text.values.tolist(), words.run.values.tolist()
    (['the', 'cat'], ['1', '1'])
    """
    columns = {str(name): presentation[name] for name in presentation} if presentation is not None else {}
    made = build(content, stimulus_id, kind, dims, root, {**columns, **known_coords(coords)})
    return write_step(made, "stimuli.table", params={"kind": kind})


def from_bids(
    root: str | os.PathLike[str],
    *,
    subject: str,
    task: str,
    stimulus_column: str,
    session: str | None = None,
    datatype: str | None = None,
    kind: str | None = None,
    condition_column: str | None = None,
    **entities: str,
) -> xr.Dataset:
    r"""Build a stimulus table from the events files of one person and task in a BIDS folder.

    Parameters
    ----------
    root : path
        Folder of the data set.
    subject, task, session : str
        BIDS labels, with or without ``sub-``, ``task-``, ``ses-``; without ``session`` all of them.
    stimulus_column : str
        Column that names the stimulus; its values become ``stimulus_id``. Events without one (``n/a``) are left out and
        counted in the attr ``report``.
    datatype : str, optional
        ``"func"``, ``"meg"`` ..., where there are several.
    kind : {"text", "word", "image", "audio"}, optional
        What the column holds: texts, or files below ``stimuli/``. Default: told from the file suffixes, else text.
    condition_column : str, optional
        Column to use as ``condition``.
    **entities : str
        Further parts of the file names, e.g. ``run="01"``; ``past_end="keep"`` accepts events after the last volume.

    Returns
    -------
    Dataset, (presentation,)
        ``onset_s``, ``duration_s``, ``subject``, ``session``, ``run`` and every other column of the files under its own name
        (with ``bids_`` in front where the name is taken). ``sha256`` is empty where a file is not there.

    Raises
    ------
    FormatError
        No such person, task or column (those that there are get listed), or a damaged table.
    ParameterError
        Stimulus files of unknown kind.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp()) / "sub-01" / "func"
    >>> folder.mkdir(parents=True)
    >>> _ = (folder / "sub-01_task-faces_run-1_events.tsv").write_text("onset\tduration\tface\n0.5\t1\tann\n2.5\t1\tbob\n")
    >>> ba.stimuli.from_bids(folder.parents[1], subject="01", task="faces", stimulus_column="face").onset_s.values.tolist()
    [0.5, 2.5]
    """
    wanted = {"stimulus_column": stimulus_column, "condition_column": condition_column, "session": session, "datatype": datatype}
    events = read_events(root, subject=subject, task=task, **wanted, **entities)
    names = events[stimulus_column].astype(object)
    shown = names.notna() & (names.astype(str) != MISSING)
    report = {"files": list(dict.fromkeys(events["file"])), "n_events": len(events), "n_without_stimulus": int((~shown).sum())}
    if not shown.any():
        raise FormatError(
            f"no event of {report['files']} has a value in {stimulus_column!r}. Expected the name of a stimulus: name another of the columns "
            f"{', '.join(map(repr, events.columns))}."
        )
    events, ids = events[shown.to_numpy()], names[shown].astype(str).tolist()
    kind = _kind_of(ids, stimulus_column) if kind is None else check_choice("kind", kind, KINDS[:-1], owner="from_bids")
    columns = _event_columns(events, stimulus_column, condition_column)
    folder = None if kind in ("text", "word") else Path(root) / "stimuli"
    made = build(ids, ids, kind, None, folder, columns, must_exist=False).assign_attrs(report=json.dumps(report))
    params = {
        "subject": subject,
        "task": task,
        "session": session,
        "datatype": datatype,
        "stimulus_column": stimulus_column,
        **entities,
    }
    return write_step(made, "stimuli.from_bids", params=params)


def of(responses: xr.DataArray, content: xr.Dataset | str | os.PathLike[str] | None = None) -> xr.Dataset:
    """Return the stimuli of a recording, each once, in the order in which they first appear.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    content : Dataset or path, optional
        A stimulus table, or a study that holds one. Default: the study that the responses were opened from.

    Returns
    -------
    Dataset, (presentation,)
        One row a stimulus; of the table's coordinates those that are the same in all its presentations.

    Raises
    ------
    AlignmentError
        A stimulus that the table does not hold, or no table.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=8, random_state=0)
    >>> ba.stimuli.of(study.brain, study.stimuli).sizes["presentation"]
    8
    """
    wanted = pd.unique(responses.coords["stimulus_id"].values.astype(object))
    candidates = [content] if isinstance(content, xr.Dataset) else _tables_beside(responses, content)
    for stimuli in candidates:
        validate_stimuli(stimuli)
    known = [pd.Index(stimuli.coords["stimulus_id"].values.astype(object)) for stimuli in candidates]
    lacking = [wanted[~pd.Index(wanted).isin(index)] for index in known]
    best = int(np.argmin([len(ids) for ids in lacking]))
    if len(lacking[best]):
        raise AlignmentError(
            f"the stimulus table lacks {len(lacking[best])} of {len(wanted)} stimulus_id values of the responses, first "
            f"{lacking[best][0]!r} (it starts {known[best][0]!r}). Expected the content of every stimulus: pass the table that was shown as "
            "`content=`, or rename its ids."
        )
    stimuli = candidates[best]
    codes, first = group_rows(presentation_table(stimuli), ("stimulus_id",), owner="stimuli.of")
    varying = [
        name for name, c in stimuli.coords.items() if c.dims == ("presentation",) and not is_constant(c.values, codes, first)
    ]
    rows = first[pd.Index(known[best][first]).get_indexer(wanted)]
    return write_step(stimuli.drop_vars(varying).isel(presentation=rows), "stimuli.of", inputs={"stimuli": stimuli})


def _tables_beside(responses: xr.DataArray, study: Any) -> list[xr.Dataset]:
    """Return the stimulus tables of a study: the one named, or the one that the responses come from."""
    from brainalign.dataset.open import open_study

    source = responses.encoding.get("source")
    if study is None and source is None:
        raise AlignmentError(
            "these responses were not opened from a study, so there is no stimulus table beside them. Expected one: pass `content=`, a "
            "table or the path of a study."
        )
    folder = Path(source).parents[1] if study is None else Path(study)
    tables = [node.to_dataset() for node in open_study(folder)["stimuli"].children.values()]
    if not tables:
        raise AlignmentError(
            f"the study {str(folder)!r} holds no stimuli. Expected a table: `ba.save(stimuli, path)`, or pass `content=`."
        )
    return tables


def _kind_of(names: list[str], column: str) -> str:
    """Tell files from texts: by suffix, and by the column that BIDS keeps for files."""
    suffixes = {Path(name).suffix.lower() for name in names}
    for kind, known in SUFFIXES.items():
        if suffixes <= set(known):
            return kind
    if column == "stim_file":
        raise ParameterError(
            f"the files in 'stim_file' have the suffixes {preview(sorted(suffixes))}, first {names[0]!r}. Expected images or sounds of one kind: "
            "name it with `kind=`, or use another column."
        )
    return "text"


def _event_columns(events: pd.DataFrame, stimulus_column: str, condition_column: str | None) -> dict[str, Any]:
    columns: dict[str, Any] = {"onset_s": events["onset"].to_numpy(), "duration_s": events["duration"].to_numpy()}
    columns |= {name: events[name].to_numpy() for name in ("subject", "session", "run") if name in events}
    if condition_column is not None:
        columns["condition"] = events[condition_column].to_numpy()
    taken = {*columns, *PRESENTATION_COORDS, *RESERVED}
    for name in events.columns:
        if name not in ("onset", "duration", "subject", "session", "run", "file", stimulus_column):
            columns[f"bids_{name}" if name in taken or dim_of(name) else str(name)] = events[name].to_numpy()
    return columns
