"""``patch``: what one run of a network holds at a node, put into another run; exactly, or by gradients for all nodes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import Features, InnerResponder, Piece, seeded
from brainalign.core.provenance import responder_params, write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import validate_stimuli
from brainalign.engine.attribution import NoGradient, check_gradient
from brainalign.engine.backend import whole_float32
from brainalign.engine.parallel import working_memory
from brainalign.engine.patching import n_copies, node_sums
from brainalign.neurons.addresses import find_neuroids
from brainalign.neurons.attribution.nulls import Null, with_null
from brainalign.neurons.attribution.pieces import holds_no_stimulus
from brainalign.neurons.interventions.relevance import lrp_rules
from brainalign.neurons.nodes import Nodes, check_inner, find_layers, nodes_of, read_layers, run_copies, run_late

METHODS = ("exact", "attribution", "integrated-gradients", "relp")
DIRECTIONS = ("noising", "denoising")
_MOST_COPIES = 512


def patch(
    responder: Any,
    clean: xr.Dataset,
    corrupt: xr.Dataset | str,
    *,
    nodes: Any,
    by: str | Sequence[str] = "layer",
    neuroid: Any = None,
    method: str = "exact",
    direction: str = "noising",
    absolute: bool = False,
    n_steps: int = 5,
    rules: Sequence[str] = ("ln", "identity", "half"),
    null: str | None = None,
    n_permutations: int = 199,
    target: xr.DataArray | None = None,
    max_memory: float | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.DataArray:
    """Put what a network holds at a node on one stimulus into its run on another, and say how far the responses change.

    Parameters
    ----------
    responder : InnerResponder
        A network (``TorchResponder``, ``TransformersResponder``), or a model of a recording (``readout``).
    clean, corrupt : Dataset, (presentation,)
        Pairs, row by row, whose inputs have the same shape: texts of as many tokens, images of one size. ``corrupt="zero"``: each node
        is ablated, that is, 0 takes its place.
    nodes : str, sequence of str, or mapping
        Inner layers, names or globs of layers of every kind (``"h.*"``, ``"heads.3"``, ``"mlp.2"``) or of modules. A mapping also says
        which nodes of each: ``{"heads.3": [0, 2]}``.
    by : str or sequence of str
        What is one node: a whole ``"layer"``, or the elements that share a ``"token"``, ``"head"``, ``"unit"``, ``"channel_x"`` ...
    neuroid : str, int, or sequence of them, optional
        As in :func:`attribute`; default all.
    method : {"exact", "attribution", "integrated-gradients", "relp"}
        ``"exact"`` runs the network with each node exchanged. ``"attribution"`` multiplies the difference at the node by the gradient
        there, for all nodes at once: one backward pass a neuroid, or a feature of a readout where these are fewer. ``"relp"`` does so
        with the rules of :func:`lrp_rules`. ``"integrated-gradients"`` averages gradients while the layer goes from what it holds in
        one run to what it holds in the other: nodes of a layer add up to the effect of all of it.
    direction : {"noising", "denoising"}
        The node of ``corrupt`` goes into the run on ``clean``, or the other way round.
    absolute : bool
        Return sizes of the effects, whose mean over presentations is the contribution of a node.
    n_steps : int
        Of ``"integrated-gradients"``, for each layer: points of Gauss and Legendre.
    rules : sequence of str
        Of ``"relp"``.
    null, n_permutations, target
        As in :func:`attribute`: chance is where effects go in mappings fitted to responses without their stimuli, or in untrained
        networks. The mapping of a ``readout`` is fitted anew, so ``clean`` holds all the stimuli of ``target``.
    max_memory : float, optional
        Bytes for copies that run at once.
    random_state : int, Generator or None
        For nulls.
    progress : bool or None
        As in :func:`evaluate`, over layers, and over draws of a null.

    Returns
    -------
    DataArray, (presentation, node, neuroid)
        The response with the node exchanged less the response without, in the unit of the response. Coordinates ``node_layer``
        and those named in ``by`` (``node_head`` ...); ``response`` and, with two runs, ``other_response`` (presentation, neuroid). With
        a null, coordinates ``share``, ``ci_low``, ``ci_high``, ``p_value``, ``p_value_fdr`` and ``p_value_max`` (neuroid, node), of sizes of
        effects as in :func:`attribute`.

    Raises
    ------
    AlignmentError
        ``clean`` and ``corrupt`` differ in number or in the shape of their inputs.
    ParameterError
        No such node, neuroid, method or direction.
    UnsupportedModuleError
        A module that cannot be altered, or has no rule.

    Notes
    -----
    Under ``"exact"``, what lies before a layer runs once and what lies behind it once for each of its nodes, many at a time, and on a
    presentation only for those that differ there between the runs. Sources: Meng et al. 2022; Nanda 2023 (attribution); Hanna et al.
    2024 (integrated gradients, on activations); Jafari et al. 2025 (RelP).

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)), "2", system="net")
    >>> clean, corrupt = (ba.stimuli.table(x, stimulus_id=list("abc"), kind="array") for x in np.random.default_rng(0).normal(size=(2, 3, 5)))
    >>> effect = ba.patch(net, clean, corrupt, nodes="1", by="unit")
    >>> effect.dims, bool(np.allclose(effect.sum("node"), effect.other_response - effect.response, atol=1e-5))
    (('presentation', 'node', 'neuroid'), True)
    """
    check_choice("method", method, METHODS, owner="patch")
    check_choice("direction", direction, DIRECTIONS, owner="patch")
    check_number("n_steps", n_steps, owner="patch", low=1, integer=True)
    responder = seeded(check_inner(responder, owner="patch"))
    chance = None
    if null is not None:
        chance = Null(null, n_permutations, check_random_state(random_state, owner="patch"), responder, clean, target, neuroid)
        chance.check("patch")
    sides = clean, corrupt
    if isinstance(corrupt, str):
        check_choice("corrupt", corrupt, ("zero",), owner="patch")
        check_choice("direction", direction, ("noising",), owner="patch, without another run,")
    base, other = (x if isinstance(x, str) else validate_stimuli(x) for x in (sides if direction == "noising" else sides[::-1]))
    columns, coords = find_neuroids(responder.neuroids(base), neuroid, owner="patch")
    coords.setdefault("system", np.full(len(columns), responder.system, dtype=np.dtypes.StringDType()))
    steps = {"n_steps": n_steps} if method == "integrated-gradients" else {}
    layers, by = find_layers(responder, nodes), (by,) if isinstance(by, str) else tuple(by)
    asked = _Asked(responder, layers, by, columns, max_memory, steps.get("n_steps", 0))
    table = responder.presentations(base)
    sums = _Effects(len(table), len(columns))
    pieces = responder.pieces(base)
    bar = progress_bar(progress=progress, desc="patch", total=len(pieces) * len(layers))
    with bar, lrp_rules(responder, rules) if method == "relp" else nullcontext():
        for piece, mate in _pairs(pieces, responder, base, None if isinstance(other, str) else other):
            sums.add(asked, piece, mate, exact=method == "exact", bar=bar)
    out = sums.labelled(coords, table, absolute)
    params: dict[str, Any] = {"method": method, "direction": direction, "by": list(by), "absolute": bool(absolute)} | steps
    inputs = {"clean": clean}
    if isinstance(other, str):
        out, params["corrupt"] = out.drop_vars("other_response"), other
    else:
        inputs["corrupt"] = corrupt
    if method == "relp":
        params["rules"] = list(rules)
    out.attrs |= {**params, "causal_scope": "model", "modality": responder.modality}
    out = write_step(out, "patch", params=params | responder_params(responder), inputs=inputs)
    if chance is None:
        return out
    again = partial(patch, clean=clean, corrupt=corrupt, nodes=nodes, by=by, method=method, direction=direction, n_steps=n_steps, rules=rules,
                    max_memory=max_memory, progress=False)  # fmt: skip
    return with_null(out, lambda other, names: again(other, neuroid=names), chance, owner="patch", progress=progress)


@dataclass(frozen=True)
class _Asked:
    responder: InnerResponder
    layers: dict[str, Any]
    by: tuple[str, ...]
    columns: np.ndarray[Any, Any]
    max_memory: float | None
    n_steps: int

    def nodes(self, values: Mapping[str, torch.Tensor]) -> list[Nodes]:
        coords = {layer: self.responder.inner_coords(layer, tuple(value.shape[1:])) for layer, value in values.items()}
        return [nodes_of(layer, coords[layer], self.by, which) for layer, which in self.layers.items()]


class _Effects:
    """Effects and responses, added up piece by piece in float64."""

    def __init__(self, n_rows: int, n_columns: int) -> None:
        self.response = np.zeros((2, n_rows, n_columns))
        self.nodes: list[Nodes] = []
        self.values: np.ndarray[Any, Any] | None = None

    @whole_float32()
    def add(self, asked: _Asked, piece: Piece, mate: Piece | None, *, exact: bool, bar: Any) -> None:
        layers = [] if holds_no_stimulus(piece) else list(asked.layers)
        values, out = read_layers(asked.responder, piece, layers)
        if mate is None:
            others, other_out = {layer: torch.zeros_like(value) for layer, value in values.items()}, out
        else:
            others, other_out = read_layers(asked.responder, mate, layers)
        for at, response in enumerate((out, other_out)):
            self.response[at, piece.rows] += response[:, asked.columns].double().cpu().numpy()
        if not layers:
            bar.update(len(asked.layers))
            return
        nodes = asked.nodes(values)
        if self.values is None:
            self.nodes = nodes
            self.values = np.zeros((self.response.shape[1], sum(map(len, nodes)), self.response.shape[2]))
        if [len(own) for own in nodes] != [len(own) for own in self.nodes]:
            raise AlignmentError(
                f"Presentations have {sum(map(len, self.nodes))} and {sum(map(len, nodes))} nodes by {', '.join(asked.by)}: their layers differ "
                "in shape. Expected the same for all: patch by 'unit' or 'layer', or presentations of one length in a call."
            )
        effects = [] if exact else _by_gradients(asked, piece, nodes, values, others)
        for own in nodes:
            if exact:
                effects.append(_exact(asked, piece, own, values, others, out))
            bar.update()
        self.values[piece.rows] += torch.cat(effects, dim=1).cpu().numpy()

    def labelled(self, coords: dict[str, Any], table: Any, absolute: bool) -> xr.DataArray:
        values = self.values if self.values is not None else np.zeros((self.response.shape[1], 0, self.response.shape[2]))
        pair = ("presentation", "neuroid")
        labels: dict[str, Any] = {name: ("presentation", as_labels(table[name].to_numpy())) for name in table}
        labels |= {name: ("neuroid", v) for name, v in coords.items()}
        labels["node_layer"] = ("node", as_labels([own.layer for own in self.nodes for _ in range(len(own))]))
        for name in self.nodes[0].labels if self.nodes else ():
            labels[f"node_{name}"] = ("node", np.concatenate([own.labels[name] for own in self.nodes]))
        labels |= {"response": (pair, self.response[0]), "other_response": (pair, self.response[1])}
        out = np.abs(values) if absolute else values
        out = np.where(np.isnan(self.response[0])[:, None], np.nan, out)  # gradients of a mapping that predicts nothing are 0
        return xr.DataArray(out.astype(np.float32), dims=("presentation", "node", "neuroid"), coords=labels, name="effect")


def _exact(
    asked: _Asked,
    piece: Piece,
    nodes: Nodes,
    values: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
    out: torch.Tensor,
) -> torch.Tensor:
    """Return the effects of one layer's nodes, (row, node, neuroid)."""
    layer, device = nodes.layer, out.device
    codes = torch.as_tensor(nodes.codes, device=device)
    effects = torch.zeros(len(piece.rows), len(nodes), len(asked.columns), dtype=torch.float64, device=device)
    differs = node_sums((values[layer] != others[layer]).flatten(1), codes, len(nodes)) > 0
    if piece.parts is not None:  # rows are of several inputs: a copy exchanges the same node in all
        differs = differs.any(0, keepdim=True)
    if not differs.any():
        return effects
    # Each input runs with its own nodes, those that differ in it: copy k exchanges the k-th of them.
    order = differs.byte().argsort(dim=1, descending=True, stable=True)[:, : differs.sum(1).max()].T
    rows, columns = torch.arange(len(out), device=device), torch.as_tensor(asked.columns, device=device)
    widest = max(value[0].nbytes for value in (*values.values(), piece.inputs, out))
    room = working_memory(out, asked.max_memory)
    late: bool | None = None  # the first copies tell whether they may part at the layer
    for some in order.split(n_copies(widest, len(piece.inputs), room, _MOST_COPIES)):
        masks, other = {layer: codes == some[..., None]}, {layer: others[layer]}
        runs = run_late(asked.responder, piece, masks, other, out) if late is None else None
        late = late or runs is not None
        if runs is None:
            runs = run_copies(asked.responder, piece, masks, other, at_inputs=not late)
        effects[rows, some] = runs[..., columns].double() - out[:, columns].double()
    effects[~differs.expand(len(out), -1)] = 0.0
    return effects


def _by_gradients(
    asked: _Asked,
    piece: Piece,
    nodes: Sequence[Nodes],
    values: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
) -> list[torch.Tensor]:
    """Return difference × gradient summed over the elements of each node, by layer, (row, node, neuroid)."""
    features = _less_work(asked, piece, sum(map(len, nodes)))
    source, columns = (piece, asked.columns) if features is None else (features.piece, np.arange(features.n))
    effects = [torch.zeros(len(source.rows), len(own), len(columns), dtype=torch.float64) for own in nodes]
    for weight, some, out, held in _runs(asked, source, nodes, values, others):
        for j, rows, gradients in _backwards(out, held, columns, rowwise=source.parts is None):
            for i, gradient in zip(some, gradients, strict=True):
                products = ((others[nodes[i].layer] - values[nodes[i].layer]) * gradient).flatten(1)
                sums = node_sums(products, torch.as_tensor(nodes[i].codes, device=products.device), len(nodes[i])).cpu()
                effects[i][rows, :, j] += weight * (sums if source.parts is None else sums.sum(0))
    device = piece.inputs.device
    return effects if features is None else [features.linear(x.to(device), asked.columns).double().cpu() for x in effects]


def _less_work(asked: _Asked, piece: Piece, n_nodes: int) -> Features | None:
    """Return the features of a readout where they take fewer backward passes than its neuroids, and effects on them fit into memory."""
    features = piece.features
    if features is None:
        return None
    inner, outer = (1, 1) if piece.parts is None else (len(features.piece.rows), len(piece.rows))
    room = working_memory(piece.inputs, asked.max_memory)
    fits = 8 * len(features.piece.rows) * n_nodes * features.n <= room
    return features if fits and inner * features.n < outer * len(asked.columns) else None


def _runs(
    asked: _Asked,
    piece: Piece,
    nodes: Sequence[Nodes],
    values: Mapping[str, torch.Tensor],
    others: Mapping[str, torch.Tensor],
) -> Iterator[tuple[float, Sequence[int], torch.Tensor, list[torch.Tensor]]]:
    """Yield runs in the graph of autograd with their weights, and the layers at which gradients are taken: all, or each on its way to the other run."""
    if not asked.n_steps and piece.inputs.is_floating_point():
        inputs = piece.inputs.detach().requires_grad_(True)
        with torch.enable_grad(), asked.responder.reading([own.layer for own in nodes]) as seen:
            out = piece.forward(inputs)
            held = [seen[own.layer] for own in nodes]
        yield 1.0, range(len(nodes)), _in_graph(out), held
        return
    # Of inputs without a gradient (token ids) each layer is where a graph begins.
    points, weights = np.polynomial.legendre.leggauss(asked.n_steps) if asked.n_steps else ([-1.0], [2.0])
    for i, layer in enumerate(own.layer for own in nodes):
        for at, weight in zip(points, weights, strict=True):
            value = torch.lerp(values[layer], others[layer], (1 + at) / 2).requires_grad_(True)
            with torch.enable_grad(), asked.responder.altering({layer: lambda held, value=value: value}):
                out = piece.forward(piece.inputs)
            yield weight / 2, [i], _in_graph(out), [value]


def _in_graph(out: torch.Tensor) -> torch.Tensor:
    try:
        check_gradient(out)
    except NoGradient as error:
        raise CapabilityError(
            f"patch got a network whose {error}. Expected differentiable operations; or method='exact'."
        ) from error
    return out


def _backwards(out: torch.Tensor, held: Sequence[torch.Tensor], columns: Any, *, rowwise: bool) -> Iterator[tuple[int, Any, Any]]:
    """Yield the position of each column, the rows and the gradients of their responses at the layers."""
    rows: list[Any] = [slice(None)] if rowwise else list(range(len(out)))
    for j, column in enumerate(columns):
        for row in rows:  # input i alone makes row i: one backward pass serves the whole batch
            wanted = out[row, int(column)].sum()
            yield j, row, torch.autograd.grad(wanted, held, retain_graph=True, materialize_grads=True)


def _pairs(
    pieces: Sequence[Piece], responder: InnerResponder, base: xr.Dataset, other: xr.Dataset | None
) -> Iterator[tuple[Piece, Piece | None]]:
    """Yield the pieces of both sides together, after checking that they are alike in shape."""
    if other is None:
        yield from ((piece, None) for piece in pieces)
        return
    n, m = base.sizes["presentation"], other.sizes["presentation"]
    if n != m:
        raise AlignmentError(f"patch got {n} and {m} presentations. Expected pairs, row by row: as many corrupt as clean ones.")
    mates = responder.pieces(other)
    for i in range(max(len(pieces), len(mates))):
        if i >= min(len(pieces), len(mates)):
            raise AlignmentError(
                f"clean and corrupt make {len(pieces)} and {len(mates)} windows. Expected words of the same runs."
            )
        piece, mate = pieces[i], mates[i]
        same_rows = np.array_equal(piece.rows, mate.rows)
        if not same_rows or piece.inputs.shape != mate.inputs.shape or not _same(piece.parts, mate.parts):
            raise AlignmentError(
                f"clean and corrupt have inputs of shape {tuple(piece.inputs.shape)} and {tuple(mate.inputs.shape)} at presentations "
                f"{np.asarray(piece.rows)[:3].tolist()}. Expected the same, position by position: texts of as many tokens to each word, images "
                "of one size."
            )
        yield piece, mate


def _same(one: Any, other: Any) -> bool:
    return one is None or np.array_equal(one, other)
