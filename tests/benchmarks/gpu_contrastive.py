"""ContrastiveDecoder on a CUDA device: seconds for 100 steps on either device, and how far predictions differ after a few.

    python tests/benchmarks/gpu_contrastive.py > gpu_contrastive.json

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

from brainalign.models.contrastive import ContrastiveDecoder  # noqa: E402
from brainalign.models.shared_latent import SharedLatentDecoder  # noqa: E402

N, SENSORS, TIMES, DIMS = 2000, 128, 120, 512


def fitted(model, x, y):
    """Return the seconds of a fit, the second of its kind, and the predictions."""
    model.fit(x, y)
    if model.device == "cuda":
        torch.cuda.synchronize()
    start = perf_counter()
    model.fit(x, y)
    predictions = model.predict(x[:200])
    return perf_counter() - start, predictions


def compared(kind, x, y, few, many, **options):
    """Return seconds for 100 steps (of two fits that differ by as many), and the largest difference of predictions in deviations."""
    found = {}
    for device in ("cpu", "cuda" if torch.cuda.is_available() else "cpu"):
        short, early = fitted(kind(device=device, max_steps=few, patience=10_000, **options), x, y)
        long, _ = fitted(kind(device=device, max_steps=many, patience=10_000, **options), x, y)
        found[device] = (long - short) * 100 / (many - few), early
    seconds = {device: round(each, 3) for device, (each, _) in found.items()}
    first, last = (early for _, early in (found["cpu"], list(found.values())[-1]))
    return {"seconds_per_100_steps": seconds, "largest_difference": float(np.abs(first - last).max() / first.std())}


def main():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((N, DIMS), dtype=np.float32)
    pattern = y @ rng.standard_normal((DIMS, SENSORS), dtype=np.float32) / DIMS**0.5
    wave = np.exp(-0.5 * ((np.arange(TIMES) - rng.integers(20, 100, size=N)[:, None]) / 4) ** 2).astype(np.float32)
    x = pattern[:, :, None] * wave[:, None] + rng.standard_normal((N, SENSORS, TIMES), dtype=np.float32)
    out = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu only",
        "ContrastiveDecoder": compared(ContrastiveDecoder, x, y, 5, 25),
        "SharedLatentDecoder": compared(SharedLatentDecoder, x[:, :, 60], y, 5, 105),
    }
    json.dump(out, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
