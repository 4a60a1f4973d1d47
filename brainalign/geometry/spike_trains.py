"""``spike_distance``: how different the spike trains of each pair of presentations are, with a say in what precision counts."""

from __future__ import annotations

import numpy as np
import xarray as xr

from brainalign.core.errors import SchemaError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.engine.moments import Numbers
from brainalign.engine.spike_distance import van_rossum, victor_purpura
from brainalign.geometry.conditions import labels_of
from brainalign.geometry.measures import LEAST

_UNITS = {"victor-purpura": "cost per neuroid", "van-rossum": "squared distance per neuroid"}


def spike_distance(
    responses: xr.DataArray,
    *,
    metric: str = "victor-purpura",
    timescale_s: float,
    condition: str = "stimulus_id",
    progress: bool | None = None,
) -> xr.DataArray:
    """Return an RDM of spike trains, each neuroid compared with itself.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid, time)
        Counts of spikes in bins, of neurons or of a spiking network. A spike is taken to be at the time of its bin, so bins bound the
        precision that can be asked for.
    metric : {"victor-purpura", "van-rossum"}
        What it costs to change one train into another, 1 to add or remove a spike and dt / ``timescale_s`` to move it by dt (q = 1 /
        ``timescale_s``); or the squared distance of trains whose spikes decay within ``timescale_s`` (τ).
    timescale_s : float
        Seconds. Infinity counts spikes; far below the width of a bin, spikes are shared at the same time only.
    condition : str
        Presentation coordinate that names rows and columns. Of several presentations of a condition, the mean over pairs of them.
    progress : bool or None
        As in :func:`evaluate`, over neuroids under ``"victor-purpura"``.

    Returns
    -------
    DataArray, (stimulus, stimulus_2); unit: cost, or squared distance, per neuroid
        Conditions in the order of first appearance, for :func:`compare_rdms`. 0 on the diagonal.

    Raises
    ------
    SchemaError
        No time, fewer than three conditions, or values that are no counts.
    ParameterError
        Another metric, no coordinate ``condition``, or a timescale that is not positive.

    Examples
    --------
    >>> import brainalign as ba
    >>> counts = np.array([[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 0, 1]]])
    >>> x = ba.responses(counts, stimulus_id=["a", "b", "c"], neuroid_id=["u"], time=np.arange(4) / 100, modality="spikes", system="m")
    >>> ba.geometry.spike_distance(x, timescale_s=0.02).sel(stimulus="a").values.round(3)
    array([0. , 0.5, 1.5])
    """
    validate(responses)
    check_choice("metric", metric, tuple(_UNITS), owner="spike_distance")
    if timescale_s != np.inf:
        check_number("timescale_s", timescale_s, owner="spike_distance", low=0.0, low_open=True)
    if "time" not in responses.dims:
        raise SchemaError(
            f"spike_distance got responses with dims {responses.dims}. Expected counts in time, such as those of spikes "
            "that are opened with `events=` and `edges_s=`."
        )
    counts, times = responses.values, np.asarray(responses.time.values, dtype=np.float64)
    _refuse_other_than_counts(counts)
    codes, names = labels_of(responses, condition, parameter="condition")
    if len(names) < LEAST:
        raise SchemaError(f"spike_distance got {len(names)} conditions ({preview(names)}). Expected at least {LEAST}.")
    if metric == "van-rossum":
        between = van_rossum(counts, times, timescale_s)
    else:
        neuroids = progress_bar(range(counts.shape[1]), progress=progress, desc="neuroids")
        between = sum(victor_purpura(_trains(counts[:, i], times), 1.0 / timescale_s) for i in neuroids)
    member = np.eye(len(names))[codes].T
    matrix = member @ between @ member.T / np.outer(member.sum(axis=1), member.sum(axis=1)) / counts.shape[1]
    np.fill_diagonal(matrix, 0.0)
    coords = dict.fromkeys(("stimulus", "stimulus_2"), as_labels(names)) | {"n_neuroids": counts.shape[1]}
    attrs = {"metric": metric, "units": _UNITS[metric], "condition": condition}
    out = xr.DataArray(matrix, dims=("stimulus", "stimulus_2"), coords=coords, attrs=attrs, name="rdm")
    params = {"metric": metric, "timescale_s": timescale_s, "condition": condition}
    return write_step(out, "spike_distance", params=params, inputs={"responses": responses})


def _trains(counts: Numbers, times: Numbers) -> list[Numbers]:
    return [np.repeat(times, row.astype(np.int64)) for row in counts]


def _refuse_other_than_counts(counts: Numbers) -> None:
    wrong = counts[~(counts >= 0) | (counts != np.rint(counts))]
    if wrong.size:
        raise SchemaError(
            f"spike_distance got {wrong.size} values that are no counts, such as {preview(wrong, 2)}. Expected spikes in bins: open them as counts, "
            "do not average repeats."
        )
