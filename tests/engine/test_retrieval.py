"""Ranks of the true candidate: perfect, constant, random and all-NaN predictions have known answers."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from brainalign.engine.retrieval import (
    MEASURES,
    SIMILARITIES,
    chance_measures,
    match_spread,
    prepared,
    rank_true,
    retrieval_measures,
)

N, D = 200, 64
RNG = np.random.default_rng(0)
CANDIDATES = RNG.normal(size=(N, D))
ITSELF = np.arange(N)


def measures(predictions, **kwargs):
    return dict(
        zip(MEASURES, retrieval_measures(rank_true(predictions, CANDIDATES, ITSELF, **kwargs), np.full(N, N)), strict=True)
    )


@pytest.mark.parametrize("similarity", ["cosine", "pearson", "euclidean"])
def test_perfect_predictions_find_themselves(similarity):
    found = measures(CANDIDATES, similarity=similarity)
    assert found == {"top-1": 1, "top-5": 1, "top-10": 1, "median-rank": 1, "reciprocal-rank": 1, "two-way": 1}


def test_a_constant_prediction_is_chance():
    found = measures(np.tile(RNG.normal(size=D), (N, 1)))
    assert found["top-1"] == 1 / N
    assert found["top-5"] == 5 / N
    assert found["median-rank"] == 100.5
    assert found["two-way"] == pytest.approx(0.5)


def test_what_failed_altogether_is_chance_and_not_perfect():
    found = measures(np.full((N, D), np.nan))
    assert (found["top-1"], found["top-5"], found["median-rank"], found["two-way"]) == (0, 0, 100.5, 0.5)
    assert np.isnan(rank_true(np.zeros((N, D)), CANDIDATES, ITSELF)).all()
    assert np.isnan(rank_true(np.full((N, D), 0.1), CANDIDATES, ITSELF, similarity="pearson")).all()


def test_random_predictions_are_chance_on_average():
    rng = np.random.default_rng(1)
    drawn = np.mean([list(measures(rng.normal(size=(N, D))).values()) for _ in range(200)], axis=0)
    chance = chance_measures(np.full(N, N))
    np.testing.assert_array_less(np.abs(drawn - chance)[:3], 4 * np.sqrt(chance[:3] / (200 * N)))  # of 40,000 draws
    np.testing.assert_allclose(drawn[3:], chance[3:], rtol=0.05)
    assert drawn[5] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_ranks_are_those_of_the_whole_matrix_of_similarities(similarity):
    queries = CANDIDATES[:40] + 2 * RNG.normal(size=(40, D))
    if similarity == "euclidean":
        table = -cdist(queries, CANDIDATES)
    elif similarity == "dot":
        table = queries @ CANDIDATES.T
    else:
        table = 1 - cdist(queries, CANDIDATES, {"cosine": "cosine", "pearson": "correlation"}[similarity])
    want = rankdata(-table, axis=1)[np.arange(40), np.arange(40)] - 1
    np.testing.assert_array_equal(rank_true(queries, CANDIDATES, np.arange(40), similarity=similarity), want)


def test_blocks_change_nothing_and_copies_of_the_true_one_share_its_rank(monkeypatch):
    import brainalign.engine.retrieval as module

    queries = CANDIDATES + RNG.normal(size=(N, D))
    thrice = np.concatenate([CANDIDATES] * 3)
    whole = rank_true(queries, thrice, ITSELF)
    np.testing.assert_array_equal(whole, 3 * rank_true(queries, CANDIDATES, ITSELF) + 1)
    monkeypatch.setattr(module, "_CELLS", 7 * N)
    np.testing.assert_array_equal(rank_true(queries, thrice, ITSELF), whole)


def test_a_candidate_that_is_undefined_is_no_rival():
    holed = CANDIDATES.copy()
    holed[3] = np.nan
    found = rank_true(CANDIDATES, holed, ITSELF)
    assert np.isnan(found[3])
    assert (np.delete(found, 3) == 0).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_true_candidate_of_its_own_takes_the_place_of_the_common_one(similarity):
    queries, own = CANDIDATES[:9] + RNG.normal(size=(9, D)), CANDIDATES[:9] + 0.5 * RNG.normal(size=(9, D))
    found = rank_true(queries, CANDIDATES, np.arange(9), similarity=similarity, own=own)
    for i in range(9):
        mine = CANDIDATES.copy()
        mine[i] = own[i]
        assert found[i] == rank_true(queries[[i]], mine, np.array([i]), similarity=similarity)[0]
    assert np.isnan(rank_true(queries, CANDIDATES, np.arange(9), similarity=similarity, own=own * np.nan)).all()


def test_spreads_are_matched_column_by_column_and_a_constant_gets_the_mean():
    x, y = RNG.normal(size=(50, 3)) * [1, 5, 0], RNG.normal(size=(70, 3)) * [2, 0.1, 3] + [4, 0, -1]
    gain, offset = match_spread(x, y)
    np.testing.assert_allclose((x * gain + offset).mean(axis=0), y.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose((x * gain + offset).std(axis=0), y.std(axis=0) * [1, 1, 0], atol=1e-12)


def test_rows_of_constants_have_no_direction():
    assert np.isnan(prepared(np.array([[0.0, 0.0]]), "cosine")).all()
    np.testing.assert_allclose(prepared(np.array([[3.0, 4.0]]), "cosine"), [[0.6, 0.8]])


def test_chance_of_fewer_candidates_than_asked_for_is_certain():
    assert chance_measures(np.array([4, 4]))[:3].tolist() == [0.25, 1.0, 1.0]
