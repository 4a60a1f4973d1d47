"""The methods of ``attribute``: each a function of one question about one system, on plain tensors.

A method that is linear in the response is asked about the features of a readout, and its answer goes through the readout's own
linear map: exact, and the same work for one neuroid and for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.engine.attribution import NoForwardMode, Path, System, path_sums, values_at
from brainalign.engine.attribution_conductance import conductance
from brainalign.engine.attribution_cost import choose_mode, graph_bytes
from brainalign.engine.attribution_paths import end_point, even_grid, gauss_legendre, stratified
from brainalign.engine.parallel import working_memory

#: How many times the bytes of a graph a pass takes: the graph, and gradients on their way through it.
_PASSES = 2


@dataclass(frozen=True)
class Question:
    """What drives some outputs of some rows of a system.

    Attributes
    ----------
    system : System
    starts : callable
        Positions of baselines, a Tensor of int64, to baselines, (position or 1, batch, ...).
    n_starts : int
        1: every position gives the same one.
    outputs, rows : Tensor of int64
    n_steps : int
    mode : {"auto", "vjp", "jvp"}
    max_memory : int or None
        Bytes.
    seed : int
    layers : tuple of str
        Inner layers that the answer is about; empty: the inputs.
    reading : callable, optional
        Of a number of inputs: makes a context in which a pass of so many leaves what those layers hold.
    known : dict
        Bytes of a pass by shape of the inputs, of all questions about one layer.
    """

    system: System
    starts: Callable[[torch.Tensor], torch.Tensor]
    n_starts: int
    outputs: torch.Tensor
    rows: torch.Tensor
    n_steps: int
    mode: str = "auto"
    max_memory: int | None = None
    seed: int = 0
    layers: tuple[str, ...] = ()
    reading: Callable[[int], AbstractContextManager[Mapping[str, Any]]] | None = None
    known: dict[Any, int] = field(default_factory=dict)

    @property
    def start(self) -> torch.Tensor:
        """The first baseline, (batch, ...)."""
        return self.starts(torch.zeros(1, dtype=torch.int64))[0]

    def copies(self, most: int) -> int:
        """Return how many copies of the inputs go through the system at a time, at most ``most``.

        Parameters
        ----------
        most : int

        Returns
        -------
        int

        Raises
        ------
        ParameterError
            ``max_memory`` does not hold one.
        """
        room = (
            working_memory(self.system.inputs) if self.max_memory is None else self.max_memory / 4
        )  # the rest is for the result
        each = _PASSES * graph_bytes(self.system, self.known, enough=room / _PASSES / most)
        if self.max_memory is not None and each > room:
            raise ParameterError(
                f"The 'max_memory' parameter of attribute leaves {room:,.0f} bytes for a pass. Expected at least {each:,}, for inputs of "
                f"shape {tuple(self.system.inputs.shape)}: raise it."
            )
        return int(min(most, max(1, room // each)))

    def along(self, path: Path) -> torch.Tensor:
        """Return the sums of gradients along a path.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Tensor of float64, (row, output, ...)

        Raises
        ------
        ParameterError
            Forward mode, and elements that are not summed in groups.
        CapabilityError
            Forward mode meets an operation that has none.
        """
        mode = self.mode
        if mode == "jvp" and self.system.groups is None:
            raise ParameterError(
                f"attribute got mode='jvp' for inputs of shape {tuple(self.system.tail)} that are not summed. Expected `groups=`, each of which "
                "is one pass forwards: pass them, or mode='vjp'."
            )
        if mode == "auto":
            mode = choose_mode(self.system, path, self.outputs, self.rows)
        try:
            return self._sums(path, mode)
        except NoForwardMode as error:
            if self.mode == "auto":  # the same numbers, the long way
                return self._sums(path, "vjp")
            raise CapabilityError(
                f"attribute goes forwards (mode='jvp') and meets an operation that has no forward derivative: {error} Expected one that has: "
                "pass mode='vjp', or load the network with attn_implementation='eager'."
            ) from error

    def _sums(self, path: Path, mode: str) -> torch.Tensor:
        most = len(path) * (self.system.n_groups if mode == "jvp" else 1)
        return path_sums(self.system, path, self.outputs, self.rows, mode=mode, copies=self.copies(most))

    def responses(self) -> torch.Tensor:
        """Return the responses at the baseline (their mean, where there are several) and at the inputs.

        Returns
        -------
        Tensor of float64, (2, row, output)
        """
        system = self.system
        at_start = sum(values_at(system, self.starts(point[None]), self.outputs) for point in torch.arange(self.n_starts))
        return torch.cat([at_start / self.n_starts, values_at(system, [system.inputs], self.outputs)])[:, self.rows]


Tensors = dict[str, torch.Tensor]
Answer = torch.Tensor | tuple[torch.Tensor, Tensors] | tuple[Tensors, Tensors, torch.Tensor]


@dataclass(frozen=True)
class Method:
    """How a question is answered.

    Attributes
    ----------
    answer : callable
        From a :class:`Question` to attributions, a float64 Tensor (row, output, *tail of the system); or to these and what stands beside
        them by name, of their shape; or to these by layer, nothing, and the responses as :meth:`Question.responses` gives them.
    linear : bool
        The attributions to a sum of outputs are the sum of theirs.
    complete : bool
        They are meant to add up to the difference of the responses at the inputs and at the baseline.
    baseline : str
        The usual one.
    additive : bool
        The attributions of a sum of responses of several pieces are the sum of theirs.
    one_start : bool
        They compare with one baseline also where it is drawn.
    """

    answer: Callable[[Question], Answer]
    linear: bool = True
    complete: bool = True
    baseline: str = "zero"
    additive: bool = True
    one_start: bool = False


def gradient(q: Question) -> torch.Tensor:
    """Return gradients at the inputs.

    Parameters
    ----------
    q : Question

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input
    """
    return q.along(end_point(q.start, times_step=False))


def gradient_times_input(q: Question) -> torch.Tensor:
    """Return gradients at the inputs times what lies between baseline and inputs.

    Parameters
    ----------
    q : Question

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input
    """
    return q.along(end_point(q.start, times_step=True))


def integrated_gradients(q: Question) -> torch.Tensor:
    """Return gradients averaged from the baseline to the inputs, times what lies between them.

    Parameters
    ----------
    q : Question

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input

    Notes
    -----
    Gauss-Legendre nodes. Source: Sundararajan, Taly and Yan 2017, equation 1.
    """
    return q.along(gauss_legendre(q.start, q.n_steps))


def expected_gradients(q: Question) -> torch.Tensor:
    """Return the mean, over baselines and points drawn between them and the inputs, of gradient times difference.

    Parameters
    ----------
    q : Question

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input

    Notes
    -----
    One point in every n-th part of the line. Source: Erion et al. 2021, equation 3.
    """
    generator = torch.Generator().manual_seed(q.seed)
    return q.along(stratified(q.starts, q.n_steps, generator))


def conductances(q: Question) -> tuple[Tensors, Tensors, torch.Tensor]:
    """Return what flows through each unit of the layers of a question, as inputs go from the baseline to where they are.

    Parameters
    ----------
    q : Question

    Returns
    -------
    flows : dict of str to Tensor of float64, (row, output, ...)
        By layer, ... as one row of it; where rows share inputs, its last dim.
    beside : dict
        Empty.
    ends : Tensor of float64, (2, row, output)
        The responses at the baseline and at the inputs.

    Notes
    -----
    Source: Dhamdhere, Sundararajan and Yan 2019, equation 2; see :func:`brainalign.engine.attribution_conductance.conductance`.
    """
    path = even_grid(q.start, q.n_steps)
    copies = max(2, q.copies(len(path)))
    flows, ends = conductance(q.system, path, q.layers, q.reading, q.outputs, q.rows, copies=copies)
    return flows, {}, ends


METHODS: dict[str, Method] = {
    "integrated-gradients": Method(integrated_gradients, one_start=True),
    "expected-gradients": Method(expected_gradients, baseline="presentations"),
    "gradient-times-input": Method(gradient_times_input, one_start=True),
    "gradient": Method(gradient, complete=False, one_start=True),
    "conductance": Method(conductances, one_start=True),
}
