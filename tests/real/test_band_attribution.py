"""Which bands and channels of the EEG tell a decoder that a square was shown: slow waves, those of the evoked response."""

import numpy as np
import pytest
import xarray as xr

import brainalign as ba

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:.*explains models of")]

mne = pytest.importorskip("mne")
BANDS = {"below 4 Hz": (0, 4), "theta": (4, 8), "alpha": (8, 13), "beta": (13, 30)}


@pytest.fixture(scope="module")
def windows(shared_data):
    """0.4 s before and from 0.2 s after each of 80 squares, in microvolts, with what they are."""
    raw = mne.io.read_raw_eeglab(
        shared_data("eeg-visual-attention") / "eeglab_data.set", eog="auto", preload=True, verbose="error"
    )
    raw = raw.filter(0.5, 30.0, verbose="error").set_eeg_reference("average", verbose="error")
    cut = {"system": "s", "tmin": -0.4, "tmax": 0.8}
    x = ba.open_responses(raw, events="annotations", event_id=["square"], **cut)
    after, before = (x.sel(time=slice(start, None)).isel(time=slice(51)) for start in (0.2, -0.4))
    both = xr.concat([after, before.assign_coords(time=after.time)], "presentation", coords="minimal", compat="override")
    both = (both * 1e6).assign_attrs(x.attrs)
    return both.assign_coords(condition=("presentation", np.repeat(["after", "before"], 80)))


def test_slow_waves_tell_a_decoder_of_the_square(windows):
    train = np.tile(np.arange(80) % 2 == 0, 2)
    label = windows.condition.values.astype(str)
    model = ba.Classifier("ridge", C=0.01).fit(windows[train], label[train])
    held = windows[~train]
    assert (model.predict(held) == label[~train]).mean() > 0.85
    decoder, options = ba.readout(windows, model), {"neuroid": "after", "baseline": "mean"}
    whole = ba.attribute(decoder, held, **options)
    bands = ba.attribute(decoder, held, domain="frequency", groups=BANDS, **options)
    assert whole.attrs["causal_scope"] == "virtual"
    np.testing.assert_allclose(bands.sum("group"), whole.sum(("source_neuroid", "time")), atol=1e-4)
    of_squares = bands[:40].mean(("presentation", "neuroid"))
    assert of_squares.group.values[int(of_squares.argmax("group"))] == "below 4 Hz"
    assert float(of_squares.max() / of_squares.sum()) > 0.5
    without = ba.attribute(decoder, held, method="occlusion", domain="frequency", groups=BANDS, **options)
    np.testing.assert_allclose(without, bands, atol=1e-4)  # the decoder is linear
