"""MEG, EEG and intracranial recordings: files and objects that MNE reads, as labelled trials or averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.delimited import as_id, plain_cells
from brainalign.adapters.files import Format, check_finite, naming, narrowed, per_run_ids, reading, record_opening
from brainalign.adapters.meeg.epoching import Cut, cut
from brainalign.adapters.meeg.files import kind_of, load
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
    event_id: Mapping[str, int] | Sequence[str] | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: tuple[float | None, float | None] | None = None,
    trigger_channel: str | None = None,
    align: str = "table",
    tolerance_s: float = 0.01,
    check_ids: Any = None,
    max_mismatched: int = 0,
    overlap: str = "flag",
    proj: bool | None = None,
    run: str | None = None,
    subject: str | None = None,
    session: str | None = None,
) -> xr.DataArray:
    """Open MEG, EEG or intracranial responses.

    Parameters
    ----------
    source : str, Path, mne.Epochs, mne.Evoked, list of mne.Evoked, or mne.io.Raw
        A FIF file (epochs, evoked or raw), EEGLAB ``.set``, BrainVision ``.vhdr``, EDF or BDF, KIT ``.sqd`` or ``.con``, or the
        folder of a CTF or BTi recording (of BTi, the data file in it where there are several), told apart by content; or an object of
        MNE in memory.
    system : str
        Whose recording this is.
    picks : str or sequence of str
        As MNE's ``pick``: ``"data"``, a channel type (``"mag" "grad" "meg" "eeg" ...``) or names. Bad channels are kept
        and flagged in the neuroid coordinate ``bad``.
    modality : {"meg", "eeg", "ieeg"}, optional
        By default that of the picked channels. Channels of two modalities are refused unless it is given: their
        units differ, so open each with its own ``picks``.
    stimulus_column : str, optional
        Column of the events, or of the epochs' metadata, that names the stimulus. Default: ``stimulus_id`` where there is one, else
        the name of the event. Rows of a table without a name there (``n/a``) are no presentations.
    events : ndarray (event, 3), DataFrame, path of a table, "annotations" or "samples", optional
        For raw recordings: MNE events; rows with ``onset_s`` (or BIDS ``onset``), seconds from the first sample, from
        :func:`brainalign.adapters.bids.events.read_events` or an ``_events.tsv``; or the recording's own annotations, without those
        about the recording (``BAD...``, ``EDGE...``, ``boundary``, ``New Segment``). ``"samples"`` cuts nothing: every sample is a
        presentation with its ``onset_s``, for recordings of a story or a film.
    event_id : mapping of str to int, or sequence of str, optional
        Names of the event codes, required with an array of events; otherwise which stimuli to keep.
    tmin, tmax : float, seconds
        Where each epoch starts and ends around its event; raw recordings only, and required there.
    baseline : tuple of float or None, seconds
        Subtracted from raw recordings' epochs; None subtracts nothing. Epochs and averages come as they are.
    trigger_channel : str, optional
        Channel (``"stim"`` for the only stimulus channel) on which each event must have a trigger. Its constant offset from the
        onsets and the jitter are recorded.
    align : {"table", "trigger"}
        Whose onsets count.
    tolerance_s : float
        Largest offset and jitter where those of the table do.
    check_ids : sequence of str, or path of a table, optional
        A second list of what was shown, in the order of the events; of a table, its column ``stimulus_column``.
    max_mismatched : int
        How many events may disagree with ``check_ids``; they are left out, and named in the provenance.
    overlap : {"flag", "raise"}
        What becomes of windows that share samples: marked in the coordinate ``window_overlaps``, or refused.
    proj : bool, optional
        Apply the projections (SSP, average reference) that a recording carries. By default as MNE reads: those of epochs and averages in
        FIF files are applied, those of raw recordings and of objects in memory are left as they are. What is applied is recorded.
    run, subject, session : str, optional

    Returns
    -------
    DataArray of float32, (presentation, neuroid, time), SI units; without time where every sample is a presentation
        Averages: one row a condition, ``stimulus_id`` is its comment and ``n_repeats`` its number of trials. Epochs: one row a
        trial, ``trial`` is its number among all trials, events or rows of the source (from 0), ``condition`` the event's name; metadata and further columns
        of events are coordinates, ``metadata_...`` where the schema keeps the name. Neuroids: ``channel``, ``channel_type``,
        ``unit_of_measure``, ``bad``, ``x_mm y_mm z_mm`` in the frame named by ``coordinate_frame``.

    Raises
    ------
    FormatError
        Damaged or truncated file, missing companion, missing column, averages on different channels or times, events outside the
        recording or without a trigger, onsets that are off, ids that disagree.
    ParameterError
        Channels of two modalities, a raw recording without events or without tmin and tmax.
    OptionalDependencyError
        MNE is not installed.
    """
    mne = require("mne", extra="meeg", purpose="reading MEG and EEG")
    is_file = isinstance(source, (str, Path))
    name = Path(source).name if is_file else type(source).__name__
    how = Cut(events, event_id, tmin, tmax, baseline, trigger_channel, align, tolerance_s, check_ids, max_mismatched, overlap)
    loaded = load(mne, source, proj=proj is not False) if is_file else source
    rows: dict[str, Any] = {}
    record: dict[str, Any] = {"picks": picks, "stimulus_column": stimulus_column, "index_base": 0, "scale": 1.0}
    given = {key: value for key, value in (("run", run), ("subject", subject), ("session", session)) if value is not None}
    is_raw = isinstance(loaded, mne.io.BaseRaw)
    if is_raw and isinstance(events, str) and events == "samples":
        read: Any = partial(_samples, how=how, proj=bool(proj), run=run or "1")
    elif is_raw:
        loaded, rows, found = cut(mne, loaded, how, stimulus_column, bool(proj), name)
        record |= {"tmin": tmin, "tmax": tmax, "baseline": baseline, "align": align, **found}
        stimulus_column = None
    elif how.given():
        raise ParameterError(
            f"open_meeg got {', '.join(how.given())} for {name!r}, which is epoched already. Expected these for raw recordings only: leave them "
            "out, or have MNE do it (`epochs.apply_baseline(...)`, `epochs.crop(...)`) and open its object."
        )
    elif proj and not is_file:
        loaded = (
            [each.copy().apply_proj(verbose="error") for each in loaded]
            if isinstance(loaded, list)
            else loaded.copy().apply_proj(verbose="error")
        )
    if isinstance(loaded, mne.BaseEpochs):
        read = _single_trials
    elif not is_raw:
        read = _averages
    picked, values, ids, labels = read(mne, loaded, picks, stimulus_column, name)
    applied = [str(each["desc"]) for each in picked.info["projs"] if each["active"]]
    record |= {"projections": applied} if applied else {}
    rows = labels | rows
    _refuse_other(rows, given, name)
    rows |= given
    return record_opening(_labelled(picked, values, ids, rows, modality, system, name), "meeg", [name], record)


def _labelled(
    picked: Any, values: np.ndarray, ids: list[str], rows: dict[str, Any], modality: str | None, system: str, name: str
) -> xr.DataArray:
    columns = channel_labels(picked)
    kind, units = _modality(columns, modality, name)
    check_finite(values, name, columns["channel"], allow_nan=False)
    if "onset_s" in rows:
        rows.setdefault("run", "1")
    with naming(repr(name)):
        return responses(
            values, stimulus_id=ids, neuroid_id=columns["channel"], time=picked.times if values.ndim == 3 else None, time_reference="stimulus onset", units=units,
            presentation={key: np.broadcast_to(np.asarray(value), len(ids)) for key, value in rows.items()},
            neuroid=columns, sampling_rate_hz=float(picked.info["sfreq"]), modality=kind, system=system,
        )  # fmt: skip


def _refuse_other(rows: Mapping[str, Any], given: Mapping[str, str], name: str) -> None:
    """Refuse events of another person, session or run than the recording is said to be of."""
    prefix = {"subject": "sub-", "session": "ses-", "run": "run-"}
    for key, value in given.items():
        there = {str(each).removeprefix(prefix[key]) for each in np.atleast_1d(rows.get(key, value))}
        if there != {str(value).removeprefix(prefix[key])}:
            raise ParameterError(
                f"open_meeg got {key}={value!r} for {name!r}, whose events or metadata are of {preview(sorted(there))}. Expected one {key}: leave "
                "the option out, or take the events of this recording."
            )


def _pick(instance: Any, picks: Any, name: str) -> Any:
    copy = instance.copy()
    if hasattr(copy, "events") and not copy.preload:
        copy.load_data()  # MNE drops channels of loaded epochs only
    try:
        return copy.pick(picks, exclude=(), verbose="error")
    except (ValueError, TypeError) as error:
        present = sorted(set(instance.get_channel_types()))
        known = [*present, *instance.ch_names]
        unknown = [str(each) for each in np.atleast_1d(picks) if str(each) not in known]
        raise ParameterError(
            f"{name!r} has no channels for picks={picks!r}. Expected channel types among {present}, or names such as "
            f"{preview(instance.ch_names)}; a channel whose unit is no voltage and no field is 'misc'.{did_you_mean(''.join(unknown[:1]), known)}"
        ) from error


def _samples(
    mne: Any, raw: Any, picks: Any, stimulus_column: str | None, name: str, *, how: Cut, proj: bool, run: str
) -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    """Return every sample as a row of its own."""
    used = [option for option in how.given() if option != "events"] + (["stimulus_column"] if stimulus_column else [])
    if used:
        raise ParameterError(
            f"open_meeg got {', '.join(used)} for {name!r} with events='samples', where nothing is cut. Leave it out."
        )
    picked = _pick(raw.copy().apply_proj(verbose="error") if proj else raw, picks, name)
    with reading(name, "samples"):
        values = narrowed(picked.get_data(verbose="error").T, np.float32, name)
    return picked, values, per_run_ids(run, len(values), "s"), {"onset_s": picked.times, "run": run}


def _averages(
    mne: Any, source: Any, picks: Any, stimulus_column: str | None, name: str
) -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    evokeds = [source] if isinstance(source, mne.Evoked) else list(source) if isinstance(source, (list, tuple)) else []
    if not evokeds or not all(isinstance(item, mne.Evoked) for item in evokeds):
        raise ParameterError(
            f"open_meeg got a {type(source).__name__}. Expected a path, Epochs, Raw, Evoked or a list of Evoked."
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
    first.info["bads"] = [channel for channel in first.ch_names if any(channel in item.info["bads"] for item in picked)]
    ids = [str(item.comment) for item in evokeds]
    labels = {"condition": ids, "n_repeats": [int(item.nave) for item in evokeds]}
    return first, narrowed(np.stack([item.data for item in picked]), np.float32, name), ids, labels


def _single_trials(
    mne: Any, epochs: Any, picks: Any, stimulus_column: str | None, name: str
) -> tuple[Any, np.ndarray, list[str], dict[str, Any]]:
    ids, labels = _trials(epochs, stimulus_column, name)
    if not ids:
        raise FormatError(f"{name!r} holds no trials. Expected at least one: all were rejected, or none names a stimulus.")
    shown = np.flatnonzero(ids)
    if len(shown) < len(ids):
        return _single_trials(mne, epochs[shown], picks, stimulus_column, name)
    picked = _pick(epochs, picks, name)
    with reading(name, "epochs"):
        return picked, narrowed(picked.get_data(copy=True, verbose="error"), np.float32, name), ids, labels


def _trials(epochs: Any, stimulus_column: str | None, name: str) -> tuple[list[str], dict[str, Any]]:
    """Return the stimulus of each trial, and its other labels."""
    names = {code: label for label, code in epochs.event_id.items()}
    condition = [names[code] for code in epochs.events[:, 2]]
    labels: dict[str, Any] = {"condition": condition, "trial": np.asarray(epochs.selection)}
    metadata = None if epochs.metadata is None else plain_cells(epochs.metadata)
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
    ids = condition if chosen is None else [as_id(value) for value in metadata[chosen]]
    return ids, labels


def channel_labels(picked: Any) -> dict[str, Any]:
    """Return the labels of channels: name, type, unit, whether it is bad, and where it is.

    Parameters
    ----------
    picked : mne.Epochs or mne.Evoked

    Returns
    -------
    dict of str to ndarray (channel,)
        Positions that are unknown (all zero) are NaN.
    """
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


def _matches(source: Any) -> str:
    """Say which recording a file or folder is, or that it is an object of MNE."""
    if isinstance(source, (str, Path)):
        found = kind_of(source)
        return f"a recording of {found}" if found else ""
    first = source[0] if isinstance(source, (list, tuple)) and source else source
    is_mne = type(first).__module__.partition(".")[0] == "mne" and hasattr(first, "info") and hasattr(first, "ch_names")
    return f"an object of MNE ({type(first).__name__})" if is_mne else ""


adapter = Format("meeg", _matches, open_meeg)
