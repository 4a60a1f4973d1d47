"""How often noise passes, and how often a planted effect does: for each p-value that a verb returns, on data where the truth is known.

As a script, ``python tests/scores/test_calibration.py docs/calibration.md`` runs the same cases at full size and writes their table;
further arguments are parts of names, and only those rows are run and replaced. Cases are in ``calibration_*.py`` beside the tests.
"""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

LEVEL, CONFIDENCE = 0.05, 0.999
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
HEAD = ["| data | null p-values | p ≤ .05 on noise | 99.9% band | p ≤ .05 on the planted effect |", "|---|---|---|---|---|"]


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


def passed(case: Case, effect: float, n_calls: int, draws: int) -> np.ndarray:
    """Return which p-values pass at the level."""
    return np.concatenate([case.run(seed, effect, draws) for seed in range(n_calls)]) <= LEVEL


def band(n: int) -> tuple[float, float]:
    """Return between which shares of n null sets a calibrated test lies, with 99.9% confidence."""
    low, high = binom.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n, LEVEL) / n
    return float(low), float(high)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_noise_passes_as_often_as_it_should_and_effects_do(name):
    case = CASES[name]
    null = passed(case, 0.0, QUICK[name], 99)
    low, high = band(len(null))
    assert low <= null.mean() <= high
    assert passed(case, case.effect, max(2, QUICK[name] // 4), 99).mean() >= 0.8


def row(name: str) -> str:
    """Return the line of one case at full size."""
    case = CASES[name]
    null = passed(case, 0.0, case.n_calls, 199)
    power = passed(case, case.effect, max(2, case.n_calls // 10), 199)
    low, high = band(len(null))
    wanted = f"at most {high:.3f}" if case.bound else f"{low:.3f} to {high:.3f}"
    return f"| {name} | {len(null)} | {null.mean():.3f} | {wanted} | {power.mean():.2f} |"


def main(page: str, *parts: str) -> None:
    """Run every case at full size, or those with a part in their names, and replace what stands between the two marks of the page."""
    text = Path(page).read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    table, _, tail = rest.partition(END)
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in table.strip().splitlines()} if parts else {}
    for name in CASES:
        if not parts or any(part in name for part in parts):
            lines[name] = row(name)
            print(lines[name], flush=True)
    rows = [*HEAD, *(lines[name] for name in CASES if name in lines)]
    Path(page).write_text(f"{head}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
