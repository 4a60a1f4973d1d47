"""Figures of results over time: courses of scores, and what is learned at one time and tested at another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.reports.drawing import (
    FAINT,
    INK,
    colour_cycle,
    house_style,
    interval_name,
    labels_of,
    neuroid_groups,
    new_figure,
    note_of,
    unit_of,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Dims of results over two times, the vertical axis first, and what axes call them.
TWO_TIMES = {
    ("train_time", "test_time"): ("time learned (s)", "time tested (s)"),
    ("source_time", "target_time"): ("time of the source (s)", "time of the target (s)"),
}
#: What the one dim of times of a result may be called.
TIMES = ("time", "source_time", "target_time")


def time_course(result: xr.Dataset | xr.DataArray, *, by: str | None = None, title: str | None = None) -> Figure:
    """Draw scores over time: one line per group, a panel per target where there are several.

    Parameters
    ----------
    result : Dataset or DataArray, (..., time)
        Scores per neuroid (the line is the median over the neuroids of a group, the band the quartiles), or of groups × groups; of RDMs
        over time too, whose dim is ``source_time`` or ``target_time``.
    by : str, optional
        Neuroid coordinate of the lines; default ``layer`` or ``region``.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        The grey line is chance, where the result says it, else 0. Each line's peak (of distances, the lowest point) is marked; intervals are
        bands, where the result has them; and a line at the foot of the panel says where p ≤ .05, corrected (``p_value_cluster``, or else
        ``p_value_max``). A note below names what is drawn.

    Raises
    ------
    ParameterError
        The result has no time, or two; or more than two other dims; ``by`` names no coordinate of neuroids.
    """
    result = _with_one_time(result)
    score = result["score"] if isinstance(result, xr.Dataset) else result
    panels = _panels(result, by)
    best = np.nanargmin if str(result.attrs.get("direction", "")).startswith("lower") else np.nanargmax
    levels = np.unique(result["chance"]) if isinstance(result, xr.Dataset) and "chance" in result else np.empty(0)
    known = len(levels) == 1  # of all systems, where several were decoded
    chance = float(levels[0]) if known else 0.0
    with house_style():
        figure = new_figure((max(3.8, 2.9 * len(panels) + 0.8), 2.9))
        grid = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        times, foot = score["time"].values, np.nanmin([*score.values.ravel(), chance])
        for axes, (name, lines) in zip(grid, panels.items(), strict=True):
            for i, (colour, (label, (middle, low, high, p))) in enumerate(
                zip(colour_cycle(len(lines)), lines.items(), strict=False)
            ):
                axes.plot(times, middle, color=colour, lw=1.5, label=label)
                if p is not None:  # one row a line, below the scores
                    height = foot - 0.04 * (i + 1) * (np.nanmax(score.values) - foot)
                    axes.plot(times, np.where(p <= 0.05, height, np.nan), color=colour, lw=2.5, label="_p ≤ .05")
                if low is not None:
                    axes.fill_between(times, low, high, color=colour, alpha=0.15, lw=0)
                if np.isfinite(middle).any():
                    axes.plot(times[best(middle)], middle[best(middle)], "o", color=colour, ms=4)
            axes.axhline(chance, color=FAINT, lw=0.6)
            axes.axvline(0, color=FAINT, lw=0.6)
            axes.set_title(name)
            axes.set_xlabel("time (s)")
        figure.supxlabel(_note(result, panels, chance if known else None), size=7, color=FAINT)
        grid[0].set_ylabel(unit_of(result, "score"))
        if any(label for lines in panels.values() for label in lines):
            handles, labels = grid[0].get_legend_handles_labels()
            figure.legend(handles, labels, loc="outside right center")
        if title:
            figure.suptitle(title, size=10)
    return figure


def generalization(result: xr.Dataset, *, title: str | None = None) -> Figure:
    """Draw what is learned at each time and tested at each other, or how two sides compare at each of their times.

    Parameters
    ----------
    result : Dataset, (train_time, test_time) or (source_time, target_time)
        Of ``ba.decode_time(..., generalize=True)``, or of ``ba.compare_rdms`` of two sides that have times.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        White is chance, where the result says it, else 0. The contour surrounds p ≤ .05, corrected (``p_value_cluster``, or else
        ``p_value_max``), where the result has them.

    Raises
    ------
    ParameterError
        A result of other dims.
    """
    score = result["score"] if isinstance(result, xr.Dataset) and "score" in result else None
    dims = next((pair for pair in TWO_TIMES if score is not None and set(score.dims) == set(pair)), None)
    if score is None or dims is None:
        raise ParameterError(
            f"generalization got dims {getattr(score, 'dims', 'no score')}. Expected ('train_time', 'test_time'), a result of "
            "`ba.decode_time(..., generalize=True)`, or ('source_time', 'target_time'), of `ba.compare_rdms` of RDMs over time."
        )
    score = score.transpose(*dims)
    values, chance = score.values.astype(float), float(result["chance"]) if "chance" in result else 0.0
    reach = float(np.nanmax(np.abs(values - chance))) or 1.0
    y, x = (score[dim].values for dim in dims)
    p = _corrected(result)
    with house_style():
        figure = new_figure((4.0, 3.5))
        axes = figure.subplots()
        image = axes.pcolormesh(
            x, y, values, cmap="RdBu_r", vmin=chance - reach, vmax=chance + reach, shading="nearest", rasterized=True
        )
        axes.plot([max(x[0], y[0]), min(x[-1], y[-1])], [max(x[0], y[0]), min(x[-1], y[-1])], color=FAINT, lw=0.6)
        found = None if p is None else (p.transpose(*dims).values <= 0.05).astype(float)
        if found is not None and 0 < found.mean() < 1:
            axes.contour(x, y, found, levels=[0.5], colors=INK, linewidths=0.8)
            clusters = "clusters with " if "p_value_cluster" in result else ""
            figure.supxlabel(f"contour: {clusters}p ≤ .05, corrected", size=7, color=FAINT)
        axes.axhline(0, color=FAINT, lw=0.6)
        axes.axvline(0, color=FAINT, lw=0.6)
        axes.set_aspect("equal")
        axes.set_ylabel(TWO_TIMES[dims][0])
        axes.set_xlabel(TWO_TIMES[dims][1])
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03)
        bar.set_label(f"{unit_of(result, 'score')} (white: {'chance, ' if 'chance' in result else ''}{chance:.3g})")
        bar.outline.set_visible(False)
        write_title(axes, title)
    return figure


def _note(result: xr.Dataset | xr.DataArray, panels: dict[str, dict[str, tuple[Any, ...]]], chance: float | None) -> str:
    """Say what the marks of :func:`time_course` are."""
    lines = [line for drawn in panels.values() for line in drawn.values()]
    marks = ["dot: peak"] if chance is None else [f"grey line: chance ({chance:.3g})", "dot: peak"]
    if any(low is not None for _, low, _, _ in lines):
        per_neuroid = "neuroid" in (result["score"] if isinstance(result, xr.Dataset) else result).dims
        marks.append("band: quartiles over neuroids" if per_neuroid else f"band: {interval_name(result)}")
    if any(p is not None for *_, p in lines):
        clusters = "clusters with " if "p_value_cluster" in result else ""
        marks.append(f"line at the foot: {clusters}p ≤ .05, corrected")
    return note_of(marks, width=60 * len(panels))


def _corrected(result: Any) -> xr.DataArray | None:
    """Return the p-values that hold for all times together, or what bounds them."""
    return next((result[name] for name in ("p_value_cluster", "p_value_max", "p_value_bound_max") if name in result), None)


def _with_one_time(result: xr.Dataset | xr.DataArray) -> xr.Dataset | xr.DataArray:
    """Return a result whose one dim of times is called ``time``."""
    dims = (result["score"] if isinstance(result, xr.Dataset) else result).dims
    found = [dim for dim in dims if dim in TIMES]
    if len(found) != 1:
        raise ParameterError(
            f"time_course got dims {dims}. Expected one `time` dim: score responses that have one, and select along a second."
        )
    return result if found == ["time"] else result.rename({found[0]: "time"})


def _panels(result: xr.Dataset | xr.DataArray, by: str | None) -> dict[str, dict[str, tuple[Any, ...]]]:
    """Return {panel: {line: (middle, low, high, p-value)}} for scores of neuroids or of groups × groups."""
    score = result["score"] if isinstance(result, xr.Dataset) else result
    if "neuroid" in score.dims:
        by = neuroid_groups(score, by, "time_course")
        names = score[by].values.astype(object) if by else np.full(score.sizes["neuroid"], "", dtype=object)
        over = score.transpose("neuroid", "time").values
        lines = {}
        for name in dict.fromkeys(names):
            low, middle, high = np.nanquantile(over[names == name], [0.25, 0.5, 0.75], axis=0)
            lines[str(name)] = (middle, low, high, None)
        return {"": lines}
    beside = result if isinstance(result, xr.Dataset) else {}
    found = [score, *(beside[name] if name in beside else None for name in ("ci_low", "ci_high")), _corrected(beside)]
    sides = [dim for dim in score.dims if dim != "time"]
    if len(sides) > 2:
        raise ParameterError(f"time_course got dims {score.dims}. Expected no more than two beside the time: select, or average.")
    shape = (-1, *([score.sizes[sides[1]]] if len(sides) > 1 else []), score.sizes["time"])
    rows = [None if x is None else x.transpose(*sides, "time").values.reshape(shape) for x in found]
    lines = labels_of(score, sides[0]) if sides else [""]
    if len(sides) < 2:
        return {"": {line: tuple(None if x is None else x[i] for x in rows) for i, line in enumerate(lines)}}
    return {
        panel: {line: tuple(None if x is None else x[i, j] for x in rows) for i, line in enumerate(lines)}
        for j, panel in enumerate(labels_of(score, sides[1]))
    }
