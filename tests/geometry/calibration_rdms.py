"""Cases of calibration for RDMs: renamed stimuli, signs of people, clusters, differences of models, and what two geometries tell."""

from functools import partial

import numpy as np
import xarray as xr

import brainalign as ba


def geometry(x, *dims):
    """Return squared distances of patterns, (..., stimulus, stimulus_2)."""
    ids = [f"s{i:02d}" for i in range(x.shape[-2])]
    values = np.square(x[..., :, None, :] - x[..., None, :, :]).sum(axis=-1)
    return xr.DataArray(values, dims=(*dims, "stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})


def renamed(seed, effect, draws, metric):
    """Ten geometries that share nothing with the source, or something."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 8))
    target = geometry(rng.normal(size=(10, 20, 8)) + effect * x, "region")
    return ba.compare_rdms(geometry(x), target, metric=metric, n_permutations=draws, random_state=seed).p_value.values


def anywhere(seed, effect, draws, null="exchange", clusters=None):
    """Three layers and eight people over twelve times, together; times of a person are alike."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(3, 16, 8)), rng.normal(size=(8, 12, 16, 8)) + 0.5 * rng.normal(size=(8, 1, 16, 8))
    y[:, 4:8] += effect * x[0]
    options = {"over": "subject", "null": null, "clusters": clusters, "n_permutations": draws, "random_state": seed}
    out = ba.compare_rdms(geometry(x, "layer"), geometry(y, "subject", "time"), metric="pearson", **options)
    return (out.p_value_max if clusters is None else out.p_value_cluster).values.min(keepdims=True).ravel()


def equals(seed, effect, draws, over, metric):
    """Two models as far from what people share, who weigh it in ways of their own; of an effect the second is farther."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(40, 10))
    models = shared + np.array([0.5, 0.5 + effect])[:, None, None] * rng.normal(size=(2, 40, 10))
    people = shared * (1 + 0.3 * rng.normal(size=(8, 1, 10))) + 0.7 * rng.normal(size=(8, 40, 10))
    target = geometry(people, "subject") if "subject" in over else geometry(people[0])
    options = {"over": over, "between": "source_model", "n_bootstraps": draws, "random_state": seed}
    return ba.compare_rdms(geometry(models, "model"), target, metric=metric, **options).difference_p_value.values


def dependent(seed, effect, draws):
    """Ten geometries that share nothing with the source, or something, at the best of 36 pairs of thresholds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(20, 8))
    target = geometry(rng.normal(size=(10, 20, 8)) + effect * x, "region")
    options = {"n_thresholds": 4, "n_permutations": draws, "random_state": seed}
    return ba.geometry.adaptive_dependence(geometry(x), target, **options).p_value.values


def told(seed, effect, draws):
    """Which of four regions it is, by two geometries that know as much, or of which the second hardly knows."""
    rng = np.random.default_rng(seed)
    regions = rng.normal(size=(4, 24, 8))
    noise = np.array([1.5, 1.5 + effect])[:, None, None, None, None] * rng.normal(size=(2, 10, 4, 24, 8))
    rdms = {name: geometry(regions + some, "subject", "region") for name, some in zip("ab", noise, strict=True)}
    return ba.geometry.identify_groups(rdms, n_bootstraps=draws, random_state=seed).p_value_bound.values


def of(run, n_calls, effect, bound=False, **options):
    return partial(run, **options), n_calls, effect, bound


BOTH = ("subject", "stimulus")
CASES = {
    **{f"`compare_rdms`: stimuli of ten geometries renamed, {m}": of(renamed, 60, 1.0, metric=m) for m in ("pearson", "spearman")},
    "`compare_rdms`: any of 3 layers × 12 times by `p_value_max`": of(anywhere, 500, 0.7),
    **{f"`compare_rdms`: any cluster of 3 layers over 12 times, {c}, {n}": of(anywhere, 500, 0.7, null=n, clusters=c) for c, n in (("mass", "exchange"), ("tfce", "exchange"), ("mass", "sign"))},
    **{f"`compare_rdms`: difference of two models over 40 stimuli, {m}": of(equals, 500, 4.0, over="stimulus", metric=m) for m in ("pearson", "whitened-cosine")},
    **{f"`compare_rdms`: difference of two models over 40 stimuli and 8 subjects, {m}": of(equals, 500, 3.0, over=BOTH, metric=m) for m in ("pearson", "spearman")},
    "`geometry.adaptive_dependence`: ten geometries, the best of 36 pairs of thresholds": of(dependent, 60, 1.0),
    "`geometry.identify_groups`: difference of two geometries, ten people and 24 stimuli": of(told, 500, 6.0, True),
}  # fmt: skip
QUICK = {
    "`compare_rdms`: stimuli of ten geometries renamed, spearman": 10,
    "`compare_rdms`: any cluster of 3 layers over 12 times, mass, sign": 60,
    "`compare_rdms`: difference of two models over 40 stimuli and 8 subjects, pearson": 60,
}
