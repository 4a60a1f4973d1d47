"""Which alpha serves each target best: a cheap guess for all alphas, and an exact climb from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, like, to_numpy
from brainalign.engine.factor import RidgeFactor
from brainalign.engine.heldout import HeldOut, HeldTile
from brainalign.engine.moments import Numbers

# Standard deviations of the difference of two guesses: none of 10,000 choices missed where noise is white, 1 in 5,000 with half of it.
# Where neighbours are alike and folds take shuffled rows, up to 1 in 100; their losses were within 1% of the smallest.
_DOUBT = 2.0
_MISLED = 2.0  # Over the root of the number of rows: a best loss that is further above its guess was guessed from rows alike.

Loss = Callable[[int, "Numbers | slice"], Numbers]  #: (position of an alpha, targets) -> what is to be small
Order = Callable[[Iterable[int]], Iterable[int]]  #: positions of alphas -> the same, in the order in which to evaluate them


def generalised_cross_validation(
    factor: RidgeFactor, rotated: Array, norm: Numbers, alphas: Numbers, *, fit_intercept: bool = True
) -> Numbers:
    """Return the generalised cross-validation criterion of every target at every alpha.

    Parameters
    ----------
    factor : RidgeFactor
    rotated : array, (k, target)
        T = UᵀY.
    norm : ndarray of float64, (target,)
        Σy².
    alphas : ndarray of float64, (alpha,)
    fit_intercept : bool

    Returns
    -------
    ndarray of float64, (alpha, target)
        n² RSS / tr(I − H)²; infinite where the fit leaves no degree of freedom.

    Notes
    -----
    With w = α/(λ+α), RSS = Σy² − ΣT² + Σ_k w_k² T_k² and tr(I − H) = Σ_k w_k + n − k − 1 (Golub, Heath and Wahba, 1979): one
    small product for all alphas. Neighbouring rows that are alike mislead it, so that it may only say where to start, and is not believed
    where it turns out to be misled.
    """
    n, k = factor.left.shape
    values = factor.eigenvalues[None, :]
    column = like(np.asarray(alphas), values)[:, None]
    null = values <= factor.floor
    weight = (column + null) / (values * ~null + column + null)
    left_over = to_numpy(weight.sum(1)) + n - k - fit_intercept
    squares = rotated * rotated
    # Where U spans all rows nothing is outside, and the rounding of a difference would be all that is left as α → 0.
    outside = np.maximum(norm - to_numpy(cast(squares.sum(0), "float64")), 0.0) * (n > k + fit_intercept)
    residual = outside + to_numpy(cast(weight * weight, dtype_name(rotated)) @ squares).astype(np.float64)
    free = left_over > 1e-9 * n
    scale = np.divide(n, left_over, out=np.full(len(left_over), np.inf), where=free)
    criterion: Numbers = np.where(free[:, None], residual, 1.0) * scale[:, None] ** 2
    return criterion


def best(loss: Numbers) -> Numbers:
    """Return the position of the smallest loss of each target, the last of those that tie; NaN is never the smallest.

    Parameters
    ----------
    loss : ndarray of float64, (alpha, target)
        NaN where it was not evaluated.

    Returns
    -------
    ndarray of int, (target,)
    """
    known = np.where(np.isnan(loss), np.inf, loss)
    last: Numbers = len(loss) - 1 - np.argmin(known[::-1], axis=0)
    return last


def doubts(factor: RidgeFactor, alphas: Numbers) -> Numbers:
    """Return how far the guesses for two alphas may be apart from the losses, relative to them: the nearer the fits, the less.

    Parameters
    ----------
    factor : RidgeFactor
    alphas : ndarray of float64, (alpha,)

    Returns
    -------
    ndarray of float64, (alpha, alpha)
        With s = λ/(λ+α), the standard deviation of zᵀ(H_a − H_b)z / n for white noise z is √(2 Σ_k (s_a − s_b)²) / n; some of those.
    """
    values = to_numpy(factor.eigenvalues)
    kept = values / (values + np.maximum(alphas, max(factor.floor, np.finfo(np.float64).tiny))[:, None])
    products = kept @ kept.T
    squares = np.diag(products)
    return np.asarray(_DOUBT / len(factor.left) * np.sqrt(2 * np.maximum(squares[:, None] + squares - 2 * products, 0.0)))


def climb(evaluate: Loss, guess: Numbers, doubt: Numbers, unit: Numbers, order: Order = iter) -> Numbers:
    """Evaluate the best guess, its better neighbour and other contenders, then neighbours until the best lies between two worse.

    Where the best is then far worse than its guess, the guess was of no use, and all alphas are evaluated.

    Parameters
    ----------
    evaluate : callable
        From the position of an alpha, and the targets wanted (a slice or positions), to their losses.
    guess : ndarray of float64, (alpha, target)
        Of the losses, up to a factor for each target.
    doubt : ndarray of float64, (alpha, alpha)
        How exact the difference of two guesses is, relative to them. Guesses that near to the smallest are evaluated in any case,
        as a flat curve may have more than one valley; a neighbour of the best is not, where it is clearly worse: as much as the
        other neighbour loses beyond its guess, if it is little, this one will lose less.
    unit : ndarray of float64, (target,)
        What a loss is at most, over its guess, where the guess is of use.
    order : callable
        In which alphas are evaluated.

    Returns
    -------
    ndarray of float64, (alpha, target)
        Losses; NaN where nothing was evaluated.
    """
    n_alphas, targets, pair = len(guess), np.arange(guess.shape[1]), first_pair(guess)
    loss, seen, misled = np.full(guess.shape, np.nan), np.zeros(guess.shape, dtype=bool), None
    wanted = guess <= (1 + doubt[:, best(guess)]) * guess.min(axis=0)
    wanted[pair, targets] = wanted[np.minimum(pair + 1, n_alphas - 1), targets] = True
    while True:
        for alpha in order(np.flatnonzero(wanted.any(axis=1)).tolist()):
            some = np.flatnonzero(wanted[alpha])
            loss[alpha, some], seen[alpha, some] = evaluate(alpha, some), True
        top = best(loss)
        wanted = np.zeros(guess.shape, dtype=bool)
        below, above = np.maximum(top - 1, 0), np.minimum(top + 1, n_alphas - 1)
        for beside, other in ((below, above), (above, below)):
            with np.errstate(divide="ignore", invalid="ignore"):
                foreseen, rise = (guess[at, targets] / guess[top, targets] - 1 for at in (other, beside))
                surprise = loss[other, targets] / loss[top, targets] - 1 - foreseen  # NaN where it was not evaluated
            clear = (other != top) & (abs(surprise) < doubt[other, top]) & (rise - surprise > doubt[beside, top])
            wanted[beside, targets] |= ~seen[beside, targets] & ~clear
        if not wanted.any() and misled is None:
            misled = loss[top, targets] > unit * guess[top, targets]
            wanted = misled & ~seen
        if not wanted.any():
            return loss


def first_pair(guess: Numbers) -> Numbers:
    """Return the position of the lower of the two neighbouring alphas with the best guesses: the best one, and one beside it.

    Parameters
    ----------
    guess : ndarray of float64, (alpha, target)

    Returns
    -------
    ndarray of int, (target,)
        0 where there is one alpha.
    """
    start, targets = best(guess), np.arange(guess.shape[1])
    beyond = np.full((1, guess.shape[1]), np.inf)
    padded = np.concatenate([beyond, guess, beyond])
    lower: Numbers = start - (padded[start, targets] < padded[start + 2, targets])
    return np.clip(lower, 0, max(len(guess) - 2, 0))


def search_losses(held: HeldOut, tile: HeldTile, alphas: Numbers, *, screen: bool, checked: Numbers) -> tuple[Numbers, Numbers]:
    """Return the losses of the targets of one tile at the alphas that a search evaluates.

    Parameters
    ----------
    held : HeldOut
    tile : HeldTile
    alphas : ndarray of float64, (alpha,)
        Ascending.
    screen : bool
        Climb from the alpha that generalised cross-validation suggests; False evaluates all. So does the criterion "pearson", whose
        curve often has several peaks that a criterion of squared errors cannot foresee. So do targets of which the suggestion turns out
        to be wrong, which shows in what it says of the training means: the loss of those costs nothing.
    checked : ndarray of bool, (target,)
        Targets for which all alphas are evaluated after the search.

    Returns
    -------
    found : ndarray of float64, (alpha, target)
        NaN where the search did not evaluate.
    exhaustive : ndarray of float64, (alpha, target)
        The same, and the rest of the targets that are checked.
    """
    t = len(tile.norm)

    def evaluate(alpha: int, columns: Numbers | slice) -> Numbers:
        return held.loss(tile, float(alphas[alpha]), columns)

    order = partial(held.in_turn, alphas)
    if not screen or held.criterion == "pearson":
        found = np.empty((len(alphas), t))
        for alpha in order(range(len(alphas))):
            found[alpha] = evaluate(alpha, slice(0, t))
        return found, found
    n = len(held.factor.left)
    guess = generalised_cross_validation(held.factor, tile.rotated, tile.norm, alphas, fit_intercept=held.fit_intercept)
    unfitted = tile.norm * (n / (n - held.fit_intercept)) ** 2  # the criterion, as α → ∞
    unit = np.divide(held.unfitted(tile), unfitted, out=np.full(t, np.inf), where=unfitted > 0)
    unit /= max(1 - _MISLED / n**0.5, 1e-9)
    found = climb(evaluate, guess, doubts(held.factor, alphas), unit, order)
    exhaustive = found.copy()
    for alpha, row in enumerate(exhaustive):
        some = np.flatnonzero(checked & np.isnan(row))
        if some.size:
            row[some] = evaluate(alpha, some)
    return found, exhaustive
