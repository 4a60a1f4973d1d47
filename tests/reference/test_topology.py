"""Transforms and geodesics against rsatoolbox and networkx, and where those go wrong."""

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from brainalign.engine.topology import geo_topological, geodesic, rescale

networkx = pytest.importorskip("networkx")


def vectors(n=12, n_rdms=2, seed=0):
    return np.random.default_rng(seed).random((n_rdms, n * (n - 1) // 2))


def as_rdms(values):
    return pytest.importorskip("rsatoolbox.rdm").RDMs(values.copy())


def transform(name):
    pytest.importorskip("rsatoolbox")
    from rsatoolbox.rdm import geodesic_transform, geotopological_transform

    return {"geotopological": geotopological_transform, "geodesic": geodesic_transform}[name]


@pytest.mark.parametrize(("edges", "amount"), [("p-shortest", 0.3), ("k-nearest", 3), ("p-nearest", 0.3)])
def test_paths_equal_networkx(edges, amount):
    matrices = np.stack([squareform(v) for v in vectors()])
    found = geodesic(matrices, edges, amount)
    for matrix, paths in zip(matrices, found, strict=True):
        length = squareform(rescale(squareform(matrix)))
        far = np.sort(np.where(np.eye(12) == 1, np.inf, matrix), axis=1)[:, 2]
        kept = matrix <= (np.quantile(squareform(matrix), amount) if edges == "p-shortest" else np.maximum.outer(far, far))
        graph = networkx.Graph()
        graph.add_nodes_from(range(12))
        graph.add_weighted_edges_from((i, j, length[i, j]) for i, j in zip(*np.nonzero(kept & (matrix > 0)), strict=True))
        np.testing.assert_allclose(paths, np.asarray(networkx.floyd_warshall_numpy(graph)), rtol=1e-12)


def test_one_rdm_is_transformed_as_by_rsatoolbox_as_far_as_it_goes():
    """It sets to 1 whatever is above the upper quantile after it was scaled, and so some of what lies between the two."""
    v = vectors(n_rdms=1)[0]
    theirs = transform("geotopological")(as_rdms(v[None]), 0.2, 0.8).get_vectors()[0]
    ours = geo_topological(v, 0.2, 0.8, scale="raw")
    differs = ~np.isclose(ours, theirs, atol=1e-12)
    np.testing.assert_array_equal(differs, (ours < 1) & (ours > np.quantile(v, 0.8)))
    assert (theirs[differs] == 1).all()
    assert differs.any()


def test_what_rsatoolbox_does_to_the_caller_to_stacks_and_to_zeros():
    """The input changes, quantiles are those of all RDMs together, and an edge of length 0 is none."""
    v = np.concatenate([vectors(n_rdms=1), vectors(n_rdms=1, seed=1) + 10])
    theirs = as_rdms(v)
    pooled = transform("geotopological")(theirs, 0.2, 0.8).get_vectors()
    assert not np.array_equal(theirs.get_vectors(), v)
    assert pooled[0].max() < 0.1 < 0.9 < pooled[1].min()
    ours = geo_topological(v, 0.2, 0.8, scale="raw")
    assert (ours.min(axis=1) == 0).all()
    assert (ours.max(axis=1) == 1).all()
    three = np.array([[0.0, 0.6, 1.0]])
    assert np.isinf(transform("geodesic")(as_rdms(three)).get_vectors()).any()
    assert squareform(geodesic(squareform(three[0]), "two-step", (0, 1), scale="minmax")).tolist() == [0, 0.6, 0.6]
