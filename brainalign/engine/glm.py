"""Poisson regression of many targets at once, by Newton's method in float64.

Minimises Σ(μ − y log μ) + α‖b‖²/2 with log μ = Xb + b₀ for each target. Targets share the source and not their Hessians,
Xᵀ diag(μ) X, which are made and solved in stacks. A step that does not lower the objective is halved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from brainalign.engine.moments import Numbers

_STACK = 2**22  # values of weighted sources that exist at a time: 32 MB
_STEPS, _HALVINGS = 100, 40
_ENOUGH = 1e-12  # of the objective: what a step promises, and no further step is taken
_ARMIJO = 1e-4  # of what a step promises: what it must keep


@dataclass(frozen=True)
class PoissonSolution:
    """Fitted weights.

    Attributes
    ----------
    coef : ndarray of float64, (column, target)
    intercept : ndarray of float64, (target,)
    converged : ndarray of bool, (target,)
    """

    coef: Numbers
    intercept: Numbers
    converged: Numbers

    def log_rate(self, X: Numbers) -> Numbers:
        """Return log μ.

        Parameters
        ----------
        X : ndarray, (row, column)

        Returns
        -------
        ndarray of float64, (row, target)
        """
        return np.asarray(X @ self.coef + self.intercept)


def fit_poisson(
    X: Numbers, Y: Numbers, alpha: Numbers, *, fit_intercept: bool = True, start: PoissonSolution | None = None
) -> PoissonSolution:
    """Fit all targets, each at its own alpha.

    Parameters
    ----------
    X : ndarray of float64, (row, column)
    Y : ndarray of float64, (row, target)
        Non-negative, and somewhere positive.
    alpha : ndarray of float64, (target,)
    fit_intercept : bool
        Unpenalised.
    start : PoissonSolution, optional
        Of another alpha.

    Returns
    -------
    PoissonSolution
    """
    n, p = X.shape
    design = np.hstack([X, np.ones((n, 1))]) if fit_intercept else X
    ridge = np.ones((design.shape[1], 1)) * alpha
    ridge[p:] = 0
    weights = np.zeros(ridge.shape)
    if start is not None:
        weights[:p], weights[p:] = start.coef, start.intercept
    else:
        weights[p:] = np.log(Y.mean(axis=0))
    todo, promise = np.arange(Y.shape[1]), np.full(Y.shape[1], np.inf)
    for _ in range(_STEPS):
        y, now, penalty = Y[:, todo], weights[:, todo], ridge[:, todo]
        rate = _rate(design @ now)
        gradient = design.T @ (rate - y) + penalty * now
        step = _newton_steps(design, rate, gradient, penalty)
        value, promise[todo] = _objective(design, y, now, penalty), (gradient * step).sum(axis=0)
        weights[:, todo] = _descend(design, y, now, penalty, step, value, promise[todo])
        todo = todo[~(promise[todo] <= _ENOUGH * (1 + np.abs(value)))]
        if not todo.size:
            break
    intercept = weights[p] if fit_intercept else np.zeros(Y.shape[1])
    return PoissonSolution(weights[:p], intercept, ~np.isin(np.arange(Y.shape[1]), todo))


def deviance(Y: Numbers, rate: Numbers) -> Numbers:
    """Return 2 Σ (y log(y/μ) − y + μ) over rows.

    Parameters
    ----------
    Y, rate : ndarray, (row, target)
        Infinite where the rate is 0 and the count is not.

    Returns
    -------
    ndarray of float64, (target,)

    Examples
    --------
    >>> deviance(np.array([[0.0], [2.0]]), np.array([[1.0], [2.0]]))
    array([2.])
    """
    return np.asarray(2 * (xlogy(Y, Y) - xlogy(Y, rate) - Y + rate).sum(axis=0))


def _rate(log_rate: Numbers) -> Numbers:
    with np.errstate(over="ignore"):
        return np.exp(log_rate)


def _objective(design: Numbers, y: Numbers, weights: Numbers, penalty: Numbers) -> Numbers:
    log_rate = design @ weights
    return np.asarray((_rate(log_rate) - y * log_rate).sum(axis=0) + (penalty * weights**2).sum(axis=0) / 2)


def _newton_steps(design: Numbers, rate: Numbers, gradient: Numbers, penalty: Numbers) -> Numbers:
    """Return H⁻¹ times the gradient of each target, some targets at a time."""
    n, k = design.shape
    out, size, diagonal = np.empty(gradient.shape), max(1, _STACK // (n * k)), np.arange(k)
    for at in range(0, rate.shape[1], size):
        some = slice(at, at + size)
        hessian = (design.T * rate.T[some, None, :]) @ design
        # where neither rows nor penalty hold a direction, what rounding leaves of one
        hessian[:, diagonal, diagonal] += penalty.T[some] + 1e-12 * hessian[:, diagonal, diagonal].max(axis=1)[:, None]
        out[:, some] = np.linalg.solve(hessian, gradient.T[some, :, None])[..., 0].T
    return out


def _descend(
    design: Numbers, y: Numbers, weights: Numbers, penalty: Numbers, step: Numbers, value: Numbers, promise: Numbers
) -> Numbers:
    """Return the weights after a step, halved for each target until it is one downwards."""
    size, slack = np.ones(len(value)), 1e-14 * (1 + np.abs(value)) * len(y) ** 0.5
    for _ in range(_HALVINGS):
        after = _objective(design, y, weights - size * step, penalty)
        worse = ~(after <= value - _ARMIJO * size * promise + slack)
        if not worse.any():
            break
        size[worse] /= 2
    return np.asarray(weights - size * step)
