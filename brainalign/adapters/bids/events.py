"""Tables of events (``*_events.tsv``): those of one person and task in a BIDS folder, or files by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.bids.entities import BidsFile, check_entities, find, parse, refuse_absent, refuse_several
from brainalign.adapters.bids.layout import in_order
from brainalign.adapters.delimited import numeric_columns, read_table, require_columns
from brainalign.adapters.fmri.runs import run_files, stated_tr
from brainalign.adapters.fmri.volumes import header_tr, load_image
from brainalign.core.errors import FormatError, OptionalDependencyError, ParameterError
from brainalign.core.parameters import check_choice

MISSING = "n/a"
_RECORDINGS = ("bold", "meg", "eeg", "ieeg")
_SIGNALS = (".nii.gz", ".nii", ".fif", ".ds", ".con", ".sqd", ".edf", ".bdf", ".vhdr", ".set", ".nwb", ".mefd")
# Plain decimal numbers; '007' is a name.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


def read_events(
    source: str | Path | Sequence[str | Path],
    *,
    stimulus_column: str | None = None,
    condition_column: str | None = None,
    subject: str | None = None,
    task: str | None = None,
    session: str | None = None,
    datatype: str | None = None,
    past_end: str = "refuse",
    **entities: str,
) -> pd.DataFrame:
    """Read the events of one person and task, all runs in one table.

    Parameters
    ----------
    source : path or list of paths
        The folder of a data set, or the tables themselves. A table above the recordings (``task-x_events.tsv`` at the root)
        holds for every run that has none nearer.
    stimulus_column, condition_column : str, optional
        Columns that every table must have, beside ``onset`` and ``duration``. There is no default: ``stim_file``, ``trial_type``
        and others are in use.
    subject, task, session : str
        BIDS labels, with or without ``sub-``, ``task-``, ``ses-``; a folder needs subject and task. Without ``session`` all of
        them are read.
    datatype : str, optional
        Folder of the recording (``func``, ``meg``, ``eeg``, ``ieeg``, ``beh``). By default the one that there is; ``beh``
        (responses without a recording) only counts where it is alone.
    past_end : {"refuse", "keep"}
        What to do with events after the last volume, where the images lie beside the table.
    **entities : str
        Further labels that a file name must have (``run="01"``, ``acq="x"``).

    Returns
    -------
    DataFrame
        One row an event, runs in the order of their numbers, those of files as the files were given. The columns of the files, with ``onset`` and ``duration`` as
        float seconds; other columns are numbers where every cell is a plain number or ``n/a`` (NaN), else text as written.
        Then ``subject``, ``session`` and ``run`` as in the file name, where it has them, and ``file``.

    Raises
    ------
    ParameterError
        A folder without subject or task.
    FormatError
        No such person, task or session, no such column (those that there are get listed), a damaged table, an event without
        an onset beside a recording, or one that begins after the last volume.

    Notes
    -----
    Accepted as BIDS has them: onsets before zero, durations of ``n/a`` (NaN) or zero, and events that overlap, since one table
    may hold stimuli and answers. A negative duration is refused.
    """
    check_choice("past_end", past_end, ("refuse", "keep"), owner="read_events")
    columns = [name for name in (stimulus_column, condition_column) if name is not None]
    if isinstance(source, (str, Path)) and not Path(source).is_file():
        folder = Path(source)
        if subject is None or task is None:
            raise ParameterError(
                f"read_events got the folder {str(folder)!r}, subject={subject!r} and task={task!r}. Expected both."
            )
        wanted = check_entities({"sub": subject, "task": task, "ses": session, **entities}, owner="read_events")
        files = _tables(folder, wanted, datatype)
        names = [table.relative_to(folder).as_posix() for table, _ in files]
    else:
        paths = run_files(source)
        if len(set(paths)) < len(paths):
            raise ParameterError(f"read_events got {[path.name for path in paths]}, one of them twice. Expected each table once.")
        files, names = [(path, parse(path)) for path in paths], [path.name for path in paths]
    tables = [_read(*pair, name, columns, past_end) for pair, name in zip(files, names, strict=True)]
    return _typed(pd.concat(tables, ignore_index=True))


def _tables(folder: Path, wanted: dict[str, Any], datatype: str | None) -> list[tuple[Path, BidsFile]]:
    """Return the tables, each with what its run is known by: the table itself, or the recording that inherits it."""
    person = folder / f"sub-{wanted['sub']}"
    shared = [parse(path) for level in (folder, person, *person.glob("ses-*")) for path in sorted(level.glob("[!.]*_events.tsv"))]
    if not shared:
        files = _one_datatype(find(folder, wanted, suffix="events", extensions=[".tsv"], what="events"), datatype, folder)
        _refuse_ambiguous(files)
        refuse_absent(files)
        return [(file.path, file) for file in in_order(files)]
    recordings = find(folder, wanted, suffix=_RECORDINGS, extensions=_SIGNALS, what="recordings")
    recordings = _one_datatype(recordings, datatype, folder)
    refuse_several(recordings, but=("ses", "run", "echo", "part", "split"), what="recordings")
    found = []
    for run in in_order(list({(file.entities.get("ses"), file.entities.get("run")): file for file in recordings}.values())):
        own = [parse(path) for path in sorted(run.path.parent.glob("[!.]*_events.tsv"))]
        fits = [table for table in (*shared, *own) if table.entities.items() <= run.entities.items()]
        if not fits:
            raise FormatError(
                f"no table of events holds for {str(run.path)!r}. Expected one beside it, or above it with fewer parts."
            )
        found.append((max(fits, key=lambda table: (len(table.path.parts), len(table.entities))).path, run))
    return found


def _one_datatype(files: list[BidsFile], datatype: str | None, root: Path) -> list[BidsFile]:
    """Keep the files of one kind of recording; two kinds are two sets of presentations."""
    folders = [file.path.parent.name for file in files]
    there = sorted(set(folders))
    recorded = [name for name in there if name != "beh"] or there
    chosen = recorded[0] if datatype is None and len(recorded) == 1 else datatype
    if chosen not in there:
        counts = ", ".join(f"{name} ({folders.count(name)} files)" for name in there)
        what = "are of several kinds" if datatype is None else f"are not of datatype {datatype!r}"
        raise FormatError(
            f"the events found in {str(root)!r} {what}: {counts}. Choose one with `datatype=`, or a session with `session=`."
        )
    return [file for file, name in zip(files, folders, strict=True) if name == chosen]


def _refuse_ambiguous(files: list[BidsFile]) -> None:
    seen: dict[tuple[str | None, str | None], Path] = {}
    for file in files:
        other = seen.setdefault((file.entities.get("ses"), file.entities.get("run")), file.path)
        if other != file.path:
            raise FormatError(
                f"{other.name!r} and {file.path.name!r} are events of one session and run. Expected one file a run: choose by another part of "
                "the name, such as acq='...'."
            )


def _read(path: Path, run: BidsFile, name: str, columns: Sequence[str], past_end: str) -> pd.DataFrame:
    table, source = read_table(path, header=True, delimiter="\t"), str(path)
    require_columns(table, ["onset", "duration", *columns], source)
    onset, duration = numeric_columns(table, ["onset", "duration"], source).T
    end = np.inf if past_end == "keep" else _end_s(run)
    wrong = {
        "has no onset": ~np.isfinite(onset) & (run.path.parent.name != "beh"),
        "has a negative duration": duration < 0,
        f"begins after the last volume of its run, which ends at {end:g} s": onset >= end,
    }
    for what, rows in wrong.items():
        if rows.any():
            row = int(np.argmax(rows))
            raise FormatError(
                f"{source!r}: the event in row {row} (onset {table['onset'].iloc[row]}, duration {table['duration'].iloc[row]}) {what}; "
                f"{int(rows.sum())} such rows. Expected events within the run: mend the table, look at the TR"
                f"{', or keep them with past_end=' + repr('keep') if 'volume' in what else ''}."
            )
    labels = {
        name: run.entities[key] for name, key in (("subject", "sub"), ("session", "ses"), ("run", "run")) if key in run.entities
    }
    return table.assign(onset=onset, duration=duration, **labels, file=name)


def _end_s(run: BidsFile) -> float:
    """Return when a run ends whose images are there; infinity where there are none."""
    beside = [parse(path) for path in sorted(run.path.parent.glob("*_bold.nii*")) if path.is_file()]
    mine = {key: run.entities.get(key) for key in ("sub", "ses", "task", "run", "acq")}
    image = (
        next((found.path for found in beside if mine == {key: found.entities.get(key) for key in mine}), None)
        if run.entities
        else None
    )
    if image is None:
        return float("inf")
    try:
        loaded = load_image(image, n_dims=4)
    except OptionalDependencyError:  # without nibabel nobody opens these images either
        return float("inf")
    stated, said = header_tr(loaded)
    return loaded.shape[3] * stated_tr(image, None, False, header_s=stated, header=said, owner="read_events")


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Make numbers of the columns that hold nothing else, over all runs alike."""
    for name in table.columns:
        if name in ("onset", "duration", "subject", "session", "run", "file"):
            continue
        cells = table[name].astype(object)
        cells = cells.where(cells.notna() & (cells != ""), MISSING)  # a column that one run lacks, a cell that was left empty
        known = cells[cells != MISSING]
        numeric = len(known) > 0 and all(_NUMBER.fullmatch(cell) and any(c.isdigit() for c in cell) for cell in known)
        if not numeric:
            table[name] = cells
        elif len(known) == len(cells) and all(re.fullmatch(r"[-+]?\d{1,18}", cell) for cell in cells):
            table[name] = cells.astype("int64")
        else:
            table[name] = cells.where(cells != MISSING, "nan").astype("float64")
    return table
