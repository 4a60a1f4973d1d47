"""Files of MEG and EEG: recognised by content, found whole, and read into the one kind of object of MNE that they hold."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.meeg.eeglab import is_eeglab, read_eeglab
from brainalign.adapters.meeg.fif import is_fif, read_fif
from brainalign.adapters.meeg.headers import (
    bti_data,
    check_brainvision,
    check_bti,
    check_ctf,
    check_edf,
    check_kit,
    is_brainvision,
    is_ctf,
    is_edf,
    is_kit,
)
from brainalign.core.errors import FormatError
from brainalign.core.parameters import preview

_CLOCK = "SCLK01-177"  # of CTF: seconds


@dataclass(frozen=True)
class Recording:
    """One kind of file.

    Attributes
    ----------
    name : str
        As a message calls it.
    matches : callable
        ``matches(path)`` looks at content, and never raises.
    read : callable
        ``read(mne, path)`` returns Raw, Epochs or a list of Evoked.
    """

    name: str
    matches: Callable[[Path], Any]
    read: Callable[..., Any]


def kind_of(path: Any) -> str:
    """Return the name of the format that a file or folder is of.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    str
        ``"FIF" "EEGLAB" "BrainVision" "EDF or BDF" "CTF" "KIT" "BTi"``, or ``""``.
    """
    found = Path(path)
    return next((kind.name for kind in _KINDS if found.exists() and kind.matches(found)), "")


def load(mne: Any, path: Any, *, proj: bool = True) -> Any:
    """Read a recording, once it was found whole. Values of raw recordings stay in the file.

    Parameters
    ----------
    mne : module
    path : str or Path
        A file, or the folder of a CTF or BTi recording.
    proj : bool
        Apply the projections that a FIF file of epochs or averages carries.

    Returns
    -------
    mne.io.Raw, mne.Epochs or list of mne.Evoked

    Raises
    ------
    FormatError
        No recording, damaged, truncated, or without one of its files.
    """
    given = Path(path) if isinstance(path, (str, Path)) else path
    file = given if isinstance(given, Path) and given.is_dir() else existing(given)
    kind = next((kind for kind in _KINDS if kind.matches(file)), None)
    if kind is None:
        known = ", ".join(each.name for each in _KINDS)
        raise FormatError(
            f"{str(file)!r} is none of the recordings that are known by their content ({known}). Expected a FIF file, a .set, a .vhdr, an .edf "
            "or .bdf, a .sqd or .con, or the folder of a CTF or BTi recording; any other that MNE reads can be passed as its object."
        )
    with reading(file, kind.name), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # MNE's rules about file names
        try:
            loaded = read_fif(mne, file, proj=proj) if kind.read is read_fif else kind.read(mne, file)
            for each in loaded if isinstance(loaded, list) else [loaded]:
                each.get_channel_types()  # a damaged header may name a kind that there is not
            return loaded
        except MemoryError as error:  # what a damaged header promises; sizes were compared where the header says them
            raise FormatError(f"{str(file)!r} promises more than the memory holds. It is damaged: copy it again.") from error


def _brainvision(mne: Any, path: Path) -> Any:
    check_brainvision(path)
    return mne.io.read_raw_brainvision(path, preload=False, verbose="error")


def _edf(mne: Any, path: Path) -> Any:
    no_voltage = check_edf(path)
    with path.open("rb") as file:
        read = mne.io.read_raw_bdf if file.read(1) == b"\xff" else mne.io.read_raw_edf
    raw = read(path, preload=False, verbose="error")
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    other = {name: "misc" for name in no_voltage if kinds.get(name) == "eeg"}
    return raw.set_channel_types(other, on_unit_change="ignore", verbose="error") if other else raw


def _ctf(mne: Any, path: Path) -> Any:
    n_samples = check_ctf(path)
    raw = mne.io.read_raw_ctf(path, preload=False, verbose="error")
    gaps = _ctf_gaps(raw, n_samples)
    marks = mne.Annotations(gaps / raw.info["sfreq"], 0.0, "BAD boundary", orig_time=raw.annotations.orig_time)
    return raw.set_annotations(raw.annotations + marks, verbose="error") if len(gaps) else raw


def _ctf_gaps(raw: Any, n_samples: int) -> np.ndarray:
    """Return the samples where a trial does not follow on the one before, by the clock of the system; all of them where there is none."""
    starts = np.arange(n_samples, raw.n_times, n_samples)
    if _CLOCK not in raw.ch_names:
        return starts
    at, first, last = raw.ch_names.index(_CLOCK), [], []
    for file in raw.filenames:
        trials = np.memmap(file, ">i4", "r", offset=8).reshape(-1, len(raw.ch_names), n_samples)
        first.append(trials[:, at, 0].astype(np.float64))
        last.append(trials[:, at, -1].astype(np.float64))
    steps = (np.concatenate(first)[1:] - np.concatenate(last)[:-1]) * raw.info["chs"][at]["cal"] * raw.info["chs"][at]["range"]
    return starts[np.abs(steps[: len(starts)] * raw.info["sfreq"] - 1) > 0.5]


def _kit(mne: Any, path: Path) -> Any:
    check_kit(path)
    try:
        return mne.io.read_raw_kit(path, preload=False, verbose="error")
    except TypeError as error:
        if "epochs" not in str(error):
            raise
        raise FormatError(
            f"{str(path)!r} holds trials or averages, as files of markers do. Expected a continuous recording: read trials with "
            "`mne.read_epochs_kit(path, events, event_id)`, and open that object."
        ) from error


def _bti(mne: Any, path: Path) -> Any:
    files = bti_data(path)
    if len(files) > 1:
        raise FormatError(
            f"{str(path)!r} holds {len(files)} recordings: {preview([file.name for file in files])}. Expected one: give the path of the one that is meant."
        )
    check_bti(files[0])
    shape = files[0].parent / "hs_file"
    return mne.io.read_raw_bti(
        files[0], files[0].parent / "config", shape if shape.is_file() else None, preload=False, verbose="error"
    )


_KINDS = (
    Recording("FIF", is_fif, read_fif),
    Recording("EEGLAB", is_eeglab, read_eeglab),
    Recording("BrainVision", is_brainvision, _brainvision),
    Recording("EDF or BDF", is_edf, _edf),
    Recording("CTF", is_ctf, _ctf),
    Recording("KIT", is_kit, _kit),
    Recording("BTi", bti_data, _bti),
)
