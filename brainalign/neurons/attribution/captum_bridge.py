"""What captum's methods need, of any responder: a module with a column for each neuroid, and its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError, require
from brainalign.core.parameters import preview
from brainalign.core.protocols import DifferentiableResponder, seeded
from brainalign.features.recorded import as_stimuli
from brainalign.neurons.addresses import find_neuroids
from brainalign.neurons.attribution.inputs import check_continuous


class NeuroidModule(torch.nn.Module):
    """A responder as a module, (batch, ...) to (batch, neuroid).

    Parameters
    ----------
    network : Module or None
        What captum finds layers in.
    forward : callable
    columns : Tensor of int64
    """

    def __init__(self, network: torch.nn.Module | None, forward: Callable[[Any], Any], columns: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self._respond, self._columns = forward, columns

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the responses of the neuroids to each input.

        Parameters
        ----------
        x : Tensor, (batch, ...)

        Returns
        -------
        Tensor, (batch, neuroid)
        """
        out: torch.Tensor = self._respond(x)
        return out[:, self._columns.to(out.device)]


def captum_forward(
    responder: Any, stimuli: xr.Dataset | xr.DataArray, *, neuroid: Any = None, presentations: Any = None
) -> tuple[NeuroidModule, torch.Tensor]:
    """Return a voxel, a unit or a decoded class as captum's methods take it: a module, and the inputs that it responds to.

    Parameters
    ----------
    responder : DifferentiableResponder
        A network layer, or a ``readout``.
    stimuli : Dataset, (presentation,), or DataArray, (presentation, neuroid[, time])
        Responses, where the responder is the ``readout`` of a recording.
    neuroid : str, int, or sequence of them, optional
        As in :func:`attribute`; captum's ``target`` is a position among them. Default all.
    presentations : sequence of int, optional
        Default all; of texts, one.

    Returns
    -------
    module : Module
        (batch, ...) to (batch, neuroid). It holds the network, whose modules are what captum calls layers.
    inputs : Tensor, (batch, ...)
        Pixels, samples, recorded values, or embeddings of a text.

    Raises
    ------
    OptionalDependencyError
        captum is not installed.
    CapabilityError
        The responder has no gradients, or its inputs do not each make one row: words in a window, presentations that are mixed, or
        stimuli of several shapes.
    ParameterError
        No such neuroid.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> from captum.attr import IntegratedGradients
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh()), layers="1", system="net")
    >>> images = ba.stimuli.table(np.eye(5, dtype="float32"), stimulus_id=list("abcde"), kind="array")
    >>> unit, inputs = ba.neurons.captum_forward(net, images, neuroid=2)
    >>> theirs = IntegratedGradients(unit).attribute(inputs, target=0, n_steps=16)
    >>> ours = ba.attribute(net, images, neuroid=2)
    >>> np.allclose(ours.values[:, 0], theirs.detach(), atol=1e-5)
    True
    """
    require("captum.attr", extra="dev", purpose="captum_forward")
    if not isinstance(responder, DifferentiableResponder):
        raise CapabilityError(
            f"captum_forward got a {type(responder).__name__}, which has no `pieces`. Expected a responder with gradients: a TorchResponder, a "
            "TransformersResponder or what `ba.readout` returns."
        )
    responder, stimuli = seeded(responder), as_stimuli(stimuli)
    columns, _ = find_neuroids(responder.neuroids(stimuli), neuroid, owner="captum_forward")
    rows = np.arange(len(responder.presentations(stimuli))) if presentations is None else np.unique(presentations)
    pieces = list(responder.pieces(stimuli, rows))
    shapes = {tuple(piece.inputs.shape[1:]) for piece in pieces}
    own = all(piece.parts is None for piece in pieces) or (len(pieces) == 1 and len(pieces[0].inputs) == len(pieces[0].rows) == 1)
    if len(shapes) != 1 or not own:
        what = (
            f"inputs of {len(shapes)} shapes, {preview(sorted(shapes))}" if len(shapes) > 1 else "inputs that several rows share"
        )
        raise CapabilityError(
            f"captum_forward got {what}. Expected one shape, and one row for each input: choose a text by `presentations=[0]`, and leave delays "
            "out of the chain; `ba.attribute` takes all of these."
        )
    inputs = torch.cat([piece.inputs.detach() for piece in pieces])
    check_continuous(inputs, owner="captum_forward")
    return NeuroidModule(_network_of(responder), pieces[0].forward, torch.as_tensor(columns)), inputs


def _network_of(responder: Any) -> torch.nn.Module | None:
    while hasattr(responder, "backbone"):
        responder = responder.backbone
    network = getattr(responder, "model", None)
    return network if isinstance(network, torch.nn.Module) else None
