"""What a reader must know before believing a result: what was dropped, left out, altered or leaked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.parameters import preview
from brainalign.core.provenance import all_steps, is_lazy, provenance
from brainalign.engine.moments import known_mean
from brainalign.engine.spread import directions, n_massive
from brainalign.reports.table import kind_of

FEW_NEUROIDS = 3
COMPLETENESS = 0.01
#: Reliability of a neuroid below which a score over its ceiling says little.
RELIABILITY_FLOOR = 0.1
#: Share of alphas at the end of their grid that is worth a word, and of all variance in one direction of ten features or more.
EDGE_SHARE, TOP_SHARE, FEW_FEATURES = 0.05, 0.5, 10
SHALLOW = 0.9  # share of the directions that a source could span
_ROWS, _VALUES = 512, 2**23  # of a recording in memory that are looked at


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
    if isinstance(result, xr.Dataset) and "verdict" in result:  # of a recovery study
        found += [result.attrs["verdict"], *map(str, result["verdict"].values.ravel().tolist())]
    if kind_of(result) == "responses" and not is_lazy(result):
        found += _lopsided(_facts_of(result), "recording")
    if kind_of(result) == "attribution" and result.attrs.get("completeness_error", 0.0) > COMPLETENESS:
        found.append(
            f"The attributions miss the response they explain by {result.attrs['completeness_error']:.1%}: raise `n_steps`."
        )
    reports = list(_reports(join_report(result)))
    if isinstance(result, xr.Dataset) and "score" in result:
        found += _of_controls(result, [report for _, report in reports])
    for prefix, report in reports:
        found += [f"{prefix}{text}" for text in (*_dropped(report), *_of_source(report.get("source_facts", {})))]
        found += [f"{prefix}Leak: {leak}." for leak in report.get("leaks", [])]
        found += [
            f"{prefix}{text}: at one time these are different samples, unless a baseline was subtracted."
            for text in report.get("shared_samples", [])
        ]
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


def decided(result: Any) -> pd.DataFrame:
    """Return which data touched which decision, as a result says it.

    Parameters
    ----------
    result : Dataset or DataArray

    Returns
    -------
    DataFrame
        Columns ``decision``, ``by``, ``data`` and ``held out``, and ``of`` where several systems were scored; empty where the
        result does not say.
    """
    rows = [
        {"of": prefix.removesuffix(": "), **{name.replace("_", " "): value for name, value in entry.items()}}
        for prefix, report in _reports(join_report(result))
        for entry in report.get("decisions", [])
    ]
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    table["held out"] = ["yes" if flag else "no" for flag in table["held out"]]
    return table if table["of"].any() else table.drop(columns="of")


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
    if "n_neuroids" in result.data_vars and result["n_neuroids"].dims:
        few = [str(name) for name, n in _by_label(result["n_neuroids"]) if n < FEW_NEUROIDS]
        if few:
            found.append(f"Fewer than {FEW_NEUROIDS} neuroids have a score in {preview(few, 5)}.")
    found += _gaps(result)
    if "n_undefined_folds" in result and int(result["n_undefined_folds"].max()) > 0:
        n = int((result["n_undefined_folds"] > 0).sum())
        found.append(f"{_count(n, 'score')} undefined in at least one fold; those folds were left out, not counted as 0.")
    if "ceiling" in result:
        found += _over_ceiling(result)
    return [*found, *_at_the_edge(result), *_best_of_many(result)]


def _gaps(result: xr.Dataset) -> list[str]:
    """Say of which source groups neuroids have no score that they have of others: their cells are of other neuroids."""
    if "score_neuroid" not in result or "status" not in result.coords:
        return []
    scores = result["score_neuroid"]
    rows = str(scores.dims[0])
    missing = np.isnan(scores.values[:, np.asarray(result["status"].values) == "ok"])
    gone = missing.reshape(len(missing), -1).any(axis=1)
    if not gone.any():
        return []
    return [
        f"{100 * missing.mean():.0f}% of the scores of neuroids are undefined, all of them from {preview(result[rows].values[gone], 3)}, "
        "whose cells are then of fewer neuroids than the others, or NaN. Where predictions do not vary, `alphas` are too high for that source."
    ]


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
    low = int((ceiling ** (1 if result.attrs.get("metric") == "r2" else 2) < RELIABILITY_FLOOR).sum())
    if low:
        found.append(
            f"{low} of {ceiling.size} ceilings stand on a reliability under {RELIABILITY_FLOOR}: what is divided by them is mostly noise."
        )
    if "score_normalized" in result:
        over = int((result["score_normalized"].values > 1).sum())
        if over:
            found.append(f"{_count(over, 'normalised score')} above 1 (noise of the estimate; nothing is clipped).")
    return found


def _at_the_edge(result: xr.Dataset) -> list[str]:
    """Alphas that were the smallest or the largest candidate."""
    if "alpha_at_edge" not in result:
        return []
    share = float(known_mean(result["alpha_at_edge"].values.ravel()))
    if not share > EDGE_SHARE:
        return []
    return [
        f"{share:.0%} of the chosen alphas lie at the end of their grid: widen `alphas`, or look for a source without signal."
    ]


def _best_of_many(result: xr.Dataset) -> list[str]:
    """Say of a grid, which invites to look for its best row, that this row was not chosen on other presentations."""
    sources = [str(dim) for dim in result["score"].dims if str(dim).startswith("source_") and result.sizes[dim] > 1]
    if not sources or result.attrs.get("choice") == "held out":
        return []
    name = sources[0].removeprefix("source_")
    return [
        f"The best {name} of each target is not held out: it was found on the presentations that score it. Report the whole table."
    ]


def _of_controls(result: xr.Dataset, reports: list[dict[str, Any]]) -> list[str]:
    """Say which controls are missing, failed, or are as good as the source."""
    failed = dict.fromkeys(name for report in reports for name in report.get("controls_failed", {}))
    found = [f"Controls that could not be scored: {preview(failed, 5)}; the report says why."] if failed else []
    if not any("folds" in report for report in reports):
        return found  # nothing was predicted
    if "score_control" not in result:
        return found or ["No control ran beside this score: nothing says what it is worth. Leave `controls` at 'auto'."]
    recorded = any(step["verb"] == "record" for step in all_steps(provenance(result, verify=False).steps))
    if recorded and not any(str(name).startswith("untrained") for name in result["control"].values):
        found.append(
            "No untrained network was given: `controls=ba.controls(stimuli, responder=...)` says what learning added to the score."
        )
    behind = result["score_minus_best_control"].values <= 0
    if behind.any():
        scores = result["score_control"].transpose("control", *result["score"].dims).fillna(-np.inf).values
        best = np.asarray(result["control"].values, dtype=object)[scores.argmax(axis=0)[behind]]
        names = ", ".join(f"{name} {n}" for name, n in zip(*np.unique(best, return_counts=True), strict=True))
        found.append(f"{int(behind.sum())} of {behind.size} scores are no higher than that of a control ({names}).")
    return found


def _of_source(facts: dict[str, Any]) -> list[str]:
    if not facts:
        return []
    found = _lopsided(facts, "source")
    if facts["n_directions"] < SHALLOW * min(facts["n_features"], facts["n_rows"] - 1):
        found.append(
            f"The source spans {facts['n_directions']} independent directions, with {facts['n_features']} features in "
            f"{facts['n_rows']} presentations: its width is not its richness."
        )
    if facts.get("n_known"):
        found.append(
            f"{facts['n_known']} tested presentations have exactly the source responses of a training presentation of another name: the same "
            "content twice? Give it one `stimulus_id`, or group the folds by content."
        )
    return found


def _lopsided(facts: dict[str, Any], what: str) -> list[str]:
    """Say where a few features, or one direction of them, are much larger than the rest."""
    found = []
    if facts.get("n_massive"):
        found.append(
            f"{_count(facts['n_massive'], 'feature')} over 100 times as large as is usual in the {what}: dot products, distances and "
            "correlations between patterns are made of little else. Scale the features, or look at them apart."
        )
    if facts.get("top_share", 0) > TOP_SHARE and facts.get("n_features", 0) >= FEW_FEATURES:
        found.append(
            f"One direction holds {facts['top_share']:.0%} of the variance of the {what}, which has {facts['n_features']} features: distances are "
            "of little else, whatever the others tell. Scale or whiten before comparing geometries."
        )
    return found


def _facts_of(x: xr.DataArray) -> dict[str, Any]:
    rows = np.unique(np.linspace(0, len(x) - 1, min(len(x), _ROWS, max(2, _VALUES // x[0].size))).astype(np.int64))
    values = np.asarray(x.values[rows], dtype=np.float64)
    flat = np.moveaxis(values, 1, -1).reshape(-1, x.shape[1])
    known = flat[:, np.isfinite(flat).all(axis=0)]
    return {"n_features": x.shape[1], "top_share": directions(known)[1], "n_massive": n_massive(known)}


def _count(n: int, noun: str) -> str:
    return f"1 {noun} is" if n == 1 else f"{n} {noun}s are"


def _by_label(x: xr.DataArray) -> list[tuple[Any, Any]]:
    return list(zip(x[x.dims[0]].values.tolist(), x.values.tolist(), strict=True))
