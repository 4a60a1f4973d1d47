"""Responses in two dims: with a time dim, every neuroid at every time is a feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of

Array = np.ndarray[Any, Any]


def flatten_time(X: xr.DataArray) -> xr.DataArray:
    """Return responses whose every (neuroid, time) is a neuroid, named ``"<id>@<seconds>s"``.

    Parameters
    ----------
    X : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    DataArray, (presentation, neuroid)
        With the neuroid coordinate ``time_s``; ``X`` itself where it has no time dim.
    """
    return relabelled(X, flat(X), flat_labels(X)) if "time" in X.dims else X


def relabelled(X: xr.DataArray, values: Array, neuroids: dict[str, Array]) -> xr.DataArray:
    """Return other features of the same presentations.

    Parameters
    ----------
    X : DataArray, (presentation, neuroid[, time])
    values : ndarray, (presentation, feature)
    neuroids : dict of str to ndarray, (feature,)
        Their coordinates.

    Returns
    -------
    DataArray, (presentation, neuroid)
    """
    coords = {name: ("presentation", v) for name, v in coords_of(X, "presentation").items()}
    coords |= {name: ("neuroid", v) for name, v in neuroids.items()}
    attrs = {name: value for name, value in X.attrs.items() if name not in ("time_reference", "units")}
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name=X.name)


def flat(X: Any) -> Array:
    """Return values as a matrix.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, ...)

    Returns
    -------
    ndarray, (presentation, feature)
    """
    return np.asarray(X).reshape(len(X), -1)


def flat_labels(X: xr.DataArray) -> dict[str, Array]:
    """Return the neuroid coordinates of what :func:`flat` makes.

    Parameters
    ----------
    X : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    dict of str to ndarray, (feature,)
    """
    labels = coords_of(X, "neuroid")
    if "time" not in X.dims:
        return labels
    times = X.coords["time"].values
    labels = {name: np.repeat(values, len(times)) for name, values in labels.items()}
    stamps = [f"@{t:g}s" for t in times] * X.sizes["neuroid"]
    names = [f"{name}{stamp}" for name, stamp in zip(labels["neuroid_id"].tolist(), stamps, strict=True)]
    return {**labels, "neuroid_id": as_labels(names), "time_s": np.tile(times, X.sizes["neuroid"])}
