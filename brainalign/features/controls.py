"""``controls``: what a score has to beat, made from the stimuli and from the network itself."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.parameters import check_number, check_random_state
from brainalign.core.provenance import write_step
from brainalign.core.responses import responses
from brainalign.core.tables import coords_of
from brainalign.features.lowlevel import low_level
from brainalign.features.record import record


def controls(
    stimuli: xr.Dataset,
    *,
    responder: Any = None,
    n_untrained: int = 3,
    rate_hz: float | None = None,
    batch_size: int = 32,
    store: str | os.PathLike[str] | None = None,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> dict[str, xr.DataArray]:
    """Make the controls that need the stimuli or the network, to be passed on as ``evaluate(..., controls=...)``.

    Parameters
    ----------
    stimuli : Dataset, (presentation,)
        A stimulus table.
    responder : TorchResponder or TransformersResponder, optional
        Recorded again untrained, with the same layers, pooling and preprocessing.
    n_untrained : int
        How many times, each with weights of another seed. One is chance; three or more show its spread.
    rate_hz : float, optional
        Of sounds: rows in time instead of one row a sound, so many a second.
    batch_size : int
        Stimuli at a time, as in :func:`record`.
    store : path, optional
        A study that keeps the untrained recordings, as in :func:`record`.
    random_state : int, Generator or None
        For weights and projections. The provenance of each control holds the seed that it was drawn with.
    progress : bool or None
        As in :func:`record`.

    Returns
    -------
    dict of str to DataArray, (presentation, neuroid)
        Low-level features: ``pixels`` and ``gabor`` of images, ``envelope`` of sounds, ``words`` of words and texts, ``values`` of
        arrays; ``random-low-level``, a Gaussian random projection of all of them to the same width; and
        ``untrained-0``, ``untrained-1``, ...

    Raises
    ------
    SchemaError
        No valid stimulus table.
    ParameterError
        An option that does not fit the stimuli.
    CapabilityError
        The responder cannot be had untrained: it has no weights, or some that none of its modules draws.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> stimuli = ba.stimuli.table(np.eye(4, dtype="float32"), stimulus_id=list("abcd"), kind="array")
    >>> made = ba.controls(stimuli, responder=ba.TorchResponder(network, system="tiny"), random_state=0, progress=False)
    >>> list(made)
    ['values', 'random-low-level', 'untrained-0', 'untrained-1', 'untrained-2']
    """
    check_number("n_untrained", n_untrained, owner="controls", low=1, integer=True)
    seed = check_random_state(random_state, owner="controls")
    projection, *seeds = (int(word) for word in np.random.SeedSequence(seed).generate_state(1 + n_untrained))
    if responder is not None and not hasattr(responder, "untrained"):
        raise CapabilityError(
            f"controls got a {type(responder).__name__}, which has no method `untrained`. Expected a TorchResponder or a "
            "TransformersResponder, or none: record what stands for an untrained one, and pass it to `evaluate` yourself."
        )
    found = low_level(stimuli, rate_hz=rate_hz)
    found["random-low-level"] = _projected(found, projection)
    for number, own_seed in enumerate(seeds if responder is not None else ()):
        other = responder.untrained(own_seed)
        options = {"batch_size": batch_size, "store": store, "progress": progress}
        x = record(other, stimuli, name=f"{other.system}-{number}", **options)
        found[f"untrained-{number}"] = write_step(x, "untrained", params={"number": number}, inputs={"x": x}, seed=own_seed)
    return found


def _projected(features: dict[str, xr.DataArray], seed: int) -> xr.DataArray:
    """Return a Gaussian random projection of all features to as many; each of them counts by its own variance."""
    first = next(iter(features.values()))
    values = np.concatenate([x.values for x in features.values()], axis=1)
    width = values.shape[1]
    weights = np.random.default_rng(seed).standard_normal((width, width), dtype=np.float32) / np.float32(np.sqrt(width))
    rows = {name: labels for name, labels in coords_of(first, "presentation").items() if name != "repetition"}
    x = responses(
        values @ weights, stimulus_id=rows.pop("stimulus_id"), neuroid_id=np.arange(width), modality=first.attrs["modality"],
        system="low-level", layer="random-low-level", deterministic=True, presentation=rows,
    )  # fmt: skip
    return write_step(x, "random_projection", params={"features": list(features)}, inputs=features, seed=seed)
