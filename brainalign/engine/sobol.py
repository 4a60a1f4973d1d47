"""Sobol indices of groups: how much of the variance of a response each of them accounts for, alone and with others."""

from __future__ import annotations

import numpy as np
import torch

from brainalign.engine.mixtures import Ask

Tensor = torch.Tensor


def sobol_indices(ask: Ask, n_groups: int, n_points: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the total and the first-order index of each group, of all responses at once.

    Parameters
    ----------
    ask : callable
        Asked about ``n_points * (n_groups + 2)`` mixtures with shares in [0, 1].
    n_groups : int
    n_points : int
        A power of two: points of a scrambled Sobol sequence in ``2 * n_groups`` dimensions.
    seed : int

    Returns
    -------
    total, first : Tensor of float64, (row, output, group)
        NaN for a response that does not vary.

    Notes
    -----
    With points A and B, and C_g that is A with the column g of B: the total index is ``mean (f(A) - f(C_g))^2 / 2 Var f`` and the
    first-order one ``mean f(B) (f(C_g) - f(A)) / Var f``. Sources: Jansen 1999; Saltelli et al. 2010, table 2 (b) and (f).
    """
    from scipy.stats import qmc

    points = qmc.Sobol(2 * n_groups, seed=np.random.default_rng(seed)).random(n_points)
    a, b = torch.split(torch.as_tensor(points), n_groups, dim=1)
    at_a, at_b = ask(a), ask(b)
    both = torch.cat([at_a, at_b])
    variance, centred = both.var(dim=0, correction=0), at_b - both.mean(dim=0)
    # What no share changes differs by rounding only.
    flat = variance <= (1e-12 * both.abs().amax(dim=0)) ** 2
    variance = torch.where(flat, torch.nan, variance)
    total, first = [], []
    for g in range(n_groups):
        c = a.clone()
        c[:, g] = b[:, g]
        change = ask(c) - at_a
        total.append((change**2).mean(dim=0) / (2 * variance))
        first.append((centred * change).mean(dim=0) / variance)
    return torch.stack(total, dim=2), torch.stack(first, dim=2)
