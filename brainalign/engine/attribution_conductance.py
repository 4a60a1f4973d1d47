"""Conductance: how much of what the inputs do to an output flows through each unit of inner layers, all layers in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch

from brainalign.engine.attribution import Path, System, check_gradient

Tensor = torch.Tensor
Reading = Callable[[int], AbstractContextManager[Mapping[str, Tensor]]]


def conductance(
    system: System, path: Path, layers: Sequence[str], reading: Reading, outputs: Tensor, rows: Tensor, *, copies: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the conductance of every unit of some layers, by the trapezoid rule, and the responses at both ends of the path.

    Parameters
    ----------
    system : System
        Where rowwise, of any number of inputs: a start that all rows share is run once.
    path : Path
        From start to inputs, both among its points, in order.
    layers : sequence of str
    reading : callable
        Of a number of inputs: makes a context in which a forward pass of so many leaves the values of layers, (input, ...), in the graph.
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
    them, gathered by g, so that one product and one sum an output are left: its error falls with the square of the step, that of the
    left rule with the step. Source: Dhamdhere, Sundararajan and Yan 2019, equation 2.
    """
    totals: dict[str, Tensor] = {}
    ends: list[Tensor] = []
    for first in range(0, len(path) - 1, max(1, copies - 1)):  # the last point of a chunk is the first of the next
        points = torch.arange(first, min(first + max(2, copies), len(path)))
        where, _ = path.part(system.inputs, points)
        once = system.rowwise and first == 0 and bool((where[0] == where[0, :1]).all())
        x = torch.cat([where[0, : 1 if once else None], where[1:].flatten(0, 1)]).detach().requires_grad_(True)
        with torch.enable_grad(), reading(len(x)) as seen:
            out = system.forward(x)
            check_gradient(out)
            values = [seen[name] for name in layers]
        start, others = _apart(out.detach(), len(points), once=once)
        ends = [ends[0] if ends else start.expand_as(others[-1]), others[-1]]
        moves = [_moves(*_apart(value.detach(), len(points), once=once)) for value in values]
        slots = [(k, i) for k in range(len(outputs)) for i in ([None] if system.rowwise else range(len(rows)))]
        for k, i in slots:
            column = out[:, outputs[k]]
            scalar = column.sum() if i is None else column[int(rows[i]) :: system.n_rows].sum()
            gradients = torch.autograd.grad(scalar, values, retain_graph=(k, i) != slots[-1], materialize_grads=True)
            for name, gradient, (from_start, around) in zip(layers, gradients, moves, strict=True):
                at_start, at_others = _apart(gradient, len(points), once=once)
                flow = (at_others * around).sum(dim=0, dtype=torch.float64).add_(at_start * from_start)
                flow = flow[rows] if i is None else flow.reshape(-1, flow.shape[-1]).sum(dim=0)
                if name not in totals:
                    shape = flow.shape[1:] if i is None else flow.shape
                    totals[name] = flow.new_zeros((len(rows), len(outputs), *shape))
                totals[name][slice(None) if i is None else i, k].add_(flow, alpha=0.5)
    return totals, torch.stack(ends)[:, rows][:, :, outputs].double()


def _apart(value: Tensor, n: int, *, once: bool) -> tuple[Tensor, Tensor]:
    """Return what is of the first of n points, (batch, ...), or (1, ...) where it was run once, and of the others, (point, batch, ...)."""
    size = 1 if once else len(value) // n
    return value[:size], value[size:].reshape(n - 1, -1, *value.shape[1:])


def _moves(start: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Return the step from the start, and the sum of the steps to and from each other point (of the last: to it)."""
    around = torch.cat([others[1:], others[-1:]])
    around[:1].sub_(start)
    around[1:].sub_(others[:-1])
    return others[0] - start, around
