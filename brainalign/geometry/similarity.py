"""``similarity``: how alike two systems respond to the same stimuli, by any metric, each with the same inference."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, check_sizes
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.bootstrap import Drawn
from brainalign.engine.distances import SCALED
from brainalign.engine.moments import Numbers
from brainalign.engine.reliability import split_halves
from brainalign.engine.resample import BLOCK_S, false_discovery_rate, time_orders
from brainalign.engine.similarity import (
    SimilarityMetric,
    cheapest_form,
    draw_halves,
    grid_scores,
    half_scores,
    p_of_orders,
    permuted_scores,
    share_to_draw,
    spread_of_halves,
)
from brainalign.features.timing import rows_by_run
from brainalign.geometry.compare import DIRECTIONS
from brainalign.geometry.measures import LEAST
from brainalign.geometry.metrics import similarity_metric
from brainalign.geometry.sides import (
    Side,
    check_by,
    joined,
    positions_of,
    refuse_flat,
    refuse_flat_draws,
    runs_of,
    side_of,
    times_of,
    units_of,
    warn_of_undefined,
)

_LEADING = {"score_bootstrap": "bootstrap", "score_drawn": "n_drawn", "score_drawn_low": "n_drawn", "score_drawn_high": "n_drawn"}


def similarity(
    source: xr.DataArray | Mapping[str, xr.DataArray],
    target: xr.DataArray | Mapping[str, xr.DataArray],
    *,
    metric: str | SimilarityMetric = "cka-debiased",
    by: tuple[str | None, str | None] | None = None,
    n_permutations: int = 0,
    n_bootstraps: int = 0,
    n_neuroids: Any = None,
    n_draws: int = 20,
    ceiling: str | Mapping[str, xr.DataArray] | None = None,
    join: str = "inner",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Compare two systems, or every group of one with every group of the other, by a metric of representational similarity.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time]), or dict of them
        Repeats are averaged, and the stimuli that both have are used. Of a dict each system is compared by itself, on the stimuli that it
        shares with the other side; its names are along the dim ``source`` or ``target`` of the result. With time on one side, each of
        its times is compared with the other side; with time on both, the same times are.
    metric : str or SimilarityMetric
        A name of ``ba.geometry.metrics.METRICS`` (the page of public names says what each is), or what the functions of that module
        make: ``ba.geometry.metrics.shape(alpha=0.3)``.
    by : tuple of two str, optional
        Neuroid coordinates that group the source and the target: ``("layer", "region")``; None for a side that is one group.
    n_permutations : int
        How often the stimuli of the target are exchanged, the same way in every cell of the grid. Rows in time (with ``onset_s``) are
        shifted instead, each run in a circle.
    n_bootstraps : int
        How often half of the stimuli are drawn, or more for canonical correlations; see the notes. Rows in time are drawn in stretches
        of 20 s.
    n_neuroids : int or sequence of int, optional
        Draw so many neuroids of every group on both sides, without replacement: metrics move with the number of neuroids.
    n_draws : int
        Draws of neuroids, and of halves of repeats for the ceiling.
    ceiling : "repeat", dict of str to DataArray, or None
        What the target scores against itself, from random halves of the repeats of each stimulus; or what other systems, such as
        other people, score against it, their groups of the same name where ``by`` is given, NaN for a group that none has.
    join : {"inner", "exact"}
        Whether stimuli that one side lacks are left out (and reported) or an error.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over permutations and bootstraps; where there are several times, over these.

    Returns
    -------
    Dataset
        ``score`` (source_<a>, target_<b>[, time]); without ``by`` neither of the first two. With permutations ``p_value``, ``p_value_fdr``,
        ``p_value_max`` (against the most alike cell of each permutation, cells being brought to the same mean and spread over
        permutations) and ``score_chance``, the mean over permutations: what systems of these sizes score that share nothing. With bootstraps
        ``ci_low``, ``ci_high`` (95%) and the draws, ``score_bootstrap``. With ``n_neuroids`` ``score_drawn`` (n_drawn, ...), the mean
        over draws, and ``score_drawn_low`` and ``score_drawn_high``, which hold 95% of them. With a ceiling ``ceiling`` (target_<b>[,
        time]), the mean over halves or over systems. ``n_features``, ``n_neuroids``, ``n_presentations``. Attrs: ``metric``, ``direction``,
        ``invariances``, ``report`` (JSON). Of dicts everything has their dims first, and is NaN for a group or time that a system lacks;
        p-values are corrected within each pair of systems.

    Raises
    ------
    UnknownNameError, ParameterError
        No such metric, coordinate or number of neuroids; an empty dict.
    AlignmentError
        Too few stimuli in common for the metric, or for halves of them.
    SchemaError
        A group without a neuroid that is finite throughout; no repeats where they are needed; stimuli that several subjects saw, in one
        array. Where responses are correlated over neuroids, as under ``"rsa"``: a group of fewer than three, a stimulus to which all
        of them respond alike, or draws of neuroids or halves of repeats in which they do.

    Warns
    -----
    DegenerateNeuroidWarning
        Neuroids with NaN are left out; scores are NaN where the metric is undefined, as canonical correlations are with as many
        independent neuroids as stimuli, and ``"rsa"`` is at a time at which all respond alike to a stimulus; so are intervals where
        it is in a draw.

    Notes
    -----
    A bootstrap with replacement would be wrong here: a stimulus that is drawn twice is its own nearest neighbour, counts as two that agree
    perfectly, and stands in training and test rows. Intervals come from random halves of the stimuli instead, drawn without replacement, whose
    scores vary as much as those of new stimuli would; their mean is moved to the score, since most metrics depend on the number of
    stimuli. In simulations with 30 to 120 stimuli, 95% intervals held the mean score of as many new stimuli in 92 to 99% of cases under
    CKA, debiased CKA, NBS, the Procrustes distances, CCA, SVCCA and RSA; in 86 to 91% under the distance correlation; and in 79%
    where 10 neighbours are sought among 30 stimuli, 95% among 60. Where few stimuli dominate (t of 3 degrees of freedom), debiased
    CKA, CCA and RSA keep 94%, while CKA, NBS, the distance correlation and the Procrustes angle fall to 78 to 90%. Drawn with replacement,
    both CKA and the Procrustes angle had 32 to 92% where none dominates. No interval holds the score of infinitely many stimuli or
    neuroids, unless the metric has no bias, as debiased CKA nearly has none.

    Canonical correlations (CCA, PWCCA, the shape of α = 0) with as many neuroids as stimuli are 1 whatever the data, and their draws hold
    half of the stimuli beyond the neuroids, (n + p) / 2. Of 60 stimuli and 27 neuroids halves had 48 to 71%, and of 30 none; these draws
    have 91 to 100%, with 12 to 54 neuroids.

    A ceiling from halves of the repeats is a score under twice the noise, and on both sides. A good source may exceed it.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=60, snr=4.0, random_state=0)
    >>> out = similarity(study.network, study.brain, by=("layer", "region"), n_permutations=99, random_state=0)
    >>> out.score.dims, out.source_layer[out.score.argmax("source_layer")].values.tolist()
    (('source_layer', 'target_region'), ['layer1', 'layer2', 'layer4'])
    """
    measure = similarity_metric(metric)
    for name, value, least in (("n_permutations", n_permutations, 0), ("n_bootstraps", n_bootstraps, 0), ("n_draws", n_draws, 1)):
        check_number(name, value, owner="similarity", low=least, integer=True)
    if n_bootstraps == 1:
        raise ParameterError("similarity got n_bootstraps=1. Expected 2 or more: one draw has no spread; 0 for none.")
    names = (None, None) if by is None else check_by(by, owner="similarity", whole=True)
    seed = check_random_state(random_state, owner="similarity")
    if isinstance(source, Mapping) or isinstance(target, Mapping):
        return _of_each(source, target, partial(
            similarity, metric=measure, by=by, n_permutations=n_permutations, n_bootstraps=n_bootstraps, n_neuroids=n_neuroids,
            n_draws=n_draws, ceiling=ceiling, join=join, random_state=seed, progress=progress,
        ))  # fmt: skip
    valid = validate(source, name="source"), validate(target, name="target")
    averaged = [average_if_repeated(side, owner="similarity") for side in valid]
    x, y, report = joined(*averaged, measure.least, join=join, what_for=f" for the metric {measure.name!r}")
    first = side_of(x, names[0], "source", trials_of=source if measure.trials else None)
    second = side_of(y, names[1], "target", trials_of=target if measure.trials else None)
    refuse_flat(first, second, np.sort(y.stimulus_id.values.astype(object)), measure)
    least, most = (
        LEAST if measure.distance in SCALED else 1,
        min(x.shape[-2] for side in (first, second) for x in side.groups.values()),
    )
    sizes = [] if n_neuroids is None else check_sizes("n_neuroids", n_neuroids, owner="similarity", low=least, high=most)
    n = y.sizes["presentation"]
    streams = [np.random.default_rng(stream) for stream in np.random.SeedSequence(seed).spawn(4)]
    drawn = _of_neuroids(measure, first, second, sizes, n_draws, streams[2]) if sizes else {}
    bound = _ceiling(ceiling, target, y, names[1], measure, n_draws, streams[3])
    timed = runs_of(x, y)
    orders, units = _orders(timed, n, n_permutations, streams[0]), units_of(timed, n)
    halves, n_units = _halves(measure, first, second, units, n_bootstraps, streams[1])
    found = _over_times(measure, first, second, orders, halves, progress)
    warn_of_undefined(found["score"], measure, n, stacklevel=3)
    warn_of_undefined(found.get("score_bootstrap", np.zeros(0)), measure, halves.sum(axis=1).max(initial=0), stacklevel=3)
    found = _with_inference(found, measure, halves, n_units) | drawn
    further = {"n_units": n_units} if n_bootstraps else {}
    out = _labelled(found, first, second, sizes).assign(n_presentations=n, **further, **bound)
    out.score.attrs["units"] = measure.name
    out.attrs = {"metric": measure.name, "direction": DIRECTIONS[measure.higher_is_alike]}
    out.attrs |= {"invariances": ", ".join(measure.invariances), "report": json.dumps({"join": report})}
    params: dict[str, Any] = {"metric": measure.name, "by": by, "n_permutations": n_permutations, "n_bootstraps": n_bootstraps}
    params |= {"n_neuroids": sizes, "n_draws": n_draws, "join": join, "ceiling": ceiling if isinstance(ceiling, str) else None}
    others = dict(ceiling) if isinstance(ceiling, Mapping) else {}
    return write_step(out, "similarity", params=params, inputs={"source": source, "target": target, **others}, seed=seed)


def _of_each(source: Any, target: Any, compared: Callable[..., xr.Dataset]) -> xr.Dataset:
    """Compare each system of a dict by itself, with the same draws, and name them along a dim of the result."""
    sides, name = {"source": source, "target": target}, "source" if isinstance(source, Mapping) else "target"
    if not sides[name]:
        raise ParameterError(f"similarity got an empty dict as its {name}. Expected at least one responses array by name.")
    parts = {str(key): compared(**{**sides, name: x}) for key, x in sides[name].items()}
    groups = {str(dim) for part in parts.values() for dim in part.dims if str(dim).startswith(("source_", "target_"))}
    found = {dim: [label for part in parts.values() for label in part[dim].values.tolist()] for dim in groups}
    labels = {dim: as_labels(list(dict.fromkeys(each))) for dim, each in found.items()}  # joined by xarray they would be sorted
    out = xr.concat(
        [part.reindex(labels) for part in parts.values()],
        xr.Variable(name, as_labels(list(parts))),
        data_vars="all",
        coords="different",
        compat="equals",
        join="outer",
        combine_attrs="override",
    )
    out.attrs["report"] = json.dumps({"each": {key: json.loads(part.attrs["report"]) for key, part in parts.items()}})
    return write_step(out, "similarity", params={"each": name}, inputs=parts)


def _orders(timed: tuple[Numbers, Numbers] | None, n: int, n_permutations: int, rng: np.random.Generator) -> Numbers:
    """Return other orders of the stimuli: exchanged, or each run of a recording in time shifted in a circle."""
    if timed is None:
        return rng.permuted(np.tile(np.arange(n), (n_permutations, 1)), axis=1)
    return time_orders(rows_by_run(*timed), null="shift", n_permutations=n_permutations, rng=rng)


def _halves(
    measure: SimilarityMetric, first: Side, second: Side, units: Numbers, n_bootstraps: int, rng: np.random.Generator
) -> tuple[Numbers, int]:
    """Return random halves of the stimuli, or what share of them the metric needs, and of how many units they are."""
    n_units = len(np.unique(units))
    if n_bootstraps and n_units < 2 * measure.least:
        raise AlignmentError(
            f"similarity got n_bootstraps={n_bootstraps} for {n_units} stimuli (of a recording in time, stretches of {BLOCK_S:g} s). Expected "
            f"at least {2 * measure.least}, to draw halves for the metric {measure.name!r}."
        )
    systems = (x for both in times_of(first, second) for side in both for x in side) if n_bootstraps else ()
    return draw_halves(units, n_bootstraps, rng, share_to_draw(measure, systems)), n_units


def _over_times(
    measure: SimilarityMetric, first: Side, second: Side, orders: Numbers, halves: Numbers, progress: bool | None
) -> dict[str, Numbers]:
    """Return the scores at every time, along the last axis, with a bar over times, or over the draws of a single one."""
    n_times = max(1 if side.times is None else len(side.times) for side in (first, second))
    times = progress_bar(times_of(first, second), progress=n_times > 1 and progress, desc="times", total=n_times)
    shown = partial(progress_bar, progress=n_times == 1 and progress, desc="draws")
    parts = [_scores(measure, *both, orders, halves, shown) for both in times]
    return {name: np.stack([part[name] for part in parts], axis=-1) for name in parts[0]}


def _scores(
    measure: SimilarityMetric,
    first: Sequence[Numbers],
    second: Sequence[Numbers],
    orders: Numbers,
    halves: Numbers,
    shown: Callable[[Any], Any],
) -> dict[str, Numbers]:
    """Return the scores of all cells at one time, in the given order and in others, and those of halves of the stimuli."""
    n, widths = len(first[0]), [[x.shape[-1] for x in side] for side in (first, second)]
    form = cheapest_form(measure, n, *widths)
    a, b = ([form.prepare(x) for x in side] for side in (first, second))
    found = {"score": grid_scores(form, a, b)}
    if len(orders):
        found["null"] = permuted_scores(form, a, b, orders, shown)
    if len(halves):
        found["score_bootstrap"] = half_scores(cheapest_form(measure, n, *widths, halves=True), first, second, halves, shown)
    return found


def _with_inference(found: dict[str, Numbers], measure: SimilarityMetric, halves: Numbers, n_units: int) -> dict[str, Numbers]:
    """Turn scores in other orders and of halves into p-values and intervals."""
    score = found["score"]
    if "null" in found:
        null = found.pop("null")
        p, p_max = p_of_orders(score, null, higher_is_alike=measure.higher_is_alike)
        found |= {"p_value": p, "p_value_fdr": false_discovery_rate(p), "p_value_max": p_max}
        found["score_chance"] = null.mean(axis=0)
    if "score_bootstrap" in found:
        draws = found["score_bootstrap"] = spread_of_halves(score, found["score_bootstrap"], float(halves.mean()))
        found["ci_low"], found["ci_high"] = Drawn(score, draws, (), [n_units]).interval(0.95)
    return found


def _drawn(
    measure: SimilarityMetric,
    both: Sequence[Side],
    systems: tuple[list[Numbers], list[Numbers]],
    sizes: Sequence[int],
    n_draws: int,
    rng: np.random.Generator,
) -> Numbers:
    """Return the scores of some neuroids of each group, (size, draw, first, second); smaller draws are part of larger ones."""
    out = np.empty((len(sizes), n_draws, *map(len, systems)))
    for draw in range(n_draws):
        sides = [list(zip(xs, side.draw(rng), strict=True)) for side, xs in zip(both, systems, strict=True)]
        for scores, size in zip(out[:, draw], sizes, strict=True):
            a, b = ([measure.prepare(x[..., order[:size]]) for x, order in side] for side in sides)
            scores[...] = grid_scores(measure, a, b)
    return out


def _of_neuroids(
    measure: SimilarityMetric, first: Side, second: Side, sizes: Sequence[int], n_draws: int, rng: np.random.Generator
) -> dict[str, Numbers]:
    """Return the mean score of some neuroids of each group, and what holds 95% of the draws."""
    drawn = np.stack([_drawn(measure, (first, second), at, sizes, n_draws, rng) for at in times_of(first, second)], axis=-1)
    for size, draws in zip(sizes, drawn, strict=True):
        refuse_flat_draws(draws.reshape(n_draws, -1, draws.shape[-1]), measure, f"{size} neuroids", "draw more")
    warn_of_undefined(drawn, measure, len(first.at(0)[0]), stacklevel=4)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=1)
    return {"score_drawn": drawn.mean(axis=1), "score_drawn_low": low, "score_drawn_high": high}


def _labelled(found: dict[str, Numbers], first: Side, second: Side, sizes: list[int]) -> xr.Dataset:
    """Return a dataset without the dims along which there are no labels."""
    times = first.times if first.times is not None else second.times
    dims = (first.dim or "source", second.dim or "target", "time")
    variables: dict[str, Any] = {
        name: ((*([_LEADING[name]] if name in _LEADING else []), *dims), values) for name, values in found.items()
    }
    for name, side, dim in (("n_features", first, dims[0]), ("n_neuroids", second, dims[1])):
        variables[name] = (dim, [x.shape[-2] for x in side.groups.values()])
    coords: dict[str, Any] = {
        dim: as_labels(list(side.groups)) for side, dim in zip((first, second), dims, strict=False) if side.dim
    }
    coords |= {} if times is None else {"time": times.values}
    coords |= {"n_drawn": sizes} if sizes else {}
    out = xr.Dataset(variables, coords=coords)
    return out.squeeze([dim for dim in dims if dim not in coords], drop=True)


def _ceiling(
    asked: Any, target: xr.DataArray, y: xr.DataArray, name: str | None, measure: SimilarityMetric, n_draws: int, rng: Any
) -> dict[str, xr.DataArray]:
    """Return the ceiling, if one is asked for."""
    if asked is None:
        return {}
    if not isinstance(asked, str):
        return {"ceiling": _of_systems(asked, target, name, measure)}
    check_choice("ceiling", asked, ("repeat",), owner="similarity")
    return {"ceiling": _of_repeats(target, y, name, measure, n_draws, rng)}


def _of_repeats(
    target: xr.DataArray, y: xr.DataArray, name: str | None, measure: SimilarityMetric, n_draws: int, rng: np.random.Generator
) -> xr.DataArray:
    """Return what the averages of two halves of the repeats score against each other, mean over random halves."""
    if measure.trials:
        raise ParameterError(
            f"similarity got ceiling='repeat' for {measure.name!r}, which compares repeats. Expected other systems."
        )
    codes = pd.Index(np.sort(y.stimulus_id.values.astype(object))).get_indexer(target.stimulus_id.values.astype(object))
    rows = np.flatnonzero(np.isin(codes, np.flatnonzero(np.bincount(codes[codes >= 0]) > 1)))
    codes = np.sort(np.unique(codes[rows], return_inverse=True)[1])  # as the rows of a side are
    if codes.max(initial=-1) + 1 < measure.least:
        raise SchemaError(
            f"similarity got ceiling='repeat', and {codes.max(initial=-1) + 1} of the {y.sizes['presentation']} stimuli are repeated in the "
            f"target. Expected at least {measure.least}: give other systems, `ceiling={{'name': responses}}`."
        )
    side = side_of(target.isel(presentation=rows), name, "target", stacklevel=5)
    halves = split_halves(codes, n_draws, rng)

    def scores(x: Numbers) -> list[Numbers]:
        pairs = ([measure.prepare((half @ x).astype(x.dtype, copy=False)) for half in both] for both in halves)
        return [grid_scores(measure, [a], [b])[0, 0] for a, b in pairs]

    draws = np.array([[scores(x) for x in groups] for groups, _ in times_of(side, side)]).T  # (draw, group, time)
    refuse_flat_draws(draws, measure, "halves of the repeats", "leave out stimuli that hardly any neuroid responds to")
    warn_of_undefined(draws, measure, halves[0][0].shape[0], stacklevel=5)
    alone = Side({"": side.at(0)[0]}, None, None)
    out: xr.DataArray = _labelled({"score": draws.mean(axis=0)[None]}, alone, side, []).score
    return out


def _of_systems(others: Any, target: xr.DataArray, name: str | None, measure: SimilarityMetric) -> xr.DataArray:
    """Return what other systems score against the target, mean over them; each group against that of the same name."""
    if not isinstance(others, Mapping) or not others:
        raise ParameterError(
            f"The 'ceiling' parameter of similarity must be 'repeat', or a dict of other responses by name. Got {others!r} instead."
        )
    theirs = {system: positions_of(x, name, f"ceiling[{system!r}]") for system, x in others.items()}
    cells = {}
    for label, columns in positions_of(target, name, "target").items():
        scores = [
            similarity(x.isel(neuroid=theirs[system][label]), target.isel(neuroid=columns), metric=measure, progress=False).score
            for system, x in others.items()
            if label in theirs[system]
        ]
        cells[label] = xr.concat(scores, "system", join="outer").mean("system") if scores else xr.DataArray(np.nan)
    return cells[""] if name is None else xr.concat(xr.broadcast(*cells.values()), f"target_{name}")
