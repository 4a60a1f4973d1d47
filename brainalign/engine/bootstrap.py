"""Draws with replacement, as weights: how often each unit is taken; and the variances, intervals and p-values that follow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from brainalign.engine.moments import Numbers
from brainalign.engine.resample import false_discovery_rate, p_of_the_maximum, p_values

#: Share of the training units that a refit does without.
LEFT_OUT = 0.2


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


def pair_variance(drawn: Numbers, left_out: Numbers) -> Numbers:
    """Return the variance of a score made of pairs of units, from what drawing them anew and leaving each out say of it.

    Parameters
    ----------
    drawn : ndarray, (...)
        Variance of the score when n units were drawn anew, times n / (n − 1).
    left_out : ndarray, (unit, ...)
        Scores without each unit.

    Returns
    -------
    ndarray of float64, (...)

    Notes
    -----
    Let S be the variance that comes from units, and N that of single pairs: the truth is S + N. Drawing units anew counts N three times,
    as a pair's weight is a product of two; leaving them out counts it twice, as a pair goes with either unit. So S + N is twice the second
    (the jackknife, J = S + 2N) less the first (S + 3N), and lies between J / 2 and J whatever the draws are.
    """
    n = len(left_out)
    jackknife = (n - 1.0) ** 2 / n * left_out.var(axis=0, ddof=1, dtype=np.float64)
    known = np.where(np.isnan(jackknife), drawn, jackknife)  # three stimuli: none can be left out
    return np.asarray(np.clip(2.0 * known - drawn, known / 2.0, known))


def training_variance(refits: Numbers) -> Numbers:
    """Return the variance of a score over training units, from scores on the same test rows without some of them.

    Parameters
    ----------
    refits : ndarray, (refit, ...)
        Of models fitted without a random share ``LEFT_OUT`` of the units.

    Returns
    -------
    ndarray of float64, (...)

    Notes
    -----
    The jackknife that leaves d of n out, (n−d)/d times the variance over such subsets (Shao and Wu 1989). A score is not smooth
    where an alpha changes place, which leaving single units out would multiply by n.
    """
    return np.asarray((1.0 - LEFT_OUT) / LEFT_OUT * refits.var(axis=0, ddof=1, dtype=np.float64))


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
        By how much the variance over stimuli grows at most where models would be fitted anew.
    refits : ndarray, (refit, ...), or None
        Scores of models that were: see :func:`training_variance`. Their variance is added instead.
    left_out : ndarray, (unit, ...), or None
        Of units whose pairs are scored: see :func:`pair_variance`.

    Notes
    -----
    Variances of n units are those of the draws times n / (n − 1). A sum Σ vᵢ of variances with νᵢ degrees of freedom has
    (Σ vᵢ)² / Σ vᵢ² / νᵢ (Satterthwaite 1946): with min(n) − 1, as is common for two kinds of units, 2% of noise passes p ≤ .05.
    """

    score: Numbers
    draws: Numbers
    parts: tuple[Numbers, ...]
    n_units: list[int]
    refitting: float = 1.0
    refits: Numbers | None = None
    left_out: Numbers | None = None

    @property
    def n(self) -> int:
        """Number of draws."""
        return len(self.draws)

    @property
    def n_undefined(self) -> Numbers:
        """Number of draws in which a score, or a part of it, is not defined."""
        return np.asarray(np.any([np.isnan(x) for x in (self.draws, *self.parts)], axis=0).sum(axis=0))

    @property
    def spread(self) -> tuple[Numbers, Numbers]:
        """Return the standard error of the score, and its degrees of freedom."""
        drawn, n = _variance(self.draws), [float(each) for each in self.n_units]
        if self.parts:
            v, (a, b) = [_variance(part) for part in self.parts], [each / (each - 1.0) for each in n]
            variance = two_factor_variance(v[0], v[1], drawn, n_first=self.n_units[0], n_second=self.n_units[1])
            terms = [(a * v[0], n[0] - 1.0), (b * v[1], n[1] - 1.0), (a * b * (drawn - v[0] - v[1]), (n[0] - 1.0) * (n[1] - 1.0))]
        else:
            v, variance = [drawn], drawn * n[0] / (n[0] - 1.0)
            variance = variance if self.left_out is None else pair_variance(variance, self.left_out)
            terms = [(variance, n[0] - 1.0)]
        if self.refits is not None:
            terms.append((training_variance(self.refits), len(self.refits) - 1.0))
            variance = variance + terms[-1][0]
        with np.errstate(invalid="ignore", divide="ignore"):
            dof = variance**2 / sum(term**2 / own for term, own in terms)
        if self.refits is None:
            variance = variance + (self.refitting - 1.0) * v[-1] * n[-1] / (n[-1] - 1.0)
        return np.sqrt(variance), np.where(variance > 0, dof, min(n) - 1.0)

    def interval(self, level: float) -> tuple[Numbers, Numbers]:
        """Return its ends."""
        tail = (1.0 - level) / 2.0
        error, dof = self.spread
        drawn = np.sqrt(_variance(self.draws))
        with np.errstate(invalid="ignore", divide="ignore"):
            stretch = np.where(drawn > 0, error / drawn, 1.0) * stats.t.isf(tail, dof) / stats.norm.isf(tail)
        low, high = _quantiles(self.draws, [tail, 1.0 - tail])
        return self.score + stretch * (low - self.score), self.score + stretch * (high - self.score)

    def rows(self, rows: slice) -> Drawn:
        """Return some positions along the first axis of the score."""
        return self.each(lambda x: x[:, rows])

    def centred(self) -> Drawn:
        """Return draws whose mean is the score: for what redrawing itself lowers or raises, as it leaves fewer distinct units."""
        return replace(self, draws=self.draws - _mean(self.draws) + self.score)

    def minus(self, axis: int, first: Numbers, second: Numbers) -> Drawn:
        """Return differences of positions along an axis of the score, which becomes the first."""

        def pairs(x: Numbers) -> Numbers:
            x = np.moveaxis(x, axis + 1, 1)
            return x[:, first] - x[:, second]

        return self.each(pairs)

    def each(self, change: Callable[[Numbers], Numbers]) -> Drawn:
        """Return what a change of (draw, ...) makes of the score and of all that was drawn."""
        refits, left_out = (None if x is None else change(x) for x in (self.refits, self.left_out))
        parts = tuple(change(part) for part in self.parts)
        score, draws = change(self.score[None])[0], change(self.draws)
        return replace(self, score=score, draws=draws, parts=parts, refits=refits, left_out=left_out)

    def p(self) -> tuple[Numbers, Numbers]:
        """Return two-sided p-values of no difference: alone, and for all together."""
        error, dof = self.spread
        with np.errstate(invalid="ignore", divide="ignore"):
            t = np.abs(self.score) / error
            null = np.abs(self.draws - _mean(self.draws)) / np.sqrt(_variance(self.draws))
        observed = stats.norm.isf(stats.t.sf(t, dof))  # as far out in a normal as t is among few units
        return p_values(observed, null), p_of_the_maximum(observed, null)

    def tested(self, level: float, name: str, p_name: str) -> dict[str, Numbers]:
        """Return the score, its interval and what :meth:`p` says of it, by what a result calls them."""
        (low, high), (p, p_max) = self.interval(level), self.p()
        found = {name: self.score, f"{name}_low": low, f"{name}_high": high}
        return found | {p_name: p, f"{p_name}_fdr": false_discovery_rate(p), f"{p_name}_max": p_max}


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
