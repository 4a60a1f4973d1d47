import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from brainalign.engine.similarity import (
    cheapest_form,
    draw_halves,
    grid_scores,
    half_scores,
    p_of_orders,
    permuted_scores,
    share_to_draw,
    spread_of_halves,
)
from brainalign.geometry.metrics import METRICS, similarity_metric


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    """Pieces go side by side, whatever this run allows products."""
    monkeypatch.setattr("brainalign.engine.similarity._WORTH", 0)
    with threadpool_limits(3, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 6))
    first = [z @ rng.normal(size=(6, k)) + 0.5 * rng.normal(size=(40, k)) for k in (5, 7)]
    return first, [z @ rng.normal(size=(6, k)) + 0.5 * rng.normal(size=(40, k)) for k in (4, 6, 8)]


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_permutation_of_what_is_prepared_is_a_permutation_of_the_stimuli(sides, name):
    metric = similarity_metric(name)
    if metric.trials:
        pytest.skip("of single presentations")
    orders = np.stack([np.random.default_rng(i).permutation(40) for i in range(3)])
    prepared = [[metric.prepare(x) for x in side] for side in sides]
    found = permuted_scores(metric, *prepared, orders)
    for scores, order in zip(found, orders, strict=True):
        anew = grid_scores(metric, prepared[0], [metric.prepare(x[order]) for x in sides[1]])
        np.testing.assert_allclose(scores, anew, atol=1e-10)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_halves_are_scored_as_if_there_were_no_others(sides, name):
    metric = similarity_metric(name)
    if metric.trials or name == "cka-rbf":  # whose width stays that of all stimuli
        pytest.skip("elsewhere")
    halves = draw_halves(np.arange(40), 3, np.random.default_rng(0))
    found = half_scores(metric, *sides, halves)
    scale = 2**0.5 if metric.sums else 1.0
    for scores, rows in zip(found, halves, strict=True):
        anew = [[metric.prepare(x[rows] * scale) for x in side] for side in sides]
        np.testing.assert_allclose(scores, grid_scores(metric, *anew), atol=1e-10)


@pytest.mark.parametrize("name", ["cka", "cka-debiased"])
def test_both_forms_score_alike_and_the_cheaper_one_is_taken(sides, name):
    metric = similarity_metric(name)
    few, many = cheapest_form(metric, 1000, [10], [10]), cheapest_form(metric, 50, [4000], [4000])
    assert few is metric.of_features
    assert many is metric
    assert cheapest_form(metric, 50_000, [10_000], [10_000]) is metric.of_features  # 20 GB of kernels
    assert cheapest_form(metric, 1000, [100], [100], halves=True) is metric  # all halves in a few products
    assert cheapest_form(metric, 10_000, [20], [20], halves=True) is metric.of_features
    found = [grid_scores(form, *[[form.prepare(x) for x in side] for side in sides]) for form in (few, many)]
    np.testing.assert_allclose(*found, atol=1e-13)
    halves = draw_halves(np.arange(40), 3, np.random.default_rng(0))
    np.testing.assert_allclose(half_scores(few, *sides, halves), half_scores(many, *sides, halves), atol=1e-11)


def test_halves_keep_units_together():
    units = np.repeat(np.arange(6), 5)
    halves = draw_halves(units, 50, np.random.default_rng(0))
    assert (halves.sum(axis=1) == 15).all()
    assert (halves.reshape(50, 6, 5).all(axis=2) | ~halves.reshape(50, 6, 5).any(axis=2)).all()
    assert len(np.unique(halves, axis=0)) > 10


def test_the_spread_of_halves_of_a_mean_is_its_standard_error():
    x = np.random.default_rng(0).normal(size=50)
    halves = draw_halves(np.arange(50), 20_000, np.random.default_rng(1))
    drawn = spread_of_halves(x.mean(), (halves @ x) / 25)
    assert drawn.mean() == pytest.approx(x.mean())
    assert drawn.std() == pytest.approx(x.std(ddof=1) / np.sqrt(50), rel=0.02)
    third = draw_halves(np.arange(51), 20_000, np.random.default_rng(1))
    assert third.sum(axis=1).max() == 25


def test_canonical_correlations_are_drawn_with_stimuli_to_spare():
    rng = np.random.default_rng(0)
    wide, flat = rng.normal(size=(60, 40)), rng.normal(size=(60, 3)) @ rng.normal(size=(3, 200))
    cca = similarity_metric("cca")
    assert share_to_draw(cca, [wide, flat]) == 50 / 60
    assert share_to_draw(cca, [flat]) == 32 / 60
    assert share_to_draw(cca, [rng.normal(size=(60, 80)), flat]) == 32 / 60  # the first has no score at all
    assert share_to_draw(similarity_metric("cka"), [wide]) == 0.5
    assert (draw_halves(np.arange(60), 9, rng, 50 / 60).sum(axis=1) == 50).all()
    x = rng.normal(size=60)
    drawn = draw_halves(np.arange(60), 20_000, rng, 50 / 60)
    assert spread_of_halves(x.mean(), (drawn @ x) / 50, 50 / 60).std() == pytest.approx(x.std(ddof=1) / np.sqrt(60), rel=0.02)


def test_orders_that_score_alike_are_ties_and_cells_of_any_size_are_one_family():
    null = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.15]])
    p, p_max = p_of_orders(np.array([0.9 + 1e-13, 0.4]), null, higher_is_alike=True)
    np.testing.assert_allclose(p, [0.5, 0.25])
    np.testing.assert_allclose(p_max, [0.5, 0.25])  # the raw maximum of the first cell would hide the second
    low, low_max = p_of_orders(-np.array([0.9 + 1e-13, 0.4]), -null, higher_is_alike=False)
    np.testing.assert_allclose([low, low_max], [p, p_max])
    assert np.isnan(p_of_orders(np.array([np.nan, 0.4]), null, higher_is_alike=True)[1]).tolist() == [True, False]
    rng = np.random.default_rng(0)
    wide, narrow = rng.normal(size=(99, 1)), 0.5 + 1e-3 * rng.normal(size=(99, 1))
    p_max = p_of_orders(np.array([0.0, 0.51]), np.hstack([wide, narrow]), higher_is_alike=True)[1]
    assert p_max[1] == 0.01 < 0.5 < p_max[0]  # ten of its own standard deviations, not a hundredth of the other's
