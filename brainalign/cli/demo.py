"""``brainalign demo``: the main job from stimuli to report, offline, on a brain whose truth is known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import brainalign as ba
from brainalign.cli.digits import LAYERS, Digits, train_digits

REGIONS = {"V1": "conv1", "V4": "conv2", "IT": "hidden"}
SNR = (0.5, 2.0)
ALPHAS, INNER_FOLDS, FOLDS = np.logspace(0, 5, 9), 3, 5
LATENCY_TOLERANCE_S = 0.0201  # one bin of the spikes
N_ATTRIBUTED, N_STEPS = 6, 128
SYSTEM = "digits-net"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What the demo found.

    Attributes
    ----------
    report : Path
        The HTML page.
    store : Path
        The study with stimuli, responses and results.
    truth : DataFrame
        ``what, planted, recovered, how, agrees``; one row per planted fact.
    """

    report: Path
    store: Path
    truth: pd.DataFrame


def demo(output: str | os.PathLike[str] = "demo-output", *, random_state: int = 0, say: Say = print) -> Outcome:
    """Train a network, simulate a brain that reads its layers, and recover from the recordings what was planted.

    Parameters
    ----------
    output : path
        Folder for ``study.zarr`` and ``report.html``; a study of an earlier run is used again.
    random_state : int
    say : callable
        Takes each line of progress.

    Returns
    -------
    Outcome
    """
    with _one_thread():
        return _demo(Path(output), random_state, say)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: on matrices this small, several cost more in waiting for each other than they bring."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def _demo(output: Path, random_state: int, say: Say) -> Outcome:
    started = time.perf_counter()
    store = output / "study.zarr"
    digits, net, stimuli, layers = _network(store, random_state, say)
    study = ba.simulate(
        layers, stimuli=stimuli, regions=REGIONS, n_neuroids=20, n_channels=20, n_repeats=4, snr=SNR, random_state=random_state
    )
    say(f"brain      {_shapes(study)}; regions read {', '.join(f'{r} <- {layer}' for r, layer in study.truth.layer.items())}")
    for name in ("fmri", "bold", "meg", "spikes"):
        ba.save(getattr(study, name), store, name=name, overwrite=True)
    results = _alignments(layers, study, say) | _geometry(layers, study, digits, say)
    drives, agreement = _attributions(net, stimuli, layers, study, results["voxels"], say)
    for name, result in (results | drives).items():
        ba.save(result if isinstance(result, xr.Dataset) else result.to_dataset(name=name), store, name=name, overwrite=True)
    truth = pd.DataFrame([*_map_rows(study, results), *_latency_rows(study, results), *_ceiling_rows(study, results), agreement])
    page = ba.reports.report(
        _sections(results, drives, stimuli, truth),
        output / "report.html",
        title="A network, a brain, and the truth between them",
        description=f"A network trained on handwritten digits ({digits.accuracy:.1%} correct on {len(digits.digits)} held-out images), and a "
        "simulated brain whose regions read its layers, recorded as fMRI, MEG and spikes. Every number comes from this run.",
    )
    say(f"\n{truth.to_string(index=False)}\n")
    say(f"report     {page}  ({time.perf_counter() - started:.0f} s)")
    return Outcome(page, store, truth)


def _network(store: Path, random_state: int, say: Say) -> tuple[Digits, Any, xr.Dataset, xr.DataArray]:
    """Train the network and record all of its layers on the held-out images."""
    digits = train_digits(random_state=random_state)
    say(f"network    trained on {digits.n_train} digits; {digits.accuracy:.1%} of {len(digits.digits)} held-out images correct")
    stimuli = ba.stimuli.table(
        digits.images,
        stimulus_id=[f"digit-{i:03d}" for i in range(len(digits.images))],
        kind="array",
        dims=("channel", "y", "x"),
        condition=[str(digit) for digit in digits.digits],
    )
    ba.save(stimuli, store, name="digits", overwrite=True)
    net = ba.TorchResponder(digits.network, layers=list(LAYERS), system=SYSTEM)
    layers = ba.record(net, stimuli, store=store, progress=False)
    say(
        f"recorded   {layers.sizes['presentation']} images x {layers.sizes['neuroid']} units of {len(LAYERS)} layers into {store}"
    )
    return digits, net, stimuli, layers.load()


def _shapes(study: Any) -> str:
    return ", ".join(f"{name} {' x '.join(map(str, getattr(study, name).shape))}" for name in ("fmri", "meg", "spikes"))


def _alignments(layers: xr.DataArray, study: Any, say: Say) -> dict[str, Any]:
    """Score layers × regions in both directions, and over time in the other two recordings."""
    options = {"model": ba.Ridge(alphas=ALPHAS, cv=INNER_FOLDS), "cv": FOLDS, "random_state": 0}
    # Means: two layers are compared on the same neuroids, and a mean of differences is the difference of means.
    grid = options | {"aggregate": "mean"}
    found: dict[str, Any] = {"forward": ba.compare(layers, study.fmri, by=("layer", "region"), ceiling="repeat", **grid)}
    say(f"forward    layers -> regions, mean r:\n{_grid(found['forward'])}")
    found["backward"] = ba.compare(study.fmri, layers, by=("region", "layer"), **grid)
    say(f"backward   regions -> layers, mean r:\n{_grid(found['backward'])}")
    found["voxels"] = ba.evaluate(layers, study.fmri, ceiling="repeat", **options)
    found["ceiling"] = ba.noise_ceiling(study.fmri, random_state=0)
    error = float(np.abs(found["ceiling"] - study.truth.ceiling["fmri"].values).mean())
    say(f"ceilings   estimated from repeats, off the planted ones by {error:.3f} on average (r)")
    found["spikes_over_time"] = ba.compare(layers, study.spikes, by=("layer", "region"), **grid)
    found["meg_over_time"] = ba.compare(layers, study.meg, by=("layer", "system"), **grid)
    say("time       layers -> spikes and MEG, at every time point")
    return found


def _grid(result: xr.Dataset) -> str:
    return result["score"].to_pandas().rename_axis(index=None, columns=None).round(3).to_string()


def _geometry(layers: xr.DataArray, study: Any, digits: Digits, say: Say) -> dict[str, Any]:
    """Compare the geometry of layers and regions."""
    # Regions read units in units of their standard deviation, so that is the geometry of a layer that they can show.
    of_layers, of_regions = ba.rdm(ba.ZScore().transform(layers), by="layer"), ba.rdm(study.fmri, by="region")
    digit = {name: str(d) for name, d in zip(layers["stimulus_id"].values, digits.digits, strict=True)}
    labelled = [
        x.assign_coords(condition=("stimulus", [digit[name] for name in x["stimulus"].values])) for x in (of_layers, of_regions)
    ]
    found = {"rdm_layers": labelled[0], "rdm_regions": labelled[1], "rsa": ba.compare_rdms(of_layers, of_regions)}
    say(f"geometry   RDMs of layers and regions, Spearman rho:\n{_grid(found['rsa'])}")
    return found


def _attributions(
    net: Any, stimuli: xr.Dataset, layers: xr.DataArray, study: Any, voxels: xr.Dataset, say: Say
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attribute one voxel and one unit by the same call, and check the voxel against its planted readout."""
    region = list(REGIONS)[-1]
    layer = study.truth.layer[region]
    best = voxels["score"].where(voxels["region"] == region, drop=True)
    name = str(best["neuroid_id"].values[int(np.nanargmax(best.values))])
    features = layers.isel(neuroid=np.flatnonzero(layers["layer"].values == layer))
    brain = ba.average_repeats(study.fmri)
    x, y, _ = ba.align(features, brain.isel(neuroid=np.flatnonzero(brain["neuroid_id"].values == name)))
    voxel = ba.readout(net.at(layer), ba.Ridge(alphas=ALPHAS, cv=INNER_FOLDS).fit(x, y))
    weights = study.truth.weights["fmri"].query("neuroid_id == @name")
    unit = int(weights.loc[weights["weight"].abs().idxmax(), "unit"])
    options = {"presentations": range(N_ATTRIBUTED), "method": "integrated-gradients", "n_steps": N_STEPS}
    of_unit = ba.attribute(net.at(layer), stimuli, neuroid=unit, **options)
    of_voxel = ba.attribute(voxel, stimuli, neuroid=name, **options)
    of_inputs = ba.attribute(net.at(layer), stimuli, neuroid=weights["unit"].tolist(), **options)
    planted = np.tensordot(of_inputs.values, weights["weight"].to_numpy(), axes=(1, 0))
    r = float(np.corrcoef(planted.ravel(), of_voxel.values[:, 0].ravel())[0, 1])
    say(
        f"attribute  unit {layer}/{unit} and voxel {name}: completeness errors {of_unit.attrs['completeness_error']:.1e} and "
        f"{of_voxel.attrs['completeness_error']:.1e}"
    )
    row = {
        "what": f"pixels that drive {name}", "planted": "by its readout", "recovered": f"r = {r:.3f}", "how": "attribution of its fitted model",
        "agrees": _yes(r > 0.5),
    }  # fmt: skip
    return {"attribution_unit": of_unit, "attribution_voxel": of_voxel}, row


def _map_rows(study: Any, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the planted layer of each region with the one that predicts it best."""
    grids = {
        "fMRI, best layer": results["forward"]["score"],
        "spikes, best layer at the peak": results["spikes_over_time"]["score"].max("time"),
        "fMRI, most similar geometry": results["rsa"]["score"],
    }
    rows = []
    for how, grid in grids.items():
        for region, layer in study.truth.layer.items():
            scores = grid.sel(target_region=region)
            found = str(scores["source_layer"].values[int(scores.values.argmax())])
            rows.append(
                {"what": f"layer of {region}", "planted": layer, "recovered": found, "how": how, "agrees": _yes(found == layer)}
            )
    return rows


def _latency_rows(study: Any, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the planted latency of each region with the peak of the score."""
    over_spikes, over_meg = results["spikes_over_time"]["score"], results["meg_over_time"]["score"].isel(target_system=0)
    rows = []
    for region, latency in study.truth.latency_s.items():
        layer = study.truth.layer[region]
        # Sensors mix the regions, and each layer predicts some of its neighbours' signal: its own time is where it leads.
        own = over_meg.sel(source_layer=layer)
        others = over_meg.isel(source_layer=np.flatnonzero(over_meg["source_layer"].values != layer)).max("source_layer")
        curves = {
            "spikes, peak of the best layer": over_spikes.sel(target_region=region).max("source_layer"),
            f"MEG, peak while {layer} leads": own.where(own > others, 0.0),
        }
        for how, curve in curves.items():
            times = curve["time"].values
            found = float(times[int(curve.values.argmax())])
            near = _yes(abs(found - latency) <= LATENCY_TOLERANCE_S)
            row = {"what": f"peak of {region} (s)", "planted": f"{latency:.2f}", "recovered": f"{found:.2f}", "how": how}
            rows.append(row | {"agrees": near})
    return rows


def _ceiling_rows(study: Any, results: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare the planted noise ceilings with those estimated from repeats."""
    rows = []
    for region in study.truth.layer:
        planted, found = (
            float(x.values[x["region"].values == region].mean()) for x in (study.truth.ceiling["fmri"], results["ceiling"])
        )
        agrees = _yes(abs(found - planted) < 0.02)
        rows.append(
            {
                "what": f"ceiling of {region} (r)",
                "planted": f"{planted:.3f}",
                "recovered": f"{found:.3f}",
                "how": "fMRI, split halves",
                "agrees": agrees,
            }
        )
    return rows


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _sections(results: dict[str, Any], drives: dict[str, Any], stimuli: xr.Dataset, truth: pd.DataFrame) -> dict[str, Any]:
    """Return the sections of the report by heading."""
    both = [x.assign_coords(neuroid_id=("neuroid", [name])) for name, x in zip(("unit", "voxel"), drives.values(), strict=True)]
    both = [x.drop_vars([c for c in x.coords if c not in ("stimulus_id", "neuroid_id")]) for x in both]
    figure = ba.reports.figures.attribution(xr.concat(both, "neuroid"), stimuli=stimuli, presentations=range(N_ATTRIBUTED))
    headings = {
        "forward": "Layers → regions (fMRI)",
        "backward": "Regions → layers (fMRI)",
        "voxels": "All layers → each voxel, and its ceiling",
        "ceiling": "Noise ceilings (fMRI)",
        "spikes_over_time": "Layers → regions over time (spikes)",
        "meg_over_time": "Layers → sensors over time (MEG)",
        "rdm_layers": "Geometry of the layers",
        "rdm_regions": "Geometry of the regions (fMRI)",
        "rsa": "Layers and regions: similarity of geometries",
    }
    sections: dict[str, Any] = {"Planted truth, and what was recovered": truth}
    sections |= {heading: results[name] for name, heading in headings.items()}
    return sections | {"What drives a unit, and what drives a voxel": figure}
