"""Filters of a hidden state: a Gaussian belief that dynamics carry forward in time and evidence narrows.

What a row of data says of the state is its evidence: a precision Λ and a potential η, so that p(x|z) ∝ exp(−½ zᵀΛz + ηᵀz).
The Kalman filter and the Discriminative Kalman filter differ in it alone, and share the recursion. States are around their mean.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from brainalign.engine.moments import Numbers

_ROUNDING = 1e-9  # of the largest eigenvalue: a precision this little below 0 is 0


class Dynamics(NamedTuple):
    """A stationary linear state: z_t = A z_{t−1} + w, w ~ N(0, Γ), and z ~ N(0, S) at any time.

    Attributes
    ----------
    transition : ndarray of float64, (state, state)
        A.
    noise : ndarray of float64, (state, state)
        Γ.
    prior : ndarray of float64, (state, state)
        S.
    """

    transition: Numbers
    noise: Numbers
    prior: Numbers


class Evidence(NamedTuple):
    """What rows of data say of the state.

    Attributes
    ----------
    precision : ndarray of float64, (row, state, state)
        Λ; one matrix may stand for all rows.
    potential : ndarray of float64, (row, state)
        η.
    """

    precision: Numbers
    potential: Numbers


def learn_dynamics(states: Numbers, stretches: list[Numbers]) -> Dynamics:
    """Learn how a state moves, by least squares over neighbouring rows of each stretch.

    Parameters
    ----------
    states : ndarray of float64, (row, state)
        Around their means.
    stretches : list of ndarray of int
        Rows that follow one another in time, of each stretch; no step leads from one stretch to the next.

    Returns
    -------
    Dynamics
    """
    before = states[np.concatenate([rows[:-1] for rows in stretches])]
    after = states[np.concatenate([rows[1:] for rows in stretches])]
    step = np.linalg.lstsq(before, after, rcond=None)[0]
    error = after - before @ step
    return Dynamics(step.T, error.T @ error / len(error), states.T @ states / len(states))


def linear_evidence(observed: Numbers, loading: Numbers, noise: Numbers) -> Evidence:
    """Return the evidence of the Kalman filter: x = H z + e, e ~ N(0, R), so that Λ = HᵀR⁻¹H and η = HᵀR⁻¹x.

    Parameters
    ----------
    observed : ndarray of float64, (row, feature)
        Around their means.
    loading : ndarray of float64, (feature, state)
        H.
    noise : ndarray of float64, (feature, feature)
        R.

    Returns
    -------
    Evidence
    """
    weights = cho_solve(cho_factor(noise, lower=True), loading)
    return Evidence((loading.T @ weights)[None], observed @ weights)


def discriminative_evidence(
    predicted: Numbers, spread: Numbers, prior: Numbers, *, robust: bool = False
) -> tuple[Evidence, Numbers]:
    """Return the evidence of a regressor: z given x ~ N(f, Q), so that Λ = Q⁻¹ − S⁻¹ and η = Q⁻¹f.

    Parameters
    ----------
    predicted : ndarray of float64, (row, state)
        f, around the mean of the states.
    spread : ndarray of float64, (row, state, state)
        Q; one matrix may stand for all rows.
    prior : ndarray of float64, (state, state)
        S.
    robust : bool
        Leave −S⁻¹ out.

    Returns
    -------
    evidence : Evidence
    guarded : ndarray of bool, (row,)
        Where Q⁻¹ − S⁻¹ was no precision, for f is less certain than the prior in some direction, and (Q⁻¹ + S⁻¹)⁻¹ took Q's place.
        One entry where Q is one matrix.

    Notes
    -----
    Burkhart, Brandman, Franco, Hochberg and Harrison (2020).
    """
    certainty, base = np.linalg.inv(spread), np.linalg.inv(prior)
    guarded = np.zeros(len(spread), dtype=bool)
    precision = certainty
    if not robust:
        values = np.linalg.eigvalsh(certainty - base)
        guarded = values[:, 0] < -_ROUNDING * np.abs(values).max(axis=1)
        certainty = certainty + guarded[:, None, None] * base
        precision = certainty - base
    return Evidence(precision, (certainty @ predicted[:, :, None])[:, :, 0]), guarded


def filter_states(evidence: Evidence, dynamics: Dynamics) -> tuple[Numbers, Numbers]:
    """Return what is believed of the state at each row of one stretch, given that row and all before it.

    Parameters
    ----------
    evidence : Evidence
        Of rows that follow one another in time.
    dynamics : Dynamics

    Returns
    -------
    mean : ndarray of float64, (row, state)
    covariance : ndarray of float64, (row, state, state)

    Notes
    -----
    M_t = AΣ_{t−1}Aᵀ + Γ; Σ_t = (M_t⁻¹ + Λ_t)⁻¹; μ_t = Σ_t(M_t⁻¹Aμ_{t−1} + η_t), from M_1 = S and the mean 0. Written without
    M⁻¹, which there need not be: Σ = (I + MΛ)⁻¹M, and μ = Aμ₋ + Σ(η − ΛAμ₋).

    Examples
    --------
    >>> steady = Dynamics(np.eye(1), np.zeros((1, 1)), np.eye(1))  # a state that stays, seen three times with unit noise
    >>> mean, covariance = filter_states(Evidence(np.ones((1, 1, 1)), np.full((3, 1), 2.0)), steady)
    >>> mean.ravel().round(3).tolist(), covariance.ravel().round(3).tolist()
    ([1.0, 1.333, 1.5], [0.5, 0.333, 0.25])
    """
    A, noise, ahead = dynamics
    n, d = evidence.potential.shape
    precision = np.broadcast_to(evidence.precision, (n, d, d))
    means, covariances = np.empty((n, d)), np.empty((n, d, d))
    expected, identity = np.zeros(d), np.eye(d)
    for t in range(n):
        covariance = np.linalg.solve(identity + ahead @ precision[t], ahead)
        covariances[t] = (covariance + covariance.T) / 2
        means[t] = expected + covariances[t] @ (evidence.potential[t] - precision[t] @ expected)
        expected, ahead = A @ means[t], A @ covariances[t] @ A.T + noise
    return means, covariances
