import numpy as np
import pytest
from scipy.linalg import eigvalsh
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, pearsonr, spearmanr

from brainalign.engine.comparators import COMPARATORS, centred_gram, inner_products, n_conditions, square

N = 12
LINEAR = [name for name, measure in COMPARATORS.items() if measure.product is inner_products]


def distances(n_rdms, seed=0, n=N, n_channels=20):
    patterns = np.random.default_rng(seed).normal(size=(n_rdms, n, n_channels))
    return np.stack([pdist(x, "sqeuclidean") for x in patterns])


def compared(metric, a, b, covariance=None):
    measure = COMPARATORS[metric]
    return measure.product(measure.prepare(a, covariance), measure.prepare(b, covariance))


def covariance_of(n=N, seed=5):
    return np.cov(np.random.default_rng(seed).normal(size=(n, 3 * n)))


def noise_of_pairs(covariance):
    """V = Ξ∘Ξ, Ξ = C Σ Cᵀ."""
    first, second = np.triu_indices(len(covariance), 1)
    contrasts = np.eye(len(covariance))[first] - np.eye(len(covariance))[second]
    return (contrasts @ covariance @ contrasts.T) ** 2


def whitened(d1, d2, V):
    products = [u @ np.linalg.solve(V, v) for u, v in ((d1, d2), (d1, d1), (d2, d2))]
    return products[0] / np.sqrt(products[1] * products[2])


@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("cosine", lambda u, v: u @ v / np.sqrt((u @ u) * (v @ v))),
        ("pearson", lambda u, v: pearsonr(u, v)[0]),
        ("spearman", lambda u, v: spearmanr(u, v)[0]),
        ("tau-b", lambda u, v: kendalltau(u, v)[0]),
        ("tau-a", lambda u, v: np.mean(np.sign(np.subtract.outer(u, u) * np.subtract.outer(v, v))[np.triu_indices(len(u), 1)])),
    ],
)
def test_each_pair_is_what_the_definition_gives(metric, reference):
    a, b = np.round(distances(3)), np.round(distances(2, seed=1))  # ties
    np.testing.assert_allclose(compared(metric, a, b), [[reference(u, v) for v in b] for u in a], rtol=1e-12)


@pytest.mark.parametrize("covariance", [None, covariance_of()], ids=["white", "coloured"])
@pytest.mark.parametrize("metric", ["whitened-cosine", "whitened-pearson"])
def test_whitening_is_that_of_the_noise_of_all_pairs(metric, covariance):
    a, b = distances(3), distances(2, seed=1)
    V = noise_of_pairs(np.eye(N) if covariance is None else covariance)
    u, v = (x - x.mean(axis=1, keepdims=True) if metric == "whitened-pearson" else x for x in (a, b))
    np.testing.assert_allclose(compared(metric, a, b, covariance), [[whitened(x, y, V) for y in v] for x in u], rtol=1e-9)


def test_missing_pairs_have_no_noise_to_whiten():
    a, b = distances(3), distances(2, seed=1)
    kept = np.ones(a.shape[1], dtype=bool)
    kept[[0, 7, 30]] = False
    V = noise_of_pairs(np.eye(N))[np.ix_(kept, kept)]
    expected = [[whitened(x, y, V) for y in b[:, kept]] for x in a[:, kept]]
    for x in (a, b):
        x[:, ~kept] = np.nan
    np.testing.assert_allclose(compared("whitened-cosine", a, b), expected, rtol=1e-10)


@pytest.mark.parametrize("metric", COMPARATORS)
def test_a_matrix_is_most_alike_itself_and_a_flat_one_has_no_score(metric):
    a = distances(3)
    own = compared(metric, a, a)
    low, high = COMPARATORS[metric].limits
    np.testing.assert_allclose(np.diag(own), high if COMPARATORS[metric].higher_is_alike else low, atol=1e-7)
    assert ((own >= low) & (own <= high)).all()
    best = own.argmax(axis=1) if COMPARATORS[metric].higher_is_alike else own.argmin(axis=1)
    assert best.tolist() == [0, 1, 2]
    flat = np.concatenate([a[:1] * 0, a[1:]])
    assert np.isnan(compared(metric, a, flat)).tolist() == [[True, False, False]] * 3


@pytest.mark.parametrize("metric", COMPARATORS)
def test_scale_of_a_side_is_nothing(metric):
    a, b = distances(2), distances(2, seed=1)
    np.testing.assert_allclose(compared(metric, 1e3 * a, b), compared(metric, a, b), rtol=1e-6)


def test_noise_of_the_first_matrix_is_nothing_to_riemannian_distance():
    source = distances(1)
    noisy = 3 * source + 7.0  # another scale, and conditions with noise of variance 3.5
    assert compared("riemannian", source, noisy)[0, 0] < 1e-4 < 0.5 < compared("riemannian", noisy, source)[0, 0]


def test_noise_alone_is_at_no_riemannian_distance_from_noise():
    assert compared("riemannian", distances(1), np.ones_like(distances(1)))[0, 0] < 1e-9


def test_riemannian_distance_is_at_most_that_of_the_best_scale():
    a, b = distances(1), distances(1, seed=1)
    basis = np.linalg.qr(np.c_[np.ones(N), np.eye(N)[:, 1:]])[0][:, 1:].T
    logs = np.log(eigvalsh(*(basis @ centred_gram(x)[0] @ basis.T for x in (a, b))))
    assert compared("riemannian", a, b)[0, 0] <= np.sqrt(logs.var() * len(logs)) + 1e-9


def test_vectors_and_matrices():
    a = distances(2)
    assert n_conditions(a.shape[1]) == N
    assert (square(a)[1][np.triu_indices(N, 1)] == a[1]).all()
    x = np.random.default_rng(0).normal(size=(N, 4))
    centred = x - x.mean(axis=0)
    np.testing.assert_allclose(centred_gram(pdist(x, "sqeuclidean")[None])[0], centred @ centred.T, atol=1e-12)
