"""Objects of rsatoolbox, in and out: stacks of RDMs, and data sets over time or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.files import Format, naming, record_opening
from brainalign.core.errors import ParameterError, SchemaError, require
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.responses import responses
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of

#: What rsatoolbox calls a dissimilarity, and what `ba.rdm` calls it.
MEASURES = {
    "squared euclidean": "sqeuclidean", "squared mahalanobis": "mahalanobis", "correlation": "correlation", "crossnobis": "crossnobis",
    "poisson": "poisson", "poisson_cv": "poisson-cv",
}  # fmt: skip
_SQUARE = ("stimulus", "stimulus_2")
_EXAMPLES = {"modality": "'fmri'", "system": "'sub-01'"}


def open_dataset(
    dataset: Any,
    *,
    modality: str | None = None,
    system: Any = None,
    stimulus_id: Any = None,
    neuroid_id: Any = None,
    units: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open an rsatoolbox ``Dataset`` or ``TemporalDataset`` as responses.

    Parameters
    ----------
    dataset : rsatoolbox.data.Dataset or TemporalDataset
        Observations become presentations, channels neuroids; descriptors of either become coordinates, and time points are taken
        as seconds after stimulus onset.
    modality : str, optional
        One of :data:`brainalign.core.schema.MODALITIES`; required where the data set has no descriptor of that name.
    system : str or sequence of str, optional
        Likewise; a channel descriptor of that name counts too.
    stimulus_id, neuroid_id : str or sequence, optional
        The descriptor of observations or channels that names them, or the names. Default: the descriptor of that name, or the
        only one that there is.
    units : str, optional
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32 (integers stay integers), (presentation, neuroid[, time])

    Raises
    ------
    ParameterError
        No modality or system; no descriptor of that name, or several and none chosen.
    SchemaError
        Names that are not unique, NaN that is not declared.
    """
    whole = dict(dataset.descriptors or {})
    rows, columns = _plain(dataset.obs_descriptors), _plain(dataset.channel_descriptors)
    given = {
        "modality": modality or whole.get("modality"),
        "system": columns.pop("system", whole.get("system")) if system is None else system,
    }
    for name, value in given.items():
        if value is None:
            raise ParameterError(f"The data set does not say its {name}. Expected `{name}=`, such as {_EXAMPLES[name]}.")
    ids = _named(rows, stimulus_id, "stimulus_id", dataset.n_obs), _named(columns, neuroid_id, "neuroid_id", dataset.n_channel)
    time = np.asarray(dataset.time_descriptors["time"], dtype=float) if hasattr(dataset, "n_time") else None
    with naming("the data set"):
        x = responses(
            np.asarray(dataset.measurements), stimulus_id=ids[0], neuroid_id=ids[1], presentation=rows, neuroid=columns, time=time,
            units=units or whole.get("units"), allow_nan=allow_nan, deterministic=bool(whole.get("deterministic")), **given,
        )  # fmt: skip
    return record_opening(
        x, "rsatoolbox", [type(dataset).__name__], {"modality": given["modality"], "units": x.attrs.get("units")}
    )


def open_rdms(rdms: Any, *, stimulus_id: Any = None, dim: str = "rdm", units: str | None = None) -> xr.DataArray:
    """Open an rsatoolbox ``RDMs`` stack.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
    stimulus_id : str or sequence of str, optional
        The pattern descriptor that names the conditions, or their names; default the only one besides the position.
    dim : str
        The RDM descriptor that tells the matrices apart, ``"subject"``; by default their position.
    units : str, optional

    Returns
    -------
    DataArray of float64, (<dim>, stimulus, stimulus_2)
        Further descriptors are coordinates. ``metric`` is named as :func:`brainalign.rdm` names it.

    Raises
    ------
    ParameterError
        No descriptor of that name, several and none chosen, or repeated names.
    """
    patterns, stack = _plain(rdms.pattern_descriptors), _plain(rdms.rdm_descriptors)
    names = _named(patterns, stimulus_id, "stimulus_id", rdms.n_cond)
    labels = stack.pop(dim, None) if dim != "rdm" else np.arange(rdms.n_rdm)
    if labels is None:
        raise ParameterError(f"The stack has no descriptor {dim!r}. Expected one of {preview(stack)}.{did_you_mean(dim, stack)}")
    for what, found in ((dim, labels), ("stimulus", names)):
        if len(set(found)) < len(found):
            raise ParameterError(
                f"{what!r} does not tell the {len(found)} apart: {preview(found)}. Expected each once: choose another descriptor."
            )
    coords: dict[str, Any] = {name: (dim, values) for name, values in stack.items()}
    coords |= {name: ("stimulus", values) for name, values in patterns.items()}
    index = as_labels(names)  # a descriptor that has the name of a dim gives way
    coords |= {dim: as_labels(labels), "stimulus": index, "stimulus_2": index}
    measure = str(rdms.dissimilarity_measure or "unspecified").lower()
    x = xr.DataArray(
        np.asarray(rdms.get_matrices(), dtype=np.float64), dims=(dim, *_SQUARE), coords=coords, name="rdm",
        attrs={"metric": MEASURES.get(measure, measure), "units": units or rdms.descriptors.get("units", "unspecified")},
    )  # fmt: skip
    return write_step(x, "open_rdms", params={"source": "rsatoolbox.rdm.RDMs", "dim": dim, "metric": x.attrs["metric"]})


def to_rsatoolbox(x: xr.DataArray) -> Any:
    """Return RDMs or responses as an object of rsatoolbox.

    Parameters
    ----------
    x : DataArray, (..., stimulus, stimulus_2) or (presentation, neuroid[, time])

    Returns
    -------
    rsatoolbox.rdm.RDMs, rsatoolbox.data.Dataset or rsatoolbox.data.TemporalDataset
        Coordinates become descriptors; RDMs of several leading dims become one stack, in row-major order. ``open_rdms`` and
        ``open_responses`` take it back.

    Raises
    ------
    SchemaError
        Neither RDMs nor responses; matrices that are not symmetric, or between folds, whose diagonal a stack cannot hold.
    OptionalDependencyError
        rsatoolbox is not installed.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=8, random_state=0)
    >>> to_rsatoolbox(ba.rdm(study.network, by="layer")).n_rdm
    4
    """
    if isinstance(x, xr.DataArray) and x.dims[-2:] == _SQUARE:
        return _stack(x)
    validate(x)
    data = require("rsatoolbox.data", extra="dev", purpose="handing responses to rsatoolbox")
    parts = {dim: {name: values.tolist() for name, values in coords_of(x, str(dim)).items()} for dim in x.dims}
    whole = {name: x.attrs[name] for name in ("modality", "units", "deterministic") if name in x.attrs}
    sides = {"descriptors": whole, "obs_descriptors": parts["presentation"], "channel_descriptors": parts["neuroid"]}
    if "time" in x.dims:
        return data.TemporalDataset(x.values, time_descriptors=parts["time"], **sides)
    return data.Dataset(x.values, **sides)


def _stack(x: xr.DataArray) -> Any:
    values = x.values.reshape(-1, *x.shape[-2:])
    tolerance = 1e-6 * np.nanmax(np.abs(values), initial=0.0)
    uneven = np.nanmax(np.abs(values - values.swapaxes(1, 2)), initial=0.0) > tolerance
    if uneven or np.nanmax(np.abs(np.diagonal(values, axis1=1, axis2=2)), initial=0.0) > tolerance:
        raise SchemaError(
            f"The matrices {'are not symmetric' if uneven else 'have a diagonal that is not 0'}. Expected dissimilarities of unordered pairs of "
            "different conditions, which is all that rsatoolbox holds."
        )
    leading = x.isel(stimulus=0, stimulus_2=0, drop=True)
    flat = {
        str(name): leading.coords[name].broadcast_like(leading).values.ravel().tolist()
        for name in leading.coords
        if leading.coords[name].ndim
    }
    patterns = {name: found.tolist() for name, found in coords_of(x, "stimulus").items()}
    measure = {ours: theirs for theirs, ours in MEASURES.items()}
    metric = str(x.attrs.get("metric", "unspecified"))
    return require("rsatoolbox.rdm", extra="dev", purpose="handing RDMs to rsatoolbox").RDMs(
        values, dissimilarity_measure=measure.get(metric, metric), rdm_descriptors=flat, pattern_descriptors=patterns,
        descriptors={"units": x.attrs.get("units", "unspecified")},
    )  # fmt: skip


def _plain(descriptors: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return descriptors as arrays; positions, which rsatoolbox adds by itself, are none."""
    return {str(name): np.asarray(values) for name, values in (descriptors or {}).items() if name != "index"}


def _named(found: dict[str, Any], given: Any, what: str, n: int) -> Any:
    """Take the names out of the descriptors, or check those that were given."""
    if given is not None and not isinstance(given, str):
        if len(given) != n:
            raise ParameterError(f"`{what}` has {len(given)} names. Expected {n}, one each.")
        return np.asarray(given)
    name = given or (what if what in found else next(iter(found)) if len(found) == 1 else None)
    if name in found:
        return found.pop(name)
    raise ParameterError(
        f"`{what}` is {given!r}, and the descriptors are {preview(found) if found else 'only positions, which are no names'}. Expected the "
        f"name of one, or a list of {n} names.{did_you_mean(given, found) if given else ''}"
    )


def _matches(source: Any) -> str | bool:
    """Recognise a data set by where its class lives, without loading rsatoolbox."""
    return is_of(source, "data") and "it is a data set of rsatoolbox"


def is_of(source: Any, part: str) -> bool:
    """Say whether an object is of rsatoolbox, without loading it.

    Parameters
    ----------
    source : object
    part : {"data", "rdm"}
        Which of its packages the class comes from.

    Returns
    -------
    bool
    """
    return type(source).__module__.startswith(f"rsatoolbox.{part}.")


adapter = Format("rsatoolbox", _matches, open_dataset)
