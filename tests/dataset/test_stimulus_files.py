import numpy as np
import pytest
import torch

import brainalign as ba
from brainalign.adapters.stimuli.media import read_content

PIL = pytest.importorskip("PIL.Image")


def save(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(path)
    return path


# images


def test_images_of_a_folder_and_of_paths(tmp_path):
    for i, name in enumerate(("dog.png", "cat.png")):
        save(tmp_path / name, i)
    folder = ba.stimuli.from_images(tmp_path)
    assert folder.stimulus_id.values.tolist() == ["cat", "dog"]
    paths = ba.stimuli.from_images([tmp_path / "dog.png", str(tmp_path / "cat.png")], stimulus_id=["d", "c"])
    assert paths.stimulus_id.values.tolist() == ["d", "c"]
    assert paths.sha256.values.tolist() == folder.sha256.values.tolist()[::-1]
    assert read_content(paths, slice(None))[:, 0, 0, 0].tolist() == [0, 1]
    assert ba.stimuli.from_images(tmp_path / "dog.png").stimulus_id.values.tolist() == ["dog"]


def test_two_images_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.jpg").write_bytes(b"y")
    with pytest.raises(ba.errors.SchemaError, match=r"two files are named 'a': .*a\.jpg' and .*a\.png'"):
        ba.stimuli.from_images(tmp_path)


@pytest.mark.real
def test_the_92_images(shared_data):
    folder = shared_data("images92-fmri15") / "stimuli"
    x = ba.stimuli.from_images(folder)
    assert x.stimulus_id.values[[0, -1]].tolist() == ["image_01", "image_92"]
    pixels = read_content(x, slice(None))
    assert pixels.shape == (92, 175, 175, 3)
    assert pixels.dtype == np.uint8
    assert x.sha256.values[0] == "813ceb5e2796c2a35cb6247b34d76ca44c034e174543d9e08cbc829f56ba0c20"


def test_nested_folders_are_conditions(tmp_path):
    for value, name in enumerate(("animals/cat.png", "animals/wild/lion.png", "tools/saw.png", "top.png")):
        save(tmp_path / name, value)
    x = ba.stimuli.from_images(tmp_path, nested=True)
    assert x.stimulus_id.values.tolist() == ["cat", "lion", "saw", "top"]
    assert x.condition.values.tolist() == ["animals", "animals/wild", "tools", ""]
    assert x.path.values.tolist() == ["animals/cat.png", "animals/wild/lion.png", "tools/saw.png", "top.png"]
    assert read_content(x, slice(None))[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    for how, ids in (("name", "lion.png"), ("path", "animals/wild/lion.png")):
        assert ba.stimuli.from_images(tmp_path, nested=True, stimulus_id=how).stimulus_id.values[1] == ids
    with pytest.raises(
        ba.errors.ParameterError, match=r"'stimulus_id' parameter of ba.stimuli must be one of 'stem', 'name', 'path'"
    ):
        ba.stimuli.from_images(tmp_path, nested=True, stimulus_id="file")


def test_names_that_clash_over_folders_are_named(tmp_path):
    save(tmp_path / "faces" / "1.png", 0)
    save(tmp_path / "houses" / "1.png", 1)
    with pytest.raises(ba.errors.SchemaError, match=r"named '1': .*faces.1\.png' and .*houses.1\.png'.*stimulus_id='path'"):
        ba.stimuli.from_images(tmp_path, nested=True)
    assert ba.stimuli.from_images(tmp_path, nested=True, stimulus_id="path").sizes["presentation"] == 2


def test_images_are_not_decoded_before_they_are_wanted(tmp_path, bytes_read):
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    for i in range(5):
        PIL.fromarray(noise).save(tmp_path / f"{i}.png")  # 120 kB each
    x = ba.stimuli.from_images(tmp_path)
    read_content(x, slice(0, 1))
    assert bytes_read(read_content, x, slice(1, 2)) < 200_000


# sounds


@pytest.fixture
def sounds(tmp_path):
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 8000, np.full(4000, 16384, dtype=np.int16))
    wavfile.write(tmp_path / "b.wav", 16000, np.zeros((4000, 2), dtype=np.float32))
    return tmp_path


def test_sounds_have_their_duration_and_are_resampled_only_as_asked(sounds):
    x = ba.stimuli.from_sounds(sounds, sampling_rate_hz=16000, channel="mean")
    assert x.attrs["kind"] == "audio"
    assert (x.attrs["sampling_rate_hz"], x.attrs["channel"]) == (16000, "mean")
    assert x.stimulus_id.values.tolist() == ["a", "b"]
    assert x.duration_s.values.tolist() == [0.5, 0.25]
    assert x.file_rate_hz.values.tolist() == [8000, 16000]
    assert [wave.shape for wave in read_content(x, slice(None))] == [(8000,), (4000,)]
    own = ba.stimuli.from_sounds(sounds / "a.wav")
    assert own.attrs["sampling_rate_hz"] == 8000
    assert set(read_content(own, slice(None))[0]) == {0.5}


def test_sounds_go_through_a_network(sounds):
    network = ba.TorchResponder(torch.nn.Sequential(torch.nn.Linear(8000, 2)), layers="*", system="net")
    x = ba.stimuli.from_sounds(sounds / "a.wav", sampling_rate_hz=16000)
    acts = ba.record(network, x, progress=False)
    expected = network.model(torch.as_tensor(read_content(x, slice(None)))).detach().numpy()
    np.testing.assert_allclose(acts.values, expected, rtol=1e-5)


def test_sounds_of_several_rates_or_channels_are_refused(sounds):
    with pytest.raises(ba.errors.ParameterError, match=r"2 sounds have the rates 8000, 16000 Hz. Expected one"):
        ba.stimuli.from_sounds(sounds, channel="mean")
    with pytest.raises(ba.errors.ParameterError, match=r"channel=None, and 'b\.wav' has 2 channels"):
        ba.stimuli.from_sounds(sounds, sampling_rate_hz=8000)
    with pytest.raises(ba.errors.ParameterError, match=r"channel=1, and 'a\.wav' has 1 channels"):
        ba.stimuli.from_sounds(sounds, sampling_rate_hz=8000, channel=1)


def test_opening_sounds_reads_what_is_hashed_and_little_more(tmp_path, bytes_read):
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(500_000, dtype=np.int16))
    assert bytes_read(ba.stimuli.from_sounds, tmp_path) < 1_100_000


# films


@pytest.fixture
def film(tmp_path):
    """Return an animated GIF of six grey frames: 0, 40 ... 200, shown for 100, 200 ... 600 ms."""
    frames = [PIL.new("L", (8, 8), 40 * i) for i in range(6)]
    path = tmp_path / "film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[100 * (i + 1) for i in range(6)])
    return path


def test_frames_are_stimuli_in_time(film):
    x = ba.stimuli.from_film(film, run="1", offset_s=10.0)
    np.testing.assert_allclose(x.onset_s, [10.0, 10.1, 10.3, 10.6, 11.0, 11.5])
    np.testing.assert_allclose(x.duration_s, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert x.frame.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert set(x.run.values) == {"1"}
    assert x.stimulus_id.values[5] == "film/f000005"
    assert x.path_part.values[5] == "frame:5"
    assert read_content(x, np.array([5, 0, 5]))[:, 0, 0, 0].tolist() == [200, 0, 200]
    assert (x.sha256.values == "").all()
    assert len(set(ba.stimuli.hashed(x).sha256.values)) == 6


def test_every_s_keeps_what_is_on_screen(film):
    x = ba.stimuli.from_film(film, every_s=0.5)  # shown at 0, 0.5, 1.0, 1.5 and 2.0 s
    assert x.frame.values.tolist() == [0, 2, 4, 5]
    np.testing.assert_allclose(x.onset_s, [0.0, 0.3, 1.0, 1.5])
    np.testing.assert_allclose(x.duration_s, [0.3, 0.7, 0.5, 0.6])
    assert ba.stimuli.from_film(film, every_s=0.01).sizes["presentation"] == 6  # no frame comes twice


def test_several_films_are_several_runs(film, tmp_path):
    frames = tmp_path / "clip"
    for number in (9, 10, 11):  # by number, not by name
        save(frames / f"frame{number}.png", number)
    x = ba.stimuli.from_film([frames], rate_hz=4)
    assert x.onset_s.values.tolist() == [0.0, 0.25, 0.5]
    assert read_content(x, slice(None))[:, 0, 0, 0].tolist() == [9, 10, 11]
    assert all(x.sha256.values)
    other = film.rename(tmp_path / "other.gif")
    both = ba.stimuli.from_film([other, other.with_name("other.gif")][:1], run=["2"])
    assert set(both.run.values) == {"2"}
    with pytest.raises(ba.errors.ParameterError, match="2 films named 'other', 'other' and 2 runs"):
        ba.stimuli.from_film([other, other])


def test_frames_go_through_a_network_and_a_store(film, tmp_path):
    network = ba.TorchResponder(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)), layers="*", system="net")
    x = ba.stimuli.from_film(film)
    store = tmp_path / "study.zarr"
    acts = ba.record(network, x, store=store, progress=False)
    assert acts.onset_s.values.tolist() == x.onset_s.values.tolist()
    ba.save(x, store)
    again = ba.stimuli.of(acts)
    assert again.path_part.values.tolist() == x.path_part.values.tolist()
    np.testing.assert_array_equal(read_content(again, slice(None)), read_content(x, slice(None)))
    assert not np.allclose(acts.values[0], acts.values[1])
