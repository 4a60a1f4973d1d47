"""Stimulus tables from files of images, sounds and films; content is decoded only when it is needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.stimuli.film import Frames, list_frames
from brainalign.adapters.stimuli.folders import SUFFIXES, list_files
from brainalign.adapters.stimuli.sound import read_header
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import write_step
from brainalign.dataset.stimulus_table import build, paths_of

_NOUNS = {"image": "image", "audio": "sound"}
_NAMES = {"stem": lambda path: path.stem, "name": lambda path: path.name, "path": lambda path: path.as_posix()}


def from_images(images: Any, *, stimulus_id: str | Sequence[str] = "stem", nested: bool = False) -> xr.Dataset:
    """Build a stimulus table from image files; they are decoded only when they are needed.

    Parameters
    ----------
    images : path, or sequence of path
        A folder (its images by name), or files.
    stimulus_id : {"stem", "name", "path"} or sequence of str
        Names the stimuli: ``cat`` by the file name without its suffix, ``cat.png`` with it, ``animals/cat.png`` with the folders
        below that of all images; or a name for each.
    nested : bool
        Look in the subfolders of a folder too; each is the ``condition`` of the images in it (``animals``; ``""`` at the top).

    Returns
    -------
    Dataset, (presentation,)
        ``path`` below the attr ``root``; ``sha256`` of the bytes of each file.

    Raises
    ------
    FormatError
        No such folder or file, or no image in the folder; a link that leads out of it.
    SchemaError
        Two images of one name.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name, grey in (("cat", 10), ("dog", 200)):
    ...     _ = (folder / f"{name}.pgm").write_bytes(b"P5 2 2 255 " + bytes([grey] * 4))
    >>> ba.stimuli.from_images(folder).stimulus_id.values.tolist()
    ['cat', 'dog']
    """
    files, root = _listed(images, "image", nested)
    made = build(files, _named(files, root, stimulus_id), "image", None, root, _folders(files, root, nested))
    return write_step(made, "stimuli.from_images", params={"n_images": len(files), "nested": nested})


def from_sounds(
    sounds: Any,
    *,
    sampling_rate_hz: int | None = None,
    channel: int | str | None = None,
    stimulus_id: str | Sequence[str] = "stem",
    nested: bool = False,
) -> xr.Dataset:
    """Build a stimulus table from sound files; only their headers are decoded.

    Parameters
    ----------
    sounds : path, or sequence of path
        A folder (its sounds by name), or files: WAV (integers of 8, 16, 24 or 32 bits, floats of 32 or 64); others through PyAV.
    sampling_rate_hz : int, optional
        Rate at which they are wanted; those of another rate are resampled when they are read. Default: their own, which must then
        be one.
    channel : int or "mean", optional
        Which channel, from 0, or the mean of all; needed where a file has several.
    stimulus_id, nested
        As in :func:`from_images`.

    Returns
    -------
    Dataset, (presentation,), of kind "audio"
        ``path`` below the attr ``root``, ``sha256`` of the bytes of each file, ``duration_s``, and ``file_rate_hz`` as in the file; the
        attrs ``sampling_rate_hz`` and ``channel`` say what is read: float32, integers scaled to [-1, 1).

    Raises
    ------
    FormatError
        No such file, or one that is damaged or truncated.
    ParameterError
        Files of several rates and none named, or of several channels and none named.
    OptionalDependencyError
        A file is no WAV, and PyAV is not installed.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, tempfile
    >>> from scipy.io import wavfile
    >>> file = tempfile.mkdtemp() + "/tone.wav"
    >>> wavfile.write(file, 8000, np.zeros(4000, dtype="int16"))
    >>> x = ba.stimuli.from_sounds(file, sampling_rate_hz=16000)
    >>> x.duration_s.values.tolist(), x.file_rate_hz.values.tolist(), x.attrs["sampling_rate_hz"]
    ([0.5], [8000], 16000)
    """
    files, root = _listed(sounds, "audio", nested)
    headers = [read_header(file) for file in files]
    rates = sorted({header.rate_hz for header in headers})
    if sampling_rate_hz is None and len(rates) > 1:
        raise ParameterError(
            f"the {len(files)} sounds have the rates {preview(rates)} Hz. Expected one: resample with `sampling_rate_hz=`."
        )
    rate = (
        rates[0]
        if sampling_rate_hz is None
        else check_number("sampling_rate_hz", sampling_rate_hz, owner="from_sounds", low=1, integer=True)
    )
    lacking = [
        (file.name, header.n_channels)
        for file, header in zip(files, headers, strict=True)
        if channel != "mean" and not (channel is None and header.n_channels == 1)
        and not (isinstance(channel, (int, np.integer)) and 0 <= channel < header.n_channels)
    ]  # fmt: skip
    if lacking:
        raise ParameterError(
            f"from_sounds got channel={channel!r}, and {lacking[0][0]!r} has {lacking[0][1]} channels. Expected a number below that, or 'mean': "
            "say which as `channel=`."
        )
    coords = {
        "duration_s": [header.duration_s for header in headers],
        "file_rate_hz": [header.rate_hz for header in headers],
        **_folders(files, root, nested),
    }
    made = build(files, _named(files, root, stimulus_id), "audio", None, root, coords).assign_attrs(sampling_rate_hz=rate)
    if channel is not None:
        made = made.assign_attrs(channel=channel if channel == "mean" else int(channel))
    return write_step(made, "stimuli.from_sounds", params={"n_sounds": len(files), "sampling_rate_hz": rate, "channel": channel})


def from_film(
    films: Any,
    *,
    every_s: float | None = None,
    rate_hz: float | None = None,
    run: str | Sequence[str] | None = None,
    offset_s: float = 0.0,
) -> xr.Dataset:
    """Build a table of frames with their times from films; a frame is decoded only when it is needed.

    Parameters
    ----------
    films : path, or sequence of path
        Animated GIF, PNG or WebP; a video (MP4, MOV, AVI, MKV, WebM ...) through PyAV; or a folder of numbered frames.
    every_s : float, optional
        Keep the frame that is on screen at 0, ``every_s``, 2 ``every_s`` ... of each film, each once. Default: all frames.
    rate_hz : float, optional
        Frames a second, for folders, and files that state no times. All others have times of their own, regular or not.
    run : str or sequence of str, optional
        Run of the recording, of each film. Default: the name of the film without its suffix.
    offset_s : float
        Added to every onset: when the film started, in the time of the run.

    Returns
    -------
    Dataset, (presentation,), of kind "image"
        ``stimulus_id`` ``<film>/f000012`` and ``frame`` 12, counted from 0 in the order of time; ``onset_s``, ``duration_s`` until the next
        frame of the table, ``run``; ``path`` and ``path_part``. ``sha256`` is empty for frames without a file of their own:
        :func:`hashed` fills it in.

    Raises
    ------
    FormatError
        A film that is damaged or truncated, states no times, or lacks frames.
    ParameterError
        ``rate_hz`` missing where it is needed, or given where the film has times.
    OptionalDependencyError
        PIL or PyAV is not installed.

    Examples
    --------
    >>> import brainalign as ba, tempfile
    >>> from PIL import Image
    >>> file = tempfile.mkdtemp() + "/blink.gif"
    >>> dark, bright = Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 255)
    >>> dark.save(file, save_all=True, append_images=[bright], duration=[500, 250])
    >>> x = ba.stimuli.from_film(file)
    >>> x.stimulus_id.values.tolist(), x.onset_s.values.tolist(), x.duration_s.values.tolist()
    (['blink/f000000', 'blink/f000001'], [0.0, 0.5], [0.5, 0.25])
    """
    shift = check_number("offset_s", offset_s, owner="from_film")
    paths = paths_of(films, owner="from_film")
    names = [path.stem if path.is_file() else path.name for path in paths]
    runs = names if run is None else [run] * len(paths) if isinstance(run, str) else list(run)
    if len(set(names)) < len(names) or len(runs) != len(names):
        raise ParameterError(
            f"from_film got {len(paths)} films named {preview(names)} and {len(runs)} runs. Expected films of different names, and a run for "
            "each."
        )
    listed = [list_frames(path, rate_hz=rate_hz) for path in paths]
    chosen = [_every(frames, every_s) for frames in listed]
    parts = [part for frames, rows in zip(listed, chosen, strict=True) for part in _parts(frames, rows)]
    coords: dict[str, Any] = {
        "onset_s": np.concatenate([frames.onset_s[rows] + shift for frames, rows in zip(listed, chosen, strict=True)]),
        "duration_s": np.concatenate([_until_next(frames, rows) for frames, rows in zip(listed, chosen, strict=True)]),
        "frame": np.concatenate(chosen),
        "run": np.repeat(runs, [len(rows) for rows in chosen]),
    }
    ids = [f"{name}/f{row:06d}" for name, rows in zip(names, chosen, strict=True) for row in rows]
    files = [frames.files[row] for frames, rows in zip(listed, chosen, strict=True) for row in rows]
    made = build(files, ids, "image", None, None, coords, parts=parts if any(parts) else None)
    params = {"films": [path.name for path in paths], "every_s": every_s, "rate_hz": rate_hz, "offset_s": shift}
    return write_step(made, "stimuli.from_film", params=params)


def _listed(given: Any, kind: str, nested: bool) -> tuple[list[Path], Path | None]:
    """Return files, and the folder they were asked for by."""
    single = isinstance(given, (str, os.PathLike))
    if single and not Path(given).is_file():
        folder = Path(os.path.abspath(given))  # files are named below it, wherever the process works
        return list_files(folder, SUFFIXES[kind], what=_NOUNS[kind], nested=nested), folder
    return paths_of(given, owner=f"from_{_NOUNS[kind]}s"), None


def _named(files: list[Path], root: Path | None, stimulus_id: str | Sequence[str]) -> Sequence[str]:
    if not isinstance(stimulus_id, str):
        return stimulus_id
    name = _NAMES[check_choice("stimulus_id", stimulus_id, tuple(_NAMES), owner="ba.stimuli")]
    absolute = [Path(os.path.abspath(file)) for file in files]
    top = (
        Path(os.path.abspath(root)) if root is not None else Path(os.path.commonpath([file.parent for file in absolute] or ["/"]))
    )
    ids = [name(file.relative_to(top)) for file in absolute]
    first: dict[str, Path] = {}
    for own, file in zip(ids, absolute, strict=True):
        if first.setdefault(own, file) != file:
            raise SchemaError(
                f"two files are named {own!r}: {str(first[own])!r} and {str(file)!r}. Expected a name for each: stimulus_id='path' keeps the "
                "folders and suffixes, or pass a list of names."
            )
    return ids


def _folders(files: list[Path], root: Path | None, nested: bool) -> dict[str, list[str]]:
    if not nested or root is None:
        return {}
    return {"condition": ["" if file.parent == root else file.parent.relative_to(root).as_posix() for file in files]}


def _every(frames: Frames, every_s: float | None) -> np.ndarray[Any, Any]:
    """Return which frames are on screen at multiples of ``every_s``."""
    if every_s is None:
        return np.arange(len(frames.onset_s))
    step = check_number("every_s", every_s, owner="from_film", low=0, low_open=True)
    moments = np.arange(0.0, frames.onset_s[-1] + step, step)
    # A frame that starts at a multiple counts as shown there, also where rounding put it a little later.
    shown = np.searchsorted(frames.onset_s, moments + 1e-6, side="right") - 1
    return np.unique(shown[(shown >= 0) & (moments <= _end(frames))])


def _end(frames: Frames) -> float:
    last = frames.duration_s[-1]
    return float(frames.onset_s[-1] + (0.0 if np.isnan(last) else last))


def _until_next(frames: Frames, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    onsets = frames.onset_s[rows]
    end = frames.onset_s[-1] + frames.duration_s[-1]
    return np.append(np.diff(onsets), end - onsets[-1])


def _parts(frames: Frames, rows: np.ndarray[Any, Any]) -> list[str]:
    return [""] * len(rows) if frames.parts is None else [frames.parts[row] for row in rows]
