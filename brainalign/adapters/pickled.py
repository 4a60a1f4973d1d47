"""Pickled arrays without running what they hold: numbers, text, dicts and lists are rebuilt, anything else is refused.

A pickle is a program. Here every global that it names is looked up in a table of seven, whose entries are plain Python
of this module: no class of numpy is called with what a file says, and no other name is ever imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from pickle import Unpickler
from typing import Any

import numpy as np

from brainalign.adapters.files import existing, first_bytes, reading
from brainalign.core.errors import FormatError, ParameterError

_NPY, _PROTOCOL = b"\x93NUMPY", b"\x80"
_KINDS = "biufcSU"


def is_pickled(path: Path) -> bool:
    """Return True for a npy file of Python objects, or a bare pickle of protocol 2 or later.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    start = first_bytes(path, 256)
    return start[:1] == _PROTOCOL or (start[:6] == _NPY and b"'|O'" in start)


def read_pickled(path: Any, *, unpickle: bool) -> Any:
    """Read the arrays, text, dicts and lists that a file holds as a pickle.

    Parameters
    ----------
    path : str or Path
        A npy file of dtype object (``np.save`` of a dict), or a bare pickle.
    unpickle : bool
        The user asked for it.

    Returns
    -------
    object
        Plain Python, and numpy arrays of numbers and text. An object array of no dims is the object in it.

    Raises
    ------
    ParameterError
        ``unpickle`` is not True.
    FormatError
        Damaged file, or one that asks for any function or class but those that make up arrays; its name is given.
    """
    file = existing(path)
    if unpickle is not True:
        raise ParameterError(
            f"{str(file)!r} holds pickled Python objects, which can run code when they are loaded, so it is opened only on request. Where "
            "you trust its source, pass `unpickle=True`: arrays of numbers and text, dicts and lists are then rebuilt, and any other "
            "object is refused by name."
        )
    with reading(file, "pickled arrays"), file.open("rb") as opened:
        if opened.read(6) == _NPY:
            opened.seek(0)
            version = np.lib.format.read_magic(opened)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            header(opened)
        else:
            opened.seek(0)
        try:
            return _plain(_Restricted(opened, file.name).load(), {})
        except MemoryError as error:  # a length in the file, not an array of it: nothing that large is there
            raise FormatError(
                f"{str(file)!r} promises more than the memory and the file hold. It is damaged: copy it again from the source."
            ) from error


class _Restricted(Unpickler):
    def __init__(self, file: Any, name: str) -> None:
        super().__init__(file, fix_imports=False)
        self.name = name

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise FormatError(
                f"{self.name!r} asks for {module}.{name}, which is no part of an array. Expected arrays of numbers and text, dicts and lists "
                "only: it was not loaded. Save its arrays with `np.savez`."
            )
        return lambda *values: found(*values)  # made anew: a stream that sets attributes changes nothing that lasts

    def persistent_load(self, pid: Any) -> Any:
        raise FormatError(f"{self.name!r} refers to the object {pid!r} outside the file. Expected arrays only.")


class _Dtype:
    def __init__(self, spec: Any, *_: Any) -> None:
        self.spec, self.order = str(spec), "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[2:5] != (None, None, None):
            raise ValueError(f"an array of the structured dtype {state[3]!r}, which is not read")
        self.order = str(state[1])

    def dtype(self) -> np.dtype[Any]:
        code = self.spec if self.spec[:1] in "<>|=" else self.order + self.spec
        found = np.dtype(object) if code.lstrip("<>|=").rstrip("48") == "O" else np.dtype(code)
        if found.kind not in _KINDS + "O":
            raise ValueError(f"an array of dtype {found}, which is neither numbers nor text")
        return found


@dataclass
class _Array:
    """What an array is made of; it is built only when all of it is known."""

    shape: tuple[int, ...] = ()
    of: Any = None
    fortran: bool = False
    data: Any = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, self.of, self.fortran, self.data = state

    def build(self, seen: dict[int, Any]) -> Any:
        shape = tuple(int(n) for n in self.shape)
        if not isinstance(self.of, _Dtype) or any(n < 0 for n in shape):
            raise ValueError(f"an array of shape {shape} without a dtype of numbers or text")
        dtype = self.of.dtype()
        if dtype.kind == "O":
            items = [_plain(item, seen) for item in self.data]
            if len(items) != prod(shape):
                raise ValueError(f"an array of shape {shape} with {len(items)} items")
            if not shape:
                return items[0]
            out = np.empty(len(items), dtype=object)
            for i, item in enumerate(items):
                out[i] = item
            return out.reshape(shape, order="F" if self.fortran else "C")
        if len(self.data) != prod(shape) * dtype.itemsize:
            raise ValueError(f"an array of shape {shape} and dtype {dtype} with {len(self.data)} bytes")
        return np.frombuffer(self.data, dtype=dtype).reshape(shape, order="F" if self.fortran else "C")


def _empty(*_: Any) -> _Array:
    return _Array()


def _scalar(of: Any, data: Any) -> _Array:
    return _Array((), of, False, data)


def _from_buffer(data: Any, of: Any, shape: Any, order: str = "C", *_: Any) -> _Array:
    return _Array(shape, of, order == "F", data)


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _no_call(*_: Any) -> None:
    raise ValueError("a call of numpy.ndarray itself")


_ALLOWED = {
    ("numpy._core.multiarray", "_reconstruct"): _empty,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _no_call,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
}


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """Return what was loaded with its arrays built; what is referred to twice is built once."""
    if not isinstance(value, (dict, list, tuple, set, frozenset, _Array, _Dtype)):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, dict):
        seen[id(value)] = out = {}
        out |= {key: _plain(item, seen) for key, item in value.items()}
    elif isinstance(value, list):
        seen[id(value)] = out = []
        out += [_plain(item, seen) for item in value]
    elif isinstance(value, _Array):
        out = seen[id(value)] = value.build(seen)
    elif isinstance(value, _Dtype):
        out = value.dtype()
    else:
        out = seen[id(value)] = type(value)(_plain(item, seen) for item in value)
    return out
