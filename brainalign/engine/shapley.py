"""Shapley values of groups: exact where there are few, otherwise from permutations that are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from brainalign.engine.mixtures import Ask

Tensor = torch.Tensor


def shapley_exact(ask: Ask, n_groups: int) -> Tensor:
    """Return the Shapley values of groups from all of their sets.

    Parameters
    ----------
    ask : callable
        Asked about ``2 ** n_groups`` sets.
    n_groups : int

    Returns
    -------
    Tensor of float64, (row, output, group)

    Notes
    -----
    ``phi_g = sum_S |S|! (G - |S| - 1)! / G! * (v(S + g) - v(S))`` over the sets S without g. Source: Shapley 1953.
    """
    codes = torch.arange(2**n_groups)
    member = (codes[:, None] >> torch.arange(n_groups)) & 1
    values, size = ask(member), member.sum(dim=1)
    weights = torch.tensor([1 / (n_groups * math.comb(n_groups - 1, k)) for k in range(n_groups)], dtype=torch.float64)
    found = []
    for g in range(n_groups):
        without = codes[member[:, g] == 0]
        gain = values[without + 2**g] - values[without]
        found.append(torch.tensordot(weights[size[without]].to(gain), gain, dims=1))
    return torch.stack(found, dim=2)


def shapley_sampled(ask: Callable[[int], Ask], n_groups: int, n_permutations: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return estimates of Shapley values, and their standard errors.

    Parameters
    ----------
    ask : callable
        From the number of a permutation to what is asked about its sets: each may start from a baseline of its own.
    n_groups : int
    n_permutations : int
        At least two. Each costs ``n_groups + 1`` responses, and its gains add up to the difference of the first and the last.
    seed : int

    Returns
    -------
    values, errors : Tensor of float64, (row, output, group)

    Notes
    -----
    Source: Castro, Gomez and Tejada 2009, algorithm 1; the standard error is that of a mean over permutations.
    """
    generator = torch.Generator().manual_seed(seed)
    mean = squares = torch.zeros(())
    for k in range(n_permutations):
        order = torch.randperm(n_groups, generator=generator)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(n_groups)
        values = ask(k)(rank[None] < torch.arange(n_groups + 1)[:, None])
        gains = values.diff(dim=0)[rank.to(values.device)].movedim(0, 2)
        delta = gains - mean  # Welford: a mean far from 0 takes no digits off the variance
        mean = mean + delta / (k + 1)
        squares = squares + delta * (gains - mean)
    return mean, (squares / (n_permutations - 1) / n_permutations).sqrt()
