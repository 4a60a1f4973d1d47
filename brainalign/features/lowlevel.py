"""Low-level features of stimuli, as responses: what any claim about a network or a region has to beat."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.provenance import write_step
from brainalign.core.responses import responses
from brainalign.core.tables import presentation_table, validate_stimuli
from brainalign.dataset.folds import RUN_LABELS
from brainalign.dataset.repeats import group_rows
from brainalign.dataset.stimulus_table import read_content
from brainalign.engine.lowlevel import band_envelopes, gabor_energy, resized

Array = np.ndarray[Any, Any]

N_PIXELS, SIDE = 16, 64  # across: of the grid of pixels, and of the image whose energy is taken
CYCLES, N_ORIENTATIONS = (1, 2, 4, 8, 16), 8
N_BANDS, LOWEST_HZ, HIGHEST_HZ = 8, 80.0, 8000.0
N_PARTS = 8  # of a sound that is one row
RATE_WINDOW_S = 2.0
_GREY = (0.299, 0.587, 0.114)  # of red, green and blue (ITU-R BT.601)
_AT_ONCE = 64  # images in memory


def low_level(stimuli: xr.Dataset, *, rate_hz: float | None = None) -> dict[str, xr.DataArray]:
    """Return low-level features of stimuli.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
        A stimulus table; files are decoded a few at a time.
    rate_hz : float, optional
        Of sounds: rows in time, so many a second, to be joined with a recording by run and onset. Default: one row a sound,
        with the loudness of eight equal parts of it.

    Returns
    -------
    dict of str to DataArray, (presentation, neuroid)
        Images: ``pixels``, on a grid of 16 × 16, and ``gabor``, the energy of 8 orientations at scales of 1 to 16 cycles an image.
        Sounds: ``envelope`` in 8 bands. Words and texts: ``words``, with word rate (words a second; of a text their number), word
        length in letters, and position in the run, 0 to 1. Arrays: ``values``, or as images where their dims are named
        ``y`` and ``x``.

    Raises
    ------
    SchemaError
        No valid stimulus table.
    ParameterError
        Rows in time of sounds without onsets, or waveforms without a sampling rate.

    Examples
    --------
    >>> import brainalign as ba
    >>> words = ba.stimuli.table(["a", "cat", "sat"], stimulus_id=list("xyz"), kind="word", onset_s=[0.0, 0.5, 4.0])
    >>> low_level(words)["words"].values.tolist()
    [[1.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.5, 3.0, 1.0]]
    """
    validate_stimuli(stimuli)
    kind = stimuli.attrs["kind"]
    pictured = "values" in stimuli and {"y", "x"} <= set(stimuli["values"].dims)
    if kind in ("text", "word"):
        made = {"words": _words(stimuli)}
    elif kind == "audio":
        made = {"envelope": _envelope(stimuli, rate_hz)}
    elif kind == "image" or pictured:
        made = _images(stimuli)
    else:
        values = _in_blocks(stimuli, lambda content: content.reshape(len(content), -1))
        made = {"values": (values, {"unit": np.arange(values.shape[1])}, presentation_table(stimuli))}
    return {name: _as_responses(name, *parts, stimuli) for name, parts in made.items()}


def _as_responses(name: str, values: Array, neuroid: dict[str, Any], rows: pd.DataFrame, stimuli: xr.Dataset) -> xr.DataArray:
    x = responses(
        values, stimulus_id=rows["stimulus_id"], neuroid_id=np.arange(values.shape[1]), modality="ann", system="low-level", layer=name,
        deterministic=True, neuroid=neuroid, presentation=rows.drop(columns=["stimulus_id", "repetition"], errors="ignore"),
    )  # fmt: skip
    return write_step(x, "low_level", params={"features": name}, inputs={"stimuli": stimuli})


def _in_blocks(stimuli: xr.Dataset, compute: Callable[[Any], Array]) -> Array:
    n = stimuli.sizes["presentation"]
    blocks = [compute(read_content(stimuli, slice(start, start + _AT_ONCE))) for start in range(0, n, _AT_ONCE)]
    return np.concatenate(blocks).astype(np.float32)


def _images(stimuli: xr.Dataset) -> dict[str, tuple[Array, dict[str, Any], pd.DataFrame]]:
    first = _pixels(read_content(stimuli, slice(0, 1)), stimuli)[0]
    side = min(*first.shape[1:3], SIDE)
    grid, n_channels = min(N_PIXELS, side), first.shape[3]
    cycles = [scale for scale in CYCLES if 4 * scale <= side]  # a wave needs four pixels
    width = grid * grid * n_channels

    def compute(content: Any) -> Array:
        parts = _pixels(content, stimuli)
        small = np.concatenate([resized(part, grid, grid) for part in parts]).reshape(-1, width)
        if not cycles:
            return small
        grey = np.concatenate([resized(part @ _greyness(n_channels), side, side) for part in parts])
        return np.concatenate([small, gabor_energy(grey, cycles, N_ORIENTATIONS)], axis=1)

    values, rows = _in_blocks(stimuli, compute), presentation_table(stimuli)
    y, x, channel = np.indices((grid, grid, n_channels)).reshape(3, -1)
    found = {"pixels": (values[:, :width], {"channel_y": y, "channel_x": x, "unit": channel}, rows)}
    if cycles:
        places = [np.indices((N_ORIENTATIONS, scale, scale)).reshape(3, -1) for scale in cycles]
        orientation, y, x = np.concatenate(places, axis=1)
        labels = {"cycles": np.repeat(cycles, [place.shape[1] for place in places]), "channel_y": y, "channel_x": x}
        found["gabor"] = (values[:, width:], labels | {"orientation_deg": orientation * 180.0 / N_ORIENTATIONS}, rows)
    return found


def _pixels(content: Any, stimuli: xr.Dataset) -> list[Array]:
    """Return images as (image, y, x, channel) in float, those of one size together; 8 bits become 0 to 1."""
    if "values" in stimuli:
        dims = stimuli["values"].dims[1:]
        order = [dims.index("y") + 1, dims.index("x") + 1, *(i + 1 for i, dim in enumerate(dims) if dim not in ("y", "x"))]
        content = np.transpose(content, (0, *order)).reshape(len(content), *(content.shape[axis] for axis in order[:2]), -1)
    parts = [content] if isinstance(content, np.ndarray) else [image[None] for image in content]
    return [part / 255 if part.dtype == np.uint8 else part.astype(np.float64) for part in parts]


def _greyness(n_channels: int) -> Array:
    return np.asarray(_GREY) if n_channels == 3 else np.full(n_channels, 1 / n_channels)


def _envelope(stimuli: xr.Dataset, rate_hz: float | None) -> tuple[Array, dict[str, Any], pd.DataFrame]:
    rate = stimuli.attrs.get("sampling_rate_hz")
    if rate is None:
        raise ParameterError(
            "low_level got sounds without the attr `sampling_rate_hz`. Expected samples a second: set it, or use `ba.stimuli.from_sounds`."
        )
    edges = np.geomspace(min(LOWEST_HZ, rate / 64), min(HIGHEST_HZ, rate / 2), N_BANDS + 1)
    table = presentation_table(stimuli)
    step = None if rate_hz is None else rate / check_number("rate_hz", rate_hz, owner="low_level", low=0, low_open=True)
    if step is not None and not np.isfinite(table.get("onset_s", pd.Series([np.nan])).to_numpy(np.float64)).all():
        raise ParameterError(
            f"low_level got rate_hz={rate_hz:g} for sounds without `onset_s`. Expected when each began, to tell the times of its rows: "
            "`stimuli.assign_coords(onset_s=('presentation', seconds))`."
        )
    parts, counts = [], []
    for row in range(len(table)):
        samples = np.asarray(read_content(stimuli, np.array([row]))[0], dtype=np.float64)
        sound = samples.reshape(-1, samples.shape[-1]).mean(axis=0)
        n = N_PARTS if step is None else max(1, round(len(sound) / step))
        starts = np.round(np.arange(n) * (len(sound) / n if step is None else step)).astype(np.int64)
        parts.append(band_envelopes(sound, rate, edges, starts))
        counts.append(n)
    centre = np.sqrt(edges[:-1] * edges[1:])
    if step is None:
        part, band = np.indices((N_PARTS, N_BANDS)).reshape(2, -1)
        return np.stack(parts).reshape(len(parts), -1), {"part": part, "frequency_hz": centre[band]}, table
    within = np.concatenate([np.arange(n) for n in counts])
    rows = table.drop(columns=["sha256", "path_part"], errors="ignore").loc[np.repeat(np.arange(len(table)), counts)]
    rows = rows.reset_index(drop=True)
    names = [f"{name}/{i:06d}" for name, i in zip(rows["stimulus_id"], within, strict=True)]
    rows = rows.assign(stimulus_id=names, onset_s=rows["onset_s"] + within * step / rate, duration_s=step / rate)
    return np.concatenate(parts), {"frequency_hz": centre}, rows


def _words(stimuli: xr.Dataset) -> tuple[Array, dict[str, Any], pd.DataFrame]:
    table = presentation_table(stimuli)
    texts = [str(text).split() for text in stimuli["text"].values]
    lengths = [np.mean([sum(letter.isalnum() for letter in word) for word in words]) if words else 0.0 for words in texts]
    labels = [name for name in RUN_LABELS if name in table]
    run = group_rows(table, labels, owner="low_level")[0] if labels else np.zeros(len(table), dtype=np.int64)
    onset = table["onset_s"].to_numpy(np.float64) if "onset_s" in table else np.full(len(table), np.nan)
    timed, single = bool(np.isfinite(onset).all()), stimuli.attrs["kind"] == "word"
    columns: dict[str, Array] = {}
    if timed and single:
        columns["word_rate"] = _per_run(run, lambda rows: _rate(onset[rows]))
    elif not single:
        columns["n_words"] = np.array([len(words) for words in texts])
    columns["word_length"] = np.array(lengths)
    if timed or single:  # texts without times have no order
        columns["position"] = _per_run(run, lambda rows: _place(onset[rows] if timed else rows))
    return np.column_stack(list(columns.values())), {"feature": list(columns)}, table


def _per_run(run: Array, compute: Callable[[Array], Array]) -> Array:
    out = np.empty(len(run))
    for number in np.unique(run):
        rows = np.flatnonzero(run == number)
        out[rows] = compute(rows)
    return out


def _rate(onset: Array) -> Array:
    """Words a second around each word."""
    ordered, half = np.sort(onset), RATE_WINDOW_S / 2
    return (np.searchsorted(ordered, onset + half, "right") - np.searchsorted(ordered, onset - half, "left")) / RATE_WINDOW_S


def _place(order: Array) -> Array:
    """Rank within the run, from 0 to 1."""
    return np.argsort(np.argsort(order, kind="stable"), kind="stable") / max(len(order) - 1, 1)
