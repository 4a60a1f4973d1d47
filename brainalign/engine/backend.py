"""numpy or torch, inferred from the arrays: the few calls in which the two differ."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  #: ndarray or torch.Tensor


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


def resolve_device(device: str) -> str:
    """Return the device to compute on: ``"auto"`` is ``"cuda"`` where there is one, else ``"cpu"``.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ... or ``"auto"``.

    Returns
    -------
    str
    """
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
