"""Stimulus tables that data sets publish beside their recordings: packaged image sets, words by volume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import read_table, require_columns
from brainalign.adapters.fmri.algonauts import read_words_per_tr
from brainalign.adapters.stimuli.folders import SUFFIXES
from brainalign.core.errors import FormatError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import PRESENTATION_COORDS, dim_of
from brainalign.dataset.stimulus_table import RESERVED, build


def from_stimulus_set(
    path: str | os.PathLike[str], *, folder: str | os.PathLike[str] | None = None, kind: str | None = None
) -> xr.Dataset:
    r"""Build a stimulus table from the csv of a Brain-Score (BrainIO) stimulus set.

    Parameters
    ----------
    path : path
        A table with ``stimulus_id`` (``image_id`` in older ones) and ``filename``.
    folder : path, optional
        Where the files lie, unpacked. Default: beside the table. No name may lead out of it.
    kind : {"image", "audio"}, optional
        Default: told from the suffixes.

    Returns
    -------
    Dataset, (presentation,)
        ``path`` below the attr ``root``; every other column under its own name (with ``set_`` in front where the name is taken).
        ``sha256`` is empty where a file is not there.

    Raises
    ------
    FormatError
        A column that is not there, or a file that lies outside the folder.
    ParameterError
        Files of unknown kind.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "stimulus_faces.csv"
    >>> _ = file.write_text("stimulus_id,filename,view\nf1,f1.png,left\nf2,f2.png,right\n")
    >>> faces = ba.stimuli.from_stimulus_set(file)
    >>> faces.stimulus_id.values.tolist(), faces["path"].values.tolist(), faces["view"].values.tolist()
    (['f1', 'f2'], ['f1.png', 'f2.png'], ['left', 'right'])
    """
    file = Path(path)
    table = read_table(file, header=True, delimiter=",").map(str.strip)
    identity = "image_id" if "stimulus_id" not in table and "image_id" in table else "stimulus_id"
    require_columns(table, [identity, "filename"], str(file))
    names = table["filename"].tolist()
    suffixes = {Path(name).suffix.lower() for name in names}
    told = kind or next(
        (known for known, own in SUFFIXES.items() if suffixes <= set(own)), f"suffixes {preview(sorted(suffixes))}"
    )
    check_choice("kind", told, tuple(SUFFIXES), owner="from_stimulus_set")
    taken = {*PRESENTATION_COORDS, *RESERVED}
    columns: dict[str, Any] = {}
    for name in table.columns.drop([identity, "filename"]):
        own = f"set_{name}" if name in taken or dim_of(name) else str(name)
        numbers = pd.to_numeric(table[name], errors="coerce")
        columns[own] = table[name].to_numpy(object) if numbers.isna().any() else numbers.to_numpy()
    made = build(names, table[identity].tolist(), told, None, folder or file.parent, columns, must_exist=False)
    return write_step(made, "stimuli.from_stimulus_set", params={"file": file.name, "kind": told})


def from_words_per_tr(
    path: str | os.PathLike[str], *, name: str | None = None, run: str | None = None, offset_s: float = 0.0
) -> xr.Dataset:
    r"""Build a table of words with their times from a transcript that has one row a volume, as Algonauts 2025 has them.

    Parameters
    ----------
    path : path
        A tsv whose columns ``words_per_tr``, ``onsets_per_tr`` and ``durations_per_tr`` hold lists as text.
    name : str, optional
        What the words belong to; default the file name without its suffix and without ``friends_`` or ``movie10_``, which is how the
        recordings name the film. Ids are ``<name>/w<position>``.
    run : str, optional
        The run of the recording in which they were heard. Default: ``name``.
    offset_s : float
        Added to every onset.

    Returns
    -------
    Dataset, (presentation,), of kind "word"
        ``text``, ``onset_s``, ``duration_s``, ``run``, and ``volume``, the row of the file, from 0.

    Raises
    ------
    FormatError
        A damaged file, or lists of different length in one row.

    Notes
    -----
    The transcript may have a few rows more or less than the recording has volumes: join the two by time, not by row.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> file = Path(tempfile.mkdtemp()) / "friends_s01e01a.tsv"
    >>> _ = file.write_text("words_per_tr\tonsets_per_tr\tdurations_per_tr\n['the', 'cat']\t[0.5, 0.9]\t[0.2, 0.3]\n[]\t[]\t[]\n")
    >>> words = ba.stimuli.from_words_per_tr(file)
    >>> words.stimulus_id.values.tolist(), words.onset_s.values.tolist(), words.run.values.tolist()
    (['s01e01a/w00000', 's01e01a/w00001'], [0.5, 0.9], ['s01e01a', 's01e01a'])
    """
    shift = check_number("offset_s", offset_s, owner="from_words_per_tr")
    words = read_words_per_tr(path)
    file = Path(path)
    film = file.stem.removeprefix("friends_").removeprefix("movie10_") if name is None else name
    if (words["onset_s"].diff() < 0).any():
        at = int((words["onset_s"].diff() < 0).to_numpy().argmax())
        raise FormatError(
            f"{str(file)!r} has {words['text'][at]!r} at {words['onset_s'][at]:g} s after {words['text'][at - 1]!r} at "
            f"{words['onset_s'][at - 1]:g} s. Expected words in the order in which they were said: sort the rows of the file."
        )
    ids = [f"{film}/w{position:05d}" for position in range(len(words))]
    times = {"onset_s": words["onset_s"].to_numpy() + shift, "duration_s": words["duration_s"].to_numpy()}
    columns = {**times, "run": film if run is None else run, "volume": words["volume"].to_numpy()}
    made = build(words["text"].tolist(), ids, "word", None, None, columns)
    return write_step(made, "stimuli.from_words_per_tr", params={"file": file.name, "run": run, "offset_s": shift})
