from fractions import Fraction

import numpy as np
import pytest

from brainalign.adapters.stimuli.film import list_frames, promised_bytes, read_numbered_frames, read_timed_frames
from brainalign.core.errors import FormatError, OptionalDependencyError, ParameterError

PIL = pytest.importorskip("PIL.Image")
MS = [0, 40, 80, 150, 200, 240, 300, 400, 500, 520]  # irregular times
GREYS = [20 * i for i in range(10)]


def grey(frames):
    return [int(frame[2, 2, 0]) for frame in frames]


# animated images


@pytest.fixture
def animate(tmp_path):
    def put(name, durations, n=4, **options):
        frames = [PIL.new("RGB", (8, 8), (50 * i,) * 3) for i in range(n)]
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=durations, **options)
        return tmp_path / name

    return put


@pytest.mark.parametrize(("name", "options"), [("a.gif", {}), ("a.png", {}), ("a.webp", {"lossless": True})])
def test_animated_images_have_times_of_their_own(animate, name, options):
    path = animate(name, [100, 50, 200, 30], **options)
    frames = list_frames(path)
    np.testing.assert_allclose(frames.onset_s, [0, 0.1, 0.15, 0.35])
    np.testing.assert_allclose(frames.duration_s, [0.1, 0.05, 0.2, 0.03])
    assert frames.parts == ["frame:0", "frame:1", "frame:2", "frame:3"]
    assert grey(read_numbered_frames(path, ["3", "0", "2"])) == [150, 0, 100]
    with pytest.raises(ParameterError, match=r"states the times of its frames; got rate_hz=10"):
        list_frames(path, rate_hz=10)


def test_a_gif_without_times_needs_a_rate(animate):
    path = animate("a.gif", 0)
    with pytest.raises(FormatError, match=r"states no time for frame 0 of 4.*`rate_hz=`"):
        list_frames(path)
    assert list_frames(path, rate_hz=4).onset_s.tolist() == [0.0, 0.25, 0.5, 0.75]


def test_a_picture_for_viewers_that_do_not_animate_is_no_frame(animate):
    path = animate("a.png", 100, default_image=True)
    assert list_frames(path).parts == ["frame:1", "frame:2", "frame:3"]


def test_a_gif_that_lost_its_end_is_refused(animate):
    path = animate("a.gif", 100)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(FormatError, match="does not end as a GIF does"):
        list_frames(path)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_damaged_animations(animate, survives_damage, name):
    path = animate(name, [100, 50, 200, 30])

    def read():
        parts = list_frames(path).parts
        read_numbered_frames(path, [part.partition(":")[2] for part in parts])

    assert survives_damage(path, read, header=200)


# folders


def test_frames_of_a_folder_come_by_number(tmp_path):
    for number in (1, 2, 10, *range(3, 10)):
        PIL.new("L", (2, 2), number).save(tmp_path / f"shot2_frame{number}.png")
    frames = list_frames(tmp_path, rate_hz=25)
    assert [file.name for file in frames.files] == [f"shot2_frame{number}.png" for number in range(1, 11)]
    assert frames.parts is None
    np.testing.assert_allclose(frames.onset_s, np.arange(10) / 25)
    np.testing.assert_allclose(frames.duration_s, 0.04)


def test_folders_with_gaps_or_without_a_rate_are_refused(tmp_path):
    for number in (1, 2, 4):
        PIL.new("L", (2, 2)).save(tmp_path / f"{number:03d}.png")
    with pytest.raises(ParameterError, match=r"without times. Expected frames a second"):
        list_frames(tmp_path)
    with pytest.raises(FormatError, match="has frame 4 after frame 2"):
        list_frames(tmp_path, rate_hz=25)
    PIL.new("L", (2, 2)).save(tmp_path / "logo.png")
    with pytest.raises(FormatError, match=r"holds 'logo\.png', which has no number"):
        list_frames(tmp_path, rate_hz=25)


# videos


@pytest.fixture
def video(tmp_path):
    """Return a function that writes a film of ten grey frames at irregular times."""
    av = pytest.importorskip("av")

    def put(name, codec="libx264", shift_ms=0, times=MS, format="yuv420p", **options):
        with av.open(str(tmp_path / name), "w", options=options) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 24, format
            stream.codec_context.time_base = Fraction(1, 1000)
            for value, ms in zip(GREYS, times, strict=False):
                frame = av.VideoFrame.from_ndarray(np.full((24, 32, 3), value, dtype=np.uint8), format="rgb24")
                frame.pts, frame.time_base = ms + shift_ms, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return tmp_path / name

    return put


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [("a.mp4", "libx264", "yuv420p"), ("a.mkv", "libx264", "yuv420p"), ("a.mkv", "ffv1", "bgr0"), ("a.avi", "mpeg4", "yuv420p"),
     ("a.mov", "mjpeg", "yuvj420p")],
)  # fmt: skip
def test_times_are_those_of_the_container(video, name, codec, format):
    path = video(name, codec, format=format)
    frames = list_frames(path)
    np.testing.assert_allclose(frames.onset_s, np.array(MS) / 1000, atol=1e-9)
    np.testing.assert_allclose(frames.duration_s[:-1], np.diff(MS) / 1000, atol=1e-9)
    ticks = [part.removeprefix("pts:") for part in frames.parts]
    np.testing.assert_allclose(grey(read_timed_frames(path, ticks)), GREYS, atol=4)
    np.testing.assert_allclose(grey(read_timed_frames(path, [ticks[7], ticks[2]])), [GREYS[7], GREYS[2]], atol=4)


def test_a_film_starts_at_zero_wherever_its_clock_does(video):
    path = video("a.ts", times=[40 * i for i in range(10)])  # a transport stream starts at 1.4 s or so
    np.testing.assert_allclose(list_frames(path).onset_s, 0.04 * np.arange(10), atol=1e-4)


def test_far_frames_are_reached_from_the_key_frame_before(video):
    path = video("a.mp4", times=[5000 * i for i in range(10)])
    ticks = [part.removeprefix("pts:") for part in list_frames(path).parts]
    for order in ([9, 0, 5], [3], [8, 9]):
        np.testing.assert_allclose(grey(read_timed_frames(path, [ticks[i] for i in order])), [GREYS[i] for i in order], atol=4)


def test_frames_that_are_not_there_are_named(video):
    with pytest.raises(FormatError, match="shows no frame at 123457"):
        read_timed_frames(video("a.mp4"), ["0", "123457"])


def test_listing_decodes_nothing_and_has_no_rate(video):
    path = video("a.mp4")
    with pytest.raises(ParameterError, match="states the times of its frames"):
        list_frames(path, rate_hz=25)


def test_a_video_that_promises_too_many_pixels_is_refused(video, monkeypatch):
    path = video("a.mp4")
    monkeypatch.setattr("brainalign.adapters.stimuli.film.MAX_PIXELS", 24 * 32 - 1)
    with pytest.raises(FormatError, match="could not be read as video by FFmpeg"):
        read_timed_frames(path, ["0"])


def test_truncated_videos_are_refused(video):
    whole = video("a.mp4", movflags="faststart").read_bytes()  # the table of frames stands before them
    path = video("a.mp4")
    for cut in (len(whole) // 2, len(whole) - 100, 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=r"a\.mp4'"):
            list_frames(path)


def test_a_list_of_other_files_is_no_film(video, tmp_path):
    video("a.mp4")
    for name, text in (("list.mp4", "ffconcat version 1.0\nfile a.mp4\n"), ("list.avi", "#EXTM3U\n#EXTINF:10,\na.mp4\n")):
        (tmp_path / name).write_text(text)
        with pytest.raises(FormatError, match="could not be read as video by FFmpeg"):
            list_frames(tmp_path / name)


def test_a_sound_is_no_film(tmp_path):
    pytest.importorskip("av")
    from scipy.io import wavfile

    wavfile.write(tmp_path / "a.wav", 8000, np.zeros(100, dtype=np.int16))
    with pytest.raises(FormatError, match="holds no video, only 'audio'"):
        list_frames((tmp_path / "a.wav").rename(tmp_path / "a.mp4"))


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.mp4", {}), ("a.mp4", {"movflags": "faststart"}), ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}), ("a.mov", {}),
     ("a.mkv", {}), ("a.webm", {}), ("a.avi", {})],
)  # fmt: skip
def test_containers_say_how_long_they_are(video, name, options):
    path = video(name, {"a.avi": "mpeg4", "a.webm": "libvpx-vp9"}.get(name, "libx264"), **options)
    whole = path.read_bytes()
    assert promised_bytes(path) == len(whole)
    assert len(list_frames(path).onset_s) == 10
    for cut in (1, 200, len(whole) // 2):
        path.write_bytes(whole[:-cut])
        with pytest.raises(FormatError, match=rf"{name}'"):
            list_frames(path)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_damaged_videos(video, survives_damage, name, codec):
    path = video(name, codec)

    def read():
        read_timed_frames(path, [part.removeprefix("pts:") for part in list_frames(path).parts])

    assert survives_damage(path, read, header=1000)


def test_without_the_library_its_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(OptionalDependencyError, match=r"reading '\.mp4' needs av.*brainalign\[media\]"):
        list_frames(tmp_path / "a.mp4")
