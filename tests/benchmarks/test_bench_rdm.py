"""RDMs and noise covariances against rsatoolbox: CPU time of the public calls, and equal numbers.

A public call also hashes what goes in and what comes out, for provenance: what goes in meanwhile, in a thread of its own. Where that is
much of its time, the ratio of the computation alone stands beside.
"""

from statistics import median
from time import perf_counter, process_time

import numpy as np
import pytest
import xarray as xr

import brainalign as ba
from brainalign.engine.crossnobis import differences, products_across
from brainalign.engine.distances import pairwise_distances
from brainalign.engine.groups import group_sums
from brainalign.engine.precision import noise_covariance

pytestmark = pytest.mark.bench
pytest.importorskip("rsatoolbox")

from rsatoolbox.data import Dataset, TemporalDataset, noise  # noqa: E402
from rsatoolbox.rdm import calc_rdm, calc_rdm_movie, calc_rdm_unbalanced, concat  # noqa: E402

ROUNDS = 3


def timed(function, cpu, wall=None):
    """Call a function, and note its seconds, of all threads and of the clock."""
    start = process_time(), perf_counter()
    result = function()
    cpu.append(process_time() - start[0])
    if wall is not None:
        wall.append(perf_counter() - start[1])
    return result


def sides(n, p, runs=1, times=(), seed=0):
    """Return the same responses of ``n`` conditions in runs as ours, float32 as recordings are, and as theirs, float64."""
    values = np.random.default_rng(seed).normal(size=(n * runs, p, *times)).astype(np.float32)
    names, run = np.tile([f"{i:05d}" for i in range(n)], runs), np.repeat([f"{i}" for i in range(runs)], n)
    time = {"time": np.arange(times[0]) / 100} if times else {}
    ours = ba.responses(
        values, stimulus_id=names.tolist(), neuroid_id=range(p), modality="fmri", system="s", run=run.tolist(), **time
    )
    wide = ours.values.astype(np.float64)
    labels = {"obs_descriptors": {"condition": names, "run": run}}
    if times:
        return ours, TemporalDataset(wide, time_descriptors={"time": ours.time.values}, **labels)
    return ours, Dataset(wide, **labels)


def measure(benchmark, target, ours, theirs, *, tolerance=1e-10, alone=None):
    """Run ours and theirs in turn; the upper triangles must be equal."""
    spent, peer, bare, found, expected = [], [], [], [], []
    waited, peer_waited = [], []
    ours()  # what is measured is not the loading of modules
    theirs()

    def before():
        expected.append(timed(theirs, peer, peer_waited))
        if alone is not None:
            alone()  # ours has just been called, too
            timed(alone, bare)

    benchmark.pedantic(lambda: found.append(timed(ours, spent, waited)), setup=before, rounds=ROUNDS)
    a, b = found[-1].values, expected[-1]
    if not isinstance(b, np.ndarray):
        a, b = a[..., *np.triu_indices(a.shape[-1], 1)], b.dissimilarities
    difference = float(np.abs(a - b).max())
    benchmark.extra_info |= {
        "target": target,
        "ratio, interleaved, CPU time": round(median(peer) / median(spent), 1),
        "ratio, time of the clock": round(median(peer_waited) / median(waited), 1),
        "largest difference": f"{difference:.0e}",
    }
    if bare:
        benchmark.extra_info["ratio of the computation alone"] = round(median(peer) / median(bare), 1)
    assert difference <= tolerance


@pytest.mark.parametrize(("dtype", "target"), [("float64", 20), ("float32", 35)])
def test_correlation_of_1000_conditions_and_10000_neuroids(benchmark, dtype, target):
    ours, theirs = sides(1000, 10_000)
    tolerance = 1e-10 if dtype == "float64" else 1e-6
    measure(
        benchmark,
        f"{target} times",
        lambda: ba.rdm(ours, dtype=dtype),
        lambda: calc_rdm(theirs, "correlation"),
        tolerance=tolerance,
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_squared_euclidean_of_1000_conditions_and_10000_neuroids(benchmark, grouped):
    ours, theirs = sides(1000, 10_000)
    measure(
        benchmark,
        "no slower",
        lambda: ba.rdm(ours, metric="sqeuclidean"),
        lambda: calc_rdm(theirs, "euclidean", "condition" if grouped else None),
        alone=lambda: pairwise_distances(theirs.measurements, "sqeuclidean"),
    )


def computation(x, values, precision=None):
    """Return what is left of a crossnobis RDM without labels, checks and provenance, to be called."""
    names, codes = np.unique(x.stimulus_id.values, return_inverse=True)
    runs, folds = np.unique(x.run.values, return_inverse=True)
    shape = len(runs), len(names)

    def alone():
        sums, counts = group_sums(values, folds * shape[1] + codes, shape[0] * shape[1])
        products = products_across(sums.reshape(*shape, -1), counts.reshape(shape), precision=precision)
        return differences(products) / values.shape[1]

    return alone


@pytest.mark.parametrize(("with_noise", "target"), [("no noise", 7), ("a precision", 2), ("a covariance", 2)])
def test_crossnobis_of_200_conditions_in_8_runs(benchmark, with_noise, target):
    ours, theirs = sides(200, 2000, runs=8)
    a = np.random.default_rng(1).normal(size=(2000, 4000))
    covariance = a @ a.T / 4000
    precision = np.linalg.inv(covariance)
    dims, labelled, given_inverse = ("neuroid", "neuroid_2"), None, with_noise == "a precision"
    if given_inverse:
        labelled = xr.DataArray(precision, dims=dims, attrs={"inverse": True})
    elif with_noise == "a covariance":
        labelled = xr.DataArray(covariance, dims=dims)

    def peer():
        given = np.linalg.inv(covariance) if with_noise == "a covariance" else None if labelled is None else precision
        return calc_rdm(theirs, "crossnobis", "condition", noise=given, cv_descriptor="run")

    measure(
        benchmark,
        f"{target} times",
        lambda: ba.rdm(ours, metric="crossnobis", folds="run", noise=labelled),
        peer,
        alone=None
        if with_noise == "a covariance"
        else computation(ours, theirs.measurements, precision if given_inverse else None),
    )


@pytest.mark.parametrize("size", [(60, 100, 6), (150, 500, 8)])
def test_unbalanced_crossnobis(benchmark, size):
    ours, theirs = sides(size[0], size[1], runs=size[2])
    keep = np.arange(len(ours)) != 3
    ours = ours[keep].sortby("stimulus_id")  # both in the order of the labels
    theirs = Dataset(theirs.measurements[keep], obs_descriptors={k: v[keep] for k, v in theirs.obs_descriptors.items()})
    theirs.sort_by("condition")
    measure(
        benchmark,
        "15 times",
        lambda: ba.rdm(ours, metric="crossnobis", folds="run"),
        lambda: calc_rdm_unbalanced(theirs, "crossnobis", "condition", cv_descriptor="run"),
        alone=computation(ours, theirs.measurements),
    )


def test_unbalanced_crossnobis_of_50_regions(benchmark):
    """What a call costs beside its computation is shared by its matrices."""
    ours, theirs = sides(60, 50 * 100, runs=6)
    keep = np.arange(len(ours)) != 3
    region = np.repeat([f"r{i}" for i in range(50)], 100)
    ours = ours[keep].sortby("stimulus_id").assign_coords(region=("neuroid", region))
    parts = []
    for part in np.split(theirs.measurements[keep], 50, axis=1):
        parts.append(Dataset(part, obs_descriptors={k: v[keep] for k, v in theirs.obs_descriptors.items()}))
        parts[-1].sort_by("condition")
    measure(
        benchmark,
        "15 times",
        lambda: ba.rdm(ours, metric="crossnobis", folds="run", by="region"),
        lambda: concat([calc_rdm_unbalanced(part, "crossnobis", "condition", cv_descriptor="run") for part in parts]),
    )


@pytest.mark.parametrize(("method", "name"), [("shrinkage-diagonal", "shrinkage_diag"), ("shrinkage-eye", "shrinkage_eye")])
def test_shrinkage_covariance_of_1000_residuals_of_800_neuroids(benchmark, method, name):
    ours, theirs = sides(1000, 800)
    measure(
        benchmark,
        "40 times",
        lambda: ba.geometry.noise_covariance(ours, method=method, condition=None),
        lambda: noise.cov_from_residuals(theirs.measurements, method=name),
        alone=lambda: noise_covariance(theirs.measurements - theirs.measurements.mean(axis=0), method, dof=999),
    )


def test_movie_of_100_conditions_64_channels_and_200_times(benchmark):
    ours, theirs = sides(100, 64, times=(200,))
    measure(
        benchmark,
        "8 times",
        lambda: ba.rdm(ours),
        lambda: calc_rdm_movie(theirs, "correlation", "condition"),
        alone=lambda: pairwise_distances(np.ascontiguousarray(np.moveaxis(theirs.measurements, 2, 0))),
    )
