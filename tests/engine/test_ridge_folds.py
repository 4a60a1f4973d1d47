"""Every kind of fold gives the errors of a refit; which kind it is follows from sizes."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.preprocessing import StandardScaler

from brainalign.engine.factor import factorise
from brainalign.engine.ridge_folds import Refitted, Residual, Source, Spanning, Training, group_folds


def problem(n, p, n_targets=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) + 5
    Y = X @ rng.normal(size=(p, n_targets)) + 3 * rng.normal(size=(n, n_targets))
    return X, Y - Y.mean(0)


def blocks(n, k):
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), k)]


def gap(n, k):
    return [(train[(train < test[0] - 3) | (train > test[-1] + 3)], test) for train, test in blocks(n, k)]


def bootstrap(n, k):
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, n, n) for _ in range(k)]
    return [(train, np.setdiff1d(np.arange(n), train)) for train in drawn]


def shuffled(n, k):
    rng = np.random.default_rng(2)
    orders = [rng.permutation(n) for _ in range(k)]
    return [(order[n // 4 :], order[: n // 4]) for order in orders]


def folds_first(group, error):
    """(fold, test row, target)"""
    return np.einsum("ptfr->pfrt", group.by_fold(error)).reshape(*group.tested.shape, -1)


CASES = [
    (60, 20, blocks, 4, Training), (60, 20, blocks, 60, Residual), (80, 3, blocks, 2, Training), (60, 100, blocks, 4, Spanning),
    (60, 100, blocks, 60, Spanning), (60, 20, gap, 4, Training), (60, 100, gap, 6, Spanning), (61, 20, blocks, 4, Training),
    (60, 20, bootstrap, 3, Refitted), (60, 100, bootstrap, 3, Refitted), (60, 20, shuffled, 5, Training),
    (60, 100, shuffled, 5, Spanning), (60, 50, blocks, 4, Refitted), (60, 100, blocks, 2, Spanning),
]  # fmt: skip


@pytest.mark.parametrize(("n", "p", "make", "n_folds", "kind"), CASES)
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [1e-2, 10.0])
def test_every_kind_of_fold_gives_the_errors_of_a_refit(n, p, make, n_folds, kind, fit_intercept, alpha):
    X, Y = problem(n, p)
    splits = make(n, n_folds)
    factor = factorise(X, fit_intercept=fit_intercept)
    groups = group_folds(Source(factor, fit_intercept, None, False), splits)
    assert {type(group) for group in groups} == {kind}
    assert sum(len(group.tested) for group in groups) == n_folds
    found = {}
    for group in groups:
        error = group.error(group.operator(alpha), group.move(group.turn(Y), Y.T @ factor.left), group.truth(Y))
        found |= {tuple(rows): part for rows, part in zip(group.tested, folds_first(group, error), strict=True)}
    for train, test in splits:
        model = SklearnRidge(alpha=alpha, fit_intercept=fit_intercept, solver="svd").fit(X[train], Y[train])
        np.testing.assert_allclose(found[tuple(test)], model.predict(X[test]) - Y[test], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("p", [20, 100])
def test_columns_may_be_standardised_within_each_fold(p):
    X, Y = problem(60, p)
    X[:, 0] *= 100
    X[:50, 1] = 7.0  # constant where fold 3 trains
    splits = blocks(60, 6)
    groups = group_folds(Source(factorise(X), True, None, True), splits)
    for group, (train, test) in zip(groups, splits, strict=True):
        scaler = StandardScaler().fit(X[train])
        model = SklearnRidge(alpha=5.0, solver="svd").fit(scaler.transform(X[train]), Y[train])
        error = group.error(group.operator(5.0), group.move(group.turn(Y), None), group.truth(Y))
        np.testing.assert_allclose(
            folds_first(group, error)[0], model.predict(scaler.transform(X[test])) - Y[test], rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("make", [blocks, bootstrap])
@pytest.mark.parametrize("p", [8, 60])
def test_weighted_rows(make, p):
    X, Y = problem(40, p)
    weights = np.random.default_rng(4).uniform(0.3, 3, 40)
    root = weights[:, None] ** 0.5
    Y = Y - np.average(Y, axis=0, weights=weights)
    factor = factorise(X, weights=weights)
    for group in group_folds(Source(factor, True, weights, False), make(40, 4)):
        error = group.error(
            group.operator(2.0), group.move(group.turn(root * Y), (root * Y).T @ factor.left), group.truth(root * Y)
        )
        for test, found in zip(group.tested, folds_first(group, error), strict=True):
            train = group.train if isinstance(group, Refitted) else np.setdiff1d(np.arange(40), test)
            model = SklearnRidge(alpha=2.0, solver="svd").fit(X[train], Y[train], sample_weight=weights[train])
            np.testing.assert_allclose(found, root[test] * (model.predict(X[test]) - Y[test]), rtol=1e-8, atol=1e-9)
