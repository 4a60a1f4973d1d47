"""Films as frames in time: animated GIF, PNG and WebP, folders of numbered frames, and video files through FFmpeg."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.stimuli.folders import SUFFIXES, list_files
from brainalign.adapters.stimuli.images import MAX_PIXELS, to_rgb
from brainalign.core.errors import FormatError, ParameterError, require
from brainalign.core.parameters import check_number, preview

Array = np.ndarray[Any, Any]

ANIMATED = (".gif", ".png", ".apng", ".webp")
#: What FFmpeg may open: containers only, no play lists, which name other files.
_CONTAINERS = "mov,mp4,m4a,avi,matroska,webm,mpeg,mpegts,ogg,flv,asf,wav,mp3,flac,aiff,aac"
_FAR_S = 2.0  # frames further on are reached from the key frame before them


@dataclass(frozen=True)
class Frames:
    """The frames of a film, in the order of time.

    Attributes
    ----------
    files : list of Path
        One a frame: the film, or the image of each frame.
    parts : list of str or None
        Which part of the file each is; None where each has a file of its own.
    onset_s, duration_s : ndarray, (frame,)
        NaN where a duration is unknown, which only the last one's can be.
    """

    files: list[Path]
    parts: list[str] | None
    onset_s: Array
    duration_s: Array


def list_frames(path: str | Path, *, rate_hz: float | None = None) -> Frames:
    """Return the frames of a film and their times; of a video no frame is decoded.

    Parameters
    ----------
    path : str or Path
        A file, or a folder of frames.
    rate_hz : float, optional
        Frames a second, for a folder, or a GIF that states no times.

    Returns
    -------
    Frames
        Times are those of the file, which need not be regular, from its start.

    Raises
    ------
    FormatError
        Damaged or truncated; no frames; times that are missing or not increasing; frames of a folder that are missing.
    ParameterError
        ``rate_hz`` where the file has times of its own, or none where it has not.
    OptionalDependencyError
        PyAV or PIL is not installed.
    """
    if Path(path).is_dir():
        return _folder(Path(path), rate_hz)
    file = existing(path)
    if file.suffix.lower() in ANIMATED:
        return _animation(file, rate_hz)
    if rate_hz is not None:
        raise _own_times(file, rate_hz)
    promised, there = promised_bytes(file), file.stat().st_size
    if promised > there:
        raise FormatError(
            f"{str(file)!r} has {there} bytes and promises {promised}. Expected a whole film: it is truncated, copy it again."
        )
    return _video(file)


def _folder(folder: Path, rate_hz: float | None) -> Frames:
    if rate_hz is None:
        raise ParameterError(f"{str(folder)!r} is a folder of frames, without times. Expected frames a second: pass `rate_hz=`.")
    files = list_files(folder, SUFFIXES["image"], what="frame")
    numbers = [re.search(r"(\d+)\D*$", file.stem) for file in files]
    unnumbered = [file.name for file, number in zip(files, numbers, strict=True) if number is None]
    if unnumbered:
        raise FormatError(
            f"{str(folder)!r} holds {unnumbered[0]!r}, which has no number. Expected frames named by number: move it away."
        )
    order = sorted((int(number[1]), file) for number, file in zip(numbers, files, strict=True) if number)
    gaps = [(a, b) for (a, _), (b, _) in pairwise(order) if b != a + 1]
    if gaps:
        raise FormatError(
            f"{str(folder)!r} has frame {gaps[0][1]} after frame {gaps[0][0]}. Expected every number once, so that times are right: copy the "
            "folder again, or keep one film in it."
        )
    step = 1 / check_number("rate_hz", rate_hz, owner="from_film", low=0, low_open=True)
    return Frames([file for _, file in order], None, np.arange(len(order)) * step, np.full(len(order), step))


def _animation(file: Path, rate_hz: float | None) -> Frames:
    """List the frames of an animated image; PIL must walk through them for their times."""
    require("PIL", extra="media", purpose="decoding images")
    from PIL import Image

    with reading(file, "an animated image"), Image.open(file) as image:
        first = int(getattr(image, "default_image", False))  # of an APNG: a picture for viewers that do not animate
        numbers = range(first, getattr(image, "n_frames", 1))
        durations = np.array([_duration_s(image, number, str(file)) for number in numbers])
        if image.format == "GIF" and not file.read_bytes().rstrip(b"\0").endswith(b";"):
            raise FormatError(f"{str(file)!r} does not end as a GIF does. Expected a whole file: it is truncated, copy it again.")
    timed = durations > 0
    if rate_hz is not None:
        if timed.any():
            raise _own_times(file, rate_hz)
        durations[:] = 1 / check_number("rate_hz", rate_hz, owner="from_film", low=0, low_open=True)
    elif not timed[:-1].all() or not timed.any():
        raise FormatError(
            f"{str(file)!r} states no time for frame {int(np.argmin(timed))} of {len(durations)}. Expected how long each is shown: pass "
            "frames a second as `rate_hz=`."
        )
    durations[~(durations > 0)] = np.nan
    onsets = np.concatenate([[0.0], np.cumsum(durations[:-1])])
    return Frames([file] * len(numbers), [f"frame:{number}" for number in numbers], onsets, durations)


def _duration_s(image: Any, number: int, name: str) -> float:
    image.seek(number)
    to_rgb(image, name)  # some formats tell the time of a frame only once it is decoded
    return float(image.info.get("duration", 0)) / 1000


def _own_times(file: Path, rate_hz: float) -> ParameterError:
    return ParameterError(
        f"{str(file)!r} states the times of its frames; got rate_hz={rate_hz!r}. Expected no other: leave it out."
    )


@contextmanager
def open_media(file: Path, kind: str) -> Iterator[tuple[Any, Any]]:
    """Open a file with FFmpeg and give its container and its first stream of a kind.

    Parameters
    ----------
    file : Path
    kind : {"video", "audio"}

    Yields
    ------
    container, stream

    Raises
    ------
    FormatError
        Damaged, or without such a stream; whatever FFmpeg raises inside.
    OptionalDependencyError
        PyAV is not installed.
    """
    av = require("av", extra="media", purpose=f"reading {file.suffix!r}")
    options = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file"}
    with reading(file, f"{kind} by FFmpeg"), av.open(str(file.resolve()), options=options) as container:
        streams = getattr(container.streams, kind)
        if not streams:
            held = preview(stream.type for stream in container.streams)
            raise FormatError(
                f"{str(file)!r} holds no {kind}, only {held or 'nothing'}. Expected a {kind} stream: look at the path."
            )
        streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)} if kind == "video" else {}
        yield container, streams[0]


def promised_bytes(file: Path) -> int:
    """Return how many bytes a video file says it has, 0 where its container does not.

    Parameters
    ----------
    file : Path
        AVI, Matroska and WebM state their size at the start, MP4 and MOV that of each of their boxes.

    Returns
    -------
    int
    """
    size = file.stat().st_size
    with file.open("rb") as opened:
        start = opened.read(64)
        if start[:4] == b"RIFF":
            return 8 + int.from_bytes(start[4:8], "little")
        if start[:4] == b"\x1a\x45\xdf\xa3":
            at = start.find(b"\x18\x53\x80\x67", 4) + 4  # the segment, which holds all but the header
            return _sized(start, at) if at > 4 else 0
        if start[4:8] != b"ftyp":
            return 0
        at = 0
        while at < size:
            opened.seek(at)
            head = opened.read(16)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length or size - at  # 0: up to the end
            at += max(length, 8)
    return at


def _sized(start: bytes, at: int) -> int:
    """Return where an element of Matroska ends; its size is written in as many bytes as the first one has leading zeros, and one."""
    n = 9 - start[at].bit_length() if at < len(start) and start[at] else 0
    size = int.from_bytes(start[at : at + n], "big") & ((1 << 7 * n) - 1)
    unknown = size == (1 << 7 * n) - 1  # of a live recording
    return 0 if not n or unknown else at + n + size


def _video(file: Path) -> Frames:
    with open_media(file, "video") as (container, stream):
        packets = [packet for packet in container.demux(stream) if packet.size]  # the last, empty one only ends the stream
        if any(packet.is_corrupt for packet in packets) or ("mp4" in container.format.name and len(packets) < stream.frames):
            raise FormatError(
                f"{str(file)!r} holds {len(packets)} of its {stream.frames} frames. Expected a whole film: it is truncated, copy it again."
            )
        shown = [packet for packet in packets if not packet.is_discard]
        base, origin = stream.time_base, (container.start_time or 0) / 1e6
        times = [packet.pts for packet in shown]
        last = max(shown, key=lambda packet: packet.pts or 0).duration if shown else 0
    if None in times:  # an old AVI says only when to decode a frame: decoding tells when to show it
        with open_media(file, "video") as (container, stream):
            times = [frame.pts for frame in container.decode(stream)]
    ticks = np.array(sorted(times), dtype=np.int64)
    if not ticks.size or (np.diff(ticks) <= 0).any():
        raise FormatError(
            f"{str(file)!r} has {ticks.size} frames, {int((np.diff(ticks) <= 0).sum())} of them at the time of another. Expected frames at "
            "times of their own: write the film again, such as with `ffmpeg -i film -fps_mode passthrough`."
        )
    seconds = ticks * float(base)
    durations = np.append(np.diff(seconds), float(last * base) if last else np.nan)
    return Frames([file] * ticks.size, [f"pts:{tick}" for tick in ticks], seconds - origin, durations)


def read_numbered_frames(path: str | Path, frames: Sequence[str]) -> list[Array]:
    """Return frames of an animated image.

    Parameters
    ----------
    path : str or Path
    frames : sequence of str
        Numbers, from 0.

    Returns
    -------
    list of ndarray of uint8, (y, x, 3)

    Raises
    ------
    FormatError
        Damaged, or no such frame.
    """
    require("PIL", extra="media", purpose="decoding images")
    from PIL import Image

    file = existing(path)
    found = {}
    with reading(file, "an animated image"), Image.open(file) as image:
        for frame in sorted(frames, key=int):  # forward, since a frame is built on those before it
            image.seek(int(frame))
            found[frame] = to_rgb(image, str(file))
    return [found[frame] for frame in frames]


def read_timed_frames(path: str | Path, ticks: Sequence[str]) -> list[Array]:
    """Return frames of a video.

    Parameters
    ----------
    path : str or Path
    ticks : sequence of str
        Presentation time stamps, in the unit of the stream. Frames near each other are decoded in one go.

    Returns
    -------
    list of ndarray of uint8, (y, x, 3)
        As stored: a rotation that the file asks for is not applied.

    Raises
    ------
    FormatError
        Damaged, or no frame at one of these times.
    """
    file = existing(path)
    with reading(file, "video by FFmpeg"):
        wanted = sorted({int(tick) for tick in ticks})
    with open_media(file, "video") as (container, stream):
        found = {frame.pts: _pixels(frame, file) for frame in _decode(container, stream, wanted)}
    late = [pts for pts in wanted if pts not in found]
    if late:  # some containers seek only roughly: then from the start
        with open_media(file, "video") as (container, stream):
            found |= {frame.pts: _pixels(frame, file) for frame in container.decode(stream) if frame.pts in late}
    missing = [pts for pts in late if pts not in found]
    if missing:
        raise FormatError(
            f"{str(file)!r} shows no frame at {missing[0]} (of {stream.time_base} s). Expected the film that the table was built from, whole: "
            "it may be damaged or replaced; build the table again."
        )
    return [found[int(tick)] for tick in ticks]


def _decode(container: Any, stream: Any, wanted: list[int]) -> Iterator[Any]:
    frames, last = container.decode(stream), None
    for pts in wanted:
        if last is None or float((pts - last) * stream.time_base) > _FAR_S:
            container.seek(pts, stream=stream)  # to the key frame before it
            frames = container.decode(stream)
        frame = next((frame for frame in frames if frame.pts is not None and frame.pts >= pts), None)
        if frame is None:
            return
        last = frame.pts
        if last == pts:
            yield frame


def _pixels(frame: Any, file: Path) -> Array:
    if frame.is_corrupt:  # FFmpeg fills up what it cannot decode
        raise FormatError(
            f"{str(file)!r} is damaged at {frame.time:g} s: FFmpeg could not decode all of the frame. Expected a whole film: copy it again."
        )
    return frame.to_ndarray(format="rgb24")
