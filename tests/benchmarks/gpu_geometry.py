"""RDMs on a CUDA device: equal to the CPU's to 1e-4 in float32 and 1e-8 in float64, and how long either takes.

    python tests/benchmarks/gpu_geometry.py > gpu_geometry.json

Needs numpy, scipy, scikit-learn, pandas, xarray and torch; nothing that reads files.
"""

import json
import sys
import types
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

# The package's front door needs what a bare compute machine lacks; the geometry behind it does not.
package = types.ModuleType("brainalign")
package.__path__ = [str(Path(__file__).resolve().parents[2] / "brainalign")]
sys.modules["brainalign"] = package

from brainalign.core.responses import responses  # noqa: E402
from brainalign.geometry.rdm import rdm  # noqa: E402


def recording(n, p, runs, dtype):
    rng = np.random.default_rng(0)
    shown = rng.standard_normal((n, p), dtype=np.float32)
    values = np.concatenate([shown + rng.standard_normal((n, p), dtype=np.float32) for _ in range(runs)]).astype(dtype)
    ids, run = np.tile([f"s{i:05d}" for i in range(n)], runs), np.repeat([f"r{i}" for i in range(runs)], n)
    return responses(values, stimulus_id=ids, neuroid_id=range(p), modality="ann", system="net", run=run)


def both(x, **options):
    """Return the seconds on either device, and the largest difference in units of the mean distance."""
    out, held = {}, {}
    for device in ("cpu", "cuda", "cuda"):  # the first one on the GPU warms it up
        start = perf_counter()
        held[device] = rdm(x, device=device, **options).values
        out[f"{device}, s"] = perf_counter() - start
    out["largest difference"] = float(np.abs(held["cuda"] - held["cpu"]).max() / np.abs(held["cpu"]).mean())
    limit = 1e-4 if options.get("dtype") == "float32" else 1e-8
    assert out["largest difference"] < limit, (options, out)
    return out


def main():
    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device")
    report = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    once, often = recording(6000, 10_000, 1, "float32"), recording(1000, 5000, 6, "float32")
    for dtype in ("float32", "float64"):
        for metric in ("correlation", "sqeuclidean"):
            report[f"{metric}, 6000 × 10,000, {dtype}"] = both(once, metric=metric, dtype=dtype)
        report[f"crossnobis, 1000 × 5000 in 6 runs, {dtype}"] = both(often, metric="crossnobis", folds="run", dtype=dtype)
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
