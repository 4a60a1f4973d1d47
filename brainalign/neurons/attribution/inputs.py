"""What attributions start from and what they are summed over: baselines, and groups of the elements of an input."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, preview
from brainalign.core.protocols import DifferentiableResponder, Piece
from brainalign.core.provenance import hash_array
from brainalign.engine.backend import to_numpy

BASELINES = ("zero", "mean", "presentations", "silent")
#: Presentations, or positions of texts, of which baselines are drawn.
_POOL_ROWS, _POOL_POSITIONS = 256, 4096

Starts = Callable[[torch.Tensor], torch.Tensor]


def check_continuous(inputs: torch.Tensor, *, owner: str) -> None:
    """Refuse inputs between which there is nothing.

    Parameters
    ----------
    inputs : Tensor
    owner : str

    Raises
    ------
    CapabilityError
        They are integers, such as token ids.
    """
    if not inputs.is_floating_point():
        raise CapabilityError(
            f"{owner} got {inputs.dtype} inputs (token ids?), which have no gradient, nor anything between them and a baseline. Expected pixels, "
            "samples or embeddings from `preprocess`; or ask of a layer behind them, as in `ba.attribute(..., wrt='embedding', "
            "baseline='silent')`, `ba.patch` or `ba.lesion`."
        )


class Baseline:
    """Where the paths of attributions start.

    Parameters
    ----------
    baseline : str, array_like or callable
    responder : DifferentiableResponder
    stimuli : Dataset
    n_draws : int
        Baselines of each presentation, where they are drawn.
    seed : int

    Attributes
    ----------
    n_starts : int
    label : str
        For provenance; of a function, its name and ``()``.
    """

    def __init__(
        self, baseline: Any, responder: DifferentiableResponder, stimuli: xr.Dataset, *, n_draws: int, seed: int
    ) -> None:
        if isinstance(baseline, str):
            check_choice("baseline", baseline, BASELINES, owner="attribute")
        name = getattr(baseline, "__name__", type(baseline).__name__)
        self.label = baseline if isinstance(baseline, str) else f"{name}()" if callable(baseline) else name
        self.n_starts, self._seed = (n_draws if self.label == "presentations" else 1), seed
        self._given, self._shown = baseline, (responder, stimuli)
        self._pool: _Pool | None = None
        self._reference: Any = 0.0
        if self.label == "presentations":
            self._pool = _Pool(responder, stimuli, seed)
        elif self.label == "mean":
            self._reference = mean_input(responder.pieces(stimuli))
        elif not isinstance(baseline, str):
            self._reference = baseline

    @cached_property
    def key(self) -> str | None:
        """Hash of an input that was given; of a function, of what it makes of the inputs, for its name does not tell it from others."""
        if isinstance(self._given, str):
            return None
        if not callable(self._given):
            return hash_array(np.asarray(self._given))
        responder, stimuli = self._shown
        made = [hash_array(to_numpy(self._given(piece.inputs.detach()))) for piece in responder.pieces(stimuli)]
        return hash_array(np.array(made))

    def starts(self, piece: Piece) -> Starts:
        """Return the baselines of the inputs of a piece; positions that belong to no stimulus stay as they are.

        Parameters
        ----------
        piece : Piece

        Returns
        -------
        callable
            From positions of baselines to a Tensor (position, batch, ...), or (1, batch, ...) where there is one.
        """
        inputs = piece.inputs.detach()
        if self._pool is not None:
            pool, draws = self._pool, self._pool.draws(piece, self.n_starts, self._seed)
            return lambda at: _held(piece, pool.values[draws[at]].to(inputs))
        given = self._reference(inputs) if callable(self._reference) else self._reference
        values = _numbers(given)
        if values.is_floating_point() and not inputs.is_floating_point() and self.label != "silent":
            raise CapabilityError(
                f"attribute got baseline={self.label!r} for {inputs.dtype} inputs (token ids?), which are no amounts. Expected 'silent' (the layers "
                "start from zeros), 'presentations', or integers: the ids to start from."
            )
        try:
            start = torch.zeros_like(inputs) + values.to(inputs)
        except RuntimeError as error:
            raise ParameterError(
                f"attribute got a baseline of shape {tuple(np.shape(given))} for inputs of shape {tuple(inputs.shape[1:])} {piece.dims}. Expected "
                "one that they can be compared with, element by element."
            ) from error
        held = _held(piece, start[None])
        return lambda at: held


class _Pool:
    """Inputs of presentations (of texts: of single positions) that serve as baselines of others."""

    def __init__(self, responder: DifferentiableResponder, stimuli: xr.Dataset, seed: int) -> None:
        rng, n = np.random.default_rng(seed), len(responder.presentations(stimuli))
        chosen = np.sort(rng.permutation(n)[:_POOL_ROWS])
        values, owners = [], []
        for piece in responder.pieces(stimuli, chosen):
            if piece.parts is None or piece.parts.shape[1:] == (1,):
                own = piece.rows if piece.parts is None else piece.parts[:, 0]
                inside = own >= 0
            else:
                inside = np.asarray(piece.parts) >= 0
                own = piece.parts
            values.append(piece.inputs.detach()[torch.as_tensor(inside)])
            owners.append(np.asarray(own)[inside])
        shapes = {tuple(value.shape[1:]) for value in values if len(value)}
        if len(shapes) > 1:
            raise ParameterError(
                f"attribute got inputs of {len(shapes)} shapes, {preview(sorted(shapes))}, which cannot be baselines of each other. Expected one: "
                "pass baseline='zero' or 'mean'."
            )
        self.values, self.owners = torch.cat([value for value in values if len(value)]), np.concatenate(owners)
        keep = np.sort(rng.permutation(len(self.owners))[:_POOL_POSITIONS])
        self.values, self.owners = self.values[torch.as_tensor(keep)], self.owners[keep]
        if len(np.unique(self.owners)) < 2:
            raise ParameterError(
                "attribute got a single presentation and baseline='presentations', which is drawn from the others. Expected several, or "
                "baseline='zero'."
            )

    def draws(self, piece: Piece, n: int, seed: int) -> torch.Tensor:
        """Return positions in the pool, (draw, batch) or (draw, batch, position), never of the stimulus itself.

        What a stimulus is given follows from the seed and its own number alone, wherever it stands.
        """
        whole = piece.parts is None or piece.parts.shape[1:] == (1,)
        own = np.asarray(piece.rows if piece.parts is None else piece.parts).reshape((-1,) if whole else piece.parts.shape)
        found = np.zeros((n, *own.shape), dtype=np.int64)
        for owner in np.unique(own[own >= 0]):
            others, here = np.flatnonzero(self.owners != owner), own == owner
            rng = np.random.default_rng([seed, int(owner)])
            found[:, here] = others[rng.integers(len(others), size=(n, int(here.sum())))]
        return torch.as_tensor(found)


def mean_input(pieces: Any) -> torch.Tensor:
    """Return the mean of one input over the stimuli: of an image by pixel, of words over positions.

    Parameters
    ----------
    pieces : sequence of Piece

    Returns
    -------
    Tensor
    """
    total, count = 0.0, 0
    for piece in pieces:
        inputs = piece.inputs.detach().double()
        if piece.parts is not None:
            inside = torch.as_tensor(np.asarray(piece.parts) >= 0)
            inputs = inputs[inside] if "position" in piece.dims else inputs[inside[:, 0]]
        if len(inputs):
            total, count = total + inputs.sum(dim=0), count + len(inputs)
    return total / count


def _numbers(given: Any) -> torch.Tensor:
    values = given if torch.is_tensor(given) else np.asarray(given)
    if not torch.is_tensor(given) and values.dtype.kind not in "biuf":
        found = f"of type {type(given).__name__}"
    elif not torch.isfinite(values := torch.as_tensor(values)).all():
        found = f"with {int((~torch.isfinite(values)).sum())} NaN or infinite of {values.numel()} values"
    else:
        return values
    raise ParameterError(f"attribute got a baseline {found}. Expected finite numbers: a name, an input, or a function of inputs.")


def _held(piece: Piece, starts: torch.Tensor) -> torch.Tensor:
    """Return baselines with the piece's own values at positions that are no stimulus."""
    if piece.parts is None:
        return starts
    fixed = torch.as_tensor(np.asarray(piece.parts) < 0, device=starts.device)
    fixed = fixed.reshape(*fixed.shape, *[1] * (piece.inputs.ndim - fixed.ndim))
    return torch.where(fixed, piece.inputs.detach(), starts)


def group_index(
    groups: Any, shape: tuple[int, ...], dims: tuple[str, ...], *, coded: bool = True
) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    """Return the group of each element of an input, and the labels of the groups.

    Parameters
    ----------
    groups : DataArray or array_like
        A label for each element of an input. A DataArray may have some of its dims only (``("y", "x")`` of an image), an array
        those that numpy can spread over the others.
    shape : tuple of int
    dims : tuple of str
    coded : bool
        Integers below 0 say that an element is in no group; of a coordinate (times, places) they are values as others are.

    Returns
    -------
    index : Tensor of int64, (1, ...)
    labels : ndarray, (group,)

    Raises
    ------
    ParameterError
        They do not cover the input: another shape, or a label that is missing.
    """
    if isinstance(groups, xr.DataArray):
        unknown = [dim for dim in groups.dims if dim not in dims]
        if not unknown:
            own = groups.transpose(*(dim for dim in dims if dim in groups.dims)).values
            groups = own.reshape([n if dim in groups.dims else 1 for dim, n in zip(dims, shape, strict=True)])
    values = np.asarray(groups)
    values = np.where(pd.isna(values), "", values) if values.dtype.kind == "O" else values
    try:
        spread = np.broadcast_to(values, shape)
    except ValueError as error:
        raise ParameterError(
            f"attribute got groups of shape {values.shape} for inputs {dict(zip(dims, shape, strict=True))}. Expected a label for each element "
            "of an input: an array of its shape, or a DataArray with some of its dims."
        ) from error
    if missing := int(_in_no_group(spread, coded=coded).sum()):
        raise ParameterError(
            f"attribute got groups that leave out {missing} of {spread.size} elements of an input (codes below 0, NaN or empty). Expected "
            "every element in a group: give the rest a label of its own, so that attributions still add up."
        )
    labels, codes = np.unique(spread, return_inverse=True)
    return torch.as_tensor(codes.reshape(1, *shape)), labels


def _in_no_group(labels: np.ndarray[Any, Any], *, coded: bool) -> np.ndarray[Any, Any]:
    kind = labels.dtype.kind
    if kind == "f":
        return np.isnan(labels)
    if kind in "OUT":
        return np.equal(labels, "")
    return labels < 0 if kind == "i" and coded else np.zeros(labels.shape, dtype=bool)
