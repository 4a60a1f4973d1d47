"""Several people, animals or networks in one fit: whose each row is, and a ridge for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import BaseEstimator

from brainalign.core.errors import AlignmentError, ParameterError, SplitError
from brainalign.core.parameters import preview
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.models.inner_folds import inner_splits, row_labels
from brainalign.models.mapping import Values
from brainalign.models.ridge import Ridge


def subject_labels(X: Any) -> Values:
    """Return whose each row is: the presentation coordinate ``subject``, or one name where there is none.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, ...)

    Returns
    -------
    ndarray of str, (presentation,)
    """
    known = coords_of(X, "presentation") if isinstance(X, xr.DataArray) else {}
    return np.asarray(known.get("subject", np.full(len(X), "")), dtype=object).astype(str)


def subject_codes(X: Any, subjects: Values, owner: str) -> Values:
    """Return the position of each row's subject among those of ``fit``.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, ...)
    subjects : ndarray of str, (subject,)
    owner : str
        For the message.

    Returns
    -------
    ndarray of int, (presentation,)

    Raises
    ------
    AlignmentError
        A subject that was not in ``fit``.
    """
    labels = subject_labels(X)
    codes = np.asarray(pd.Index(subjects).get_indexer(labels))
    unknown = np.unique(labels[codes < 0])
    if unknown.size:
        raise AlignmentError(
            f"{owner} got rows of the subject {preview(unknown)}. Expected one of {preview(subjects, 8)}, as in `fit`, by the presentation "
            "coordinate `subject`: what was learned of one subject's sensors holds for no other. `ba.models.SharedLatentDecoder` takes new ones."
        )
    return codes


def stack_subjects(X: Mapping[str, xr.DataArray], Y: Any, owner: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Put the rows of several subjects with the same sensors under each other.

    Parameters
    ----------
    X : dict of str to DataArray, (presentation, neuroid[, time])
    Y : DataArray, (presentation, neuroid[, time]), or dict of them
        One for all is looked up by ``stimulus_id``.
    owner : str
        For the messages.

    Returns
    -------
    source : DataArray
        With the presentation coordinate ``subject``.
    target : DataArray

    Raises
    ------
    AlignmentError
        The subjects have other sensors or times than the first, or a target lacks their stimuli.
    """
    targets = targets_of(X, Y, owner)
    name, first = next(iter(X.items()))
    for other, x in X.items():
        here, there = (set(side.neuroid_id.values.tolist()) for side in (first, x))
        if here != there:
            raise AlignmentError(
                f"{owner} got unequal sensors: {other!r} lacks {preview(sorted(here - there, key=str)) or 'none'} of {name!r} and has "
                f"{preview(sorted(there - here, key=str)) or 'no others'} beyond. Expected the same `neuroid_id` for all: select what they share, "
                "or use `ba.models.SharedLatentDecoder`, in which each subject has sensors of its own."
            )
        if x.dims != first.dims or ("time" in x.dims and not np.array_equal(x.time.values, first.time.values)):
            raise AlignmentError(
                f"{owner} got {other!r} of shape {x.shape} and {name!r} of shape {first.shape}, at other times. Expected the same times for all."
            )
    ids = first.neuroid_id.values
    parts = {key: x[:, pd.Index(x.neuroid_id.values).get_indexer(ids)] for key, x in X.items()}
    people = np.concatenate([[key] * len(x) for key, x in parts.items()])
    return _under(list(parts.values()), people), _under(targets, people)


def targets_of(X: Mapping[str, Any], Y: Any, owner: str) -> list[Any]:
    """Return the target of each subject, its rows as the subject has them.

    Parameters
    ----------
    X : dict of str to DataArray or ndarray
    Y : DataArray or ndarray, or dict of them
        One for all is looked up by ``stimulus_id``.
    owner : str

    Returns
    -------
    list of DataArray or ndarray

    Raises
    ------
    AlignmentError, ParameterError
    """
    if not isinstance(X, Mapping) or not X:
        found = "an empty dict" if isinstance(X, Mapping) else f"a {type(X).__name__}"
        raise ParameterError(
            f"{owner} got {found}. Expected responses of one or more subjects by name: `{{'sub-01': responses, ...}}`."
        )
    if isinstance(Y, Mapping):
        if list(X) != list(Y):
            raise AlignmentError(
                f"{owner} got the subjects {preview(X, 8)} and targets of {preview(Y, 8)}. Expected the same, in one order."
            )
        return list(Y.values())
    if not isinstance(Y, xr.DataArray) or not all(isinstance(x, xr.DataArray) for x in X.values()):
        raise ParameterError(
            f"{owner} got a dict of {len(X)} subjects and one target, a {type(Y).__name__}. Expected responses, whose stimuli have names, or a "
            "dict of targets."
        )
    ids = pd.Index(Y.stimulus_id.values.astype(object))
    found = []
    for name, x in X.items():
        wanted = x.stimulus_id.values.astype(object)
        missing = np.flatnonzero(~pd.Index(wanted).isin(ids)) if not ids.has_duplicates else np.arange(len(wanted))
        if missing.size:
            raise AlignmentError(
                f"{owner} found {missing.size} of {len(wanted)} presentations of {name!r} without one target, first {wanted[missing[0]]!s}. "
                "Expected each of their stimuli once in the target: `ba.average_repeats` it, or drop the others."
            )
        found.append(Y[ids.get_indexer(wanted)])
    return found


def stopping_split(
    cv: Any, groups: Any, y: Values, rows: xr.DataArray | None, owner: str
) -> tuple[tuple[Values, Values], Values]:
    """Return rows to train on and rows to stop by, which share no stimulus and no group, and which stimulus each row is of.

    Parameters
    ----------
    cv : int, Folds or list of (train, test)
        The first fold is taken.
    groups : str or sequence, (presentation,), optional
    y : ndarray, (row, target)
        Of plain arrays: rows with the same target are of one stimulus.
    rows : DataArray, optional
        Their labels.
    owner : str

    Returns
    -------
    split : (ndarray of int, ndarray of int)
    stimulus : ndarray of int, (row,)

    Raises
    ------
    SplitError
        A stimulus or a group on both sides.
    """
    if rows is None:
        stimulus = np.unique(y, axis=0, return_inverse=True)[1].reshape(-1)
    else:
        stimulus = pd.factorize(rows.stimulus_id.values.astype(object))[0]
    given = row_labels("groups", groups, rows) if isinstance(groups, str) else groups
    train, held = inner_splits(cv, stimulus if given is None and rows is None else groups, len(y), rows)[0]
    for what, labels in (("stimulus", stimulus), ("group", given)):
        both = np.intersect1d(np.asarray(labels)[train], np.asarray(labels)[held]) if labels is not None else np.empty(0)
        if both.size:
            row = held[np.isin(np.asarray(labels)[held], both)][0]
            raise SplitError(
                f"{owner} got folds of which the first trains on a {what} and stops by it: {both.size} of them, first that of row {row}. "
                f"Expected no {what} on both sides: give the number of folds, or make them with `ba.split`."
            )
    return (train, held), stimulus


class RidgeBySubject(BaseEstimator):
    """A :class:`Ridge` for each subject, beside what is fitted to all of them together.

    Parameters
    ----------
    groups : str, optional
        Of :class:`Ridge`.
    """

    def __init__(self, groups: str | None = None) -> None:
        self.groups = groups

    def fit(self, X: Any, Y: Any) -> Self:
        """Fit each subject's rows alone.

        Parameters
        ----------
        X, Y : DataArray, (presentation, neuroid[, time])
            With ``subject``.

        Returns
        -------
        self
        """
        labels = subject_labels(X)
        self.subjects_ = np.unique(labels)
        self.ridges_ = [Ridge(groups=self.groups).fit(X[labels == name], Y[labels == name]) for name in self.subjects_]
        return self

    def predict(self, X: Any) -> Values:
        """Predict the target, each row from the mapping of its subject.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time])

        Returns
        -------
        ndarray, (presentation, neuroid[, time])
        """
        codes = subject_codes(X, self.subjects_, "Ridge")
        parts = {int(k): np.asarray(self.ridges_[k].predict(X[codes == k])) for k in np.unique(codes)}
        out = np.empty((len(X), *self.ridges_[0].target_shape_), dtype=next(iter(parts.values())).dtype)
        for k, part in parts.items():
            out[codes == k] = part
        return out


def _under(parts: list[xr.DataArray], people: Values) -> xr.DataArray:
    first = parts[0]
    coords: dict[str, Any] = {str(name): c for name, c in first.coords.items() if c.dims and "presentation" not in c.dims}
    shared = [name for name in coords_of(first, "presentation") if all(name in x.coords for x in parts)]
    for name in shared:
        coords[name] = ("presentation", as_labels(np.concatenate([coords_of(x, "presentation")[name] for x in parts])))
    coords["subject"] = ("presentation", as_labels(people))
    return xr.DataArray(
        np.concatenate([x.values for x in parts]), dims=first.dims, coords=coords, attrs=first.attrs, name=first.name
    )
