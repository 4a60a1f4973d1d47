import h5py
import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.fmri.lebel import adapter, open_lebel
from brainalign.core.errors import FormatError, ParameterError

RNG = np.random.default_rng(0)
STORIES = {"souls": RNG.normal(size=(6, 5)), "alternateithicatom": RNG.normal(size=(8, 5))}
REPEATS = RNG.normal(size=(3, 7, 5))
FIRST = {"first_onset_s": 10.045}


def write(file, **arrays):
    with h5py.File(file, "w") as opened:
        for name, values in arrays.items():
            opened[name] = values
    return file


@pytest.fixture
def person(tmp_path):
    """Write one person's folder: float64 stories and the repeated test story (simulated values)."""
    folder = tmp_path / "UTS03"
    folder.mkdir()
    for story, values in STORIES.items():
        write(folder / f"{story}.hf5", data=values)
    write(folder / "wheretheressmoke.hf5", data=REPEATS.mean(0), individual_repeats=REPEATS)
    return folder


def test_stories_are_runs_in_seconds_of_the_transcripts(person):
    x = ba.open_responses(person, **FIRST)
    assert list(dict.fromkeys(x.run.values.tolist())) == ["alternateithicatom", "souls", "wheretheressmoke"]
    np.testing.assert_allclose(x.values, np.vstack([STORIES["alternateithicatom"], STORIES["souls"], REPEATS.mean(0)]), rtol=1e-6)
    np.testing.assert_allclose(x.onset_s.values[:3], 10.045 + 2.0045 * np.arange(3))
    assert x.onset_s.values[8] == 10.045
    assert x.n_repeats.values.tolist() == [1] * 14 + [3] * 7
    assert x.neuroid_id.values.tolist() == [0, 1, 2, 3, 4]
    assert (x.system.values[0], x.subject.values[0], x.dtype) == ("UTS03", "UTS03", np.float32)
    np.testing.assert_allclose(x.sampling_rate_hz, 1 / 2.0045)
    ba.validate(x, deep=True)


def test_repeats_of_the_test_story_are_runs_of_the_same_stimuli(person):
    x = open_lebel(person, stories="wheretheressmoke", repeats="keep", **FIRST)
    np.testing.assert_allclose(x.values, REPEATS.reshape(21, 5), rtol=1e-6)
    assert list(dict.fromkeys(x.run.values.tolist())) == [f"wheretheressmoke_run-{n}" for n in (1, 2, 3)]
    assert x.stimulus_id.values[7] == "wheretheressmoke/v00000"
    assert x.repetition.values.tolist() == [0] * 7 + [1] * 7 + [2] * 7
    assert set(x.n_repeats.values.tolist()) == {1}


def test_trimming_is_asked_for_and_recorded(person):
    x = open_lebel(person, stories=["souls", "alternateithicatom"], trim=(2, 1), **FIRST)
    np.testing.assert_allclose(x.values, np.vstack([STORIES["souls"][2:5], STORIES["alternateithicatom"][2:7]]), rtol=1e-6)
    np.testing.assert_allclose(x.onset_s.values[:3], 10.045 + 2.0045 * np.array([2, 3, 4]))
    assert x.stimulus_id.values[0] == "souls/v00002"
    params = ba.core.provenance(x).steps[-1]["params"]
    assert (params["trim"], params["tr_s"], params["first_onset_s"], params["index_base"]) == ([2, 1], 2.0045, 10.045, 0)
    with pytest.raises(FormatError, match=r"'souls' .* has shape \(6, 5\).*more volumes than trim=\(4, 2\)"):
        open_lebel(person, stories="souls", trim=(4, 2), **FIRST)
    with pytest.raises(ParameterError, match=r"two counts of volumes\. Got 5"):
        open_lebel(person, trim=5, **FIRST)


def test_the_tr_is_in_seconds(person):
    assert open_lebel(person, tr_s=2.0, **FIRST).onset_s.values[1] == 12.045
    with pytest.raises(ParameterError, match=r"Got 2004\.5"):
        open_lebel(person, tr_s=2004.5, **FIRST)


def test_the_first_onset_must_be_said(person):
    with pytest.raises(ParameterError, match="first_onset_s"):
        ba.open_responses(person)


def test_stories_that_are_not_there(person):
    with pytest.raises(ParameterError, match=r"no 'soul' among .*Did you mean 'souls'"):
        open_lebel(person, stories=["soul"], **FIRST)
    with pytest.raises(ParameterError, match="none twice"):
        open_lebel(person, stories=["souls", "souls"], **FIRST)
    with pytest.raises(FormatError, match="holds no"):
        open_lebel(person.parent, **FIRST)


def test_nan_voxels_are_declared_or_refused(person):
    values = STORIES["souls"].copy()
    values[:, 3] = np.nan
    write(person / "souls.hf5", data=values)
    x = open_lebel(person, **FIRST)
    with pytest.raises(FormatError, match=r"souls.hf5' holds 6 values that are NaN .* neuroid 3"):
        x.compute()
    assert x[x.run.values == "wheretheressmoke"].compute().notnull().all()
    declared = open_lebel(person, allow_nan=True, **FIRST)
    assert np.isnan(declared.values[:, 3]).sum() == 6


def test_other_voxels_and_other_files(person):
    write(person / "zoo.hf5", data=np.ones((4, 6)))
    with pytest.raises(FormatError, match=r"the story 'zoo' .* has shape \(4, 6\). Expected 5 voxels as in 'alternateithicatom'"):
        open_lebel(person, **FIRST)
    write(person / "zoo.hf5", resp=np.ones((4, 5)))
    with pytest.raises(FormatError, match=r"zoo.hf5' holds \{'resp': \(4, 5\)\}. Expected 'data', \(volume, voxel\)"):
        open_lebel(person, **FIRST)
    assert not adapter.matches(person / "zoo.hf5")
    assert adapter.matches(person / "souls.hf5").startswith("hf5 files with 'data'")


def test_opening_reads_headers_only(tmp_path, bytes_read):
    write(tmp_path / "a.hf5", data=np.zeros((300, 2000)), individual_repeats=np.zeros((2, 300, 2000)))
    assert bytes_read(open_lebel, tmp_path / "a.hf5", **FIRST) < 60_000
    x = open_lebel(tmp_path / "a.hf5", repeats="keep", **FIRST)
    assert bytes_read(x[:300].compute) < 300 * 2000 * 8 + 60_000


def test_damage(person, survives_damage):
    file = person / "wheretheressmoke.hf5"
    assert survives_damage(file, lambda: open_lebel(file, repeats="keep", **FIRST).compute(), examples=25)
