"""Region time courses from text tables: a row a volume, a column a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from brainalign.adapters.delimited import numeric_columns, read_table, require_columns, sniff
from brainalign.adapters.files import Format, check_finite, naming, narrowed, record_opening
from brainalign.adapters.fmri.runs import LONGEST_TR_S, run_files, run_names, run_rows
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.responses import responses


def open_timecourses(
    path: Any,
    *,
    tr_s: float,
    system: str,
    regions: Sequence[str] | None = None,
    run: str | Sequence[str] | None = None,
    first_onset_s: float = 0.0,
    subject: str | None = None,
    session: str | None = None,
    units: str | None = None,
    delimiter: str | None = None,
    allow_nan: bool = False,
) -> xr.DataArray:
    """Open one or more tables of region time courses.

    Parameters
    ----------
    path : str, Path or list of them
        Text tables, rows are volumes and columns are regions; several are runs of one person.
    tr_s : float, seconds
        Time from one volume to the next, less than 50.
    system : str
        Whose brain this is.
    regions : sequence of str, optional
        Names of the columns, required where the file has no header; where it has one, which columns to take.
    run : str or sequence of str, optional
        Names of the runs, one a file. Default: the ``run-`` entity of each file name; ``"1"`` for a single file.
    first_onset_s : float, seconds
        When the first row was recorded, on the clock of the stimuli: 20.0 where ten volumes of 2 s were cut off.
    subject, session : str, optional
    units : str, optional
        Physical unit of the values.
    delimiter : str, optional
        Default: found by content.
    allow_nan : bool
        NaN (or ``n/a``) is declared.

    Returns
    -------
    DataArray of float32, (presentation, neuroid)
        ``stimulus_id`` is ``run-<run>/v<row>``; ``onset_s`` is ``first_onset_s + row * tr_s``. ``neuroid_id`` and ``region``
        are the names of the columns. A constant column opens as it is.

    Raises
    ------
    FormatError
        Damaged table, missing column, a cell that is no number, undeclared NaN, runs with different regions.
    ParameterError
        Columns without names, or runs without names.
    """
    step = check_number("tr_s", tr_s, owner="open_timecourses", low=0, low_open=True, high=LONGEST_TR_S)
    start = check_number("first_onset_s", first_onset_s, owner="open_timecourses")
    files = run_files(path)
    names = run_names(run, files)
    tables = [_read(file, regions, delimiter, allow_nan) for file in files]
    columns = tables[0][0]
    for file, (other, _) in zip(files, tables, strict=True):
        if other != columns:
            raise FormatError(
                f"{str(file)!r} has the regions {other}, and {str(files[0])!r} has {columns}. Runs must hold the same regions in the "
                "same order: choose them with `regions=`."
            )
    ids, rows = run_rows(names, [len(values) for _, values in tables], step, start, {"subject": subject, "session": session})
    with naming(repr(files[0].name)):
        x = responses(
            np.concatenate([values for _, values in tables]), stimulus_id=ids, neuroid_id=columns, region=columns, sampling_rate_hz=1.0 / step, system=system, modality="fmri", units=units,
            presentation=rows, allow_nan=allow_nan,
        )  # fmt: skip
    params = {"tr_s": step, "first_onset_s": start, "regions": columns, "run": names, "index_base": 0, "scale": 1.0}
    return record_opening(x, "timecourses", [file.name for file in files], params)


def _read(file: Path, regions: Sequence[str] | None, delimiter: str | None, allow_nan: bool) -> tuple[list[str], np.ndarray]:
    table, source = read_table(file, delimiter=delimiter), str(file)
    if isinstance(table.columns[0], str):
        columns = list(table.columns) if regions is None else list(regions)
        require_columns(table, columns, source)
        table = table[columns]
    elif regions is None:
        raise ParameterError(f"{source!r} has {table.shape[1]} columns and no header. Name them, in order, with `regions=[...]`.")
    elif len(regions) != table.shape[1]:
        raise ParameterError(
            f"`regions` names {len(regions)} columns, {list(regions)}. {source!r} has {table.shape[1]}: name each of them."
        )
    else:
        table = table.set_axis(list(regions), axis=1)
    values = numeric_columns(table, table.columns, source)
    check_finite(values, source, list(table.columns), allow_nan)
    return [str(name) for name in table.columns], narrowed(values, np.float32, source)


def _matches(source: Any) -> str:
    """Text with numbers only under the header, that names neither stimuli nor events, and is no list of spike times."""
    look = sniff(source)
    if look is None:
        return ""
    header, rows = look
    if header is not None and {"stimulus_id", "onset", "onset_s"} & {name.lower() for name in header}:
        return ""
    if len(rows) < 2 or np.isnan(rows).all(axis=0).any():
        return ""
    steps = np.diff(rows[:, 0])
    if rows.shape[1] == 1 and (steps >= 0).all() and steps.any():
        return ""  # spike times
    return "it is a text table of numbers, a row a volume"


adapter = Format("timecourses", _matches, open_timecourses)
