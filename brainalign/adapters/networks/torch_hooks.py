"""Any ``torch.nn.Module`` as a responder: its layers are read by forward hooks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Self

import numpy as np
import torch
import xarray as xr

from brainalign.adapters.networks.capture import (
    OnDemand,
    Tap,
    capture,
    check_columns,
    check_finite,
    flatten,
    map_coords,
    pick,
)
from brainalign.adapters.networks.checkpoints import load_checkpoint
from brainalign.adapters.networks.draws import active_dropout, drawing, spawn
from brainalign.adapters.networks.inside import Copies, Inside, is_channels_first, module_taps
from brainalign.adapters.networks.untrained import Untrainable
from brainalign.adapters.networks.weights import WeightsHash, describe_callable, digest, stable_repr
from brainalign.adapters.stimuli.media import read_content
from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_device, check_number, check_random_state
from brainalign.core.protocols import Piece
from brainalign.engine.backend import resolve_device

DTYPES = ("float32", "float64", "float16", "bfloat16")
_PIECE_ROWS = 32  # inputs differentiated together: bounds the graph that a backward pass holds
_DIMS = {1: ("feature",), 2: ("channel", "sample"), 3: ("channel", "y", "x"), 4: ("channel", "z", "y", "x")}


class TorchResponder(Inside, Untrainable):
    """Layers of any ``torch.nn.Module``, as responses.

    Parameters
    ----------
    model : Module
        Called with one batch tensor. Put to evaluation mode while it responds, and back afterwards.
    layers : str or sequence of str
        Names of its modules (``model.named_modules()``) or globs: ``*`` stays within one dotted part and ``**`` spans
        any number of them, so ``"layer*"`` is ``layer1`` ... ``layer4`` and ``"**.relu"`` every ``relu``. A module that
        is called several times in a forward pass responds with its first call; the second one is ``"relu#2"``.
    system : str
        Whose responses these are (``"resnet50"``).
    preprocess : callable, optional
        From the content of some stimuli (a list of images (y, x, channel) uint8 or of texts, or an array (stimulus, ...))
        to a batch tensor (stimulus, ...). Default: images as (channel, y, x) in 0 to 1, arrays as they are in float. Token ids in an
        array stay integers with ``preprocess=torch.as_tensor``.
    device : {"cpu", "cuda", "auto"}, optional
        Default: where the model is. Otherwise the model is moved there.
    dtype : str, optional
        Of the batch: ``"float32"``, ``"float64"``, ``"float16"`` or ``"bfloat16"``. Default: that of the model's weights.
    dropout : bool
        Leave dropout on (Monte Carlo dropout): the responses are then random, and ``deterministic`` is False.
    deterministic : bool, optional
        Pass False for a model that is random in evaluation mode too. Default: True unless dropout is left on.
    random_state : int, Generator or None
        Of a random model: what it draws follows from it and from the row that a batch begins with. With an int every recording is the
        same; a Generator, or None, gives each recording another seed, which its provenance holds: these are repeats. Attributions,
        patches and lesions go through one thinned network, the same in all rows and passes.
    checkpoint : path, optional
        Weights to load into the model first: a ``.safetensors`` file or a state dict of torch, which must hold every weight, and no
        other. What is recorded says which file it was, with its sha256.

    Attributes
    ----------
    checkpoint : dict or None
        ``file`` and ``sha256``.
    layers : tuple of str
        The layers found, in the order of ``model.named_modules()``.

    Raises
    ------
    ParameterError
        A name or glob that matches no module; close names are listed. No such device.
    FormatError
        A checkpoint that is damaged, or does not fit the model.

    Notes
    -----
    A layer's output may be a tensor, or a tuple, list or mapping that holds one: the first stands for it (of a mapping:
    ``last_hidden_state``, if there is one). The forward pass ends after the last wanted layer. Stores notice that weights changed,
    but not where they were written through ``tensor.data``.

    Neuroids are numbered within a layer in the flat order of its output, with the coordinates ``unit`` and, for maps
    (channel, y, x), ``channel_x`` and ``channel_y``; for token maps (token, unit) and the maps of one-dimensional
    convolutions (unit, token), ``token``.

    Examples
    --------
    >>> import brainalign as ba, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 5))
    >>> responder = ba.TorchResponder(net, layers=["1", "3"], system="net")
    >>> images = ba.stimuli.table(torch.rand(4, 3, 8, 8).numpy(), stimulus_id=list("abcd"), kind="array")
    >>> {name: values.shape for name, values in responder.respond(images, slice(0, 4)).items()}
    {'1': (4, 72), '3': (4, 5)}
    >>> sorted(responder.neuroids(images)["1"])
    ['channel_x', 'channel_y', 'neuroid_id', 'unit']
    """

    modality = "ann"

    def __init__(
        self,
        model: torch.nn.Module,
        layers: str | Sequence[str] = "*",
        *,
        system: str,
        preprocess: Callable[[Any], torch.Tensor] | None = None,
        device: str | None = None,
        dtype: str | None = None,
        dropout: bool = False,
        deterministic: bool | None = None,
        checkpoint: Any = None,
        random_state: int | np.random.Generator | None = None,
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise ParameterError(f"TorchResponder got a {type(model).__name__}. Expected a torch.nn.Module.")
        if device is not None:
            device = check_device(device, resolve_device(device), owner="TorchResponder")
        self.checkpoint = None if checkpoint is None else load_checkpoint(model, checkpoint)
        self.model = model if device is None else model.to(device)
        self.system = system
        self._preprocess, self._dropout = preprocess, bool(dropout)
        self._taps = module_taps(model, layers, owner=type(self).__name__)
        self._copies = Copies()
        self._columns: np.ndarray[Any, Any] | None = None
        weight = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        self.device = torch.device(device) if device is not None else weight.device
        self._dtype = (
            weight.dtype if dtype is None else getattr(torch, check_choice("dtype", dtype, DTYPES, owner="TorchResponder"))
        )
        self.random_state, still = random_state, not (dropout and active_dropout(model))
        self._is_random = not still or deterministic is False
        self.deterministic = still if deterministic is None else bool(deterministic)
        self._weights = WeightsHash(model)

    def at(self, layer: str, neuroid: Any = None) -> TorchResponder:
        """Return a responder of one layer, or of some of its neuroids.

        Parameters
        ----------
        layer : str
            One of ``layers``.
        neuroid : int or sequence of int, optional
            Their ``neuroid_id``; default all.

        Returns
        -------
        TorchResponder
            Shares the model.

        Raises
        ------
        ParameterError
            No such layer.
        """
        check_choice("layer", layer, self.layers, owner="TorchResponder.at")
        other = copy.copy(self)
        other._taps = [tap for tap in self._taps if tap.name == layer]
        other._columns = check_columns(neuroid)
        return other

    def seeded(self) -> Self:
        """Return the same responder with its seed drawn, if it is random; itself, if it is not.

        Returns
        -------
        TorchResponder
            Its ``random_state`` is an int.
        """
        if not self._is_random:
            return self
        other = copy.copy(self)
        other.random_state = self._seed()
        return other

    def _seed(self) -> int:
        return check_random_state(self.random_state, owner=type(self).__name__)

    def fingerprint(self) -> str:
        """Return a hash of the weights, the layers, the preprocessing, the options and the seed of what is drawn."""
        columns = "all" if self._columns is None else repr(self._columns.tolist())
        options = f"{self._dtype} dropout={self._dropout} eval"
        if self._is_random and isinstance(self.random_state, int):
            options += f" {self.random_state}"
        network = self._weights(), stable_repr(self.model), *self.layers, columns
        return digest(*network, describe_callable(self._preprocess), options, *self._altered())

    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the coordinates of the neuroids by layer, found by one pass of the first stimulus.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        dict of str to dict of str to ndarray
        """
        shapes: dict[str, Sequence[int]] = {}

        def keep(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            shapes[tap.name] = value.shape[1:]
            return value[:0]

        with torch.inference_mode():
            self._run(self._batch(stimuli, np.arange(1)), keep, 0)
        return {
            tap.name: pick(map_coords(shapes[tap.name], channels_first=is_channels_first(tap.module)), self._columns)
            for tap in self._taps
        }

    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return slices of ``batch_size`` stimuli.

        Parameters
        ----------
        stimuli : Dataset
        batch_size : int

        Returns
        -------
        list of slice
        """
        check_number("batch_size", batch_size, owner="blocks", low=1, integer=True)
        n = stimuli.sizes["presentation"]
        return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]

    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return the responses of some rows, by layer.

        Parameters
        ----------
        stimuli : Dataset
        rows : slice
            Computed in one forward pass.

        Returns
        -------
        dict of str to ndarray, (row, neuroid) float32

        Raises
        ------
        CapabilityError
            A layer was not called, gave no tensor, or its first dim is not the batch.
        """
        wanted = np.arange(stimuli.sizes["presentation"])[rows]
        seed = spawn(self._seed(), int(wanted[0])) if self._is_random and wanted.size else 0
        with torch.inference_mode():
            found = self._run(self._batch(stimuli, wanted), self._keep, seed)
        return {name: value.float().cpu().numpy() for name, value in found.items()}

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return pieces of up to 32 stimuli each, made on demand.

        Parameters
        ----------
        stimuli : Dataset
        rows : ndarray of int, optional
            Default all.

        Returns
        -------
        sequence of Piece
            Inputs are the preprocessed batch; every input makes its own row. They are differentiable unless they are integers, such as
            token ids.

        Raises
        ------
        SchemaError
            It has NaN or infinite values.
        """
        wanted = np.arange(stimuli.sizes["presentation"]) if rows is None else np.asarray(rows)
        chunks = [wanted[start : start + _PIECE_ROWS] for start in range(0, len(wanted), _PIECE_ROWS)]
        seed = self._seed() if self._is_random else 0
        return OnDemand([lambda chunk=chunk: self._piece(stimuli, chunk, seed) for chunk in chunks])

    def _piece(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any], seed: int) -> Piece:
        inputs = self._batch(stimuli, rows)
        check_finite(inputs, rows, self.system)
        dims = _DIMS.get(inputs.ndim - 1, tuple(f"axis_{i}" for i in range(inputs.ndim - 1)))
        return Piece(inputs, partial(self._forward, seed=seed), rows, None, dims)

    def _forward(self, inputs: torch.Tensor, *, seed: int) -> torch.Tensor:
        def keep(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            return torch.cat([self._keep(tap, part) for part in self._copies.split(value)])

        # A network may scale its input in place.
        return torch.cat(list(self._run(inputs.clone(), keep, seed, alike=True).values()), dim=1)

    def _run(
        self, batch: torch.Tensor, keep: Callable[[Tap, torch.Tensor], torch.Tensor], seed: int, *, alike: bool = False
    ) -> dict[str, torch.Tensor]:
        def checked(tap: Tap, value: torch.Tensor) -> torch.Tensor:
            if value.ndim == 0 or len(value) != len(batch) * (self._copies.n if self._copies.made else 1):
                raise CapabilityError(
                    f"The layer {tap.name!r} gives shape {tuple(value.shape)} for a batch of {len(batch)}. Expected the batch as its first "
                    "dim: name another layer (a recurrent module needs batch_first=True)."
                )
            return keep(tap, value)

        drawn = drawing(self.model, seed, self.device, dropout=self._dropout, alike=alike) if self._is_random else nullcontext()
        with drawn:
            return capture(self.model, lambda: self.model(batch), self._taps, checked)

    def _keep(self, tap: Tap, value: torch.Tensor) -> torch.Tensor:
        return flatten(value, self._columns)

    def _batch(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any]) -> torch.Tensor:
        content = read_content(stimuli, rows)
        if stimuli.attrs.get("kind") == "image" and getattr(content, "dtype", None) == np.uint8:
            content = list(content)  # a list also where all are of one size
        batch = _default_batch(content, self.system) if self._preprocess is None else self._preprocess(content)
        if not isinstance(batch, torch.Tensor) or len(batch) != len(rows):
            got = tuple(batch.shape) if isinstance(batch, torch.Tensor) else type(batch).__name__
            raise ParameterError(
                f"`preprocess` of {self.system!r} gave {got} for {len(rows)} stimuli. Expected a tensor, one row each."
            )
        return batch.to(self.device, self._dtype if batch.is_floating_point() else None)


def _default_batch(content: Any, system: str) -> torch.Tensor:
    if isinstance(content, np.ndarray):
        return torch.as_tensor(np.ascontiguousarray(content, dtype=np.float32))
    images = [np.asarray(image) for image in content]
    if any(image.dtype != np.uint8 or image.ndim not in (2, 3) for image in images):
        raise ParameterError(
            f"TorchResponder {system!r} has no `preprocess` for content such as {content[0]!r:.60}. Pass a callable that turns a list of "
            "such stimuli into a batch tensor."
        )
    shapes = sorted({image.shape for image in images})
    if len(shapes) > 1:
        raise ParameterError(
            f"TorchResponder {system!r} got images of {len(shapes)} sizes, {shapes[0]} and {shapes[1]}. Expected one: pass a `preprocess` "
            "that resizes them."
        )
    pixels = torch.as_tensor(np.stack(images)).to(torch.float32) / 255
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
