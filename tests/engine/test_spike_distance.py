import numpy as np
import pytest

from brainalign.engine.spike_distance import van_rossum, victor_purpura

RNG = np.random.default_rng(0)


def train(n):
    return np.sort(RNG.uniform(0, 1, size=n))


def by_hand(a, b, cost):
    """Return the cheapest way, looking at all of them."""
    if not len(a) or not len(b):
        return len(a) + len(b)
    return min(by_hand(a[1:], b, cost) + 1, by_hand(a, b[1:], cost) + 1, by_hand(a[1:], b[1:], cost) + cost * abs(a[0] - b[0]))


@pytest.mark.parametrize("cost", [0.0, 0.7, 5.0, 300.0])
def test_the_recursion_finds_what_looking_at_all_ways_does(cost):
    trains = [train(n) for n in (0, 1, 3, 4, 2, 5)]
    found = victor_purpura(trains, cost)
    wanted = [[by_hand(a, b, cost) for b in trains] for a in trains]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_the_ends_of_the_scale():
    shared = train(3)
    trains = [np.sort(np.concatenate([shared, train(n)])) for n in (1, 4, 0)] + [train(2)]
    counts = np.array([len(t) for t in trains])
    np.testing.assert_array_equal(victor_purpura(trains, 0.0), np.abs(counts[:, None] - counts))
    for cost in (1e9, np.inf):
        unshared = [[len(np.setxor1d(a, b)) for b in trains] for a in trains]
        np.testing.assert_allclose(victor_purpura(trains, cost), unshared)


def test_tiles_change_nothing(monkeypatch):
    trains = [train(n) for n in RNG.integers(0, 9, size=12)]
    whole = victor_purpura(trains, 3.0)
    monkeypatch.setattr("brainalign.engine.spike_distance._BLOCK", 20)
    np.testing.assert_array_equal(victor_purpura(trains, 3.0), whole)
    assert victor_purpura([np.array([])] * 2, 1.0).tolist() == [[0, 0], [0, 0]]


def test_trains_that_decay_are_those_of_the_integral():
    tau, step = 0.05, 1e-4
    counts, times = RNG.integers(0, 2, size=(4, 20)), np.arange(20) / 20
    grid = np.arange(0, 3, step)
    decayed = (counts[:, :, None] * np.where(grid >= times[:, None], np.exp(-(grid - times[:, None]) / tau), 0)).sum(axis=1)
    wanted = np.square(decayed[:, None] - decayed).sum(axis=2) * step / tau
    np.testing.assert_allclose(van_rossum(counts, times, tau), wanted, rtol=5e-3)


def test_short_and_long_decays():
    counts, times = RNG.integers(0, 2, size=(5, 30)), np.arange(30.0)
    unshared = np.abs(counts[:, None] - counts).sum(axis=2)
    np.testing.assert_allclose(van_rossum(counts, times, 1e-3), unshared / 2, atol=1e-12)
    n = counts.sum(axis=1)
    np.testing.assert_allclose(van_rossum(counts, times, np.inf), (n[:, None] - n) ** 2 / 2, atol=1e-9)


def test_neurons_are_compared_with_themselves():
    counts, times = RNG.poisson(0.3, size=(4, 3, 15)), np.arange(15.0)
    each = sum(van_rossum(counts[:, i], times, 2.0) for i in range(3))
    np.testing.assert_allclose(van_rossum(counts, times, 2.0), each, atol=1e-12)
