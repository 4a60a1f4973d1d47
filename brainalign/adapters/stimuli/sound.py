"""Sounds as waveforms: WAV by its own layout, other files through FFmpeg; mono and resampled only as asked."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, reading
from brainalign.adapters.stimuli.film import open_media
from brainalign.core.errors import FormatError, ParameterError, require

Array = np.ndarray[Any, Any]

_RATES_HZ = (100, 1_000_000)  # beyond them a header is damaged, and resampling would ask for all memory
_MAX_FACTOR = 100_000  # the filter has twenty times as many taps
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# Integers are scaled to [-1, 1) by their own range; only 8 bits are unsigned.
_TYPES = {
    (_PCM, 8): "u1", (_PCM, 16): "<i2", (_PCM, 24): "u1", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What a file says of its sound.

    Attributes
    ----------
    rate_hz, n_channels : int
    duration_s : float
        Of a compressed file as its header states it, NaN where it does not.
    """

    rate_hz: int
    n_channels: int
    duration_s: float


@dataclass(frozen=True)
class _Wav:
    rate_hz: int
    n_channels: int
    format: int
    bits: int
    offset: int
    n_samples: int


def read_header(path: str | Path) -> Header:
    """Return rate, channels and duration of a sound file without reading its samples.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Header

    Raises
    ------
    FormatError
        Damaged, truncated, or of an unknown coding.
    OptionalDependencyError
        It is no WAV, and PyAV is not installed.
    """
    file = existing(path)
    if file.suffix.lower() == ".wav":
        wav = _wav(file)
        return Header(wav.rate_hz, wav.n_channels, wav.n_samples / wav.rate_hz)
    with open_media(file, "audio") as (_, stream):
        duration = float(stream.duration * stream.time_base) if stream.duration else np.nan
        return Header(_rate(file, stream.codec_context.sample_rate), stream.codec_context.channels, duration)


def read_sound(path: str | Path, *, rate_hz: float | None = None, channel: int | str | None = None) -> Array:
    """Return the waveform of a sound file.

    Parameters
    ----------
    path : str or Path
    rate_hz : float, optional
        Sampling rate of the result; default that of the file. Another one resamples (polyphase filter of scipy).
    channel : int or "mean", optional
        Which channel, from 0, or their mean; needed where there are several.

    Returns
    -------
    ndarray of float32, (sample,)
        Integers are scaled to [-1, 1).

    Raises
    ------
    FormatError
        Damaged, truncated, or with values that are not finite.
    ParameterError
        A channel is not there, or must be named.
    """
    file = existing(path)
    if file.suffix.lower() == ".wav":
        wav = _wav(file)
        with reading(file, "WAV"):
            samples, own_rate = _wav_samples(file, wav), wav.rate_hz
    else:
        samples, own_rate = _decode(file)
    if not np.isfinite(samples).all():
        raise FormatError(f"{str(file)!r} holds NaN or infinite samples. Expected finite ones: write the sound again.")
    mono = _mono(samples, channel, file)
    if rate_hz is None or rate_hz == own_rate:
        return mono.astype(np.float32)
    from scipy.signal import resample_poly

    shared = gcd(int(rate_hz), own_rate)
    up, down = int(rate_hz) // shared, own_rate // shared
    if max(up, down) > _MAX_FACTOR:
        raise ParameterError(
            f"{str(file)!r} has {own_rate} Hz and is to be read at {rate_hz}, a ratio of {up} to {down}. Expected a ratio of small numbers: "
            "choose another `sampling_rate_hz`, or resample the file."
        )
    return resample_poly(mono, up, down).astype(np.float32)


def _mono(samples: Array, channel: int | str | None, file: Path) -> Array:
    n = samples.shape[1]
    if channel == "mean" or (channel is None and n == 1):
        return samples.mean(axis=1)
    if not isinstance(channel, (int, np.integer)) or not 0 <= channel < n:
        raise ParameterError(
            f"{str(file)!r} has {n} channels; got channel={channel!r}. Expected a number from 0 to {n - 1}, or 'mean': say which as `channel=`."
        )
    return samples[:, channel]


def _wav(file: Path) -> _Wav:
    """Read the chunks of a RIFF file up to its samples."""
    size = file.stat().st_size
    with reading(file, "WAV"), file.open("rb") as opened:
        start = opened.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            raise FormatError(
                f"{str(file)!r} starts with {start[:12]!r}. Expected 'RIFF....WAVE': it is no WAV file, look at the path."
            )
        layout = None
        while len(head := opened.read(8)) == 8:
            name, length = struct.unpack("<4sI", head)
            if name == b"fmt ":
                layout = _layout(file, opened.read(min(length, 40)))
                opened.seek(max(length - 40, 0) + length % 2, 1)
            elif name == b"data" and layout is not None:
                return _samples_at(file, layout, opened.tell(), length, size)
            else:
                opened.seek(length + length % 2, 1)
    raise FormatError(
        f"{str(file)!r} holds no samples in its {size} bytes. Expected the chunks 'fmt ' and 'data': it is truncated, copy it again."
    )


def _layout(file: Path, chunk: bytes) -> tuple[int, int, int, int]:
    """Return format, channels, rate and bits."""
    format, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", chunk[:16])
    if format == _EXTENSIBLE:
        (format,) = struct.unpack("<H", chunk[24:26])
    if (format, bits) not in _TYPES or not channels or frame != channels * bits // 8:
        raise FormatError(
            f"{str(file)!r} has {bits} bits of coding {format}, {channels} channels, {rate} Hz and {frame} bytes a sample. Expected integers of "
            "8, 16, 24 or 32 bits (1) or floats of 32 or 64 (3), of one size: convert it."
        )
    return format, channels, _rate(file, rate), bits


def _rate(file: Path, rate_hz: int) -> int:
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise FormatError(
            f"{str(file)!r} states a rate of {rate_hz} Hz. Expected {_RATES_HZ[0]} to {_RATES_HZ[1]}: it may be damaged."
        )
    return rate_hz


def _samples_at(file: Path, layout: tuple[int, int, int, int], offset: int, length: int, size: int) -> _Wav:
    format, channels, rate, bits = layout
    frame = channels * bits // 8
    if offset + length > size or length % frame or not length:
        raise FormatError(
            f"{str(file)!r} promises {length} bytes of samples, {frame} each, from byte {offset} on, and has {size} bytes. Expected a whole file: "
            "it is truncated, copy it again."
        )
    return _Wav(rate, channels, format, bits, offset, length // frame)


def _wav_samples(file: Path, wav: _Wav) -> Array:
    kind = np.dtype(_TYPES[wav.format, wav.bits])
    count = wav.n_samples * wav.n_channels * wav.bits // 8 // kind.itemsize
    raw = np.fromfile(file, dtype=kind, count=count, offset=wav.offset)
    if raw.size != count:
        raise FormatError(f"{str(file)!r} ended early. Expected a whole file: copy it again.")
    if wav.bits == 24:  # put in the upper bytes of 32 bits, which keeps the sign
        wide = np.zeros((raw.size // 3, 4), dtype=np.uint8)
        wide[:, 1:] = raw.reshape(-1, 3)
        raw = wide.view("<i4").ravel()
    values = raw.astype(np.float64)
    if wav.bits == 8:
        values = (values - 128) / 128
    elif wav.format == _PCM:
        values /= 2.0 ** (8 * raw.dtype.itemsize - 1)
    return values.reshape(-1, wav.n_channels)


def _decode(file: Path) -> tuple[Array, int]:
    """Decode a compressed sound, (sample, channel) float."""
    av = require("av", extra="media", purpose=f"reading {file.suffix!r}")
    with open_media(file, "audio") as (container, stream):
        rate, n_channels = _rate(file, stream.codec_context.sample_rate), stream.codec_context.channels
        plain = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=rate)
        blocks = [block.to_ndarray() for frame in (*container.decode(stream), None) for block in plain.resample(frame)]
    if not blocks:
        raise FormatError(f"{str(file)!r} holds no samples. Expected a whole sound: it may be truncated, copy it again.")
    return np.concatenate(blocks, axis=1).T.reshape(-1, n_channels), rate
