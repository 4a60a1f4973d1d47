"""Draws with replacement, as weights: how often each unit is taken; and the variances, intervals and p-values that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from brainalign.engine.moments import Numbers
from brainalign.engine.resample import p_of_the_maximum, p_values


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


def two_factor_variance(
    first: Numbers, second: Numbers, both: Numbers, *, n_first: int | None = None, n_second: int | None = None
) -> Numbers:
    """Return the variance of a score whose noise comes from two kinds of units, from bootstraps over each and over both.

    Parameters
    ----------
    first, second, both : ndarray, (...)
        Variances of the score when the first, the second, or both kinds of units were drawn anew.
    n_first, n_second : int, optional
        How many units there are of each, for the small-sample form; None for the large-sample form, in which a = b = 1.

    Returns
    -------
    ndarray of float64, (...)

    Notes
    -----
    Drawing both at once counts the noise of single measurements three times. With a = n₁/(n₁−1) and b = n₂/(n₂−1) the estimate is
    a·v₁ + b·v₂ − ab(v₁₂ − v₁ − v₂), at least either corrected part and at most v₁₂ where that is larger (Schütt et al. 2023, eLife).
    """
    a, b = (1.0 if n is None else n / (n - 1) for n in (n_first, n_second))
    least = np.maximum(a * first, b * second)
    return np.asarray(np.clip(a * first + b * second - a * b * (both - first - second), least, np.maximum(both, least)))


@dataclass(frozen=True)
class Drawn:
    """Scores, and what they were when units were drawn anew.

    Attributes
    ----------
    score : ndarray, (...)
    draws : ndarray, (draw, ...)
        NaN where a draw has no score; it is then left out for that score.
    parts : tuple of ndarray, (draw, ...)
        Where two kinds of units were drawn: what it was when only the one, and only the other was.
    n_units : list of int
    refitting : float
        By how much the variance over stimuli grows where models would be fitted anew.
    """

    score: Numbers
    draws: Numbers
    parts: tuple[Numbers, ...]
    n_units: list[int]
    refitting: float = 1.0

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.draws)

    @property
    def n_undefined(self) -> Numbers:
        """Number of draws in which a score, or a part of it, is not defined."""
        return np.asarray(np.any([np.isnan(x) for x in (self.draws, *self.parts)], axis=0).sum(axis=0))

    @property
    def scale(self) -> Numbers:
        """By how much draws are too close together, or too far apart."""
        least = min(self.n_units)
        if not self.parts:
            return np.full(self.score.shape, np.sqrt(self.refitting * least / (least - 1)))
        by_unit, by_stimulus, both = (_variance(part) for part in (*self.parts, self.draws))
        corrected = two_factor_variance(by_unit, by_stimulus, both, n_first=self.n_units[0], n_second=self.n_units[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(both > 0, np.sqrt((corrected + (self.refitting - 1.0) * by_stimulus) / both), 1.0)

    def interval(self, level: float) -> tuple[Numbers, Numbers]:
        """Return its ends."""
        tail = (1.0 - level) / 2.0
        stretch = self.scale * stats.t.isf(tail, min(self.n_units) - 1) / stats.norm.isf(tail)
        low, high = _quantiles(self.draws, [tail, 1.0 - tail])
        return self.score + stretch * (low - self.score), self.score + stretch * (high - self.score)

    def rows(self, rows: slice) -> Drawn:
        """Return some positions along the first axis of the score."""
        return replace(self, score=self.score[rows], draws=self.draws[:, rows], parts=tuple(part[:, rows] for part in self.parts))

    def centred(self) -> Drawn:
        """Return draws whose mean is the score: for what redrawing itself lowers or raises, as it leaves fewer distinct units."""
        return replace(self, draws=self.draws - _mean(self.draws) + self.score)

    def minus(self, axis: int, first: list[int], second: list[int]) -> Drawn:
        """Return differences of positions along an axis of the score, which becomes the first."""

        def pairs(x: Numbers, lead: int) -> Numbers:
            x = np.moveaxis(x, axis + lead, lead)
            return x.take(first, axis=lead) - x.take(second, axis=lead)

        parts = tuple(pairs(part, 1) for part in self.parts)
        return replace(self, score=pairs(self.score, 0), draws=pairs(self.draws, 1), parts=parts)

    def p(self) -> tuple[Numbers, Numbers]:
        """Return two-sided p-values of no difference: alone, and for all together."""
        with np.errstate(invalid="ignore", divide="ignore"):
            spread = np.sqrt(_variance(self.draws))
            t = np.abs(self.score) / (self.scale * spread)
            null = np.abs(self.draws - _mean(self.draws)) / spread
        observed = stats.norm.isf(stats.t.sf(t, min(self.n_units) - 1))  # as far out in a normal as t is among few units
        return p_values(observed, null), p_of_the_maximum(observed, null)


def _mean(draws: Numbers) -> Numbers:
    known = ~np.isnan(draws)
    return np.asarray(np.where(known, draws, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1))


def _variance(draws: Numbers) -> Numbers:
    """Return the variance of the draws that have a value; NaN where fewer than two have."""
    n = (~np.isnan(draws)).sum(axis=0)
    squares = np.nansum(np.square(draws - _mean(draws)), axis=0)
    return np.where(n > 1, squares / np.maximum(n - 1, 1), np.nan)


def _quantiles(draws: Numbers, q: list[float]) -> Numbers:
    if not np.isnan(draws).any():
        return np.quantile(draws, q, axis=0)
    out = np.full((len(q), *draws.shape[1:]), np.nan)
    for cell in np.ndindex(draws.shape[1:]):
        known = draws[:, *cell]
        known = known[~np.isnan(known)]
        if known.size:
            out[:, *cell] = np.quantile(known, q)
    return out
