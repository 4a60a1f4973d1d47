"""NWB 2 files: sorted units as counts around what was presented, or in bins; fluorescence of regions of interest as traces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.containers import kind_of
from brainalign.adapters.files import Format, naming, record_opening
from brainalign.adapters.hdf5 import attributes, hdf5_file
from brainalign.adapters.spikes.alignment import check_edges, check_events, check_recorded, spike_responses
from brainalign.adapters.spikes.nwb_series import open_series, series_names
from brainalign.adapters.spikes.nwb_tables import event_table, event_tables, member, open_file, text_of
from brainalign.adapters.spikes.nwb_units import Units, check_observed, lazy_counts, read_units, spikes_span
from brainalign.adapters.spikes.presented import presented, timed
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, preview


def open_nwb(
    path: Any,
    *,
    system: str,
    series: str | None = None,
    edges_s: Any = None,
    events: str | pd.DataFrame | None = None,
    stimulus_column: str | Sequence[str] | None = None,
    stimulus_format: str | None = None,
    blank: Sequence[Any] | None = None,
    blanks: str = "keep",
    quality: Mapping[str, Any] | None = None,
    unobserved: str = "refuse",
    recorded_s: Sequence[float] | None = None,
    run: str = "1",
    subject: str | None = None,
    session: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the units of an NWB file as spike counts, or one of its imaging series as traces.

    Parameters
    ----------
    path : str or Path
        NWB 2, read through h5py.
    system : str
        Whose neurons these are.
    series : str, optional
        Name of a ``RoiResponseSeries`` (dF/F, fluorescence), full or its last part. By default the ``units`` are opened.
    edges_s : array_like, (bin + 1,), seconds
        Half-open bins ``[edge_i, edge_{i+1})``: relative to each event's onset where there are events, else on the clock of the
        session. Required for units; without events a series comes frame by frame and takes none.
    events : str or DataFrame, optional
        A table of the file (``"trials"``, ``"natural_scenes_presentations"``, ``"stimulus/presentation/images"``), or one of your own
        with ``stimulus_id`` and ``onset_s``. Its other columns of one value a row are kept.
    stimulus_column, stimulus_format, blank, blanks
        How a table of the file names its stimuli: see :func:`brainalign.adapters.spikes.presented.presented`.
    quality : mapping of column to rule, optional
        Cuts on the columns of the units: ``{"isi_violations": "<0.5", "amplitude_cutoff": "<0.1", "presence_ratio": ">0.9"}``. The attr
        ``quality_cuts`` (JSON) says how many units each of them left.
    unobserved : {"refuse", "nan"}
        Bins outside the ``obs_intervals`` of a unit: an error, or NaN; counts are float32 then, and the neuroid coordinate
        ``n_unobserved`` says how many bins.
    recorded_s : (start, stop), seconds, optional
        What was recorded, where the file has no ``obs_intervals``.
    run : str
    subject, session : str, optional
        Default: ``subject_id`` and ``session_id`` of the file.
    allow_nan : bool
        NaN in a series is declared.

    Returns
    -------
    DataArray, (presentation, neuroid[, time]), lazy
        Units: int32, spikes/bin; ``neuroid_id`` is the table's ``id``, ``region`` the location of its electrodes, ``n_spikes`` counts all
        spikes of the unit, and every column of one value a unit is a coordinate. Series: float32, after ``conversion`` and
        ``offset``; ``region`` is the location of the imaging plane.

    Raises
    ------
    FormatError
        Not NWB 2, damaged, or without what was asked for; what is there is listed.
    ParameterError
        Edges that do not increase, windows where nothing was recorded, options that do not fit.
    OptionalDependencyError
        h5py is not installed.
    """
    check_choice("unobserved", unobserved, ("refuse", "nan"), owner="open_nwb")
    with open_file(path) as file:
        source = repr(Path(path).name)
        who = {
            "run": run,
            "subject": text_of(file, "general/subject/subject_id") if subject is None else subject,
            "session": text_of(file, "general/session_id") if session is None else session,
        }
        table, how = _presentations(
            file, events, source,
            {"stimulus_column": stimulus_column, "stimulus_format": stimulus_format, "blank": blank, "blanks": blanks},
        )  # fmt: skip
        params = {"series": series, "stimulus_column": stimulus_column, "stimulus_format": stimulus_format, "blank": blank, **how}
        edges = None if edges_s is None else check_edges(edges_s, owner="open_nwb")
        if series is not None:
            for name, value in (("quality", quality), ("recorded_s", recorded_s)):
                if value is not None:
                    raise ParameterError(
                        f"open_nwb got {name}={value!r} and series={series!r}. Expected it with units: leave one of the two out."
                    )
            x, more = open_series(
                file, Path(path), series, system=system, edges=edges, events=table, who=who, allow_nan=allow_nan
            )
        else:
            if edges is None:
                raise ParameterError(
                    f"open_nwb needs `edges_s=` for the units of {source}. Expected the edges of bins in seconds, such as "
                    "`np.arange(0.0, 60.0, 0.1)`, or with `events=` those around each event."
                )
            if member(file, "units") is None:
                raise FormatError(f"{str(path)!r} has no `units`. It holds {_what_is_there(file)}.")
            units = read_units(file, quality, source)
            x, more = _counts(file, Path(path), units, edges, table, unobserved, recorded_s, system, who)
    return record_opening(x, "nwb", [Path(path).name], {**params, **more, "edges_s": edges, "index_base": 0})


def _counts(
    file: Any,
    path: Path,
    units: Units,
    edges: np.ndarray,
    table: pd.DataFrame | None,
    unobserved: str,
    recorded_s: Sequence[float] | None,
    system: str,
    who: Mapping[str, str | None],
) -> tuple[xr.DataArray, dict[str, Any]]:
    source = repr(path.name)
    onsets = np.zeros(1) if table is None else table["onset_s"].to_numpy(np.float64)
    unseen = None
    if units.observed is not None:
        unseen = check_observed(units, onsets, edges, unobserved, source)
    if units.observed is None or recorded_s is not None:
        spikes_s = spikes_span(file, units, onsets[0] + edges[-1], onsets[-1] + edges[0])
        check_recorded(onsets, edges, source=source, recorded_s=recorded_s, spikes_s=spikes_s)
    with_nan = unseen is not None and bool(unseen.any())
    labels = {**units.labels, **({"n_unobserved": unseen} if unseen is not None and with_nan else {})}
    with naming(source):
        x = spike_responses(
            lazy_counts(path, units, with_nan), edges, table, neuroid_id=units.ids, neuroid=labels, system=system, who=who,
            allow_nan=with_nan,
        )  # fmt: skip
    if units.cuts:
        x.attrs["quality_cuts"] = json.dumps(units.cuts)
    said = {"region_from": units.region_from, "quality_cuts": units.cuts or None, "recorded_s": recorded_s, "scale": 1.0}
    return x, {**said, "unobserved": unobserved if with_nan else None}


def _presentations(
    file: Any, events: str | pd.DataFrame | None, source: str, naming_options: dict[str, Any]
) -> tuple[pd.DataFrame | None, dict[str, Any]]:
    """Return the events with their stimuli and times, and where they come from."""
    if events is None or isinstance(events, pd.DataFrame):
        asked = [name for name in ("stimulus_column", "stimulus_format", "blank") if naming_options[name] is not None]
        if asked:
            raise ParameterError(
                f"open_nwb got {asked[0]}= without the name of a table. Expected `events=` to be one of {preview(event_tables(file), 30) or 'none'}."
            )
        return (None if events is None else check_events(events)), {}
    table, name = event_table(file, events)
    shown = f"{name!r} of {source}"
    rows = timed(table, start="start_time", stop="stop_time" if "stop_time" in table else None, source=shown)
    named, how = presented(rows, source=shown, **naming_options)
    return check_events(named, source=shown), {"events": name, **how}


def _what_is_there(file: Any) -> str:
    events = preview(event_tables(file), 10) or "none"
    return f"the series {preview(series_names(file), 10) or 'none'}, the tables of events {events}, and at its top {sorted(file.keys())}"


def _matches(source: Any) -> str:
    """HDF5 whose root says which version of NWB it is."""
    if kind_of(source) != "hdf5":
        return ""
    try:
        with hdf5_file(source) as file:
            version = attributes(file).get("nwb_version", "1, as a dataset" if "nwb_version" in file else None)
    except FormatError:
        return ""
    return "" if version is None else f"HDF5 with nwb_version {version!s}: NWB"


adapter = Format("nwb", _matches, open_nwb)
