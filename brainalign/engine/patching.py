"""Values of a layer exchanged in copies, and sums over its nodes: plain tensors."""

from __future__ import annotations

import torch


def blend(value: torch.Tensor, other: torch.Tensor, masks: torch.Tensor, scale: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Return copies of a layer, each with its own elements exchanged.

    Parameters
    ----------
    value : Tensor, (row, ...) or (copy * row, ...)
        What the layer holds, in all copies or in each.
    other : Tensor, (row, ...)
        What takes the place of the exchanged elements.
    masks : Tensor of bool, (copy, element) or (copy, row, element)
        Elements in flat order, the same in each row or its own.
    scale : Tensor, (element,), or float
        How much of what an exchanged element held stays beside ``other``.

    Returns
    -------
    Tensor, (copy * row, ...)
        Copy by copy.

    Examples
    --------
    >>> import torch
    >>> blend(torch.zeros(1, 2), torch.ones(1, 2), torch.eye(2, dtype=torch.bool)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    n = len(other)
    masks = masks.reshape(len(masks), -1, masks.shape[-1])
    held = value.reshape(-1, n, masks.shape[-1])
    new = other.reshape(1, n, -1)
    out = torch.where(masks, new if isinstance(scale, float) and scale == 0.0 else new + scale * held, held)
    return out.reshape(len(masks) * n, *other.shape[1:])


def node_sums(x: torch.Tensor, codes: torch.Tensor, n_nodes: int) -> torch.Tensor:
    """Return the sum over the elements of each node.

    Parameters
    ----------
    x : Tensor, (..., element)
    codes : Tensor of int64, (element,)
        The node of each element; -1: of none.
    n_nodes : int

    Returns
    -------
    Tensor of float64, (..., node)
    """
    out = torch.zeros(*x.shape[:-1], n_nodes + 1, dtype=torch.float64, device=x.device)
    return out.index_add_(-1, torch.where(codes < 0, n_nodes, codes), x.double())[..., :-1]


def n_copies(row_bytes: float, n_rows: int, room: float, most: int) -> int:
    """Return how many copies of some rows run at once.

    Parameters
    ----------
    row_bytes : float
        Of the widest layer.
    n_rows : int
    room : float
        Bytes that may be worked with.
    most : int
        Copies there are to run.

    Returns
    -------
    int
        At least 1. A pass without a graph holds a few layers at a time; eight of the widest are allowed for.
    """
    return max(1, min(most, int(room // (8 * row_bytes * n_rows))))
