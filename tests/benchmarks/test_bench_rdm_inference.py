"""Bootstraps of RDMs, 20 subjects × 92 stimuli × 8 models × 1000 samples with noise ceilings, against rsatoolbox: CPU time, equal draws."""

import warnings
from statistics import median
from time import process_time

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import squareform

import brainalign as ba
from brainalign.engine.bootstrap import draw_weights
from brainalign.engine.rdm_bootstrap import redrawn_parts

pytestmark = pytest.mark.bench

N_SUBJECTS, N_STIMULI, N_MODELS, N_DRAWS, ROUNDS = 20, 92, 8, 1000, 3
N_PEER = 4  # samples that the peer makes in a round; its time grows with their number
MEASURES = {
    "cosine": ("cosine", "100 times fewer CPU seconds than rsatoolbox, ceilings included"),
    "pearson": ("corr", "100 times fewer CPU seconds than rsatoolbox, ceilings included"),
    "spearman": ("spearman", "50 times fewer CPU seconds than rsatoolbox, ceilings included"),
    "rho-a": ("rho-a", "50 times fewer CPU seconds than rsatoolbox, ceilings included"),
    "whitened-cosine": ("cosine_cov", "100 times fewer CPU seconds than rsatoolbox, ceilings included"),
}


@pytest.fixture(scope="module")
def vectors():
    """Models, one of them with ties, and subjects that share a geometry with them."""
    rng = np.random.default_rng(0)
    true = rng.gamma(2.0, size=N_STIMULI * (N_STIMULI - 1) // 2)
    models = np.abs(true + 2 * rng.normal(size=(N_MODELS, true.size)))
    models[0] = models[0] > 3
    return models, np.abs(true + rng.normal(size=(N_SUBJECTS, true.size)))


def cpu_seconds(function, into):
    start = process_time()
    result = function()
    into.append(process_time() - start)
    return result


def labelled(x, dim):
    ids = [f"s{i:02d}" for i in range(N_STIMULI)]
    values = np.stack([squareform(v) for v in x])
    return xr.DataArray(values, dims=(dim, "stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})


def peer_samples(vectors, method, n, function="eval_bootstrap"):
    """Return what rsatoolbox makes of n samples, and which they were."""
    rsatoolbox = pytest.importorskip("rsatoolbox")
    models = [rsatoolbox.model.ModelFixed(str(i), rsatoolbox.rdm.RDMs(m[None])) for i, m in enumerate(vectors[0])]
    data = rsatoolbox.rdm.RDMs(vectors[1])
    np.random.seed(1)  # noqa: NPY002 (it has no other)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = getattr(rsatoolbox.inference, function)(models, data, method=method, N=n)
    np.random.seed(1)  # noqa: NPY002
    taken = [[np.bincount(np.random.randint(0, m, size=m), minlength=m) for m in (N_SUBJECTS, N_STIMULI)] for _ in range(n)]  # noqa: NPY002
    return result, *(np.array(x) for x in zip(*taken, strict=True))


def our_samples(vectors, metric, units, counts):
    """Return scores of samples, and the bounds of their ceilings."""
    scores, bounds = [], []
    for part in (made() for made in redrawn_parts(vectors[0], vectors[1][None], metric, counts)):
        scores.append((part.scores * units[part.draws, None]).mean(axis=-1))
        bounds.append([np.nanmean(bound, axis=1) for bound in part.bounds(units[part.draws])])
    return np.concatenate(scores), np.concatenate(bounds, axis=1)


@pytest.mark.parametrize("metric", MEASURES)
def test_samples_of_subjects_and_stimuli(benchmark, vectors, metric):
    method, target = MEASURES[metric]
    rng = np.random.default_rng(0)
    units, counts = draw_weights(N_SUBJECTS, N_DRAWS, rng), draw_weights(N_STIMULI, N_DRAWS, rng)
    ours, theirs = [], []

    def peer():
        cpu_seconds(lambda: peer_samples(vectors, method, N_PEER), theirs)

    wanted, *drawn = peer_samples(vectors, method, N_PEER)
    scores, bounds = our_samples(vectors, metric, *drawn)
    np.testing.assert_allclose(scores, wanted.evaluations, atol=1e-10)
    np.testing.assert_allclose(bounds, wanted.noise_ceiling, atol=1e-10)
    benchmark.pedantic(
        lambda: cpu_seconds(lambda: our_samples(vectors, metric, units, counts), ours), setup=peer, rounds=ROUNDS, warmup_rounds=1
    )
    benchmark.extra_info |= {
        "target": target,
        "CPU seconds": round(median(ours), 3),
        f"ratio, interleaved, theirs from {N_PEER} samples": round(median(theirs) / N_PEER * N_DRAWS / median(ours), 1),
    }


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
def test_two_factors_from_rdms_to_p_values(benchmark, vectors, metric):
    """All of compare_rdms with the corrected variance, against the three bootstraps of eval_dual_bootstrap."""
    models, data = labelled(vectors[0], "model"), labelled(vectors[1], "subject")
    options = {"over": ("subject", "stimulus"), "between": "source_model", "n_bootstraps": N_DRAWS, "random_state": 0}
    ours, theirs = [], []

    def peer():
        cpu_seconds(lambda: peer_samples(vectors, MEASURES[metric][0], N_PEER, "eval_dual_bootstrap"), theirs)

    found = benchmark.pedantic(
        lambda: cpu_seconds(lambda: ba.compare_rdms(models, data, metric=metric, **options), ours),
        setup=peer,
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    benchmark.extra_info |= {
        "CPU seconds": round(median(ours), 3),
        f"ratio, interleaved, theirs from {N_PEER} samples": round(median(theirs) / N_PEER * N_DRAWS / median(ours), 1),
    }
    rsatoolbox = pytest.importorskip("rsatoolbox")
    wanted = rsatoolbox.rdm.compare(*(rsatoolbox.rdm.RDMs(x) for x in vectors), method=MEASURES[metric][0]).mean(axis=1)
    np.testing.assert_allclose(found.score, wanted, atol=1e-10)
