"""``average_repeats``: one row for each stimulus, from however many presentations it had."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import NullWarning, ParameterError, SchemaError
from brainalign.core.parameters import check_names, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, presentation_table
from brainalign.engine.resample import exchange_orders, movable


def average_repeats(responses: xr.DataArray, by: str | Sequence[str] = "stimulus_id") -> xr.DataArray:
    """Average the presentations of each stimulus.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        In memory or lazy; lazy values stay lazy.
    by : str or sequence of str
        Presentation coordinates whose values a row of the result stands for. ``("stimulus_id", "session")`` keeps
        sessions apart.

    Returns
    -------
    DataArray, (presentation, neuroid[, time])
        One row for each value of ``by``, in the order in which they first appear: the mean of its presentations, of which rows that are
        averages already count for as many as are in them. Presentation coordinates that are
        constant within every row's presentations are kept, others are dropped; ``n_repeats`` counts the presentations.
        Where ``by`` puts several stimuli together, ``stimulus_id`` becomes the value of ``by`` (joined with ``/``).
        Integers become float32. Where NaN is declared (attr ``allow_nan``) it is left out of the mean; elsewhere it
        propagates.

    Raises
    ------
    ParameterError
        ``by`` is no presentation coordinate.
    SchemaError
        Not a responses array, or rows without a value of ``by``.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 2.0], [5.0, 6.0], [3.0, 4.0]], stimulus_id=["cat", "dog", "cat"], neuroid_id=[0, 1],
    ...                  modality="fmri", system="sub-01", run=["1", "1", "2"])
    >>> mean = ba.average_repeats(x)
    >>> mean.values.tolist(), mean.n_repeats.values.tolist()
    ([[2.0, 3.0], [5.0, 6.0]], [2, 1])
    """
    validate(responses)
    names = check_names("by", by, owner="average_repeats")
    codes, first = group_rows(presentation_table(responses), names, owner="average_repeats")
    ignore_nan = bool(responses.attrs.get("allow_nan", False))
    counts = presentations_in_rows(responses)
    out = xr.DataArray(
        _means(responses.data, codes, len(first), counts, ignore_nan),
        dims=responses.dims,
        attrs=responses.attrs,
        name=responses.name,
    )
    rows = {
        name: values[first] for name, values in coords_of(responses, "presentation").items() if is_constant(values, codes, first)
    }
    if "stimulus_id" not in rows:
        rows["stimulus_id"] = _joined(responses, names, first)
    rows["n_repeats"] = np.bincount(codes, counts, minlength=len(first)).astype(np.int64)
    others = {name: coord.variable for name, coord in responses.coords.items() if "presentation" not in coord.dims}
    out = out.assign_coords({**others, **{name: ("presentation", values) for name, values in rows.items()}})
    return write_step(out, "average_repeats", params={"by": list(names)}, inputs={"responses": responses})


def average_if_repeated(x: xr.DataArray, *, owner: str = "repeats='average'") -> xr.DataArray:
    """Return the mean over repeats; the array itself where no stimulus repeats.

    Parameters
    ----------
    x : DataArray
    owner : str
        What averages, for the message.

    Returns
    -------
    DataArray

    Raises
    ------
    SchemaError
        Presentations of a stimulus to several subjects are no repeats.
    """
    if not pd.Index(x.stimulus_id.values.astype(object)).has_duplicates:
        return x
    mend = "repeats='keep', where a verb has it, and `ba.average_repeats(x, by=('stimulus_id', 'subject'))` keep subjects apart, and "
    refuse_several_subjects(x, x.stimulus_id.values.astype(object), owner=owner, mend=f"{mend}`ba.average_repeats(x)` does not.")
    return average_repeats(x)


def refuse_several_subjects(x: xr.DataArray, groups: np.ndarray[Any, Any], *, owner: str, mend: str) -> None:
    """Refuse means over presentations to several subjects, which nobody asked for.

    Parameters
    ----------
    x : DataArray, (presentation, ...)
    groups : ndarray, (presentation,)
        What is averaged with what.
    owner, mend : str
        What averages, and what to do instead, for the message.

    Raises
    ------
    SchemaError
        Presentations of a group have more than one ``subject``.
    """
    subjects = coords_of(x, "presentation").get("subject")
    if subjects is None:
        return
    codes = pd.factorize(groups)[0]
    if not is_constant(subjects, codes, np.unique(codes, return_index=True)[1]):
        raise SchemaError(
            f"{owner} got stimuli that several subjects saw, {preview(np.unique(subjects))}, whose neuroids are not the same. Expected each "
            f"subject by itself, or means that are asked for: {mend}"
        )


def presentations_in_rows(x: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return how many presentations each row averages.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    ndarray of int64, (presentation,)
        The coordinate ``n_repeats``; 1 where there is none, or where it is not known.
    """
    counts = coords_of(x, "presentation").get("n_repeats", np.ones(x.sizes["presentation"]))
    return np.fmax(np.asarray(counts, dtype=np.float64), 1.0).astype(np.int64)


def group_rows(table: pd.DataFrame, names: Sequence[str], *, owner: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Give each row of a presentation table the number of its group.

    Parameters
    ----------
    table : DataFrame
        One row a presentation.
    names : sequence of str
        Columns whose values, together, make a group.
    owner : str
        The verb, for the message.

    Returns
    -------
    codes : ndarray of int, (presentation,)
        Group of each row; groups are numbered in the order in which they first appear.
    first : ndarray of int, (group,)
        First row of each group.

    Raises
    ------
    ParameterError
        No such column.
    SchemaError
        A row has no value.
    """
    for name in names:
        if name not in table:
            raise ParameterError(
                f"{owner} got by={name!r}, which is no presentation coordinate. Expected one or more of "
                f"{', '.join(map(str, table.columns))}.{did_you_mean(name, table.columns)}"
            )
        missing = np.flatnonzero(pd.isna(table[name]).to_numpy())
        if missing.size:
            raise SchemaError(
                f"{owner} found no `{name}` in {missing.size} of {len(table)} presentations, first {preview(missing)}. Expected a "
                "value for each: drop these rows, or group by another coordinate."
            )
    if not names:
        raise ParameterError(f"{owner} got by=(). Expected the name of at least one presentation coordinate, e.g. 'stimulus_id'.")
    codes = pd.factorize(table[names[0]])[0]
    for name in names[1:]:
        further = pd.factorize(table[name])[0]
        codes = pd.factorize(codes.astype(np.int64) * (further.max(initial=0) + 1) + further)[0]
    return codes, np.unique(codes, return_index=True)[1]


def exchange_groups(
    groups: np.ndarray[Any, Any], n: int, rng: np.random.Generator, *, owner: str, within: np.ndarray[Any, Any] | None = None
) -> np.ndarray[Any, Any]:
    """Draw orders of rows in which whole groups change places with others of their size, after saying which cannot.

    Parameters
    ----------
    groups : ndarray of int, (presentation,)
        Such as the stimulus of each row.
    n : int
    rng : Generator
    owner : str
        The verb, for the message.
    within : ndarray of int, (presentation,), optional
        Groups change places only with groups of the same part.

    Returns
    -------
    ndarray of int, (draw, presentation)

    Raises
    ------
    ParameterError
        No group can change places: chance would always do as well.

    Warns
    -----
    NullWarning
        More than a tenth of the rows always stay where they are, so that p-values come out too large.
    """
    moves = movable(groups, within=within)
    stay, every = len(np.unique(groups[~moves])), len(np.unique(groups))
    place = "" if within is None else " of their part"
    mend = "Average repeats first (`ba.average_repeats`), or keep as many of each"
    mend += "." if within is None else ", or make parts larger, such as folds."
    if n and not moves.any():
        raise ParameterError(
            f"{owner} got {every} groups of presentations, such as stimuli, of which none can change places: no two{place} are of one size. "
            f"Expected some that are, as groups are exchanged whole. {mend}"
        )
    if n and moves.mean() < 0.9:
        warnings.warn(
            f"{owner} cannot exchange {stay} of {every} groups of presentations, such as stimuli: no other{place} is of their size. They stay "
            f"where they are, and p comes out too large. {mend}",
            NullWarning,
            stacklevel=3,
        )
    return exchange_orders(groups, n, rng, within=within)


def is_constant(values: np.ndarray[Any, Any], codes: np.ndarray[Any, Any], first: np.ndarray[Any, Any]) -> bool:
    """Return True where all rows of a group have the value of its first row.

    Parameters
    ----------
    values : ndarray, (presentation,)
    codes : ndarray of int, (presentation,)
        Group of each row.
    first : ndarray of int, (group,)
        First row of each group.

    Returns
    -------
    bool
        Two missing numbers (NaN) count as the same value.
    """
    same = values == values[first][codes]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[first][codes])
    return bool(np.all(same))


def _joined(x: xr.DataArray, names: Sequence[str], first: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    parts = [[str(value) for value in x.coords[name].values[first].tolist()] for name in names]
    return as_labels(["/".join(values) for values in zip(*parts, strict=True)])


def _means(values: Any, codes: np.ndarray[Any, Any], n_groups: int, counts: np.ndarray[Any, Any], ignore_nan: bool) -> Any:
    """Mean over the rows of each group; a lazy array is averaged block by block along its neuroids."""
    order = np.argsort(codes, kind="stable")
    weights = counts[order].reshape(-1, *(1,) * (values.ndim - 1))
    starts = np.searchsorted(codes[order], np.arange(n_groups))
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    if isinstance(values, np.ndarray):
        return _block_means(values, order, starts, weights, ignore_nan, dtype)
    whole = values.rechunk({0: -1})
    return whole.map_blocks(
        _block_means, order, starts, weights, ignore_nan, dtype, chunks=((n_groups,), *whole.chunks[1:]), dtype=dtype
    )


def _block_means(values: Any, order: Any, starts: Any, weights: Any, ignore_nan: bool, dtype: Any) -> np.ndarray[Any, Any]:
    # Sums in float64: the mean of many float32 responses would otherwise depend on their order.
    rows = values[order]
    known = ~np.isnan(rows) if ignore_nan and rows.dtype.kind == "f" else np.ones(weights.shape, dtype=bool)
    rows = rows if known.all() else np.where(known, rows, 0)
    rows = rows if (weights == 1).all() else rows * weights.astype(np.float64)
    sums = np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
    n_known = np.add.reduceat(known * weights, starts, axis=0, dtype=np.int64)
    with np.errstate(invalid="ignore"):
        return np.where(n_known > 0, sums / np.maximum(n_known, 1), np.nan).astype(dtype)
