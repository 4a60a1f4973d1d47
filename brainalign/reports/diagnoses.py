"""What a reader must know before believing a result: what was dropped, left out, altered or leaked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.parameters import preview
from brainalign.core.provenance import provenance
from brainalign.reports.table import kind_of

FEW_NEUROIDS = 3
COMPLETENESS = 0.01


def diagnose(result: Any) -> list[str]:
    """List what a reader should know of a result before believing it.

    Parameters
    ----------
    result : Dataset, DataArray or DataFrame

    Returns
    -------
    list of str
        One sentence each; empty where nothing stands out.

    Examples
    --------
    >>> diagnose(xr.Dataset({"score": ("neuroid", [0.1, np.nan])}, coords={"status": ("neuroid", ["ok", "constant"])}))
    ['1 of 2 neuroids has no score: 1 constant.']
    """
    if not isinstance(result, (xr.Dataset, xr.DataArray)):
        return []
    found = _scores(result) if isinstance(result, xr.Dataset) and "score" in result else []
    if kind_of(result) == "attribution" and result.attrs.get("completeness_error", 0.0) > COMPLETENESS:
        found.append(
            f"The attributions miss the response they explain by {result.attrs['completeness_error']:.1%}: raise `n_steps`."
        )
    for prefix, report in _reports(join_report(result)):
        found += [f"{prefix}{text}" for text in _dropped(report)]
        found += [f"{prefix}Leak: {leak}." for leak in report.get("leaks", [])]
        if _forced(report):
            found.append(f"{prefix}The folds were forced: related presentations may lie on both sides of a split.")
    if provenance(result).altered:
        found.append("The values were altered after the last recorded step.")
    return found


def join_report(result: Any) -> dict[str, Any]:
    """Return what a pair verb wrote about joining, repeats, folds and leaks.

    Parameters
    ----------
    result : Dataset or DataArray

    Returns
    -------
    dict
        Empty where the result has none.
    """
    text = getattr(result, "attrs", {}).get("report", "{}")
    return dict(json.loads(text)) if isinstance(text, str) else {}


def _reports(report: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the report, or those of the systems that were scored in one call, each with what to put before its sentences."""
    if "each" not in report:
        yield prefix, report
    for name, part in report.get("each", {}).items():
        yield from _reports(part, f"{prefix}{name}: ")


def _dropped(report: dict[str, Any]) -> list[str]:
    """Say which presentations or stimuli had no counterpart on the other side."""
    found = []
    for side in ("source", "target"):
        counts = report.get("join", {}).get(side, {})
        if isinstance(counts, dict) and counts.get("n_dropped_presentations"):
            ids = f" ({counts['n_dropped_ids']} ids without a counterpart)" if counts.get("n_dropped_ids") else ""
            found.append(f"{counts['n_dropped_presentations']} presentations of the {side} were dropped{ids}.")
        if report.get(f"{side}_only"):
            found.append(f"{report[f'{side}_only']} stimuli of the {side} have no counterpart and were left out.")
    return found


def _forced(report: dict[str, Any]) -> bool:
    return bool(report.get("folds", {}).get("forced"))


def _scores(result: xr.Dataset) -> list[str]:
    found = []
    if "neuroid" in result.dims:
        found += _left_out(result)
    if "n_neuroids" in result:
        few = [str(name) for name, n in _by_label(result["n_neuroids"]) if n < FEW_NEUROIDS]
        if few:
            found.append(f"Fewer than {FEW_NEUROIDS} neuroids have a score in {preview(few, 5)}.")
    if "n_undefined_folds" in result and int(result["n_undefined_folds"].max()) > 0:
        n = int((result["n_undefined_folds"] > 0).sum())
        found.append(f"{_count(n, 'score')} undefined in at least one fold; those folds were left out, not counted as 0.")
    if "ceiling" in result:
        found += _over_ceiling(result)
    return found


def _left_out(result: xr.Dataset) -> list[str]:
    if "status" not in result.coords:
        return []
    status = np.asarray(result["status"].values, dtype=object)
    bad = status[status != "ok"]
    if not bad.size:
        return []
    kinds = ", ".join(f"{int((bad == kind).sum())} {kind}" for kind in dict.fromkeys(bad.tolist()))
    return [f"{bad.size} of {status.size} neuroids {'has' if bad.size == 1 else 'have'} no score: {kinds}."]


def _over_ceiling(result: xr.Dataset) -> list[str]:
    ceiling = result["ceiling"].values
    missing = int(np.isnan(ceiling).sum())
    found = [f"{missing} of {ceiling.size} ceilings could not be estimated."] if missing else []
    if "score_normalized" in result:
        over = int((result["score_normalized"].values > 1).sum())
        if over:
            found.append(f"{_count(over, 'normalised score')} above 1 (noise of the estimate; nothing is clipped).")
    return found


def _count(n: int, noun: str) -> str:
    return f"1 {noun} is" if n == 1 else f"{n} {noun}s are"


def _by_label(x: xr.DataArray) -> list[tuple[Any, Any]]:
    return list(zip(x[x.dims[0]].values.tolist(), x.values.tolist(), strict=True))
