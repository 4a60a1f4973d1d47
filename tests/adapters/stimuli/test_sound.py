import struct
import wave

import numpy as np
import pytest
from scipy.io import wavfile

from brainalign.adapters.stimuli.sound import read_header, read_sound
from brainalign.core.errors import FormatError, ParameterError


@pytest.fixture
def write(tmp_path):
    def put(values, rate=8000, name="a.wav"):
        wavfile.write(tmp_path / name, rate, values)
        return tmp_path / name

    return put


def packed(path, samples, width, channels=1, rate=8000):
    """Write integers of any width with the standard library."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels), file.setsampwidth(width), file.setframerate(rate)
        file.writeframes(b"".join(int(value).to_bytes(width, "little", signed=width > 1) for value in samples))
    return path


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_integers_are_scaled_by_their_range(tmp_path, width):
    half, zero = 2 ** (8 * width - 2), 128 if width == 1 else 0
    path = packed(tmp_path / "a.wav", [zero, zero + half, zero - half, zero - 2 * half], width)
    assert read_sound(path).tolist() == [0.0, 0.5, -0.5, -1.0]
    assert read_sound(path).dtype == np.float32


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_floats_are_kept(write, dtype):
    values = np.array([0.25, -1.5, 0.1], dtype=dtype)
    np.testing.assert_array_equal(read_sound(write(values)), values.astype("f4"))


def test_as_scipy_reads_it(write):
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (100, 2), dtype=np.int16)
    path = write(values)
    np.testing.assert_allclose(read_sound(path, channel=1), values[:, 1] / 2**15)
    np.testing.assert_allclose(read_sound(path, channel="mean"), values.mean(axis=1) / 2**15, atol=1e-7)
    header = read_header(path)
    assert (header.rate_hz, header.n_channels, header.duration_s) == (8000, 2, 100 / 8000)


def test_the_channel_of_a_stereo_sound_must_be_named(write):
    path = write(np.zeros((10, 2), dtype=np.int16))
    for channel in (None, 2, -1, "left"):
        with pytest.raises(
            ParameterError, match=rf"has 2 channels; got channel={channel!r}. Expected a number from 0 to 1, or 'mean'"
        ):
            read_sound(path, channel=channel)


def test_resampling_keeps_the_tone(write):
    def tone(rate):
        return np.sin(2 * np.pi * 100 * np.arange(rate) / rate).astype("f4")

    found = read_sound(write(tone(8000)), rate_hz=12000)
    assert found.shape == (12000,)
    np.testing.assert_allclose(found[500:-500], tone(12000)[500:-500], atol=2e-3)
    np.testing.assert_array_equal(read_sound(write(tone(8000)), rate_hz=8000), tone(8000))


def test_a_ratio_that_would_ask_for_all_memory_is_refused(write):
    path = write(np.zeros(10, dtype=np.int16), rate=999_983)
    with pytest.raises(ParameterError, match="has 999983 Hz and is to be read at 16000, a ratio of 16000 to 999983"):
        read_sound(path, rate_hz=16000)


def test_other_chunks_and_odd_lengths_are_passed_over(write):
    whole = write(np.arange(4, dtype=np.int16)).read_bytes()
    path = write(np.arange(4, dtype=np.int16))
    note = struct.pack("<4sI", b"LIST", 3) + b"abc\0"
    path.write_bytes(whole[:12] + note + whole[12:] + note)
    np.testing.assert_allclose(read_sound(path), np.arange(4) / 2**15)


def test_the_extensible_layout(tmp_path):
    body = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 8000, 16000, 2, 16, 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    data = struct.pack("<2h", 16384, -16384)
    chunks = struct.pack("<4sI", b"fmt ", len(body)) + body + struct.pack("<4sI", b"data", len(data)) + data
    (tmp_path / "a.wav").write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    assert read_sound(tmp_path / "a.wav").tolist() == [0.5, -0.5]


def test_damaged_files_are_named(write, tmp_path):
    whole = write(np.zeros(100, dtype=np.int16)).read_bytes()
    path = tmp_path / "b.wav"
    for cut, said in ((243, "promises 200 bytes of samples, 2 each, from byte 44 on, and has 243 bytes"), (40, "holds no samples"),
                      (20, "could not be read as WAV")):  # fmt: skip
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=rf"b\.wav' {said}"):
            read_header(path)
    path.write_bytes(b"OggS" + whole[4:])
    with pytest.raises(FormatError, match=r"Expected 'RIFF....WAVE'"):
        read_header(path)
    for rate in (0, 99, 4_000_000_001):  # resampling from it would ask for all memory
        path.write_bytes(whole[:24] + struct.pack("<I", rate) + whole[28:])
        with pytest.raises(FormatError, match=f"a rate of {rate} Hz. Expected 100 to 1000000"):
            read_header(path)
    path.write_bytes(whole[:20] + struct.pack("<H", 85) + whole[22:])  # MP3 in a WAV
    with pytest.raises(FormatError, match="16 bits of coding 85"):
        read_header(path)
    with pytest.raises(FormatError, match="NaN or infinite"):
        read_sound(write(np.array([0.0, np.nan], dtype="f4")))


def test_the_header_is_all_that_is_read_before(write, bytes_read):
    path = write(np.zeros(500_000, dtype=np.int16))
    read_header(path)
    assert bytes_read(read_header, path) < 20_000


@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_damage(write, survives_damage, dtype):
    file = write(np.zeros((50, 2), dtype=dtype))

    def read():
        read_header(file)
        read_sound(file, channel="mean", rate_hz=16000)

    assert survives_damage(file, read, header=60, examples=60)


# through FFmpeg


@pytest.fixture
def flac(tmp_path):
    av = pytest.importorskip("av")
    values = np.random.default_rng(0).integers(-(2**15), 2**15, (2, 8000), dtype=np.int16)
    with av.open(str(tmp_path / "a.flac"), "w") as container:
        stream = container.add_stream("flac", rate=8000, layout="stereo", format="s16")
        frame = av.AudioFrame.from_ndarray(values.T.reshape(1, -1), format="s16", layout="stereo")
        frame.rate = 8000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return tmp_path / "a.flac", values


def test_lossless_sound_comes_back_exactly(flac):
    path, values = flac
    header = read_header(path)
    assert (header.rate_hz, header.n_channels, header.duration_s) == (8000, 2, 1.0)
    for channel in (0, 1):
        np.testing.assert_array_equal(read_sound(path, channel=channel), values[channel].astype("f4") / 2**15)
    assert read_sound(path, channel="mean", rate_hz=16000).shape == (16000,)


def test_damaged_compressed_sound(flac, survives_damage):
    path, _ = flac

    def read():
        read_header(path)
        read_sound(path, channel="mean")

    assert survives_damage(path, read, header=200)


def test_without_the_library_its_extra_is_named(tmp_path, monkeypatch):
    from brainalign.core.errors import OptionalDependencyError

    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp3").write_bytes(b"ID3")
    with pytest.raises(OptionalDependencyError, match=r"reading '\.mp3' needs av.*brainalign\[media\]"):
        read_header(tmp_path / "a.mp3")
