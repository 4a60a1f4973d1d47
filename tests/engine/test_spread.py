"""Independent directions and sizes of features, against planted ones."""

import numpy as np
import pytest

from brainalign.engine.spread import directions, n_massive

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("n", "p", "planted"), [(50, 20, 7), (20, 50, 7), (30, 30, 29), (100, 3, 3), (10, 1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_planted_directions_are_counted(n, p, planted, dtype):
    values = (RNG.normal(size=(n, planted)) @ RNG.normal(size=(planted, p))).astype(dtype).astype(np.float64)
    assert directions(values)[0] == min(planted, n - 1)
    assert directions(values + 20)[0] == min(planted, n - 1)


@pytest.mark.parametrize("n", [8, 500])
def test_the_share_of_the_largest_direction_is_that_of_the_first_component(n):
    values = RNG.normal(size=(n, 10))
    values += 3 * RNG.normal(size=(n, 1))  # many features carry it, none is large
    singular = np.linalg.svd(values - values.mean(axis=0), compute_uv=False)
    assert directions(values)[1] == pytest.approx(singular[0] ** 2 / (singular**2).sum())


def test_what_does_not_vary_has_no_direction():
    assert directions(np.full((10, 4), 3.3)) == (0, 0.0)
    assert n_massive(np.full((10, 4), 3.3)) == 0
    assert directions(np.zeros((5, 0))) == (0, 0.0)


@pytest.mark.parametrize("how", [lambda x: x * 300, lambda x: x + 300], ids=["by its spread", "by its mean"])
def test_massive_features_are_counted(how):
    values = RNG.normal(size=(200, 50))
    values[:, 7] = how(values[:, 7])
    assert n_massive(values) == 1


def test_what_is_large_throughout_is_not_massive():
    assert n_massive(1000 + RNG.normal(size=(50, 20))) == 0
