"""``check``: what a scientist wants to know of a recording before the first analysis, found in one pass over its values.

Errors are what :func:`brainalign.validate` raises; warnings are what is legal and seldom meant.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.parameters import check_number
from brainalign.core.responses import count_repetitions
from brainalign.core.schema import as_labels, label_problems, value_problems
from brainalign.core.tiles import n_readers, plan_tiles, read_tiles
from brainalign.engine.columns import ColumnFacts, same_as
from brainalign.reports.suspicions import Finding, of_labels, of_timing, of_values

MAX_MEMORY = 2**28
#: Rows and columns of the picture of the values.
_PICTURE = 200
#: What is computed on the way of a block: float64, finite or not, its key; beside the block itself.
_COPIES = 8


def check(x: xr.DataArray, *, stimuli: Any = None, max_memory: int = MAX_MEMORY) -> xr.Dataset:
    """Look for what is wrong, or seldom meant, in a recording: labels, values and timing.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid[, time])
        In memory or lazy; the values are read once, in blocks.
    stimuli : Dataset or DataFrame, optional
        The stimuli that were presented: ``stimulus_id``, and ``onset_s`` (with ``run``) where they have times. Ids that name none
        of them and events beyond the end of a run are then found, too.
    max_memory : int
        Bytes that reading may take.

    Returns
    -------
    Dataset
        Per neuroid ``minimum, maximum, mean, sd, n_not_finite, n_at_minimum, n_at_maximum`` and the coordinate ``status``; per
        presentation ``same_as`` (the row with equal values and another id, or -1); a ``picture`` of the values; and the attr
        ``findings``, which :func:`findings` shows as a table. Where labels are wrong, the values are not read.

    Raises
    ------
    SchemaError
        It is no DataArray at all.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.simulate(n_stimuli=20, random_state=0).fmri.copy(deep=True)
    >>> x[:, 3] = 0.0
    >>> findings(check(x))[["severity", "check", "n"]].values.tolist()
    [['warning', 'constant neuroids', 1]]
    """
    if not isinstance(x, xr.DataArray):
        raise SchemaError(f"check got a {type(x).__name__}. Expected responses: a DataArray, (presentation, neuroid[, time]).")
    max_memory = check_number("max_memory", max_memory, owner="check", low=1, integer=True)
    problems = label_problems(x)
    if problems:
        return _result(x, xr.Dataset(), [_as_error("labels", text, 1) for text in problems])
    facts, picture = _read(x, max_memory)
    errors = [
        _as_error("values that are not finite", text, int((facts.n_bad > 0).sum())) for text in value_problems(x, facts.n_bad > 0)
    ]
    table = _table(x, facts, picture)
    found = [*errors, *of_labels(x, stimuli, count_repetitions), *of_values(x, table, facts.all_whole), *of_timing(x, stimuli)]
    return _result(x, table, found)


def findings(result: xr.Dataset) -> pd.DataFrame:
    """Return what :func:`check` found.

    Parameters
    ----------
    result : Dataset
        Of :func:`check`.

    Returns
    -------
    DataFrame
        One row a finding: ``severity`` (error or warning), ``check``, ``n`` (how many), ``what``, ``where``, ``mend``. No row
        where nothing stands out.

    Raises
    ------
    ParameterError
        It is no result of :func:`check`.

    Examples
    --------
    >>> import brainalign as ba
    >>> len(findings(check(ba.simulate(n_stimuli=20, random_state=0).fmri)))
    0
    """
    if "findings" not in getattr(result, "attrs", {}):
        raise ParameterError(
            f"findings got a {type(result).__name__} that `ba.reports.check` did not make. Expected its result: "
            "`ba.reports.findings(ba.reports.check(x))`."
        )
    return pd.DataFrame(json.loads(result.attrs["findings"]), columns=list(Finding.__dataclass_fields__))


def _read(x: xr.DataArray, max_memory: int) -> tuple[ColumnFacts, np.ndarray[Any, Any]]:
    """Take in every block once."""
    facts = ColumnFacts(x.shape)
    rows, columns = (np.unique(np.linspace(0, n - 1, min(n, _PICTURE)).astype(int)) for n in x.shape[:2])
    picture = np.full((rows.size, columns.size), np.nan)
    width = max(1, min(x.shape[1], max_memory // (_COPIES * x.dtype.itemsize * int(np.prod(x.shape[2:])))))
    units = [slice(start, min(x.shape[1], start + width)) for start in range(0, x.shape[1], width)]
    tiles = plan_tiles(x.data, units, step=1, budget=max(max_memory // _COPIES, 1), owner="check")
    for at, band, block in read_tiles(x.data, tiles, n_workers=n_readers(x.data, max_memory // 4)):
        across = tiles.columns[band]
        facts.add(at, across, block)
        here, there = (rows >= at.start) & (rows < at.stop), (columns >= across.start) & (columns < across.stop)
        sampled = block[rows[here] - at.start][:, columns[there] - across.start]
        picture[np.ix_(here, there)] = sampled.reshape(*sampled.shape[:2], -1).mean(axis=-1)
    return facts, picture


def _table(x: xr.DataArray, facts: ColumnFacts, picture: np.ndarray[Any, Any]) -> xr.Dataset:
    varies = (facts.maximum > facts.minimum) & (facts.n_bad == 0)
    twins = same_as(facts.column_key, varies)
    status = np.full(x.shape[1], "ok", dtype=object)
    status[twins >= 0] = "duplicate"
    status[~(facts.maximum > facts.minimum)] = "constant"
    status[facts.n_bad > 0] = "not finite"
    ids = x.coords["stimulus_id"].values.astype(object)
    rows = same_as(facts.row_key, np.ones(x.shape[0], dtype=bool))
    rows[(rows >= 0) & (ids[rows] == ids)] = -1
    per_neuroid = {
        "minimum": facts.minimum, "maximum": facts.maximum, "mean": facts.mean, "sd": facts.sd, "n_not_finite": facts.n_bad,
        "n_at_minimum": facts.n_minimum[0], "n_at_maximum": facts.n_maximum[0], "twin": twins,
        "n_next_minimum": facts.n_minimum[1], "n_next_maximum": facts.n_maximum[1],
    }  # fmt: skip
    coords = {name: coord for name, coord in x.coords.items() if "time" not in coord.dims}
    table = xr.Dataset({name: ("neuroid", values) for name, values in per_neuroid.items()}, coords=coords)
    table["same_as"], table["picture"] = ("presentation", rows), (("picture_row", "picture_column"), picture)
    return table.assign_coords(status=("neuroid", as_labels(status)))


def _as_error(name: str, text: str, n: int) -> Finding:
    what, _, mend = text.partition(" Expected ")
    return Finding("error", name, n, what, "", f"Expected {mend}" if mend else "")


def _result(x: xr.DataArray, table: xr.Dataset, found: list[Finding]) -> xr.Dataset:
    ordered = sorted(found, key=lambda finding: finding.severity != "error")
    keep = {name: x.attrs[name] for name in ("modality", "units", "provenance") if name in x.attrs}
    shape = " × ".join(f"{n:,} {dim}" for dim, n in x.sizes.items())
    return table.assign_attrs(**keep, shape=shape, findings=json.dumps([vars(finding) for finding in ordered]))
