"""Output of Suite2p: fluorescence or deconvolved traces of each plane, read from their npy files as they are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import Format, existing, record_opening
from brainalign.adapters.lazy import Spans, open_npy
from brainalign.adapters.spikes.alignment import check_edges, check_events
from brainalign.adapters.spikes.traces import trace_responses
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_choice, check_number

_UNITS = {"F": "a.u. (fluorescence)", "spks": "a.u. (deconvolved fluorescence)"}
_VALUES_PER_CHUNK = 2**22


def open_suite2p(
    path: Any,
    *,
    system: str,
    sampling_rate_hz: float | None = None,
    frame_times_s: Any = None,
    values: str = "F",
    neuropil: float | None = None,
    baseline: str | None = None,
    baseline_window_s: float = 60.0,
    baseline_percentile: float = 8.0,
    cells_only: bool = False,
    edges_s: Any = None,
    events: pd.DataFrame | None = None,
    run: str = "1",
    subject: str | None = None,
    region: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open traces that Suite2p extracted.

    Parameters
    ----------
    path : str or Path
        Folder of one plane (``plane0``), or the folder of all of them (``suite2p``); planes are joined along neuroid.
    system : str
        Whose cells these are.
    sampling_rate_hz : float, optional
        Frames of one plane a second: ``ops["fs"]``. ``ops.npy`` is pickled and never opened, so it must be said here, unless
        ``frame_times_s`` are given. The first frame is at 0 s.
    frame_times_s : array_like, (frame,), seconds, optional
        When each frame was taken, on the clock of the events.
    values : {"F", "spks"}
        Fluorescence, or deconvolved traces.
    neuropil : float, optional
        ``F - neuropil * Fneu``: Suite2p itself takes 0.7. By default nothing is subtracted.
    baseline : {"percentile"}, optional
        dF/F: ``(F - F0) / F0``, where F0 is a percentile of the trace in a window around each frame. Off by default.
    baseline_window_s, baseline_percentile : float
        Of that window; at both ends of the recording the trace is continued by its last value.
    cells_only : bool
        Only regions that ``iscell.npy`` calls cells.
    edges_s : array_like, (bin + 1,), seconds, optional
        Half-open bins relative to each event; a value is the mean of the frames in its bin.
    events : DataFrame, optional
        ``stimulus_id``, ``onset_s`` and further coordinates. Without events a row is a frame.
    run : str
    subject, region : str, optional
    allow_nan : bool
        NaN is declared; dF/F whose baseline is not above 0 is NaN then.

    Returns
    -------
    DataArray of float32, (presentation, neuroid[, time]), lazy
        ``neuroid_id`` is ``plane0/17``: the plane, and the row in its files from 0. ``plane``, ``roi``, ``iscell`` and
        ``iscell_probability`` are coordinates.

    Raises
    ------
    FormatError
        A missing or damaged file, files of different shape, undeclared NaN.
    ParameterError
        No frame times, options that do not fit, a bin that holds no frame.
    """
    check_choice("values", values, tuple(_UNITS), owner="open_suite2p")
    check_choice("baseline", baseline, (None, "percentile"), owner="open_suite2p")
    if values == "spks" and (neuropil is not None or baseline is not None):
        raise ParameterError(
            f"open_suite2p got neuropil={neuropil} and baseline={baseline!r} for values='spks'. Expected them for 'F' alone: deconvolved traces "
            "are corrected already."
        )
    planes = [_plane(folder, values, neuropil, cells_only) for folder in _planes(path)]
    n_frames = {plane.name: plane.shape[1] for plane in planes}
    if len(set(n_frames.values())) > 1:
        raise FormatError(f"{str(path)!r} has planes of different length, {n_frames} frames. Expected one: open them one by one.")
    n = planes[0].shape[1]
    times, rate = _times(n, sampling_rate_hz, frame_times_s)
    labels = pd.concat([plane.labels for plane in planes], ignore_index=True)
    if not len(labels):
        raise FormatError(
            f"{str(path)!r} holds no region that iscell.npy calls a cell. Expected one: take all with cells_only=False."
        )
    files = [file for plane in planes for file in plane.files]
    read: Any = _Traces(tuple(planes))
    if baseline is not None:
        read = _over_baseline(read, rate, baseline_window_s, baseline_percentile, str(path), allow_nan)
    rois = max(1, min(len(labels), _VALUES_PER_CHUNK // n))
    x = trace_responses(
        read, (n, len(labels)), times, chunks=(n, rois), files=files, what="Suite2p",
        neuroid_id=[f"{plane}/{roi}" for plane, roi in zip(labels["plane"], labels["roi"], strict=True)],
        neuroid={**{name: labels[name].to_numpy() for name in labels}, **({"region": region} if region else {})}, system=system,
        edges=None if edges_s is None else check_edges(edges_s, owner="open_suite2p"),
        events=None if events is None else check_events(events), units="dF/F" if baseline else _UNITS[values], who={"run": run, "subject": subject}, allow_nan=allow_nan,
    )  # fmt: skip
    window = {"baseline_window_s": baseline_window_s, "baseline_percentile": baseline_percentile} if baseline else {}
    params = {
        "values": values, "sampling_rate_hz": sampling_rate_hz, "neuropil": neuropil, "baseline": baseline, **window,
        "cells_only": cells_only, "edges_s": edges_s, "index_base": 0, "scale": 1.0,
    }  # fmt: skip
    return record_opening(x, "suite2p", [f"{plane.name}/{file.name}" for plane in planes for file in plane.files], params)


@dataclass(frozen=True)
class _Plane:
    """One plane: its traces (roi, frame) and those of their surround, lazy, and the rows that are wanted."""

    name: str
    traces: Any
    around: Any
    factor: float
    labels: pd.DataFrame
    files: tuple[Path, ...]

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.traces.shape)

    def read(self, rows: np.ndarray, frames: slice) -> np.ndarray:
        """Return (frame, roi) of some of the wanted rows; those between them are read too and left out."""
        rois = self.labels["roi"].to_numpy()[rows]
        span = slice(int(rois[0]), int(rois[-1]) + 1)
        block = _computed(self.traces[span, frames])
        if self.around is not None:
            block = block - np.float32(self.factor) * _computed(self.around[span, frames])
        return block[rois - rois[0]].T


def _computed(array: Any) -> np.ndarray:
    return np.asarray(array.compute(scheduler="synchronous"), dtype=np.float32)


@dataclass(frozen=True)
class _Traces:
    """Reads a block of frames and regions, of all planes in their order."""

    planes: tuple[_Plane, ...]

    def __call__(self, spans: Spans) -> np.ndarray:
        frames, wanted = spans
        ends = np.cumsum([0, *(len(plane.labels) for plane in self.planes)])
        blocks = [np.empty((frames.stop - frames.start, 0), dtype=np.float32)]
        for plane, start, stop in zip(self.planes, ends[:-1], ends[1:], strict=True):
            rows = np.arange(max(wanted.start, start), min(wanted.stop, stop)) - start
            if rows.size:
                blocks.append(plane.read(rows, frames))
        return np.concatenate(blocks, axis=1)


def _planes(path: Any) -> list[Path]:
    root = Path(path)
    if (root / "F.npy").is_file() or (root / "spks.npy").is_file():
        return [root]
    found = (
        [item for item in root.glob("plane*") if re.fullmatch(r"plane\d+", item.name) and item.is_dir()] if root.is_dir() else []
    )
    if not found:
        names = sorted(item.name for item in root.iterdir())[:20] if root.is_dir() else "no folder"
        raise FormatError(f"{str(path)!r} holds {names}. Expected F.npy, or folders plane0, plane1 ... of Suite2p.")
    return sorted(found, key=lambda item: int(item.name.removeprefix("plane")))


def _plane(folder: Path, values: str, neuropil: float | None, cells_only: bool) -> _Plane:
    file, around, factor = existing(folder / f"{values}.npy"), None, 0.0
    traces, files = _numbers(file), [file]
    if neuropil is not None:
        factor = check_number("neuropil", neuropil, owner="open_suite2p", low=0)
        files.append(existing(folder / "Fneu.npy"))
        around = _numbers(files[1])
        if around.shape != traces.shape:
            raise FormatError(
                f"{str(file)!r} has shape {traces.shape} and {str(files[1])!r} {around.shape}. Expected (roi, frame) of one run of Suite2p."
            )
    labels = pd.DataFrame({"plane": folder.name, "roi": np.arange(traces.shape[0])})
    cell = folder / "iscell.npy"
    if cell.is_file():
        table = open_npy(cell).compute()
        if table.ndim != 2 or table.shape[0] != traces.shape[0] or table.shape[1] < 1 or table.dtype.kind not in "iufb":
            raise FormatError(
                f"{str(cell)!r} has shape {table.shape} for {traces.shape[0]} traces. Expected (roi, 2): is it a cell, and how probably."
            )
        labels["iscell"] = table[:, 0] > 0
        if table.shape[1] > 1:
            labels["iscell_probability"] = table[:, 1]
    elif cells_only:
        raise FormatError(
            f"{str(folder)!r} has no iscell.npy, and cells_only=True. Expected one row a region: take all, or copy the file."
        )
    return _Plane(folder.name, traces, around, factor, labels[labels["iscell"]] if cells_only else labels, tuple(files))


def _numbers(file: Path) -> Any:
    array = open_npy(file)
    if array.ndim != 2 or array.dtype.kind not in "iuf" or 0 in array.shape:
        raise FormatError(f"{str(file)!r} has shape {array.shape} and dtype {array.dtype}. Expected numbers, (roi, frame).")
    return array


def _times(n_frames: int, sampling_rate_hz: float | None, frame_times_s: Any) -> tuple[np.ndarray, float]:
    if (sampling_rate_hz is None) == (frame_times_s is None):
        raise ParameterError(
            f"open_suite2p got sampling_rate_hz={sampling_rate_hz} and frame_times_s={'None' if frame_times_s is None else 'given'}. Expected one of "
            "the two: the rate stands in ops.npy, which is pickled and never opened."
        )
    if frame_times_s is None:
        rate = check_number("sampling_rate_hz", sampling_rate_hz, owner="open_suite2p", low=0, low_open=True)
        return np.arange(n_frames) / rate, rate
    times = np.asarray(frame_times_s, dtype=np.float64)
    return times, float(1.0 / np.median(np.diff(times))) if times.ndim == 1 and times.size > 1 else 1.0


def _over_baseline(read: _Traces, rate: float, window_s: float, percentile: float, source: str, allow_nan: bool) -> _OverBaseline:
    owner = "open_suite2p"
    width = max(1, round(check_number("baseline_window_s", window_s, owner=owner, low=0, low_open=True) * rate))
    return _OverBaseline(
        read, width, check_number("baseline_percentile", percentile, owner=owner, low=0, high=100), source, allow_nan
    )


@dataclass(frozen=True)
class _OverBaseline:
    """Divides by a sliding percentile: a frame needs those around it, as far as half a window."""

    read: _Traces
    width: int
    percentile: float
    source: str
    allow_nan: bool

    def __call__(self, spans: Spans) -> np.ndarray:
        from scipy.ndimage import percentile_filter

        frames, rois = spans
        last = self.read.planes[0].shape[1]
        near = slice(max(0, frames.start - self.width), min(last, frames.stop + self.width))
        traces = self.read((near, rois)).T
        base = np.stack([percentile_filter(trace, self.percentile, size=self.width, mode="nearest") for trace in traces])
        inside = slice(frames.start - near.start, frames.stop - near.start)
        traces, base = traces[:, inside], base[:, inside]
        low = ~(base > 0)
        if low.any() and not self.allow_nan:
            roi, frame = (int(i) for i in np.argwhere(low)[0])
            raise FormatError(
                f"{self.source!r}: the baseline of neuroid {rois.start + roi} is {base[roi, frame]:g} at frame {frames.start + frame}, so dF/F is "
                "not defined. Expected a baseline above 0: subtract less neuropil, leave these regions out, or declare NaN with "
                "`allow_nan=True`."
            )
        over = np.full(traces.shape, np.nan, dtype=np.float32)
        np.divide(traces - base, base, out=over, where=~low)
        return over.T


def _matches(source: Any) -> str:
    """Know a folder of traces by what lies beside them, or folders of planes by the first."""
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return ""
    for folder in (Path(source), Path(source) / "plane0"):
        if (folder / "F.npy").is_file() and ((folder / "iscell.npy").is_file() or (folder / "ops.npy").is_file()):
            return "a folder with F.npy beside iscell.npy or ops.npy: Suite2p"
    return ""


adapter = Format("suite2p", _matches, open_suite2p)
