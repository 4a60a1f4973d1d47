"""Averages of sounds and flashes, left and right, in magnetometers, gradiometers and EEG of one person.

Nothing here is trial-level: four averages are described, and one kind of sensor is predicted from another over the
samples of a condition that was not fitted. What needs repetitions (ceilings, decoding) cannot be asked of them.
"""

import itertools

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

import brainalign as ba

pytestmark = pytest.mark.real

mne = pytest.importorskip("mne")

SOUND, LIGHT = ["Left Auditory", "Right Auditory"], ["Left visual", "Right visual"]
BASELINE_S = (-0.2, 0.001)  # the sample at onset is in it, as in MNE


@pytest.fixture(scope="module")
def file(shared_data):
    return shared_data("meg-eeg-evoked") / "test-ave.fif.gz"


@pytest.fixture(scope="module")
def sensors(file):
    """Averages below 40 Hz, by kind of sensor; filtering a time dim is MNE's work."""
    evokeds = [evoked.filter(None, 40.0, verbose="error") for evoked in mne.read_evokeds(file, verbose="error")]
    return {kind: ba.open_responses(evokeds, format="meeg", system=kind, picks=kind) for kind in ("mag", "grad", "eeg")}


def topography(x):
    """Dissimilarity of the mean field from 70 to 130 ms: one minus the README's topographic correlation."""
    return ba.rdm(ba.BinTime([0.07, 0.13], baseline_s=BASELINE_S).transform(x))


def likeness(rdm, first, second):
    return 1 - rdm.sel(stimulus=first, stimulus_2=second).values


def renamed(x, order):
    return x.assign_coords(stimulus_id=("presentation", x.stimulus_id.values[order]))


@pytest.mark.parametrize(
    ("kind", "sounds", "lights", "low", "high"), [("mag", 0.93, -0.02, 0.31, 0.50), ("grad", 0.76, 0.10, 0.05, 0.23)]
)
def test_topographies(sensors, kind, sounds, lights, low, high):
    """README figures, within .015: left against right sounds, left against right flashes, sounds against flashes."""
    rdm = topography(sensors[kind])
    np.testing.assert_allclose([likeness(rdm, *SOUND), likeness(rdm, *LIGHT)], [sounds, lights], atol=0.015)
    between = likeness(rdm, SOUND, LIGHT)
    np.testing.assert_allclose([between.min(), between.max()], [low, high], atol=0.015)


def test_the_file_unfiltered_says_the_same(file):
    """From file to figure with nothing but this package: the mean over 60 ms does not need the filter."""
    rdm = topography(ba.open_responses(file, system="s", picks="mag"))
    np.testing.assert_allclose([likeness(rdm, *SOUND), likeness(rdm, *LIGHT)], [0.93, -0.02], atol=0.015)


def test_field_power_rises_after_onset(sensors):
    """README, within .04: largest spread over magnetometers in 40 to 300 ms, by its mean in the 150 ms before onset."""
    x = sensors["mag"]
    centred = ba.BinTime([*x.time.values, x.time.values[-1] + 1e-3], baseline_s=BASELINE_S).transform(x)
    power = centred.astype(np.float64).std("neuroid").assign_coords(time=x.time)
    ratio = power.sel(time=slice(0.04, 0.3)).max("time") / power.sel(time=slice(-0.15, 0)).mean("time")
    np.testing.assert_allclose(ratio, [3.22, 3.19, 3.32, 4.38], atol=0.04)
    peak = power.isel(presentation=1).sel(time=slice(0.04, 0.3)).idxmax("time")
    assert float(peak) == pytest.approx(0.0966, abs=5e-4)


def test_topographies_need_the_right_ids(sensors):
    """Of the 24 ways to name four averages only those that keep the sounds together give .93."""
    for order in itertools.permutations(range(4)):
        found = likeness(topography(renamed(sensors["mag"], list(order))), *SOUND)
        assert (abs(found - 0.93) < 0.015) == ({*order[:2]} == {0, 1})


def test_geometry_over_time_is_that_of_each_window(sensors):
    """One matrix for every 60 ms: the field of left and right sounds is most alike around 100 ms."""
    x = sensors["mag"]
    rdm = ba.rdm(ba.BinTime(np.arange(-17, 44, 6) / 100, baseline_s=BASELINE_S).transform(x))
    assert rdm.dims == ("time", "stimulus", "stimulus_2")
    np.testing.assert_allclose(rdm.sel(time=0.1, method="nearest"), topography(x), atol=1e-6)
    alike = 1 - rdm.sel(stimulus=SOUND[0], stimulus_2=SOUND[1])
    assert float(alike.idxmax("time")) == pytest.approx(0.1)


@pytest.mark.parametrize(("source", "target"), [("mag", "grad"), ("mag", "eeg"), ("grad", "eeg")])
def test_kinds_of_sensors_share_a_geometry(sensors, source, target):
    """Six pairs, 24 ways to name them: the right one fits best, in both directions (p = 1/24, as small as can be)."""
    x, y = topography(sensors[source]), topography(sensors[target])
    scores = []
    for order in itertools.permutations(range(4)):
        names = y.stimulus.values[list(order)]
        wrong = y.assign_coords(stimulus=names, stimulus_2=names)
        scores.append(ba.compare_rdms(x, wrong, metric="pearson").score.item())
    assert scores[0] == max(scores) > 0.7
    assert ba.compare_rdms(y, x, metric="pearson").score.item() == pytest.approx(scores[0])


def samples(x):
    """Every sample a row, every condition a run, so that whole conditions can be left out."""
    values = ba.BinTime([*x.time.values, x.time.values[-1] + 1e-3], baseline_s=BASELINE_S).transform(x)
    values = values.transpose("presentation", "time", "neuroid").values * 1e12
    conditions, n = x.stimulus_id.values.tolist(), x.sizes["time"]
    return ba.responses(
        values.reshape(-1, values.shape[2]), stimulus_id=[f"{name}/{i:03d}" for name in conditions for i in range(n)],
        neuroid_id=x.neuroid_id, modality=x.attrs["modality"], system=x.system.values[0], run=np.repeat(conditions, n),
        onset_s=np.tile(x.time.values - x.time.values[0], len(conditions)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("source", "target", "least"), [("grad", "mag", 0.85), ("mag", "grad", 0.6), ("mag", "eeg", 0.35), ("eeg", "mag", 0.25)]
)
def test_sensors_predict_each_other_in_a_condition_that_was_left_out(sensors, source, target, least):
    x, y = samples(sensors[source]), samples(sensors[target])
    model, folds = ba.chain(StandardScaler(), ba.Ridge(alphas=[1000.0])), ba.split(y, by="run")
    names = np.random.default_rng(0).permutation(x.stimulus_id.values)
    wrong, late = x.assign_coords(stimulus_id=("presentation", names)), x.copy(data=np.roll(x.values, 210, axis=0))
    real, permuted, shifted = (
        ba.evaluate(each, y, model=model, cv=folds, controls="none").score.mean().item() for each in (x, wrong, late)
    )
    assert real > least
    assert abs(permuted) < 0.05
    assert shifted < 0.05
