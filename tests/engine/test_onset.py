import numpy as np

from brainalign.engine.onset import onset_and_peak

TIMES = np.arange(10) / 100


def test_a_lone_high_time_and_a_lone_low_one_do_not_count():
    curve = np.array([0.0, 0.9, 0.0, 0.1, 0.5, 0.8, 0.45, 1.0, 0.2, 0.95])
    onset, peak = onset_and_peak(curve, TIMES, 0.5)
    assert (float(onset), float(peak)) == (0.04, 0.07)
    assert float(onset_and_peak(curve, TIMES, 1.0)[0]) == 0.07
    assert float(onset_and_peak(curve, TIMES, 0.5, raised=0.9)[0]) == 0.01


def test_the_size_of_an_effect_moves_nothing_and_what_is_at_the_start_began_there():
    curves = np.outer([1.0, 7.0, 0.01], np.exp(-0.5 * ((TIMES - 0.05) / 0.015) ** 2))
    onset, peak = onset_and_peak(curves, TIMES, 0.5)
    assert (onset == 0.04).all()
    assert (peak == 0.05).all()
    assert float(onset_and_peak(np.linspace(1, 0, 10), TIMES, 0.5)[0]) == 0.0


def test_without_anything_above_chance_there_is_no_onset():
    curves = np.stack([np.zeros(10), -np.ones(10), np.where(TIMES == 0.02, np.nan, 1.0)])
    assert np.isnan(onset_and_peak(curves, TIMES, 0.5)).all()
