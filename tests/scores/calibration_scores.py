"""What `test_calibration.py` runs of the verbs of scores: data on which nothing is to be found, or something that is planted.

CASES names the rows of the table: what is run, from a seed, an effect and a number of draws to p-values; how often for 500 null sets or
more; the effect that is planted; and, where the p-value is a bound by construction, that no more than its share may pass. QUICK says how
often the cases run that go with the tests.
"""

from functools import partial

import numpy as np
import xarray as xr

import brainalign as ba
from brainalign.engine.correlate import pearson_columns, pooled_pearson
from brainalign.engine.moments import weighted_fold_sums

PHIS = (0.0, 0.5, 0.8, 0.95)
REFITS = (("20 refits", False, 20), ("bound without refits", True, 0))


def sides(x, y, ids=None, **coords):
    ids = [f"s{i:04d}" for i in range(len(x))] if ids is None else ids
    source = ba.responses(x, stimulus_id=ids, neuroid_id=range(x.shape[1]), modality="ann", system="net", layer="l", **coords)
    return source, ba.responses(y, stimulus_id=ids, neuroid_id=range(y.shape[1]), modality="fmri", system="brain", **coords)


def autocorrelated(n_runs, length, columns, phi, rng):
    """Return independent first-order processes of unit variance, which start anew in each run."""
    x = rng.normal(size=(n_runs, length, columns))
    for i in range(1, length):
        x[:, i] = phi * x[:, i - 1] + np.sqrt(1 - phi**2) * x[:, i]
    return x.reshape(-1, columns)


def in_runs(n_runs, length):
    return {"run": np.repeat([str(i) for i in range(n_runs)], length), "onset_s": np.tile(2.0 * np.arange(length), n_runs)}


def images(rng, n, effect):
    x = rng.normal(size=(80, 6))
    return *sides(x, rng.normal(size=(80, n)) + effect * x[:, :1]), {"cv": 5}


def repeated(rng, n, effect, repeats):
    x = np.repeat(rng.normal(size=(40, 6)), 3, axis=0)
    y = np.repeat(rng.normal(size=(40, n)), 3, axis=0) + rng.normal(size=(120, n)) + 1.5 * effect * x[:, :1]
    return *sides(x, y, ids=np.repeat([f"s{i:02d}" for i in range(40)], 3)), {"cv": 5, "repeats": repeats}


def unequal_groups(rng, n, effect):
    sizes = [6, 9, 15, 20, 30]
    means = np.repeat(rng.normal(size=(5, n)), sizes, axis=0)  # each session has its own level
    x = rng.normal(size=(80, 6))
    y = rng.normal(size=(80, n)) + means + effect * x[:, :1]
    return *sides(x, y, session=np.repeat(list("abcde"), sizes)), {"groups": "session"}


def in_time(rng, n, effect, phi, n_runs=6, length=60):
    x, y = autocorrelated(n_runs, length, 4, phi, rng), autocorrelated(n_runs, length, n, phi, rng)
    return *sides(x, y + effect * x[:, :1], **in_runs(n_runs, length)), {"groups": "run"} if n_runs > 1 else {"cv": 5}


def evaluated(seed, effect, draws, data):
    """Ten neuroids from one source, everything fitted anew in each permutation."""
    source, target, options = data(np.random.default_rng(seed), 10, effect)
    result = ba.evaluate(
        source, target, model=ba.Ridge(cv=3), controls="none", n_permutations=draws, random_state=seed, **options
    )
    return result.p_value.values


def any_cell(seed, effect, draws):
    """Twelve cells of layers × regions together."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 9))
    source, target = sides(x, rng.normal(size=(60, 12)) + effect * x[:, :1] * (np.arange(12) < 3))
    source = source.assign_coords(layer=("neuroid", np.repeat(list("abc"), 3).astype("T")))
    target = target.assign_coords(region=("neuroid", np.repeat(list("wxyz"), 3).astype("T")))
    options = {"model": ba.Ridge(alphas=[10.0]), "cv": 4, "controls": "none", "n_permutations": draws, "random_state": seed}
    return ba.compare(source, target, by=("layer", "region"), **options).p_value_max.values.min(keepdims=True).ravel()


def ordered(seed, effect, draws):
    """Seven regions that read one of seven layers each, in the order of the layers with noise, or in an order that was drawn."""
    rng = np.random.default_rng(seed)
    layers = rng.normal(size=(7, 80, 2))
    place = np.argsort(np.arange(7) + rng.normal(size=7)) if effect else rng.permutation(7)
    x, y = layers.transpose(1, 0, 2).reshape(80, 14), layers[place].transpose(1, 0, 2).reshape(80, 14) + rng.normal(size=(80, 14))
    source, target = sides(x, y)
    names = {side: np.repeat([f"{side}{k}" for k in range(7)], 2) for side in ("layer", "region")}
    source, target = (v.assign_coords({side: ("neuroid", names[side])}) for v, side in ((source, "layer"), (target, "region")))
    grid = ba.compare(
        source, target, by=("layer", "region"), cv=4, model=ba.Ridge(alphas=[1.0]), controls="none", random_state=seed
    )
    out = ba.hierarchy(grid, [f"region{k}" for k in range(7)], n_permutations=draws, random_state=seed)
    return out.p_value.sel(summary=["centre-of-mass"]).values


def predicted(seed, effect, draws, phi=None, n_runs=6, length=60, block_s=None, null="auto", within=None):
    """Predictions that are noise of their own for each of a hundred neuroids, or hold something of the responses."""
    rng = np.random.default_rng(seed)
    if phi is not None:
        x, y = (autocorrelated(n_runs, length, 100, phi, rng) for _ in range(2))
        labels = in_runs(n_runs, length)
    else:
        counts = np.arange(60) % 4 + 1  # stimuli shown once to four times, in sessions of 6 to 30
        rows = np.repeat(np.arange(60), counts)
        session = np.repeat(list("abcd"), [6, 9, 15, 30])[rows]
        level = rng.normal(size=(2, 4, 100)) if within else np.zeros((2, 4, 100))
        x, y = (rng.normal(size=(60, 100))[rows] + side[np.searchsorted(list("abcd"), session)] for side in level)
        y = y + rng.normal(size=y.shape)
        labels = {"ids": [f"s{i:02d}" for i in rows], "session": session}
    prediction, truth = sides(x, y + effect * x, **labels)
    options = {"null": null, "block_s": block_s, "within": within}
    return ba.permutation_test(prediction, truth, n_permutations=draws, random_state=seed, **options).p_value.values


def people(rng, effect, n=8, cells=50):
    """Scores of subjects with different numbers of neuroids, in two layers; the second is better by the effect."""
    sizes = rng.integers(2, 20, size=n)
    subject = np.repeat([f"sub-{i}" for i in range(n)], sizes)
    own = np.repeat(rng.normal(size=(cells, n, 2)), sizes, axis=1) + rng.normal(size=(cells, len(subject), 2))
    own[..., 1] += effect
    return xr.Dataset({"score": (("cell", "neuroid", "layer"), own)}, {"subject": ("neuroid", subject), "layer": ["a", "b"]})


def signs(seed, effect, draws, paired):
    rng = np.random.default_rng(seed)
    result = people(rng, effect)
    first, second = result.sel(layer="a"), result.sel(layer="b")
    options = {"over": "subject", "n_permutations": draws, "random_state": seed}
    out = ba.permutation_test(second, first, **options) if paired else ba.permutation_test(second, **options)
    return out.p_value.values.ravel()


def equals(rng, effect, width, n_stimuli, n=10):
    """Return two sources that see the same of what drives the target; of an effect the first sees more."""
    driver = rng.normal(size=(n_stimuli, width))
    y = driver @ rng.normal(size=(width, n)) / np.sqrt(width) + 0.5 * rng.normal(size=(n_stimuli, n))
    both = [sides(driver + noise * rng.normal(size=(n_stimuli, width)), y)[0] for noise in (1.0, 1.0 + effect)]
    return *both, sides(driver, y)[1]


def folds(seed, effect, draws, width, n, refits):
    first, second, target = equals(np.random.default_rng(seed), effect, width, n)
    options = {"model": ba.Ridge(cv=3), "cv": 10, "controls": "none", "n_refits": refits, "random_state": 0}
    results = [ba.evaluate(side, target, **options) for side in (first, second)]
    tested = ba.permutation_test(*results, over="fold", n_permutations=draws, random_state=seed)
    return tested["p_value" if refits else "p_value_bound"].values


def redrawn_stimuli(seed, effect, draws, width, n, refits):
    """Each data set has sources of its own, and ridge fitted to them in folds."""
    first, second, target = equals(np.random.default_rng(seed), effect, width, n)
    options = {
        "model": ba.Ridge(cv=3),
        "cv": 5,
        "controls": "none",
        "n_bootstraps": draws,
        "n_refits": refits,
        "random_state": seed,
    }
    results = {name: ba.evaluate(side, target, **options) for name, side in (("first", first), ("second", second))}
    return ba.bootstrap(results, over="stimulus")["p_value" if refits else "p_value_bound"].values.ravel()


def given_models(seed, effect, draws):
    """Predictions that no fold fitted: of each the same is right."""
    rng = np.random.default_rng(seed)
    truth, weights = rng.normal(size=(100, 40)), rng.multinomial(100, np.full(100, 0.01), size=draws)
    both = np.stack([truth + (1.0 + k * effect) * rng.normal(size=truth.shape) for k in (0, 1)], axis=2)
    sums = weighted_fold_sums(np.repeat(truth, 2, axis=1), both.reshape(100, 80), weights.astype(float))
    score = pearson_columns(np.repeat(truth, 2, axis=1), both.reshape(100, 80)).reshape(40, 2)
    dims = ("neuroid", "model")
    redrawn = (("bootstrap", *dims), pooled_pearson(sums).reshape(draws, 40, 2))
    result = xr.Dataset({"score": (dims, score), "score_bootstrap": redrawn, "n_units": 100})
    return ba.bootstrap(result, over="stimulus", between="model").p_value.values.ravel()


def redrawn_subjects(seed, effect, draws, n):
    result = people(np.random.default_rng(seed), effect, n=n)
    return ba.bootstrap(result, over="subject", between="layer", n_bootstraps=draws, random_state=seed).p_value.values.ravel()


def two_factors(seed, effect, draws, over, n_subjects=8, n_stimuli=40, cells=20):
    """Scores that are means over stimuli of subject, stimulus and single noise, in two layers; stimuli redrawn for all alike."""
    rng = np.random.default_rng(seed)
    shape = (n_subjects, n_stimuli, cells, 2)
    x = 0.5 * rng.normal(size=(n_subjects, 1, *shape[2:])) + rng.normal(size=(1, *shape[1:])) + 2.0 * rng.normal(size=shape)
    x[..., 1] += effect
    weights = rng.multinomial(n_stimuli, np.full(n_stimuli, 1 / n_stimuli), size=draws) / n_stimuli
    dims = ("subject", "cell", "layer")
    redrawn = (("bootstrap", *dims), np.einsum("bs,uscl->bucl", weights, x))
    result = xr.Dataset({"score": (dims, x.mean(axis=1)), "score_bootstrap": redrawn, "n_units": n_stimuli})
    return ba.bootstrap(result, over=over, between="layer", random_state=seed).p_value.values.ravel()


def alike(seed, effect, draws, null, width=35.0, n=200):
    """Two maps on a sphere, each smooth, that share nothing, or something."""
    rng = np.random.default_rng(seed)
    height, turn = 1 - 2 * (np.arange(n) + 0.5) / n, np.pi * (1 + 5**0.5) * np.arange(n)
    flat = np.sqrt(1 - height**2)
    places = 100 * np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    values, vectors = np.linalg.eigh(np.exp(-0.5 * (distance / width) ** 2))
    x, y = (vectors * np.sqrt(np.maximum(values, 0)) @ rng.normal(size=(n, 2))).T
    coords = {name: ("neuroid", places[:, i]) for i, name in enumerate(("x_mm", "y_mm", "z_mm"))}
    maps = [
        xr.DataArray(v, dims="neuroid", coords={"neuroid_id": ("neuroid", np.arange(n)), **coords}) for v in (x, y + effect * x)
    ]
    return np.atleast_1d(ba.permutation_test(*maps, null=null, n_permutations=draws, random_state=seed).p_value.values)


def of(run, n_calls, effect, bound=False, **options):
    return partial(run, **options), n_calls, effect, bound


CASES = {
    "`evaluate`: images, 5 folds": of(evaluated, 60, 0.6, data=images),
    "`evaluate`: images, three repeats averaged": of(evaluated, 60, 0.6, data=partial(repeated, repeats="average")),
    "`evaluate`: images, three repeats kept": of(evaluated, 60, 0.6, data=partial(repeated, repeats="keep")),
    "`evaluate`: sessions of 6 to 30 images, one left out": of(evaluated, 60, 0.6, data=unequal_groups),
    **{f"`evaluate`: 6 runs of 60, AR(1) φ = {phi:g}": of(evaluated, 60, e, data=partial(in_time, phi=phi)) for phi, e in zip(PHIS, (0.6, 0.6, 0.6, 1.0), strict=True)},
    **{f"`evaluate`: one run of 500 in blocks, AR(1) φ = {phi:g}": of(evaluated, 60, e, data=partial(in_time, phi=phi, n_runs=1, length=500)) for phi, e in ((0.5, 0.6), (0.95, 1.0))},
    "`compare`: any of 12 cells by `p_value_max`": of(any_cell, 500, 1.0),
    "`hierarchy`: seven layers and seven regions": of(ordered, 500, 1.0),
    "`permutation_test`: stimuli shown 1 to 4 times": of(predicted, 10, 0.8),
    "`permutation_test`: exchanged within sessions of 6 to 30": of(predicted, 10, 0.8, within="session"),
    **{f"`permutation_test`: 6 runs of 60, AR(1) φ = {phi:g}": of(predicted, 10, e, phi=phi) for phi, e in zip(PHIS, (0.3, 0.3, 0.6, 1.0), strict=True)},
    **{f"`permutation_test`: one run of 500, AR(1) φ = {phi:g}": of(predicted, 10, e, phi=phi, n_runs=1, length=500) for phi, e in zip(PHIS, (0.3, 0.3, 0.6, 1.0), strict=True)},
    **{f"`permutation_test`: phases of 6 runs of 60, AR(1) φ = {phi:g}": of(predicted, 10, 0.6, phi=phi, null="phase") for phi in PHIS[:3]},
    **{f"`permutation_test`: blocks of 30 s of 6 runs of 60, AR(1) φ = {phi:g}": of(predicted, 10, 0.6, phi=phi, null="block", block_s=30.0) for phi in PHIS[:2]},
    "`permutation_test`: scores of 8 subjects": of(signs, 20, 1.5, paired=False),
    "`permutation_test`: difference of two layers in 8 subjects": of(signs, 20, 2.0, paired=True),
    **{f"`permutation_test`: difference of two sources of {w} features in 10 folds of {n} stimuli, {how}": of(folds, 60, 50.0, bound, width=w, n=n, refits=r) for how, bound, r in REFITS for w, n in ((3, 120), (30, 200))},
    **{f"`bootstrap`: difference of two layers in {n} subjects": of(redrawn_subjects, 20, e, n=n) for n, e in ((6, 3.0), (20, 1.0))},
    "`bootstrap`: difference of two given models over 100 stimuli": of(given_models, 25, 1.0),
    **{f"`bootstrap`: difference of two sources of {w} features, fitted in 5 folds, over {n} stimuli, {how}": of(redrawn_stimuli, 60, 50.0, bound, width=w, n=n, refits=r) for how, bound, r in REFITS for w, n in ((3, 100), (30, 200))},
    "`bootstrap`: difference of two layers over 40 stimuli and 8 subjects": of(two_factors, 50, 2.0, over=("subject", "stimulus")),
    "`permutation_test`: two maps, spin": of(alike, 500, 2.0, null="spin"),
    "`permutation_test`: two maps, variogram": of(alike, 500, 2.0, null="variogram"),
}  # fmt: skip
QUICK = {
    "`evaluate`: images, three repeats kept": 12,
    "`evaluate`: 6 runs of 60, AR(1) φ = 0.8": 12,
    "`compare`: any of 12 cells by `p_value_max`": 20,
    "`permutation_test`: exchanged within sessions of 6 to 30": 2,
    "`permutation_test`: 6 runs of 60, AR(1) φ = 0.95": 2,
    "`permutation_test`: one run of 500, AR(1) φ = 0.8": 2,
    "`permutation_test`: difference of two layers in 8 subjects": 4,
    "`bootstrap`: difference of two given models over 100 stimuli": 5,
    "`bootstrap`: difference of two layers over 40 stimuli and 8 subjects": 8,
    "`permutation_test`: two maps, variogram": 40,
}
