"""Positions along a hierarchy, against the planted ones."""

import numpy as np
import pytest

from brainalign.engine.correlate import pearson_columns
from brainalign.engine.depth import centre_of_mass, depth_of_peak, exchanged_orders


@pytest.mark.parametrize(("peak", "by_peak", "by_mass"), [(1.0, 0.990, 0.998), (0.1, 0.901, 0.960), (0.03, 0.487, 0.688)])
def test_the_peak_is_biased_where_scores_are_low(peak, by_peak, by_mass):
    """Twelve layers, scores estimated with an sd of .03: the centre of mass keeps more of a planted hierarchy than the peak."""
    rng = np.random.default_rng(0)
    planted = np.linspace(0, 1, 3000)
    distance = np.arange(12)[:, None] - 11 * planted
    scores = peak * np.exp(-(distance**2) / (2 * 3.0**2)) + 0.03 * rng.normal(size=distance.shape)
    found = [depth_of_peak(scores), centre_of_mass(scores)]
    known = np.isfinite(found).all(axis=0)
    r = [float(pearson_columns(x[known], planted[known])) for x in found]
    assert r == pytest.approx([by_peak, by_mass], abs=0.02)


def test_positions_are_from_0_to_1_whatever_the_shape():
    scores = np.zeros((5, 3, 2))
    scores[[0, 2, 4], [0, 1, 2], :] = 0.4
    for place in (depth_of_peak, centre_of_mass):
        np.testing.assert_allclose(place(scores)[:, 0], [0, 0.5, 1])
        assert np.isnan(place(-scores - 0.1)).all()
        assert place(np.ones((1, 4))).tolist() == [0.0] * 4


def test_all_orders_where_there_are_few():
    assert exchanged_orders(3, 1000, np.random.default_rng(0)).shape == (5, 3)
    assert exchanged_orders(6, 100, np.random.default_rng(0)).shape == (719, 6)
    drawn = exchanged_orders(9, 100, np.random.default_rng(0))
    assert drawn.shape == (100, 9)
    assert (np.sort(drawn, axis=1) == np.arange(9)).all()
    assert exchanged_orders(1, 10, np.random.default_rng(0)).shape == (0, 1)
