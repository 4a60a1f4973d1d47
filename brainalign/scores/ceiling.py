"""Noise ceilings: how high any model could score, given how well a recording agrees with itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from brainalign.core.errors import SchemaError
from brainalign.core.grids import grid_attrs
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, dim_of, validate
from brainalign.engine.correlate import pearson_columns
from brainalign.engine.moments import column_status

_TILE = 2**22  # values of one half that are worked on at a time: 32 MB


def noise_ceiling(
    responses: xr.DataArray,
    *,
    method: str = "split-half",
    n_splits: int = 100,
    random_state: int | np.random.Generator | None = None,
) -> xr.DataArray:
    """Return the highest correlation that a model could reach with the repeat-averaged responses.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Repeats share a ``stimulus_id`` (and a ``subject``, where several are in the array).
    method : {"split-half"}
        Correlate the averages of two random, equal halves of each stimulus's repeats over stimuli.
    n_splits : int
        Random splits to average the correlation over.
    random_state : int, Generator or None

    Returns
    -------
    DataArray, (neuroid[, time]); unit: Pearson r, 0 to 1
        Attrs: ``kind`` is ``"r"`` (divide a score in r by the ceiling, one in R² by its square), ``method``, ``seed``,
        ``n_repeats`` (mean per stimulus), ``reliability_kind``. The coordinate ``status`` says why a ceiling is NaN:
        ``"constant"``, ``"nan"``, or ``"unreliable"`` where the halves do not agree at all. 1 for a recording that
        is marked ``deterministic`` and has no repeats.

    Raises
    ------
    SchemaError
        Fewer than three stimuli are repeated, and the recording is not deterministic.

    Notes
    -----
    With S the variance of the signal over stimuli, N that of the noise and R repeats, the repeat-average has the
    reliability ρ = S / (S + N/R), and the ceiling in r is √ρ. Halves of h repeats correlate with r = S / (S + N/h), so
    ρ = k r / (1 + (k − 1) r) with k = R/h (Spearman and Brown; 2r / (1 + r) for an even R). An odd repeat is left out
    of the halves, at random. Where counts differ, 1/h and 1/R are means over stimuli. r is averaged over splits before
    it is extrapolated.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> signal = np.repeat(rng.normal(size=(500, 20)), 4, axis=0)
    >>> x = ba.responses(signal + rng.normal(size=signal.shape), stimulus_id=np.repeat(np.arange(500), 4),
    ...                  neuroid_id=range(20), modality="fmri", system="sub-01")
    >>> round(float(ba.noise_ceiling(x, random_state=0).mean()), 1)   # √(1 / (1 + 1/4)) = 0.894
    0.9
    """
    validate(responses)
    check_choice("method", method, ("split-half",), owner="noise_ceiling")
    check_number("n_splits", n_splits, owner="noise_ceiling", low=1, integer=True)
    seed = check_random_state(random_state, owner="noise_ceiling")
    codes = _stimulus_codes(responses)
    counts = np.bincount(codes)
    values = responses.values.reshape(len(codes), -1)
    status = column_status(values)
    if counts.max() < 2 and bool(responses.attrs.get("deterministic", False)):
        rho, kind = np.ones(values.shape[1]), "deterministic"
    else:
        _refuse_too_few(counts)
        halves = split_halves(codes, n_splits, np.random.default_rng(seed))
        rho, kind = _reliability(values, counts, halves), "split-half, Spearman-Brown to all repeats"
    rho = np.where(status == "ok", rho, np.nan)
    status = as_labels(np.where((status == "ok") & ~(rho > 0), "unreliable", status))
    with np.errstate(invalid="ignore"):
        ceiling = np.sqrt(np.where(rho > 0, rho, np.nan))
    out = _labelled(ceiling, status, responses)
    out.attrs = {
        "kind": "r", "units": "Pearson r", "method": method, "reliability_kind": kind, "n_splits": n_splits, "seed": seed,
        "n_repeats": float(counts.mean()), "mean_inverse_repeats": float(np.mean(1.0 / counts)), "n_stimuli": len(counts),
    }  # fmt: skip
    return write_step(
        out, "noise_ceiling", params={"method": method, "n_splits": n_splits}, inputs={"responses": responses}, seed=seed
    )


def ceiling_of_averages(ceiling: xr.DataArray, mean_inverse_repeats: float) -> np.ndarray[Any, Any]:
    """Return a ceiling for averages of fewer presentations than it was made for, or of more.

    Parameters
    ----------
    ceiling : DataArray, (neuroid[, time])
        From :func:`noise_ceiling`; one from elsewhere is taken as it is.
    mean_inverse_repeats : float
        Mean over the scored rows of 1 / (presentations averaged in the row); 1 for single presentations.

    Returns
    -------
    ndarray of float64, (neuroid[, time])

    Notes
    -----
    With a the mean of 1/R, ρ = S / (S + a N): at another a′ it is a ρ / (a ρ + a′ (1 − ρ)) (Spearman and Brown).
    """
    values = np.asarray(ceiling.values, dtype=np.float64)
    known = ceiling.attrs.get("mean_inverse_repeats")
    if known is None or np.isclose(known, mean_inverse_repeats):
        return values
    rho = values**2
    return np.asarray(np.sqrt(known * rho / (known * rho + mean_inverse_repeats * (1.0 - rho))))


def split_halves(codes: np.ndarray[Any, Any], n_splits: int, rng: np.random.Generator) -> list[tuple[Any, Any]]:
    """Draw random equal halves of each stimulus's repeats.

    Parameters
    ----------
    codes : ndarray of int, (presentation,)
        Which stimulus each row presents.
    n_splits : int
    rng : Generator

    Returns
    -------
    list of (csr_array, csr_array), each (repeated stimulus, presentation)
        Matrices that average the first and the second half. Stimuli without a repeat have no row.
    """
    counts = np.bincount(codes)
    half = counts // 2
    row_of = np.cumsum(half > 0) - 1
    starts = np.cumsum(counts) - counts
    shape = (int((half > 0).sum()), len(codes))
    halves = []
    for _ in range(n_splits):
        order = np.lexsort((rng.random(len(codes)), codes))
        stimulus = codes[order]
        rank = np.arange(len(codes)) - starts[stimulus]
        pair = []
        for low, high in ((0, half), (half, 2 * half)):
            take = (rank >= np.broadcast_to(low, counts.shape)[stimulus]) & (rank < high[stimulus])
            weights = 1.0 / half[stimulus[take]]
            pair.append(sparse.csr_array((weights, (row_of[stimulus[take]], order[take])), shape=shape))
        halves.append((pair[0], pair[1]))
    return halves


def _reliability(
    values: np.ndarray[Any, Any], counts: np.ndarray[Any, Any], halves: list[tuple[Any, Any]]
) -> np.ndarray[Any, Any]:
    """Mean split-half correlation, extrapolated to the reliability of the average over all repeats."""
    r = np.zeros(values.shape[1])
    step = max(1, _TILE // halves[0][0].shape[0])
    for start in range(0, values.shape[1], step):
        tile = values[:, start : start + step].astype(np.float64)
        tile = tile - tile.mean(axis=0)
        r[start : start + step] = np.mean([pearson_columns(first @ tile, second @ tile) for first, second in halves], axis=0)
    noise_of_half = np.mean(1.0 / (counts // 2)[counts > 1])
    noise_of_all = np.mean(1.0 / counts)
    signal = noise_of_half * r  # S/N up to the common factor 1 / (1 - r), which may be infinite
    with np.errstate(invalid="ignore"):
        return np.where(r > 0, signal / (signal + noise_of_all * (1.0 - r)), np.nan)


def _stimulus_codes(responses: xr.DataArray) -> np.ndarray[Any, Any]:
    names = [name for name in ("subject", "stimulus_id") if name in responses.coords and responses.coords[name].dims]
    table = pd.DataFrame({name: responses.coords[name].values.astype(object) for name in names})
    return table.groupby(names, sort=False, dropna=False).ngroup().to_numpy()


def _refuse_too_few(counts: np.ndarray[Any, Any]) -> None:
    repeated = int((counts > 1).sum())
    if repeated < 3:
        raise SchemaError(
            f"{repeated} of {len(counts)} stimuli are repeated. Expected at least 3 that were presented twice or more: a ceiling needs "
            "repeats under one `stimulus_id` (look at `x.repetition`). Responses that a second presentation would not change are "
            "marked with `x.attrs['deterministic'] = True`."
        )


def _labelled(values: np.ndarray[Any, Any], status: np.ndarray[Any, Any], responses: xr.DataArray) -> xr.DataArray:
    dims, shape = responses.dims[1:], responses.shape[1:]
    coords = {
        name: c for name, c in responses.coords.items() if "presentation" not in c.dims and dim_of(str(name)) != "presentation"
    }
    out = xr.DataArray(values.reshape(shape), dims=dims, coords=coords, name="ceiling")
    names = responses.neuroid_id.variable.copy(deep=False)
    names.attrs = {**names.attrs, **grid_attrs(responses)}
    return out.assign_coords(status=(dims, status.reshape(shape)), neuroid_id=names)
