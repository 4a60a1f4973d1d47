"""Visual attention: 80 squares, left and right, in 30 EEG channels of one person (EEGLAB's sample recording).

The figure is the README's: the average over 40 random trials against that over the other 40, correlated over channels and
samples, 100 draws. Band and reference are the README's too; filtering a continuous recording is MNE's work.
"""

import numpy as np
import pandas as pd
import pytest

import brainalign as ba

pytestmark = pytest.mark.real

mne = pytest.importorskip("mne")
CUT = {"system": "s", "tmin": -0.2, "tmax": 0.8, "baseline": (None, 0)}


@pytest.fixture(scope="module")
def file(shared_data):
    return shared_data("eeg-visual-attention") / "eeglab_data.set"


@pytest.fixture(scope="module")
def recording(file):
    """The recording at 0.5 to 30 Hz, average reference over the 30 channels that are no EOG."""
    raw = mne.io.read_raw_eeglab(file, eog="auto", preload=True, verbose="error")
    return raw.filter(0.5, 30.0, verbose="error").set_eeg_reference("average", verbose="error")


@pytest.fixture(scope="module")
def squares(recording):
    return ba.open_responses(recording, events="annotations", event_id=["square"], **CUT)


def split_half(x, start, stop, n_draws=100):
    """Mean correlation, over draws, of the evoked responses of two halves of the trials."""
    rng, window = np.random.default_rng(0), x.sel(time=slice(start, stop))
    found = []
    for _ in range(n_draws):
        half = np.array(["first", "second"])[rng.permutation(x.sizes["presentation"]) % 2]
        evoked = ba.average_repeats(window.assign_coords(stimulus_id=("presentation", half)))
        found.append(np.corrcoef(evoked.values.reshape(2, -1))[0, 1])
    return np.mean(found)


def test_split_half_reliability(squares):
    """README, within three standard errors of 100 draws (.01 and .05): r .866 from 0 to 0.6 s, .296 before the stimulus."""
    assert squares.shape == (80, 30, 129)
    assert split_half(squares, 0.0, 0.6) == pytest.approx(0.866, abs=0.01)
    assert split_half(squares, None, -1e-6) == pytest.approx(0.296, abs=0.05)


def test_events_at_other_times_take_it_away(recording, squares):
    """Each onset moved by 2 to 20 s, around the end: what is left is what any 80 windows share."""
    rng = np.random.default_rng(1)
    moved = 1 + (squares.onset_s.values + rng.uniform(2, 20, 80)) % 235
    events = pd.DataFrame({"stimulus_id": "square", "onset_s": np.unique(moved)})
    x = ba.open_responses(recording, events=events, **CUT)
    assert split_half(x, 0.0, 0.6) < 0.5


@pytest.mark.parametrize(("channel", "microvolts", "at"), [("Pz", 9.4, 0.430), ("PO8", -14.5, 0.281), ("Oz", -15.2, 0.398)])
def test_peaks_of_the_evoked_response(squares, channel, microvolts, at):
    """README, within .05 uV and one sample: units are volts, samples were 1-based, windows lie where they should."""
    evoked = squares.mean("presentation").isel(neuroid=int(np.argmax(squares.channel.values == channel))) * 1e6
    peak = evoked.isel(time=int(np.abs(evoked.values).argmax()))
    assert float(peak) == pytest.approx(microvolts, abs=0.05)
    assert float(peak.time) == pytest.approx(at, abs=1 / 128)


def test_the_file_alone_says_nearly_the_same(file):
    """From file to figure with nothing but this package, unfiltered and in the reference of the recording."""
    x = ba.open_responses(file, events="annotations", event_id=["square"], **CUT)
    assert (x.attrs["units"], x.attrs["modality"]) == ("V", "eeg")
    assert "EOG1" not in x.channel.values
    assert split_half(x, 0.0, 0.6, 20) > 0.75
    assert split_half(x, None, -1e-6, 20) < 0.6


def test_the_position_that_annotations_lose_is_kept(file, squares):
    """README: 80 squares and 74 key presses; the squares at position 1 and 2, 40 each."""
    x = ba.open_responses(file, events="annotations", **CUT)
    names, counts = np.unique(x.stimulus_id.values.astype(object), return_counts=True)
    assert dict(zip(names, counts.tolist(), strict=True)) == {"rt": 74, "square": 80}
    assert np.isnan(x.position.values[x.stimulus_id.values == "rt"]).all()
    shown = x.isel(presentation=x.stimulus_id.values == "square")
    assert np.unique(shown.position.values, return_counts=True)[1].tolist() == [40, 40]
    np.testing.assert_array_equal(shown.trial, squares.trial)
    sides = ba.open_responses(file, events="annotations", stimulus_column="position", **CUT)
    assert list(sides.stimulus_id.values) == [f"{place:g}" for place in shown.position.values]
