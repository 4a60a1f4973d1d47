"""Bringing two sides to rows that correspond, before anything is scored: joining, repeats, hand-made labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.provenance import all_steps, provenance
from brainalign.core.schema import SCHEMA_VERSION, as_labels, missing_labels
from brainalign.core.tables import coords_of
from brainalign.dataset.align import align
from brainalign.dataset.repeats import average_if_repeated, presentations_in_rows
from brainalign.dataset.split import Folds
from brainalign.features.chain import Chain
from brainalign.features.flat import flatten_time

#: Steps that learn from the rows they see; done by hand, before any fold, they have seen the test rows too.
FITTED_BY_HAND = ("Reduce",)


@dataclass(frozen=True)
class Pair:
    """Two responses arrays whose rows correspond, what is left of the model, and the folds.

    Attributes
    ----------
    source, target : DataArray
        In memory.
    model : Chain
        The steps that are still to be fitted.
    folds : list
        Of (name, training rows, test rows).
    report : dict
        What was joined, dropped, averaged and prepared outside the folds; plain JSON.
    """

    source: xr.DataArray
    target: xr.DataArray
    model: Chain
    folds: list[Any]
    report: dict[str, Any] = field(default_factory=dict)


def pair(
    source: xr.DataArray,
    target: xr.DataArray,
    model: Chain,
    folds: Folds,
    *,
    join: str,
    repeats: str,
    time: str = "match",
    beside: Callable[..., tuple[xr.DataArray, Chain]] | None = None,
) -> Pair:
    """Run the steps that learn nothing, join the two sides and settle the repeats.

    Parameters
    ----------
    source, target : DataArray, (presentation, neuroid[, time])
    model : Chain
    folds : Folds
        Made on the target.
    join : {"inner", "exact"}
    repeats : {"average", "keep", "train-single"}
    time : {"match", "flatten"}
    beside : callable, optional
        Joins more features to the prepared source: from it, the rest of the model, source, target and model to the first two.

    Returns
    -------
    Pair
    """
    prepared, rest = model.prepare(source, target, centre=True)
    if beside is not None:
        prepared, rest = beside(prepared, rest, source, target, model)
    if time == "flatten":  # before the join, which would cut both sides to the times that they share
        prepared = flatten_time(prepared)
    report: dict[str, Any] = {"repeats": repeats if not model.mixes else "keep", "leaks": leaks_of(source=source, target=target)}
    if model.mixes and sum(model.reach_s) > 0:  # rows this far apart may still share a row that both look at
        folds = folds.widen(sum(model.reach_s))
    once = repeats == "average" and not model.mixes and not straddles(folds, target)
    if once:  # the same in every fold, so it is done before the sides are matched
        prepared, target = average_if_repeated(prepared), average_if_repeated(target)
    if not model.retimes:
        prepared, target, report["join"] = align(prepared, target, on=join_key(prepared, target), join=join)
        prepared = prepared.assign_coords(stimulus_id=target.stimulus_id)  # other names for the same times, where time is shared
    report["folds"] = folds.describe()
    # Every fold takes rows of both: what is lazy would be read, and averaged and delayed, anew for each.
    return Pair(prepared.compute(), target.compute(), rest, list(folds.on(target)), report)


def join_key(source: xr.DataArray, target: xr.DataArray) -> Any:
    """Return what two sides are joined on: the stimulus, or run and time where they name no common stimulus.

    Parameters
    ----------
    source, target : DataArray

    Returns
    -------
    str or tuple of str
    """
    timed = all(name in x.coords for x in (source, target) for name in ("run", "onset_s"))
    # Not np.isin, which takes quadratic time on strings.
    if timed and not pd.Index(source.stimulus_id.values.astype(object)).isin(target.stimulus_id.values.astype(object)).any():
        return ("run", "onset_s")
    return "stimulus_id"


def borrow_times(x: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Give presentations without onsets those that the other side knows for the same stimuli.

    Parameters
    ----------
    x, other : DataArray

    Returns
    -------
    DataArray
        ``x`` with ``onset_s``, ``session`` and ``run``; ``x`` itself where it has onsets, or where the other side does not
        name one time for each stimulus.
    """
    names = [name for name in ("onset_s", "session", "run") if name in coords_of(other, "presentation")]
    if "onset_s" in x.coords or "onset_s" not in names:
        return x
    ids = pd.Index(other.stimulus_id.values.astype(object))
    rows = pd.Index(ids.drop_duplicates()).get_indexer(x.stimulus_id.values.astype(object))
    if ids.has_duplicates or (rows < 0).any():
        return x
    return x.assign_coords({name: ("presentation", other.coords[name].values[rows]) for name in names if name not in x.coords})


def straddles(folds: Folds, x: xr.DataArray) -> bool:
    """Return True where a stimulus has presentations on both sides of a fold.

    Parameters
    ----------
    folds : Folds
    x : DataArray

    Returns
    -------
    bool
    """
    codes = pd.factorize(x.stimulus_id.values.astype(object))[0]
    return any(np.intersect1d(codes[fold.train], codes[fold.test]).size > 0 for fold in folds.on(x))


def rows_of_fold(both: Pair, fold: Any, repeats: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return training and test rows of both sides, with repeats averaged within each.

    Parameters
    ----------
    both : Pair
    fold : Fold
    repeats : {"average", "keep", "train-single"}

    Returns
    -------
    tuple of DataArray
        Source and target for training, source and target for testing.
    """
    train, test = (both.source[fold.train], both.target[fold.train]), (both.source[fold.test], both.target[fold.test])
    if repeats == "average":
        train = tuple(average_if_repeated(x) for x in train)
    if repeats in ("average", "train-single"):
        test = tuple(average_if_repeated(x) for x in test)
    return *train, *test


def mean_inverse_repeats(both: Pair) -> float:
    """Return the mean over scored rows of 1 / (presentations averaged in the row), which a ceiling must know.

    Parameters
    ----------
    both : Pair
        Rows of the target that came as averages have the coordinate ``n_repeats``.

    Returns
    -------
    float
    """
    rows = pd.Series(presentations_in_rows(both.target), index=both.target.stimulus_id.values.astype(object))
    if both.report["repeats"] != "keep" and rows.index.has_duplicates:  # averaged within each fold
        # Rows that the join has copied average no more presentations together than alone.
        together = "first" if both.report["join"]["target"]["n_duplicated"] else "sum"
        rows = pd.concat([rows.iloc[fold.test].groupby(level=0).agg(together) for fold in both.folds])
    return float(np.mean(1.0 / rows.to_numpy()))


def labels_as_target(source: xr.DataArray, name: str) -> xr.DataArray:
    """Return a presentation coordinate as a target of one neuroid, in integer codes with the attr ``classes``.

    Parameters
    ----------
    source : DataArray
    name : str
        The coordinate to decode.

    Returns
    -------
    DataArray, (presentation, 1), int64

    Raises
    ------
    ParameterError
        No such coordinate, or one with a single label.
    SchemaError
        A presentation without a label.
    """
    coords = coords_of(source, "presentation")
    if name not in coords:
        raise ParameterError(
            f"target={name!r} is no presentation coordinate. Expected responses, or one of {', '.join(sorted(coords))}."
            f"{did_you_mean(name, coords)}"
        )
    given = as_labels(coords[name])
    lost = missing_labels(given)
    if lost.size:
        raise SchemaError(
            f"target={name!r} has no label at {lost.size} of {len(given)} presentations, first {preview(lost)}. Expected one for each, as what is "
            "missing is no class: drop these rows, or name them."
        )
    classes, codes = np.unique(given, return_inverse=True)
    if len(classes) < 2:
        raise ParameterError(
            f"target={name!r} has the same label in all presentations, {classes[0]!s}. Expected two classes or more."
        )
    labels: dict[str, Any] = {key: ("presentation", values) for key, values in coords.items()}
    labels |= {"neuroid_id": ("neuroid", as_labels([name])), "system": ("neuroid", as_labels(["stimulus"]))}
    attrs = {"modality": "behaviour", "schema_version": SCHEMA_VERSION, "classes": json.dumps([str(c) for c in classes.tolist()])}
    return xr.DataArray(
        codes[:, None].astype(np.int64), dims=("presentation", "neuroid"), coords=labels, attrs=attrs, name="responses"
    )


def leaks_of(**sides: xr.DataArray) -> list[str]:
    """Name the fitted steps that were applied by hand, before any fold.

    Parameters
    ----------
    **sides : DataArray
        By argument name.

    Returns
    -------
    list of str
    """
    found: dict[str, None] = {}
    for side, x in sides.items():
        for step in all_steps(provenance(x, verify=False).steps):
            if step["verb"] in FITTED_BY_HAND:
                found[f"{side}: {step['verb']} was fitted on all presentations, test ones included; put it into the chain"] = None
    return list(found)
