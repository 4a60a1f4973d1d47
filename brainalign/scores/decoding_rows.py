"""Which presentations a decoder of labels learns from and is tested on: folds that hold every class, and conditions within them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import did_you_mean, preview
from brainalign.core.tables import coords_of
from brainalign.dataset.folds import Fold, Folds
from brainalign.dataset.split import DEFAULT_SPLITS, folds_of, split
from brainalign.engine.moments import Numbers

Wanted = Mapping[str, Any] | None  # values of presentation coordinates


def decoding_folds(y: xr.DataArray, name: str | None, cv: Any, groups: str | None, seed: int) -> Folds:
    """Return folds over the presentations of a target; of labels, each has its share of every class.

    Parameters
    ----------
    y : DataArray, (presentation, neuroid)
        Codes of labels, or numbers.
    name : str or None
        Of the coordinate that holds the labels; None for numbers.
    cv : int, Folds or None
    groups : str or None
        What is held out whole; shares of classes are then as they come.
    seed : int

    Returns
    -------
    Folds

    Raises
    ------
    SplitError
        Every class is a single stimulus, or has fewer than there are folds.
    ParameterError
        Both folds and groups.
    """
    if name is None or groups is not None or isinstance(cv, Folds):
        return folds_of(y, cv, groups, owner="decode_time", random_state=seed)
    shown = pd.DataFrame(
        {"stimulus": pd.factorize(y.stimulus_id.values.astype(object))[0], "label": y.values[:, 0]}
    ).drop_duplicates()
    alone = not shown["stimulus"].duplicated().any()  # each stimulus has one label
    if alone and shown["label"].value_counts().max() < 2:
        raise SplitError(
            f"each of the {len(shown)} classes of {name!r} is a single stimulus, so that folds which hold out stimuli hold out classes. "
            "Expected several stimuli a class. To tell stimuli apart, hold out trials, or repeats by run: give trials `stimulus_id` values "
            "of their own, or pass cv=ba.split(source, by='run', force=True), which is recorded."
        )
    n_splits = DEFAULT_SPLITS if cv is None else cv
    return split(y, n_splits=n_splits, stratify=name if alone else None, random_state=seed)


def restrict_folds(folds: list[Fold], source: xr.DataArray, train_on: Wanted, test_on: Wanted) -> list[Fold]:
    """Return folds whose training and test rows have the values that are asked for.

    Parameters
    ----------
    folds : list of Fold
    source : DataArray
    train_on, test_on : mapping of str to values, or None

    Returns
    -------
    list of Fold

    Raises
    ------
    SplitError
        A fold has none on one side.
    """
    train, test = rows_with(source, train_on), rows_with(source, test_on)
    folds = [Fold(name, a[train[a]], b[test[b]]) for name, a, b in folds]
    for name, a, b in folds:
        if not (a.size and b.size):
            raise SplitError(
                f"fold {name!r} has {a.size} training rows of train_on={train_on} and {b.size} test rows of test_on={test_on}. "
                "Expected some of both: use fewer folds, or conditions that every fold has."
            )
    return folds


def rows_with(source: xr.DataArray, wanted: Wanted) -> Numbers:
    """Return which presentations have one of the values that are asked for, in each coordinate.

    Parameters
    ----------
    source : DataArray
    wanted : mapping of str to values, or None
        None for all rows.

    Returns
    -------
    ndarray of bool, (presentation,)

    Raises
    ------
    ParameterError
        A coordinate or a value that no presentation has.
    """
    table, mask = coords_of(source, "presentation"), np.ones(len(source), dtype=bool)
    for name, values in (wanted or {}).items():
        if name not in table:
            raise ParameterError(
                f"train_on and test_on got {name!r}; presentations have {', '.join(sorted(table))}. Expected one of these."
                f"{did_you_mean(name, table)}"
            )
        labels = pd.Index([str(value) for value in table[name].tolist()])
        some = [str(value) for value in ([values] if np.ndim(values) == 0 else np.asarray(values).tolist())]
        unknown = [value for value in some if value not in labels]
        if unknown:
            raise ParameterError(
                f"train_on and test_on got {name}={unknown[0]!r}, which no presentation has. Expected some of {preview(labels.unique())}."
                f"{did_you_mean(unknown[0], labels)}"
            )
        mask &= labels.isin(some)
    return mask


def absent_classes(folds: list[Fold], codes: Numbers, n_classes: int) -> list[tuple[str, int]]:
    """Return folds and the classes that their training rows lack.

    Parameters
    ----------
    folds : list of Fold
    codes : ndarray of int, (presentation,)
    n_classes : int

    Returns
    -------
    list of (str, int)
    """
    counts = [(fold.name, np.bincount(codes[fold.train], minlength=n_classes)) for fold in folds]
    return [(name, int(k)) for name, count in counts for k in np.flatnonzero(count == 0)]


def check_rows(folds: list[Fold], metric: str, y: xr.DataArray, truth: Numbers) -> None:
    """Refuse folds from which a class cannot be learned, or on which a metric says nothing.

    Parameters
    ----------
    folds : list of Fold
    metric : str
    y : DataArray
        The target; labels with the attr ``classes``.
    truth : ndarray, (presentation,) of codes or (presentation, output) of numbers

    Raises
    ------
    SplitError
    """
    names = json.loads(y.attrs["classes"]) if truth.ndim == 1 else []
    lost = absent_classes(folds, truth, len(names)) if names else []
    if lost:
        raise SplitError(
            f"the training rows of fold {lost[0][0]!r} have no {names[lost[0][1]]!r} ({len(lost)} such gaps in {len(folds)} folds). Expected "
            "every class in every training fold: use other groups, fewer folds, or leave the class out."
        )
    if metric == "auc" and all(len(np.unique(truth[fold.test])) < 2 for fold in folds):
        raise SplitError(
            f"each of the {len(folds)} folds tests one class, on which the area under the curve is undefined. Expected both: use fewer folds, "
            "groups that hold both classes, or metric='accuracy'."
        )
    if metric == "pearson" and all(len(fold.test) < 2 for fold in folds):
        raise SplitError(
            f"each of the {len(folds)} folds tests one presentation, on which pearson is undefined. Expected two or more: use fewer folds, "
            "such as cv=5."
        )
