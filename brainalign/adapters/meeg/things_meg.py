"""THINGS-MEG as it is published: preprocessed epochs of one person in a split FIF file, with a row of metadata a trial."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.delimited import plain_cells
from brainalign.adapters.files import Format, naming, record_opening
from brainalign.adapters.meeg.lazy_epochs import open_epochs
from brainalign.adapters.meeg.recordings import channel_labels
from brainalign.core.errors import FormatError, require
from brainalign.core.parameters import preview
from brainalign.core.responses import responses
from brainalign.core.schema import dim_of

_FILE = re.compile(r"preprocessed_P(\d+)-epo\.fif")
_NAMES = {"session_nr": "session", "run_nr": "run"}
_NEEDED = ("image_path", "trial_type", "things_image_nr")


def open_things_meg(path: Any, *, system: str, subject: str | int | None = None) -> xr.DataArray:
    """Open one person of THINGS-MEG.

    Parameters
    ----------
    path : str or Path
        The folder ``preprocessed`` with ``preprocessed_P1-epo.fif`` and its parts (``-epo-1.fif`` ...), or the first of these files.
    system : str
        Whose recording this is.
    subject : str or int, optional
        ``"P1"`` or 1; needed where the folder holds several people.

    Returns
    -------
    DataArray of float32, (presentation, neuroid, time)
        Lazy, in chunks of whole trials. ``stimulus_id`` is the image without folder and suffix (``aardvark_01b``), as
        THINGS-fMRI and ``ba.stimuli.from_images`` have it, ``condition`` its concept (``aardvark``); ``trial_type`` is ``exp``, ``test`` or ``catch``; ``session``, ``run``, ``things_image_nr`` (1-based, as the
        authors count) and all other columns are kept. Neuroids are magnetometers with their positions.

    Raises
    ------
    FormatError
        No such person, a missing or truncated part, a missing column, or one image name for two pictures.
    OptionalDependencyError
        MNE is not installed.

    Notes
    -----
    The authors scaled each channel of each trial to the mean and standard deviation of its 100 ms before the image, at the full
    sampling rate, so ``units`` are baseline standard deviations although the FIF file says tesla.
    """
    mne = require("mne", extra="meeg", purpose="reading THINGS-MEG")
    file, person = _file(Path(path), subject)
    epochs, values, files = open_epochs(mne, file)
    metadata = epochs.metadata
    present = [] if metadata is None else [str(column) for column in metadata.columns]
    missing = [column for column in _NEEDED if column not in present]
    if metadata is None or missing:
        raise FormatError(
            f"{str(file)!r} has no metadata column {missing[0]!r}. Its columns are {present}. Expected THINGS-MEG's."
        )
    ids, plain = _image_names(metadata, file), plain_cells(metadata)
    rows: dict[str, Any] = {
        "subject": person,
        "trial": np.asarray(epochs.selection),
        "condition": [concept_of(each) for each in ids],
    }
    for column in present:
        name = _NAMES.get(column, column)
        taken = name in rows or name in ("stimulus_id", "repetition") or dim_of(name) not in (None, "presentation")
        cells = plain[column].to_numpy()
        rows[f"metadata_{name}" if taken else name] = cells.astype(str) if name in ("session", "run") else cells
    rows = {name: np.broadcast_to(np.asarray(value), len(epochs)) for name, value in rows.items()}
    labels = channel_labels(epochs)
    labels["unit_of_measure"] = np.array(["baseline SD"] * len(epochs.ch_names), dtype=object)
    with naming(repr(file.name)):
        x = responses(
            values, stimulus_id=ids, neuroid_id=epochs.ch_names, time=epochs.times, presentation=rows,
            neuroid=labels, sampling_rate_hz=float(epochs.info["sfreq"]), modality="meg", system=system, units="baseline SD",
        )  # fmt: skip
    record = {"subject": person, "stimulus_column": "image_path", "index_base": {"trial": 0, "things_image_nr": 1}, "scale": 1.0}
    return record_opening(x, "things-meg", [each.name for each in files], record)


def _file(path: Path, subject: str | int | None) -> tuple[Path, str]:
    found = {f"P{match[1]}": file for file in _candidates(path) if (match := _FILE.fullmatch(file.name))}
    wanted = None if subject is None else f"P{str(subject).removeprefix('P')}"
    if not found or (wanted is not None and wanted not in found):
        raise FormatError(
            f"{str(path)!r} holds {preview(sorted(found)) or 'no preprocessed_P1-epo.fif'} and subject={subject!r} was asked for. Expected one of "
            "THINGS-MEG's people there."
        )
    if wanted is None and len(found) > 1:
        raise FormatError(f"{str(path)!r} holds the people {preview(sorted(found), 8)}. Choose one with `subject=`.")
    person = wanted or next(iter(found))
    return found[person], person


def _candidates(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.glob("preprocessed_P*-epo.fif")) if path.is_dir() else []


def _image_names(metadata: Any, file: Path) -> list[str]:
    """Return the name of each image; one that stands for two pictures would join what is not the same."""
    both = zip(metadata["image_path"], metadata["trial_type"], strict=True)
    places = [
        path.replace("\\", "/") if isinstance(path, str) else str(kind) for path, kind in both
    ]  # a catch trial may have none
    names = [PurePosixPath(place).stem for place in places]
    seen: dict[str, str] = {}
    for name, place in zip(names, places, strict=True):
        if not name or seen.setdefault(name, place) != place:
            raise FormatError(
                f"{str(file)!r} has the image {name!r} at {seen.get(name)!r} and at {place!r}. Expected one picture a name: open the file with "
                "format='meeg' and stimulus_column='image_path'."
            )
    return names


def concept_of(image: str) -> str:
    """Return what an image of THINGS shows: its name without the last part.

    Parameters
    ----------
    image : str

    Returns
    -------
    str

    Examples
    --------
    >>> concept_of("air_conditioner_01b")
    'air_conditioner'
    """
    return image.rpartition("_")[0] or image


def _matches(source: Any) -> str:
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return ""
    return "a folder with THINGS-MEG's preprocessed_P1-epo.fif" if any(map(_named, _candidates(Path(source)))) else ""


def _named(file: Path) -> bool:
    return _FILE.fullmatch(file.name) is not None


adapter = Format("things-meg", _matches, open_things_meg)
