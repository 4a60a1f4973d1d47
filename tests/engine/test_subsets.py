"""A subset is decomposed from what is known of the whole as if it had been given alone."""

import numpy as np
import pytest
import torch

from brainalign.engine.backend import to_numpy
from brainalign.engine.factor import coefficients, factorise
from brainalign.engine.solvers import smallest_fit
from brainalign.engine.subsets import Subsets

FOLDS = [(np.setdiff1d(np.arange(40), test), test) for test in np.array_split(np.arange(40), 4)]


@pytest.mark.parametrize("p", [12, 35, 90])  # primal, dual for the folds' sake, dual
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("loud", [1.0, 1e6], ids=["", "what is left out has most of the variance"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_weights_are_those_of_the_subset_alone(p, fit_intercept, loud, library):
    rng = np.random.default_rng(0)
    X, Y, kept = rng.normal(size=(40, p)) + 5, rng.normal(size=(40, 3)), rng.random(p) < 0.8
    kept[0] = False
    X[:, 0] *= loud
    alphas, centred = np.array([1e-6, 1.0, 100.0]), Y - Y.mean(0) * fit_intercept
    given = torch.as_tensor(X) if library == "torch" else X
    whole = Subsets.of(given, FOLDS, fit_intercept=fit_intercept, dtype="float64")
    for some in (kept, ~kept, kept):
        ours, alone = whole.factor(some), factorise(X[:, some], fit_intercept=fit_intercept)
        ours_left = to_numpy(ours.left)
        found = to_numpy(
            coefficients(ours, torch.as_tensor(ours_left.T @ centred) if library == "torch" else ours_left.T @ centred, alphas)
        )
        np.testing.assert_allclose(found, coefficients(alone, alone.left.T @ centred, alphas), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(to_numpy(ours.mean), alone.mean, rtol=1e-12, atol=1e-12)


def test_the_smallest_fit_decides_on_the_form():
    X = np.random.default_rng(0).normal(size=(40, 35))
    assert smallest_fit(40, FOLDS) == 30
    assert smallest_fit(40, None) == 40
    assert Subsets.of(X, FOLDS).factor(np.arange(35) > 0).basis is None
    assert Subsets.of(X, FOLDS).factor(np.arange(35) > 10).basis is not None
    assert Subsets.of(X).factor(np.arange(35) > 0).basis is not None
