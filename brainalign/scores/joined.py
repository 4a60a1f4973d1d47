"""One result of several: those of the systems in a dict, side by side."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.grids import grid_of
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of


def join_results(parts: dict[str, xr.Dataset], side: str, dim: Any, *, verb: str = "evaluate") -> xr.Dataset:
    """Join the results of several systems; what was dropped from each, and how each was made, stays in report and provenance.

    Parameters
    ----------
    parts : dict of str to Dataset
    side : {"source", "target"}
        Which side the systems are on; their neuroid labels are brought together for targets.
    dim : str or Variable
        What to join along.
    verb : str
        Who asked, for provenance and messages.

    Returns
    -------
    Dataset

    Raises
    ------
    ParameterError
        There are none.
    """
    if not parts:
        raise ParameterError(f"{verb} got an empty dict as its {side}. Expected at least one responses array by name.")
    results = list(parts.values())
    if any(part.fold.values.tolist() != results[0].fold.values.tolist() for part in results):
        results = [part.assign_coords(fold=np.arange(part.sizes["fold"])) for part in results]  # their folds share no names
    if side == "target":
        results = _with_the_same_labels(list(results))
    out = xr.concat(results, dim, data_vars="all", coords="different", compat="equals", join="outer", combine_attrs="override")
    if len({grid_of(part) for part in parts.values()}) > 1:  # the first one's would misplace the others
        out.neuroid_id.attrs.pop("grid", None)
    out.attrs["report"] = json.dumps({"each": {name: json.loads(part.attrs["report"]) for name, part in parts.items()}})
    return write_step(out, verb, params={"each": side}, inputs=parts)


def _with_the_same_labels(results: list[xr.Dataset]) -> list[xr.Dataset]:
    """Give each result the neuroid labels that any has: where a system lacks one, text is empty and a number is NaN."""
    tables = [coords_of(part, "neuroid") for part in results]
    for name in dict.fromkeys(name for table in tables for name in table):
        kinds = {table[name].dtype.kind if name in table else "" for table in tables}
        if len(kinds) == 1:
            continue
        text = not kinds <= {"", "b", "i", "u", "f"}  # ids may be text in one system and integers in another
        for i, table in enumerate(tables):
            values = table.get(name, np.full(results[i].sizes["neuroid"], "" if text else np.nan))
            labels = as_labels([str(value) for value in values.tolist()] if text else values.astype(np.float64))
            results[i] = results[i].assign_coords({name: ("neuroid", labels)})
    return results
