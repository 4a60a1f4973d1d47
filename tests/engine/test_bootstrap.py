import numpy as np
import pytest
from scipy import stats

from brainalign.engine.bootstrap import LEFT_OUT, Drawn, draw_weights, pair_variance, training_variance, two_factor_variance
from brainalign.engine.rdm_bootstrap import pair_weights

RNG = np.random.default_rng(0)


def test_weights_are_samples_with_replacement():
    weights = draw_weights(30, 4000, RNG)
    assert (weights.sum(axis=1) == 30).all()
    x = RNG.normal(size=30)
    assert np.var(weights @ x / 30) == pytest.approx(x.var() / 30, rel=0.1)  # the closed form for a mean


@pytest.mark.parametrize(("n_subjects", "n_stimuli"), [(6, 8), (20, 30)])
def test_two_kinds_of_noise_are_each_counted_once(n_subjects, n_stimuli):
    """Scores of subject + stimulus + measurement noise: what the variance of their mean is known to be."""
    subject, stimulus, single = 0.5, 0.3, 8.0
    truth = subject / n_subjects + stimulus / n_stimuli + single / (n_subjects * n_stimuli)
    corrected, both_alone = [], []
    for _ in range(60):
        x = RNG.normal(size=(n_subjects, 1)) * subject**0.5 + RNG.normal(size=(1, n_stimuli)) * stimulus**0.5
        x = x + RNG.normal(size=(n_subjects, n_stimuli)) * single**0.5
        u, v = draw_weights(n_subjects, 400, RNG) / n_subjects, draw_weights(n_stimuli, 400, RNG) / n_stimuli
        variances = np.var(u @ x.mean(axis=1)), np.var(v @ x.mean(axis=0)), np.var(((u @ x) * v).sum(axis=1))
        corrected.append(two_factor_variance(*variances, n_first=n_subjects, n_second=n_stimuli))
        both_alone.append(variances[2])
    assert np.mean(corrected) == pytest.approx(truth, rel=0.2)
    assert np.mean(both_alone) > 1.1 * truth


def test_the_corrected_variance_keeps_its_bounds():
    assert two_factor_variance(1.0, 0.0, 1.0, n_first=11, n_second=11) == pytest.approx(1.1)
    assert two_factor_variance(1.0, 1.0, 1.5, n_first=1001, n_second=1001) == pytest.approx(1.5)


def test_without_numbers_the_corrected_variance_is_that_of_large_samples():
    assert two_factor_variance(1.0, 0.6, 2.8) == 1.0  # 0.4, raised to the larger part
    assert two_factor_variance(1.0, 0.6, 1.8) == pytest.approx(2 * (1.0 + 0.6) - 1.8)


@pytest.mark.parametrize("score", [0.3, -0.3])
def test_intervals_are_right_in_both_signs(score):
    """A peer's lower end equals its upper one."""
    draws = score + 0.1 * RNG.normal(size=2000)
    low, high = Drawn(np.array(score), draws, (), [50]).interval(0.95)
    assert low == pytest.approx(score - 0.2, abs=0.02)
    assert high == pytest.approx(score + 0.2, abs=0.02)


def test_draws_without_a_value_are_counted_and_left_out():
    draws = 0.5 + 0.1 * RNG.normal(size=(400, 2))
    holes = draws.copy()
    holes[:40, 1] = np.nan
    full, some = (Drawn(np.full(2, 0.5), x, (), [30]) for x in (draws, holes))
    assert some.n_undefined.tolist() == [0, 40]
    np.testing.assert_array_equal([end[0] for end in some.interval(0.9)], [end[0] for end in full.interval(0.9)])
    without = Drawn(np.full(2, 0.5), draws[40:], (), [30])
    np.testing.assert_allclose([end[1] for end in some.interval(0.9)], [end[1] for end in without.interval(0.9)])
    assert (some.p()[0] < 0.2).all()  # a draw without a value counts against an effect
    nothing = Drawn(np.full(1, 0.5), np.full((5, 1), np.nan), (), [30])
    assert np.isnan(nothing.interval(0.9)).all()


def test_a_bias_of_redrawing_is_taken_out_of_centred_draws():
    draws = 0.4 + 0.1 * RNG.normal(size=(2000, 3))
    biased = Drawn(np.full(3, 0.5), draws, (), [200])
    low, high = biased.rows(slice(1)).centred().interval(0.95)
    assert (low + high) / 2 == pytest.approx(0.5, abs=0.02)
    assert sum(biased.interval(0.95))[0] / 2 == pytest.approx(0.4, abs=0.02)


def test_the_variance_over_training_units_is_that_of_drawing_them_anew():
    """The closed form for a mean: σ²/n."""
    n, left = 100, round(100 * LEFT_OUT)
    found = []
    for _ in range(200):
        x = RNG.normal(size=(n, 5))
        found.append(training_variance(np.stack([x[RNG.permutation(n)[left:]].mean(axis=0) for _ in range(20)])))
    assert np.mean(found) == pytest.approx(1 / n, rel=0.1)


def test_each_source_of_noise_brings_its_degrees_of_freedom():
    draws = RNG.normal(size=(500, 1))
    alone = Drawn(np.zeros(1), draws, (), [9]).spread
    assert alone[0] ** 2 == pytest.approx(9 / 8 * draws.var(ddof=1))
    assert alone[1] == pytest.approx(8)
    refits = 0.5 * RNG.normal(size=(20, 1))
    error, dof = Drawn(np.zeros(1), draws, (), [9], refits=refits).spread
    drawn, training = 9 / 8 * draws.var(ddof=1), 4 * refits.var(ddof=1)
    assert error**2 == pytest.approx(drawn + training)
    assert dof == pytest.approx((drawn + training) ** 2 / (drawn**2 / 8 + training**2 / 19))


@pytest.mark.parametrize(("n_first", "n_second"), [(6, 40), (8, 40), (20, 20)])
@pytest.mark.parametrize("spread", [(1.0, 0.0, 0.1), (0.5, 1.0, 2.0), (0.5, 1.0, 0.1), (0.0, 1.0, 0.5)])
def test_one_in_twenty_means_of_two_kinds_of_noise_is_outside_of_its_interval(n_first, n_second, spread):
    """The mean squares of crossed random effects, which are what the bootstraps estimate."""
    rng, n = np.random.default_rng(0), n_first * n_second
    expected = n_second * spread[0] ** 2 + spread[2] ** 2, n_first * spread[1] ** 2 + spread[2] ** 2, spread[2] ** 2
    freedom = n_first - 1, n_second - 1, (n_first - 1) * (n_second - 1)
    a, b, both = (m * rng.chisquare(f, 20000) / f / n for m, f in zip(expected, freedom, strict=True))
    v = a * (n_first - 1) / n_first, b * (n_second - 1) / n_second
    draws, *parts = (np.sqrt(x / 2) * np.array([[1.0], [-1.0]]) for x in (v[0] + v[1] + both * freedom[2] / n, *v))
    drawn = Drawn(np.zeros(20000), draws, tuple(parts), [n_first, n_second])
    means = rng.normal(size=20000) * np.sqrt((expected[0] + expected[1] - expected[2]) / n)
    error, dof = drawn.spread
    assert np.mean(2 * stats.t.sf(np.abs(means) / error, dof) <= 0.05) == pytest.approx(0.05, abs=0.012)


def test_noise_of_pairs_counts_once():
    """A mean over pairs of what each unit and each pair adds: drawn anew three times the noise of pairs, left out twice."""
    rng, n, sets, spread = np.random.default_rng(0), 20, 400, 0.3
    counts = np.concatenate([np.ones((1, n)), 1 - np.eye(n), draw_weights(n, 400, rng)])
    weights = pair_weights(counts)
    first, second = np.triu_indices(n, 1)
    units = spread * rng.normal(size=(n, sets))
    scores = weights @ (units[first] + units[second] + rng.normal(size=(len(first), sets))) / weights.sum(axis=1, keepdims=True)
    whole, left_out, draws = scores[0], scores[1 : n + 1], scores[n + 1 :]
    of_units, of_pairs = 4 * spread**2 / n, 1 / len(first)
    drawn = n / (n - 1) * draws.var(axis=0, ddof=1)
    assert drawn.mean() == pytest.approx(of_units + 3 * of_pairs, rel=0.1)
    assert pair_variance(drawn, left_out).mean() == pytest.approx(of_units + of_pairs, rel=0.15)
    assert whole.var() == pytest.approx(of_units + of_pairs, rel=0.2)
    p = Drawn(whole, draws, (), [n], left_out=left_out).p()[0]
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.03)
    np.testing.assert_array_equal(pair_variance(drawn, left_out * np.nan), drawn)  # none can be left out
