"""Attributions of pieces, added up and labelled."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.neurons.attribution.pieces import Found

Values = np.ndarray[Any, Any]


class Sums:
    """Attributions and responses of the wanted rows and columns; those of several pieces to one row add up, in float64.

    Parameters
    ----------
    rows : ndarray of int
        The presentations.
    n_columns : int
    n_parts : int
        Stimuli.

    Attributes
    ----------
    tally : dict
        What is said of completeness, to be joined with that of other rows and columns by :func:`completeness`.
    """

    def __init__(self, rows: Values, n_columns: int, n_parts: int) -> None:
        self._rows, self._shape, self._n_parts = rows, (len(rows), n_columns), n_parts
        self._values: dict[str, Values] = {}
        self._totals: dict[str, Values] = {}  # over what a response is attributed to, before that is rounded
        self._responses: dict[str, Values] = {}
        self._beside: dict[str, dict[str, Values]] = {}
        self._constant = np.zeros(self._shape)
        self.tally: dict[str, Any] = {}
        self._kind: Found | None = None
        self._labels: dict[str, dict[str, Values]] = {}

    def wanted(self, rows: Values) -> tuple[Values, Values]:
        """Return which of some rows are wanted, and their positions here."""
        at = np.searchsorted(self._rows, rows)
        local = np.flatnonzero(self._rows[np.minimum(at, len(self._rows) - 1)] == rows)
        return local, at[local]

    def add(self, positions: Values, found: Found) -> None:
        """Add what was found for some rows."""
        layer, values = found.layer, found.values.cpu().numpy()
        if layer not in self._values:
            shape = (self._n_parts,) if found.at is not None else values.shape[2:]
            overlapping = found.dims in (("part",), ("unit",))  # several pieces to one row
            self._values[layer] = np.zeros((*self._shape, *shape), dtype=np.float64 if overlapping else np.float32)
            self._totals[layer], self._responses[layer] = np.zeros(self._shape), np.zeros((2, *self._shape))
            self._labels[layer], self._kind = found.labels, found
            self._beside[layer] = {name: np.zeros_like(self._values[layer]) for name in found.beside}
        self._totals[layer][positions] += values.reshape(*values.shape[:2], -1).sum(axis=2, dtype=np.float64)
        at = (positions,) if found.at is None else np.ix_(positions, np.arange(self._shape[1]), found.at)
        self._values[layer][at] += values
        for name, beside in found.beside.items():  # of several pieces, standard errors add up to no less than that of the sum
            self._beside[layer][name][at] += beside.cpu().numpy()
        self._responses[layer][:, positions] += found.responses.cpu().numpy()

    def add_constant(self, positions: Values, values: torch.Tensor) -> None:
        """Add what some rows hold whatever the stimuli, (row, neuroid)."""
        self._constant[positions] += values.cpu().numpy()

    def labelled(self, coords: dict[str, Any], table: pd.DataFrame, stimuli: xr.Dataset, *, complete: bool) -> xr.DataArray:
        """Return the sums with labels, and how far they fail to add up to the difference of responses.

        Parameters
        ----------
        coords : dict
            Of neuroids.
        table : DataFrame
            Of presentations.
        stimuli : Dataset
        complete : bool
            They are meant to add up.

        Returns
        -------
        DataArray, (presentation, neuroid, ...) float32
        """
        if self._kind is None:
            self._values, self._totals = {"": np.zeros((*self._shape, self._n_parts))}, {"": np.zeros(self._shape)}
            self._responses = {"": np.zeros((2, *self._shape))}
        dims = ("part",) if self._kind is None else self._kind.dims
        labels: dict[str, Any] = {name: ("presentation", as_labels(table[name].to_numpy())) for name in table}
        labels |= {name: ("neuroid", v) for name, v in coords.items()}
        labels |= self._labels_of(dims, stimuli)
        values = _over_layers(list(self._values.values())).astype(np.float32)
        responses = {layer: found + self._constant for layer, found in self._responses.items()}
        start, end = np.stack(list(responses.values())).mean(axis=0)
        values[np.isnan(end)] = np.nan  # a neuroid whose mapping predicts nothing is driven by nothing
        pair = ("presentation", "neuroid")
        labels |= {"response": (pair, end), "baseline_response": (pair, start)}
        for name in next(iter(self._beside.values()), {}):
            beside = _over_layers([some[name] for some in self._beside.values()])
            labels[name] = ((*pair, *dims), beside.astype(np.float32))
        if complete:
            errors = {layer: _shortfall(total, responses[layer]) for layer, total in self._totals.items()}
            labels["completeness_error"] = (pair, np.max([error for error, _ in errors.values()], axis=0))
            self.tally = {
                "error": float(np.nanmax(labels["completeness_error"][1], initial=0.0)),
                "change": max(float(np.nanmax(np.abs(end - start), initial=0.0)) for start, end in responses.values()),
                "flow": {layer: flow for layer, (_, flow) in errors.items() if layer},
            }
        out = xr.DataArray(values, dims=("presentation", "neuroid", *dims), coords=labels, name="attribution")
        return out

    def _labels_of(self, dims: tuple[str, ...], stimuli: xr.Dataset) -> dict[str, Any]:
        if dims == ("part",):
            found = {f"part_{k}": ("part", v) for k, v in coords_of(stimuli, "presentation").items() if k != "repetition"}
            return found | ({"part_text": ("part", stimuli["text"].values)} if "text" in stimuli else {})
        if dims != ("unit",):
            labels = next(iter(self._labels.values()))
            return {name: values if isinstance(values, tuple) else (dims, values) for name, values in labels.items()}
        shared = [name for name in next(iter(self._labels.values())) if all(name in labels for labels in self._labels.values())]
        joined = {name: ("unit", np.concatenate([labels[name] for labels in self._labels.values()])) for name in shared}
        widths = [values.shape[2] for values in self._values.values()]
        return {"unit_layer": ("unit", np.repeat(as_labels(list(self._values)), widths)), **joined}


def _over_layers(values: list[Values]) -> Values:
    return np.concatenate(values, axis=2) if len(values) > 1 else values[0]


def _shortfall(total: Values, responses: Values) -> tuple[Values, tuple[float, float]]:
    """Return how far totals fall short of the change of the responses, and sums of products of the two, and of squares."""
    change = responses[1] - responses[0]
    return np.abs(total - change), (float(np.nansum(total * change)), float(np.nansum(change**2)))


def completeness(tallies: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the attrs that say how complete attributions are.

    Parameters
    ----------
    tallies : list of dict
        Of the tiles of one result.

    Returns
    -------
    dict
        ``completeness_error``, the largest beside the largest change of a response; ``through_flow`` of layers, as JSON.
    """
    known = [tally for tally in tallies if tally]
    if not known:
        return {}
    change = max(tally["change"] for tally in known)
    attrs: dict[str, Any] = {"completeness_error": max(tally["error"] for tally in known) / change if change > 0 else 0.0}
    flow = {layer: np.sum([tally["flow"][layer] for tally in known], axis=0) for layer in known[0]["flow"]}
    if flow:
        attrs["through_flow"] = json.dumps({layer: float(top / max(under, 1e-300)) for layer, (top, under) in flow.items()})
    return attrs
