"""Reading layers out of a forward pass: which modules, which of their values, and when to stop."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch

from brainalign.core.errors import CapabilityError, ParameterError, SchemaError, UnsupportedModuleError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.engine.backend import whole_float32

T = TypeVar("T")


@dataclass(frozen=True)
class Tap:
    """Where one layer is read.

    Attributes
    ----------
    name : str
        Name of the layer in the responses.
    module : Module
    side : {"output", "input"}
        Which of the module's values.
    call : int
        Which of the module's calls in one forward pass, counted from 1.
    """

    name: str
    module: torch.nn.Module
    side: str = "output"
    call: int = 1


class _AllSeen(BaseException):
    """Ends a forward pass once every wanted layer was read; no model catches it by accident."""


def capture(
    model: torch.nn.Module, run: Callable[[], object], taps: Sequence[Tap], keep: Callable[[Tap, torch.Tensor], torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Run a forward pass up to the last wanted layer and return what was kept of each.

    Parameters
    ----------
    model : Module
        In evaluation mode meanwhile.
    run : callable
        Its forward pass; it ends early, so what it returns is not used.
    taps : sequence of Tap
    keep : callable
        What to keep of a raw value, at once: later modules may overwrite it in place.

    Returns
    -------
    dict of str to Tensor
        In the order of ``taps``.

    Raises
    ------
    CapabilityError
        A module was not called (often enough), or gave no tensor.
    """
    found: dict[str, torch.Tensor] = {}
    calls = dict.fromkeys((tap.name for tap in taps), 0)

    def see(tap: Tap, value: Any) -> None:
        calls[tap.name] += 1
        if calls[tap.name] == tap.call:
            found[tap.name] = keep(tap, first_tensor(value, tap.name))
            if len(found) == len(taps):
                raise _AllSeen

    handles: list[Any] = []
    try:
        for tap in taps:
            handles.append(_hook(tap, see))
        with recording(model), whole_float32():
            run()
    except _AllSeen:
        pass
    finally:
        for handle in handles:
            handle.remove()
    for tap in taps:
        if tap.name not in found:
            raise CapabilityError(
                f"The layer {tap.name!r} ({type(tap.module).__name__}) was called {calls[tap.name]} times in the forward pass. "
                f"Expected at least {tap.call}: leave it out of `layers`, or name a module that this input reaches."
            )
    return {tap.name: found[tap.name] for tap in taps}


def check_hookable(tap: Tap) -> None:
    """Refuse a compiled module.

    Parameters
    ----------
    tap : Tap

    Raises
    ------
    UnsupportedModuleError
    """
    if isinstance(tap.module, torch.jit.ScriptModule):
        raise UnsupportedModuleError(
            f"The layer {tap.name!r} is a {type(tap.module).__name__}, whose inner values no hook can reach. Expected a module of eager "
            "PyTorch: build the network from its source and load the weights."
        )


def _hook(tap: Tap, see: Callable[[Tap, Any], None]) -> Any:
    check_hookable(tap)
    if tap.side == "output":
        return tap.module.register_forward_hook(lambda module, args, output: see(tap, output))
    return tap.module.register_forward_pre_hook(
        lambda module, args, kwargs: see(tap, args[0] if args else kwargs), with_kwargs=True
    )


def first_tensor(value: Any, name: str) -> torch.Tensor:
    """Return the tensor that stands for a module's output.

    Parameters
    ----------
    value : object
        A tensor stands for itself. Of a mapping (a model output): ``last_hidden_state``, ``hidden_states`` or
        ``logits``, else its first tensor. Of a tuple or list: its first tensor, or that of its first entry that has one.
    name : str
        The layer, for the message.

    Returns
    -------
    Tensor

    Raises
    ------
    UnsupportedModuleError
        There is none, or it is complex.
    """
    tensor = _search(value)
    if tensor is None or tensor.is_complex():
        kind = "a complex tensor" if tensor is not None else f"{type(value).__name__} without a tensor"
        raise UnsupportedModuleError(
            f"The layer {name!r} gives {kind}. Expected a real tensor, or a tuple or mapping that holds one: name a module inside it."
        )
    return tensor


def _search(value: Any) -> torch.Tensor | None:
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        named = (value[key] for key in ("last_hidden_state", "hidden_states", "logits") if key in value)
        candidates = [*named, *value.values()]
    else:
        candidates = list(value) if isinstance(value, (tuple, list)) else []
    return next((tensor for tensor in map(_search, candidates) if tensor is not None), None)


def select(names: Sequence[str], layers: str | int | Sequence[str | int], *, owner: str) -> list[str]:
    """Return the layer names that match, in the order of ``names``.

    Parameters
    ----------
    names : sequence of str
        Every layer there is.
    layers : str or sequence of str
        Names or globs. ``*`` stands for one dotted part or a piece of it and ``**`` for any number of parts:
        ``"layer*"`` is ``layer1`` and ``layer2`` but not ``layer1.0``.
    owner : str
        Class it is asked for, for the message.

    Returns
    -------
    list of str

    Raises
    ------
    ParameterError
        One of ``layers`` matches nothing; close names are listed.
    """
    wanted = [layers] if isinstance(layers, (str, int)) else list(layers)
    known, found = set(names), set()
    for pattern in wanted:
        text = str(pattern)
        matched = {text} if text in known else {name for name in names if matches(name, text)}
        if not matched:
            raise ParameterError(
                f"The 'layers' parameter of {owner} names {pattern!r}, which matches none of its {len(names)} layers. Expected "
                f"names or globs of {preview(names, 8)}.{did_you_mean(text, names)}"
            )
        found |= matched
    if not found:
        raise ParameterError(f"The 'layers' parameter of {owner} is {layers!r}. Expected at least one name or glob.")
    return [name for name in names if name in found]


def matches(name: str, pattern: str) -> bool:
    """Return True where a dotted name matches a glob; ``*`` stays within one part, ``**`` spans any number.

    Parameters
    ----------
    name, pattern : str

    Returns
    -------
    bool

    Examples
    --------
    >>> matches("layer1.0.conv", "layer*"), matches("layer1.0.conv", "layer*.**"), matches("layer1", "layer?")
    (False, True, True)
    """
    return _match_parts(name.split("."), pattern.split("."))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[start:], patterns[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])


@contextmanager
def recording(model: torch.nn.Module) -> Iterator[None]:
    """Put a model to evaluation mode and restore the mode of every module afterwards.

    Parameters
    ----------
    model : Module

    Yields
    ------
    None
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def flatten(value: torch.Tensor, columns: np.ndarray[Any, Any] | None) -> torch.Tensor:
    """Return the wanted neuroids of a batch as an own copy, (row, neuroid): float64 stays what it is, all else becomes float32.

    Parameters
    ----------
    value : Tensor, (row, ...)
    columns : ndarray of int, optional
        Flat positions; default all.

    Returns
    -------
    Tensor, (row, neuroid)
    """
    flat = value.reshape(len(value), -1)
    dtype = torch.promote_types(flat.dtype, torch.float32)
    if columns is not None:  # indexing copies
        return flat[:, torch.as_tensor(columns, device=flat.device)].to(dtype)
    return flat.to(dtype, copy=True)


def map_coords(shape: Sequence[int], *, channels_first: bool = False) -> dict[str, np.ndarray[Any, Any]]:
    """Return the neuroid coordinates of one response of this shape, in flat order.

    Parameters
    ----------
    shape : sequence of int
        Without the batch: ``()`` or ``(unit,)``, ``(token, unit)``, ``(unit, y, x)`` or ``(unit, z, y, x)``.
    channels_first : bool
        A two-dimensional response is ``(unit, token)``, as of a one-dimensional convolution.

    Returns
    -------
    dict of str to ndarray
        ``neuroid_id`` (0, 1, ...), ``unit``, and ``token`` or ``channel_x``, ``channel_y`` (and ``channel_z``).

    Raises
    ------
    CapabilityError
        More than four dims.
    """
    two = ("unit", "token") if channels_first else ("token", "unit")
    spaces = {1: ("unit",), 2: two, 3: ("unit", "channel_y", "channel_x"), 4: ("unit", "channel_z", "channel_y", "channel_x")}
    shape = tuple(shape) or (1,)
    if len(shape) not in spaces:
        raise CapabilityError(f"A response has shape {shape}. Expected at most 4 dims without the batch: name another layer.")
    index = np.indices(shape, dtype=np.int32).reshape(len(shape), -1)
    return {"neuroid_id": np.arange(index.shape[1]), **dict(zip(spaces[len(shape)], index, strict=True))}


def pick(coords: dict[str, np.ndarray[Any, Any]], columns: np.ndarray[Any, Any] | None) -> dict[str, np.ndarray[Any, Any]]:
    """Return the coordinates of the wanted neuroids.

    Parameters
    ----------
    coords : dict of str to ndarray, (neuroid,)
    columns : ndarray of int, optional
        Default all.

    Returns
    -------
    dict of str to ndarray

    Raises
    ------
    ParameterError
        A column that is not there.
    """
    if columns is None:
        return coords
    n = len(coords["neuroid_id"])
    if columns.size and int(columns.max()) >= n:
        raise ParameterError(f"`at` got neuroid {int(columns.max())}. Expected positions below {n}, the neuroids of this layer.")
    return {name: values[columns] for name, values in coords.items()}


def check_columns(neuroids: Any) -> np.ndarray[Any, Any] | None:
    """Return neuroid numbers as positions, or None for all.

    Parameters
    ----------
    neuroids : int, sequence of int, or None

    Returns
    -------
    ndarray of int64, or None

    Raises
    ------
    ParameterError
        They are no distinct non-negative integers.
    """
    if neuroids is None:
        return None
    columns = np.atleast_1d(np.asarray(neuroids))
    if columns.dtype.kind not in "iu" or columns.ndim != 1 or not columns.size or columns.min() < 0:
        raise ParameterError(f"`at` got neuroid={preview(columns.ravel())}. Expected non-negative integers: the `neuroid_id`.")
    if len(np.unique(columns)) < len(columns):
        raise ParameterError(f"`at` got neuroid={preview(columns)}, some of them twice. Expected each once.")
    return columns.astype(np.int64)


def check_finite(inputs: torch.Tensor, rows: np.ndarray[Any, Any], system: str) -> None:
    """Check that what goes into a network has no NaN, which would come out of it as attributions and effects.

    Parameters
    ----------
    inputs : Tensor, (row, ...)
    rows : ndarray of int
        The presentations.
    system : str

    Raises
    ------
    SchemaError
    """
    bad = ~torch.isfinite(inputs).reshape(len(inputs), -1).all(dim=1).cpu().numpy()
    if bad.any():
        raise SchemaError(
            f"{system!r} got NaN or infinite values at {int(bad.sum())} of {len(rows)} presentations, {preview(np.asarray(rows)[bad])}. "
            "Expected finite ones: look at these stimuli, or leave them out."
        )


class OnDemand(Sequence[T]):
    """A sequence whose entries are made when they are asked for, and not kept.

    Parameters
    ----------
    makers : sequence of callable
    """

    def __init__(self, makers: Sequence[Callable[[], T]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return OnDemand(self._makers[index])
        return self._makers[index]()
