"""A network whose units are lesioned while it responds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.protocols import InnerResponder, Piece, seeded
from brainalign.core.provenance import responder_params
from brainalign.core.tables import validate_stimuli
from brainalign.engine.lesioning import replacements
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import working_memory
from brainalign.engine.patching import n_copies
from brainalign.neurons.addresses import find_neuroids
from brainalign.neurons.attribution.pieces import holds_no_stimulus
from brainalign.neurons.interventions.lesion_modes import UNREAD, by_layer, check_alike, scale_of
from brainalign.neurons.nodes import Nodes, check_inner, find_layers, nodes_of, parts_late, read_layers, run_copies

_MOST_COPIES = 64


class LesionedNetwork:
    """A network whose units are lesioned while it responds.

    Parameters
    ----------
    responder : InnerResponder
    stimuli : Dataset
    units : mapping or sequence of addresses
    by : str or None
        What is one unit; default ``"unit"``.
    neuroid : object
    mode : str
    factor : float or mapping
    seed : int

    Attributes
    ----------
    intact : ndarray of float64, (presentation, neuroid)
    sets : dict of str to ndarray of bool, (1, unit)
        The lesion, among all units of each layer.
    description : dict
        What the provenance says of the system.
    """

    causal_scope = "model"

    def __init__(
        self, responder: Any, stimuli: xr.Dataset, units: Any, by: str | None, neuroid: Any, mode: str, factor: Any, seed: int
    ) -> None:
        self.responder: InnerResponder = (responder := seeded(check_inner(responder, owner="lesion")))
        self.modality, self.inputs = responder.modality, validate_stimuli(stimuli)
        self.columns, self.coords = find_neuroids(responder.neuroids(self.inputs), neuroid, owner="lesion")
        self.coords.setdefault("system", np.full(len(self.columns), responder.system, dtype=np.dtypes.StringDType()))
        self.table, self.description = responder.presentations(self.inputs), responder_params(responder)
        self._pieces = responder.pieces(self.inputs)
        self._by = by or "unit"
        self._nodes: dict[tuple[str, tuple[int, ...]], Nodes] = {}
        held = self._read(list(find_layers(responder, by_layer(units))), keep=mode not in UNREAD)
        self.sets = self.find(units)
        self._scale, self._new = self._replaced(held, mode, factor, np.random.default_rng(seed))

    def _read(self, layers: Sequence[str], *, keep: bool) -> dict[str, list[torch.Tensor]]:
        """Return what layers hold, piece by piece (only shapes, unless they are to be kept), and set the intact responses."""
        held: dict[str, list[torch.Tensor]] = {layer: [] for layer in layers}
        self.intact = np.zeros((len(self.table), len(self.columns)))
        self._late: dict[int, bool] = {}
        for i, piece in enumerate(self._pieces):
            values, out = read_layers(self.responder, piece, [] if holds_no_stimulus(piece) else layers)
            self.intact[piece.rows] += self._columns_of(out)
            if values:
                self._late[i] = parts_late(self.responder, piece, values, out)
            for layer, value in values.items():
                self._codes(layer, tuple(value.shape[1:]))
                held[layer].append(value if keep else value.new_zeros(()).expand(value.shape))
        return held

    def find(self, units: Any) -> dict[str, Numbers]:
        """Return units of the lesioned layers.

        Parameters
        ----------
        units : mapping or sequence of addresses

        Returns
        -------
        dict of str to ndarray of bool, (1, unit)

        Raises
        ------
        ParameterError
            No such layer or unit.
        """
        read = {layer for layer, _ in self._nodes}
        return {k: self._set(k, which) for k, which in find_layers(self.responder, by_layer(units)).items() if k in read}

    def _set(self, layer: str, which: Any) -> Numbers:
        first, *others = [nodes for (own, _), nodes in self._nodes.items() if own == layer]  # of each shape that it has
        if any(len(nodes) != len(first) for nodes in others):
            raise ParameterError(
                f"The layer {layer!r} has {len(first)} and {len(others[0])} of `{self._by}` between presentations. Expected as many: lesion by "
                "'unit' or 'head', or give texts of one length."
            )
        chosen = np.ones(len(first), dtype=bool)
        if which is not None:
            labels = {self._by: first.labels[self._by]} if first.labels else {"layer": np.zeros(1)}
            chosen[:] = nodes_of(layer, labels, [self._by], which).codes >= 0
        return chosen[None]

    def _codes(self, layer: str, shape: tuple[int, ...]) -> Numbers:
        if (layer, shape) not in self._nodes:
            self._nodes[layer, shape] = nodes_of(layer, self.responder.inner_coords(layer, shape), [self._by])
        return self._nodes[layer, shape].codes

    def _replaced(
        self, held: Mapping[str, list[torch.Tensor]], mode: str, factor: Any, rng: np.random.Generator
    ) -> tuple[dict[str, Numbers], dict[str, list[torch.Tensor]]]:
        scale, new = {}, {}
        for layer, parts in held.items():
            n_units = self.sets[layer].shape[1]
            scale[layer] = scale_of(mode, factor, layer, n_units)
            if mode in UNREAD:
                new[layer] = parts
                continue
            if mode in ("swap", "resample"):
                check_alike([part.shape[1:] for part in parts], sum(map(len, parts)), mode, layer)
            flat = [(part.flatten(1).double().cpu().numpy(), self._codes(layer, tuple(part.shape[1:]))) for part in parts]
            found = replacements(flat, mode, n_units, rng)
            new[layer] = [torch.as_tensor(x).to(part).reshape(part.shape) for x, part in zip(found, parts, strict=True)]
        return scale, new

    def run(self, sets: Mapping[str, Numbers], max_memory: float | None) -> Numbers:
        """Return the responses under each of several lesions.

        Parameters
        ----------
        sets : mapping of str to ndarray of bool, (set, unit)
        max_memory : float or None

        Returns
        -------
        ndarray of float64, (set, presentation, neuroid)
        """
        n = len(next(iter(sets.values())))
        total = np.zeros((n, *self.intact.shape))
        for i, piece, new in self._with_new():
            if new is None:
                total[:, piece.rows] += self._columns_of(piece.forward(piece.inputs))
                continue
            widest = max(value[0].numel() * value.element_size() for value in (*new.values(), piece.inputs))
            room = working_memory(piece.inputs, max_memory)
            step = n_copies(widest, len(piece.inputs), room, min(n, _MOST_COPIES))
            for start in range(0, n, step):
                some = {layer: rows[start : start + step] for layer, rows in sets.items()}
                total[start : start + step, piece.rows] += self._run(piece, some, new, at_inputs=not self._late[i])
        return total

    def direct(self, freeze: Any) -> Numbers:
        """Return the responses under the lesion while other layers hold what they hold intact.

        Parameters
        ----------
        freeze : str or sequence of str
            Layers; those that are not reached before the responses are left out.

        Returns
        -------
        ndarray of float64, (presentation, neuroid)
        """
        frozen, total = list(find_layers(self.responder, freeze)), np.zeros_like(self.intact)
        for _, piece, new in self._with_new():
            if new is None:
                total[piece.rows] += self._columns_of(piece.forward(piece.inputs))
                continue
            with torch.no_grad(), self.responder.reading(frozen) as seen:
                piece.forward(piece.inputs)
                fixed = {layer: seen[layer] for layer in frozen if layer in seen}
            # Frozen before it is lesioned, where a layer is both: its other units are not to follow either.
            with self.responder.altering({layer: lambda value, held=held: held for layer, held in fixed.items()}):
                total[piece.rows] += self._run(piece, self.sets, new, at_inputs=True)[0]
        return total

    def _with_new(self) -> Iterable[tuple[int, Piece, dict[str, torch.Tensor] | None]]:
        """Yield each piece with what takes the place of lesioned units there; None for a piece without a network."""
        at = 0
        for i, piece in enumerate(self._pieces):
            lesioned = i in self._late
            yield i, piece, {layer: parts[at] for layer, parts in self._new.items()} if lesioned else None
            at += lesioned

    def _run(self, piece: Piece, sets: Mapping[str, Numbers], new: Mapping[str, torch.Tensor], *, at_inputs: bool) -> Numbers:
        codes = {layer: self._codes(layer, tuple(value.shape[1:])) for layer, value in new.items()}
        masks = {layer: torch.as_tensor(rows[:, codes[layer]], device=piece.inputs.device) for layer, rows in sets.items()}
        scales = {layer: torch.as_tensor(self._scale[layer][codes[layer]]).to(value) for layer, value in new.items()}
        return self._columns_of(run_copies(self.responder, piece, masks, new, at_inputs=at_inputs, scales=scales))

    def _columns_of(self, out: torch.Tensor) -> Numbers:
        return out.detach().double().cpu().numpy()[..., self.columns]
