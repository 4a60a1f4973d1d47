import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from brainalign.engine.predictivity import linear_predictivity


def test_it_is_nested_ridge_written_out():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 6))
    y = x[:, :3] @ rng.normal(size=(3, 4)) + rng.normal(size=(40, 4))
    order = np.concatenate([np.arange(40)[fold::5] for fold in range(5)])
    scale = x.var(axis=0).sum() * 40 / 6
    predicted, centred = np.empty_like(y), np.empty_like(y)
    for train, test in KFold(5).split(order):
        rows, held = np.sort(order[train]), order[test]
        inner = [(np.flatnonzero(np.arange(32) % 5 != k), np.flatnonzero(np.arange(32) % 5 == k)) for k in range(5)]
        for column in range(4):
            losses = []
            for alpha in np.logspace(-5, 5, 11) * scale:
                error = [
                    y[rows[b], column] - RidgeCV([alpha]).fit(x[rows[a]], y[rows[a], column]).predict(x[rows[b]]) for a, b in inner
                ]
                losses.append(np.concatenate(error) @ np.concatenate(error))
            best = (np.logspace(-5, 5, 11) * scale)[np.argmin(losses)]
            fitted = RidgeCV([best]).fit(x[rows], y[rows, column]).predict(x[held])
            predicted[held, column] = fitted - fitted.mean()
            centred[held, column] = y[held, column] - y[held, column].mean()
    r = (predicted * centred).sum(0) / np.sqrt((predicted**2).sum(0) * (centred**2).sum(0))
    assert linear_predictivity(x, y) == pytest.approx(r.mean(), abs=1e-8)


def test_unrelated_systems_and_still_ones():
    rng = np.random.default_rng(1)
    scores = [linear_predictivity(rng.normal(size=(40, 5)), rng.normal(size=(40, 10))) for _ in range(10)]
    assert abs(np.mean(scores)) < 0.15
    y = rng.normal(size=(40, 3))
    with_still = np.c_[y, np.ones(40)]
    assert linear_predictivity(y, with_still) == pytest.approx(linear_predictivity(y, y))
    assert np.isnan(linear_predictivity(y, np.ones((40, 2))))
    assert np.isnan(linear_predictivity(np.ones((40, 2)), y)) or linear_predictivity(np.ones((40, 2)), y) == 0
