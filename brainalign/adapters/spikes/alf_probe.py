"""One probe of an ALF session: spikes by cluster, and what is known of each cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainalign.adapters.files import naming
from brainalign.adapters.spikes.alf_files import Dataset, columns, require, values
from brainalign.adapters.spikes.alignment import UNKNOWN, check_spike_times
from brainalign.adapters.spikes.quality import good_units
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.schema import DIMS, dim_of

_CHANNELS = {"channels": 0, "peakChannel": None}  # attribute of the clusters, and from what it is known to count
_REGIONS = ("acronym", "brainLocationAcronyms_ccf_2017", "brainLocation", "brainLocationIds_ccf_2017")


@dataclass(frozen=True)
class Probe:
    """The clusters of one probe that passed the cuts; a probe may have none.

    Attributes
    ----------
    name : str
        Empty where the session has no folders of probes.
    rows : ndarray of int, (cluster,)
        Their rows in the files, from 0: what ``spikes.clusters`` counts.
    times : list of ndarray (spike,), seconds
    labels : dict of str to ndarray (cluster,)
    region_from : str or None
    index_base : int or None
        From what the channels of the clusters count.
    cuts : list of dict
    n_clusters : int
        Before the cuts.
    files : list of str
    """

    name: str
    rows: np.ndarray
    times: list[np.ndarray]
    labels: dict[str, np.ndarray]
    region_from: str | None
    index_base: int | None
    cuts: list[dict[str, Any]]
    n_clusters: int
    files: list[str]


def read_probe(
    name: str,
    folder: Path,
    known: dict[tuple[str, str], Dataset],
    index_base: int | None,
    quality: Mapping[str, Any] | None,
) -> Probe:
    """Read one sorting.

    Parameters
    ----------
    name : str
    folder : Path
    known : dict
        As :func:`brainalign.adapters.spikes.alf_files.collections` returns it for that folder.
    index_base : {0, 1}, optional
    quality : mapping of column to rule, optional

    Returns
    -------
    Probe

    Raises
    ------
    FormatError
        Files that are missing, damaged or do not fit each other.
    ParameterError
        The base of the channels is not known.
    """
    source = repr(f"{name or folder.name}")
    times, clusters = (np.asarray(values(require(known, "spikes", what, folder))) for what in ("times", "clusters"))
    if times.ndim != 1 or times.shape != clusters.shape or clusters.dtype.kind not in "iu" or times.dtype.kind not in "iuf":
        raise FormatError(
            f"{str(folder)!r} has spikes.times of shape {times.shape} and spikes.clusters of shape {clusters.shape} and dtype {clusters.dtype}. "
            "Expected one time and one whole number a spike."
        )
    found = _clusters(known)
    if not found:
        raise FormatError(
            f"{str(folder)!r} has spikes and no file of clusters. Expected one, such as clusters.channels.npy: without it nobody knows how many "
            "clusters there are; spike times alone are opened with format='spikes'."
        )
    n, clusters = len(next(iter(found.values()))), clusters.astype(np.int64)  # of uint32 no difference would be negative
    if clusters.size and (int(clusters.min()) < 0 or int(clusters.max()) >= n):
        raise FormatError(
            f"{str(folder)!r} has spikes of the clusters {int(clusters.min())} to {int(clusters.max())}, and {n} clusters. Expected their rows, "
            "counted from 0: files of different sortings, or numbers that count from 1."
        )
    region, channel, region_from, base = _places(known, found, n, index_base, folder)
    keep, cuts = good_units(found, quality, n, source)
    labels = {
        (f"cluster_{key}" if dim_of(key) is not None or key in DIMS else key): column[keep] for key, column in found.items()
    }
    labels |= {key: column[keep] for key, column in (("region", region), ("channel", channel)) if column is not None}
    order = np.argsort(clusters, kind="stable")
    ends = np.searchsorted(clusters[order], np.arange(n + 1))
    sorted_times = times[order].astype(np.float64)
    rows = np.flatnonzero(keep)
    with naming(source):
        trains = [check_spike_times(sorted_times[ends[row] : ends[row + 1]], name=str(row)) for row in rows]
    labels["n_spikes"] = np.array([train.size for train in trains])
    files = [item.path.name for (object_, _), item in known.items() if object_ in ("spikes", "clusters", "channels")]
    return Probe(name, rows, trains, labels, region_from, base, cuts, n, [f"{name}/{file}" if name else file for file in files])


def _clusters(known: dict[tuple[str, str], Dataset]) -> dict[str, np.ndarray]:
    """Return one value a cluster and attribute; a table of metrics is joined on its ``cluster_id``, never by its rows."""
    found = columns(known, "clusters", skip=("metrics",))
    if ("clusters", "metrics") not in known:
        return found
    table = pd.DataFrame(values(known["clusters", "metrics"]))
    n = max((len(column) for column in found.values()), default=len(table))
    if "cluster_id" in table:
        ids = table["cluster_id"].to_numpy(np.int64)
        if len(set(ids.tolist())) != ids.size or (ids.size and (ids.min() < 0 or ids.max() >= n)):
            raise FormatError(
                f"{known['clusters', 'metrics'].path.name!r} names the clusters {int(ids.min())} to {int(ids.max())}, {ids.size} rows, and there are {n}. "
                "Expected each at most once, counted from 0."
            )
        table = table.set_index(ids).reindex(range(n)).drop(columns="cluster_id")
    elif len(table) != n:
        raise FormatError(
            f"{known['clusters', 'metrics'].path.name!r} has {len(table)} rows for {n} clusters, and no cluster_id. Expected one row each."
        )
    return found | {str(name): table[name].to_numpy() for name in table if name not in found}


def _places(
    known: dict[tuple[str, str], Dataset], found: Mapping[str, np.ndarray], n: int, index_base: int | None, folder: Path
) -> tuple[np.ndarray | None, np.ndarray | None, str | None, int | None]:
    """Return region and channel of each cluster, what the region was taken from, and from what the channels count."""
    attribute = next((name for name in _CHANNELS if name in found), None)
    own = next((name for name in _REGIONS if name in found), None)
    table = columns(known, "channels")
    n_channels = max((len(column) for column in table.values()), default=0)
    if attribute is None or not n_channels:
        region = None if own is None else _text(found[own])
        return region, None, None if own is None else f"clusters.{own}", None
    numbers = found[attribute].astype(np.float64)
    if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
        raise FormatError(f"{str(folder)!r} has clusters.{attribute} that are no whole numbers. Expected rows of the channels.")
    base = _base(numbers, n_channels, attribute, index_base, folder)
    rows = numbers.astype(np.int64) - base
    inside = (rows >= 0) & (rows < n_channels)
    channel = np.array([str(row) if there else UNKNOWN for row, there in zip(rows, inside, strict=True)], dtype=object)
    if own is not None:
        return _text(found[own]), channel, f"clusters.{own}", base
    # A table of places (allen_ontology) stands for its acronyms; coordinates say nothing of a region.
    names = next((name for name in ("allen_ontology", *_REGIONS) if name in table), None)
    if names is None:
        return None, channel, None, base
    places = _text(table[names])
    region = np.array([places[row] if there else UNKNOWN for row, there in zip(rows, inside, strict=True)], dtype=object)
    return region, channel, f"channels.{names}", base


def _base(numbers: np.ndarray, n_channels: int, attribute: str, index_base: int | None, folder: Path) -> int:
    """Return from what channels count: as said, as ALF says, or as the numbers decide."""
    if index_base is not None:
        return index_base
    low, high = int(numbers.min()), int(numbers.max())
    span = f"{str(folder)!r} has clusters.{attribute} from {low} to {high}, and {n_channels} channels"
    if low < 0 or high > n_channels or (low == 0 and high == n_channels):
        raise FormatError(
            f"{span}: they fit neither 0 to {n_channels - 1} nor 1 to {n_channels}, so bases are mixed or files are of different probes. Expected "
            "rows of the channels: say `index_base=`, and channels outside are called 'unknown'."
        )
    decided = 0 if low == 0 else (1 if high == n_channels else None)
    stated = _CHANNELS[attribute]
    if stated is not None and decided in (None, stated):
        return stated
    if decided is None or stated is not None:
        raise ParameterError(
            f"{span}: " + ("ALF counts from 0, and these do not" if stated is not None else "they may count from 0 or from 1")
            + ". Expected `index_base=`: Steinmetz et al. (2019) count peakChannel from 1, ALF counts from 0."
        )  # fmt: skip
    return decided


def _text(column: np.ndarray) -> np.ndarray:
    cells = [
        str(int(item)) if isinstance(item, (int, float, np.number)) and np.isfinite(item) else str(item).strip()
        for item in column
    ]
    return np.array([UNKNOWN if cell.lower() in ("", "nan", "none") else cell for cell in cells], dtype=object)
