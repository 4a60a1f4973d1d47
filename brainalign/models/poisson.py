"""``PoissonGLM``: counts of spikes from stimuli, the past and other neurons."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import DegenerateNeuroidWarning, ParameterError
from brainalign.core.parameters import check_choice, preview
from brainalign.engine.glm import PoissonSolution, deviance, fit_poisson
from brainalign.engine.moments import column_status, is_constant
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LinearMapping, Values
from brainalign.models.ridge import Ridge

_ALPHAS = np.logspace(-3, 6, 10)


class PoissonGLM(LinearMapping):
    """Poisson regression with a log link: the rate of each target is exp(Xb + b₀), and its counts are Poisson.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        Candidates α of Σ(μ − y log μ) + α‖b‖²/2: scikit-learn's times the number of rows. Default: one a decade from 1e-3 to 1e6, times
        the summed variance of the features. With a single one, nothing is chosen.
    cv, groups
        Inner folds, as in :class:`brainalign.Ridge`.
    fit_intercept : bool
        b₀, unpenalised.
    dtype : {"float32", "float64"}
        Of weights and predictions. The fit is in float64.

    Attributes
    ----------
    coef_ : ndarray, (feature, target)
    intercept_ : ndarray of float64, (target,)
        Of the log rate.
    alpha_, alpha_at_edge_
        As in :class:`brainalign.Ridge`.
    cv_score_ : ndarray of float64, (target,)
        Deviance explained at the chosen alpha over the inner folds, 1 − Σ D(y, ŷ) / Σ D(y, ȳ), with ȳ the mean of each fold's training
        rows.
    status_ : ndarray of str, (target,)
        ``"ok"``; ``"constant"`` or ``"nan"`` in the training rows; ``"failed"`` where the fit did not converge. Predictions of all but
        the first are NaN.

    Notes
    -----
    Newton's method for all targets together: :mod:`brainalign.engine.glm`. The past of the neurons themselves, and of others,
    goes in through the chain: join it to the stimulus with ``ba.bands(stimulus=..., spikes=...)`` and delay both, by positive
    seconds. Score it with ``metric="bits-per-spike"`` or ``"pseudo-r2"``, both beside the mean rate of each test fold. Counts
    are not averaged: ask :func:`brainalign.evaluate` for ``repeats="keep"``.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 3))
    >>> counts = rng.poisson(np.exp(X @ [[0.8], [0.0], [-0.4]] - 0.5))
    >>> model = ba.models.PoissonGLM().fit(X, counts)
    >>> bool(np.abs(model.coef_[:, 0] - [0.8, 0.0, -0.4]).max() < 0.2)
    True
    """

    separate_targets = True

    def __init__(
        self, alphas: Any = None, cv: Any = 5, groups: Any = None, fit_intercept: bool = True, dtype: str = "float32"
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.dtype = dtype

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("dtype", self.dtype, ("float32", "float64"), owner="PoissonGLM")
        _refuse_other_than_counts(y)
        self.status_ = column_status(y)
        ok = np.flatnonzero(self.status_ == "ok")
        self._allocate(y)
        self.intercept_[:] = np.nan
        self._source_mean = x.mean(axis=0, dtype=np.float64) * self.fit_intercept
        centred, counts = x - self._source_mean, y[:, ok].astype(np.float64)
        centred[:, is_constant(x) & self.fit_intercept] = 0
        alphas = _ALPHAS * (float(centred.var(axis=0).sum()) or 1.0)
        alphas = alphas if self.alphas is None else Ridge(self.alphas)._candidates(x, owner="PoissonGLM")
        self.alpha_ = np.where(self.status_ == "constant", alphas[-1], np.nan)
        self.alpha_at_edge_ = np.zeros(y.shape[1], dtype=bool)
        if not ok.size:
            return
        index = np.zeros(len(ok), dtype=np.int64)
        if len(alphas) > 1:
            index, self.cv_score_[ok] = self._choose(centred, counts, alphas, inner_splits(self.cv, self.groups, len(y), rows))
            self.alpha_at_edge_[ok] = np.isin(index, (0, len(alphas) - 1))
        self._learn(ok, fit_poisson(centred, counts, alphas[index], fit_intercept=self.fit_intercept), alphas[index])

    def _choose(self, x: Values, y: Values, alphas: Values, splits: Any) -> tuple[Values, Values]:
        """Return the position of the alpha of least held-out deviance, the larger of two that tie, and the deviance it explains."""
        loss, unfitted = np.zeros((len(alphas), y.shape[1])), np.zeros(y.shape[1])
        for train, test in splits:
            fitted = None
            silent = ~y[train].any(axis=0)  # the rate that fits it best is 0, and log 0 is no start
            seen = y[train] + silent * 1e-3
            for k in range(len(alphas) - 1, -1, -1):
                fitted = fit_poisson(
                    x[train], seen, np.full(y.shape[1], alphas[k]), fit_intercept=self.fit_intercept, start=fitted
                )
                loss[k] += deviance(y[test], np.exp(np.minimum(fitted.log_rate(x[test]), 700.0)))
            unfitted += deviance(y[test], np.broadcast_to(seen.mean(axis=0), y[test].shape))
        index = len(alphas) - 1 - np.argmin(loss[::-1], axis=0)
        return index, 1 - loss[index, np.arange(y.shape[1])] / unfitted

    def _learn(self, ok: Values, solution: PoissonSolution, alphas: Values) -> None:
        coef = solution.coef.astype(self.dtype)
        self.coef_[np.ix_(self.features_used_, ok)] = coef
        self._target_mean[ok], self.alpha_[ok] = solution.intercept, alphas
        self.intercept_[ok] = solution.intercept - self._source_mean @ solution.coef
        lost = ok[~solution.converged]
        if not lost.size:
            return
        self.status_[lost], self._target_mean[lost], self.coef_[:, lost], self.intercept_[lost] = "failed", np.nan, np.nan, np.nan
        warnings.warn(
            f"PoissonGLM did not converge for {lost.size} of {len(self.status_)} targets, at positions {preview(lost)}; they are NaN. Some "
            "feature may be 0 wherever they fire: give a larger alpha.",
            DegenerateNeuroidWarning,
            stacklevel=4,
        )

    def _predict_values(self, x: Values) -> Values:
        return np.asarray(np.exp(super()._predict_values(x)))


def _refuse_other_than_counts(y: Values) -> None:
    """Refuse targets that are no counts; NaN is dealt with as everywhere."""
    known = y[np.isfinite(y)] if y.dtype.kind == "f" else y
    wrong = known[(known < 0) | (known != np.rint(known))]
    if wrong.size:
        kind = "negative" if wrong.min() < 0 else "no whole"
        raise ParameterError(
            f"PoissonGLM got a target with {wrong.size} {kind} numbers, such as {preview(wrong, 2)}. Expected counts of spikes: for averages of "
            "repeats ask `ba.evaluate` for repeats='keep', and for rates use `ba.Ridge`."
        )
