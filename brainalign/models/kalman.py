"""``KalmanDecoder``: states that move in time, such as a position, decoded from each row of a recording and all rows before it."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors

from brainalign.core.errors import AlignmentError, DegeneratePredictionWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.tables import presentation_table
from brainalign.dataset.folds import RUN_LABELS
from brainalign.engine.kalman import Evidence, discriminative_evidence, filter_states, learn_dynamics, linear_evidence
from brainalign.engine.moments import column_status, is_constant
from brainalign.engine.precision import noise_covariance
from brainalign.features.timing import onsets_of, rows_by_run, run_codes, ticks
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values, as_columns
from brainalign.models.ridge import Ridge

_SAME_STEP = 1.5  # a step up to this much longer or shorter is the one that was learned
_LEAST = 1e-10  # of a variance: noise is never less, so that what is predicted to the last digit does no harm
_BLOCK = 1024  # rows whose neighbours' residuals are looked at together


class KalmanDecoder(LabelledMapping):
    """Decode a state that moves in time: what a row of the source says of it, and what all earlier rows of its run said.

    Rows are taken in the order of ``onset_s`` within runs (``subject``, ``session``, ``run``), where the source of ``fit`` and
    ``predict`` has these labels; without ``onset_s`` in the order in which they come, and plain arrays as one run. A step that is
    missing ends a stretch. No transition is learned across the border of two stretches, and each is filtered anew, from N(mean, S).

    Parameters
    ----------
    method : {"kalman", "discriminative", "robust"}
        The Kalman filter, for a source that follows the state linearly; the Discriminative Kalman filter, which takes the
        predictions f(x) of any regressor for what a row says; or the same without its term −S⁻¹, for states that leave the range
        of training.
    regressor : mapping or scikit-learn regressor, optional
        f, for the two last; default ``Ridge()``.
    n_neighbors : int, optional
        For the two last: the noise Q(x) of f is that of this many training rows whose source is nearest to x, instead of one Q for all.
    cv : int, Folds or list of (train, test)
        Folds within the rows given to ``fit``: Q is made of residuals of rows that f has not seen.
    groups : str or sequence, (presentation,), optional
        Presentation coordinate, or labels, that these folds keep together; see :class:`Ridge`.

    Attributes
    ----------
    transition_, noise_ : ndarray of float64, (state, state)
        A and Γ of z_t = A z_{t−1} + w, w ~ N(0, Γ), of the states whose status is ``"ok"``, around ``mean_``.
    prior_ : ndarray of float64, (state, state)
        S, the covariance of the training states.
    mean_ : ndarray of float64, (state,)
    regressor_ : estimator
        f fitted to all rows. None for the Kalman filter.
    interval_s_ : float
        The step of training rows, in seconds; NaN where rows have no onset.
    status_ : ndarray of str, (target,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    Kalman: x = Hz + e by least squares (Wu et al. 2003), correlations of e shrunk (Schäfer and Strimmer 2005), so that there may be
    more features than rows; their covariance is held as a whole, so reduce tens of thousands (:class:`Reduce`) first.
    Discriminative: Σ_t = (M_t⁻¹ + Q⁻¹ − S⁻¹)⁻¹, μ_t = Σ_t(M_t⁻¹Aμ_{t−1} + Q⁻¹f) (Burkhart et al. 2020).
    Where Q⁻¹ − S⁻¹ is no precision, (Q⁻¹ + S⁻¹)⁻¹ takes Q's place, with a warning: :mod:`brainalign.engine.kalman`. A row with NaN
    in the source says nothing of the state, which its dynamics then carry on.
    As a prediction leans on the rows before it, it is that of the rows given to ``predict`` together: hold out whole runs. Where the
    same stimuli come in several runs, ask :func:`evaluate` for ``repeats="keep"``: an average of runs is less noisy than one.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> position = np.zeros((600, 2))
    >>> for t in range(1, 600):
    ...     position[t] = 0.95 * position[t - 1] + 0.3 * rng.normal(size=2)
    >>> spikes = position @ rng.normal(size=(2, 10)) + 3 * rng.normal(size=(600, 10))
    >>> error = lambda model: np.square(model.fit(spikes[:400], position[:400]).predict(spikes[400:]) - position[400:]).mean()
    >>> bool(error(ba.KalmanDecoder()) < 0.7 * error(ba.Ridge()))
    True
    """

    def __init__(
        self, method: str = "kalman", regressor: Any = None, n_neighbors: int | None = None, cv: Any = 5, groups: Any = None
    ) -> None:
        self.method = method
        self.regressor = regressor
        self.n_neighbors = n_neighbors
        self.cv = cv
        self.groups = groups

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn how the states move, and what ``X`` says of them.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            A row each time step, with ``run`` and ``onset_s`` where there are several runs.
        Y : DataArray or ndarray, (presentation, neuroid[, time])
            The states, in the same rows.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations, or the target tells runs apart that the source does not.
        ParameterError
            Too few steps, or states that are sums of one another.
        SchemaError
            Two rows of a run at one time.
        """
        times, more = _times(X), _times(Y)
        self.interval_s_, self._stretches = _in_time(times)
        extra = [name for name in more if name not in times]
        if extra and len(X) == len(Y):
            if len(_in_time(times.join(more[extra]))[1]) > len(self._stretches):
                raise AlignmentError(
                    f"KalmanDecoder got a target whose {', '.join(extra)} tells apart stretches of time that the source, by which `predict` must "
                    f"go, does not. Expected the same labels on the source: `x.assign_coords({extra[0]}=y.{extra[0]})`."
                )
        return super().fit(X, Y)

    def predict(self, X: Any) -> Any:
        """Decode the states.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            Rows in any order where they have ``onset_s``; each run starts anew.

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time])
            In the order of ``X``.

        Raises
        ------
        AlignmentError
            The features, or the step from row to row, are not those of ``fit``.
        """
        x = self._features(X).astype(np.float64)
        step, stretches = _in_time(_times(X), self.interval_s_)
        if not 1 / _SAME_STEP <= np.nan_to_num(step / self.interval_s_, nan=1.0) <= _SAME_STEP:
            raise AlignmentError(
                f"KalmanDecoder got rows that are {step:g} s apart. Expected {self.interval_s_:g} s, as in `fit`: how the state moves was "
                "learned for that step."
            )
        out = np.full((len(x), len(self.status_)), np.nan)
        if len(self.mean_):
            states, evidence = np.empty((len(x), len(self.mean_))), self._evidence(x)
            for rows in stretches:
                states[rows] = filter_states(Evidence(*(part[rows] for part in evidence)), self._dynamics)[0]
            out[:, self.status_ == "ok"] = states + self.mean_
        return self._labelled(out.reshape(len(out), *self.target_shape_), X, "predict")

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        self._check()
        x, self.status_ = x.astype(np.float64), column_status(y)
        ok = self.status_ == "ok"
        z = y[:, ok].astype(np.float64)
        self.mean_, self.regressor_ = z.mean(axis=0), None
        if not ok.any():
            return
        _refuse_degenerate(z, sum(len(stretch) - 1 for stretch in self._stretches))
        self._dynamics = learn_dynamics(z - self.mean_, self._stretches)
        self.transition_, self.noise_, self.prior_ = self._dynamics
        if self.method == "kalman":
            self._fit_linear(x, z - self.mean_)
        else:
            self._fit_regressor(x, z, rows[:, ok] if rows is not None and rows.ndim == 2 else z, rows)

    def _fit_linear(self, x: Values, z: Values) -> None:
        """Learn H and R of the features that vary."""
        self._source_mean, self._varies = x.mean(axis=0), ~is_constant(x)
        x = (x - self._source_mean)[:, self._varies]
        loading = np.linalg.lstsq(z, x, rcond=None)[0]
        noise = np.zeros((0, 0))
        if x.shape[1]:
            noise, _ = noise_covariance(x - z @ loading, "shrinkage-diagonal", dof=len(x) - 1)
            noise[np.diag_indices_from(noise)] += _LEAST * x.var(axis=0)
        self._linear = loading.T, noise

    def _fit_regressor(self, x: Values, z: Values, target: Any, rows: xr.DataArray | None) -> None:
        """Fit f to all rows, and learn Q from those that f has not seen."""
        regressor = Ridge() if self.regressor is None else self.regressor
        error, seen = [], []
        for train, test in inner_splits(self.cv, self.groups, len(x), rows):
            held = as_columns(clone(regressor).fit(x[train], target[train]).predict(x[test]))
            mean = z[train].mean(axis=0)  # of a state that stays in these rows, for which mappings predict NaN
            error.append(z[test] - np.where(np.isfinite(held), held, mean))
            seen.append(test)
        self._error = np.concatenate(error)
        self._pooled = self._error.T @ self._error / len(self._error) + _LEAST * self.prior_
        self.regressor_ = clone(regressor).fit(x, target)
        if self.n_neighbors is not None:
            self._neighbours = NearestNeighbors(n_neighbors=min(self.n_neighbors, len(self._error))).fit(x[np.concatenate(seen)])

    def _evidence(self, x: Values) -> Evidence:
        """Return what each row says of the state; nothing where it has NaN."""
        told = np.isfinite(x).all(axis=1)
        d = len(self.mean_)
        precision, potential = np.zeros((len(x), d, d)), np.zeros((len(x), d))
        if told.any():
            precision[told], potential[told] = self._evidence_of_finite(x[told])
        return Evidence(precision, potential)

    def _evidence_of_finite(self, x: Values) -> Evidence:
        if self.regressor_ is None:
            return linear_evidence((x - self._source_mean)[:, self._varies], *self._linear)
        predicted = as_columns(self.regressor_.predict(x)) - self.mean_
        evidence, guarded = discriminative_evidence(predicted, self._spread(x), self.prior_, robust=self.method == "robust")
        if guarded.any():
            warnings.warn(
                f"In {round(guarded.mean() * len(x))} of {len(x)} rows the regressor of KalmanDecoder is less certain of the state than "
                "the prior is, in some direction, and its noise Q was replaced by (Q⁻¹ + S⁻¹)⁻¹. The source may say nothing of the state: "
                "look at the held-out score, or use method='robust'.",
                DegeneratePredictionWarning,
                stacklevel=4,
            )
        return evidence

    def _spread(self, x: Values) -> Values:
        """Return Q; of neighbours, with that of all rows as one more, lest it be singular."""
        if self.n_neighbors is None:
            return np.asarray(self._pooled[None])
        out = np.empty((len(x), *self._pooled.shape))
        for start in range(0, len(x), _BLOCK):
            error = self._error[self._neighbours.kneighbors(x[start : start + _BLOCK], return_distance=False)]
            out[start : start + _BLOCK] = (error.transpose(0, 2, 1) @ error + self._pooled) / (error.shape[1] + 1)
        return out

    def _check(self) -> None:
        check_choice("method", self.method, ("kalman", "discriminative", "robust"), owner="KalmanDecoder")
        if self.n_neighbors is not None:
            check_number("n_neighbors", self.n_neighbors, owner="KalmanDecoder", low=1, integer=True)
        for name in ("regressor", "n_neighbors"):
            if self.method == "kalman" and getattr(self, name) is not None:
                raise ParameterError(
                    f"KalmanDecoder got {name}={getattr(self, name)!r} with method='kalman', which has no use for it. Expected "
                    "method='discriminative' or 'robust'."
                )


def _refuse_degenerate(z: Values, n_steps: int) -> None:
    """Refuse states of which some are sums of others, and fewer steps than there are states."""
    d = z.shape[1]
    if n_steps <= d:
        raise ParameterError(
            f"KalmanDecoder got {n_steps} steps from one row to the next within its stretches, for {d} states. Expected more steps than states: "
            "longer runs, or fewer states, such as principal components of them."
        )
    rank = int(np.linalg.matrix_rank((z - z.mean(axis=0)) / z.std(axis=0), tol=1e-6 * len(z) ** 0.5))
    if rank < d:
        raise ParameterError(
            f"The {d} states of KalmanDecoder span {rank} dimensions: some are sums of others, and their covariance has no inverse. Expected "
            "states of full rank: leave some out, or decode their principal components."
        )


def _times(X: Any) -> pd.DataFrame:
    """Return the labels of each row that say when it was; plain arrays have none."""
    table = presentation_table(X) if isinstance(X, xr.DataArray) else pd.DataFrame(index=range(len(X)))
    return table[[name for name in (*RUN_LABELS, "onset_s") if name in table]]


def _in_time(times: pd.DataFrame, learned: float | None = None) -> tuple[float, list[Values]]:
    """Return the usual step from a row to the next of its run, in seconds (NaN without onsets), and rows in order of time.

    These are of each stretch of a run in which no step is missing: none is much longer than the usual one, or than that learned.
    """
    codes = run_codes(times)
    if "onset_s" not in times:
        return np.nan, rows_by_run(codes, np.arange(len(times)))
    onset = onsets_of(times, owner="KalmanDecoder")
    runs = rows_by_run(codes, onset)
    steps = np.concatenate([np.diff(onset[rows]) for rows in runs])
    usual = float(np.median(steps)) if steps.size else np.nan
    longest, out = _SAME_STEP * (usual if learned is None else learned), []
    for rows in runs:
        again = np.flatnonzero(np.diff(ticks(onset[rows])) == 0)
        if again.size:
            raise SchemaError(
                f"KalmanDecoder got rows of one run at the same `onset_s`: {preview(onset[rows[again]])}. Expected one row each time step: give "
                "runs, sessions and subjects names of their own."
            )
        out += np.split(rows, np.flatnonzero(np.diff(onset[rows]) > longest) + 1)
    return usual, out
