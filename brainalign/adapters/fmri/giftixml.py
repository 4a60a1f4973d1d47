"""GIFTI files: what their XML says, and the arrays in it, one after the other and never two in memory."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from brainalign.adapters.files import reading
from brainalign.core.errors import FormatError

TYPES = {
    "NIFTI_TYPE_UINT8": "u1", "NIFTI_TYPE_INT8": "i1", "NIFTI_TYPE_INT16": "i2", "NIFTI_TYPE_UINT16": "u2", "NIFTI_TYPE_INT32": "i4",
    "NIFTI_TYPE_UINT32": "u4", "NIFTI_TYPE_INT64": "i8", "NIFTI_TYPE_UINT64": "u8", "NIFTI_TYPE_FLOAT32": "f4", "NIFTI_TYPE_FLOAT64": "f8",
}  # fmt: skip
_BLOCK = 2**16
_MOST_DEFLATED = 1032  # bytes that one byte of zlib data can stand for


@dataclass
class GiftiArray:
    """One ``DataArray`` element.

    Attributes
    ----------
    intent : str
        Without ``NIFTI_INTENT_``.
    shape : tuple of int
    dtype : numpy dtype
        With its byte order.
    order : {"C", "F"}
    encoding : str
    external : tuple of (str, int)
        File and offset of an external array.
    meta : dict of str to str
    text : list of str
        What its ``Data`` holds; empty where it was not asked for.
    """

    intent: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    encoding: str
    external: tuple[str, int]
    meta: dict[str, str] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)


class GiftiFile:
    """A GIFTI file as far as it was parsed.

    Attributes
    ----------
    path : Path
    n_arrays : int
        As the file promises.
    meta : dict of str to str
        Of the whole file.
    labels : dict of int to str
        The label table.
    arrays : list of GiftiArray
        Those whose description was met.
    """

    def __init__(self, path: Path, *, values: bool) -> None:
        self.path, self.n_arrays = path, -1
        self.meta: dict[str, str] = {}
        self.labels: dict[int, str] = {}
        self.arrays: list[GiftiArray] = []
        self.whole: list[GiftiArray] = []
        self.described = False
        self._values, self._text, self._key, self._name = values, None, 0, ""
        self._inside = False
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._refuse_entity

    def parse(self) -> Iterator[None]:
        """Parse the file block by block; between blocks, ``whole`` holds the arrays that are complete."""
        with reading(self.path, "GIFTI"), _opened(self.path) as opened:
            while block := opened.read(_BLOCK):
                self._parser.Parse(block)
                yield
            self._parser.Parse(b"", True)
            if self.n_arrays < 0:
                raise ValueError("it has no GIFTI element")
            yield

    def _start(self, name: str, attrs: dict[str, str]) -> None:
        if name == "GIFTI":
            self.n_arrays = int(attrs["NumberOfDataArrays"])
        elif name == "DataArray":
            self.arrays.append(_described(self.path, attrs))
            self._inside = True
        elif name in ("Name", "Value", "Label"):
            self._key, self._text = int(attrs.get("Key", attrs.get("Index", 0))), []
        elif name == "Data":
            self.described, self._text = True, self.arrays[-1].text if self._values else None

    def _end(self, name: str) -> None:
        if name == "DataArray":
            self.whole.append(self.arrays[-1])
            self._inside = False
        if name == "Name":
            self._name = self._joined()
        elif name == "Value":
            (self.arrays[-1].meta if self._inside else self.meta)[self._name] = self._joined()
        elif name == "Label":
            self.labels[self._key] = self._joined()
        if name in ("Name", "Value", "Label", "Data"):
            self._text = None

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _joined(self) -> str:
        return "".join(self._text or []).strip()

    def _refuse_entity(self, name: str, *_: Any) -> None:
        raise FormatError(
            f"{str(self.path)!r} declares the XML entity {name!r}. Expected plain GIFTI, which has none: write it anew."
        )


def describe(path: Path) -> GiftiFile:
    """Return what a GIFTI file says about itself; of a time series, which is read no further than its first values, the first array.

    Parameters
    ----------
    path : Path
        ``.gii``, or compressed with gzip.

    Returns
    -------
    GiftiFile

    Raises
    ------
    FormatError
        It is no GIFTI, damaged, or promises more than it can hold.
    """
    file = GiftiFile(path, values=False)
    for _ in file.parse():
        if file.described and file.arrays[0].intent == "TIME_SERIES":
            break
    else:
        if len(file.arrays) != file.n_arrays or not file.arrays:
            raise FormatError(
                f"{str(path)!r} holds {len(file.arrays)} arrays; it promises {file.n_arrays}. Expected a whole GIFTI file: copy it again."
            )
    _check_promise(path, file.n_arrays, file.arrays[0])
    return file


def read_arrays(path: Path) -> Iterator[tuple[GiftiArray, np.ndarray[Any, Any]]]:
    """Read the arrays of a GIFTI file, one at a time.

    Parameters
    ----------
    path : Path

    Yields
    ------
    (GiftiArray, ndarray)

    Raises
    ------
    FormatError
        The file or an array in it is damaged, or an external file is missing or lies elsewhere.
    """
    file, n = GiftiFile(path, values=True), 0
    for _ in file.parse():
        for array in file.whole:
            with reading(path, "GIFTI"):
                values = _values(path, array)
            array.text.clear()
            n += 1
            yield array, values
        file.whole.clear()
    if n != file.n_arrays:
        raise FormatError(f"{str(path)!r} holds {n} arrays; it promises {file.n_arrays}. Expected a whole GIFTI file.")


def _is_packed(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(2) == b"\x1f\x8b"


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if _is_packed(path) else path.open("rb")


def _described(path: Path, attrs: dict[str, str]) -> GiftiArray:
    shape = tuple(int(attrs[f"Dim{i}"]) for i in range(int(attrs["Dimensionality"])))
    order = "<" if attrs.get("Endian", "LittleEndian") == "LittleEndian" else ">"
    if attrs["DataType"] not in TYPES:
        raise FormatError(f"{str(path)!r} has an array of {attrs['DataType']!r}. Expected one of {', '.join(TYPES)}: convert it.")
    return GiftiArray(
        intent=attrs.get("Intent", "NIFTI_INTENT_NONE").removeprefix("NIFTI_INTENT_"),
        shape=shape,
        dtype=np.dtype(order + TYPES[attrs["DataType"]]),
        order="F" if attrs.get("ArrayIndexingOrder") == "ColumnMajorOrder" else "C",
        encoding=attrs.get("Encoding", "GZipBase64Binary"),
        external=(attrs.get("ExternalFileName", ""), int(attrs.get("ExternalFileOffset", "") or 0)),
    )


def _check_promise(path: Path, n_arrays: int, first: GiftiArray) -> None:
    """Refuse more arrays, each like the first, than the file can hold, before anything of their size is made."""
    n_bytes = prod(first.shape) * first.dtype.itemsize
    if first.encoding == "ExternalFileBinary":
        _external(path, first, n_bytes)
    least = {"ASCII": prod(first.shape), "Base64Binary": n_bytes, "GZipBase64Binary": n_bytes / _MOST_DEFLATED}
    size, packed = path.stat().st_size, _is_packed(path)
    room = size * (_MOST_DEFLATED if packed else 1)
    if min(first.shape, default=0) < 1 or n_arrays * (least.get(first.encoding, 0) + len("<DataArray></DataArray>")) > room:
        raise FormatError(
            f"{str(path)!r} promises {n_arrays} arrays of shape {first.shape} and has {size} bytes. Expected a file that can hold them: it is "
            "truncated, or its header is damaged."
        )


def _values(path: Path, array: GiftiArray) -> np.ndarray[Any, Any]:
    """Return one array, decoded; whatever is too short or too long is refused before it is unfolded."""
    n_bytes, text = prod(array.shape) * array.dtype.itemsize, "".join(array.text)
    if array.encoding == "ASCII":
        return np.array(text.split(), dtype=array.dtype.newbyteorder("=")).reshape(array.shape, order=array.order)
    if array.encoding == "ExternalFileBinary":
        with _external(path, array, n_bytes).open("rb") as opened:
            opened.seek(array.external[1])
            raw = opened.read(n_bytes)
    elif array.encoding in ("Base64Binary", "GZipBase64Binary"):
        raw = base64.b64decode(text) if array.encoding == "Base64Binary" else _inflated(text, n_bytes)
    else:
        raise FormatError(
            f"{str(path)!r} has an array of encoding {array.encoding!r}. Expected ASCII, Base64Binary, GZipBase64Binary or ExternalFileBinary."
        )
    if len(raw) != n_bytes:
        raise FormatError(
            f"{str(path)!r} has an array of {len(raw)} bytes; its shape {array.shape} promises {n_bytes}. Copy it again."
        )
    return np.frombuffer(raw, dtype=array.dtype).reshape(array.shape, order=array.order)


def _inflated(text: str, n_bytes: int) -> bytes:
    unpack = zlib.decompressobj()
    raw = unpack.decompress(base64.b64decode(text), n_bytes + 1)
    if len(raw) == n_bytes and not unpack.eof:
        raw += unpack.decompress(unpack.unconsumed_tail, 1)  # its end holds the checksum
    return raw


def _external(path: Path, array: GiftiArray, n_bytes: int) -> Path:
    """Return the external file of an array: in the folder of the GIFTI file or below, and large enough."""
    name, offset = array.external
    file = (path.parent / name).resolve()
    if not file.is_relative_to(path.parent.resolve()) or not file.is_file():
        what = "which is not there" if file.is_relative_to(path.parent.resolve()) else "outside its own folder"
        raise FormatError(f"{str(path)!r} names the external file {name!r}, {what}. Expected a file beside it: copy it there.")
    if offset < 0 or file.stat().st_size < offset + n_bytes:
        raise FormatError(
            f"{str(file)!r} has {file.stat().st_size} bytes; {path.name!r} promises {n_bytes} from byte {offset} on. Copy it again."
        )
    return file
