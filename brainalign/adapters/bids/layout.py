"""Which runs of a BIDS data set are meant: raw or derivative, one person and task, one space; and when they start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from brainalign.adapters.bids.entities import BidsFile, check_entities, find, parse, refuse_absent, refuse_several, stated
from brainalign.core.errors import FormatError
from brainalign.core.parameters import check_number, did_you_mean, preview
from brainalign.core.schema import as_labels

#: Endings of bold recordings, by the adapter that opens them.
KINDS = {
    ".nii": "nifti", ".nii.gz": "nifti", ".func.gii": "gifti", ".func.gii.gz": "gifti",
    ".dtseries.nii": "cifti", ".ptseries.nii": "cifti",
}  # fmt: skip
_OTHER_DATATYPES = ("meg", "eeg", "ieeg", "nirs")
_VARY = ("ses", "run", "hemi")


def dataset_folder(root: str | Path, derivatives: str | None) -> Path:
    """Return the folder that holds the people: the root itself, or one of its derivatives.

    Parameters
    ----------
    root : str or Path
    derivatives : str, optional
        Name of a pipeline below ``derivatives/``.

    Returns
    -------
    Path

    Raises
    ------
    FormatError
        There is no such folder; those that there are get listed.
    """
    folder = Path(root)
    if derivatives is None:
        return folder
    above = folder / "derivatives"
    there = sorted(path.name for path in above.iterdir() if path.is_dir()) if above.is_dir() else []
    if derivatives not in there:
        raise FormatError(
            f"{str(folder)!r} has no derivatives of {derivatives!r}. It has {preview(there) or 'none'}.{did_you_mean(derivatives, there)} Name one "
            "of them, or pass the folder of the derivative itself."
        )
    return above / derivatives


def bold_runs(folder: Path, *, datatype: str | None = None, owner: str = "open_bids", **entities: Any) -> list[BidsFile]:
    """Return the bold files of one person, task and space, in the order of sessions and runs.

    Parameters
    ----------
    folder : Path
        Raw data set or derivative.
    datatype : str, optional
        Anything but ``"func"`` is refused, with the adapter that opens it.
    owner : str
        The function that was called, for messages.
    **entities : str, sequence of str or None
        What the names must have; ``sub`` may be left out where there is one person. ``run`` and ``ses`` may be several.

    Returns
    -------
    list of BidsFile
        One a run, or one a hemisphere and run.

    Raises
    ------
    FormatError
        No such label, another kind of recording, or several tasks, spaces or resolutions, which are listed.
    """
    wanted = check_entities(entities, owner=owner)
    search: dict[str, Any] = {"suffix": "bold", "extensions": tuple(KINDS), "what": "bold"}
    person = {key: value for key, value in wanted.items() if key == "sub"}
    if datatype not in (None, "func") or not (every := find(folder, person, **search)):
        raise FormatError(_no_bold(folder, datatype, wanted.get("sub")))
    if "space" in wanted and not any("space" in file.entities for file in every):
        raise FormatError(
            f"{str(folder)!r} holds no bold in any space: it is raw. Expected a derivative for space={wanted['space']!r}: name one with "
            "`derivatives=`."
        )
    found = find(folder, wanted, **search)
    if "desc" not in wanted and any(file.entities.get("desc") == "preproc" for file in found):
        found = [file for file in found if file.entities.get("desc", "preproc") == "preproc"]  # surfaces have no desc
    refuse_several(found, but=_VARY, what="bold")
    refuse_absent(found)
    _refuse_kinds(found)
    return in_order(found)


def in_order(files: Sequence[BidsFile]) -> list[BidsFile]:
    """Return files in the order of their sessions and runs, where 10 comes after 9.

    Parameters
    ----------
    files : sequence of BidsFile

    Returns
    -------
    list of BidsFile

    Raises
    ------
    FormatError
        Two are of one run.
    """
    seen: dict[Any, Path] = {}
    for file in files:
        other = seen.setdefault(tuple(_natural(file.entities.get(key, ""))[:2] for key in _VARY), file.path)
        if other != file.path:
            raise FormatError(f"{str(other)!r} and {str(file.path)!r} are one run. Expected one file: remove the other.")
    return sorted(files, key=lambda file: [_natural(file.entities.get(key, "")) for key in _VARY])


def start_s(files: Sequence[BidsFile], first_onset_s: float | None, *, owner: str) -> float:
    """Return when the first volume of each run was recorded.

    Parameters
    ----------
    files : sequence of BidsFile
    first_onset_s : float, seconds, optional
        As given. Default: ``StartTime`` of the sidecars, which pipelines write where they corrected slice timing, else 0.
    owner : str
        The function that was called, for messages.

    Returns
    -------
    float, seconds

    Raises
    ------
    FormatError
        It is no number, or runs differ.
    """
    if first_onset_s is not None:
        return float(check_number("first_onset_s", first_onset_s, owner=owner))
    said = {file.path.name: (stated(file.path, "StartTime") or (None, 0.0))[1] for file in files}
    name, first = next(iter(said.items()))
    for other, value in said.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != first:
            raise FormatError(
                f"StartTime is {first!r} for {name!r} and {value!r} for {other!r}. Expected one number of seconds: pass `first_onset_s=`."
            )
    return float(check_number("StartTime", first, owner=owner))


def companions(
    file: BidsFile, suffixes: Sequence[str], extensions: Sequence[str], *, desc: str, same: Sequence[str] = ()
) -> list[Path]:
    """Return the files beside a recording that belong to it.

    Parameters
    ----------
    file : BidsFile
    suffixes, extensions : sequence of str
    desc : str
        What they are: ``brain``, ``confounds``.
    same : sequence of str
        Keys, beside session, task and run, that both have or both lack; of others they may lack some.

    Returns
    -------
    list of Path
        By name.
    """
    mine, found = {**file.entities, "desc": desc}, []
    for path in sorted(file.path.parent.glob(f"*_desc-{desc}_*")):
        other = parse(path)
        # fMRIPrep 25 says space-run of masks whose volumes name no space
        theirs = {key: value for key, value in other.entities.items() if (key, value) != ("space", "run")}
        same_run = all(theirs.get(key) == mine.get(key) for key in ("ses", "task", "run", *same))
        if (
            path.is_file()
            and other.suffix in suffixes
            and other.extension in extensions
            and same_run
            and theirs.items() <= mine.items()
        ):
            found.append(path)
    return found


def one_session(files: Sequence[BidsFile]) -> str | None:
    """Return the session of all files; None where they name none, or several.

    Parameters
    ----------
    files : sequence of BidsFile

    Returns
    -------
    str or None
    """
    found = {file.entities.get("ses") for file in files}
    return found.pop() if len(found) == 1 else None


def run_names(files: Sequence[BidsFile]) -> list[str]:
    """Return a name for the run of each file, with the session in front where there are several; a single run is ``"1"``.

    Parameters
    ----------
    files : sequence of BidsFile

    Returns
    -------
    list of str
    """
    several = len({file.entities.get("ses") for file in files}) > 1
    return [f"ses-{ses}_run-{run}" if several else run for ses, run in map(_labels, files)]


def told_apart(x: xr.DataArray, files: Sequence[BidsFile]) -> xr.DataArray:
    """Give runs of several sessions their own labels, where they were opened under the names of :func:`run_names`.

    Parameters
    ----------
    x : DataArray, (presentation, ...)
    files : sequence of BidsFile

    Returns
    -------
    DataArray
        With ``session`` and ``run``; ids are ``ses-<session>_run-<run>/v<volume>``.
    """
    labels = dict(zip(run_names(files), map(_labels, files), strict=True))
    if len({session for session, _ in labels.values()}) == 1:
        return x
    rows = [labels[name] for name in x.coords["run"].values.astype(object)]
    ids = [str(name).removeprefix("run-") for name in x.coords["stimulus_id"].values]
    coords = {"session": [session or "" for session, _ in rows], "run": [run for _, run in rows], "stimulus_id": ids}
    return x.assign_coords({name: ("presentation", as_labels(values)) for name, values in coords.items()})


def _labels(file: BidsFile) -> tuple[str | None, str]:
    return file.entities.get("ses"), file.entities.get("run", "1")


def _no_bold(folder: Path, datatype: str | None, subject: Any) -> str:
    people = f"sub-{subject}" if isinstance(subject, str) else "sub-*"
    there = [
        name for name in _OTHER_DATATYPES if any(folder.glob(f"{people}/{name}")) or any(folder.glob(f"{people}/ses-*/{name}"))
    ]
    if there or datatype in _OTHER_DATATYPES:
        return (
            f"{str(folder)!r} holds recordings in {preview(there) or repr(datatype)}, which format 'bids' does not open. Expected bold: open the "
            "others by file, `ba.open_responses(file, format='meeg', events=...)` with the `_events.tsv` beside it."
        )
    return (
        f"{str(folder)!r} holds no bold of {people} (files such as {people}_task-..._bold.nii.gz). Expected the root of a BIDS data set, or of a "
        "derivative of fMRIPrep: check the path, or name a derivative with `derivatives=`."
    )


def _refuse_kinds(files: Sequence[BidsFile]) -> None:
    kinds = sorted({KINDS[file.extension] for file in files})
    if len(kinds) > 1:
        other = next(file.path.name for file in files if KINDS[file.extension] != KINDS[files[0].extension])
        raise FormatError(
            f"what was asked for fits files of {preview(kinds)}, such as {files[0].path.name!r} and {other!r}. Expected one kind: choose by a "
            "part of their names, such as `den=` or `hemi=`."
        )


def _natural(label: str) -> tuple[str, int, str]:
    """Return a key that sorts 10 after 9, numbers before names; its first two parts are the same for 1 and 01."""
    return ("", int(label), label) if label.isdecimal() else (label or "-", 0, label)
