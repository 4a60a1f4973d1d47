"""Responses as numbers, group by group, as a metric of two systems takes them: one row a stimulus, times apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError, SchemaError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.tables import coords_of, numbered, order_of_neuroids, order_of_presentations, presentation_table
from brainalign.dataset.align import align
from brainalign.engine.distances import SCALED
from brainalign.engine.moments import Numbers, is_constant
from brainalign.engine.resample import BLOCK_S
from brainalign.engine.similarity import SimilarityMetric
from brainalign.features.timing import run_codes
from brainalign.geometry.measures import refuse_few, refuse_undefined


@dataclass(frozen=True)
class Side:
    """One side of a comparison.

    Attributes
    ----------
    groups : dict of str to ndarray, (stimulus, [repeat,] neuroid, time)
        By label, in order of first appearance; without a coordinate to group by there is one, ``""``. One time where there are none.
        Stimuli are in the order of their names, so that neither draws nor folds depend on the order of presentations.
    dim : str or None
        What the groups lie along in a result: ``"source_layer"``.
    times : DataArray or None
        The coordinate ``time``.
    names : dict of str to ndarray of int, (neuroid,)
        Of each group, the order that sorts its neuroids by name.
    """

    groups: dict[Any, Numbers]
    dim: str | None
    times: xr.DataArray | None
    names: dict[Any, Numbers] = field(default_factory=dict)

    def at(self, time: int) -> list[Numbers]:
        """Return the responses of each group at one time, (stimulus, [repeat,] neuroid).

        Parameters
        ----------
        time : int
            Position; without times there is one, at all positions.

        Returns
        -------
        list of ndarray
        """
        return [np.ascontiguousarray(x[..., time if self.times is not None else 0]) for x in self.groups.values()]

    def draw(self, rng: np.random.Generator) -> list[Numbers]:
        """Return the neuroids of each group in a random order, drawn by name: the order in which they lie changes nothing.

        Parameters
        ----------
        rng : Generator

        Returns
        -------
        list of ndarray of int, (neuroid,)
        """
        drawn = {label: rng.permutation(self.names[label]) for label in sorted(self.groups, key=str)}
        return [drawn[label] for label in self.groups]


def side_of(x: xr.DataArray, name: str | None, side: str, *, trials_of: xr.DataArray | None = None, stacklevel: int = 3) -> Side:
    """Return one side as numbers.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
        One row a stimulus, or presentations, which are sorted by name within a stimulus.
    name : str or None
        Neuroid coordinate to group by.
    side : {"source", "target"}
    trials_of : DataArray, optional
        The presentations that ``x`` averages, which are then kept apart.
    stacklevel : int
        Of the line that warnings name, as seen from here.

    Returns
    -------
    Side

    Raises
    ------
    ParameterError
        No such coordinate.
    SchemaError
        A group without a neuroid that is finite throughout, or presentations that are no repeats.

    Warns
    -----
    DegenerateNeuroidWarning
        Neuroids with NaN are left out.
    """
    groups, names, order = {}, {}, order_of_presentations(x)
    for label, positions in positions_of(x, name, side).items():
        part = x.isel(neuroid=positions)
        values = part.values[order].astype(part.dtype if part.dtype.kind == "f" else np.float64, copy=False)
        finite = np.isfinite(values).all(axis=(0, *range(2, values.ndim)))
        if not finite.any():
            raise SchemaError(
                f"{side} {label!r} has {finite.size} neuroids, all of them with NaN or infinity in some stimulus. Expected some that are "
                "finite throughout: drop these stimuli, or this group."
            )
        if not finite.all():
            warnings.warn(
                f"{int((~finite).sum())} of {finite.size} neuroids of {side} {label!r} have NaN or infinity and are left out of the "
                f"comparison: {preview(part.neuroid_id.values[~finite])}.",
                DegenerateNeuroidWarning,
                stacklevel=stacklevel,
            )
            values = values[:, finite]
        if trials_of is not None:
            values = _trials(trials_of.isel(neuroid=positions[finite]), x.stimulus_id.values[order], side)
        groups[label] = values if "time" in x.dims else values[..., None]
        names[label] = order_of_neuroids(part.isel(neuroid=finite))
    dim = None if name is None else f"{side}_{name}"
    return Side(groups, dim, x.coords["time"] if "time" in x.dims else None, names)


def refuse_flat(first: Side, second: Side, stimuli: Numbers, measure: SimilarityMetric) -> None:
    """Refuse what a metric that begins with a correlation over neuroids cannot take, as ``rdm`` does.

    Parameters
    ----------
    first, second : Side
        Source and target.
    stimuli : ndarray, (stimulus,)
        Their names, in order.
    measure : SimilarityMetric

    Raises
    ------
    SchemaError
        A group of fewer than three neuroids, or a stimulus to which all of them respond alike (at all times).
    """
    if measure.distance not in SCALED:
        return
    for which, side in (("source", first), ("target", second)):
        for label, values in side.groups.items():
            where, asked = f"{which} {label!r}" if side.dim else which, {"owner": "similarity", "name": measure.name}
            refuse_few(values.shape[1], where, measure.distance, **asked)
            refuse_undefined(is_constant(values, axis=1).all(axis=-1), stimuli, where, measure.distance, **asked)


def refuse_flat_draws(draws: Numbers, measure: SimilarityMetric, what: str, mend: str) -> None:
    """Refuse draws in which a correlation over neuroids is undefined (at all times), as it is not of what they are drawn from.

    Parameters
    ----------
    draws : ndarray, (draw, cell, time)
        Scores.
    measure : SimilarityMetric
    what, mend : str
        What was drawn, and what to do instead, for the message.

    Raises
    ------
    SchemaError
        There are any.
    """
    flat = np.isnan(draws).all(axis=-1).any(axis=-1)
    if measure.distance in SCALED and flat.any():
        raise SchemaError(
            f"similarity drew {what}, and in {flat.sum()} of {len(flat)} draws {measure.name!r} is undefined, as to some stimulus all neuroids "
            f"respond alike. Expected patterns that vary: {mend}, or use `metric=ba.geometry.metrics.rsa('euclidean')`."
        )


def warn_of_undefined(scores: Numbers, measure: SimilarityMetric, n: int, *, stacklevel: int) -> None:
    """Say how many scores are NaN, and why that may be.

    Parameters
    ----------
    scores : ndarray
    measure : SimilarityMetric
    n : int
        Stimuli that they are of.
    stacklevel : int
        Of the line that the warning names, as seen from here.

    Warns
    -----
    DegenerateNeuroidWarning
        Any is.
    """
    if np.isnan(scores).any():
        warnings.warn(
            f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN: with {n} stimuli {measure.name!r} is undefined for a group "
            "whose stimuli are all alike, that has as many independent neuroids as stimuli, or, where responses are correlated, for a "
            "stimulus to which all neuroids respond alike. Reduce it (`ba.Reduce`), draw more neuroids, or choose another metric.",
            DegenerateNeuroidWarning,
            stacklevel=stacklevel,
        )


def times_of(first: Side, second: Side) -> Iterator[tuple[list[Numbers], list[Numbers]]]:
    """Go through the times of a comparison: those that both sides have, or those of the side that has any.

    Parameters
    ----------
    first, second : Side

    Yields
    ------
    tuple of list of ndarray
        The groups of both sides.
    """
    times = first.times if first.times is not None else second.times
    for time in range(1 if times is None else len(times)):
        yield first.at(time), second.at(time)


def runs_of(x: xr.DataArray, y: xr.DataArray) -> tuple[Numbers, Numbers] | None:
    """Return the run and the onset of each stimulus, from the side that has times.

    Parameters
    ----------
    x, y : DataArray, (presentation, ...)
        One row a stimulus, the same on both.

    Returns
    -------
    tuple of ndarray, (stimulus,), or None
        In the order of names; None where neither side has times.
    """
    tables = (presentation_table(side).iloc[order_of_presentations(side)] for side in (y, x))
    rows = next((rows for rows in tables if "onset_s" in rows), None)
    return None if rows is None else (run_codes(rows), rows["onset_s"].to_numpy(dtype=np.float64))


def units_of(timed: tuple[Numbers, Numbers] | None, n: int) -> Numbers:
    """Say what is drawn as one: each stimulus by itself, or stretches of a recording in time.

    Parameters
    ----------
    timed : tuple of ndarray, (stimulus,), or None
        From :func:`runs_of`.
    n : int
        Stimuli.

    Returns
    -------
    ndarray of int, (stimulus,)
    """
    if timed is None:
        return np.arange(n)
    run, onset = timed
    return np.unique(np.stack([run, np.floor(onset / BLOCK_S)]), axis=1, return_inverse=True)[1]


def positions_of(x: xr.DataArray, name: str | None, side: str, *, owner: str = "similarity") -> dict[Any, Numbers]:
    """Return the positions of the neuroids of each group, in order of first appearance.

    Parameters
    ----------
    x : DataArray
    name : str or None
    side : str
        What the caller calls ``x``.
    owner : str
        The verb, for the message.

    Returns
    -------
    dict

    Raises
    ------
    ParameterError
        No such coordinate.
    SchemaError
        A neuroid has no label.
    """
    if name is None:
        return {"": np.arange(x.sizes["neuroid"])}
    labels = coords_of(x, "neuroid")
    if name not in labels:
        raise ParameterError(
            f"{owner} got by={name!r} for {side}, which has the neuroid coordinates {', '.join(sorted(labels))}. Expected one of "
            f"them: assign it with `{side}.assign_coords({name}=('neuroid', labels))`.{did_you_mean(name, labels)}"
        )
    codes, names = numbered(labels[name].astype(object), name, "neuroid")
    return {label: np.flatnonzero(codes == code) for code, label in enumerate(names)}


def check_by(by: Any, *, owner: str, whole: bool) -> tuple[str | None, str | None]:
    """Return the neuroid coordinates that group the source and the target.

    Parameters
    ----------
    by : tuple of two str
    owner : str
        The verb, for the message.
    whole : bool
        Whether None, for a side that is one group, is allowed.

    Returns
    -------
    tuple of two str or None

    Raises
    ------
    ParameterError
        They are not two.
    """
    if not isinstance(by, (tuple, list)) or len(by) != 2 or (None in by and not whole):
        raise ParameterError(
            f"The 'by' parameter of {owner} must be two coordinates, of the source and of the target. Got {by!r} instead; two are "
            "('layer', 'region')."
        )
    return by[0], by[1]


def joined(
    source: xr.DataArray, target: xr.DataArray, least: int, *, join: str = "inner", what_for: str = ""
) -> tuple[xr.DataArray, xr.DataArray, dict[str, Any]]:
    """Return the rows of the stimuli that both sides have.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time])
        One row a stimulus.
    least : int
        Stimuli that are needed.
    join : {"inner", "exact"}
    what_for : str
        Why so many are needed, for the message.

    Returns
    -------
    source, target : DataArray
    report : dict
        Of :func:`align`.

    Raises
    ------
    AlignmentError
        There are fewer.
    """
    x, y, report = align(source, target, join=join)
    if report["n_shared"] < least:
        raise AlignmentError(
            f"source and target share {report['n_shared']} of {report['source']['n_ids']} / {report['target']['n_ids']} stimulus_id values. "
            f"Expected at least {least}{what_for}: they must name the same stimuli."
        )
    return x, y, report


def _trials(x: xr.DataArray, stimuli: Numbers, side: str) -> Numbers:
    """Return single presentations, (stimulus, repeat, neuroid[, time]); NaN where a stimulus has fewer without NaN."""
    codes, values = pd.Index(stimuli.astype(object)).get_indexer(x.stimulus_id.values.astype(object)), x.values
    rows = np.flatnonzero((codes >= 0) & np.isfinite(values).all(axis=tuple(range(1, values.ndim))))
    repeat = pd.Series(codes[rows]).groupby(codes[rows]).cumcount().to_numpy()
    counts, least = np.bincount(codes[rows], minlength=len(stimuli)), 1 if x.attrs.get("deterministic") else 2
    if counts.min() < least:
        raise SchemaError(
            f"{side} has {int((counts < least).sum())} of {len(stimuli)} stimuli with fewer than {least} presentations without NaN, first "
            f"{preview(stimuli[counts < least], 1)}. Expected repeats of all, as this metric compares how responses vary from one to the "
            "next, or the attr `deterministic=True`: drop these stimuli, or neuroids that are NaN in many presentations."
        )
    out = np.full((len(stimuli), counts.max(), *x.shape[1:]), np.nan)
    out[codes[rows], repeat] = values[rows]
    return out
