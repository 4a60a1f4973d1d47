"""MATLAB 5 files before scipy sees them: its reader trusts type codes, and a damaged one ends the whole process."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from brainalign.core.errors import FormatError

_ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # element types that are numbers
_TEXT = (1, 2, 3, 4, 5, 6, 16, 17, 18)
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_DEEPEST = 100


def check_mat5(path: Path) -> None:
    """Refuse a MATLAB file of version 5 to 7 whose elements are of unknown types, or do not fit into each other.

    Parameters
    ----------
    path : Path

    Raises
    ------
    FormatError
        Damaged or truncated; which variable, from 0, is named.

    Notes
    -----
    Layout: "MAT-File Format" of MATLAB's documentation, Level 5. Values are passed over, not kept; compressed variables are unpacked
    for it.
    """
    left = path.stat().st_size - 128
    with path.open("rb") as file:
        order = {b"IM": "<", b"MI": ">"}.get(file.read(128)[126:])
        number = 0
        while order and left >= 8:
            kind, n = struct.unpack(order + "II", file.read(8))
            left -= 8
            try:
                if n > left or kind not in (_MATRIX, _COMPRESSED):
                    raise _Damage(f"an element of type {kind} and {n} bytes, {left} before the end")
                body = _Body(file, order, n) if kind == _MATRIX else _Body(_Unpacked(file, n), order, 2**63)
                _matrix(body, 0) if kind == _MATRIX else _element(body, 0)
            except (_Damage, zlib.error, struct.error) as error:
                raise FormatError(
                    f"{str(path)!r} is damaged in its variable {number} ({error}). Expected a whole MATLAB file: copy it again from the source."
                ) from error
            left -= n
            file.seek(path.stat().st_size - left)
            number += 1
    if not order or left:
        raise FormatError(
            f"{str(path)!r} is no whole MATLAB file: {left} bytes are left after {number} variables. Copy it again."
        )


class _Damage(Exception):
    """What is wrong with an element."""


@dataclass
class _Unpacked:
    """A compressed variable, unpacked piece by piece."""

    file: Any
    left: int
    unpack: Any = field(default_factory=zlib.decompressobj)
    ready: bytes = b""

    def read(self, n: int) -> bytes:
        """Return the next ``n`` bytes; fewer where it ends."""
        pieces, missing = [], n
        while missing:
            if not self.ready:
                packed = self.unpack.unconsumed_tail or self.file.read(min(self.left, 2**16))
                self.left -= 0 if self.unpack.unconsumed_tail else len(packed)
                if not packed:
                    break
                self.ready = self.unpack.decompress(packed, 2**20)
                continue
            pieces.append(self.ready[:missing])
            self.ready = self.ready[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)


@dataclass
class _Body:
    """The inside of an element, of which ``left`` bytes were not read yet."""

    source: Any
    order: str
    left: int

    def take(self, n: int) -> bytes:
        if n > self.left:
            raise _Damage(f"{n} bytes are promised where {self.left} are left")
        self.left -= n
        found = self.source.read(n)
        if len(found) < n:
            raise _Damage("it ends early")
        return bytes(found)

    def skip(self, n: int) -> None:
        while n > 0:
            n -= len(self.take(min(n, 2**20)))

    def leaf(self, kinds: Any, *, keep: bool = False) -> tuple[int, int, bytes]:
        """Return type, number of bytes and, where they are kept, the bytes of an element without elements."""
        tag = self.take(8)
        first, n = struct.unpack(self.order + "II", tag)
        small = first >> 16
        kind, n = (first & 0xFFFF, small) if small else (first, n)
        if kind not in kinds or (small and n > 4):
            raise _Damage(f"an element of type {kind} and {n} bytes where one of {sorted(kinds)} is expected")
        if small:
            return kind, n, tag[4 : 4 + n]
        if keep and n > 2**20:
            raise _Damage(f"{n} bytes of names or sizes")
        found = self.take(n) if keep else b""
        self.skip(0 if keep else n)
        self.skip(min(-n % 8, self.left))
        return kind, n, found


def _element(body: _Body, depth: int) -> None:
    kind, n = struct.unpack(body.order + "II", body.take(8))
    if kind != _MATRIX or n > body.left or depth > _DEEPEST:
        raise _Damage(f"an element of type {kind} and {n} bytes, {depth} deep, where an array is expected")
    inner = _Body(body.source, body.order, n)
    _matrix(inner, depth)
    inner.skip(inner.left)
    body.left -= n


def _matrix(body: _Body, depth: int) -> None:
    """Check one array: its flags, size and name, and the elements that its class has."""
    if not body.left:
        return
    flags = struct.unpack(body.order + "II", body.leaf((_UINT32,), keep=True)[2])[0]
    what, is_complex = flags & 0xFF, bool(flags & 0x800)
    if what in (_FUNCTION, _OPAQUE):
        return
    sizes = body.leaf((_INT32,), keep=True)[2]
    dims = struct.unpack(f"{body.order}{len(sizes) // 4}i", sizes)
    if not 2 <= len(dims) <= 32 or min(dims) < 0:
        raise _Damage(f"an array of size {dims}")
    body.leaf((_INT8,))
    if what in (_CELL, _STRUCT, _OBJECT):
        n = prod(dims) * (1 if what == _CELL else _n_fields(body, what))
        if 8 * n > body.left:
            raise _Damage(f"{n} arrays in {body.left} bytes")
        for _ in range(n):
            _element(body, depth + 1)
    elif what == _CHAR:
        n = body.leaf(_TEXT)[1]
        if prod(dims) > max(n, 2**16):  # an empty text may be written for a few blanks
            raise _Damage(f"{n} bytes for a text of size {dims}")
    elif what == _SPARSE:
        for _ in range(4 if is_complex else 3):
            body.leaf(_ITEM_BYTES)
    elif 6 <= what <= 15:
        for _ in range(2 if is_complex else 1):
            kind, n, _ = body.leaf(_ITEM_BYTES)
            if n != prod(dims) * _ITEM_BYTES[kind]:
                raise _Damage(f"{n} bytes of type {kind} for an array of size {dims}")
    else:
        raise _Damage(f"an array of class {what}")


def _n_fields(body: _Body, what: int) -> int:
    if what == _OBJECT:
        body.leaf((_INT8,))
    width = int.from_bytes(body.leaf((_INT32,), keep=True)[2], "little" if body.order == "<" else "big")
    names = body.leaf((_INT8,))[1]
    if width < 1 or names % width:
        raise _Damage(f"field names of {names} bytes, {width} each")
    return names // width
