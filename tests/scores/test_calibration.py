"""How often noise passes, and how often a planted effect does: for each p-value that a verb returns, on data where the truth is known.

As a script, ``python tests/scores/test_calibration.py docs/calibration.md`` runs the same cases at full size and writes their table.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

import brainalign as ba

LEVEL, CONFIDENCE = 0.05, 0.999
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"


def sides(x, y, ids=None, **coords):
    ids = [f"s{i:04d}" for i in range(len(x))] if ids is None else ids
    source = ba.responses(x, stimulus_id=ids, neuroid_id=range(x.shape[1]), modality="ann", system="net", layer="l", **coords)
    return source, ba.responses(y, stimulus_id=ids, neuroid_id=range(y.shape[1]), modality="fmri", system="brain", **coords)


def autocorrelated(n_runs, length, columns, phi, rng):
    """Return independent first-order processes of unit variance, which start anew in each run."""
    x = rng.normal(size=(n_runs, length, columns))
    for i in range(1, length):
        x[:, i] = phi * x[:, i - 1] + np.sqrt(1 - phi**2) * x[:, i]
    return x.reshape(-1, columns)


def images(rng, n, effect):
    x = rng.normal(size=(80, 6))
    source, target = sides(x, rng.normal(size=(80, n)) + effect * x[:, :1])
    return source, target, {"cv": 5}


def repeated(rng, n, effect, repeats):
    x = np.repeat(rng.normal(size=(40, 6)), 3, axis=0)
    y = np.repeat(rng.normal(size=(40, n)), 3, axis=0) + rng.normal(size=(120, n)) + 1.5 * effect * x[:, :1]
    source, target = sides(x, y, ids=np.repeat([f"s{i:02d}" for i in range(40)], 3))
    return source, target, {"cv": 5, "repeats": repeats}


def unequal_groups(rng, n, effect):
    sizes = [6, 9, 15, 20, 30]
    means = np.repeat(rng.normal(size=(5, n)), sizes, axis=0)  # each session has its own level
    x = rng.normal(size=(80, 6))
    source, target = sides(x, rng.normal(size=(80, n)) + means + effect * x[:, :1], session=np.repeat(list("abcde"), sizes))
    return source, target, {"groups": "session"}


def in_runs(rng, n, effect, phi, n_runs=6, length=60):
    x, y = autocorrelated(n_runs, length, 4, phi, rng), autocorrelated(n_runs, length, n, phi, rng)
    coords = {"run": np.repeat([str(i) for i in range(n_runs)], length), "onset_s": np.tile(2.0 * np.arange(length), n_runs)}
    source, target = sides(x, y + effect * x[:, :1], **coords)
    return source, target, {"groups": "run"} if n_runs > 1 else {"cv": 5}


def one_run(rng, n, effect, phi):
    return in_runs(rng, n, effect, phi, n_runs=1, length=500)


CASES: dict[str, Callable[..., tuple]] = {
    "images, 5 folds": images,
    "images, three repeats averaged": lambda *a: repeated(*a, repeats="average"),
    "images, three repeats kept": lambda *a: repeated(*a, repeats="keep"),
    "sessions of 6 to 30 images, one left out": unequal_groups,
    **{f"6 runs, AR(1) φ = {phi:g}": (lambda *a, phi=phi: in_runs(*a, phi=phi)) for phi in (0.0, 0.5, 0.8, 0.95)},
    **{f"one run in blocks, AR(1) φ = {phi:g}": (lambda *a, phi=phi: one_run(*a, phi=phi)) for phi in (0.5, 0.95)},
}


def passed(case: str, effect: float, n_sets: int, n_permutations: int) -> Iterator[np.ndarray]:
    """Yield, for each data set, which of its neuroids pass at the level."""
    for seed in range(n_sets):
        source, target, options = CASES[case](np.random.default_rng(seed), 50, effect)
        result = ba.evaluate(source, target, model=ba.Ridge(cv=3), n_permutations=n_permutations, random_state=seed, **options)
        yield result.p_value.values <= LEVEL


def grid_passed(n_sets: int, n_permutations: int) -> Iterator[bool]:
    """Yield, for each data set of noise, whether any cell of a layers × regions grid passes."""
    for seed in range(n_sets):
        rng = np.random.default_rng(seed)
        source, target = sides(rng.normal(size=(60, 9)), rng.normal(size=(60, 12)))
        source = source.assign_coords(layer=("neuroid", np.repeat(list("abc"), 3).astype("T")))
        target = target.assign_coords(region=("neuroid", np.repeat(list("wxyz"), 3).astype("T")))
        options = {"model": ba.Ridge(alphas=[10.0]), "cv": 4, "n_permutations": n_permutations, "random_state": seed}
        yield bool((ba.compare(source, target, by=("layer", "region"), **options).p_value_max <= LEVEL).any())


def band(n: int) -> tuple[float, float]:
    """Return between which shares of n null sets a calibrated test lies, with 99.9% confidence."""
    low, high = binom.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n, LEVEL) / n
    return float(low), float(high)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["images, 5 folds", "images, three repeats kept", "6 runs, AR(1) φ = 0.8"])
def test_noise_passes_as_often_as_it_should_and_effects_do(case):
    null = np.concatenate(list(passed(case, 0.0, 10, 59)))
    low, high = band(len(null))
    assert low <= null.mean() <= high
    assert np.concatenate(list(passed(case, 0.6, 1, 59))).mean() >= 0.8


@pytest.mark.slow
def test_a_grid_of_noise_has_any_hit_as_often_as_one_test():
    hits = np.array(list(grid_passed(60, 59)))
    assert hits.mean() <= band(len(hits))[1]


def main(page: str) -> None:
    """Run every case at full size, and replace what stands between the two marks of the page."""
    rows = ["| data | null p-values | p ≤ .05 on noise | 99.9% band | p ≤ .05 on the planted effect |", "|---|---|---|---|---|"]
    for case in CASES:
        null = np.concatenate(list(passed(case, 0.0, 20, 199)))
        power = np.concatenate(list(passed(case, 0.6, 2, 199))).mean()
        low, high = band(len(null))
        rows.append(f"| `evaluate`: {case} | {len(null)} | {null.mean():.3f} | {low:.3f} to {high:.3f} | {power:.2f} |")
        print(rows[-1], flush=True)
    hits = np.array(list(grid_passed(500, 199)))
    low, high = band(len(hits))
    rows.append(f"| `compare`, any of 12 cells by `p_value_max` | {len(hits)} | {hits.mean():.3f} | {low:.3f} to {high:.3f} | |")
    text = Path(page).read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    Path(page).write_text(f"{head}{BEGIN}\n" + "\n".join(rows) + f"\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
