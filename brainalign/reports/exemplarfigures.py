"""Figures of what neuroids answer: their exemplars, pictures in a grid or texts in a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.schema import group_label
from brainalign.core.tables import content_of, validate_stimuli
from brainalign.dataset.stimulus_table import read_content
from brainalign.reports.drawing import PALETTE, bare, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_NEUROIDS, _MOST_SIGNS = 24, 22


def exemplar_panel(
    result: xr.Dataset, stimuli: xr.Dataset | None = None, *, labels: xr.DataArray | None = None, title: str | None = None
) -> Figure:
    """Draw the exemplars of each neuroid in a row, the highest response first.

    Parameters
    ----------
    result : Dataset, (neuroid, rank)
        Of :func:`brainalign.exemplars`; up to 24 neuroids. Above each exemplar stands its response.
    stimuli : Dataset, (presentation,), optional
        The stimuli that were shown. Pictures are drawn, texts written; without a table, or for sounds, names stand for them.
    labels : DataArray, (neuroid,), optional
        What to call the neuroids beside their ids: ``label`` of :func:`brainalign.caption`.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
        Where the result says where in a map a response was (``channel_x``, ``channel_y`` and the attrs ``map_width``,
        ``map_height``), that part of a picture is framed.

    Raises
    ------
    ParameterError
        It is no result of ``exemplars``, or has too many neuroids.
    AlignmentError
        The stimuli lack an exemplar.
    """
    if not isinstance(result, xr.Dataset) or result.get("stimulus_id", xr.DataArray()).dims != ("neuroid", "rank"):
        raise ParameterError(
            "exemplar_panel got no `stimulus_id` along (neuroid, rank). Expected a result of `ba.exemplars(responses)`."
        )
    n, k = result["stimulus_id"].shape
    if n > _MOST_NEUROIDS:
        raise ParameterError(
            f"exemplar_panel got {n} neuroids. Expected {_MOST_NEUROIDS} or fewer: select with `result.isel(neuroid=...)`."
        )
    shown = _contents(result, stimuli)
    names = _names(result, labels)
    written = all(isinstance(content, str) for content in shown.values())
    with house_style():
        figure = new_figure(((1.5 if written else 1.05) * k + 1.4, (0.4 if written else 1.25) * n + 0.5))
        panels: list[Axes] = list(figure.subplots(n, k, squeeze=False).ravel())
        for axes, (i, j) in zip(panels, np.ndindex(n, k), strict=True):
            name = str(result["stimulus_id"].values[i, j])
            bare(axes)
            if j == 0:
                axes.set_ylabel(names[i], rotation=0, ha="right", va="center")
            if name:
                _draw(axes, shown[name])
                axes.set_title(f"{float(result['response'].values[i, j]):.3g}", size=7, pad=2)
                _frame(axes, result, i, j, shown[name])
        if title:
            figure.suptitle(title, size=10)
    return figure


def _contents(result: xr.Dataset, stimuli: xr.Dataset | None) -> dict[str, Any]:
    """Return what to draw for each exemplar: a picture, or a text."""
    wanted = [name for name in pd.unique(result["stimulus_id"].values.ravel().astype(object)) if name]
    if stimuli is None:
        texts = result["text"].values.ravel() if "text" in result else result["stimulus_id"].values.ravel()
        return dict(zip(result["stimulus_id"].values.ravel().tolist(), map(str, texts), strict=True))
    ids = pd.Index(validate_stimuli(stimuli)["stimulus_id"].values.astype(object))
    rows = ids[~ids.duplicated()].get_indexer(wanted)
    if (rows < 0).any():
        lacking = wanted[int(np.argmin(rows))]
        raise AlignmentError(
            f"exemplar_panel got stimuli without {int((rows < 0).sum())} of {len(wanted)} exemplars, first {lacking!r}. Expected the table that "
            "was shown."
        )
    at = np.flatnonzero(~ids.duplicated())[rows]
    if content_of(stimuli) != "text" and stimuli.attrs.get("kind") not in ("image", "array"):
        return {name: name for name in wanted}
    return {name: _picture_or_text(content, name) for name, content in zip(wanted, read_content(stimuli, at), strict=True)}


def _picture_or_text(content: Any, name: str) -> Any:
    """Return a text, or an array as a picture (y, x[, colour]); the name of what is neither."""
    if isinstance(content, str):
        return content
    picture = np.squeeze(np.asarray(content))
    if picture.ndim == 3 and picture.shape[0] in (3, 4) and picture.shape[-1] not in (3, 4):
        picture = np.moveaxis(picture, 0, -1)
    return picture if picture.ndim == 2 or (picture.ndim == 3 and picture.shape[-1] in (3, 4)) else name


def _names(result: xr.Dataset, labels: xr.DataArray | None) -> list[str]:
    group, ids = group_label(result["stimulus_id"]), [str(value) for value in result["neuroid_id"].values.tolist()]
    names = [f"{place}/{name}" for place, name in zip(result[group].values.tolist(), ids, strict=True)] if group else ids
    return names if labels is None else [f"{name}\n{word}" for name, word in zip(names, labels.values.tolist(), strict=True)]


def _draw(axes: Axes, content: Any) -> None:
    if isinstance(content, str):
        short = content if len(content) <= _MOST_SIGNS else content[: _MOST_SIGNS - 1] + "…"
        axes.text(0.5, 0.5, short, ha="center", va="center", size=8, transform=axes.transAxes)
        return
    axes.imshow(content, cmap=None if content.ndim == 3 else "gray", interpolation="nearest")


def _frame(axes: Axes, result: xr.Dataset, i: int, j: int, content: Any) -> None:
    """Frame the part of a picture that a place of a map looks at, as if maps covered pictures evenly."""
    if isinstance(content, str) or not {"channel_x", "channel_y"} <= set(result) or "map_width" not in result.attrs:
        return
    height, width = content.shape[0] / result.attrs["map_height"], content.shape[1] / result.attrs["map_width"]
    x, y = (float(result[name].values[i, j]) for name in ("channel_x", "channel_y"))
    left, top = width * x - 0.5, height * y - 0.5
    axes.plot(left + width * np.array([0, 1, 1, 0, 0]), top + height * np.array([0, 0, 1, 1, 0]), color=PALETTE[1], lw=1)
