"""What the parts of brainalign ask of each other. Any object with these methods will do; nothing is inherited."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Mapped
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import xarray as xr


@runtime_checkable
class Responder(Protocol):
    """Maps stimuli to responses and names its neuroids: a network layer, or a fitted model of a voxel.

    Attributes
    ----------
    system : str
        Whose responses these are (``"resnet50"``, ``"sub-01"``).
    modality : str
        One of :data:`brainalign.core.schema.MODALITIES`.
    deterministic : bool
        A second presentation gives the same response. Where it need not, a method ``seeded()`` may return the same responder with its seed
        drawn, an int in ``random_state``: verbs ask for it first, and keep the seed in the provenance.
    """

    system: str
    modality: str
    deterministic: bool

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a hash of all that decides the responses: weights, preprocessing, tokenizer, options."""

    @abstractmethod
    def presentations(self, stimuli: xr.Dataset) -> pd.DataFrame:
        """Return a row of presentation coordinates for each response row (mostly those of ``stimuli``)."""

    @abstractmethod
    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the coordinates of the neuroids, by group (layer or region); ``neuroid_id`` is among them."""

    @abstractmethod
    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return runs of response rows that are computed together; in order, they cover every row once."""

    @abstractmethod
    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return the responses of one block by group, each (row, neuroid) float32."""


@dataclass(frozen=True)
class Piece:
    """One differentiable piece of a responder: continuous inputs and the responses that they contribute to.

    Attributes
    ----------
    inputs : torch.Tensor, (batch, ...)
        Pixels, samples or token embeddings: what gradients are taken with respect to. Token ids have none: behind them layers are
        altered all the same.
    forward : callable
        ``inputs`` to a tensor (row, neuroid), differentiable. It also takes several copies of the inputs, stacked along the batch,
        each of them altered or not, and returns the rows of each, (copy * row, neuroid).
    rows : ndarray of int, (row,)
        Which presentations the output rows are. Two pieces may name the same presentation: their outputs add up.
    parts : ndarray of int, (batch, position), or None
        The stimulus that each input position belongs to; -1 for positions that are no stimulus (special tokens,
        padding), which stay as they are in every baseline. None: input ``i`` alone makes output row ``i``.
    dims : tuple of str
        Names of the dims of one input, e.g. ``("channel", "y", "x")`` or ``("position", "embedding")``.
    features : Features, optional
        What the responses are a linear map of.
    coords : mapping of str to (dims, ndarray)
        Labels of the dims of one input, where it has them.
    """

    inputs: Any
    forward: Callable[[Any], Any]
    rows: np.ndarray[Any, Any]
    parts: np.ndarray[Any, Any] | None
    dims: tuple[str, ...]
    features: Features | None = None
    coords: Mapped[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Features:
    """Features of which the responses of a piece are a linear map, up to a constant.

    Attributes
    ----------
    piece : Piece
        The same inputs, to features.
    n : int
        How many there are.
    linear : callable
        Values of features, (row of that piece, ..., feature), to those of the responses, (row, ..., neuroid), without the constant;
        a second argument names the columns that are wanted.
    """

    piece: Piece
    n: int
    linear: Callable[[Any, Any], Any]


@runtime_checkable
class DifferentiableResponder(Responder, Protocol):
    """A responder whose responses can be differentiated with respect to its continuous input."""

    @abstractmethod
    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return the pieces that the given response rows (default: all) depend on, made on demand."""


@runtime_checkable
class InnerResponder(DifferentiableResponder, Protocol):
    """A responder whose inner layers can be read and altered while any ``Piece.forward`` or ``respond`` runs.

    Layers go by name: those that the responder could answer for, of every kind, and the modules of the network; ``"relu#2"``
    is the second call of a module. Nothing stays behind when a context ends, by an error or not.
    """

    @abstractmethod
    def inner_layers(self, layers: str | Sequence[str] = "**") -> list[str]:
        """Return the names of the inner layers that match names or globs."""

    @abstractmethod
    def inner_coords(self, layer: str, shape: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        """Return ``unit`` and, where it has them, ``token``, ``head``, ``channel_x`` of one row of a layer, in flat order."""

    @abstractmethod
    def reading(self, layers: Iterable[str]) -> AbstractContextManager[Mapped[str, Any]]:
        """Read layers: the mapping holds the tensors of the last forward pass, (row, ...), in the graph of autograd."""

    @abstractmethod
    def altering(self, changes: Mapped[str, Callable[[Any], Any]], *, copies: int = 1) -> AbstractContextManager[None]:
        """Alter layers: each tensor goes through its function, which may also return ``copies`` of its rows, copy by copy.

        What lies before such a change runs once and what lies behind it for all copies; ``Piece.forward`` then returns
        (copy * row, neuroid).
        """


@runtime_checkable
class Mapping(Protocol):
    """Fits targets from sources, sklearn-style: a :class:`Ridge`, a :class:`Classifier`, a chain.

    It is cloned for every fold, for which ``get_params`` and ``set_params`` are needed: those of ``sklearn.base.BaseEstimator`` will do,
    with a constructor that only stores its arguments.
    """

    @abstractmethod
    def fit(self, X: Any, Y: Any) -> Any:
        """Learn from ``X`` (presentation, neuroid) to predict ``Y`` (presentation, neuroid[, time])."""

    @abstractmethod
    def predict(self, X: Any) -> Any:
        """Return predictions labelled like ``Y``."""


@runtime_checkable
class PresentationStep(Protocol):
    """A feature step that only mixes presentations and learns nothing: a set of sparse matrices.

    The transformed responses are ``concat([M @ X for M in mixing(...)], "neuroid")``.

    Attributes
    ----------
    retimes : bool
        True where the output rows are the target's presentations; False where they are the source's own.
    reach_s : tuple of float
        How far before and after a presentation's onset the step looks, in seconds, both non-negative.
    """

    retimes: bool
    reach_s: tuple[float, float]

    @abstractmethod
    def mixing(self, source: pd.DataFrame, target: pd.DataFrame) -> list[Any]:
        """Return scipy sparse matrices (output row, source row); none crosses a run."""

    @abstractmethod
    def labels(self, coords: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the neuroid coordinates of the output, given those of the input."""


@runtime_checkable
class Generator(Protocol):
    """Makes stimuli from latents: a search in a bank, a linear map back to pixels, or a diffusion model behind this one method."""

    @abstractmethod
    def generate(self, latents: Any, seed: int = 0) -> xr.Dataset:
        """Return a stimulus table with a row for each row of ``latents``, a dict of str to DataArray or one (presentation, neuroid)."""


@runtime_checkable
class Captioner(Protocol):
    """Puts features into words: a language model behind an embedding, or a search in a bank of captions."""

    @abstractmethod
    def caption(self, features: Any) -> list[str]:
        """Return one text for each row of ``features``, an ndarray (row, dimension)."""


@runtime_checkable
class Adapter(Protocol):
    """Opens one file format as responses."""

    @abstractmethod
    def matches(self, path: Any) -> str | bool:
        """Return why the file or object looks like this format, by content rather than by name; falsy where it does not."""

    @abstractmethod
    def open(self, path: Any, **options: Any) -> xr.DataArray:
        """Return valid responses, or raise a typed error that names the file, the field and the mend."""


@runtime_checkable
class Metric(Protocol):
    """Scores predictions column by column, pooled over folds without keeping them.

    Attributes
    ----------
    name : str
    """

    name: str

    @abstractmethod
    def sums(self, target: Any, prediction: Any) -> Any:
        """Return what one fold adds, for (row, column) arrays of its test rows."""

    @abstractmethod
    def pool(self, folds: Sequence[Any]) -> Any:
        """Add up the sums of several folds."""

    @abstractmethod
    def score(self, sums: Any) -> Any:
        """Return one score a column; NaN where it is undefined."""


def seeded(responder: Any) -> Any:
    """Return a responder that draws the same whenever it is asked, where it can be had: then ``random_state`` is its seed.

    Parameters
    ----------
    responder : Responder

    Returns
    -------
    Responder
    """
    return responder.seeded() if hasattr(responder, "seeded") else responder
