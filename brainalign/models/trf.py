"""``TRF``: weights of a continuous recording at every lag of a window, in either direction."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.provenance import write_step
from brainalign.core.tables import coords_of
from brainalign.engine.lagged import lagged_product, lagged_sums, lay_out
from brainalign.engine.moments import column_status, is_constant
from brainalign.engine.simplex import simplex_lattice
from brainalign.engine.trf import solve_trf
from brainalign.features.bands import band_labels
from brainalign.features.delay import Delay
from brainalign.models.banded import candidate_weights
from brainalign.models.in_time import SLACK, as_rows, runs_in_time, sides_as_rows
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values
from brainalign.models.ridge import RELATIVE_ALPHAS, Ridge


class TRF(LabelledMapping):
    """Temporal response functions: ridge regression on all lags of a window, of a recording in time.

    The prediction for a time t is Σ_τ x(t − τ) w(τ) over the samples τ from ``tmin_s`` to ``tmax_s``. Forward, from a stimulus or a
    network to a recording, τ is positive: a brain lags its stimulus. Backward, from a recording to what was seen, heard or done, the
    lags are negative: τ = −0.2 s is 0.2 s later. With the lags of the past it is the Wiener filter of motor decoding.

    Parameters
    ----------
    tmin_s, tmax_s : float
        The window, in seconds, both ends included; the sign is that of :class:`Delay`. Every sample within it is a lag.
    alphas : float or sequence of float, optional
        As in :class:`Ridge`.
    penalty : {"ridge", "laplacian"}
        α Σ w², or α Σ (w(τ+1) − w(τ))², which asks for weights that are smooth in time.
    bands : str or sequence, (feature,), optional
        Neuroid coordinate of the source, or labels, of bands with a penalty each; see :class:`BandedRidge`. Default: one for all.
    candidates : int or array_like, (candidate, band)
        Weights γ of the bands to compare, an int as how many to try. Each costs a decomposition a fold.
    cv, groups
        Inner folds, as in :class:`Ridge`: by run where there are several, or stretches of one.
    fit_intercept : bool
        Subtract the mean of each feature, so that what lies before a run counts as the mean and not as 0, and fit an intercept.
    criterion : {"r2", "mse", "pearson"}
        As in :class:`Ridge`.
    sampling_rate_hz : float, optional
        Of rows that have no ``onset_s``, such as plain arrays: those of one run (``subject``, ``session``, ``run``) follow each other.
    dtype : {"float32", "float64"}
        Of weights and predictions. Sums and decompositions are float64.

    Attributes
    ----------
    coef_ : DataArray, (lag, source_neuroid, target_neuroid), or ndarray
        Lags in seconds, ascending; NaN for targets that are not fitted.
    intercept_ : ndarray of float64, (target,)
        Of the rows that have all lags.
    lags_s_ : ndarray of float64, (lag,)
    interval_s_ : float
    alpha_, cv_score_, alpha_at_edge_, status_
        As in :class:`Ridge`.
    band_weights_ : ndarray of float64, (band, target)
        With ``bands``: γ.

    Notes
    -----
    It is ``chain(StandardScaler(with_std=False), Delay(lags), Ridge())``, without the delayed copies: sums over the rows of each fold
    come from a shift recursion, and all alphas of a fold from one decomposition (:mod:`brainalign.engine.lagged`). Runs are never
    crossed. Trials with a ``time`` dim on both sides are taken as runs, and predicted as trials. The Gram matrix of all features at all
    lags is held as a whole: reduce thousands of features (:class:`Reduce`) first. Rows held out from the middle of a run end it there.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> sound = rng.normal(size=(600, 1))
    >>> echo = np.roll(sound, 3, axis=0) + rng.normal(size=(600, 1))
    >>> model = ba.TRF(0.0, 0.5, sampling_rate_hz=10.0).fit(sound, echo)
    >>> round(float(model.lags_s_[np.argmax(model.coef_[:, 0, 0])]), 3)
    0.3
    """

    separate_targets = True

    def __init__(
        self,
        tmin_s: float = 0.0,
        tmax_s: float = 0.4,
        alphas: Any = None,
        penalty: str = "ridge",
        bands: Any = None,
        candidates: Any = 10,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        criterion: str = "r2",
        sampling_rate_hz: float | None = None,
        dtype: str = "float32",
    ) -> None:
        self.tmin_s = tmin_s
        self.tmax_s = tmax_s
        self.alphas = alphas
        self.penalty = penalty
        self.bands = bands
        self.candidates = candidates
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.criterion = criterion
        self.sampling_rate_hz = sampling_rate_hz
        self.dtype = dtype

    @property
    def reach_s(self) -> tuple[float, float]:
        """How far before and after its onset a row looks, in seconds."""
        return max(0.0, self.tmax_s), max(0.0, -self.tmin_s)

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn the weights of every lag.

        Parameters
        ----------
        X, Y : DataArray or ndarray, (presentation, neuroid)
            A row each sample, with ``onset_s`` and, where there are several, ``run``; or DataArrays (presentation, neuroid, time).

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            Rows that are not regularly sampled, a run that is shorter than the window, or a window without a sample.
        SchemaError
            Rows without a time.
        AlignmentError
            The rows are not the same, or one side has a time dim.
        """
        self._check()
        X, Y = sides_as_rows(X, Y, owner="TRF")
        runs, self.interval_s_ = runs_in_time(X, self.sampling_rate_hz, owner="TRF")
        low, high = (np.array([self.tmin_s, self.tmax_s]) / self.interval_s_ + [-SLACK, SLACK]).tolist()
        self._lags = int(np.ceil(low)), int(np.floor(high))
        self.lags_s_ = np.arange(self._lags[0], self._lags[1] + 1) * self.interval_s_
        self._refuse_short(runs)
        self._line = lay_out(runs, *self._lags)
        self._source_coords = coords_of(X, "neuroid") if isinstance(X, xr.DataArray) else None
        self.bands_: Any = None
        if self.bands is not None:
            self.bands_, self._band_of = band_labels(self.bands, X, owner="TRF")
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Predict the target.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            As in ``fit``, at the same sampling rate; rows in any order where they have ``onset_s``.

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time])
            In the order of ``X``.

        Raises
        ------
        AlignmentError
            The features, or the sampling rate, are not those of ``fit``.
        """
        check_is_fitted(self, "features_used_")
        rows = as_rows(X)
        x = self._features(rows)
        runs, _ = runs_in_time(rows, self.sampling_rate_hz, owner="TRF", fitted_s=self.interval_s_)
        line = lay_out(runs, *self._lags)
        out = (lagged_product(x, line, self._source_mean, self._weights) + self._offset).astype(self.dtype)
        out[:, self.status_ != "ok"] = np.nan
        return self._labelled(out, X, "predict") if rows is X else self._as_trials(out, X)

    def without_lags(self) -> Self:
        """Return the ridge regression that this is with the lag 0 alone, not fitted.

        Returns
        -------
        TRF
        """
        return clone(self).set_params(tmin_s=0.0, tmax_s=0.0, penalty="ridge", bands=None)

    def as_steps(self) -> tuple[StandardScaler, Delay, Ridge]:
        """Return the fitted steps of the chain that this is: means come off, copies are delayed, and weights are applied.

        Returns
        -------
        tuple of (StandardScaler, Delay, Ridge)
        """
        check_is_fitted(self, "features_used_")
        centre, ridge = StandardScaler(with_std=False), Ridge(dtype=self.dtype)
        centre.mean_ = np.zeros(len(self.features_used_))
        centre.mean_[self.features_used_] = self._source_mean
        centre.n_features_in_, centre.scale_ = len(centre.mean_), None
        weights = np.asarray(self.coef_).reshape(-1, len(self.status_))
        ridge.coef_, ridge.intercept_, ridge._target_mean = weights, self._offset, self._offset
        ridge.features_used_, ridge._source_mean = np.ones(len(weights), dtype=bool), np.zeros(len(weights))
        ridge.source_ids_ = None
        for name in ("target_shape_", "target_coords_", "target_attrs_", "status_", "alpha_", "cv_score_"):
            setattr(ridge, name, getattr(self, name))
        return centre, Delay(self.lags_s_.tolist()), ridge

    @property
    def coef_(self) -> Any:
        """Weights, (lag, source neuroid, target neuroid)."""
        check_is_fitted(self, "features_used_")
        n_lags, t = len(self.lags_s_), len(self.status_)
        values = np.zeros((n_lags, len(self.features_used_), t), dtype=self.dtype)
        values[:, self.features_used_] = self._weights.reshape(n_lags, -1, t)[::-1]
        values[..., self.status_ != "ok"] = np.nan
        if self._source_coords is None or self.target_coords_ is None:
            return values
        coords: dict[str, Any] = {"lag": self.lags_s_}
        coords |= {f"source_{name}": ("source_neuroid", v) for name, v in self._source_coords.items()}
        coords |= {f"target_{k}": ("target_neuroid", v) for k, (dims, v) in self.target_coords_.items() if dims == ("neuroid",)}
        out = xr.DataArray(values, dims=("lag", "source_neuroid", "target_neuroid"), coords=coords, name="coef")
        out.lag.attrs["units"] = "s"
        return out

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        self.status_ = column_status(y)
        ok, n_lags = self.status_ == "ok", len(self.lags_s_)
        # Means come off first, and those of the lagged columns, which differ by what the ends of runs lack, in every fold.
        y = y if ok.all() else y[:, ok]
        self._source_mean, centre = (side.mean(axis=0, dtype=np.float64) * self.fit_intercept for side in (x, y))
        gamma = self._gammas()
        choice = np.size(RELATIVE_ALPHAS if self.alphas is None else self.alphas) * len(gamma) > 1 and ok.any()
        folds, code = _cells(inner_splits(self.cv, self.groups, len(y), rows) if choice else [], len(y))
        sums = lagged_sums(x, y, self._line, self._source_mean, code, centre)
        whole = sums.whole
        power = np.diag(whole.around().gram if self.fit_intercept else whole.gram) / whole.n
        alphas = RELATIVE_ALPHAS * (power.sum() or 1.0) if self.alphas is None else Ridge(self.alphas)._candidates(x, owner="TRF")
        solution = solve_trf(
            sums,
            alphas,
            folds,
            fit_intercept=self.fit_intercept,
            criterion=self.criterion,
            penalty=np.kron(_differences(n_lags), np.eye(x.shape[1])) if self.penalty == "laplacian" else None,
            scales=self._scales(gamma, power),
        )
        self._weights = np.zeros((len(power), len(ok)))
        self._weights[:, ok] = solution.coef * ~np.tile(is_constant(x) & self.fit_intercept, n_lags)[:, None]
        offset = self.fit_intercept * (whole.target - whole.source @ self._weights[:, ok]) / whole.n
        self._offset, self.cv_score_ = np.full((2, len(ok)), np.nan)
        self._offset[ok], self.cv_score_[ok] = centre + offset, solution.heldout_score
        self.intercept_ = self._offset - np.tile(self._source_mean, n_lags) @ self._weights
        self.alpha_ = np.where(self.status_ == "constant", alphas[-1], np.nan)
        self.alpha_[ok], self.alpha_at_edge_ = alphas[solution.alpha_index], np.zeros(len(ok), dtype=bool)
        self.alpha_at_edge_[ok] = np.isin(solution.alpha_index, (0, len(alphas) - 1)) & (len(alphas) > 1)
        self.band_weights_ = np.full((gamma.shape[1], len(ok)), np.nan)
        self.band_weights_[:, ok] = gamma[solution.scale_index].T

    def _refuse_short(self, runs: list[tuple[Values, Values]]) -> None:
        """Refuse a window that holds no sample, and runs that are no longer than it."""
        first, last = self._lags
        if first > last:
            raise ParameterError(
                f"TRF got a window from {self.tmin_s:g} to {self.tmax_s:g} s, in which no sample lies: they are {self.interval_s_:g} s apart. "
                "Expected a window that holds a multiple of that."
            )
        spans = [int(sample[-1]) + 1 for _, sample in runs]
        if min(spans) <= max(abs(first), abs(last)):
            raise ParameterError(
                f"TRF got a run of {min(spans)} samples, for lags from {first} to {last} samples ({self.tmin_s:g} to {self.tmax_s:g} s). Expected "
                "runs that are longer than the window: leave short ones out, or shorten it."
            )

    def _gammas(self) -> Values:
        """Return the weights of bands to compare, (candidate, band)."""
        if self.bands_ is None:
            return np.ones((1, 1))
        weights = candidate_weights(self.candidates, self.bands_, owner="TRF")
        return simplex_lattice(len(self.bands_), weights) if isinstance(weights, int) else weights

    def _scales(self, gamma: Values, power: Values) -> Values:
        """Return what the lagged columns are multiplied by: √(γ s), where s gives bands one summed variance."""
        if self.bands_ is None:
            return np.ones((1, len(power)))
        band = np.tile(self._band_of[self.features_used_], len(self.lags_s_))
        total = np.bincount(band, power, minlength=gamma.shape[1])
        scale = np.divide(total.mean(), total, out=np.ones(len(total)), where=(total > 0) & (len(total) > 1))
        return np.asarray(np.sqrt(gamma * scale)[:, band])

    def _as_trials(self, out: Values, X: xr.DataArray) -> xr.DataArray:
        """Return predictions of trials in rows as trials in time."""
        values = out.reshape(X.sizes["presentation"], X.sizes["time"], -1).transpose(0, 2, 1)
        coords: dict[str, Any] = {name: ("presentation", v) for name, v in coords_of(X, "presentation").items()}
        coords |= {"time": ("time", X.coords["time"].values)} | (self.target_coords_ or {})
        attrs = (
            self.target_attrs_
            | {"time_reference": X.attrs["time_reference"]}
            | ({"allow_nan": True} if np.isnan(out).any() else {})
        )
        trials = xr.DataArray(values, dims=("presentation", "neuroid", "time"), coords=coords, attrs=attrs, name="prediction")
        return write_step(trials, "predict", params={"model": self}, inputs={"source": X})

    def _check(self) -> None:
        check_choice("penalty", self.penalty, ("ridge", "laplacian"), owner="TRF")
        check_choice("criterion", self.criterion, ("r2", "mse", "pearson"), owner="TRF")
        check_choice("dtype", self.dtype, ("float32", "float64"), owner="TRF")
        check_number("tmin_s", self.tmin_s, owner="TRF")
        check_number("tmax_s", self.tmax_s, owner="TRF", low=self.tmin_s)
        if self.sampling_rate_hz is not None:
            check_number("sampling_rate_hz", self.sampling_rate_hz, owner="TRF", low=0.0, low_open=True)


def _cells(splits: Any, n: int) -> tuple[list[tuple[Values, Values]], Values]:
    """Return how often each cell of rows is trained on and tested in each fold, and the cell of each row."""
    code = np.zeros(n, dtype=np.int64)
    counts = [np.bincount(rows, minlength=n) for split in splits for rows in split]
    for count in counts:
        code = pd.factorize(code * (count.max() + 1) + count)[0]
    first = np.unique(code, return_index=True)[1]
    per_cell = [count[first].astype(np.float64) for count in counts]
    return list(zip(per_cell[::2], per_cell[1::2], strict=True)), code


def _differences(n: int) -> Values:
    """Return DᵀD, of the differences between neighbouring lags."""
    step = np.diff(np.eye(n), axis=0)
    return step.T @ step
