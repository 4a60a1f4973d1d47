import re

import numpy as np
import pytest
from nilearn.glm.first_level import compute_regressor
from sklearn.base import clone

import brainalign as ba
from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.protocols import PresentationStep


def events(onset, amplitude, run=None, duration=None):
    labels = {"onset_s": onset, "run": ["a"] * len(onset) if run is None else run}
    if duration is not None:
        labels["duration_s"] = duration
    amplitude = np.asarray(amplitude, dtype=np.float32).reshape(len(onset), -1)
    return ba.responses(
        amplitude,
        stimulus_id=[f"e{i}" for i in range(len(onset))],
        neuroid_id=range(amplitude.shape[1]),
        modality="ann",
        system="net",
        presentation=labels,
    )


@pytest.mark.parametrize("model", ["spm", "glover"])
@pytest.mark.parametrize("tr", [2.0, 1.5, 0.8])
def test_events_equal_nilearns_regressor(model, tr):
    rng = np.random.default_rng(0)
    frames = np.arange(60) * tr
    onset = np.sort(rng.uniform(0, frames[-1], 40))
    duration, amplitude = rng.uniform(0, 6, 40), rng.normal(size=40)
    duration[::5] = 0
    wanted, _ = compute_regressor(np.stack([onset, duration, amplitude]), model, frames, oversampling=50)
    got = ba.HRF(model, at="target").transform(events(onset, amplitude, duration=duration), presentations=events(frames, frames))
    assert np.abs(wanted).max() > 0.3
    np.testing.assert_allclose(got.values, wanted, atol=1e-3)


def test_events_on_the_volume_grid_equal_nilearn():
    frames = np.arange(50) * 2.0
    onset = np.array([0.0, 10.0, 11.0, 40.0])
    wanted, _ = compute_regressor(np.stack([onset, [2.0, 4.0, 0.0, 30.0], [1.0, 2.0, 3.0, 1.0]]), "spm", frames, oversampling=16)
    x = events(onset, [1.0, 2.0, 3.0, 1.0], duration=[2.0, 4.0, 0.0, 30.0])
    got = ba.HRF("spm", at="target", oversampling=16).transform(x, presentations=events(frames, frames))
    np.testing.assert_allclose(got.values, wanted, atol=1e-3)


def test_slice_time_is_nilearns():
    # Frames that do not start at 0 make nilearn's fine grid slightly uneven: both meet as the grid gets finer.
    frames, onset, ones = np.arange(40) * 2.0, np.array([3.3, 20.1]), np.ones(2)
    wanted, _ = compute_regressor(np.stack([onset, ones, ones]), "glover", frames + 1.0, oversampling=1000)
    step = ba.HRF("glover", at="target", sample_offset_s=1.0, oversampling=1000)
    got = step.transform(events(onset, ones, duration=ones), presentations=events(frames, frames))
    np.testing.assert_allclose(got.values, wanted, atol=1e-3)
    assert step.reach_s == (31.0, 1.0)


def test_continuous_rows_equal_nilearns_boxes():
    values = np.random.default_rng(1).normal(size=(80, 3))
    frames = np.arange(80) * 2.0
    box = np.full(80, 2.0)
    wanted = np.hstack([compute_regressor(np.stack([frames, box, v]), "spm", frames, oversampling=50)[0] for v in values.T])
    got = ba.HRF("spm").fit_transform(events(frames, values))
    np.testing.assert_allclose(got.values, wanted, atol=1e-3)
    assert got.stimulus_id.values[0] == "e0"


def test_runs_are_convolved_apart_and_rows_need_not_be_sorted():
    values = np.random.default_rng(2).normal(size=(30, 2))
    frames = np.arange(30) * 1.5
    alone = ba.HRF().fit_transform(events(frames, values)).values
    order = np.random.default_rng(3).permutation(60)
    both = events(np.tile(frames, 2)[order], np.tile(values, (2, 1))[order], run=np.repeat(["a", "b"], 30)[order])
    np.testing.assert_allclose(ba.HRF().fit_transform(both).values, np.tile(alone, (2, 1))[order], atol=1e-6)


def test_a_long_event_reaches_the_plateau_of_one():
    frames = np.arange(60) * 1.0
    got = (
        ba.HRF(at="target").transform(events([0.0], [1.0], duration=[60.0]), presentations=events(frames, frames)).values.ravel()
    )
    np.testing.assert_allclose(got[33:], 1.0, atol=1e-5)
    assert got[0] == 0


def test_events_of_other_runs_are_left_out():
    frames = np.arange(20) * 2.0
    x = events([1.0, 1.0], [1.0, 1.0], run=["a", "z"], duration=[2.0, 2.0])
    got = ba.HRF(at="target").transform(x, presentations=events(frames, frames))
    alone = ba.HRF(at="target").transform(x[:1], presentations=events(frames, frames))
    np.testing.assert_array_equal(got.values, alone.values)
    with pytest.raises(AlignmentError, match="share no run"):
        ba.HRF(at="target").transform(x[1:], presentations=events(frames, frames))


def test_bad_input():
    frames = np.arange(20) * 2.0
    x = events(frames, frames)
    with pytest.raises(ParameterError, match=r"'model' parameter of HRF .*Did you mean 'glover'"):
        ba.HRF("glovr").fit_transform(x)
    with pytest.raises(ParameterError, match=r"'oversampling' parameter of HRF must be an int in the range \[10"):
        ba.HRF(oversampling=4).fit_transform(x)
    with pytest.raises(ParameterError, match="'at' parameter of HRF"):
        ba.HRF(at="volumes").fit_transform(x)
    with pytest.raises(ParameterError, match="no `presentations`"):
        ba.HRF(at="target").fit_transform(x)
    with pytest.raises(ParameterError, match="not regularly sampled"):
        ba.HRF().fit_transform(events([0.0, 0.3, 0.7, 2.0], [1, 2, 3, 4]))
    with pytest.raises(SchemaError, match="no `onset_s`"):
        ba.HRF().fit_transform(x.drop_vars("onset_s"))
    with pytest.raises(ParameterError, match="run of one volume"):
        ba.HRF(at="target").transform(x, presentations=x[:1])


def test_protocol_and_clone():
    step = clone(ba.HRF("glover", at="target", oversampling=20))
    assert isinstance(step, PresentationStep)
    assert step.retimes
    assert not ba.HRF().retimes
    assert step.reach_s == (32.0, 0.0)
    assert step.get_params() == {"model": "glover", "at": "target", "oversampling": 20, "sample_offset_s": 0.0}


@pytest.mark.real
def test_word_rate_equals_the_regressor_that_the_authors_of_a_story_study_made(shared_data):
    folder = shared_data("alice-fmri-roi")
    grid = next(folder.glob("*.TextGrid")).read_text(errors="replace")
    found = re.findall(r'xmin = ([\d.]+)\s+xmax = [\d.]+\s+text = "(.*?)"', grid)
    onset = (
        np.array([float(start) for start, word in found if word not in ("sp", "")]) - 20
    )  # the scan starts 20 s before the file
    frames = np.arange(362) * 2.0
    got = ba.HRF("spm", at="target").transform(events(onset, np.ones(len(onset))), presentations=events(frames, frames))
    assert np.corrcoef(got.values[:, 0], np.loadtxt(folder / "s18-rate.txt"))[0, 1] > 0.98
