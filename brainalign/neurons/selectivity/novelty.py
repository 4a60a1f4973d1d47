"""``coverage``: which states neuroids were in, and whether new presentations bring states that were not there."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.engine.coverage import bin_counts, bins_of, seen, states
from brainalign.engine.moments import Numbers
from brainalign.neurons.labelling import blocks_of, neuroid_labels


def coverage(
    responses: xr.DataArray,
    *,
    new: xr.DataArray | None = None,
    onto: xr.Dataset | None = None,
    n_bins: int = 50,
    least: float = 1.0,
    transform: str = "normal",
    max_memory: int = 2**30,
) -> xr.Dataset:
    """Count the states of every neuroid, and score how usual those of new presentations are.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Times count as further presentations. Lazy values are read block by block.
    new : DataArray, optional
        Presentations to the same neuroids that are scored.
    onto : Dataset, optional
        A result of other presentations, whose counts these are added to; it says the bins, and how states are made.
    n_bins : int
    least : float
        How often a bin must have been seen to count as covered: r of the paper.
    transform : {"normal", "sigmoid"}
        How a response becomes a state from 0 to 1: by the cumulative normal distribution, of its deviation from the mean over
        twice the standard deviation, which suits signals of any sign and unit and leaves bins for what lies beyond all that was
        seen; or by the logistic function as it is.
    max_memory : int
        Bytes for the responses that are held at a time.

    Returns
    -------
    Dataset
        ``count`` (neuroid, bin); ``centre`` and ``spread`` (neuroid); ``coverage`` (neuroid), the share of its bins that are
        covered; with ``new`` ``score`` (presentation[, time]) of these, the mean over neuroids of how far the bin of each is
        covered: low out of distribution. Coordinate ``status`` (neuroid): "ok", or "nan", whose coverage is NaN and which no
        score counts.

    Raises
    ------
    AlignmentError
        Other neuroids in ``new`` or ``onto``.
    ParameterError
        See the messages.

    Notes
    -----
    Neuron activation coverage (Liu et al. 2024), of responses alone, without the gradient of a classifier. A neuroid that never
    changes covers one bin of M, and presentations that were counted score 1 with ``least=1``.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, odd = (ba.responses(rng.normal(size=(200, 9)) + shift, stimulus_id=range(200), neuroid_id=range(9), modality="ann",
    ...                        system="net") for shift in (0, 3))
    >>> usual, unusual = (ba.neurons.coverage(x[:100], new=part).score.mean().item() for part in (x[100:], odd))
    >>> usual > 2 * unusual
    True
    """
    check_number("n_bins", n_bins, owner="coverage", low=2, integer=True)
    check_number("least", least, owner="coverage", low=0, low_open=True)
    check_number("max_memory", max_memory, owner="coverage", low=1, integer=True)
    check_choice("transform", transform, ("normal", "sigmoid"), owner="coverage")
    validate(responses)
    if onto is not None:
        _same_neuroids(responses, onto, "onto")
        n_bins, transform = onto.sizes["bin"], onto.attrs["transform"]
    count = np.zeros((responses.shape[1], n_bins), dtype=np.int64)
    centre, spread = np.zeros(len(count)), np.ones(len(count))
    bad = np.zeros(len(count), dtype=bool)
    if onto is not None:
        centre, spread, bad = onto["centre"].values, onto["spread"].values, (onto["status"].values == "nan")
    for unit, values in _blocks(responses, max_memory):
        bad[unit] |= ~np.isfinite(values).all(axis=0)
        values = np.where(bad[unit], 0.0, values)
        if onto is None and transform == "normal":
            centre[unit], spread[unit] = values.mean(axis=0), 2.0 * values.std(axis=0)
        count[unit] = bin_counts(bins_of(states(values, centre[unit], spread[unit], transform), n_bins), n_bins)
    count = (count if onto is None else count + onto["count"].values) * ~bad[:, None]
    coords = {name: labels for name, labels in neuroid_labels(responses).items() if labels[0] == "neuroid"}
    coords["status"] = ("neuroid", as_labels(np.where(bad, "nan", "ok")))
    found: dict[str, Any] = {"coverage": ("neuroid", np.where(bad, np.nan, seen(count, least).mean(axis=1)))}
    found |= {"count": (("neuroid", "bin"), count), "centre": ("neuroid", centre), "spread": ("neuroid", spread)}
    out = xr.Dataset(found, coords).assign_attrs(transform=transform, least=least, direction="lower is less usual")
    if new is not None:
        out = _with_scores(out, validate(new, name="new"), max_memory)
    params = {"n_bins": n_bins, "least": least, "transform": transform}
    inputs = {"responses": responses, "new": new, "onto": onto}
    return write_step(out, "coverage", params=params, inputs={name: x for name, x in inputs.items() if x is not None})


def _with_scores(out: xr.Dataset, new: xr.DataArray, max_memory: int) -> xr.Dataset:
    _same_neuroids(new, out, "new")
    known = out["status"].values == "ok"
    if not known.any():
        raise ParameterError(
            f"coverage got {known.size} neuroids, all of them with NaN. Expected some that are finite throughout."
        )
    covered, centre, spread = seen(out["count"].values, out.attrs["least"]), out["centre"].values, out["spread"].values
    total = 0.0
    for unit, values in _blocks(new, max_memory):
        own = unit.start + np.flatnonzero(known[unit])
        state = states(np.nan_to_num(values[:, known[unit]]), centre[own], spread[own], out.attrs["transform"])
        total = total + covered[own, bins_of(state, covered.shape[1])].sum(axis=1)
    dims = ("presentation", "time") if "time" in new.dims else ("presentation",)
    score = np.asarray(total / known.sum()).reshape([new.sizes[dim] for dim in dims])
    return out.assign_coords({name: (dim, v) for dim in dims for name, v in coords_of(new, dim).items()}).assign(
        score=(dims, score)
    )


def _blocks(x: xr.DataArray, max_memory: int) -> Any:
    """Yield neuroids and their values, (presentation × time, neuroid)."""
    for unit, values in blocks_of(x, max_memory=max_memory, owner="coverage"):
        wide: Numbers = values.reshape(len(values), unit.stop - unit.start, -1)
        yield unit, np.moveaxis(wide, 2, 1).reshape(-1, wide.shape[1]).astype(np.float64)


def _same_neuroids(x: xr.DataArray, other: xr.Dataset, name: str) -> None:
    ids = [side.neuroid_id.values.astype(object) for side in (x, other)]
    if len(ids[0]) != len(ids[1]) or (ids[0] != ids[1]).any():
        raise AlignmentError(
            f"coverage got {name}= with other neuroids: {len(ids[0])} that start {ids[0][:2].tolist()}, and {len(ids[1])} that "
            f"start {ids[1][:2].tolist()}. Expected the same ones in their order: `x.isel(neuroid=...)`."
        )
