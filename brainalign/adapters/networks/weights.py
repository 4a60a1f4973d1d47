"""What a network is, as a hash: its weights, and the code that prepares its input."""

from __future__ import annotations

import hashlib
import inspect
import re
from functools import partial
from typing import Any

import numpy as np
import torch

from brainalign.core.provenance import hash_array


def digest(*parts: str) -> str:
    """Return a short hash of several strings.

    Parameters
    ----------
    *parts : str

    Returns
    -------
    str
    """
    return hashlib.blake2b("\x00".join(parts).encode(), digest_size=16).hexdigest()


class WeightsHash:
    """Hash of all parameters and buffers of a model, computed once and again after they changed.

    Parameters
    ----------
    model : Module

    Notes
    -----
    A change is seen by the storage and the version counter of each tensor, so optimiser steps and
    ``load_state_dict`` count; a write through ``tensor.data`` does not.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._model = model
        self._known: tuple[Any, str] | None = None

    def __call__(self) -> str:
        """Return the hash."""
        state = {name: value for name, value in self._model.state_dict().items() if isinstance(value, torch.Tensor)}
        mark = tuple((name, value.data_ptr(), _version(value)) for name, value in state.items())
        if self._known is None or self._known[0] != mark:
            self._known = (mark, _hash_state(state))
        return self._known[1]


def _version(value: torch.Tensor) -> int:
    return -1 if value.is_inference() else value._version


def _hash_state(state: dict[str, torch.Tensor]) -> str:
    hashed = hashlib.blake2b(digest_size=16)
    for name, value in sorted(state.items()):
        hashed.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        # A view as bytes covers bfloat16 and the other types that numpy does not know.
        hashed.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def describe_callable(function: Any) -> str:
    """Return a text that changes when a function does: its name, source, defaults and what it closes over.

    Parameters
    ----------
    function : callable or None
        An object (a ``torchvision`` transform, a partial) stands with its ``repr``, or with its attributes where the
        ``repr`` is but an address; a module with its weights too. Functions that it calls by a global name are not followed.

    Returns
    -------
    str
    """
    if function is None:
        return "default"
    if isinstance(function, torch.nn.Module):
        return f"{stable_repr(function)} {_hash_state(function.state_dict())}"
    if inspect.ismethod(function):
        return f"{_describe_function(function.__func__)}|{_describe_value(function.__self__)}"
    return _describe_function(function) if inspect.isroutine(function) else _describe_value(function)


def stable_repr(value: Any) -> str:
    """Return ``repr(value)`` without memory addresses.

    Parameters
    ----------
    value : object

    Returns
    -------
    str
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))


def _describe_function(function: Any) -> str:
    code = getattr(function, "__code__", None)
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = stable_repr(function)
    if code is not None:  # two lambdas on one line have the same source
        source += f" {code.co_code.hex()} {code.co_names} {[value for value in code.co_consts if not inspect.iscode(value)]!r}"
    cells = [_describe_value(cell.cell_contents) for cell in getattr(function, "__closure__", None) or () if _is_filled(cell)]
    defaults = _describe_value(getattr(function, "__defaults__", None))
    return "|".join([getattr(function, "__qualname__", ""), source, defaults, *cells])


def _describe_value(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return hash_array(value.detach().cpu().float().numpy())
    if isinstance(value, np.ndarray):
        return hash_array(value)
    if isinstance(value, partial):
        return "|".join([describe_callable(value.func), *map(_describe_value, value.args), _describe_value(value.keywords)])
    if isinstance(value, torch.nn.Module) or inspect.isroutine(value):
        return describe_callable(value)
    if isinstance(value, (list, tuple)):
        return "|".join(map(_describe_value, value))
    if isinstance(value, dict):
        return "|".join(f"{key!r}:{_describe_value(item)}" for key, item in value.items())
    text = repr(value)
    # An address says nothing about an object: its class and attributes do.
    return f"{type(value).__qualname__} {sorted(vars(value))} {stable_repr(vars(value))}" if _is_address(value, text) else text


def _is_address(value: Any, text: str) -> bool:
    return " at 0x" in text and hasattr(value, "__dict__")


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
