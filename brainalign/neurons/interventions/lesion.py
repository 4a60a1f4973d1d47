"""``lesion``: what responses or scores lose without some units, the same for a network and for what a mapping reads from a brain."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, did_you_mean, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of, numbered, positions_among
from brainalign.engine.lesioning import balanced_accuracies, change, correlations, random_sets, through_origin
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import working_memory
from brainalign.engine.resample import false_discovery_rate, p_values
from brainalign.neurons.interventions.lesion_modes import MODES
from brainalign.neurons.interventions.lesioned_network import LesionedNetwork
from brainalign.neurons.interventions.lesioned_recording import LesionedRecording

_SETS = 64  # run at a time


def lesion(
    system: Any,
    stimuli: Any,
    *,
    units: Any,
    by: str | None = None,
    mode: str = "zero",
    factor: Any = 0.5,
    neuroid: Any = None,
    target: Any = None,
    freeze: Any = None,
    n_draws: int = 0,
    spared: Any = None,
    max_memory: float | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Take units out of a network, or recorded neuroids out of what a mapping reads, and say what that costs.

    Parameters
    ----------
    system : InnerResponder or fitted mapping
        A network, or a model of a recording (``readout``), whose inner units are lesioned while it responds; or a mapping fitted on
        recorded responses (:class:`Ridge`, :class:`Classifier`, a chain), of which recorded neuroids are lesioned.
    stimuli : Dataset or DataArray, (presentation[, neuroid])
        What the network sees; or the responses that the mapping reads.
    units : mapping, or sequence of str
        ``{layer: numbers}`` or ``{region: ids}``, None for all of one; or addresses ``"layer1/17"``, ``"V4/17"``. A unit of a network is
        taken out at all its places and tokens; of a module that is called several times, in the call that is named: ``"relu"`` is the
        first, ``"relu#2"`` the second.
    by : str, optional
        Another coordinate that tells units apart: ``"head"``, ``"token"``, ``"channel"`` ...
    mode : {"zero", "mean", "resample", "swap", "noise", "dampen"}
        What takes the place of what a unit holds: 0; its mean; what it holds on a random presentation, drawn for each unit; what all hold
        on one other presentation; itself with Gaussian noise of its standard deviation; itself times ``factor``.
    factor : float, or mapping of layer to one number for each unit
        Of ``"dampen"``. For AurA: ``1 - 2 * max(AUROC - 0.5, 0)``.
    neuroid : str, int, or sequence of them, optional
        Whose responses are looked at, as in :func:`attribute`; of a classifier, its classes. Default all.
    target : DataArray (presentation, neuroid), or str, optional
        What responses are scored against, by Pearson r; or a presentation coordinate, whose labels the neuroids stand for (by their
        ``neuroid_id``, or else in sorted order): the largest response is then the label, and the score the balanced accuracy. Default: no
        score but the mean absolute change.
    freeze : str or sequence of str, optional
        Layers that hold what they hold intact while the direct effect is measured: ``["heads.*", "mlp.*"]``.
    n_draws : int
        Lesions of as many random units: of the same layers of a network, or of all that was recorded.
    spared : mapping, or sequence of str, optional
        Units that random sets leave alone, as ``units``.
    max_memory : float, optional
        Bytes for copies that run at once.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over lesions of random units.

    Returns
    -------
    Dataset
        ``response`` and ``response_lesioned`` (presentation, neuroid). ``effect`` (neuroid), what the lesion costs: the score lost with a
        ``target``, with ``score`` and ``score_lesioned`` (accuracy is one number), else the mean absolute change. With
        draws ``effect_random`` (draw, neuroid), ``percentile``, ``p_value``, ``p_value_fdr``. With ``freeze`` ``total_effect`` and
        ``direct_effect``, mean signed changes, and ``repair_ratio``, the slope of total on direct changes over presentations: 1 without
        self-repair. The attr ``metric`` says what is scored; ``causal_scope`` is ``"model"``, or ``"virtual"`` where recorded neuroids are lesioned.

    Raises
    ------
    ParameterError
        No such unit, mode, neuroid or label.
    SchemaError
        A presentation without a label.
    AlignmentError
        A target of other presentations or neuroids.
    CapabilityError
        The system can neither be altered nor predict.

    Notes
    -----
    A lesion of recorded neuroids tests the fitted mapping, not the brain. Random sets may hold lesioned units: p is the share of all sets of
    that size. Sources: McGrath et al. 2023 (direct and total effect); Suau et al. 2024 (AurA).

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> values = rng.normal(size=(60, 8))
    >>> x = ba.responses(values, stimulus_id=range(60), neuroid_id=range(8), modality="fmri", system="sub-01", region=["V1"] * 4 + ["V4"] * 4)
    >>> y = ba.responses(values[:, :4].sum(1, keepdims=True), stimulus_id=range(60), neuroid_id=[0], modality="behaviour", system="sub-01")
    >>> model = ba.Ridge(alphas=[1.0]).fit(x, y)
    >>> out = ba.lesion(model, x, units={"V1": None}, mode="mean", target=y, n_draws=99, random_state=0)
    >>> out.attrs["causal_scope"], bool(out.score > 0.99), bool(out.score_lesioned < 0.5), bool(out.p_value < 0.1)
    ('virtual', True, True, True)
    """
    check_choice("mode", mode, MODES, owner="lesion")
    check_number("n_draws", n_draws, owner="lesion", low=0, integer=True)
    seed = check_random_state(random_state, owner="lesion")
    kind = LesionedRecording if isinstance(stimuli, xr.DataArray) else LesionedNetwork
    if kind is LesionedRecording and not hasattr(system, "predict"):
        raise CapabilityError(
            f"lesion got responses and a {type(system).__name__}, which has no `predict`. Expected a mapping fitted on them, or a stimulus "
            "table for a network."
        )
    subject = kind(system, stimuli, units, by, neuroid, mode, factor, seed)
    scored, along = _score(subject, target)
    lesioned = subject.run(subject.sets, max_memory)
    pair, labels = ("presentation", "neuroid"), {name: ("neuroid", values) for name, values in subject.coords.items()}
    labels |= {name: ("presentation", as_labels(subject.table[name].to_numpy())) for name in subject.table}
    out = xr.Dataset({"response": (pair, subject.intact), "response_lesioned": (pair, lesioned[0])}, coords=labels)
    if target is not None:
        (before,), (after,) = scored(subject.intact[None]), scored(lesioned)
        out["score"], out["score_lesioned"], effect = (along, before), (along, after), before - after
    else:
        before, (effect,) = 0.0, scored(lesioned)
    out["effect"] = (along, effect)
    if n_draws:
        sets = _random_sets(subject, spared, n_draws, seed)
        _against_random(out, along, _random_effects(subject, scored, before, target, sets, max_memory, progress))
    if freeze is not None:
        _add_repair(out, subject, lesioned[0], freeze)
    params = {"mode": mode, "units": _units(subject.sets), "n_draws": n_draws}
    params |= {"factor": factor} if mode == "dampen" else {}
    params |= {"spared": _units(subject.find(spared))} if spared is not None else {}
    out.attrs |= {
        "metric": "mean absolute change" if target is None else "pearson" if along else "balanced-accuracy",
        "mode": mode,
        "units": json.dumps(params["units"]),
        "n_lesioned": int(sum(x.sum() for x in subject.sets.values())),
    }
    out.attrs |= {"causal_scope": subject.causal_scope, "modality": subject.modality}
    inputs = {"stimuli": stimuli} | ({"target": target} if isinstance(target, xr.DataArray) else {})
    return write_step(out, "lesion", params=params | subject.description, inputs=inputs, seed=seed)


def _score(subject: Any, target: Any) -> tuple[Callable[[Numbers], Numbers], tuple[str, ...]]:
    """Return what scores responses (set, presentation, neuroid), and the dims of the scores."""
    if target is None:
        return lambda responses: change(responses, subject.intact), ("neuroid",)
    if isinstance(target, str):
        codes = _labels(subject, target)
        return lambda responses: balanced_accuracies(responses, codes), ()
    if not isinstance(target, xr.DataArray):
        raise ParameterError(
            f"lesion got a target of type {type(target).__name__}. Expected responses (presentation, neuroid), made with `ba.responses`, or "
            "the name of a presentation coordinate."
        )
    truth = _matched(subject, target)
    return lambda responses: correlations(responses, truth), ("neuroid",)


def _labels(subject: Any, name: str) -> Numbers:
    if name not in subject.table:
        raise ParameterError(
            f"lesion got target={name!r}. Expected a presentation coordinate, one of {preview(subject.table.columns, 8)}, or responses."
            f"{did_you_mean(name, list(subject.table.columns))}"
        )
    codes, classes = numbered(subject.table[name].to_numpy(), name, "presentation")
    if len(classes) != subject.intact.shape[1]:
        raise ParameterError(
            f"lesion got target={name!r} of {len(classes)} labels ({preview(classes)}) and {subject.intact.shape[1]} neuroids. Expected a "
            "neuroid for each label, of its name or else in their sorted order: choose them with `neuroid=`."
        )
    names = [str(own) for own in subject.coords["neuroid_id"].tolist()]
    at = np.array([names.index(str(label)) if names.count(str(label)) == 1 else -1 for label in classes])
    if (at < 0).any():  # not named by the labels
        at = np.argsort(np.argsort(classes))
    return np.asarray(at[codes])


def _matched(subject: Any, target: xr.DataArray) -> Numbers:
    ids = subject.table["stimulus_id"].to_numpy().astype(object)
    if not np.array_equal(ids, target["stimulus_id"].values.astype(object)):
        raise AlignmentError(
            f"lesion got a target of {target.sizes['presentation']} presentations ({preview(target['stimulus_id'].values)}) for {len(ids)} "
            f"({preview(ids)}). Expected the same in the same order: `ba.align`, or `target.sel` them."
        )
    at = positions_among(subject.coords, coords_of(target, "neuroid"))
    if (at < 0).any():
        raise AlignmentError(
            f"lesion got a target without neuroids {preview(subject.coords['neuroid_id'][at < 0])}, or with several of that name. Expected those "
            "that respond, by `neuroid_id` (and layer or region, where several have it): choose them with `neuroid=`."
        )
    return np.asarray(target.values[:, at], dtype=np.float64)


def _random_sets(subject: Any, spared: Any, n_draws: int, seed: int) -> dict[str, Numbers]:
    """Draw as many random units of each layer."""
    kept = {} if spared is None else subject.find(spared)
    free = {layer: ~kept.get(layer, np.zeros_like(some))[0] for layer, some in subject.sets.items()}
    left = {layer: int(free[layer].sum() - some.sum()) for layer, some in subject.sets.items()}
    if min(left.values()) < 0 or not any(left.values()):
        raise ParameterError(
            f"lesion got n_draws={n_draws} and units that leave {left} to draw from. Expected some in any layer and none below 0, for random "
            "sets to differ: pass n_draws=0, or lesion or spare fewer."
        )
    rng = np.random.default_rng(seed + 1)
    return {layer: random_sets(free[layer], int(some.sum()), n_draws, rng) for layer, some in subject.sets.items()}


def _random_effects(
    subject: Any,
    scored: Callable[[Numbers], Numbers],
    before: Any,
    target: Any,
    sets: Mapping[str, Numbers],
    max_memory: float | None,
    progress: bool | None,
) -> Numbers:
    """Return the effects of several lesions, (draw, ...), some at a time."""
    room = working_memory(subject.intact, max_memory)
    n, step = len(next(iter(sets.values()))), max(1, min(_SETS, int(room // (4 * subject.intact.nbytes))))
    starts = progress_bar(range(0, n, step), progress=progress, desc="random lesions")
    found = [scored(subject.run({k: rows[at : at + step] for k, rows in sets.items()}, max_memory)) for at in starts]
    scores = np.concatenate(found)
    return scores if target is None else before - scores


def rounding(out: xr.Dataset) -> Any:
    """Return by how much effects of the same units may differ, for passes of other numbers of rows: those of random sets count as alike.

    Parameters
    ----------
    out : Dataset
        Of :func:`lesion`.

    Returns
    -------
    float, or ndarray (neuroid,)
    """
    return 1e-6 * (1.0 if "score" in out else np.abs(out["response"].values).mean(axis=0))


def _against_random(out: xr.Dataset, along: tuple[str, ...], null: Numbers) -> None:
    effect = out["effect"].values - rounding(out)
    p = p_values(effect, null)
    out["effect_random"] = (("draw", *along), null)
    out["percentile"] = (along, np.where(np.isnan(effect), np.nan, 100.0 * (null < effect).mean(axis=0)))
    out["p_value"], out["p_value_fdr"] = (along, p), (along, false_discovery_rate(np.atleast_1d(p)).reshape(p.shape))


def _add_repair(out: xr.Dataset, subject: Any, lesioned: Numbers, freeze: Any) -> None:
    total, direct = lesioned - subject.intact, subject.direct(freeze) - subject.intact
    out["total_effect"], out["direct_effect"] = ("neuroid", total.mean(axis=0)), ("neuroid", direct.mean(axis=0))
    out["repair_ratio"] = ("neuroid", through_origin(total, direct))


def _units(sets: Mapping[str, Numbers]) -> dict[str, list[int]]:
    return {layer: np.flatnonzero(some[0]).tolist() for layer, some in sets.items()}
