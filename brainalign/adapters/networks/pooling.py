"""From the tokens or maps of a layer to one response a presentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.autograd import forward_ad

from brainalign.adapters.networks.text_windows import Gather
from brainalign.core.errors import CapabilityError

POOLS = ("first", "last", "mean", "max", "cls", "all", "word")


def pool_tokens(hidden: torch.Tensor, chosen: Gather, pool: str) -> torch.Tensor:
    """Pool the tokens of text.

    Parameters
    ----------
    hidden : Tensor, (window, position, unit) or (window * position, unit)
    chosen : Gather
        Which tokens make which row; padding is never among them.
    pool : {"first", "last", "mean", "max", "cls", "all"}

    Returns
    -------
    Tensor, (row, unit), or (row, token, unit) for "all"

    Raises
    ------
    CapabilityError
        The layer does not give one vector a token.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    if len(flat) != chosen.n_tokens:
        raise CapabilityError(
            f"A layer gives shape {tuple(hidden.shape)} for {chosen.n_tokens} tokens. Expected one vector a token: name another layer."
        )
    tokens = flat[torch.as_tensor(chosen.tokens, device=hidden.device)]
    if pool in ("mean", "max"):
        lengths = torch.as_tensor(chosen.counts, device=hidden.device)
        # Computed in float32 also where the network has less; the segments are contiguous, so the order of sums is fixed.
        return _over_segments(tokens.to(torch.promote_types(tokens.dtype, torch.float32)), pool, lengths)
    return tokens.reshape(len(chosen.rows), -1, tokens.shape[-1]) if pool == "all" else tokens


def _over_segments(tokens: torch.Tensor, pool: str, lengths: torch.Tensor) -> torch.Tensor:
    values, tangent = forward_ad.unpack_dual(tokens)
    if tangent is None:
        return torch.segment_reduce(tokens, pool, lengths=lengths, axis=0)
    # In forward mode, which that function lacks: sums of tokens, of which only the largest count for a maximum.
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    share = torch.ones_like(values)
    if pool == "max":
        share = (values == torch.segment_reduce(values, "max", lengths=lengths, axis=0)[owner]).to(values)
    total = torch.zeros_like(values[: len(lengths)]).index_add(0, owner, share)
    return torch.zeros_like(total).index_add(0, owner, tokens * share) / total


def pool_map(hidden: torch.Tensor, pool: str, n_prefix: int) -> torch.Tensor:
    """Pool the patches, frames or feature maps of images and sounds.

    Parameters
    ----------
    hidden : Tensor, (row, token, unit), (row, unit, y, x) or (row, unit)
    pool : {"first", "last", "mean", "max", "cls", "all"}
        The mean and the maximum run over patches (frames, pixels of the map), without the prefix; "all" keeps everything.
    n_prefix : int
        Tokens before the first patch: class, distillation, registers.

    Returns
    -------
    Tensor, (row, unit), or (row, ...) for "all"

    Raises
    ------
    CapabilityError
        No class token, or a map that has no first and last.
    """
    if hidden.ndim == 2 or pool == "all":
        return hidden
    if hidden.ndim == 4:
        if pool not in ("mean", "max"):
            raise CapabilityError(
                f"pool={pool!r} got a feature map of shape {tuple(hidden.shape[1:])}. Expected tokens: use 'mean', 'max' or 'all'."
            )
        return hidden.float().mean((2, 3)) if pool == "mean" else hidden.amax((2, 3))
    if pool == "cls" and n_prefix == 0:
        raise CapabilityError("pool='cls' got a network without a class token. Use pool='mean', 'max' or 'all'.")
    if pool in ("cls", "first"):
        return hidden[:, 0 if pool == "cls" else n_prefix]
    if pool == "last":
        return hidden[:, -1]
    patches = hidden[:, n_prefix:]
    return patches.float().mean(1) if pool == "mean" else patches.amax(1)


def patch_coords(coords: dict[str, Any], grid: tuple[int, int] | None, n_prefix: int) -> dict[str, Any]:
    """Add the place of each patch to the coordinates of token neuroids.

    Parameters
    ----------
    coords : dict of str to ndarray
        With ``token``.
    grid : tuple of int, (y, x), or None
        Patches of an image.
    n_prefix : int

    Returns
    -------
    dict of str to ndarray
        With ``channel_x`` and ``channel_y``, -1 for prefix tokens; unchanged where the tokens do not fill the grid.
    """
    if grid is None or "token" not in coords or int(coords["token"].max()) + 1 != n_prefix + grid[0] * grid[1]:
        return coords
    patch = coords["token"] - n_prefix
    inside = patch >= 0
    return {
        **coords,
        "channel_x": np.where(inside, patch % grid[1], -1).astype(np.int32),
        "channel_y": np.where(inside, patch // grid[1], -1).astype(np.int32),
    }
