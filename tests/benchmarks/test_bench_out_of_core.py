"""30,000 targets from five layers of 1,000 units, all in zarr, in tiles under 2 GB of memory: the same scores, whether or not it is killed
on the way, and what tiles cost.
"""

import json
import subprocess
import sys
from time import sleep

import numpy as np
import pytest

import brainalign as ba

pytestmark = pytest.mark.bench

SETUP = """
import sys
import numpy as np
import brainalign as ba

rng = np.random.default_rng(0)
n, n_layers, width, n_targets = (int(x) for x in sys.argv[2:])
ids = np.arange(n)
x = rng.standard_normal((n, n_layers * width), dtype=np.float32)
layer = np.repeat([f"layer{i}" for i in range(n_layers)], width)
ba.save(ba.responses(x, stimulus_id=ids, neuroid_id=np.arange(x.shape[1]), layer=layer, modality="ann", system="net"), sys.argv[1],
        progress=False)
y = np.empty((n, n_targets), dtype=np.float32)
for start in range(0, n_targets, 5000):  # a few units of one layer, and noise
    columns = slice(start, min(start + 5000, n_targets))
    drawn = rng.integers(0, x.shape[1], 20)
    y[:, columns] = x[:, drawn] @ rng.standard_normal((20, columns.stop - start), dtype=np.float32)
    y[:, columns] += 6 * rng.standard_normal((n, columns.stop - start), dtype=np.float32)
ba.save(ba.responses(y, stimulus_id=ids, neuroid_id=np.arange(n_targets), region=np.where(np.arange(n_targets) % 2, "a", "b"),
                     modality="fmri", system="sub-01"), sys.argv[1], progress=False)
"""

RUN = """
import json, resource, sys, time
import brainalign as ba

study, store = sys.argv[1:3]
source, target = (ba.open_responses(study, name=name) for name in ("net", "sub-01"))
if store == "memory":
    source, target, where = source.compute(), target.compute(), {}
else:
    where = {"store": store}
started, cpu = time.perf_counter(), time.process_time()
out = ba.compare(source, target, by=("layer", "region"), model=ba.Ridge(cv=2), cv=2, controls="none", random_state=0, **where)
took = {"wall": time.perf_counter() - started, "cpu": time.process_time() - cpu}
print(json.dumps({**took, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))
if not where:
    ba.save(out, study, name="memory")
"""


def run(script, *arguments):
    done = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def killed(study, store, after):
    """Start a run, and kill it once so many of the results of tiles are there; return how many there were."""
    parts = store / "results" / ".partial-compare" / ".parts"
    done = subprocess.Popen([sys.executable, "-c", RUN, str(study), str(store)], stdout=subprocess.DEVNULL)
    while len(list(parts.glob("0*"))) < after:
        assert done.poll() is None, "the run ended before it could be killed"
        sleep(0.2)
    done.kill()
    done.wait()
    return len(list(parts.glob("0*")))


def result_of(study, name="compare"):
    return ba.open_study(study)["results"][name].to_dataset().compute()


def test_thirty_thousand_targets_under_two_gigabytes(benchmark, tmp_path):
    study, store, again = tmp_path / "study.zarr", tmp_path / "scores.zarr", tmp_path / "killed.zarr"
    run(SETUP, study, 2000, 5, 1000, 30_000)
    whole = json.loads(run(RUN, study, "memory"))
    found = []
    benchmark.pedantic(lambda: found.append(json.loads(run(RUN, study, store))), rounds=1)
    tiled = found[0]
    ours, theirs = result_of(store), result_of(study, "memory")
    np.testing.assert_allclose(ours.score.values, theirs.score.values, atol=1e-6)
    np.testing.assert_allclose(ours.score_neuroid.values, theirs.score_neuroid.values, atol=1e-6)
    assert tiled["peak"] <= 2 * 1024**3
    kept = [killed(study, again, after) for after in (3, 11)]
    assert kept[0] < kept[1] < 20
    run(RUN, study, again)
    resumed = result_of(again)
    for name in ours.variables:
        np.testing.assert_array_equal(resumed[name].values, ours[name].values)
    benchmark.extra_info["target"] = "at most 2 GB of memory, and the same scores to 1e-6"
    same = (ours.score_neuroid.values == theirs.score_neuroid.values).mean()
    benchmark.extra_info["scores of neuroids that are the same to the bit"] = f"{same:.4%}"
    benchmark.extra_info["killed after, of 20 results of tiles, and then the same to the bit"] = str(kept)
    benchmark.extra_info["peak memory, GB"] = round(tiled["peak"] / 1024**3, 2)
    benchmark.extra_info["peak memory in one piece, GB"] = round(whole["peak"] / 1024**3, 2)
    benchmark.extra_info["CPU seconds in tiles"] = round(tiled["cpu"], 1)
    benchmark.extra_info["ratio to one piece, CPU time"] = round(tiled["cpu"] / whole["cpu"], 2)
