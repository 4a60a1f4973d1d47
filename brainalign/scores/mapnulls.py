"""Whether two maps are more alike than maps as smooth as they are would be by chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.tables import coords_of
from brainalign.engine.maps import correlations, spin_orders, spun_correlations, variogram_surrogates
from brainalign.engine.moments import Numbers
from brainalign.scores.inference import with_p_values

_TOGETHER = 50  # rotations between two moves of the bar


def map_test(x: Any, y: Any, null: str, n: int, rng: np.random.Generator, shown: Callable[[Any], Any]) -> xr.Dataset:
    """Test how alike two maps are against maps that vary over distance as the second one does.

    Parameters
    ----------
    x, y : DataArray, (..., neuroid), or Dataset with ``score``
        With ``x_mm``, ``y_mm`` and ``z_mm`` on either.
    null : {"spin", "variogram"}
    n : int
    rng : Generator
    shown : callable
        From an iterable to what goes along it with a bar.

    Returns
    -------
    Dataset
        ``score`` (...), the correlation over neuroids, with two-sided p-values.

    Raises
    ------
    SchemaError, AlignmentError, ParameterError
        These are no maps of the same neuroids, or nothing says where these lie.
    """
    x, y = _as_map(x, "x"), _as_map(y, "y")
    if y.ndim != 1 or "neuroid_id" not in x.coords or "neuroid_id" not in y.coords:
        raise SchemaError(
            f"permutation_test got maps with the dims {x.dims} and {y.dims}. Expected one map as y, both with `neuroid_id`."
        )
    if not np.array_equal(x.neuroid_id.values, y.neuroid_id.values):
        raise AlignmentError("permutation_test got maps of different neuroids. Expected the same ones in the same order.")
    places = _places(x if "x_mm" in x.coords else y)
    maps, other = x.values.reshape(-1, x.shape[-1]).T.astype(np.float64), y.values.astype(np.float64)
    if null == "spin":
        sides = _sides(x if "x_mm" in x.coords else y, places)
        sizes = [min(_TOGETHER, n - start) for start in range(0, n, _TOGETHER)]
        chance = np.concatenate([spun_correlations(maps, other, spin_orders(places, sides, size, rng)) for size in shown(sizes)])
    else:
        known = np.flatnonzero(np.isfinite(other))
        chance = correlations(maps[known], variogram_surrogates(other[known], places[known], n, rng, shown).T).T
    observed = correlations(maps, other[:, None])[:, 0]
    dims = x.dims[:-1]
    coords = {name: coord for name, coord in x.coords.items() if set(coord.dims) <= set(dims)}
    shape = x.shape[:-1]
    out = xr.Dataset({"score": (dims, np.abs(observed).reshape(shape))}, coords)
    out = with_p_values(out, xr.DataArray(np.abs(chance).reshape(-1, *shape), dims=("permutation", *dims)))
    assumes = {"spin": "y keeps its shape wherever on the sphere it lies", "variogram": "y is as smooth everywhere"}[null]
    return out.assign(score=(dims, observed.reshape(shape))).assign_attrs(null=null, assumes=assumes)


def _as_map(x: Any, name: str) -> xr.DataArray:
    values = x.score if isinstance(x, xr.Dataset) and "score" in x else x
    if not isinstance(values, xr.DataArray) or values.dims[-1:] != ("neuroid",):
        held = f"dims {values.dims}" if isinstance(values, xr.DataArray) else f"type {type(x).__name__}"
        raise SchemaError(f"{name} has {held}. Expected a map: one value a neuroid, as `ba.evaluate` gives in `score`.")
    return values


def _places(x: xr.DataArray) -> Numbers:
    missing = [name for name in ("x_mm", "y_mm", "z_mm") if name not in coords_of(x, "neuroid")]
    if missing:
        raise ParameterError(
            f"permutation_test got maps without {', '.join(missing)}. Expected where each neuroid lies: `x_mm`, `y_mm`, `z_mm`."
        )
    return np.stack([x.coords[name].values.astype(np.float64) for name in ("x_mm", "y_mm", "z_mm")], axis=1)


def _sides(x: xr.DataArray, places: Numbers) -> Numbers:
    """Return 0 for the left and 1 for the right hemisphere of a sphere's coordinates."""
    radius = np.linalg.norm(places, axis=1)
    if np.ptp(radius) > 0.05 * radius.mean():
        raise ParameterError(
            f"permutation_test got null='spin' for coordinates {radius.min():.3g} to {radius.max():.3g} mm from the origin. Expected those of a "
            "sphere around it (such as fsaverage's ?h.sphere), or null='variogram'."
        )
    labels = coords_of(x, "neuroid", as_object=True).get("hemisphere", np.full(len(places), "L", dtype=object))
    return np.array([int(str(label)[:1].upper() == "R") for label in labels])
