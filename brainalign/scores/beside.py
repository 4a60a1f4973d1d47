"""Nuisance beside the source: how many stimuli there were and when, as a band of its own, and what each explains alone."""

from __future__ import annotations

from typing import Any

import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.dataset.folds import Folds
from brainalign.features.bands import bands
from brainalign.features.chain import Chain
from brainalign.features.nuisance import nuisance
from brainalign.models.banded import BandedRidge
from brainalign.models.ridge import Ridge
from brainalign.scores.pairing import Pair

_SHARED = ("alphas", "cv", "groups", "fit_intercept", "device", "dtype", "target_batch", "max_memory")


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
        mapping = BandedRidge(**{name: getattr(mapping, name) for name in _SHARED})
    return joined, Chain((*rest.steps[:-1], mapping))


def unique_variance(out: xr.Dataset, both: Pair, folds: Folds, seed: int) -> xr.Dataset:
    """Add the held-out variance that the source and the nuisance features explain alone.

    Parameters
    ----------
    out : Dataset
    both : Pair
        Of :func:`with_nuisance`.
    folds : Folds
    seed : int

    Returns
    -------
    Dataset
        With ``unique`` (band, neuroid), in R²; negative where a band costs more than it explains.
    """
    from brainalign.scores.variance import partition_variance  # which evaluates every subset of bands

    if "band" not in both.source.coords:
        return out
    parts = partition_variance(
        both.source, both.target, model=both.model, cv=folds, repeats=both.report["repeats"], random_state=seed
    )
    return out.assign_coords(band=parts.band.values).assign(unique=(("band", *out.score.dims), parts.unique.values))


def _plain(x: xr.DataArray) -> xr.DataArray:
    return x.drop_vars("delay_s", errors="ignore")  # times of position and of lagged features are no lags to smooth over
