"""EEGLAB ``.set`` files: whole, with their ``.fdt``, and with the fields of their events, which MNE leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.delimited import as_id
from brainalign.adapters.files import is_path, reading
from brainalign.adapters.matfile import is_mat, is_version_7_3, read_mat
from brainalign.core.errors import FormatError

MISSING = "n/a"
_FIELDS = {"nbchan", "pnts", "srate", "trials"}
_PLACES = ("latency", "epoch", "duration")  # where an event lies; MNE carries these


def is_eeglab(source: Any) -> bool:
    """Return True for a MATLAB file that holds the struct of EEGLAB, or its fields.

    Parameters
    ----------
    source : object

    Returns
    -------
    bool
    """
    if not is_path(source) or not is_mat(source):
        return False
    with Path(source).open("rb") as file:
        start = file.read(512)
    if start[:10] == b"MATLAB 7.3":
        return Path(source).suffix == ".set"
    from scipy.io import whosmat

    try:
        names = {name for name, *_ in whosmat(Path(source))}
    except Exception:
        return Path(source).suffix == ".set"
    return names >= _FIELDS or "EEG" in names


def read_eeglab(mne: Any, path: Path) -> Any:
    """Read a ``.set`` file, continuous or epoched.

    Parameters
    ----------
    mne : module
    path : Path

    Returns
    -------
    mne.io.Raw or mne.Epochs
        Raw: the annotations carry the fields of the events as ``extras``; ``boundary`` events are named ``BAD boundary``, so that
        no epoch is cut across a gap. Epochs: the metadata hold the fields of the event at time 0, and its type as ``stimulus_id``.

    Raises
    ------
    FormatError
        Damaged or truncated, no ``.fdt``, sizes that contradict each other, events outside the recording.
    OptionalDependencyError
        Saved as MATLAB 7.3, and h5py is not installed.
    """
    eeg = _struct(path)
    shape = _shape(eeg, path)
    fdt = _check_data(eeg, shape, path)
    with reading(path, "EEGLAB"), _for_mne(eeg, shape, path, fdt) as (given, stays):
        if shape[2] > 1:
            return _epochs(mne, eeg, shape[2], path, given)
        annotations = _annotations(mne, eeg, shape[1], path)
        raw = mne.io.read_raw_eeglab(given, eog="auto", preload=not stays, verbose="error")
        return raw.set_annotations(annotations, verbose="error")


def _struct(path: Path) -> dict[str, Any]:
    variables = read_mat(path)
    eeg = variables.get("EEG", variables)
    missing = sorted(_FIELDS - set(eeg)) if isinstance(eeg, dict) else sorted(_FIELDS)
    if missing:
        raise FormatError(
            f"{str(path)!r} has no field {missing[0]!r}. Expected one data set of EEGLAB, saved with `pop_saveset`."
        )
    return eeg


def _shape(eeg: dict[str, Any], path: Path) -> tuple[int, int, int]:
    found = []
    for name in ("nbchan", "pnts", "trials"):
        value = np.asarray(eeg[name]).ravel()
        whole = value.size == 1 and value.dtype.kind in "iuf" and 1 <= value[0] <= 2**40 and float(value[0]).is_integer()
        if not whole:
            raise FormatError(f"{str(path)!r} has {name} = {value.tolist()[:3]}. Expected one whole number of at least 1.")
        found.append(int(value[0]))
    return found[0], found[1], found[2]


def _check_data(eeg: dict[str, Any], shape: tuple[int, int, int], path: Path) -> Path | None:
    """Refuse values that are not as many as the header promises, before anything is read of them; return the ``.fdt``, if they lie in one."""
    data, n_places = eeg.get("data"), len(_items(eeg.get("chanlocs")))
    if n_places not in (0, shape[0]):
        raise FormatError(
            f"{str(path)!r} describes {n_places} channels (EEG.chanlocs) and has nbchan = {shape[0]}. Expected as many: run `eeg_checkset(EEG)` and save "
            "it again."
        )
    if not isinstance(data, str):
        found = np.asarray(data)
        if found.dtype.kind not in "iuf" or found.size != shape[0] * shape[1] * shape[2]:
            raise FormatError(
                f"{str(path)!r} holds data of shape {found.shape} and dtype {found.dtype}; its header promises {shape} (nbchan, pnts, trials). "
                "Expected as many: it is damaged, save it again."
            )
        return None
    if Path(data).name != data or "\\" in data:
        raise FormatError(
            f"{str(path)!r} keeps its values in {data!r}, outside its folder. Expected the name of a file beside it."
        )
    beside = [path.parent / data, path.with_suffix(".fdt")]  # the second where the pair was renamed
    file = next((each for each in beside if each.is_file()), None)
    if file is None:
        raise FormatError(
            f"{str(path)!r} keeps its values in {data!r}, which is not in {str(path.parent)!r}. Expected it beside the .set: copy both files."
        )
    promised, there = 4 * shape[0] * shape[1] * shape[2], file.stat().st_size
    if there != promised:
        raise FormatError(
            f"{str(file)!r} has {there} bytes; {path.name!r} promises {promised} ({shape[0]} channels, {shape[1]} samples, {shape[2]} trials, "
            "float32). Expected as many: it is truncated or of another recording, copy both files again."
        )
    return file


@contextmanager
def _for_mne(eeg: dict[str, Any], shape: tuple[int, int, int], path: Path, fdt: Path | None) -> Iterator[tuple[Path, bool]]:
    """Give the file that MNE is to read, and whether it stays.

    MNE reads version 7.3 through pymatreader, and so HDF5 unchecked. It gets what it needs in version 5 instead, with the values in an
    ``.fdt``: in version 5 they may not be over 4 GB.
    """
    if not is_version_7_3(path):
        yield path, True
        return
    from scipy.io import savemat

    with TemporaryDirectory() as folder:
        values = Path(folder) / "values.fdt" if fdt is None else fdt.absolute()
        if fdt is None:
            np.asarray(eeg["data"], dtype="<f4").ravel(order="F").tofile(values)
        kept: dict[str, Any] = {name: eeg[name] for name in ("srate", "xmin", "xmax") if name in eeg}
        kept |= dict(zip(("nbchan", "pnts", "trials"), shape, strict=True)) | {"data": str(values)}
        kept["chanlocs"] = _struct_array(_items(eeg.get("chanlocs")), ("labels", "type", "X", "Y", "Z"))
        info = eeg.get("chaninfo")
        others = _items(info.get("nodatchans")) if isinstance(info, dict) else []
        kept["chaninfo"] = {"nodatchans": _struct_array(others, ("type", "description", "X", "Y", "Z"))}
        savemat(Path(folder) / "header.set", kept, appendmat=False)
        yield Path(folder) / "header.set", fdt is not None


def _struct_array(items: list[dict[str, Any]], fields: tuple[str, ...]) -> np.ndarray[Any, Any]:
    """Return a struct array as scipy writes it, of those fields that all items have."""
    kept = [field for field in fields if all(field in item for item in items)]
    if not items or not kept:
        return np.zeros((0, 0))
    array = np.empty((1, len(items)), dtype=[(field, object) for field in kept])
    array[0] = [tuple(item[field] for field in kept) for item in items]
    return array


def _annotations(mne: Any, eeg: dict[str, Any], n_samples: int, path: Path) -> Any:
    events = [event for event in _items(eeg.get("event")) if np.isfinite(_number(event.get("latency")))]
    rate = _number(eeg["srate"])
    latency = np.array([_number(event["latency"]) for event in events])  # 1-based samples, which need not be whole
    outside = (latency < 0) | (latency > n_samples + 1)
    if outside.any() or not rate > 0:
        at = int(np.argmax(outside)) if len(latency) else 0
        raise FormatError(
            f"{str(path)!r} has the event {at} at sample {latency[at] if len(latency) else 'none'} (1-based) of {n_samples} at {rate} Hz. Expected events "
            "inside the recording: it is truncated, or its events are of another one."
        )
    names = [_name(event.get("type")) for event in events]
    names = ["BAD boundary" if name == "boundary" else name for name in names]
    table = event_table(events)
    extras = [{str(key): value for key, value in row.items()} for row in table.to_dict("records")] or None
    seconds = np.nan_to_num([_number(event.get("duration")) for event in events]) / rate
    return mne.Annotations((latency - 1) / rate, seconds, names, extras=extras)


def _epochs(mne: Any, eeg: dict[str, Any], n_trials: int, path: Path, given: Path) -> Any:
    locked, names = _locking_events(eeg, n_trials, path)
    codes = {name: code for code, name in enumerate(dict.fromkeys(names), 1)}
    array = np.array([[trial, 0, codes[name]] for trial, name in enumerate(names)])
    epochs = mne.read_epochs_eeglab(given, events=array, event_id=codes, eog="auto", verbose="error")
    table = event_table(locked).rename(columns={"stimulus_id": "event_stimulus_id"})
    epochs.metadata = table.assign(stimulus_id=[_name(event.get("type")) for event in locked])
    return epochs


def _locking_events(eeg: dict[str, Any], n_trials: int, path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the event at time 0 of each trial, and the names of all its events, joined."""
    events, epochs = _items(eeg.get("event")), _items(eeg.get("epoch"))
    if len(epochs) != n_trials:
        raise FormatError(
            f"{str(path)!r} has {n_trials} trials and describes {len(epochs)} epochs. Expected one description a trial (EEG.epoch): run "
            "`eeg_checkset(EEG, 'eventconsistency')` and save it again."
        )
    locked, names = [], []
    for trial, epoch in enumerate(epochs):
        kinds = [_name(kind) for kind in _cells(epoch.get("eventtype"))]
        index = [_number(number) for number in _cells(epoch.get("event"))]
        latency = [_number(number) for number in _cells(epoch.get("eventlatency"))]
        at = [i for i, value in enumerate(latency) if abs(value) < 1e-6]
        if not at or len({len(kinds), len(index), len(latency)}) != 1 or not all(1 <= number <= len(events) for number in index):
            raise FormatError(
                f"{str(path)!r}: the trial {trial} has the events {kinds} at {latency} ms. Expected one at 0, which it is locked to, and their "
                "numbers in EEG.event: run `eeg_checkset(EEG, 'eventconsistency')` and save it again."
            )
        locked.append(events[int(index[at[0]]) - 1])
        names.append("/".join(kinds))
    return locked, names


def event_table(events: list[dict[str, Any]]) -> pd.DataFrame:
    """Return the fields of events beyond type and place: numbers where all are numbers or empty, else text.

    Parameters
    ----------
    events : list of dict

    Returns
    -------
    DataFrame
        An empty cell is NaN among numbers, and ``n/a`` among text.
    """
    fields = [name for name in dict.fromkeys(key for event in events for key in event) if name not in ("type", *_PLACES)]
    columns: dict[str, Any] = {}
    for field in fields:
        cells = [event.get(field) for event in events]
        texts = any(isinstance(cell, str) and cell for cell in cells)
        numbers = np.array([np.nan if texts else _number(cell) for cell in cells])
        if texts:
            columns[field] = [_name(cell) for cell in cells]
        elif np.isfinite(numbers).all() and (numbers == np.round(numbers)).all():
            columns[field] = numbers.astype(np.int64)
        elif np.isfinite(numbers).any():
            columns[field] = numbers
    return pd.DataFrame(columns, index=range(len(events)))


def _items(value: Any) -> list[dict[str, Any]]:
    """Return a struct array as a list; one struct alone is a dict, none an empty array."""
    found = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
    return [item for item in found if isinstance(item, dict)]


def _cells(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if isinstance(value, str) else list(np.asarray(value).ravel())


def _number(value: Any) -> float:
    """Return a number that MATLAB keeps in an array, a cell or as text; NaN where there is none."""
    inner = value[0] if isinstance(value, list) and len(value) == 1 else value
    found = np.asarray(inner).ravel()
    if found.size != 1:
        return np.nan
    try:
        return float(found[0])
    except (TypeError, ValueError):
        return np.nan


def _name(value: Any) -> str:
    """Return the name of an event; a numeric one loses MATLAB's decimal point."""
    if isinstance(value, str):
        return value or MISSING
    number = _number(value)
    return as_id(number) or MISSING
