"""How often noise passes, and how often a planted effect does: for each p-value that a verb returns, on data where the truth is known.

As a script, ``python tests/scores/test_calibration.py docs/calibration.md -j 8`` runs the same cases at full size in eight processes and
writes their table; further arguments are parts of names, and only those rows are run and replaced. A case that raises, as for want of a
package, is said to, and keeps its row. Cases are in ``calibration_*.py`` beside the tests.
"""

import argparse
import importlib.util
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

LEVEL, CONFIDENCE = 0.05, 0.999
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
HEAD = [
    "| data | null p-values | p ≤ .05 on noise | 99.9% band | p ≤ .05 on the planted effect | of |",
    "|---|---|---|---|---|---|",
]
PIECE_S = 5.0  # what one process is given at a time


@dataclass(frozen=True)
class Case:
    """What is run, how often for 500 null sets or more, the effect that is planted, and whether no more than its share may pass."""

    run: Callable[[int, float, int], np.ndarray]
    n_calls: int
    effect: float
    bound: bool = False


def found() -> tuple[dict[str, Case], dict[str, int]]:
    """Return the cases of all files, and how often those run that go with the tests."""
    cases, quick = {}, {}
    for path in sorted(Path(__file__).parents[1].glob("*/calibration_*.py"), key=lambda path: (path.parts[-2] != "scores", path)):
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        cases |= {name: Case(*parts) for name, parts in module.CASES.items()}
        quick |= module.QUICK
    return cases, quick


CASES, QUICK = found()


def passed(case: Case, effect: float, seeds: range, draws: int) -> np.ndarray:
    """Return which p-values pass at the level."""
    return np.concatenate([case.run(seed, effect, draws) for seed in seeds]) <= LEVEL


def band(n: int) -> tuple[float, float]:
    """Return between which shares of n null sets a calibrated test lies, with 99.9% confidence."""
    low, high = binom.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n, LEVEL) / n
    return float(low), float(high)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_noise_passes_as_often_as_it_should_and_effects_do(name):
    case = CASES[name]
    null = passed(case, 0.0, range(QUICK[name]), 99)
    low, high = band(len(null))
    assert low <= null.mean() <= high
    assert passed(case, case.effect, range(max(2, QUICK[name] // 4)), 99).mean() >= 0.8


def test_a_page_keeps_the_rows_that_are_not_run_and_names_those_that_never_were():
    first, second, third = (f"`verb`: {name}" for name in ("first", "second", "third"))
    page = f"text\n{BEGIN}\n| {second} | old |\n| `verb`: dropped | old |\n{END}\nrest\n"
    written = with_table(page, {first: f"| {first} | new |"}, [first, second, third])
    table = [*HEAD, f"| {first} | new |", f"| {second} | old |"]
    assert written == "\n".join(["text", BEGIN, *table, "", f"Not run yet: {third}.", END, "rest", ""])
    assert with_table(written, {}, [first, second, third]) == written


def piece(name: str, effect: float, seeds: range) -> tuple[np.ndarray, float]:
    """Return which p-values of some seeds pass, and the seconds it took."""
    start = time.process_time()
    return passed(CASES[name], effect, seeds, 199), time.process_time() - start


def row(name: str, null: np.ndarray, power: np.ndarray, version: str) -> str:
    """Return the line of one case."""
    low, high = band(len(null))
    wanted = f"at most {high:.3f}" if CASES[name].bound else f"{low:.3f} to {high:.3f}"
    return f"| {name} | {len(null)} | {null.mean():.3f} | {wanted} | {power.mean():.2f} | {version} |"


def rows(names: list[str], jobs: int, version: str) -> Iterator[tuple[str, str]]:
    """Run cases at full size in pieces, the longest first, after one call of each to see how long they are; yield their lines."""
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")  # of the processes to come
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:

        def pieces(name: str, effect: float, n_calls: int, seconds: float) -> list[Future[tuple[np.ndarray, float]]]:
            step = max(1, int(PIECE_S / max(seconds, 1e-3)))
            return [pool.submit(piece, name, effect, range(n_calls)[k : k + step]) for k in range(0, n_calls, step)]

        calls, cost = {name: pool.submit(piece, name, 0.0, range(1)) for name in names}, {}
        for name, call in calls.items():
            if call.exception() is None:
                cost[name] = call.result()[1]
            else:
                print(f"{name} is left out: {call.exception()!r}", flush=True)
        parts = {}
        for name in sorted(cost, key=lambda name: -cost[name] * CASES[name].n_calls):
            case = CASES[name]
            asked = ((0.0, case.n_calls), (case.effect, max(2, case.n_calls // 10)))
            parts[name] = [pieces(name, effect, n_calls, cost[name]) for effect, n_calls in asked]
        for name, both in parts.items():
            try:
                null, power = (np.concatenate([part.result()[0] for part in some]) for some in both)
            except Exception as error:
                print(f"{name} is left out: {error!r}", flush=True)
            else:
                yield name, row(name, null, power, version)


def with_table(page: str, found: dict[str, str], names: list[str]) -> str:
    """Return the page with new lines in its table, between the two marks, and names of which it has none below it."""
    head, _, rest = page.partition(BEGIN)
    table, _, tail = rest.partition(END)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.splitlines()} | found
    missing = [name for name in names if name not in lines]
    below = ["", f"Not run yet: {'; '.join(missing)}."] if missing else []
    return "\n".join([head + BEGIN, *HEAD, *(lines[name] for name in names if name in lines), *below, END + tail])


def main() -> None:
    """Run every case at full size, or those with a part in their names, and replace their rows of the page as they come."""
    describe = ["git", "describe", "--always", "--dirty"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("parts", nargs="*", help="parts of names of the cases to run")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="processes")
    parser.add_argument("--version", help="of what the rows are said to be; default what git says")
    asked = parser.parse_intermixed_args()
    version = asked.version or subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    names = [name for name in CASES if not asked.parts or any(part in name for part in asked.parts)]
    found: dict[str, str] = {}
    for name, line in rows(names, asked.jobs, version):
        found[name] = line
        print(line, flush=True)
        asked.page.write_text(with_table(asked.page.read_text(encoding="utf-8"), found, list(CASES)), encoding="utf-8")
    if len(found) < len(names):
        raise SystemExit(f"{len(names) - len(found)} of {len(names)} cases were left out.")


if __name__ == "__main__":
    main()
