"""One piece of a responder, asked: at its inputs or at inner layers, and through the features of a readout where that is less work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from brainalign.core.errors import CapabilityError
from brainalign.core.protocols import Features, Piece
from brainalign.engine.attribution import NoGradient, System
from brainalign.engine.parallel import working_memory
from brainalign.neurons.attribution.groups import find_groups
from brainalign.neurons.attribution.inputs import Baseline, Starts, check_continuous
from brainalign.neurons.attribution.methods import Method, Question, conductances
from brainalign.neurons.nodes import check_rows, parts_late, read_layers


@dataclass(frozen=True)
class Asked:
    """What ``attribute`` asks of every piece.

    Attributes
    ----------
    responder : DifferentiableResponder
    method : Method
    baseline : Baseline
    columns : ndarray of int, (neuroid,)
    n_steps, mode, max_memory, seed
        As in :class:`Question`.
    layers : tuple of str
        Inner layers that are attributed to; empty: the inputs.
    groups : object
        Of input elements; None: none.
    domain : Domain or None
        Coordinates in which inputs are attributed to.
    known : dict
        Bytes that passes take, by layer.
    labels : dict
        Coordinates of units, by layer and shape: those of one piece are those of the next.
    """

    responder: Any
    method: Method
    baseline: Baseline
    columns: np.ndarray[Any, Any]
    n_steps: int
    mode: str
    max_memory: int | None
    seed: int
    layers: tuple[str, ...] = ()
    groups: Any = None
    domain: Any = None
    known: dict[str, dict[Any, int]] = field(default_factory=dict)
    labels: dict[Any, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """Attributions of some rows of a piece, to its inputs or to one layer.

    Attributes
    ----------
    values : Tensor of float64, (row, neuroid, ...)
    dims : tuple of str
        Names of the dims after ``neuroid``.
    at : ndarray of int or None
        Where the entries of the only such dim belong among the stimuli.
    labels : dict of str to ndarray, or to dims and an ndarray
        Coordinates of the only such dim, or of some of them.
    responses : Tensor of float64, (2, row, neuroid)
        At the baseline and at the inputs.
    layer : str
        Empty: the inputs.
    shape : tuple of int
        Of the dims after ``neuroid``, where values come in one for all of them.
    beside : dict of str to Tensor
        What stands beside the values, of their shape.
    """

    values: torch.Tensor
    dims: tuple[str, ...]
    at: np.ndarray[Any, Any] | None
    labels: dict[str, Any]
    responses: torch.Tensor
    layer: str = ""
    shape: tuple[int, ...] = ()
    beside: dict[str, torch.Tensor] = field(default_factory=dict)


def ask(asked: Asked, piece: Piece, rows: np.ndarray[Any, Any]) -> Iterator[Found]:
    """Yield the attributions of some rows of a piece, to the inputs or to each layer.

    Parameters
    ----------
    asked : Asked
    piece : Piece
    rows : ndarray of int
        Positions among the piece's own rows.

    Yields
    ------
    Found
    """
    outputs, chosen = torch.as_tensor(asked.columns), torch.as_tensor(rows)
    features = _less_work(asked, piece, chosen)
    if features is None:
        yield from _answers(asked, piece, outputs, chosen)
        return
    own = torch.arange(len(features.piece.rows))
    responses = [question.responses() for question, _ in _questions(asked, piece, outputs, chosen)]
    for found in _answers(asked, features.piece, torch.arange(features.n), own, responses):
        dtype = torch.promote_types(piece.inputs.dtype, torch.float32)  # of the responses
        values = features.linear(found.values.to(dtype).movedim(1, -1), asked.columns)
        yield replace(found, values=values.movedim(-1, 1)[chosen])


def holds_no_stimulus(piece: Piece) -> bool:
    """Return whether a piece is what rows hold whatever the stimuli.

    Parameters
    ----------
    piece : Piece

    Returns
    -------
    bool
    """
    return piece.parts is not None and bool((np.asarray(piece.parts) < 0).all())


def _less_work(asked: Asked, piece: Piece, rows: torch.Tensor) -> Features | None:
    """Return the features of a readout where they are fewer than what is asked of it, and their attributions fit into memory."""
    features = piece.features
    if features is None or not asked.method.linear:
        return None
    shared = piece.parts is not None  # rows share inputs: each is a pass of its own
    n_inner = features.n * (len(features.piece.rows) if shared else 1)
    n_outer = len(asked.columns) * (len(rows) if shared else 1)
    n_bytes = 8 * len(features.piece.rows) * features.n * (1 if shared or asked.groups is not None else piece.inputs[0].numel())
    room = working_memory(piece.inputs) if asked.max_memory is None else asked.max_memory / 4
    return features if n_inner < n_outer and n_bytes <= room else None


def _answers(
    asked: Asked, piece: Piece, outputs: torch.Tensor, rows: torch.Tensor, known: list[torch.Tensor] | None = None
) -> Iterator[Found]:
    """Yield answers, with responses that are known already, one for each question, or with those of the outputs."""
    for i, (question, found) in enumerate(_questions(asked, piece, outputs, rows)):
        try:
            answer = asked.method.answer(question)
        except NoGradient as error:
            raise CapabilityError(
                f"attribute got a {type(asked.responder).__name__} whose {error}. Expected differentiable operations, outside of inference "
                "mode; or method='occlusion', 'shapley' or 'sobol', which take no gradients."
            ) from error
        values, beside, *ends = answer if isinstance(answer, tuple) else (answer, {})
        responses = known[i] if known else ends[0] if ends else question.responses()
        by_layer = values if isinstance(values, dict) else {found.layer: values}
        if found.shape:
            by_layer, beside = ({k: v.unflatten(2, found.shape) for k, v in some.items()} for some in (by_layer, beside))
        for layer, values in by_layer.items():
            own = replace(found, values=values, responses=responses, layer=layer, beside=beside)
            yield own if not layer else _of_units(asked, own)


def _of_units(asked: Asked, found: Found) -> Found:
    key = found.layer, tuple(found.values.shape[2:])
    if key not in asked.labels:
        coords = asked.responder.inner_coords(*key)
        asked.labels[key] = {
            f"unit_{name}".replace("unit_neuroid", "unit").replace("unit_unit", "unit_channel"): c for name, c in coords.items()
        }
    labels = asked.labels[key]
    beside = {name: values.flatten(2) for name, values in found.beside.items()}
    return replace(found, values=found.values.flatten(2), labels=labels, beside=beside)


def _questions(asked: Asked, piece: Piece, outputs: torch.Tensor, rows: torch.Tensor) -> Iterator[tuple[Question, Found]]:
    """Yield what a method is asked about a piece, with the labels that its answer will have and no values yet."""
    if not asked.layers or asked.method.answer is conductances:  # otherwise a path lies in a layer
        check_continuous(piece.inputs, owner="attribute")
    starts = asked.baseline.starts(piece)
    if asked.domain is not None:
        piece, starts = asked.domain.carry(piece, starts)
    options = {"n_steps": asked.n_steps, "mode": asked.mode, "max_memory": asked.max_memory, "seed": asked.seed}
    empty = torch.empty(0)

    def question(system: System, starts: Starts, layer: str = "", **more: Any) -> Question:
        known = asked.known.setdefault(layer, {})
        return Question(system, starts, asked.baseline.n_starts, outputs, rows, known=known, **options, **more)

    if not asked.layers:
        system, found = _input_system(asked, piece)
        yield question(system, starts), found
    elif asked.method.answer is conductances:
        system, _ = _input_system(asked, piece)
        own = question(system, starts, layers=asked.layers, reading=partial(_reading, asked))
        yield own, Found(empty, ("unit",), None, {}, empty)
    else:
        for layer in asked.layers:
            system, layer_starts = _layer_system(asked, piece, starts, layer)
            yield question(system, layer_starts, layer), Found(empty, ("unit",), None, {}, empty, layer)


def _input_system(asked: Asked, piece: Piece) -> tuple[System, Found]:
    empty = torch.empty(0)
    inputs, n_rows = piece.inputs.detach(), len(piece.rows)
    if piece.parts is not None:
        if asked.groups is not None:
            raise CapabilityError(
                f"attribute got groups= for inputs with dims {piece.dims} that several rows share, as words do, or images under a delay. Expected "
                "none: attributions are then to stimuli, and are summed by `a.groupby('part_...')`."
            )
        own = np.asarray(piece.parts)
        at, codes = np.unique(own[own >= 0], return_inverse=True)
        index = np.full(own.shape, -1)
        index[own >= 0] = codes
        groups = torch.as_tensor(index, device=inputs.device)
        return System(piece.forward, inputs, n_rows, False, groups, len(at)), Found(empty, ("part",), at, {}, empty)
    shape = tuple(inputs.shape[1 : 1 + len(piece.dims)])  # of a complex input, its two parts are a dim more, over which is summed
    if asked.groups is None:
        found, labels = Found(empty, piece.dims, None, dict(piece.coords), empty), np.arange(np.prod(shape))
        if inputs.ndim == 1 + len(shape):
            return System(piece.forward, inputs, n_rows, True), found
        groups = torch.as_tensor(labels.reshape(1, *shape), device=inputs.device)
        return System(piece.forward, inputs, n_rows, True, groups, len(labels)), replace(found, shape=shape)
    groups, labels = find_groups(asked.groups, shape, piece.dims, piece.coords)
    system = System(piece.forward, inputs, n_rows, True, groups.to(inputs.device), len(labels))
    return system, Found(empty, ("group",), None, {"group": labels}, empty)


@contextmanager
def _reading(asked: Asked, n: int) -> Iterator[Mapping[str, torch.Tensor]]:
    """Read the layers while a pass of n inputs runs, and check that each holds them as rows."""
    with asked.responder.reading(asked.layers) as seen:
        yield seen
    for layer in asked.layers:
        check_rows(layer, seen[layer], n)


def _layer_system(asked: Asked, piece: Piece, starts: Starts, layer: str) -> tuple[System, Starts]:
    """Return a piece as a function of what one of its layers holds, and the baselines there."""
    responder = asked.responder

    def read(x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad(), responder.reading([layer]) as seen:
            piece.forward(x)
            return seen[layer].detach()

    def forward(a: torch.Tensor) -> torch.Tensor:
        n = len(a) // len(value)
        inputs = piece.inputs if late else piece.inputs.repeat(n, *[1] * (piece.inputs.ndim - 1))
        with responder.altering({layer: lambda old: a}, copies=n if late else 1):
            return piece.forward(inputs)

    def at_layer(at: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)[None] if asked.baseline.label == "silent" else torch.stack([read(x) for x in starts(at)])

    values, out = read_layers(responder, piece, [layer])
    value, late = values[layer], parts_late(responder, piece, values, out)
    if piece.parts is None:
        return System(forward, value, len(piece.rows), True), at_layer
    # Where rows share inputs, a unit is one position of the last dim, over all tokens.
    units = torch.arange(value.shape[-1], device=value.device).reshape(*[1] * (value.ndim - 1), -1)
    return System(forward, value, len(piece.rows), False, units, value.shape[-1]), at_layer
