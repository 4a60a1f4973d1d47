import pickle

import numpy as np
import pytest

import brainalign as ba
from brainalign.adapters.meeg.things_eeg2 import adapter, open_things_eeg2
from brainalign.core.errors import FormatError, ParameterError
from brainalign.dataset.open import FORMATS

N, REPS, CHANNELS, TIMES = 6, 4, ["Pz", "Oz", "O1"], np.linspace(-0.2, 0.79, 10)


def write(folder, *, n=N, how="npy", **changes):
    """As the authors' scripts save them: np.save of a dict; float64, names in a list."""
    values = np.random.default_rng(0).normal(size=(n, REPS, len(CHANNELS), len(TIMES)))
    held = {"preprocessed_eeg_data": values, "ch_names": CHANNELS, "times": TIMES, **changes}
    file = folder / "preprocessed_eeg_training.npy"
    np.save(file, held) if how == "npy" else file.write_bytes(pickle.dumps(held, protocol=4))
    names = {
        "train_img_files": [f"concept_{i:02d}b.jpg" for i in range(N)], "train_img_concepts": [f"{i:05d}_concept_{i}" for i in range(N)],
        "test_img_files": np.array(["test_01s.jpg", "test_02s.jpg"]), "test_img_concepts": np.array(["t1", "t2"], dtype=object),
    }  # fmt: skip
    np.save(folder / "image_metadata.npy", names)
    return file, values


@pytest.mark.parametrize("how", ["npy", "bare"])
def test_rows_are_images_and_repeats(tmp_path, how):
    file, values = write(tmp_path, how=how)
    x = open_things_eeg2(file, system="sub-01", unpickle=True, subject="01")
    assert x.shape == (N * REPS, 3, 10)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x.values.reshape(values.shape), values.astype(np.float32))
    assert list(x.stimulus_id.values[:5]) == ["concept_00b"] * 4 + ["concept_01b"]
    assert x.condition.values[0] == "concept"
    assert list(x.repetition.values[:5]) == [0, 1, 2, 3, 0]
    assert list(x.image_index.values[:5]) == [0, 0, 0, 0, 1]
    assert x.concept.values[-1] == "00005_concept_5"
    assert list(x.neuroid_id.values) == CHANNELS
    np.testing.assert_allclose(x.time, TIMES)
    assert "session" not in x.coords
    step = ba.core.provenance(x).steps[-1]["params"]
    assert (step["partition"], step["index_base"], step["unpickle"]) == ("training", 0, True)
    assert x.attrs["units"] == "baseline-corrected, multivariate noise normalised"


def test_the_partition_is_the_one_with_as_many_images(tmp_path):
    file, _ = write(tmp_path, n=2)
    assert open_things_eeg2(file, system="s", unpickle=True).stimulus_id.values[0] == "test_01s"
    with pytest.raises(FormatError, match=r"2 images and .* names 6 for training and 2 for test \(partition='training'\)"):
        open_things_eeg2(file, system="s", unpickle=True, partition="training")
    file, _ = write(tmp_path, n=5)
    with pytest.raises(FormatError, match="recording has 5 images"):
        open_things_eeg2(file, system="s", unpickle=True)


def test_nothing_is_unpickled_without_a_word(tmp_path):
    file, _ = write(tmp_path)
    with pytest.raises(ParameterError, match=r"can run code when they are loaded.*pass `unpickle=True`"):
        open_things_eeg2(file, system="s")
    with pytest.raises(ParameterError, match="unpickle=True"):
        ba.open_responses(file, system="s")
    x = ba.open_responses(file, system="s", unpickle=True)
    assert x.sizes["presentation"] == N * REPS


def test_the_file_is_known_by_its_key_and_no_other_reader_claims_it(tmp_path):
    file, _ = write(tmp_path)
    assert [name for name in FORMATS.names() if FORMATS.get(name).matches(file)] == ["things-eeg2"]
    assert not adapter.matches(tmp_path / "image_metadata.npy")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    assert not adapter.matches(tmp_path / "plain.npy")


def test_code_in_the_file_is_refused(tmp_path):
    class RunsCode:
        def __reduce__(self):
            return print, ("run",)

    file, _ = write(tmp_path, extra=RunsCode())
    with pytest.raises(FormatError, match=r"asks for builtins.print"):
        open_things_eeg2(file, system="s", unpickle=True)


def test_what_does_not_fit_is_named(tmp_path):
    file, _ = write(tmp_path)
    (tmp_path / "image_metadata.npy").unlink()
    with pytest.raises(ParameterError, match=r"no image_metadata= and there is no .*positions are no names"):
        open_things_eeg2(file, system="s", unpickle=True)
    file, _ = write(tmp_path, ch_names=["Pz"])
    with pytest.raises(FormatError, match=r"shape \(6, 4, 3, 10\) and dtype float64, 1 channels and 10 times"):
        open_things_eeg2(file, system="s", unpickle=True)
    with pytest.raises(
        FormatError, match=r"dict of \['test_img_concepts'.*Expected THINGS-EEG2's dict with 'preprocessed_eeg_data'"
    ):
        open_things_eeg2(tmp_path / "image_metadata.npy", system="s", unpickle=True)
    broken = np.zeros((N, REPS, 3, 10))
    broken[1, 2, 1] = np.nan
    file, _ = write(tmp_path, preprocessed_eeg_data=broken)
    with pytest.raises(FormatError, match=r"10 values that are NaN or infinite, the first in row 6 of 'Oz'"):
        open_things_eeg2(file, system="s", unpickle=True)
    assert open_things_eeg2(file, system="s", unpickle=True, allow_nan=True).isnull().sum() == 10


def test_damage_is_survived(tmp_path, survives_damage):
    file, _ = write(tmp_path)
    assert survives_damage(file, lambda: open_things_eeg2(file, system="s", unpickle=True), header=600, examples=60)
    assert survives_damage(
        tmp_path / "image_metadata.npy", lambda: open_things_eeg2(file, system="s", unpickle=True), examples=60
    )
