"""Numbers of the simulated study: stimuli, a random network, readouts, timing and noise; plain numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import signal, stats

TR_S = 2.0
TRIAL_S = 4.0
STIMULUS_S = 1.0
REST_S = 16.0  # after the last trial of a run, so that its response is seen
TRIALS_PER_RUN = 100
RESPONSE_SD_S = 0.03
MEG_RATE_HZ = 100.0
EPOCH_S = (-0.1, 0.5)
BIN_S = 0.02
N_INPUTS = 12
N_COMPONENTS = 4
RATE_DEPTH = 0.5
BASELINE_COUNT = 0.2
BOLD_AUTOCORRELATION = 0.4


@dataclass(frozen=True)
class Readout:
    """A sparse random linear readout of one layer.

    Attributes
    ----------
    signal : ndarray, (stimulus, neuroid)
        Mean 0 and variance 1 over the stimuli.
    units : ndarray of int, (neuroid, input)
        Which units of the layer each neuroid reads.
    weights : ndarray, (neuroid, input)
        On the raw units, such that ``signal = units @ weights + constant``.
    """

    signal: np.ndarray
    units: np.ndarray
    weights: np.ndarray


def random_images(rng: np.random.Generator, n_stimuli: int, n_conditions: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw stimuli around the prototypes of their conditions.

    Parameters
    ----------
    rng : Generator
    n_stimuli, n_conditions, n_features : int

    Returns
    -------
    values : ndarray, (n_stimuli, n_features)
    condition : ndarray of int, (n_stimuli,)
    """
    condition = np.arange(n_stimuli) % n_conditions
    prototypes = rng.standard_normal((n_conditions, n_features))
    values = 0.6 * prototypes[condition] + 0.8 * rng.standard_normal((n_stimuli, n_features))
    return values.astype(np.float32), condition


def random_network(rng: np.random.Generator, inputs: np.ndarray, widths: Sequence[int]) -> list[np.ndarray]:
    """Pass inputs through a random rectified network whose layers differ by more than a linear map.

    Parameters
    ----------
    rng : Generator
    inputs : ndarray, (stimulus, feature)
    widths : sequence of int
        Units of each layer.

    Returns
    -------
    list of ndarray, each (stimulus, width)
    """
    layers, below = [], inputs
    for width in widths:
        drive = below @ rng.standard_normal((below.shape[1], width)) / np.sqrt(below.shape[1])
        drive = (drive - drive.mean(axis=0)) / drive.std(axis=0)
        below = np.maximum(drive * 2.0 - rng.uniform(0.0, 1.5, width), 0.0)
        layers.append(below.astype(np.float32))
    return layers


def sparse_readout(rng: np.random.Generator, layer: np.ndarray, n_neuroids: int) -> Readout:
    """Read a layer with sparse random weights, each neuroid standardised over the stimuli.

    Parameters
    ----------
    rng : Generator
    layer : ndarray, (stimulus, unit)
        Units that do not vary are never read.
    n_neuroids : int

    Returns
    -------
    Readout
    """
    values = np.asarray(layer, dtype=np.float64)
    spread = values.std(axis=0)
    live = np.flatnonzero(spread > 1e-6 * max(float(spread.max()), 1e-30))
    n_inputs = min(N_INPUTS, live.size)
    units = np.stack([rng.choice(live, n_inputs, replace=False) for _ in range(n_neuroids)])
    # Units are weighted in their own standard deviations, otherwise the few largest would be all that is read.
    weights = rng.standard_normal((n_neuroids, n_inputs)) / spread[units]
    response = np.stack([values[:, u] @ w for u, w in zip(units, weights, strict=True)], axis=1)
    scale = response.std(axis=0)
    return Readout((response - response.mean(axis=0)) / scale, units, weights / scale[:, None])


def trial_table(rng: np.random.Generator, n_stimuli: int, n_repeats: int) -> pd.DataFrame:
    """Lay out trials in runs: every stimulus once per repeat, in random order.

    Parameters
    ----------
    rng : Generator
    n_stimuli, n_repeats : int

    Returns
    -------
    DataFrame
        ``stimulus`` (position), ``run`` (str), ``onset_s`` within the run, ``duration_s``; one row a trial.
    """
    rows, run = [], 0
    for _ in range(n_repeats):
        for part in np.array_split(rng.permutation(n_stimuli), -(-n_stimuli // TRIALS_PER_RUN)):
            run += 1
            rows.append(pd.DataFrame({"stimulus": part, "run": str(run), "onset_s": TRIAL_S * np.arange(part.size)}))
    return pd.concat(rows, ignore_index=True).assign(duration_s=STIMULUS_S)


def bold_design(times_s: np.ndarray, onsets_s: np.ndarray, duration_s: float) -> np.ndarray:
    """Return the BOLD response of one run to a unit block at each onset.

    Parameters
    ----------
    times_s : ndarray, (volume,)
    onsets_s : ndarray, (trial,)
    duration_s : float

    Returns
    -------
    ndarray, (volume, trial)

    Notes
    -----
    The double-gamma response of SPM12, gamma(6) − gamma(16)/6 (0.167 as nilearn rounds it), scaled to unit area and
    integrated over the block in closed form.
    """
    lag = times_s[:, None] - onsets_s[None, :]

    def area(t: np.ndarray) -> np.ndarray:
        return (stats.gamma.cdf(t, 6) - 0.167 * stats.gamma.cdf(t, 16)) / (1 - 0.167)

    return area(lag) - area(lag - duration_s)


def envelope(times_s: np.ndarray, latency_s: float) -> np.ndarray:
    """Return the strength of a region's response over time, 1 at its latency.

    Parameters
    ----------
    times_s : ndarray, (time,)
    latency_s : float

    Returns
    -------
    ndarray, (time,)
    """
    return np.exp(-0.5 * ((times_s - latency_s) / RESPONSE_SD_S) ** 2)


def autocorrelated_noise(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> np.ndarray:
    """Draw AR(1) noise of variance 1 at every sample.

    Parameters
    ----------
    rng : Generator
    shape : tuple of int
        (sample, neuroid)
    rho : float
        Correlation of neighbouring samples.

    Returns
    -------
    ndarray, (sample, neuroid)
    """
    innovations = rng.standard_normal(shape) * np.sqrt(1 - rho**2)
    innovations[0] /= np.sqrt(1 - rho**2)
    return signal.lfilter([1.0], [1.0, -rho], innovations, axis=0)


def peak_count(snr: np.ndarray) -> np.ndarray:
    """Return the mean count in the bin of the peak that gives Poisson counts a signal-to-noise ratio.

    Parameters
    ----------
    snr : ndarray, (neuroid,)

    Returns
    -------
    ndarray, (neuroid,)

    Notes
    -----
    Counts of mean ``b + m (1 + c s)`` with a standardised signal ``s`` have signal variance ``m² c²`` and noise variance
    ``m + b``; ``m`` solves ``m² c² = snr (m + b)``.
    """
    depth = RATE_DEPTH**2
    return (snr + np.sqrt(snr**2 + 4 * depth * snr * BASELINE_COUNT)) / (2 * depth)


def ceiling_r(signal_variance: np.ndarray, noise_variance: np.ndarray, n_repeats: int) -> np.ndarray:
    """Return the correlation of the noise-free signal with the average of some repeats.

    Parameters
    ----------
    signal_variance, noise_variance : ndarray
        Over stimuli, and of one trial around its stimulus' mean.
    n_repeats : int

    Returns
    -------
    ndarray; Pearson r, 0 to 1

    Notes
    -----
    √(S / (S + N/R)), for noise that is independent of the signal (law of total variance).
    """
    return np.sqrt(signal_variance / (signal_variance + noise_variance / n_repeats))
