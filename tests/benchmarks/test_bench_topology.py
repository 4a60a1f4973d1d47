"""Geodesics against networkx, a family of transforms against one after the other, and the search for dependence: CPU time."""

from statistics import median
from time import process_time

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from brainalign.engine.dependence import adaptive_correlations
from brainalign.engine.families import family_scores, grid
from brainalign.engine.rdm_permutation import moved_entries
from brainalign.engine.topology import geo_topological, geodesic, rescale

networkx = pytest.importorskip("networkx")
pytestmark = pytest.mark.bench

ROUNDS = 15


def cpu_seconds(function, into):
    start = process_time()
    out = function()
    into.append(process_time() - start)
    return out


def paths_of_networkx(lengths):
    """Return paths as rsatoolbox has them made, but with a length of 1e-300 in place of 0, which is no edge there."""
    graph = networkx.from_numpy_array(np.maximum(lengths, 1e-300 * (1 - np.eye(len(lengths)))))
    graph.remove_edges_from([edge[:2] for edge in graph.edges.data("weight") if edge[2] == 1])
    return np.asarray(networkx.floyd_warshall_numpy(graph))


@pytest.mark.parametrize("n_rdms", [1, 20])
def test_geodesics_of_100_conditions(benchmark, n_rdms):
    matrices = np.stack([squareform(v) for v in np.random.default_rng(0).random((n_rdms, 4950))])
    ours, theirs, found, expected = [], [], [], []

    def run():
        return geodesic(matrices, "two-step", (0.0, 1.0), scale="minmax")

    def peer():
        lengths = [squareform(rescale(squareform(matrix), "minmax")) for matrix in matrices]
        expected.append(cpu_seconds(lambda: np.stack([paths_of_networkx(x) for x in lengths]), theirs))

    run()
    benchmark.pedantic(lambda: found.append(cpu_seconds(run, ours)), setup=peer, rounds=ROUNDS)
    np.testing.assert_allclose(found[-1], expected[-1], atol=1e-12)
    benchmark.extra_info |= {
        "target": "10 times fewer CPU seconds than networkx",
        "ratio, interleaved, CPU time": round(median(theirs) / median(ours), 1),
    }


def test_family_of_208_transforms_under_permutation(benchmark):
    rng = np.random.default_rng(0)
    source, target = rng.random((2, 1, 4186))
    lower, upper = grid()
    orders = np.stack([rng.permutation(92) for _ in range(20)])
    ours, plain, found, expected = [], [], [], []

    def one_by_one():
        moved = target[0][moved_entries(orders[:1], 4186)[0]]
        pairs = [[geo_topological(x, *between) for x in (source[0], moved)] for between in zip(lower, upper, strict=True)]
        return np.array([np.corrcoef(*pair)[0, 1] for pair in pairs])

    benchmark.pedantic(
        lambda: found.append(cpu_seconds(lambda: family_scores(source, target, lower, upper, orders=orders), ours)),
        setup=lambda: expected.append(cpu_seconds(one_by_one, plain)),
        rounds=ROUNDS,
    )
    np.testing.assert_allclose(found[-1][0, :, 0, 0], expected[-1], atol=1e-10)
    benchmark.extra_info |= {
        "CPU ms for a permutation of all 208": round(1e3 * median(ours) / len(orders), 2),
        "ratio to transforming and correlating one by one": round(len(orders) * median(plain) / median(ours), 1),
    }


def clipped_correlation(x, y):
    """Return the distance correlation of distances that were clipped between thresholds, each (lower, upper, matrix), as written out."""
    clipped = [np.clip(side / side.max(), lower, upper) for lower, upper, side in (x, y)]
    a, b = (side - side.mean(0) - side.mean(1)[:, None] + side.mean() for side in clipped)
    return np.sqrt(max((a * b).sum(), 0) / np.sqrt((a * a).sum() * (b * b).sum()))


def test_adaptive_dependence_of_100_stimuli(benchmark):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 100, 5))
    sides = squareform(pdist(x)), squareform(pdist(x + y))
    orders = np.stack([rng.permutation(100) for _ in range(1000)])
    levels, spent, found = np.linspace(0, 1, 8), [], []
    benchmark.pedantic(
        lambda: found.append(cpu_seconds(lambda: adaptive_correlations(*sides, levels, orders=orders), spent)), rounds=ROUNDS
    )
    between = [(levels[i], levels[j]) for i, j in zip(*np.triu_indices(8, 1), strict=True)]
    for made, order in ((found[-1][0], np.arange(100)), (found[-1][1][-1], orders[-1])):
        moved = sides[1][np.ix_(order, order)]
        expected = [[clipped_correlation((*a, sides[0]), (*b, moved)) for b in between] for a in between]
        np.testing.assert_allclose(made, expected, atol=1e-10)
    benchmark.extra_info |= {
        "target": "60 CPU seconds for 784 combinations × 1000 permutations",
        "CPU seconds": round(median(spent), 3),
    }
