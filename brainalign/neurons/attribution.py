"""``attribute``: which parts of a stimulus drive a neuroid, the same for a unit and for a voxel.

One code path: a responder gives differentiable *pieces*; the gradients of the wanted responses with respect to a
piece's continuous input are averaged along the straight path from a baseline, multiplied by the difference from
it, and added up over the pieces that contribute to a presentation.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number, did_you_mean, preview
from brainalign.core.protocols import DifferentiableResponder, Piece
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of, validate_stimuli

METHODS = ("integrated-gradients", "gradient")
BASELINES = ("zero", "mean")


def attribute(
    responder: Any,
    stimuli: xr.Dataset,
    *,
    neuroid: Any,
    method: str = "integrated-gradients",
    presentations: Any = None,
    baseline: str = "zero",
    n_steps: int = 32,
    progress: bool = False,
) -> xr.DataArray:
    """Attribute responses of neuroids to the parts of the stimuli that drive them.

    Parameters
    ----------
    responder : DifferentiableResponder
        A network layer (``TorchResponder``, ``TransformersResponder``), or a model of a recording (``readout``).
    stimuli : Dataset, (presentation,)
    neuroid : str, int, or sequence of them
        ``neuroid_id`` values, or addresses ``"group/id"`` such as ``"layer.3/17"``.
    method : {"integrated-gradients", "gradient"}
        ``"gradient"`` is the gradient at the stimulus times its difference from the baseline: one step of the
        path, exact for a linear responder.
    presentations : sequence of int, optional
        Positions of the responses to explain; default all.
    baseline : {"zero", "mean"}
        What a stimulus is compared with: a continuous input of zeros, or the mean input over the stimuli.
        Positions that belong to no stimulus (special tokens) stay as they are.
    n_steps : int
        Gauss–Legendre nodes on the path.
    progress : bool
        Show a progress bar.

    Returns
    -------
    DataArray, (presentation, neuroid, part) or (presentation, neuroid, dims of the input)
        In the unit of the response. Word and sentence stimuli, and any stimulus under a chain that mixes
        presentations, are summed over the embedding or the pixels: ``part`` runs over the rows of ``stimuli``.
        Coordinates ``response``, ``baseline_response`` and ``completeness_error`` (presentation, neuroid) say
        how far the attributions fail to add up to the difference of the two responses; the attr
        ``completeness_error`` is the largest of them relative to the largest such difference.

    Raises
    ------
    CapabilityError
        The responder cannot be differentiated.
    ParameterError
        No such neuroid, method, baseline or presentation.

    Notes
    -----
    ``A = (x - x') * integral over a in [0, 1] of dy/dx at x' + a (x - x')``; summed over the input this is
    ``y(x) - y(x')``. Source: Sundararajan, Taly and Yan 2017, equation 1.
    Through a ``readout`` it explains the fitted model of a neuroid; ``causal_scope`` is then still ``"model"``.

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
    check_choice("method", method, METHODS, owner="attribute")
    check_choice("baseline", baseline, BASELINES, owner="attribute")
    check_number("n_steps", n_steps, owner="attribute", low=1, integer=True)
    return _attribute(responder, validate_stimuli(stimuli), neuroid, presentations, baseline, method, n_steps, progress)


def _attribute(
    responder: Any,
    stimuli: xr.Dataset,
    neuroid: Any,
    presentations: Any,
    baseline: str,
    method: str,
    n_steps: int,
    progress: bool,
) -> xr.DataArray:
    from tqdm.auto import tqdm

    if not isinstance(responder, DifferentiableResponder):
        raise CapabilityError(
            f"attribute got a {type(responder).__name__}, which has no `pieces`. Expected a responder with gradients: a "
            "TorchResponder, a TransformersResponder or what `ba.readout` returns."
        )
    columns, coords = find_neuroids(responder.neuroids(stimuli), neuroid)
    coords.setdefault("system", np.full(len(columns), responder.system, dtype=np.dtypes.StringDType()))
    table = responder.presentations(stimuli)
    rows = _rows(presentations, len(table))
    pieces = responder.pieces(stimuli, rows)
    reference = _mean_input(pieces) if baseline == "mean" else 0.0
    nodes = _path(method, n_steps)
    sums = _Sums(rows, columns, stimuli.sizes["presentation"])
    for piece in tqdm(pieces, desc="attribute", disable=not progress):
        sums.add(piece, _start(piece, reference), nodes)
    out = sums.labelled(coords, table.iloc[rows], stimuli)
    params = {"method": method, "baseline": baseline, "n_steps": len(nodes)}
    out.attrs |= {**params, "causal_scope": "model", "modality": responder.modality}
    return write_step(out, "attribute", params={**params, "responder": responder.fingerprint()}, inputs={"stimuli": stimuli})


def find_neuroids(
    groups: Mapping[str, Mapping[str, np.ndarray[Any, Any]]], wanted: Any
) -> tuple[np.ndarray[Any, Any], dict[str, np.ndarray[Any, Any]]]:
    """Return the columns of the wanted neuroids, and their coordinates.

    Parameters
    ----------
    groups : mapping
        Neuroid coordinates by group, as a responder gives them.
    wanted : str, int or sequence of them
        ``neuroid_id`` values or ``"group/id"`` addresses.

    Returns
    -------
    columns : ndarray of int
    coords : dict of str to ndarray

    Raises
    ------
    ParameterError
        A name that is unknown, or that several groups have.
    """
    names = [str(i) for coords in groups.values() for i in coords["neuroid_id"].tolist()]
    layers = [group for group, coords in groups.items() for _ in range(len(coords["neuroid_id"]))]
    index: dict[str, list[int]] = {}
    for position, (group, name) in enumerate(zip(layers, names, strict=True)):
        for address in {name, f"{group}/{name}"}:
            index.setdefault(address, []).append(position)
    items = list(wanted) if isinstance(wanted, Iterable) and not isinstance(wanted, str) else [wanted]
    if not items:
        raise ParameterError("attribute got an empty `neuroid`. Expected at least one neuroid_id or address.")
    columns = []
    for item in items:
        found = index.get(str(item), [])
        if len(found) != 1:
            what = (
                f"matches {len(found)} neuroids, in {preview(dict.fromkeys(layers[i] for i in found))}"
                if found
                else "matches no neuroid"
            )
            raise ParameterError(
                f"attribute got neuroid={item!r}, which {what}. Expected a neuroid_id such as {preview(names)} or an address "
                f"'group/id'.{did_you_mean(str(item), index)}"
            )
        columns.append(found[0])
    joined = {name: np.concatenate([coords[name] for coords in groups.values()]) for name in _shared(groups)}
    if not {"layer", "region"} & joined.keys():  # the address of a unit is its layer and its id
        joined["layer"] = as_labels(layers)
    chosen = np.asarray(columns)
    return chosen, {name: values[chosen] for name, values in joined.items()}


class _Sums:
    """Attributions and responses of the wanted rows and columns, added up piece by piece in float64."""

    def __init__(self, rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any], n_parts: int) -> None:
        self.columns, self.n_parts = columns, n_parts
        self.position = {int(row): i for i, row in enumerate(rows)}
        self.values: np.ndarray[Any, Any] | None = None
        self.dims: tuple[str, ...] = ("part",)
        self.response = np.zeros((2, len(rows), len(columns)))  # at the baseline, at the stimulus

    def add(self, piece: Piece, start: Any, nodes: Sequence[tuple[float, float]]) -> None:
        import torch

        wanted = [(i, self.position[int(row)]) for i, row in enumerate(piece.rows) if int(row) in self.position]
        difference = (piece.inputs - start).detach()
        with torch.no_grad():
            for at, point in enumerate((start, piece.inputs)):
                out = piece.forward(point).double().numpy()[:, self.columns]
                for i, j in wanted:
                    self.response[at, j] += out[i]
        for gradients, weight in _gradients(piece, start, difference, nodes, self.columns, wanted):
            for (i, j), column, gradient in gradients:
                self._accumulate(piece, i, j, column, weight * (gradient * difference).double().numpy())

    def _accumulate(self, piece: Piece, i: int, j: int, column: int, contribution: np.ndarray[Any, Any]) -> None:
        n = len(self.position), len(self.columns)
        if piece.parts is None:
            if self.values is None:
                self.values, self.dims = np.zeros((*n, *contribution.shape[1:])), piece.dims
            self.values[j, column] += contribution[i]
            return
        if self.values is None:
            self.values = np.zeros((*n, self.n_parts))
        parts = np.asarray(piece.parts)
        per_position = contribution.reshape(*parts.shape, -1).sum(axis=-1)
        inside = parts >= 0
        np.add.at(self.values[j, column], parts[inside], per_position[inside])

    def labelled(self, coords: dict[str, Any], table: Any, stimuli: xr.Dataset) -> xr.DataArray:
        values = self.values if self.values is not None else np.zeros((len(self.position), len(self.columns), self.n_parts))
        dims = ("presentation", "neuroid", *self.dims)
        labels: dict[str, Any] = {name: ("presentation", as_labels(table[name].to_numpy())) for name in table}
        labels |= {name: ("neuroid", v) for name, v in coords.items()}
        if self.dims == ("part",):
            labels |= {
                f"part_{name}": ("part", v) for name, v in coords_of(stimuli, "presentation").items() if name != "repetition"
            }
            if "text" in stimuli:
                labels["part_text"] = ("part", stimuli["text"].values)
        error = values.sum(axis=tuple(range(2, values.ndim))) - (self.response[1] - self.response[0])
        pair = ("presentation", "neuroid")
        labels |= {
            "response": (pair, self.response[1]),
            "baseline_response": (pair, self.response[0]),
            "completeness_error": (pair, np.abs(error)),
        }
        scale = np.abs(self.response[1] - self.response[0]).max()
        relative = float(np.abs(error).max() / scale) if scale > 0 else 0.0
        out = xr.DataArray(values.astype(np.float32), dims=dims, coords=labels, name="attribution")
        return out.assign_attrs(completeness_error=relative)


def _gradients(
    piece: Piece,
    start: Any,
    difference: Any,
    nodes: Sequence[tuple[float, float]],
    columns: Any,
    wanted: Sequence[tuple[int, int]],
) -> Iterator[tuple[Iterator[tuple[tuple[int, int], int, Any]], float]]:
    """Yield, per node of the path, an iterator of ((row, position), column, gradient) and the node's weight."""
    import torch

    for position, weight in nodes:
        point = (start + position * difference).detach().requires_grad_(True)
        out = piece.forward(point)[:, torch.as_tensor(columns)]
        yield _backward(piece, out, point, wanted), weight


def _backward(
    piece: Piece, out: Any, point: Any, wanted: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], int, Any]]:
    import torch

    for column in range(out.shape[1]):
        if piece.parts is None:  # input i alone makes row i: one backward pass serves the whole batch
            (gradient,) = torch.autograd.grad(out[:, column].sum(), point, retain_graph=True)
            yield from ((pair, column, gradient) for pair in wanted)
            continue
        for pair in wanted:
            (gradient,) = torch.autograd.grad(out[pair[0], column], point, retain_graph=True)
            yield pair, column, gradient


def _path(method: str, n_steps: int) -> list[tuple[float, float]]:
    """Nodes and weights on [0, 1]."""
    if method == "gradient":
        return [(1.0, 1.0)]
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    return [(float((x + 1) / 2), float(w / 2)) for x, w in zip(nodes, weights, strict=True)]


def _start(piece: Piece, reference: Any) -> Any:
    """Return the baseline input: the reference, except at positions that are no stimulus."""
    import torch

    start = torch.zeros_like(piece.inputs) + reference
    if piece.parts is None:
        return start.detach()
    fixed = torch.as_tensor(np.asarray(piece.parts) < 0)
    fixed = fixed.reshape(*fixed.shape, *[1] * (piece.inputs.ndim - fixed.ndim))
    return torch.where(fixed, piece.inputs, start).detach()


def _mean_input(pieces: Sequence[Piece]) -> Any:
    """Return the mean of one input over the stimuli: of an image by pixel, of words over positions."""
    total, count = 0.0, 0
    for piece in pieces:
        inputs = piece.inputs.detach().double()
        if "position" in piece.dims:
            inside = np.asarray(piece.parts) >= 0
            inputs = inputs[inside]
        total, count = total + inputs.sum(dim=0), count + len(inputs)
    return (total / count).float()


def _rows(presentations: Any, n: int) -> np.ndarray[Any, Any]:
    if presentations is None:
        return np.arange(n)
    rows = np.atleast_1d(np.asarray(presentations))
    if rows.dtype.kind not in "iu" or rows.size == 0 or rows.min() < 0 or rows.max() >= n:
        raise ParameterError(f"attribute got presentations={preview(rows)}. Expected positions between 0 and {n - 1}.")
    return np.unique(rows)


def _shared(groups: Mapping[str, Mapping[str, Any]]) -> list[str]:
    first, *others = groups.values()
    return [name for name in first if all(name in coords for coords in others)]
