"""MEG, EEG and intracranial recordings: MNE objects and FIF files, epoched or averaged."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import Format, check_finite, existing, is_path, naming, reading, record_opening
from brainalign.adapters.meeg.fif import is_fif, whole_fif
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.responses import responses
from brainalign.core.schema import dim_of

_MODALITY = {"mag": "meg", "grad": "meg", "ref_meg": "meg", "eeg": "eeg", "seeg": "ieeg", "ecog": "ieeg", "dbs": "ieeg"}
_UNIT = {"mag": "T", "grad": "T/m", "ref_meg": "T", "eeg": "V", "seeg": "V", "ecog": "V", "dbs": "V"}
_FRAMES = {1: "MEG device", 4: "head", 5: "MRI"}


def open_meeg(
    source: Any,
    *,
    system: str,
    picks: str | Sequence[str] = "data",
    modality: str | None = None,
    stimulus_column: str | None = None,
    events: Any = None,
    event_id: Mapping[str, int] | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: tuple[float | None, float | None] | None = None,
    run: str | None = None,
    subject: str | None = None,
    session: str | None = None,
) -> xr.DataArray:
    """Open MEG, EEG or intracranial responses.

    Parameters
    ----------
    source : str, Path, mne.Epochs, mne.Evoked, list of mne.Evoked, or mne.io.Raw
        A FIF file (epochs, evoked or raw, told apart by content), or an object of MNE in memory.
    system : str
        Whose recording this is.
    picks : str or sequence of str
        As MNE's ``pick``: ``"data"``, a channel type (``"mag" "grad" "meg" "eeg" ...``) or names. Bad channels are kept
        and flagged in the neuroid coordinate ``bad``.
    modality : {"meg", "eeg", "ieeg"}, optional
        By default that of the picked channels. Channels of two modalities are refused unless it is given: their
        units differ, so open each with its own ``picks``.
    stimulus_column : str, optional
        Column of the epochs' metadata that names the stimulus. Default: ``stimulus_id`` where there is one, else the
        name in ``event_id``.
    events : ndarray (event, 3), DataFrame or "annotations", optional
        For raw recordings: MNE events, or rows with ``stimulus_id`` and ``onset_s`` (seconds from the first sample), or
        the recording's own annotations.
    event_id : mapping of str to int, optional
        Names of the event codes; required with an array of events.
    tmin, tmax : float, seconds
        Where each epoch starts and ends around its event; raw recordings only, and required there.
    baseline : tuple of float or None, seconds
        Subtracted from raw recordings' epochs; None subtracts nothing. Epochs and averages come as they are.
    run, subject, session : str, optional

    Returns
    -------
    DataArray of float32, (presentation, neuroid, time), SI units
        Averages: one row a condition, ``stimulus_id`` is its comment and ``n_repeats`` its number of trials. Epochs: one row a
        trial, ``trial`` is its number before rejection, ``condition`` the event's name. Neuroids: ``channel``,
        ``channel_type``, ``unit_of_measure``, ``bad``, ``x_mm y_mm z_mm`` in the frame named by ``coordinate_frame``.

    Raises
    ------
    FormatError
        Damaged file, missing metadata column, averages on different channels or times, events outside the recording.
    ParameterError
        Channels of two modalities, a raw recording without events or without tmin and tmax.
    OptionalDependencyError
        MNE is not installed.
    """
    mne = require("mne", extra="meeg", purpose="reading MEG and EEG")
    name = Path(source).name if isinstance(source, (str, Path)) else type(source).__name__
    given = {"events": events, "event_id": event_id, "tmin": tmin, "tmax": tmax, "baseline": baseline}
    loaded = _load(mne, source) if isinstance(source, (str, Path)) else source
    rows: dict[str, Any] = {"run": run, "subject": subject, "session": session}
    if isinstance(loaded, mne.io.BaseRaw):
        loaded, rows["onset_s"] = _epoch(mne, loaded, name, given)
    elif any(value is not None for value in given.values()):
        used = [key for key, value in given.items() if value is not None]
        raise ParameterError(
            f"open_meeg got {', '.join(used)} for {name!r}, which is epoched already. They are for raw recordings only."
        )
    read = _single_trials if isinstance(loaded, mne.BaseEpochs) else _averages
    picked, values, ids, labels = read(mne, loaded, picks, stimulus_column, name)
    rows = labels | {key: value for key, value in rows.items() if value is not None}
    x = _labelled(picked, values, ids, rows, modality, system, name)
    params = {"picks": picks, "stimulus_column": stimulus_column, "tmin": tmin, "tmax": tmax, "baseline": baseline}
    return record_opening(x, "meeg", [name], params)


def _labelled(
    picked: Any, values: np.ndarray, ids: list[str], rows: dict[str, Any], modality: str | None, system: str, name: str
) -> xr.DataArray:
    columns = _channels(picked)
    kind, units = _modality(columns, modality, name)
    check_finite(values, name, columns["channel"], allow_nan=False)
    if "onset_s" in rows:
        rows.setdefault("run", "1")
    with naming(repr(name)):
        return responses(
            values, stimulus_id=ids, neuroid_id=columns["channel"], time=picked.times, time_reference="stimulus onset", units=units,
            presentation={key: np.broadcast_to(np.asarray(value), len(ids)) for key, value in rows.items()},
            neuroid=columns, sampling_rate_hz=float(picked.info["sfreq"]), modality=kind, system=system,
        )  # fmt: skip


def _load(mne: Any, path: Any) -> Any:
    """Return Epochs, a list of Evoked, or Raw, whichever the file holds."""
    file = existing(path)
    with whole_fif(file) as (plain, kind), reading(file, "FIF"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # MNE's rules about file names
        if kind == "epochs":
            return mne.read_epochs(plain, preload=True, verbose="error")
        if kind == "evoked":
            return mne.read_evokeds(plain, verbose="error")
        if kind == "raw":
            return mne.io.read_raw_fif(plain, preload=plain != file, verbose="error")
    raise FormatError(f"{str(file)!r} is a FIF file that holds {kind}. Expected epochs, averages or a raw recording.")


def _pick(instance: Any, picks: Any, name: str) -> Any:
    copy = instance.copy()
    if not getattr(copy, "preload", True):
        copy.load_data()  # MNE drops channels of loaded epochs only
    try:
        return copy.pick(picks, exclude=(), verbose="error")
    except (ValueError, TypeError) as error:
        present = sorted(set(instance.get_channel_types()))
        raise ParameterError(
            f"{name!r} has no channels for picks={picks!r} ({' '.join(str(error).split())[:200]}). Expected channel types among {present}, "
            f"or names such as {preview(instance.ch_names)}."
        ) from error


def _averages(
    mne: Any, source: Any, picks: Any, stimulus_column: str | None, name: str
) -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    evokeds = [source] if isinstance(source, mne.Evoked) else list(source) if isinstance(source, (list, tuple)) else []
    if not evokeds or not all(isinstance(item, mne.Evoked) for item in evokeds):
        raise ParameterError(
            f"open_meeg got a {type(source).__name__}. Expected a FIF path, Epochs, Raw, Evoked or a list of Evoked."
        )
    if stimulus_column is not None:
        raise ParameterError(
            f"open_meeg got stimulus_column={stimulus_column!r} for averages, which have no metadata. Rename their comments."
        )
    picked = [_pick(item, picks, name) for item in evokeds]
    first = picked[0]
    for item in picked[1:]:
        if item.ch_names != first.ch_names:
            odd = sorted(set(item.ch_names) ^ set(first.ch_names)) or ["the order"]
            raise FormatError(
                f"{name!r}: the averages {first.comment!r} and {item.comment!r} differ in {len(odd)} channels: {preview(odd)}. Expected the same "
                "ones in the same order: pick common channels, `mne.equalize_channels(evokeds)`."
            )
        if item.times.shape != first.times.shape or np.abs(item.times - first.times).max() > 1e-6:
            raise FormatError(
                f"{name!r}: the average {first.comment!r} runs from {first.times[0]:g} to {first.times[-1]:g} s and {item.comment!r} from "
                f"{item.times[0]:g} to {item.times[-1]:g} s. Expected the same samples: crop or resample one."
            )
    unnamed = [i for i, item in enumerate(evokeds) if not (item.comment or "").strip()]
    if unnamed:
        raise FormatError(f"{name!r}: average {unnamed[0]} has no comment. Expected its condition there: set `evoked.comment`.")
    ids = [str(item.comment) for item in evokeds]
    labels = {"condition": ids, "n_repeats": [int(item.nave) for item in evokeds]}
    return first, np.stack([item.data for item in picked]).astype(np.float32), ids, labels


def _single_trials(
    mne: Any, epochs: Any, picks: Any, stimulus_column: str | None, name: str
) -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    ids, labels = _trials(epochs, stimulus_column, name)
    if not ids:
        raise FormatError(f"{name!r} holds no trials. Expected at least one: all were rejected, or no event matched.")
    picked = _pick(epochs, picks, name)
    with reading(name, "epochs"):
        return picked, picked.get_data(copy=True, verbose="error").astype(np.float32), ids, labels


def _trials(epochs: Any, stimulus_column: str | None, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return the stimulus of each trial, and its other labels."""
    names = {code: label for label, code in epochs.event_id.items()}
    condition = [names[code] for code in epochs.events[:, 2]]
    labels: dict[str, Any] = {"condition": condition, "trial": np.asarray(epochs.selection)}
    metadata = epochs.metadata
    present = [] if metadata is None else [str(column) for column in metadata.columns]
    if stimulus_column is not None and stimulus_column not in present:
        raise FormatError(
            f"{name!r} has no metadata column {stimulus_column!r}. Its columns are {present}.{did_you_mean(stimulus_column, present)} Name "
            "the right one, or leave it out to use the names of the events."
        )
    for column in present:
        # Names that the schema keeps for other dims, or derives itself, stay readable under a prefix.
        taken = column in (*labels, "repetition", "stimulus_id") or dim_of(column) not in (None, "presentation")
        labels[f"metadata_{column}" if taken else column] = metadata[column].to_numpy()
    chosen = stimulus_column or ("stimulus_id" if "stimulus_id" in present else None)
    labels.pop("metadata_stimulus_id" if chosen == "stimulus_id" else "", None)
    ids = condition if chosen is None else [str(value) for value in metadata[chosen]]
    return ids, labels


def _epoch(mne: Any, raw: Any, name: str, given: dict[str, Any]) -> tuple[Any, np.ndarray]:
    """Return epochs of a raw recording, and the seconds from its first sample to each event that was kept."""
    events, tmin, tmax = given["events"], given["tmin"], given["tmax"]
    if events is None or tmin is None or tmax is None:
        raise ParameterError(
            f"{name!r} is a raw recording and events={'None' if events is None else 'given'}, tmin={tmin!r}, tmax={tmax!r}. Expected all "
            "three: an array (event, 3), a table, or 'annotations'; and the seconds around each event."
        )
    array, codes, metadata = _events(mne, raw, events, given["event_id"], name)
    with reading(name, "epochs around the given events"):
        epochs = mne.Epochs(
            raw, array, codes, tmin=tmin, tmax=tmax, baseline=given["baseline"], metadata=metadata, preload=True, proj=False,
            verbose="error",
        )  # fmt: skip
    outside = [i for i, why in enumerate(epochs.drop_log) if set(why) & {"NO_DATA", "TOO_SHORT"}]
    if outside:
        raise FormatError(
            f"{name!r} does not hold {len(outside)} of the epochs, the first around event {outside[0]} at sample {array[outside[0], 0]}. The "
            f"recording has samples {raw.first_samp} to {raw.last_samp}: drop these events, or narrow tmin and tmax."
        )
    return epochs, (epochs.events[:, 0] - raw.first_samp) / raw.info["sfreq"]


def _events(mne: Any, raw: Any, events: Any, event_id: Any, name: str) -> tuple[np.ndarray, dict[str, int], pd.DataFrame | None]:
    if isinstance(events, str) and events == "annotations":
        array, codes = mne.events_from_annotations(raw, event_id=event_id or "auto", verbose="error")
        if not len(array):
            raise FormatError(f"{name!r} has no annotations to make events of. Pass `events=` as an array or a table.")
        return array, codes, None
    if isinstance(events, pd.DataFrame):
        missing = {"stimulus_id", "onset_s"} - set(events.columns)
        if missing:
            raise FormatError(f"`events=` has no column {min(missing)!r}. Its columns are {list(events.columns)}.")
        onsets = events["onset_s"].to_numpy(np.float64)
        if not np.isfinite(onsets).all():
            at = int(np.argmin(np.isfinite(onsets)))
            raise FormatError(
                f"`events=` has the onset {onsets[at]} in row {at}. Expected seconds in every row: drop the row or mend it."
            )
        kinds = sorted(set(events["stimulus_id"].astype(str)))
        codes = {kind: code for code, kind in enumerate(kinds, 1)}
        sample = np.round(onsets * raw.info["sfreq"]).astype(np.int64) + raw.first_samp
        array = np.column_stack([sample, np.zeros_like(sample), [codes[kind] for kind in events["stimulus_id"].astype(str)]])
        return array, codes, events.drop(columns=["onset_s"]).reset_index(drop=True)
    array = np.asarray(events)
    if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in "iu":
        raise ParameterError(
            f"`events=` has shape {array.shape} and dtype {array.dtype}. Expected integers, (event, 3): sample, 0, code."
        )
    if not event_id:
        raise ParameterError(
            f"`events=` holds the codes {preview(np.unique(array[:, 2]))} and there is no event_id. Expected `event_id={{name: code}}`, which "
            "says what each code stands for."
        )
    return array, dict(event_id), None


def _channels(picked: Any) -> dict[str, Any]:
    """Return one label a channel; positions that are unknown (all zero) are NaN."""
    kinds, chs = picked.get_channel_types(), picked.info["chs"]
    place = np.array([ch["loc"][:3] for ch in chs], dtype=np.float64).reshape(len(chs), 3) * 1e3
    place[(place == 0).all(axis=1)] = np.nan
    return {
        "channel": np.array(picked.ch_names, dtype=object),
        "channel_type": np.array(kinds, dtype=object),
        "unit_of_measure": np.array([_UNIT.get(kind, "unknown") for kind in kinds], dtype=object),
        "bad": np.isin(picked.ch_names, picked.info["bads"]),
        "coordinate_frame": np.array([_FRAMES.get(int(ch["coord_frame"]), "unknown") for ch in chs], dtype=object),
        **{axis: place[:, i] for i, axis in enumerate(("x_mm", "y_mm", "z_mm"))},
    }


def _modality(columns: dict[str, Any], modality: str | None, name: str) -> tuple[str, str]:
    """Return the modality and the units of the picked channels."""
    kinds = list(dict.fromkeys(columns["channel_type"]))
    found = sorted({_MODALITY.get(kind, "other") for kind in kinds})
    if modality is None and (len(found) > 1 or found == ["other"]):
        counts = ", ".join(f"{int((columns['channel_type'] == kind).sum())} {kind}" for kind in kinds)
        raise ParameterError(
            f"{name!r}: the picked channels are {counts}, of the modalities {found}. Expected one of meg, eeg, ieeg: choose with `picks='meg'`, "
            "`picks='eeg'` ..., or say `modality=` to open them as one array."
        )
    return modality or found[0], ", ".join(dict.fromkeys(columns["unit_of_measure"]))


def _matches(source: Any) -> bool:
    """FIF by its first tag, or an object of MNE."""
    if is_path(source):
        return is_fif(Path(source))
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    module = type(first).__module__
    return module.partition(".")[0] == "mne" and hasattr(first, "info") and hasattr(first, "ch_names")


adapter = Format("meeg", _matches, open_meeg)
