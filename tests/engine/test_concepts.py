import numpy as np
import pytest
from scipy.special import logsumexp, softmax

from brainalign.engine.concepts import (
    column_blocks,
    labels_of,
    prepare_evidence,
    prior_of_others,
    rate,
    top_rows,
)
from brainalign.engine.retrieval import prepared


def rng(seed=0):
    return np.random.default_rng(seed)


def test_softwpmi_is_the_published_sum_over_exemplars_weighted_by_rank():
    concepts, values, k = rng().normal(size=(30, 4)), rng(1).normal(size=(30, 3)), 7
    evidence = prepare_evidence(concepts, "softwpmi", n_top=k, sharpness=2.0)
    top = top_rows(values, k, rng())
    shares = softmax(2.0 * (concepts - concepts.mean(axis=0)) / concepts.std(axis=0), axis=1)
    wanted = np.zeros((3, 4))
    for n in range(3):
        for i, row in enumerate(np.argsort(-values[:, n])[:k]):
            member = 0.998 + (0.97 - 0.998) * i / k
            wanted[n] += np.log(1 + member * (shares[row] - 1) + 1e-7)
    np.testing.assert_allclose(rate(evidence, top), wanted, rtol=1e-12)
    orders = np.array([rng(i).permutation(30) for i in range(4000)])
    drawn = np.mean([rate(evidence, top, order) for order in orders], axis=0)
    np.testing.assert_allclose(drawn, np.broadcast_to(evidence.prior, drawn.shape), atol=0.15)  # what rows at random give


def test_pmi_is_the_logarithm_of_a_mean_and_wpmi_the_mean_of_logarithms():
    shares = rng().dirichlet(np.ones(5), size=20)
    top = top_rows(rng(1).normal(size=(20, 2)), 6, rng())
    pmi, wpmi = (prepare_evidence(shares, method, n_top=6, sharpness=None) for method in ("pmi", "wpmi"))
    chosen = shares[top] + 1e-7
    np.testing.assert_allclose(rate(pmi, top), np.log(chosen.mean(axis=1)))
    np.testing.assert_allclose(rate(wpmi, top), np.log(chosen).sum(axis=1))
    np.testing.assert_allclose(pmi.prior, np.log((shares + 1e-7).mean(axis=0)))
    scores, null = labels_of(pmi, top, np.arange(20)[None], penalty=0.2)
    np.testing.assert_allclose(scores, rate(pmi, top) - 0.2 * pmi.prior)
    np.testing.assert_allclose(null[0], scores.max(axis=1))


def test_correlations_are_those_of_numpy():
    concepts, values = rng().normal(size=(25, 3)) + 5, rng(1).normal(size=(25, 2)) + 3
    evidence = prepare_evidence(concepts, "pearson", n_top=5, sharpness=1.0)
    np.testing.assert_allclose(rate(evidence, prepared(values.T, "pearson").T), np.corrcoef(values.T, concepts.T)[:2, 2:])
    order = rng(2).permutation(25)
    np.testing.assert_allclose(
        rate(evidence, prepared(values.T, "pearson").T, order), np.corrcoef(values.T, concepts[order].T)[:2, 2:], atol=1e-12
    )
    plain = prepare_evidence(concepts, "cosine", n_top=5, sharpness=1.0)
    found = rate(plain, prepared(values.T, "cosine").T)
    wanted = values.T @ concepts / np.outer(np.linalg.norm(values, axis=0), np.linalg.norm(concepts, axis=0))
    np.testing.assert_allclose(found, wanted)


def test_the_prior_over_neuroids_is_that_of_all_together():
    rated = 50 * rng().normal(size=(9, 4))  # a column's own share may be all there is
    wanted = [logsumexp(np.delete(rated, n, axis=0), axis=0) for n in range(9)]
    np.testing.assert_allclose(prior_of_others(rated), wanted, rtol=1e-12)
    np.testing.assert_allclose(
        np.logaddexp(prior_of_others(rated), rated), np.broadcast_to(logsumexp(rated, axis=0), rated.shape), rtol=1e-12
    )


def test_ties_come_in_random_order_of_their_own_for_each_column():
    values = np.zeros((100, 400))
    values[7] = 1.0
    top = top_rows(values, 3, rng())
    assert (top[:, 0] == 7).all()
    counts = np.bincount(top[:, 1:].ravel(), minlength=100)
    assert counts[7] == 0
    assert counts.max() < 25  # 8 are expected of each
    spread = rng(1).normal(size=(50, 5))
    np.testing.assert_array_equal(top_rows(spread, 4, rng()), np.argsort(-spread, axis=0)[:4].T)


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_blocks_cover_all_columns_once(n):
    blocks = list(column_blocks(n, 50, 20, cells=5000))
    assert np.concatenate([np.arange(n)[block] for block in blocks]).tolist() == list(range(n))
    assert max(len(np.arange(n)[block]) for block in blocks) <= 100
