"""Fluorescence traces, frame by frame or averaged in bins around events; read from their file block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.files import naming, per_run_ids
from brainalign.adapters.lazy import Spans, lazy_array
from brainalign.adapters.spikes.alignment import event_rows, known, note_windows
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.responses import responses

_VALUES_PER_CHUNK = 2**22


def trace_responses(
    read: Callable[[Spans], np.ndarray],
    shape: tuple[int, int],
    times_s: np.ndarray,
    *,
    chunks: Sequence[Any],
    files: Sequence[Path],
    what: str,
    neuroid_id: Sequence[Any],
    neuroid: Mapping[str, Any],
    system: str,
    edges: np.ndarray | None = None,
    events: pd.DataFrame | None = None,
    units: str | None = None,
    who: Mapping[str, str | None],
    allow_nan: bool = False,
) -> xr.DataArray:
    """Return traces with their labels: one row a frame, or one row an event with the mean of the frames in each bin.

    Parameters
    ----------
    read : callable
        As :func:`brainalign.adapters.lazy.lazy_array` takes it: ``read(spans)`` returns a block, (frame, neuroid).
    shape : (int, int)
    times_s : ndarray, (frame,), seconds
        When each frame was taken, increasing.
    chunks : sequence
        Of frames and neuroids, as dask takes them.
    files : sequence of Path
        What is read.
    what : str
        The format, for messages.
    neuroid_id : sequence, (neuroid,)
    neuroid : mapping of str to sequence (neuroid,)
    system : str
    edges : ndarray, (bin + 1,), seconds, optional
        Relative to each event; with events only, and required there.
    events : DataFrame, optional
        As :func:`brainalign.adapters.spikes.alignment.check_events` returns it.
    units : str, optional
    who : mapping of {"run", "subject", "session"} to str or None
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid[, time]), lazy

    Raises
    ------
    FormatError
        Times that do not fit the frames, or do not increase; when computed: a value that is not finite.
    ParameterError
        Edges without events or events without edges; a bin that holds no frame.
    """
    times = _checked_times(times_s, shape[0], files[0])
    if (edges is None) != (events is None):
        given, missing = ("edges_s", "events") if events is None else ("events", "edges_s")
        raise ParameterError(
            f"{files[0].name!r} holds traces, and got {given}= without {missing}=. Expected both, for means in bins around events, or neither, "
            "for one row a frame."
        )
    lazily: dict[str, Any] = {"files": files, "what": what, "finite_axis": None if allow_nan else 1}
    common: dict[str, Any] = {
        "neuroid_id": neuroid_id, "modality": "calcium", "system": system, "units": units, "allow_nan": allow_nan,
        "neuroid": neuroid,
    }  # fmt: skip
    if edges is None or events is None:
        steps = np.diff(times)
        regular = steps.size > 0 and np.allclose(steps, steps.mean(), rtol=1e-3)
        rows = pd.DataFrame({"onset_s": times, **known(who)})
        values = lazy_array(read, shape, np.float32, chunks=chunks, **lazily)
        rate = {"sampling_rate_hz": 1.0 / steps.mean()} if regular else {}
        with naming(repr(files[0].name)):
            return responses(
                values, stimulus_id=per_run_ids(str(who["run"]), times.size, "f"), presentation=rows, **rate, **common
            )
    onsets = events["onset_s"].to_numpy(np.float64)
    places = _frames_of_bins(times, onsets, edges, files[0])
    size = (onsets.size, shape[1], edges.size - 1)
    values = lazy_array(_Means(read, places), size, np.float32, chunks=(_groups(places, shape[1]), *size[1:]), **lazily)
    ids, table = event_rows(events, taken=neuroid, who=who)
    with naming(repr(files[0].name)):
        x = responses(
            values, stimulus_id=ids, presentation=table, time=(edges[:-1] + edges[1:]) / 2, time_reference="stimulus onset", **common
        )  # fmt: skip
    return note_windows(x, onsets, edges)


@dataclass(frozen=True)
class _Means:
    """Averages frames in bins: ``places[event, bin]`` to ``places[event, bin + 1]`` are the frames of a bin."""

    read: Callable[[Spans], np.ndarray]
    places: np.ndarray

    def __call__(self, spans: Spans) -> np.ndarray:
        events, neuroids, bins = spans
        places = self.places[events, bins.start : bins.stop + 1]
        out = np.empty((len(places), neuroids.stop - neuroids.start, places.shape[1] - 1), dtype=np.float32)
        for row, ends in zip(out, places, strict=True):
            block = np.asarray(self.read((slice(int(ends[0]), int(ends[-1])), neuroids)), dtype=np.float64)
            row[...] = (np.add.reduceat(block, ends[:-1] - ends[0], axis=0) / np.diff(ends)[:, None]).T
        return out


def _checked_times(times_s: Any, n_frames: int, file: Path) -> np.ndarray:
    times = np.asarray(times_s, dtype=np.float64)
    if times.shape != (n_frames,):
        raise FormatError(
            f"{str(file)!r} has {n_frames} frames, and there are times of shape {times.shape}. Expected one time a frame: look for dropped "
            "frames, or frames of another plane."
        )
    if not np.isfinite(times).all():
        raise FormatError(
            f"{str(file)!r} has a frame {int(np.argmin(np.isfinite(times)))} without time. Expected finite seconds."
        )
    steps = np.diff(times)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        raise FormatError(
            f"{str(file)!r} has frame times that go from {times[at]:g} to {times[at + 1]:g} s at frame {at + 1}. Expected increasing seconds on "
            "one clock."
        )
    return times


def _frames_of_bins(times: np.ndarray, onsets: np.ndarray, edges: np.ndarray, file: Path) -> np.ndarray:
    """Return the first frame of each bin and, at the end, the one after the last: (event, bin + 1)."""
    bounds = onsets[:, None] + edges[None, :]
    places = np.searchsorted(times, bounds, side="left")
    # A recording ends one frame after its last time; a bin beyond would be an average of fewer frames, silently.
    step = float(np.median(np.diff(times))) if times.size > 1 else 0.0
    late = (bounds[:, 0] < times[0] - step) | (bounds[:, -1] > times[-1] + step * (1 + 1e-6))
    if late.any():
        at = int(np.argmax(late))
        raise ParameterError(
            f"{int(late.sum())} of {late.size} windows lie outside the frames of {file.name!r}: that of event {at} is {bounds[at, 0]:g} to "
            f"{bounds[at, -1]:g} s, and the frames span {times[0]:g} to {times[-1]:g} s. Expected windows inside: drop these events, or check unit "
            "and clock of their onsets."
        )
    empty = np.argwhere(np.diff(places, axis=1) == 0)
    if empty.size:
        event, bin_ = (int(i) for i in empty[0])
        raise ParameterError(
            f"{len(empty)} bins hold no frame of {file.name!r}, the first from {bounds[event, bin_]:g} to {bounds[event, bin_ + 1]:g} s (event "
            f"{event}); frames are {step:g} s apart. Expected a frame in each: take wider bins."
        )
    return places


def _groups(places: np.ndarray, n_neuroids: int) -> tuple[int, ...]:
    """Return how many events go into each chunk, so that none reads much more than 16 MB."""
    sizes: list[int] = []
    budget = 0
    for n_frames in (places[:, -1] - places[:, 0]).tolist():
        if not sizes or budget + n_frames * n_neuroids > _VALUES_PER_CHUNK:
            sizes.append(0)
            budget = 0
        sizes[-1] += 1
        budget += n_frames * n_neuroids
    return tuple(sizes)
