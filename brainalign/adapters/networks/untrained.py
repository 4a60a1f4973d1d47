"""The same network untrained: a copy whose every weight is drawn anew, the way its own modules draw them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import torch
from torch.nn.utils import parametrize

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_random_state, preview

#: How modules of torch draw their weights.
_RESETS = ("reset_parameters", "_reset_parameters")
#: Buffers that training leaves behind; other buffers are constants (positions, masks).
_LEARNED_BUFFERS = ("weight", "bias", "running_mean", "running_var")


class Untrainable:
    """A responder whose network can be had untrained; adds :meth:`untrained`."""

    system: str
    model: Any

    def untrained(self, random_state: int | np.random.Generator | None = None, *, modules: Iterable[str] | None = None) -> Self:
        """Return the same responder with weights drawn anew: same architecture, layers, pooling and preprocessing.

        Parameters
        ----------
        random_state : int, Generator or None
            The attribute ``random_state`` of the copy holds the seed.
        modules : iterable of str, optional
            Only the weights that these modules themselves hold, some of :meth:`weighted_modules`; default all.

        Returns
        -------
        responder
            Of ``"<system>-untrained"``; shares no weight with this one.

        Raises
        ------
        CapabilityError
            A weight that no module of the network draws, so that it would stay trained.
        """
        seed = check_random_state(random_state, owner="untrained")
        copied = copy.deepcopy(self)
        other: Any = copied
        draw_weights(other.model, seed)
        if modules is not None:
            drawn = set(modules)
            kept = {name: v for name, v in self.model.state_dict().items() if name.rpartition(".")[0] not in drawn}
            other.model.load_state_dict(kept, strict=False)
        other.system, other.random_state, other.checkpoint = f"{self.system}-untrained", seed, None
        return copied

    def weighted_modules(self) -> list[str]:
        """Return the names of the modules that hold weights of their own, from the input on."""
        return [name for name, module in self.model.named_modules() if any(True for _ in module.parameters(recurse=False))]


def draw_weights(model: torch.nn.Module, seed: int) -> None:
    """Draw all weights of a model anew, in place.

    Parameters
    ----------
    model : Module
        Each of its modules draws its own weights with ``reset_parameters``, as when it was made; what a stock network of
        transformers then draws by ``_init_weights`` comes on top.
    seed : int
        Draws are made on the CPU, so that they are the same on every device. The global generator is left as it was.

    Raises
    ------
    CapabilityError
        Some weights are drawn by no module, or there are none.
    """
    learned = {name: value for name, value in model.state_dict(keep_vars=True).items() if _is_learned(name, value)}
    if not learned:
        raise CapabilityError(
            f"{type(model).__name__} has no weights: untrained, it is the same network. Expected parameters to draw anew."
        )
    device = next(iter(learned.values())).device
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for value in learned.values():  # whatever is still NaN afterwards was drawn by nobody
            value.fill_(torch.nan)
        for tensor in (*model.parameters(), *model.buffers()):
            vars(tensor).pop("_is_hf_initialized", None)  # transformers' mark of a trained weight, which it then spares
        torch.manual_seed(seed % 2**63)
        _draw(model.cpu(), None)
        model.to(device)
    left = [name for name, value in model.state_dict().items() if name in learned and bool(value.isnan().any())]
    if left:
        raise CapabilityError(
            f"{len(left)} of {len(learned)} weights of {type(model).__name__} are drawn by none of its modules, and would stay trained: "
            f"{preview(left, 5)}. Expected a `reset_parameters` on the module that holds them: write one, or record networks that were made "
            "anew and pass them to `evaluate` as `controls={'untrained-0': ...}`."
        )


def _is_learned(name: str, value: torch.Tensor) -> bool:
    return value.is_floating_point() and (isinstance(value, torch.nn.Parameter) or name.rpartition(".")[2] in _LEARNED_BUFFERS)


def _draw(module: torch.nn.Module, stock: Any) -> None:
    """Draw the weights of a module after those of its parts, as its constructor does."""
    stock = module if hasattr(module, "_init_weights") and hasattr(module, "config") else stock
    for part in module.children():
        _draw(part, stock)
    with parametrize.cached():  # a weight that is computed from others (weight norm) is drawn, and these follow
        for name in _RESETS:
            if callable(getattr(module, name, None)):
                getattr(module, name)()
                break
        computed = {name: getattr(module, name).clone() for name in getattr(module, "parametrizations", {})}
    for name, value in computed.items():
        setattr(module, name, value)
    if stock is not None:
        stock._init_weights(module)
