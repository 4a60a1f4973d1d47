"""Sentences of Tuckute et al. 2024: a long table, a row for each person, sentence and region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns, sniff
from brainalign.adapters.files import Format, check_finite, existing, naming, record_opening
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.responses import responses

_PERSON, _ITEM, _REGION, _VALUE = "target_UID", "item_id", "roi", "response_target"
_COLUMNS = (_PERSON, _ITEM, "sentence", _REGION, _VALUE)
_OPTIONAL = ("cond", "cond_approach")


def open_tuckute(
    path: Any,
    *,
    subject: str | Sequence[str] | None = None,
    region: str | Sequence[str] | None = None,
    units: str = "z",
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open the responses of language regions to single sentences.

    Parameters
    ----------
    path : str or Path
        ``brain-lang-data_participant_....csv``.
    subject : str or sequence of str, optional
        Which people (``target_UID``). Default all, who must then have read the same sentences.
    region : str or sequence of str, optional
        Which values of ``roi`` (``"lang_LH_netw"``). Default all.
    units : str
        Voxels were z-scored within each session before they were averaged.
    allow_nan : bool
        NaN is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        ``stimulus_id`` is ``item_id``; ``sentence``, ``cond`` and ``cond_approach``. A neuroid is a region of a person: ``system`` is
        ``target_UID``, ``region`` and ``neuroid_id`` are ``roi``. Each sentence was presented once.

    Raises
    ------
    FormatError
        A damaged table, a column that is missing, a row that is there twice or not at all, an item with two sentences.
    ParameterError
        No such person or region; people who read different sentences.
    """
    file = existing(path)
    table, source = _table(file), str(file)
    table = _only(table, _PERSON, subject, source)
    table = _only(table, _REGION, region, source)
    twice = table[table.duplicated([_PERSON, _ITEM, _REGION])]
    if len(twice):
        first = tuple(twice.iloc[0][[_PERSON, _ITEM, _REGION]])
        raise FormatError(f"{source!r} has {len(twice)} rows twice, first {first}. Expected one a person, sentence and region.")
    _refuse_other_items(table, source)
    items = table.drop_duplicates(_ITEM).set_index(_ITEM)
    if len(table.drop_duplicates([_ITEM, "sentence"])) != len(items):
        several = table.groupby(_ITEM, sort=False)["sentence"].nunique()
        raise FormatError(
            f"{source!r} has several sentences for the items {preview(several.index[several > 1])}. Expected one each."
        )
    neuroids = table[[_PERSON, _REGION]].drop_duplicates()
    values = np.full((len(items), len(neuroids)), np.nan)
    rows = items.index.get_indexer(table[_ITEM])
    columns = pd.MultiIndex.from_frame(neuroids).get_indexer(pd.MultiIndex.from_frame(table[[_PERSON, _REGION]]))
    values[rows, columns] = numeric_columns(table, [_VALUE], source)[:, 0]
    _refuse_holes(values, rows, columns, items.index, neuroids, source)
    names = [f"{person}/{name}" for person, name in neuroids.itertuples(index=False)]
    check_finite(values, source, names, allow_nan)
    people = neuroids[_PERSON].to_numpy(object)
    with naming(repr(file.name)):
        x = responses(
            values, stimulus_id=items.index.to_numpy(object), neuroid_id=neuroids[_REGION].to_numpy(object), system=people,
            subject=people[0] if len(set(people)) == 1 else None, region=neuroids[_REGION].to_numpy(object), modality="fmri", units=units,
            presentation={name: items[name].to_numpy(object) for name in ("sentence", *_OPTIONAL) if name in items}, allow_nan=allow_nan,
        )  # fmt: skip
    params = {"subject": subject, "region": region, "index_base": "none: ids are names", "scale": 1.0}
    return record_opening(x, "tuckute", [file.name], params)


def _table(file: Path) -> pd.DataFrame:
    """Return the table as text; pandas may have put an index without a name in front of it."""
    whole = read_table(file, header=False, delimiter=",")
    table = whole.iloc[1:].set_axis([name.strip() for name in whole.iloc[0]], axis=1).reset_index(drop=True)
    require_columns(table, _COLUMNS, str(file))
    if not len(table):
        raise FormatError(f"{str(file)!r} holds a header and no rows. Expected a row for each person, sentence and region.")
    kept = [name for name in (*_COLUMNS, *_OPTIONAL) if name in table]
    return table[kept].apply(lambda column: column.str.strip())


def _only(table: pd.DataFrame, column: str, wanted: Any, source: str) -> pd.DataFrame:
    if wanted is None:
        return table
    names = [str(wanted)] if isinstance(wanted, (str, int)) else [str(name) for name in wanted]
    missing = [name for name in names if name not in set(table[column])]
    if missing or not names:
        raise ParameterError(
            f"{source!r} has no {preview(missing or names)} in {column!r}. It has {preview(table[column].unique(), 12)}."
        )
    return table[table[column].isin(names)]


def _refuse_other_items(table: pd.DataFrame, source: str) -> None:
    read = {person: set(rows) for person, rows in table.groupby(_PERSON, sort=False)[_ITEM]}
    first = next(iter(read))
    for person, items in read.items():
        if items != read[first]:
            raise ParameterError(
                f"{source!r}: {person!r} read {len(items)} sentences and {first!r} {len(read[first])}, {len(items & read[first])} of them the same. "
                "Expected people who read the same: choose them with `subject=`, and pass several recordings as a dict."
            )


def _refuse_holes(values: np.ndarray, rows: Any, columns: Any, items: Any, neuroids: pd.DataFrame, source: str) -> None:
    there = np.zeros(values.shape, dtype=bool)
    there[rows, columns] = True
    if not there.all():
        row, column = np.argwhere(~there)[0]
        raise FormatError(
            f"{source!r} has no row for {int((~there).sum())} of {there.size} combinations, first item {items[row]!r} of "
            f"{tuple(neuroids.iloc[column])}. Expected one each: it may be truncated, or choose regions with `region=`."
        )


def _matches(source: Any) -> str:
    look = sniff(source)
    fits = look is not None and look[0] is not None and set(_COLUMNS) <= set(look[0])
    return "a table with target_UID, item_id, roi and response_target" if fits else ""


adapter = Format("tuckute", _matches, open_tuckute)
