"""Pictures of a recording as :func:`brainalign.reports.check` saw it, a picture for each kind of finding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.reports.drawing import FAINT, PALETTE, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"ok": FAINT, "constant": PALETTE[1], "not finite": PALETTE[3], "duplicate": PALETTE[0]}


def pictures(check: xr.Dataset) -> Iterator[tuple[str, Figure]]:
    """Yield the pictures of a check, each with a caption.

    Parameters
    ----------
    check : Dataset
        Of :func:`brainalign.reports.check`.

    Yields
    ------
    tuple of (str, Figure)
    """
    if "picture" not in check:
        return
    yield "values: some presentations (down) of some neuroids (across), in standard deviations", values(check)
    yield "spread of each neuroid; constant and NaN ones, and copies of others, are coloured", spread(check)
    yield "share of each neuroid's values that lie on its extremes: clipped ones lie far from the corner", extremes(check)
    yield "how often stimuli were presented", repeats(check)
    if "onset_s" in check.coords and check.coords["onset_s"].dims == ("presentation",):
        yield "seconds from one onset to the next, run by run", spacing(check)


def values(check: xr.Dataset) -> Figure:
    """Draw a sample of the values; NaN is left white.

    Parameters
    ----------
    check : Dataset

    Returns
    -------
    matplotlib.figure.Figure
    """
    picture = check["picture"].values
    centre, width = (np.ma.masked_invalid(picture).mean(axis=0), np.ma.masked_invalid(picture).std(axis=0))
    scaled = (picture - centre.filled(0)) / np.where(width.filled(0) > 0, width.filled(1), 1)
    across, down = f"neuroid (of {check.sizes['neuroid']:,})", f"presentation (of {check.sizes['presentation']:,})"
    with _axes((4.4, 3.0), across, down) as axes:
        image = axes.imshow(scaled, aspect="auto", cmap="RdBu_r", vmin=-3, vmax=3, interpolation="nearest")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02).outline.set_visible(False)
    return axes.figure


def spread(check: xr.Dataset) -> Figure:
    """Draw the standard deviation of each neuroid, coloured by its status.

    Parameters
    ----------
    check : Dataset

    Returns
    -------
    matplotlib.figure.Figure
    """
    sd, status = check["sd"].values, check["status"].values.astype(object)
    units = check.attrs.get("units")
    with _axes((4.4, 3.0), "neuroid", f"standard deviation ({units})" if units else "standard deviation") as axes:
        for name in dict.fromkeys(["ok", *status]):
            here = np.flatnonzero(status == name)
            if here.size:
                axes.scatter(
                    here, np.nan_to_num(sd[here]), s=6, color=_COLOURS[name], label=f"{name} ({here.size:,})", rasterized=True
                )
        if (sd > 0).any():
            axes.set_yscale("symlog", linthresh=float(np.min(sd[sd > 0])))
        axes.legend()
    return axes.figure


def extremes(check: xr.Dataset) -> Figure:
    """Draw how much of each neuroid's values lies on its minimum and maximum.

    Parameters
    ----------
    check : Dataset

    Returns
    -------
    matplotlib.figure.Figure
    """
    at = [check[f"n_at_{side}"].values.astype(float) for side in ("minimum", "maximum")]
    varied = check["status"].values.astype(object) != "constant"
    most = max(float(np.max(side[varied], initial=10.0)) for side in at)
    with _axes((3.4, 3.0), "values on the minimum", "values on the maximum") as axes:
        axes.scatter(at[0][varied], at[1][varied], s=8, color=PALETTE[0], alpha=0.5, rasterized=True)
        axes.set_xlim(-0.05 * most, 1.05 * most)
        axes.set_ylim(-0.05 * most, 1.05 * most)
    return axes.figure


def repeats(check: xr.Dataset) -> Figure:
    """Draw how many stimuli were presented how often.

    Parameters
    ----------
    check : Dataset

    Returns
    -------
    matplotlib.figure.Figure
    """
    times = pd.Series(check["stimulus_id"].values.astype(object)).value_counts().value_counts().sort_index()
    with _axes((3.0, 2.4), "presentations", "stimuli") as axes:
        axes.bar([str(n) for n in times.index], times.to_numpy(), color=PALETTE[0])
    return axes.figure


def spacing(check: xr.Dataset) -> Figure:
    """Draw the step from each onset to the next within its run.

    Parameters
    ----------
    check : Dataset

    Returns
    -------
    matplotlib.figure.Figure
    """
    onset = check["onset_s"].values.astype(float)
    run = check["run"].values.astype(object) if "run" in check.coords and check["run"].ndim else np.full(onset.size, "")
    with _axes((4.4, 2.4), "presentation", "step (s)") as axes:
        for number, name in enumerate(dict.fromkeys(run)):
            here = np.flatnonzero(run == name)
            axes.plot(here[1:], np.diff(onset[here]), ".", ms=2.5, color=PALETTE[number % 2], rasterized=True)
    return axes.figure


@contextmanager
def _axes(size: tuple[float, float], across: str, down: str) -> Iterator[Any]:
    """Give the one pair of axes of a new figure, in the house's style."""
    with house_style():
        axes = new_figure(size).subplots()
        axes.set_xlabel(across)
        axes.set_ylabel(down)
        yield axes
