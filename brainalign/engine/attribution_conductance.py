"""Conductance: how much of what the inputs do to an output flows through each unit of inner layers, all layers in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch

from brainalign.engine.attribution import Path, System

Tensor = torch.Tensor
Reading = Callable[[], AbstractContextManager[Mapping[str, Tensor]]]


def conductance(
    system: System, path: Path, layers: Sequence[str], reading: Reading, outputs: Tensor, rows: Tensor, *, copies: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the conductance of every unit of some layers, by the trapezoid rule, and the responses at both ends of the path.

    Parameters
    ----------
    system : System
    path : Path
        From start to inputs, both among its points, in order.
    layers : sequence of str
    reading : callable
        Makes a context in which the last forward pass leaves the values of layers, (copy * batch, ...), in the graph.
    outputs, rows : Tensor of int64
    copies : int
        Points that go through the system at a time, at least two.

    Returns
    -------
    totals : dict of str to Tensor of float64, (row, output, ...)
        As one row of the layer; where rows share inputs, as its last dim, summed over the others (positions).
    ends : Tensor of float64, (2, row, output)

    Notes
    -----
    ``sum_k (g_k + g_{k+1}) / 2 * (y_{k+1} - y_k)`` with the values y of a unit and the gradients g of the output with respect to
    them, gathered by g, so that one product and one sum an output are left: its error falls with the square of the step, that of the left rule with the step. Source: Dhamdhere, Sundararajan and Yan
    2019, equation 2.
    """
    totals: dict[str, Tensor] = {}
    ends: list[Tensor] = []
    for first in range(0, len(path) - 1, max(1, copies - 1)):  # the last point of a chunk is the first of the next
        points = torch.arange(first, min(first + max(2, copies), len(path)))
        where, _ = path.part(system.inputs, points)
        x = where.flatten(0, 1).detach().requires_grad_(True)
        with torch.enable_grad(), reading() as seen:
            out = system.forward(x).reshape(len(points), system.n_rows, -1)
            values = [seen[name] for name in layers]
        ends = [ends[0] if ends else out[0].detach(), out[-1].detach()]
        shares = [_shares(_by_point(value.detach(), len(points))) for value in values]
        slots = [(k, i) for k in range(len(outputs)) for i in ([None] if system.rowwise else range(len(rows)))]
        for k, i in slots:
            column = out[:, :, outputs[k]]
            scalar = column.sum() if i is None else column[:, rows[i]].sum()
            gradients = torch.autograd.grad(scalar, values, retain_graph=(k, i) != slots[-1], materialize_grads=True)
            for name, gradient, share in zip(layers, gradients, shares, strict=True):
                flow = (_by_point(gradient, len(points)) * share).sum(dim=0).double()
                flow = flow[rows] if i is None else flow.reshape(-1, flow.shape[-1]).sum(dim=0)
                if name not in totals:
                    shape = flow.shape[1:] if i is None else flow.shape
                    totals[name] = flow.new_zeros((len(rows), len(outputs), *shape))
                totals[name][slice(None) if i is None else i, k] += flow
    return totals, torch.stack(ends)[:, rows][:, :, outputs].double()


def _by_point(value: Tensor, n: int) -> Tensor:
    return value.reshape(n, -1, *value.shape[1:])


def _shares(values: Tensor) -> Tensor:
    """Return what the gradient at each point is multiplied with: half of the steps to it and from it."""
    out = torch.empty_like(values)
    out[0], out[-1] = values[1] - values[0], values[-1] - values[-2]
    torch.sub(values[2:], values[:-2], out=out[1:-1])
    return out.div_(2)
