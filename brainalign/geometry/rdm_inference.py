"""What stands beside the scores of RDMs: intervals, noise ceilings, differences, p-values and clusters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from brainalign.core.errors import UndefinedDrawsWarning
from brainalign.core.progress import progress_bar
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.clusters import cluster_p_values_along, sign_flip_t
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side
from brainalign.engine.rdm_bootstrap import Held, Part, redrawn_parts
from brainalign.engine.rdm_permutation import permuted_scores
from brainalign.engine.resample import (
    distinct_orders,
    draw_signs,
    exchange_orders,
    false_discovery_rate,
    p_of_the_maximum,
    p_values,
)
from brainalign.geometry.rdm_plan import Plan

_CLUSTER_P = 0.05  # of a point that may belong to a cluster
_TIE = 1e-12  # scores of draws that differ from what was found by rounding are as high: renaming what a model does not tell apart


@dataclass(frozen=True)
class Cast:
    """The matrices by the part that they play; the side with the unit (the target, where neither has it) is the data.

    Attributes
    ----------
    models : ndarray of float64, (model, pair)
    data : ndarray of float64, (group, unit, pair)
        Without a unit one group of all matrices.
    scores : ndarray of float64, (model, group, unit)
    dims : tuple of str
        Of the result: those of models, then those of the data, less the unit where it is averaged over.
    n_model_dims : int
    sizes : dict of int
        Of all dims.
    ceiling : bool
        Whether there are bounds to find.
    held : Held or None
        RDMs that are held constant.
    """

    models: Numbers
    data: Numbers
    scores: Numbers
    dims: tuple[str, ...]
    n_model_dims: int
    sizes: dict[str, int]
    ceiling: bool
    held: Held | None

    def shaped(self, values: Numbers, lead: int = 0, *, models: bool = True) -> tuple[tuple[str, ...], Numbers]:
        """Return values (lead..., model, group[, unit]), or without models, with the dims that they have."""
        dims = self.dims if models else self.dims[self.n_model_dims :]
        return dims, values.reshape(values.shape[:lead] + tuple(self.sizes[dim] for dim in dims))


def with_inference(out: xr.Dataset, vectors: dict[str, Numbers], plan: Plan) -> xr.Dataset:
    """Add what is asked for to the scores of RDMs.

    Parameters
    ----------
    out : Dataset
        With ``score`` (source_<dim>..., target_<dim>...).
    vectors : dict of ndarray, (rdm, pair)
        Of source and target.
    plan : Plan

    Returns
    -------
    Dataset
    """
    cast = _cast(out.score, vectors, plan)
    order = ["bootstrap", "left_out", "pair", *out.score.dims]
    if plan.averaged:
        name = str(plan.unit).partition("_")[2]
        out = out.assign({f"score_by_{name}": out.score, "score": cast.shaped(cast.scores.mean(axis=-1))})
    streams = [np.random.default_rng(seed) for seed in np.random.SeedSequence(plan.seed).spawn(2)]
    if plan.n_bootstraps or cast.ceiling:
        out = _bootstrapped(out, cast, plan, streams[0])
    if plan.n_permutations:
        out = _permuted(out, cast, plan, streams[1])
    return out.assign({name: x.transpose(*[dim for dim in order if dim in x.dims]) for name, x in out.data_vars.items()})


def _cast(score: xr.DataArray, vectors: dict[str, Numbers], plan: Plan) -> Cast:
    side, other = ("source", "target") if str(plan.unit).startswith("source_") else ("target", "source")
    of_data = [str(dim) for dim in score.dims if str(dim).startswith(f"{side}_")]
    of_models = [str(dim) for dim in score.dims if dim not in of_data]
    groups, unit = [dim for dim in of_data if dim != plan.unit], [] if plan.unit is None else [plan.unit]
    sizes = {str(dim): n for dim, n in score.sizes.items()}
    models, data = vectors[other], vectors[side]
    n_units = sizes[plan.unit] if plan.unit else len(data)
    data = data.reshape(*(sizes[dim] for dim in of_data), -1)
    data = np.moveaxis(data, of_data.index(plan.unit), -2) if plan.unit else data
    data = data.reshape(-1, n_units, models.shape[1])
    scores = score.transpose(*of_models, *groups, *unit).values.reshape(len(models), len(data), n_units)
    dims = (*of_models, *groups, *([] if plan.averaged else unit))
    held = None if plan.held is None else Held(plan.held, other in plan.partial, side in plan.partial)
    return Cast(models, data, scores, dims, len(of_models), sizes, plan.has_ceiling, held)


def _bootstrapped(out: xr.Dataset, cast: Cast, plan: Plan, rng: np.random.Generator) -> xr.Dataset:
    drawn, n_models = _drawn(cast, plan, rng), len(cast.models)
    scores, named = drawn.rows(slice(n_models)), {}
    if plan.n_bootstraps:
        named |= {name: cast.shaped(end) for name, end in zip(("ci_low", "ci_high"), _interval(scores, plan), strict=True)}
        dims, values = cast.shaped(scores.draws, 1)
        named |= {"score_bootstrap": (("bootstrap", *dims), values), "n_undefined": cast.shaped(scores.n_undefined)}
        if plan.over == ("stimulus",):
            dims, values = cast.shaped(np.asarray(scores.left_out), 1)
            named |= {"n_units": ((), drawn.n_units[0]), "score_left_out": (("left_out", *dims), values)}
    for row, name in enumerate(("ceiling_low", "ceiling_high") if cast.ceiling else ()):
        bound = drawn.rows(slice(n_models + row, n_models + row + 1)).centred()
        named[name] = cast.shaped(bound.score[0], models=False)
        if plan.n_bootstraps:
            ends = zip(("low", "high"), _interval(bound, plan), strict=True)
            named |= {f"{name}_ci_{end}": cast.shaped(values[0], models=False) for end, values in ends}
    if plan.n_bootstraps:
        _say_undefined(drawn)
        if cast.ceiling:
            below = drawn.minus(0, np.arange(n_models), np.full(n_models, n_models)).centred()
            named |= {
                name: cast.shaped(values)
                for name, values in below.tested(plan.level, "ceiling_difference", "ceiling_difference_p_value").items()
            }
        if plan.between is not None:
            named |= _between(out, cast, scores, plan)
    return out.assign(named).set_coords([name for name in ("first", "second") if name in named])


def _interval(drawn: Drawn, plan: Plan) -> Numbers:
    """Return the ends of an interval without what no score can be: stretched percentiles may pass the best of all."""
    return np.clip(drawn.interval(plan.level), *COMPARATORS[plan.metric].limits)


def _drawn(cast: Cast, plan: Plan, rng: np.random.Generator) -> Drawn:
    """Return scores, and below them as two more models the bounds of the ceiling, with their draws."""
    n_units, n_draws, n_stimuli = cast.data.shape[1], plan.n_bootstraps, plan.n_stimuli
    as_it_is, everyone = np.ones((1, n_stimuli), dtype=np.int64), np.ones((1, n_units), dtype=np.int64)
    units = np.repeat(everyone, max(n_draws, 1), axis=0)
    if plan.averaged and n_draws:
        units = draw_weights(n_units, n_draws, rng)
    by_stimulus = "stimulus" in plan.over
    counts = draw_weights(n_stimuli, n_draws, rng) if by_stimulus else as_it_is
    observed, by_unit = _values(cast, plan, as_it_is, [everyone, units if plan.averaged else everyone])
    if not by_stimulus or not n_draws:
        return Drawn(observed[0], by_unit, (), [n_units])
    if not plan.averaged:
        without = 1 - np.eye(n_stimuli, dtype=np.int64)
        left_out = _values(cast, plan, without, [np.repeat(everyone, n_stimuli, axis=0)])[0]
        return Drawn(observed[0], _values(cast, plan, counts, [units])[0], (), [n_stimuli], left_out=left_out)
    stimuli, both = _values(cast, plan, counts, [np.ones_like(units), units])
    return Drawn(observed[0], both, (by_unit, stimuli), [n_units, n_stimuli])


def _values(cast: Cast, plan: Plan, counts: Numbers, units: list[Numbers]) -> list[Numbers]:
    """Return scores and bounds, (draw, model + bound, group[, unit]), for each set of draws of units."""
    shape = (len(cast.models) + 2 * cast.ceiling, *cast.data.shape[: 1 if plan.averaged else 2])
    out = [np.empty((max(len(counts), len(u)), *shape)) for u in units]

    def fill(made: Callable[[], Part]) -> None:
        part = made()
        for values, u in zip(out, units, strict=True):
            draws = part.draws if len(counts) > 1 else slice(None)
            weights = u[draws] if len(u) > 1 else u
            values[draws, :, part.group] = _reduced(part, weights, cast.ceiling, plan.averaged)

    shown = partial(progress_bar, progress=len(counts) > 1 and plan.progress, desc="draws")
    side_by_side(fill, _parts(cast, plan, counts), n_workers(cast.models), shown)
    return out


def _parts(cast: Cast, plan: Plan, counts: Numbers) -> list[Callable[[], Part]]:
    if len(counts) == 1 and not cast.ceiling:  # the scores that there are
        groups = range(len(cast.data))
        return [partial(Part, slice(1), group, cast.scores[None, :, group], _no_bounds) for group in groups]
    options: dict[str, Any] = {"ceiling": cast.ceiling, "covariance": plan.covariance, "held": cast.held}
    return redrawn_parts(cast.models, cast.data, plan.metric, counts, **options)


def _no_bounds(units: Numbers) -> tuple[Numbers, Numbers]:
    return units, units


def _reduced(part: Part, units: Numbers, ceiling: bool, averaged: bool) -> Numbers:
    """Return scores and bounds, (draw, model + bound[, unit]); averages take a unit as often as it is drawn, bounds once."""
    there = units > 0
    bounds = np.stack(part.bounds(units), axis=1) if ceiling else np.empty((len(units), 0, units.shape[1]))
    if not averaged:
        return np.concatenate([part.scores, bounds], axis=1)
    scores = np.where(there[:, None], part.scores * units[:, None], 0.0).sum(axis=-1) / units.shape[1]
    return np.concatenate([scores, np.where(there[:, None], bounds, 0.0).sum(axis=-1) / there.sum(axis=1)[:, None]], axis=1)


def _say_undefined(drawn: Drawn) -> None:
    most = int(drawn.n_undefined.max(initial=0))
    if most:
        warnings.warn(
            f"{most} of {drawn.n} draws have no value for some score or ceiling: too few distinct stimuli or units were drawn, or a matrix "
            f"does not vary over those. Intervals rest on the others (`n_undefined` counts them); expected more units than {drawn.n_units}.",
            UndefinedDrawsWarning,
            stacklevel=5,
        )


def _between(out: xr.Dataset, cast: Cast, scores: Drawn, plan: Plan) -> dict[str, Any]:
    """Return the differences of every pair along a dim of the score."""
    between = str(plan.between)
    first, second = np.triu_indices(cast.sizes[between], 1)
    pairs = scores.each(lambda x: cast.shaped(x, 1)[1]).minus(cast.dims.index(between), first, second)
    rest = ("pair", *(dim for dim in cast.dims if dim != between))
    names = out[between].values if between in out.coords else np.arange(cast.sizes[between])
    found: dict[str, Any] = {"first": ("pair", names[first]), "second": ("pair", names[second])}
    return found | {name: (rest, x) for name, x in pairs.tested(plan.level, "difference", "difference_p_value").items()}


def _permuted(out: xr.Dataset, cast: Cast, plan: Plan, rng: np.random.Generator) -> xr.Dataset:
    """Add p-values of every score against renamed stimuli, or against units whose scores changed sign."""
    units = np.moveaxis(cast.scores, -1, 0)
    if plan.null == "sign":
        signs = draw_signs(len(units), plan.n_permutations, rng)
        observed, null = units.mean(axis=0), np.tensordot(signs, units, 1) / len(units)
    else:
        observed, null = cast.scores.mean(axis=-1) if plan.averaged else cast.scores, _renamed(cast, plan, rng)
        sign = 1.0 if COMPARATORS[plan.metric].higher_is_alike else -1.0
        observed, null = sign * observed, sign * null
    reached = observed - _TIE
    p = p_values(reached, null)
    named = {"p_value": p, "p_value_fdr": false_discovery_rate(p), "p_value_max": p_of_the_maximum(reached, null)}
    if plan.clusters is not None:
        if plan.null == "sign":
            every = sign_flip_t(units, np.concatenate([np.ones((1, len(units))), signs]))
            threshold = stats.t.isf(_CLUSTER_P, len(units) - 1)
        else:
            every = np.concatenate([observed[None], null])  # what was found is scaled among its draws: all are exchangeable
            sd, threshold = every.std(axis=0), stats.norm.isf(_CLUSTER_P)
            every = (every - every.mean(axis=0)) / np.where(sd > 0, sd, np.nan)
        named["p_value_cluster"] = _clusters(cast, every[0], every[1:], str(plan.clusters), threshold)
    out = out.assign({name: cast.shaped(values) for name, values in named.items()})
    return out.assign_attrs(n_permutations=len(null))


def _renamed(cast: Cast, plan: Plan, rng: np.random.Generator) -> Numbers:
    """Return the scores of renamed stimuli, (draw, model, group[, unit])."""
    stimuli = np.arange(plan.n_stimuli)
    if plan.groups is None:
        orders = distinct_orders(stimuli, plan.n_permutations, rng)
    else:
        orders = exchange_orders(stimuli, plan.n_permutations, rng, within=plan.groups)
    shown = partial(progress_bar, progress=plan.progress, desc="permutations")
    options: dict[str, Any] = {"averaged": plan.averaged, "covariance": plan.covariance, "shown": shown}
    return permuted_scores(cast.models, cast.data, plan.metric, orders, **options)


def _clusters(cast: Cast, observed: Numbers, null: Numbers, method: str, threshold: float) -> Numbers:
    """Return p-values of clusters over the times of the score, corrected over all else too."""
    dims, whole = cast.shaped(observed)
    times = [axis for axis, dim in enumerate(dims) if dim.partition("_")[2] in ("time", "time_2")]
    return cluster_p_values_along(whole, cast.shaped(null, 1)[1], times, method=method, threshold=threshold)
