"""Surrogate maps: as smooth as the map, in other places, and a fair null for two smooth maps that share nothing."""

import numpy as np
import pytest
from scipy.stats import binom

from brainalign.engine.maps import correlations, spin_orders, spun_correlations, variogram_surrogates
from brainalign.engine.resample import p_values

RNG = np.random.default_rng(0)


def sphere(n):
    """Return n places spread evenly over a sphere of radius 100."""
    height, turn = 1 - 2 * (np.arange(n) + 0.5) / n, np.pi * (1 + 5**0.5) * np.arange(n)
    flat = np.sqrt(1 - height**2)
    return 100 * np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)


def smooth(places, n_maps, width):
    """Return maps whose correlation falls with distance as e^(−d²/2w²)."""
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    values, vectors = np.linalg.eigh(np.exp(-0.5 * (distance / width) ** 2))
    return (vectors * np.sqrt(np.maximum(values, 0))) @ RNG.normal(size=(len(places), n_maps))


def variogram(x, places, edges):
    first, second = np.triu_indices(len(places), 1)
    bins = np.digitize(np.linalg.norm(places[first] - places[second], axis=1), edges)
    half = 0.5 * (x[first] - x[second]) ** 2
    return np.array([half[bins == b].mean(axis=0) for b in range(1, len(edges))])


def test_a_rotated_map_keeps_its_distances():
    places = sphere(600)
    orders = spin_orders(places, np.zeros(600, dtype=int), 5, RNG)
    assert (orders >= 0).all()
    some = RNG.permutation(600)[:60]
    before = np.linalg.norm(places[some, None] - places[None, some], axis=2)
    for order in orders:
        after = np.linalg.norm(places[order[some], None] - places[order[some]][None], axis=2)
        assert np.abs(after - before).max() < 20  # the distance between neighbours is 14
        assert np.corrcoef(after.ravel(), before.ravel())[0, 1] > 0.98


def test_hemispheres_turn_as_mirror_images():
    left = sphere(200)
    places, side = np.concatenate([left, left * [-1, 1, 1]]), np.repeat([0, 1], 200)
    for order in spin_orders(places, side, 4, RNG):
        np.testing.assert_array_equal(order[200:] - 200, order[:200])


def test_every_place_comes_everywhere():
    places = sphere(50)
    orders = spin_orders(places, np.zeros(50, dtype=int), 3000, RNG)
    counts = np.bincount(orders[:, 7], minlength=50)
    assert counts.min() > 25
    assert counts.max() < 110


def test_a_medial_wall_turns_too_and_hides_what_it_covers():
    places = sphere(800)
    kept = places[places[:, 0] > -70]  # a cap of 15% is missing
    orders = spin_orders(kept, np.zeros(len(kept), dtype=int), 50, RNG)
    assert 0.08 < (orders < 0).mean() < 0.15  # the rim is within reach
    x, y = smooth(kept, 2, 40.0).T
    r = spun_correlations(x[:, None], y, orders)
    seen = orders[3] >= 0
    assert r[3, 0] == pytest.approx(np.corrcoef(x[seen], y[orders[3][seen]])[0, 1])
    y[:5] = np.nan
    assert np.isfinite(spun_correlations(x[:, None], y, orders)).all()


def test_maps_with_holes_are_correlated_where_both_have_values():
    maps, others = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 3))
    maps[3, 1] = others[5, 2] = np.nan
    both = ~np.isnan(maps[:, 1]) & ~np.isnan(others[:, 2])
    r = correlations(maps, others)
    assert r[1, 2] == pytest.approx(np.corrcoef(maps[both, 1], others[both, 2])[0, 1])
    assert r[0, 0] == pytest.approx(np.corrcoef(maps[:, 0], others[:, 0])[0, 1])


@pytest.mark.parametrize("width", [15.0, 40.0])
def test_surrogates_vary_over_distance_as_the_map_does(width):
    places = sphere(500)
    x = smooth(places, 1, width)[:, 0]
    surrogates = variogram_surrogates(x, places, 60, RNG)
    np.testing.assert_allclose(np.sort(surrogates, axis=1), np.tile(np.sort(x), (60, 1)))
    edges = np.linspace(10, 80, 8)
    wanted, found = variogram(x[:, None], places, edges)[:, 0], variogram(surrogates.T, places, edges).mean(axis=1)
    permuted = variogram(np.stack([RNG.permutation(x) for _ in range(60)], axis=1), places, edges).mean(axis=1)
    assert np.abs(found - wanted).mean() < 0.15 * x.var()
    assert abs(found[0] - wanted[0]) < 0.3 * abs(permuted[0] - wanted[0])
    assert np.abs(np.corrcoef(surrogates)[np.triu_indices(60, 1)]).mean() < 0.5  # in other places


def test_smooth_maps_that_share_nothing_are_not_alike():
    places, n_sets, n_draws = sphere(200), 60, 59
    first, second = smooth(places, n_sets, 35.0), smooth(places, n_sets, 35.0)
    orders = spin_orders(places, np.zeros(200, dtype=int), n_draws, RNG)
    rates = {"permuted": [], "spin": [], "variogram": []}
    for x, y in zip(first.T, second.T, strict=True):
        nulls = {
            "permuted": correlations(x[:, None], np.stack([RNG.permutation(y) for _ in range(n_draws)], axis=1)).T,
            "spin": spun_correlations(x[:, None], y, orders),
            "variogram": correlations(x[:, None], variogram_surrogates(y, places, n_draws, RNG).T).T,
        }
        observed = np.abs(correlations(x[:, None], y[:, None])[0])
        for name, null in nulls.items():
            rates[name].append(p_values(observed, np.abs(null))[0] <= 0.05)
    low, high = binom.ppf([0.0005, 0.9995], n_sets, 0.05) / n_sets
    assert np.mean(rates["permuted"]) > 0.3
    assert low <= np.mean(rates["spin"]) <= high
    assert low <= np.mean(rates["variogram"]) <= high
