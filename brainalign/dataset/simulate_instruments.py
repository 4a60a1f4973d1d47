"""The three instruments that see a simulated brain: what each records, and the ceilings that follow from its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.responses import responses
from brainalign.dataset import simulate_signals as signals


@dataclass(frozen=True)
class Plan:
    """What every instrument needs to know."""

    layers: dict[str, np.ndarray]
    layer_of: dict[str, str]
    latency_s: dict[str, float]
    stimulus_id: np.ndarray
    condition: np.ndarray | None
    trials: pd.DataFrame
    n_neuroids: int
    n_channels: int
    n_repeats: int
    snr: tuple[float, float]
    system: str
    streams: dict[str, np.random.SeedSequence]

    def rng(self, stream: str) -> np.random.Generator:
        """Return the generator of one recording."""
        return np.random.default_rng(self.streams[stream])

    def draw_snr(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return a signal-to-noise ratio per neuroid, log-uniform."""
        return np.exp(rng.uniform(*np.log(self.snr), n))


@dataclass(frozen=True)
class Recording:
    """One recording and its planted truth."""

    values: xr.DataArray
    signal: xr.DataArray
    ceiling: xr.DataArray
    ceiling_single: xr.DataArray
    weights: pd.DataFrame
    mixing: xr.DataArray | None = None


def _readouts(plan: Plan, rng: np.random.Generator, n: int) -> tuple[dict[str, np.ndarray], np.ndarray, pd.DataFrame]:
    """Return the labels, the signal (stimulus, neuroid) and the weights of ``n`` readouts per region."""
    parts = {region: signals.sparse_readout(rng, plan.layers[layer], n) for region, layer in plan.layer_of.items()}
    neuroid = {
        "neuroid_id": np.array([f"{region}-{i:03d}" for region in parts for i in range(n)], dtype=object),
        "region": np.repeat(np.array(list(parts), dtype=object), n),
    }
    inputs = [part.units.shape[1] for part in parts.values() for _ in range(n)]
    weights = pd.DataFrame({name: np.repeat(values, inputs) for name, values in neuroid.items()})
    weights["layer"] = weights["region"].map(plan.layer_of)
    weights["unit"] = np.concatenate([part.units.ravel() for part in parts.values()])
    weights["weight"] = np.concatenate([part.weights.ravel() for part in parts.values()])
    return neuroid, np.concatenate([part.signal for part in parts.values()], axis=1), weights


def _recording(
    plan: Plan,
    values: np.ndarray,
    signal: np.ndarray,
    variances: tuple[np.ndarray, np.ndarray],
    weights: pd.DataFrame,
    *,
    rows: tuple[dict[str, Any], dict[str, Any]] | None = None,
    n_repeats: int | None = None,
    mixing: np.ndarray | None = None,
    **options: Any,
) -> Recording:
    """Label values (one row a trial) and signal (one row a stimulus), and work out the ceilings from (S, N)."""
    by_stimulus = {"stimulus_id": plan.stimulus_id, **({} if plan.condition is None else {"condition": plan.condition})}
    of_trial = plan.trials["stimulus"].to_numpy()
    by_trial = {name: ids[of_trial] for name, ids in by_stimulus.items()} | {"run": plan.trials["run"].to_numpy()}
    signal_rows, value_rows = rows or (by_stimulus, by_trial)
    labelled = responses(values, **value_rows, system=plan.system, **options)
    truth = responses(signal.astype(np.float32), **signal_rows, system=plan.system, **{**options, "deterministic": True})
    dims = truth.dims[1:]
    coords = {name: coord for name, coord in truth.coords.items() if set(coord.dims) <= set(dims)}
    averaged, single = (
        xr.DataArray(signals.ceiling_r(*variances, n), dims=dims, coords=coords, attrs={"units": "Pearson r"}, name="ceiling")
        for n in (n_repeats or plan.n_repeats, 1)
    )
    mixed = None
    if mixing is not None:
        names = weights["neuroid_id"].drop_duplicates().to_numpy()
        mixed = xr.DataArray(mixing, dims=("neuroid", "component"), coords={"component": names.astype(str)})
        mixed = mixed.assign_coords(neuroid_id=truth["neuroid_id"])
    return Recording(labelled, truth, averaged, single, weights, mixed)


def _fmri(plan: Plan) -> dict[str, Recording]:
    rng = plan.rng("fmri")
    neuroid, signal, weights = _readouts(plan, rng, plan.n_neuroids)
    snr = plan.draw_snr(rng, signal.shape[1])
    of_trial = plan.trials["stimulus"].to_numpy()
    betas = signal[of_trial] + rng.standard_normal((of_trial.size, snr.size)) / np.sqrt(snr)
    label = {"neuroid": neuroid, "neuroid_id": neuroid["neuroid_id"], "modality": "fmri", "units": "a.u."}
    trialwise = _recording(plan, betas, signal, (np.ones(snr.size), 1 / snr), weights, **label)
    return {"fmri": trialwise, "bold": _bold(plan, signal[of_trial], snr, weights, label)}


def _bold(plan: Plan, trial_signal: np.ndarray, snr: np.ndarray, weights: pd.DataFrame, label: dict[str, Any]) -> Recording:
    rng = plan.rng("bold")
    clean, noise, tables = [], [], []
    for run, trials in plan.trials.groupby("run", sort=False):
        end = trials["onset_s"].max() + signals.REST_S
        times = np.arange(0.0, end, signals.TR_S)
        design = signals.bold_design(times, trials["onset_s"].to_numpy(), signals.STIMULUS_S)
        clean.append(design @ trial_signal[trials.index])
        noise.append(signals.autocorrelated_noise(rng, clean[-1].shape, signals.BOLD_AUTOCORRELATION))
        ids = [f"run-{run}/v{i:05d}" for i in range(times.size)]
        tables.append(pd.DataFrame({"stimulus_id": ids, "run": run, "onset_s": times, "duration_s": signals.TR_S}))
    signal = np.concatenate(clean)
    noise_variance = signal.var(axis=0) / snr
    values = signal + np.concatenate(noise) * np.sqrt(noise_variance)
    rows = {name: column.to_numpy() for name, column in pd.concat(tables, ignore_index=True).items()}
    label = label | {"neuroid": label["neuroid"] | {"sampling_rate_hz": np.full(snr.size, 1 / signals.TR_S)}}
    return _recording(
        plan, values, signal, (signal.var(axis=0), noise_variance), weights, rows=(rows, rows), n_repeats=1, **label
    )


def _meg(plan: Plan) -> dict[str, Recording]:
    rng = plan.rng("meg")
    start, stop = signals.EPOCH_S
    times = np.round(np.arange(round((stop - start) * signals.MEG_RATE_HZ) + 1) / signals.MEG_RATE_HZ + start, 6)
    neuroid, components, weights = _readouts(plan, rng, signals.N_COMPONENTS)
    mixing = rng.standard_normal((plan.n_channels, components.shape[1])) / np.sqrt(signals.N_COMPONENTS)
    course = np.stack([signals.envelope(times, plan.latency_s[str(region)]) for region in neuroid["region"]])
    signal = np.einsum("sk,ck,kt->sct", components, mixing, course, optimize=True).astype(np.float32)
    variance = signal.var(axis=0, dtype=np.float64)
    noise_variance = variance.max(axis=1) / plan.draw_snr(rng, plan.n_channels)
    values = signal[plan.trials["stimulus"].to_numpy()]
    values += rng.standard_normal(values.shape, dtype=np.float32) * np.sqrt(noise_variance).astype(np.float32)[:, None]
    names = [f"meg-{i:03d}" for i in range(plan.n_channels)]
    noise = np.broadcast_to(noise_variance[:, None], variance.shape)
    label = {"neuroid_id": names, "channel": names, "modality": "meg", "units": "a.u.", "sampling_rate_hz": signals.MEG_RATE_HZ}
    return {"meg": _recording(plan, values, signal, (variance, noise), weights, mixing=mixing, time=times, **label)}


def _spikes(plan: Plan) -> dict[str, Recording]:
    rng = plan.rng("spikes")
    start, stop = signals.EPOCH_S
    centres = np.round(start + signals.BIN_S * (np.arange(round((stop - start) / signals.BIN_S)) + 0.5), 6)
    neuroid, signal, weights = _readouts(plan, rng, plan.n_neuroids)
    peak = signals.peak_count(plan.draw_snr(rng, signal.shape[1]))
    course = np.stack([signals.envelope(centres, plan.latency_s[str(region)]) for region in neuroid["region"]])
    drive = np.maximum(1 + signals.RATE_DEPTH * signal, 0) * peak
    rate = (signals.BASELINE_COUNT + drive[:, :, None] * course).astype(np.float32)
    counts = rng.poisson(rate[plan.trials["stimulus"].to_numpy()]).astype(np.int16)
    variances = (rate.var(axis=0, dtype=np.float64), rate.mean(axis=0, dtype=np.float64))
    label = {"neuroid": neuroid, "neuroid_id": neuroid["neuroid_id"], "modality": "spikes", "units": "spikes/bin"}
    return {"spikes": _recording(plan, counts, rate, variances, weights, time=centres, **label)}


INSTRUMENTS = {"fmri": _fmri, "meg": _meg, "spikes": _spikes}
