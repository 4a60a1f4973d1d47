"""Agreement of maps equals scipy's, pair by pair."""

import numpy as np
from scipy.stats import kendalltau, spearmanr

from brainalign.engine.agreement import cosines, kendall_tau_b, rank_correlations, relative_changes, top_overlap


def test_they_equal_scipy_with_ties():
    a, b = np.random.default_rng(0).integers(5, size=(2, 3, 4, 12)).astype(float)
    for i in np.ndindex(3, 4):
        np.testing.assert_allclose(rank_correlations(a, b)[i], spearmanr(a[i], b[i]).statistic)
        np.testing.assert_allclose(kendall_tau_b(a, b)[i], kendalltau(a[i], b[i]).statistic)
        np.testing.assert_allclose(cosines(a, b)[i], a[i] @ b[i] / np.linalg.norm(a[i]) / np.linalg.norm(b[i]))


def test_the_same_and_the_opposite():
    a = np.random.default_rng(0).normal(size=(5, 9))
    assert (top_overlap(a, -a, 4) == 1.0).all()
    np.testing.assert_allclose(cosines(a, -2 * a), -1.0)
    np.testing.assert_allclose(relative_changes(a, 1.1 * a), 0.1)
    assert np.isnan(relative_changes(0 * a, a)).all()
    assert np.isnan(cosines(0 * a, a)).all()
