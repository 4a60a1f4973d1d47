"""A known system in a recording's place: as many neuroids, presentations and repeats, and as much noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_number, check_sizes, preview
from brainalign.core.responses import responses
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of, order_of_neuroids
from brainalign.dataset.repeats import average_if_repeated, presentations_in_rows
from brainalign.engine.moments import Numbers, is_constant
from brainalign.engine.reliability import extrapolate
from brainalign.scores.ceiling import noise_ceiling

READOUTS = ("mixtures", "units")
_LEAST_STIMULI = 10


@dataclass(frozen=True)
class Likeness:
    """What a stand-in shares with a recording.

    Attributes
    ----------
    n_neuroids, n_stimuli : tuple of int
        Sizes to try, ascending.
    n_repeats : int
    reliability : ndarray of float64
        Of averages over the repeats, 0 to 1; each neuroid draws one.
    """

    n_neuroids: tuple[int, ...]
    n_stimuli: tuple[int, ...]
    n_repeats: int
    reliability: Numbers


def likeness(like: Any, n_shared: int, *, n_neuroids: Any, n_stimuli: Any, n_repeats: Any, reliability: Any) -> Likeness:
    """Take sizes and reliability from a recording, except where they are given.

    Parameters
    ----------
    like : DataArray, (presentation, neuroid[, time]), or None
    n_shared : int
        Stimuli that the systems share.
    n_neuroids, n_stimuli : int, sequence of int, or None
    n_repeats : int or None
    reliability : float, sequence of float, or None

    Returns
    -------
    Likeness

    Raises
    ------
    ParameterError
        Neither a recording nor what would stand for it; more stimuli than there are.
    SchemaError
        A recording without repeats, whose reliability nobody knows; stimuli that several subjects saw, in one array.
    """
    if like is None and (n_neuroids is None or reliability is None):
        raise ParameterError(
            f"recovery_study got like=None, n_neuroids={n_neuroids!r} and reliability={reliability!r}. Expected a recording to imitate "
            "(`like=brain`), or both its number of neuroids and its reliability."
        )
    if like is None:
        repeats = 1 if n_repeats is None else n_repeats
    else:
        validate(like, name="like")
        counts = presentations_in_rows(average_if_repeated(like, owner="recovery_study"))
        repeats = round(float(counts.mean())) if n_repeats is None else n_repeats
        n_neuroids = like.sizes["neuroid"] if n_neuroids is None else n_neuroids
        n_stimuli = min(len(counts), n_shared) if n_stimuli is None else n_stimuli
    repeats = check_number("n_repeats", repeats, owner="recovery_study", low=1, integer=True)
    if reliability is None:
        ceiling = noise_ceiling(like, method="variance", units="r2")
        rho = np.nan_to_num(ceiling.values.ravel())  # what does not agree with itself carries no signal
        reliability = extrapolate(rho, ceiling.attrs["mean_inverse_repeats"], 1.0 / repeats)
    rho = np.atleast_1d(np.asarray(reliability, dtype=np.float64)).ravel()
    if not ((rho >= 0) & (rho <= 1)).all():
        raise ParameterError(
            f"The 'reliability' parameter of recovery_study must lie in [0, 1]. Got {preview(rho.tolist())} instead."
        )
    sizes = [
        _sizes(name, n, low)
        for name, n, low in (
            ("n_neuroids", n_neuroids, 1),
            ("n_stimuli", n_shared if n_stimuli is None else n_stimuli, _LEAST_STIMULI),
        )
    ]
    if sizes[1][-1] > n_shared:
        raise ParameterError(
            f"recovery_study got n_stimuli={sizes[1][-1]}, of which the systems share {n_shared}. Expected no more than these."
        )
    return Likeness(sizes[0], sizes[1], repeats, rho)


def on_shared_stimuli(systems: dict[str, xr.DataArray]) -> dict[str, xr.DataArray]:
    """Bring systems to the stimuli that all have, one row each, in the order of their names.

    Parameters
    ----------
    systems : dict of str to DataArray, (presentation, neuroid)

    Returns
    -------
    dict of str to DataArray

    Raises
    ------
    SchemaError
        Repeats, or a time dim.
    AlignmentError
        Fewer than ten stimuli in common.
    """
    shared: pd.Index | None = None
    for name, x in systems.items():
        ids = pd.Index(validate(x, name=name)["stimulus_id"].values.astype(object))
        if "time" in x.dims or ids.has_duplicates:
            raise SchemaError(
                f"{name} has dims {x.dims} and {int(ids.duplicated().sum())} repeated presentations. Expected one row a stimulus and no time: "
                "use `ba.average_repeats(x)`, or select a time."
            )
        shared = ids if shared is None else shared[shared.isin(ids)]
    if shared is None or len(shared) < _LEAST_STIMULI:
        raise AlignmentError(
            f"{preview(list(systems), 8)} share {0 if shared is None else len(shared)} stimuli. Expected at least {_LEAST_STIMULI}: record all of "
            "them, controls too, on the same stimuli."
        )
    shared = shared.sort_values()
    return {
        name: x.isel(presentation=pd.Index(x["stimulus_id"].values.astype(object)).get_indexer(shared))
        for name, x in systems.items()
    }


def stand_in(system: xr.DataArray, n_neuroids: int, like: Likeness, readout: str, rng: np.random.Generator) -> xr.DataArray:
    """Record a system as a brain would be: some neuroids, repeats, and noise.

    Parameters
    ----------
    system : DataArray, (presentation, neuroid)
        One row a stimulus.
    n_neuroids : int
    like : Likeness
    readout : {"mixtures", "units"}
        Each neuroid is a random mixture of all units with Gaussian weights, which keeps their geometry; or one unit, drawn without
        replacement.
    rng : Generator

    Returns
    -------
    DataArray, (presentation, neuroid)
        Stimuli ``n_repeats`` times. The average over repeats of a neuroid keeps the variance of its signal before noise, of which a share
        ``reliability`` is signal.

    Raises
    ------
    ParameterError
        More units are to be drawn than vary.
    """
    units = system.values[:, order_of_neuroids(system)].astype(np.float64)  # drawn, or given weights, by name
    units = units[:, np.isfinite(units).all(axis=0)]
    units = units[:, ~is_constant(units)]
    if (readout == "units" and units.shape[1] < n_neuroids) or not units.shape[1]:
        raise ParameterError(
            f"recovery_study is to draw {n_neuroids} neuroids from a system of which {units.shape[1]} units vary. Expected no more than these: use "
            "readout='mixtures', or fewer."
        )
    if readout == "units":
        signal = units[:, rng.permutation(units.shape[1])[:n_neuroids]]
    else:
        signal = (units - units.mean(axis=0)) @ rng.normal(size=(units.shape[1], n_neuroids))
    rho, n = rng.choice(np.sort(like.reliability), size=n_neuroids), like.n_repeats
    sd = signal.std(axis=0)
    noise = rng.normal(size=(n, *signal.shape))
    trials = sd * (np.sqrt(rho) * (signal - signal.mean(axis=0)) / sd + np.sqrt(n * (1.0 - rho)) * noise)
    once = coords_of(system, "presentation") if n == 1 else {}  # times and runs are those of one presentation
    labels = {name: values for name, values in once.items() if name not in ("stimulus_id", "repetition")}
    return responses(
        trials.reshape(-1, n_neuroids).astype(np.float32), stimulus_id=np.tile(system["stimulus_id"].values, n),
        neuroid_id=np.arange(n_neuroids), modality=system.attrs["modality"], system="stand-in",
        deterministic=bool((rho == 1).all()), presentation=labels,
    )  # fmt: skip


def _sizes(name: str, given: Any, low: int) -> tuple[int, ...]:
    checked = check_sizes(name, given, owner="recovery_study", low=low)
    if not checked:
        raise ParameterError(f"The {name!r} parameter of recovery_study must be an int, or several. Got {given!r} instead.")
    return tuple(checked)


def grouped(x: xr.DataArray, by: str) -> dict[str, xr.DataArray]:
    """Return the groups of a system by a neuroid coordinate; the system itself, named ``""``, where it has but one or none.

    Parameters
    ----------
    x : DataArray, (presentation, neuroid)
    by : str

    Returns
    -------
    dict of str to DataArray
    """
    labels = coords_of(x, "neuroid").get(by)
    if labels is None or len(np.unique(labels)) < 2:
        return {"": x}
    codes, names = pd.factorize(labels.astype(object))
    return {str(name): x.isel(neuroid=np.flatnonzero(codes == code)) for code, name in enumerate(as_labels(names).tolist())}
