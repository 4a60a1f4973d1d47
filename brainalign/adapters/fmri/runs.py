"""Runs of volumes, whatever file they lie in: their names, their one TR, and the labels of their rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.bids.entities import stated
from brainalign.adapters.files import existing, per_run_ids
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_number, preview

_TR_TOLERANCE = 1e-3  # relative: headers hold float32, sidecars are rounded to the millisecond
LONGEST_TR_S = 50.0  # what is longer was written in milliseconds


def run_files(path: Any) -> list[Path]:
    """Return the files of runs, each of which is there.

    Parameters
    ----------
    path : str, Path or sequence of them

    Returns
    -------
    list of Path

    Raises
    ------
    FormatError
        One is missing or empty.
    """
    return [existing(item) for item in ([path] if isinstance(path, (str, Path)) else path)]


def run_names(run: str | Sequence[str] | None, files: Sequence[Path]) -> list[str]:
    """Return the name of each run: as given, else the ``run-`` entity of each file name, else ``"1"`` for a single file.

    Parameters
    ----------
    run : str or sequence of str, optional
    files : sequence of Path
        One file a run.

    Returns
    -------
    list of str

    Raises
    ------
    ParameterError
        Not one name a file, one name twice, one file twice, or files of several people.
    """
    check_one_person(files)
    found = [re.search(r"(?:^|_)run-([A-Za-z0-9]+)", file.name) for file in files]
    if run is not None:
        names = [str(run)] if isinstance(run, (str, int)) else [str(name) for name in run]
    elif files and all(found):
        names = [match.group(1) for match in found if match]
    else:
        names = ["1"] if len(files) == 1 else []
    if not files or len(names) != len(files) or len(set(names)) != len(names):
        raise ParameterError(
            f"the runs of {len(files)} files ({preview([file.name for file in files])}) are named {names}. Expected one name a file, none "
            "twice: pass `run=['1', '2', ...]` in the order of the files."
        )
    return names


def check_one_person(files: Sequence[Path]) -> None:
    """Refuse files that name several people, or one file twice.

    Parameters
    ----------
    files : sequence of Path

    Raises
    ------
    ParameterError
        They are no runs of one person.
    """
    people = {match[0] for file in files if (match := re.match(r"sub-[A-Za-z0-9]+(?=_)", file.name))}
    if len(people) > 1 or len(set(files)) != len(files):
        what = f"are of {preview(sorted(people))}" if len(people) > 1 else "hold one twice"
        raise ParameterError(
            f"the files {preview([file.name for file in files], 8)} {what}. Expected runs of one person, each once: leave the others out."
        )


def run_rows(
    names: Sequence[str], lengths: Sequence[int], tr_s: float, start_s: float, constant: Mapping[str, str | None]
) -> tuple[list[str], dict[str, Any]]:
    """Return the ids and the labels of rows that are the volumes of runs.

    Parameters
    ----------
    names : sequence of str
    lengths : sequence of int
        Volumes of each run.
    tr_s, start_s : float, seconds
        From one volume to the next; when the first one of each run was recorded.
    constant : mapping of str to str or None
        Labels that hold for all; None leaves one out.

    Returns
    -------
    (list of str, dict)
        ``run-<run>/v<volume>``; ``run``, ``onset_s``, ``duration_s`` and what is constant.
    """
    ids = [label for name, n in zip(names, lengths, strict=True) for label in per_run_ids(name, n, "v")]
    return ids, {
        **{name: [value] * len(ids) for name, value in constant.items() if value is not None},
        "run": np.repeat(np.array(names, dtype=object), lengths),
        "onset_s": np.concatenate([start_s + tr_s * np.arange(n) for n in lengths]),
        "duration_s": np.full(sum(lengths), tr_s),
    }


def map_rows(
    names: Sequence[str], maps: Sequence[Sequence[str]], constant: Mapping[str, str | None]
) -> tuple[list[str], dict[str, Any]]:
    """Return the ids and the labels of rows that are maps without a time, such as contrasts.

    Parameters
    ----------
    names : sequence of str
        Of the runs.
    maps : sequence of sequences of str
        The name of each map of each run; empty where it has none.
    constant : mapping of str to str or None
        As in :func:`run_rows`.

    Returns
    -------
    (list of str, dict)
        The name of the map, else ``run-<run>/m<index>``; ``run`` and what is constant.
    """
    ids = [
        label or number
        for name, labels in zip(names, maps, strict=True)
        for label, number in zip(labels, per_run_ids(name, len(labels), "m"), strict=True)
    ]
    rows = {"run": np.repeat(np.array(names, dtype=object), [len(labels) for labels in maps])}
    return ids, {**{name: [value] * len(ids) for name, value in constant.items() if value is not None}, **rows}


def stated_tr(
    file: Path,
    tr_s: float | None,
    override: bool,
    *,
    header_s: float | None,
    header: str,
    owner: str,
    required: bool = True,
) -> float | None:
    """Return the TR of a run: the argument, else ``RepetitionTime`` of its json sidecar, else the header; all that speak must agree.

    Parameters
    ----------
    file : Path
        ``x_bold.nii.gz``, ``x_bold.func.gii``, ``x_bold.dtseries.nii``: the sidecar is ``x_bold.json``, or one
        further up in a BIDS tree.
    tr_s : float, seconds, optional
    override : bool
        ``tr_s`` holds whatever the others say.
    header_s : float, seconds, optional
        None where the file itself states none.
    header : str
        What the file says about it, for the message.
    owner : str
        The function that was called, for the message.
    required : bool
        A file that states none is an error.

    Returns
    -------
    float, seconds, or None
        None where there is no statement and none is required: maps have no time.

    Raises
    ------
    FormatError
        Two statements differ, or there is none where one is required; volumes at irregular times; one in milliseconds; a damaged sidecar.
    ParameterError
        ``tr_s`` is no positive number, or there is none that could override.
    """
    said: dict[str, float] = {}
    if tr_s is not None:
        said["tr_s"] = float(check_number("tr_s", tr_s, owner=owner, low=0, low_open=True))
    elif override:
        raise ParameterError(f"{owner} got override_tr=True without tr_s. Expected the TR that overrides the file, in seconds.")
    said |= _sidecar_tr(file)
    if not said and stated(file, "VolumeTiming") is not None:
        raise FormatError(
            f"the sidecar of {str(file)!r} has VolumeTiming: volumes at times of their own. Expected RepetitionTime, one step for all: pass the "
            "step as `tr_s=` where they are even."
        )
    if header_s is not None:
        said["header"] = header_s
    if not said and not required:
        return None
    if not said:
        raise FormatError(
            f"{str(file)!r} does not state its TR: no sidecar with RepetitionTime, {header}. Pass `tr_s=` in seconds."
        )
    (first, value), *others = said.items()
    if value >= LONGEST_TR_S and not override:
        raise FormatError(
            f"{str(file)!r}: {first} states a TR of {value:g} s. Expected seconds, fewer than {LONGEST_TR_S:g}; it looks like milliseconds: mend "
            "it, or pass the right one as `tr_s=` with `override_tr=True`."
        )
    for name, other in others:
        if abs(other - value) > _TR_TOLERANCE * value and not override:
            raise FormatError(
                f"{str(file)!r}: {first} states a TR of {value:g} s and {name} of {other:g} s. Expected them to agree: mend the wrong one, or "
                "pass the right one as `tr_s=` with `override_tr=True`."
            )
    return value


def common_tr(files: Sequence[Path], steps: Sequence[float]) -> float:
    """Return the TR that runs share.

    Parameters
    ----------
    files : sequence of Path
    steps : sequence of float, seconds
        TR of each.

    Returns
    -------
    float, seconds

    Raises
    ------
    FormatError
        Two runs differ.
    """
    other = int(np.argmax(np.abs(np.array(steps) - steps[0])))
    if abs(steps[other] - steps[0]) > _TR_TOLERANCE * steps[0]:
        raise FormatError(
            f"{str(files[0])!r} has a TR of {steps[0]:g} s and {str(files[other])!r} of {steps[other]:g} s. Runs that are opened together "
            "must share it: open them one by one."
        )
    return steps[0]


def _sidecar_tr(file: Path) -> dict[str, float]:
    found = stated(file, "RepetitionTime")
    if found is None:
        return {}
    sidecar, value = found
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise FormatError(f"{str(sidecar)!r} has RepetitionTime {value!r}. Expected seconds, a positive number.")
    return {repr(sidecar.name): float(value)}
