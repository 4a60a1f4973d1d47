"""What a network draws while it responds, from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import numpy as np
import torch


def active_dropout(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that drop units at random in training mode.

    Parameters
    ----------
    model : Module

    Returns
    -------
    list of Module
    """
    return [m for m in model.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd) and m.p > 0]


def spawn(seed: int, position: int) -> int:
    """Return the seed of what is drawn at a position, such as the first row of a batch.

    Parameters
    ----------
    seed, position : int

    Returns
    -------
    int
    """
    return int(np.random.SeedSequence([seed, position]).generate_state(1, np.uint32)[0])


@contextmanager
def drawing(model: torch.nn.Module, seed: int, device: torch.device, *, dropout: bool, alike: bool) -> Iterator[None]:
    """Let one forward pass draw from a seed; the generators of torch are left as they were.

    Parameters
    ----------
    model : Module
        Which the pass puts to evaluation mode.
    seed : int
    device : device
        Where it runs.
    dropout : bool
        Drop units all the same.
    alike : bool
        The same ones in all rows of a pass, and so in every pass: what differs between rows is then what went in or was altered.

    Yields
    ------
    None
    """
    numbers = count()

    def drop(module: torch.nn.Module, args: Any, value: torch.Tensor) -> torch.Tensor:
        own = spawn(seed, next(numbers))

        def dropped(x: torch.Tensor) -> torch.Tensor:
            _set_seed(own, device)
            module.training = True
            try:
                return module.forward(x)
            finally:
                module.training = False

        if not alike:
            return dropped(value.clone())  # some overwrite what they get
        offset = dropped(torch.zeros_like(value[:1]))
        return value * (dropped(torch.ones_like(value[:1])) - offset) + offset

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _set_seed(seed, device)
        # Before whatever else reads or alters what such a module gives.
        handles = [m.register_forward_hook(drop, prepend=True) for m in (active_dropout(model) if dropout else ())]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _set_seed(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
