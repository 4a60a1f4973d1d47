"""PLS against scikit-learn, whose iteration is run until it is converged."""

import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression

import brainalign as ba


@pytest.mark.parametrize(("n", "p"), [(80, 20), (40, 100)])
@pytest.mark.parametrize("n_targets", [1, 6])
@pytest.mark.parametrize("n_components", [1, 5, 12])
def test_weights_and_predictions_equal_sklearn(n, p, n_targets, n_components):
    rng = np.random.default_rng(0)
    X, new = (rng.normal(size=(size, p)) @ np.diag(np.linspace(2, 0.2, p)) + 2 for size in (n, 15))
    Y = X @ rng.normal(size=(p, n_targets)) + 3 * rng.normal(size=(n, n_targets)) + 5
    theirs = PLSRegression(n_components, scale=False, tol=1e-20, max_iter=100_000).fit(X, Y)
    ours = ba.PLS(n_components, dtype="float64").fit(X, Y)
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.coef_ / scale, theirs.coef_.T / scale, atol=1e-6)
    np.testing.assert_allclose(ours.predict(new), theirs.predict(new).reshape(15, -1), rtol=1e-6, atol=1e-6 * Y.std())
    narrow = ba.PLS(n_components).fit(X, Y)
    np.testing.assert_allclose(narrow.predict(new), theirs.predict(new).reshape(15, -1), rtol=1e-4, atol=1e-4 * Y.std())
