import numpy as np
import pytest
from scipy.signal import lfilter

from brainalign.engine.factor import factorise
from brainalign.engine.heldout import HeldOut
from brainalign.engine.screening import best, climb, doubts, first_pair, generalised_cross_validation, search_losses

ALPHAS = np.logspace(-2, 5, 15)
TRUSTED = np.array([np.inf])  # a guess that no loss is above


def all_the_same(guess, doubt=0.01):
    return np.full((len(guess), len(guess)), doubt)


def problem(n, p, n_targets=200, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) / np.arange(1, p + 1) ** 0.5
    signal = X @ rng.normal(size=(p, n_targets))
    return X, signal / signal.std(0) * rng.uniform(0, 1, n_targets) + rng.normal(size=(n, n_targets))


def folds(n, k=5):
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), k)]


@pytest.mark.parametrize("p", [10, 60, 100])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_generalised_cross_validation_is_its_formula(p, fit_intercept):
    X, Y = problem(60, p, 3)
    Xc, Yc = (a - a.mean(0) if fit_intercept else a for a in (X, Y))
    factor = factorise(X, fit_intercept=fit_intercept)
    norm = (Yc**2).sum(0)
    found = generalised_cross_validation(factor, factor.left.T @ Yc, norm, ALPHAS, fit_intercept=fit_intercept)
    for row, alpha in zip(found, ALPHAS, strict=True):
        hat = Xc @ np.linalg.solve(Xc.T @ Xc + alpha * np.eye(p), Xc.T) + fit_intercept / 60
        free = 60 - np.trace(hat)
        np.testing.assert_allclose(row, ((Yc - (hat - fit_intercept / 60) @ Yc) ** 2).sum(0) * (60 / free) ** 2, rtol=1e-7)


@pytest.mark.parametrize("p", [10, 100])
def test_doubt_is_that_of_a_quadratic_form_of_noise(p):
    factor = factorise(problem(60, p, 1)[0])
    hats = [factor.left @ np.diag(factor.eigenvalues / (factor.eigenvalues + alpha)) @ factor.left.T for alpha in ALPHAS]
    found = doubts(factor, ALPHAS)
    for a, b in ((0, 1), (2, 9), (14, 0)):
        np.testing.assert_allclose(found[a, b], 2 * 2**0.5 * np.linalg.norm(hats[a] - hats[b]) / 60, rtol=1e-6)
    assert (found.diagonal() == 0).all()
    assert np.isfinite(doubts(factorise(np.ones((20, 3))), np.array([0.0, 1.0]))).all()


def test_a_fit_without_freedom_is_never_the_guess():
    X, Y = problem(20, 60, 4)
    factor = factorise(X)
    guess = generalised_cross_validation(factor, factor.left.T @ (Y - Y.mean(0)), (Y**2).sum(0), np.array([0.0, 1.0]))
    assert np.isinf(guess[0]).all()
    assert (best(guess) == 1).all()


def test_the_last_of_ties_is_best_and_nan_never():
    loss = np.array([[1.0, 2.0, np.nan], [1.0, np.nan, 5.0], [3.0, 2.0, np.nan]])
    assert best(loss).tolist() == [1, 2, 1]


@pytest.mark.parametrize("start", [0, 5, 11])
def test_climbs_down_into_every_valley(start):
    curve = 1 + np.abs(np.arange(12)[:, None] - np.array([0, 3, 7, 11])[None, :]).astype(float)
    guess = np.repeat(1 + np.abs(np.arange(12.0) - start)[:, None], 4, axis=1)
    asked = np.zeros(curve.shape, dtype=int)

    def evaluate(alpha, columns):
        asked[alpha, columns] += 1
        return curve[alpha, columns]

    loss = climb(evaluate, guess, all_the_same(guess), TRUSTED)
    assert best(loss).tolist() == [0, 3, 7, 11]
    assert asked.max() == 1
    assert (np.isnan(loss) == (asked == 0)).all()


def test_a_second_valley_is_found_where_it_is_a_contender():
    curve = np.array([3.0, 2.0, 4.0, 5.0, 1.0, 6.0])[:, None]
    evaluate = lambda alpha, columns: curve[alpha, columns]  # noqa: E731
    guess = np.array([3.0, 2.0, 4.0, 5.0, 2.1, 6.0])[:, None]
    assert best(climb(evaluate, guess, all_the_same(guess), TRUSTED)).tolist() == [1]
    assert best(climb(evaluate, guess, all_the_same(guess, 0.1), TRUSTED)).tolist() == [4]


STEEP, FLAT = (
    (5.0, 2.6),
    (2.04, 2.036),
)  # guesses on both sides of 2: the first is left out, or not, by what the second turns out to be
FOUND = [
    (STEEP, 2.6, 2), (STEEP, 2.61, 2), (STEEP, 2.63, 3), (STEEP, 2.56, 3), (STEEP, 3.5, 3),
    (FLAT, 2.036, 2), (FLAT, 2.055, 2), (FLAT, 2.057, 3), (FLAT, 2.02, 2), (FLAT, 2.01, 3),
]  # fmt: skip


@pytest.mark.parametrize(("guesses", "found", "n_evaluated"), FOUND)
def test_a_neighbour_that_is_clearly_worse_is_left_out_where_the_other_one_was_foreseen(guesses, found, n_evaluated):
    curve, guess = (np.array([9.0, guesses[0], 2.0, at, 9.0])[:, None] for at in (found, guesses[1]))
    loss = climb(lambda alpha, columns: curve[alpha, columns], guess, all_the_same(guess), TRUSTED)
    assert best(loss).tolist() == [2]
    assert np.isfinite(loss).sum() == n_evaluated


@pytest.mark.parametrize(("unit", "n_evaluated"), [(1.01, 2), (0.99, 6)])
def test_all_alphas_are_evaluated_where_the_best_is_far_worse_than_its_guess(unit, n_evaluated):
    curve, guess = (np.array([9.0, 3.0, 2.0, 3.0, 9.0, at])[:, None] for at in (1.0, 9.0))
    loss = climb(lambda alpha, columns: curve[alpha, columns], guess, all_the_same(guess), np.array([unit]))
    assert np.isfinite(loss).sum() == n_evaluated
    assert best(loss).tolist() == [2 if n_evaluated == 2 else 5]


def test_the_first_pair_is_the_best_guess_and_its_better_neighbour():
    guess = np.array([[1.0, 3.0, 3.0, 4.0], [2.0, 1.0, 1.0, 3.0], [3.0, 2.0, 4.0, 2.0], [4.0, 4.0, 5.0, 1.0]])
    assert first_pair(guess).tolist() == [0, 1, 0, 2]
    assert first_pair(guess[:1]).tolist() == [0] * 4


@pytest.mark.parametrize("n_alphas", [1, 2, 3])
def test_short_grids(n_alphas):
    curve = np.arange(n_alphas, 0, -1.0)[:, None]
    found = climb(lambda alpha, columns: curve[alpha, columns], np.ones((n_alphas, 1)), all_the_same(curve), TRUSTED)
    assert best(found).tolist() == [n_alphas - 1]


@pytest.mark.parametrize(("n", "p"), [(120, 40), (100, 160)])
@pytest.mark.parametrize("criterion", ["r2", "pearson"])
def test_the_search_finds_what_all_alphas_find(n, p, criterion):
    X, Y = problem(n, p)
    held = HeldOut(factorise(X), folds(n), criterion=criterion)
    make = lambda: held.prepare(Y - Y.mean(0))  # noqa: E731
    everywhere, _ = search_losses(held, make(), ALPHAS, screen=False, checked=np.zeros(200, dtype=bool))
    found, exhaustive = search_losses(held, make(), ALPHAS, screen=True, checked=np.arange(200) < 20)
    assert (best(found) == best(everywhere)).mean() >= 0.999
    assert np.isnan(found).mean() > 0.2 or criterion == "pearson"
    np.testing.assert_allclose(exhaustive[:, :20], everywhere[:, :20], rtol=1e-10)
    known = ~np.isnan(found)
    np.testing.assert_allclose(found[known], everywhere[known], rtol=1e-10)


def autocorrelated(rho, n, m, rng):
    return lfilter([1], [1, -rho], rng.normal(size=(n + 100, m)), axis=0)[100:]


@pytest.mark.parametrize(("n", "p"), [(200, 100), (150, 250)])
@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_rows_that_are_alike_mislead_the_guess_and_not_the_search(n, p, rho):
    rng = np.random.default_rng(0)
    X = (autocorrelated(rho, n, p, rng) * np.arange(1, p + 1) ** -0.5) @ rng.normal(size=(p, p))
    signal = X @ rng.normal(size=(p, 400))
    Y = signal / signal.std(0) * rng.uniform(0, 1, 400) + autocorrelated(rho, n, 400, rng)
    blocks = np.array_split(np.arange(n), 5)
    held = HeldOut(factorise(X), [(np.setdiff1d(np.arange(n), block), block) for block in blocks])
    make = lambda: held.prepare(Y - Y.mean(0))  # noqa: E731
    alphas, nobody = np.logspace(-3, 6, 20) * (X**2).sum() / n, np.zeros(400, dtype=bool)
    everywhere, _ = search_losses(held, make(), alphas, screen=False, checked=nobody)
    found, _ = search_losses(held, make(), alphas, screen=True, checked=nobody)
    assert (best(found) == best(everywhere)).mean() >= 0.999
