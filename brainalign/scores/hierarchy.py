"""``hierarchy``: which layer each neuroid or region prefers, and whether the preferences follow an order of regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_number, check_random_state, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.correlate import correlation_matrix
from brainalign.engine.depth import centre_of_mass, depth_of_peak, exchanged_orders
from brainalign.engine.moments import Numbers
from brainalign.scores.inference import with_p_values


def hierarchy(
    result: xr.Dataset,
    order: Any,
    *,
    over: str | None = None,
    weights: xr.DataArray | None = None,
    null: Any = None,
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Summarise a grid of scores as depths, and correlate these with a hierarchy of the targets.

    Parameters
    ----------
    result : Dataset
        From :func:`compare`: sources (layers, or regions) in their order, against targets.
    order : sequence of str, mapping of str to float, or array (neuroid,)
        The target's groups from low to high; or a number for each (distance from V1, timescale); or one for each neuroid.
    over : str, optional
        ``"neuroid"``, or the dim of the target's groups (default, except where ``order`` has a number for each neuroid).
    weights : DataArray, (band, neuroid[, time]), optional
        How much of each source group predicts a neuroid best, mixed with weights of sum 1:
        ``ba.Stacked(bands="layer", weights="simplex").fit(source, target).weight_map()``. Adds the summary ``"simplex"``.
    null : array (permutation, unit) or callable, optional
        Other orders of the same units, such as spun maps, or ``null(order, n_permutations, rng)`` that makes them. By default whole
        groups change places, in every possible way where there are at most six; single neuroids never do, for neighbours are alike.
    n_permutations : int
    random_state : int, Generator or None

    Returns
    -------
    Dataset
        ``depth`` (summary, unit[, time]), from 0 (first source group) to 1 (last), by ``"argmax"``, ``"centre-of-mass"`` and with
        weights ``"simplex"``; ``score`` (summary[, time]), the correlation of depth with the order over units (spatial score), with
        ``p_value``, ``p_value_fdr`` and ``p_value_max`` for a positive one; ``n_units``; ``encoding_score``, the highest mean over units
        of any source group, and its name ``encoding_best``, which are chosen on the data that they are reported of. Over time also
        ``peak_time`` (source_<a>) and ``temporal_score``, its correlation with depth.

    Raises
    ------
    SchemaError
        No grid of :func:`compare`; a source group without any score; fewer than three units.
    ParameterError
        ``order`` names other groups than the result.

    Notes
    -----
    Where scores are noisy, their peak is close to random and the centre of mass is not (a planted hierarchy under scores of .03 ± .03
    correlates .49 by the one and .69 by the other): report both. A unit whose scores are all ≤ 0, or not all known, has no depth.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=100, random_state=0)
    >>> grid = ba.compare(study.network, study.brain, by=("layer", "region"), cv=4, random_state=0)
    >>> out = ba.hierarchy(grid, ["V1", "V4", "IT"])
    >>> out.depth.sel(summary="argmax").values.round(2).tolist(), float(out.p_value.min().round(3))
    ([0.0, 0.33, 1.0], 0.167)
    """
    rows, columns = _sides(result)
    seed = check_random_state(random_state, owner="hierarchy")
    check_number("n_permutations", n_permutations, owner="hierarchy", low=1, integer=True)
    by_name = isinstance(order, Mapping) or np.asarray(order).dtype.kind in "TUO"
    over = (columns if by_name else "neuroid") if over is None else over
    if over not in (columns, "neuroid"):
        raise ParameterError(f"hierarchy got over={over!r}. Expected {columns!r} or 'neuroid'.")
    scores = (result["score_neuroid"] if over == "neuroid" else result["score"]).transpose(rows, over, ...)
    _refuse_empty(scores, rows)
    named = columns if over == columns else columns.removeprefix("target_") if by_name else None
    groups = None if named is None else scores.coords[named].values
    numbers = _numbers(order, groups if by_name else None, scores.sizes[over])
    depth = _depths(scores, weights, over, columns, result)
    out = _correlated(depth, numbers, groups, null, n_permutations, np.random.default_rng(seed))
    out = out.assign_coords(order=(over, numbers)).merge(_encoding(scores, rows, over), combine_attrs="override")
    if "time" in scores.dims:
        out = out.merge(_temporal(scores, rows, over), combine_attrs="override")
    params = {"order": order if isinstance(order, (list, tuple, Mapping)) else "numbers", "over": over, "null": out.attrs["null"]}
    inputs = {"result": result} | ({} if weights is None else {"weights": weights})
    return write_step(out, "hierarchy", params=params | {"n_permutations": n_permutations}, inputs=inputs, seed=seed)


def _sides(result: Any) -> tuple[str, str]:
    """Return the dims of the source's and of the target's groups."""
    dims = [str(dim) for dim in result["score"].dims[:2]] if isinstance(result, xr.Dataset) and "score" in result else []
    if len(dims) < 2 or not (dims[0].startswith("source_") and dims[1].startswith("target_")):
        seen = f"score {tuple(dims)}" if dims else type(result).__name__
        raise SchemaError(
            f"hierarchy got {seen}. Expected a grid: make it with `ba.compare(source, target, by=('layer', 'region'))`."
        )
    if result.sizes[dims[0]] < 2:
        raise SchemaError(
            f"hierarchy got {result.sizes[dims[0]]} {dims[0]}. Expected two or more: depth lies between the first and the last."
        )
    if str(result.attrs.get("direction", "")).startswith("lower"):
        raise SchemaError(
            f"hierarchy got distances, by {result.attrs.get('metric')!r}. Expected a score that is higher where systems are more alike: compare "
            "by a likeness, such as metric='cka-debiased'."
        )
    return dims[0], dims[1]


def _refuse_empty(scores: xr.DataArray, rows: str) -> None:
    """Refuse source groups without any score: every unit lacks one of them then, and none has a depth."""
    empty = scores[rows].values[scores.isnull().all([dim for dim in scores.dims if dim != rows]).values].tolist()
    if empty:
        raise SchemaError(
            f"hierarchy got no score at all of {preview(empty, 3)}. Expected scores of every source group, which depth lies between: see "
            f"`result.status` for the reason, or leave them out, `result.sel({rows}=result.score.notnull().any(result.score.dims[1:]))`."
        )


def _numbers(order: Any, groups: Any, n: int) -> Numbers:
    """Return the place of each unit in the hierarchy."""
    if groups is None:
        numbers = np.asarray(order, dtype=np.float64)
        if numbers.shape != (n,):
            raise ParameterError(
                f"hierarchy got an order of shape {numbers.shape} for {n} units. Expected one number for each, or "
                "names of groups, or a mapping of names to numbers."
            )
    else:
        table = dict(order) if isinstance(order, Mapping) else {str(name): float(i) for i, name in enumerate(order)}
        names = [str(name) for name in groups.tolist()]
        known = list(dict.fromkeys(names))
        wrong = [name for name in known if name not in table] + [name for name in table if name not in known]
        if wrong:
            raise ParameterError(
                f"hierarchy got an order of {preview(list(table), 8)} for targets {preview(known, 8)}; one side lacks {preview(wrong, 8)}. "
                "Expected the same names: select targets with `result.sel(...)`, or complete the order."
            )
        numbers = np.array([float(table[name]) for name in names])
    if n < 3 or not np.isfinite(numbers).all() or np.ptp(numbers) == 0:
        raise SchemaError(
            f"hierarchy got {n} units at {preview(numbers.tolist())}. Expected at least three, at finite places that differ: a correlation "
            "needs them. Use over='neuroid' where there are few regions."
        )
    return numbers


def _depths(scores: xr.DataArray, weights: xr.DataArray | None, over: str, columns: str, result: xr.Dataset) -> xr.DataArray:
    found = {"argmax": depth_of_peak(scores.values), "centre-of-mass": centre_of_mass(scores.values)}
    if weights is not None:
        if (
            weights.sizes.get("neuroid") != result.sizes.get("neuroid")
            or weights[weights.dims[0]].values.tolist() != scores[scores.dims[0]].values.tolist()
        ):
            raise ParameterError(
                f"hierarchy got weights {dict(weights.sizes)} for scores {dict(scores.sizes)}. Expected the same source groups "
                "and neuroids in both, as of `ba.Stacked(bands=...)`."
            )
        mass = weights
        if over == columns:
            named = weights.coords[columns.removeprefix("target_")].values
            members = [np.flatnonzero(named == name) for name in scores[columns].values]
            mass = xr.concat([weights.isel(neuroid=m).mean("neuroid") for m in members], columns).transpose(
                weights.dims[0], columns, ...
            )
        found["simplex"] = centre_of_mass(mass.values)
    kept = {name: c for name, c in scores.coords.items() if scores.dims[0] not in c.dims}
    return xr.DataArray(
        np.stack(list(found.values())), dims=("summary", *scores.dims[1:]), coords=kept | {"summary": as_labels(list(found))}
    )


def _correlated(
    depth: xr.DataArray, numbers: Numbers, groups: Any, null: Any, n_permutations: int, rng: np.random.Generator
) -> xr.Dataset:
    """Correlate depths with the order, over the units that have a depth, and with other orders."""
    others, name = _other_orders(numbers, groups, null, n_permutations, rng)
    values = np.moveaxis(depth.values, 1, 0).reshape(len(numbers), -1)  # (unit, summary x time)
    r = np.full((1 + len(others), values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        known = np.isfinite(column)
        if known.sum() >= 3:
            r[:, k] = correlation_matrix(np.concatenate([numbers[None], others])[:, known].T, column[known, None])[:, 0]
    dims, shape = ("summary", *depth.dims[2:]), (depth.shape[0], *depth.shape[2:])
    out = xr.Dataset(
        {"depth": depth, "score": (dims, r[0].reshape(shape)), "n_units": (dims, np.isfinite(depth.values).sum(axis=1))}
    )
    if len(others):
        out = with_p_values(out, xr.DataArray(r[1:].reshape(-1, *shape), dims=("permutation", *dims)))
    return out.assign_attrs(null=name, n_permutations=len(others))


def _other_orders(
    numbers: Numbers, groups: Any, null: Numbers | Callable[..., Numbers] | None, n: int, rng: np.random.Generator
) -> tuple[Numbers, str]:
    if null is not None:
        others = np.asarray(null(numbers, n, rng) if callable(null) else null, dtype=np.float64)
        if others.ndim != 2 or others.shape[1] != len(numbers):
            raise ParameterError(
                f"hierarchy got a null of shape {others.shape}. Expected (permutation, {len(numbers)}): other orders of its units."
            )
        return others, "given"
    if groups is None:
        return np.empty((0, len(numbers))), "none: neighbouring neuroids are alike, so pass `null`"
    codes, names = pd.factorize(groups.astype(object))
    places = np.array([numbers[np.argmax(codes == code)] for code in range(len(names))])
    return places[exchanged_orders(len(names), n, rng)][:, codes], "exchange of groups"


def _encoding(scores: xr.DataArray, rows: str, over: str) -> xr.Dataset:
    mean = scores.mean(over)
    best = mean.max("time") if "time" in mean.dims else mean
    names = scores[rows].values
    top = int(np.nanargmax(best.values)) if np.isfinite(best.values).any() else 0
    return xr.Dataset({"encoding_score": ((), float(best.values[top])), "encoding_best": ((), str(names[top]))})


def _temporal(scores: xr.DataArray, rows: str, over: str) -> xr.Dataset:
    mean = scores.mean(over).transpose("time", rows)
    peak = mean["time"].values[mean.fillna(-np.inf).values.argmax(axis=0)]
    depth = np.arange(len(peak), dtype=np.float64)[:, None]
    return xr.Dataset({"peak_time": (rows, peak), "temporal_score": ((), float(correlation_matrix(depth, peak[:, None])[0, 0]))})
