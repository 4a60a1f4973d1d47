"""Weighted sums equal those of rows that were really repeated."""

import numpy as np
import pytest

from brainalign.engine.moments import fold_sums
from brainalign.engine.weighted import weighted_fold_sums

SUMS = ("target_ss", "prediction_ss", "cross", "error_ss")


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_weights_are_repeats(offset):
    rng = np.random.default_rng(0)
    y, p = rng.normal(size=(2, 30, 4)) + offset
    weights = rng.multinomial(30, np.full(30, 1 / 30), size=5)
    found = weighted_fold_sums(y, p, weights.astype(float))
    for draw, count in enumerate(weights):
        rows = np.repeat(np.arange(30), count)
        expected = fold_sums(y[rows], p[rows])
        for name in SUMS:
            np.testing.assert_allclose(getattr(found, name)[draw], getattr(expected, name), rtol=1e-9)


def test_a_draw_of_one_row_or_none_has_no_variance():
    y = np.random.default_rng(0).normal(size=(6, 2)) + 3.0
    found = weighted_fold_sums(y, y + 1, np.array([[0, 4.0, 0, 0, 0, 0], np.zeros(6)]))
    assert (found.target_ss == 0).all()
    assert (found.cross == 0).all()
    np.testing.assert_allclose(found.error_ss, [[4.0, 4.0], [0.0, 0.0]])
