"""p-values block by block are those of all scores at once."""

import numpy as np

from brainalign.engine.chance import Chance
from brainalign.engine.resample import false_discovery_rate, p_of_the_maximum, p_values


def test_blocks_give_what_all_at_once_give():
    rng = np.random.default_rng(0)
    observed, null = rng.normal(size=(10, 3)) + 1, rng.normal(size=(50, 10, 3))
    observed[4] = np.nan
    scale = np.array([1.0, 2.0, 0.5])
    chance = Chance((10, 3), 50)
    for at in (slice(0, 4), slice(4, 5), slice(5, 10)):
        chance.add(at, observed[at], null[:, at], scale)
    found = chance.found()
    np.testing.assert_array_equal(found["p_value"], p_values(observed, null))
    np.testing.assert_array_equal(found["p_value_fdr"], false_discovery_rate(p_values(observed, null)))
    np.testing.assert_array_equal(found["p_value_max"], p_of_the_maximum(observed * scale, null * scale))


def test_equal_arrangements_summed_in_another_order_count_as_equal():
    chance = Chance((1,), 1)
    chance.add(slice(0, 1), np.array([0.1 + 0.2]), np.array([[0.3]]))
    assert chance.found()["p_value"].item() == 1.0
