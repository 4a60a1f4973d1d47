"""``nuisance``: what a recording in time follows whatever its stimuli mean: how many there were, when they began, how long they lasted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.provenance import write_step
from brainalign.core.responses import responses
from brainalign.core.tables import presentation_table
from brainalign.features.chain import Chain, is_mixing
from brainalign.features.mixing import table_of
from brainalign.features.timing import onsets_of, rows_by_run, run_codes
from brainalign.features.words import WordsToVolumes

Array = np.ndarray[Any, Any]

_PAUSE_S = 0.5  # without any stimulus, before one that counts as an onset


def nuisance(source: xr.DataArray, target: Any = None, *, model: Chain | None = None) -> xr.DataArray:
    """Return low-level features of presentations in time, from their own table: onsets, durations and runs.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time])
        Its table is read, not its values. With ``onset_s``; ``duration_s`` and ``run`` where it has them.
    target : DataArray, Dataset or DataFrame, optional
        The presentations that ``model`` retimes to.
    model : Chain, optional
        Its temporal steps are applied, so that the features lag as those of the source do; words are counted (summed)
        where it averages them.

    Returns
    -------
    DataArray, (presentation, neuroid)
        On the rows that the mapping sees. ``rate``: one for each row; ``onset``: one for each that begins a run or follows half a
        second without any; ``energy``: seconds that it lasts, where durations are known; ``position`` and ``position2``: time
        within the run from -1 to 1 and its square, after the steps. Those that do not vary are left out.

    Raises
    ------
    SchemaError
        No ``onset_s``.

    Notes
    -----
    Sums of word embeddings correlate with the word rate, and a language model's variance is not its own before that of the
    rate is taken off. The energy of sound or pictures needs the stimuli: :func:`controls`.

    Examples
    --------
    >>> import brainalign as ba
    >>> words = ba.responses(np.ones((4, 1)), stimulus_id=list("abcd"), neuroid_id=["u"], modality="ann", system="lm",
    ...                      onset_s=[0.0, 0.4, 2.5, 5.0], duration_s=[0.4, 0.3, 0.5, 0.5], run="1")
    >>> bold = ba.responses(np.ones((4, 1)), stimulus_id=["v0", "v1", "v2", "v3"], neuroid_id=["v"], modality="fmri", system="s",
    ...                     onset_s=[0.0, 2.0, 4.0, 6.0], duration_s=2.0, run="1")
    >>> found = nuisance(words, bold, model=ba.chain(ba.WordsToVolumes("mean"), ba.Ridge()))
    >>> found[:, found.neuroid_id == "rate"].values.ravel().tolist()
    [2.0, 1.0, 1.0, 0.0]
    """
    table = presentation_table(source)
    out = _recorded(table, _events(table), source)
    rows = table if target is None else table_of(target)
    for step in () if model is None else model.steps:
        if is_mixing(step):
            out = (WordsToVolumes("sum") if isinstance(step, WordsToVolumes) else step).transform(out, rows)
    after = presentation_table(out)
    position = _recorded(after, _position(after), source)
    if "delay_s" in out.coords:
        position = position.assign_coords(delay_s=("neuroid", np.zeros(position.sizes["neuroid"])))
    out = xr.concat([out, position], "neuroid", coords="minimal", compat="override", combine_attrs="override")
    out = out.transpose("presentation", "neuroid")
    return write_step(out[:, np.ptp(out.values, axis=0) > 0], "nuisance", params={"model": model}, inputs={"source": source})


def _events(table: pd.DataFrame) -> dict[str, Array]:
    onset = onsets_of(table, owner="nuisance", side="the source")
    duration = table["duration_s"].to_numpy(np.float64) if "duration_s" in table else np.zeros(len(table))
    duration = np.nan_to_num(duration)
    begins = np.zeros(len(table))
    for rows in rows_by_run(run_codes(table), onset):
        ended = np.maximum.accumulate(onset[rows] + duration[rows])
        begins[rows] = np.r_[True, onset[rows][1:] - ended[:-1] > _PAUSE_S]
    return {"rate": np.ones(len(table)), "onset": begins, "energy": duration}


def _position(table: pd.DataFrame) -> dict[str, Array]:
    onset, place = onsets_of(table, owner="nuisance", side="the target"), np.zeros(len(table))
    for rows in rows_by_run(run_codes(table), onset):
        first, last = onset[rows[[0, -1]]]
        place[rows] = 2 * (onset[rows] - first) / (last - first) - 1 if last > first else 0.0
    return {"position": place, "position2": place**2}


def _recorded(table: pd.DataFrame, columns: dict[str, Array], source: xr.DataArray) -> xr.DataArray:
    return responses(
        np.column_stack(list(columns.values())).astype(np.float32),
        stimulus_id=table["stimulus_id"].to_numpy(),
        neuroid_id=list(columns),
        modality=source.attrs["modality"],
        system="nuisance",
        deterministic=True,
        presentation=table.drop(columns=["stimulus_id", "repetition"], errors="ignore"),
    )
