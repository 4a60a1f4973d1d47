import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from brainalign.engine.predictivity import linear_predictivities


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
            for alpha in np.logspace(-4, 4, 9) * scale:
                error = [
                    y[rows[b], column] - RidgeCV([alpha]).fit(x[rows[a]], y[rows[a], column]).predict(x[rows[b]])
                    for a, b in inner
                ]
                losses.append(np.concatenate(error) @ np.concatenate(error))
            best = (np.logspace(-4, 4, 9) * scale)[np.argmin(losses)]
            fitted = RidgeCV([best]).fit(x[rows], y[rows, column]).predict(x[held])
            predicted[held, column] = fitted - fitted.mean()
            centred[held, column] = y[held, column] - y[held, column].mean()
    r = (predicted * centred).sum(0) / np.sqrt((predicted**2).sum(0) * (centred**2).sum(0))
    found = linear_predictivities([x, y], [y[:, :1], y])
    np.testing.assert_allclose(found[0], [r[0], r.mean()], atol=1e-8)
    assert (found[1] > 0.99).all()


def test_unrelated_systems_and_still_ones():
    rng = np.random.default_rng(1)
    scores = linear_predictivities([rng.normal(size=(40, 5)) for _ in range(5)], [rng.normal(size=(40, 10)) for _ in range(3)])
    assert abs(scores.mean()) < 0.15
    y, still = rng.normal(size=(40, 3)), np.ones((40, 2))
    found = linear_predictivities([y, still], [y, np.c_[y, still], still])
    assert found[0, 0] == pytest.approx(found[0, 1])
    assert np.isnan(found[:, 2]).all()
    assert np.isnan(found[1]).all()
    assert np.isnan(linear_predictivities([y], [still])).all()
