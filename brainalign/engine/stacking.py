"""Weights that combine several predictions of one target: small quadratic programs, all targets at once."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers

CONSTRAINTS = ("nonnegative", "simplex")


def stacking_weights(gram: Numbers, cross: Numbers, total: Numbers, constraint: str) -> Numbers:
    """Return the weights s of the predictions D that minimise Σ(y − Σ_b s_b D_b)².

    Parameters
    ----------
    gram : ndarray of float64, (target, prediction, prediction)
        Σ D_b D_c over rows, of predictions as deviations from the mean that was fitted.
    cross : ndarray of float64, (target, prediction)
        Σ D_b y, of the same deviations.
    total : ndarray of float64, (target,)
        Σ y².
    constraint : {"nonnegative", "simplex"}
        s ≥ 0, or also Σs = 1.

    Returns
    -------
    ndarray of float64, (target, prediction)

    Notes
    -----
    On the simplex the error is sᵀPs, with P the inner products of the errors y − D_b; its minimum is at u / Σu for the u ≥ 0
    that minimises uᵀPu/2 − Σu.
    """
    n = cross.shape[1]
    if constraint == "nonnegative":
        quadratic, linear = gram, cross
    else:
        quadratic = total[:, None, None] - cross[:, :, None] - cross[:, None, :] + gram
        linear = np.ones_like(cross)
    size = np.einsum("tbb->t", quadratic) / n
    size = np.where(size > 0, size, 1.0)[:, None]
    quadratic = quadratic / size[:, :, None] + 1e-12 * np.eye(n)  # two predictions that agree share no weight, and one gets it
    found = nonnegative_quadratic(quadratic, linear / size if constraint == "nonnegative" else linear)
    return found if constraint == "nonnegative" else found / found.sum(axis=1, keepdims=True)


def nonnegative_quadratic(A: Numbers, b: Numbers) -> Numbers:
    """Return the u ≥ 0 that minimises uᵀAu/2 − bᵀu, for many problems at once.

    Parameters
    ----------
    A : ndarray of float64, (problem, variable, variable)
        Symmetric and positive definite.
    b : ndarray of float64, (problem, variable)

    Returns
    -------
    ndarray of float64, (problem, variable)
        Exact: variables are 0 or solve their own equations.

    Notes
    -----
    The active-set method of Lawson and Hanson (1974), ch. 23: the variable with the steepest descent enters, and those that
    would turn negative leave.
    """
    u, free = np.zeros_like(b), np.zeros(b.shape, dtype=bool)
    tolerance = 1e-10 * np.abs(b).max(axis=1, initial=0.0)
    for _ in range(10 * b.shape[1]):
        slope = np.where(free, -np.inf, b - np.einsum("tij,tj->ti", A, u))
        rows = np.flatnonzero(slope.max(axis=1) > tolerance)
        if not rows.size:
            break
        free[rows, slope[rows].argmax(axis=1)] = True
        u[rows], free[rows] = _solve_free(A[rows], b[rows], u[rows], free[rows])
    return u


def _solve_free(A: Numbers, b: Numbers, u: Numbers, free: Numbers) -> tuple[Numbers, Numbers]:
    """Go to the minimum over the free variables, or as far towards it as they stay positive, until they do."""
    identity = np.eye(b.shape[1])
    while True:
        inside = free[:, :, None] & free[:, None, :]
        goal = np.linalg.solve(np.where(inside, A, identity), np.where(free, b, 0.0)[:, :, None])[:, :, 0]
        leaves = free & (goal <= 0)
        if not leaves.any():
            return goal, free
        step = np.where(leaves, u / np.where(leaves, u - goal, 1.0), np.inf)
        first = leaves & (step <= step.min(axis=1, keepdims=True))
        u = np.where(free, u + np.minimum(step.min(axis=1), 1.0)[:, None] * (goal - u), 0.0)
        free = free & ~first
        u = np.where(free, np.maximum(u, 0.0), 0.0)
