"""Nodes of a network: the elements of a layer that are patched or lesioned together, and passes in which some are exchanged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from brainalign.core.errors import CapabilityError, ParameterError, UnsupportedModuleError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.protocols import InnerResponder, Piece
from brainalign.engine.patching import blend


@dataclass(frozen=True)
class Nodes:
    """The nodes of one layer.

    Attributes
    ----------
    layer : str
    codes : ndarray of int64, (element,)
        The node of each element of one row, in flat order; -1: of none.
    labels : dict of str to ndarray, (node,)
        The coordinates that tell them apart.
    """

    layer: str
    codes: np.ndarray[Any, Any]
    labels: dict[str, np.ndarray[Any, Any]]

    def __len__(self) -> int:
        return int(self.codes.max(initial=-1)) + 1


def check_inner(responder: Any, *, owner: str) -> InnerResponder:
    """Return the responder if its inner layers can be altered.

    Parameters
    ----------
    responder : object
    owner : str

    Returns
    -------
    InnerResponder

    Raises
    ------
    CapabilityError
        It has no `altering`.
    """
    if isinstance(responder, InnerResponder):
        return responder
    raise CapabilityError(
        f"{owner} got a {type(responder).__name__}, whose inner layers cannot be altered. Expected a TorchResponder, a "
        "TransformersResponder or what `ba.readout` makes of them."
    )


def find_layers(responder: InnerResponder, nodes: Any) -> dict[str, Any]:
    """Return the layers that hold nodes, and which of their nodes are wanted (None: all).

    Parameters
    ----------
    responder : InnerResponder
    nodes : str, sequence of str, or mapping
        Names or globs of layers; a mapping also says which nodes of each.

    Returns
    -------
    dict of str to sequence or None

    Raises
    ------
    ParameterError
        None, or one that matches nothing.
    """
    several = isinstance(nodes, Iterable) and not isinstance(nodes, str)
    wanted = nodes if isinstance(nodes, Mapping) else dict.fromkeys(nodes if several else [nodes])
    found = {layer: which for pattern, which in wanted.items() for layer in responder.inner_layers(str(pattern))}
    if not found:
        raise ParameterError(f"Got no layers ({nodes!r}). Expected at least one name or glob of the network's inner layers.")
    return found


def nodes_of(layer: str, coords: Mapping[str, np.ndarray[Any, Any]], by: Sequence[str], wanted: Any = None) -> Nodes:
    """Group the elements of a layer into nodes.

    Parameters
    ----------
    layer : str
    coords : mapping of str to ndarray, (element,)
        ``unit``, ``token``, ``head`` ...
    by : sequence of str
        Coordinates that tell nodes apart; ``"layer"``: the whole layer is one.
    wanted : sequence, optional
        Values of the only such coordinate; default all.

    Returns
    -------
    Nodes

    Raises
    ------
    ParameterError
        No such coordinate or value.
    """
    names = [name for name in by if name != "layer"]
    missing = [name for name in names if name not in coords]
    if missing:
        known = ["layer", *(name for name in coords if name != "neuroid_id")]
        raise ParameterError(
            f"The layer {layer!r} has no {missing[0]!r} to tell nodes apart by. Expected some of {', '.join(known)}."
            f"{did_you_mean(missing[0], known)}"
        )
    n = len(next(iter(coords.values())))
    if not names:
        return Nodes(layer, np.zeros(n, dtype=np.int64), {})
    index = pd.MultiIndex.from_arrays([np.asarray(coords[name]).astype(object) for name in names])
    codes, found = pd.factorize(index, sort=True)
    labels = [np.asarray(found.get_level_values(i)) for i in range(len(names))]
    if wanted is not None:
        codes, labels = _some(layer, names, codes, labels, wanted)
    values = {name: values.astype(coords[name].dtype) for name, values in zip(names, labels, strict=True)}
    return Nodes(layer, np.asarray(codes, dtype=np.int64), values)


def _some(layer: str, names: Sequence[str], codes: Any, labels: Any, wanted: Any) -> tuple[Any, Any]:
    """Return codes and labels of the wanted nodes only, in their order."""
    chosen = np.atleast_1d(np.asarray(wanted)).astype(object)
    at = np.full(len(chosen), -1)
    if len(names) == 1:  # in an address a number is text, and so are the ids of many a recording
        at, texts = pd.Index(labels[0]).get_indexer(chosen), pd.Index([str(label) for label in labels[0]])
        at = np.where(at < 0, texts.get_indexer([str(value) for value in chosen]), at)
    if not len(chosen) or (at < 0).any() or len(np.unique(at)) < len(at):
        raise ParameterError(
            f"Got {preview(chosen[at < 0] if (at < 0).any() else chosen) or 'nothing'} of layer {layer!r}. Expected values of one coordinate, each once: "
            f"`{names[0]}` is one of {preview(labels[0])}.{did_you_mean(str(chosen[0]) if len(chosen) else '', labels[0])}"
        )
    to = np.full(len(labels[0]), -1, dtype=np.int64)
    to[at] = np.arange(len(at))
    return to[codes], [labels[0][at]]


def check_rows(layer: str, value: torch.Tensor, n: int) -> None:
    """Check that a layer holds the inputs as rows, with units behind.

    Parameters
    ----------
    layer : str
    value : Tensor
        Of a pass of n inputs.
    n : int

    Raises
    ------
    UnsupportedModuleError
    """
    if value.ndim < 2 or len(value) != n:
        raise UnsupportedModuleError(
            f"The layer {layer!r} gives shape {tuple(value.shape)} for {n} inputs. Expected the inputs as its first dim and units behind "
            "it: name another layer (a recurrent module needs batch_first=True)."
        )


def read_layers(responder: InnerResponder, piece: Piece, layers: Sequence[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return what some layers hold, and the responses, without a graph.

    Parameters
    ----------
    responder : InnerResponder
    piece : Piece
    layers : sequence of str

    Returns
    -------
    values : dict of str to Tensor, (input, ...)
    out : Tensor, (row, neuroid)

    Raises
    ------
    UnsupportedModuleError
        A layer is not reached, or does not hold the inputs as rows.
    """
    with torch.no_grad(), responder.reading(layers) as seen:
        out = piece.forward(piece.inputs)
        values = {layer: seen[layer] for layer in layers}
    for layer, value in values.items():
        check_rows(layer, value, len(piece.inputs))
    return values, out


def run_copies(
    responder: InnerResponder,
    piece: Piece,
    masks: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
    *,
    at_inputs: bool,
    scales: Mapping[str, Any] | None = None,
) -> torch.Tensor:
    """Run copies of a piece, each with elements of its layers exchanged.

    Parameters
    ----------
    responder : InnerResponder
    piece : Piece
    masks : mapping of str to Tensor of bool, (copy, element) or (copy, input, element)
    others : mapping of str to Tensor, (input, ...)
    at_inputs : bool
        Copies part at the inputs, rather than at the first altered layer.
    scales : mapping of str to Tensor, (element,), or float, optional
        How much of what exchanged elements held stays beside ``others``.

    Returns
    -------
    Tensor, (copy, row, neuroid)
    """
    n = len(next(iter(masks.values())))
    kept = scales or {}
    changes = {
        layer: partial(blend, other=others[layer], masks=mask, scale=kept.get(layer, 0.0)) for layer, mask in masks.items()
    }
    inputs = piece.inputs.repeat(n, *[1] * (piece.inputs.ndim - 1)) if at_inputs else piece.inputs
    with torch.no_grad(), responder.altering(changes, copies=1 if at_inputs else n):
        return piece.forward(inputs).reshape(n, len(piece.rows), -1)


def run_late(
    responder: InnerResponder,
    piece: Piece,
    masks: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
    out: torch.Tensor,
) -> torch.Tensor | None:
    """Try to run copies of a piece that part at the altered layers, so that what lies before them runs once.

    Parameters
    ----------
    responder : InnerResponder
    piece : Piece
    masks, others : mapping of str to Tensor
        As in :func:`run_copies`; there may be no copies.
    out : Tensor, (row, neuroid)
        The responses.

    Returns
    -------
    Tensor, (copy, row, neuroid), or None
        None where the pass fails, or an unaltered copy before and one behind them do not give the responses: a branch of more than
        one row is added to one that was not copied, or a module counts on the number of rows.
    """
    framed = {layer: torch.nn.functional.pad(mask, (0, 0) * (mask.ndim - 1) + (1, 1)) for layer, mask in masks.items()}
    try:
        runs = run_copies(responder, piece, framed, others, at_inputs=False)
    except RuntimeError:  # shapes that do not go together
        return None
    ends = runs[[0, -1]]
    alike = ends.shape == (2, *out.shape) and torch.allclose(ends, out.expand_as(ends), rtol=1e-3, atol=1e-5)
    return runs[1:-1] if alike else None


def parts_late(responder: InnerResponder, piece: Piece, values: Mapping[str, torch.Tensor], out: torch.Tensor) -> bool:
    """Return whether copies of a piece may part at some layers.

    Parameters
    ----------
    responder : InnerResponder
    piece : Piece
    values : mapping of str to Tensor
        What the layers hold.
    out : Tensor, (row, neuroid)
        The responses.

    Returns
    -------
    bool
        False: they must part at the inputs.
    """
    none = {layer: torch.zeros(0, value[0].numel(), dtype=torch.bool, device=value.device) for layer, value in values.items()}
    return run_late(responder, piece, none, values, out) is not None
