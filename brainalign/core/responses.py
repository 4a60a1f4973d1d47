"""``responses``: a recording from plain arrays and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, did_you_mean
from brainalign.core.provenance import write_step
from brainalign.core.schema import (
    MODALITIES,
    NEUROID_COORDS,
    PRESENTATION_COORDS,
    SCHEMA_VERSION,
    TIME_REFERENCES,
    as_labels,
    dim_of,
    validate,
)


def responses(
    values: Any,
    *,
    stimulus_id: Any,
    neuroid_id: Any,
    modality: str,
    system: Any,
    time: Any = None,
    time_reference: str = "stimulus onset",
    units: str | None = None,
    deterministic: bool = False,
    allow_nan: bool = False,
    presentation: pd.DataFrame | Mapping[str, Any] | None = None,
    neuroid: pd.DataFrame | Mapping[str, Any] | None = None,
    **coords: Any,
) -> xr.DataArray:
    """Build a recording, of a brain or of a network, from plain arrays.

    Parameters
    ----------
    values : array_like, (presentation, neuroid) or (presentation, neuroid, time)
        numpy or dask. Floats become float32; integers (spike counts) stay integers.
    stimulus_id : sequence of str, (presentation,)
        What was presented. The two sides of every comparison are joined on it.
    neuroid_id : sequence of str or int, (neuroid,)
        Unique within a system and its layer or region.
    modality : {"fmri", "meg", "eeg", "ieeg", "spikes", "calcium", "behaviour", "ann"}
    system : str, or sequence of str (neuroid,)
        Whose responses: ``"sub-01"``, ``"resnet50"``.
    time : sequence of float, (time,), optional
        Seconds, strictly increasing; with a third dim only.
    time_reference : {"stimulus onset", "run onset"}
    units : str, optional
        Physical unit of the values, e.g. ``"V"``, ``"spikes/bin"``, ``"% signal change"``.
    deterministic : bool
        A second presentation would give the same response.
    allow_nan : bool
        NaN is declared; otherwise NaN and infinity are errors (checked where the values are in memory).
    presentation, neuroid : DataFrame or mapping, optional
        Further coordinates, a column each.
    **coords
        Coordinates of the schema by name (``run``, ``onset_s``, ``region``, ``x_mm`` ...); the name says which dim
        it labels; a scalar holds for all. ``repetition`` is derived by counting, within a subject.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])

    Raises
    ------
    ParameterError
        A coordinate of unknown name, or of the wrong length.
    SchemaError
        Duplicate or missing ids, undeclared NaN, time that does not increase.

    Examples
    --------
    >>> import brainalign as ba
    >>> ba.responses([[1.0, 2.0], [3.0, 4.0]], stimulus_id=["cat", "cat"], neuroid_id=["v1", "v2"],
    ...              modality="fmri", system="sub-01", region="V1").repetition.values
    array([0, 1])
    """
    check_choice("modality", modality, MODALITIES, owner="responses")
    check_choice("time_reference", time_reference, TIME_REFERENCES, owner="responses")
    array = values if hasattr(values, "dask") else np.asarray(values)
    if array.ndim not in (2, 3) or (array.ndim == 3) != (time is not None):
        raise SchemaError(
            f"responses got values of shape {array.shape} and time={'None' if time is None else 'given'}. Expected (presentation, "
            "neuroid), or (presentation, neuroid, time) with `time=` in seconds: reshape, or pass the time axis."
        )
    if array.dtype.kind == "f" and array.dtype != np.float32:
        array = array.astype(np.float32)
    rows = {
        **_columns(presentation),
        **{k: v for k, v in coords.items() if dim_of(k) == "presentation"},
        "stimulus_id": stimulus_id,
    }
    columns = {
        **_columns(neuroid),
        **{k: v for k, v in coords.items() if dim_of(k) == "neuroid"},
        "neuroid_id": neuroid_id,
        "system": system,
    }
    _refuse_unknown(coords)
    labels = {name: ("presentation", _fit(name, value, array.shape[0], "presentation")) for name, value in rows.items()}
    labels |= {name: ("neuroid", _fit(name, value, array.shape[1], "neuroid")) for name, value in columns.items()}
    if labels["stimulus_id"][1].dtype.kind in "iu":
        labels["stimulus_id"] = ("presentation", as_labels(labels["stimulus_id"][1].astype(str)))
    labels["repetition"] = ("presentation", count_repetitions({k: v for k, (_, v) in labels.items()}))
    attrs = {
        "modality": modality,
        "schema_version": SCHEMA_VERSION,
        "deterministic": bool(deterministic),
        "allow_nan": bool(allow_nan),
        **({"units": units} if units else {}),
    }
    dims: tuple[str, ...] = ("presentation", "neuroid")
    if time is not None:
        dims, attrs["time_reference"] = (*dims, "time"), time_reference
        labels["time"] = ("time", _fit("time", time, array.shape[2], "time").astype(np.float64))
    out = xr.DataArray(array, dims=dims, coords=labels, attrs=attrs, name="responses")
    validate(out, deep=isinstance(array, np.ndarray))
    return write_step(out, "responses", params={"modality": modality, "units": units})


def count_repetitions(labels: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Count how often each stimulus was presented before, within a subject.

    Parameters
    ----------
    labels : mapping of str to sequence (presentation,)
        ``stimulus_id`` and, where there are several people, ``subject``.

    Returns
    -------
    ndarray of int, (presentation,)
        0 for the first presentation.
    """
    table = pd.DataFrame({k: np.asarray(labels[k]).astype(object) for k in ("subject", "stimulus_id") if k in labels})
    return np.asarray(table.groupby(list(table.columns), sort=False, dropna=False).cumcount())


def _columns(table: pd.DataFrame | Mapping[str, Any] | None) -> dict[str, Any]:
    return {str(name): table[name] for name in table} if table is not None else {}


def _fit(name: str, value: Any, length: int, dim: str) -> np.ndarray[Any, Any]:
    array = as_labels(getattr(value, "values", value))
    if array.ndim == 0:
        return np.full(length, array[()], dtype=array.dtype)
    if array.shape != (length,):
        raise ParameterError(
            f"responses got `{name}` of shape {array.shape}. Expected one value, or {length} values, one per {dim}."
        )
    return array


def _refuse_unknown(coords: Mapping[str, Any]) -> None:
    known = (*PRESENTATION_COORDS, *NEUROID_COORDS)
    for name in coords:
        if dim_of(name) is None:
            raise ParameterError(
                f"responses got an unknown coordinate {name!r}.{did_you_mean(name, known)} Coordinates of your own go in as a column "
                "of `presentation=` or `neuroid=`, which says what they label."
            )
