"""What generators take: latents by name, each (presentation, neuroid), of the same presentations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import preview

Values = np.ndarray[Any, Any]


def latent_matrices(latents: Any, owner: str) -> tuple[dict[str, Values], Values]:
    """Return latents by name as matrices, and the stimuli of their rows.

    Parameters
    ----------
    latents : dict of str to DataArray (presentation, neuroid), or one DataArray
        One alone goes by the name ``""``.
    owner : str
        For the messages.

    Returns
    -------
    matrices : dict of str to ndarray, (presentation, neuroid)
    stimulus_id : ndarray of str, (presentation,)

    Raises
    ------
    ParameterError
        No latents, or something else.
    AlignmentError
        Rows of different stimuli.
    """
    named = dict(latents) if isinstance(latents, Mapping) else {"": latents}
    wrong = [name for name, x in named.items() if not isinstance(x, xr.DataArray) or x.dims != ("presentation", "neuroid")]
    if not named or wrong:
        found = f"{type(named[wrong[0]]).__name__} for {wrong[0]!r}" if wrong else "none"
        raise ParameterError(
            f"{owner} got latents: {found}. Expected DataArrays (presentation, neuroid), as `ba.LatentDecoder` predicts them."
        )
    (first, x), *others = named.items()
    ids = x.stimulus_id.values
    for name, other in others:
        if not np.array_equal(other.stimulus_id.values, ids):
            raise AlignmentError(
                f"{owner} got latents {first!r} and {name!r} of different stimuli, or in another order ({preview(ids)} and "
                f"{preview(other.stimulus_id.values)}). Expected the same rows: join them with `ba.align`."
            )
    return {name: y.values for name, y in named.items()}, ids
