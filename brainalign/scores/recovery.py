"""``recovery_study``: whether the scores would have named the right candidate, had the brain been one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, check_options, check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.moments import Numbers
from brainalign.features.chain import chain
from brainalign.models.ridge import Ridge
from brainalign.scores.evaluate import evaluate
from brainalign.scores.standin import READOUTS, Likeness, grouped, likeness, on_shared_stimuli, stand_in

CONTROLS = ("low-level", "untrained")
_SAME = 1e-5  # scores closer than this differ by rounding: the candidates share the choice


def recovery_study(
    systems: Any,
    scorer: Any = None,
    *,
    controls: Mapping[str, xr.DataArray] | None = None,
    without: Sequence[str] = (),
    by: str = "layer",
    planted: Mapping[str, xr.DataArray] | None = None,
    like: xr.DataArray | None = None,
    n_neuroids: Any = None,
    n_stimuli: Any = None,
    n_repeats: int | None = None,
    reliability: Any = None,
    readout: str = "mixtures",
    n_draws: int = 20,
    threshold: float = 0.95,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Put each candidate in the brain's place, and see whether the scores of all candidates find it.

    Parameters
    ----------
    systems : dict of str to DataArray, (presentation, neuroid); or DataArray
        The candidates, on the same stimuli, one row each. Of one array its groups by ``by``: layers, or regions.
    scorer : mapping, callable or None
        Keyword arguments of :func:`evaluate` (default: its defaults, and no controls of its own); or ``scorer(source, target)`` that
        returns a number, or a result with ``score``, of which the median counts. Larger must be better.
    controls : dict of str to DataArray, (presentation, neuroid)
        What a system must beat, from :func:`controls`: low-level features of the stimuli (pixels, sound envelope, word rate), and
        networks that have learned nothing, whose names start with ``"untrained"``.
    without : sequence of {"low-level", "untrained"}
        Kinds of controls to do without, by name.
    by : str
        Neuroid coordinate that divides a single array of ``systems``, and untrained ones with it.
    planted : dict of str to DataArray, optional
        What stands in for the brain instead of the candidate of that name itself, such as the same layer of another seed.
    like : DataArray, (presentation, neuroid[, time]), optional
        The recording to imitate: its numbers of neuroids, stimuli and repeats, and the reliability of its neuroids.
    n_neuroids, n_stimuli : int or sequence of int, optional
        Instead of the recording's; several give curves along a dim of that name.
    n_repeats : int, optional
    reliability : float or sequence of float, optional
        Of averages over repeats; each neuroid draws one. 1 is no noise.
    readout : {"mixtures", "units"}
        A neuroid is a random mixture of all units, or one of them.
    n_draws : int
        Neuroids, stimuli and noise are drawn anew for each.
    threshold : float
        Share of draws in which a candidate must be found to count as recovered.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over draws.

    Returns
    -------
    Dataset
        ``score`` (planted, candidate, draw), candidates being systems and controls; ``confusion`` (planted, candidate), the share of draws in
        which a candidate scored highest (shared where scores are equal); ``accuracy`` (planted), its diagonal, with the 95% interval
        ``accuracy_low``, ``accuracy_high``; ``identifiability`` (planted), (s − s̄) / (s + s̄) of the planted candidate's score and the
        mean of the other systems', averaged over draws (without those in which s or the sum is not above 0), with
        ``identifiability_low`` and ``_high``, which hold 95% of draws;
        ``n_sufficient`` (planted), the smallest number of neuroids from which on ``accuracy`` ≥ ``threshold``, NaN where none of those tried
        is; ``verdict`` (planted), in words. With several ``n_neuroids`` or ``n_stimuli`` these dims come first.

    Raises
    ------
    ParameterError
        A control is missing; fewer than two systems; no recording to imitate.
    SchemaError, AlignmentError
        Systems with repeats or a time dim, or without common stimuli; a recording of stimuli that several subjects saw, in one array.

    Notes
    -----
    Han, Poggio and Cheung (2023), "System identification of neural systems: if we got it right, would we know?". A study that fails says
    that the comparison could not have told; one that succeeds, that it could have if the brain were such a system.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=80, random_state=0)
    >>> low = ba.controls(study.stimuli)   # with responder=, untrained networks too
    >>> out = ba.recovery_study(study.network, {"cv": 4}, controls=low, without=["untrained"], like=study.brain, n_draws=3, random_state=0)
    >>> out.confusion.dims, out.candidate.values.tolist()[4:]
    (('planted', 'candidate'), ['values', 'random-low-level'])
    """
    check_choice("readout", readout, READOUTS, owner="recovery_study")
    check_number("n_draws", n_draws, owner="recovery_study", low=2, integer=True)
    check_number("threshold", threshold, owner="recovery_study", low=0.5, high=1.0)
    seed = check_random_state(random_state, owner="recovery_study")
    named = _named(systems, by, planted)
    controls = _controls(controls or {}, without, None if isinstance(systems, Mapping) else by)
    both = [name for name in named if name in controls]
    if both:
        raise ParameterError(f"recovery_study got systems and controls of the same name: {preview(both)}. Expected other names.")
    brains = {f"planted {name}": x for name, x in (planted or {}).items()}
    shared = on_shared_stimuli({**named, **controls, **brains})
    n_shared = next(iter(shared.values())).sizes["presentation"]
    size = likeness(like, n_shared, n_neuroids=n_neuroids, n_stimuli=n_stimuli, n_repeats=n_repeats, reliability=reliability)
    candidates = {name: shared[name] for name in (*named, *controls)}
    known = {name: shared.get(f"planted {name}", shared[name]) for name in named}
    shown, *score = _as_scorer(scorer, size)
    scores = _all_draws(known, candidates, score, shown, readout, n_draws, seed, progress)
    out = _summarised(scores, threshold).assign_attrs(
        n_repeats=size.n_repeats, reliability=float(size.reliability.mean()), readout=readout
    )
    out = _in_words(out, threshold, n_draws)
    for name, given in (("n_neuroids", n_neuroids), ("n_stimuli", n_stimuli)):
        out = out.isel({name: 0}) if given is None or np.ndim(given) == 0 else out
    params = {
        "scorer": scorer,
        "without": list(without),
        "by": by,
        "readout": readout,
        "n_draws": n_draws,
        "threshold": threshold,
    }
    inputs = {"like": like, **({"systems": systems} if isinstance(systems, xr.DataArray) else named), **controls}
    return write_step(out, "recovery_study", params=params, inputs=inputs, seed=seed)


def recovery_of_grid(
    source: xr.DataArray,
    target: xr.DataArray,
    by: tuple[str, str],
    scorer: Mapping[str, Any],
    *,
    random_state: Any = None,
    **options: Any,
) -> xr.Dataset:
    """Ask of every target group whether a comparison of its size and noise would have found the source group that it names.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid)
        As given to :func:`compare`; repeats of the source are averaged.
    by : tuple of two str
    scorer : mapping
        Keyword arguments of :func:`evaluate`, those of the comparison.
    random_state : int, Generator or None
    **options
        Of :func:`recovery_study`: ``controls``, ``without``, ``n_draws`` ...

    Returns
    -------
    Dataset
        ``recovery_accuracy`` and ``recovery_identifiability`` (target_<b>, source_<a>), ``recovery_confusion`` (target_<b>, source_<a>,
        recovery_candidate) and ``verdict`` (target_<b>, source_<a>); the attr ``verdict`` has a sentence for each target group.

    Raises
    ------
    SchemaError
        Stimuli of a side that several subjects saw, in one array.
    """
    seed = check_random_state(random_state, owner="recovery_study")
    rows, columns = f"source_{by[0]}", f"target_{by[1]}"
    once, parts = average_if_repeated(source, owner="recovery_study"), {}
    for name, group in (grouped(target, by[1]) if by[1] in target.coords else {"": target}).items():
        label = name or str(target.coords[by[1]].values[0])
        parts[label] = recovery_study(once, scorer, by=by[0], like=group, random_state=seed, **options)
    joined = xr.concat([x.drop_vars(["n_neuroids", "n_stimuli"]) for x in parts.values()], columns, combine_attrs="drop")
    named = {name: f"recovery_{name}" for name in ("accuracy", "identifiability", "confusion")}
    out = joined[[*named, "verdict"]].rename(planted=rows, candidate="recovery_candidate", **named)
    words = " ".join(f"{label}: {x.attrs['verdict']}" for label, x in parts.items())
    return out.assign_coords({columns: as_labels(list(parts))}).assign_attrs(verdict=words)


def _named(systems: Any, by: str, planted: Any) -> dict[str, xr.DataArray]:
    named = {str(name): x for name, x in systems.items()} if isinstance(systems, Mapping) else grouped(systems, by)
    if len(named) < 2:
        raise ParameterError(
            f"recovery_study got {len(named)} system. Expected two or more to tell apart: a dict of responses, or one array with several groups "
            f"of the neuroid coordinate {by!r}."
        )
    strange = [name for name in planted or {} if name not in named]
    if strange:
        raise ParameterError(
            f"recovery_study is to plant {preview(strange)}. Expected names of systems: {preview(list(named), 8)}."
        )
    return named


def _controls(given: Mapping[str, xr.DataArray], without: Sequence[str], by: str | None) -> dict[str, xr.DataArray]:
    """Name what must be beaten, and refuse to go without it in silence."""
    for kind in without:
        check_choice("without", kind, CONTROLS, owner="recovery_study")
    learned_nothing = [str(name).startswith("untrained") for name in given]
    for kind, n in (("low-level", learned_nothing.count(False)), ("untrained", learned_nothing.count(True))):
        if (n > 0) == (kind in without):
            seen = f"controls {preview(list(given), 8)} and without={list(without)!r}"
            raise ParameterError(
                f"recovery_study got {seen}. Expected one of the two for {kind!r}, for a matching network may lose to it: pass "
                f"`controls=ba.controls(stimuli, responder=network)`, or say that you do without, `without=[{kind!r}]`."
            )
    found: dict[str, xr.DataArray] = {}
    for (name, x), untrained in zip(given.items(), learned_nothing, strict=True):
        groups = grouped(x, by) if untrained and by is not None else {"": x}
        found |= {f"{name}/{group}" if group else str(name): part for group, part in groups.items()}
    return found


def _as_scorer(scorer: Any, size: Likeness) -> tuple[Likeness, Callable[..., Any], bool]:
    """Return what it wants to see, a function of candidate, target and seed, and whether it scores each neuroid as if it were alone."""
    if callable(scorer):
        return size, lambda source, target, seed: scorer(source, target), False
    if scorer is not None and not isinstance(scorer, Mapping):
        raise ParameterError(
            f"The 'scorer' parameter of recovery_study must be a mapping of keyword arguments of `ba.evaluate`, or a function of source and "
            f"target. Got {scorer!r} instead."
        )
    options = dict(scorer or {})
    check_options(evaluate, {"source": None, "target": None, **options}, owner="recovery_study")
    mapping = options.get("model")
    alone = chain(Ridge() if mapping is None else mapping).separate_targets
    if not {"repeats", "ceiling"} & options.keys():  # repeats would be averaged before anything else
        size = replace(size, n_repeats=1)
    return (
        size,
        lambda source, target, seed: evaluate(
            source, target, **{"controls": "none", "progress": False, "random_state": seed, **options}
        ),
        alone,
    )


def _values(result: Any) -> Numbers:
    return np.atleast_1d(result["score"] if isinstance(result, xr.Dataset) else result).astype(np.float64)


def _all_draws(
    planted: dict[str, xr.DataArray], candidates: dict[str, xr.DataArray], scorer: Any, size: Likeness, readout: str, n_draws: int,
    seed: int, progress: bool | None,
) -> xr.DataArray:  # fmt: skip
    """Return the score of every candidate for every planted system, (n_stimuli, n_neuroids, planted, candidate, draw)."""
    out = np.full((len(size.n_stimuli), len(size.n_neuroids), len(planted), len(candidates), n_draws), np.nan)
    n_shared = next(iter(candidates.values())).sizes["presentation"]
    for draw, stream in enumerate(progress_bar(np.random.SeedSequence(seed).spawn(n_draws), progress=progress, desc="draws")):
        rng = np.random.default_rng(stream)
        order, fold_seed = rng.permutation(n_shared), int(rng.integers(2**31))
        for i, n in enumerate(size.n_stimuli):
            rows = np.sort(order[:n])
            drawn = {name: stand_in(planted[name][rows], size.n_neuroids[-1], size, readout, rng) for name in sorted(planted)}
            brains = [drawn[name] for name in planted]
            sources = [x.isel(presentation=rows) for x in candidates.values()]
            out[i, ..., draw] = _one_draw(sources, brains, scorer, size.n_neuroids, fold_seed)
    coords = {"n_stimuli": list(size.n_stimuli), "n_neuroids": list(size.n_neuroids)}
    names = {"planted": as_labels(list(planted)), "candidate": as_labels(list(candidates))}
    return xr.DataArray(
        out, dims=("n_stimuli", "n_neuroids", "planted", "candidate", "draw"), coords=coords | names, name="score"
    )


def _one_draw(sources: list[Any], brains: list[Any], scorer: Any, sizes: tuple[int, ...], seed: int) -> Numbers:
    """Return the median score of the first neuroids of each brain, (n_neuroids, planted, candidate)."""
    score, alone = scorer
    if alone:  # all brains go through one fit
        together = xr.concat(brains, "neuroid", combine_attrs="override")
        together = together.assign_coords(neuroid_id=("neuroid", np.arange(together.sizes["neuroid"])))
        each = np.stack(
            [_values(score(source, together, seed)).reshape(len(brains), sizes[-1], -1) for source in sources], axis=1
        )
        return np.stack([_median(each[:, :, :n].reshape(*each.shape[:2], -1)) for n in sizes])
    parts = [[brain.isel(neuroid=slice(n)) for brain in brains] for n in sizes]
    return np.array([[[_median(_values(score(source, x, seed)).ravel()) for source in sources] for x in row] for row in parts])


def _median(x: Numbers) -> Numbers:
    """Median over the last dim of what is defined."""
    known = np.isfinite(x)
    middle = np.nanmedian(np.where(known | ~known.any(axis=-1, keepdims=True), x, np.nan), axis=-1) if known.any() else np.nan
    return np.where(known.any(axis=-1), middle, np.nan)


def _summarised(scores: xr.DataArray, threshold: float) -> xr.Dataset:
    values = np.where(np.isnan(scores.values), -np.inf, scores.values)
    top = values.max(axis=3, keepdims=True)
    chosen = (values >= top - _SAME) & np.isfinite(top)
    share = chosen / np.maximum(chosen.sum(axis=3, keepdims=True), 1)
    n, n_draws = scores.sizes["planted"], scores.sizes["draw"]
    dims = scores.dims[:4]
    confusion = share.mean(axis=-1)
    accuracy = np.diagonal(confusion, axis1=2, axis2=3)
    own = np.moveaxis(np.diagonal(scores.values, axis1=2, axis2=3), -1, 2)  # (n_stimuli, n_neuroids, planted, draw)
    others = (scores.values[:, :, :, :n].sum(axis=3) - own) / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        index = np.where((own + others > 0) & (own > 0), (own - others) / (own + others), np.nan)
    low, high = _wilson(accuracy, n_draws)
    mean, index_low, index_high = _over_draws(index)
    good = np.logical_and.accumulate((accuracy >= threshold)[:, ::-1], axis=1)[:, ::-1]  # here and with more neuroids
    sizes = scores["n_neuroids"].values
    sufficient = np.where(good.any(axis=1), sizes[np.argmax(good, axis=1)], np.nan)
    named = {"confusion": (dims, confusion), "n_sufficient": (("n_stimuli", "planted"), sufficient)}
    per_planted = {
        "accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, "identifiability": mean, "identifiability_low": index_low,
        "identifiability_high": index_high,
    }  # fmt: skip
    return xr.Dataset({"score": scores, **named, **{name: (dims[:3], v) for name, v in per_planted.items()}})


def _over_draws(index: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Mean and central 95% over the draws in which there is an index; NaN where there is none."""
    nowhere = ~np.isfinite(index).any(axis=-1)
    filled = np.where(nowhere[..., None], 0.0, index)
    found = (np.nanmean(filled, axis=-1), *np.nanquantile(filled, [0.025, 0.975], axis=-1))
    mean, low, high = (np.where(nowhere, np.nan, x) for x in found)
    return mean, low, high


def _wilson(share: Numbers, n: int) -> tuple[Numbers, Numbers]:
    """95% interval of a share of n draws (Wilson 1927)."""
    z2 = 1.959964**2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = np.sqrt(z2) / (1 + z2 / n) * np.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def _in_words(out: xr.Dataset, threshold: float, n_draws: int) -> xr.Dataset:
    """Say of each planted system, at the largest size, whether it would be found, and if not, why."""
    last = out.isel(n_stimuli=-1)
    words = [_verdict(last.sel(planted=name), str(name), threshold, n_draws) for name in out["planted"].values.tolist()]
    found = int((last["accuracy"].isel(n_neuroids=-1).values >= threshold).sum())
    answer = "yes" if found == len(words) else "no" if not found else f"for {found} of {len(words)} systems"
    size = f"{int(last['n_neuroids'][-1])} neuroids, {int(last['n_stimuli'])} stimuli, mean reliability {out.attrs['reliability']:.2f}"
    return out.assign(verdict=("planted", as_labels(words))).assign_attrs(
        verdict=f"Would this comparison know ({size})? {answer.capitalize()}."
    )


def _verdict(one: xr.Dataset, name: str, threshold: float, n_draws: int) -> str:
    n, now = int(one["n_neuroids"][-1]), one.isel(n_neuroids=-1)
    share = f"in {float(now['accuracy']):.0%} of {n_draws} draws with {n} neuroids"
    if float(now["accuracy"]) >= threshold:
        least = int(one["n_sufficient"])
        enough = f"; {least} would do" if least < n else ""
        index = [float(now[key]) for key in ("identifiability", "identifiability_low", "identifiability_high")]
        return f"{name} is found {share}{enough} (identifiability {index[0]:.2f}, {index[1]:.2f} to {index[2]:.2f})."
    others = now["confusion"].drop_sel(candidate=name)
    if not float(now["confusion"].sum()):
        return f"{name} cannot be told: no candidate has a score."
    rival = str(others["candidate"].values[int(others.values.argmax())])
    mean = now["score"].mean("draw")
    own, other = float(mean.sel(candidate=name)), float(mean.sel(candidate=rival))
    gap = float(abs(now["score"].sel(candidate=name) - now["score"].sel(candidate=rival)).mean())
    start = f"{name} cannot be told: it is found {share}, {rival} in {float(now['confusion'].sel(candidate=rival)):.0%}"
    if gap < _SAME:
        return (
            f"{start}, and the two score the same ({own:.3f}): this scorer sees no difference, however many neuroids there are."
        )
    rises = float(one["accuracy"][-1] - one["accuracy"][0]) > 0.1
    hint = "more neuroids help" if rises else "more stimuli, repeats or another scorer may help"
    return f"{start} (scores {own:.3f} and {other:.3f}); {hint}."
