"""What sets of trial-wise betas share: sessions and z-scores within them, maps on their grid, regions, names of images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.fmri.volumes import load_image, read_values
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_choice, did_you_mean, preview


def names_in(source: Any) -> list[str]:
    """Return the names of what lies in a folder.

    Parameters
    ----------
    source : object

    Returns
    -------
    list of str
        None where it is no folder, or cannot be read.
    """
    try:
        return os.listdir(source) if isinstance(source, (str, Path)) and Path(source).is_dir() else []
    except OSError:
        return []


def scaled(values: Any, lengths: Sequence[int], zscore: str | None, *, owner: str) -> Any:
    """Return betas as they are, or z-scored within sessions.

    Parameters
    ----------
    values : dask array, (presentation, neuroid)
    lengths : sequence of int
        Trials of each session, in the order of rows.
    zscore : {None, "session"}
    owner : str
        The function that was called, for the message.

    Returns
    -------
    dask array of float32, (presentation, neuroid)

    Raises
    ------
    ParameterError
        ``zscore`` is neither of the two.
    """
    if check_choice("zscore", zscore, (None, "session"), owner=owner) is None:
        return values
    starts = tuple(np.cumsum([0, *lengths]).tolist())
    chunks = (tuple(lengths), values.chunks[1])
    return lazy_array(_ZScoredRead(values, starts), values.shape, np.float32, files=[], what="its betas", chunks=chunks)


@dataclass(frozen=True)
class _ZScoredRead:
    """Reads trials of whole sessions, which their z-scores need, of the neuroids that are wanted."""

    values: Any
    starts: tuple[int, ...]

    def __call__(self, spans: Spans) -> np.ndarray[Any, Any]:
        rows, neuroids = spans
        out = np.empty((rows.stop - rows.start, neuroids.stop - neuroids.start), dtype=np.float32)
        for start, stop in pairwise(self.starts):
            first, last = max(rows.start, start), min(rows.stop, stop)
            if first < last:
                session = zscores(self.values[start:stop, neuroids].compute(scheduler="synchronous"))
                out[first - rows.start : last - rows.start] = session[first - start : last - start]
        return out


def zscores(trials: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return trials with mean 0 and standard deviation 1 (divided by n) for each neuroid; a constant one becomes 0.

    Parameters
    ----------
    trials : ndarray, (trial, neuroid)

    Returns
    -------
    ndarray of float32, (trial, neuroid)

    Examples
    --------
    >>> zscores(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    if not trials.size:
        return trials.astype(np.float32)
    centred = trials - trials.mean(axis=0, dtype=np.float64)
    # told by its values: a mean that is off by rounding would blow the trace of a constant up to 1
    constant = trials.max(axis=0) == trials.min(axis=0)
    spread = np.where(constant, 1.0, np.sqrt((centred**2).mean(axis=0)))
    return np.where(constant, 0.0, centred / spread).astype(np.float32)


def choose_sessions(found: Mapping[int, Any], wanted: Sequence[int] | None, folder: Path) -> list[int]:
    """Return the sessions to open: those asked for, else all, of which none may be missing before the last.

    Parameters
    ----------
    found : mapping of int to object
        Sessions of the folder, numbered from 1.
    wanted : int or sequence of int, optional
    folder : Path
        For the message.

    Returns
    -------
    list of int
        In increasing order.

    Raises
    ------
    FormatError
        A session is missing.
    ParameterError
        Nothing is asked for, what is no number from 1, or one session twice.
    """
    asked = range(1, max(found) + 1) if wanted is None else np.atleast_1d(wanted).tolist()
    if not asked or len(set(asked)) != len(asked) or not all(isinstance(number, int) and number > 0 for number in asked):
        raise ParameterError(f"the 'sessions' are {asked}. Expected numbers of sessions, from 1, each once.")
    chosen = sorted(asked)
    missing = [number for number in chosen if number not in found]
    if missing:
        raise FormatError(
            f"{str(folder)!r} lacks session {preview(missing, 8)}; it holds {preview(sorted(found), 40)}. Expected each of them: copy them "
            f"too, or name those to open, `sessions={sorted(set(found) & set(chosen))}`."
        )
    return chosen


def grid_map(source: Any, shape: Sequence[int], file: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """Return one number a place of a grid, from an image on that grid or an array.

    Parameters
    ----------
    source : str, Path, or ndarray
        NIfTI, MGH, or an array; trailing dims of length 1 are dropped.
    shape : sequence of int
    file : Path
        Whose grid it is, for the message.

    Returns
    -------
    (ndarray (place,) in C order, ndarray (4, 4) or None)
        The second is the affine of a NIfTI image. Affines are not compared: files of betas have none, or one without an origin.

    Raises
    ------
    FormatError
        Damaged, or of another grid.
    """
    affine = None
    if isinstance(source, np.ndarray):
        name, found = f"the array of shape {source.shape}", source.shape
    else:
        opened = existing(source)
        image, name = _map_image(opened), repr(str(opened))
        found = tuple(image.shape)
    while len(found) > len(shape) and found[-1] == 1:
        found = found[:-1]
    if found != tuple(shape):
        raise FormatError(
            f"{name} has the grid {found}, and {str(file)!r} has {tuple(shape)}. Expected one grid: resample it, or take the file that was "
            "made for these betas."
        )
    if isinstance(source, np.ndarray):
        return source.reshape(-1), None
    if opened.suffix in (".mgh", ".mgz"):
        with reading(opened, "MGH"):
            return np.asanyarray(image.dataobj).reshape(-1), affine
    return read_values(image).reshape(-1), np.asarray(image.affine, dtype=np.float64)


def _map_image(file: Path) -> Any:
    if file.suffix not in (".mgh", ".mgz"):
        return load_image(file)
    nibabel = require("nibabel", extra="fmri", purpose="reading MGH images")
    with reading(file, "MGH"):
        return nibabel.load(file)


def mask_map(values: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    """Return a mask as booleans.

    Parameters
    ----------
    values : ndarray, (place,)
        1 inside, 0 outside; −1 is outside too (NSD marks with it what is no cortex).
    name : str
        For the message.

    Returns
    -------
    ndarray of bool, (place,)

    Raises
    ------
    FormatError
        Other values, or nothing inside.
    """
    found = np.unique(values)
    if not np.isin(found, [-1, 0, 1]).all():
        raise FormatError(
            f"{name} holds {found.size} different values, up to {found[-1]:g}. Expected a mask of 0 and 1: pass the boolean array "
            "`values > threshold`."
        )
    keep = values == 1
    if not keep.any():
        raise FormatError(f"{name} takes 0 of {keep.size} places. Expected some: look at the mask.")
    return keep


def region_of(
    members: Mapping[str, np.ndarray[Any, Any]], regions: Sequence[str] | None, source: str
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return which neuroids lie in the regions that were chosen, and the region of each of those.

    Parameters
    ----------
    members : mapping of str to ndarray of bool, (neuroid,)
        Regions may overlap.
    regions : sequence of str, optional
        Which to take; they must not overlap. Default: all.
    source : str
        Where the regions are from, for messages.

    Returns
    -------
    (ndarray of bool (neuroid,), ndarray of str (chosen neuroid,))

    Raises
    ------
    ParameterError
        An unknown region; a neuroid in two of them; no neuroid in any.
    """
    chosen = list(members) if regions is None else [regions] if isinstance(regions, str) else list(regions)
    for name in chosen:
        if name not in members:
            raise ParameterError(f"{source} has no region {name!r}.{did_you_mean(name, members)} It has {preview(members, 40)}.")
    owner = np.full(len(next(iter(members.values()), [])), -1)
    for number, name in enumerate(chosen):
        twice = members[name] & (owner >= 0)
        if twice.any():
            raise ParameterError(
                f"{source} has {int(twice.sum())} neuroids that lie both in {chosen[owner[np.argmax(twice)]]!r} and in {name!r}. Expected one "
                "region for each: choose regions that do not overlap, `regions=[...]`; the coordinates `roi_<name>` tell the others."
            )
        owner[members[name]] = number
    keep = owner >= 0
    if not keep.any():
        raise ParameterError(f"{source} has no neuroid in {preview(chosen)}. Expected some: name other regions.")
    return keep, np.array(chosen, dtype=object)[owner[keep]]


def image_ids(names: Sequence[str], source: str, *, rename: Callable[[str], str] = str) -> list[str]:
    """Return stimulus ids from names of image files: without folder and suffix, as ``ba.stimuli.from_images`` names them.

    Parameters
    ----------
    names : sequence of str
        One a trial.
    source : str
        Where they are from, for the message.
    rename : callable
        What a format does to a name before.

    Returns
    -------
    list of str

    Raises
    ------
    FormatError
        Two images get one id.

    Examples
    --------
    >>> image_ids(["a/dog_12s.jpg", "n01_2.JPEG"], "list.txt")
    ['dog_12s', 'n01_2']
    """
    plain = [rename(str(name).strip()) for name in names]
    ids = {name: PurePosixPath(name).stem for name in dict.fromkeys(plain)}
    image: dict[str, str] = {}
    for name, label in ids.items():
        if image.setdefault(label, name) != name:
            raise FormatError(
                f"{source} names the images {image[label]!r} and {name!r}, which have one id, {label!r}. Expected one image an id: rename one."
            )
    return [ids[name] for name in plain]
