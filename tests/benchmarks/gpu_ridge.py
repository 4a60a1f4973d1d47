"""Ridge on a CUDA device: results equal to the CPU's, time against himalaya's torch_cuda backend and the card's own ceiling.

    python tests/benchmarks/gpu_ridge.py > gpu_ridge.json

Needs numpy, scipy, scikit-learn and torch. himalaya is imported where it is installed, or from the folder in ``HIMALAYA_PATH``.
"""

import json
import os
import sys
import types
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

PACKAGE = Path(__file__).resolve().parents[2] / "brainalign"
START = perf_counter()
LONGEST_S = 200.0  # no peer is begun after this

# The package's front door needs what a bare compute machine lacks; the engine behind it does not.
package = types.ModuleType("brainalign")
package.__path__ = [str(PACKAGE)]
sys.modules["brainalign"] = package
sys.path.insert(0, os.environ.get("HIMALAYA_PATH", str(PACKAGE)))

from brainalign.engine.solvers import fixed_ridge, solve_ridge  # noqa: E402

ALPHAS = np.logspace(-1, 6, 20)
SHAPES = {"S1": (2000, 1000, 10_000), "S2": (2000, 4000, 10_000), "S3": (4000, 1000, 20_000), "large": (8000, 5000, 40_000)}


def problem(n, p, t, device):
    """Features with a power-law spectrum, targets with a signal-to-noise ratio of 0 to 0.5."""
    torch.manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, device=device)  # noqa: E731
    X = (draw(n, p) * torch.arange(1, p + 1, device=device) ** -0.5) @ draw(p, p) / p**0.5
    signal = X @ draw(p, t)
    return X, signal / signal.std(0) * (torch.rand(t, device=device) / 2) ** 0.5 + draw(n, t)


def folds(n):
    return [(np.setdiff1d(np.arange(n), test), test) for test in np.array_split(np.arange(n), 5)]


def seconds(work, repeats=3):
    """Return the shortest time of some runs, after one to warm up where there are several, and the last result."""
    times = []
    for _ in range(repeats + (repeats > 1)):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = perf_counter()
        result = work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(perf_counter() - start)
    return min(times[1:] or times), result


def ceiling(device, dtype, tf32=False, size=8192):
    """Return the rate of a square matrix product, in TFLOP/s."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    a = torch.randn(size, size, device=device, dtype=dtype)
    time, _ = seconds(lambda: a @ a)
    torch.backends.cuda.matmul.allow_tf32 = False
    return 2 * size**3 / time / 1e12


def agreement(device):
    """Return how far results on the device are from those of the CPU."""
    out = {}
    for n, p in ((400, 150), (300, 700), (300, 280)):
        X, Y = (x.cpu().numpy() for x in problem(n, p, 2000, "cpu"))
        for search in ("screen", "all"):
            here, there = (solve_ridge(X, Y, ALPHAS, folds(n), search=search, device=where) for where in ("cpu", device))
            same = here.alpha_index == there.alpha_index  # curves that end flat tie within rounding
            best = [np.nanmax(solution.heldout_score, axis=0) for solution in (here, there)]
            found = out[f"{n} x {p}, {search}"] = {
                "equal alphas": float(same.mean()),
                "coefficients": float(np.abs(here.coef - there.coef)[:, same].max() / np.abs(here.coef).max()),
                "best scores": float(np.abs(best[0] - best[1]).max()),
            }
            assert found["equal alphas"] >= 0.98, out
            assert max(found["coefficients"], found["best scores"]) < 1e-4, out
    fixed = [fixed_ridge(X[:200], X[200:], device=where).predict(Y[:200], np.full(2000, 10.0)) for where in ("cpu", device)]
    out["fixed alphas"] = float(np.abs(fixed[0] - fixed[1]).max() / np.abs(fixed[0]).max())
    assert out["fixed alphas"] < 1e-4, out
    return out


def flops(n, p, t, n_evaluated):
    """Return the products over targets: rotation, exact evaluations, weights."""
    k = min(n, p)
    return 2 * t * k * (n * (1 + n_evaluated) + (n if p > n else p))


def himalaya_runs(X, Y, large):
    """Yield estimators of himalaya with ways of batching, and their best alphas."""
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV
    from himalaya.ridge import RidgeCV
    from sklearn.model_selection import KFold

    set_backend("torch_cuda")
    batches = [{"n_targets_batch": 5000, "n_alphas_batch": 5}] if large else [{}, {"n_targets_batch": 5000, "n_alphas_batch": 5}]
    estimators = [KernelRidgeCV, RidgeCV] if large or X.shape[1] > len(X) else [RidgeCV, KernelRidgeCV]
    for estimator in estimators:
        for batch in batches:
            if perf_counter() - START > LONGEST_S * (0.5 if large and estimator is RidgeCV else 1):
                continue
            model = estimator(alphas=ALPHAS, cv=KFold(5), fit_intercept=True, solver_params=batch)
            yield f"{estimator.__name__} {batch}", lambda model=model: model.fit(X, Y).best_alphas_


def measure(name, device, ceilings):
    n, p, t = SHAPES[name]
    X, Y = problem(n, p, t, device)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    time, ours = seconds(lambda: solve_ridge(X, Y, ALPHAS, folds(n), search="screen", device=device))
    evaluated = float(np.isfinite(ours.heldout_score).sum() / t)
    row = {
        "n, p, t": [n, p, t], "seconds": time, "exact evaluations per target": evaluated,
        "peak GB beside inputs": (torch.cuda.max_memory_allocated() - held) / 1e9,
        "share of the float32 ceiling": flops(n, p, t, evaluated) / time / 1e12 / ceilings["float32"],
    }  # fmt: skip
    try:
        for label, work in himalaya_runs(X, Y, name == "large"):
            try:
                took, alphas = seconds(work, repeats=1 if name == "large" else 2)
            except torch.cuda.OutOfMemoryError:
                row[label] = "out of memory"
                continue
            row[label] = took
            equal = np.isclose(np.asarray(alphas.cpu()), ALPHAS[ours.alpha_index], rtol=1e-3).mean()
            row[f"{label}: equal alphas"] = float(equal)
    except ImportError as error:
        row["himalaya"] = str(error)
    peers = [value for label, value in row.items() if "CV " in label and isinstance(value, float) and "equal" not in label]
    row["ratio to the best of himalaya"] = min(peers) / time if peers else None
    return row


def main(names):
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    device = "cuda"
    ceilings = {
        "float32": ceiling(device, torch.float32), "float32 as TF32": ceiling(device, torch.float32, tf32=True),
        "float64": ceiling(device, torch.float64),
    }  # fmt: skip
    report = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "TFLOP/s": ceilings,
        "agreement": agreement(device),
    }
    for name in names or SHAPES:
        report[name] = measure(name, device, ceilings)
        print(name, json.dumps(report[name]), f"{perf_counter() - START:.0f} s", file=sys.stderr, flush=True)
        torch.cuda.empty_cache()
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
