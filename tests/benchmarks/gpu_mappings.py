"""Mappings on a CUDA device: predictions equal to the CPU's to 1e-4, and how long either takes.

    python tests/benchmarks/gpu_mappings.py > gpu_mappings.json

Needs numpy, scipy, scikit-learn, pandas, xarray and torch; nothing that reads files.
"""

import json
import sys
import types
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

# The package's front door needs what a bare compute machine lacks; the mappings behind it do not.
package = types.ModuleType("brainalign")
package.__path__ = [str(Path(__file__).resolve().parents[2] / "brainalign")]
sys.modules["brainalign"] = package

from brainalign.models.banded import BandedRidge  # noqa: E402
from brainalign.models.kernel import KernelRidge  # noqa: E402
from brainalign.models.pls import PLS  # noqa: E402
from brainalign.models.ridge import Ridge  # noqa: E402
from brainalign.models.spatial import SpatialReadout  # noqa: E402

ALPHAS = np.logspace(-1, 6, 20)
N, P, T = 2000, 1000, 10_000


def problem(n, shape, t):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, *shape), dtype=np.float32)
    signal = X.reshape(n, -1) @ rng.standard_normal((int(np.prod(shape)), t), dtype=np.float32)
    return X, signal / signal.std(0) * 0.5 + rng.standard_normal((n, t), dtype=np.float32)


def both(make, X, Y):
    """Return the seconds on either device, and the largest difference of predictions in units of their deviation."""
    out, held = {}, {}
    for device in ("cpu", "cuda", "cuda"):  # the first one on the GPU warms it up
        start = perf_counter()
        held[device] = make(device).fit(X[:-200], Y[:-200]).predict(X[-200:])
        out[f"{device}, s"] = perf_counter() - start
    difference = np.abs(held["cuda"] - held["cpu"])
    out["largest difference"] = float(difference.max() / held["cpu"].std())
    out["share over 1e-4"] = float((difference > 1e-4 * held["cpu"].std()).mean())  # targets whose alphas tie may differ
    return out


def main():
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    X, Y = problem(N, (P,), T)
    maps, responses = problem(600, (16, 8, 8), 500)
    bands = ["a"] * 300 + ["b"] * 300 + ["c"] * 400
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    for name, make, data in [
        ("Ridge", lambda device: Ridge(alphas=ALPHAS, device=device), (X, Y)),
        ("PLS, 25 components", lambda device: PLS(25, device=device), (X, Y)),
        ("KernelRidge, rbf", lambda device: KernelRidge(kernel="rbf", alphas=ALPHAS, device=device), (X, Y)),
        ("BandedRidge, 3 bands", lambda device: BandedRidge(bands=bands, alphas=ALPHAS, device=device), (X, Y[:, :2000])),
        ("SpatialReadout, fwRF", lambda device: SpatialReadout("fwrf", device=device), (maps, responses)),
    ]:  # fmt: skip
        try:
            report[name] = both(make, *data)
        except Exception as error:  # one mapping that fails leaves the others measured
            report[name] = f"{type(error).__name__}: {error}"
        print(name, report[name], file=sys.stderr, flush=True)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
