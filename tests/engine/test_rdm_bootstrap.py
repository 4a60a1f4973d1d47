import numpy as np
import pytest

from brainalign.engine import rdm_bootstrap
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.correlate import ranks
from brainalign.engine.rdm_bootstrap import Held, pair_weights, redrawn_parts
from brainalign.engine.rdm_models import residual_units

RNG = np.random.default_rng(0)
N, N_SUBJECTS, N_DRAWS = 9, 4, 12
RESAMPLED = ("cosine", "pearson", "spearman", "rho-a", "tau-a", "tau-b", "whitened-cosine", "whitened-pearson")


def geometries(n_rdms, n=N, seed=0):
    """Return dissimilarities with ties, none negative, (rdm, pair)."""
    return np.round(np.random.default_rng(seed).gamma(2.0, size=(n_rdms, n * (n - 1) // 2)), 1)


def sample(vectors, count):
    """Return the matrices of a drawn sample, copies and all; a stimulus with itself is no pair."""
    n, rows = len(count), np.repeat(np.arange(len(count)), count)
    position = np.full((n, n), -1)
    first, second = np.triu_indices(n, 1)
    position[first, second] = position[second, first] = np.arange(len(first))
    i, j = np.triu_indices(len(rows), 1)
    taken = position[rows[i], rows[j]]
    return np.where(taken >= 0, vectors[:, taken], np.nan)


def draws(seed=0, n=N):
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_DRAWS)
    units = np.random.default_rng(seed + 1).multinomial(N_SUBJECTS, np.full(N_SUBJECTS, 1 / N_SUBJECTS), size=N_DRAWS)
    counts[0] = [6, 2, 1, 0, 0, 0, 0, 0, 0]  # most of one stimulus
    return counts, units


def pooled(vectors, metric):
    if metric in ("spearman", "rho-a", "tau-a", "tau-b"):
        known = ~np.isnan(vectors[0])
        out = np.full(vectors.shape, np.nan)
        out[:, known] = ranks(vectors[:, known], axis=1)
        return out.sum(axis=0)
    centred = vectors - np.nanmean(vectors, axis=1, keepdims=True) if metric.endswith("pearson") else vectors
    return (centred / np.sqrt(np.nanmean(centred**2, axis=1, keepdims=True))).sum(axis=0)


@pytest.mark.parametrize("metric", RESAMPLED)
def test_weights_do_what_samples_with_copies_do(metric):
    models, data, (counts, units) = geometries(2), geometries(N_SUBJECTS, seed=1), draws()
    measure = COMPARATORS[metric]
    (part,) = (made() for made in redrawn_parts(models, data[None], metric, counts))
    lower, upper = part.bounds(units)
    assert part.scores.shape == (len(counts), 2, N_SUBJECTS)
    for draw, (count, unit) in enumerate(zip(counts, units, strict=True)):
        x, y = sample(models, count), sample(data, count)
        np.testing.assert_allclose(part.scores[draw], measure.product(measure.prepare(x), measure.prepare(y)), rtol=1e-10)
        for subject in range(N_SUBJECTS):
            if not unit[subject]:
                assert np.isnan([lower[draw, subject], upper[draw, subject]]).all()
                continue
            everyone, others = np.repeat(np.arange(N_SUBJECTS), unit), np.repeat(np.arange(N_SUBJECTS), unit)
            others = others[others != subject]
            for bound, members in ((lower, others), (upper, everyone)):
                if len(members):
                    both = np.stack([y[subject], pooled(y[members], metric)])
                    wanted = measure.product(*(measure.prepare(both)[[i]] for i in (0, 1)))
                    np.testing.assert_allclose(bound[draw, subject], wanted[0, 0], rtol=1e-10)
                else:
                    assert np.isnan(bound[draw, subject])


@pytest.mark.parametrize("metric", COMPARATORS)
def test_as_they_are_for_every_measure(metric):
    """Subjects alone may be redrawn under any of them; Bures and Riemannian want real distances."""
    x = RNG.normal(size=(2 + N_SUBJECTS, N, 12))
    first, second = np.triu_indices(N, 1)
    vectors = np.square(x[:, first] - x[:, second]).sum(axis=2)
    models, data, measure = vectors[:2], vectors[2:], COMPARATORS[metric]
    (part,) = (made() for made in redrawn_parts(models, data[None], metric, np.ones((1, N), dtype=int)))
    np.testing.assert_allclose(part.scores[0], measure.product(measure.prepare(models), measure.prepare(data)), rtol=1e-9)
    lower, upper = part.bounds(np.array([[1, 1, 1, 1], [2, 0, 1, 1], [4, 0, 0, 0]]))
    assert np.isfinite(upper[0]).all()
    assert np.isnan(upper[1, 1])
    assert np.isnan(lower[2]).all()
    better = upper[0] >= lower[0] if measure.higher_is_alike else upper[0] <= lower[0]
    assert better.all()


@pytest.mark.parametrize("metric", ["cosine", "whitened-pearson", "spearman"])
def test_tiles_change_nothing(metric, monkeypatch):
    models, data, (counts, units) = geometries(3), geometries(2 * N_SUBJECTS, seed=1).reshape(2, N_SUBJECTS, -1), draws()
    whole = [made() for made in redrawn_parts(models, data, metric, counts)]
    assert [part.group for part in whole] == [0, 1]
    monkeypatch.setattr(rdm_bootstrap, "_BUDGET", 300)
    tiles = [made() for made in redrawn_parts(models, data, metric, counts)]
    assert len(tiles) > 2
    for tile in tiles:
        np.testing.assert_allclose(tile.scores, whole[tile.group].scores[tile.draws], rtol=1e-12)
        np.testing.assert_allclose(
            tile.bounds(units[tile.draws]), np.stack(whole[tile.group].bounds(units))[:, tile.draws], rtol=1e-12
        )


@pytest.mark.parametrize("metric", RESAMPLED)
def test_a_draw_of_two_stimuli_or_of_a_flat_matrix_has_no_score(metric):
    counts = np.array([[5, 4, 0, 0, 0, 0, 0, 0, 0], [1] * 9, [3, 3, 3, 0, 0, 0, 0, 0, 0]])
    models = geometries(2)
    models[1] = 1.0 * (np.triu_indices(N, 1)[0] > 2)  # the first three stimuli are all alike
    (part,) = (made() for made in redrawn_parts(models, geometries(N_SUBJECTS, seed=1)[None], metric, counts))
    assert np.isnan(part.scores[0]).all()
    assert np.isfinite(part.scores[1]).all()
    assert np.isnan(part.scores[2, 1]).all()
    lower, upper = part.bounds(np.ones((3, N_SUBJECTS), dtype=int))
    assert np.isnan([lower[0], upper[0]]).all()
    assert np.isfinite([lower[1], upper[1]]).all()


def test_pair_weights_leave_a_stimulus_with_itself_out():
    counts = RNG.multinomial(N, np.full(N, 1 / N), size=3)
    drawn = [
        len(rows) * (len(rows) - 1) // 2 - (count * (count - 1) // 2).sum() for count in counts for rows in [range(count.sum())]
    ]
    np.testing.assert_array_equal(pair_weights(counts).sum(axis=1), drawn)


def test_a_covariance_goes_to_the_measure_and_its_bounds():
    models, data, measure = geometries(2), geometries(3, seed=1), COMPARATORS["whitened-cosine"]
    covariance = np.cov(RNG.normal(size=(N, 30)))
    (part,) = (
        made() for made in redrawn_parts(models, data[None], "whitened-cosine", np.ones((1, N), dtype=int), covariance=covariance)
    )
    np.testing.assert_allclose(part.scores[0], measure.product(*(measure.prepare(x, covariance) for x in (models, data))))
    wanted = measure.product(*(measure.prepare(x, covariance) for x in (pooled(data[1:], "whitened-cosine")[None], data[:1])))
    np.testing.assert_allclose(part.bounds(np.ones((1, 3)))[0][0, 0], wanted[0, 0])


@pytest.mark.parametrize("metric", ["cosine", "pearson", "spearman"])
def test_what_is_held_constant_is_taken_out_of_each_sample(metric):
    models, data, controls, (counts, _) = geometries(2), geometries(3, seed=1), geometries(2, seed=2), draws()
    measure = COMPARATORS[metric]
    (part,) = (made() for made in redrawn_parts(models, data[None], metric, counts, held=Held(controls, of_data=False)))
    lower, _ = part.bounds(np.ones((len(counts), 3), dtype=int))
    for draw, count in enumerate(counts):
        x, y, c = (measure.prepare(sample(side, count)) for side in (models, data, controls))
        np.testing.assert_allclose(part.scores[draw], residual_units(x, c) @ y.T, rtol=1e-9)
        others = measure.prepare(pooled(sample(data[1:], count), metric)[None])
        np.testing.assert_allclose(lower[draw, 0], (residual_units(others, c) @ y[:1].T)[0, 0], rtol=1e-9)
