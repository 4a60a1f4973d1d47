"""How far an attribution moves where its input barely does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.progress import progress_bar, without_bar
from brainalign.core.protocols import DifferentiableResponder, Piece, seeded
from brainalign.core.provenance import write_step
from brainalign.core.tables import coords_of
from brainalign.engine.agreement import cosines, kendall_tau_b, relative_changes, top_overlap
from brainalign.neurons.attribution.attribute import attribute
from brainalign.neurons.attribution.inputs import check_continuous


def stability(
    responder: Any,
    stimuli: xr.Dataset,
    *,
    verb: Callable[..., xr.DataArray] = attribute,
    radius: float = 0.02,
    n_draws: int = 10,
    k: int = 10,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
    **options: Any,
) -> xr.Dataset:
    """Attribute again where inputs were moved a little, and say how much attributions changed at most.

    Parameters
    ----------
    responder : DifferentiableResponder
    stimuli : Dataset, (presentation,)
    verb : callable
        ``verb(responder, stimuli, **options)`` gives attributions, (presentation, neuroid, ...): :func:`attribute`, or another.
    radius : float
        How far each element of an input (pixel, sample, dimension of an embedding) moves at most, in its own unit.
    n_draws : int
        Moves, each uniform within the radius.
    k : int
        Parts that are compared as the highest.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over draws.
    **options
        Of ``verb``, such as ``neuroid`` and ``method``.

    Returns
    -------
    Dataset
        The worst of all draws, (presentation, neuroid): ``score``, the cosine of the attributions before and after; ``kendall``, their
        rank correlation τ_b; ``top_overlap``, the share of the k highest sizes that stay among them; and ``sensitivity``, the length of the change
        beside that of the attribution (lower is better). NaN where an attribution is 0.

    Raises
    ------
    CapabilityError
        A responder whose inputs cannot be moved.

    Notes
    -----
    Sources: Yeh et al. 2019, definition 2.2 (sensitivity); Ghorbani, Abid and Zou 2019 (ranks and the highest parts). Draws find a change that
    is there, not the largest possible one.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 3)), layers="0", system="net")
    >>> x = ba.stimuli.table(np.random.default_rng(0).normal(size=(5, 6)), stimulus_id=list("abcde"), kind="array")
    >>> out = ba.neurons.stability(net, x, method="gradient", k=3, random_state=0)
    >>> float(out.score.min().round(4)), float(out.sensitivity.max())
    (1.0, 0.0)
    """
    check_number("radius", radius, owner="stability", low=0.0)
    for name, number in (("n_draws", n_draws), ("k", k)):
        check_number(name, number, owner="stability", low=1, integer=True)
    seed = check_random_state(random_state, owner="stability")
    if not isinstance(responder, DifferentiableResponder):
        raise CapabilityError(
            f"stability got a {type(responder).__name__}, which has no `pieces`. Expected a responder with gradients, whose inputs can be moved."
        )
    verb = without_bar(verb)
    first = verb(responder := seeded(responder), stimuli, **options)
    before = _flat(first)
    worst = {"score": np.full(before.shape[:2], np.inf)}
    worst |= {"kendall": worst["score"].copy(), "top_overlap": worst["score"].copy(), "sensitivity": -worst["score"]}
    for draw in progress_bar(range(n_draws), progress=progress, desc="draws"):
        after = _flat(verb(_moved(responder, radius, [seed, draw]), stimuli, **options))
        found = {"score": cosines(before, after), "kendall": kendall_tau_b(before, after)}
        found["top_overlap"] = top_overlap(before, after, min(k, before.shape[-1]))
        for name, values in found.items():
            worst[name] = np.minimum(worst[name], values)
        worst["sensitivity"] = np.maximum(worst["sensitivity"], relative_changes(before, after))
    labels = {name: (dim, v) for dim in ("presentation", "neuroid") for name, v in coords_of(first, dim).items()}
    pair = ("presentation", "neuroid")
    out = xr.Dataset({name: (pair, values) for name, values in worst.items()}, coords=labels)
    out.attrs = params = {"radius": radius, "n_draws": n_draws, "k": k}
    return write_step(out, "stability", params=params, inputs={"attribution": first}, seed=seed)


def _flat(attribution: xr.DataArray) -> Any:
    values = attribution.transpose("presentation", "neuroid", ...).values.astype(np.float64)
    return values.reshape(*values.shape[:2], -1)


def _moved(responder: Any, radius: float, seed: Sequence[int]) -> Any:
    """Return a responder whose inputs are moved; what is no stimulus stays where it is."""
    other, pieces = copy.copy(responder), responder.pieces

    def move(number: int, piece: Piece) -> Piece:
        check_continuous(piece.inputs, owner="stability")
        generator = torch.Generator().manual_seed(int(np.random.SeedSequence([*seed, number]).generate_state(1)[0]))
        step = (2 * torch.rand(piece.inputs.shape, generator=generator, dtype=torch.float64) - 1) * radius
        if piece.parts is not None:
            inside = torch.as_tensor(np.asarray(piece.parts) >= 0)
            step = step * inside.reshape(*inside.shape, *[1] * (step.ndim - inside.ndim))
        inputs = piece.inputs.detach() + step.to(piece.inputs)
        features = piece.features and replace(piece.features, piece=replace(piece.features.piece, inputs=inputs))
        return replace(piece, inputs=inputs, features=features)

    other.pieces = lambda stimuli, rows=None: [move(i, piece) for i, piece in enumerate(pieces(stimuli, rows))]
    return other
