"""Independent directions and variances of features, against planted ones."""

import numpy as np
import pytest

from brainalign.engine.spread import n_directions, spread

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "p", "planted"), [(50, 20, 7), (20, 50, 7), (30, 30, 29), (100, 3, 3), (10, 1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_planted_directions_are_counted(n, p, planted, dtype):
    values = (RNG.normal(size=(n, planted)) @ RNG.normal(size=(planted, p))).astype(dtype).astype(np.float64)
    assert n_directions(values) == min(planted, n - 1)
    assert n_directions(values + 20) == n_directions(values)


def test_what_does_not_vary_has_no_direction():
    assert n_directions(np.full((10, 4), 3.3)) == 0
    assert spread(np.full((10, 4), 3.3)) == (0.0, 0)


def test_one_large_feature_is_seen():
    values = RNG.normal(size=(4000, 11))
    values[:, 3] *= np.sqrt(10.0)
    share, massive = spread(values)
    assert share == pytest.approx(0.5, abs=0.03)
    assert massive == 0


@pytest.mark.parametrize("how", [lambda x: x * 300, lambda x: x + 300], ids=["by its spread", "by its mean"])
def test_massive_units_are_counted(how):
    values = RNG.normal(size=(200, 50))
    values[:, 7] = how(values[:, 7])
    assert spread(values)[1] == 1


def test_what_is_large_throughout_is_not_massive():
    assert spread(1000 + RNG.normal(size=(50, 20)))[1] == 0
