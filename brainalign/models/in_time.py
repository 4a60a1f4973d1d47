"""Rows in time, for mappings that look back: which run each belongs to, and which sample of it each is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of, presentation_table
from brainalign.features.timing import onsets_of, rows_by_run, run_codes, sampling_intervals
from brainalign.models.mapping import Values

SLACK = 0.01  # of the sampling interval, as Delay has it


def runs_in_time(
    X: Any, sampling_rate_hz: float | None, *, owner: str, fitted_s: float | None = None
) -> tuple[list[tuple[Values, Values]], float]:
    """Return the rows of each run in order of time, which sample of it each is, and the sampling interval in seconds.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, neuroid)
        With ``onset_s`` and, where there are several, ``run``; plain arrays are one run.
    sampling_rate_hz : float or None
        Of rows that have no ``onset_s``: those of one run follow each other.
    owner : str
        The mapping, for messages.
    fitted_s : float, optional
        The sampling interval that it was fitted at.

    Returns
    -------
    runs : list of (rows, samples), ndarrays of int
    interval_s : float

    Raises
    ------
    SchemaError
        Rows without a time.
    ParameterError
        Rows that are not regularly sampled.
    AlignmentError
        Another sampling interval than that of the fit.
    """
    runs, interval = _sampled(X, sampling_rate_hz, owner)
    if fitted_s is not None and abs(interval / fitted_s - 1) > SLACK:
        raise AlignmentError(
            f"{owner} got rows that are {interval:g} s apart. Expected {fitted_s:g} s, as in `fit`: its lags are samples."
        )
    return runs, interval


def _sampled(X: Any, sampling_rate_hz: float | None, owner: str) -> tuple[list[tuple[Values, Values]], float]:
    table = presentation_table(X) if isinstance(X, xr.DataArray) else pd.DataFrame(index=range(len(X)))
    codes = run_codes(table)
    if "onset_s" not in table:
        if sampling_rate_hz is None:
            raise SchemaError(
                f"{owner} needs the time of every row, and the source has no `onset_s`. Expected seconds from the start of the run: "
                "`x.assign_coords(onset_s=('presentation', seconds))`, or `sampling_rate_hz=` for rows that follow each other."
            )
        runs = rows_by_run(codes, np.arange(len(table)))
        return [(rows, np.arange(len(rows))) for rows in runs], 1 / sampling_rate_hz
    onset, intervals = onsets_of(table, owner=owner), sampling_intervals(table, owner=owner, side="the source")
    known = intervals[np.isfinite(intervals)]
    if not known.size or np.ptp(known) > SLACK * known.min():
        found = (
            f"intervals from {known.min():g} to {known.max():g} s"
            if known.size
            else f"{len(table)} rows, no two of them in one run"
        )
        raise ParameterError(
            f"{owner} got {found}. Expected runs that are regularly sampled, at one rate: look at `x.run` and `x.onset_s`, or resample some."
        )
    interval = float(np.median(known))
    runs = rows_by_run(codes, onset)
    return [(rows, np.rint((onset[rows] - onset[rows[0]]) / interval).astype(np.int64)) for rows in runs], interval


def sides_as_rows(X: Any, Y: Any, *, owner: str) -> tuple[Any, Any]:
    """Return both sides of a fit as :func:`as_rows` does.

    Parameters
    ----------
    X, Y : DataArray or ndarray, (presentation, neuroid[, time])
    owner : str
        The mapping, for messages.

    Returns
    -------
    X, Y : DataArray or ndarray, (presentation, neuroid)

    Raises
    ------
    AlignmentError
        One side alone has a time dim.
    """
    if np.ndim(X) != np.ndim(Y) and 3 in (np.ndim(X), np.ndim(Y)):
        raise AlignmentError(
            f"{owner} got a source of shape {np.shape(X)} and a target of shape {np.shape(Y)}. Expected a `time` dim on both sides, or rows "
            "in time on both."
        )
    return as_rows(X), as_rows(Y)


def as_rows(X: Any) -> Any:
    """Return trials in time as rows in time, each trial a run; what has no time dim is returned as it is.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, neuroid[, time])

    Returns
    -------
    DataArray or ndarray, (presentation, neuroid)
    """
    if not isinstance(X, xr.DataArray) or "time" not in X.dims:
        return X
    n, t = X.sizes["presentation"], X.sizes["time"]
    coords: dict[str, Any] = {name: ("presentation", np.repeat(v, t)) for name, v in coords_of(X, "presentation").items()}
    coords |= {"run": ("presentation", as_labels(np.repeat(np.arange(n).astype(str), t).tolist()))}
    coords |= {"onset_s": ("presentation", np.tile(X.coords["time"].values, n))}
    coords |= {name: ("neuroid", v) for name, v in coords_of(X, "neuroid").items()}
    attrs = {name: value for name, value in X.attrs.items() if name != "time_reference"}
    values = X.values.transpose(0, 2, 1).reshape(n * t, -1)
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name=X.name)
