"""What must cost nothing: a schema check at a million neuroids, and the import of the package."""

import subprocess
import sys

import numpy as np
import pytest

import brainalign as ba
from brainalign.core.schema import as_labels

pytestmark = pytest.mark.bench

N_NEUROIDS, N_LAYERS = 1_000_000, 12


@pytest.fixture(scope="module", params=["integers that ascend", "integers that restart in every layer", "text"])
def million(request):
    ids = np.arange(N_NEUROIDS)
    if request.param == "integers that restart in every layer":
        ids = ids % -(-N_NEUROIDS // N_LAYERS)
    if request.param == "text":
        ids = as_labels([f"unit {i}" for i in ids])
    layers = np.repeat(as_labels([f"h.{i}" for i in range(N_LAYERS)]), -(-N_NEUROIDS // N_LAYERS))[:N_NEUROIDS]
    values = np.zeros((2, N_NEUROIDS), np.float32)
    return ba.responses(values, stimulus_id=["a", "b"], neuroid_id=ids, layer=layers, modality="ann", system="net")


def test_schema_check_of_a_million_neuroids(benchmark, million):
    benchmark.extra_info["target"] = "0.2 s with integer ids"  # text costs more, and is no target
    assert benchmark(ba.validate, million) is million


def test_import(benchmark):
    """In a fresh interpreter, less what starting Python itself costs (see the neighbour)."""
    benchmark.extra_info["target"] = "0.15 s above the bare interpreter"
    benchmark.pedantic(
        subprocess.run, args=([sys.executable, "-c", "import brainalign"],), kwargs={"check": True}, rounds=10, warmup_rounds=2
    )
    assert benchmark.stats


def test_bare_interpreter(benchmark):
    benchmark.pedantic(subprocess.run, args=([sys.executable, "-c", "pass"],), kwargs={"check": True}, rounds=10, warmup_rounds=2)
    assert benchmark.stats
