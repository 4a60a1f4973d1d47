"""``attribute``: which parts of a stimulus, or units of a layer, drive a neuroid, the same for a unit and for a voxel.

A responder gives differentiable *pieces*; each is asked by a method (:mod:`brainalign.neurons.attribution.methods`), and what is
found is added up over the pieces that contribute to a presentation.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError, WeakMappingWarning
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.protocols import DifferentiableResponder, InnerResponder, Responder, seeded
from brainalign.dataset.writing import asked_before
from brainalign.features.recorded import as_stimuli
from brainalign.neurons.addresses import find_neuroids
from brainalign.neurons.attribution.blackbox import BLACKBOX
from brainalign.neurons.attribution.domains import Domain
from brainalign.neurons.attribution.inputs import Baseline
from brainalign.neurons.attribution.methods import METHODS
from brainalign.neurons.attribution.nulls import Null, with_null
from brainalign.neurons.attribution.pieces import Asked
from brainalign.neurons.attribution.plain import PlainResponder
from brainalign.neurons.attribution.tiles import Job, attribute_in_store

ALL_METHODS = {**METHODS, **BLACKBOX}
MODES = ("auto", "vjp", "jvp")


def attribute(
    responder: Any,
    stimuli: xr.Dataset | xr.DataArray,
    *,
    neuroid: Any = None,
    method: str = "integrated-gradients",
    wrt: str | Iterable[str] = "input",
    presentations: Any = None,
    baseline: Any = None,
    n_steps: int = 16,
    groups: Any = None,
    domain: Any = None,
    null: str | None = None,
    n_permutations: int = 199,
    target: xr.DataArray | None = None,
    mode: str = "auto",
    max_memory: int | None = None,
    store: str | os.PathLike[str] | None = None,
    resume: bool = True,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.DataArray:
    """Attribute responses of neuroids to the parts of the stimuli, or to the units of inner layers, that drive them.

    Parameters
    ----------
    responder : DifferentiableResponder
        A network layer (``TorchResponder``, ``TransformersResponder``), or a model of a recording (``readout``). With a method that only
        asks for responses, any Responder to arrays.
    stimuli : Dataset, (presentation,), or DataArray, (presentation, neuroid[, time])
        What is shown; responses, where the responder is the ``readout`` of a recording: which recorded neuroids, and when, drive a class
        or another system as a mapping predicts it.
    neuroid : str, int, or sequence of them, optional
        ``neuroid_id`` values, or addresses ``"group/id"`` such as ``"layer.3/17"``. Default all.
    method : str
        ``"integrated-gradients"``: gradients averaged from the baseline to the stimulus, times their difference.
        ``"expected-gradients"``: the same over baselines and points that are drawn. ``"gradient-times-input"``: the gradient at the
        stimulus times its difference from the baseline, exact for a linear responder. ``"gradient"``: the gradient itself.
        ``"conductance"``: what flows through each unit of the layers ``wrt`` as the input goes from the baseline to the stimulus.
        Without gradients: ``"occlusion"``, what is lost where a group alone is as in the baseline; ``"shapley"``, its mean loss over
        orders in which groups come in; ``"sobol"``, its total share of the variance of the response between baseline and stimulus.
    wrt : str or sequence of str
        ``"input"``, or names or globs of inner layers (``responder.inner_layers()``): attributions are then to their units, of text
        summed over tokens. Several layers cost one path with ``"conductance"``.
    presentations : sequence of int, optional
        Positions of the responses to explain, which come in the order of the stimuli; default all.
    baseline : {"zero", "mean", "presentations", "silent"}, array or callable, optional
        What a stimulus is compared with: a continuous input of zeros; the mean input over the stimuli; other presentations, drawn
        (the default of ``"expected-gradients"`` only, ``"zero"`` is that of all others; methods of one path draw one); an input; or a
        function from a batch of inputs to their baselines. Layers start from what they answer to it, or, ``"silent"``, from zeros.
        Positions that belong to no stimulus (special tokens) stay as they are. A network that normalises its input first (a layer norm
        of embeddings) answers the same all along a line from zero, and nearly all of the change lies at its start: use ``"mean"`` or
        ``"presentations"`` there.
    n_steps : int
        Gauss-Legendre nodes of integrated gradients, draws of expected gradients, intervals of conductance, permutations of Shapley
        values (all sets, where these are no more), points of Sobol indices (a power of two).
    groups : str, mapping, DataArray or array_like, optional
        Over what attributions are summed, or what is there and not there together: a dim or coordinate of the input (``"channel"``; of
        recordings ``"region"``, ``"time"``); sizes of blocks, ``{"y": 8, "x": 8}``; bands of frequencies, ``"bands"`` or
        ``{"alpha": (8, 13)}`` in Hz; or a label for each element of an input, where a DataArray may have some of its dims only.
    domain : {"frequency"}, DataArray, array_like or scikit-learn transformer, optional
        Coordinates in which an input is attributed to: frequencies over its time; or components z of ``x = mixing @ z``, given
        as the mixing matrix (feature, component) or a fitted PCA or FastICA. What no component holds stays as it is.
    null : {"permutation", "phase", "random-network"}, optional
        Compare where the map points with chance. Of a ``readout``: its mapping is fitted anew, penalties and all, to ``target`` with its
        stimuli exchanged (in time: each run shifted in a circle), or with the phases of its frequencies turned. Of a unit, and of a
        ``readout``: the network is ``untrained``, and its mapping fitted to what it then says.
    n_permutations : int
        Draws. The p of n of them is no lower than 1 / (n + 1).
    target : DataArray, (presentation, neuroid), optional
        The responses that the mapping of a ``readout`` was fitted on, to some or all of the stimuli; for its null.
    mode : {"auto", "vjp", "jvp"}
        Backwards, one pass for each neuroid (or feature of a readout); or forwards, one for each group, where there are any. By
        default the cheaper, tried out. The numbers are the same.
    max_memory : int, optional
        Bytes for what is worked with; what does not fit at once goes in portions.
    store : path, optional
        A study, made where there is none: attributions are worked out a tile of presentations (and neuroids) at a time, each kept as
        soon as it is there; a call that was interrupted goes on where it stopped.
    resume : bool
        False where the store must not have attributions yet. Those that were asked for with other arguments are never continued.
    random_state : int, Generator or None
        For baselines and nulls that are drawn.
    progress : bool or None
        Show a progress bar, and one over draws of a null. None: on a terminal or in a notebook, once it takes more than five seconds.

    Returns
    -------
    DataArray, (presentation, neuroid, part), (presentation, neuroid, dims of the input), (..., group) or (..., unit)
        With a store lazy, if it takes more than 8 MB. float32, in the unit of the response (for ``"gradient"``: per unit of input). Word
        and sentence stimuli, and any stimulus under a chain that mixes presentations, are summed over the embedding or the pixels: ``part`` runs over the rows of ``stimuli``.
        Coordinates ``response``, ``baseline_response`` and ``completeness_error`` (presentation, neuroid) say how far the attributions
        fail to add up to the difference of the two responses; the attr ``completeness_error`` is the largest of them relative to the
        largest such difference. Beside Shapley values stands their ``standard_error``, beside total Sobol indices (NaN where a response does not
        vary) the ``first_order`` ones. Units carry ``unit_layer`` and ``unit_id``; the attr ``through_flow`` (JSON) says which share of the
        difference each layer accounts for, 1 where all of it goes through the layer. ``mapping_score`` (neuroid) is the held-out score
        of the mapping behind a ``readout``. With a null, coordinates (neuroid, ...): ``share``, the ``|attribution|`` of a part over that of
        all parts, averaged over presentations; its interval ``ci_low`` to ``ci_high`` (95%, presentations drawn with replacement by
        stimulus, or in time in stretches of 20 s; NaN of a single one); and ``p_value``, ``p_value_fdr`` and ``p_value_max`` (for all
        parts and neuroids together), how often chance gives a part as large a share.

    Raises
    ------
    CapabilityError
        The responder cannot be differentiated, has no such layers to read, or an operation has no forward mode; a domain or groups
        of inputs that stimuli share.
    ParameterError
        No such neuroid, method, baseline, layer, presentation, group or domain; groups that do not cover the input; too little memory.
    SchemaError
        Stimuli or recorded values that are NaN or infinite.
    StoreError
        The store has other attributions, is being written, or is damaged.

    Warns
    -----
    WeakMappingWarning
        A readout's mapping predicts a neuroid no better than nothing, or nobody knows.

    Notes
    -----
    ``A = (x - x') * integral over a in [0, 1] of dy/dx at x' + a (x - x')``; summed over the input this is ``y(x) - y(x')``.
    Source: Sundararajan, Taly and Yan 2017, equation 1; expected gradients: Erion et al. 2021, equation 3; conductance: Dhamdhere,
    Sundararajan and Yan 2019, equation 2, here by the trapezoid rule. Of frequencies z the terms are ``Re(conj(dy/dz) * (z - z'))``.
    Shapley values: Castro, Gomez and Tejada 2009; Sobol indices: Jansen 1999, Saltelli et al. 2010. Of a sum of two to eight groups
    total Sobol indices are off by .04 to .07 (root mean square) with 16 points, first-order ones by .13 to .19; with 64 by no more than
    .01 and .03.

    Through a ``readout`` it explains the fitted model of a neuroid; ``causal_scope`` is then still ``"model"``, and ``"virtual"`` where
    recorded neuroids are what is attributed to. Its features are attributed once, and their attributions go through its weights:
    exact, for one voxel or for all.

    A share has no unit, so that maps of other weights can be compared; it asks where a map points, not whether a mapping predicts
    anything: where all parts matter alike none has more than chance, and ``mapping_score`` is what speaks.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh()), layers="1", system="net")
    >>> images = ba.stimuli.table(np.eye(5, dtype="float32"), stimulus_id=list("abcde"), kind="array")
    >>> a = ba.attribute(net, images, neuroid=[0, 2])
    >>> a.sizes["presentation"], a.sizes["neuroid"], a.attrs["completeness_error"] < 1e-5
    (5, 2, True)
    """
    check_choice("method", method, tuple(ALL_METHODS), owner="attribute")
    check_choice("mode", mode, MODES, owner="attribute")
    check_number("n_steps", n_steps, owner="attribute", low=1, integer=True)
    if max_memory is not None:
        check_number("max_memory", max_memory, owner="attribute", low=1, integer=True)
    before = asked_before(store, "attribute") if random_state is None and store is not None else None
    seed = check_random_state((before or {}).get("random_state", random_state), owner="attribute")
    given, stimuli = stimuli, as_stimuli(stimuli)
    how = ALL_METHODS[method]
    responder = _in_pieces(seeded(responder), method)
    chance = None if null is None else Null(null, n_permutations, seed, responder, given, target, neuroid, max_memory)
    if chance is not None:
        chance.check("attribute")
    layers = _layers(responder, wrt, method)
    _refuse_with_layers(layers, groups=groups, domain=domain)
    columns, coords = find_neuroids(responder.neuroids(stimuli), neuroid, owner="attribute")
    coords.setdefault("system", np.full(len(columns), responder.system, dtype=np.dtypes.StringDType()))
    coords |= _scores(responder, columns, coords["neuroid_id"])
    table = responder.presentations(stimuli)
    to = None if domain is None else Domain(domain, stimuli.attrs.get("sampling_rate_hz"))
    n_draws = 1 if how.one_start else n_steps
    start = Baseline(how.baseline if baseline is None else baseline, responder, stimuli, n_draws=n_draws, seed=seed)
    asked = Asked(responder, how, start, columns, n_steps, mode, max_memory, seed, layers, groups, to)
    params = {"method": method, "baseline": start.label, "n_steps": n_steps, "wrt": ", ".join(layers) or "input"}
    params |= {} if to is None else {"domain": to.key}
    job = Job(asked, stimuli, coords, table, params, progress)
    rows = _rows(presentations, len(table))
    if store is None:
        out, tally = job.tile(rows, slice(None))
        found = job.finished(out, [tally])
    else:
        found = attribute_in_store(job, rows, store, resume=resume)
    if chance is None:
        return found
    options = {"method": method, "wrt": layers or "input", "presentations": rows, "baseline": baseline, "n_steps": n_steps, "groups": groups,
               "domain": domain, "mode": mode, "max_memory": max_memory, "random_state": seed, "progress": False}  # fmt: skip
    again = partial(attribute, stimuli=stimuli, **options)
    return with_null(found, lambda other, names: again(other, neuroid=names), chance, owner="attribute", progress=progress)


def _in_pieces(responder: Any, method: str) -> Any:
    if method in BLACKBOX and isinstance(responder, Responder) and not isinstance(responder, DifferentiableResponder):
        return PlainResponder(responder)
    if not isinstance(responder, DifferentiableResponder):
        raise CapabilityError(
            f"attribute got a {type(responder).__name__}, which has no `pieces`. Expected a responder with gradients: a "
            "TorchResponder, a TransformersResponder or what `ba.readout` returns; of a mapping that reads a recording, `ba.readout(recording, "
            "mapping)`; without gradients, method='occlusion', 'shapley' or 'sobol'."
        )
    return responder


def _layers(responder: Any, wrt: Any, method: str) -> tuple[str, ...]:
    if isinstance(wrt, str) and wrt == "input":
        if method == "conductance":
            raise ParameterError(
                "attribute got method='conductance' and wrt='input'. Expected inner layers, whose units conduct: pass wrt='h.3', several, or a "
                "glob. Of the input itself it is 'integrated-gradients'."
            )
        return ()
    if not isinstance(responder, InnerResponder):
        raise CapabilityError(
            f"attribute got wrt={wrt!r} for a {type(responder).__name__}, which has no inner layers. Expected `reading` and `altering`, as of "
            "ba.TorchResponder, ba.TransformersResponder or ba.readout."
        )
    names = wrt if isinstance(wrt, Iterable) and not isinstance(wrt, str) else [wrt]
    layers = tuple(responder.inner_layers([str(name) for name in names]))
    if not layers:
        raise ParameterError(
            f"attribute got no layers in wrt={wrt!r}. Expected 'input', or at least one name or glob of an inner layer."
        )
    return layers


def _refuse_with_layers(layers: tuple[str, ...], **of_inputs: Any) -> None:
    given = [name for name, value in of_inputs.items() if value is not None]
    if layers and given:
        raise ParameterError(
            f"attribute got {given[0]}=, which is of inputs, and wrt={', '.join(layers)!r}. Expected wrt='input', or no {given[0]}: attributions "
            "to units are summed by `a.groupby('unit_...')`."
        )


def _scores(responder: Any, columns: np.ndarray[Any, Any], names: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Return what is known of how well a mapping predicts the neuroids, and warn of those that it does not."""
    known = {name: np.asarray(values)[columns] for name, values in getattr(responder, "scores", {}).items()}
    if "mapping_score" in known:
        weak = ~(known["mapping_score"] > 0)
        if "mapping_p_value" in known:
            weak |= ~(known["mapping_p_value"] < 0.05)
        if weak.any():
            warnings.warn(
                f"attribute explains models of {int(weak.sum())} of {len(weak)} neuroids, first {str(names[weak][0])!r}, that have no held-out score "
                "above chance: what drives such a model need not drive the neuroid. Look at `mapping_score`, or pass `ba.readout(..., "
                "scores=ba.evaluate(...))`.",
                WeakMappingWarning,
                stacklevel=3,
            )
    return known


def _rows(presentations: Any, n: int) -> np.ndarray[Any, Any]:
    if presentations is None:
        return np.arange(n)
    rows = np.atleast_1d(np.asarray(presentations))
    if rows.dtype.kind not in "iu" or rows.size == 0 or rows.min() < 0 or rows.max() >= n:
        raise ParameterError(f"attribute got presentations={preview(rows)}. Expected positions between 0 and {n - 1}.")
    return np.unique(rows)
