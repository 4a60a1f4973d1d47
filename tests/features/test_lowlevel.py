"""Low-level features of stimulus tables of every kind, with their labels."""

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.errors import ParameterError, SchemaError
from brainalign.engine.lowlevel import gabor_energy
from brainalign.features.lowlevel import low_level

RNG = np.random.default_rng(0)


def pictures(folder, sizes):
    from PIL import Image

    for i, (y, x) in enumerate(sizes):
        Image.fromarray(RNG.integers(0, 256, size=(y, x, 3), dtype=np.uint8)).save(folder / f"image-{i}.png")
    return ba.stimuli.from_images(folder)


def tones(folder, hertz, seconds, rate=8000):
    from scipy.io import wavfile

    for i, (f, s) in enumerate(zip(hertz, seconds, strict=True)):
        wave = 0.5 * np.sin(2 * np.pi * f * np.arange(round(s * rate)) / rate)
        wavfile.write(folder / f"tone-{i}.wav", rate, (wave * 32767).astype(np.int16))
    return ba.stimuli.from_sounds(folder)


def test_images_have_pixels_and_energy_with_their_places(tmp_path):
    stimuli = pictures(tmp_path, [(64, 64)] * 3)
    found = low_level(stimuli)
    assert list(found) == ["pixels", "gabor"]
    for name, x in found.items():
        ba.validate(x, deep=True)
        assert x.stimulus_id.values.tolist() == stimuli.stimulus_id.values.tolist()
        assert set(x.layer.values) == {name}
        assert ba.core.provenance(x).steps[-1]["verb"] == "low_level"
    pixels, gabor = found.values()
    assert pixels.shape == (3, 16 * 16 * 3)
    from PIL import Image

    image = np.asarray(Image.open(tmp_path / "image-0.png")) / 255
    corner = pixels[0].values[(pixels.channel_y.values == 15) & (pixels.channel_x.values == 0)]
    np.testing.assert_allclose(corner, image[60:, :4].mean(axis=(0, 1)), rtol=1e-5)
    assert gabor.shape == (3, 8 * sum(scale**2 for scale in (1, 2, 4, 8, 16)))
    np.testing.assert_allclose(gabor[0], gabor_energy(image[None] @ [0.299, 0.587, 0.114], (1, 2, 4, 8, 16), 8)[0], rtol=1e-4)
    assert sorted(set(gabor.orientation_deg.values)) == [22.5 * i for i in range(8)]
    assert gabor.channel_x.values[gabor.cycles.values == 16].max() == 15


def test_images_of_many_sizes_have_one_width_and_the_same_features_alone_or_together(tmp_path):
    stimuli = pictures(tmp_path, [(40, 60), (64, 64), (100, 30)])
    together = low_level(stimuli)
    assert together["gabor"].attrs["modality"] == "ann"
    for name, x in together.items():
        alone = low_level(stimuli.isel(presentation=slice(0, 1)))[name]
        np.testing.assert_allclose(alone[0], x[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("dims", "axes"), [(("y", "x", "channel"), (0, 1, 2, 3)), (("channel", "y", "x"), (0, 3, 1, 2))])
@pytest.mark.parametrize("kind", ["image", "array"])
def test_arrays_with_y_and_x_are_images_in_any_order_of_dims(dims, axes, kind):
    images = RNG.random((4, 12, 20, 3), dtype=np.float32)
    stimuli = ba.stimuli.table(images.transpose(axes), stimulus_id=list("abcd"), kind=kind, dims=dims)
    found = low_level(stimuli)
    assert found["pixels"].shape == (4, 12 * 12 * 3)
    np.testing.assert_allclose(found["pixels"][:, 0], images[:, 0, :2, 0] @ [0.6, 0.4], rtol=1e-5)
    assert set(found["gabor"].cycles.values) == {1, 2}  # what twelve pixels can hold


def test_arrays_are_their_own_features():
    values = RNG.normal(size=(5, 2, 3)).astype(np.float32)
    found = low_level(ba.stimuli.table(values, stimulus_id=list("abcde"), kind="array"))
    np.testing.assert_array_equal(found["values"], values.reshape(5, 6))


def test_a_sound_is_one_row_of_bands_and_parts(tmp_path):
    x = low_level(tones(tmp_path, [200, 1500], [0.5, 1.25]))["envelope"]
    assert x.shape == (2, 64)
    for row, hertz in enumerate((200, 1500)):
        loudest = x.frequency_hz.values[np.argmax(x.values[row].reshape(8, 8), axis=1)]
        assert (np.abs(np.log2(loudest / hertz)) < 0.5).all()
        np.testing.assert_allclose(x.values[row].reshape(8, 8).max(axis=1), 0.5, atol=0.05)


def test_a_sound_in_time_has_rows_that_a_recording_can_be_joined_with(tmp_path):
    stimuli = tones(tmp_path, [200, 1500], [2.0, 3.0])
    stimuli = stimuli.assign_coords(onset_s=("presentation", [5.0, 1.0]), run=("presentation", ["1", "2"]))
    x = low_level(stimuli, rate_hz=10.0)["envelope"]
    assert x.shape == (50, 8)
    np.testing.assert_allclose(x.onset_s.values, [*(5 + np.arange(20) / 10), *(1 + np.arange(30) / 10)])
    assert x.run.values.tolist() == ["1"] * 20 + ["2"] * 30
    bold = ba.responses(np.zeros((2, 1)), stimulus_id=["a", "b"], neuroid_id=[0], modality="fmri", system="sub-01", run=["1", "2"],
                        onset_s=[5.0, 1.0], duration_s=[2.0, 2.0])  # fmt: skip
    binned = ba.BinTime().transform(x, bold)
    np.testing.assert_allclose(binned.values.max(axis=1), 0.5, atol=0.03)


def test_words_have_rate_length_and_place():
    onset = [0.0, 0.4, 0.8, 5.0, 0.0, 0.3]
    words = ba.stimuli.table(
        ["I", "don't", "know.", "why", "she", "ran"],
        stimulus_id=[f"w{i}" for i in range(6)],
        kind="word",
        onset_s=onset,
        run=list("111122"),
    )
    x = low_level(words)["words"]
    assert x.feature.values.tolist() == ["word_rate", "word_length", "position"]
    np.testing.assert_allclose(x.values[:, 0], [1.5, 1.5, 1.5, 0.5, 1.0, 1.0])
    np.testing.assert_allclose(x.values[:, 1], [1, 4, 4, 3, 3, 3])
    np.testing.assert_allclose(x.values[:, 2], [0, 1 / 3, 2 / 3, 1, 0, 1], rtol=1e-6)


def test_texts_have_a_number_of_words_and_their_length():
    texts = ba.stimuli.table(["the cat sat", "no", ""], stimulus_id=list("abc"), kind="text")
    x = low_level(texts)["words"]
    assert x.feature.values.tolist() == ["n_words", "word_length"]
    np.testing.assert_allclose(x.values, [[3, 3], [1, 2], [0, 0]])


def test_what_is_missing_is_said(tmp_path):
    stimuli = tones(tmp_path, [200], [1.0])
    with pytest.raises(ParameterError, match=r"rate_hz=10 for sounds without `onset_s`"):
        low_level(stimuli, rate_hz=10)
    with pytest.raises(ParameterError, match=r"The 'rate_hz' parameter of low_level must be a float in the range \(0"):
        low_level(stimuli, rate_hz=0)
    with pytest.raises(ParameterError, match="without the attr `sampling_rate_hz`"):
        low_level(ba.stimuli.table(np.zeros((2, 50)), stimulus_id=["a", "b"], kind="audio"))
    with pytest.raises(SchemaError, match="stimuli is a list"):
        low_level([1, 2])
