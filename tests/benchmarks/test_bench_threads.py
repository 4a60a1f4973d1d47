"""What threads bring: wall-clock time of our calls, and of peers, with all threads of matrix products and with one, in turns."""

import os
from statistics import median
from time import perf_counter

import numpy as np
import pytest
from sklearn.model_selection import KFold
from threadpoolctl import threadpool_limits

import brainalign as ba

pytestmark = pytest.mark.bench

ALPHAS, ROUNDS, THREADS = np.logspace(-1, 6, 20), 3, os.cpu_count()


def problem(n, p, t):
    """Low-rank features, and targets half of which is signal."""
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(n, p)) * np.arange(1, p + 1) ** -0.5) @ rng.normal(size=(p, p)) / p**0.5
    Y = X @ rng.normal(size=(p, t))
    return X.astype("float32"), (Y / Y.std(axis=0) + rng.normal(size=(n, t))).astype("float32")


def ridge(n, p, t):
    X, Y = problem(n, p, t)
    return lambda: ba.Ridge(alphas=ALPHAS, cv=list(KFold(5).split(X))).fit(X, Y).predict(X)


def banded():
    X, Y = problem(1000, 600, 1000)
    return lambda: ba.BandedRidge(alphas=ALPHAS, bands=np.repeat(["a", "b", "c"], 200), candidates=20, cv=5).fit(X, Y).predict(X)


def decoding():
    rng = np.random.default_rng(0)
    x = ba.responses(rng.normal(size=(300, 300, 100)).astype("float32"), stimulus_id=[f"s{i}" for i in range(300)],
                     neuroid_id=range(300), time=np.arange(100) / 100, modality="meg", system="sub-01",
                     condition=np.tile(["a", "b"], 150))  # fmt: skip
    folds = ba.split(x, stratify="condition", n_splits=5, random_state=0)
    return lambda: ba.decode_time(x, "condition", cv=folds, random_state=0, model=ba.Classifier("ridge")).score.values


def rank_correlations():
    rng = np.random.default_rng(0)
    sides = [ba.rdm(ba.responses(rng.normal(size=(400, 100)), stimulus_id=range(400), neuroid_id=range(100), modality="fmri", system=s))
             for s in "ab"]  # fmt: skip
    return lambda: ba.compare_rdms(*sides, metric="spearman", n_bootstraps=100, random_state=0).ci_low.values


def evaluation():
    X, Y = problem(1000, 500, 100)
    rows = {"stimulus_id": [f"s{i}" for i in range(1000)]}
    x = ba.responses(X, neuroid_id=range(500), modality="ann", system="net", **rows)
    y = ba.responses(Y, neuroid_id=range(100), modality="fmri", system="sub-01", **rows)
    return lambda: ba.evaluate(x, y, model=ba.Ridge(alphas=ALPHAS), random_state=0).score.values


CASES = {
    "ridge, 200 targets": lambda: ridge(2000, 1000, 200),
    "ridge, 5,000 targets": lambda: ridge(2000, 1000, 5000),
    "banded ridge": banded,
    "decoding over time": decoding,
    "evaluation": evaluation,
    "bootstrap of Spearman": rank_correlations,
}


def wall(function, into, threads=THREADS):
    with threadpool_limits(threads):  # whatever OMP_NUM_THREADS says
        start = perf_counter()
        found = function()
        into.append(perf_counter() - start)
    return found


@pytest.mark.parametrize("case", CASES)
def test_threads(benchmark, case):
    run = CASES[case]()
    one, all_of_them = [], []
    expected = wall(run, [], 1)

    def alone():
        wall(run, one, 1)

    found = benchmark.pedantic(lambda: wall(run, all_of_them), setup=alone, rounds=ROUNDS)
    assert np.abs(found - expected).mean() <= 1e-4  # a target whose best alphas tie but for rounding may have the other
    benchmark.extra_info |= {
        "target": "threads cost nothing",
        "threads": THREADS,
        "wall-clock ratio, one thread to all": round(median(one) / median(all_of_them), 2),
    }


def test_crossnobis_with_a_precision_and_all_threads(benchmark):
    """As in ``test_bench_rdm``, where both have one thread."""
    pytest.importorskip("rsatoolbox")
    import xarray as xr
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm

    rng = np.random.default_rng(0)
    names, run = np.tile([f"{i:03d}" for i in range(200)], 8), np.repeat([f"{i}" for i in range(8)], 200)
    x = ba.responses(rng.normal(size=(1600, 2000)).astype("float32"), stimulus_id=names.tolist(), neuroid_id=range(2000),
                     modality="fmri", system="s", run=run.tolist())  # fmt: skip
    a = rng.normal(size=(2000, 4000))
    precision = np.linalg.inv(a @ a.T / 4000)
    noise = xr.DataArray(precision, dims=("neuroid", "neuroid_2"), attrs={"inverse": True})
    theirs = Dataset(x.values.astype(float), obs_descriptors={"condition": names, "run": run})
    peer, ours = [], []

    def of_peer():
        expected[:] = wall(
            lambda: calc_rdm(theirs, "crossnobis", "condition", noise=precision, cv_descriptor="run"), peer
        ).dissimilarities

    def of_ours():
        return wall(lambda: ba.rdm(x, metric="crossnobis", folds="run", noise=noise), ours).values

    expected = np.empty((1, 200 * 199 // 2))
    of_peer()
    of_ours()
    found = benchmark.pedantic(of_ours, setup=of_peer, rounds=2 * ROUNDS)
    assert np.abs(found[np.triu_indices(200, 1)] - expected).max() <= 1e-10
    benchmark.extra_info |= {"target": "2 times", "threads": THREADS, "wall-clock ratio": round(median(peer) / median(ours), 1)}
