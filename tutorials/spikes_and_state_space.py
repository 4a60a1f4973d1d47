# %% [markdown]
# # Spikes and state space
#
# What spikes say can lie in how many there are, in who fires, in when each fires, and in how the state behind them moves. Four simulated
# recordings, of which we know the answer, and what finds it. Units of a spiking network go through the same calls.

# %%
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import brainalign as ba

warnings.simplefilter("ignore", ConvergenceWarning)  # thirty rounds are enough
rng = np.random.default_rng(0)

# %% [markdown]
# ## Several animals, one population
#
# Three animals chose left or right; in each, a few neurons differ from 0.1 s on. Their trials were never recorded together. A
# pseudo-population puts trials of the same choice side by side, and uses each trial of each animal once: its rows share no trial, and any
# folds of them train and test on different ones.

# %%
times = np.arange(8) / 20


def animal(name, n_trials, n_neurons=6):
    """Count spikes of an animal around its choices, which some of its neurons tell."""
    choice = rng.permutation(np.resize(["left", "right"], n_trials))
    gain = 0.8 * (choice == "left")[:, None, None] * (rng.random((1, n_neurons, 1)) < 0.5) * (times >= 0.1)
    return ba.responses(rng.poisson(1.0 + gain), stimulus_id=[f"{name}-{i}" for i in range(n_trials)], neuroid_id=range(n_neurons),
                        time=times, modality="spikes", system=name, condition=choice)  # fmt: skip


animals = {name: animal(name, n) for name, n in (("m1", 70), ("m2", 90), ("m3", 64))}
together = ba.models.pseudo_population(animals, random_state=0)
ask = {"model": ba.Classifier("ridge", C=0.1), "cv": 4, "random_state": 0}
joint = ba.decode_time(together, "condition", n_permutations=500, **ask)
alone = ba.decode_time(animals, "condition", **ask)
for t, each, both, p in zip(times, alone.score.values.T, joint.score.values, joint.p_value_max.values, strict=True):
    print(f"{1e3 * t:4.0f} ms  alone {np.round(each, 2)}  together {both:.2f}  p = {p:.3f}")

# %% [markdown]
# Correlations between animals are gone, for they never were: what noise the animals share would do is not seen here. Another draw of partners
# gives another score; that spread is not an error over animals.
#
# ## Motifs, each neuron with a delay of its own
#
# Twelve spikes at twelve delays, of which eight in ten occur, in a background as dense. The number of spikes tells next to nothing of it.

# %%
N, DELAYS, HZ = 40, 21, 1000.0
truth = np.zeros((N, DELAYS), dtype=bool)
truth[rng.choice(N, 12, replace=False), rng.integers(DELAYS, size=12)] = True


def raster(bins):
    """Return spikes and the bins in which the motif ends."""
    spikes, ends = rng.random((bins, N)) < 0.02, rng.random((bins, 1)) < 0.008
    ends[: DELAYS - 1] = False
    for neuron, delay in np.argwhere(truth):
        at = np.flatnonzero(ends) - delay
        spikes[at[rng.random(len(at)) < 0.8], neuron] = True
    return spikes.astype(int), ends.astype(int)


train, test = raster(12_000), raster(12_000)
found = {}
for method in ("logistic", "log-odds"):
    detector = ba.models.MotifDetector(0.02, method, sampling_rate_hz=HZ).fit(*train)
    found[method] = detector.average_precision(*test)
    best = np.argsort(detector.coef_[0], axis=None)[-12:]
    hits = np.isin(best, np.flatnonzero(truth)).mean()
    scores = found[method].isel(neuroid=0)
    print(f"{method:9} precision {float(scores.score):.3f}, of the rate {float(scores.population_rate):.3f}, chance {float(scores.chance):.3f}; "
          f"delays recovered {hits:.0%}")  # fmt: skip

# %% [markdown]
# ## How precise is the code?
#
# Six stimuli, two spikes a neuron for each of them, that differ by when these come, and jitter by 5 ms. Distances of spike trains ask at a
# timescale of your choice: Victor and Purpura's moves a spike, up to twice the timescale, rather than take it away and put another. At a long
# one only counts are left, and here these say nothing.

# %%
bins_s, when = np.arange(200) / 1000, rng.uniform(0.02, 0.18, size=(6, 4, 2))
counts = np.zeros((60, 4, 200), dtype=int)
for trial in range(60):
    for neuron in range(4):
        for moment in when[trial % 6, neuron] + 0.005 * rng.normal(size=2):
            counts[trial, neuron, int(1000 * np.clip(moment, 0, 0.199))] += 1
ids = [f"s{trial % 6}" for trial in range(60)]
halves = [
    ba.responses(
        counts[rows], stimulus_id=[ids[i] for i in rows], neuroid_id=range(4), time=bins_s, modality="spikes", system="m"
    )
    for rows in (np.arange(0, 30), np.arange(30, 60))
]
likeness = {}
for scale in (0.001, 0.02, 0.1):
    rdms = [ba.geometry.spike_distance(half, timescale_s=scale) for half in halves]
    likeness[scale] = float(ba.compare_rdms(*rdms, metric="pearson").score)
    print(
        f"timescale {scale:5} s: RDMs of two halves of the trials, r = {likeness[scale]:.2f}, distance {float(rdms[0].mean()):.2f}"
    )
only_counts = ba.geometry.spike_distance(halves[0], timescale_s=np.inf)
print(f"counts alone: distance {float(only_counts.max()):.2f}")

# %% [markdown]
# ## Where is the animal?
#
# A position that moves smoothly, and neurons that have a place. A Wiener filter (`TRF` with the lags of the past) weighs the last spikes; the
# Kalman filter knows how positions move but takes rates for linear in them, which place cells' are not; its discriminative form takes what any
# regressor says instead.

# %%
steps = 8000
z = np.zeros((steps, 2))
for t in range(1, steps):
    z[t] = 0.98 * z[t - 1] + np.sqrt(1 - 0.98**2) * rng.normal(size=2)
centres = rng.uniform(-2.5, 2.5, size=(80, 2))
rate = 0.05 + 2.0 * np.exp(-np.square(z[:, None] - centres).sum(axis=2) / (2 * 0.6**2))
spikes, cut = rng.poisson(rate).astype(float), 3 * steps // 4
models = {
    "ridge, one bin": ba.Ridge(),
    "Wiener filter": ba.TRF(0.0, 0.5, sampling_rate_hz=10.0),
    "Kalman filter": ba.KalmanDecoder(),
    "discriminative": ba.KalmanDecoder(
        "discriminative",
        MLPRegressor(hidden_layer_sizes=(64,), alpha=1.0, max_iter=30, random_state=0),
        cv=3,
    ),
}
error = {}
for name, model in models.items():
    guess = model.fit(spikes[:cut], z[:cut]).predict(spikes[cut:])
    error[name] = float(np.sqrt(np.square(guess - z[cut:]).mean()))
    print(f"{name:15} off by {error[name]:.2f} (of {z[cut:].std():.2f} without spikes)")

# %% [markdown]
# The conclusion, as a test: animals together tell more than each alone, and nothing before there is anything to tell; motifs are found and
# their delays recovered where rates say nothing; the code is seen at its own precision; and the filter that is right about place cells wins.

# %%
after = times >= 0.1
assert (joint.p_value_max.values[after] < 0.05).all()
assert (joint.p_value_max.values[~after] > 0.05).all()
assert (joint.score.values[after] > alone.score.values[:, after].mean(axis=0)).all()
assert all(float(scores.score[0]) > 0.98 and float(scores.population_rate[0]) < 0.2 for scores in found.values())
assert hits == 1.0
assert likeness[0.02] > 0.9 > likeness[0.001]
assert float(only_counts.max()) == 0.0
assert error["discriminative"] < min(error["Kalman filter"], error["Wiener filter"]) < error["ridge, one bin"]
