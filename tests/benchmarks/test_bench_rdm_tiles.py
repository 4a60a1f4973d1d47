"""An RDM of 20,000 conditions in tiles on disk: peak memory beside the recording, at most two tiles and a chunk."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.bench

RUN = """
import json, resource, sys, time
import numpy as np
import brainalign as ba

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

store, n, max_memory = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
values = np.random.default_rng(0).standard_normal((n, 64), dtype=np.float32)
x = ba.responses(values, stimulus_id=np.arange(n).astype(str), neuroid_id=range(64), modality="ann", system="net")
ba.rdm(x[:100], store=store, name="small", dtype="float32")  # what is measured is not the loading of modules
before, started = peak(), time.process_time()
ba.rdm(x, store=store, dtype="float32", max_memory=max_memory)
print(json.dumps({"cpu": time.process_time() - started, "peak": peak() - before}))
"""


def test_rdm_of_20000_conditions_on_disk(benchmark, tmp_path):
    found = []

    def run():
        command = [sys.executable, "-c", RUN, str(tmp_path / "out.zarr"), "20000", str(2**28)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(json.loads(done.stdout))

    benchmark.pedantic(run, rounds=1)
    tile, chunk = 4 * 5120**2, 4 * 1024**2  # 5120 conditions a side are whole chunks that max_memory holds twice
    assert found[0]["peak"] <= 2 * tile + chunk
    benchmark.extra_info |= {
        "target": "at most two tiles and a chunk",
        "peak memory beside the recording, MB": round(found[0]["peak"] / 2**20),
        "two tiles and a chunk, MB": round((2 * tile + chunk) / 2**20),
        "the whole, MB": round(4 * 20_000**2 / 2**20),
        "CPU seconds": round(found[0]["cpu"], 1),
    }
