"""Headers of recordings by several makers: which one a file is, and whether it holds as much as it says."""

from __future__ import annotations

import configparser
import re
import struct
from pathlib import Path

import numpy as np

from brainalign.adapters.files import first_bytes, reading
from brainalign.core.errors import FormatError
from brainalign.core.parameters import preview

_VOLTS = ("uV", "\u00b5V", "\u03bcV", "\x83\xcaV", "mV", "V")  # MNE takes any other unit for volts
_ITEM_BYTES = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
_BRAINVISION = re.compile(rb"(\xef\xbb\xbf)?Brain ?Vision( Core| V-Amp)? Data( Exchange)? Header File", re.IGNORECASE)


def is_brainvision(path: Path) -> bool:
    """Return True for a header of BrainVision, by its first line.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return path.is_file() and _BRAINVISION.match(first_bytes(path, 80)) is not None


def is_edf(path: Path) -> bool:
    """Return True for EDF or BDF, by its version field.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    start = first_bytes(path, 256) if path.is_file() else b""
    return start[:8] in (b"0       ", b"\xffBIOSEMI") and start[184:192].strip().isdigit()


def is_ctf(path: Path) -> bool:
    """Return True for a folder of CTF: it holds a ``.res4`` that starts with ``MEG4``.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return path.is_dir() and any(first_bytes(file, 4) == b"MEG4" for file in path.glob("*.res4"))


def is_kit(path: Path) -> bool:
    """Return True for KIT's ``.sqd`` or ``.con``: its table of contents leads to a known version.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    entries = _kit_contents(path)
    if len(entries) < 10 or entries[1][0] < 16 * len(entries):
        return False
    with path.open("rb") as file:
        file.seek(entries[1][0])
        found = file.read(8)
    version, revision = struct.unpack("<ii", found) if len(found) == 8 else (0, 0)
    return 1 <= version <= 9 and 0 <= revision <= 99


def _kit_contents(path: Path) -> list[tuple[int, ...]]:
    """Return offset, bytes of an item, most items and items of each entry of a table of contents, or nothing."""
    start = first_bytes(path, 16 * 64) if path.is_file() else b""
    n = int.from_bytes(start[12:16], "little")
    return list(struct.iter_unpack("<Iiii", start[: 16 * n])) if 10 <= n <= 64 and len(start) >= 16 * n else []


def check_kit(path: Path) -> None:
    """Refuse a KIT file that ends before what its table of contents promises.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FormatError
        As said; the bytes are named.
    """
    size = path.stat().st_size
    promised = max(offset + item * n for offset, item, _, n in _kit_contents(path))
    if size < promised:
        raise FormatError(
            f"{str(path)!r} has {size} bytes; its table of contents promises {promised}. Expected a whole file: it is truncated, copy it again."
        )


def bti_data(path: Path) -> list[Path]:
    """Return the data files of a BTi folder, or the one that is named: beside ``config``, their last bytes point to a header inside them.

    Parameters
    ----------
    path : Path
        The folder, or a data file in it (``c,rfDC``).

    Returns
    -------
    list of Path
        Without coil files (``...,COH``); empty where it is no such folder.
    """
    folder = path if path.is_dir() else path.parent
    if not (folder / "config").is_file():
        return []
    files = [file for file in sorted(folder.glob("*,rf*")) if ",COH" not in file.name and path in (folder, file)]
    return [file for file in files if _points_inside(file)]


def _points_inside(file: Path) -> bool:
    size = file.stat().st_size
    if not file.is_file() or size <= 64:
        return False
    with file.open("rb") as opened:
        opened.seek(size - 8)
        return 0 < int.from_bytes(opened.read(8), "big") & 0x7FFFFFFF < size


def check_bti(file: Path) -> None:
    """Refuse a BTi data file with fewer values before its header than that says: MNE would take the header for values.

    Parameters
    ----------
    file : Path

    Raises
    ------
    FormatError
        As said; the bytes are named.
    """
    size = file.stat().st_size
    with reading(file, "BTi"), file.open("rb") as opened:
        opened.seek(size - 8)
        pointer = int.from_bytes(opened.read(8), "big")
        low = pointer & 0x7FFFFFFF  # of files up to 2 GB, only these bits count
        there = low if size - low <= 0x7FFFFFFF else pointer
        opened.seek(there + -there % 8)
        head = opened.read(96)
        kind, n_epochs, n_channels = *struct.unpack_from(">h2xi", head, 8), *struct.unpack_from(">h", head, 52)
        epochs = opened.read(56 * max(0, min(n_epochs, size // 56)))
        n_samples = sum(samples for (samples,) in struct.iter_unpack(">i52x", epochs))
        promised = {1: 2, 2: 4, 3: 4, 4: 8}[kind] * n_channels * n_samples
    if not 0 < promised <= there:
        raise FormatError(
            f"{str(file)!r} holds {there} bytes of values; its header promises {promised} ({n_samples} samples of {n_channels} channels). Expected "
            "a whole recording: it is damaged, copy it again."
        )


def check_brainvision(path: Path) -> None:
    """Refuse a BrainVision header whose data or markers are not beside it, or not as long as it says.

    Parameters
    ----------
    path : Path
        The ``.vhdr``.

    Raises
    ------
    FormatError
        A missing companion, a size that is no whole number of samples or not the promised one, markers past the end.
    """
    with reading(path, "BrainVision header"):
        text = path.read_bytes().decode("utf-8-sig", errors="replace").partition("\n")[2].partition("[Comment]")[0]
        header = configparser.ConfigParser(interpolation=None, strict=False)
        header.read_string(text)
        common = header["Common Infos" if "Common Infos" in header else "Common infos"]
        n, data, markers = int(common["NumberOfChannels"]), common["DataFile"], common.get("MarkerFile", "")
        points = int(common.get("DataPoints", 0))
        binary = common.get("DataFormat", "BINARY").upper() == "BINARY"
        item = _ITEM_BYTES.get(header["Binary Infos"]["BinaryFormat"], 0) if binary else 0
    file = _beside(path, data, "data file", path.parent / data)
    if markers:
        markers = _beside(path, markers, "marker file", path.parent / markers, path.with_suffix(".vmrk"))
    if not item or n < 1:
        return  # text, or a type that MNE refuses by name
    size, sample = file.stat().st_size, n * item
    if size % sample or (points and size != points * sample):
        promised = f"{points * sample} ({points} samples of {n} channels)" if points else f"a multiple of {sample} ({n} channels)"
        raise FormatError(
            f"{str(file)!r} has {size} bytes; {path.name!r} promises {promised}. Expected a whole file: it is truncated, copy it again."
        )
    if markers:
        places = [int(place) for place in re.findall(rb"(?m)^Mk\d+=[^,\n]*,[^,\n]*,(\d+)", Path(markers).read_bytes())]
        if places and max(places) > size // sample:
            raise FormatError(
                f"{str(markers)!r} has a marker at sample {max(places)} (1-based); {file.name!r} holds {size // sample}. Expected markers inside "
                "the recording: the data are truncated, or the markers are of another one."
            )


def _beside(header: Path, name: str, what: str, *places: Path) -> Path:
    if Path(name).name != name or "\\" in name:
        raise FormatError(
            f"{str(header)!r} names the {what} {name!r}, outside its folder. Expected the name of a file beside it."
        )
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FormatError(
            f"{str(header)!r} names the {what} {name!r}, which is not in {str(header.parent)!r}. Expected it beside the header: copy all three "
            "files, or write the new name into the header."
        )
    return found


def check_edf(path: Path) -> list[str]:
    """Refuse an EDF or BDF file that is shorter than its header says, has gaps, or channels of several sampling rates.

    Parameters
    ----------
    path : Path

    Returns
    -------
    list of str
        Channels whose unit is no voltage; MNE would take their numbers for volts.

    Raises
    ------
    FormatError
        As said, or a header that makes no sense.
    """
    size = path.stat().st_size
    item = 3 if first_bytes(path, 1) == b"\xff" else 2
    with reading(path, "EDF"), path.open("rb") as opened:
        start = opened.read(256).decode("latin-1")
        n_header, n_records, n = int(start[184:192]), int(start[236:244]), int(start[252:256])
        if n < 1 or n_header != 256 * (n + 1) or n_header > size:
            raise FormatError(
                f"{str(path)!r} has {size} bytes and a header of {n_header} for {n} channels. Expected {256 * (max(n, 0) + 1)} bytes of header: it is "
                "truncated or damaged, copy it again."
            )
        fields = opened.read(256 * n).decode("latin-1")
        names, units, counts = (_column(fields, n, *place) for place in ((0, 16), (96, 8), (216, 8)))
        samples = np.array([int(count) for count in counts])
    if start[192:197] in ("EDF+D", "BDF+D"):
        raise FormatError(
            f"{str(path)!r} is discontinuous ({start[192:197]}): its gaps would move every event after them. Expected EDF+C: convert it, or "
            "cut it at its gaps."
        )
    if (samples < 1).any() or n_records < -1 or n_header + max(n_records, 1) * int(samples.sum()) * item > size:
        raise FormatError(
            f"{str(path)!r} has {size} bytes; its header promises {n_header + max(n_records, 1) * int(samples.sum()) * item} ({n_records} records of "
            f"{int(samples.sum())} samples). Expected a whole file: it is truncated, copy it again."
        )
    signal = [i for i, name in enumerate(names) if not name.endswith("Annotations")]
    slow = [names[i] for i in signal if samples[i] < samples[signal].max()]
    if slow:
        raise FormatError(
            f"{str(path)!r} has {len(slow)} of {len(signal)} channels at a lower sampling rate: {preview(slow)}. Expected one rate, since MNE would "
            "fill them up: leave them out, `mne.io.read_raw_edf(path, exclude=[...])`, and open that object."
        )
    return [names[i] for i in signal if units[i] not in _VOLTS]


def _column(fields: str, n: int, start: int, width: int) -> list[str]:
    return [fields[n * start + width * i :][:width].strip() for i in range(n)]


def check_ctf(path: Path) -> int:
    """Refuse a CTF folder whose ``.meg4`` is not there or shorter than the ``.res4`` says; return the samples of a trial.

    Parameters
    ----------
    path : Path

    Returns
    -------
    int

    Raises
    ------
    FormatError
        As said; the bytes are named.
    """
    header = next(file for file in sorted(path.glob("*.res4")) if first_bytes(file, 4) == b"MEG4")
    files = sorted(path.glob("*meg4"))
    if not files:
        raise FormatError(f"{str(path)!r} has no .meg4 file, which holds the values. Expected the whole folder: copy it again.")
    start = first_bytes(header, 1322)
    if len(start) < 1322:
        raise FormatError(f"{str(header)!r} has {len(start)} bytes. Expected a whole header: it is truncated, copy it again.")
    n_samples, n_channels = struct.unpack(">ih", start[1288:1294])
    n_trials = struct.unpack(">h", start[1312:1314])[0]
    there, promised = sum(file.stat().st_size - 8 for file in files), 4 * n_samples * n_channels * n_trials
    if promised <= 0 or there < promised:
        raise FormatError(
            f"{str(path)!r} holds {there} bytes of values; its header promises {promised} ({n_trials} trials of {n_samples} samples of {n_channels} "
            "channels). Expected a whole recording: it is truncated, copy it again."
        )
    return int(n_samples)
