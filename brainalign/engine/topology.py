"""What remains of a geometry when small and large dissimilarities are told apart, but not measured; and paths through neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np

from brainalign.engine.backend import Array, namespace
from brainalign.engine.comparators import square
from brainalign.engine.correlate import ranks
from brainalign.engine.moments import Numbers

SCALES = ("rank", "minmax", "raw")
THRESHOLDS = ("quantile", "fraction", "absolute")
EDGES = ("p-shortest", "p-nearest", "k-nearest", "two-step")

_SLOPE = 10.0  # of the sigmoid, over the width of the ramp that it stands for


def rescale(pairs: Numbers, scale: str = "rank") -> Numbers:
    """Return dissimilarities on a scale of their own, each matrix by itself.

    Parameters
    ----------
    pairs : ndarray, (..., pair)
    scale : {"rank", "minmax", "raw"}
        Mid-ranks from 0 to 1; from 0 (smallest) to 1 (largest); or as they are.

    Returns
    -------
    ndarray of float64, (..., pair)
        A copy. NaN where all pairs are equal and the scale needs a largest and a smallest.

    Examples
    --------
    >>> rescale(np.array([0.1, 0.2, 5.0]))
    array([0. , 0.5, 1. ])
    """
    values = np.array(pairs, dtype=np.float64)
    if scale == "raw":
        return values
    if scale == "rank":
        values = ranks(values, axis=-1)
    low, high = values.min(axis=-1, keepdims=True), values.max(axis=-1, keepdims=True)
    return np.asarray((values - low) / np.where(high > low, high - low, np.nan))


def cuts(values: Numbers, levels: Any, threshold: str = "quantile") -> Numbers:
    """Return where dissimilarities are cut, each matrix by itself.

    Parameters
    ----------
    values : ndarray, (..., pair)
        From :func:`rescale`.
    levels : sequence of float
    threshold : {"quantile", "fraction", "absolute"}
        Levels are quantiles of the values (linear between them), fractions of the largest, or values.

    Returns
    -------
    ndarray of float64, (..., level)
    """
    levels = np.asarray(levels, dtype=np.float64)
    if threshold == "quantile":
        return np.moveaxis(np.quantile(values, levels, axis=-1), 0, -1)
    top = values.max(axis=-1, keepdims=True) if threshold == "fraction" else np.ones((*values.shape[:-1], 1))
    return np.asarray(levels * top)


def geo_topological(
    pairs: Numbers, lower: float, upper: float, *, scale: str = "rank", threshold: str = "quantile", shape: str = "ramp"
) -> Numbers:
    """Return dissimilarities of which those below one threshold are 0, those above another are 1.

    Parameters
    ----------
    pairs : ndarray, (..., pair)
    lower, upper : float
        What they mean says ``threshold``. Equal, or where ties make them so: 1 above it, the edges that a graph lacks.
    scale : {"rank", "minmax", "raw"}
    threshold : {"quantile", "fraction", "absolute"}
    shape : {"ramp", "sigmoid"}
        Linear between the thresholds, or 1 / (1 + exp(−10 (x − ½))) of what is linear.

    Returns
    -------
    ndarray of float64, (..., pair)

    Notes
    -----
    RGTM of Lin and Kriegeskorte (2023), with ranks and quantiles. Lower 0 and upper 1 are the ranks themselves.

    Examples
    --------
    >>> geo_topological(np.array([1.0, 2.0, 3.0, 9.0, 4.0]), 0.25, 0.75)
    array([0. , 0. , 0.5, 1. , 1. ])
    """
    values = rescale(pairs, scale)
    low, high = np.moveaxis(cuts(values, [lower, upper], threshold)[..., None], -2, 0)
    wide = high > low
    reach = values if shape == "sigmoid" else values.clip(low, high)
    linear = (reach - low) / np.where(wide, high - low, 1.0)
    between = 1.0 / (1.0 + np.exp(-_SLOPE * (linear - 0.5))) if shape == "sigmoid" else linear
    return np.where(np.isnan(values), np.nan, np.where(wide, between, values > low))


def geodesic(
    matrices: Numbers, edges: str = "p-shortest", amount: Any = 0.05, *, scale: str = "rank", unreachable: float = 1.1
) -> Numbers:
    """Return lengths of the shortest paths between conditions that go by way of neighbours.

    Parameters
    ----------
    matrices : ndarray, (..., condition, condition)
        Symmetric dissimilarities.
    edges : {"p-shortest", "p-nearest", "k-nearest", "two-step"}
        Which pairs are joined: the shortest of all; each condition with its nearest, if either has the other among them; or, after
        :func:`geo_topological`, all pairs below 1, as long as it makes them. Those tied with the last are joined, too.
    amount : float, int, or (lower, upper)
        Share of pairs; share or number of conditions; or the thresholds of the two-step transform.
    scale : {"rank", "minmax", "raw"}
        Of the length of edges.
    unreachable : float
        What pairs without a path are, in multiples of the longest path that there is; NaN leaves them undefined.

    Returns
    -------
    ndarray of float64, (..., condition, condition)

    Notes
    -----
    RGDM and RGTDM of Lin and Kriegeskorte (2023), before the ranks are taken. Edges of length 0 are edges. Where all paths have length 0,
    unreachable pairs are multiples of the largest dissimilarity.
    """
    n = matrices.shape[-1]
    pairs = np.asarray(matrices)[..., *np.triu_indices(n, 1)]
    if edges == "two-step":
        lower, upper = amount
        pairs = geo_topological(pairs, lower, upper, scale=scale)
        kept = pairs < 1.0
        pairs = rescale(pairs, "minmax")
    else:
        pairs = rescale(pairs, scale)
        kept = _nearest(pairs, n, edges, amount)
    paths = shortest_paths(square(np.where(kept, pairs, np.inf)))
    finite = np.isfinite(paths)
    longest = np.where(finite, paths, 0.0).max(axis=(-2, -1))
    longest = np.where(longest > 0, longest, pairs.max(axis=-1))[..., None, None]
    return np.where(np.isnan(longest), np.nan, np.where(finite, paths, unreachable * longest))


def _nearest(pairs: Numbers, n: int, edges: str, amount: Any) -> Numbers:
    """Say which pairs are among the shortest of all, or of either of their conditions; (..., pair)."""
    if edges == "p-shortest":
        return np.asarray(pairs <= np.quantile(pairs, amount, axis=-1)[..., None])
    k = int(amount * n + 1e-9) if edges == "p-nearest" else int(amount)  # .29 of 100 are 29
    first, second = np.triu_indices(n, 1)
    of_each = square(pairs, diagonal=np.inf)  # none is its own neighbour
    farthest = np.partition(of_each, k - 1, axis=-1)[..., k - 1]
    return np.asarray(pairs <= np.maximum(farthest[..., first], farthest[..., second]))


def shortest_paths(lengths: Array) -> Array:
    """Return the lengths of the shortest paths between all nodes, of all graphs at once.

    Parameters
    ----------
    lengths : ndarray or Tensor of float, (..., node, node)
        Of edges; infinite where there is none, 0 on the diagonal. An edge of length 0 is an edge.

    Returns
    -------
    ndarray or Tensor, (..., node, node)
        Infinite where there is no path.

    Notes
    -----
    Floyd's algorithm (1962). In matrices that scipy.sparse.csgraph or networkx are given, a length of 0 is no edge.

    Examples
    --------
    >>> far = np.inf
    >>> shortest_paths(np.array([[0.0, 0.0, 0.6], [0.0, 0.0, far], [0.6, far, 0.0]]))
    array([[0. , 0. , 0.6],
           [0. , 0. , 0.6],
           [0.6, 0.6, 0. ]])
    """
    xp = namespace(lengths)
    paths, through = lengths + 0, xp.empty_like(lengths)
    for k in range(lengths.shape[-1]):
        xp.add(paths[..., :, k, None], paths[..., None, k, :], out=through)
        xp.minimum(paths, through, out=paths)
    return paths
