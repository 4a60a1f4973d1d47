"""Stacked regression against the same steps by hand: scikit-learn's ridge, fold by fold, and the solvers of scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize, nnls
from sklearn.linear_model import Ridge as SklearnRidge

import brainalign as ba


def by_hand(parts, Y, folds, alpha):
    """Return out-of-fold predictions and truth, as deviations from training means, and the predictions of full fits."""
    D, r = [], []
    for train, test in folds:
        mean = Y[train].mean(0)
        D.append([SklearnRidge(alpha).fit(part[train], Y[train]).predict(part[test]) - mean for part in parts])
        r.append(Y[test] - mean)
    whole = [SklearnRidge(alpha).fit(part, Y).predict(part) - Y.mean(0) for part in parts]
    return np.concatenate(D, axis=1), np.concatenate(r), np.stack(whole)


@pytest.mark.parametrize(("n", "p"), [(90, 10), (60, 120)])
@pytest.mark.parametrize("weights", ["nonnegative", "simplex"])
def test_equal_to_the_same_steps_by_hand(n, p, weights):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3 * p)) + 1
    Y = X[:, : 2 * p] @ rng.normal(size=(2 * p, 4)) + p**0.5 * rng.normal(size=(n, 4)) + 2
    folds = [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), 4)]
    bands = np.repeat(["a", "b", "c"], p)
    ours = ba.Stacked(ba.Ridge(alphas=5.0, dtype="float64"), bands=bands, weights=weights, cv=folds).fit(X, Y)
    D, r, whole = by_hand(np.split(X, 3, axis=1), Y, folds, 5.0)
    size = np.sqrt((r**2).mean(0))
    for k in range(4):
        d = D[:, :, k].T
        if weights == "nonnegative":  # each weight counts as one more row
            theirs = nnls(np.r_[d, size[k] * np.eye(3)], np.r_[r[:, k], np.zeros(3)])[0]
            np.testing.assert_allclose(ours.band_weights_[:, k], theirs, atol=1e-8)
        else:
            options = {"bounds": [(0, 1)] * 3, "constraints": [{"type": "eq", "fun": lambda s: s.sum() - 1}], "tol": 1e-12}
            theirs = minimize(lambda s, d=d, k=k: ((r[:, k] - d @ s) ** 2).mean(), np.full(3, 1 / 3), method="SLSQP", **options).x
            np.testing.assert_allclose(ours.band_weights_[:, k], theirs, atol=1e-5)
    np.testing.assert_allclose(ours.predict(X), Y.mean(0) + (ours.band_weights_[:, None] * whole).sum(0), atol=1e-6)
