"""Cases of calibration for ``fit_rdms``: stimuli renamed, and the whole fit repeated."""

from functools import partial

import numpy as np
import xarray as xr

import brainalign as ba


def geometry(x, dim):
    """Return squared distances of patterns, (entry, stimulus, stimulus_2)."""
    ids = [f"s{i:02d}" for i in range(x.shape[1])]
    values = np.square(x[:, :, None] - x[:, None]).sum(axis=-1)
    return xr.DataArray(values, dims=(dim, "stimulus", "stimulus_2"), coords={"stimulus": ids, "stimulus_2": ids})


def fitted(seed, effect, draws, model):
    """Ten geometries that share nothing with two layers, or something with the second."""
    rng = np.random.default_rng(seed)
    layers = rng.normal(size=(2, 18, 8))
    target = geometry(rng.normal(size=(10, 18, 8)) + effect * layers[1], "region")
    options = {"model": model, "n_repeats": 1, "n_permutations": draws, "random_state": seed}
    return ba.geometry.fit_rdms(geometry(layers, "layer"), target, **options).p_value.values


CASES = {
    f"`fit_rdms`: stimuli of ten geometries renamed, {m}": (partial(fitted, model=m), 60, 2.0) for m in ("weighted", "select")
}
QUICK = {"`fit_rdms`: stimuli of ten geometries renamed, weighted": 10}
