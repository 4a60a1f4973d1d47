"""Decoding of several people: from one to another, and without mistaking who it was for what was shown."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, SplitError
from brainalign.core.parameters import preview
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.folds import Fold, Folds
from brainalign.engine.moments import Numbers


def stack_systems(systems: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Return the presentations of several systems that share neuroids and times as one recording, to learn from some and be tested on others.

    Parameters
    ----------
    systems : mapping of str to DataArray, (presentation, neuroid, time)

    Returns
    -------
    DataArray, (presentation, neuroid, time)
        With the presentation coordinate ``source`` that names the system, and the coordinates that all have; neuroids in the first one's order.

    Raises
    ------
    AlignmentError
        They differ in neuroids, which are named, or in times.
    """
    first, *others = (validate(x, name=f"source {name!r}") for name, x in systems.items())
    parts, names, ids = [first], list(systems), first.neuroid_id.values.tolist()
    for name, x in zip(names[1:], others, strict=True):
        own = x.neuroid_id.values.tolist()
        if set(own) != set(ids):
            lacks, more = ([i for i in a if i not in b] for a, b in ((ids, set(own)), (own, set(ids))))
            raise AlignmentError(
                f"sources {names[0]!r} and {name!r} have {len(ids)} and {len(own)} neuroids: {name!r} lacks {preview(lacks) or 'none'} and "
                f"{names[0]!r} lacks {preview(more) or 'none'}. Expected the same, such as sensors, to go from one to the other: keep those that "
                "both have, with `x[:, np.isin(x.neuroid_id, shared)]`, or map them onto a shared space (`ba.SharedSpace`)."
            )
        if not np.array_equal(x.time.values, first.time.values):
            raise AlignmentError(
                f"sources {names[0]!r} and {name!r} have the times {preview(first.time.values)} and {preview(x.time.values)}. Expected the same: "
                "bin both with `ba.BinTime`."
            )
        place = {neuroid: i for i, neuroid in enumerate(own)}
        parts.append(x[:, [place[neuroid] for neuroid in ids]])
    tables = [coords_of(x, "presentation") for x in parts]
    shared = [name for name in tables[0] if name != "repetition" and all(name in table for table in tables)]
    labels = {name: np.concatenate([table[name] for table in tables]) for name in shared}
    labels["source"] = as_labels([name for name, x in zip(names, parts, strict=True) for _ in range(len(x))])
    kept = {name: c for name, c in first.coords.items() if "presentation" not in c.dims}
    return xr.DataArray(
        np.concatenate([x.values for x in parts]),
        dims=first.dims,
        coords=kept | {name: ("presentation", values) for name, values in labels.items()},
        attrs=first.attrs,
    )


def exchange_parts(source: xr.DataArray, name: str | None, truth: Numbers, folds: Folds) -> Numbers | None:
    """Return within which presentations labels may change places; None for all of them.

    Parameters
    ----------
    source : DataArray
        The presentations that were paired.
    name : str or None
        The coordinate that was held out whole. Without one, people, where there are several.
    truth : ndarray, (presentation,) of codes or (presentation, output) of numbers
    folds : Folds

    Returns
    -------
    ndarray of int, (presentation,), or None

    Raises
    ------
    SplitError
        Every group has one label and several stimuli: labels would change places between groups, whose presentations are alike.
    """
    name = name or next((by for by in folds.settings.get("by") or () if by != "stimulus_id"), "subject")
    table = coords_of(source, "presentation")
    if name not in table:
        return None
    codes, names = pd.factorize(table[name].astype(object))
    if len(names) < 2:
        return None
    if truth.ndim > 1 or not one_label_each(codes, truth):
        return codes
    if pd.Series(table["stimulus_id"].astype(object)).groupby(codes).nunique().max() > 1:
        raise SplitError(
            f"permutations would carry labels from one {name} to another: all presentations of each of the {len(names)} have one label, and those "
            f"of a {name} are alike, so that exchanging single ones calls noise significant. Expected whole ones to change places: give each one "
            f"stimulus, with `x.assign_coords(stimulus_id=x.{name})`."
        )
    return None


def one_label_each(groups: Numbers, truth: Numbers) -> bool:
    """Return whether no group has two labels.

    Parameters
    ----------
    groups, truth : ndarray of int, (presentation,)

    Returns
    -------
    bool
    """
    return len(np.unique(np.stack([groups, truth]), axis=1).T) == len(np.unique(groups))


def check_people(folds: list[Fold], source: xr.DataArray, truth: Numbers, name: str) -> None:
    """Refuse folds that have a person on both sides where each person has one label: whoever knows the person knows the label.

    Parameters
    ----------
    folds : list of Fold
    source : DataArray
    truth : ndarray of int, (presentation,)
    name : str
        Of the labels.

    Raises
    ------
    SplitError
    """
    codes, people = pd.factorize(coords_of(source, "presentation").get("subject", np.array([])).astype(object))
    if (
        len(people) > 1
        and one_label_each(codes, truth)
        and any(np.intersect1d(codes[fold.train], codes[fold.test]).size for fold in folds)
    ):
        raise SplitError(
            f"each of the {len(people)} subjects has one {name!r}, and folds have a subject on both sides: people would be told apart, and not "
            f"their {name!r}. Expected folds that leave people out: groups='subject'."
        )
