import numpy as np

from brainalign.engine.lagged import lay_out
from brainalign.engine.motifs import delayed_raster, log_odds

RNG = np.random.default_rng(0)


def test_the_delayed_raster_is_what_a_convolution_padded_on_the_left_sees():
    import torch

    x, weights = RNG.poisson(0.3, size=(30, 4)), RNG.normal(size=(2, 4, 5))
    line = lay_out([(np.arange(30), np.arange(30))], 0, 4)
    found = delayed_raster(x, line) @ weights.reshape(2, -1).T
    padded = torch.nn.functional.pad(torch.tensor(x.T[None], dtype=torch.float64), (4, 0))
    wanted = torch.nn.functional.conv1d(padded, torch.tensor(weights[:, :, ::-1].copy()))[0].T
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_runs_are_not_crossed_and_rows_may_come_in_any_order():
    x = RNG.poisson(0.5, size=(12, 2))
    runs = [(np.array([3, 1, 5, 0]), np.arange(4)), (np.array([2, 4, 6, 7, 8, 9, 10, 11]), np.r_[np.arange(4), 9, 10, 11, 12])]
    found = delayed_raster(x, lay_out(runs, 0, 2)).toarray().reshape(12, 2, 3)
    for rows, samples in runs:
        for row, sample in zip(rows, samples, strict=True):
            for delay in range(3):
                at = np.flatnonzero(samples == sample - delay)
                np.testing.assert_array_equal(found[row, :, delay], x[rows[at[0]]] if at.size else 0)


def test_log_odds_are_those_of_bayes():
    """Of independent spikes the detector's logit is the log odds of the posterior."""
    p1, p0, prior, n = np.array([0.7, 0.1, 0.2]), np.array([0.1, 0.1, 0.4]), 0.2, 200_000
    y = RNG.random((n, 1)) < prior
    x = RNG.random((n, 3)) < np.where(y, p1, p0)
    weights, offset = log_odds(delayed_raster(x.astype(int), lay_out([(np.arange(n), np.arange(n))], 0, 0)), y)
    np.testing.assert_allclose(weights[:, 0], np.log(p1 / (1 - p1)) - np.log(p0 / (1 - p0)), atol=0.05)
    for spikes in ([0, 0, 0], [1, 0, 0], [1, 1, 1]):
        odds = prior / (1 - prior) * np.prod(np.where(spikes, p1 / p0, (1 - p1) / (1 - p0)))
        assert abs(float((spikes @ weights + offset)[0]) - np.log(odds)) < 0.1
