"""Responders without gradients, in pieces: what black-box methods of ``attribute`` ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.protocols import Piece, Responder
from brainalign.core.tables import content_of


class PlainResponder:
    """A responder of which pieces are made by asking it about altered stimuli.

    Parameters
    ----------
    responder : Responder
        Each stimulus makes a row.
    """

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._responder, name)

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return the stimuli as one piece, without gradients.

        Parameters
        ----------
        stimuli : Dataset
            Of arrays.
        rows : ndarray of int, optional

        Returns
        -------
        list of Piece

        Raises
        ------
        CapabilityError
            The content is no array, or presentations are mixed.
        """
        n = stimuli.sizes["presentation"]
        if content_of(stimuli) != "values" or len(self._responder.presentations(stimuli)) != n:
            raise CapabilityError(
                f"attribute got a {type(self._responder).__name__} without gradients, and {stimuli.attrs['kind']} stimuli. Expected arrays, one "
                "for each response, that can be altered: decode them with `ba.stimuli.table(values, kind='array')`."
            )
        wanted = np.arange(n) if rows is None else np.asarray(rows)
        inputs = torch.as_tensor(
            np.asarray(stimuli["values"].values[wanted], dtype=np.result_type(stimuli["values"].dtype, np.float32))
        )
        some, dims = stimuli.isel(presentation=wanted), tuple(map(str, stimuli["values"].dims[1:]))

        def forward(x: torch.Tensor) -> torch.Tensor:
            found = []
            for copy in torch.split(x.detach(), len(inputs)):
                altered = some.assign(values=(some["values"].dims, copy.numpy()))
                blocks = (self._responder.respond(altered, block) for block in self._responder.blocks(altered, len(inputs)))
                found += [np.concatenate(list(block.values()), axis=1) for block in blocks]
            return torch.as_tensor(np.concatenate(found))

        return [Piece(inputs, forward, wanted, None, dims)]
