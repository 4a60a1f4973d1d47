import numpy as np
import pytest
import torch

from brainalign.engine.cka import (
    centred_kernel,
    distance_kernel,
    feature_alignment,
    linear_kernel,
    minibatch_alignment,
    rbf_kernel,
    subset_alignments,
    unit_features,
)
from brainalign.engine.dependence import distance_correlation


def hsic_unbiased(K, L):
    """Song et al. 2012, written out."""
    n, K, L = len(K), K - np.diag(np.diag(K)), L - np.diag(np.diag(L))
    total = (K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * K.sum(0) @ L.sum(0) / (n - 2)
    return total / (n * (n - 3))


def debiased(K, L):
    return hsic_unbiased(K, L) / np.sqrt(hsic_unbiased(K, K) * hsic_unbiased(L, L))


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 8)) + 3.0
    return x, x[:, :5] @ rng.normal(size=(5, 12)) + rng.normal(size=(30, 12))


def test_the_product_of_centred_kernels_is_cka(pair):
    x, y = (z - z.mean(0) for z in pair)
    a, b = (linear_kernel(z) for z in pair)
    expected = np.linalg.norm(x.T @ y) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    assert (centred_kernel(a) * centred_kernel(b)).sum() == pytest.approx(expected, abs=1e-14)
    raw = [z @ z.T for z in pair]  # not centred: the result is the same
    assert (centred_kernel(raw[0], unbiased=True) * centred_kernel(raw[1], unbiased=True)).sum() == pytest.approx(
        debiased(*raw), abs=1e-11
    )


@pytest.mark.parametrize("unbiased", [False, True])
def test_covariances_say_what_kernels_say(pair, unbiased):
    kernels = [centred_kernel(linear_kernel(z), unbiased=unbiased) for z in pair]
    features = [unit_features(z, unbiased=unbiased) for z in pair]
    assert feature_alignment(*features, unbiased=unbiased) == pytest.approx(float((kernels[0] * kernels[1]).sum()), abs=1e-11)
    tensors = [unit_features(torch.from_numpy(z), unbiased=unbiased) for z in pair]
    assert feature_alignment(*tensors, unbiased=unbiased) == pytest.approx(
        feature_alignment(*features, unbiased=unbiased), abs=1e-11
    )


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("kernel", [linear_kernel, rbf_kernel, distance_kernel])
def test_all_subsets_at_once_are_each_subset_anew(pair, unbiased, kernel):
    members = np.zeros((5, 30))
    for row, rng in zip(members, np.random.default_rng(1).spawn(5), strict=True):
        row[rng.permutation(30)[: rng.integers(10, 20)]] = 1
    kernels = [kernel(z) for z in pair]
    found = subset_alignments(kernels[:1], kernels, members, unbiased=unbiased)
    assert found.shape == (5, 1, 2)
    for draw, row in zip(found, members, strict=True):
        some = np.flatnonzero(row)
        a, b = (centred_kernel(K[np.ix_(some, some)], unbiased=unbiased) for K in kernels)
        np.testing.assert_allclose(draw[0], [1.0, (a * b).sum()], atol=1e-11)


def test_batches_are_averaged_before_they_are_divided(pair):
    x, y = pair
    assert minibatch_alignment([(x, y)]) == pytest.approx(debiased(x @ x.T, y @ y.T), abs=1e-11)
    parts = [slice(0, 15), slice(15, 30)]
    kl, kk, ll = (np.mean([hsic_unbiased(a[p] @ a[p].T, b[p] @ b[p].T) for p in parts]) for a, b in ((x, y), (x, x), (y, y)))
    assert minibatch_alignment((x[p], y[p]) for p in parts) == pytest.approx(kl / np.sqrt(kk * ll), abs=1e-11)


def test_unrelated_systems_score_zero_without_bias_and_not_with_it():
    rng = np.random.default_rng(2)
    pairs = [(rng.normal(size=(20, 50)), rng.normal(size=(20, 40))) for _ in range(200)]
    means = [
        np.mean([feature_alignment(*(unit_features(z, unbiased=unbiased) for z in p), unbiased=unbiased) for p in pairs])
        for unbiased in (False, True)
    ]
    assert means[0] > 0.6
    assert abs(means[1]) < 0.01


def test_the_cka_of_distances_is_the_squared_distance_correlation(pair):
    distances = [-distance_kernel(z) for z in pair]
    a, b = (centred_kernel(distance_kernel(z)) for z in pair)
    assert float((a * b).sum()) == pytest.approx(float(distance_correlation(*distances)) ** 2, abs=1e-13)


def test_alike_stimuli_have_no_alignment():
    assert np.isnan(centred_kernel(linear_kernel(np.ones((6, 3))))).all()
    assert np.isnan(unit_features(np.ones((6, 3)))).all()
    assert np.isnan(minibatch_alignment([(np.ones((6, 3)), np.eye(6))]))
