"""Draws with replacement, as weights: how often each unit is taken; and the variances that follow."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers


def draw_weights(n: int, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw how often each unit is taken when as many as there are are drawn with replacement.

    Parameters
    ----------
    n : int
        Units: stimuli, or subjects. For both at once, draw twice.
    n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of int, (draw, unit)
        Rows sum to n. Sums over units weighted by these are the sums of the drawn sample.
    """
    return rng.multinomial(n, np.full(n, 1.0 / n), size=n_draws)


def two_factor_variance(first: Numbers, second: Numbers, both: Numbers, *, n_first: int, n_second: int) -> Numbers:
    """Return the variance of a score whose noise comes from two kinds of units, from bootstraps over each and over both.

    Parameters
    ----------
    first, second, both : ndarray, (...)
        Variances of the score when the first, the second, or both kinds of units were drawn anew.
    n_first, n_second : int
        How many units there are of each.

    Returns
    -------
    ndarray of float64, (...)

    Notes
    -----
    Drawing both at once counts the noise of single measurements three times. With a = n₁/(n₁−1) and b = n₂/(n₂−1) the estimate is
    a·v₁ + b·v₂ − ab(v₁₂ − v₁ − v₂), at least either corrected part and at most v₁₂ where that is larger (Schütt et al. 2023, eLife).
    """
    a, b = n_first / (n_first - 1), n_second / (n_second - 1)
    least = np.maximum(a * first, b * second)
    return np.asarray(np.clip(a * first + b * second - a * b * (both - first - second), least, np.maximum(both, least)))
