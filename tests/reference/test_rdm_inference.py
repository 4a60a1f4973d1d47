"""Redrawn RDMs, ceilings and clusters equal rsatoolbox's and MNE's on the same draws, and its defects are not ours."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scipy.spatial.distance import squareform

import brainalign as ba
from brainalign.engine.bootstrap import Drawn, draw_weights, two_factor_variance
from brainalign.engine.clusters import cluster_mass, cluster_p_values, sign_flip_t, tfce
from brainalign.engine.rdm_bootstrap import redrawn_parts
from brainalign.engine.resample import draw_signs

N, N_SUBJECTS, N_MODELS, N_DRAWS = 20, 6, 3, 8
NAMES = {
    "cosine": "cosine",
    "pearson": "corr",
    "spearman": "spearman",
    "rho-a": "rho-a",
    "tau-a": "tau-a",
    "tau-b": "tau-b",
    "whitened-cosine": "cosine_cov",
    "whitened-pearson": "corr_cov",
}
#: Noise ceilings of the four people of the 92 images, rsatoolbox 0.3.2.
CEILINGS = {
    "spearman": (0.3723, 0.6657),
    "rho-a": (0.3723, 0.6657),
    "tau-a": (0.2539, 0.4767),
    "cosine": (0.9881, 0.9933),
    "pearson": (0.3944, 0.6804),
    "whitened-pearson": (0.4298, 0.6958),
}


@pytest.fixture(scope="module")
def vectors():
    """Return models, one of them with ties, and data."""
    rng = np.random.default_rng(0)
    true = rng.gamma(2.0, size=N * (N - 1) // 2)
    models = np.abs(true + 2 * rng.normal(size=(N_MODELS, true.size)))
    models[0] = np.round(models[0])
    return models, np.abs(true + rng.normal(size=(N_SUBJECTS, true.size)))


def labelled(x, dim):
    ids = [f"s{i:02d}" for i in range(N)]
    return xr.DataArray(
        np.stack([squareform(v) for v in x]), dims=(dim, "stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids}
    )


def redrawn_by_rsatoolbox(models, data, method, monkeypatch, function="eval_bootstrap"):
    """Return its result, and the draws that it made."""
    rsatoolbox = pytest.importorskip("rsatoolbox")
    from rsatoolbox.inference import evaluate

    monkeypatch.setattr(evaluate.tqdm, "trange", range)
    fixed = [rsatoolbox.model.ModelFixed(str(i), rsatoolbox.rdm.RDMs(m[None])) for i, m in enumerate(models)]
    np.random.seed(1)  # noqa: NPY002 (it has no other)
    result = getattr(rsatoolbox.inference, function)(fixed, rsatoolbox.rdm.RDMs(data), method=method, N=N_DRAWS)
    np.random.seed(1)  # noqa: NPY002
    taken = [[np.bincount(np.random.randint(0, n, size=n), minlength=n) for n in (N_SUBJECTS, N)] for _ in range(N_DRAWS)]  # noqa: NPY002
    return result, *(np.array(x) for x in zip(*taken, strict=True))


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize("metric", NAMES)
def test_every_draw_and_its_ceiling_are_those_of_rsatoolbox(vectors, metric, monkeypatch):
    models, data = vectors
    theirs, units, counts = redrawn_by_rsatoolbox(models, data, NAMES[metric], monkeypatch)
    (part,) = (made() for made in redrawn_parts(models, data[None], metric, counts))
    np.testing.assert_allclose((part.scores * units[:, None]).mean(axis=-1), theirs.evaluations, atol=1e-10)
    for bound, wanted in zip(part.bounds(units), theirs.noise_ceiling, strict=True):
        np.testing.assert_allclose(np.nanmean(bound, axis=1), wanted, atol=1e-10)


def test_the_variance_of_two_factors_is_theirs(vectors, monkeypatch):
    """Small-sample and large-sample form; theirs cuts at the variance of both even below a corrected part, so that is left out."""
    models, data = vectors
    theirs, _, _ = redrawn_by_rsatoolbox(models, data, "corr", monkeypatch, "eval_dual_bootstrap")
    from rsatoolbox.util.inference_util import extract_variances

    both, by_unit, by_stimulus = (np.diagonal(theirs.variances[i])[:N_MODELS] for i in range(3))
    for sizes in ((N_SUBJECTS, N), (None, None)):
        wanted = extract_variances(theirs.variances, True, *sizes)[0]
        ours = two_factor_variance(by_unit, by_stimulus, both, n_first=sizes[0], n_second=sizes[1])
        free = wanted < both
        assert free.any()
        np.testing.assert_allclose(ours[free], wanted[free], rtol=1e-10)


def test_intervals_have_two_ends():
    """Theirs of a t distribution are the same negative number for both."""
    inference_util = pytest.importorskip("rsatoolbox.util.inference_util")
    theirs = inference_util.get_errorbars(np.array([0.01]), np.array([[0.4]]), 19, "ci95", "t-test")
    assert theirs[0] == theirs[1] < 0
    draws = 0.4 + 0.1 * np.random.default_rng(0).normal(size=(4000, 1))
    low, high = Drawn(np.array([0.4]), draws, (), [20]).interval(0.95)
    np.testing.assert_allclose([low[0], high[0]], 0.4 + np.array([1, -1]) * theirs[0], atol=0.015)


@pytest.mark.filterwarnings("ignore:Noise ceiling for tau")
@pytest.mark.parametrize("metric", NAMES)
def test_ceilings_of_the_data_as_they_are(vectors, metric):
    noise_ceiling = pytest.importorskip("rsatoolbox.inference.noise_ceiling")
    from rsatoolbox.rdm import RDMs

    models, data = vectors
    out = ba.compare_rdms(labelled(data, "subject"), labelled(models, "layer"), metric=metric, ceiling="subject")
    wanted = noise_ceiling.boot_noise_ceiling(RDMs(data), method=NAMES[metric])
    np.testing.assert_allclose([out.ceiling_low.mean(), out.ceiling_high.mean()], wanted, atol=1e-10)


@pytest.mark.real
@pytest.mark.parametrize("metric", CEILINGS)
def test_ceilings_of_ninety_two_pictures(shared_data, metric):
    folder = shared_data("images92-kriegeskorte")
    ids = [f"picture {i}" for i in range(92)]
    sessions = ba.open_rdms(folder / "92_brainRDMs.mat", stimulus_id=ids)
    names = [str(name).split(" | ")[1] for name in sessions["rdm"].values]
    people = sessions.assign_coords(subject=("rdm", names)).groupby("subject").mean()
    models = ba.open_rdms(folder / "92_modelRDMs.mat", stimulus_id=ids, dim="model")
    out = ba.compare_rdms(models, people, metric=metric, ceiling="subject")
    np.testing.assert_allclose([out.ceiling_low.mean(), out.ceiling_high.mean()], CEILINGS[metric], atol=5.1e-5)


@pytest.mark.parametrize("shape", [(8, 40), (7, 12, 14)])
@pytest.mark.parametrize("tail", [0, 1])
def test_clusters_are_those_of_mne(shape, tail):
    """Of all sign changes. One-sided, MNE counts the data twice and leaves out the draw in which all signs change."""
    mne = pytest.importorskip("mne")
    x = np.random.default_rng(0).normal(size=shape)
    x[:, 5:9] += 1.0
    signs = draw_signs(len(x), 10_000, np.random.default_rng(0))
    t, null = sign_flip_t(x, np.ones((1, len(x)))), sign_flip_t(x, signs)[:, None]
    threshold = stats.t.isf(0.05 if tail else 0.025, len(x) - 1)
    options = {"n_permutations": 10_000, "tail": tail, "out_type": "mask", "verbose": "error"}
    close = (1.0 + 1e-9) / 2 ** len(x) if tail else 1e-12
    for method, at in (("mass", threshold), ("tfce", {"start": 0.0, "step": 0.1})):
        observed, clusters, p, largest = mne.stats.permutation_cluster_1samp_test(x, threshold=at, **options)
        wanted = t if method == "mass" else tfce(t, tail=tail)
        np.testing.assert_allclose(wanted[0], observed if method == "mass" else np.abs(observed), rtol=1e-9)
        wanted = np.ones(shape[1:]) if method == "mass" else p.reshape(shape[1:])
        for cluster, value in zip(clusters, p, strict=False):
            if method == "mass":
                wanted[cluster] = value
        ours = cluster_p_values(t, null, method=method, threshold=threshold, tail=tail)[0]
        np.testing.assert_allclose(ours, wanted, atol=close)
        sizes = cluster_mass(null[:, 0], threshold, tail=tail) if method == "mass" else tfce(null[:, 0], tail=tail)
        found = np.sort(sizes.reshape(len(signs), -1).max(axis=1))[-50:]
        assert np.isclose(found[:, None], np.abs(largest), rtol=1e-9).any(axis=1).mean() > 0.97


def test_draws_of_subjects_need_no_pairs(vectors):
    """Weights of 0 and more are what a resampled list of subjects is."""
    models, data = vectors
    (part,) = (made() for made in redrawn_parts(models, data[None], "pearson", np.ones((1, N), dtype=int)))
    units = draw_weights(N_SUBJECTS, 50, np.random.default_rng(0))
    r = np.array([[stats.pearsonr(m, d)[0] for d in data] for m in models])
    np.testing.assert_allclose((part.scores * units[:, None]).mean(axis=-1), units @ r.T / N_SUBJECTS, rtol=1e-10)
