"""Recorded neuroids that are lesioned before a fitted mapping reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import CapabilityError, ParameterError
from brainalign.core.parameters import preview
from brainalign.core.schema import group_label, validate
from brainalign.core.tables import coords_of, presentation_table
from brainalign.engine.lesioning import replacements
from brainalign.engine.moments import Numbers
from brainalign.neurons.addresses import find_neuroids
from brainalign.neurons.interventions.lesion_modes import UNREAD, by_layer, check_alike, scale_of
from brainalign.neurons.nodes import nodes_of


class LesionedRecording:
    """Recorded neuroids that a fitted mapping reads: what is lesioned is the mapping's input, not the brain.

    Parameters
    ----------
    mapping : fitted mapping
    responses : DataArray, (presentation, neuroid)
    units, by, neuroid, mode, factor, seed
        As of :class:`LesionedNetwork`; ``by`` is a coordinate, default ``"neuroid_id"``.

    Attributes
    ----------
    intact, sets, description
        As of :class:`LesionedNetwork`; the only layer is ``"neuroid"``, all that was recorded.
    """

    causal_scope = "virtual"

    def __init__(
        self, mapping: Any, responses: xr.DataArray, units: Any, by: str | None, neuroid: Any, mode: str, factor: Any, seed: int
    ) -> None:
        self._mapping, self.inputs = mapping, validate(responses, name="the responses to lesion")
        if "time" in responses.dims:
            raise CapabilityError(
                "lesion got responses over time. Expected (presentation, neuroid): select a time, `x.isel(time=...)`."
            )
        self.description = {"model": repr(mapping)}
        self.modality, self.table = str(responses.attrs["modality"]), presentation_table(responses)
        self._held = np.asarray(responses.values, dtype=np.float64)
        first = self._predict(self._held)
        if "time" in getattr(first, "dims", ()):
            raise CapabilityError(
                f"lesion got a {type(mapping).__name__} that predicts {tuple(first.dims)}. Expected (presentation, neuroid): fit it on one "
                "time of the target, `y.isel(time=...)`."
            )
        own = self._predicted_coords(first)
        self.columns, found = find_neuroids({"predicted": own}, neuroid, owner="lesion")
        self.coords = {name: found[name] for name in own}
        self.intact = _two_dims(first)[:, self.columns]
        self._by = by or "neuroid_id"
        self.sets = self.find(units)
        n = self._held.shape[1]
        scale = scale_of(mode, factor, "neuroid", n)
        if mode in ("swap", "resample"):
            check_alike([()], len(self._held), mode, "neuroid")
        parts = [(self._held, np.arange(n))]
        new = 0.0 if mode in UNREAD else replacements(parts, mode, n, np.random.default_rng(seed))[0]
        self._lesioned = new + scale * self._held

    def find(self, units: Any) -> dict[str, Numbers]:
        """Return some of what was recorded.

        Parameters
        ----------
        units : mapping or sequence of addresses

        Returns
        -------
        dict of str to ndarray of bool, (1, neuroid)

        Raises
        ------
        ParameterError
            No such region or neuroid.
        """
        label, coords = group_label(self.inputs), coords_of(self.inputs, "neuroid")
        groups = np.asarray(coords[label]).astype(object) if label else np.full(self._held.shape[1], "neuroid", dtype=object)
        chosen = np.zeros(len(groups), dtype=bool)
        for group, which in by_layer(units).items():
            own = np.flatnonzero(groups == group)
            if not own.size:
                raise ParameterError(
                    f"lesion got units of {group!r}. Expected {label or 'neuroid'} among {preview(dict.fromkeys(groups))}, as in "
                    "{'V4': None} for all of one, or addresses 'V4/17'."
                )
            nodes = nodes_of(group, {name: values[own] for name, values in coords.items()}, [self._by], which)
            chosen[own[nodes.codes >= 0]] = True
        return {"neuroid": chosen[None]}

    def run(self, sets: Mapping[str, Numbers], max_memory: float | None) -> Numbers:
        """Return the predictions under each of several lesions.

        Parameters
        ----------
        sets : mapping of str to ndarray of bool, (set, neuroid)
        max_memory : float or None
            Not needed: lesions are predicted one by one.

        Returns
        -------
        ndarray of float64, (set, presentation, predicted)
        """
        return np.stack(
            [_two_dims(self._predict(np.where(some, self._lesioned, self._held)))[:, self.columns] for some in sets["neuroid"]]
        )

    def direct(self, freeze: Any) -> Numbers:
        """Refuse: a mapping has no layers that could make up for a lesion.

        Parameters
        ----------
        freeze : object

        Raises
        ------
        CapabilityError
            Always.
        """
        raise CapabilityError(
            f"lesion got freeze={freeze!r} and a {type(self._mapping).__name__}, which has no inner layers. Leave it out."
        )

    def _predict(self, values: Numbers) -> Any:
        x = self.inputs.copy(data=values.astype(np.result_type(self.inputs.dtype, np.float32)))
        if getattr(self._mapping, "is_classifier", False):
            for name in ("predict_proba", "decision_function"):
                if hasattr(getattr(self._mapping, "estimator_", None), name):
                    return getattr(self._mapping, name)(x)
        return self._mapping.predict(x)

    def _predicted_coords(self, out: Any) -> dict[str, Numbers]:
        classes = getattr(self._mapping, "classes_", None) if getattr(self._mapping, "is_classifier", False) else None
        n = _two_dims(out).shape[1]
        if classes is not None and len(classes) == n:
            return {"neuroid_id": np.asarray(classes)}
        labelled = isinstance(out, xr.DataArray) and "neuroid" in out.dims
        return coords_of(out, "neuroid") if labelled else {"neuroid_id": np.arange(n)}


def _two_dims(out: Any) -> Numbers:
    values = np.asarray(out, dtype=np.float64)
    if values.ndim == 1:  # of two classes, a decision function is one
        values = np.stack([-values, values], axis=1)
    return values.reshape(len(values), -1)
