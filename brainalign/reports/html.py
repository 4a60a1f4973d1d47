"""``report``: results as one HTML file that needs nothing else, to be read, sent and kept."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import preview
from brainalign.core.provenance import provenance, versions
from brainalign.reports import figures, geometryfigures, selectivityfigures
from brainalign.reports.claims import claim_of, evidence
from brainalign.reports.datacheck import findings
from brainalign.reports.datafigures import pictures
from brainalign.reports.diagnoses import decided, diagnose, join_report
from brainalign.reports.drawing import house_style, in_words
from brainalign.reports.exemplarfigures import exemplar_panel
from brainalign.reports.figures import TIMES
from brainalign.reports.table import beside, kind_of, summary, tidy
from brainalign.reports.timefigures import TWO_TIMES
from brainalign.reports.writing import write_whole

MAX_TABLE_ROWS = 60
CSS = """
:root { --ink: #222; --soft: #667; --line: #dde; --wash: #f6f7f9; --warn: #8a4b00; --warnwash: #fff6e8; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink); max-width: 62rem;
       margin: 2.5rem auto 5rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.6rem 0 .3rem; padding-top: .9rem;
       border-top: 1px solid var(--line); }
.soft, figcaption, nav { color: var(--soft); font-size: .87rem; } nav a { color: inherit; margin-right: 1.1rem; }
figure { display: inline-block; margin: .8rem 1.2rem .4rem 0; vertical-align: top; max-width: 100%; }
figure img { max-width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .85rem; margin: .6rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .18rem .7rem .18rem 0; text-align: left; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; } td.number, th.number { text-align: right; }
.wide { overflow-x: auto; } ul.notes { background: var(--warnwash); color: var(--warn); border-left: 3px solid #e6a23c;
       padding: .5rem 1rem .5rem 2rem; margin: .7rem 0; font-size: .9rem; }
details { margin: .35rem 0; } summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
pre { background: var(--wash); padding: .7rem .9rem; overflow-x: auto; font-size: .78rem; line-height: 1.45; }
"""


def report(
    results: Any, path: str | os.PathLike[str], *, title: str = "brainalign report", description: str | None = None
) -> Path:
    """Write results as one self-contained HTML file: figures, tables, what was dropped, warnings and provenance.

    Parameters
    ----------
    results : result, sequence of results, or mapping of str (heading) to result
        Results of any verb (scores per neuroid, grids, RDMs, attributions, responses), DataFrames, matplotlib figures and
        paragraphs of text, in the order in which they are to appear.
    path : path-like
        Written whole or not at all; a file of that name is replaced.
    title, description : str
        Like every other text, escaped.

    Returns
    -------
    Path
        Where the file is, absolute.

    Raises
    ------
    ParameterError
        Something in ``results`` cannot be shown, there is nothing to show, or ``path`` cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> result = xr.Dataset({"score": ("neuroid", [0.1, 0.3])}, coords={"region": ("neuroid", ["V1", "V1"])})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = report({"Encoding": result}, folder + "/report.html")
    ...     "Encoding" in path.read_text(encoding="utf-8")
    True
    """
    items = _items(results)
    headings = [name or _heading(item) for name, item in items]
    sections = [_section(i, heading, item) for i, (heading, (_, item)) in enumerate(zip(headings, items, strict=True))]
    links = "".join(f'<a href="#s{i}">{escape(heading)}</a>' for i, heading in enumerate(headings))
    stamp = f"brainalign {versions(('brainalign',))['brainalign']} · {datetime.now(UTC).isoformat(sep=' ', timespec='minutes')}"
    page = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{CSS}</style></head><body>',
        f'<h1>{escape(title)}</h1><p class="soft">{escape(stamp)}</p>',
        f"<p>{escape(description)}</p>" if description else "",
        f"<nav>{links}</nav>" if len(items) > 1 else "",
        *sections,
        "</body></html>\n",
    ]
    return write_whole(Path(path), "\n".join(page).encode(), owner="report")


def _items(results: Any) -> list[tuple[str, Any]]:
    if isinstance(results, Mapping) and not isinstance(results, xr.Dataset):
        items = [(str(name), item) for name, item in results.items()]
    elif isinstance(results, Sequence) and not isinstance(results, str):
        items = [("", item) for item in results]
    else:
        items = [("", results)]
    if not items:
        raise ParameterError(f"report got {results!r}. Expected at least one result.")
    items = [(name, _unwrapped(item)) for name, item in items]
    for _, item in items:
        if not _is_drawn(item) and not isinstance(item, str):
            kind_of(item)
    return items


def _unwrapped(item: Any) -> Any:
    """Return the one array of a Dataset without scores: an RDM or an attribution that comes from a store."""
    if not isinstance(item, xr.Dataset) or "score" in item or len(item.data_vars) != 1:
        return item
    (array,) = item.data_vars.values()
    return array.assign_attrs(item.attrs | array.attrs)


def _is_drawn(item: Any) -> bool:
    return hasattr(item, "savefig")


def _heading(item: Any) -> str:
    if isinstance(item, str) or _is_drawn(item):
        return "Note" if isinstance(item, str) else "Figure"
    kind = kind_of(item)
    if kind == "grid" and isinstance(item, xr.Dataset):
        return " → ".join(in_words(str(dim)).partition(" (")[0] for dim in item["score"].dims if dim != "time")
    if kind == "values" and item.name:
        return str(item.name).replace("_", " ").capitalize()
    return "RDM" if kind == "rdm" else kind.capitalize()


def _section(number: int, heading: str, item: Any) -> str:
    parts = [f'<section id="s{number}"><h2>{escape(heading)}</h2>']
    if isinstance(item, str):
        parts += [f"<p>{escape(paragraph)}</p>" for paragraph in item.split("\n\n")]
    elif isinstance(item, pd.DataFrame):
        parts.append(_table(item))
    elif _is_drawn(item):
        parts.append(_figure(item, heading, ""))
    else:
        parts += _result(item, heading)
    return "\n".join([*parts, "</section>"])


def _result(item: Any, heading: str) -> list[str]:
    parts = [f'<p class="soft">{escape(_facts(item))}</p>']
    notes = diagnose(item)
    if notes:
        parts.append('<ul class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>")
    if claim_of(item):
        parts.append(_table(evidence(item)))
    controls = beside(item) if isinstance(item, xr.Dataset) else ()
    if len(controls):
        parts.append(_table(controls))
    drawn = [_figure(figure, heading, caption) for caption, figure in _figures(item)]
    listed = [_folded(label, _table(table)) if folded else _table(table) for label, table, folded in _tables(item)]
    parts += [*listed, *drawn] if kind_of(item) == "check" else [*drawn, *listed]  # findings before their pictures
    choices = decided(item)
    if len(choices):
        parts.append(_folded("Which data touched which decision", _table(choices)))
    joined = _flat(join_report(item))
    if joined:
        rows = pd.DataFrame({"": list(joined), "value": [str(value) for value in joined.values()]})
        parts.append(_folded("What was joined, dropped, averaged and split", _table(rows)))
    if "provenance" in item.attrs:
        parts.append(_folded("Provenance", f"<pre>{escape(_lineage(item))}</pre>"))
    return parts


def _figures(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield the figures that show a result of its kind, with captions."""
    kind = kind_of(item)
    if kind == "grid":
        dims = (item["score"] if isinstance(item, xr.Dataset) else item).dims
        sides = [dim for dim in dims if dim not in TIMES]
        if isinstance(item, xr.Dataset) and {"difference", "ceiling_low"} & set(item) and len(dims) == len(sides) <= 2:
            yield (
                "bars are intervals, the band is the noise ceiling; dots mark p ≤ .05, corrected",
                geometryfigures.comparison(item),
            )
        if isinstance(item, xr.Dataset) and any(set(dims) == set(pair) for pair in TWO_TIMES):
            yield "scores between all times; a contour surrounds p ≤ .05, corrected", figures.generalization(item)
        elif len(sides) == 2 and len(dims) - len(sides) < 2:
            yield "scores; the best source of each target is framed", figures.heatmap(item)
            if isinstance(item, xr.Dataset) and "score_normalized" in item:
                yield "scores over their noise ceiling", figures.heatmap(item, variable="score_normalized")
        if len(dims) - len(sides) == 1 and len(sides) <= 2:
            yield "over time; dots mark the peaks, lines at the foot p ≤ .05, corrected", figures.time_course(item)
    elif kind == "scores" and "category" in item["score"].dims:
        yield (
            "scores of every neuroid for every category; filled where p ≤ .05, corrected",
            selectivityfigures.selectivity_map(item),
        )
    elif kind == "scores" and "tuning" in item["score"].dims:
        if "time" not in item.dims:
            yield "mean responses, standard errors and fitted curves of the most certain", selectivityfigures.tuning_curves(item)
    elif kind == "scores":
        if "time" in item["score"].dims:
            yield "median and quartiles over time; dots mark the peaks", figures.time_course(item)
        else:
            yield "a dot per neuroid", figures.distribution(_one_a_neuroid(item))
        if "ceiling" in item:
            yield "score and noise ceiling", figures.score_vs_ceiling(item)
    elif kind == "rdm":
        yield "dissimilarity of each pair of stimuli", geometryfigures.rdm_panel(item)
        if item.ndim < 4 and np.isfinite(item.values).all():
            yield "stimuli where their dissimilarities put them", geometryfigures.stimulus_map(item)
    elif kind == "attribution" and item.ndim > 2:
        yield "red drives the response up, blue down", figures.attribution(item)
    elif kind == "neuroids":
        if item.get("stimulus_id", xr.DataArray()).dims == ("neuroid", "rank"):
            yield "the stimuli with the highest responses, which stand above them", exemplar_panel(item.isel(neuroid=slice(24)))
        first = next((x for x in item.data_vars.values() if x.dims == ("neuroid",) and x.dtype.kind == "f"), None)
        if first is not None:
            score = first.to_dataset(name="score").assign_attrs(metric=str(first.name))
            yield f"{str(first.name).replace('_', ' ')}, a dot per neuroid", figures.distribution(score)
    elif kind == "check":
        yield from pictures(item)
    elif kind == "values" and item.ndim == 1:
        yield (
            "a dot per neuroid",
            figures.distribution(item.to_dataset(name="score").assign_attrs(metric=item.attrs.get("units", ""))),
        )


def _one_a_neuroid(item: xr.Dataset) -> xr.Dataset:
    """Return the score of the best concept of each neuroid, where several have one."""
    if "label_score" in item:
        return item["label_score"].to_dataset(name="score")
    return item.isel(rank=0) if "rank" in item["score"].dims else item


def _tables(item: Any) -> list[tuple[str, pd.DataFrame, bool]]:
    """Return (label, table, whether it is folded away)."""
    kind = kind_of(item)
    if kind == "neuroids" or "label_score" in item:  # the scores of all concepts are many, and those of the labels say which
        rows = tidy(item if kind == "neuroids" else item.drop_dims("concept"))
        return [("Every neuroid", rows, len(rows) > MAX_TABLE_ROWS)]
    if kind in ("scores", "values"):
        by_group = summary(item)
        found = [("By group", by_group, len(by_group) > MAX_TABLE_ROWS)]
        rows = tidy(item)
        return [*found, ("Every score", rows, True)] if len(rows) <= 10 * MAX_TABLE_ROWS else found
    if kind == "grid":
        return [("Every score", tidy(item), True)]
    if kind == "check":
        return [("Findings", findings(item), False)]
    return []


def _facts(item: Any) -> str:
    """Return one line on what was computed from what."""
    facts = [item.attrs.get("shape") or " × ".join(f"{n:,} {in_words(str(dim))}" for dim, n in item.sizes.items())]
    if kind_of(item) == "check":
        facts.append(_count_of(len(findings(item)), "finding"))
    for name in ("metric", "aggregate", "units", "method", "baseline", "modality"):
        if item.attrs.get(name):
            facts.append(f"{name} {item.attrs[name]}")
    if "completeness_error" in item.attrs:
        facts.append(f"completeness error {float(item.attrs['completeness_error']):.1e}")
    if "system" in item.coords:
        facts.append("of " + preview(dict.fromkeys(map(str, np.atleast_1d(item["system"].values))), 5).replace("'", ""))
    steps = provenance(item, verify=False).steps
    if steps and steps[-1]["seed"] is not None:
        facts.append(f"seed {steps[-1]['seed']}")
    return " · ".join(facts)


def _count_of(n: int, noun: str) -> str:
    return f"1 {noun}" if n == 1 else f"{n or 'no'} {noun}s"


def _flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested report; entries that are empty or zero say nothing and are left out."""
    out: dict[str, Any] = {}
    for name, value in entries.items():
        if name == "decisions":  # they have a table of their own
            continue
        label = f"{prefix}{str(name).replace('_', ' ')}"
        if isinstance(value, Mapping):
            out |= _flat(value, f"{label}: ")
        elif value not in (None, [], "", {}, 0):  # nothing dropped: nothing to list
            text = json.dumps(value) if isinstance(value, list) else value
            out[label] = f"{text[:300]} …" if isinstance(text, str) and len(text) > 300 else text
    return out


def _lineage(item: Any) -> str:
    """Return the steps behind a result, inputs indented below the step that joined them."""
    found = provenance(item)
    state = {True: "values altered since the last step", False: "values as written", None: "values not checked (lazy)"}
    versions = found.steps[-1]["versions"] if found.steps else {}
    lines = [*_steps(found.steps, ""), "", f"fingerprint {found.fingerprint} ({state[found.altered]})"]
    return "\n".join([*lines, "versions: " + ", ".join(f"{name} {number}" for name, number in versions.items())])


def _steps(steps: Sequence[Mapping[str, Any]], indent: str) -> Iterator[str]:
    for step in steps:
        for name, inner in step.get("lineage", {}).items():
            yield f"{indent}{name}:"
            yield from _steps(inner, indent + "    ")
        params = ", ".join(f"{name}={value!r}" for name, value in step["params"].items() if value is not None)
        seed = "" if step["seed"] is None else f"  [seed {step['seed']}]"
        yield f"{indent}{step['time_utc']}  {step['verb']}({params[:600]}){seed}"


def _table(table: pd.DataFrame) -> str:
    shown = table.head(MAX_TABLE_ROWS)
    numeric = [pd.api.types.is_numeric_dtype(table[name]) and not pd.api.types.is_bool_dtype(table[name]) for name in table]
    classes = [' class="number"' if is_number else "" for is_number in numeric]
    head = "".join(f"<th{kind}>{escape(str(name).replace('_', ' '))}</th>" for kind, name in zip(classes, table, strict=True))
    rows = [
        "<tr>" + "".join(f"<td{kind}>{escape(_cell(value))}</td>" for kind, value in zip(classes, row, strict=True)) + "</tr>"
        for row in shown.itertuples(index=False, name=None)
    ]
    more = f'<p class="soft">first {len(shown)} of {len(table):,} rows</p>' if len(table) > len(shown) else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>{more}'


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "–" if np.isnan(value) else f"{value:.3f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3g}"
    return str(value)


def _folded(label: str, body: str) -> str:
    return f"<details><summary>{escape(label)}</summary>{body}</details>"


def _figure(figure: Any, heading: str, caption: str) -> str:
    stream = io.BytesIO()
    with house_style():
        figure.savefig(stream, format="svg", dpi=200, metadata={"Date": None})
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    alt = escape(f"{heading}: {caption}" if caption else heading, quote=True)
    return f'<figure><img src="data:image/svg+xml;base64,{data}" alt="{alt}"><figcaption>{escape(caption)}</figcaption></figure>'
