"""``rdm``: how different the responses to each pair of conditions are."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.engine.distances import METRICS, pairwise_distances
from brainalign.engine.moments import rounding_unit

UNITS = {"correlation": "1 - Pearson r", "euclidean": "response units", "sqeuclidean": "squared response units"}


def rdm(
    responses: xr.DataArray,
    *,
    metric: str = "correlation",
    by: str | None = None,
    condition: str = "stimulus_id",
    repeats: str = "average",
) -> xr.DataArray:
    """Return representational dissimilarity matrices.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    metric : {"correlation", "euclidean", "sqeuclidean"}
        1 − Pearson r over neuroids; √Σ(a−b)²; Σ(a−b)². Sums run over neuroids and are not divided by their number.
    by : str, optional
        One matrix for each value of this coordinate: of neuroids (``"layer"``, ``"region"``, ``"system"``) or of
        presentations (``"subject"``, ``"session"``).
    condition : str
        Presentation coordinate that names the conditions to compare.
    repeats : {"average", "refuse"}
        Average the presentations of a condition first; or let each condition be presented once only.

    Returns
    -------
    DataArray of float64, ([by,] [time,] stimulus, stimulus_2); unit: that of the metric
        Conditions in the order of first appearance. Coordinate ``n_neuroids``. NaN, never 0, for a condition without a
        defined pattern: constant over neuroids under ``"correlation"``, or not presented in its group.

    Raises
    ------
    ParameterError
        No such coordinate.
    SchemaError
        A repeated condition under ``repeats="refuse"``; fewer than two conditions.

    Notes
    -----
    Neuroids with NaN in any presentation of their group are left out with a warning, for they would leave nothing.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]], stimulus_id=["a", "b", "c"], neuroid_id=["u", "v"],
    ...                  modality="ann", system="net")
    >>> ba.rdm(x, metric="euclidean").sel(stimulus="a").values
    array([0., 5., 1.])
    """
    validate(responses)
    check_choice("metric", metric, METRICS, owner="rdm")
    check_choice("repeats", repeats, ("average", "refuse"), owner="rdm")
    labels = _condition_labels(responses, condition)
    codes, names = pd.factorize(labels.astype(object))
    if len(names) < 2:
        raise SchemaError(f"rdm got {len(names)} condition ({preview(names)}). Expected at least two: look at `x.{condition}`.")
    if repeats == "refuse" and len(codes) > len(names):
        twice = names[np.bincount(codes) > 1]
        raise SchemaError(
            f"rdm got {len(twice)} conditions that are presented more than once: {preview(twice)}. Expected one presentation each: use "
            "`repeats='average'`, or name another `condition`."
        )
    groups, dim = _groups(responses, by)
    parts = [_one(responses, rows, columns, codes, len(names), metric) for rows, columns in groups.values()]
    _warn_of_holes([matrix for matrix, _ in parts], list(groups), names)
    out = _labelled(parts, list(groups), dim, names, responses)
    out.attrs = {"metric": metric, "units": UNITS[metric], "condition": condition}
    params = {"metric": metric, "by": by, "condition": condition, "repeats": repeats}
    return write_step(out, "rdm", params=params, inputs={"responses": responses})


def _labelled(parts: list[Any], groups: list[Any], dim: str | None, names: Any, responses: xr.DataArray) -> xr.DataArray:
    """Stack the matrices of all groups; without groups there is one, and no such dim."""
    index = as_labels(names)
    coords: dict[str, Any] = {"stimulus": index, "stimulus_2": index}
    dims: tuple[str, ...] = ("stimulus", "stimulus_2")
    if "time" in responses.dims:
        dims, coords["time"] = ("time", *dims), responses.coords["time"].values
    matrices, used = [matrix for matrix, _ in parts], [n for _, n in parts]
    if dim is None:
        return xr.DataArray(matrices[0], dims=dims, coords=coords | {"n_neuroids": used[0]}, name="rdm")
    coords |= {dim: as_labels(groups), "n_neuroids": (dim, used)}
    return xr.DataArray(np.stack(matrices), dims=(dim, *dims), coords=coords, name="rdm")


def _condition_labels(responses: xr.DataArray, condition: str) -> np.ndarray[Any, Any]:
    known = [str(name) for name, c in responses.coords.items() if c.dims == ("presentation",)]
    if condition not in known:
        raise ParameterError(
            f"condition={condition!r} is no presentation coordinate. Expected one of {', '.join(known)}.{did_you_mean(condition, known)}"
        )
    values = responses.coords[condition].values
    return values if values.dtype.kind in "TUO" else values.astype(str)


def _groups(responses: xr.DataArray, by: str | None) -> tuple[dict[Any, tuple[Any, Any]], str | None]:
    """Return the presentations and the neuroids of each group, and the dim that they will lie along."""
    rows, columns = np.arange(responses.sizes["presentation"]), np.arange(responses.sizes["neuroid"])
    if by is None:
        return {"all": (rows, columns)}, None
    known = [str(name) for name, c in responses.coords.items() if c.dims in (("presentation",), ("neuroid",))]
    if by not in known or by == "stimulus_id":
        choices = [name for name in known if name != "stimulus_id"]
        raise ParameterError(
            f"by={by!r} is no coordinate of neuroids or presentations. Expected one of {', '.join(choices)}.{did_you_mean(by, choices)}"
        )
    coord = responses.coords[by]
    codes, names = pd.factorize(coord.values.astype(object) if coord.dtype.kind in "TUO" else coord.values)
    members = [np.flatnonzero(codes == code) for code in range(len(names))]
    if coord.dims == ("neuroid",):
        return {name: (rows, member) for name, member in zip(names, members, strict=True)}, by
    return {name: (member, columns) for name, member in zip(names, members, strict=True)}, by


def _one(responses: xr.DataArray, rows: Any, columns: Any, codes: Any, n: int, metric: str) -> tuple[np.ndarray[Any, Any], int]:
    """Return the matrix of one group, ([time,] stimulus, stimulus_2), and its number of neuroids."""
    block = responses[rows, columns].values
    finite = np.isfinite(block).all(axis=(0, *range(2, block.ndim)))
    if not finite.all():
        warnings.warn(
            f"{int((~finite).sum())} of {len(finite)} neuroids have NaN or infinity and are left out of the dissimilarities: "
            f"{preview(responses.coords['neuroid_id'].values[columns][~finite])}.",
            DegenerateNeuroidWarning,
            stacklevel=4,
        )
        block = block[:, finite]
    patterns = _condition_means(block, codes[rows], n)
    if patterns.ndim == 3:
        patterns = np.moveaxis(patterns, 2, 0)
    if not finite.any():
        return np.full((*patterns.shape[:-1], n), np.nan), 0
    return _with_holes(patterns, metric, max(rounding_unit(block), float(np.finfo(np.float64).eps))), int(finite.sum())


def _condition_means(block: np.ndarray[Any, Any], codes: Any, n: int) -> np.ndarray[Any, Any]:
    """Average the rows of each condition in float64; NaN where it has none."""
    counts = np.bincount(codes, minlength=n)
    weights = sparse.csr_array((1.0 / counts[codes], (codes, np.arange(len(codes)))), shape=(n, len(codes)))
    means = weights @ block.reshape(len(codes), -1).astype(np.float64)
    means[counts == 0] = np.nan
    return means.reshape(n, *block.shape[1:])


def _with_holes(patterns: np.ndarray[Any, Any], metric: str, unit: float) -> np.ndarray[Any, Any]:
    """Leave conditions that were not presented out of the computation, as NaN."""
    present = np.isfinite(patterns).all(axis=tuple(i for i in range(patterns.ndim) if i != patterns.ndim - 2))
    out = np.full((*patterns.shape[:-1], patterns.shape[-2]), np.nan)
    where = np.flatnonzero(present)
    out[..., where[:, None], where] = pairwise_distances(patterns[..., where, :], metric, unit=unit)
    return out


def _warn_of_holes(parts: list[np.ndarray[Any, Any]], groups: list[Any], names: Any) -> None:
    for matrix, group in zip(parts, groups, strict=True):
        hole = np.isnan(np.diagonal(matrix, axis1=-2, axis2=-1))
        if hole.any():
            conditions = names[hole.reshape(-1, len(names)).any(axis=0)]
            warnings.warn(
                f"{len(conditions)} of {len(names)} conditions have no defined pattern in group {group!r} (constant over neuroids, or "
                f"not presented), so that their dissimilarities are NaN: {preview(conditions)}.",
                DegenerateNeuroidWarning,
                stacklevel=3,
            )
