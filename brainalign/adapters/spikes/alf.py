"""Sessions in ALF files, of the International Brain Laboratory and of Steinmetz et al. (2019), as spike counts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import Format, naming, record_opening
from brainalign.adapters.spikes.alf_files import collections, columns
from brainalign.adapters.spikes.alf_probe import Probe, read_probe
from brainalign.adapters.spikes.alignment import check_edges, check_events, check_recorded, first_and_last, spike_responses
from brainalign.adapters.spikes.presented import BLANK, presented, timed
from brainalign.adapters.spikes.quality import refuse_none
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, preview
from brainalign.engine.binning import bin_spikes

_ONSETS = ("stimOn_times", "visualStim_times")
_CONTRASTS = (("contrastLeft", "contrastRight"), ("visualStim_contrastLeft", "visualStim_contrastRight"))
_SESSION = re.compile(r"(?P<subject>[\w-]+)/(?P<session>\d{4}-\d{2}-\d{2}/\d{1,3})(/alf)?$")


def open_alf(
    path: Any,
    *,
    system: str,
    edges_s: Any,
    events: str | pd.DataFrame | None = None,
    onset_column: str | None = None,
    stimulus_column: str | Sequence[str] | None = None,
    stimulus_format: str | None = None,
    blank: Sequence[Any] | None = None,
    blanks: str = "keep",
    missing_onsets: str = "refuse",
    probes: Sequence[str] | None = None,
    sorter: str | None = None,
    index_base: int | None = None,
    quality: Mapping[str, Any] | None = None,
    recorded_s: Sequence[float] | None = None,
    run: str = "1",
    subject: str | None = None,
    session: str | None = None,
) -> xr.DataArray:
    """Open the sorted units of a session as counts: around trials, or in the bins of a continuous recording.

    Parameters
    ----------
    path : str or Path
        The session (``.../2020-01-08/001``), its ``alf`` folder, or a folder with all files side by side as in Steinmetz et al.
    system : str
        Whose neurons these are.
    edges_s : array_like, (bin + 1,), seconds
        Half-open bins, relative to each event's onset where there are events, else on the clock of the session.
    events : {"trials"} or DataFrame, optional
        The trials of the session, or events of your own with ``stimulus_id`` and ``onset_s``.
    onset_column : str, optional
        Attribute of the trials. Default: ``stimOn_times``, or ``visualStim_times``.
    stimulus_column, stimulus_format, blank, blanks
        How attributes of the trials name a stimulus: see :func:`brainalign.adapters.spikes.presented.presented`. Default: from the
        contrasts, ``"left-0.25"``, ``"right-1"``, ``"left-0.5_right-1"`` and, where neither side shows anything, ``"blank"``. NaN says
        that there was no stimulus on that side, and a contrast of 0 shows none either; both stay in ``contrastLeft`` and
        ``contrastRight``.
    missing_onsets : {"refuse", "drop"}
        Trials without onset are an error, or left out and counted.
    probes : sequence of str, optional
        Which probes (``"probe00"``). Default: all, joined along neuroid.
    sorter : str, optional
        Folder of the sorting, where a probe has several.
    index_base : {0, 1}, optional
        From what the channels of clusters count. ALF says 0; ``clusters.peakChannel`` of Steinmetz et al. counts from 1, which
        must be said unless the numbers decide. With a base given, a channel outside is ``"unknown"``.
    quality : mapping of column to rule, optional
        Cuts on what is known of the clusters: ``{"label": 1}``, ``{"phy_annotation": ">=2"}``. The attr ``quality_cuts`` (JSON) says how
        many each of them left, of all probes.
    recorded_s : (start, stop), seconds, optional
        What was recorded: windows must lie inside. Where it is not known, they must touch the time from the first to the last spike.
    run : str
    subject, session : str, optional
        Default: as the folders of the session say (``<subject>/<date>/<number>``).

    Returns
    -------
    DataArray of int32, (presentation, neuroid[, time]), spikes/bin
        ``neuroid_id`` is ``probe00/12``: the probe, and the row of the cluster from 0 (``"12"`` without probe folders). Every
        attribute of one value a cluster is a coordinate, ``region`` and ``channel`` where they are known.

    Raises
    ------
    FormatError
        A missing or damaged file, files of different length, clusters or channels that are not there, mixed index bases.
    ParameterError
        Several sortings, an unknown index base, trials without onset, windows where nothing was recorded.
    OptionalDependencyError
        Tables in parquet, and pyarrow is not installed.
    """
    check_choice("missing_onsets", missing_onsets, ("refuse", "drop"), owner="open_alf")
    check_choice("index_base", index_base, (None, 0, 1), owner="open_alf")
    root = Path(path)
    if not root.is_dir():
        raise FormatError(f"there is no folder {str(path)!r}. Expected a session of ALF files.")
    edges, found = check_edges(edges_s, owner="open_alf"), collections(root)
    parts = [
        read_probe(name, folder, found[folder], index_base, quality)
        for name, folder in _probe_folders(root, found, probes, sorter).items()
    ]
    cuts = [
        {**step[0], "n_left": sum(one["n_left"] for one in step)} for step in zip(*(part.cuts for part in parts), strict=True)
    ]
    refuse_none(cuts, sum(part.n_clusters for part in parts), repr(root.name))
    options = {"stimulus_column": stimulus_column, "stimulus_format": stimulus_format, "blank": blank, "blanks": blanks}
    table, how = _trials(root, found, events, onset_column, missing_onsets, options)
    times = [train for part in parts for train in part.times]
    onsets = np.zeros(1) if table is None else table["onset_s"].to_numpy(np.float64)
    check_recorded(onsets, edges, source=repr(root.name), recorded_s=recorded_s, spikes_s=first_and_last(times))
    labels = _labels(parts)
    from_folders = _SESSION.search(root.resolve().as_posix())
    who = {
        "run": run,
        "subject": subject or (from_folders["subject"] if from_folders else None),
        "session": session or (from_folders["session"] if from_folders else None),
    }
    with naming(repr(root.name)):
        x = spike_responses(
            partial(bin_spikes, times), edges, table, neuroid_id=labels.pop("neuroid_id"), neuroid=labels, system=system, who=who,
        )  # fmt: skip
    if cuts:
        x.attrs["quality_cuts"] = json.dumps(cuts)
    params = {
        "edges_s": edges, **how, "probes": [part.name for part in parts], "region_from": sorted({str(part.region_from) for part in parts}),
        "channel_index_base": parts[0].index_base, "index_base": 0, "revisions": _revisions(found), "quality_cuts": cuts or None,
        "recorded_s": recorded_s, "sorter": sorter, "scale": 1.0,
    }  # fmt: skip
    return record_opening(x, "alf", sorted(file for part in parts for file in part.files), params)


def _probe_folders(
    root: Path, found: Mapping[Path, Mapping[tuple[str, str], Any]], probes: Sequence[str] | None, sorter: str | None
) -> dict[str, Path]:
    """Return the folder of each probe's sorting, by the probe's name; the empty name where files lie side by side."""
    named: dict[str, list[Path]] = {}
    for folder, known in found.items():
        if ("spikes", "times") in known:
            inner = [part for part in folder.relative_to(root).parts if part != "alf"]
            named.setdefault(inner[0] if inner else "", []).append(folder)
    if not named:
        raise FormatError(
            f"{str(root)!r} has no spikes.times. It has {preview(sorted({'.'.join(key) for known in found.values() for key in known}), 20) or 'no file that ALF names'}."
        )
    unknown = [name for name in probes or () if name not in named]
    if unknown:
        raise ParameterError(f"open_alf got probes={list(probes or ())}. {str(root)!r} has {preview(sorted(named), 20)}.")
    chosen = {}
    for name in probes or sorted(named):
        folders = [folder for folder in named[name] if sorter is None or folder.name == sorter]
        if len(folders) != 1:
            have = [folder.relative_to(root).as_posix() for folder in named[name]]
            raise ParameterError(
                f"open_alf found {len(folders)} sortings of {name!r} with sorter={sorter!r}: it has {preview(have, 10)}. Expected one: name its folder "
                "with `sorter=`, or pass that folder as the path."
            )
        chosen[name] = folders[0]
    return chosen


def _labels(parts: Sequence[Probe]) -> dict[str, Any]:
    """Return the labels of all clusters; those that some probes lack are left out."""
    shared = [name for name in parts[0].labels if all(name in part.labels for part in parts)]
    out: dict[str, Any] = {name: np.concatenate([part.labels[name].astype(object) for part in parts]) for name in shared}
    out = {name: np.array(column.tolist()) if name not in ("region", "channel") else column for name, column in out.items()}
    if parts[0].name:
        out["probe"] = np.concatenate([np.full(len(part.times), part.name, dtype=object) for part in parts])
    prefix = [f"{part.name}/" if part.name else "" for part in parts]
    out["neuroid_id"] = [f"{text}{row}" for text, part in zip(prefix, parts, strict=True) for row in part.rows]
    return out


def _trials(
    root: Path,
    found: Mapping[Path, Any],
    events: str | pd.DataFrame | None,
    onset_column: str | None,
    missing_onsets: str,
    options: dict[str, Any],
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Return the trials with their stimuli and onsets, and what was decided about them."""
    if not isinstance(events, str):
        return (None if events is None else check_events(events)), {}
    check_choice("events", events, ("trials",), owner="open_alf")
    holders = [folder for folder, known in found.items() if any(object_ == "trials" for object_, _ in known)]
    if len(holders) != 1:
        raise FormatError(
            f"{str(root)!r} has {len(holders)} folders with trials. Expected one, with files such as trials.stimOn_times.npy."
        )
    table = pd.DataFrame(columns(found[holders[0]], "trials"))
    source = f"trials of {root.name!r}"
    onset = onset_column or next((name for name in _ONSETS if name in table), _ONSETS[0])
    dropped = 0
    if onset in table and missing_onsets == "drop":
        there = np.isfinite(table[onset].to_numpy(np.float64))
        dropped, table = int((~there).sum()), table[there].reset_index(drop=True)
    rows = timed(table, start=onset, stop=None, source=source)
    pair = next((pair for pair in _CONTRASTS if set(pair) <= set(rows)), None)
    shown = options["stimulus_column"]
    if shown is None and pair is not None:
        odd = np.flatnonzero(((rows[list(pair)] < 0) | (rows[list(pair)] > 1)).any(axis=1))
        if odd.size:
            raise FormatError(
                f"{source} has the contrasts {rows.loc[odd[0], list(pair)].tolist()} in row {odd[0]}. Expected 0 to 1 on each side, NaN for none: "
                "if they are signed or in percent, name the stimulus with `stimulus_column=`."
            )
        rows = rows.assign(stimulus_id=[_sides(*row) for row in rows[list(pair)].to_numpy(np.float64)])
        shown, options = pair, {**options, "stimulus_column": "stimulus_id", "blank": [BLANK]}
    named, how = presented(rows, source=source, **options)
    said = {
        "onset_column": onset,
        "n_without_onset": dropped,
        "stimulus_column": shown,
        "stimulus_format": options["stimulus_format"],
    }
    return check_events(named, source=source), {"events": "trials", **said, **how}


def _sides(left: float, right: float) -> str:
    """Return the name of what two contrasts show: a side without stimulus (NaN), or with contrast 0, shows nothing."""
    shown = [f"{side}-{contrast:g}" for side, contrast in (("left", left), ("right", right)) if contrast > 0]
    return "_".join(shown) or BLANK


def _revisions(found: Mapping[Path, Mapping[tuple[str, str], Any]]) -> dict[str, str] | None:
    chosen = {".".join(key): item.revision for known in found.values() for key, item in known.items() if item.revision}
    return chosen or None


def _matches(source: Any) -> str:
    """Know a folder by the spike times in it, as far down as a session keeps them."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return ""
    for place in ("", "alf/", "alf/*/", "alf/*/*/", "probe*/", "probe*/*/"):
        try:
            file = next(Path(source).glob(f"{place}spikes.times*.npy"), None)
        except OSError:
            return ""
        if file is not None:
            return f"a folder with {file.relative_to(source).as_posix()}: ALF"
    return ""


adapter = Format("alf", _matches, open_alf)
