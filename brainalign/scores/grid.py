"""``compare``: every group of the source against every group of the target, layers × regions or any other pair."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, BrainAlignError, ParameterError, UnknownNameError
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.writing import ResultParts
from brainalign.engine.similarity import SimilarityMetric
from brainalign.geometry.metrics import SIMILARITIES
from brainalign.geometry.sides import check_by, positions_of
from brainalign.geometry.similarity import similarity
from brainalign.scores.ceiling import noise_ceiling
from brainalign.scores.cells import Grid
from brainalign.scores.controls import SEED_OF, Controls, refuse_partial
from brainalign.scores.evaluate import Asked, score_systems, seed_of, settle
from brainalign.scores.metrics import METRICS
from brainalign.scores.tiled import keeping_sources, key_of, refuse_joint, report_of_all, score_in_tiles, tiles_of


def compare(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    by: tuple[str, str],
    model: Any = None,
    cv: Any = None,
    groups: str | None = None,
    metric: Any = None,
    ceiling: Any = None,
    aggregate: str = "median",
    join: str = "inner",
    repeats: str = "average",
    time: str = "match",
    controls: Any = "auto",
    n_permutations: int = 0,
    null: str = "auto",
    n_bootstraps: int = 0,
    n_refits: int = 0,
    recovery: bool | Mapping[str, Any] = False,
    random_state: int | np.random.Generator | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = True,
    progress: bool | None = None,
) -> xr.Dataset:
    """Score every group of source neuroids against every group of target neuroids, by predictions or by a metric of similarity.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time])
    by : tuple of two str
        Neuroid coordinates that group the source and the target: ``("layer", "region")``.
    model, cv, groups, metric, ceiling, join, repeats, time, controls, n_permutations, null, n_bootstraps, n_refits, random_state
        As in :func:`evaluate`; one permutation is the same draw in every cell. A metric of :func:`similarity`, such as
        ``"cka-debiased"``, compares the groups without a mapping: the result is that of :func:`similarity`, with ``score_control`` where
        ``controls`` holds further sources.
    aggregate : {"median", "mean"}
        Over the neuroids of a target group whose status is ``"ok"``.
    recovery : bool or mapping
        Run a :func:`recovery_study` for each target group first: would these scores have named the right source group, had a group of
        this size and noise been a mixture of one? True takes ``controls`` as its controls, which must hold low-level features and an
        untrained network; a mapping gives its arguments, such as ``{"n_draws": 50, "without": ["untrained"]}``.
    store, resume
        As in :func:`evaluate`; the result is ``results/compare``. Each tile of the target is read once, and scored from one source group
        after the other, of which only one is in memory at a time.
    progress : bool or None
        As in :func:`evaluate`, over source groups; with ``store``, over tiles.

    Returns
    -------
    Dataset
        ``score`` (source_<a>, target_<b>[, time]); ``score_neuroid`` (source_<a>, neuroid[, time]);
        ``n_features`` (source_<a>), ``n_neuroids`` (target_<b>) and ``n_presentations``; where the mapping chooses alphas,
        ``alpha_at_edge``, the share of a cell's neuroids and folds whose alpha was the first or the last candidate. With a ceiling,
        ``ceiling`` (target_<b>) and ``score_normalized``: the ratio of the means over neuroids, which unlike the mean of ratios stays
        unbiased where ceilings are low. ``score_control`` (control, source_<a>, target_<b>) and ``score_minus_best_control``. With permutations
        ``p_value``, ``p_value_fdr`` and ``p_value_max`` of each cell, the last against the highest null score of the whole grid. With
        bootstraps ``ci_low``, ``ci_high`` and the draws, ``score_bootstrap``; with refits ``score_refit``. Where the mapping compares
        alphas on inner folds, ``score_of_chosen`` (target_<b>) is what the best source group scores when it is chosen in each fold by
        the inner folds of its training rows, and ``chosen_<a>`` (fold, target_<b>) says which it was; the attr ``choice`` says whether
        there is such a score: the highest entry of the table itself is chosen on the rows that it is scored on.

    Raises
    ------
    ParameterError
        A side is a dict; a name in ``by`` is no neuroid coordinate; what only a mapping has use for, beside a metric of similarity.
    CapabilityError, StoreError
        As in :func:`evaluate`.

    Notes
    -----
    Every cell of one source group comes from the same folds and the same fit; alpha is chosen per neuroid inside the
    training rows, so groups of different width are compared at their own best penalty.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=80, random_state=0)
    >>> forward = ba.compare(study.network, study.brain, by=("layer", "region"), cv=4)
    >>> reverse = ba.compare(study.brain, study.network, by=("region", "layer"), cv=4)
    >>> forward.score.dims, reverse.score.dims
    (('source_layer', 'target_region'), ('source_region', 'target_layer'))
    """
    for name, x in (("source", source), ("target", target)):
        _refuse_dict(name, x)
        validate(x, name=name)
    check_choice("aggregate", aggregate, ("median", "mean"), owner="compare")
    measure = _measure(metric)
    check_by(by, owner="compare", whole=measure is not None)
    if measure is not None:
        _refuse_mappings(
            model=model, cv=cv, groups=groups, repeats=repeats, time=time, null=null, n_refits=n_refits, store=store,
            aggregate=aggregate,
        )  # fmt: skip
        options = {"join": join, "n_permutations": n_permutations, "n_bootstraps": n_bootstraps, "ceiling": ceiling}
        return _by_similarity(source, target, by, measure, options, Controls.asked(controls), recovery, random_state, progress)
    source_groups = positions_of(source, by[0], "source", owner="compare")
    target_groups = positions_of(target, by[1], "target", owner="compare")
    grid = Grid(f"source_{by[0]}", f"target_{by[1]}", source_groups, target_groups, aggregate)
    seed = seed_of(random_state, store, "compare")
    wanted = Controls.asked(controls)
    asked = Asked(
        model, cv, groups, metric, ceiling, join, repeats, time, None, wanted, n_permutations, null, n_bootstraps, n_refits,
        seed, progress,
    )  # fmt: skip
    finish = partial(_finished, grid=grid, source=source, target=target, by=by, asked=asked, recovery=recovery)
    of_group = {label: wanted.of_group(by[0], label, first=i == 0) for i, label in enumerate(source_groups)}
    if store is not None:
        return _in_store(source, target, asked, grid, of_group, finish, store=store, resume=resume, by=by, recovery=recovery)
    if isinstance(ceiling, str) and ceiling == "repeat":  # the same for every source group
        ceiling = noise_ceiling(target, random_state=seed, progress=progress)
    here = replace(asked, ceiling=ceiling, progress=False)
    shown = progress_bar(source_groups.items(), progress=progress, desc=f"compare by {by[0]}")
    held = target.compute()  # read once, for all source groups
    return finish([score_systems(source.isel(neuroid=at), held, replace(here, controls=of_group[name])) for name, at in shown])


def _refuse_dict(name: str, x: Any) -> None:
    if isinstance(x, Mapping) and not isinstance(x, xr.Dataset):
        sides = "x, target" if name == "source" else "source, x"
        raise ParameterError(
            f"compare got a dict of {preview(list(x), 8)} as its {name}. Expected one array, whose groups `by` names: compare each by itself, "
            f"`grids = {{name: ba.compare({sides}, by=by, random_state=0) for name, x in {name}.items()}}`. `ba.bootstrap(grids, over='stimulus')` compares "
            "them; `xr.concat([x[['score']] for x in grids.values()], pd.Index(list(grids), name='subject'))` joins them for over='subject'. "
            "`ba.evaluate` and `ba.similarity` take dicts."
        )


def _finished(
    parts: list[xr.Dataset],
    *,
    grid: Grid,
    source: xr.DataArray,
    target: xr.DataArray,
    by: tuple[str, str],
    asked: Asked,
    recovery: Any,
) -> xr.Dataset:
    """Return the grid of the results of all source groups, with its attrs and provenance."""
    out = grid.assemble(parts, asked.controls.shared(by[0]))
    out.attrs |= {"metric": parts[0].attrs["metric"], "aggregate": grid.aggregate, "report": report_of_all(parts)}
    if recovery is not False:
        scorer = {"model": asked.model, "metric": asked.metric, "repeats": asked.repeats}
        if isinstance(asked.cv, (int, np.integer)):  # folds over other presentations are made anew
            scorer["cv"] = asked.cv
        options = {"controls": asked.controls.sources or {}, **({} if recovery is True else recovery)}
        out = _with_recovery(out, source, target, by, scorer, options, asked.random_state)
    params = {"by": by, "aggregate": grid.aggregate, "model": asked.model, "cv": json.loads(parts[0].attrs["report"])["folds"]}
    params |= {"n_permutations": asked.n_permutations, "null": parts[0].attrs.get("null"), "n_bootstraps": asked.n_bootstraps}
    params["n_refits"] = asked.n_refits
    params["recovery"] = recovery if isinstance(recovery, bool) else {k: v for k, v in recovery.items() if k != "controls"}
    params["controls"] = out.control.values.tolist() if "control" in out.coords else []
    return write_step(out, "compare", params=params, inputs={"source": source, "target": target}, seed=asked.random_state)


def _in_store(
    source: xr.DataArray,
    target: xr.DataArray,
    asked: Asked,
    grid: Grid,
    controls: Mapping[Any, Controls],
    finish: Callable[[list[xr.Dataset]], xr.Dataset],
    *,
    store: Any,
    resume: bool,
    **further: Any,
) -> xr.Dataset:
    """Score tile by tile, one source group after the other, keep every tile, and make the grid of all."""
    sources = {label: partial(_read, source, positions) for label, positions in grid.source_groups.items()}
    settled = settle(source, target, asked)
    settled = replace(settled, model=keeping_sources(settled.model))
    refuse_joint(settled.model, tiles_of({"": target}))

    def score(label: Any, _: str, x: xr.DataArray, tile: xr.DataArray, ceiling: Any) -> xr.Dataset:
        return score_systems(x, tile, replace(settled, controls=controls[label], ceiling=ceiling, progress=False))

    key = key_of({"": source}, {"": target}, {"": settled.cv}, {**asked.arguments(), "aggregate": grid.aggregate, **further})
    with ResultParts(store, "compare", key, resume=resume) as parts:
        if parts.result is None:
            joined = score_in_tiles(
                parts, sources, {"": target}, score, ceiling=asked.ceiling, seed=asked.random_state, progress=asked.progress
            )
            parts.finish(finish([joined[label, ""] for label in sources]))
        return parts.result


def _read(x: xr.DataArray, positions: np.ndarray[Any, Any]) -> xr.DataArray:
    return x.isel(neuroid=positions).compute()


def _with_recovery(
    out: xr.Dataset,
    source: xr.DataArray,
    target: xr.DataArray,
    by: tuple[str, str],
    scorer: Any,
    options: dict[str, Any],
    seed: int,
) -> xr.Dataset:
    """Add whether this comparison, with these models and folds, could have told the source groups apart."""
    from brainalign.scores.recovery import recovery_of_grid  # which compares, as this module does

    found = recovery_of_grid(source, target, by, scorer, random_state=seed, **options)
    return out.merge(found).assign_attrs(verdict=found.attrs["verdict"])


def _measure(metric: Any) -> SimilarityMetric | None:
    """Return the metric of similarity that is meant; None where it is one of predictions."""
    if isinstance(metric, str) and metric not in SIMILARITIES.names():
        if metric not in METRICS.names():
            known = [*METRICS.names(), *SIMILARITIES.names()]
            raise UnknownNameError(
                f"compare got metric={metric!r}. Expected one of predictions, {', '.join(METRICS.names())}, or of similarity, "
                f"{', '.join(SIMILARITIES.names())}.{did_you_mean(metric, known)}"
            )
        return None
    found = SIMILARITIES.get(metric)
    return found if isinstance(found, SimilarityMetric) else None


def _refuse_mappings(**given: Any) -> None:
    usual = {"repeats": "average", "time": "match", "null": "auto", "n_refits": 0, "aggregate": "median"}
    wrong = [f"{name}={value!r}" for name, value in given.items() if value != usual.get(name)]
    if wrong:
        raise ParameterError(
            f"compare got {', '.join(wrong)} beside a metric of similarity, which fits nothing. Expected it without, or a metric of "
            "predictions such as 'pearson'."
        )


def _by_similarity(
    source: xr.DataArray,
    target: xr.DataArray,
    by: tuple[str, str],
    measure: SimilarityMetric,
    options: dict[str, Any],
    controls: Controls,
    recovery: Any,
    random_state: Any,
    progress: bool | None,
) -> xr.Dataset:
    """Compare the groups without a mapping, and their controls with them."""
    seed, sign = seed_of(random_state, None, "compare"), 1.0 if measure.higher_is_alike else -1.0
    out = similarity(source, target, metric=measure, by=by, random_state=seed, progress=progress, **options)
    beside: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    for name, x in (controls.sources or {}).items():
        own = by[0] if by[0] in coords_of(x, "neuroid") else None
        try:
            found = similarity(
                x, target, metric=measure, by=(own, by[1]), join=options["join"], random_state=seed, progress=False
            )
        except AlignmentError:
            raise
        except (BrainAlignError, ValueError) as error:  # such as patterns that this metric cannot take
            failed[name] = str(error).replace(" in source", f" in controls[{name!r}]")
            continue
        refuse_partial(name, int(found.n_presentations), int(out.n_presentations))
        beside.setdefault(SEED_OF.sub("", name), []).append(_rows_of(found.score, out.score, name))
    if failed:
        out.attrs["report"] = json.dumps({**json.loads(out.attrs["report"]), "controls_failed": failed})
    if beside:
        scores = np.stack([np.mean(seeds, axis=0) for seeds in beside.values()])
        best = sign * np.fmax.reduce(sign * scores, axis=0)
        out["score_control"] = (("control", *out.score.dims), scores)
        out = out.assign(score_minus_best_control=out.score - best).assign_coords(control=as_labels(list(beside)))
    if recovery is not False:

        def scorer(x: xr.DataArray, y: xr.DataArray) -> float:
            return sign * float(similarity(x, y, metric=measure, progress=False).score)

        further = {"controls": controls.sources or {}, **({} if recovery is True else recovery)}
        out = _with_recovery(out, source, target, by, scorer, further, seed)
    options = options | {"ceiling": options["ceiling"] if isinstance(options["ceiling"], str) else list(options["ceiling"] or [])}
    params = {"by": by, "metric": measure.name, **options, "controls": list(beside), "recovery": recovery is not False}
    return write_step(out, "compare", params=params, inputs={"source": source, "target": target}, seed=seed)


def _rows_of(scores: xr.DataArray, like: xr.DataArray, name: str) -> Any:
    """Return the scores of a control for every source group: those of its own group of that name, or of all of it."""
    if "time" in scores.dims and not ("time" in like.dims and np.isin(like.time, scores.time).all()):
        raise ParameterError(
            f"controls[{name!r}] has other times than the score, which has {like.sizes.get('time', 'none')}. Expected a control without "
            "time, or with the times of the source."
        )
    return scores.reindex_like(like).broadcast_like(like).transpose(*like.dims).values
