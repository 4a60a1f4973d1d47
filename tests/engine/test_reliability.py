"""Reliability against planted variances, and against formulas written out anew."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from brainalign.engine.reliability import (
    explainable_variance,
    extrapolate,
    geometry_bounds,
    signal_and_noise,
    signal_power,
    split_half,
)

S, N = 0.3, 0.7


def trials(n_repeats, n_stimuli=1000, n_columns=400, signal=S, seed=0):
    """Return (repeat, stimulus, column) with planted variances."""
    rng = np.random.default_rng(seed)
    truth = np.sqrt(signal) * rng.normal(size=(n_stimuli, n_columns))
    return truth + np.sqrt(1 - signal) * rng.normal(size=(n_repeats, n_stimuli, n_columns))


def rows(y):
    return y.reshape(-1, y.shape[2]), np.tile(np.arange(y.shape[1]), len(y))


def test_the_table_of_ceilings():
    """Signal .3, noise .7, three repeats: reliability of the average .5625, ceiling .75, by every formula."""
    y = trials(3)
    signal, noise = signal_and_noise(*rows(y))
    assert signal.mean() == pytest.approx(S, abs=0.005)
    assert noise.mean() == pytest.approx(N, abs=0.005)
    assert np.sqrt(signal / noise).mean() == pytest.approx(np.sqrt(S / N), abs=0.005)  # ncsnr
    assert (signal / (signal + noise / 3)).mean() == pytest.approx(0.5625, abs=0.005)
    power, variance = signal_power(y)
    assert np.sqrt(power / variance).mean() == pytest.approx(0.75, abs=0.005)
    share = explainable_variance(y)
    assert share.mean() == pytest.approx(S, abs=0.005)
    assert (share + (1 - share) / 3).mean() == pytest.approx(0.533, abs=0.005)  # what it is without its correction
    assert extrapolate(share, 1, 1 / 3).mean() == pytest.approx(0.5625, abs=0.005)
    halves = split_half(*rows(y), 20, np.random.default_rng(0))
    assert halves.mean() == pytest.approx(0.5625, abs=0.005)
    assert split_half(*rows(trials(4)), 20, np.random.default_rng(0)).mean() == pytest.approx(0.6316, abs=0.005)


def test_uneven_halves_of_three_repeats_fall_short():
    y = trials(3)
    first, second = y[0], y[1:].mean(axis=0)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])
    assert (2 * r / (1 + r)).mean() == pytest.approx(0.542, abs=0.005)  # the trap: not .5625


def test_a_mean_of_ratios_is_too_high_where_there_is_little_signal():
    rng = np.random.default_rng(1)
    signal = np.sqrt(0.01) * rng.normal(size=(1000, 2000))  # what a perfect model predicts
    y = signal + np.sqrt(0.99) * rng.normal(size=(3, 1000, 2000))
    power, _ = signal_power(y)
    average = y.mean(axis=0)
    covariance = ((signal - signal.mean(0)) * (average - average.mean(0))).sum(0) / (len(signal) - 1)
    some = power > 0
    assert 0.2 < 1 - some.mean() < 0.4
    with np.errstate(invalid="ignore"):
        normalized = covariance / (signal.std(0, ddof=1) * np.sqrt(power))
    assert np.nanmean(normalized[some]) > 1.03
    assert covariance.mean() / (0.1 * np.sqrt(power.mean())) == pytest.approx(1.0, abs=0.02)


def test_signal_power_is_what_schoppe_wrote():
    y = trials(4, n_stimuli=50, n_columns=6)
    for column in range(6):
        table = y[:, :, column]
        written = (np.var(table.sum(axis=0), ddof=1) - sum(np.var(trial, ddof=1) for trial in table)) / (4 * 3)
        power, variance = signal_power(y)
        assert power[column] == pytest.approx(written, rel=1e-12)
        assert variance[column] == pytest.approx(np.var(table.mean(axis=0), ddof=1), rel=1e-12)


def test_equal_repeats_give_the_analysis_of_variance():
    y = trials(5, n_stimuli=40, n_columns=3)
    signal, noise = signal_and_noise(*rows(y))
    means = y.mean(axis=0)
    between = 5 * means.var(axis=0, ddof=1)
    np.testing.assert_allclose(noise, y.var(axis=0, ddof=1).mean(axis=0))
    np.testing.assert_allclose(signal, (between - noise) / 5, rtol=1e-10)


def test_unequal_repeats_are_unbiased_whatever_the_order_and_the_mean():
    rng = np.random.default_rng(3)
    counts = rng.choice([1, 2, 3, 7], size=800)
    codes = np.repeat(np.arange(800), counts)
    values = np.sqrt(S) * rng.normal(size=(800, 300))[codes] + np.sqrt(N) * rng.normal(size=(len(codes), 300)) + 1000.0
    shuffled = rng.permutation(len(codes))
    signal, noise = signal_and_noise(values[shuffled], codes[shuffled])
    assert signal.mean() == pytest.approx(S, abs=0.005)
    assert noise.mean() == pytest.approx(N, abs=0.005)


def test_extrapolation_goes_there_and_back():
    rho = np.linspace(0.01, 0.99, 9)
    np.testing.assert_allclose(extrapolate(extrapolate(rho, 1.0, 0.2), 0.2, 1.0), rho)
    np.testing.assert_allclose(extrapolate(rho, 0.5, 0.25), 2 * rho / (1 + rho))


@pytest.mark.parametrize("metric", ["pearson", "spearman", "cosine"])
def test_geometry_bounds_are_those_of_nili(metric):
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(45, 1)) + rng.gamma(1.0, size=(45, 6))

    def similarity(a, b):
        if metric == "cosine":
            return a @ b / np.sqrt((a @ a) * (b @ b))
        return np.corrcoef(a, b)[0, 1] if metric == "pearson" else spearmanr(a, b).statistic

    pool = {"pearson": lambda v: (v - v.mean()) / v.std(), "spearman": rankdata, "cosine": lambda v: v / np.sqrt(np.mean(v**2))}
    pooled = np.stack([pool[metric](v) for v in x.T], axis=1)
    lower, upper = geometry_bounds(x, metric)
    others = [np.delete(pooled, k, axis=1).mean(axis=1) for k in range(6)]
    np.testing.assert_allclose(upper, [similarity(v, pooled.mean(axis=1)) for v in x.T], rtol=1e-12)
    np.testing.assert_allclose(lower, [similarity(v, mean) for v, mean in zip(x.T, others, strict=True)], rtol=1e-12)
    assert (lower < upper).all()


def test_a_subject_without_geometry_has_no_bound():
    x = np.c_[np.random.default_rng(0).normal(size=(10, 2)), np.ones(10)]
    lower, upper = geometry_bounds(x, "pearson")
    assert np.isnan(lower).any()
    assert np.isnan(upper).any()
