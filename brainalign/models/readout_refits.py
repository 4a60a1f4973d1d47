"""The same readout of another fit, or behind another network: what nulls and sanity checks of attributions ask for."""

from __future__ import annotations

import copy
from typing import Any, Self

import pandas as pd
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import AlignmentError
from brainalign.core.parameters import preview
from brainalign.core.protocols import DifferentiableResponder, seeded
from brainalign.features.chain import Chain, chain


class Refittable:
    """A readout that can be fitted anew; adds :meth:`refitted` and :meth:`with_backbone`."""

    backbone: DifferentiableResponder
    given: Chain
    scores: dict[str, Any]
    _rows: pd.DataFrame | None

    @property
    def random_state(self) -> Any:
        """Seed of what the backbone draws, or was drawn from."""
        return getattr(self.backbone, "random_state", None)

    def seeded(self) -> Self:
        """Return the same readout behind a backbone that draws the same whenever it is asked.

        Returns
        -------
        Readout
        """
        return self.with_backbone(seeded(self.backbone))

    @property
    def separate_targets(self) -> bool:
        """True where the mapping fits each target as if it were the only one."""
        return self.given.separate_targets

    def refitted(self, source: xr.DataArray, target: xr.DataArray, backbone: Any = None) -> Self:
        """Return the readout after its mapping was fitted anew, with whatever it chooses by itself.

        Parameters
        ----------
        source : DataArray, (presentation, neuroid)
            Features, of all stimuli that the target needs.
        target : DataArray, (presentation, neuroid)
        backbone : DifferentiableResponder, optional
            Another one, which gave the features.

        Returns
        -------
        Readout
            Without scores.

        Raises
        ------
        AlignmentError
            The target has stimuli that the source lacks.
        """
        if not self.given.retimes:  # features in the rows of the target
            at = pd.Index(source["stimulus_id"].values.astype(object)).get_indexer(target["stimulus_id"].values.astype(object))
            if (at < 0).any():
                raise AlignmentError(
                    f"The target has {int((at < 0).sum())} presentations ({preview(target['stimulus_id'].values[at < 0])}) of stimuli that "
                    "are not among those given. Expected all that the mapping was fitted on."
                )
            source = source[at]
        model: Any = self.given if len(self.given.steps) > 1 else self.given.steps[0]
        other = type(self)(
            self.backbone if backbone is None else backbone, as_chain(clone(model).fit(source, target)), self._rows
        )  # type: ignore[call-arg]
        other.scores = {}
        return other

    def with_backbone(self, backbone: Any) -> Self:
        """Return the same fitted mapping behind another network, such as one whose weights were partly drawn anew.

        Parameters
        ----------
        backbone : DifferentiableResponder
            Names the same features.

        Returns
        -------
        Readout
        """
        other = copy.copy(self)
        other.backbone = backbone
        return other


def as_chain(model: Any) -> Chain:
    """Return a fitted mapping as a fitted chain of one step; a chain as it is.

    Parameters
    ----------
    model : Chain or mapping

    Returns
    -------
    Chain
        Not fitted where the mapping was not fitted on labelled responses.
    """
    if isinstance(model, Chain):
        return model
    fitted = chain(model)
    if getattr(model, "source_ids_", None) is not None:
        fitted.steps_, fitted.presentations_ = (model,), None
        fitted.source_neuroids_ = {"neuroid_id": model.source_ids_}
    return fitted
