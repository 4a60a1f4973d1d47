"""``readout``: a network composed with a fitted mapping is a responder, so a voxel is one more neuron.

Presentation steps and affine steps are linear in the features, so a whole chain is one affine map
``F -> sum_i M_i F A_i + b`` of the word (or image) features ``F``. Here it is a short sequence of sparse mixings and
affine layers in torch, exact and differentiable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import xarray as xr
from sklearn.base import OneToOneFeatureMixin

from brainalign.core.errors import AlignmentError, CapabilityError
from brainalign.core.parameters import preview
from brainalign.core.protocols import DifferentiableResponder, Piece
from brainalign.core.provenance import hash_array
from brainalign.features.chain import Chain, chain, is_mixing, is_stateless
from brainalign.features.mixing import table_of


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

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Apply the map; without its constant, the linear part alone."""
        out = x * self.weight if self.weight.ndim == 1 else x @ self.weight
        return out + self.bias if constant else out


@dataclass(frozen=True)
class Mixing:
    """``x -> concat([M @ x for M in matrices], 1)`` over presentations.

    Attributes
    ----------
    matrices : tuple of scipy sparse matrices, (output row, row)
    """

    matrices: tuple[Any, ...]

    def __call__(self, x: torch.Tensor, constant: bool = True) -> torch.Tensor:
        """Apply the matrices; they have no constant."""
        return torch.cat([matrix @ x for matrix in self._tensors], dim=1)

    @cached_property
    def _tensors(self) -> list[torch.Tensor]:
        found = []
        for matrix in self.matrices:
            coo = matrix.tocoo()
            index = torch.as_tensor(np.stack([coo.row, coo.col]).astype(np.int64))
            values = torch.as_tensor(coo.data, dtype=torch.float32)
            found.append(torch.sparse_coo_tensor(index, values, coo.shape, check_invariants=False))
        return found

    def restrict(self, columns: np.ndarray[Any, Any]) -> tuple[Mixing, np.ndarray[Any, Any]]:
        """Return the mixing of some source rows only, and the output rows that they reach."""
        cut = [matrix.tocsc()[:, columns].tocsr() for matrix in self.matrices]
        reached = np.flatnonzero(sum(np.diff(matrix.indptr) for matrix in cut))
        return Mixing(tuple(matrix[reached] for matrix in cut)), reached


class Readout:
    """The responder that :func:`readout` returns: features of a backbone, mapped to the target's neuroids.

    Parameters
    ----------
    backbone : DifferentiableResponder
    model : Chain
        Fitted.
    presentations : DataFrame or None
        The output rows, where the chain retimes.
    """

    def __init__(self, backbone: DifferentiableResponder, model: Chain, presentations: pd.DataFrame | None) -> None:
        self.backbone, self.model, self._rows = backbone, model, presentations
        mapping = model.steps_[-1]
        self._neuroids = {name: values for name, (dims, values) in mapping.target_coords_.items() if dims == ("neuroid",)}
        self.system = str(self._neuroids["system"][0])
        self.modality = str(mapping.target_attrs_["modality"])
        self.deterministic = backbone.deterministic
        self._affine = _affine_steps(model)

    def fingerprint(self) -> str:
        """Return a hash of the backbone, of every affine map and of the options of every presentation step."""
        maps = [hash_array(t.numpy()) for step in self._affine if isinstance(step, Affine) for t in (step.weight, step.bias)]
        text = "|".join([self.backbone.fingerprint(), *maps, *(repr(step) for step in self.model.steps)])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def presentations(self, stimuli: xr.Dataset) -> pd.DataFrame:
        """Return the presentations that the readout answers for.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        DataFrame
        """
        if not self.model.retimes:
            return self.backbone.presentations(stimuli)
        return self._rows

    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the coordinates of the target's neuroids, as one group.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        dict of str to dict of str to ndarray
        """
        return {"readout": self._neuroids}

    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return the runs of rows that are computed together: whole runs where presentations are mixed.

        Parameters
        ----------
        stimuli : Dataset
        batch_size : int
            For the backbone.

        Returns
        -------
        list of slice
        """
        if not self.model.mixes:
            return self.backbone.blocks(stimuli, batch_size)
        table = self.presentations(stimuli)
        runs = table["run"].to_numpy() if "run" in table else np.zeros(len(table))
        starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]])
        return [slice(int(a), int(b)) for a, b in zip(starts, np.r_[starts[1:], len(table)], strict=True)]

    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return the predicted responses of one block.

        Parameters
        ----------
        stimuli : Dataset
        rows : slice

        Returns
        -------
        dict of str to ndarray, (row, neuroid) float32
        """
        self._width(stimuli)
        wanted = np.arange(len(self.presentations(stimuli)))[rows]
        steps, needed = self._restrict_to(stimuli, wanted)
        features = self._features(stimuli, needed)
        with torch.no_grad():
            out = _compose(steps)(torch.as_tensor(features, dtype=torch.float32))
        return {"readout": out.numpy()}

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return the backbone's pieces, each followed by its share of the affine map.

        Parameters
        ----------
        stimuli : Dataset
        rows : ndarray of int, optional
            Output rows wanted; default all.

        Returns
        -------
        list of Piece
            The outputs of several pieces for one row add up; constants are a piece of their own.
        """
        width = self._width(stimuli)
        wanted = np.arange(len(self.presentations(stimuli))) if rows is None else np.asarray(rows)
        if not self.model.mixes:
            forward = _compose(self._steps(stimuli))
            return [
                replace(piece, forward=lambda x, f=piece.forward: forward(f(x)))
                for piece in self.backbone.pieces(stimuli, wanted)
            ]
        cut, needed = self._restrict_to(stimuli, wanted)
        constant = _compose(cut)(torch.zeros(len(needed), width))
        pieces = [_constant_piece(constant, wanted)]
        for piece in self.backbone.pieces(stimuli, needed):
            local = np.flatnonzero(np.isin(piece.rows, needed))
            share, reached = _share(cut, np.searchsorted(needed, piece.rows[local]))
            if reached.size:
                pieces.append(_contribution(piece, local, share, wanted[reached]))
        return pieces

    def _steps(self, stimuli: xr.Dataset) -> list[Affine | Mixing]:
        tables, table = iter(self._affine), table_of(stimuli)
        steps: list[Affine | Mixing] = []
        for step in self.model.steps_[:-1]:
            if is_mixing(step):
                steps.append(Mixing(tuple(sp.csr_matrix(m) for m in step.mixing(table, self._rows))))
                table = self._rows if step.retimes else table
            else:
                steps.append(next(tables))
        return [*steps, next(tables)]

    def _restrict_to(
        self, stimuli: xr.Dataset, wanted: np.ndarray[Any, Any]
    ) -> tuple[list[Affine | Mixing], np.ndarray[Any, Any]]:
        """Return the steps cut down to the wanted output rows, and the source rows that they need."""
        steps, rows = [], wanted
        for step in reversed(self._steps(stimuli)):
            if isinstance(step, Mixing):
                cut = [matrix[rows] for matrix in step.matrices]
                rows = np.flatnonzero(np.asarray(sum(abs(matrix).sum(axis=0) for matrix in cut)).ravel())
                step = Mixing(tuple(matrix.tocsc()[:, rows].tocsr() for matrix in cut))
            steps.append(step)
        return steps[::-1], rows

    def _features(self, stimuli: xr.Dataset, needed: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        parts = []
        for block in self.backbone.blocks(stimuli, 32):
            inside = needed[(needed >= block.start) & (needed < block.stop)]
            if inside.size:
                values = self.backbone.respond(stimuli, block)
                parts.append(np.concatenate(list(values.values()), axis=1)[inside - block.start])
        return np.concatenate(parts) if parts else np.zeros((0, self._width(stimuli)), dtype=np.float32)

    def _width(self, stimuli: xr.Dataset) -> int:
        """Return the number of features, after checking that the backbone gives those that the model was fitted on."""
        groups = self.backbone.neuroids(stimuli)
        given = np.concatenate([np.asarray(coords["neuroid_id"]) for coords in groups.values()])
        fitted = self.model.source_neuroids_["neuroid_id"]
        if not np.array_equal(given, fitted):
            raise AlignmentError(
                f"readout got a backbone with {len(given)} neuroids of {', '.join(groups)} ({preview(given)}), and a model fitted on "
                f"{len(fitted)} ({preview(fitted)}). Expected the same in the same order: choose the layer with `backbone.at(layer)`."
            )
        return len(given)


def readout(backbone: Any, model: Any, *, presentations: Any = None) -> Readout:
    """Compose a network with a fitted mapping: a responder whose neuroids are the mapping's targets.

    Parameters
    ----------
    backbone : DifferentiableResponder
        Gives the features that ``model`` was fitted on, in the same order: ``lm.at("layer.3")``.
    model : Chain, or a fitted mapping
        Presentation steps (:class:`Delay`, :class:`HRF`, :class:`WordsToVolumes`) and affine steps (scaling, PCA,
        :class:`Reduce`, :class:`Ridge`) only.
    presentations : DataArray, Dataset or DataFrame, optional
        Where the chain retimes: the volumes to answer for. Default: those seen in ``fit``.

    Returns
    -------
    Readout
        A responder: goes to ``record`` and ``attribute`` like any network layer.

    Raises
    ------
    CapabilityError
        A step is not affine, or the backbone has no gradients.
    AlignmentError
        The model was fitted on other features than the backbone gives.

    Notes
    -----
    What is explained or recorded through a readout is the *fitted model of* a neuroid, not the neuroid itself.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> _ = torch.manual_seed(0)
    >>> net = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Tanh()), layers="1", system="net")
    >>> images = ba.stimuli.table(np.random.default_rng(0).normal(size=(30, 6)), stimulus_id=[f"s{i}" for i in range(30)], kind="array")
    >>> feats = ba.record(net, images, progress=False)
    >>> brain = ba.responses(feats.values @ np.ones((4, 2)), stimulus_id=feats.stimulus_id, neuroid_id=[7, 8], modality="fmri",
    ...                      system="sub-01")
    >>> voxel = ba.readout(net, ba.Ridge(alphas=[1e-3]).fit(feats, brain))
    >>> ba.record(voxel, images, progress=False).sizes["neuroid"]
    2
    """
    if not isinstance(backbone, DifferentiableResponder):
        raise CapabilityError(
            f"readout got a backbone of type {type(backbone).__name__}, which has no `pieces`. Expected a responder with gradients: "
            "ba.TorchResponder or ba.TransformersResponder."
        )
    fitted = model if isinstance(model, Chain) else _as_chain(model)
    if not hasattr(fitted, "steps_"):
        raise CapabilityError(
            "readout got a model that was not fitted on labelled responses. Fit it first: `model.fit(features, responses)`, both made "
            "with `ba.record` or `ba.responses`."
        )
    rows = fitted.presentations_ if presentations is None else presentations
    return Readout(backbone, fitted, None if rows is None else table_of(rows))


def _as_chain(model: Any) -> Chain:
    fitted = chain(model)
    if getattr(model, "source_ids_", None) is not None:
        fitted.steps_, fitted.presentations_ = (model,), None
        fitted.source_neuroids_ = {"neuroid_id": model.source_ids_}
    return fitted


def _affine_steps(model: Chain) -> list[Affine]:
    """Return the affine map of every fitted step, found by probing it, and checked on random points."""
    width, maps = _n_features(model), []
    for step in model.steps_[:-1]:
        if is_mixing(step):
            width *= len(step.labels({"neuroid_id": np.arange(1)})["neuroid_id"])
            continue
        if is_stateless(step) or not hasattr(step, "transform"):
            raise CapabilityError(
                f"readout cannot turn {type(step).__name__} into a fixed affine map: it depends on the run it is applied to. Apply it to "
                "the features by hand, or leave it out of the chain."
            )
        maps.append(_probe(step, width))
        width = len(maps[-1].bias)
    mapping = model.steps_[-1]
    if not hasattr(mapping, "intercept_") or len(mapping.target_shape_) > 1:
        raise CapabilityError(
            f"readout needs a linear mapping to targets without a time dim. Got {type(mapping).__name__} with a target of shape (n, "
            f"{', '.join(map(str, mapping.target_shape_))}): fit a `ba.Ridge`, on one time point or on `ba.BinTime` bins."
        )
    coef, intercept = np.asarray(mapping.coef_), np.asarray(mapping.intercept_)
    return [*maps, Affine(torch.as_tensor(coef, dtype=torch.float32), torch.as_tensor(intercept, dtype=torch.float32))]


def _probe(step: Any, width: int) -> Affine:
    apply: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] = lambda x: np.asarray(step.transform(x), dtype=np.float64)  # noqa: E731
    bias = apply(np.zeros((1, width)))[0]
    if isinstance(step, OneToOneFeatureMixin):
        weight = apply(np.ones((1, width)))[0] - bias
    else:
        weight = apply(np.eye(width)) - bias
    points = np.random.default_rng(0).normal(size=(4, width))
    expected = bias + (points * weight if weight.ndim == 1 else points @ weight)
    if not np.allclose(apply(points), expected, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(expected).max()))):
        raise CapabilityError(
            f"readout found that {type(step).__name__} is not affine: its output at random points differs from the affine map through "
            "its output at the origin and the unit vectors. Use scaling, PCA, selection or projection steps."
        )
    return Affine(torch.as_tensor(weight, dtype=torch.float32), torch.as_tensor(bias, dtype=torch.float32))


def _compose(steps: Sequence[Affine | Mixing], constant: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        for step in steps:
            x = step(x, constant)
        return x

    return forward


def _share(steps: Sequence[Affine | Mixing], rows: np.ndarray[Any, Any]) -> tuple[list[Affine | Mixing], np.ndarray[Any, Any]]:
    """Return the steps that carry some source rows forward, and the output rows that they reach."""
    share: list[Affine | Mixing] = []
    for step in steps:
        if isinstance(step, Mixing):
            step, rows = step.restrict(rows)
        share.append(step)
    return share, rows


def _constant_piece(constant: torch.Tensor, rows: np.ndarray[Any, Any]) -> Piece:
    """Return what every row holds whatever the stimuli: intercepts and centring, a piece that belongs to no stimulus."""
    return Piece(
        inputs=torch.zeros(1, 1),
        forward=lambda x: constant + 0.0 * x.sum(),
        rows=rows,
        parts=np.array([[-1]]),
        dims=("position",),
    )


def _contribution(piece: Piece, local: Any, share: Any, rows: Any) -> Piece:
    linear, chosen = _compose(share, constant=False), torch.as_tensor(local)
    # Under temporal mixing an image is one part of several presentations: its pixels are summed.
    parts = np.asarray(piece.rows)[:, None] if piece.parts is None else piece.parts
    return replace(piece, forward=lambda x: linear(piece.forward(x)[chosen]), rows=rows, parts=parts)


def _n_features(model: Chain) -> int:
    return len(model.source_neuroids_["neuroid_id"])
