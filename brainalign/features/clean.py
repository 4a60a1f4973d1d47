"""``Clean`` and ``ZScore``: nuisance, drift and scale removed within each run, neuroid by neuroid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError, require
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import hash_array, write_step
from brainalign.core.schema import PRESENTATION_COORDS, validate
from brainalign.features.mixing import table_of
from brainalign.features.timing import onsets_of, rows_by_run, run_codes, sampling_intervals, shared_run_codes, ticks

Array = np.ndarray[Any, Any]

_BLOCK_BYTES = 2**26  # of float64 signals at a time
_FLAT = 4 * float(np.finfo(np.float32).eps)  # relative range below which float32 values are one constant
_EXPLAINED = 1e-6  # a signal whose residual is smaller than this part of it was nothing but nuisance, read as float32
_UNITS = {"zscore": "z-score", "std": "standard deviations", "psc": "% signal change"}


class _WithinRun(TransformerMixin, BaseEstimator):
    """A labelled step that learns nothing and treats each run on its own."""

    stateless = True

    def fit(self, X: Any, y: Any = None) -> _WithinRun:
        """Return the step itself: it learns nothing.

        Parameters
        ----------
        X, y : object
            Not read.

        Returns
        -------
        estimator
        """
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Clean(_WithinRun):
    """Remove trends, drifts and confounds from continuous responses, within each run, with ``nilearn.signal.clean``.

    Parameters
    ----------
    confounds : DataFrame or DataArray, optional
        Nuisance signals, joined on run and ``onset_s``, never by row order; rows that the responses lack are left
        out. A DataFrame has ``onset_s``, ``run`` where there are several, and one numeric column a confound.
    detrend : bool
        Remove mean and linear trend, from confounds too.
    drift_order : int
        Also remove polynomials of time up to this order (2: a quadratic trend).
    n_cosines : int
        Also remove this many discrete cosine terms (1, 2, ... half cycles per run).
    high_pass_hz, low_pass_hz : float, optional
        Cut-off frequencies; confounds are filtered alike.
    filter : {"butterworth", "cosine"}
        ``"cosine"`` regresses out all cosine terms slower than ``high_pass_hz``, as nilearn does.
    standardize : {False, "zscore", "std", "psc"}
        Afterwards: z-score; division by the standard deviation; percent of the run's mean before cleaning.

    Notes
    -----
    Standard deviations have ``ddof=0``, as in :class:`ZScore` (nilearn's have 1). A neuroid that is constant in a run
    stays constant there (0 where means are removed), one with any NaN is NaN in that run, and neither is seen by the
    others. Polynomials and cosines are regressed out together with the confounds, in one projection.

    Examples
    --------
    >>> import brainalign as ba
    >>> drift = np.arange(20.0)
    >>> x = ba.responses((drift + [1, -1] * 10)[:, None], stimulus_id=list("abcdefghijklmnopqrst"), neuroid_id=["v"],
    ...                  modality="fmri", system="s", onset_s=2 * drift, run="1")
    >>> bool(abs(ba.Clean().fit_transform(x)).max() < 1.2)
    True
    """

    def __init__(
        self,
        confounds: pd.DataFrame | xr.DataArray | None = None,
        *,
        detrend: bool = True,
        drift_order: int = 0,
        n_cosines: int = 0,
        high_pass_hz: float | None = None,
        low_pass_hz: float | None = None,
        filter: str = "butterworth",
        standardize: str | bool = False,
    ) -> None:
        self.confounds = confounds
        self.detrend = detrend
        self.drift_order = drift_order
        self.n_cosines = n_cosines
        self.high_pass_hz = high_pass_hz
        self.low_pass_hz = low_pass_hz
        self.filter = filter
        self.standardize = standardize

    def transform(self, X: xr.DataArray) -> xr.DataArray:
        """Clean every run of ``X``.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid)
            Continuous: one row a volume or sample, with ``onset_s``, and ``run`` where there are several.

        Returns
        -------
        DataArray, float32, (presentation, neuroid)

        Raises
        ------
        ParameterError
            An impossible parameter, a time dim, rows that are not regularly sampled, or more nuisance than rows.
        SchemaError
            No ``onset_s``, or confounds with NaN.
        AlignmentError
            A row of ``X`` has no confounds.
        """
        self._check()
        validate(X, name="X")
        if "time" in X.dims:
            raise ParameterError(
                f"Clean got X with dims {X.dims}. Expected continuous responses, one row a volume or sample: filter before cutting epochs."
            )
        table = table_of(X)
        onset = onsets_of(table, owner="Clean")
        interval = sampling_intervals(table, owner="Clean")
        nuisance = None if self.confounds is None else _matched(self.confounds, table)
        values = np.asarray(X.values)
        out = np.empty(values.shape, dtype=np.float32)
        for rows in rows_by_run(run_codes(table), onset):
            columns = self._columns(onset[rows], interval[rows[0]], None if nuisance is None else nuisance[rows])
            step = max(1, _BLOCK_BYTES // (8 * len(rows)))
            for start in range(0, values.shape[1], step):
                block = values[rows, start : start + step].astype(np.float64)
                out[rows, start : start + step] = self._clean(block, columns, interval[rows[0]])
        return self._label(X, out)

    def _check(self) -> None:
        check_number("drift_order", self.drift_order, owner="Clean", low=0, integer=True)
        check_number("n_cosines", self.n_cosines, owner="Clean", low=0, integer=True)
        check_choice("filter", self.filter, ("butterworth", "cosine"), owner="Clean")
        check_choice("standardize", self.standardize, (False, *_UNITS), owner="Clean")
        for name in ("high_pass_hz", "low_pass_hz"):
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name), owner="Clean", low=0, low_open=True)
        if self.filter == "cosine" and (self.high_pass_hz is None or self.low_pass_hz is not None):
            raise ParameterError(
                f"Clean(filter='cosine') got high_pass_hz={self.high_pass_hz!r} and low_pass_hz={self.low_pass_hz!r}. Expected "
                "`high_pass_hz` alone: cosines remove slow drifts only."
            )
        if self.high_pass_hz is not None and self.low_pass_hz is not None and self.high_pass_hz >= self.low_pass_hz:
            raise ParameterError(
                f"Clean got high_pass_hz={self.high_pass_hz!r} and low_pass_hz={self.low_pass_hz!r}. Expected high_pass_hz below "
                "low_pass_hz, the frequencies that are kept."
            )

    def _columns(self, onset: Array, interval: float, nuisance: Array | None) -> Array | None:
        """Return what is regressed out of one run, (row, column): drifts and confounds."""
        n = len(onset)
        span = max(float(onset[-1] - onset[0]), 1e-9)
        at = 2 * (onset - onset[0]) / span - 1
        lowest = 2 if self.detrend else 1  # nilearn's detrending has the line already
        parts = [np.polynomial.legendre.Legendre.basis(k)(at)[:, None] for k in range(lowest, self.drift_order + 1)]
        parts += [np.cos(np.pi * k * (np.arange(n) + 0.5) / n)[:, None] for k in range(1, self._cosines(n, interval) + 1)]
        parts += [] if nuisance is None else [nuisance]
        filters = [f for f in (self.high_pass_hz, self.low_pass_hz) if f is not None]
        if (filters or self.n_cosines) and n > 1 and float(np.diff(onset).max()) > 1.5 * interval:
            at_gap = int(np.argmax(np.diff(onset)))
            raise ParameterError(
                f"Clean needs evenly sampled runs for filters and cosines, and between {onset[at_gap]:g} s and {onset[at_gap + 1]:g} s rows "
                "are missing. Expected every volume: clean before dropping rows."
            )
        if filters and not max(filters) < 0.5 / interval:
            raise ParameterError(
                f"Clean got a cut-off of {max(filters):g} Hz for rows every {interval:g} s. Expected less than {0.5 / interval:g} Hz, half "
                "the sampling rate."
            )
        count = sum(part.shape[1] for part in parts) + 1 + bool(self.detrend)
        if count >= n:
            raise ParameterError(
                f"Clean would remove {count} columns (mean, trends, cosines and confounds) from a run of {n} rows, which leaves nothing. "
                "Expected fewer than rows."
            )
        return np.hstack(parts) if parts else None

    def _cosines(self, n: int, interval: float) -> int:
        # nilearn's own cosine filter is silently left out where a confound resembles one of its terms.
        if self.filter == "cosine" and self.high_pass_hz is not None:
            return max(self.n_cosines, min(n - 1, int(np.floor(2 * n * self.high_pass_hz * interval))))
        return self.n_cosines

    def _clean(self, block: Array, columns: Array | None, interval: float) -> Array:
        """Clean one run of some neuroids; degenerate ones are kept away from the regression."""
        finite = np.isfinite(block).all(axis=0)
        flat = finite & _is_flat(block)
        good = finite & ~flat
        butterworth = self.filter == "butterworth"
        high_pass, low_pass = (self.high_pass_hz, self.low_pass_hz) if butterworth else (None, None)
        removes_mean = self.detrend or high_pass is not None or self.standardize in ("zscore", "psc")
        out = np.full(block.shape, np.nan)
        out[:, flat] = 0.0 if removes_mean else block[:, flat]
        if not good.any():
            return out
        signal = require("nilearn.signal", extra="fmri", purpose="Clean")
        try:
            cleaned = signal.clean(
                block[:, good],
                detrend=self.detrend,
                standardize=None,
                confounds=columns,
                filter="butterworth" if high_pass is not None or low_pass is not None else False,
                low_pass=low_pass,
                high_pass=high_pass,
                t_r=interval,
            )
        except ValueError as error:  # scipy's filter on a run that is shorter than its padding
            raise ParameterError(
                f"Clean could not filter a run of {len(block)} rows ({error}) Expected a longer run: drop it, or use filter='cosine'."
            ) from error
        explained = np.ptp(cleaned, axis=0) <= _EXPLAINED * np.ptp(block[:, good], axis=0)
        cleaned[:, explained] = cleaned[:, explained].mean(axis=0) * (not removes_mean)
        out[:, good] = _standardized(cleaned, self.standardize, block[:, good].mean(axis=0))
        return out

    def _label(self, X: xr.DataArray, values: Array) -> xr.DataArray:
        out = _relabel(X, values, _UNITS.get(self.standardize) if isinstance(self.standardize, str) else None)
        params, inputs = self.get_params(deep=False), {"X": X}
        if isinstance(self.confounds, xr.DataArray):
            inputs["confounds"] = self.confounds
            params.pop("confounds")
        elif self.confounds is not None:
            names, numbers = _confound_columns(self.confounds)
            params["confounds"] = {"columns": names, "hash": hash_array(numbers)}
        return write_step(out, "Clean", params=params, inputs=inputs)


class ZScore(_WithinRun):
    """Centre every neuroid and divide it by its standard deviation, within each run.

    Parameters
    ----------
    ddof : int
        Of the standard deviation; 0 divides by the number of rows.

    Notes
    -----
    Without run labels all rows are one run. With a time dim, each time point is standardised over presentations.
    A neuroid that is constant in a run is 0 there, and one with any NaN is NaN in that run; a neuroid that is constant
    throughout is named by the ``status`` of what follows. The statistics are the run's own: to use those of the
    training rows, put ``sklearn.preprocessing.StandardScaler`` into the chain instead.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0], [3.0], [10.0], [30.0]], stimulus_id=list("abcd"), neuroid_id=["v"], modality="fmri",
    ...                  system="s", run=["1", "1", "2", "2"])
    >>> ba.ZScore().fit_transform(x).values.ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(self, ddof: int = 0) -> None:
        self.ddof = ddof

    def transform(self, X: xr.DataArray) -> xr.DataArray:
        """Standardise every run of ``X``.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])

        Returns
        -------
        DataArray, float32, (presentation, neuroid[, time])

        Raises
        ------
        ParameterError
            A run has too few rows for ``ddof``.
        """
        check_number("ddof", self.ddof, owner="ZScore", low=0, integer=True)
        validate(X, name="X")
        values = np.asarray(X.values)
        out = np.empty(values.shape, dtype=np.float32)
        codes = run_codes(table_of(X))
        for rows in rows_by_run(codes, np.arange(len(codes))):
            if len(rows) <= self.ddof:
                raise ParameterError(
                    f"ZScore(ddof={self.ddof}) got a run of {len(rows)} rows. Expected at least {self.ddof + 1}: drop it, or look at `x.run`."
                )
            step = max(1, _BLOCK_BYTES // (8 * len(rows) * int(np.prod(values.shape[2:]))))
            for start in range(0, values.shape[1], step):
                block = values[rows, start : start + step].astype(np.float64)
                out[rows, start : start + step] = _standardized(block, "zscore", None, self.ddof)
        return write_step(_relabel(X, out, _UNITS["zscore"]), "ZScore", params=self.get_params(), inputs={"X": X})


def _standardized(values: Array, how: str | bool, before: Array | None, ddof: int = 0) -> Array:
    if how is False:
        return values
    mean, flat = values.mean(axis=0), _is_flat(values)
    if how == "psc" and before is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = 100 * (values - mean) / np.abs(before)
        return np.where(np.abs(before) > 0, scaled, np.nan)  # no percentage of a mean of zero
    scale = np.where(flat, 1.0, values.std(axis=0, ddof=ddof))
    if how == "std":
        return values / scale
    return np.where(flat, 0.0, (values - mean) / scale)


def _is_flat(values: Array) -> Array:
    return np.asarray(np.ptp(values, axis=0) <= _FLAT * np.abs(values).max(axis=0))


def _relabel(X: xr.DataArray, values: Array, units: str | None) -> xr.DataArray:
    out = X.copy(data=values)
    out.attrs = {**X.attrs, **({"units": units} if units else {})}
    if np.isnan(values).any():
        out.attrs["allow_nan"] = True
    return out


def _confound_columns(confounds: pd.DataFrame) -> tuple[list[str], Array]:
    names = [str(name) for name in confounds.columns if name not in PRESENTATION_COORDS]
    wrong = [name for name in names if not pd.api.types.is_numeric_dtype(confounds[name])]
    if wrong or not names:
        raise SchemaError(
            f"Clean got confounds with the columns {preview(map(str, confounds.columns), 8)}. Expected `onset_s` (and `run`) and at least one "
            f"confound, all numeric: {'drop ' + preview(wrong) if wrong else 'add one'}."
        )
    return names, confounds[names].to_numpy(dtype=np.float64)


def _matched(confounds: pd.DataFrame | xr.DataArray, table: pd.DataFrame) -> Array:
    """Return the confounds of every row of ``table``, (row, confound)."""
    if isinstance(confounds, xr.DataArray):
        keys, values = table_of(confounds), np.asarray(confounds.values, dtype=np.float64)
    elif isinstance(confounds, pd.DataFrame):
        keys, values = table_of(confounds), _confound_columns(confounds)[1]
    else:
        raise ParameterError(
            f"The 'confounds' parameter of Clean must be a DataFrame or a DataArray with `onset_s`. Got {type(confounds).__name__} instead."
        )
    theirs, ours = shared_run_codes(keys, table, owner="Clean")
    index = pd.MultiIndex.from_arrays([theirs, ticks(onsets_of(keys, owner="Clean", side="the confounds"))])
    if index.has_duplicates:
        row = int(np.argmax(index.duplicated()))
        raise AlignmentError(
            f"Clean got two confound rows for {keys['onset_s'].iloc[row]:g} s of one run. Expected one: add the `run` that tells them apart."
        )
    onset = onsets_of(table, owner="Clean")
    at = index.get_indexer(pd.MultiIndex.from_arrays([ours, ticks(onset)]))
    missing = np.flatnonzero(at < 0)
    if missing.size:
        raise AlignmentError(
            f"Clean found no confounds for {missing.size} of {len(table)} rows (first at {onset[missing[0]]:g} s; confounds run from "
            f"{keys['onset_s'].min():g} to {keys['onset_s'].max():g} s). Expected one confound row per volume, at the same `onset_s`."
        )
    if not np.isfinite(values[at]).all():
        bad = np.flatnonzero(~np.isfinite(values[at]).all(axis=0))
        raise SchemaError(
            f"Clean got confounds with NaN or infinite values in columns {preview(bad)}. Expected finite numbers: fill the first derivative, "
            "or drop these columns."
        )
    return values[at]
