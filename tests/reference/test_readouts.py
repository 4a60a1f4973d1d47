"""Readouts of maps against scikit-learn: every pool, penalty and fold fitted one by one."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

import brainalign as ba
from brainalign.engine.factorised import alternate
from brainalign.engine.spatial import gaussian_masks
from brainalign.models.places import field_of_view

ALPHAS = [0.1, 10.0, 1000.0]
SIZES = [0.05, 0.3]


@pytest.fixture
def study():
    rng = np.random.default_rng(0)
    maps = rng.normal(2.0, 1.0, size=(60, 3, 4, 4))
    y = np.stack([maps[:, :, 1, 2] @ [1.0, -2.0, 0.5], maps[:, 0].mean(axis=(1, 2)) * 4], axis=1) + rng.normal(size=(60, 2))
    return maps, y, [(train, test) for train, test in KFold(4).split(maps)]


def test_fwrf_is_a_search_over_pools_penalties_and_folds(study):
    maps, y, folds = study
    view = field_of_view(maps, owner="test").maps[0]
    centres, sizes = np.repeat(view.points, len(SIZES), axis=0), np.tile(SIZES, len(view.points))
    model = ba.SpatialReadout(sizes=SIZES, alphas=ALPHAS, cv=folds, dtype="float64").fit(maps, y)
    for t in range(2):
        best = (np.inf, None, None)
        for k in range(len(sizes)):
            mask = gaussian_masks(view.points, view.cell, centres[k : k + 1], sizes[k : k + 1])[0]
            pooled = maps.reshape(60, 3, 16) @ mask
            for alpha in ALPHAS:
                fits = ((Ridge(alpha=alpha).fit(pooled[a], y[a, t]), b) for a, b in folds)
                error = sum(((fit.predict(pooled[b]) - y[b, t]) ** 2).sum() for fit, b in fits)
                if error < best[0]:
                    best = (error, k, alpha)
        _, k, alpha = best
        assert [float(value[t]) for value in model.rf_.values()] == pytest.approx([*centres[k], sizes[k]])
        assert model.alpha_[t] == alpha
        mask = gaussian_masks(view.points, view.cell, centres[k : k + 1], sizes[k : k + 1])[0]
        expected = Ridge(alpha=alpha).fit(maps.reshape(60, 3, 16) @ mask, y[:, t]).predict(maps.reshape(60, 3, 16) @ mask)
        np.testing.assert_allclose(model.predict(maps)[:, t], expected, atol=1e-9)
        spread = sum(((y[b, t] - y[b, t].mean()) ** 2).sum() for _, b in folds)
        assert model.cv_score_[t] == pytest.approx(1 - best[0] / spread, abs=1e-9)


def test_each_alternation_is_two_ridge_regressions(study):
    maps, y, _ = study
    x = (maps - maps.mean(axis=0)).reshape(60, 3, 16).transpose(0, 2, 1)
    rng = np.random.default_rng(1)
    start = rng.normal(size=(16, 1)), rng.normal(size=(3, 1))
    path = alternate(x, y[:, :1] - y[:, :1].mean(), *start, np.array([2.0]), 3)
    mask, target = start[0][:, 0], y[:, 0] - y[:, 0].mean()
    for _ in range(3):
        weights = Ridge(alpha=2.0, fit_intercept=False).fit(np.einsum("npc,p->nc", x, mask), target).coef_
        mask = Ridge(alpha=2.0, fit_intercept=False).fit(x @ weights, target).coef_
        balance = np.sqrt(np.linalg.norm(mask) / np.linalg.norm(weights))
        mask, weights = mask / balance, weights * balance
    np.testing.assert_allclose(path.spatial[:, 0], mask, atol=1e-9)
    np.testing.assert_allclose(path.channel[:, 0], weights, atol=1e-9)
