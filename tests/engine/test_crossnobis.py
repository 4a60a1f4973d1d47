import itertools

import numpy as np
import pytest

from brainalign.engine.crossnobis import differences, poisson_products, poisson_products_across, products_across


def trials(seed=0, n=5, folds=4, p=6, balanced=True):
    rng = np.random.default_rng(seed)
    counts = np.full((folds, n), 2) if balanced else rng.integers(0, 4, (folds, n))
    values = [[rng.normal(size=(count, p)) for count in row] for row in counts]
    return counts, values, np.array([[v.sum(axis=0) for v in row] for row in values])


@pytest.mark.parametrize("balanced", [True, False])
def test_mean_over_all_pairs_of_presentations_in_different_folds(balanced):
    counts, values, sums = trials(balanced=balanced)
    sums_of_pairs, n_pairs = np.zeros((5, 5)), np.zeros((5, 5))
    for f in range(4):
        for g in range(4):
            for i in range(5):
                for j in range(5):
                    if f != g:
                        sums_of_pairs[i, j] += (values[f][i] @ values[g][j].T).sum()
                        n_pairs[i, j] += len(values[f][i]) * len(values[g][j])
    expected = sums_of_pairs / n_pairs
    np.testing.assert_allclose(differences(products_across(sums, counts)), differences(expected), atol=1e-12)
    same = np.broadcast_to(np.eye(6), (4, 6, 6))
    np.testing.assert_allclose(differences(products_across(sums, counts, same)), differences(expected), atol=1e-12)
    found = products_across(sums, counts, precision=np.eye(6))
    np.testing.assert_allclose(differences(found), differences(expected), atol=1e-12)
    noise = np.stack([np.cov(np.random.default_rng(f).normal(size=(6, 20))) for f in range(4)])
    sums_of_pairs[:] = 0
    for f, g in itertools.permutations(range(4), 2):
        weights = np.linalg.inv((noise[f] + noise[g]) / 2)
        sums_of_pairs += [[(values[f][i] @ weights @ values[g][j].T).sum() for j in range(5)] for i in range(5)]
    np.testing.assert_allclose(
        differences(products_across(sums, counts, noise)), differences(sums_of_pairs / n_pairs), atol=1e-11
    )


def test_an_offset_far_larger_than_the_signal_costs_no_digits():
    counts, _, sums = trials()
    far = sums + 1e8
    np.testing.assert_allclose(
        differences(products_across(far, counts)), differences(products_across(far - 1e8, counts)), atol=1e-6
    )


def test_a_condition_that_is_nowhere_is_nan_and_disturbs_no_other():
    counts, _, sums = trials()
    without = differences(products_across(sums[:, 1:] - sums[:, 1:].mean(axis=1, keepdims=True), counts[:, 1:]))
    counts[:, 0], sums[:, 0] = 0, 0
    found = differences(products_across(sums, counts))
    assert np.isnan(found[0]).all()
    np.testing.assert_allclose(found[1:, 1:], without, atol=1e-12)
    assert np.isfinite(without).all()


def test_poisson_products_are_the_symmetrised_divergence():
    rates = np.random.default_rng(0).gamma(2.0, size=(4, 7))
    smooth = (rates + 0.1) / 1.1
    expected = ((smooth[:, None] - smooth) * (np.log(smooth)[:, None] - np.log(smooth))).sum(axis=-1)
    np.testing.assert_allclose(differences(poisson_products(rates, (1.0, 0.1))), expected, atol=1e-12)


def test_differences_between_times():
    rng = np.random.default_rng(0)
    products = rng.normal(size=(6, 6))  # two times of three conditions
    found = differences(products, n_times=2)
    k = products.reshape(2, 3, 2, 3)
    for t in range(2):
        for u in range(2):
            for i in range(3):
                for j in range(3):
                    expected = k[t, i, u, i] + k[t, j, u, j] - k[t, i, u, j] - k[t, j, u, i]
                    assert found[t, u, i, j] == pytest.approx(expected)


def test_torch_equals_numpy():
    torch = pytest.importorskip("torch")
    counts, _, sums = trials(balanced=False)
    np.testing.assert_allclose(products_across(torch.from_numpy(sums), counts).numpy(), products_across(sums, counts), atol=1e-12)
    rates, counts = np.abs(sums), np.full_like(counts, 2)
    found = poisson_products_across(torch.from_numpy(rates), counts, (1.0, 0.1)).numpy()
    np.testing.assert_allclose(found, poisson_products_across(rates, counts, (1.0, 0.1)), atol=1e-12)
