"""A fitted mapping behind the recording that it reads."""

from __future__ import annotations

import copy

import xarray as xr

from brainalign.core.errors import AlignmentError
from brainalign.core.parameters import preview
from brainalign.core.schema import validate
from brainalign.features.chain import Chain
from brainalign.features.recorded import RecordedResponder, names_over_time


def behind_recording(x: xr.DataArray, model: Chain) -> tuple[RecordedResponder, Chain]:
    """Return a recording as a backbone, and a model whose features are named as those of the recording, at every time.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
    model : Chain
        Fitted on responses with these neuroids, and as many times.

    Returns
    -------
    RecordedResponder, Chain

    Raises
    ------
    AlignmentError
        It was fitted on other neuroids.
    """
    x = validate(x, name="the recording")
    fitted = getattr(model, "source_neuroids_", {}).get("neuroid_id")
    own = x["neuroid_id"].values
    if fitted is not None and (len(fitted) != len(own) or (fitted != own).any()):
        raise AlignmentError(
            f"readout got a recording with {len(own)} neuroids ({preview(own)}), and a model fitted on {len(fitted)} ({preview(fitted)}). "
            "Expected the same in the same order."
        )
    if fitted is not None and "time" in x.dims:
        model = copy.copy(model)
        model.source_neuroids_ = {"neuroid_id": names_over_time(x)}
    return RecordedResponder(x), model
