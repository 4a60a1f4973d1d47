"""Responses to inputs of which each group is there, is not, or is there in part: what black-box attributions ask for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch

from brainalign.engine.attribution import System

Tensor = torch.Tensor
#: From shares, (mixture, group), to responses, (mixture, row, output).
Ask = Callable[[Tensor], Tensor]
_AT_ONCE = 256  # groups whose shares are written down together


def in_groups(system: System) -> System:
    """Return a system whose every input element is a group, where it has no groups.

    Parameters
    ----------
    system : System

    Returns
    -------
    System
    """
    if system.groups is not None:
        return system
    shape = system.inputs.shape[1:]
    groups = torch.arange(math.prod(shape), device=system.inputs.device).reshape(1, *shape)
    return replace(system, groups=groups, n_groups=groups.numel())


def mixture_responses(system: System, start: Tensor, shares: Tensor, outputs: Tensor, rows: Tensor, copies: int) -> Tensor:
    """Return responses to ``start + share * (inputs - start)``, with the share of the group of each element.

    Parameters
    ----------
    system : System
        With groups; elements of none stay as they are in the inputs.
    start : Tensor, (batch, ...)
    shares : Tensor, (mixture, group)
    outputs, rows : Tensor of int64
    copies : int
        Mixtures that go through the system at a time.

    Returns
    -------
    Tensor of float64, (mixture, row, output)
    """
    inputs, groups = system.inputs.detach(), torch.as_tensor(system.groups)
    trailing = [1] * (inputs.ndim - groups.ndim)
    found = []
    with torch.no_grad():
        for some in torch.split(shares, copies):
            padded = torch.cat(
                [some.to(inputs), torch.ones(len(some), 1).to(inputs)], dim=1
            )  # the last is for what is in no group
            share = padded[:, groups.remainder(system.n_groups + 1)].reshape(len(some), *groups.shape, *trailing)
            x = torch.where(share == 1, inputs, start + share * (inputs - start))  # what is there wholly is not rounded
            out = system.forward(x.flatten(0, 1)).reshape(len(some), system.n_rows, -1)
            found.append(out[:, rows.to(out.device)][:, :, outputs.to(out.device)].double())
    return torch.cat(found)


def occlusions(ask: Ask, n_groups: int) -> Tensor:
    """Return what responses lose where each group alone is not there.

    Parameters
    ----------
    ask : callable
    n_groups : int

    Returns
    -------
    Tensor of float64, (row, output, group)
    """
    whole = ask(torch.ones(1, n_groups))[0]
    lost = [whole - ask(_without(torch.arange(k, min(k + _AT_ONCE, n_groups)), n_groups)) for k in range(0, n_groups, _AT_ONCE)]
    return torch.cat(lost).movedim(0, 2)


def _without(groups: Tensor, n_groups: int) -> Tensor:
    shares = torch.ones(len(groups), n_groups)
    shares[torch.arange(len(groups)), groups] = 0
    return shares
