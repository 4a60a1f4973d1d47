"""Figures of results. Each function returns a matplotlib ``Figure``, which no global state knows of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.reports.drawing import (
    FAINT,
    INK,
    MAX_CELLS_WITH_TEXT,
    PALETTE,
    bare,
    colour_cycle,
    colour_scale,
    frame_best,
    house_style,
    in_words,
    labels_of,
    neuroid_groups,
    new_figure,
    unit_of,
    write_cells,
    write_title,
)
from brainalign.reports.table import kind_of, tidy
from brainalign.reports.timefigures import TIMES, generalization, time_course

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["attribution", "distribution", "generalization", "heatmap", "score_vs_ceiling", "time_course"]


def heatmap(result: xr.Dataset | xr.DataArray, *, variable: str = "score", title: str | None = None) -> Figure:
    """Draw a grid of scores, groups × groups, with the values in the cells.

    Parameters
    ----------
    result : Dataset or DataArray, (source_<a>, target_<b>[, time])
        Of :func:`brainalign.compare` or :func:`~brainalign.compare_rdms`. Over time, the peak is shown.
    variable : str
        ``"score"`` or ``"score_normalized"``.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        The best source of each target is framed.

    Raises
    ------
    ParameterError
        The result is no grid, or has no such variable.
    """
    grid = _grid(result, variable)
    lower = str(result.attrs.get("direction", "")).startswith("lower")  # of distances
    if len(grid.dims) > 2:
        grid, peak = (grid.min if lower else grid.max)(grid.dims[2], skipna=True), " (peak over time)"
    else:
        peak = ""
    values = grid.values.astype(float)
    rows, columns = (labels_of(grid, dim) for dim in grid.dims)
    size = (1.9 + 0.16 * max(map(len, rows)) * 0.5 + 0.72 * len(columns), 1.3 + 0.36 * len(rows))
    with house_style():
        figure = new_figure((max(size[0], 3.4), max(size[1], 2.2)))
        axes = figure.subplots()
        image = axes.imshow(values, aspect="auto", **colour_scale(values))
        axes.set_xticks(range(len(columns)), columns, rotation=0 if max(map(len, columns)) <= 8 else 35, ha="center")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel(in_words(str(grid.dims[1])))
        axes.set_ylabel(in_words(str(grid.dims[0])))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        if values.size <= MAX_CELLS_WITH_TEXT:
            write_cells(axes, values, image)
        frame_best(axes, -values if lower else values)
        bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.03)
        bar.set_label(unit_of(result, variable) + peak)
        bar.outline.set_visible(False)
        write_title(axes, title)
    return figure


def score_vs_ceiling(result: xr.Dataset, *, by: str | None = None, title: str | None = None) -> Figure:
    """Draw each neuroid's score against the highest that any model could reach on it.

    Parameters
    ----------
    result : Dataset, (neuroid)
        With ``score`` and ``ceiling``; over time, each neuroid at the time of its highest ceiling.
    by : str, optional
        Neuroid coordinate that colours the points; default ``layer`` or ``region``.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        The result has no ceiling per neuroid; ``by`` names no coordinate of neuroids.
    """
    if kind_of(result) != "scores" or "ceiling" not in result:
        raise ParameterError(
            'score_vs_ceiling got a result without a ceiling per neuroid. Pass `ceiling="repeat"` to `ba.evaluate`.'
        )
    rows = tidy(result).dropna(subset=["score", "ceiling"])
    if "time" in rows:
        rows = rows.loc[rows.groupby([c for c in ("system", "layer", "region", "neuroid_id") if c in rows])["ceiling"].idxmax()]
    by = neuroid_groups(result["score"], by, "score_vs_ceiling")
    with house_style():
        figure = new_figure((3.9, 3.6))
        axes = figure.subplots()
        low = float(min(0.0, rows["score"].min(), rows["ceiling"].min())) if len(rows) else 0.0
        high = float(max(rows["score"].max(), rows["ceiling"].max())) * 1.05 if len(rows) else 1.0
        axes.plot([max(low, 0), high], [max(low, 0), high], color=FAINT, lw=1, ls=(0, (4, 3)), zorder=0)
        axes.annotate(
            "ceiling", (high, high), xytext=(-22, -2), textcoords="offset points", ha="right", va="top", color=FAINT, size=8
        )
        for colour, (name, part) in zip(colour_cycle(), _groups(rows, by), strict=False):
            axes.scatter(
                part["ceiling"], part["score"], s=14, color=colour, alpha=0.75, lw=0, label=str(name), rasterized=len(rows) > 500
            )
        axes.set_xlabel(f"noise ceiling ({unit_of(result, 'score')})")
        axes.set_ylabel(f"score ({unit_of(result, 'score')})")
        axes.axhline(0, color=FAINT, lw=0.6)
        if by:
            axes.legend(title=by, loc="upper left", handletextpad=0.2, borderpad=0)
        write_title(axes, title)
    return figure


def distribution(result: xr.Dataset, *, by: str | None = None, title: str | None = None) -> Figure:
    """Draw the scores of all neuroids by group, with the median and the mean ceiling.

    Parameters
    ----------
    result : Dataset, (neuroid)
    by : str, optional
        Neuroid coordinate; default ``layer`` or ``region``.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        The result has no score per neuroid; ``by`` names no coordinate of neuroids.
    """
    if kind_of(result) != "scores":
        raise ParameterError("distribution got a result without a score per neuroid. Expected a result of `ba.evaluate`.")
    by = neuroid_groups(result["score"], by, "distribution")
    groups = _groups(tidy(result).dropna(subset=["score"]), by)
    jitter = np.random.default_rng(0)
    with house_style():
        figure = new_figure((max(2.6, 1.2 + 0.62 * len(groups)), 3.0))
        axes = figure.subplots()
        for i, (_, part) in enumerate(groups):
            offsets = jitter.uniform(-0.22, 0.22, len(part))
            axes.scatter(i + offsets, part["score"], s=9, color=PALETTE[0], alpha=0.45, lw=0, rasterized=len(part) > 500)
            axes.hlines(part["score"].median(), i - 0.3, i + 0.3, color=INK, lw=2, label="median" if i == 0 else None)
            if "ceiling" in part:
                line = {"color": PALETTE[1], "lw": 1.4, "ls": (0, (3, 2)), "label": "mean ceiling" if i == 0 else None}
                axes.hlines(part["ceiling"].mean(), i - 0.36, i + 0.36, **line)
        axes.set_xticks(range(len(groups)), [str(name) for name, _ in groups])
        axes.set_xlim(-0.6, len(groups) - 0.4)
        axes.axhline(0, color=FAINT, lw=0.6)
        axes.set_ylabel(unit_of(result, "score"))
        axes.set_xlabel(by or "")
        figure.legend(loc="outside upper right", ncols=2)
        write_title(axes, title)
    return figure


def attribution(
    result: xr.DataArray,
    *,
    stimuli: xr.Dataset | None = None,
    presentations: Sequence[int] = (0, 1, 2, 3),
    title: str | None = None,
) -> Figure:
    """Draw which parts of some stimuli drive each neuroid.

    Parameters
    ----------
    result : DataArray, (presentation, neuroid, ...)
        Of :func:`brainalign.attribute`. Pixels are drawn as images (channels summed), words and features as bars.
    stimuli : Dataset, optional
        The images, drawn above their attributions where the table holds their values.
    presentations : sequence of int
        Positions of the presentations to show; those beyond the end are left out.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        One row per neuroid, one column per presentation; red drives the response up, blue down.

    Raises
    ------
    ParameterError
        None of the presentations is there, or the table of stimuli lacks one that is drawn.
    """
    shown = [i for i in presentations if i < result.sizes["presentation"]]
    if not shown:
        raise ParameterError(
            f"attribution got presentations={presentations!r} of {result.sizes['presentation']}. Expected some that are there."
        )
    maps = result.isel(presentation=shown)
    maps = maps.sum([dim for dim in maps.dims[2:] if dim not in ("y", "x", "part", "feature")])
    names, ids = ([str(name) for name in x.values] for x in (maps["neuroid_id"], maps["stimulus_id"]))
    images = _images(stimuli, ids)
    with house_style():
        figure = new_figure((1.5 + 1.4 * len(shown), 0.5 + 1.45 * (len(names) + bool(images))))
        grid = figure.subplots(len(names) + bool(images), len(shown), squeeze=False)
        for axes, image in zip(grid[0], images, strict=False):
            axes.imshow(image, cmap="gray")
            bare(axes)
        for i, row in enumerate(grid[bool(images) :]):
            row[0].set_ylabel(names[i])
            limit = float(np.abs(maps.values[:, i]).max()) or 1.0
            drawn = [_draw_attribution(axes, maps.values[j, i], limit) for j, axes in enumerate(row)]
            if drawn[0] is not None:
                bar = figure.colorbar(drawn[0], ax=row.tolist(), shrink=0.85, pad=0.02)
                bar.outline.set_visible(False)
                bar.set_label("attribution")
        for axes, name in zip(grid[0], ids, strict=True):
            axes.set_title(name, size=8)
        if title:
            figure.suptitle(title, size=10)
    return figure


def _images(stimuli: xr.Dataset | None, ids: list[str]) -> list[np.ndarray[Any, Any]]:
    """Return the images behind some ids as (y, x), channels averaged; none where the table does not hold them."""
    if stimuli is None or not {"y", "x"} <= set(stimuli.get("values", xr.DataArray()).dims):
        return []
    known = [str(name) for name in stimuli["stimulus_id"].values]
    missing = [name for name in ids if name not in known]
    if missing:
        raise ParameterError(
            f"attribution got stimuli without {preview(missing)}. Expected those of the presentations that are drawn."
        )
    rows = [known.index(name) for name in ids]
    values = stimuli["values"].isel(presentation=rows).transpose("presentation", "y", "x", ...).values
    return list(values.reshape(*values.shape[:3], -1).mean(axis=-1))


def _draw_attribution(axes: Axes, values: np.ndarray[Any, Any], limit: float) -> Any:
    if values.ndim == 2:
        bare(axes)
        return axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
    flat = values.ravel()
    axes.bar(np.arange(flat.size), flat, color=np.where(flat >= 0, "#B2182B", "#2166AC"), width=0.9)
    axes.set_ylim(-1.05 * limit, 1.05 * limit)
    axes.axhline(0, color=FAINT, lw=0.6)
    return None


def _grid(result: xr.Dataset | xr.DataArray, variable: str) -> xr.DataArray:
    if isinstance(result, xr.Dataset) and variable not in result:
        raise ParameterError(
            f"heatmap got variable={variable!r}. Expected one of {', '.join(map(str, result))}.{did_you_mean(variable, result)}"
        )
    grid = result[variable] if isinstance(result, xr.Dataset) else result
    sides = [dim for dim in grid.dims if dim not in TIMES]
    if len(sides) != 2 or "neuroid" in sides or grid.ndim > 3:
        raise ParameterError(
            f"heatmap got dims {grid.dims}. Expected groups × groups: a result of `ba.compare` or `ba.compare_rdms`."
        )
    return grid.transpose(*sides, ...)


def _groups(rows: Any, by: str | None) -> list[tuple[Any, Any]]:
    return list(rows.groupby(by, sort=False)) if by else [("", rows)]
