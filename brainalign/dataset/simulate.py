"""``simulate``: a study whose truth is known, as a test bed for every verb.

A region reads one layer of a network. Its signal is a sparse random linear readout of that layer, standardised over the
stimuli; three instruments then see it, each with its own timing, mixing and noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError, SchemaError
from brainalign.core.parameters import check_choice, check_number, check_random_state, did_you_mean, preview
from brainalign.core.provenance import write_step
from brainalign.core.responses import responses
from brainalign.core.schema import as_labels, group_label, validate
from brainalign.dataset import simulate_signals as signals
from brainalign.dataset.simulate_instruments import INSTRUMENTS, Plan, Recording

REGIONS = ("V1", "V4", "IT")
WIDTHS = {"layer1": 64, "layer2": 48, "layer3": 40, "layer4": 32}
STREAMS = ("stimuli", "network", "events", "fmri", "bold", "meg", "spikes")
FIRST_LATENCY_S, LATENCY_STEP_S = 0.08, 0.06


@dataclass(frozen=True)
class Truth:
    """What was planted.

    Attributes
    ----------
    layer : dict of str to str
        The layer that each region reads.
    latency_s : dict of str to float
        When each region's response peaks, in MEG and spikes.
    ceiling, ceiling_single : dict of str to DataArray, (neuroid[, time])
        By recording (``fmri bold meg spikes``): Pearson r of the noise-free signal with the average of the repeats, and with
        one trial. ``bold`` has no repeats of a volume: its two ceilings are equal.
    signal : dict of str to DataArray, (presentation, neuroid[, time])
        Noise-free responses, one row a stimulus (``bold``: one row a volume).
    weights : dict of str to DataFrame
        ``neuroid_id, region, layer, unit, weight`` of every input; on the layer's raw units. For ``meg`` the readouts are
        those of the regions' components.
    mixing : DataArray, (neuroid, component), or None
        How much each MEG channel sees of each component.
    seed : int
    """

    layer: dict[str, str]
    latency_s: dict[str, float]
    ceiling: dict[str, xr.DataArray]
    ceiling_single: dict[str, xr.DataArray]
    signal: dict[str, xr.DataArray]
    weights: dict[str, pd.DataFrame]
    mixing: xr.DataArray | None
    seed: int


@dataclass(frozen=True)
class Simulation:
    """One simulated study; a recording that was not asked for is None.

    Attributes
    ----------
    network : DataArray, (presentation, neuroid)
        Responses of the network, one row a stimulus, with a ``layer`` coord.
    stimuli : Dataset or None
        Stimulus table; None where the network was given without one.
    events : DataFrame
        ``stimulus_id, run, onset_s, duration_s`` of every trial.
    fmri : DataArray or None, (presentation, neuroid)
        One response estimate per trial and voxel.
    bold : DataArray or None, (presentation, neuroid)
        The same voxels as a continuous recording, one row a volume.
    meg : DataArray or None, (presentation, neuroid, time)
    spikes : DataArray or None, (presentation, neuroid, time); counts
    truth : Truth
    """

    network: xr.DataArray
    stimuli: xr.Dataset | None
    events: pd.DataFrame
    fmri: xr.DataArray | None
    bold: xr.DataArray | None
    meg: xr.DataArray | None
    spikes: xr.DataArray | None
    truth: Truth

    @property
    def brain(self) -> xr.DataArray:
        """The fMRI responses, (presentation, neuroid).

        Raises
        ------
        CapabilityError
            No fMRI was simulated.
        """
        if self.fmri is None:
            raise CapabilityError("simulation has no 'fmri' recording, which `brain` stands for. Add it to `modalities`.")
        return self.fmri

    def network_at_events(self) -> xr.DataArray:
        """Return the network's responses with one row per trial and its ``onset_s``, ``duration_s`` and ``run``.

        Returns
        -------
        DataArray, (presentation, neuroid)
            What a chain with a temporal step (:class:`brainalign.HRF`) takes to predict ``bold``.
        """
        ids = pd.Index(self.network["stimulus_id"].values.astype(object))
        rows = self.network.isel(presentation=ids.get_indexer(self.events["stimulus_id"]))
        timing = {name: ("presentation", as_labels(self.events[name].to_numpy())) for name in ("run", "onset_s", "duration_s")}
        count = self.events.groupby("stimulus_id", sort=False).cumcount().to_numpy()
        return write_step(
            rows.assign_coords(timing | {"repetition": ("presentation", count)}),
            "network_at_events",
            inputs={"network": self.network},
        )


def simulate(
    source: xr.DataArray | None = None,
    *,
    stimuli: xr.Dataset | None = None,
    regions: Mapping[str, str] | Sequence[str] | None = None,
    n_stimuli: int | None = None,
    n_neuroids: int = 30,
    n_channels: int = 32,
    n_repeats: int = 4,
    snr: float | tuple[float, float] = 1.0,
    modalities: Sequence[str] = ("fmri", "meg", "spikes"),
    system: str = "sub-01",
    random_state: int | np.random.Generator | None = None,
) -> Simulation:
    """Simulate a brain that reads the layers of a network, recorded by up to three instruments.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid), optional
        Responses of any network, one row a stimulus, with a ``layer`` (or ``region``) coord. By default, a random
        rectified network of four layers on stimuli of eight conditions.
    stimuli : Dataset, optional
        Table of the source's stimuli, handed on.
    regions : mapping of str to str, or sequence of str, optional
        The layer that each region reads; names alone are spread evenly over the layers in their order. Default V1, V4, IT.
    n_stimuli : int, optional
        Default 200, or all of the source's; fewer than the source has are drawn at random.
    n_neuroids, n_channels, n_repeats : int
        Voxels and spiking sites per region; MEG channels; presentations of each stimulus.
    snr : float, or (low, high)
        Signal over noise variance of one trial (MEG, spikes: at the peak; ``bold``: over volumes). A pair: drawn
        log-uniformly between the two, per neuroid.
    modalities : sequence of {"fmri", "meg", "spikes"}
    system : str
        Whose brain it is.
    random_state : int, Generator or None
        One stream per recording is spawned from it: leaving one out does not change the others.

    Returns
    -------
    Simulation
        Recordings with their events and the planted :class:`Truth`.

    Raises
    ------
    ParameterError
        A region of an unknown layer, more stimuli than the source has, an impossible number.
    SchemaError
        The source has repeats, a time dim, no groups of neuroids, or a layer in which nothing varies.

    Notes
    -----
    A region's signal is a sparse random linear readout of its layer with variance 1 over the stimuli. Voxels add Gaussian noise;
    ``bold`` convolves the trials with the double-gamma response and adds AR(1) noise; MEG channels mix the regions' components,
    each with a Gaussian time course at its region's latency, and add noise; spikes are Poisson around a rectified rate.
    The ceiling √(S / (S + N/R)) holds exactly for the planted S and N.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_repeats=4, snr=1.0, random_state=0)
    >>> study.brain.shape, study.truth.layer
    ((800, 90), {'V1': 'layer1', 'V4': 'layer2', 'IT': 'layer4'})
    >>> float(study.truth.ceiling["fmri"].mean().round(3))
    0.894
    """
    asked: dict[str, Any] = {name: value for name, value in locals().items() if name not in ("source", "stimuli", "random_state")}
    _check(asked)
    seed = check_random_state(random_state, owner="simulate")
    streams = dict(zip(STREAMS, np.random.SeedSequence(seed).spawn(len(STREAMS)), strict=True))
    if source is None:
        network, stimuli = _random_study(streams, n_stimuli or 200, asked, seed)
    else:
        network = _chosen(validate(source, name="source"), n_stimuli, np.random.default_rng(streams["stimuli"]))
        stimuli = _rows_of(stimuli, network)
    plan = _plan(network, asked, streams)
    made = {name: part for modality in modalities for name, part in INSTRUMENTS[modality](plan).items()}
    return _study(plan, made, network, stimuli, asked, seed)


def _check(asked: dict[str, Any]) -> None:
    for name in ("n_neuroids", "n_channels", "n_repeats"):
        check_number(name, asked[name], owner="simulate", low=1, integer=True)
    if asked["n_stimuli"] is not None:
        check_number("n_stimuli", asked["n_stimuli"], owner="simulate", low=4, integer=True)
    for modality in asked["modalities"]:
        check_choice("modalities", modality, tuple(INSTRUMENTS), owner="simulate")


def _plan(network: xr.DataArray, asked: dict[str, Any], streams: dict[str, np.random.SeedSequence]) -> Plan:
    layers = _layers(network)
    layer_of = _region_map(asked["regions"], list(layers))
    ids = network["stimulus_id"].values
    return Plan(
        layers={name: layers[name] for name in dict.fromkeys(layer_of.values())},
        layer_of=layer_of,
        latency_s={region: round(FIRST_LATENCY_S + LATENCY_STEP_S * i, 3) for i, region in enumerate(layer_of)},
        stimulus_id=ids,
        condition=network["condition"].values if "condition" in network.coords else None,
        trials=signals.trial_table(np.random.default_rng(streams["events"]), ids.size, asked["n_repeats"]),
        snr=_snr_range(asked["snr"]),
        streams=streams,
        **{name: asked[name] for name in ("n_neuroids", "n_channels", "n_repeats", "system")},
    )


def _study(
    plan: Plan,
    made: dict[str, Recording],
    network: xr.DataArray,
    stimuli: xr.Dataset | None,
    params: dict[str, Any],
    seed: int,
) -> Simulation:
    truth = Truth(
        layer=plan.layer_of,
        latency_s=plan.latency_s,
        ceiling={key: part.ceiling for key, part in made.items()},
        ceiling_single={key: part.ceiling_single for key, part in made.items()},
        signal={key: part.signal for key, part in made.items()},
        weights={key: part.weights for key, part in made.items()},
        mixing=next((part.mixing for part in made.values() if part.mixing is not None), None),
        seed=seed,
    )
    recordings: dict[str, xr.DataArray | None] = dict.fromkeys(("fmri", "bold", "meg", "spikes"))
    for key, part in made.items():
        recordings[key] = write_step(part.values, "simulate", params=params, inputs={"source": network}, seed=seed)
    events = plan.trials.assign(stimulus_id=plan.stimulus_id[plan.trials["stimulus"]].astype(object))
    events = events[["stimulus_id", "run", "onset_s", "duration_s"]]
    return Simulation(network=network, stimuli=stimuli, events=events, truth=truth, **recordings)


def _random_study(
    streams: dict[str, np.random.SeedSequence], n_stimuli: int, params: dict[str, Any], seed: int
) -> tuple[xr.DataArray, xr.Dataset]:
    images, condition = signals.random_images(np.random.default_rng(streams["stimuli"]), n_stimuli, 8, 64)
    layers = signals.random_network(np.random.default_rng(streams["network"]), images, list(WIDTHS.values()))
    ids = as_labels([f"stim-{i:04d}" for i in range(n_stimuli)])
    names = as_labels([f"condition-{i}" for i in condition])
    stimuli = xr.Dataset(
        {"values": (("presentation", "feature"), images)},
        coords={"stimulus_id": ("presentation", ids), "condition": ("presentation", names)},
        attrs={"kind": "array"},
    )
    network = responses(
        np.concatenate(layers, axis=1),
        stimulus_id=ids,
        condition=names,
        neuroid_id=np.concatenate([np.arange(width) for width in WIDTHS.values()]),
        layer=np.repeat(list(WIDTHS), list(WIDTHS.values())),
        modality="ann",
        system="random-network",
        deterministic=True,
    )
    return write_step(network, "simulate", params=params, seed=seed), stimuli


def _chosen(source: xr.DataArray, n_stimuli: int | None, rng: np.random.Generator) -> xr.DataArray:
    ids = source["stimulus_id"].values
    if "time" in source.dims or np.unique(ids).size != ids.size:
        raise SchemaError(
            f"source has dims {source.dims} and {ids.size - np.unique(ids).size} repeated presentations. Expected one row a stimulus "
            "and no time: use `ba.average_repeats(source)`, or select a time."
        )
    if n_stimuli is None or n_stimuli == ids.size:
        return source
    if n_stimuli > ids.size:
        raise ParameterError(
            f"The 'n_stimuli' parameter of simulate must be at most {ids.size}, the source's. Got {n_stimuli} instead."
        )
    return source.isel(presentation=np.sort(rng.choice(ids.size, n_stimuli, replace=False)))


def _rows_of(stimuli: xr.Dataset | None, network: xr.DataArray) -> xr.Dataset | None:
    if stimuli is None:
        return None
    ids = network["stimulus_id"].values.astype(object)
    rows = pd.Index(stimuli["stimulus_id"].values.astype(object)).drop_duplicates().get_indexer(ids)
    if (rows < 0).any():
        raise ParameterError(
            f"simulate got `stimuli` that lack {int((rows < 0).sum())} of the source's {ids.size} stimulus_id values, first "
            f"{preview(ids[rows < 0], 1)}. Expected the table that the source was recorded on."
        )
    first = np.flatnonzero(~pd.Series(stimuli["stimulus_id"].values.astype(object)).duplicated().to_numpy())
    return stimuli.isel(presentation=first[rows])


def _layers(network: xr.DataArray) -> dict[str, np.ndarray]:
    label = group_label(network)
    if label is None:
        raise SchemaError("source has no `layer` coord. Expected one per neuroid: `x.assign_coords(layer=('neuroid', names))`.")
    names = network[label].values.astype(object)
    layers = {str(name): network.isel(neuroid=np.flatnonzero(names == name)).values for name in dict.fromkeys(names)}
    for name, values in layers.items():
        if not np.isfinite(values).all() or not (values.std(axis=0) > 0).any():
            raise SchemaError(
                f"source has NaN or nothing that varies in {label} {name!r}. Expected responses that a region can read."
            )
    return layers


def _region_map(regions: Mapping[str, str] | Sequence[str] | None, layers: list[str]) -> dict[str, str]:
    if not isinstance(regions, Mapping):
        names = REGIONS if regions is None else tuple(regions)
        places = np.linspace(0, len(layers) - 1, len(names)).astype(int)
        return {region: layers[place] for region, place in zip(names, places, strict=True)}
    for region, layer in regions.items():
        if layer not in layers:
            raise ParameterError(
                f"simulate got region {region!r} of layer {layer!r}. Expected one of {preview(layers, 8)}.{did_you_mean(layer, layers)}"
            )
    return {str(region): str(layer) for region, layer in regions.items()}


def _snr_range(snr: float | tuple[float, float]) -> tuple[float, float]:
    if isinstance(snr, (tuple, list)) and len(snr) != 2:
        raise ParameterError(f"The 'snr' parameter of simulate must be a float, or (low, high). Got {snr!r} instead.")
    low, high = snr if isinstance(snr, (tuple, list)) else (snr, snr)
    check_number("snr", low, owner="simulate", low=0.0, low_open=True)
    check_number("snr", high, owner="simulate", low=low)
    return float(low), float(high)
