"""Noise ceilings: how high any model could score, given how well a recording agrees with itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import SchemaError
from brainalign.core.grids import grid_attrs
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, dim_of, validate
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.reliability import explainable_variance, extrapolate, signal_and_noise, signal_power, split_half

METHODS = ("split-half", "variance", "signal-power", "explainable-variance")
_UNITS = {"r": "Pearson r", "r2": "R²"}


def noise_ceiling(
    responses: xr.DataArray,
    *,
    method: str = "split-half",
    units: str = "r",
    n_splits: int = 100,
    random_state: int | np.random.Generator | None = None,
) -> xr.DataArray:
    """Return the highest score that a model could reach with the repeat-averaged responses.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time])
        Repeats share a ``stimulus_id`` (and a ``subject``, where several are in the array).
    method : {"split-half", "variance", "signal-power", "explainable-variance"}
        Correlate the averages of random, equal halves of each stimulus's repeats; or compare variances: within and between stimuli
        (NSD's ncsnr; any numbers of repeats); of the sum of repeats and of each (Schoppe's CCmax); or of z-scored repeats (Gallant's
        explainable variance). The last two need as many repeats of each stimulus.
    units : {"r", "r2"}
        What is to be divided by it: a score in Pearson r, or one in R².
    n_splits : int
        Random splits to average the correlation over; split-half only.
    random_state : int, Generator or None

    Returns
    -------
    DataArray, (neuroid[, time]); 0 to 1
        Attrs: ``kind`` is ``units``, by which a score in the other units is refused; ``method``, ``seed``, ``n_repeats`` (mean per
        stimulus), ``reliability_kind``. The coordinate ``status`` says why a ceiling is NaN: ``"constant"``, ``"nan"``, or
        ``"unreliable"`` where repeats do not agree at all; ``ncsnr`` is √(S/N), one presentation's signal-to-noise ratio. 1 for a
        recording that is marked ``deterministic`` and has no repeats.

    Raises
    ------
    SchemaError
        Fewer than three stimuli are repeated, and the recording is not deterministic; unequal repeats for a method that needs equal ones.

    Notes
    -----
    With S the variance of the signal over stimuli, N that of the noise and R repeats, the repeat-average has the reliability
    ρ = S / (S + N/R); the ceiling is ρ in R² and √ρ in r. Where counts differ, 1/R is the mean over stimuli. Formulas:
    :mod:`brainalign.engine.reliability`.

    ``score_normalized`` of :func:`evaluate` is then what the literature calls CCnorm (``metric="pearson"`` over the ceiling of
    ``"signal-power"``), signal power explained (``"r2"`` over the same) and the fraction of explainable variance explained (``"r2"``
    with ``repeats="keep"``, over that of ``"variance"``). Over many neuroids take the ratio of means, as :func:`compare` does: the
    mean of ratios is too high where ceilings are low.

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
    check_choice("method", method, METHODS, owner="noise_ceiling")
    check_choice("units", units, tuple(_UNITS), owner="noise_ceiling")
    check_number("n_splits", n_splits, owner="noise_ceiling", low=1, integer=True)
    seed = check_random_state(random_state, owner="noise_ceiling")
    codes = _stimulus_codes(responses)
    counts = np.bincount(codes)
    inverse = float(np.mean(1.0 / counts))
    values = responses.values.reshape(len(codes), -1)
    status = column_status(values)
    if counts.max() < 2 and bool(responses.attrs.get("deterministic", False)):
        rho, kind = np.ones(values.shape[1]), "deterministic"
    else:
        _refuse_too_few(counts)
        rho, kind = _reliability(values, codes, method, n_splits, np.random.default_rng(seed)), method
    rho = np.where((status == "ok") & (rho > 0), rho, np.nan)
    status = as_labels(np.where((status == "ok") & np.isnan(rho), "unreliable", status))
    with np.errstate(divide="ignore"):
        ncsnr = np.sqrt(rho * inverse / (1.0 - np.minimum(rho, 1.0)))
    out = _labelled(np.sqrt(rho) if units == "r" else rho, {"status": status, "ncsnr": ncsnr}, responses)
    out.attrs = {
        "kind": units, "units": _UNITS[units], "method": method, "reliability_kind": kind, "n_splits": n_splits, "seed": seed,
        "n_repeats": float(counts.mean()), "mean_inverse_repeats": inverse, "n_stimuli": len(counts),
    }  # fmt: skip
    params = {"method": method, "units": units, "n_splits": n_splits}
    return write_step(out, "noise_ceiling", params=params, inputs={"responses": responses}, seed=seed)


def ceiling_of_averages(ceiling: xr.DataArray, mean_inverse_repeats: float) -> Numbers:
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
        In the units of ``ceiling``.
    """
    values = np.asarray(ceiling.values, dtype=np.float64)
    known = ceiling.attrs.get("mean_inverse_repeats")
    if known is None or np.isclose(known, mean_inverse_repeats):
        return values
    if ceiling.attrs.get("kind") == "r2":
        return extrapolate(values, known, mean_inverse_repeats)
    return np.asarray(np.sqrt(extrapolate(values**2, known, mean_inverse_repeats)))


def _reliability(values: Numbers, codes: Numbers, method: str, n_splits: int, rng: np.random.Generator) -> Numbers:
    """Return S / (S + a N) of the averages over all repeats, by one of the methods."""
    counts = np.bincount(codes)
    if method == "split-half":
        return split_half(values, codes, n_splits, rng)
    if method == "variance":
        signal, noise = signal_and_noise(values, codes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(signal > 0, signal / (signal + np.mean(1.0 / counts) * noise), np.nan)
    if counts.min() != counts.max():
        raise SchemaError(
            f"the stimuli have {counts.min()} to {counts.max()} repeats. Expected as many of each for method={method!r}: use method='variance' "
            "or 'split-half', or keep the stimuli that have all repeats."
        )
    trials = values[np.argsort(codes, kind="stable")].reshape(len(counts), counts[0], -1).swapaxes(0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "signal-power":
            power, variance = signal_power(trials)
            return np.where(power > 0, power / variance, np.nan)
        return extrapolate(np.maximum(explainable_variance(trials), 0.0), 1.0, 1.0 / counts[0])


def _stimulus_codes(responses: xr.DataArray) -> Numbers:
    names = [name for name in ("subject", "stimulus_id") if name in responses.coords and responses.coords[name].dims]
    table = pd.DataFrame({name: responses.coords[name].values.astype(object) for name in names})
    return table.groupby(names, sort=False, dropna=False).ngroup().to_numpy()


def _refuse_too_few(counts: Numbers) -> None:
    repeated = int((counts > 1).sum())
    if repeated < 3:
        raise SchemaError(
            f"{repeated} of {len(counts)} stimuli are repeated. Expected at least 3 that were presented twice or more: a ceiling needs "
            "repeats under one `stimulus_id` (look at `x.repetition`). Responses that a second presentation would not change are "
            "marked with `x.attrs['deterministic'] = True`."
        )


def _labelled(values: Numbers, labels: dict[str, Numbers], responses: xr.DataArray) -> xr.DataArray:
    dims, shape = responses.dims[1:], responses.shape[1:]
    coords = {
        name: c for name, c in responses.coords.items() if "presentation" not in c.dims and dim_of(str(name)) != "presentation"
    }
    out = xr.DataArray(values.reshape(shape), dims=dims, coords=coords, name="ceiling")
    names = responses.neuroid_id.variable.copy(deep=False)
    names.attrs = {**names.attrs, **grid_attrs(responses)}
    return out.assign_coords({name: (dims, column.reshape(shape)) for name, column in labels.items()} | {"neuroid_id": names})
