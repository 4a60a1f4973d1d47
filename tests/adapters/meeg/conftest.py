"""Recordings written byte by byte, as their makers' documents lay them out: no package that is installed writes them."""

import struct
from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def write():
    """Return the writers by format."""
    return SimpleNamespace(brainvision=write_brainvision, edf=write_edf, ctf=write_ctf, kit=write_kit, bti=write_bti)


def write_brainvision(path, *, orientation="MULTIPLEXED", form="INT_16", points=False, markers=None, unit="µV"):
    """Two channels of 100 samples at 50 Hz with a resolution of 0.5; return volts, (channel, sample)."""
    counts = np.stack([np.arange(100), -2 * np.arange(100)]).astype({"INT_16": "<i2", "IEEE_FLOAT_32": "<f4"}[form])
    path.with_suffix(".eeg").write_bytes(counts.tobytes(order="F" if orientation == "MULTIPLEXED" else "C"))
    markers = [("Stimulus", "S  1", 11), ("Response", "R  1", 31), ("Stimulus", "S  2", 51)] if markers is None else markers
    lines = [f"Mk{i}={kind},{name},{at},1,0" for i, (kind, name, at) in enumerate(markers, 2)]
    path.with_suffix(".vmrk").write_text(
        "Brain Vision Data Exchange Marker File, Version 1.0\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\n[Marker Infos]\nMk1=New Segment,,1,1,0,20200101120000000000\n" + "\n".join(lines) + "\n",
        encoding="utf-8",
    )
    path.write_text(
        "Brain Vision Data Exchange Header File Version 1.0\n; written for a test\n\n[Common Infos]\nCodepage=UTF-8\n"
        f"DataFile={path.stem}.eeg\nMarkerFile={path.stem}.vmrk\nDataFormat=BINARY\nDataOrientation={orientation}\nNumberOfChannels=2\n"
        + (f"DataPoints={counts.shape[1]}\n" if points else "")
        + f"SamplingInterval=20000\n\n[Binary Infos]\nBinaryFormat={form}\n\n[Channel Infos]\nCh1=Pz,,0.5,{unit}\nCh2=Oz,,0.5,{unit}\n",
        encoding="utf-8",
    )
    return counts * 0.5e-6


def write_edf(path, *, bdf=False, n_records=4, rates=(50, 50, 50), units=("uV", "mV", "degC"), kind=""):
    """Three channels, records of one second; return the digital values, (channel, sample)."""
    n, item = len(rates), 3 if bdf else 2
    low, high = (-8388608, 8388607) if bdf else (-32768, 32767)
    head = [
        b"\xffBIOSEMI" if bdf else b"0       ",
        b"X X X X".ljust(80),
        b"Startdate X X X X".ljust(80),
        b"01.01.20",
        b"12.00.00",
    ]
    head += [str(256 * (n + 1)).encode().ljust(8), kind.encode().ljust(44), str(n_records).encode().ljust(8), b"1       "]
    head += [str(n).encode().ljust(4)]
    columns = [
        (["Pz", "Oz", "Temp"][:n], 16), ([""] * n, 80), (units, 8), ([low] * n, 8), ([high] * n, 8), ([low] * n, 8), ([high] * n, 8),
        ([""] * n, 80), (rates, 8), ([""] * n, 32),
    ]  # fmt: skip
    head += [str(value).encode("latin-1").ljust(width) for values, width in columns for value in values]
    rng = np.random.default_rng(0)
    values = [rng.integers(-1000, 1000, rate * n_records) for rate in rates]
    records = [each[i * rate : (i + 1) * rate] for i in range(n_records) for each, rate in zip(values, rates, strict=True)]
    body = b"".join(int(v).to_bytes(item, "little", signed=True) for record in records for v in record)
    path.write_bytes(b"".join(head) + body)
    return values


def write_ctf(folder, *, n_samples=20, n_channels=3, n_trials=2):
    """The start of a header, and the values; enough for sizes, not for MNE."""
    folder.mkdir()
    head = (
        b"MEG41RS\0"
        + bytes(1280)
        + struct.pack(">ih", n_samples, n_channels)
        + bytes(2)
        + struct.pack(">ddh", 100.0, 1.0, n_trials)
    )
    (folder / "a.res4").write_bytes(head + bytes(600))
    (folder / "a.meg4").write_bytes(b"MEG41CP\0" + bytes(4 * n_samples * n_channels * n_trials))


def write_kit(path):
    """A table of contents that points to a system entry of version 2.4; enough to know it, not for MNE."""
    places = [16, 480, *[600] * 18]
    path.write_bytes(
        b"".join(struct.pack("<Iiii", place, 16, 20, 20) for place in places).ljust(480, b"\0")
        + struct.pack("<ii", 2, 4)
        + bytes(400)
    )


def write_bti(folder):
    """A data file whose last bytes point to its header, beside a configuration; enough to know it, not for MNE."""
    folder.mkdir()
    (folder / "config").write_bytes(struct.pack(">h", 2) + bytes(500))
    (folder / "c,rfDC").write_bytes(bytes(400) + struct.pack(">q", 200))
