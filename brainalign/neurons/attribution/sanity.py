"""Whether an attribution depends on what the network learned: weights are drawn anew from the output down, and labels permuted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.progress import progress_bar, without_bar
from brainalign.core.protocols import seeded
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.engine.agreement import rank_correlations
from brainalign.features.record import record
from brainalign.neurons.attribution.attribute import attribute
from brainalign.neurons.labelling import rows_of


def sanity_check(
    responder: Any,
    stimuli: xr.Dataset,
    *,
    verb: Callable[..., xr.DataArray] = attribute,
    target: xr.DataArray | None = None,
    threshold: float = 0.5,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Attribute again while the network loses what it learned, module by module from the output down, and compare the maps.

    Parameters
    ----------
    responder : responder
        A network that can be had ``untrained``, or a ``readout`` of one, whose mapping stays as it is.
    stimuli : Dataset, (presentation,)
    verb : callable
        ``verb(responder, stimuli, **options)`` gives attributions, (presentation, neuroid, ...): :func:`attribute`, or another.
    target : DataArray, (presentation, neuroid), optional
        Of a ``readout``: what its mapping was fitted on. It is then also fitted to the target with its stimuli exchanged, behind the network
        as it is.
    threshold : float
        From which similarity on a map is the same.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over modules.
    **options
        Of ``verb``, such as ``neuroid`` and ``method``.

    Returns
    -------
    Dataset
        ``similarity`` (stage, neuroid), Spearman's correlation of the sizes of the maps with those of the trained network, a mean over presentations;
        ``score`` (neuroid), 1 less the similarity of the last stage of weights, at which all are random: 1 where the map is another, 0 where it
        is the same; and ``passed`` (neuroid), whether each of the last stages lies below the threshold. The coordinate ``stage``
        names the module whose weights were drawn last, or ``"permuted labels"``.

    Raises
    ------
    CapabilityError
        The network cannot be had untrained; a target, and no ``readout``.

    Notes
    -----
    A map of the input alone, such as its edges, stays what it is and fails. One that multiplies with the input keeps some similarity.
    Source: Adebayo et al. 2018.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> layers = torch.nn.Linear(30, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)
    >>> net = ba.TorchResponder(torch.nn.Sequential(*layers), layers="2", system="net")
    >>> x = ba.stimuli.table(np.random.default_rng(0).normal(size=(5, 30)), stimulus_id=list("abcde"), kind="array")
    >>> out = ba.neurons.sanity_check(net, x, method="gradient", random_state=0)
    >>> out.stage.values.tolist(), bool(out.passed.all())
    (['2', '0'], True)
    """
    check_number("threshold", threshold, owner="sanity_check", low=0.0, high=1.0)
    seed = check_random_state(random_state, owner="sanity_check")
    responder = seeded(responder)
    network = responder.backbone if hasattr(responder, "with_backbone") else responder
    if not hasattr(network, "untrained"):
        raise CapabilityError(
            f"sanity_check got a {type(network).__name__}, which has no method `untrained`. Expected a TorchResponder, a TransformersResponder or "
            "a readout of one."
        )
    if target is not None and not hasattr(responder, "refitted"):
        raise CapabilityError(
            f"sanity_check got target= for a {type(responder).__name__}, behind which no mapping was fitted that labels could be permuted for. "
            "Expected what `ba.readout(network, mapping)` returns: leave target out, and weights alone are drawn anew."
        )
    fresh = int(np.random.SeedSequence(seed).generate_state(1)[0])  # not the seed that the network itself may have been made with
    verb = without_bar(verb)
    first = verb(responder, stimuli, **options)
    trained = _sizes(first)
    drawn: list[str] = []
    stages, found = [], []
    for module in progress_bar(network.weighted_modules()[::-1], progress=progress, desc="modules"):
        drawn.append(module)
        other = network.untrained(fresh, modules=drawn)
        other = responder.with_backbone(other) if network is not responder else other
        found.append(_similarity(trained, verb(other, stimuli, **options)))
        stages.append(module)
    at_last = len(stages) - 1
    if target is not None:
        order = rows_of(target, "stimulus_id", None, owner="sanity_check").orders(1, np.random.default_rng(seed))[0]
        other = responder.refitted(record(network, stimuli, progress=False), target.copy(data=target.values[order]))
        found.append(_similarity(trained, verb(other, stimuli, **options)))
        stages.append("permuted labels")
    similarity = np.stack(found)
    labels = {name: ("neuroid", values) for name, values in coords_of(first, "neuroid").items()}
    columns = {"similarity": (("stage", "neuroid"), similarity), "score": ("neuroid", 1.0 - similarity[at_last]),
               "passed": ("neuroid", (similarity[at_last:] < threshold).all(axis=0))}  # fmt: skip
    out = xr.Dataset(columns, coords={"stage": as_labels(stages), **labels}, attrs={"threshold": threshold})
    return write_step(out, "sanity_check", params={"threshold": threshold}, inputs={"attribution": first}, seed=seed)


def _sizes(attribution: xr.DataArray) -> Any:
    values = np.abs(attribution.transpose("presentation", "neuroid", ...).values.astype(np.float64))
    return values.reshape(*values.shape[:2], -1)


def _similarity(trained: Any, other: xr.DataArray) -> Any:
    """Return the mean over presentations; NaN where a map is constant in all of them."""
    found = rank_correlations(trained, _sizes(other))
    known = ~np.isnan(found)
    n = known.sum(axis=0)
    return np.where(n > 0, np.where(known, found, 0.0).sum(axis=0) / np.maximum(n, 1), np.nan)
