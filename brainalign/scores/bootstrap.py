"""``bootstrap``: how far a score would move with other stimuli, other subjects or both, and which differences are more than that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_over, check_random_state
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.bootstrap import Drawn, draw_weights
from brainalign.engine.moments import Numbers, known_mean
from brainalign.engine.onset import onset_and_peak
from brainalign.scores.units import chance_of, check_result, check_seeds, unit_scores


def bootstrap(
    result: Any,
    *,
    over: str | Sequence[str],
    between: str | None = None,
    onset: float | None = None,
    models: str = "any",
    level: float = 0.95,
    n_bootstraps: int = 1000,
    random_state: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Draw stimuli, subjects or both anew: intervals of scores, and of the differences of layers or models.

    Parameters
    ----------
    result : Dataset, or dict of them
        With ``score``. A dict compares whole results, such as two models on the same folds.
    over : str, or two of them
        What is drawn, and so what the interval generalises to. ``"stimulus"`` reads the ``score_bootstrap`` that
        ``evaluate(..., n_bootstraps=1000)`` and ``compare`` keep: fitted models, tested on redrawn stimuli. Anything else
        names a dim of the score or a coordinate of its neuroids, such as ``"subject"``. ``("subject", "stimulus")`` draws both.
    between : str, optional
        Dim of the score along which every pair is compared, such as ``"source_layer"``. Of a dict always its names, ``"result"``.
    onset : float, optional
        Of a score over ``time``: add when its effect begins, reaching this share of the peak above chance (0.5 is common), and when it
        peaks. Chance is the result's own where it names one, as that of :func:`decode_time` does, or 0.
    models : {"any", "fitted"}
        Of redrawn stimuli: whether the claim is of layers and systems, for which models would be fitted to other stimuli too, or
        only of the models that were fitted.
    level : float
        Share of intervals that hold the truth.
    n_bootstraps : int
        Draws of subjects; redrawn stimuli are as many as the result keeps.
    random_state : int, Generator or None
        For draws of subjects.

    Returns
    -------
    Dataset
        ``score``, ``ci_low`` and ``ci_high`` with the dims of the score; ``chance``, where the result has it; ``n_bootstraps``. With ``onset`` also ``onset`` and ``peak`` in
        seconds, each with ``_low`` and ``_high``, and its dims without ``time``. With ``between`` or a dict also
        ``difference`` (pair, ...), the first minus the second of each pair, with ``difference_low``, ``difference_high`` and two-sided
        ``p_value``, ``p_value_fdr`` and ``p_value_max``, which holds for all pairs and scores together; under models="any" of folds
        without refits ``p_value_bound`` and so on instead. Coordinates ``first`` and ``second`` (pair) name them.

    Raises
    ------
    SchemaError, ParameterError
        The result keeps no redrawn stimuli; there is no such dim; or what is to be compared was drawn with different seeds, or from other
        stimuli.

    Notes
    -----
    Draws are paired: one draw of stimuli or subjects serves every layer and model. Their variance is that of n units, too small by
    (n − 1) / n, and for two kinds of units drawn at once too large (:func:`brainalign.engine.bootstrap.two_factor_variance`);
    percentiles are stretched to the corrected standard error times the t of its degrees of freedom
    (:class:`brainalign.engine.bootstrap.Drawn`), and p compares the difference with its draws on that scale.

    ``onset`` is that of the mean curve: from then on it is above the share of its peak more than below
    (:func:`brainalign.engine.onset.onset_and_peak`). Noise raises the highest of many times; by how much is seen in the draws and taken off.
    Of effects at once, or as a bell, 97% and more of intervals of 95% over 8 or 16 units held the onset, of a slow rise to a plateau 91 to
    96%. Noise has a peak too, so an interval means something only where there is an effect at all: see ``p_value_max`` or
    ``p_value_cluster`` first, neither of which says when it begins. Windows and filters of the recording move it.

    Redrawn stimuli test models that were fitted to the others, and those of K folds share training rows. Taken as they are
    (``models="fitted"``), 9 to 25% of the differences between sources that are equally good pass p ≤ .05. ``models="any"`` adds the
    variance over training stimuli, as if these were drawn apart: estimated where the result was made with ``n_refits=20``
    (:func:`brainalign.engine.bootstrap.training_variance`); else by a bound, 1 + K / (K − 1) times the variance over test stimuli
    (Nadeau and Bengio 2003), which lets 1 to 3% pass: intervals are too wide, and what bounds p is called ``p_value_bound``. The attr
    ``training`` says which.

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> scores = xr.DataArray(0.3 + 0.05 * rng.normal(size=(8, 2)), dims=("subject", "layer"), coords={"layer": ["early", "late"]})
    >>> scores[:, 1] += 0.2
    >>> out = ba.bootstrap(xr.Dataset({"score": scores}), over="subject", between="layer", random_state=0)
    >>> bool(out.ci_low[0] < 0.3 < out.ci_high[0]), bool(out.p_value[0] < 0.01)
    (True, True)
    """
    check_number("level", level, owner="bootstrap", low=0.5, high=0.9999)
    check_number("n_bootstraps", n_bootstraps, owner="bootstrap", low=2, integer=True)
    check_choice("models", models, ("any", "fitted"), owner="bootstrap")
    if onset is not None:
        check_number("onset", onset, owner="bootstrap", low=0.0, high=1.0, low_open=True)
    seed = check_random_state(random_state, owner="bootstrap")
    units = check_over(over, owner="bootstrap", unit="a kind of unit")
    inputs = dict(result) if isinstance(result, Mapping) and not isinstance(result, xr.Dataset) else {"result": result}
    joined = _joined(inputs, units) if len(inputs) > 1 else check_result(next(iter(inputs.values()), None), owner="bootstrap")
    between = "result" if len(inputs) > 1 else between
    if "stimulus" in units and between in ("result", "source", "target"):
        _refuse_other_stimuli(inputs, between)
    n_folds = next(iter(inputs.values())).sizes.get("fold", 1)
    template, drawn = _draw(joined, units, n_bootstraps, np.random.default_rng(seed))
    training = "as fitted"
    if "stimulus" in units and models == "any":
        training, drawn = _with_training(joined, units, drawn, n_folds)
    low, high = drawn.interval(level)
    named = {"score": drawn.score, "ci_low": low, "ci_high": high}
    out = xr.Dataset({name: template.copy(data=values) for name, values in named.items()})
    if "chance" in joined:
        out["chance"] = chance_of(joined, template)
    if onset is not None:
        out = out.merge(_latencies(template, drawn, joined, onset, level), compat="no_conflicts")
    if between is not None:
        p_name = "p_value_bound" if training == "bound" else "p_value"
        out = out.merge(_differences(template, drawn, between, level, p_name), compat="no_conflicts")
    params = {"over": list(units), "between": between, "onset": onset, "models": models, "level": level, "n_bootstraps": drawn.n}
    attrs = {"n_units": drawn.n_units, "training": training}
    return write_step(out.assign_attrs(params | attrs), "bootstrap", params=params, inputs=inputs, seed=seed)


def _joined(results: dict[str, Any], units: tuple[str, ...]) -> xr.Dataset:
    parts = [check_result(part, owner="bootstrap", name=f"result {name!r}") for name, part in results.items()]
    if "stimulus" in units:
        check_seeds(results, owner="bootstrap")
    kept = [
        name
        for name in ("score", "score_bootstrap", "score_left_out", "score_refit", "n_units", "chance")
        if all(name in part for part in parts)
    ]
    try:
        return xr.concat([part[kept] for part in parts], xr.Variable("result", as_labels(list(results))), join="exact", coords="minimal",
                         compat="override", combine_attrs="drop")  # fmt: skip
    except ValueError as error:
        raise ParameterError(
            f"bootstrap got results that differ in their labels ({error}). Expected the same neuroids."
        ) from error


def _refuse_other_stimuli(results: Mapping[str, xr.Dataset], between: str) -> None:
    """Refuse systems that share other stimuli with the other side: their draws are no pairs."""
    reports = {name: json.loads(part.attrs.get("report", "{}")) for name, part in results.items()}
    seen: dict[str, list[Any]] = {}
    for path, found in _joins({"each": reports}, ()):
        path = path if between == "result" else path[1:]
        for name in path[-1:] if between == "target" else path[:1]:
            seen.setdefault(name, []).append(found)
    if len({json.dumps([[found["n_shared"], found.get("shared")] for found in each]) for each in seen.values()}) < 2:
        return
    shared = []
    for name, (found, *_) in seen.items():
        sides = [found[side] for side in ("source", "target") if side in found]
        dropped = [repr(i) for side in sides for i in side["first_dropped"]]
        dropped += ["..."] * (sum(side["n_dropped_ids"] for side in sides) > len(dropped))
        shared.append(f"{name!r} on {found['n_shared']}" + f" (without {', '.join(dropped)})" * bool(dropped))
    raise ParameterError(
        f"bootstrap got scores on other stimuli along {between!r}: {', '.join(shared[:8])}. Expected the same, so that draws are paired: score "
        "again on those that all have, `x[x.stimulus_id.isin(ids)]`."
    )


def _joins(report: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Go through what was joined, of one pair of systems or of each, by the names of the systems."""
    for name, part in report.get("each", {}).items():
        yield from _joins(part, (*path, name))
    if "n_shared" in (found := report.get("join", report)):
        yield path, found


def _draw(result: xr.Dataset, units: tuple[str, ...], n_bootstraps: int, rng: np.random.Generator) -> tuple[xr.DataArray, Drawn]:
    others = [name for name in units if name != "stimulus"]
    redrawn = _redrawn(result) if "stimulus" in units else None
    n_stimuli = int(result.n_units.max()) if "n_units" in result else np.iinfo(np.int64).max
    if redrawn is not None and not others:
        draws = redrawn.transpose("bootstrap", *result.score.dims).values
        left_out = result.score_left_out.transpose("left_out", *result.score.dims).values if "score_left_out" in result else None
        return result.score, Drawn(result.score.values, draws, (), [n_stimuli], left_out=left_out)
    scores = unit_scores(result, others[0], owner="bootstrap")
    mean = scores.mean(others[0], skipna=False)
    weights = draw_weights(scores.sizes[others[0]], n_bootstraps if redrawn is None else redrawn.sizes["bootstrap"], rng)
    weights = weights / weights.shape[1]
    by_unit = np.tensordot(weights, scores.values, 1)
    if redrawn is None:
        return mean, Drawn(mean.values, by_unit, (), [weights.shape[1]])
    both = (
        unit_scores(result, others[0], owner="bootstrap", variable="score_bootstrap").transpose(*scores.dims, "bootstrap").values
    )
    by_both = np.einsum("bu,u...b->b...", weights, both)
    by_stimulus = np.moveaxis(both.mean(axis=0), -1, 0)
    return mean, Drawn(mean.values, by_both, (by_unit, by_stimulus), [weights.shape[1], n_stimuli])


def _with_training(result: xr.Dataset, units: tuple[str, ...], drawn: Drawn, n_folds: int) -> tuple[str, Drawn]:
    """Add what other training stimuli would change: refits where the result has them, or a bound."""
    if "score_refit" not in result and n_folds < 2:
        return "as fitted", drawn  # one training set, or none, as of metrics that fit nothing
    if "score_refit" not in result:
        return "bound", replace(drawn, refitting=1.0 + n_folds / (n_folds - 1.0))
    refits = result.score_refit.transpose("refit", *result.score.dims)
    for unit in set(units) - {"stimulus"}:
        refits = unit_scores(result, unit, owner="bootstrap", variable="score_refit").mean(unit, skipna=False)
    return "refits", replace(drawn, refits=refits.transpose("refit", ...).values)


def _latencies(template: xr.DataArray, drawn: Drawn, result: xr.Dataset, share: float, level: float) -> xr.Dataset:
    """Return when the effect begins and peaks, with intervals."""
    if "time" not in template.dims:
        raise ParameterError(
            f"bootstrap got onset={share!r} for a score with the dims {template.dims}. Expected a score over `time`, as that of "
            "`ba.decode_time`."
        )
    axis, times = template.dims.index("time"), np.asarray(template.time.values, dtype=np.float64)
    chance = chance_of(result, template) if "chance" in result else 0.0
    level_of_chance = (xr.zeros_like(template) + chance).transpose(*template.dims).values
    kept = template.isel(time=0, drop=True)

    def above(x: Numbers) -> Numbers:
        return np.moveaxis(x - level_of_chance, axis + 1, -1)

    highest = above(drawn.score[None]).max(axis=-1)[0]
    noise = known_mean(above(drawn.draws).max(axis=-1), axis=0) - highest  # of the mean curve; draws have twice as much

    def latencies(x: Numbers) -> Numbers:
        excess = above(x)
        raised = noise + known_mean(excess.max(axis=-1), axis=0) - highest
        return np.stack(onset_and_peak(excess, times, share, raised), axis=1)

    both = replace(drawn, left_out=None).each(latencies)  # a time that one stimulus less does not move is not known for sure
    ends = {"": both.score} | dict(zip(("_low", "_high"), both.interval(level), strict=True))
    return xr.Dataset(
        {
            name + end: kept.copy(data=values[k]).assign_attrs(units="s")
            for k, name in enumerate(("onset", "peak"))
            for end, values in ends.items()
        }
    )


def _redrawn(result: xr.Dataset) -> xr.DataArray:
    if "score_bootstrap" not in result:
        raise SchemaError(
            f"bootstrap over 'stimulus' got a result without `score_bootstrap` (it has {', '.join(map(str, result.data_vars))}). Expected the "
            "scores of redrawn stimuli: `ba.evaluate(..., n_bootstraps=1000)`."
        )
    if (drawn := [str(unit) for unit in np.atleast_1d(result.attrs.get("over", "stimulus"))]) != ["stimulus"]:
        raise SchemaError(
            f"bootstrap over 'stimulus' got a result whose draws are over {drawn}. Expected draws of stimuli alone: `ba.compare_rdms(..., "
            "over='stimulus', n_bootstraps=1000)`; its own `between=` compares on these."
        )
    return result.score_bootstrap


def _differences(template: xr.DataArray, drawn: Drawn, between: str, level: float, p_name: str) -> xr.Dataset:
    dims = template.dims
    if template.sizes.get(between, 0) < 2:
        raise ParameterError(
            f"bootstrap got between={between!r}; the score has the sizes {dict(template.sizes)}. Expected a dim of two or more."
        )
    first, second = np.triu_indices(template.sizes[between], 1)
    columns = drawn.minus(dims.index(between), first, second).tested(level, "difference", p_name)
    rest = tuple(dim for dim in dims if dim != between)
    names = template.coords[between].values if between in template.coords else np.arange(template.sizes[between])
    return xr.Dataset(
        {name: (("pair", *rest), values) for name, values in columns.items()},
        {"first": ("pair", names[first]), "second": ("pair", names[second])},
    )
