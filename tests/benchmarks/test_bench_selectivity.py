"""AUROC of 100,000 neuroids for ten categories, against a loop over scikit-learn's: CPU time, the same areas, and the memory it takes."""

import inspect
import subprocess
import sys
from time import process_time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import brainalign as ba

pytestmark = pytest.mark.bench

N_ROWS, N_NEUROIDS, N_CATEGORIES, LOOPED = 1000, 100_000, 10, 50


def recorded(n_rows, n_neuroids, n_categories):
    rng = np.random.default_rng(0)
    label = rng.integers(0, n_categories, n_rows).astype(str)
    values = rng.normal(size=(n_rows, n_neuroids)).astype("float32")
    ids = [str(i) for i in range(n_rows)]
    return ba.responses(values, stimulus_id=ids, neuroid_id=np.arange(n_neuroids), modality="ann", system="net", condition=label)


def cpu_seconds(function):
    start = process_time()
    result = function()
    return result, process_time() - start


def test_areas_of_all_neuroids(benchmark):
    x = recorded(N_ROWS, N_NEUROIDS, N_CATEGORIES)
    ba.selectivity(x[:, :50], "condition")  # what is measured is not the loading of modules

    def looped():
        names = np.unique(x.condition.values.astype(object))
        return [[roc_auc_score(x.condition.values == name, column) for name in names] for column in x.values[:, :LOOPED].T]

    wanted, theirs = cpu_seconds(looped)
    found, ours = benchmark.pedantic(lambda: cpu_seconds(lambda: ba.selectivity(x, "condition")), rounds=1)
    np.testing.assert_allclose(found.score[:LOOPED], wanted, rtol=0, atol=1e-12)
    benchmark.extra_info |= {
        "target": "10 times fewer CPU seconds than the loop; under 2 GiB at the peak",
        f"ratio, of a loop over {LOOPED} neuroids scaled to all": round(theirs * N_NEUROIDS / LOOPED / ours),
        "CPU seconds": round(ours, 1),
        "peak of the whole process with the responses, GiB": round(peak(), 2),
    }


def peak():
    """Return the highest resident memory, in GiB, of a process that makes the responses and scores them."""
    make = f"x = recorded{N_ROWS, N_NEUROIDS, N_CATEGORIES}"
    end = 'ba.selectivity(x, "condition")\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'
    code = f"import numpy as np\nimport brainalign as ba\n{inspect.getsource(recorded)}\n{make}\n{end}"
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) / 2**20
