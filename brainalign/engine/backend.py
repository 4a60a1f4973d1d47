"""numpy or torch, inferred from the arrays: the few calls in which the two differ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np

Array = Any  #: ndarray or torch.Tensor

_ROWS = 256  # products of float32 that are summed before the sum goes on in float64


def is_torch(x: Any) -> bool:
    """Return True for a torch tensor; torch is not imported to find out.

    Parameters
    ----------
    x : object

    Returns
    -------
    bool
    """
    return type(x).__module__.partition(".")[0] == "torch"


def namespace(x: Array) -> Any:
    """Return the module, numpy or torch, that works on ``x``.

    Parameters
    ----------
    x : ndarray or Tensor

    Returns
    -------
    module
    """
    if is_torch(x):
        import torch

        return torch
    return np


def resolve_device(device: Any) -> str | None:
    """Return the device to compute on: ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.

    Parameters
    ----------
    device : object
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ... or ``"auto"``.

    Returns
    -------
    str or None
        None where there is no such device.
    """
    if device == "cpu":
        return "cpu"
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError):  # no such word, no such device here, no word at all
        return None
    return str(device)


def move(x: Array, device: str) -> Array:
    """Return ``x`` on a device: numpy stays numpy on ``"cpu"``, and becomes a tensor elsewhere.

    Parameters
    ----------
    x : ndarray or Tensor
    device : str

    Returns
    -------
    ndarray or Tensor
    """
    if is_torch(x):
        return x.to(device)
    if device == "cpu":
        return np.asarray(x)
    import torch

    return torch.from_numpy(np.ascontiguousarray(x)).to(device)


@contextmanager
def whole_float32() -> Iterator[None]:
    """Have convolutions on a CUDA device use all digits of float32: torch by default rounds what they multiply to 10 bits (TF32).

    Results then agree with those of the CPU to 1e-4 and better, and the caller's setting is restored.

    Yields
    ------
    None
    """
    import torch

    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def cast(x: Array, dtype: str) -> Array:
    """Return ``x`` in a dtype, without a copy where it has it already.

    Parameters
    ----------
    x : ndarray or Tensor
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray or Tensor
    """
    return x.to(getattr(namespace(x), dtype)) if is_torch(x) else np.asarray(x).astype(dtype, copy=False)


def like(values: Any, x: Array) -> Array:
    """Return plain numbers as float64 beside ``x``: same library, same device.

    Parameters
    ----------
    values : array_like
    x : ndarray or Tensor

    Returns
    -------
    ndarray or Tensor, float64
    """
    array = np.asarray(values, dtype=np.float64)
    return namespace(x).as_tensor(array, device=x.device) if is_torch(x) else array


def empty(shape: tuple[int, ...], dtype: str, x: Array) -> Array:
    """Return an array to be filled, beside ``x``: same library, same device.

    Parameters
    ----------
    shape : tuple of int
    dtype : {"float32", "float64"}
    x : ndarray or Tensor

    Returns
    -------
    ndarray or Tensor
    """
    return x.new_empty(shape, dtype=getattr(namespace(x), dtype)) if is_torch(x) else np.empty(shape, dtype=dtype)


def dtype_name(x: Array) -> str:
    """Return the name that numpy and torch share for a dtype, such as ``"float32"``.

    Parameters
    ----------
    x : ndarray or Tensor

    Returns
    -------
    str
    """
    return str(x.dtype).rpartition(".")[2]


def even_slices(n: int, size: int, multiple: int = 1) -> list[slice]:
    """Return slices of nearly the same length, as few as are no longer than ``size``; of nothing, an empty one.

    Parameters
    ----------
    n, size : int
    multiple : int
        Of which their number is one.

    Returns
    -------
    list of slice

    Examples
    --------
    >>> even_slices(5, 2)
    [slice(0, 1, None), slice(1, 3, None), slice(3, 5, None)]
    """
    edges = np.linspace(0, n, max(1, -(-n // (size * multiple))) * multiple + 1).astype(int).tolist()
    return [slice(a, b) for a, b in pairwise(edges)]


def columns_of(x: Array, columns: np.ndarray[Any, Any] | slice) -> Array:
    """Return some columns of ``x``, of its last axis: a view for a slice, a copy for integer positions.

    Parameters
    ----------
    x : ndarray or Tensor, (..., column)
    columns : slice or ndarray of int

    Returns
    -------
    ndarray or Tensor
    """
    if isinstance(columns, slice):
        return x[..., columns]
    return x.index_select(-1, namespace(x).as_tensor(columns, device=x.device)) if is_torch(x) else x.take(columns, axis=-1)


def rows_of(x: Array, rows: np.ndarray[Any, Any]) -> Array:
    """Return the rows of ``x`` at integer positions.

    Parameters
    ----------
    x : ndarray or Tensor, (row, ...)
    rows : ndarray of int

    Returns
    -------
    ndarray or Tensor
    """
    return x[namespace(x).as_tensor(rows, device=x.device)] if is_torch(x) else x[rows]


def sum_of_products(a: Array, b: Array) -> Array:
    """Return Σ a b over rows, summed in float64 some hundred rows at a time.

    Parameters
    ----------
    a, b : ndarray or Tensor, (row, column)

    Returns
    -------
    ndarray or Tensor of float64, (column,)
    """
    if is_torch(a):
        return (a * b).sum(0, dtype=namespace(a).float64)
    total = np.zeros(a.shape[1])
    for start in range(0, len(a), _ROWS):
        total += np.einsum("ij,ij->j", a[start : start + _ROWS], b[start : start + _ROWS])
    return total


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """Return ``x`` as a numpy array in main memory.

    Parameters
    ----------
    x : ndarray or Tensor

    Returns
    -------
    ndarray
    """
    return np.asarray(x.detach().cpu()) if is_torch(x) else np.asarray(x)
