"""Paths of attribution methods: where gradients are taken, and with which weights they are summed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from brainalign.engine.attribution import Path

Tensor = torch.Tensor
Starts = Callable[[Tensor], Tensor]


def from_one(start: Tensor) -> Starts:
    """Return the start of lines that all begin in one place.

    Parameters
    ----------
    start : Tensor, (batch, ...)

    Returns
    -------
    callable
    """
    return lambda points: start[None]


def gauss_legendre(start: Tensor, n_steps: int) -> Path:
    """Return the path of integrated gradients.

    Parameters
    ----------
    start : Tensor, (batch, ...)
    n_steps : int
        Nodes, exact for polynomials of degree ``2 * n_steps - 1``.

    Returns
    -------
    Path
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    return Path(from_one(start), torch.as_tensor((nodes + 1) / 2), torch.as_tensor(weights / 2))


def end_point(start: Tensor, *, times_step: bool) -> Path:
    """Return the path that is the inputs alone: gradients, or gradients times what lies between start and inputs.

    Parameters
    ----------
    start : Tensor, (batch, ...)
    times_step : bool

    Returns
    -------
    Path
    """
    one = torch.ones(1, dtype=torch.float64)
    return Path(from_one(start), one, one, times_step)


def even_grid(start: Tensor, n_steps: int) -> Path:
    """Return evenly spaced points from start to inputs, both among them; their weights are those of the trapezoid rule.

    Parameters
    ----------
    start : Tensor, (batch, ...)
    n_steps : int
        Intervals.

    Returns
    -------
    Path
    """
    weights = torch.full((n_steps + 1,), 1 / n_steps, dtype=torch.float64)
    weights[[0, -1]] /= 2
    return Path(from_one(start), torch.linspace(0, 1, n_steps + 1, dtype=torch.float64), weights)


def stratified(starts: Starts, n_steps: int, generator: torch.Generator) -> Path:
    """Return the path of expected gradients: each line has a start and a point of its own, one in every n-th part of [0, 1].

    Parameters
    ----------
    starts : callable
        As in :class:`brainalign.engine.attribution.Path`.
    n_steps : int
        Lines.
    generator : torch.Generator

    Returns
    -------
    Path
    """
    at = (torch.arange(n_steps) + torch.rand(n_steps, generator=generator, dtype=torch.float64)) / n_steps
    return Path(starts, at, torch.full((n_steps,), 1 / n_steps, dtype=torch.float64))
