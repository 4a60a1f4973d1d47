"""``MotifDetector``: when a pattern of spikes occurs, whose neurons have a delay each."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.utils.validation import check_is_fitted

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.tables import coords_of
from brainalign.engine.lagged import lay_out
from brainalign.engine.moments import column_status
from brainalign.engine.motifs import delayed_raster, log_odds
from brainalign.models.in_time import SLACK, as_rows, runs_in_time, sides_as_rows
from brainalign.models.mapping import LabelledMapping, Values


class MotifDetector(LabelledMapping):
    r"""Tell when motifs occur, from the spikes of the last moments: the logit of motif b is β_b + Σ_a Σ_d W[b, a, d] x_a(t − d).

    Parameters
    ----------
    max_delay_s : float
        Delays are all samples from 0 to this.
    method : {"logistic", "log-odds"}
        Logistic regression of all delayed spikes, which is a temporal convolution; or weights in closed form, which are the best there are
        where neurons spike independently, given the motif.
    C : float
        Inverse strength of the penalty of ``"logistic"``.
    sampling_rate_hz : float, optional
        Of rows that have no ``onset_s``, such as plain arrays: those of one run follow each other.

    Attributes
    ----------
    coef_ : DataArray, (motif, neuroid, delay), or ndarray
        W; delays in seconds. NaN for motifs that never occur.
    intercept_ : ndarray of float64, (motif,)
        β.
    delays_s_ : ndarray of float64, (delay,)
    interval_s_ : float
    status_ : ndarray of str, (motif,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    The source is counts of spikes, a row each bin, with ``onset_s`` and ``run``, or trials with a ``time``; the target is 1 where a motif
    ends, the moment of its delay 0, and 0 elsewhere. A spike with the delay d lies d before that: with a weight at d, a lone spike is answered
    d later. Predictions are probabilities. Runs are never crossed; what lies before one is silence.

    Source: generative model and detector of Perrinet (2023), "Accurate detection of spiking motifs by learning heterogeneous delays".

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> spikes = (rng.random((2000, 5)) < 0.05).astype(int)
    >>> ends = np.flatnonzero(rng.random(2000) < 0.03)
    >>> ends = ends[ends > 7]
    >>> spikes[ends - 7, 1] = spikes[ends - 2, 4] = 1
    >>> events = np.isin(np.arange(2000), ends).astype(int)[:, None]
    >>> model = ba.models.MotifDetector(0.01, sampling_rate_hz=1000.0).fit(spikes, events)
    >>> np.round(1000 * model.delays_s_[model.coef_[0].argmax(axis=1)][[1, 4]]).tolist()
    [7.0, 2.0]
    """

    separate_targets = True

    def __init__(
        self, max_delay_s: float, method: str = "logistic", C: float = 1.0, sampling_rate_hz: float | None = None
    ) -> None:
        self.max_delay_s = max_delay_s
        self.method = method
        self.C = C
        self.sampling_rate_hz = sampling_rate_hz

    @property
    def reach_s(self) -> tuple[float, float]:
        """How far before and after its onset a row looks, in seconds."""
        return self.max_delay_s, 0.0

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn the weight of every neuroid at every delay.

        Parameters
        ----------
        X, Y : DataArray or ndarray, (presentation, neuroid)
            A row each bin; or DataArrays (presentation, neuroid, time). 1 where a motif ends, else 0.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            Events that are not 0 or 1, or rows that are not regularly sampled.
        SchemaError
            Rows without a time.
        AlignmentError
            The rows are not the same, or one side has a time dim.
        """
        check_choice("method", self.method, ("logistic", "log-odds"), owner="MotifDetector")
        check_number("C", self.C, owner="MotifDetector", low=0.0, low_open=True)
        check_number("max_delay_s", self.max_delay_s, owner="MotifDetector", low=0.0)
        X, Y = sides_as_rows(X, Y, owner="MotifDetector")
        runs, self.interval_s_ = runs_in_time(X, self.sampling_rate_hz, owner="MotifDetector")
        self.delays_s_ = np.arange(int(self.max_delay_s / self.interval_s_ + SLACK) + 1) * self.interval_s_
        self._line = lay_out(runs, 0, len(self.delays_s_) - 1)
        self._source_coords = coords_of(X, "neuroid") if isinstance(X, xr.DataArray) else None
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Return the probability that each motif ends at each row.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            As in ``fit``, at the same sampling rate; of trials the result has a row each bin.

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid)

        Raises
        ------
        AlignmentError
            The features, or the sampling rate, are not those of ``fit``.
        """
        check_is_fitted(self, "features_used_")
        rows = as_rows(X)
        return self._labelled(self._probability(self._delayed(rows)), rows, "predict")

    def average_precision(self, X: Any, Y: Any) -> xr.Dataset:
        """Return how well motifs are found in rows that were not learned from, beside what the number of spikes tells.

        Parameters
        ----------
        X, Y : DataArray or ndarray
            As in ``fit``.

        Returns
        -------
        Dataset
            ``score``, the area under precision and recall of each motif (neuroid); ``population_rate``, that of the number of spikes of
            all neuroids within the delays; ``chance``, the share of rows at which it ends. NaN where it never does.
        """
        rows, events = as_rows(X), np.asarray(as_rows(Y))
        delayed = self._delayed(rows)
        rate, found = np.asarray(delayed.sum(axis=1)), self._probability(delayed)
        columns = np.full((3, events.shape[1]), np.nan)
        for b in np.flatnonzero(events.any(axis=0) & (self.status_ == "ok")):
            columns[:2, b] = [average_precision_score(events[:, b], values) for values in (found[:, b], rate)]
            columns[2, b] = events[:, b].mean()
        labels = {k: (dims, v) for k, (dims, v) in (self.target_coords_ or {}).items() if dims == ("neuroid",)}
        names = ("score", "population_rate", "chance")
        return xr.Dataset({name: ("neuroid", values) for name, values in zip(names, columns, strict=True)}, coords=labels)

    @property
    def coef_(self) -> Any:
        """Weights, (motif, neuroid, delay)."""
        check_is_fitted(self, "features_used_")
        n_motifs, n_delays = len(self.status_), len(self.delays_s_)
        values = np.zeros((n_motifs, len(self.features_used_), n_delays))
        values[:, self.features_used_] = self._weights.T.reshape(n_motifs, -1, n_delays)
        if self._source_coords is None or self.target_coords_ is None:
            return values
        coords: dict[str, Any] = {name: ("neuroid", v) for name, v in self._source_coords.items()}
        coords |= {"motif": self.target_coords_["neuroid_id"][1], "delay": self.delays_s_}
        out = xr.DataArray(values, dims=("motif", "neuroid", "delay"), coords=coords, name="coef")
        out.delay.attrs["units"] = "s"
        return out

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        known = y[np.isfinite(y)] if y.dtype.kind == "f" else y
        if not np.isin(known, (0, 1)).all():
            raise ParameterError(
                f"MotifDetector got events of {preview(np.unique(known))}. Expected 1 in the bin in which a motif ends, and 0 elsewhere."
            )
        self.status_ = column_status(y)
        delayed = delayed_raster(x, self._line)
        self._weights, self.intercept_ = np.full((delayed.shape[1], y.shape[1]), np.nan), np.full(y.shape[1], np.nan)
        ok = np.flatnonzero(self.status_ == "ok")
        if self.method == "log-odds":
            self._weights[:, ok], self.intercept_[ok] = log_odds(delayed, y[:, ok])
            return
        for b in ok:
            found = LogisticRegression(C=self.C, max_iter=1000).fit(delayed, y[:, b].astype(int))
            self._weights[:, b], self.intercept_[b] = found.coef_[0], found.intercept_[0]

    def _probability(self, delayed: Any) -> Values:
        return np.asarray(0.5 * (1.0 + np.tanh((delayed @ self._weights + self.intercept_) / 2.0)))

    def _delayed(self, rows: Any) -> Any:
        """Return the delayed raster of rows in any order."""
        x = self._features(rows)
        runs, _ = runs_in_time(rows, self.sampling_rate_hz, owner="MotifDetector", fitted_s=self.interval_s_)
        return delayed_raster(x, lay_out(runs, 0, len(self.delays_s_) - 1))
