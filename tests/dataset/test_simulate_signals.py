import numpy as np
import pytest

from brainalign.dataset import simulate_signals as signals


def test_readout_is_sparse_linear_and_standardised():
    rng = np.random.default_rng(0)
    layer = rng.standard_normal((500, 40)) * np.logspace(-3, 3, 40)
    layer[:, [0, 7]] = 5.0
    readout = signals.sparse_readout(rng, layer, 6)
    assert readout.units.shape == (6, signals.N_INPUTS)
    assert not {0, 7} & set(readout.units.ravel().tolist())
    np.testing.assert_allclose(readout.signal.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(readout.signal.std(axis=0), 1)
    rebuilt = np.stack([layer[:, u] @ w for u, w in zip(readout.units, readout.weights, strict=True)], axis=1)
    np.testing.assert_allclose(rebuilt - rebuilt.mean(axis=0), readout.signal, atol=1e-9)


def test_narrow_layers_are_read_whole():
    assert signals.sparse_readout(np.random.default_rng(0), np.eye(5)[:, :3], 2).units.shape == (2, 3)


def test_every_run_holds_each_stimulus_at_most_once_and_each_repeat_all():
    trials = signals.trial_table(np.random.default_rng(0), 250, 2)
    assert trials.groupby("run")["stimulus"].agg(lambda run: run.is_unique).all()
    assert (trials["stimulus"].value_counts() == 2).all()
    assert trials.groupby("run").size().max() <= signals.TRIALS_PER_RUN
    assert trials["run"].nunique() == 6


def test_hemodynamic_response_is_nilearns():
    first_level = pytest.importorskip("nilearn.glm.first_level")
    times = np.arange(0, 30, 2.0)
    theirs = first_level.compute_regressor(np.array([[4.0], [1.0], [1.0]]), "spm", times, oversampling=200)[0][:, 0]
    ours = signals.bold_design(times, np.array([4.0]), 1.0)[:, 0]
    assert np.corrcoef(theirs, ours)[0, 1] > 0.999
    assert (ours[times <= 4] == 0).all()


def test_bold_design_of_a_long_block_reaches_one():
    assert signals.bold_design(np.array([80.0]), np.array([0.0]), 80.0)[0, 0] == pytest.approx(1.0, abs=1e-4)


def test_autocorrelated_noise_has_unit_variance_from_its_first_sample():
    noise = signals.autocorrelated_noise(np.random.default_rng(0), (50, 20000), 0.6)
    assert np.abs(noise.var(axis=1) - 1).max() < 0.05
    assert np.corrcoef(noise[20], noise[21])[0, 1] == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("snr", [0.1, 1.0, 5.0])
def test_peak_count_gives_the_snr(snr):
    peak = signals.peak_count(np.array([snr]))[0]
    assert (peak * signals.RATE_DEPTH) ** 2 / (peak + signals.BASELINE_COUNT) == pytest.approx(snr)


def test_ceiling_rises_with_repeats_to_one():
    ceilings = [float(signals.ceiling_r(np.array(1.0), np.array(2.0), n)) for n in (1, 4, 10**9)]
    assert ceilings[0] == pytest.approx(3**-0.5)
    assert ceilings == sorted(ceilings)
    assert ceilings[-1] == pytest.approx(1.0)
