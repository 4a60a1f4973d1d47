"""What chance would point to: the maps of mappings refitted to targets without their stimuli, and of untrained networks.

The statistic is the *share* of a part: its |attribution| over that of all parts, a mean over presentations. It has no unit, so that maps
of other weights can be compared with it, and it says where an attribution points, not how large a response is: whether a mapping
predicts anything at all is what ``mapping_score`` says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.engine.bootstrap import Drawn
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import draw_phases, false_discovery_rate, p_of_the_maximum, p_values, turn_phases
from brainalign.features.record import record
from brainalign.features.timing import rows_by_run, run_codes
from brainalign.neurons.labelling import rows_of

NULLS = ("permutation", "phase", "random-network")
#: Bytes of one attribution while it is made, and of all that are made at once.
_EACH, _USUAL = 12, 2**28
_DRAWN = 1000  # presentations, for the interval
_COLUMNS = 4096

#: From a responder and names of neuroids (None: all) to attributions.
Again = Callable[[Any, Any], xr.DataArray]


@dataclass(frozen=True)
class Null:
    """What stands for chance.

    Attributes
    ----------
    kind : {"permutation", "phase", "random-network"}
    n : int
    seed : int
    responder : Responder
    stimuli : Dataset, or DataArray
        Of a ``readout`` of recorded neuroids: their responses.
    target : DataArray or None
        What the mapping of a readout was fitted on.
    neuroid : object
        As it was asked for.
    max_memory : int or None
    """

    kind: str
    n: int
    seed: int
    responder: Any
    stimuli: xr.Dataset | xr.DataArray
    target: xr.DataArray | None
    neuroid: Any = None
    max_memory: int | None = None

    def check(self, owner: str) -> None:
        """Refuse what cannot be asked.

        Parameters
        ----------
        owner : str

        Raises
        ------
        ParameterError
            No such null, too few draws, or no target to refit to.
        CapabilityError
            A responder without a mapping to refit, or without weights.
        SchemaError
            Phases of a target that is not in time.
        """
        check_choice("null", self.kind, NULLS, owner=owner)
        check_number("n_permutations", self.n, owner=owner, low=1, integer=True)
        fitted = hasattr(self.responder, "refitted")
        if not fitted and self.kind != "random-network":
            raise CapabilityError(
                f"{owner} got null={self.kind!r} for a {type(self.responder).__name__}, which has no mapping that could be fitted to "
                "another target. Expected what `ba.readout` returns; for a unit, null='random-network'."
            )
        network = self.responder.backbone if fitted else self.responder
        if self.kind == "random-network" and not hasattr(network, "untrained"):
            raise CapabilityError(
                f"{owner} got null='random-network' for a {type(network).__name__}, which has no method `untrained`. Expected a network; of "
                "recorded neuroids, null='permutation'."
            )
        if fitted and not isinstance(self.target, xr.DataArray):
            raise ParameterError(
                f"{owner} got null={self.kind!r} and target={preview([self.target])}. Expected the responses that the mapping was fitted on, "
                "a DataArray: it is fitted anew for every draw."
            )
        if self.kind == "phase" and "onset_s" not in self.target.coords:  # type: ignore[union-attr]
            raise ParameterError(
                f"{owner} got null='phase' for a target whose presentations have no `onset_s`. Expected a recording in time: use "
                "null='permutation'."
            )

    def maps(self, again: Again, found: xr.DataArray) -> Iterator[xr.DataArray]:
        """Yield attributions of draws, each (presentation, draw × neuroid, ...), those of one draw next to each other.

        Parameters
        ----------
        again : callable
        found : DataArray, (presentation, neuroid, ...)
            What was observed.

        Yields
        ------
        DataArray
        """
        if self.kind == "random-network":
            for seed in np.random.SeedSequence(self.seed).generate_state(self.n).tolist():
                yield again(self._untrained(int(seed)), self.neuroid)
            return
        source, target = self._features(self.responder.backbone), self.target
        if target is None or not self.responder.separate_targets:
            for moved in self._targets(self.target, self.n):
                yield again(self.responder.refitted(source, moved), self.neuroid)
            return
        target = target[:, _columns(target, found)]
        each = _EACH * found.size
        together = int(max(1, (self.max_memory or _USUAL) // each))
        targets = list(self._targets(target, self.n))
        for start in range(0, len(targets), together):  # a draw is so many columns more of one target
            some = targets[start : start + together]
            yield again(self.responder.refitted(source, _side_by_side(some)), None)

    def _untrained(self, seed: int) -> Any:
        if not hasattr(self.responder, "refitted"):
            return self.responder.untrained(seed)
        network = self.responder.backbone.untrained(seed)
        return self.responder.refitted(self._features(network), self.target, network)

    def _features(self, network: Any) -> xr.DataArray:
        return self.stimuli if isinstance(self.stimuli, xr.DataArray) else record(network, self.stimuli, progress=False)

    def _targets(self, target: Any, n: int) -> Iterator[xr.DataArray]:
        rng = np.random.default_rng(self.seed)
        rows = rows_of(target, "stimulus_id", None, owner="null")
        if self.kind == "permutation":
            for order in rows.orders(n, rng):
                yield target.copy(data=target.values[order])
            return
        runs = rows_by_run(run_codes(rows.table), rows.table["onset_s"].to_numpy(dtype=np.float64))
        phases = draw_phases([len(run) for run in runs], n, rng)
        for draw in range(n):
            values = np.empty(target.shape)
            for run, angles in zip(runs, phases, strict=True):
                values[run] = turn_phases(target.values[run], angles[draw])
            yield target.copy(data=values.astype(target.dtype))


def with_null(found: xr.DataArray, again: Again, null: Null, *, owner: str, progress: bool | None = False) -> xr.DataArray:
    """Add how much each part has of an attribution, and how often chance gives it as much.

    Parameters
    ----------
    found : DataArray, (presentation, neuroid, ...)
        In any order of dims.
    again : callable
        Makes such a map of another responder.
    null : Null
        Checked.
    owner : str
    progress : bool or None
        Show a progress bar over draws.

    Returns
    -------
    DataArray
        With coordinates ``share``, ``ci_low``, ``ci_high``, ``p_value``, ``p_value_fdr`` and ``p_value_max`` (neuroid, ...).
    """
    first = ("presentation", "neuroid")
    dims = ("neuroid", *(str(dim) for dim in found.dims if dim not in first))
    rows = rows_of(found, "stimulus_id", None, owner=owner)
    shares, known = shares_of(found.transpose("presentation", *dims).values)
    observed = _mean(shares, known)
    draws = []
    with progress_bar(progress=progress, desc=f"null of {owner}", total=null.n) as bar:
        for values in null.maps(again, found):
            own = _mean(*shares_of(values.transpose("presentation", *dims).values))
            draws.append(own.reshape(-1, *observed.shape))
            bar.update(len(draws[-1]))
    chance = np.concatenate(draws)
    p = p_values(observed, chance)
    low, high = _interval(shares, known, observed, rows, null.seed)
    columns = {"share": observed, "ci_low": low, "ci_high": high, "p_value": p, "p_value_fdr": false_discovery_rate(p)}
    columns["p_value_max"] = p_of_the_maximum(observed, chance)
    out = found.assign_coords({name: (dims, values) for name, values in columns.items()})
    params = {"null": null.kind, "n_permutations": len(chance)}
    out.attrs |= params
    inputs = {} if null.target is None else {"target": null.target}
    return write_step(out, f"{owner}_null", params=params, inputs={**inputs, "attribution": found}, seed=null.seed)


def shares_of(values: Numbers) -> tuple[Numbers, Numbers]:
    """Return the share of each part in the attribution to all of them, and where there is any attribution.

    Parameters
    ----------
    values : ndarray, (presentation, neuroid, ...)

    Returns
    -------
    shares : ndarray of float64, (presentation, neuroid, ...)
        0 where there is none.
    known : ndarray of bool, (presentation, neuroid, 1...)
    """
    size = np.abs(values, dtype=np.float64)
    total = size.sum(axis=tuple(range(2, size.ndim)), keepdims=True)
    return size / np.where(total > 0, total, 1.0), total > 0


def _mean(shares: Numbers, known: Numbers) -> Numbers:
    n = known.sum(axis=0)
    return np.asarray(np.where(n > 0, shares.sum(axis=0) / np.maximum(n, 1), np.nan))


def _interval(shares: Numbers, known: Numbers, observed: Numbers, rows: Any, seed: int) -> tuple[Numbers, Numbers]:
    """Return the ends of the 95% interval over presentations drawn with replacement; NaN where they are one unit."""
    try:
        weights, units = rows.weights(_DRAWN, np.random.default_rng([seed, 1]))
    except ParameterError:
        return np.full((2, *observed.shape), np.nan)  # type: ignore[return-value]
    low, high = np.empty((2, *observed.shape))
    width = prod(observed.shape[1:])
    flat = shares.reshape(len(shares), -1)
    counts = weights @ known.reshape(len(known), -1).astype(np.float64)  # of presentations with any attribution
    for start in range(0, flat.shape[1], _COLUMNS):
        some = slice(start, start + _COLUMNS)
        of = np.arange(flat.shape[1])[some] // width
        with np.errstate(invalid="ignore"):
            draws = (weights @ flat[:, some]) / counts[:, of]
        low.reshape(-1)[some], high.reshape(-1)[some] = Drawn(observed.reshape(-1)[some], draws, (), [units]).interval(0.95)
    return low, high


def _columns(target: xr.DataArray, found: xr.DataArray) -> Numbers:
    """Return where in the target the neuroids of a map are."""
    names = [name for name in ("system", "region", "layer", "neuroid_id") if name in target.coords and name in found.coords]
    ours, theirs = (
        pd.Index(["/".join(map(str, row)) for row in zip(*(x[name].values.tolist() for name in names), strict=True)])
        for x in (target, found)
    )
    at = ours.get_indexer(theirs)
    if (at < 0).any():
        raise AlignmentError(
            f"The target lacks {int((at < 0).sum())} of {len(at)} neuroids ({preview(theirs[at < 0])}). Expected the responses that the "
            "mapping was fitted on."
        )
    return np.asarray(at)


def _side_by_side(targets: list[xr.DataArray]) -> xr.DataArray:
    first = targets[0]
    values = np.concatenate([target.values for target in targets], axis=1)
    coords = {name: coord for name, coord in first.coords.items() if coord.dims == ("presentation",)}
    coords |= {
        "neuroid_id": ("neuroid", np.arange(values.shape[1])),
        "system": ("neuroid", np.full(values.shape[1], "null", object)),
    }
    coords["system"] = ("neuroid", coords["system"][1].astype(np.dtypes.StringDType()))
    return xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=first.attrs)
