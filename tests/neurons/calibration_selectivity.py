"""Cases of calibration for statistics of neuroids whose p-values come from labels, angles or stimuli that change places."""

from functools import partial

import numpy as np
import xarray as xr

import brainalign as ba


def recorded(values, **coords):
    ids = {"stimulus_id": [f"s{i:03d}" for i in range(len(values))]} | coords
    return ba.responses(values, neuroid_id=range(values.shape[1]), modality="behaviour", system="x", **ids)


def selective(seed, effect, draws, metric, n_repeats=1):
    """Twenty stimuli of each of three categories, and ten neuroids, of skewed noise, that prefer the first or none."""
    rng = np.random.default_rng(seed)
    label = np.repeat(rng.permutation(np.repeat(list("abc"), 20)), n_repeats)
    values = np.repeat(rng.gamma(2.0, size=(60, 10)), n_repeats, axis=0) + effect * (label == "a")[:, None]
    if n_repeats > 1:
        values += rng.normal(size=values.shape)
    ids = np.repeat([f"s{i}" for i in range(60)], n_repeats)
    x = recorded(values, condition=label, stimulus_id=ids)
    out = ba.selectivity(x, "condition", metric=metric, n_permutations=draws, random_state=seed)
    return out.p_value.values if metric == "lape" else out.p_value.sel(category="a").values


def tuned(seed, effect, draws):
    """Eight trials of eight directions, and ten cells that prefer one orientation or none."""
    rng = np.random.default_rng(seed)
    degrees = np.tile(np.arange(0, 360, 45), 8)
    x = recorded(rng.gamma(2.0, size=(64, 10)) + effect * np.cos(2 * np.deg2rad(degrees))[:, None], presentation={"deg": degrees})
    return ba.neurons.tuning(x, "deg", n_permutations=draws, random_state=seed).p_value.sel(tuning="orientation").values


def localised(seed, effect, draws):
    """Five of fifty neuroids that prefer one of two conditions, or none, on the half that did not select them."""
    rng = np.random.default_rng(seed)
    label = np.tile(["a", "b"], 20)
    x = recorded(rng.normal(size=(40, 50)) + effect * (label == "a")[:, None] * (np.arange(50) < 5), condition=label)
    out = ba.neurons.localise(x, "condition", ("a", "b"), n_selected=5, n_draws=draws, random_state=seed)
    return out.p_value_random.values[None]


def matched(seed, effect, draws, null):
    """Ten neuroids with a counterpart in noise among twenty, or none."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 10)), rng.normal(size=(60, 20))
    y[:, :10] += effect * x
    options = {"n_permutations": draws, "n_rotations": 0} if null == "exchange" else {"n_rotations": draws}
    out = ba.match(recorded(x), recorded(y), random_state=seed, **options)
    return out["p_value" if null == "exchange" else "p_value_rotation"].values


def shared(seed, effect, draws):
    """Two sets of a fifth of 1,000 neuroids, for each of ten categories, drawn apart, or the second more often from the first."""
    rng = np.random.default_rng(seed)
    first = rng.random((1000, 10)) < 0.2
    sets = (first, rng.random((1000, 10)) < 0.2 + effect * (first - 0.2))
    coords = {"neuroid_id": ("neuroid", np.arange(1000))}
    return ba.neurons.overlap(*(xr.DataArray(x, dims=("neuroid", "category"), coords=coords) for x in sets)).p_value.values


CASES = {
    **{f"`selectivity`: ten neuroids, {m}": (partial(selective, metric=m), 60, e, False) for m, e in (("auroc", 2.0), ("dprime", 2.0), ("mutual-information", 2.0), ("lape", 4.0))},
    "`selectivity`: ten neuroids, stimuli shown three times, auroc": (partial(selective, metric="auroc", n_repeats=3), 60, 2.0, False),
    "`neurons.tuning`: ten cells, eight directions": (tuned, 60, 1.2, False),
    "`neurons.localise`: five of fifty against random ones": (localised, 600, 1.5, False),
    "`match`: ten neuroids among twenty, stimuli exchanged": (partial(matched, null="exchange"), 60, 1.0, False),
    "`match`: ten neuroids among twenty, rotations": (partial(matched, null="rotation"), 60, 2.0, False),
    "`neurons.overlap`: sets of 200 of 1,000 neuroids, ten categories": (shared, 60, 0.15, False),
}  # fmt: skip
QUICK = {
    "`selectivity`: ten neuroids, auroc": 10, "`selectivity`: ten neuroids, lape": 10, "`neurons.tuning`: ten cells, eight directions": 10,
    "`match`: ten neuroids among twenty, stimuli exchanged": 10,
}  # fmt: skip
