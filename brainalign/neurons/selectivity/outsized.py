"""``massive``: units whose responses dwarf all others, what a geometry is made of with them and without, and how to tame them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.engine.correlate import pearson_columns
from brainalign.engine.distances import pairwise_distances
from brainalign.engine.moments import Numbers
from brainalign.engine.spread import MASSIVE, relative_sizes
from brainalign.neurons.labelling import blocks_of, neuroid_labels

_ROWS = 1000  # presentations whose distances are looked at


def massive(responses: xr.DataArray, *, by: str | None = None, factor: float = MASSIVE, max_memory: int = 2**30) -> xr.Dataset:
    """Find neuroids whose responses are many times as large as is usual, and say how much of the geometry is theirs.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Lazy values are read block by block.
    by : str, optional
        Neuroid coordinate, such as ``"layer"``, within whose groups neuroids are compared.
    factor : float
        How many times the median size makes a neuroid massive.
    max_memory : int
        Bytes for the responses that are held at a time.

    Returns
    -------
    Dataset
        (neuroid): ``size_ratio``, the larger of standard deviation and mean over its median among neuroids that vary, and
        ``massive``, whether that is above the factor. Scalars, Pearson r of Euclidean distances between presentations (1,000 at
        most, evenly chosen): ``rdm_alone``, those of all neuroids with those of the massive ones alone; and ``rdm_without``, with
        those of the rest. Both NaN where none is massive. Coordinate ``status``: "ok", or "nan", which is compared with nothing.

    Raises
    ------
    ParameterError
        No such coordinate.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> values = np.random.default_rng(0).normal(size=(50, 20)) * np.r_[1000, np.ones(19)]
    >>> x = ba.responses(values, stimulus_id=range(50), neuroid_id=range(20), modality="ann", system="net")
    >>> out = ba.neurons.massive(x)
    >>> out.neuroid_id.values[out.massive.values].tolist(), round(out.rdm_alone.item(), 3), out.rdm_without.item() < 0.3
    ([0], 1.0, True)
    """
    check_number("factor", factor, owner="massive", low=1)
    check_number("max_memory", max_memory, owner="massive", low=1, integer=True)
    validate(responses)
    mean, sd = np.empty((2, responses.shape[1]))
    for unit, values in blocks_of(responses, max_memory=max_memory, owner="massive"):
        wide = values.reshape(len(values), unit.stop - unit.start, -1).astype(np.float64)
        mean[unit], sd[unit] = wide.mean(axis=(0, 2)), wide.std(axis=(0, 2))
    ratio = np.full(len(mean), np.nan)
    known = np.isfinite(mean)
    groups = np.zeros(len(mean)) if by is None else _groups(responses, by)
    for group in np.unique(groups[known]):
        own = known & (groups == group)
        ratio[own] = relative_sizes(mean[own], sd[own])
    flagged = ratio > factor
    found = {"size_ratio": ("neuroid", ratio), "massive": ("neuroid", flagged)}
    coords = {name: c for name, c in neuroid_labels(responses).items() if c[0] == "neuroid"}
    out = xr.Dataset(found, coords | {"status": ("neuroid", as_labels(np.where(known, "ok", "nan")))})
    out["rdm_alone"], out["rdm_without"] = _of_geometry(responses, flagged, known & ~flagged)
    return write_step(
        out.assign_attrs(factor=factor), "massive", params={"by": by, "factor": factor}, inputs={"responses": responses}
    )


def tame(responses: xr.DataArray, *, how: str = "scale", by: str | None = None, factor: float = MASSIVE) -> xr.DataArray:
    """Return responses without the weight of massive neuroids.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
    how : {"scale", "drop"}
        Divide each by its ``size_ratio``, so that it is as large as is usual, or leave it out.
    by, factor
        As in :func:`massive`.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        As given where none is massive, but for a step in its provenance.

    Raises
    ------
    ParameterError
        No such ``how``, or nothing is left.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> values = np.random.default_rng(0).normal(size=(50, 20)) * np.r_[1000, np.ones(19)]
    >>> x = ba.responses(values, stimulus_id=range(50), neuroid_id=range(20), modality="ann", system="net")
    >>> float(ba.neurons.tame(x).std("presentation")[0]) < 2, ba.neurons.tame(x, how="drop").sizes["neuroid"]
    (True, 19)
    """
    check_choice("how", how, ("scale", "drop"), owner="tame")
    found = massive(responses, by=by, factor=factor)
    flagged = found.massive.values
    if how == "drop" and flagged.all():
        raise ParameterError(f"tame got how='drop' where all {flagged.size} neuroids are massive. Expected some others.")
    if how == "drop":
        out = responses.isel(neuroid=np.flatnonzero(~flagged))
    else:
        divisor = np.where(flagged, found.size_ratio.values, 1.0).astype(np.float32).reshape(-1, *[1] * (responses.ndim - 2))
        out = responses.copy(data=responses.data / divisor)
    params = {"how": how, "by": by, "factor": factor, "neuroid_id": responses.neuroid_id.values[flagged]}
    return write_step(out, "tame", params=params, inputs={"responses": responses})


def _groups(x: xr.DataArray, by: str) -> Numbers:
    known = coords_of(x, "neuroid", as_object=True)
    if by not in known:
        raise ParameterError(f"massive got by={by!r}; neuroids have {', '.join(sorted(known))}. Expected one of these.")
    return np.unique(known[by].astype(str), return_inverse=True)[1]


def _of_geometry(x: xr.DataArray, flagged: Numbers, rest: Numbers) -> tuple[float, float]:
    """Return the correlation of all distances with those of flagged neuroids, and with those of the rest."""
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), _ROWS)).astype(np.int64))
    if not flagged.any() or not rest.any() or len(rows) < 3:
        return np.nan, np.nan
    upper = np.triu_indices(len(rows), 1)

    def pairs(columns: Numbers) -> Numbers:
        values = np.asarray(x.data[rows][:, np.flatnonzero(columns)]).reshape(len(rows), -1)
        return np.asarray(pairwise_distances(values, "euclidean"))[upper][:, None]

    whole = pairs(flagged | rest)
    alone, without = (float(pearson_columns(whole, pairs(columns))[0]) for columns in (flagged, rest))
    return alone, without
