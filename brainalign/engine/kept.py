"""What was made once and is asked for again, kept as long as it fits into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from threading import Lock
from typing import Any

import numpy as np

from brainalign.engine.moments import Numbers


class Kept:
    """Values by the key that they were made from.

    Parameters
    ----------
    max_memory : float
        Bytes that the arrays of all values may take together.

    Notes
    -----
    The last to come is the first to go. Sources are asked for in turn, over and over: to drop the oldest would drop each of them
    just before it is wanted.

    Examples
    --------
    >>> kept = Kept(max_memory=100)
    >>> [kept.get(key, lambda: key * 2) for key in "aba"]
    ['aa', 'bb', 'aa']
    """

    def __init__(self, max_memory: float) -> None:
        self.max_memory = max_memory
        self._values: dict[Hashable, Any] = {}
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of a key.

        Parameters
        ----------
        key : hashable
        make : callable
            What makes the value, where it is not kept.

        Returns
        -------
        object
            It may grow while it is used: what it takes is counted when the next value is asked for.
        """
        with self._lock:
            while self._values and bytes_held(self._values) > self.max_memory:
                self._values.popitem()
            if key in self._values:
                return self._values[key]
        made = make()  # others need not wait for it
        with self._lock:
            return self._values.setdefault(key, made)


def content_key(*arrays: Numbers | None) -> bytes:
    """Return a key that arrays share if, and only if, they have the same shapes, dtypes and values.

    Parameters
    ----------
    *arrays : ndarray or None

    Returns
    -------
    bytes

    Examples
    --------
    >>> x = np.arange(4.0)
    >>> content_key(x, None) == content_key(x.copy(), None), content_key(x) == content_key(x[::-1])
    (True, False)
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(b"None" if array is None else repr((array.shape, array.dtype.str)).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def bytes_held(*values: Any) -> int:
    """Return the bytes of all arrays in some objects, in what they contain and in their attributes; each array counts once.

    Parameters
    ----------
    *values : object

    Returns
    -------
    int

    Examples
    --------
    >>> x = np.zeros(5)
    >>> bytes_held({"a": x, "b": [x, np.zeros(2)]})
    56
    """
    found: dict[int, Any] = {}
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in found:
            continue
        found[id(value)] = value
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif not hasattr(value, "nbytes"):
            waiting.extend(getattr(value, "__dict__", {}).values())
    return sum(int(value.nbytes) for value in found.values() if hasattr(value, "nbytes"))
