import numpy as np
import pytest

from brainalign.engine.bootstrap import draw_weights, two_factor_variance

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
