"""A fitted chain as torch: sparse mixings over presentations, affine maps over features, and at its end perhaps a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.base import OneToOneFeatureMixin

from brainalign.core.errors import CapabilityError
from brainalign.features.chain import Chain, is_mixing, is_stateless

_PROBE_ROWS = 512  # unit vectors sent through a step at a time
_DENSE = 2**22  # entries of a mixing that are held densely: sparse products have no derivative in forward mode


@dataclass(frozen=True)
class Affine:
    """``x -> x @ weight + bias``; a one-to-one step (scaling) keeps its weight as a vector.

    Attributes
    ----------
    weight : Tensor, (feature, output) or (feature,)
    bias : Tensor, (output,)
    """

    weight: torch.Tensor
    bias: torch.Tensor
    _cast: dict[Any, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Apply the map to the last dim, in the dtype and on the device of ``x``; without its constant, the linear part alone."""
        place = x.dtype, x.device
        if place not in self._cast:
            self._cast[place] = self.weight.to(x), self.bias.to(x)
        weight, bias = self._cast[place]
        out = x * weight if weight.ndim == 1 else x @ weight
        return out + bias if constant else out

    def take(self, columns: torch.Tensor) -> Affine:
        """Return the map to some of the outputs."""
        return Affine(self.weight[:, columns], self.bias[columns])

    def tensors(self) -> list[torch.Tensor]:
        """Return all that the map was fitted to."""
        return [self.weight, self.bias]


@dataclass(frozen=True)
class Network:
    """A fitted mapping that is a torch module, as the last step; it has no linear part.

    Attributes
    ----------
    module : Module
        Flattened features to targets.
    columns : Tensor of int, or None
        Which of its outputs; all.
    """

    module: torch.nn.Module
    columns: torch.Tensor | None = None

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Run the module."""
        out = self.module(x)
        return out if self.columns is None else out[:, self.columns]

    def take(self, columns: torch.Tensor) -> Network:
        """Return the map to some of the outputs."""
        return Network(self.module, columns if self.columns is None else self.columns[columns])

    def tensors(self) -> list[torch.Tensor]:
        """Return all that the module was fitted to."""
        return [tensor.cpu() for tensor in self.module.state_dict().values()]


@dataclass(frozen=True)
class Mixing:
    """``x -> concat([M @ x for M in matrices], -1)`` over presentations, the first dim.

    Attributes
    ----------
    matrices : tuple of scipy sparse matrices, (output row, row)
    """

    matrices: tuple[Any, ...]
    _cast: dict[Any, list[torch.Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Apply the matrices; they have no constant."""
        place = x.dtype, x.device
        if place not in self._cast:
            self._cast[place] = [_tensor(matrix).to(x) for matrix in self.matrices]
        flat = x.reshape(len(x), -1)
        return torch.cat([(matrix @ flat).reshape(-1, *x.shape[1:]) for matrix in self._cast[place]], dim=-1)

    def restrict(self, columns: np.ndarray[Any, Any]) -> tuple[Mixing, np.ndarray[Any, Any]]:
        """Return the mixing of some source rows only, and the output rows that they reach."""
        cut = [matrix.tocsc()[:, columns].tocsr() for matrix in self.matrices]
        reached = np.flatnonzero(sum(np.diff(matrix.indptr) for matrix in cut))
        return Mixing(tuple(matrix[reached] for matrix in cut)), reached


def _tensor(matrix: Any) -> torch.Tensor:
    if matrix.shape[0] * matrix.shape[1] <= _DENSE:
        return torch.as_tensor(matrix.toarray())
    coo = matrix.tocoo()
    index = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
    return torch.sparse_coo_tensor(index, torch.as_tensor(coo.data), coo.shape, check_invariants=False)


Steps = Sequence[Affine | Mixing | Network]


def affine_steps(model: Chain) -> list[Affine | Network]:
    """Return the affine map of every fitted step, found by probing it, and checked on random points.

    Parameters
    ----------
    model : Chain
        Fitted.

    Returns
    -------
    list of Affine
        In the order of the chain, presentation steps left out; the mapping is the last, a Network where it is a torch module.

    Raises
    ------
    CapabilityError
        A step is not affine, or the mapping is neither linear nor a torch module, or predicts a time dim.
    """
    width = len(model.source_neuroids_["neuroid_id"])
    maps: list[Affine | Network] = []
    for step in model.steps_[:-1]:
        if is_mixing(step):
            width *= len(step.labels({"neuroid_id": np.arange(1)})["neuroid_id"])
            continue
        if is_stateless(step) or not hasattr(step, "transform"):
            raise CapabilityError(
                f"readout cannot turn {type(step).__name__} into a fixed affine map: it depends on the run it is applied to. Apply it to "
                "the features by hand, or leave it out of the chain."
            )
        found = probe(step, width)
        maps.append(found)
        width = len(found.bias)
    mapping = model.steps_[-1]
    module = getattr(mapping, "network_", None)
    if not (hasattr(mapping, "intercept_") or module is not None) or len(mapping.target_shape_) > 1:
        raise CapabilityError(
            f"readout needs a mapping that is linear or a torch module, to targets without a time dim. Got {type(mapping).__name__} with a target of shape (n, "
            f"{', '.join(map(str, mapping.target_shape_))}): fit a `ba.Ridge`, on one time point or on `ba.BinTime` bins."
        )
    if module is not None:
        if model.mixes:
            raise CapabilityError(
                f"readout cannot divide {type(mapping).__name__} among the stimuli that a step of the chain mixes: it is not linear. Apply "
                "that step to the features by hand, or use a linear mapping such as `ba.SpatialReadout`."
            )
        return [*maps, Network(module)]
    return [*maps, Affine(torch.as_tensor(np.asarray(mapping.coef_)), torch.as_tensor(np.asarray(mapping.intercept_)))]


def probe(step: Any, width: int) -> Affine:
    """Return the affine map that a fitted transformer is.

    Parameters
    ----------
    step : scikit-learn transformer
    width : int
        Features that go in.

    Returns
    -------
    Affine

    Raises
    ------
    CapabilityError
        Random points do not go where the map through the origin and the unit vectors sends them.
    """
    apply: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda x: np.asarray(step.transform(x), dtype=np.float64)  # noqa: E731
    bias = apply(np.zeros((1, width)))[0]
    if isinstance(step, OneToOneFeatureMixin):
        weight = apply(np.ones((1, width)))[0] - bias
    else:
        starts = range(0, width, _PROBE_ROWS)
        weight = np.concatenate([apply(np.eye(min(_PROBE_ROWS, width - k), width, k)) for k in starts]) - bias
    points = np.random.default_rng(0).normal(size=(4, width))
    expected = bias + (points * weight if weight.ndim == 1 else points @ weight)
    if not np.allclose(apply(points), expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max()))):
        raise CapabilityError(
            f"readout found that {type(step).__name__} is not affine: its output at random points differs from the affine map through "
            "its output at the origin and the unit vectors. Use scaling, PCA, selection or projection steps."
        )
    return Affine(torch.as_tensor(weight), torch.as_tensor(bias))


def compose(steps: Steps, constant: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that applies steps one after the other.

    Parameters
    ----------
    steps : sequence of Affine and Mixing
    constant : bool
        False: the linear part alone.

    Returns
    -------
    callable
    """

    def forward(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            x = step(x, constant)
        return x

    return forward


def linear_part(steps: Steps) -> Callable[[torch.Tensor, Any], torch.Tensor]:
    """Return the linear part of affine steps as a function of values and of the outputs that are wanted.

    Parameters
    ----------
    steps : sequence of Affine and Mixing

    Returns
    -------
    callable
        (row, ..., feature) and an ndarray of int to (row, ..., output).
    """
    *first, last = steps
    return lambda x, columns: compose([*first, last.take(torch.as_tensor(columns))], constant=False)(x)  # type: ignore[union-attr]


def narrowest(steps: Steps, width: int) -> tuple[int, int]:
    """Return how many of the first steps lead to the fewest features, and how many features these are.

    Parameters
    ----------
    steps : sequence of Affine and Mixing
    width : int
        Features that go in.

    Returns
    -------
    n_steps, n_features : int
        Of the steps before presentations are mixed, and never the last.
    """
    widths = [width]
    for step in steps[:-1]:
        if not isinstance(step, Affine):
            break
        widths.append(len(step.bias))
    at = int(np.argmin(widths))
    return at, widths[at]


def share_of(steps: Steps, rows: np.ndarray[Any, Any]) -> tuple[list[Affine | Mixing | Network], np.ndarray[Any, Any]]:
    """Return the steps that carry some source rows forward, and the output rows that they reach.

    Parameters
    ----------
    steps : sequence of Affine and Mixing
    rows : ndarray of int
        Source rows.

    Returns
    -------
    steps : list of Affine and Mixing
    reached : ndarray of int
    """
    share: list[Affine | Mixing | Network] = []
    for step in steps:
        if isinstance(step, Mixing):
            step, rows = step.restrict(rows)
        share.append(step)
    return share, rows
