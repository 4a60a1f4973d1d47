"""``sparseness``: how few presentations drive a neuroid, and how few neuroids respond to a presentation."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_choice
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.repeats import average_if_repeated
from brainalign.engine.information import sparseness as sparseness_of
from brainalign.neurons.labelling import neuroid_labels

KINDS = ("vinje-gallant", "treves-rolls", "hoyer")


def sparseness(
    responses: xr.DataArray, *, metric: str = "vinje-gallant", negative: str = "rectify", by: str | None = None
) -> xr.Dataset:
    """Measure lifetime sparseness of neuroids and population sparseness of stimuli.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Repeats are averaged first: the noise of single presentations would be called sparse.
    metric : {"vinje-gallant", "treves-rolls", "hoyer"}
        See :func:`brainalign.engine.information.sparseness`; "treves-rolls" is high where responses are not sparse.
    negative : {"rectify", "absolute", "error"}
        What becomes of responses below 0: they count as none, as responses of their size, or are refused.
    by : str, optional
        Neuroid coordinate, such as ``"layer"`` or ``"region"``, whose groups are populations; default all neuroids are one.

    Returns
    -------
    Dataset
        ``lifetime`` (neuroid[, time]) and ``population`` (presentation[, <by>][, time]); 0 to 1, NaN where no response is above 0,
        or of a single neuroid. Coordinate ``status`` of neuroids: "ok", "silent", or "nan", whose lifetime is NaN and which no
        population counts. Attr ``negative_share``: how many of the averaged responses were below 0.

    Raises
    ------
    ParameterError
        No such metric or coordinate.
    SchemaError
        Negative responses where ``negative="error"``; a single stimulus or neuroid.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 1.0], [0.0, 1.0], [0.0, 1.0]], stimulus_id=list("abc"), neuroid_id=["one", "all"],
    ...                  modality="spikes", system="m")
    >>> out = ba.neurons.sparseness(x)
    >>> out.lifetime.values.tolist(), out.population.values.round(2).tolist()
    ([1.0, 0.0], [0.0, 1.0, 1.0])
    """
    check_choice("metric", metric, KINDS, owner="sparseness")
    check_choice("negative", negative, ("rectify", "absolute", "error"), owner="sparseness")
    x = average_if_repeated(validate(responses), owner="sparsity")
    groups = coords_of(x, "neuroid")
    if by is not None and by not in groups:
        raise ParameterError(f"sparseness got by={by!r}; neuroids have {', '.join(sorted(groups))}. Expected one of these.")
    values = x.values.astype(np.float64)
    below = float((values < 0).mean())
    if negative == "error" and below:
        raise SchemaError(f"sparseness got {below:.1%} responses below 0. Expected rates: pass negative='rectify' or 'absolute'.")
    if min(values.shape[:2]) < 2:
        raise SchemaError(
            f"sparseness got {values.shape[0]} stimuli and {values.shape[1]} neuroids. Expected two of each at least."
        )
    rates = np.abs(values) if negative == "absolute" else np.maximum(values, 0.0)
    times = ("time",) if "time" in x.dims else ()
    bad = ~np.isfinite(values).all(axis=(0, *range(2, values.ndim)))
    silent = ~(rates > 0).any(axis=(0, *range(2, rates.ndim)))
    lifetime = sparseness_of(rates, metric)
    lifetime[bad] = np.nan
    coords = neuroid_labels(x) | {name: ("presentation", labels) for name, labels in coords_of(x, "presentation").items()}
    coords["status"] = ("neuroid", as_labels(np.where(bad, "nan", np.where(silent, "silent", "ok"))))
    if by is None:
        population, dims = sparseness_of(rates[:, ~bad], metric, axis=1), ("presentation", *times)
    else:
        names = as_labels(list(dict.fromkeys(groups[by].tolist())))
        parts = [sparseness_of(rates[:, (groups[by] == name) & ~bad], metric, axis=1) for name in names]
        population, dims = np.stack(parts, axis=1), ("presentation", by, *times)
        coords = {name: label for name, label in coords.items() if name != by} | {by: names}
    variables = {"lifetime": (("neuroid", *times), lifetime), "population": (dims, population)}
    out = xr.Dataset(variables, coords).assign_attrs(metric=metric, negative=negative, negative_share=below)
    return write_step(
        out, "sparseness", params={"metric": metric, "negative": negative, "by": by}, inputs={"responses": responses}
    )
