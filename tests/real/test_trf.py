"""Response functions of a continuous recording: the squares of the attention experiment as impulses, 30 EEG channels of one person."""

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

mne = pytest.importorskip("mne")
RATE = 64.0


@pytest.fixture(scope="module")
def sides(shared_data):
    """The squares' onsets as impulses, and the recording at 64 Hz, in four runs of equal length."""
    raw = mne.io.read_raw_eeglab(
        shared_data("eeg-visual-attention") / "eeglab_data.set", eog="auto", preload=True, verbose="error"
    )
    raw = raw.filter(0.5, 30.0, verbose="error").set_eeg_reference("average", verbose="error").resample(RATE, verbose="error")
    values = raw.get_data(picks="eeg").T
    n = len(values) // 4 * 4
    onsets = [note["onset"] for note in raw.annotations if note["description"] == "square"]
    impulses = np.zeros((n, 1))
    impulses[np.rint(np.array(onsets) * RATE).astype(int)] = 1
    times = {
        "stimulus_id": [f"t{i}" for i in range(n)],
        "run": np.repeat(list("abcd"), n // 4),
        "onset_s": np.tile(np.arange(n // 4) / RATE, 4),
    }
    squares = ba.responses(impulses, neuroid_id=["square"], modality="behaviour", system="screen", **times)
    eeg = ba.responses(
        1e6 * values[:n], neuroid_id=raw.copy().pick("eeg").ch_names, modality="eeg", system="s", units="uV", **times
    )
    return squares, eeg


def test_the_response_to_an_impulse_is_the_evoked_response(sides):
    squares, eeg = sides
    model = ba.TRF(-0.1, 0.6, alphas=1.0).fit(squares, eeg)
    lags = np.rint(model.lags_s_ * RATE).astype(int)
    rows = np.flatnonzero(squares.values[:, 0])
    rows = rows[(rows + lags[0] >= 0) & (rows + lags[-1] < len(eeg))]
    evoked = np.stack([eeg.values[rows + lag].mean(axis=0) for lag in lags])
    assert np.corrcoef(model.coef_.values[:, 0].ravel(), evoked.ravel())[0, 1] > 0.95


def test_it_predicts_other_runs_and_squares_at_other_times_do_not(sides):
    squares, eeg = sides
    options = {"cv": ba.split(eeg, by="run"), "controls": ["shifted"], "random_state": 0}
    forward = ba.evaluate(squares, eeg, model=ba.TRF(0.0, 0.6, alphas=[1.0, 10.0, 100.0], groups="run"), **options)
    assert float(forward.score.max()) > 0.2
    assert (forward.score_minus_best_control > 0.02).all()  # every channel
    backward = ba.evaluate(eeg, squares, model=ba.TRF(-0.3, 0.0, alphas=[1e4, 1e5, 1e6], groups="run"), **options)
    assert float(backward.score[0]) > 0.1
    assert float(backward.score_minus_best_control[0]) > 0.04
