"""Decoding over time: EEG and MEG of one person, eight categories in a slice of a brain, gratings in mice, pictures, and networks.

README of the EEG, all samples of an epoch together: squares against presses .988, the two positions .653 (areas under curves, not ours).
"""

import json

import numpy as np
import pandas as pd
import pytest
import scipy.io
import torch

import brainalign as ba

pytestmark = pytest.mark.real

RIDGE = ba.Classifier("ridge", C=0.01)
CUT = {"events": "annotations", "system": "s", "tmin": -0.2, "tmax": 0.8, "baseline": (None, 0)}


@pytest.fixture(scope="module")
def trials(shared_data):
    """Squares and presses at 0.5 to 30 Hz in windows of 50 ms; every trial is a stimulus of its own."""
    mne, file = pytest.importorskip("mne"), shared_data("eeg-visual-attention") / "eeglab_data.set"
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
    told = np.eye(20)[pd.factorize(trials[name].values.astype(object))[0]]
    recurrent, inward, state, states = (
        rng.normal(size=(n, n)) / np.sqrt(n),
        rng.normal(size=(20, n)),
        np.zeros((len(told), n)),
        [],
    )
    first = trials.time.values[trials.time.values > 0].min()
    for t in trials.time.values:
        now = told @ inward * (t == first) + 0.5 * rng.normal(size=state.shape)
        state = np.tanh(state @ recurrent + now)
        states.append(state)
    labels = {key: trials[key].values for key in ("onset_s", "run") if key in trials.coords}
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
    assert square[4, 7] < 0.8


def test_four_averages_are_too_few_for_a_claim(shared_data):
    """Sounds and flashes, learned from the left ones and tested on the right ones: at some times without error, and p is never small."""
    mne = pytest.importorskip("mne")
    evokeds = mne.read_evokeds(shared_data("meg-eeg-evoked") / "test-ave.fif.gz", verbose="error")
    x = ba.open_responses([e.filter(None, 40.0, verbose="error") for e in evokeds], format="meeg", system="s", picks="mag")
    side, sense = zip(*(name.lower().split() for name in x.stimulus_id.values), strict=True)
    x = x.assign_coords(condition=("presentation", list(sense)), session=("presentation", list(side)))
    x = ba.BinTime(np.arange(-0.2, 0.5, 0.06), baseline_s=(-0.2, 0.0)).transform(x)
    out = ba.decode_time(x, "condition", groups="session", model=ba.Classifier("ridge"), n_permutations=199, random_state=0)
    assert float(out.score.max()) == 1.0
    assert out.p_value.min() > 0.1
    assert out.p_value_max.min() > 0.3


@pytest.fixture(scope="module")
def blocks(shared_data):
    """Volumes from 5 s before to 22.5 s after the start of each of 64 blocks, one slice of the brain, at 2.5 s."""
    folders = [shared_data("haxby2001") / "sub001" / "BOLD" / f"task001_run{k:03d}" for k in range(1, 9)]
    files, runs, times = [folder / "bold_1slice.nii.gz" for folder in folders], list("12345678"), np.arange(-5.0, 25.0, 2.5)
    opened = {"format": "nifti", "system": "sub001", "units": "scanner units"}
    first = ba.open_responses(files[0], run="1", **opened)
    bright = first.mean("presentation").values.reshape(json.loads(first.attrs["grid"])["shape"])
    bold = ba.Clean(standardize="std").transform(ba.open_responses(files, run=runs, mask=bright > 0.2 * bright.max(), **opened))
    events = pd.concat(
        pd.read_csv(folder / "bold_events.tsv", sep="\t").assign(run=run) for run, folder in zip(runs, folders, strict=True)
    )
    volumes, values = pd.DataFrame({"run": bold.run.values.tolist(), "onset_s": bold.onset_s.values}), []
    for start, run in zip(events["onset"], events["run"], strict=True):
        own = volumes[volumes["run"] == run]["onset_s"]
        values.append(bold.values[[(own - start - t).abs().idxmin() for t in times]].T)
    names = (events["run"] + "/" + events["trial_type"]).to_numpy()
    return ba.responses(np.stack(values), stimulus_id=names, neuroid_id=range(bold.shape[1]), time=times, modality="fmri", system="sub001",
                        run=events["run"].to_numpy(), condition=events["trial_type"].to_numpy())  # fmt: skip


def test_eight_categories_are_told_from_the_third_volume_on(blocks):
    """In the run that is left out; categories change places within runs. README, of means over blocks and another classifier: .703."""
    ask = {
        "groups": "run",
        "cv": 8,
        "metric": "accuracy",
        "model": ba.Classifier("ridge", C=0.001),
        "clusters": "mass",
        "n_permutations": 199,
    }
    out = ba.decode_time(blocks, "condition", random_state=0, **ask)
    assert (float(out.chance), out.attrs["null"]) == (0.125, "exchange")
    assert out.p_value_max.sel(time=slice(None, -2)).min() > 0.05
    during = out.sel(time=slice(2.5, 15.0))
    assert (during.p_value == 0.005).all()
    assert (during.p_value_max < 0.05).all()
    assert during.score.max() > 0.45
    same = ba.decode_time(network(blocks, "condition"), "condition", random_state=0, **ask)
    assert same.p_value_max.sel(time=2.5) == 0.005
    assert same.p_value_max.sel(time=slice(None, 0)).min() > 0.05


@pytest.mark.parametrize(("mouse", "tells"), [("mrcuts28", True), ("mrcuts25", True), ("mrcuts26", False)])
def test_the_direction_of_a_grating_in_mice_that_tell_it_and_in_one_that_does_not(shared_data, mouse, tells):
    """Eight directions of 16 trials, windows of half a second, trials held out; the control mouse tells nothing at any time."""
    (file,) = shared_data("mouse-v1-gratings").glob(f"*{mouse}*.mat")
    x = ba.open_responses(
        file, format="matlab", values="D.neuron*", dims=("presentation", "time"), stimulus_id="TE.direction", time="t",
        stimulus_format="direction-{:03d}", modality="calcium", system=mouse, units="z-scored dF/F",
    )  # fmt: skip
    x = ba.BinTime(np.arange(-1.0, 2.01, 0.5), baseline_s=(-1.0, 0.0)).transform(x)
    x = x.assign_coords(direction=("presentation", x.stimulus_id.values),
                        stimulus_id=("presentation", [f"trial-{i:03d}" for i in range(len(x))])).drop_vars("repetition")  # fmt: skip
    ask = {"model": ba.Classifier("ridge", C=0.1), "cv": 8, "n_permutations": 199, "clusters": "mass", "random_state": 0}
    out = ba.decode_time(x, "direction", **ask)
    after = out.sel(time=slice(0.0, None))
    assert out.p_value_max.sel(time=slice(None, 0.0)).min() > 0.05
    if tells:
        assert (after.p_value_max < 0.05).all()
        assert (after.p_value_cluster == 0.005).all()
    else:
        assert min(after.p_value_max.min(), after.p_value_cluster.min()) > 0.05
    same = ba.decode_time(network(x, "direction"), "direction", **ask)
    assert same.p_value_max.sel(time=0.25) == 0.005


class Settling(torch.nn.Module):
    """A random recurrent convolution that looks at a picture for five steps."""

    def __init__(self, steps=5):
        super().__init__()
        torch.manual_seed(0)
        self.see = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(32), torch.nn.Conv2d(3, 8, 5, stride=4))
        self.again, self.steps = torch.nn.Conv2d(8, 8, 3, padding=1), torch.nn.ModuleList(torch.nn.Tanh() for _ in range(steps))

    def forward(self, rgb):
        seen = self.see(rgb)
        state = torch.zeros_like(seen)
        for step in self.steps:
            state = step(seen + self.again(state))
        return state


def test_faces_and_not_animals_are_told_in_the_states_of_an_untrained_network_that_looks_at_92_pictures(shared_data):
    pictures = ba.stimuli.from_images(shared_data("images92-fmri15") / "stimuli")
    file = shared_data("images92-kriegeskorte") / "Kriegeskorte_Neuron2008_supplementalData.mat"
    shown = scipy.io.loadmat(file, simplify_cells=True)["stimuli_92objs"]  # the same pictures in the same order
    net = ba.TorchResponder(
        Settling().eval(), layers="steps.*", system="net",
        preprocess=lambda images: torch.as_tensor(np.asarray(images)).permute(0, 3, 1, 2).float() / 255,
    )  # fmt: skip
    states = ba.record(net, pictures, progress=False)
    steps = [states[:, states.layer.values == f"steps.{i}"] for i in range(5)]
    x = ba.responses(np.stack([step.values for step in steps], axis=2), stimulus_id=states.stimulus_id, neuroid_id=range(steps[0].shape[1]),
                     time=np.arange(5.0), modality="ann", system="net")  # fmt: skip
    for kind, told in (("face", True), ("animal", False)):
        x = x.assign_coords(kind=("presentation", np.where([int(picture[kind]) for picture in shown], kind, "other")))
        out = ba.decode_time(x, "kind", model=ba.Classifier("ridge", C=0.001), n_permutations=199, random_state=0)
        assert ((out.p_value_max < 0.05) == told).all()
        assert ((out.score > 0.75) == told).all()
