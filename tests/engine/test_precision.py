import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from brainalign.engine.precision import METHODS, noise_covariance, weighed_across, whiten


def residuals(n=40, p=12, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) @ (np.eye(p) + 0.3 * rng.normal(size=(p, p)))
    return x - x.mean(axis=0)


def test_ledoit_wolf_is_that_of_scikit_learn():
    x = residuals()
    expected, amount = ledoit_wolf(x, assume_centered=True)
    covariance, shrinkage = noise_covariance(x, "shrinkage-eye", dof=len(x))
    np.testing.assert_allclose(covariance, expected, rtol=1e-10)
    assert shrinkage == pytest.approx(amount)


def test_schaefer_strimmer_entry_by_entry():
    x = residuals()
    n, p = x.shape
    s = np.cov(x.T)
    z = x / np.sqrt(np.diag(s))
    pairs = [(j, k) for j in range(p) for k in range(p) if j != k]
    w = {(j, k): z[:, j] * z[:, k] for j, k in pairs}
    variance = sum(n / (n - 1) ** 2 * ((v**2).sum() / (n - 1) - (v.sum() / (n - 1)) ** 2) for v in w.values())
    amount = variance / sum((v.sum() / (n - 1)) ** 2 for v in w.values())
    covariance, shrinkage = noise_covariance(x, "shrinkage-diagonal", dof=n - 1)
    assert shrinkage == pytest.approx(amount)
    np.testing.assert_allclose(covariance, np.where(np.eye(p) > 0, s, (1 - amount) * s), rtol=1e-10)


def test_what_is_estimated_comes_near_the_truth_and_shrinking_brings_few_rows_nearer():
    rng = np.random.default_rng(0)
    truth = 0.5 ** np.abs(np.subtract.outer(np.arange(30), np.arange(30)))
    draw = rng.multivariate_normal(np.zeros(30), truth, size=4000)
    error = {}
    for n in (20, 4000):
        for method in METHODS:
            found = noise_covariance(draw[:n] - draw[:n].mean(axis=0), method, dof=n - 1)[0]
            found = np.diag(found[0]) if method == "diagonal" else found
            error[method, n] = np.linalg.norm(found - truth) / np.linalg.norm(truth)
    assert error["shrinkage-diagonal", 20] < error["full", 20]
    assert error["shrinkage-eye", 20] < error["full", 20]
    assert max(error[method, 4000] for method in METHODS if method != "diagonal") < 0.1


def test_white_patterns_have_the_inner_products_of_the_precision():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 2, 5, 12))
    covariance = np.stack([np.cov(residuals(seed=seed).T) for seed in range(2)])
    for one in (covariance[0], covariance, np.diagonal(covariance, axis1=1, axis2=2)[:, None]):
        white = whiten(x, one)
        precision = np.linalg.inv(one) if one.shape[-2] == 12 else np.eye(12) / one.swapaxes(-1, -2)
        np.testing.assert_allclose(white @ white.swapaxes(-1, -2), x @ precision @ x.swapaxes(-1, -2), rtol=1e-9, atol=1e-9)
    torch = pytest.importorskip("torch")
    tensor = whiten(torch.from_numpy(x), torch.from_numpy(covariance))
    np.testing.assert_allclose(tensor.numpy(), whiten(x, covariance), rtol=1e-9, atol=1e-12)


def test_patterns_of_different_folds_are_weighed_by_the_precision():
    rng = np.random.default_rng(0)
    x, precision = rng.normal(size=(3, 2, 5, 12)), np.stack([np.cov(residuals(seed=s).T) for s in range(2)])
    means = rng.normal(size=(3, 2, 1, 12))
    torch = pytest.importorskip("torch")
    for one in (precision[0], precision):
        kept, apart = one.copy(), x - means
        expected = sum(apart[f] @ one @ apart[g].swapaxes(-1, -2) for f in range(3) for g in range(3) if f != g)
        tensors = (torch.from_numpy(values) for values in (x, means, one))
        for found in (weighed_across(x, means, one), weighed_across(*tensors).numpy()):
            np.testing.assert_allclose(found, expected, atol=1e-11)
        np.testing.assert_array_equal(one, kept)


@pytest.mark.parametrize("singular", [np.ones((4, 4)), np.array([[1.0, 1.0, 0.0, 1.0]])])
def test_a_singular_covariance_is_an_error(singular):
    with pytest.raises(np.linalg.LinAlgError):
        whiten(np.ones((2, 4)), singular)
