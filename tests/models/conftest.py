"""Two simulated cases, after the cards: responses whose places are fixed, and responses that follow what is in the picture."""

import numpy as np
import pytest

import brainalign as ba


def recordings(maps, y, side, **labels):
    """Return maps (row, place, channel) of ``side`` × ``side`` places, and a target, as labelled responses."""
    n, places, channels = maps.shape
    ids, at = [f"s{i:04d}" for i in range(n)], np.repeat(np.arange(places), channels)
    x = ba.responses(maps.reshape(n, -1), stimulus_id=ids, neuroid_id=np.arange(places * channels), modality="ann", system="net",
                     layer="conv1", channel_x=at % side, channel_y=at // side, unit=np.tile(np.arange(channels), places))  # fmt: skip
    labels = {"modality": "fmri", "system": "sub-01", "region": "V1"} | labels
    return x, ba.responses(y, stimulus_id=ids, neuroid_id=np.arange(y.shape[1]), **labels)


def with_noise(rng, signal):
    """Return the signal at unit variance with as much noise: the best correlation that there is to reach is √½."""
    signal = signal / signal.std(axis=0)
    return signal + rng.normal(size=signal.shape)


@pytest.fixture(scope="session")
def fixed_fields():
    """Return a maker of (source, target, planted place): each neuroid reads all channels at one place."""

    def make(n=1000, side=8, n_channels=16, n_neuroids=40, seed=0, **labels):
        rng = np.random.default_rng(seed)
        maps = rng.normal(size=(n, side * side, n_channels)).astype(np.float32)
        place, weights = rng.integers(side * side, size=n_neuroids), rng.normal(size=(n_channels, n_neuroids))
        y = with_noise(rng, np.einsum("nvc,cv->nv", maps[:, place], weights))
        return *recordings(maps, y, side, **labels), place

    return make


@pytest.fixture(scope="session")
def routed_content():
    """Return a maker of (source, target, place per picture): all neuroids read the place that is marked in a picture."""

    def make(n=1000, side=8, n_channels=16, n_neuroids=40, seed=0, **labels):
        rng = np.random.default_rng(seed)
        maps = rng.normal(size=(n, side * side, n_channels)).astype(np.float32)
        mark = np.eye(n_channels, dtype=np.float32)[0]
        at = rng.integers(side * side, size=n)
        maps[np.arange(n), at] += 5 * mark
        weights = rng.normal(size=(n_channels, n_neuroids)) * (1 - mark[:, None])
        return *recordings(maps, with_noise(rng, maps[np.arange(n), at] @ weights), side, **labels), at

    return make


@pytest.fixture(scope="session")
def held_out_r():
    """Return the mean correlation of a mapping's predictions, after fitting it to the first rows."""

    def score(model, x, y, n_train=500):
        predicted, truth = model.fit(x[:n_train], y[:n_train]).predict(x[n_train:]).values, y[n_train:].values
        predicted, truth = predicted - predicted.mean(axis=0), truth - truth.mean(axis=0)
        return float(((predicted * truth).sum(axis=0) / np.sqrt((predicted**2).sum(axis=0) * (truth**2).sum(axis=0))).mean())

    return score
