"""RDMs without their geometry: dissimilarities told apart but not measured, and paths through neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.provenance import write_step
from brainalign.engine import topology
from brainalign.engine.comparators import square
from brainalign.engine.moments import Numbers
from brainalign.geometry.rdm_pairs import label_of, pairs_of


def geo_topological(
    rdms: xr.DataArray,
    lower: float = 0.0,
    upper: float = 1.0,
    *,
    scale: str = "rank",
    threshold: str = "quantile",
    shape: str = "ramp",
) -> xr.DataArray:
    """Return RDMs in which small dissimilarities are 0, large ones 1, and only those between are told apart.

    Parameters
    ----------
    rdms : DataArray, (..., stimulus, stimulus_2)
    lower, upper : float
        What they mean says ``threshold``. Where they are equal, what is above them is 1.
    scale : {"rank", "minmax", "raw"}
        Of dissimilarities, for each RDM by itself.
    threshold : {"quantile", "fraction", "absolute"}
        Quantiles of an RDM, fractions of its largest dissimilarity, or dissimilarities.
    shape : {"ramp", "sigmoid"}
        Linear between the thresholds, or a sigmoid around their middle.

    Returns
    -------
    DataArray of float64, (..., stimulus, stimulus_2)
        A new one. NaN where an RDM is flat.

    Raises
    ------
    SchemaError, ParameterError
        As :func:`trsa`.

    Notes
    -----
    RGTM of Lin and Kriegeskorte (2023).

    Examples
    --------
    >>> import brainalign as ba
    >>> rdms = ba.rdm(ba.simulate(n_stimuli=10, random_state=0).network, by="layer")
    >>> graphs = ba.geometry.geo_topological(rdms, 0.5, 0.5)
    >>> sorted(set(graphs.values.ravel().tolist()))
    [0.0, 1.0]
    """
    lower, upper = _one_pair(lower, upper, scale=scale, threshold=threshold, owner="geo_topological")
    check_choice("shape", shape, ("ramp", "sigmoid"), owner="geo_topological")
    params: dict[str, Any] = {"lower": lower, "upper": upper, "scale": scale, "threshold": threshold, "shape": shape}
    values = topology.geo_topological(whole(pairs_of(rdms, "rdms"), rdms, "rdms"), **params)
    return _transformed(rdms, square(values), "geo_topological", params)


def geodesic(
    rdms: xr.DataArray, edges: str = "p-shortest", amount: Any = 0.05, *, scale: str = "rank", unreachable: float = 1.1
) -> xr.DataArray:
    """Return RDMs of the shortest paths between stimuli that go by way of neighbours.

    Parameters
    ----------
    rdms : DataArray, (..., stimulus, stimulus_2)
    edges : {"p-shortest", "p-nearest", "k-nearest", "two-step"}
        Which pairs are joined: the shortest of all; each stimulus with its nearest, if either has the other among them; or all that
        :func:`geo_topological` leaves below 1, as long as it makes them.
    amount : float, int or (float, float)
        A share of pairs; a share of stimuli; a number of stimuli; or the thresholds of the two-step transform.
    scale : {"rank", "minmax", "raw"}
        Of the length of edges, for each RDM by itself.
    unreachable : float
        What pairs without a path are, in multiples of the longest path; NaN leaves them undefined.

    Returns
    -------
    DataArray of float64, (..., stimulus, stimulus_2)
        A new one.

    Raises
    ------
    SchemaError
        As :func:`trsa`; a negative dissimilarity on the raw scale.
    ParameterError
        An amount that leaves no edge.

    Notes
    -----
    RGDM and RGTDM of Lin and Kriegeskorte (2023), before ranks are taken: compare them by ``compare_rdms(..., metric="spearman")``. Pairs
    that are exactly alike are joined by an edge of length 0. So are, in two steps, all below a lower threshold that is not 0: a tenth of
    all pairs may join all stimuli, and then no path has a length.

    Examples
    --------
    >>> import brainalign as ba
    >>> ring = np.exp(2j * np.pi * np.arange(6) / 6)
    >>> x = ba.responses(np.stack([ring.real, ring.imag], axis=1), stimulus_id=list("abcdef"), neuroid_id=["x", "y"], modality="ann",
    ...                  system="ring")
    >>> ba.geometry.geodesic(ba.rdm(x, metric="euclidean"), "k-nearest", 2, scale="raw").sel(stimulus="a").values.round(6).tolist()
    [0.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    """
    check_choice("edges", edges, topology.EDGES, owner="geodesic")
    check_choice("scale", scale, topology.SCALES, owner="geodesic")
    vectors = whole(pairs_of(rdms, "rdms"), rdms, "rdms")
    n = rdms.shape[-1]
    if edges == "two-step":
        pair = amount if isinstance(amount, (tuple, list)) and len(amount) == 2 else (amount, None)
        amount = _one_pair(*pair, scale=scale, threshold="quantile", owner="geodesic, edges='two-step',")
    elif edges == "p-shortest":
        check_number("amount", amount, owner="geodesic", low=0.0, high=1.0)
    else:
        least = 1 / n if edges == "p-nearest" else 1
        check_number("amount", amount, owner="geodesic", low=least, high=(n - 1) * least, integer=edges == "k-nearest")
    if not (isinstance(unreachable, float) and np.isnan(unreachable)):
        check_number("unreachable", unreachable, owner="geodesic", low=1.0)
    if scale == "raw" and (vectors < 0).any():
        raise SchemaError(
            f"geodesic got dissimilarities down to {vectors.min():.3g} on scale='raw'. Expected none below 0, for paths have lengths: use "
            "scale='rank' or 'minmax'."
        )
    params = {"edges": edges, "amount": amount, "scale": scale, "unreachable": unreachable}
    return _transformed(rdms, topology.geodesic(square(vectors), **params), "geodesic", params)


def whole(vectors: Numbers, x: xr.DataArray, name: str) -> Numbers:
    """Return the pairs of matrices after checking that none is missing: thresholds, means and positions are those of all of them.

    Parameters
    ----------
    vectors : ndarray, (rdm, pair)
    x : DataArray, (..., stimulus, stimulus_2)
        What they were taken from.
    name : str
        What messages call it.

    Returns
    -------
    ndarray, (rdm, pair)

    Raises
    ------
    SchemaError
        A pair is missing.
    """
    missing = np.isnan(vectors).sum(axis=1)
    if missing.any():
        at = int(np.argmax(missing > 0))
        raise SchemaError(
            f"{name} lacks {missing[at]} of {vectors.shape[1]} pairs{label_of(x, at)}. Expected all of them: "
            "leave out the stimuli that some matrix lacks, or that matrix."
        )
    return vectors


def check_thresholds(lower: Any, upper: Any, *, scale: str, threshold: str, owner: str) -> tuple[Numbers, Numbers]:
    """Return thresholds as arrays, after checking them and what they mean.

    Parameters
    ----------
    lower, upper : float or sequence of float
    scale, threshold : str
        As in :func:`geo_topological`.
    owner : str
        The function they belong to, for the message.

    Returns
    -------
    lower, upper : ndarray of float64, (transform,)

    Raises
    ------
    ParameterError
        Of another number, a lower above its upper, or outside of 0 to 1 where they are shares.
    """
    check_choice("scale", scale, topology.SCALES, owner=owner)
    check_choice("threshold", threshold, topology.THRESHOLDS, owner=owner)
    try:
        low, high = (np.atleast_1d(np.asarray(side, dtype=np.float64)) for side in (lower, upper))
    except (TypeError, ValueError):
        low = high = np.array([np.nan])
    least, most = (-np.inf, np.inf) if threshold == "absolute" else (0.0, 1.0)
    if (
        low.ndim > 1
        or low.shape != high.shape
        or not ((low <= high) & (low >= least) & (high <= most) & np.isfinite(low + high)).all()
    ):
        raise ParameterError(
            f"{owner} got lower={lower!r} and upper={upper!r}. Expected as many of one as of the other, each lower no more than its upper"
            + (", from 0 to 1." if threshold != "absolute" else ".")
        )
    return low, high


def _one_pair(lower: Any, upper: Any, *, owner: str, **meaning: str) -> tuple[float, float]:
    low, high = check_thresholds(lower, upper, owner=owner, **meaning)
    if low.size != 1:
        raise ParameterError(f"{owner} got lower={lower!r} and upper={upper!r}. Expected one of each: `ba.trsa` takes several.")
    return float(low[0]), float(high[0])


def _transformed(rdms: xr.DataArray, values: Numbers, verb: str, params: dict[str, Any]) -> xr.DataArray:
    out = rdms.copy(data=values.reshape(rdms.shape))
    out.attrs |= {name: f"{verb} of {rdms.attrs.get(name, 'dissimilarities')}" for name in ("metric", "units")}
    return write_step(out, verb, params=params, inputs={"rdms": rdms})
