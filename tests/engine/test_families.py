import numpy as np
import pytest
from scipy.spatial.distance import squareform

from brainalign.engine.families import family_of, family_scores, grid, standardised
from brainalign.engine.topology import geo_topological


@pytest.fixture
def pairs():
    rng = np.random.default_rng(0)
    source = rng.random((3, 66))
    source[0] = np.round(source[0] * 3)  # many ties: thresholds coincide
    return source, 0.5 * source[1] + rng.random((2, 66))


def plain(source, target, lower, upper, **options):
    """Each transform and each correlation written out."""
    out = np.empty((len(lower), len(source), len(target)))
    for k, between in enumerate(zip(lower, upper, strict=True)):
        a, b = (geo_topological(x, *between, **options) for x in (source, target))
        out[k] = np.corrcoef(a, b)[: len(a), len(a) :]
    return out


@pytest.mark.parametrize(("scale", "threshold"), [("rank", "quantile"), ("minmax", "absolute"), ("raw", "fraction")])
@pytest.mark.filterwarnings("ignore:invalid value")
def test_equal_to_transforms_written_out(pairs, scale, threshold):
    lower, upper = (np.append(side, [0.3, 0.5]) for side in grid(0.1))  # two of them graphs
    options = {"scale": scale, "threshold": threshold}
    found = family_scores(*pairs, lower, upper, **options)
    np.testing.assert_allclose(found, plain(*pairs, lower, upper, **options), atol=1e-12)
    assert np.isfinite(found).mean() > 0.8


def test_permuted_conditions_are_transformed_anew(pairs):
    """One pass over transformed matrices equals transforming each permuted matrix."""
    source, target = pairs
    orders = np.stack([np.random.default_rng(i).permutation(12) for i in range(3)])
    lower, upper = grid(0.25)
    null = family_scores(source, target, lower, upper, orders=orders)
    for order, found in zip(orders, null, strict=True):
        moved = np.stack([squareform(squareform(x)[np.ix_(order, order)]) for x in target])
        np.testing.assert_allclose(found, family_scores(source, moved, lower, upper), atol=1e-12)


def test_cosine(pairs):
    found = family_scores(*pairs, [0.2], [0.8], metric="cosine")
    a, b = (geo_topological(x, 0.2, 0.8) for x in pairs)
    expected = a @ b.T / np.sqrt((a * a).sum(axis=1))[:, None] / np.sqrt((b * b).sum(axis=1))
    np.testing.assert_allclose(found[0], expected, atol=1e-12)


def test_blocks_of_matrices_and_draws_give_the_same(pairs, monkeypatch):
    orders = np.stack([np.random.default_rng(i).permutation(12) for i in range(3)])
    whole = family_scores(*pairs, *grid(0.25), orders=orders)
    for name in ("_NUMBERS", "_PERMUTED"):
        monkeypatch.setattr(f"brainalign.engine.families.{name}", 1)
    np.testing.assert_allclose(family_scores(*pairs, *grid(0.25), orders=orders), whole, atol=1e-14)


def test_the_published_grid_and_its_families():
    lower, upper = grid()
    assert len(lower) == 208
    assert (lower < upper).all()
    names = family_of(lower, upper)
    assert (names == "topology-sensitive").sum() == 10  # .4 to .6 in steps of .05
    assert {str(family_of(np.array([a]), np.array([b]))[0]) for a, b in [(0.0, 0.4), (0.1, 0.3)]} == {"local"}
    assert family_of(np.array([0.6, 0.0, 0.4, 0.2]), np.array([1.0, 0.8, 0.6, 0.7])).tolist() == [
        "global", "geometry-sensitive", "topology-sensitive", "intermediate",
    ]  # fmt: skip


def test_standardised_scores_have_the_spread_of_their_null():
    rng = np.random.default_rng(0)
    null = rng.normal(size=(99, 2)) * [1, 10] + [5, 0]
    observed, chance = standardised(np.array([8.0, 30.0]), null)
    every = np.concatenate([observed[None], chance])
    np.testing.assert_allclose(every.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(every.std(axis=0), 1)
    assert np.isnan(standardised(np.ones(1), np.ones((9, 1)))[0]).all()
