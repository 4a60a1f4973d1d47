"""What is to stand beside the scores of RDMs: checked against the RDMs that there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_over, check_random_state
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.moments import Numbers
from brainalign.geometry.rdm_pairs import JoinedRdms

_SIDES = ("source", "target")


@dataclass(frozen=True)
class Plan:
    """What is asked for, resolved; the first eleven are keywords of :func:`brainalign.compare_rdms`.

    Attributes
    ----------
    unit : str, optional
        The dim of the score that measures one geometry several times: ``"target_subject"``.
    averaged : bool
        Whether scores are averaged over it.
    has_ceiling : bool
    groups : ndarray of int, (stimulus,), optional
        Within which stimuli are exchanged.
    covariance : ndarray, optional
    held : ndarray, (control, pair), optional
        RDMs that are held constant, and out of which sides they are taken.
    partial : tuple of str
    n_stimuli : int
    seed : int
    """

    n_bootstraps: int
    over: tuple[str, ...]
    between: str | None
    level: float
    n_permutations: int
    null: str
    within: str | None
    clusters: str | None
    progress: bool | None
    ceiling: str | None
    metric: str
    unit: str | None
    averaged: bool
    has_ceiling: bool
    groups: Numbers | None
    covariance: Numbers | None
    held: Numbers | None
    partial: tuple[str, ...]
    n_stimuli: int
    seed: int

    @property
    def params(self) -> dict[str, Any]:
        """What the result and its provenance record."""
        names = ["over"] + ["n_bootstraps", "between", "level"] * bool(self.n_bootstraps)
        names += ["n_permutations", "null", "within", "clusters"] * bool(self.n_permutations)
        found = {name: getattr(self, name) for name in names} | ({"ceiling": self.unit} if self.has_ceiling else {})
        return {name: list(value) if name == "over" else value for name, value in found.items() if value is not None}


def make_plan(
    asked: Mapping[str, Any],
    sizes: Mapping[str, int],
    both: JoinedRdms,
    rdms: Mapping[str, xr.DataArray],
    metric: str,
    covariance: Numbers | None = None,
    held: Numbers | None = None,
    partial: tuple[str, ...] = (),
) -> Plan | None:
    """Check what is asked for.

    Parameters
    ----------
    asked : mapping
        ``n_bootstraps over between level n_permutations null within clusters progress ceiling random_state``.
    sizes : mapping of str to int
        Dims of the score.
    both : JoinedRdms
    rdms : mapping of str to DataArray
        Source and target.
    metric : str
    covariance : ndarray, optional
    held : ndarray, (control, pair), optional
        RDMs that are held constant.
    partial : tuple of str
        The sides that they are taken out of.

    Returns
    -------
    Plan or None
        None where nothing is asked for.

    Raises
    ------
    ParameterError, CapabilityError, SchemaError
        See the messages.
    """
    options = dict(asked)
    seed = check_random_state(options.pop("random_state"), owner="compare_rdms")
    over = options["over"] = check_over(asked["over"], owner="compare_rdms", unit="a leading dim")
    _check_options(options)
    named = sorted({name for name in (*over, asked["ceiling"]) if name not in (None, "stimulus")})
    if not (asked["n_bootstraps"] or asked["n_permutations"] or asked["ceiling"]):
        if named:
            raise ParameterError(f"compare_rdms got over={asked['over']!r} and no draws. Expected n_bootstraps=1000 with it.")
        return None
    found = {_unit(name, sizes) for name in named}
    if len(found) > 1:
        raise ParameterError(
            f"compare_rdms got over={asked['over']!r} and ceiling={asked['ceiling']!r}. Expected one dim in both."
        )
    unit = found.pop() if found else None
    plan = Plan(
        **options,
        metric=metric,
        unit=unit,
        averaged=over != ("stimulus",),
        has_ceiling=unit is not None and (asked["ceiling"] is not None or bool(asked["n_bootstraps"])),
        groups=_groups(asked["within"], both.stimuli, rdms),
        covariance=covariance,
        held=held,
        partial=partial,
        n_stimuli=len(both.stimuli),
        seed=seed,
    )
    _check_dims(plan, {dim: n for dim, n in sizes.items() if not (plan.averaged and dim == unit)})
    _check_able(plan)
    _check_complete(both, rdms)
    return plan


def _check_options(options: Mapping[str, Any]) -> None:
    check_number("n_permutations", options["n_permutations"], owner="compare_rdms", low=0, integer=True)
    if options["n_bootstraps"] != 0:
        check_number("n_bootstraps", options["n_bootstraps"], owner="compare_rdms", low=2, integer=True)
    check_number("level", options["level"], owner="compare_rdms", low=0.5, high=0.9999)
    check_choice("null", options["null"], ("exchange", "sign"), owner="compare_rdms")
    check_choice("clusters", options["clusters"], (None, "mass", "tfce"), owner="compare_rdms")
    for name, draws in (("between", "n_bootstraps"), ("within", "n_permutations"), ("clusters", "n_permutations")):
        if options[name] is not None and not options[draws]:
            raise ParameterError(f"compare_rdms got {name}={options[name]!r} and {draws}=0. Expected {draws}=1000 with it.")
    if options["null"] == "sign" and (options["within"] is not None or options["over"] == ("stimulus",)):
        raise ParameterError(
            f"compare_rdms got null='sign' with over={options['over']!r}, within={options['within']!r}. Expected the dim whose scores change sign, as "
            "over='subject', and no exchange of stimuli."
        )


def _unit(name: str, sizes: Mapping[str, int]) -> str:
    """Return the dim of the score that ``over`` and ``ceiling`` name."""
    found = [dim for dim in sizes if dim == name or dim in [f"{side}_{name}" for side in _SIDES]]
    if len(found) != 1 or sizes[found[0]] < 2:
        raise ParameterError(
            f"compare_rdms got {name!r} to draw or to make a ceiling of; the score has the sizes {dict(sizes)}. Expected a leading dim of two or "
            f"more of one side{', ' + ' or '.join(map(repr, found)) if len(found) > 1 else ''}."
        )
    return found[0]


def _groups(within: str | None, stimuli: Sequence[str], rdms: Mapping[str, xr.DataArray]) -> Numbers | None:
    """Return the groups of stimuli that a coordinate of either side names."""
    if within is None:
        return None
    for x in rdms.values():
        if within in x.coords and x.coords[within].dims == ("stimulus",):
            labels = dict(zip(map(str, x["stimulus"].values.tolist()), x[within].values.tolist(), strict=True))
            groups = np.asarray(pd.factorize(np.array([labels[name] for name in stimuli], dtype=object))[0])
            if len(np.unique(groups)) < len(groups):
                return groups
            raise ParameterError(
                f"compare_rdms got within={within!r}, of which each stimulus has a value of its own. Expected groups of two or more, whose stimuli "
                "change names."
            )
    known = sorted({str(name) for x in rdms.values() for name, c in x.coords.items() if c.dims == ("stimulus",)} - {"stimulus"})
    raise ParameterError(
        f"compare_rdms got within={within!r}; stimuli have {', '.join(known) or 'no other coordinates'}. Expected a coordinate of `stimulus`: "
        "`x.assign_coords(category=('stimulus', names))`."
    )


def _check_dims(plan: Plan, sizes: Mapping[str, int]) -> None:
    if plan.between is not None and sizes.get(plan.between, 0) < 2:
        raise ParameterError(
            f"compare_rdms got between={plan.between!r}; the score has the sizes {dict(sizes)}. Expected a dim of two or more."
        )
    times = [dim for dim in sizes if dim.partition("_")[2] in ("time", "time_2")]
    if plan.clusters is not None and not 1 <= len(times) <= 2:
        raise ParameterError(
            f"compare_rdms got clusters={plan.clusters!r}; the score has the sizes {dict(sizes)}. Expected one time, or two: select one of each."
        )


def _check_able(plan: Plan) -> None:
    measure, held = COMPARATORS[plan.metric], plan.held is not None
    redrawn = "stimulus" in plan.over and plan.n_bootstraps > 0
    if redrawn and (measure.complete or plan.covariance is not None or (held and measure.takes_covariance)):
        also = " and a covariance" * (plan.covariance is not None) + " and RDMs that are held constant" * held
        raise CapabilityError(
            f"compare_rdms got over={list(plan.over)!r} with metric={plan.metric!r}{also}. Expected another metric, or over='subject' and "
            "n_permutations: a stimulus that is drawn twice has no distance to itself, and here no pair may be missing."
        )
    if held and plan.n_permutations and plan.null == "exchange":
        raise CapabilityError(
            "compare_rdms got null='exchange' with RDMs that are held constant. Expected n_bootstraps, or null='sign' over='subject': stimuli "
            "of one side that change names would lose what they share with those RDMs."
        )
    if not measure.symmetric and str(plan.unit).startswith("source_"):
        raise CapabilityError(
            f"compare_rdms got {str(plan.unit)[7:]!r} of the source to draw or to make a ceiling of, under metric={plan.metric!r}, whose sides "
            "are not alike. Expected a dim of the target: swap the sides, or select one source."
        )
    if plan.null == "sign" and plan.n_permutations and not measure.higher_is_alike:
        raise ParameterError(
            f"compare_rdms got null='sign' under metric={plan.metric!r}. Expected null='exchange': no distance is below 0."
        )


def _check_complete(both: JoinedRdms, rdms: Mapping[str, xr.DataArray]) -> None:
    first, second = np.triu_indices(len(both.stimuli), 1)
    for name in both.vectors:
        holes = np.flatnonzero(np.isnan(both.vectors[name]).any(axis=0))
        if holes.size:
            i, j = first[holes[0]], second[holes[0]]
            raise SchemaError(
                f"{name} lacks {holes.size} of {len(first)} pairs in some matrix, first {both.stimuli[i]!r} with {both.stimuli[j]!r}. Expected all of "
                "them for draws and ceilings: select the stimuli that every matrix has, with `x.sel(stimulus=ids, stimulus_2=ids)`."
            )
