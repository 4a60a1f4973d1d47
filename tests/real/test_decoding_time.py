"""Decoding over time: squares from key presses and left from right in EEG of one person, four MEG averages, and a network.

README of the EEG, all samples of an epoch together: squares against presses .988, the two positions .653 (areas under curves, not ours).
"""

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

mne = pytest.importorskip("mne")
RIDGE = ba.Classifier("ridge", C=0.01)
CUT = {"events": "annotations", "system": "s", "tmin": -0.2, "tmax": 0.8, "baseline": (None, 0)}


@pytest.fixture(scope="module")
def trials(shared_data):
    """Squares and presses at 0.5 to 30 Hz in windows of 50 ms; every trial is a stimulus of its own."""
    file = shared_data("eeg-visual-attention") / "eeglab_data.set"
    raw = mne.io.read_raw_eeglab(file, eog="auto", preload=True, verbose="error").filter(0.5, 30.0, verbose="error")
    x = ba.open_responses(raw.set_eeg_reference("average", verbose="error"), **CUT)
    place = ba.open_responses(file, **CUT).position.values  # which annotations lose
    x = x.drop_vars("repetition").assign_coords(
        event=("presentation", x.stimulus_id.values),
        place=("presentation", np.where(place == 1, "first", "second")),
        stimulus_id=("presentation", [f"trial-{i:03d}" for i in x.trial.values]),
    )
    return ba.BinTime(np.arange(-0.2, 0.81, 0.05)).transform(x)


@pytest.fixture(scope="module")
def squares(trials):
    return trials.isel(presentation=np.flatnonzero(trials.event.values == "square"))


def network(trials, name):
    """Return the states of a random recurrent network that is told, at 0 s, what was shown, and hears noise throughout."""
    rng, n = np.random.default_rng(0), 40
    told = np.where(trials[name].values == trials[name].values[0], 1.0, -1.0)
    recurrent, inward, state, states = rng.normal(size=(n, n)) / np.sqrt(n), rng.normal(size=n), np.zeros((len(told), n)), []
    for t in trials.time.values:
        now = told[:, None] * inward * (0 < t < 0.05) + 0.5 * rng.normal(size=state.shape)
        state = np.tanh(state @ recurrent + now)
        states.append(state)
    labels = {key: trials[key].values for key in ("onset_s", "run")}
    x = ba.responses(np.stack(states, axis=2), stimulus_id=trials.stimulus_id, neuroid_id=range(n), time=trials.time.values,
                     modality="ann", system="rnn", **labels)  # fmt: skip
    return x.assign_coords({name: ("presentation", trials[name].values)})


def test_squares_are_told_from_presses_after_they_appear(trials):
    """A press follows most squares, so that labels shifted by two are nearly the same: chance is high, and only the peak above it."""
    out = ba.decode_time(trials, "event", model=RIDGE, n_permutations=199, clusters="mass", random_state=0)
    assert (out.attrs["null"], out.attrs["n_permutations"]) == ("shift", 153)  # all that a run of 154 has
    peak = out.sel(time=slice(0.2, 0.45))
    assert peak.score.min() > 0.9
    assert (peak.p_value_max == 1 / 154).all()
    assert (peak.p_value_cluster == 1 / 154).all()
    assert out.p_value_max.sel(time=slice(None, -0.03)).min() > 0.05


def test_the_place_of_a_square_is_not_told_at_any_one_time(squares):
    """Forty trials of each, 30 channels, 50 ms: at no time more than chance, and the p-values say so."""
    for model in (RIDGE, ba.Classifier("lda")):
        out = ba.decode_time(squares, "place", model=model, n_permutations=79, clusters="tfce", random_state=0)
        assert out.sizes["fold"] == 5
        assert abs(float(out.score.mean()) - 0.5) < 0.1
        assert min(out.p_value_max.min(), out.p_value_cluster.min()) > 0.05


def test_the_same_call_on_a_network(squares):
    x = network(squares, "place")
    out = ba.decode_time(x, "place", model=RIDGE, n_permutations=79, clusters="tfce", random_state=0)
    before, after = out.sel(time=slice(None, -0.01)), out.sel(time=slice(0.01, 0.1))
    assert after.score.min() > 0.9
    assert (after.p_value_max == 1 / 80).all()
    assert (after.p_value_cluster == 1 / 80).all()
    assert before.p_value_max.min() > 0.05
    square = ba.decode_time(x, "place", model=RIDGE, generalize=True, random_state=0).score.values
    assert np.diagonal(square)[4:7].min() > 0.9  # its code turns from step to step
    assert abs(square[4, 7] - 0.5) < 0.35


def test_four_averages_are_too_few_for_a_claim(shared_data):
    """Sounds and flashes, learned from the left ones and tested on the right ones: at some times without error, and p is never small."""
    evokeds = mne.read_evokeds(shared_data("meg-eeg-evoked") / "test-ave.fif.gz", verbose="error")
    x = ba.open_responses([e.filter(None, 40.0, verbose="error") for e in evokeds], format="meeg", system="s", picks="mag")
    side, sense = zip(*(name.lower().split() for name in x.stimulus_id.values), strict=True)
    x = x.assign_coords(condition=("presentation", list(sense)), session=("presentation", list(side)))
    x = ba.BinTime(np.arange(-0.2, 0.5, 0.06), baseline_s=(-0.2, 0.0)).transform(x)
    out = ba.decode_time(x, "condition", groups="session", model=ba.Classifier("ridge"), n_permutations=199, random_state=0)
    assert float(out.score.max()) == 1.0
    assert out.p_value.min() > 0.1
    assert out.p_value_max.min() > 0.3
