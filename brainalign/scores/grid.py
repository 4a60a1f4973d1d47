"""``compare``: every group of the source against every group of the target, layers × regions or any other pair."""

from __future__ import annotations

import json
import warnings
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_random_state, did_you_mean
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.scores.ceiling import noise_ceiling
from brainalign.scores.evaluate import Asked, score_systems
from brainalign.scores.inference import with_p_values


def compare(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    by: tuple[str, str],
    model: Any = None,
    cv: Any = None,
    groups: str | None = None,
    metric: Any = None,
    ceiling: Any = None,
    aggregate: str = "median",
    join: str = "inner",
    repeats: str = "average",
    time: str = "match",
    n_permutations: int = 0,
    null: str = "auto",
    random_state: int | np.random.Generator | None = None,
    progress: bool = False,
) -> xr.Dataset:
    """Score every group of source neuroids against every group of target neuroids.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time])
    by : tuple of two str
        Neuroid coordinates that group the source and the target: ``("layer", "region")``.
    model, cv, groups, metric, ceiling, join, repeats, time, n_permutations, null, random_state
        As in :func:`evaluate`; one permutation is the same draw in every cell.
    aggregate : {"median", "mean"}
        Over the neuroids of a target group whose status is ``"ok"``.
    progress : bool
        Show a progress bar over source groups.

    Returns
    -------
    Dataset
        ``score`` (source_<a>, target_<b>[, time]); ``score_neuroid`` (source_<a>, neuroid[, time]);
        ``n_features`` (source_<a>) and ``n_neuroids`` (target_<b>). With a ceiling, ``ceiling`` (target_<b>) and
        ``score_normalized``: the ratio of the means over neuroids, which unlike the mean of ratios stays unbiased
        where ceilings are low. With permutations ``p_value``, ``p_value_fdr`` and ``p_value_max`` of each cell, the last against the
        highest null score of the whole grid.

    Raises
    ------
    ParameterError
        A name in ``by`` is no neuroid coordinate.

    Notes
    -----
    Every cell of one source group comes from the same folds and the same fit; alpha is chosen per neuroid inside the
    training rows, so groups of different width are compared at their own best penalty.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=80, random_state=0)
    >>> forward = ba.compare(study.network, study.brain, by=("layer", "region"), cv=4)
    >>> reverse = ba.compare(study.brain, study.network, by=("region", "layer"), cv=4)
    >>> forward.score.dims, reverse.score.dims
    (('source_layer', 'target_region'), ('source_region', 'target_layer'))
    """
    from tqdm.auto import tqdm

    validate(source, name="source")
    validate(target, name="target")
    check_choice("aggregate", aggregate, ("median", "mean"), owner="compare")
    if not isinstance(by, (tuple, list)) or len(by) != 2:
        raise ParameterError(
            f"The 'by' parameter of compare must be two coordinates, of the source and of the target: ('layer', 'region'). Got {by!r} instead."
        )
    source_groups, target_groups = _groups(source, by[0], "source"), _groups(target, by[1], "target")
    seed = check_random_state(random_state, owner="compare")
    if isinstance(ceiling, str) and ceiling == "repeat":  # the same for every source group
        ceiling = noise_ceiling(target, random_state=seed)
    asked = Asked(model, cv, groups, metric, ceiling, join, repeats, time, n_permutations, null, seed, False)
    parts = []
    for positions in tqdm(source_groups.values(), desc=f"compare by {by[0]}", disable=not progress):
        parts.append(score_systems(source.isel(neuroid=positions), target, asked))
    out = _grid(parts, f"source_{by[0]}", f"target_{by[1]}", source_groups, target_groups, aggregate)
    out.attrs |= {"metric": parts[0].attrs["metric"], "aggregate": aggregate, "report": parts[0].attrs["report"]}
    params = {"by": by, "aggregate": aggregate, "model": model, "cv": json.loads(parts[0].attrs["report"])["folds"]}
    params |= {"n_permutations": n_permutations, "null": parts[0].attrs.get("null")}
    return write_step(out, "compare", params=params, inputs={"source": source, "target": target}, seed=seed)


def _groups(x: xr.DataArray, name: str, side: str) -> dict[Any, np.ndarray[Any, Any]]:
    """Positions of the neuroids of each group, in order of first appearance."""
    coords = coords_of(x, "neuroid")
    if name not in coords:
        raise ParameterError(
            f"compare got by={name!r} for the {side}, which has the neuroid coordinates {', '.join(sorted(coords))}. Expected one of "
            f"them: assign it with `{side}.assign_coords({name}=('neuroid', labels))`.{did_you_mean(name, coords)}"
        )
    codes, labels = pd.factorize(coords[name].astype(object))
    return {label: np.flatnonzero(codes == i) for i, label in enumerate(labels)}


def _grid(
    parts: list[xr.Dataset], rows: str, columns: str, source_groups: dict[Any, Any], target_groups: dict[Any, Any], aggregate: str
) -> xr.Dataset:
    scores = np.stack([part.score.values for part in parts])  # (group, neuroid[, time])
    dims = parts[0].score.dims
    reduce = np.nanmedian if aggregate == "median" else np.nanmean
    ok = parts[0].status.values == "ok"
    cells = [positions[ok[positions]] for positions in target_groups.values()]
    variables: dict[str, Any] = {
        "score": ((rows, columns, *dims[1:]), _per_group(scores, cells, reduce)),
        "score_neuroid": ((rows, *dims), scores),
        "n_features": ((rows,), [len(positions) for positions in source_groups.values()]),
        "n_neuroids": ((columns,), [len(cell) for cell in cells]),
    }
    if "ceiling" in parts[0]:
        ceilings = parts[0].ceiling.values[None]
        known = np.isfinite(ceilings)  # at each time: a sensor without a ceiling before the response may have one during it
        top, mean_ceiling = (_per_group(np.where(known, x, np.nan), cells, _mean) for x in (scores, ceilings))
        variables["ceiling"] = ((columns, *dims[1:]), mean_ceiling[0])
        variables["score_normalized"] = (variables["score"][0], top / mean_ceiling)
    coords: dict[str, Any] = {rows: as_labels(list(source_groups)), columns: as_labels(list(target_groups))}
    coords |= {name: coord for name, coord in parts[0].coords.items() if coord.dims in (("neuroid",), ("time",))}
    out = xr.Dataset(variables, coords=coords)
    if "null_score" not in parts[0]:
        return out
    chance = np.stack([_per_group(part.null_score.values, cells, reduce) for part in parts], axis=1)
    return with_p_values(out, xr.DataArray(chance, dims=("permutation", *variables["score"][0]))).assign_attrs(
        null=parts[0].attrs["null"]
    )


def _per_group(values: np.ndarray[Any, Any], cells: list[np.ndarray[Any, Any]], reduce: Any) -> np.ndarray[Any, Any]:
    """Reduce (group, neuroid[, time]) over the neuroids of each cell; an empty cell is NaN."""
    empty = np.full((values.shape[0], *values.shape[2:]), np.nan)
    with warnings.catch_warnings():  # where every neuroid is NaN, NaN is the answer and no news
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.stack([reduce(values[:, cell], axis=1) if cell.size else empty for cell in cells], axis=1)


def _mean(values: np.ndarray[Any, Any], axis: int) -> np.ndarray[Any, Any]:
    """Mean of what is defined, NaN where nothing is; `np.nanmean` warns of every such cell."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(axis=axis) / known.sum(axis=axis))
