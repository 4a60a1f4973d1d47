"""Pieces of a backbone followed by a fitted chain: what they add to each row, and of which features it is linear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from brainalign.core.protocols import Features, Piece
from brainalign.models.affine import Network, Steps, compose, linear_part, narrowest


class Pieces(Sequence[Piece]):
    """Pieces of a backbone, each carried on when it is asked for.

    Parameters
    ----------
    pieces : sequence of Piece
    carry_on : callable
        From a piece to what it becomes.
    *first : Piece
        Pieces before them.
    """

    def __init__(self, pieces: Sequence[Piece], carry_on: Callable[[Piece], Piece], *first: Piece) -> None:
        self._pieces, self._carry_on, self._first = pieces, carry_on, first

    def __len__(self) -> int:
        return len(self._first) + len(self._pieces)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"Piece {index} of {len(self)}.")  # what ends a loop over a sequence
        at = range(len(self))[index]
        return self._first[at] if at < len(self._first) else self._carry_on(self._pieces[at - len(self._first)])


def constant_piece(constant: torch.Tensor, rows: np.ndarray[Any, Any]) -> Piece:
    """Return what every row holds whatever the stimuli: intercepts and centring, a piece that belongs to no stimulus.

    Parameters
    ----------
    constant : Tensor, (row, neuroid)
    rows : ndarray of int

    Returns
    -------
    Piece
    """
    return Piece(
        inputs=torch.zeros(1, 1),
        forward=lambda x: constant.repeat(len(x), 1) + 0.0 * x.sum(),
        rows=rows,
        parts=np.array([[-1]]),
        dims=("position",),
    )


def behind(piece: Piece, steps: Steps, width: int) -> Piece:
    """Return a piece followed by steps that mix no presentations.

    Parameters
    ----------
    piece : Piece
    steps : sequence of Affine, or of these and a Network
    width : int
        Features of the piece.

    Returns
    -------
    Piece
        With its features, where the steps are affine: those after the step that leaves the fewest.
    """
    forward = compose(steps)
    carried = replace(piece, forward=lambda x: forward(piece.forward(x)), features=None)
    if isinstance(steps[-1], Network):
        return carried
    at, n = narrowest(steps, width)
    first = compose(steps[:at])
    inner = replace(piece, forward=lambda x: first(piece.forward(x)), features=None)
    return replace(carried, features=Features(inner, n, linear_part(steps[at:])))


def contribution(piece: Piece, local: np.ndarray[Any, Any], share: Steps, rows: np.ndarray[Any, Any], width: int) -> Piece:
    """Return what a piece of the backbone adds to the rows that its own rows reach.

    Parameters
    ----------
    piece : Piece
    local : ndarray of int
        Which of its rows the steps carry on.
    share : sequence of Affine and Mixing
    rows : ndarray of int
        What they reach.
    width : int
        Features of the piece.

    Returns
    -------
    Piece
        Without constants, with its features.
    """
    # Under temporal mixing an image is one part of several presentations: its pixels are summed.
    parts = np.asarray(piece.rows)[:, None] if piece.parts is None else piece.parts
    at, n = narrowest(share, width)
    first, linear = compose(share[:at], constant=False), compose(share[at:], constant=False)

    def features(x: Any) -> Any:  # of the chosen rows of each copy
        out = piece.forward(x)
        return first(out.reshape(-1, len(piece.rows), out.shape[-1])[:, local].flatten(0, 1))

    def forward(x: Any) -> Any:
        out = features(x).reshape(-1, len(local), n).movedim(0, 1)  # (row, copy, feature)
        return linear(out).movedim(1, 0).flatten(0, 1)

    inner = replace(piece, forward=features, rows=piece.rows[local], parts=parts, features=None)
    return Piece(piece.inputs, forward, rows, parts, piece.dims, Features(inner, n, linear_part(share[at:])))
