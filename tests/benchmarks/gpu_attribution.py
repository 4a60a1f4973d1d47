"""Attributions on a CUDA device: the CPU's to rounding, and how long either takes.

    python tests/benchmarks/gpu_attribution.py > gpu_attribution.json

Needs numpy, scipy, scikit-learn, pandas, xarray, torch and transformers; nothing that reads files.
"""

import json
import sys
import types
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

# The package's front doors need what a bare compute machine lacks; what stands behind them does not.
root = Path(__file__).resolve().parents[2] / "brainalign"
for name in ("", ".adapters", ".dataset", ".models", ".neurons"):
    package = types.ModuleType(f"brainalign{name}")
    package.__path__ = [str(root / name[1:])]
    sys.modules[package.__name__] = package

from brainalign.adapters.networks.torch_hooks import TorchResponder  # noqa: E402
from brainalign.core.responses import responses  # noqa: E402
from brainalign.dataset.stimuli import table  # noqa: E402
from brainalign.models.readout import readout  # noqa: E402
from brainalign.models.ridge import Ridge  # noqa: E402
from brainalign.neurons.attribution.attribute import attribute  # noqa: E402

N, SIDE, N_VOXELS = 64, 32, 2000


class Vision(torch.nn.Module):
    """A ViT of four blocks: pixels to the mean of its tokens."""

    def __init__(self):
        from transformers import ViTConfig, ViTModel

        super().__init__()
        torch.manual_seed(0)
        self.vit = ViTModel(
            ViTConfig(
                hidden_size=128, num_hidden_layers=4, num_attention_heads=8, intermediate_size=512, image_size=SIDE, patch_size=8
            ),
            add_pooling_layer=False,
        )
        self.mean = torch.nn.Identity()

    def forward(self, pixels):
        return self.mean(self.vit(pixels).last_hidden_state.mean(dim=1))


def questions(device, images):
    """Return what is asked on a device, by name."""
    net = TorchResponder(Vision().requires_grad_(False).eval(), layers="mean", system="vit", device=device)
    ids = images["stimulus_id"].values
    features = np.concatenate([net.respond(images, slice(i, i + 16))["mean"] for i in range(0, N, 16)])
    x = responses(features, stimulus_id=ids, neuroid_id=np.arange(128), modality="ann", system="vit")
    y = features @ np.random.default_rng(1).normal(size=(128, N_VOXELS))
    brain = responses(y, stimulus_id=ids, neuroid_id=np.arange(N_VOXELS), modality="fmri", system="s")
    voxels, some = readout(net, Ridge(alphas=[1.0]).fit(x, brain)), range(8)
    patches = (np.arange(SIDE)[:, None] * 4 // SIDE) * 4 + np.arange(SIDE) * 4 // SIDE
    blocks = [layer for layer in net.inner_layers("vit.**") if layer.rpartition(".")[2] in "0123"]
    flow = {"method": "conductance", "wrt": blocks, "presentations": some}
    return {
        "2,000 voxels by 16 patches": lambda: attribute(voxels, images, groups=patches, presentations=some),
        "one unit by pixel": lambda: attribute(net, images, neuroid=3),
        "conductance of four blocks": lambda: attribute(net, images, neuroid=3, **flow),
    }


def main(devices):
    """Print a report on the devices."""
    values = np.random.default_rng(0).normal(size=(N, 3, SIDE, SIDE)).astype("float32")
    images = table(values, stimulus_id=[f"s{i:02d}" for i in range(N)], kind="array")
    report = {"torch": torch.__version__, "device": torch.cuda.get_device_name() if "cuda" in devices else "cpu"}
    held = {}
    for device in devices:
        for name, ask in questions(device, images).items():
            if device == "cuda":
                ask()  # the first one warms it up
            start = perf_counter()
            found = ask()  # the numbers are on the CPU: nothing is left to wait for
            entry = report.setdefault(name, {})
            entry[f"{device}, s"] = perf_counter() - start
            entry[f"{device}, completeness error"] = found.attrs["completeness_error"]
            held.setdefault(name, []).append(found.values)
    for name, found in held.items():
        report[name]["largest difference, of the largest"] = float(np.abs(found[-1] - found[0]).max() / np.abs(found[0]).max())
    json.dump(report, sys.stdout, indent=1)


if __name__ == "__main__":
    main(["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
