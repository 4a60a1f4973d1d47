import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import pdist, squareform

from brainalign.engine.topology import EDGES, SCALES, THRESHOLDS, cuts, geo_topological, geodesic, rescale, shortest_paths

vectors = arrays(np.float64, 15, elements=st.floats(0, 1e3, width=32))
thresholds = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


def golden_pair():
    r = np.random.RandomState(0)
    x = r.randn(50, 20)
    return x, np.c_[x[:, :10] @ r.randn(10, 12), r.randn(50, 3)] + 0.5 * r.randn(50, 15)


def ring(n, twist=0.0):
    """Return points on a closed line, as far from each other along it."""

    def at(angle):
        return np.stack([np.sin(angle), np.cos(angle), twist * np.sin(2 * angle)], axis=1)

    angle = np.linspace(0, 2 * np.pi, 10_001)
    along = np.r_[0, np.cumsum(np.linalg.norm(np.diff(at(angle), axis=0), axis=1))]
    return at(np.interp(np.arange(n) / n * along[-1], along, angle))


def test_golden_value():
    a, b = (geo_topological(pdist(x), 0.2, 0.8) for x in golden_pair())
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.5533509032, abs=1e-10)


@given(pairs=vectors, between=thresholds, scale=st.sampled_from(SCALES), threshold=st.sampled_from(THRESHOLDS))
@settings(max_examples=60)
def test_never_falls_where_dissimilarity_rises_and_stays_within_0_and_1(pairs, between, scale, threshold):
    before = pairs.copy()
    out = geo_topological(pairs, *between, scale=scale, threshold=threshold)
    np.testing.assert_array_equal(pairs, before)
    if np.isnan(out).any():
        assert scale != "raw"
        assert np.ptp(pairs) == 0
        return
    assert (np.diff(out[np.argsort(pairs)]) >= 0).all()
    assert ((out >= 0) & (out <= 1)).all()


@given(pairs=vectors, between=thresholds)
@settings(max_examples=40)
def test_ranks_do_not_see_a_rising_transform(pairs, between):
    risen = np.unique(pairs, return_inverse=True)[1] ** 3.0 + 2
    np.testing.assert_array_equal(geo_topological(pairs, *between), geo_topological(risen, *between))


def test_from_0_to_1_nothing_is_done_to_ranks():
    pairs = pdist(golden_pair()[0])
    np.testing.assert_allclose(geo_topological(pairs, 0, 1), rescale(pairs), atol=1e-15)


def test_equal_thresholds_make_a_graph():
    pairs = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    assert geo_topological(pairs, 0.5, 0.5).tolist() == [0, 0, 0, 1, 1]
    assert geo_topological(pairs, 2.5, 2.5, scale="raw", threshold="absolute").tolist() == [1, 0, 0, 1, 1]
    binary = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # ties bring the thresholds together
    assert geo_topological(binary, 0.4, 0.6).tolist() == [0] * 6
    assert geo_topological(1 - binary, 0.4, 0.6).tolist() == [1, 0, 0, 0, 0, 0]


def test_scales_and_thresholds_mean_what_they_say():
    pairs = np.array([2.0, 4.0, 6.0, 10.0])
    assert rescale(pairs, "minmax").tolist() == [0, 0.25, 0.5, 1]
    assert cuts(pairs, [0.5], "fraction").tolist() == [5]
    assert cuts(pairs, [0.5], "quantile").tolist() == [5]
    assert cuts(pairs, [3], "absolute").tolist() == [3]
    np.testing.assert_allclose(geo_topological(pairs, 0.2, 0.6, scale="raw", threshold="fraction"), [0, 0.5, 1, 1])
    middle = geo_topological(pairs, 0, 1, scale="minmax", shape="sigmoid")
    np.testing.assert_allclose(middle, 1 / (1 + np.exp(-10 * (rescale(pairs, "minmax") - 0.5))))


def test_every_matrix_has_thresholds_of_its_own():
    """rsatoolbox 0.3.2 pools quantiles over the stack: of these two, one comes out near 0 and the other near 1."""
    low = np.random.default_rng(0).random(66)
    both = geo_topological(np.stack([low, low + 10]), 0.2, 0.8, scale="raw")
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)
    assert both[0].max() == 1
    assert both[0].min() == 0


@pytest.mark.parametrize("scale", ["rank", "minmax"])
def test_a_flat_matrix_is_undefined(scale):
    assert np.isnan(geo_topological(np.ones(6), 0.2, 0.8, scale=scale)).all()
    assert np.isnan(geodesic(squareform(np.ones(6)), "two-step", (0.2, 0.8), scale=scale)).all()


def test_edges_of_length_0_are_edges():
    """rsatoolbox 0.3.2 gives [inf, .6, inf], for networkx takes a length of 0 for no edge."""
    matrix = squareform([0.0, 0.6, 1.0])
    before = matrix.copy()
    assert squareform(geodesic(matrix, "two-step", (0, 1), scale="minmax"), checks=False).tolist() == [0, 0.6, 0.6]
    np.testing.assert_array_equal(matrix, before)


def test_a_path_adds_up():
    steps = np.array([1.0, 4.0, 2.0, 8.0])
    at = np.r_[0, np.cumsum(steps)]
    lengths = np.full((5, 5), np.inf)
    for i, step in enumerate(steps):
        lengths[i, i + 1] = lengths[i + 1, i] = step
    np.fill_diagonal(lengths, 0)
    np.testing.assert_array_equal(shortest_paths(lengths), np.abs(at[:, None] - at))
    np.testing.assert_allclose(shortest_paths(torch.as_tensor(lengths)).numpy(), np.abs(at[:, None] - at))


@pytest.mark.parametrize("n", [7, 12])
def test_neighbours_on_a_circle_count_the_hops(n):
    matrix = squareform(pdist(ring(n)))
    hops = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    found = geodesic(matrix, "k-nearest", 2, scale="raw")
    np.testing.assert_allclose(found / found[0, 1], np.minimum(hops, n - hops), atol=1e-9)


def test_a_twisted_ring_is_a_ring():
    rings = [squareform(pdist(ring(48, twist))) for twist in (0, 1)]
    paths = [geodesic(x, "k-nearest", 2, scale="raw") for x in rings]
    assert np.corrcoef(*(squareform(x) for x in rings))[0, 1] < 0.95
    np.testing.assert_allclose(paths[0] / paths[0].mean(), paths[1] / paths[1].mean(), atol=0.02)


@pytest.mark.parametrize(
    ("edges", "amount"), [("p-shortest", 0.2), ("p-nearest", 0.25), ("k-nearest", 3), ("two-step", (0.1, 0.4))], ids=EDGES
)
@pytest.mark.parametrize("scale", SCALES)
def test_paths_are_no_longer_than_edges_and_obey_the_triangle(edges, amount, scale):
    vectors = np.random.default_rng(0).random((3, 66))
    paths = geodesic(np.stack([squareform(v) for v in vectors]), edges, amount, scale=scale)
    np.testing.assert_array_equal(paths, paths.swapaxes(-1, -2))
    assert (paths[..., None] <= paths[:, :, None, :] + paths.swapaxes(1, 2)[:, None] + 1e-12).all()
    if edges == "p-shortest":
        lengths = rescale(vectors, scale)
        kept = lengths <= np.quantile(lengths, 0.2, axis=1)[:, None]
        assert (np.stack([squareform(p, checks=False) for p in paths])[kept] <= lengths[kept]).all()
    for i in range(3):
        np.testing.assert_allclose(geodesic(squareform(vectors[i]), edges, amount, scale=scale), paths[i])


@pytest.mark.parametrize(("edges", "amount"), [("p-nearest", 0.1), ("k-nearest", 1), ("k-nearest", 2)])
def test_the_order_of_conditions_does_not_matter(edges, amount):
    """In the authors' code an edge is kept if the earlier condition lists the later: the graph depends on the order."""
    matrix = squareform(np.round(np.random.default_rng(1).random(190), 1))  # with ties
    order = np.random.default_rng(2).permutation(20)
    there = geodesic(matrix[np.ix_(order, order)], edges, amount)
    np.testing.assert_allclose(there, geodesic(matrix, edges, amount)[np.ix_(order, order)])


def test_a_share_of_neighbours_is_a_whole_number_of_them():
    matrix = squareform(np.random.default_rng(0).random(4950))
    np.testing.assert_array_equal(geodesic(matrix, "p-nearest", 0.29), geodesic(matrix, "k-nearest", 29))


def test_an_edge_is_kept_if_either_end_lists_the_other():
    at = np.array([0.0, 1.0, 2.0, 10.0])  # the last lists the third, which does not list it
    found = geodesic(np.abs(np.subtract.outer(at, at)), "k-nearest", 1, scale="raw")
    np.testing.assert_array_equal(found, np.abs(np.subtract.outer(at, at)))


def test_what_cannot_be_reached_is_beyond_the_longest_path_or_undefined():
    at = np.array([0.0, 1.0, 3.0, 100.0, 101.0])
    matrix = np.abs(np.subtract.outer(at, at))
    found = geodesic(matrix, "k-nearest", 1, scale="raw")
    assert found[0].tolist() == pytest.approx([0, 1, 3, 3.3, 3.3])
    assert np.isnan(geodesic(matrix, "k-nearest", 1, scale="raw", unreachable=np.nan)[0, 3:]).all()
    two = np.abs(np.subtract.outer([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]))  # two pairs of twins
    assert geodesic(two, "k-nearest", 1, scale="raw", unreachable=2)[0].tolist() == [0, 0, 2, 2]
