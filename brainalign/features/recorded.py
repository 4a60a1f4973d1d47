"""A recording as a responder: what was recorded goes in, and comes out as it is, so that a mapping can be read out behind it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import preview
from brainalign.core.protocols import Piece
from brainalign.core.provenance import hash_array
from brainalign.core.schema import validate
from brainalign.core.tables import coords_of, presentation_table, validate_stimuli
from brainalign.features.chain import Chain
from brainalign.features.flat import flatten_time

_PREFIX = "source_"


def as_stimuli(x: xr.DataArray | xr.Dataset) -> xr.Dataset:
    """Return a recording as a table of stimuli, for what reads it; a table of stimuli as it is.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time]), or Dataset, (presentation,)

    Returns
    -------
    Dataset
        Of a recording: ``values`` (presentation, source_neuroid[, time]), with the coordinates of neuroids as ``source_<name>``.

    Raises
    ------
    SchemaError
        Values that are missing, or no table of stimuli.
    """
    if not isinstance(x, xr.DataArray):
        return validate_stimuli(x)
    x = validate(x, name="the recording")
    lost = np.flatnonzero(
        ~np.isfinite(np.asarray(x.values)).all(axis=tuple(i for i, dim in enumerate(x.dims) if dim != "neuroid"))
    )
    if lost.size:
        raise SchemaError(
            f"the recording has values that are missing in {lost.size} of {x.sizes['neuroid']} neuroids ({preview(x['neuroid_id'].values[lost])}). "
            "Expected numbers: fit and read the mapping without these neuroids."
        )
    dims = tuple(_PREFIX + dim if dim == "neuroid" else dim for dim in map(str, x.dims))
    coords: dict[str, Any] = {name: ("presentation", values) for name, values in coords_of(x, "presentation").items()}
    coords |= {_PREFIX + name: (_PREFIX + "neuroid", values) for name, values in coords_of(x, "neuroid").items()}
    coords |= {"time": x["time"].values} if "time" in x.dims else {}
    return xr.Dataset({"values": (dims, x.values)}, coords=coords, attrs={"kind": "array"})


class RecordedResponder:
    """The responder that answers with the recording it is shown; its tables come from :func:`as_stimuli`.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
        Whose recordings these are.
    """

    #: What is attributed or lesioned is the input of a fitted mapping, and not the brain.
    causal_scope = "virtual"
    deterministic = True

    def __init__(self, x: xr.DataArray) -> None:
        self.system, self.modality = str(x["system"].values[0]), str(x.attrs["modality"])
        self._names = names_over_time(x)

    def fingerprint(self) -> str:
        """Return a hash of the names of what was recorded."""
        return f"recorded {self.system} {hash_array(self._names)}"

    def presentations(self, stimuli: xr.Dataset) -> pd.DataFrame:
        """Return the presentations of a recording.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        DataFrame
        """
        return presentation_table(stimuli)

    def neuroids(self, stimuli: xr.Dataset) -> dict[str, dict[str, np.ndarray[Any, Any]]]:
        """Return the names of all that was recorded, every neuroid at every time.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        dict of str to dict of str to ndarray
        """
        x = _as_recording(stimuli)
        return {
            self.system: {"neuroid_id": names_over_time(x.rename({_PREFIX + name: name for name in ("neuroid", "neuroid_id")}))}
        }

    def blocks(self, stimuli: xr.Dataset, batch_size: int) -> list[slice]:
        """Return runs of ``batch_size`` rows.

        Parameters
        ----------
        stimuli : Dataset
        batch_size : int

        Returns
        -------
        list of slice
        """
        n = stimuli.sizes["presentation"]
        return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]

    def respond(self, stimuli: xr.Dataset, rows: slice) -> dict[str, np.ndarray[Any, Any]]:
        """Return what was recorded.

        Parameters
        ----------
        stimuli : Dataset
        rows : slice

        Returns
        -------
        dict of str to ndarray, (row, neuroid) float32
        """
        values = np.asarray(_as_recording(stimuli)[rows].values, dtype=np.float32)
        return {self.system: values.reshape(len(values), -1)}

    def pieces(self, stimuli: xr.Dataset, rows: np.ndarray[Any, Any] | None = None) -> Sequence[Piece]:
        """Return what was recorded, as one piece that is its own response.

        Parameters
        ----------
        stimuli : Dataset
        rows : ndarray of int, optional

        Returns
        -------
        list of Piece
        """
        x = _as_recording(stimuli)
        wanted = np.arange(len(x)) if rows is None else np.asarray(rows)
        values = np.asarray(x.values[wanted])
        inputs = torch.as_tensor(values.astype(np.result_type(values.dtype, np.float32)))
        dims = tuple(map(str, x.dims[1:]))
        coords = {
            str(name): (tuple(map(str, c.dims)), c.values) for name, c in x.coords.items() if c.dims and set(c.dims) <= set(dims)
        }
        return [Piece(inputs, lambda a: a.flatten(1), wanted, None, dims, coords=coords)]


def names_over_time(x: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return the names of what a mapping reads of a recording: every neuroid, at every time.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    ndarray, (neuroid * time,)
    """
    return np.asarray(flatten_time(x[:1])["neuroid_id"].values)


def _as_recording(stimuli: xr.Dataset) -> xr.DataArray:
    if "values" not in stimuli or _PREFIX + "neuroid_id" not in stimuli.coords:
        raise ParameterError(
            f"a readout of a recording got stimuli with {', '.join(map(str, stimuli.data_vars))}. Expected responses of the neuroids that its "
            "mapping was fitted on: pass a recording."
        )
    return stimuli["values"]


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
