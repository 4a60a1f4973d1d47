"""``record``: the responses of a network, or of a fitted model of a brain, to stimuli."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, SchemaError
from brainalign.core.parameters import check_number, preview
from brainalign.core.progress import progress_bar
from brainalign.core.protocols import Responder, seeded
from brainalign.core.provenance import responder_params, write_step
from brainalign.core.responses import responses
from brainalign.core.schema import STRING, as_labels
from brainalign.core.tables import validate_stimuli
from brainalign.dataset.writing import find_recording, open_writer
from brainalign.features.cachekey import recording_key


def record(
    responder: Responder,
    stimuli: xr.Dataset,
    *,
    store: str | os.PathLike[str] | None = None,
    name: str | None = None,
    batch_size: int = 32,
    resume: bool = True,
    progress: bool | None = None,
) -> xr.DataArray:
    """Present stimuli to a responder, all layers in one pass.

    Parameters
    ----------
    responder : Responder
        A network, or :func:`readout` of a fitted model.
    stimuli : Dataset, (presentation,)
        A stimulus table, see ``ba.stimuli``.
    store : path, optional
        A study, made where there is none. Each batch is written as soon as it is there, so memory does not grow with the number
        of stimuli; a recording that was interrupted, even killed, continues at the next call; a finished one is opened again
        without running the responder. Where the weights, the preprocessing, the stimuli, the batches or the versions of
        brainalign, torch or transformers are others, it is recorded anew, and the log says so. A responder that is random goes on
        only with a seed (``random_state=`` of ``TorchResponder``).
    name : str, optional
        Name of the responses in the store; by default the responder's ``system``.
    batch_size : int
        Stimuli at a time.
    resume : bool
        False records anew in any case; responses that no recording made are not replaced even then.
    progress : bool or None
        Show a progress bar. None: on a terminal or in a notebook, once it takes more than five seconds.

    Returns
    -------
    DataArray, (presentation, neuroid); float32
        With a ``layer`` (or ``region``) coordinate. In memory; lazy where a store is given.

    Raises
    ------
    SchemaError
        The stimuli are no valid table, or a response is not finite: the layer and the stimulus are named.
    CapabilityError
        ``responder`` lacks a method of a Responder.
    StoreError
        Another process is writing this recording, the name is that of responses which no recording made, or the store is
        damaged or cannot be written.

    Examples
    --------
    >>> import brainalign as ba, numpy as np, torch
    >>> network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> images = ba.stimuli.table(np.eye(4, dtype="float32"), stimulus_id=list("abcd"), kind="array")
    >>> x = ba.record(ba.TorchResponder(network, layers="*", system="tiny"), images, progress=False)
    >>> x.shape, sorted(set(x.layer.values))
    ((4, 6), ['0', '1'])
    """
    if not isinstance(responder, Responder):
        raise CapabilityError(
            f"{type(responder).__name__} is no Responder. Expected the attributes and methods of `ba.protocols.Responder`: wrap a torch "
            "module in `ba.TorchResponder`, or a stock network in `ba.TransformersResponder`."
        )
    validate_stimuli(stimuli)
    check_number("batch_size", batch_size, owner="record", low=1, integer=True)
    name, responder = responder.system if name is None else name, seeded(responder)
    blocks = list(responder.blocks(stimuli, batch_size))
    template = _template(responder, stimuli, blocks)
    params = {"system": responder.system, **responder_params(responder), "batch_size": batch_size, "name": name}
    if getattr(responder, "checkpoint", None):
        params["checkpoint"] = responder.checkpoint
    run = partial(_run, responder, stimuli, blocks, template, progress)
    if store is None:
        x = template.copy(data=np.empty(template.shape, dtype=np.float32))
        for rows, values in run(0):
            x.values[rows] = values
        return write_step(x, "record", params=params, inputs={"stimuli": stimuli})
    key = recording_key(params["responder"], stimuli, blocks, template)
    if resume and (found := find_recording(store, name, key)) is not None:
        return found
    template = write_step(template, "record", params=params, inputs={"stimuli": stimuli})
    with open_writer(store, name, template, key, resume=resume) as writer:
        for rows, values in run(writer.n_done):
            writer.write(rows, values)
        return writer.finish()


def _template(responder: Responder, stimuli: xr.Dataset, blocks: list[slice]) -> xr.DataArray:
    """Return responses with all their labels and no values, checked before the network runs."""
    import dask.array as da

    presentations = responder.presentations(stimuli)
    groups = responder.neuroids(stimuli)
    stops = [rows.stop for rows in blocks]
    if [rows.start for rows in blocks] != [0, *stops[:-1]] or stops[-1:] != [len(presentations)]:
        raise SchemaError(
            f"the blocks of {responder.system!r} are {preview(blocks)} for {len(presentations)} presentations. Expected slices that cover "
            "each row once, in order: look at `responder.blocks`."
        )
    coords = _merge(groups)
    neuroid_id = coords.pop("neuroid_id")
    return responses(
        da.zeros((len(presentations), len(neuroid_id)), dtype=np.float32, chunks=-1),
        stimulus_id=presentations["stimulus_id"],
        neuroid_id=neuroid_id,
        modality=responder.modality,
        system=coords.pop("system", responder.system),
        deterministic=responder.deterministic,
        allow_nan=bool(getattr(responder, "allow_nan", False)),
        presentation=presentations,
        neuroid=coords,
    )


def _merge(groups: dict[str, dict[str, np.ndarray[Any, Any]]]) -> dict[str, np.ndarray[Any, Any]]:
    """Join the neuroid coordinates of all groups; where a group lacks one it is NaN, or an empty string."""
    widths = [len(coords["neuroid_id"]) for coords in groups.values()]
    names = list(dict.fromkeys(name for coords in groups.values() for name in coords))
    merged = {}
    for name in names:
        parts = [as_labels(coords[name]) if name in coords else None for coords in groups.values()]
        text = any(part is not None and part.dtype.kind == "T" for part in parts)
        filled = [
            np.full(width, "" if text else np.nan, dtype=STRING if text else None)
            if part is None
            else (part.astype(STRING) if text else part)
            for part, width in zip(parts, widths, strict=True)
        ]
        merged[name] = np.concatenate(filled)
    if not {"layer", "region"} & merged.keys():
        merged["layer"] = np.repeat(np.array(list(groups), dtype=STRING), widths)
    return merged


def _run(
    responder: Responder, stimuli: xr.Dataset, blocks: list[slice], template: xr.DataArray, progress: bool | None, n_done: int
) -> Iterator[tuple[slice, np.ndarray[Any, Any]]]:
    """Yield the rows and values of each block from row ``n_done`` on."""
    n_rows, n_neuroids = template.shape
    with progress_bar(progress=progress, desc=responder.system, total=n_rows, initial=n_done, unit="presentation") as bar:
        for rows in blocks:
            if rows.stop <= n_done:
                continue
            found = {name: np.asarray(values, dtype=np.float32) for name, values in responder.respond(stimuli, rows).items()}
            ids = template.coords["stimulus_id"].values[rows]
            if not template.attrs["allow_nan"]:
                _check_finite(found, ids)
            shapes = {name: values.shape for name, values in found.items()}
            values = (
                np.concatenate(list(found.values()), axis=1) if {len(ids)} == {shape[0] for shape in shapes.values()} else None
            )
            if values is None or values.shape != (len(ids), n_neuroids):
                raise SchemaError(
                    f"{responder.system!r} gave responses of shapes {shapes} from stimulus {str(ids[0])!r} on. Expected {len(ids)} rows and "
                    f"{n_neuroids} neuroids in all, as for the first stimulus: stimuli of one size, or a `pool` that makes them so."
                )
            yield rows, values
            bar.update(len(ids))


def _check_finite(found: dict[str, np.ndarray[Any, Any]], ids: np.ndarray[Any, Any]) -> None:
    for name, values in found.items():
        finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if not finite.all():
            at = int(np.argmin(finite))
            bad = values[at][~np.isfinite(values[at])]
            raise SchemaError(
                f"layer {name!r} gives {bad.size} values like {bad[0]} for stimulus {str(ids[at])!r}. Expected finite numbers: look at this "
                "stimulus and at the layer, or leave one of them out."
            )
