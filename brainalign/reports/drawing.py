"""What all figures share: the style, the colours, the names of axes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, require
from brainalign.core.parameters import did_you_mean
from brainalign.core.schema import group_label
from brainalign.engine.comparators import COMPARATORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Okabe and Ito 2008: eight colours that all common kinds of colour vision tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
INK, FAINT = "#333333", "#9a9a9a"
MAX_CELLS_WITH_TEXT = 400
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "legend.fontsize": 8,
    "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.linewidth": 0.8, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "brainalign", "figure.dpi": 120,
}  # fmt: skip


def house_style() -> AbstractContextManager[Any]:
    """Return a context in which figures have the house style.

    Returns
    -------
    context manager
    """
    return require("matplotlib", extra="viz", purpose="drawing a figure").rc_context(STYLE)


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty figure.

    Parameters
    ----------
    size : tuple of float, (width, height), inches

    Returns
    -------
    matplotlib.figure.Figure
    """
    return require("matplotlib.figure", extra="viz", purpose="drawing a figure").Figure(figsize=size, layout="constrained")


def colour_scale(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return a sequential scale from 0, or a diverging one around 0 where scores are clearly negative.

    Parameters
    ----------
    values : ndarray

    Returns
    -------
    dict
        ``cmap``, ``vmin`` and ``vmax``, for ``imshow``.
    """
    finite = values[np.isfinite(values)]
    high = float(np.abs(finite).max()) if finite.size and np.abs(finite).max() > 0 else 1.0
    if finite.size and finite.min() < -0.1 * high:
        return {"cmap": "RdBu_r", "vmin": -high, "vmax": high}
    return {"cmap": "Blues", "vmin": 0.0, "vmax": high}


def write_cells(axes: Axes, values: np.ndarray[Any, Any], image: Any) -> None:
    """Write each value into its cell, dark on light or light on dark.

    Parameters
    ----------
    axes : Axes
    values : ndarray, (row, column)
        NaN is written as a dash.
    image : AxesImage
        What ``axes`` shows, for its colours.
    """
    for (i, j), value in np.ndenumerate(values):
        red, green, blue, _ = image.cmap(image.norm(value)) if np.isfinite(value) else (1, 1, 1, 1)
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
        text = f"{value:.2f}".replace("-0.00", "0.00") if np.isfinite(value) else "–"
        axes.text(j, i, text, ha="center", va="center", size=8, color="white" if dark else INK)


def frame_best(axes: Axes, values: np.ndarray[Any, Any]) -> None:
    """Frame the best row of each column.

    Parameters
    ----------
    axes : Axes
    values : ndarray, (row, column)
        A column without a finite value gets no frame.
    """
    patches = require("matplotlib.patches", extra="viz", purpose="drawing a figure")
    if len(values) < 2:
        return
    for j in range(values.shape[1]):
        if np.isfinite(values[:, j]).any():
            best = int(np.nanargmax(values[:, j]))
            axes.add_patch(patches.Rectangle((j - 0.47, best - 0.47), 0.94, 0.94, fill=False, ec=PALETTE[1], lw=1.8))


def colour_cycle(n: int = 0) -> list[Any]:
    """Return colours for some lines: distinct for up to eight, ordered beyond.

    Parameters
    ----------
    n : int

    Returns
    -------
    list of colours
    """
    if n <= len(PALETTE):
        return list(PALETTE) * 8
    viridis = require("matplotlib", extra="viz", purpose="drawing a figure").colormaps["viridis"]
    return [viridis(place) for place in np.linspace(0, 0.92, n)]


def labels_of(x: xr.DataArray, dim: Any) -> list[str]:
    """Return the labels of a dim, or positions where it has none.

    Parameters
    ----------
    x : DataArray
    dim : str

    Returns
    -------
    list of str
    """
    if dim not in x.coords:
        return [str(i) for i in range(x.sizes[dim])]
    values = x[dim].values
    return [str(float(f"{value:.4g}") if values.dtype.kind == "f" else value) for value in values]


def in_words(name: str) -> str:
    """Return a dim's name in words: ``source_layer`` as ``layer (source)``.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
    """
    side, _, group = name.partition("_")
    return f"{group} (source)" if side == "source" else f"{group} (target)" if side == "target" else name.replace("_", " ")


def unit_of(result: xr.Dataset | xr.DataArray, variable: str) -> str:
    """Return what a variable of a result measures, for an axis.

    Parameters
    ----------
    result : Dataset or DataArray
    variable : str
        Name of a variable of ``result``.

    Returns
    -------
    str
    """
    if variable == "score_normalized":
        return "score / ceiling"
    score, metric, aggregate = getattr(result, "score", result), result.attrs.get("metric"), result.attrs.get("aggregate")
    named = COMPARATORS[metric].units if metric in COMPARATORS else metric  # arithmetic may have lost what the score said
    unit = score.attrs.get("units") or named or "score"
    return f"{aggregate} {unit}" if aggregate and "neuroid" not in score.dims else unit


def write_title(axes: Axes, title: str | None) -> None:
    """Write a title at the left, where there is one.

    Parameters
    ----------
    axes : Axes
    title : str or None
    """
    if title:
        axes.set_title(title, loc="left")


def interval_name(result: xr.Dataset | xr.DataArray) -> str:
    """Return what the intervals of a result are, in words.

    Parameters
    ----------
    result : Dataset or DataArray
        Whose attr ``level``, where it has one, is their level.

    Returns
    -------
    str
    """
    return f"{100 * result.attrs.get('level', 0.95):g}% interval"


def note_of(marks: Sequence[str], width: int) -> str:
    """Lay out what the marks of a figure are, in lines of some width.

    Parameters
    ----------
    marks : sequence of str
    width : int
        Characters.

    Returns
    -------
    str
    """
    lines = [""]
    for mark in marks:
        longer = f"{lines[-1]}  ·  {mark}" if lines[-1] else mark
        lines = [*lines[:-1], longer] if len(longer) <= width or not lines[-1] else [*lines, mark]
    return "\n".join(lines)


def bare(axes: Axes) -> None:
    """Take ticks and frame away, for an image.

    Parameters
    ----------
    axes : Axes
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def neuroid_groups(score: xr.DataArray, by: str | None, owner: str) -> str | None:
    """Return the coordinate of neuroids that groups them.

    Parameters
    ----------
    score : DataArray, (neuroid, ...)
    by : str or None
        Default ``layer`` or ``region``.
    owner : str
        The figure, for the message.

    Returns
    -------
    str or None

    Raises
    ------
    ParameterError
        No such coordinate.
    """
    known = [str(name) for name, c in score.coords.items() if c.dims == ("neuroid",)]
    if by is not None and by not in known:
        raise ParameterError(f"{owner} got by={by!r}. Expected one of {', '.join(known)}.{did_you_mean(by, known)}")
    return by or group_label(score)
