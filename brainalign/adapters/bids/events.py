"""The events tables (``*_events.tsv``) of one person and task in a BIDS folder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview

MISSING = "n/a"
_LABEL = re.compile(r"[A-Za-z0-9]+")
_ENTITY = re.compile(r"(?:^|_)([a-zA-Z]+)-([A-Za-z0-9]+)(?=_)")
# Plain decimal numbers; '007' is a name.
_NUMBER = re.compile(r"[-+]?(?:0|[1-9]\d*)?(?:\.\d+)?(?:[eE][-+]?\d+)?")


def read_events(
    root: str | Path,
    *,
    subject: str,
    task: str,
    columns: Sequence[str] = (),
    session: str | None = None,
    datatype: str | None = None,
    **entities: str,
) -> pd.DataFrame:
    """Read the events of one person and task, all runs in one table.

    Parameters
    ----------
    root : str or Path
        Folder of the data set.
    subject, task, session : str
        BIDS labels, with or without ``sub-``, ``task-``, ``ses-``. Without ``session`` all of them are read.
    columns : sequence of str
        Columns that every table must have, beside ``onset`` and ``duration``.
    datatype : str, optional
        Folder of the recording (``func``, ``meg``, ``eeg``, ``ieeg``, ``beh``). By default the one that there is; ``beh``
        (responses without a recording) only counts where it is alone.
    **entities : str
        Further labels that a file name must have (``run="01"``, ``acq="x"``).

    Returns
    -------
    DataFrame
        One row an event, runs in the order of their names. The columns of the files, with ``onset`` and ``duration`` as
        float seconds; other columns are numbers where every cell is a plain number or ``n/a`` (NaN), else text as written.
        Then ``subject``, ``session`` and ``run`` as in the file name, where it has them, and ``file``.

    Raises
    ------
    FormatError
        No such person, task or session, no such column (those that there are get listed), or a damaged table.
    """
    folder = Path(root)
    wanted = {"sub": subject, "task": task, **({"ses": session} if session is not None else {}), **entities}
    wanted = {key: _label(key, value) for key, value in wanted.items()}
    files = _one_datatype(_files(folder, wanted), datatype, folder)
    _refuse_ambiguous(files)
    tables = [_read(file, columns) for file, _ in files]
    for (file, found), table in zip(files, tables, strict=True):
        for name, key in (("subject", "sub"), ("session", "ses"), ("run", "run")):
            if key in found:
                table[name] = found[key]
        table["file"] = file.relative_to(folder).as_posix()
    return _typed(pd.concat(tables, ignore_index=True))


def entities_of(name: str) -> dict[str, str]:
    """Return the key-value pairs of a BIDS file name.

    Parameters
    ----------
    name : str

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> entities_of("sub-01_ses-meg_task-faces_run-02_events.tsv")
    {'sub': '01', 'ses': 'meg', 'task': 'faces', 'run': '02'}
    """
    return dict(_ENTITY.findall(name))


def _label(key: str, value: str) -> str:
    label = str(value).removeprefix(f"{key}-")
    if not _LABEL.fullmatch(label):
        raise ParameterError(f"BIDS label {key}={value!r} is not made of letters and digits. Expected one such as '01'.")
    return label


def _files(root: Path, wanted: dict[str, str]) -> list[tuple[Path, dict[str, str]]]:
    """Return the events files that have the wanted entities; otherwise say which values there are."""
    if not root.is_dir():
        raise FormatError(f"there is no folder {str(root)!r}. Expected the root of a BIDS data set: check the path.")
    people = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    person = f"sub-{wanted['sub']}"
    if person not in people:
        raise FormatError(
            f"{str(root)!r} has no {person!r}. It has {preview(people)}.{did_you_mean(person, people)} Name one of them."
        )
    found = [(path, entities_of(path.name)) for path in sorted((root / person).rglob("*_events.tsv")) if path.is_file()]
    for key, value in wanted.items():
        there = sorted({entities[key] for _, entities in found if key in entities})
        found = [entry for entry in found if entry[1].get(key) == value]
        if not found:
            raise FormatError(
                f"{person} in {str(root)!r} has no events of {key}-{value}. It has {preview([f'{key}-{label}' for label in there]) or f'none with {key!r} in their names'}."
                f"{did_you_mean(value, there)} Name one of them."
            )
    return found


def _one_datatype(
    files: list[tuple[Path, dict[str, str]]], datatype: str | None, root: Path
) -> list[tuple[Path, dict[str, str]]]:
    """Keep the files of one kind of recording; two kinds are two sets of presentations."""
    there = sorted({path.parent.name for path, _ in files})
    recorded = [name for name in there if name != "beh"] or there
    chosen = recorded[0] if datatype is None and len(recorded) == 1 else datatype
    if chosen not in there:
        counts = ", ".join(f"{name} ({sum(path.parent.name == name for path, _ in files)} files)" for name in there)
        what = "are of several kinds" if datatype is None else f"are not of datatype {datatype!r}"
        raise FormatError(
            f"the events found in {str(root)!r} {what}: {counts}. Choose one with `datatype=`, or a session with `session=`."
        )
    return [(path, entities) for path, entities in files if path.parent.name == chosen]


def _refuse_ambiguous(files: list[tuple[Path, dict[str, str]]]) -> None:
    seen: dict[tuple[str | None, str | None], Path] = {}
    for path, entities in files:
        key = (entities.get("ses"), entities.get("run"))
        if key in seen:
            raise FormatError(
                f"{seen[key].name!r} and {path.name!r} are events of one session and run. Expected one file a run: choose by another part of "
                "the name, such as acq='...'."
            )
        seen[key] = path


def _read(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    table = read_table(file, header=True, delimiter="\t")
    require_columns(table, ["onset", "duration", *columns], str(file))
    times = numeric_columns(table, ["onset", "duration"], str(file))
    return table.assign(onset=times[:, 0], duration=times[:, 1])


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Make numbers of the columns that hold nothing else, over all runs alike."""
    for name in table.columns:
        if name in ("onset", "duration", "subject", "session", "run", "file"):
            continue
        cells = table[name].astype(object).where(table[name].notna(), MISSING)  # a column that one run lacks
        known = cells[cells != MISSING]
        numeric = len(known) > 0 and all(cell and _NUMBER.fullmatch(cell) and any(c.isdigit() for c in cell) for cell in known)
        if not numeric:
            table[name] = cells
        elif len(known) == len(cells) and all(re.fullmatch(r"[-+]?\d{1,18}", cell) for cell in cells):
            table[name] = cells.astype("int64")
        else:
            table[name] = cells.where(cells != MISSING, "nan").astype("float64")
    return table
