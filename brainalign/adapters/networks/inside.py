"""Reading and altering inner layers while a network runs: the one hook layer of attribution, patching and lesions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from brainalign.adapters.networks.capture import Tap, check_hookable, first_tensor, map_coords, select
from brainalign.adapters.networks.weights import describe_callable
from brainalign.core.errors import ParameterError, UnsupportedModuleError
from brainalign.core.parameters import check_number
from brainalign.core.tables import presentation_table

#: From the value of an inner layer, (row, ...) as its module gives it, to what goes on in its place.
Change = Callable[[torch.Tensor], torch.Tensor]
_CHANNELS_FIRST = (
    torch.nn.modules.conv._ConvNd, torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.pooling._MaxPoolNd,
    torch.nn.modules.pooling._AvgPoolNd, torch.nn.modules.pooling._AdaptiveAvgPoolNd,
    torch.nn.modules.pooling._AdaptiveMaxPoolNd,
)  # fmt: skip


@dataclass
class Copies:
    """How many copies of its rows a network runs at once, and whether the pass has come to where they part.

    Attributes
    ----------
    n : int
    made : bool
    changes : list of (str, callable)
        What alters layers now.
    """

    n: int = 1
    made: bool = False
    changes: list[tuple[str, Change]] = field(default_factory=list)

    def split(self, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the value of each copy, (row, ...); before they part, the same for all.

        Parameters
        ----------
        value : Tensor, (copy * row, ...)

        Returns
        -------
        tuple of Tensor
        """
        return torch.chunk(value, self.n) if self.made else (value,) * self.n


class Activations(dict[str, torch.Tensor]):
    """Values of inner layers by name; one that the last pass did not reach is a named error."""

    def __missing__(self, name: str) -> torch.Tensor:
        raise UnsupportedModuleError(_not_reached(name, "cannot be read"))


class Inside:
    """What every network responder has: one row a stimulus, layers by name, and inner layers that are read and altered."""

    model: Any
    _taps: list[Tap]
    _copies: Copies

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that respond, by name."""
        return tuple(tap.name for tap in self._taps)

    def presentations(self, stimuli: xr.Dataset) -> pd.DataFrame:
        """Return the presentation coordinates of the stimuli: one response row each.

        Parameters
        ----------
        stimuli : Dataset

        Returns
        -------
        DataFrame
        """
        return presentation_table(stimuli)

    def inner_layers(self, layers: str | Sequence[str] = "**") -> list[str]:
        """Return the names of the inner layers that match.

        Parameters
        ----------
        layers : str or sequence of str
            Names or globs, of the responder's layers of a kind (of a stock transformer ``"h.*"``, ``"heads.*"``, ``"mlp.*"``) or of
            modules; ``"relu#2"`` is the second call of a module. Default: all modules.

        Returns
        -------
        list of str

        Raises
        ------
        ParameterError
            One matches nothing; close names are listed.
        """
        return list(dict.fromkeys(tap.name for tap in self._inner_taps([layers] if isinstance(layers, str) else list(layers))))

    def inner_coords(self, layer: str, shape: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
        """Return the coordinates of one row of an inner layer, in flat order.

        Parameters
        ----------
        layer : str
        shape : sequence of int
            Of its value, without the first dim.

        Returns
        -------
        dict of str to ndarray
            ``neuroid_id`` and ``unit``; ``token``, ``head`` or ``channel_x``, ``channel_y`` where it has them.
        """
        (tap,) = self._inner_taps([layer])
        coords = map_coords(shape, channels_first=is_channels_first(tap.module))
        heads = self._n_heads(layer)
        return coords if heads is None else {**coords, "head": coords["unit"] // (shape[-1] // heads)}

    @contextmanager
    def reading(self, layers: Iterable[str]) -> Iterator[Mapping[str, torch.Tensor]]:
        """Read inner layers, in the graph of autograd, while any ``Piece.forward`` or ``respond`` runs.

        Parameters
        ----------
        layers : iterable of str
            As in :meth:`inner_layers`.

        Yields
        ------
        mapping of str to Tensor, (row, ...)
            The values of the last forward pass, as the modules give them. A layer behind the last one that the responder
            answers for is not reached, and asking for it is an error.
        """
        found = Activations()

        def read(tap: Tap) -> Change:
            def keep(value: torch.Tensor) -> torch.Tensor:
                found[tap.name] = value
                return value.clone()  # a later module may overwrite it in place

            return keep

        with hooked(self.model, [(tap, read(tap)) for tap in self._inner_taps(list(layers))], found.clear):
            yield found

    @contextmanager
    def altering(self, changes: Mapping[str, Change], *, copies: int = 1) -> Iterator[None]:
        """Alter inner layers while any ``Piece.forward`` or ``respond`` runs.

        Parameters
        ----------
        changes : mapping of str to callable
            By name (as in :meth:`inner_layers`), from the layer's value, (row, ...) as its module gives it, to what goes on in its
            place, of the same shape.
        copies : int
            A change may also return that many copies of its rows, copy by copy, (copy * row, ...): what lies before it runs once,
            what lies behind it for all copies, and ``Piece.forward`` then returns (copy * row, neuroid).

        Raises
        ------
        UnsupportedModuleError
            A module that cannot be altered, or is not called before the responder's layers are reached.
        ParameterError
            A change returns no tensor, or another shape.
        """
        check_number("copies", copies, owner="altering", low=1, integer=True)
        if copies > 1 and self._copies.n > 1:
            raise ParameterError(f"altering got copies={copies} within one of {self._copies.n} copies. Expected one at a time.")
        state, before = self._copies, self._copies.n
        pairs = [(tap, _checked(tap.name, fn, state)) for name, fn in changes.items() for tap in self._inner_taps([name])]

        def begin() -> None:
            state.made = False

        state.n, n_changes = copies if copies > 1 else before, len(state.changes)
        state.changes += changes.items()
        try:
            with hooked(self.model, pairs, begin) as reached:
                yield
            for tap, _ in pairs if reached["passes"] else ():
                if not reached[tap.name]:
                    raise UnsupportedModuleError(_not_reached(tap.name, "cannot be altered", type(tap.module).__name__))
        finally:
            state.n, state.made = before, False
            del state.changes[n_changes:]

    def _altered(self) -> list[str]:
        """Return what alters layers now, for the fingerprint: an altered network is not the one that is stored."""
        return [f"{name} {describe_callable(change)}" for name, change in self._copies.changes]

    def _inner_taps(self, names: Sequence[str]) -> list[Tap]:
        owner = type(self).__name__
        return [tap for name in names for tap in self._layer_taps(name) or module_taps(self.model, name, owner=owner)]

    def _layer_taps(self, name: str) -> list[Tap]:
        """Return the layers that go by a name of the responder's own, which comes before that of a module."""
        return []

    def _n_heads(self, layer: str) -> int | None:
        """Return how many attention heads lie side by side in a layer, or None."""
        return None


@contextmanager
def hooked(model: torch.nn.Module, changes: Sequence[tuple[Tap, Change]], begin: Callable[[], object]) -> Iterator[Counter[str]]:
    """Pass the values of some taps through functions while a model runs.

    Parameters
    ----------
    model : Module
        Called once a pass.
    changes : sequence of (Tap, callable)
        From the tap's tensor to the one that goes on.
    begin : callable
        Called when a pass begins.

    Yields
    ------
    Counter
        How often each tap was reached, by name, and the number of ``"passes"``.

    Raises
    ------
    UnsupportedModuleError
        A compiled module, which runs no hooks.
    """
    calls: Counter[str] = Counter()
    reached: Counter[str] = Counter()

    def start(module: torch.nn.Module, args: Any) -> None:
        calls.clear()
        reached["passes"] += 1
        begin()

    handles = []
    try:
        for tap, change in changes:
            handles.append(_attach(tap, change, calls, reached))
        handles.append(model.register_forward_pre_hook(start, prepend=True))
        yield reached
    finally:
        for handle in handles:
            handle.remove()


def _attach(tap: Tap, change: Change, calls: Counter[str], reached: Counter[str]) -> Any:
    check_hookable(tap)

    def see(value: Any) -> Any:
        calls[tap.name] += 1
        if calls[tap.name] != tap.call:
            return value
        reached[tap.name] += 1
        old = first_tensor(value, tap.name)
        return swapped(value, old, change(old), tap.name)

    if tap.side == "output":
        return tap.module.register_forward_hook(lambda module, args, output: see(output))
    return tap.module.register_forward_pre_hook(
        lambda module, args, kwargs: ((see(args[0]), *args[1:]), kwargs) if args else (args, see(kwargs)), with_kwargs=True
    )


def swapped(value: Any, old: torch.Tensor, new: torch.Tensor, name: str) -> Any:
    """Return a module's output with one of its tensors exchanged wherever it stands.

    Parameters
    ----------
    value : Tensor, tuple, list or mapping, nested
    old, new : Tensor
    name : str
        The layer, for the message.

    Returns
    -------
    object
        Of the type of ``value``; the other entries are the same objects.

    Raises
    ------
    UnsupportedModuleError
        A container that cannot be made anew from its entries.
    """
    if value is old:
        return new
    try:
        if isinstance(value, Mapping):
            return type(value)(**{key: swapped(entry, old, new, name) for key, entry in value.items()})
        if isinstance(value, (tuple, list)):
            entries = [swapped(entry, old, new, name) for entry in value]
            return type(value)(*entries) if hasattr(value, "_fields") else type(value)(entries)
    except TypeError as error:
        raise UnsupportedModuleError(
            f"The layer {name!r} gives a {type(value).__name__}, which cannot be made anew with another tensor in it ({error}). Expected "
            "a tensor, tuple, list, mapping or model output: name a module inside it."
        ) from error
    return value


def _checked(name: str, change: Change, copies: Copies) -> Change:
    def apply(value: torch.Tensor) -> torch.Tensor:
        new = change(value)
        rows = {len(value)} if copies.made else {len(value), copies.n * len(value)}
        if not isinstance(new, torch.Tensor) or new.shape[1:] != value.shape[1:] or len(new) not in rows:
            got = tuple(new.shape) if isinstance(new, torch.Tensor) else type(new).__name__
            raise ParameterError(
                f"The change of layer {name!r} gave {got} for a value of shape {tuple(value.shape)}. Expected the same shape, or "
                f"`copies` (here {copies.n}) times its rows."
            )
        copies.made = copies.made or len(new) != len(value)
        # Stock modules view what they get, or overwrite it in place.
        return new.to(value).clone(memory_format=torch.contiguous_format)

    return apply


def _not_reached(name: str, what: str, kind: str = "") -> str:
    return (
        f"The layer {name!r}{kind and f' ({kind})'} {what}: its module is not called before the responder's own layers are reached. "
        "Expected a layer before them whose module is called: name the module around it where its weights are used without a call (the "
        "`out_proj` of a MultiheadAttention), or a responder of a later layer."
    )


def is_channels_first(module: torch.nn.Module) -> bool:
    """Return whether a two-dimensional value of this module is (unit, token), as of a one-dimensional convolution.

    Parameters
    ----------
    module : Module

    Returns
    -------
    bool
    """
    return isinstance(module, _CHANNELS_FIRST)


def module_taps(model: torch.nn.Module, layers: str | Sequence[str], *, owner: str) -> list[Tap]:
    """Return the outputs of modules by name, in the order of ``model.named_modules()``.

    Parameters
    ----------
    model : Module
    layers : str or sequence of str
        Names, globs, or a name with the number of its call: ``"relu#2"``.
    owner : str
        For messages.

    Returns
    -------
    list of Tap

    Raises
    ------
    ParameterError
        One matches no module.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    wanted = [layers] if isinstance(layers, str) else list(layers)
    numbered = [name for name in wanted if isinstance(name, str) and name.rpartition("#")[2].isdigit() and "#" in name]
    # Containers that only hold modules are never called themselves.
    called = [name for name, m in modules.items() if not isinstance(m, (torch.nn.ModuleList, torch.nn.ModuleDict))]
    plain = [name for name in wanted if name not in numbered]
    found = [Tap(name, modules[name]) for name in select(called, plain, owner=owner)] if plain or not numbered else []
    for name in numbered:
        base, _, call = name.rpartition("#")
        (module,) = select(called, [base], owner=owner)
        found.append(Tap(name, modules[module], call=max(int(call), 1)))
    order = {name: i for i, name in enumerate(called)}
    return sorted(found, key=lambda tap: (order[tap.name.partition("#")[0]], tap.call))
