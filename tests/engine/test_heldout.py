"""Known answers: scikit-learn's Ridge, refitted fold by fold, and sums written out."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge

from brainalign.engine.factor import factorise
from brainalign.engine.heldout import HeldOut

SHAPES = [(60, 20), (60, 100), (60, 52), (150, 4)]


def problem(n, p, n_targets=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 5
    return X, X @ rng.normal(size=(p, n_targets)) + 3 * rng.normal(size=(n, n_targets)) + 7


def unequal_folds(n, seed=1):
    order = np.random.default_rng(seed).permutation(n)
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.split(order, [n // 8, n // 3, n - n // 3])]


def refitted(X, Y, alpha, splits, weights=None):
    for train, test in splits:
        w = None if weights is None else weights[train]
        model = SklearnRidge(alpha=alpha, solver="svd").fit(X[train], Y[train], sample_weight=w)
        yield Y[test], model.predict(X[test]), np.ones(len(test)) if weights is None else weights[test]


def losses(X, Y, alpha, splits, criterion, weights=None, **options):
    root = 1.0 if weights is None else weights[:, None] ** 0.5
    held = HeldOut(factorise(X, weights=weights), splits, criterion=criterion, weights=weights, **options)
    tile = held.prepare(root * (Y - np.average(Y, axis=0, weights=weights)))
    loss = held.loss(tile, alpha, slice(0, Y.shape[1]))
    return loss, held.score(loss[None], tile, np.ones(Y.shape[1]))[0]


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_criteria_are_pooled_over_folds_around_their_means(n, p, weighted):
    X, Y = problem(n, p)
    splits = unequal_folds(n)
    weights = np.random.default_rng(2).uniform(0.5, 2, n) if weighted else None
    squares, spread, total, cross, prediction_ss = 0, 0, 0, 0, 0
    for y, predicted, w in refitted(X, Y, 3.0, splits, weights):
        w = w[:, None]
        squares, total = squares + (w * (y - predicted) ** 2).sum(0), total + w.sum()
        apart, moved = (a - (w * a).sum(0) / w.sum() for a in (y, predicted))
        spread, cross, prediction_ss = (
            spread + (w * apart**2).sum(0), cross + (w * apart * moved).sum(0), prediction_ss + (w * moved**2).sum(0)
        )  # fmt: skip
    expected = {"r2": 1 - squares / spread, "mse": -squares / total, "pearson": cross / np.sqrt(spread * prediction_ss)}
    for criterion, value in expected.items():
        np.testing.assert_allclose(losses(X, Y, 3.0, splits, criterion, weights)[1], value, rtol=1e-8)


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("criterion", ["r2", "pearson"])
def test_weights_are_copies_of_rows(n, p, criterion):
    X, Y = problem(n, p)
    copies = np.random.default_rng(3).integers(1, 4, n)
    rows = np.repeat(np.arange(n), copies)
    splits = unequal_folds(n)
    twice = [tuple(np.flatnonzero(np.isin(rows, part)) for part in fold) for fold in splits]
    weighted, _ = losses(X, Y, 3.0, splits, criterion, copies.astype(float))
    repeated, _ = losses(X[rows], Y[rows], 3.0, twice, criterion)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-8)


@pytest.mark.parametrize(("n", "p"), SHAPES)
@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"standardize": True}])
@pytest.mark.parametrize("weighted", [False, True])
def test_what_is_not_fitted_at_all_loses_what_the_largest_alpha_does(n, p, options, weighted):
    X, Y = problem(n, p)
    weights = np.random.default_rng(2).uniform(0.5, 2, n) if weighted else None
    factor = factorise(X, weights=weights, fit_intercept=options.get("fit_intercept", True))
    held = HeldOut(factor, unequal_folds(n), weights=weights, **options)
    mean = np.average(Y, axis=0, weights=weights) * held.fit_intercept
    tile = held.prepare((Y - mean) * (1.0 if weights is None else weights[:, None] ** 0.5))
    np.testing.assert_allclose(held.unfitted(tile), held.loss(tile, 1e15, slice(0, 4)), rtol=1e-7)


def test_correlations_over_noise_are_centred_on_zero():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 400))
    pairs = [(np.setdiff1d(np.arange(60), [i, i + 1]), np.array([i, i + 1])) for i in range(0, 60, 2)]
    loss, r = losses(X, Y, 1e3, pairs, "pearson")
    assert abs(r.mean()) < 0.15  # predictions of left-out rows, concatenated, would correlate at about −1
    np.testing.assert_array_equal(loss, -r)


def test_a_target_that_is_constant_within_folds_is_undefined_and_never_zero():
    X, Y = problem(40, 5)
    blocks = [(np.setdiff1d(np.arange(40), test), test) for test in np.split(np.arange(40), 4)]
    Y[:, 1] = np.repeat([0.1, 0.7, 0.3, 0.9], 10)
    Y[:10, 2] = 0.3
    for criterion in ("r2", "pearson"):
        _, score = losses(X, Y, 1.0, blocks, criterion)
        assert np.isnan(score).tolist() == [False, True, False, False]


@pytest.mark.parametrize(("n", "p"), SHAPES)
def test_rotations_and_columns_in_any_order(n, p):
    X, Y = problem(n, p, n_targets=9)
    Y = Y - Y.mean(0)
    factor = factorise(X)
    held = HeldOut(factor, unequal_folds(n))
    tile = held.prepare(Y)
    np.testing.assert_allclose(tile.rotated, factor.left.T @ Y, atol=1e-10)
    whole = held.loss(tile, 2.0, slice(0, 9))
    np.testing.assert_allclose(held.loss(tile, 2.0, slice(3, 7)), whole[3:7], rtol=1e-10)
    order = np.array([8, 0, 4, 2, 1, 3, 7, 6, 5])
    np.testing.assert_allclose(held.loss(tile, 2.0, order), whole[order], rtol=1e-10)


def test_a_loss_does_not_depend_on_which_targets_are_asked_for_beside_it():
    X, Y = problem(600, 500, n_targets=100)
    order = np.random.default_rng(0).permutation(600)
    splits = [(order[:300], order[300:]), (order[300:], order[:300])]
    held = HeldOut(factorise(X.astype(np.float32), dtype="float32"), splits)
    tile = held.prepare((Y - Y.mean(0)).astype(np.float32))
    together = held.loss(tile, 1e3, slice(0, 100))
    for some in ([], [3], [7, 60], list(range(20, 40))):
        # to the bit on most processors; some sum the products of fewer targets in another order
        np.testing.assert_allclose(held.loss(tile, 1e3, np.array(some, dtype=int)), together[some], rtol=1e-6)


def test_operators_are_kept_within_their_memory():
    X, Y = problem(60, 20)
    for memory, kept in ((0, 0), (60 * 21 * 8 * 2.5, 2), (1e9, 4)):
        held = HeldOut(factorise(X), unequal_folds(60), max_memory=memory)
        tile = held.prepare(Y - Y.mean(0))
        for alpha in (1.0, 2.0, 3.0, 4.0):
            held.loss(tile, alpha, slice(0, 4))
        assert len(held._operators) == kept
