import numpy as np
import pytest
from scipy.stats import kurtosis, skew

from brainalign.engine.projection import (
    classes,
    cosines,
    effective_size,
    highest,
    patterns,
    project,
    sharpness_of_size,
)
from brainalign.engine.timewise import haufe_patterns


def rng(seed=0):
    return np.random.default_rng(seed)


def planted(n_pool=20000, n_features=64, n_concepts=50):
    """Weights that are a concept and noise, at a cosine of .58, and a pool of stimuli with a concept each."""
    concepts = rng().normal(size=(n_concepts, n_features))
    concepts /= np.linalg.norm(concepts, axis=1, keepdims=True)
    pool = concepts[rng(1).integers(n_concepts, size=n_pool)] + 0.1 * rng(2).normal(size=(n_pool, n_features))
    noise = rng(3).normal(size=concepts.shape)
    noise -= (noise * concepts).sum(axis=1, keepdims=True) * concepts
    return (concepts + np.sqrt(1 / 0.58**2 - 1) * noise / np.linalg.norm(noise, axis=1, keepdims=True)).T, pool, concepts.T


def test_a_planted_concept_comes_out_of_its_noise():
    weights, pool, concepts = planted()
    np.testing.assert_allclose(cosines(weights, concepts), 0.58, atol=1e-9)
    found = {size: cosines(project(weights, pool, size)[0], concepts).mean() for size in (1, 50, 200, 19000)}
    assert found[50] > 0.97
    assert found[200] > 0.97
    assert found[1] < 0.9
    assert found[19000] < 0.7  # the mean of the pool, whatever the weights


def test_the_effective_size_is_met_and_the_sharpness_does_not_mind_the_scale():
    likeness = rng().normal(size=(5, 400))
    for size in (1.5, 30.0, 350.0):
        tau = sharpness_of_size(likeness, size)
        shares = np.exp(tau[:, None] * likeness)
        np.testing.assert_allclose(effective_size(shares / shares.sum(axis=1, keepdims=True)), size, rtol=1e-6)
        np.testing.assert_allclose(sharpness_of_size(1e-3 * likeness, size), 1e3 * tau, rtol=1e-6)
    assert np.isfinite(sharpness_of_size(np.ones((1, 10)), 3.0)).all()


def test_a_projection_has_the_mean_length_of_the_pool_and_is_the_same_in_portions(monkeypatch):
    pool, weights = rng().normal(size=(300, 6)), rng(1).normal(size=(6, 4))
    whole, tau, size = project(weights, pool, 20.0)
    np.testing.assert_allclose(size, 20.0, rtol=1e-6)
    units = pool / np.linalg.norm(pool, axis=1, keepdims=True)
    shares = np.exp(tau[:, None] * (weights / np.linalg.norm(weights, axis=0)).T @ units.T)
    shares /= shares.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(whole, axis=0), shares @ np.linalg.norm(pool, axis=1))
    np.testing.assert_allclose(cosines(whole, units.T @ shares.T), 1.0)
    monkeypatch.setattr("brainalign.engine.projection._ROWS", 70)
    np.testing.assert_allclose(project(weights, pool, 20.0)[0], whole)


def test_the_highest_rows_and_the_shape_are_those_of_scipy():
    vectors, bank = rng().normal(size=(5, 3)), rng(1).standard_t(4, size=(200, 5))
    rows, products, shares, shape = highest(vectors, bank, 7)
    wanted = vectors.T @ bank.T
    np.testing.assert_array_equal(rows, np.argsort(-wanted, axis=1)[:, :7])
    np.testing.assert_allclose(products, np.take_along_axis(wanted, rows, axis=1))
    np.testing.assert_allclose(shape, [skew(wanted, axis=1), kurtosis(wanted, axis=1)])
    all_shares = np.exp(wanted) / np.exp(wanted).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, np.take_along_axis(all_shares, rows, axis=1))


def test_patterns_are_those_of_haufe_one_output_at_a_time():
    x, w = rng().normal(size=(50, 6)) @ rng(1).normal(size=(6, 6)), rng(2).normal(size=(6, 3))
    found = patterns(x, w)
    for n in range(3):
        np.testing.assert_allclose(found[:, [n]], haufe_patterns(x, w[:, [n]]))
    assert np.isnan(patterns(x, np.zeros((6, 1)))).all()


@pytest.mark.parametrize(
    ("in_out", "gate_out", "role"),
    [
        (0.9, 0.8, "enrichment"), (0.9, 0.1, "conditional enrichment"), (-0.9, -0.8, "depletion"), (-0.9, 0.1, "conditional depletion"),
        (0.1, 0.9, "proportional change"), (0.1, -0.9, "proportional change"), (0.1, 0.2, "orthogonal"), (np.nan, 0.2, ""),
        (0.9, None, "enrichment"), (-0.9, None, "depletion"), (0.2, None, "orthogonal"),
    ],
)  # fmt: skip
def test_neurons_are_classed_by_the_cosines_of_their_weights(in_out, gate_out, role):
    gate = None if gate_out is None else np.array([gate_out])
    assert classes(np.array([in_out]), gate, 0.5).tolist() == [role]


def test_cosines_of_nothing_are_unknown():
    assert cosines(np.eye(2), np.array([[-3.0, 0.0], [0.0, 0.0]])).tolist()[0] == -1
    assert np.isnan(cosines(np.eye(2), np.zeros((2, 2)))).all()
