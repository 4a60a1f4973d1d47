"""``responses``: a recording from plain arrays and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import (
    DIMS,
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
        it labels; a scalar holds for all, None leaves it out. ``repetition`` is derived by counting, within a subject.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])

    Raises
    ------
    ParameterError
        A coordinate of unknown name, of the wrong length, or in the table of the other dim; a system without a name.
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
    array = _as_values(values, time)
    tables = {"presentation": _columns(presentation), "neuroid": _columns(neuroid)}
    ids = {"stimulus_id": stimulus_id, "neuroid_id": neuroid_id, "system": system}
    labels = _labels(array.shape, tables, {**{name: value for name, value in coords.items() if value is not None}, **ids})
    _refuse_unnamed(labels["system"][1], system)
    attrs = {
        "modality": modality, "schema_version": SCHEMA_VERSION, "deterministic": bool(deterministic),
        "allow_nan": bool(allow_nan), **({"units": units} if units else {}),
    }  # fmt: skip
    if time is not None:
        attrs["time_reference"] = time_reference
        labels["time"] = ("time", _seconds(time, array.shape[2]))
    out = xr.DataArray(array, dims=DIMS[: array.ndim], coords=labels, attrs=attrs, name="responses")
    validate(out, deep=isinstance(array, np.ndarray))
    return write_step(out, "responses", params={"modality": modality, "units": units})


def _as_values(values: Any, time: Any) -> Any:
    """Return the values as an array, floats as float32, of as many dims as there are labels for."""
    try:
        array = values if hasattr(values, "dask") else np.asarray(values)
    except ValueError as error:
        raise SchemaError(
            f"responses got values that make no array ({error}). Expected rows of one length: (presentation, neuroid[, time])."
        ) from error
    if array.ndim not in (2, 3) or (array.ndim == 3) != (time is not None):
        raise SchemaError(
            f"responses got values of shape {array.shape} and time={'None' if time is None else 'given'}. Expected (presentation, "
            "neuroid), or (presentation, neuroid, time) with `time=` in seconds: reshape, or pass the time axis."
        )
    return array.astype(np.float32) if array.dtype.kind == "f" and array.dtype != np.float32 else array


def _labels(shape: tuple[int, ...], tables: Mapping[str, dict[str, Any]], coords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the coordinates, each with its dim: the columns of the tables, and coords whose name says the dim."""
    _refuse_unknown(coords)
    labels: dict[str, Any] = {}
    n_given = tuple(np.size(coords[name]) for name in ("stimulus_id", "neuroid_id"))
    if shape[0] != shape[1] and n_given == (shape[1], shape[0]):
        raise ParameterError(
            f"responses got values of shape {shape}, {n_given[0]} `stimulus_id` and {n_given[1]} `neuroid_id`. Expected (presentation, "
            "neuroid): the other way round, `values.T` (with time, `values.swapaxes(0, 1)`)."
        )
    for length, (dim, table) in zip(shape, tables.items(), strict=False):
        _refuse_misplaced(table, dim, labels)
        named = {**table, **{name: value for name, value in coords.items() if dim_of(name) == dim}}
        labels |= {name: (dim, _fit(name, value, length, dim)) for name, value in named.items()}
    if labels["stimulus_id"][1].dtype.kind in "iu":
        labels["stimulus_id"] = ("presentation", as_labels(labels["stimulus_id"][1].astype(str)))
    labels["repetition"] = ("presentation", count_repetitions({name: value for name, (_, value) in labels.items()}))
    return labels


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


def _seconds(time: Any, length: int) -> np.ndarray[Any, Any]:
    seconds = _fit("time", time, length, "time")
    if seconds.dtype.kind not in "iuf":
        raise SchemaError(
            f"responses got `time` of dtype {seconds.dtype}, first {preview(seconds, 1)}. Expected seconds as numbers, one per time point."
        )
    return seconds.astype(np.float64)


def _fit(name: str, value: Any, length: int, dim: str) -> np.ndarray[Any, Any]:
    if value is None:
        raise ParameterError(f"responses got `{name}=None`. Expected one value, or {length} values, one per {dim}.")
    array = as_labels(getattr(value, "values", value))
    if array.ndim == 0:
        return np.repeat(array, length)
    if array.shape != (length,):
        raise ParameterError(
            f"responses got `{name}` of shape {array.shape}. Expected one value, or {length} values, one per {dim}."
        )
    return array


def _refuse_misplaced(table: Mapping[str, Any], dim: str, taken: Mapping[str, Any]) -> None:
    for name in table:
        if dim_of(name) not in (None, dim) or name in (*DIMS, *taken):
            raise ParameterError(
                f"responses got a column {name!r} in `{dim}=`, where it cannot be: the name labels {dim_of(name) or 'another dim'}. "
                "Rename the column, or leave it out."
            )


def _refuse_unnamed(labels: np.ndarray[Any, Any], given: Any) -> None:
    """Refuse systems whose names are numbers, empty or missing; among texts NaN and None would become their own names."""
    missing = pd.isna(np.asarray(getattr(given, "values", given), dtype=object))
    if labels.dtype.kind != "T" or np.any(missing) or (labels == "").any():
        raise ParameterError(
            f"The 'system' parameter of responses must be a name, or one per neuroid. Got {preview(np.ravel(np.asarray(given, dtype=object)))} "
            "instead: say whose responses these are, as 'sub-01' or 'resnet50'."
        )


def _refuse_unknown(coords: Mapping[str, Any]) -> None:
    known = (*PRESENTATION_COORDS, *NEUROID_COORDS)
    for name in coords:
        if dim_of(name) is None:
            raise ParameterError(
                f"responses got an unknown coordinate {name!r}.{did_you_mean(name, known)} Coordinates of your own go in as a column "
                "of `presentation=` or `neuroid=`, which says what they label."
            )
