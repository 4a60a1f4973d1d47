"""What stands beside: nuisance beside the source, as a band of its own, and a plainer mapping beside the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import ParameterError
from brainalign.core.schema import as_labels
from brainalign.engine.moments import Numbers
from brainalign.features.bands import bands
from brainalign.features.chain import Chain
from brainalign.features.nuisance import nuisance
from brainalign.models.banded import BandedRidge
from brainalign.models.ridge import Ridge
from brainalign.scores.heldout import score_pair
from brainalign.scores.metrics import R2
from brainalign.scores.pairing import Pair

_SHARED = ("alphas", "cv", "groups", "fit_intercept", "device", "dtype", "target_batch", "max_memory")
#: Of the two bands, the same for all targets, which are then fitted each by itself: in tiles, or moved and side by side.
_WEIGHTS = np.column_stack([np.linspace(0, 1, 17), np.linspace(1, 0, 17)])


def with_nuisance(
    prepared: xr.DataArray, rest: Chain, source: xr.DataArray, target: Any, model: Chain
) -> tuple[xr.DataArray, Chain]:
    """Join the nuisance features of a source in time to it, and give each of the two its own penalty.

    Parameters
    ----------
    prepared : DataArray, (presentation, neuroid)
        The source after the steps that learn nothing.
    rest : Chain
        What is left of the model, with a :class:`Ridge` or a :class:`BandedRidge` in the last place.
    source, target : DataArray
        As they were given.
    model : Chain
        As it was given.

    Returns
    -------
    prepared : DataArray
        With the coordinate ``band``, ``"features"`` or ``"nuisance"``; itself where the source has no ``onset_s``.
    rest : Chain
        With a :class:`BandedRidge` in the last place.

    Raises
    ------
    ParameterError
        The mapping is no ridge, or the source has bands already.
    """
    if "onset_s" not in source.coords:
        return prepared, rest
    mapping = rest.steps[-1]
    wrong = "a source with bands" if "band" in prepared.coords else ""
    if not isinstance(mapping, (Ridge, BandedRidge)):
        wrong = f"the mapping {type(mapping).__name__}"
    if rest.mixes:
        wrong = "a model that fits a step before it mixes presentations"
    if wrong:
        raise ParameterError(
            f"evaluate(nuisance='auto') got {wrong}. Expected a source of one band, temporal steps first, and `ba.Ridge` or "
            "`ba.BandedRidge` last: or join `brainalign.features.nuisance.nuisance` to it with `ba.bands`."
        )
    extra = nuisance(source, target, model=model)
    joined = bands(features=_plain(prepared), nuisance=_plain(extra))
    if isinstance(mapping, Ridge):
        mapping = BandedRidge(candidates=_WEIGHTS, **{name: getattr(mapping, name) for name in _SHARED})
    return joined, Chain((*rest.steps[:-1], mapping))


def unique_variance(out: xr.Dataset, both: Pair) -> xr.Dataset:
    """Add the held-out variance that the source and the nuisance features explain alone.

    Parameters
    ----------
    out : Dataset
    both : Pair
        Of :func:`with_nuisance`.

    Returns
    -------
    Dataset
        With ``unique`` (band, neuroid): the R² of both less that of the other; negative where a band costs more than it explains.
    """
    if "band" not in both.source.coords:
        return out
    band, mapping = both.source.band.values, both.model.steps[-1]
    one_weight = clone(mapping).set_params(candidates=1)  # of the one band that is left
    lone = replace(both, model=Chain((*both.model.steps[:-1], one_weight)))
    joint = score_pair(both, R2).score.values
    alone = [score_pair(replace(lone, source=both.source[:, band == name]), R2).score.values for name in ("nuisance", "features")]
    unique = np.stack([joint - other for other in alone])
    return out.assign_coords(band=as_labels(["features", "nuisance"])).assign(unique=(("band", *out.score.dims), unique))


def with_baseline(out: xr.Dataset, both: Pair, score: Callable[[Pair], Numbers]) -> xr.Dataset:
    """Add what the baseline of a model scores on the same folds, where its mapping names one (:class:`ContrastiveDecoder`).

    Parameters
    ----------
    out : Dataset
        With ``score``.
    both : Pair
    score : callable
        From a pair to scores.

    Returns
    -------
    Dataset
        With ``score_baseline``, and the attr ``baseline``.
    """
    baseline = getattr(both.model.steps[-1], "baseline", None)
    if baseline is None:
        return out
    model = Chain((*both.model.steps[:-1], baseline()))
    values = score(replace(both, model=model))
    return out.assign(score_baseline=(out.score.dims, values)).assign_attrs(baseline=repr(model.steps[-1]))


def _plain(x: xr.DataArray) -> xr.DataArray:
    return x.drop_vars("delay_s", errors="ignore")  # times of position and of lagged features are no lags to smooth over
