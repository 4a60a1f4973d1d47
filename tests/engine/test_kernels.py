import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.preprocessing import KernelCenterer

from brainalign.engine.kernels import KERNELS, KernelFeatures, kernel_matrix, natural_gamma, squared_distances

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(30, 7)) + 1, RNG.normal(size=(20, 7))


def sklearn_kernel(a, b, kernel):
    options = {"polynomial": {"gamma": 0.3, "degree": 2, "coef0": 1.5}, "rbf": {"gamma": 0.3}}.get(kernel, {})
    return pairwise_kernels(a, b, metric=kernel, **options)


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_equal_those_of_sklearn(kernel):
    np.testing.assert_allclose(
        kernel_matrix(A, B, kernel, gamma=0.3, degree=2, coef0=1.5), sklearn_kernel(A, B, kernel), atol=1e-12
    )


def test_rows_of_zeros_are_like_nothing():
    assert (kernel_matrix(np.zeros((1, 3)), np.ones((2, 3)), "cosine") == 0).all()


def test_distances_far_from_zero_keep_their_digits():
    np.testing.assert_allclose(squared_distances(A + 1e6, A[:5] + 1e6), squared_distances(A, A[:5]), atol=1e-8)


def test_natural_gammas():
    assert natural_gamma(A, "rbf") == pytest.approx(1 / np.median(pdist(A, "sqeuclidean")))
    assert natural_gamma(A, "polynomial") == pytest.approx(1 / (A**2).sum(1).mean())
    assert natural_gamma(A, "linear") == natural_gamma(np.ones((4, 2)), "rbf") == natural_gamma(A[:1], "rbf") == 1
    np.testing.assert_allclose(*(kernel_matrix(x, x, "rbf", gamma=natural_gamma(x, "rbf")) for x in (A, 1e5 * A)))


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
def test_inner_products_of_features_are_the_kernel(kernel, centred):
    K, new = sklearn_kernel(A, A, kernel), sklearn_kernel(B, A, kernel)
    features = KernelFeatures.of(K, centred=centred)
    centerer = KernelCenterer().fit(K)
    expected = (centerer.transform(K), centerer.transform(new)) if centred else (K, new)
    np.testing.assert_allclose(features.values @ features.values.T, expected[0], atol=1e-9)
    cross = features.of_new(new) @ features.values.T
    np.testing.assert_allclose(cross - cross.mean(1, keepdims=True) * centred, expected[1], atol=1e-6)
    np.testing.assert_allclose(features.of_new(K), features.values, atol=1e-8)


def test_a_source_without_variance_has_one_feature_of_zeros():
    features = KernelFeatures.of(np.ones((5, 5)), centred=True)
    assert features.values.shape == (5, 1)
    assert (features.values == 0).all()
    assert (features.of_new(np.full((2, 5), 3.0)) == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_torch_tensors_give_what_arrays_give(kernel):
    torch = pytest.importorskip("torch")
    a = torch.from_numpy(A)
    gamma = natural_gamma(a, kernel)
    assert gamma == pytest.approx(natural_gamma(A, kernel))
    theirs = KernelFeatures.of(kernel_matrix(a, a, kernel, gamma=gamma), centred=True).values
    ours = KernelFeatures.of(kernel_matrix(A, A, kernel, gamma=gamma), centred=True).values
    np.testing.assert_allclose(theirs @ theirs.T, ours @ ours.T, atol=1e-10)
