"""Folds within training rows, on which hyper-parameters are compared, and what else labels say of those rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_number, preview
from brainalign.dataset.split import split
from brainalign.engine.moments import column_status
from brainalign.engine.solvers import Splits

Values = np.ndarray[Any, Any]


def inner_splits(cv: Any, groups: Any, n: int, rows: xr.DataArray | None) -> Splits:
    """Return the folds, within training rows, on which hyper-parameters are compared.

    Parameters
    ----------
    cv : int, Folds or list of (train, test)
    groups : str or sequence, (presentation,), optional
    n : int
        Training rows.
    rows : DataArray, optional
        Their labels, where there are any.

    Returns
    -------
    list of (ndarray of int, ndarray of int)

    Raises
    ------
    ParameterError
        Fewer than two folds, or folds and groups that need labels where there are none.
    SplitError
        Fewer rows or groups than folds, or rows on both sides of a fold.

    Notes
    -----
    A number of folds is dealt by :func:`split`, with seed 0: to names, so that the same rows in another order give the same alphas.
    Rows of a plain array have none, and are cut into blocks.
    """
    if hasattr(cv, "on"):
        if rows is None:
            raise ParameterError(
                f"cv is a {type(cv).__name__}, which finds rows by their labels, but the target is a plain array. Expected an int or "
                "(train, test) row numbers, or a target with labels: build it with `ba.responses`."
            )
        return _checked([(fold.train, fold.test) for fold in cv.on(rows)], n)
    if not isinstance(cv, (int, np.integer)):
        return _checked(cv, n)
    check_number("cv", cv, owner="mapping", low=2, integer=True)
    if isinstance(groups, str):
        groups = row_labels("groups", groups, rows)
    if groups is not None:
        return _grouped(np.asarray(groups), int(cv), n)
    if rows is not None:
        try:
            folds = split(rows, n_splits=int(cv), random_state=0).on(rows)
        except SplitError as error:
            raise SplitError(
                f"{n} training rows cannot make {cv} inner folds, on which a mapping compares its alphas: {error} The `cv` of the mapping is "
                "meant, not that of the score: lower it, or give one alpha."
            ) from error
        return _checked([(fold.train, fold.test) for fold in folds], n)
    if n < cv:
        raise SplitError(
            f"{n} training rows cannot make {cv} inner folds. Expected at least {cv}: lower `cv`, or give one alpha."
        )
    blocks = np.array_split(np.arange(n), cv)
    return [(np.setdiff1d(np.arange(n), test), test) for test in blocks]


def row_labels(word: str, name: str, rows: xr.DataArray | None) -> Values:
    """Return the presentation coordinate that a parameter names.

    Parameters
    ----------
    word, name : str
        The parameter, and its value.
    rows : DataArray, optional
        The target, where it is labelled.

    Returns
    -------
    ndarray, (presentation,)

    Raises
    ------
    ParameterError
        There is no such coordinate.
    """
    if rows is None:
        raise ParameterError(
            f"{word}={name!r} names a presentation coordinate, but the target is a plain array. Expected one label a row."
        )
    if name in rows.coords and rows.coords[name].dims:
        return np.asarray(rows.coords[name].values)
    known = [str(c) for c in rows.coords if rows.coords[c].dims == ("presentation",)]
    raise ParameterError(f"{word}={name!r} is no presentation coordinate of the target. Expected one of {', '.join(known)}.")


def row_weights(given: Any, n: int, rows: xr.DataArray | None) -> Values:
    """Return a weight for each training row.

    Parameters
    ----------
    given : str, sequence of float or None
        Presentation coordinate, weights, or None for ones.
    n : int
        Training rows.
    rows : DataArray, optional
        Their labels, where there are any.

    Returns
    -------
    ndarray of float64, (presentation,)

    Raises
    ------
    ParameterError
        Weights that are negative, not finite, all 0 or not one a row.
    """
    values = row_labels("sample_weight", given, rows) if isinstance(given, str) else given
    weights = np.ones(n) if values is None else np.asarray(values, dtype=np.float64)
    if weights.shape != (n,) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        raise ParameterError(
            f"The 'sample_weight' parameter must name a presentation coordinate, or be {n} finite numbers in the range [0.0, inf), some above "
            f"0. Got {given!r} instead."
        )
    return weights


def _grouped(labels: Values, n_splits: int, n: int) -> Splits:
    """Deal whole groups to folds, the largest first to the smallest fold; as many folds as groups allow."""
    if len(labels) != n:
        raise ParameterError(f"groups has {len(labels)} labels for {n} training rows. Expected one a row.")
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise SplitError(
            f"groups has the single value {names[0]!s} in the training rows. Expected at least two groups, to compare alphas on one "
            "that was not fitted: choose another coordinate, or give one alpha."
        )
    load, home = np.zeros(min(n_splits, len(names)), dtype=np.int64), np.empty(len(names), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        home[group] = np.argmin(load)
        load[home[group]] += sizes[group]
    fold_of = home[codes]
    return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(len(load))]


def _checked(splits: Sequence[Any], n: int) -> Splits:
    out = [(np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)) for train, test in splits]
    if not out:
        raise SplitError("cv holds no folds. Expected at least one (train, test) pair.")
    for k, (train, test) in enumerate(out):
        if not (len(train) and len(test)):
            raise SplitError(f"Inner fold {k} has {len(train)} training and {len(test)} test rows. Expected both to have some.")
        if max(train.max(), test.max()) >= n or min(train.min(), test.min()) < 0:
            raise SplitError(
                f"Inner fold {k} names row {max(train.max(), test.max())} of {n}. Expected rows of the training data."
            )
        fitted = np.zeros(n, dtype=bool)  # marks, not sorted rows: there are as many folds as rows where each is left out
        fitted[train] = True
        both = np.unique(test[fitted[test]])
        if both.size:
            raise SplitError(f"Inner fold {k} has {both.size} rows in both train and test, first {both[0]}. Expected none.")
    return out


def restricted(splits: Splits, kept: Values) -> Splits:
    """Return folds among some of the rows, numbered anew; folds that keep no training or no test row are left out.

    Parameters
    ----------
    splits : sequence of (train rows, test rows)
    kept : ndarray of bool, (row,)

    Returns
    -------
    list of (ndarray of int, ndarray of int)
    """
    number = np.cumsum(kept) - 1
    parts = [(number[train[kept[train]]], number[test[kept[test]]]) for train, test in splits]
    return [(train, test) for train, test in parts if len(train) and len(test)]


def target_patterns(y: Values, nan_policy: str) -> tuple[Values, list[tuple[Values, Values]]]:
    """Return the status of targets, and which to fit on which rows.

    Parameters
    ----------
    y : ndarray, (row, target)
    nan_policy : {"omit_target", "mask", "raise"}
        Of targets with NaN or infinity: they are not fitted, fitted on the rows where they are finite, or an error.

    Returns
    -------
    status : ndarray of str, (target,)
    patterns : list of (ndarray of bool, (row,), ndarray of bool, (target,))
        Only those that have targets.

    Raises
    ------
    ParameterError
        A target has NaN, and the policy is to raise.
    """
    status = column_status(y)
    lost = np.flatnonzero(status == "nan")
    if lost.size and nan_policy == "raise":
        raise ParameterError(
            f"{lost.size} of {y.shape[1]} targets have NaN or infinity in some training row, at positions {preview(lost)}. Expected finite "
            "targets: drop these, or use nan_policy='omit_target' or 'mask'."
        )
    patterns = [(np.ones(len(y), dtype=bool), status == "ok")] if (status == "ok").any() else []
    if lost.size and nan_policy == "mask":
        finite = np.isfinite(y[:, lost])
        packed = np.ascontiguousarray(np.packbits(finite, axis=0).T)
        _, first, code = np.unique(packed.view(f"V{packed.shape[1]}").ravel(), return_index=True, return_inverse=True)
        for k, example in enumerate(first):
            kept, targets = finite[:, example], lost[code == k]
            if kept.sum() > 1:
                status[targets] = column_status(y[np.ix_(kept, targets)])
                patterns.append((kept, np.isin(np.arange(len(status)), targets[status[targets] == "ok"])))
    return status, [pattern for pattern in patterns if pattern[1].any()]
