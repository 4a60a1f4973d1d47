"""Write the benchmark table of the documentation: python tests/benchmarks/write_table.py RESULTS.json PAGE.md."""

import json
import sys
from pathlib import Path

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def machine(info: dict) -> str:
    """Return the machine in one line, without its name."""
    cpu = info.get("cpu", {})
    brand = cpu.get("brand_raw", info.get("processor") or "unknown processor")
    return f"{brand}, {cpu.get('count', '?')} cores, {info['system']} {info['machine']}, Python {info['python_version']}"


def table(results: dict) -> str:
    """Return the measurements as a Markdown table, one row a benchmark."""
    rows = ["| benchmark | median | spread (IQR) | rounds | also recorded |", "|---|---|---|---|---|"]
    for bench in sorted(results["benchmarks"], key=lambda bench: bench["fullname"]):
        extra = "; ".join(f"{name}: {value}" for name, value in bench["extra_info"].items())
        stats = bench["stats"]
        name = bench["name"].removeprefix("test_").replace("_", " ")
        rows.append(f"| {name} | {1e3 * stats['median']:.4g} ms | {1e3 * stats['iqr']:.2g} ms | {stats['rounds']} | {extra} |")
    return "\n".join([f"Measured on {results['datetime'][:10]}: {machine(results['machine_info'])}.", "", *rows])


def main(source: str, page: str) -> None:
    """Replace what stands between the two marks of the page."""
    text = Path(page).read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    measured = table(json.loads(Path(source).read_text(encoding="utf-8")))
    Path(page).write_text(f"{head}{BEGIN}\n{measured}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
