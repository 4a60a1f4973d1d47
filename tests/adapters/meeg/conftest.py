"""Recordings written byte by byte, as MNE's readers and their makers' documents lay them out: no package that is installed writes them."""

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


_COIL = [("pos", ">f8", 3), ("", ">f8"), ("norm", ">f8", 3), ("d1", ">f8"), ("turns", ">i2"), ("d2", "V6"), ("area", ">f8")]
_CTF_CHANNEL = np.dtype([
    ("kind", ">i2"), ("run", ">i2"), ("coil_type", ">i4"), ("proper_gain", ">f8"), ("q_gain", ">f8"), ("io_gain", ">f8"),
    ("io_offset", ">f8"), ("n_coils", ">i2"), ("order", ">i2"), ("pad", ">i4"), ("coil", _COIL, 8), ("head_coil", _COIL, 8),
])  # fmt: skip
_CTF_COMPENSATION = np.dtype([
    ("sensor", "S32"), ("kind", ">i4"), ("pad", ">i4"), ("n", ">i2"), ("references", "S31", 50), ("coefficients", ">f8", 50),
])  # fmt: skip


def write_ctf(folder, *, n_samples=20, n_trials=2, clock=(0.0, 0.2)):
    """Two sensors, a reference, a trigger and, if asked, the clock, at 100 Hz; ``clock`` is when trials start. Return (channel, sample) of integers."""
    folder.mkdir()
    names = ["MLC11-1", "MRC11-1", "BG1-1", "UPPT001"] + (["SCLK01-177"] if clock else [])
    n = len(names)
    channels = np.zeros(n, _CTF_CHANNEL)
    channels["kind"], channels["proper_gain"], channels["q_gain"] = (
        [5, 5, 0, 11, 17][:n],
        [-2e9, 4e9, 1e9, 1, 1][:n],
        [1e3, 1e3, 1e3, 1, 1e3][:n],
    )
    channels["n_coils"] = [2, 2, 1, 0, 0][:n]
    channels["coil"]["pos"][:3, 0] = [[5, 1, 10], [-5, 2, 10], [0, 0, 30]]  # cm
    channels["coil"]["norm"][:3, 0] = [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    compensation = np.zeros(2, _CTF_COMPENSATION)  # of first order, not applied
    compensation["sensor"], compensation["kind"], compensation["n"] = names[:2], 0x47314252, 1
    compensation["references"][:, 0], compensation["coefficients"][:, 0] = names[2], 0.5
    head = b"MEG42RS\0".ljust(776, b"\0") + struct.pack(">h", 0) + b"12:00".ljust(255, b"\0") + b"01-Jan-2020".ljust(255, b"\0")
    head += struct.pack(">ihxxddhxx", n_samples, n, 100.0, n_samples / 100, n_trials)
    head = head.ljust(1844, b"\0") + struct.pack(">h", 0) + b"".join(name.encode().ljust(32, b"\0") for name in names)
    (folder / f"{folder.stem}.res4").write_bytes(head + channels.tobytes() + struct.pack(">h", 2) + compensation.tobytes())
    values = np.random.default_rng(0).integers(-(2**20), 2**20, (n_trials, n, n_samples))
    values[:, 3] = 0
    values[0, 3, 5:8], values[1, 3, 10:12] = 3, 4
    if clock:
        values[:, 4] = np.round((np.array(clock)[:, None] + 1 + np.arange(n_samples) / 100) * 1e3)
    (folder / f"{folder.stem}.meg4").write_bytes(b"MEG41CP\0" + values.astype(">i4").tobytes())
    return np.concatenate(list(values), axis=1)


def write_kit(path, *, n_samples=50):
    """Two sensors and a trigger channel at 100 Hz, version 2.4; return (channel, sample) of integers."""
    sensors = [(2, (0.01, 0.02, 0.1, 0.0, 0.0)), (2, (-0.01, 0.02, 0.1, 90.0, 90.0))]
    channels = [struct.pack("<i5d", kind, *place).ljust(80, b"\0") for kind, place in sensors]
    channels.append(struct.pack("<iii", -1, 3, 0).ljust(80, b"\0"))
    system = struct.pack("<iii", 2, 4, 1).ljust(268, b"\0") + struct.pack("<i", 3)  # version, system, names, channels
    system = system.ljust(536, b"\0") + struct.pack("<12xi12xi", 0, 100).ljust(180, b"\0")  # dewar, site filters
    system += struct.pack("<d3i", 10.0, 1, 16, 12)  # range and bits of the converter
    values = np.random.default_rng(0).integers(-2000, 2000, (3, n_samples)).astype("<i2")
    values[2] = 2000
    values[2, 10:13] = values[2, 30:33] = 0
    parts = {
        1: system, 4: b"".join(channels), 5: struct.pack("<6d", 0, 2e-9, 0, 4e-9, 0, 1.0), 7: struct.pack("<i", 0x13000000 | 0x2000),
        8: struct.pack("<idii", 1, 100.0, n_samples, n_samples), 9: values.tobytes(order="F"),
    }  # fmt: skip
    sizes = {4: (80, 3), 5: (16, 3), 9: (6, n_samples)}
    place, entries = 16 * 32, [(0, 16, 32, 32)]
    for number in range(1, 32):
        part = parts.get(number, b"")
        size, n = sizes.get(number, (len(part), 1 if part else 0))
        entries.append((place, size, n, n))
        place += len(part)
    path.write_bytes(
        b"".join(struct.pack("<Iiii", *entry) for entry in entries) + b"".join(parts[number] for number in sorted(parts))
    )
    return values


_BTI = [  # label, kind, units a bit, gain, and its place: metres to the front, to the left and up
    ("A2", 1, 2e-12, 4.0, (0.01, 0.05, 0.1)), ("A1", 1, 1e-12, 2.0, (0.02, -0.06, 0.1)), ("MxA", 3, 1e-12, 1.0, (0, 0, 0.3)), ("TRIGGER", 5, 1, 1, ()),
]  # fmt: skip


def write_bti(folder, *, n_samples=50, kind=1):
    """Two sensors, the second one first, a reference and a trigger at 100 Hz; return (channel, sample) as they lie in the file.

    ``kind`` is how values are kept: 1 to 4 for int16, int32, float32 and float64.
    """
    folder.mkdir()
    aligned = lambda part: part + bytes(-len(part) % 8)  # noqa: E731
    turned = lambda place: np.array([[1, 0, 0, place[0]], [0, 1, 0, place[1]], [0, 0, 1, place[2]], [1] * 4], ">f8").tobytes()  # noqa: E731
    tables = {  # of one channel and one reference
        b"B_E_table_used": struct.pack(">3i16xi28x16s16sf", 2, 4, 1, 1, b"A1", b"MxA", 0),
        b"B_weights_used": struct.pack(">3i112x2i72x16s16s16sfh", 2, 0, 1, 1, 1, b"A1", b"MxA", b"MxA", 0, 0),
    }
    config = struct.pack(">h48xhihhffhhh2xI32x", 2, 0, 0, 50, len(_BTI), 1.0, 1.0, 1, len(tables), 0, 0) + turned((0, 0, 0))
    for name, table in tables.items():
        config = aligned(aligned(config + struct.pack(">I20si32xII32x", 0, name, 0, 0, len(table))) + table)
    for number, (name, form, unit, gain, place) in enumerate(_BTI, 1):
        config = aligned(config + struct.pack(">16shHh2xff16xdi32x", name.encode(), number, form, number, gain, unit, 0, 0))
        sensor = struct.pack(">8x32xf4x", 0) + turned(place) + struct.pack(">hh36x", 0, 0) if place else bytes(78)
        config = aligned(config + sensor)
    (folder / "config").write_bytes(config)
    values = np.random.default_rng(0).integers(-2000, 2000, (len(_BTI), n_samples))
    values[3] = 0
    values[3, 10:13] = values[3, 30:33] = 4
    data = aligned(values.T.astype([">i2", ">i4", ">f4", ">f8"][kind - 1]).tobytes())
    head = struct.pack(">h5sxhhiiiif16xih2xiihhi20x", 1, b"pdf", kind, 0, 1, 1, 0, 0, 0.01, 1, len(_BTI), 0, 0, 0, 0, 0)
    head = aligned(head) + struct.pack(">ifffiii28x", n_samples, n_samples / 100, 0, 0, 0, 0, 0)
    for number, (name, *_) in enumerate(_BTI, 1):
        head += struct.pack(">16shhf16xh6xddii4xf24x", name.encode(), number, 0, 1.0, 0, 0, 0, number - 1, 0, 0)
    head = aligned(head + struct.pack(">i20si32xi256xi32x", 0, b"acquired", 0, 1_577_880_000, 0))
    (folder / "c,rfDC").write_bytes(data + head + struct.pack(">q", len(data)))
    return values
