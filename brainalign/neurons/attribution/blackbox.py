"""Methods of ``attribute`` that only ask for responses, to inputs of which groups are there, are not, or are there in part."""

from __future__ import annotations

import torch

from brainalign.core.errors import ParameterError
from brainalign.engine.mixtures import Ask, in_groups, mixture_responses, occlusions
from brainalign.engine.shapley import shapley_exact, shapley_sampled
from brainalign.engine.sobol import sobol_indices
from brainalign.neurons.attribution.methods import Method, Question

Tensor = torch.Tensor
#: Groups of which a Sobol sequence still has two dimensions each.
_MOST_GROUPS = 10_600


def occlusion(q: Question) -> Tensor:
    """Return what responses lose where a group is what it is in the baseline, the mean over baselines.

    Parameters
    ----------
    q : Question

    Returns
    -------
    Tensor of float64, (row, output, group) or (row, output, ...), ... as one input

    Notes
    -----
    Source: Zeiler and Fergus 2014.
    """
    lost = torch.zeros((), dtype=torch.float64)
    for point in range(q.n_starts):
        ask, n = _asked(q, point)
        lost = lost + occlusions(ask, n) / q.n_starts
    return _as_inputs(q, lost)


def shapley(q: Question) -> tuple[Tensor, dict[str, Tensor]]:
    """Return Shapley values of groups and their standard errors, which are 0 where all sets cost no more than permutations would.

    Parameters
    ----------
    q : Question

    Returns
    -------
    values : Tensor of float64, (row, output, group) or (row, output, ...), ... as one input
    beside : dict of str to Tensor
        ``standard_error``, of their shape.

    Raises
    ------
    ParameterError
        A single permutation, which has no spread.

    Notes
    -----
    Source: Castro, Gomez and Tejada 2009.
    """
    ask, n = _asked(q, 0)
    if q.n_starts == 1 and 2**n <= q.n_steps * (n + 1):
        values = shapley_exact(ask, n)
        errors = torch.zeros_like(values)
    elif q.n_steps < 2:
        raise ParameterError(
            f"attribute got method='shapley' with n_steps={q.n_steps} for {n} groups. Expected at least two permutations: their spread is the "
            "standard error."
        )
    else:
        values, errors = shapley_sampled(lambda k: _asked(q, k)[0], n, q.n_steps, q.seed)
    return _as_inputs(q, values), {"standard_error": _as_inputs(q, errors)}


def sobol(q: Question) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the total Sobol index of each group, and beside it the first-order one.

    Parameters
    ----------
    q : Question

    Returns
    -------
    total : Tensor of float64, (row, output, group) or (row, output, ...), ... as one input
        NaN where a response does not vary.
    beside : dict of str to Tensor
        ``first_order``, of their shape.

    Raises
    ------
    ParameterError
        Points that are no power of two; too many groups; baselines that are drawn.

    Notes
    -----
    Sources: Jansen 1999; Saltelli et al. 2010.
    """
    ask, n = _asked(q, 0)
    if q.n_steps & (q.n_steps - 1):
        raise ParameterError(
            f"attribute got method='sobol' with n_steps={q.n_steps}. Expected a power of two, as many points as a Sobol sequence is even over: "
            f"{2 ** (q.n_steps.bit_length() - 1)} or {2 ** q.n_steps.bit_length()}."
        )
    if n > _MOST_GROUPS or q.n_starts > 1:
        what = f"{n} groups" if n > _MOST_GROUPS else "baselines that are drawn"
        raise ParameterError(
            f"attribute got method='sobol' and {what}. Expected at most {_MOST_GROUPS:,} groups and one baseline for each stimulus: pass "
            "`groups=`, as in {'y': 8, 'x': 8}, and baseline='zero' or 'mean'."
        )
    total, first = sobol_indices(ask, n, q.n_steps, q.seed)
    return _as_inputs(q, total), {"first_order": _as_inputs(q, first)}


def _as_inputs(q: Question, values: Tensor) -> Tensor:
    """Return values of groups, (row, output, group), with the dims of one input where each of its elements is a group."""
    return values.reshape(*values.shape[:2], *q.system.tail)


def _asked(q: Question, point: int) -> tuple[Ask, int]:
    """Return what is asked about mixtures with one of the baselines, and how many groups there are."""
    system, start = in_groups(q.system), q.starts(torch.tensor([point]))[0]

    def ask(shares: Tensor) -> Tensor:
        return mixture_responses(system, start, shares, q.outputs, q.rows, q.copies(len(shares)))

    return ask, system.n_groups


BLACKBOX: dict[str, Method] = {
    "occlusion": Method(occlusion, linear=False, complete=False),
    "shapley": Method(shapley, linear=False),
    "sobol": Method(sobol, linear=False, complete=False, additive=False),
}
