import numpy as np
import pytest

from brainalign.engine import lagged
from brainalign.engine.lagged import lagged_product, lagged_sums, lay_out

RUNS = [(np.arange(40)[::-1], np.arange(40)), (np.arange(40, 60), np.r_[0:5, 6:15, 40:46])]  # the second with samples missing
WINDOWS = [(0, 4), (-3, 2), (2, 4), (-4, -2), (0, 0), (-1, -1)]


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)) + 2, rng.normal(size=(60, 2))


def design(x, first, last):
    """Return the lagged rows, lags descending, sample by sample."""
    out = np.zeros((len(x), last - first + 1, x.shape[1]))
    for rows, sample in RUNS:
        at = dict(zip(sample.tolist(), rows.tolist(), strict=True))
        for s, row in at.items():
            for i, lag in enumerate(range(last, first - 1, -1)):
                if s - lag in at:
                    out[row, i] = x[at[s - lag]]
    return out.reshape(len(x), -1)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("block", [2**20, 30])
def test_sums_are_those_of_the_lagged_rows_for_any_cells(sides, window, block, monkeypatch):
    monkeypatch.setattr(lagged, "_BLOCK", block)
    (x, y), mean = sides, np.array([1.0, 2.0, 3.0])
    line, D = lay_out(RUNS, *window), design(x - mean, *window)
    code = np.random.default_rng(0).integers(4, size=60)
    code[:20] = 1
    sums, count = lagged_sums(x, y, line, mean, code), np.array([1.0, 0.0, 2.0, 1.0])
    found, w = sums.moments(count), count[code]
    np.testing.assert_allclose(found.gram, D.T @ (w[:, None] * D), atol=1e-11)
    np.testing.assert_allclose(found.cross, D.T @ (w[:, None] * y), atol=1e-11)
    np.testing.assert_allclose(found.source, w @ D, atol=1e-11)
    np.testing.assert_allclose(found.power, w @ y**2, atol=1e-11)
    assert found.n == w.sum()
    apart, truth = D - found.source / found.n, y - found.target / found.n
    around = found.around()
    np.testing.assert_allclose(around.gram, apart.T @ (w[:, None] * apart), atol=1e-10)
    np.testing.assert_allclose(around.cross, apart.T @ (w[:, None] * truth), atol=1e-10)
    np.testing.assert_allclose(around.power, w @ truth**2, atol=1e-10)
    weights = np.random.default_rng(1).normal(size=(D.shape[1], 2))
    np.testing.assert_allclose(lagged_product(x, line, mean, weights), D @ weights, atol=1e-12)


def test_sums_around_the_means_of_other_rows(sides):
    (x, y), mean = sides, np.zeros(3)
    line, D = lay_out(RUNS, 0, 4), design(x, 0, 4)
    sums = lagged_sums(x, y, line, mean, np.repeat([0, 1], 30))
    train, test = sums.moments(np.array([1.0, 0.0])), sums.moments(np.array([0.0, 1.0]))
    apart, truth = D[30:] - D[:30].mean(axis=0), y[30:] - y[:30].mean(axis=0)
    found = test.around(train)
    np.testing.assert_allclose(found.gram, apart.T @ apart, atol=1e-10)
    np.testing.assert_allclose(found.cross, apart.T @ truth, atol=1e-10)
    np.testing.assert_allclose(found.power, (truth**2).sum(axis=0), atol=1e-10)


def test_runs_and_long_gaps_lie_as_far_apart_as_lags_reach():
    line = lay_out(RUNS, -2, 6)
    order = np.argsort(line.place)
    apart = np.diff(line.place[order])
    assert apart.max() == 9  # the window of 9 samples, and no more however long the gap
    assert (line.row_at[line.place] == np.arange(60)).all()
    assert (np.diff(line.place[RUNS[0][0]]) == 1).all()
