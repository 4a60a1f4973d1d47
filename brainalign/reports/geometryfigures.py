"""Figures of geometry: RDMs, stimuli where their distances put them, and how models of them compare."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import did_you_mean
from brainalign.reports.drawing import (
    FAINT,
    INK,
    PALETTE,
    bare,
    colour_cycle,
    house_style,
    in_words,
    interval_name,
    labels_of,
    new_figure,
    note_of,
    unit_of,
)
from brainalign.reports.table import kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_PANELS = 8
_MOST_NAMES, _LONGEST_NAME = 12, 10


def rdm_panel(rdm: xr.DataArray, *, order: Sequence[Any] | None = None, title: str | None = None) -> Figure:
    """Draw representational dissimilarity matrices side by side.

    Parameters
    ----------
    rdm : DataArray, (..., stimulus, stimulus_2)
        Each is drawn on its own colour scale, of its own percentiles: dissimilarities of two systems have no common scale. Of more
        than eight times, eight are shown, evenly spaced.
    order : sequence, optional
        Stimulus ids in the order wanted; default the RDM's own, sorted by its ``condition`` where it has one.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        Up to twelve stimuli are named, where their names are short.

    Raises
    ------
    ParameterError
        It is no RDM, or `order` names a stimulus that it does not have.
    """
    if kind_of(rdm) != "rdm":
        raise ParameterError(f"rdm_panel got dims {tuple(rdm.dims)}. Expected (..., stimulus, stimulus_2): see `ba.rdm`.")
    times = [dim for dim in ("time", "time_2") if rdm.sizes.get(dim, 0) > _MOST_PANELS]
    square = _ordered(rdm.isel({dim: _some(rdm.sizes[dim]) for dim in times}).transpose(..., "stimulus", "stimulus_2"), order)
    stack = square.values.reshape(-1, *square.shape[-2:])
    names = [" · ".join(labels) for labels in product(*(labels_of(square, dim) for dim in square.dims[:-2]))]
    columns = min(len(stack), 4)
    n_rows = -(-len(stack) // columns)
    ids = labels_of(square, "stimulus")
    named = len(ids) <= _MOST_NAMES and max(map(len, ids)) <= _LONGEST_NAME
    with house_style():
        figure = new_figure((max(2.9, 2.15 * columns), 1.95 * n_rows + 0.35))
        for axes, name, values in zip(figure.subplots(n_rows, columns, squeeze=False).ravel(), names, stack, strict=False):
            off = values[~np.eye(len(values), dtype=bool)]
            low, high = np.nanpercentile(off, [1, 99]) if np.isfinite(off).any() else (0, 1)
            image = axes.imshow(values, cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
            bare(axes)
            if named:
                axes.set_yticks(range(len(ids)), ids, size=6)
                axes.set_xticks(range(len(ids)), ids, size=6, rotation=90)
            axes.set_title(name)
            bar = figure.colorbar(image, ax=axes, shrink=0.7, pad=0.03, ticks=[low, high], format="%.2g")
            bar.outline.set_visible(False)
        for axes in figure.axes[len(stack) : n_rows * columns]:
            axes.set_visible(False)
        label = f"{rdm.attrs.get('metric', 'dissimilarity')} ({rdm.attrs['units']})" if rdm.attrs.get("units") else ""
        shown = "".join(f"  ·  {_MOST_PANELS} of {rdm.sizes[dim]:,} times" for dim in times)
        caption = f"{square.shape[-1]} stimuli  ·  {label or rdm.attrs.get('metric', 'dissimilarity')}{shown}"
        figure.supxlabel(caption, size=8, color=INK, wrap=True)  # one matrix is narrower than most units
        if title:
            figure.suptitle(title, size=10)
    return figure


def stimulus_map(rdm: xr.DataArray, *, along: str | None = None, by: str | None = None, title: str | None = None) -> Figure:
    """Draw stimuli where their dissimilarities put them, by classical scaling.

    Parameters
    ----------
    rdm : DataArray, ([group,] stimulus, stimulus_2)
    along : str, optional
        The leading dim; each of its maps is turned to lie as close as possible to the one before. Of more than eight, such as times, eight
        are shown, evenly spaced.
    by : str, optional
        Coordinate of the stimuli that colours them; default ``condition`` or ``category``, where there is one.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        Titles say how much of the variance of the positions lies in the two dimensions.

    Raises
    ------
    ParameterError
        It is no RDM, or has more leading dims than one; ``by`` names no coordinate of its stimuli.
    """
    from brainalign.geometry.scaling import trajectories

    if kind_of(rdm) != "rdm" or rdm.ndim > 3:
        raise ParameterError(
            f"stimulus_map got dims {rdm.dims}. Expected ([group,] stimulus, stimulus_2): select along the others."
        )
    along = along or (str(rdm.dims[0]) if rdm.ndim == 3 else "rdm")
    places = trajectories(rdm if rdm.ndim == 3 else rdm.expand_dims("rdm"), along=along)
    share, steps = places["share"].values, labels_of(places, along)
    by = by or next((name for name in ("condition", "category") if name in rdm.coords and rdm[name].dims == ("stimulus",)), None)
    if by is not None and (by not in rdm.coords or rdm[by].dims != ("stimulus",)):
        known = [str(name) for name, c in rdm.coords.items() if c.dims == ("stimulus",)]
        raise ParameterError(
            f"stimulus_map got by={by!r}. Expected a coordinate of `stimulus`: {', '.join(known)}.{did_you_mean(by, known)}"
        )
    kinds = rdm[by].values.astype(object).astype(str) if by else np.full(rdm.sizes["stimulus"], "")
    shown = _some(len(steps))
    columns = min(len(shown), 4)
    n_rows = -(-len(shown) // columns)
    with house_style():
        figure = new_figure((2.4 * columns + (1.1 if by else 0.2), 2.5 * n_rows))
        panels = figure.subplots(n_rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
        for axes in panels:
            bare(axes)
            axes.set_aspect("equal")
        for axes, i in zip(panels, shown, strict=False):
            for colour, kind in zip(colour_cycle(len(set(kinds))), dict.fromkeys(kinds), strict=False):
                axes.plot(*places.values[kinds == kind, :, i].T, "o", color=colour, ms=3.5, mew=0, label=kind or None)
            axes.set_title(f"{steps[i] if rdm.ndim == 3 else ''}  {share[i]:.0%}".strip())
        if by:
            figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right center", title=by)
        if title:
            figure.suptitle(title, size=10)
    return figure


def comparison(result: xr.Dataset, *, title: str | None = None) -> Figure:
    """Draw how well each model does: bars with intervals, what chance and the noise ceiling say, and which models beat which.

    Parameters
    ----------
    result : Dataset, (source_<a>[, target_<b>])
        Of :func:`brainalign.compare_rdms`, or any with ``score``; what it has of ``ci_low``, ``p_value_max``, ``ceiling_low``,
        ``ceiling_high`` and ``difference`` (of ``between="source_<a>"``) is drawn.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        A panel per target. The grey band is the noise ceiling. A dot at the foot of a bar: above chance (p ≤ .05, corrected). The
        grid above the bars: a dot where the model of the row does better than that of the column (p ≤ .05, corrected).

    Raises
    ------
    ParameterError
        The result has no score, or one of other dims.
    """
    score = result.get("score") if isinstance(result, xr.Dataset) else None
    if score is None or not 1 <= score.ndim <= 2 or "neuroid" in score.dims:
        dims = getattr(score, "dims", "no score")
        raise ParameterError(
            f"comparison got {dims}. Expected a score of models, or of models × targets: a result of `ba.compare_rdms`."
        )
    models = score.dims[0]
    panels = labels_of(score, score.dims[1]) if score.ndim == 2 else [""]
    beside = {
        name: _columns(result, name, models)
        for name in ("score", "ci_low", "ci_high", "p_value_max", "ceiling_low", "ceiling_high")
    }
    wins = _wins(result, models)
    names = labels_of(score, models)
    above = 0.0 if wins is None else 0.1 * len(names)
    with house_style():
        figure = new_figure((max(2.6, 1.1 + (0.42 * len(names) + 0.5) * len(panels)), 3.0 + above))
        rows = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=[above or 0.01, 2.4])
        for j, panel in enumerate(panels):
            top, axes = rows[:, j]
            top.axis("off")
            if wins is not None:
                _draw_wins(top, wins[..., j])
            _draw_bars(axes, {name: None if x is None else x[:, j] for name, x in beside.items()})
            axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
            axes.set_xlabel(in_words(str(models)))
            top.set_title(panel)
        rows[1, 0].set_ylabel(unit_of(result, "score"))
        drawn = {
            "ci_low": f"line: {interval_name(result)}", "p_value_max": "dot at the foot: p ≤ .05, corrected", "ceiling_low": "band: noise ceiling",
            "difference": "grid: row better than column",
        }  # fmt: skip
        marks = [text for name, text in drawn.items() if (wins is not None if name == "difference" else beside[name] is not None)]
        figure.supxlabel(note_of(marks, width=24 + 16 * len(panels)), size=7, color=FAINT)
        if title:
            figure.suptitle(title, size=10)
    return figure


def _draw_bars(axes: Axes, beside: dict[str, Any]) -> None:
    places, score = np.arange(len(beside["score"])), beside["score"]
    low, high = beside["ceiling_low"], beside["ceiling_high"]
    if low is not None and high is not None:
        axes.axhspan(float(np.nanmean(low)), float(np.nanmean(high)), color=FAINT, alpha=0.3, lw=0)
    axes.bar(places, score, width=0.72, color=PALETTE[0], alpha=0.85)
    if beside["ci_low"] is not None:
        bars = np.clip([score - beside["ci_low"], beside["ci_high"] - score], 0, None)
        axes.errorbar(places, score, yerr=bars, fmt="none", ecolor=INK, elinewidth=1.0)
    axes.axhline(0, color=INK, lw=0.6)
    if beside["p_value_max"] is not None:
        found = places[beside["p_value_max"] <= 0.05]
        axes.plot(
            found, np.full(len(found), 0.02), "o", color="white", mec=INK, mew=0.6, ms=3.5, transform=axes.get_xaxis_transform()
        )


def _draw_wins(axes: Axes, wins: np.ndarray[Any, Any]) -> None:
    """Draw one row a model, the first on top, with a dot at each model that it beats."""
    n = len(wins)
    for i, row in enumerate(wins):
        axes.axhline(-i, color=FAINT, lw=0.4)
        axes.plot([i], [-i], "s", color=INK, ms=3)
        beaten = np.flatnonzero(row)
        axes.plot(beaten, np.full(len(beaten), -i), "o", color=PALETTE[1], ms=2.5)
    axes.set_ylim(-n + 0.4, 0.6)


def _columns(result: xr.Dataset, name: str, models: Any) -> np.ndarray[Any, Any] | None:
    """Return (model, target) of a variable that may lack either dim."""
    if name not in result:
        return None
    return np.asarray(
        result[name].broadcast_like(result["score"]).transpose(*result["score"].dims).values.reshape(result.sizes[models], -1)
    )


def _wins(result: xr.Dataset, models: Any) -> np.ndarray[Any, Any] | None:
    """Return (model, model, target): whether the first does better than the second."""
    n, dims = result.sizes[models], result["difference"].dims if "difference" in result else ()
    if "pair" not in dims or models in dims or n > 20:  # none, or of targets
        return None
    gaps, p = (
        result[name].transpose("pair", ...).values.reshape(result.sizes["pair"], -1)
        for name in ("difference", "difference_p_value_max")
    )
    if str(result.attrs.get("direction", "")).startswith("lower"):
        gaps = -gaps
    out = np.zeros((n, n, gaps.shape[1]), dtype=bool)
    for k, (i, j) in enumerate(combinations(range(n), 2)):
        out[i, j], out[j, i] = (p[k] <= 0.05) & (gaps[k] > 0), (p[k] <= 0.05) & (gaps[k] < 0)
    return out


def _some(n: int) -> np.ndarray[Any, Any]:
    """Return positions of as many panels as are drawn, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, _MOST_PANELS)).round().astype(int))


def _ordered(rdm: xr.DataArray, order: Sequence[Any] | None) -> xr.DataArray:
    ids = [str(name) for name in rdm["stimulus"].values]
    if order is not None:
        wanted = [str(name) for name in order]
        unknown = [name for name in wanted if name not in set(ids)]
        if unknown:
            raise ParameterError(
                f"rdm_panel got order with {unknown[0]!r}. Expected stimuli of the RDM.{did_you_mean(unknown[0], ids)}"
            )
        rows = np.array([ids.index(name) for name in wanted])
    elif "condition" in rdm.coords and rdm["condition"].dims == ("stimulus",):
        rows = np.argsort(rdm["condition"].values.astype(object).astype(str), kind="stable")
    else:
        return rdm
    return rdm.isel(stimulus=rows, stimulus_2=rows)
