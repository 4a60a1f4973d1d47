"""``overlap``: whether two systems share the neuroids that something was found in, more than two random sets would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import hypergeom

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import group_label
from brainalign.engine.moments import Numbers

_JOINED = ("category", "time", "tuning")


def overlap(source: xr.DataArray, target: xr.DataArray, *, matches: xr.Dataset | None = None) -> xr.Dataset:
    """Compare two sets of neuroids: those that are selective, or among the best, in two systems.

    Parameters
    ----------
    source, target : DataArray of bool, (neuroid[, category])
        Which neuroids are in the set, such as ``out.p_value_max <= 0.05``; of two checkpoints of a network, or two sessions of
        one array, whose neuroids have the same names.
    matches : Dataset, optional
        Of :func:`brainalign.match` of the two systems: a neuroid is then compared with its partner (``one_to_one=True``), or else
        with its match.

    Returns
    -------
    Dataset
        Scalars or (category): ``score``, the Jaccard index ``|A ∩ B| / |A ∪ B|``; ``chance``, what random sets of these sizes share
        on average, as a Jaccard index of mean counts; ``p_value``, the chance that random sets share as many (hypergeometric);
        ``n_shared``, ``n_source``, ``n_target``, and ``n_neuroids`` that both systems have. NaN where both sets are empty.

    Raises
    ------
    ParameterError
        Sides that are not bool, or have other dims.
    AlignmentError
        No neuroid in common.

    Notes
    -----
    The p-value takes neuroids for independent of each other, as those of one place are not. Where several neuroids have one
    match, the match counts for each of them.

    Examples
    --------
    >>> import xarray as xr, numpy as np
    >>> names = {"neuroid_id": ("neuroid", np.arange(100))}
    >>> a, b = (xr.DataArray(np.arange(100) < n, dims="neuroid", coords=names) for n in (10, 5))
    >>> out = overlap(a, b)
    >>> out.score.item(), round(out.chance.item(), 3), out.p_value.item() < 1e-4
    (0.5, 0.034, True)
    """
    for name, side in (("source", source), ("target", target)):
        if not isinstance(side, xr.DataArray) or side.dtype.kind != "b" or side.dims[:1] != ("neuroid",) or side.ndim > 2:
            got = f"{side.dtype} {side.dims}" if isinstance(side, xr.DataArray) else f"a {type(side).__name__}"
            raise ParameterError(
                f"overlap got a {name} of {got}. Expected bool, (neuroid[, category]): compare scores with a threshold first."
            )
    first, second = _positions(source, target) if matches is None else _matched(source, target, matches)
    extra = [dim for dim in _JOINED if dim in source.dims]
    if source.dims != target.dims or any((source[dim].values != target[dim].values).any() for dim in extra):
        raise ParameterError(
            f"overlap got sides with dims {source.dims} and {target.dims}, or other labels. Expected the same on both."
        )
    a, b = source.values[first], target.values[second]
    n, n_a, n_b, shared = len(a), a.sum(axis=0), b.sum(axis=0), (a & b).sum(axis=0)
    expected = n_a * n_b / n
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"score": shared / (n_a + n_b - shared), "chance": expected / (n_a + n_b - expected)}
    found["p_value"] = np.where(n_a + n_b > 0, hypergeom.sf(shared - 1, n, n_a, n_b), np.nan)
    found |= {"n_shared": shared, "n_source": n_a, "n_target": n_b}
    variables: dict[str, Any] = {name: (extra, values) for name, values in found.items()}
    out = xr.Dataset(variables, {dim: source[dim].values for dim in extra}).assign(n_neuroids=n).assign_attrs(metric="jaccard")
    inputs = {"source": source, "target": target} | ({} if matches is None else {"matches": matches})
    return write_step(out, "overlap", inputs=inputs)


def _addresses(x: xr.DataArray) -> pd.Index:
    """Name neuroids by layer or region and id, so that the names of two layers stay apart."""
    names = [x[name].values.tolist() for name in (group_label(x), "neuroid_id") if name is not None]
    return pd.Index(["/".join(map(str, parts)) for parts in zip(*names, strict=True)])


def _positions(source: xr.DataArray, target: xr.DataArray) -> tuple[Numbers, Numbers]:
    names = [_addresses(x) for x in (source, target)]
    place = names[1].get_indexer(names[0])
    if (place < 0).all():
        raise AlignmentError(
            f"overlap got systems that share no neuroid (source starts {preview(names[0])}, target {preview(names[1])}). "
            "Expected the same neuroids on both sides; or pass `matches=ba.match(source_responses, target_responses)`."
        )
    return np.flatnonzero(place >= 0), place[place >= 0]


def _matched(source: xr.DataArray, target: xr.DataArray, matches: xr.Dataset) -> tuple[Numbers, Numbers]:
    name = "partner_position" if "partner_position" in matches else "match_position"
    if name not in matches or matches[name].dims != ("neuroid",):
        raise ParameterError(f"overlap got matches without {name!r} (neuroid). Expected a result of `ba.match` of one target.")
    place = matches[name].values
    if len(place) != len(source) or place.max() >= len(target):
        raise AlignmentError(
            f"overlap got matches of {len(place)} neuroids, up to position {place.max()}, for {len(source)} neuroids and "
            f"{len(target)}. Expected those of these two systems."
        )
    return np.flatnonzero(place >= 0), place[place >= 0]
