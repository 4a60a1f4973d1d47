"""Attributions tile by tile: all at once in memory, or each kept in a study as soon as it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import CapabilityError
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import fingerprint, hash_array, plain, responder_params, write_step
from brainalign.dataset.writing import ResultParts
from brainalign.engine.backend import whole_float32
from brainalign.neurons.attribution.pieces import Asked, ask, holds_no_stimulus
from brainalign.neurons.attribution.sums import Sums, completeness

#: Bytes that an attribution takes while it is made: a float64 sum, and the float32 that it becomes.
_EACH = 12
_USUAL_MEMORY = 2**31
_PART = "{:05d}-{:05d}"


@dataclass(frozen=True)
class Job:
    """One call of ``attribute``.

    Attributes
    ----------
    asked : Asked
    stimuli : Dataset
    coords : dict
        Of the neuroids.
    table : DataFrame
        Of all presentations.
    params : dict
        For attrs and provenance.
    progress : bool or None
    """

    asked: Asked
    stimuli: xr.Dataset
    coords: dict[str, Any]
    table: pd.DataFrame
    params: dict[str, Any]
    progress: bool | None = False

    @whole_float32()
    def tile(self, rows: np.ndarray[Any, Any], columns: slice) -> tuple[xr.DataArray, dict[str, Any]]:
        """Return the labelled attributions of some presentations and neuroids, and what is to be said of their completeness.

        Parameters
        ----------
        rows : ndarray of int
        columns : slice

        Returns
        -------
        DataArray, dict
        """
        asked = replace(self.asked, columns=self.asked.columns[columns])
        sums = Sums(rows, len(asked.columns), self.stimuli.sizes["presentation"])
        met = np.zeros(len(rows), dtype=bool)
        for piece in progress_bar(asked.responder.pieces(self.stimuli, rows), progress=self.progress, desc="attribute"):
            local, positions = sums.wanted(piece.rows)
            if holds_no_stimulus(piece):
                sums.add_constant(positions, piece.forward(piece.inputs)[local][:, asked.columns])
                continue
            if not asked.method.additive and met[positions].any():
                raise CapabilityError(
                    f"attribute got method={self.params['method']!r} and responses that are sums over several texts or images, as under a delay: "
                    "shares of their variance do not add up. Expected one input for a response: use 'shapley', or a chain without such a step."
                )
            met[positions] = True
            for found in ask(asked, piece, local):
                sums.add(positions, found)
        coords = {name: values[columns] for name, values in self.coords.items()}
        out = sums.labelled(coords, self.table.iloc[rows], self.stimuli, complete=asked.method.complete)
        return out, sums.tally

    def finished(self, out: xr.DataArray, tallies: list[dict[str, Any]]) -> xr.DataArray:
        """Return attributions with their attrs and provenance.

        Parameters
        ----------
        out : DataArray
        tallies : list of dict

        Returns
        -------
        DataArray
        """
        responder = self.asked.responder
        scope = {"causal_scope": getattr(responder, "causal_scope", "model"), "modality": responder.modality}
        out = out.assign_attrs({**completeness(tallies), **self.params, **scope})
        params = self.params | responder_params(responder)
        return write_step(out, "attribute", params=params, inputs={"stimuli": self.stimuli}, seed=self.asked.seed)

    def key(self, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
        """Return what decides the attributions of some rows, in plain JSON.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        dict
        """
        groups = self.asked.groups
        return {
            **self.params,
            **responder_params(self.asked.responder),
            "stimuli": fingerprint(self.stimuli),
            "neuroid": hash_array(self.asked.columns),
            "presentations": hash_array(rows),
            "baseline_values": self.asked.baseline.key,
            "groups": plain(groups) if groups is None or isinstance(groups, str | Mapping) else _hash_of(groups),
            "domain": None if self.asked.domain is None else self.asked.domain.key,
            "max_memory": plain(self.asked.max_memory),
            "random_state": self.asked.seed,
        }


def attribute_in_store(job: Job, rows: np.ndarray[Any, Any], store: str | os.PathLike[str], *, resume: bool) -> xr.DataArray:
    """Work out attributions tile by tile into a study; what is kept already is not worked out again.

    Parameters
    ----------
    job : Job
    rows : ndarray of int
    store : path
    resume : bool

    Returns
    -------
    DataArray
        Lazy.
    """
    with ResultParts(store, "attribute", job.key(rows), resume=resume) as parts:
        if parts.result is not None:
            return _gathered(parts.result)
        row_cuts, column_cuts = _cuts(job, rows)
        grid = [
            (i, j, slice(*a), slice(*b)) for i, a in enumerate(pairwise(row_cuts)) for j, b in enumerate(pairwise(column_cuts))
        ]
        quiet = replace(job, progress=False)
        for i, j, some, columns in progress_bar(grid, progress=job.progress, desc="tiles"):
            if _PART.format(i, j) not in parts.done:
                out, tally = quiet.tile(rows[some], columns)
                parts.write(_PART.format(i, j), _spread(out.assign_attrs(tally=json.dumps(tally))))
        tiles = [[parts.read(_PART.format(i, j)) for j in range(len(column_cuts) - 1)] for i in range(len(row_cuts) - 1)]
        tallies = [json.loads(tile["attribution"].attrs["tally"]) for line in tiles for tile in line]
        whole = _joined([_joined(line, "neuroid") for line in tiles], "presentation")
        del whole["attribution"].attrs["tally"]
        whole["attribution"] = job.finished(whole["attribution"], tallies)
        return _gathered(parts.finish(whole))


def _hash_of(labels: Any) -> str:
    dims = ",".join(map(str, labels.dims)) if isinstance(labels, xr.DataArray) else ""
    return dims + hash_array(np.asarray(labels))


def _spread(out: xr.DataArray) -> xr.Dataset:
    """Return attributions with their coordinates of several dims as variables beside them: those stay lazy when they are opened."""
    return out.to_dataset().reset_coords([name for name, coord in out.coords.items() if coord.ndim > 1])


def _gathered(found: xr.Dataset) -> xr.DataArray:
    return found.set_coords([name for name in found.data_vars if name != "attribution"])["attribution"]


def _cuts(job: Job, rows: np.ndarray[Any, Any]) -> tuple[list[int], list[int]]:
    """Return where rows and columns are cut, so that the attributions of a tile take a twelfth of the memory; one is tried out."""
    one, _ = job.tile(rows[:1], slice(0, 1))
    most = max(1, (job.asked.max_memory or _USUAL_MEMORY) // 12 // (_EACH * one.size))  # of row and column pairs
    n_columns = min(len(job.asked.columns), most)
    n_rows = max(1, most // n_columns)
    return [*range(0, len(rows), n_rows), len(rows)], [*range(0, len(job.asked.columns), n_columns), len(job.asked.columns)]


def _joined(tiles: list[xr.Dataset], dim: str) -> xr.Dataset:
    if len(tiles) == 1:
        return tiles[0]
    return xr.concat(
        tiles, dim, data_vars="minimal", coords="minimal", compat="override", join="override", combine_attrs="override"
    )
