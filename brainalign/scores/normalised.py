"""Scores as shares of what could be reached: units must match, and so must the number of presentations that were averaged."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice
from brainalign.scores.ceiling import ceiling_of_averages, noise_ceiling


def normalise(out: xr.Dataset, ceiling: Any, target: xr.DataArray, *, metric: str, seed: int, averaged: float) -> xr.Dataset:
    """Divide a score in r by the ceiling in r, and one in R² by its square; both of rows that average as many presentations.

    Parameters
    ----------
    out : Dataset
        With ``score``.
    ceiling : {"repeat"} or DataArray, (neuroid[, time])
    target : DataArray, (presentation, neuroid[, time])
        As it was recorded.
    metric : str
    seed : int
    averaged : float
        Mean over the scored rows of 1 / (presentations averaged in the row).

    Returns
    -------
    Dataset
        With ``ceiling`` and ``score_normalized``.

    Raises
    ------
    ParameterError, AlignmentError
        The ceiling is of another kind, or of other neuroids.
    """
    if metric not in ("pearson", "r2"):
        raise ParameterError(f"evaluate got a ceiling for metric={metric!r}. Expected 'pearson' or 'r2': leave `ceiling` out.")
    if isinstance(ceiling, str):
        check_choice("ceiling", ceiling, ("repeat",), owner="evaluate")
        ceiling = noise_ceiling(target, random_state=seed, progress=False)
    if not isinstance(ceiling, xr.DataArray):
        raise ParameterError(
            f"The 'ceiling' parameter of evaluate must be 'repeat', a DataArray from `ba.noise_ceiling`, or None. Got {ceiling!r} instead."
        )
    if "time" in out.dims and "time" in ceiling.coords:  # the two sides were joined on the times that they share
        ceiling = ceiling.isel(time=np.isclose(ceiling.time.values[:, None], out.time.values, rtol=0, atol=1e-6).any(axis=1))
    kind, wanted = ceiling.attrs.get("kind"), "r" if metric == "pearson" else "r2"
    if kind not in ("r", wanted):
        raise ParameterError(
            f"evaluate got a ceiling of kind {kind!r} for scores of metric={metric!r}. Expected {wanted!r}: a score in r is divided by "
            f"√reliability, one in R² by reliability. Make it with `ba.noise_ceiling(target, units={wanted!r})`."
        )
    values = ceiling_of_averages(ceiling, averaged)
    values = values if kind == wanted else values**2
    if values.shape != out.score.shape:
        raise ParameterError(
            f"evaluate got a ceiling of shape {values.shape} for scores of shape {out.score.shape}. Expected the same."
        )
    if "neuroid_id" in ceiling.coords and not np.array_equal(ceiling.neuroid_id.values, out.neuroid_id.values):
        at = int(np.flatnonzero(ceiling.neuroid_id.values != out.neuroid_id.values)[0])
        raise AlignmentError(
            f"evaluate got a ceiling whose neuroid {at} is {ceiling.neuroid_id.values[at]!s}, where the target's is "
            f"{out.neuroid_id.values[at]!s}. Expected the target's neuroids in its order: make it with `ba.noise_ceiling(target)`."
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        normalized = np.where(values > 0, out.score.values / values, np.nan)
    return out.assign(ceiling=(out.score.dims, values), score_normalized=(out.score.dims, normalized))
