"""Correlations from sums over blocks, best partners and rotated bases."""

import numpy as np
import pytest

from brainalign.engine.correlate import correlation_matrix
from brainalign.engine.universal import CrossSums, best_of, random_rotation, rotated


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    a = (rng.normal(size=(300, 7)) + 30) * np.logspace(-10, 10, 7)
    return a, np.hstack([2 * a[:, :4], rng.normal(size=(300, 3))])


def of(a, b, step=300, **options):
    sums = CrossSums(a.shape[1], b.shape[1], **options)
    for start in range(0, len(a), step):
        sums.add(a[start : start + step], b[start : start + step])
    return sums


def test_blocks_give_the_correlations_of_all_rows(sides):
    a, b = sides[0][:, 3:], sides[1]
    for step in (300, 7):
        sums = of(a, b, step, gram=True)
        np.testing.assert_allclose(sums.correlations(), correlation_matrix(a, b), atol=1e-8)
        np.testing.assert_allclose(sums.gram()[3:, 3:], correlation_matrix(b[:, 3:], b[:, 3:]), atol=1e-10)


def test_constant_columns_and_nan_have_none():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    x[:, 0], x[7, 1] = 0.1, np.nan
    found = of(x, x, 9).correlations()
    assert of(x, x, 9).varying().tolist() == [False, False, True]
    assert np.isfinite(found).tolist() == [[False] * 3, [False] * 3, [False, False, True]]


def test_the_best_keeps_its_sign():
    r = np.array([[0.2, -0.9, np.nan], [np.nan] * 3])
    best, place = best_of(r, absolute=True)
    assert (best[0], place[0]) == (-0.9, 1)
    assert np.isnan(best[1])
    assert best_of(r, absolute=False)[0][0] == 0.2


def test_rotations_of_sums_are_rotations_of_rows(sides):
    a, b = np.random.default_rng(1).normal(size=(300, 5)), sides[1][:, 3:]
    turn = random_rotation(4, np.random.default_rng(2))
    np.testing.assert_allclose(turn.T @ turn, np.eye(4), atol=1e-12)
    z = (b - b.mean(axis=0)) / b.std(axis=0)
    sums = of(a, b, gram=True)
    np.testing.assert_allclose(rotated(sums.correlations(), sums.gram(), turn), correlation_matrix(a, z @ turn), atol=1e-10)


def test_haar_rotations_have_no_preferred_direction():
    turns = np.stack([random_rotation(3, np.random.default_rng(seed)) for seed in range(2000)])
    assert np.abs(turns.mean(axis=0)).max() < 0.06
    np.testing.assert_allclose(np.square(turns).mean(axis=0), 1 / 3, atol=0.03)
    loose = random_rotation(3, np.random.default_rng(0), orthogonal=False)
    np.testing.assert_allclose(np.linalg.norm(loose, axis=0), 1.0)


def test_a_rotated_copy_of_fifty_has_a_best_of_about_a_third():
    x = np.random.default_rng(0).normal(size=(20_000, 50))
    sums = of(x, x, gram=True)
    best = [
        best_of(rotated(sums.correlations(), sums.gram(), random_rotation(50, np.random.default_rng(s))), absolute=False)[0]
        for s in range(5)
    ]
    assert np.mean(best) == pytest.approx(0.32, abs=0.02)
