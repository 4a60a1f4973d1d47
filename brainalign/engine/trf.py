"""Ridge regression on lagged columns: every alpha of a fold from one decomposition, every fold from sums over its rows.

Nothing is predicted to choose an alpha. With D the lagged design and W the weights, around the means of the training rows,
Σ(y − ŷ)² = Σy² − 2 Σ W∘(DᵀY) + Σ W∘(DᵀD W) over the held-out rows needs their sums alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.engine.gram import eigh
from brainalign.engine.lagged import LaggedSums, Moments
from brainalign.engine.moments import ROUNDING, Numbers
from brainalign.engine.screening import best


@dataclass(frozen=True)
class TRFSolution:
    """Fitted weights, one alpha and one weighting of the columns for each target.

    Attributes
    ----------
    coef : ndarray of float64, (k, target)
    alpha_index, scale_index : ndarray of int, (target,)
    heldout_score : ndarray of float64, (target,)
        NaN without a choice.
    """

    coef: Numbers
    alpha_index: Numbers
    scale_index: Numbers
    heldout_score: Numbers


@dataclass(frozen=True)
class _Path:
    """V with VᵀGV = diag(variance) and VᵀPV = diag(penalty): (G + αP)⁻¹ = V diag(1 / (variance + α penalty)) Vᵀ."""

    basis: Numbers
    variance: Numbers
    penalty: Numbers

    @classmethod
    def of(cls, gram: Numbers, penalty: Numbers | None) -> _Path:
        if penalty is None:
            values, vectors = eigh(gram)
            return cls(vectors, values, np.ones(len(values)))
        unit = float(np.trace(gram)) / float(np.trace(penalty)) or 1.0
        values, vectors = eigh(gram / unit + penalty)
        known = values > np.finfo(np.float64).eps * len(values) * values.max()  # to the recording or to the penalty
        half = vectors[:, known] / np.sqrt(values[known])
        share, turn = eigh(half.T @ penalty @ half)
        return cls(half @ turn, unit * (1 - share), share)

    def filter(self, alpha: float | Numbers) -> Numbers:
        """Return 1 / (variance + α penalty), and 0 where that is rounding: α = 0 gives the fit of smallest norm."""
        floor = np.finfo(np.float64).eps * len(self.variance) * max(float(self.variance.max()), 0.0)
        total = self.variance[:, None] + self.penalty[:, None] * np.atleast_1d(alpha)
        real = total > floor
        return np.asarray(real / np.where(real, total, 1.0))


def solve_trf(
    sums: LaggedSums,
    alphas: Numbers,
    folds: Sequence[tuple[Numbers, Numbers]] | None,
    *,
    fit_intercept: bool = True,
    criterion: str = "r2",
    penalty: Numbers | None = None,
    scales: Numbers | None = None,
) -> TRFSolution:
    """Fit weights of lags with the alpha that serves each target best on held-out rows.

    Parameters
    ----------
    sums : LaggedSums
    alphas : ndarray of float64, (alpha,)
        Ascending, non-negative.
    folds : sequence of (ndarray, ndarray), (cell,)
        How often each cell is trained on, and tested. Needed where there is anything to choose.
    fit_intercept : bool
        Unpenalised, and fitted anew in every fold.
    criterion : {"r2", "mse", "pearson"}
        As in :func:`brainalign.engine.solvers.ridge_source`.
    penalty : ndarray of float64, (k, k), optional
        P of Σ(y − Dw)² + α wᵀPw; default the identity.
    scales : ndarray of float64, (candidate, k), optional
        What columns are multiplied by, to compare.

    Returns
    -------
    TRFSolution
    """
    whole, n_targets = sums.whole.around() if fit_intercept else sums.whole, sums.target.shape[1]
    scales = np.ones((1, len(whole.gram))) if scales is None else scales
    index, score = np.zeros(n_targets, dtype=np.int64), np.full(n_targets, np.nan)
    if len(alphas) * len(scales) > 1:
        losses, scores = _compare(sums, alphas, folds or (), scales, penalty, fit_intercept, criterion)
        index = best(losses)
        score = scores[index, np.arange(n_targets)]
    scale_index, alpha_index = np.divmod(index, len(alphas))
    coef = np.empty(whole.cross.shape)
    for k in np.unique(scale_index):
        targets = np.flatnonzero(scale_index == k)
        path = _Path.of(_scaled(whole.gram, scales[k]), penalty)
        rotated = path.basis.T @ (scales[k][:, None] * whole.cross[:, targets])
        coef[:, targets] = scales[k][:, None] * (path.basis @ (path.filter(alphas[alpha_index[targets]]) * rotated))
    return TRFSolution(coef, alpha_index, scale_index, score)


def _compare(
    sums: LaggedSums, alphas: Numbers, folds: Any, scales: Numbers, penalty: Numbers | None, fit_intercept: bool, criterion: str
) -> tuple[Numbers, Numbers]:
    """Return losses and scores, (scale and alpha, target), pooled over folds."""
    pooled = np.zeros((3, len(scales) * len(alphas), sums.target.shape[1]))  # Σ(y−ŷ)², Σ(ŷ−ŷ̄)(y−ȳ), Σ(ŷ−ŷ̄)²
    target_ss, n = np.zeros(pooled.shape[2]), 0.0
    for trained, tested in folds:
        train, test = sums.moments(trained), sums.moments(tested)
        own = test.around()
        held = own if criterion == "pearson" else test.around(train) if fit_intercept else test
        train = train.around() if fit_intercept else train
        target_ss += np.where(own.power > (ROUNDING * np.finfo(np.float64).eps) ** 2 * test.power, own.power, 0.0)
        n += test.n
        for k, scale in enumerate(scales):
            pooled[:, k * len(alphas) : (k + 1) * len(alphas)] += _errors(train, held, scale, alphas, penalty)
    error, cross, prediction_ss = pooled
    with np.errstate(invalid="ignore", divide="ignore"):
        if criterion == "pearson":
            score = np.where((prediction_ss > 0) & (target_ss > 0), cross / np.sqrt(prediction_ss * target_ss), np.nan)
            return -score, score
        score = -error / n if criterion == "mse" else np.where(target_ss > 0, 1 - error / target_ss, np.nan)
    return error, score


def _errors(train: Moments, held: Moments, scale: Numbers, alphas: Numbers, penalty: Numbers | None) -> Numbers:
    """Return Σ(y − ŷ)², Σŷy and Σŷ² over held-out rows at every alpha, (3, alpha, target)."""
    path, gram = _Path.of(_scaled(train.gram, scale), penalty), _scaled(held.gram, scale)
    rotated, along = path.basis.T @ (scale[:, None] * train.cross), scale[:, None] * held.cross
    out = np.empty((3, len(alphas), rotated.shape[1]))
    basis: Numbers | None = path.basis
    if out[0].size > 2 * len(gram):  # more weights to turn back than there are directions: the held-out sums are turned instead
        basis, along, gram = None, path.basis.T @ along, path.basis.T @ gram @ path.basis
    for k, kept in enumerate(path.filter(alphas).T):
        weights = kept[:, None] * rotated
        weights = weights if basis is None else basis @ weights
        cross, own = np.einsum("kt,kt->t", weights, along), np.einsum("kt,kt->t", weights, gram @ weights)
        out[:, k] = held.power - 2 * cross + own, cross, own
    return out


def _scaled(gram: Numbers, scale: Numbers) -> Numbers:
    return gram if (scale == 1).all() else scale[:, None] * gram * scale
