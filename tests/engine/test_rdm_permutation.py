import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from brainalign.engine import rdm_permutation
from brainalign.engine.comparators import COMPARATORS, square
from brainalign.engine.rdm_permutation import permuted_scores

RNG = np.random.default_rng(0)
N = 8
FIRST, SECOND = np.triu_indices(N, 1)


@pytest.fixture(autouse=True)
def workers():
    """Pieces go side by side, whatever this run allows products."""
    with threadpool_limits(3, user_api="blas"):
        yield


def geometries(n_rdms):
    x = RNG.normal(size=(n_rdms, N, 12))
    return np.square(x[:, FIRST] - x[:, SECOND]).sum(axis=2)


@pytest.mark.parametrize("metric", COMPARATORS)
def test_equal_to_matrices_whose_rows_and_columns_were_moved(metric, monkeypatch):
    models, data, measure = geometries(2), geometries(3), COMPARATORS[metric]
    orders = np.stack([RNG.permutation(N) for _ in range(5)])
    monkeypatch.setattr(rdm_permutation, "_BUDGET", 130)
    found = permuted_scores(models, data[None], metric, orders)[:, :, 0]
    means = permuted_scores(models, data[None], metric, orders, averaged=True)
    np.testing.assert_allclose(means[..., 0], found.mean(axis=-1), rtol=1e-9)
    for order, scores in zip(orders, found, strict=True):
        moved = square(models)[:, order][:, :, order][:, FIRST, SECOND]
        np.testing.assert_allclose(scores, measure.product(measure.prepare(moved), measure.prepare(data)), rtol=1e-9, atol=1e-12)


def test_a_covariance_of_the_stimuli_stays_where_it_is():
    models, data, measure = geometries(2), geometries(3), COMPARATORS["whitened-cosine"]
    covariance = np.cov(RNG.normal(size=(N, 30)))
    order = RNG.permutation(N)
    found = permuted_scores(models, data[None], "whitened-cosine", order[None], covariance=covariance)
    moved = square(models)[:, order][:, :, order][:, FIRST, SECOND]
    wanted = measure.product(measure.prepare(moved, covariance), measure.prepare(data, covariance))
    np.testing.assert_allclose(found[0, :, 0], wanted, rtol=1e-10)
