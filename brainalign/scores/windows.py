"""Scores from parts of the source's time: windows that slide, or that grow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.provenance import provenance, write_step
from brainalign.dataset.align import SAME_TIME_S
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_of_the_maximum
from brainalign.engine.retrieval import SIGNS


def over_windows(
    score: Callable[[xr.DataArray], xr.Dataset],
    source: xr.DataArray,
    target: xr.DataArray,
    windows: Any,
) -> xr.Dataset:
    """Score the source in each window, and join the results.

    Parameters
    ----------
    score : callable
        From a source to a result, of the same folds and permutations whatever its times.
    source : DataArray, (presentation, neuroid, time)
    target : DataArray
        For the record.
    windows : sequence of (start, stop)
        In seconds; ``start`` is in the window, ``stop`` is not.

    Returns
    -------
    Dataset
        Along ``window``, with the coordinates ``start_s`` and ``stop_s``; ``chance`` is the same for all. Null scores also give
        ``p_value_max`` (window, measure), against the best window of each permutation.

    Raises
    ------
    ParameterError
        No windows of the source's time.
    """
    parts = [score(source.isel(time=rows)) for rows in _rows(source, windows)]
    same = [name for name in ("chance", "n_candidates") if name in parts[0]]
    out = xr.concat(
        [part.drop_vars(same) for part in parts],
        "window",
        coords="minimal",
        compat="override",
        combine_attrs="override",
        join="override",
    ).assign({name: parts[0][name] for name in same})
    starts, stops = np.asarray(windows, dtype=np.float64).T
    out = out.assign_coords(start_s=("window", starts), stop_s=("window", stops))
    if "null_score" in out:
        observed = out.score.values * SIGNS
        null = out.null_score.transpose("permutation", "window", "measure").values * SIGNS
        each = [p_of_the_maximum(observed[:, k], null[:, :, k]) for k in range(len(SIGNS))]
        out["p_value_max"] = (("window", "measure"), np.stack(each, axis=1))
    step = provenance(out, verify=False).steps[-1]
    params = {**step["params"], "windows": np.stack([starts, stops], axis=1).tolist()}
    return write_step(out, step["verb"], params=params, inputs={"source": source, "target": target}, seed=step["seed"])


def _rows(source: xr.DataArray, windows: Sequence[Any]) -> list[Numbers]:
    if "time" not in source.dims:
        raise ParameterError(f"windows= got a source with dims {source.dims}. Expected one with time.")
    bounds = np.asarray(windows, dtype=np.float64) if np.ndim(windows) == 2 else np.empty((0, 0))
    if bounds.shape[1:] != (2,) or not len(bounds):
        raise ParameterError(f"windows= got {windows!r}. Expected pairs of seconds, as in [(0.0, 0.1), (0.1, 0.2)].")
    times, found = source.time.values, []
    for start, stop in bounds:
        found.append(np.flatnonzero((times >= start - SAME_TIME_S) & (times < stop - SAME_TIME_S)))
        if not found[-1].size:
            raise ParameterError(
                f"windows= holds ({start:g}, {stop:g}), in which the source has no time. Expected some of its {len(times)} times, from "
                f"{times[0]:g} s to {times[-1]:g} s."
            )
    return found
