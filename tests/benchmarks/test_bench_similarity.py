"""Debiased CKA of a grid with its inference, and the Procrustes angle, against what is commonly written: CPU time, and the same numbers."""

from statistics import median
from time import process_time

import numpy as np
import pytest

from brainalign.engine.similarity import draw_halves, half_scores, permuted_scores
from brainalign.geometry.metrics import similarity_metric

pytestmark = pytest.mark.bench

N_STIMULI, WIDTHS, N_DRAWS, N_SHOWN, ROUNDS = 300, ((1000, 800, 600, 400), (200, 200, 200)), 1000, 5, 2


@pytest.fixture(scope="module")
def sides():
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(N_STIMULI, 20))
    return [[shared @ rng.normal(size=(20, p)) + 3 * rng.normal(size=(N_STIMULI, p)) for p in widths] for widths in WIDTHS]


def debiased_cka(x, y):
    """Song et al. 2012, from the responses."""
    n, kernels = len(x), [z @ z.T for z in (x - x.mean(0), y - y.mean(0))]
    for K in kernels:
        np.fill_diagonal(K, 0.0)

    def hsic(K, L):
        return (K * L).sum() + K.sum() * L.sum() / ((n - 1) * (n - 2)) - 2 * K.sum(0) @ L.sum(0) / (n - 2)

    return hsic(*kernels) / np.sqrt(hsic(kernels[0], kernels[0]) * hsic(kernels[1], kernels[1]))


def cpu_seconds(function, into):
    start = process_time()
    result = function()
    into.append(process_time() - start)
    return result


def test_a_grid_of_debiased_cka_with_permutations_and_intervals(benchmark, sides):
    first, second = sides
    rng, metric = np.random.default_rng(1), similarity_metric("cka-debiased")
    orders = np.stack([rng.permutation(N_STIMULI) for _ in range(N_DRAWS)])
    halves = draw_halves(np.arange(N_STIMULI), N_DRAWS, rng)
    ours, theirs, found, expected = [], [], [], []

    def loop():
        permuted = [[[debiased_cka(x, y[order]) for y in second] for x in first] for order in orders[:N_SHOWN]]
        halved = [[[debiased_cka(x[rows], y[rows]) for y in second] for x in first] for rows in halves[:N_SHOWN]]
        return np.array(permuted), np.array(halved)

    def engine():
        prepared = [[metric.prepare(x) for x in side] for side in sides]
        return permuted_scores(metric, *prepared, orders), half_scores(metric, *sides, halves)

    benchmark.pedantic(
        lambda: found.append(cpu_seconds(engine, ours)), setup=lambda: expected.append(cpu_seconds(loop, theirs)), rounds=ROUNDS
    )
    difference = max(float(np.abs(a[:N_SHOWN] - b).max()) for a, b in zip(found[-1], expected[-1], strict=True))
    benchmark.extra_info |= {
        "size": f"4 x 3 groups, {N_STIMULI} stimuli, {N_DRAWS} permutations and {N_DRAWS} halves",
        "seconds of CPU": round(median(ours), 2),
        f"ratio to a loop over draws (of {N_SHOWN}), CPU time": round(median(theirs) / N_SHOWN * N_DRAWS / median(ours), 1),
        "largest difference": f"{difference:.1e}",
    }
    assert difference <= 1e-10


def test_a_matrix_of_procrustes_angles(benchmark, sides):
    """Six pairs of four systems, against one orthogonal Procrustes problem a pair."""
    from scipy.linalg import orthogonal_procrustes

    systems, metric = [x[:, :256] for x in sides[0]], similarity_metric("shape-1")
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    ours, theirs, found, expected = [], [], [], []

    def peer():
        units = [(x - x.mean(0)) / np.linalg.norm(x - x.mean(0)) for x in systems]
        return [np.arccos(orthogonal_procrustes(units[i], units[j])[1]) for i, j in pairs]

    def engine():
        prepared = [metric.prepare(x) for x in systems]
        return [metric.score(prepared[i], prepared[j]) for i, j in pairs]

    benchmark.pedantic(
        lambda: found.append(cpu_seconds(engine, ours)), setup=lambda: expected.append(cpu_seconds(peer, theirs)), rounds=ROUNDS
    )
    difference = float(np.abs(np.subtract(found[-1], expected[-1])).max())
    benchmark.extra_info |= {
        "ratio to scipy.linalg.orthogonal_procrustes, CPU time": round(median(theirs) / median(ours), 1),
        "largest difference": f"{difference:.1e}",
    }
    assert difference <= 1e-10
