"""Attribution on plain tensors: gradients along a path times the steps of it, summed backwards or forwards in chunks that fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

Tensor = torch.Tensor


class NoForwardMode(NotImplementedError):
    """An operation has no derivative in forward mode."""


class NoGradient(NotImplementedError):
    """Responses have no gradient."""


def check_gradient(out: Tensor) -> None:
    """Check that responses hang together with what they were made of, in the graph of autograd.

    Parameters
    ----------
    out : Tensor

    Raises
    ------
    NoGradient
    """
    if not out.requires_grad:
        raise NoGradient(
            "responses have no gradient: an operation breaks the graph, or it is not kept (`torch.no_grad`, `torch.inference_mode`)"
        )


@dataclass(frozen=True)
class System:
    """A differentiable function of some inputs, and what its attributions are summed over.

    Attributes
    ----------
    forward : callable
        Copies of the inputs, stacked, (copy * batch, ...), to their responses, (copy * row, output).
    inputs : Tensor, (batch, ...)
    n_rows : int
    rowwise : bool
        Input ``i`` alone makes row ``i``.
    groups : Tensor of int64, (batch or 1, ...), or None
        Group of each input element, for the leading dims of the inputs (the others are summed); -1: of none. None: each element
        of an input is its own, which a rowwise system allows.
    n_groups : int
    """

    forward: Callable[[Tensor], Tensor]
    inputs: Tensor
    n_rows: int
    rowwise: bool
    groups: Tensor | None = None
    n_groups: int = 0

    @property
    def tail(self) -> tuple[int, ...]:
        """Shape of what one output of one row is attributed to."""
        return tuple(self.inputs.shape[1:]) if self.groups is None else (self.n_groups,)


@dataclass(frozen=True)
class Path:
    """Points where gradients are taken: each lies on a line from a start to the inputs.

    Attributes
    ----------
    start : callable
        Positions of points, a Tensor of int64, to where their lines start, (point or 1, batch, ...).
    at : Tensor of float64, (point,)
        0 at the start, 1 at the inputs.
    weights : Tensor of float64, (point,)
    times_step : bool
        Gradients are multiplied by what lies between start and inputs; False: taken as they are.
    """

    start: Callable[[Tensor], Tensor]
    at: Tensor
    weights: Tensor
    times_step: bool = True

    def __len__(self) -> int:
        return len(self.at)

    def part(self, inputs: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return some points and their steps, both (point, batch, ...)."""
        start = self.start(points)
        step = inputs - start
        share = self.at[points].to(inputs).reshape(-1, *[1] * inputs.ndim)
        where = start + share * step
        return where, step.expand_as(where) if self.times_step else torch.ones_like(where)


def path_sums(system: System, path: Path, outputs: Tensor, rows: Tensor, *, mode: str, copies: int) -> Tensor:
    """Return ``sum_p weight_p * step_p * gradient_p`` of some outputs of some rows.

    Parameters
    ----------
    system : System
    path : Path
    outputs : Tensor of int64, (output,)
    rows : Tensor of int64, (row,)
    mode : {"vjp", "jvp"}
        Backwards, a pass for every output (and row, where rows share inputs); or forwards, a pass for every group.
    copies : int
        Points (and groups) that go through the system at a time.

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input

    Raises
    ------
    NoForwardMode
        Forward mode meets an operation that has none.
    """
    return (_forwards if mode == "jvp" else _backwards)(system, path, outputs, rows, copies)


def _backwards(system: System, path: Path, outputs: Tensor, rows: Tensor, copies: int) -> Tensor:
    total = system.inputs.new_zeros((len(rows), len(outputs), *system.tail), dtype=torch.float64)
    for points in torch.split(torch.arange(len(path)), copies):
        where, step = path.part(system.inputs, points)
        x = where.flatten(0, 1).detach().requires_grad_(True)
        for slot, scalar in _targets(system, x, outputs, rows, path.weights[points]):
            (gradient,) = torch.autograd.grad(scalar, x, retain_graph=True, materialize_grads=True)
            moved = (gradient.reshape(step.shape) * step).sum(dim=0, dtype=torch.float64)
            total[slot] += by_group(system, moved)[rows if system.rowwise else 0]
    return total


def _targets(
    system: System, x: Tensor, outputs: Tensor, rows: Tensor, weights: Tensor
) -> Iterator[tuple[tuple[slice | int, int], Tensor]]:
    """Yield each place in the sums with the scalar whose gradient goes there, all from one forward pass."""
    with torch.enable_grad():
        out = system.forward(x).reshape(len(weights), system.n_rows, -1)
        check_gradient(out)
        weights = weights.to(out)  # a network in half precision responds in float32
        for k, output in enumerate(outputs.tolist()):
            column = weights @ out[:, :, output]
            if system.rowwise:  # a row's gradient lies in its own input only: one pass serves all
                yield (slice(None), k), column.sum()
            else:
                yield from (((i, k), column[row]) for i, row in enumerate(rows.tolist()))


def _forwards(system: System, path: Path, outputs: Tensor, rows: Tensor, copies: int) -> Tensor:
    total = system.inputs.new_zeros((len(rows), len(outputs), system.n_groups), dtype=torch.float64)
    pairs = torch.cartesian_prod(torch.arange(len(path)), torch.arange(system.n_groups))
    for points, groups in (pair.unbind(1) for pair in torch.split(pairs.reshape(-1, 2), copies)):
        where, step = path.part(system.inputs, points)
        tangent = step * member(system, groups)
        out = directional(system.forward, where.flatten(0, 1), tangent.flatten(0, 1))
        out = out.reshape(len(points), system.n_rows, -1)[:, rows][:, :, outputs].double()
        weights = path.weights[points].to(out)
        total.index_add_(2, groups.to(total.device), (out * weights[:, None, None]).movedim(0, 2))
    return total


def directional(forward: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> Tensor:
    """Return the derivative of a function along a tangent, in forward mode; attention is computed by the kernel that has it.

    Parameters
    ----------
    forward : callable
    x, tangent : Tensor

    Returns
    -------
    Tensor

    Raises
    ------
    NoForwardMode
        An operation has none.
    """
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent)  # type: ignore[no-untyped-call]
            out = forward_ad.unpack_dual(forward(dual))  # type: ignore[no-untyped-call]
    except (NotImplementedError, RuntimeError) as error:
        if not re.search("forward[ -]mode|forward AD", str(error)):
            raise
        raise NoForwardMode(str(error).splitlines()[0]) from error
    return torch.zeros_like(out.primal) if out.tangent is None else out.tangent


def member(system: System, groups: Tensor) -> Tensor:
    """Return 1 where an input element belongs to each group, (group, batch or 1, ...), to be multiplied with inputs.

    Parameters
    ----------
    system : System
    groups : Tensor of int64, (group,)

    Returns
    -------
    Tensor
    """
    own = torch.as_tensor(system.groups)
    same = own.unsqueeze(0) == groups.to(own.device).reshape(-1, *[1] * own.ndim)
    return same.to(system.inputs.dtype).reshape(*same.shape, *[1] * (system.inputs.ndim - own.ndim))


def by_group(system: System, values: Tensor) -> Tensor:
    """Return values of input elements summed over groups, for each input or, where rows share inputs, over all of them.

    Parameters
    ----------
    system : System
    values : Tensor, (batch, ...)

    Returns
    -------
    Tensor, (batch or 1, group), or as ``values`` where the system has no groups
    """
    if system.groups is None:
        return values
    leading = values.shape[: system.groups.ndim]
    index = system.groups.expand(leading)
    n = len(values) if system.rowwise else 1
    flat, index = values.reshape(*leading, -1).sum(dim=-1).reshape(n, -1), index.reshape(n, -1)
    total = flat.new_zeros((n, system.n_groups + 1))  # the last is for what is in no group
    return total.scatter_add_(1, index.remainder(system.n_groups + 1), flat)[:, :-1]


def values_at(system: System, points: Sequence[Tensor], outputs: Tensor) -> Tensor:
    """Return responses at some inputs, without a graph.

    Parameters
    ----------
    system : System
    points : sequence of Tensor, (batch, ...)
    outputs : Tensor of int64

    Returns
    -------
    Tensor of float64, (point, row, output)
    """
    with torch.no_grad():
        return torch.stack([system.forward(x)[:, outputs].double() for x in points])
