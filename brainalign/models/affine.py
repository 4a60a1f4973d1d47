"""A fitted chain as torch: sparse mixings over presentations, affine maps over features, and at its end perhaps a module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
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
    """``x -> (x - origin) @ weight + bias``; a one-to-one step (scaling) keeps its weight as a vector.

    Attributes
    ----------
    weight : Tensor, (feature, output) or (feature,)
    bias : Tensor, (output,)
    origin : Tensor, (feature,)
        Taken off first: features far from 0 would drown in the rounding of a large product.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    origin: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    _cast: dict[Any, list[torch.Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Apply the map to the last dim, in the dtype and on the device of ``x``; without its constant, the linear part alone."""
        place = x.dtype, x.device
        if place not in self._cast:
            self._cast[place] = [tensor.to(x) for tensor in self.tensors()]
        weight, bias, origin = self._cast[place]
        x = x - origin if constant else x
        out = x * weight if weight.ndim == 1 else x @ weight
        return out + bias if constant else out

    def take(self, columns: torch.Tensor) -> Affine:
        """Return the map to some of the outputs.

        Parameters
        ----------
        columns : Tensor of int, (output,)

        Returns
        -------
        Affine
        """
        return Affine(self.weight[:, columns], self.bias[columns], self.origin)

    def tensors(self) -> list[torch.Tensor]:
        """Return all that the map was fitted to.

        Returns
        -------
        list of Tensor
        """
        return [self.weight, self.bias, self.origin]


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
        """Return the map to some of the outputs.

        Parameters
        ----------
        columns : Tensor of int, (output,)

        Returns
        -------
        Network
        """
        return Network(self.module, columns if self.columns is None else self.columns[columns])

    def tensors(self) -> list[torch.Tensor]:
        """Return all that the module was fitted to.

        Returns
        -------
        list of Tensor
        """
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
        flat = x.flatten(1)  # of no rows too: a run without words
        return torch.cat([(matrix @ flat).reshape(len(matrix), *x.shape[1:]) for matrix in self._cast[place]], dim=-1)

    def restrict(self, columns: np.ndarray[Any, Any]) -> tuple[Mixing, np.ndarray[Any, Any]]:
        """Return the mixing of some source rows only, and the output rows that they reach.

        Parameters
        ----------
        columns : ndarray of int
            The source rows.

        Returns
        -------
        mixing : Mixing
        reached : ndarray of int
        """
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


def in_steps(model: Chain) -> Chain:
    """Return a chain whose mapping, where it has lags of its own, is taken apart into the steps that it stands for.

    Parameters
    ----------
    model : Chain
        Fitted.

    Returns
    -------
    Chain
    """
    last = model.steps_[-1]
    if not hasattr(last, "as_steps"):
        return model
    steps = (*model.steps_[:-1], *last.as_steps())
    out = Chain(steps)
    out.steps_, out.presentations_, out.source_neuroids_ = steps, model.presentations_, model.source_neuroids_
    return out


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
    if len(mapping.target_shape_) > 1:
        raise CapabilityError(
            f"readout needs a mapping to targets without a time dim. Got {type(mapping).__name__} with a target of shape (n, "
            f"{', '.join(map(str, mapping.target_shape_))}): fit it on one time point, or on `ba.BinTime` bins."
        )
    last = _map_of(mapping, width)
    if isinstance(last, Network) and model.mixes:
        raise CapabilityError(
            f"readout cannot divide {type(mapping).__name__} among the stimuli that a step of the chain mixes: it is not linear. Apply "
            "that step to the features by hand, or use a linear mapping such as `ba.SpatialReadout`."
        )
    return [*maps, last]


def _map_of(mapping: Any, width: int) -> Affine | Network:
    """Return what a fitted mapping does to each row: its module, its weights, or, where it shows none, those that probing finds."""
    name, predict = type(mapping).__name__, class_scores(mapping) if mapping.is_classifier else mapping.predict
    if getattr(mapping, "network_", None) is not None:
        return _checked(Network(mapping.network_), predict, width, name)
    coef = getattr(mapping, "coef_", None)
    if np.ndim(coef) != 2 or len(coef) != width or not hasattr(mapping, "intercept_"):
        return _probed(predict, width, name)
    origin = np.zeros(width)
    origin[mapping.features_used_] = getattr(mapping, "_source_mean", 0.0)
    silent = np.isnan(np.asarray(predict(np.zeros((1, width))), dtype=np.float64)[0])  # constant targets have an intercept
    bias = np.where(silent, np.nan, np.asarray(mapping.intercept_) + origin @ np.asarray(coef, dtype=np.float64))
    return _checked(Affine(*map(torch.as_tensor, (np.asarray(coef), bias, origin))), predict, width, name)  # type: ignore[arg-type]


def class_scores(mapping: Any) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Return the function from features to the score of each class: of two, the one is the other with its sign changed.

    Parameters
    ----------
    mapping : Classifier
        Fitted.

    Returns
    -------
    callable
        (row, feature) to (row, class).
    """

    def scores(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        values = np.asarray(mapping.decision_function(x))
        return np.stack([-values, values], axis=1) if values.ndim == 1 else values

    return scores


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
    return _probed(step.transform, width, type(step).__name__, diagonal=isinstance(step, OneToOneFeatureMixin))


def _probed(function: Callable[[Any], Any], width: int, name: str, *, diagonal: bool = False) -> Affine:
    apply: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda x: np.asarray(function(x), dtype=np.float64)  # noqa: E731
    bias, origin = apply(np.zeros((1, width)))[0], np.zeros(width)
    if diagonal:
        weight = apply(np.ones((1, width)))[0] - bias
        np.divide(-bias, weight, out=origin, where=weight != 0)  # what goes to 0
        bias = np.where(weight != 0, 0.0, bias)
    else:
        starts = range(0, width, _PROBE_ROWS)
        weight = np.concatenate([apply(np.eye(min(_PROBE_ROWS, width - k), width, k)) for k in starts]) - bias
    return _checked(Affine(*map(torch.as_tensor, (weight, bias, origin))), apply, width, name)  # type: ignore[arg-type]


def _checked(found: Any, function: Callable[[Any], Any], width: int, name: str) -> Any:
    """Return a map after trying that it sends random points where the function does."""
    if isinstance(found, Affine):  # of what predicts NaN: a weight of NaN makes the gradients of all others NaN
        found = replace(found, weight=torch.where(found.bias.isnan(), 0, found.weight))
    points = np.random.default_rng(0).normal(size=(4, width))
    expected = np.asarray(function(points), dtype=np.float64)
    with torch.no_grad():
        given = found(torch.as_tensor(points, dtype=torch.float32 if isinstance(found, Network) else torch.float64)).cpu().numpy()
    scale = max(1.0, float(np.nanmax(np.abs(expected), initial=0.0)))
    if given.shape != expected.shape or not np.allclose(given, expected, rtol=1e-4, atol=1e-4 * scale, equal_nan=True):
        kind = "what its module gives" if isinstance(found, Network) else "affine"
        raise CapabilityError(
            f"readout found that {name} is not {kind}: its output at random points differs. Expected scaling, PCA, selection or projection "
            "steps, and a mapping that is linear in the features of each row, or a torch module of them."
        )
    return found


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
