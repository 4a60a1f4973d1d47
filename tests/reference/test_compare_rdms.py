"""Measures between RDMs equal rsatoolbox's, as far as those are exact, and known identities of others'."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist, squareform

import brainalign as ba

rsatoolbox = pytest.importorskip("rsatoolbox")

N = 18
IDS = [f"s{i:02d}" for i in range(N)]
#: Their names, and how close theirs are: eigenvalues near 0 lose half of their digits under a root; a simplex search stops early.
PEERS = {
    "cosine": ("cosine", 1e-10),
    "pearson": ("corr", 1e-10),
    "spearman": ("spearman", 1e-10),
    "rho-a": ("rho-a", 1e-10),
    "tau-a": ("tau-a", 1e-10),
    "tau-b": ("tau-b", 1e-10),
    "whitened-cosine": ("cosine_cov", 1e-10),
    "whitened-pearson": ("corr_cov", 1e-10),
    "bures": ("bures", 1e-8),
    "riemannian": ("neg_riem_dist", 1e-4),
}


def labelled(vectors):
    values = np.stack([squareform(v) for v in vectors])
    return xr.DataArray(values, dims=("layer", "stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N, 8))
    patterns = [np.c_[shared, rng.normal(size=(N, 22))] for _ in range(5)]
    vectors = np.stack([pdist(x, "sqeuclidean") for x in patterns])
    return vectors[:3], vectors[3:]


def peers(a, b, method, **options):
    found = rsatoolbox.rdm.compare(rsatoolbox.rdm.RDMs(a), rsatoolbox.rdm.RDMs(b), method=method, **options)
    return -found if method == "neg_riem_dist" else found


@pytest.mark.parametrize(("metric", "ties"), [(m, t) for m in PEERS for t in (False, True) if not (t and PEERS[m][1] > 1e-10)])
def test_every_measure_is_that_of_rsatoolbox(sides, metric, ties):
    a, b = (np.round(x / 8) if ties else x for x in sides)
    method, close = PEERS[metric]
    ours = ba.compare_rdms(labelled(a), labelled(b), metric=metric).score.values
    np.testing.assert_allclose(ours, peers(a, b, method), atol=close)


@pytest.mark.parametrize("metric", ["whitened-cosine", "whitened-pearson"])
def test_whitening_with_a_covariance_is_theirs_solved_exactly(sides, metric):
    """Theirs stops conjugate gradients at a relative residual of 1e-5; the same equations are solved here to the end."""
    from rsatoolbox.rdm.compare import _get_v

    a, b = sides
    covariance = np.cov(np.random.default_rng(1).normal(size=(N, 50)))
    named = xr.DataArray(covariance, dims=("stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})
    ours = ba.compare_rdms(labelled(a), labelled(b), metric=metric, covariance=named).score.values
    np.testing.assert_allclose(ours, peers(a, b, PEERS[metric][0], sigma_k=covariance), atol=1e-4)
    u, v = (x - x.mean(axis=1, keepdims=True) if metric == "whitened-pearson" else x for x in (a, b))
    half = np.linalg.cholesky(_get_v(N, covariance).toarray())
    u, v = (np.linalg.solve(half, x.T) for x in (u, v))
    u, v = u / np.linalg.norm(u, axis=0), v / np.linalg.norm(v, axis=0)
    np.testing.assert_allclose(ours, u.T @ v, atol=1e-10)


def test_variances_of_conditions_weigh_as_their_diagonal_matrix_does(sides):
    """Theirs gives another score when the same variances come as a vector: it centres before it scales, and not again after."""
    a, b = sides
    variances = np.linspace(0.2, 3.0, N)
    named = xr.DataArray(np.diag(variances), dims=("stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})
    ours = ba.compare_rdms(labelled(a), labelled(b), metric="whitened-cosine", covariance=named).score.values
    np.testing.assert_allclose(ours, peers(a, b, "cosine_cov", sigma_k=np.diag(variances)), atol=1e-4)
    assert np.abs(ours - peers(a, b, "cosine_cov", sigma_k=variances)).max() > 1e-3


def test_missing_pairs_are_left_out_as_theirs_are(sides):
    a, b = (x.copy() for x in sides)
    a[:, [3, 40]] = b[:, [3, 40]] = np.nan
    for metric in ("pearson", "whitened-cosine", "whitened-pearson"):
        ours = ba.compare_rdms(labelled(a), labelled(b), metric=metric).score.values
        np.testing.assert_allclose(ours, peers(a, b, PEERS[metric][0]), atol=1e-10)


def test_riemannian_distance_is_never_above_theirs(sides):
    a, b = sides
    ours = ba.compare_rdms(labelled(a), labelled(b), metric="riemannian").score.values
    assert (ours <= peers(a, b, "neg_riem_dist") + 1e-9).all()
    covariance = np.cov(np.random.default_rng(1).normal(size=(N, 50)))
    named = xr.DataArray(covariance, dims=("stimulus", "stimulus_2"), coords={"stimulus": IDS, "stimulus_2": IDS})
    weighed = ba.compare_rdms(labelled(a), labelled(b), metric="riemannian", covariance=named).score.values
    theirs = peers(a, b, "neg_riem_dist", sigma_k=covariance)
    assert (weighed <= theirs + 1e-9).all()
    np.testing.assert_allclose(weighed, theirs, atol=1e-4)
    assert (np.abs(weighed - ours) > 1e-3).any()


def golden_pair():
    r = np.random.RandomState(0)
    X = r.randn(50, 20)
    Y = np.c_[X[:, :10] @ r.randn(10, 12), r.randn(50, 3)] + 0.5 * r.randn(50, 15)
    assert abs(X.sum() + 45.25670749) < 1e-8
    assert abs(Y.sum() - 111.55312700) < 1e-8
    return X, Y


@pytest.mark.parametrize(
    ("metric", "distance", "expected"),
    [
        ("whitened-cosine", "sqeuclidean", 0.5982721919861227),  # linear CKA
        ("bures", "sqeuclidean", 0.7051221224278137),  # normalised Bures similarity
        ("spearman", "correlation", 0.4759742396),
        ("pearson", "sqeuclidean", 0.5639029751),
    ],
)
def test_golden_values(metric, distance, expected):
    X, Y = golden_pair()
    ids = [f"s{i:02d}" for i in range(50)]
    x, y = (
        xr.DataArray(squareform(pdist(v, distance)), dims=("stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})
        for v in (X, Y)
    )
    forward, back = (ba.compare_rdms(*pair, metric=metric).score.item() for pair in ((x, y), (y, x)))
    assert forward == pytest.approx(expected, abs=1e-10)
    assert back == pytest.approx(forward, abs=1e-12)


def test_whitened_cosine_is_linear_cka_and_bures_is_that_of_patterns():
    X, Y = golden_pair()
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0)
    cka = np.linalg.norm(X.T @ Y) ** 2 / (np.linalg.norm(X.T @ X) * np.linalg.norm(Y.T @ Y))
    nbs = np.linalg.norm(X.T @ Y, "nuc") / (np.linalg.norm(X) * np.linalg.norm(Y))
    recordings = [
        ba.responses(v, stimulus_id=[f"s{i:02d}" for i in range(50)], neuroid_id=range(v.shape[1]), modality="ann", system="net")
        for v in (X, Y)
    ]
    rdms = [ba.rdm(x, metric="sqeuclidean") for x in recordings]
    assert ba.compare_rdms(*rdms, metric="whitened-cosine").score.item() == pytest.approx(cka, abs=1e-6)
    assert ba.compare_rdms(*rdms, metric="bures").score.item() == pytest.approx(nbs, abs=1e-6)
