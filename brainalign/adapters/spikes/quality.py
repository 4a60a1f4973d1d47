"""Which units are good enough: explicit cuts on the columns of a table of units, and how many each leaves."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview

_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_RULE = re.compile(r"(<=|>=|<|>)\s*(.+)")


def good_units(
    table: Mapping[str, Any], quality: Mapping[str, Any] | None, n_units: int, source: str
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return which units pass every cut, and how many were left after each.

    Parameters
    ----------
    table : mapping of str to ndarray (unit,)
    quality : mapping of column to rule, optional
        ``{"isi_violations": "<0.5", "quality": "good", "label": 1}``: a comparison with a number, or the value itself. A unit
        whose value is missing (NaN) fails.
    n_units : int
    source : str
        For the messages.

    Returns
    -------
    (ndarray of bool (unit,), list of dict)
        ``[{"column": ..., "rule": ..., "n_left": ...}]``, in the order of the cuts.

    Raises
    ------
    FormatError
        There is no such column; those that are there are listed.
    ParameterError
        A rule that is none, or a comparison with text.
    """
    keep, report = np.ones(n_units, dtype=bool), []
    for column, rule in (quality or {}).items():
        if column not in table:
            raise FormatError(
                f"{source} has no column {column!r} to judge units by. Its columns are {preview(table, 40)}.{did_you_mean(column, table)}"
            )
        keep &= _passes(np.asarray(table[column]), column, rule, source)
        report.append({"column": column, "rule": rule, "n_left": int(keep.sum())})
    return keep, report


def refuse_none(report: list[dict[str, Any]], n_units: int, source: str) -> None:
    """Refuse cuts that leave no unit at all.

    Parameters
    ----------
    report : list of dict
        As :func:`good_units` returns it.
    n_units : int
    source : str
        For the message.

    Raises
    ------
    ParameterError
        None was left.
    """
    if report and not report[-1]["n_left"]:
        steps = ", ".join(f"{step['column']} {step['rule']} ({step['n_left']} left)" for step in report)
        raise ParameterError(f"quality= leaves none of {n_units} units of {source}: {steps}. Expected at least one: relax a cut.")


def _passes(values: np.ndarray, column: str, rule: Any, source: str) -> np.ndarray:
    match = _RULE.fullmatch(rule.strip()) if isinstance(rule, str) else None
    if match is None:
        return np.array([value == rule for value in values.tolist()], dtype=bool)
    sign, text = match.groups()
    try:
        limit = float(text)
    except ValueError as error:
        raise ParameterError(
            f"quality={{{column!r}: {rule!r}}} compares with {text!r}. Expected a number, such as '<0.5'."
        ) from error
    if values.dtype.kind not in "iufb":
        raise ParameterError(
            f"quality={{{column!r}: {rule!r}}} compares text: {source} has {preview(values)} there. Expected one of these values."
        )
    return np.asarray(_COMPARE[sign](values.astype(np.float64), limit))
