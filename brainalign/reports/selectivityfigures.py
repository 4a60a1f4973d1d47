"""Figures of what neuroids are selective for: scores by category, and tuning curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import preview
from brainalign.engine.tuning import Curves
from brainalign.reports.drawing import FAINT, INK, PALETTE, colour_scale, house_style, labels_of, new_figure, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_ROWS, _MOST_PANELS = 2000, 8


def selectivity_map(result: xr.Dataset, *, title: str | None = None) -> Figure:
    """Draw the scores of all neuroids for every category: as an image, sorted by what each prefers, and how they are spread.

    Parameters
    ----------
    result : Dataset, (neuroid, category[, time])
        Of :func:`brainalign.selectivity`. Over time, the highest score is shown.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        Of more than 2,000 neuroids every so many are in the image. Histograms are filled where p ≤ .05, corrected, if the result
        has p-values.

    Raises
    ------
    ParameterError
        It has no score by category, or none that is defined.
    """
    if "score" not in result or "category" not in result["score"].dims:
        raise ParameterError(
            "selectivity_map got a result without a score (neuroid, category). Expected one of `ba.selectivity`."
        )
    over = [dim for dim in result["score"].dims if dim not in ("neuroid", "category")]
    score = result["score"].max(over).transpose("neuroid", "category")
    passed = (
        (result["p_value_max"].min(over).transpose("neuroid", "category") <= 0.05).values if "p_value_max" in result else None
    )
    names, values = labels_of(score, "category"), score.values
    known = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not known.size:
        raise ParameterError(
            f"selectivity_map got {len(values)} neuroids without a score. Expected some: look at `result.status`."
        )
    chance = float(result.attrs.get("chance", 0.0))
    filled = np.nan_to_num(values[known], nan=-np.inf)
    order = known[np.lexsort((-filled.max(axis=1), filled.argmax(axis=1)))]
    order = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), _MOST_ROWS)).astype(np.int64))]
    with house_style():
        figure = new_figure((max(3.6, 1.9 + 0.75 * len(names)) + 2.4, max(3.0, 0.6 + 0.42 * len(names))))
        left, right = figure.subplots(1, 2)
        scale = colour_scale(values[order] - chance)
        scale |= {"vmin": scale["vmin"] + chance, "vmax": scale["vmax"] + chance}
        image = left.imshow(values[order], aspect="auto", interpolation="nearest", **scale)
        left.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) <= 6 else 35)
        left.set_ylabel(f"{len(known)} neuroids, by what they prefer")
        left.set_yticks([])
        bar = figure.colorbar(image, ax=left, shrink=0.9, pad=0.03)
        bar.set_label(unit_of(result, "score"))
        bar.outline.set_visible(False)
        _histograms(right, values, passed, names, chance)
        right.set_xlabel(unit_of(result, "score"))
        if title:
            figure.suptitle(title, size=10)
    return figure


def tuning_curves(result: xr.Dataset, *, neuroid: Sequence[Any] | None = None, title: str | None = None) -> Figure:
    """Draw mean responses over angles, with standard errors, and the fitted curves.

    Parameters
    ----------
    result : Dataset
        Of :func:`brainalign.neurons.tuning`, without time.
    neuroid : sequence, optional
        ``neuroid_id`` values, eight at most; default those of the most certain tuning, or else of the highest index.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ParameterError
        It is no such result, or has no such neuroid.
    """
    if "response" not in result or result["response"].dims != ("angle", "neuroid"):
        raise ParameterError(
            "tuning_curves got a result without responses (angle, neuroid). Expected one of `ba.neurons.tuning`, at one time."
        )
    columns = _columns(result, neuroid)
    names = [str(name) for name in result["neuroid_id"].values[columns].tolist()]
    period, degrees = int(result.attrs["period_deg"]), result["angle"].values
    across = min(4, len(columns))
    down = -(-len(columns) // across)
    with house_style():
        figure = new_figure((1.9 * across + 0.5, 1.6 * down + 0.5))
        panels = figure.subplots(down, across, squeeze=False, sharex=True).ravel()
        for axes, column, name in zip(panels, columns, names, strict=False):
            one = result.isel(neuroid=column)
            fine = np.linspace(0, period, 181)
            axes.axhline(0, color=FAINT, lw=0.6)
            if np.isfinite(one["fit_kappa"].item()):
                axes.plot(fine, _curve(one, period).at(np.deg2rad(fine) * 360 / period)[:, 0], color=PALETTE[1], lw=1.2)
            axes.errorbar(degrees, one["response"].values, one["response_sem"].values, fmt="o", ms=3, lw=1, color=PALETTE[0])
            axes.set_title(f"{name}  ({', '.join(f'{i:.2f}' for i in np.atleast_1d(one['score'].values))})", size=8, color=INK)
            axes.set_xticks([0, period / 2, period])
        for axes in panels[len(columns) :]:
            axes.set_visible(False)
        figure.supxlabel(f"degrees  ·  in brackets: selectivity of {' and '.join(labels_of(result, 'tuning'))}", size=8)
        figure.supylabel(f"response ({result.attrs['units']})" if result.attrs.get("units") else "response", size=8)
        if title:
            figure.suptitle(title, size=10)
    return figure


def _histograms(axes: Any, values: np.ndarray[Any, Any], passed: Any, names: list[str], chance: float) -> None:
    """Draw one histogram a category, one above the other."""
    finite = values[np.isfinite(values)]
    edges = np.linspace(finite.min(), finite.max() + 1e-9, 31)
    for row, column in enumerate(values.T):
        counts = np.histogram(column[np.isfinite(column)], edges)[0]
        height, base = 0.85 / max(1, counts.max()), len(names) - 1 - row
        axes.stairs(base + counts * height, edges, baseline=base, color=INK, lw=0.8)
        if passed is not None:
            some = np.histogram(column[np.isfinite(column) & passed[:, row]], edges)[0]
            axes.stairs(base + some * height, edges, baseline=base, fill=True, color=PALETTE[1])
    axes.axvline(chance, color=FAINT, lw=0.8, ls=(0, (4, 3)))
    axes.set_yticks(np.arange(len(names)) + 0.3, names[::-1])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _columns(result: xr.Dataset, neuroids: Sequence[Any] | None) -> list[int]:
    if neuroids is None:
        name = "p_value" if "p_value" in result else "score"
        height = result[name].values * (-1 if name == "p_value" else 1)
        best = np.where(np.isfinite(height), height, -np.inf).max(axis=0)
        amplitude = np.nan_to_num(result["amplitude"].values.max(axis=0))
        return np.lexsort((-amplitude, -best))[:_MOST_PANELS].tolist()
    known = [str(name) for name in result["neuroid_id"].values.tolist()]
    wanted = [str(name) for name in neuroids]
    unknown = [name for name in wanted if name not in known]
    if unknown or not 0 < len(wanted) <= _MOST_PANELS:
        raise ParameterError(
            f"tuning_curves got neuroid={preview(wanted)}{f', of which {unknown[0]!r} is unknown' if unknown else ''}. "
            f"Expected one to {_MOST_PANELS} of {preview(known)}."
        )
    return [known.index(name) for name in wanted]


def _curve(one: xr.Dataset, period: int) -> Curves:
    preferred = np.deg2rad(one["fit_preferred_deg"].values[None]) * 360 / period
    kappa, base, height = (one[f"fit_{name}"].values[None] for name in ("kappa", "base", "height"))
    opposite = one["fit_opposite"].values[None] if "fit_opposite" in one else np.zeros(1)
    return Curves(preferred, kappa, kappa, base, height, opposite)
