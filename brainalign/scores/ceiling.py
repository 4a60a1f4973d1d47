"""Noise ceilings: how high any model could score, given how well a recording agrees with itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import ParameterError, SchemaError
from brainalign.core.grids import grid_attrs
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, dim_of, validate
from brainalign.core.tables import order_of_presentations
from brainalign.dataset.repeats import presentations_in_rows
from brainalign.engine.comparators import COMPARATORS
from brainalign.engine.moments import Numbers, column_status
from brainalign.engine.reliability import (
    explainable_variance,
    extrapolate,
    geometry_bounds,
    signal_and_noise,
    signal_power,
    split_half,
)
from brainalign.scores.consistency import check_others, consistency

METHODS = ("split-half", "variance", "signal-power", "explainable-variance", "inter-system")
_UNITS = {"r": "Pearson r", "r2": "R²"}
_OF_RDMS = ("spearman", "pearson", "cosine")


def noise_ceiling(
    responses: xr.DataArray,
    *,
    method: str = "split-half",
    units: str | None = None,
    n_splits: int | None = None,
    others: Any = None,
    pool: bool = False,
    model: Any = None,
    cv: Any = None,
    floor: float = 0.3,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.DataArray:
    """Return the highest score that a model could reach with the repeat-averaged responses.

    Parameters
    ----------
    responses : DataArray, (presentation, neuroid[, time]), or RDMs (subject, ..., stimulus, stimulus_2)
        Repeats share a ``stimulus_id`` (and a ``subject``, where several are in the array).
    method : {"split-half", "variance", "signal-power", "explainable-variance", "inter-system"}
        Correlate the averages of random, equal halves of each stimulus's repeats; or compare variances: within and between stimuli
        (NSD's ncsnr; any numbers of repeats); of the sum of repeats and of each (Schoppe's CCmax); or of z-scored repeats (Gallant's
        explainable variance). The last two need as many repeats of each stimulus. ``"inter-system"``: what ``others`` predict. RDMs
        have one method, bounds from how alike those of the subjects are.
    units : {"r", "r2"}, or for RDMs {"spearman", "pearson", "cosine"}
        What is to be divided by it: a score in Pearson r (default), or one in R²; for RDMs the metric by which they are compared.
    n_splits : int, optional
        Random splits to average the correlation over; default 100, or 10 where a mapping is fitted to each half.
    others : DataArray, or dict of them
        Other subjects, animals or networks that saw the same stimuli; inter-system only, as are the next four.
    pool : bool
        Let them predict together; by default each predicts alone and the mean over them is taken, never the best.
    model, cv : as in :func:`evaluate`
        What predicts one system from another, and on which folds.
    floor : float
        Reliability below which a correction is not made, but NaN.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over splits.

    Returns
    -------
    DataArray, (neuroid[, time]), 0 to 1; of RDMs (bound, ...), with ``bound`` ``"lower"`` and ``"upper"``
        Attrs: ``kind`` is ``units``, by which a score in other units is refused; ``method``, ``seed``, ``n_repeats`` (mean per
        stimulus), ``reliability_kind``. The coordinate ``status`` says why a ceiling is NaN: ``"constant"``, ``"nan"``, or
        ``"unreliable"`` where repeats do not agree at all (inter-system: less than ``floor``); ``ncsnr`` is √(S/N), one presentation's
        signal-to-noise ratio. 1 for a recording that is marked ``deterministic`` and has no repeats.

        Inter-system: the score of a noise-free model that knows what the others know. Coordinates, all in r: ``raw``, what they
        predict; ``one_sided``, divided by √reliability of the target; ``two_sided``, also by that of the prediction;
        ``target_reliability``, ``source_reliability`` and ``n_systems`` that passed the floor.

    Raises
    ------
    SchemaError
        Fewer than three stimuli are repeated, and the recording is not deterministic; unequal repeats for a method that needs equal
        ones; RDMs of fewer than two subjects.
    AlignmentError
        Fewer than ten stimuli are repeated in every system.
    ParameterError
        ``others`` missing or not wanted; an impossible choice.

    Notes
    -----
    With S the variance of the signal over stimuli, N that of the noise and R repeats, the repeat-average has the reliability
    ρ = S / (S + N/R); the ceiling is ρ in R² and √ρ in r. Where counts differ, 1/R is the mean over stimuli. Formulas:
    :mod:`brainalign.engine.reliability`; between systems, :func:`brainalign.scores.consistency.consistency`.

    ``score_normalized`` of :func:`evaluate` is then what the literature calls CCnorm (``metric="pearson"`` over the ceiling of
    ``"signal-power"``), signal power explained (``"r2"`` over the same) and the fraction of explainable variance explained (``"r2"``
    with ``repeats="keep"``, over that of ``"variance"``). Over many neuroids take the ratio of means, as :func:`compare`
    and ``ba.reports.summary(result, floor=0.3)`` do: the mean of ratios is too high where ceilings are low. Between systems the
    correction on one side understates what they share, and that on both overshoots at low reliability (1.10 for 1 at .44).

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
    if isinstance(responses, xr.DataArray) and responses.dims[-2:] == ("stimulus", "stimulus_2"):
        return _of_rdms(responses, "spearman" if units is None else units)
    check_choice("method", method, METHODS, owner="noise_ceiling")
    validate(responses)
    units = check_choice("units", "r" if units is None else units, tuple(_UNITS), owner="noise_ceiling")
    n_splits = (10 if method == "inter-system" else 100) if n_splits is None else n_splits
    check_number("n_splits", n_splits, owner="noise_ceiling", low=1, integer=True)
    seed = check_random_state(random_state, owner="noise_ceiling")
    shown = partial(progress_bar, progress=progress, desc="splits of repeats")
    if method == "inter-system":
        check_number("floor", floor, owner="noise_ceiling", low=0.0, high=1.0)
        options = {"model": model, "cv": cv, "n_splits": n_splits}
        groups = check_others(others, responses)
        return _from_others(responses, groups, options, pool=pool, units=units, floor=floor, seed=seed, shown=shown)
    if others is not None:
        raise ParameterError(
            f"noise_ceiling got `others` for method={method!r}. Expected method='inter-system': other systems are no repeats."
        )
    codes = _stimulus_codes(responses)
    counts = np.bincount(codes)
    presentations = np.bincount(codes, presentations_in_rows(responses))
    inverse = float(np.mean(1.0 / presentations))
    values = responses.values.reshape(len(codes), -1)
    status = column_status(values)
    if counts.max() < 2 and bool(responses.attrs.get("deterministic", False)):
        rho, kind = np.ones(values.shape[1]), "deterministic"
    else:
        _refuse_too_few(counts, responses)
        order = order_of_presentations(responses)
        rho, kind = _reliability(values, codes, order, method, n_splits, np.random.default_rng(seed), shown), method
    rho = np.where((status == "ok") & (rho > 0), rho, np.nan)
    status = as_labels(np.where((status == "ok") & np.isnan(rho), "unreliable", status))
    with np.errstate(divide="ignore"):
        ncsnr = np.sqrt(rho * inverse / (1.0 - np.minimum(rho, 1.0)))
    out = _labelled(np.sqrt(rho) if units == "r" else rho, {"status": status, "ncsnr": ncsnr}, responses)
    out.attrs = {
        "kind": units, "units": _UNITS[units], "method": method, "reliability_kind": kind, "n_splits": n_splits, "seed": seed,
        "n_repeats": float(presentations.mean()), "mean_inverse_repeats": inverse, "n_stimuli": len(counts),
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
    if "target_reliability" in ceiling.coords:  # what other systems share of the signal stays, the target's noise changes
        rho = ceiling.coords["target_reliability"].values
        noisier = extrapolate(rho, known, mean_inverse_repeats) / rho
        return np.asarray(values * (noisier if ceiling.attrs.get("kind") == "r2" else np.sqrt(noisier)))
    if ceiling.attrs.get("kind") == "r2":
        return extrapolate(values, known, mean_inverse_repeats)
    return np.asarray(np.sqrt(extrapolate(values**2, known, mean_inverse_repeats)))


def _from_others(
    responses: xr.DataArray,
    others: dict[str, xr.DataArray],
    options: dict[str, Any],
    *,
    pool: bool,
    units: str,
    floor: float,
    seed: int,
    shown: Callable[..., Any],
) -> xr.DataArray:
    """Divide the mean of what others predict by the mean of what noise leaves of it, over those that pass the floor."""
    groups = [others] if pool else [{name: x} for name, x in others.items()]
    streams = np.random.SeedSequence(seed).spawn(len(groups))
    n_times = [responses.sizes.get("time", 1) if any("time" in x.dims for x in group.values()) else 1 for group in groups]
    with shown(total=options["n_splits"] * sum(n_times)) as bar:
        parts = [
            consistency(x, responses, **options, seed=stream, step=bar.update) for x, stream in zip(groups, streams, strict=True)
        ]
    raw, target, source = (np.stack([getattr(part, name) for part in parts]) for name in ("raw", "target", "source"))
    reliable = (target >= floor) & (source >= floor) & np.isfinite(raw)
    with np.errstate(invalid="ignore"):
        top, of_target, of_source, of_both = (
            np.where(reliable, x, 0.0).sum(axis=0) / reliable.sum(axis=0)
            for x in (raw, np.sqrt(target), np.sqrt(source), np.sqrt(target * source))
        )
        labels = {"raw": raw.mean(axis=0), "one_sided": top / of_target, "two_sided": top / of_both}
        values = top / of_source
    status = column_status(responses.values).astype(object)
    labels |= {
        "target_reliability": target.mean(axis=0),
        "source_reliability": source.mean(axis=0),
        "n_systems": reliable.sum(axis=0),
    }
    labels["status"] = as_labels(np.where((status == "ok") & np.isnan(values), "unreliable", status))
    out = _labelled(values if units == "r" else values**2, labels, responses)
    params = {"method": "inter-system", "units": units, "pool": pool, "floor": floor, **options}
    out.attrs = {
        "kind": units, "units": _UNITS[units], "method": "inter-system", "reliability_kind": "inter-system",
        "n_splits": options["n_splits"], "seed": seed, "floor": floor, "systems": list(others), "pool": int(pool),
        "n_repeats": 1.0 / parts[0].mean_inverse_repeats, "mean_inverse_repeats": parts[0].mean_inverse_repeats,
        "n_stimuli": min(part.n_stimuli for part in parts),
    }  # fmt: skip
    return write_step(out, "noise_ceiling", params=params, inputs={"responses": responses, **others}, seed=seed)


def _of_rdms(rdms: xr.DataArray, units: str) -> xr.DataArray:
    check_choice("units", units, _OF_RDMS, owner="noise_ceiling")
    leading = [str(dim) for dim in rdms.dims[:-2]]
    over = next((dim for dim in leading if dim == "subject" or len(leading) == 1), None)
    if over is None or rdms.sizes[over] < 2:
        raise SchemaError(
            f"noise_ceiling got RDMs {dict(rdms.sizes)}. Expected two or more along `subject`: make them with `ba.rdm(x, by='subject')`, or "
            "rename the dim along which subjects lie, `rdms.rename(system='subject')`."
        )
    first, second = np.triu_indices(rdms.sizes["stimulus"], 1)
    rest = [dim for dim in leading if dim != over]
    pairs = rdms.transpose(*rest, "stimulus", "stimulus_2", over).values[..., first, second, :].astype(np.float64)
    bounds = np.full((2, *pairs.shape[:-2]), np.nan)
    for cell in np.ndindex(pairs.shape[:-2]):
        known = np.isfinite(pairs[cell]).all(axis=1)
        if known.sum() >= 3:
            bounds[(slice(None), *cell)] = [side.mean() for side in geometry_bounds(pairs[cell][known], units)]
    coords = {name: c for name, c in rdms.coords.items() if set(c.dims) <= set(rest)}
    out = xr.DataArray(bounds, dims=("bound", *rest), coords=coords | {"bound": as_labels(["lower", "upper"])}, name="ceiling")
    out.attrs = {"kind": units, "units": COMPARATORS[units].units, "method": "rdm", "n_subjects": rdms.sizes[over]}
    return write_step(out, "noise_ceiling", params={"units": units}, inputs={"responses": rdms})


def _reliability(
    values: Numbers,
    codes: Numbers,
    order: Numbers,
    method: str,
    n_splits: int,
    rng: np.random.Generator,
    shown: Callable[..., Any],
) -> Numbers:
    """Return S / (S + a N) of the averages over all repeats, by one of the methods; repeats are told apart by name, in that order."""
    counts = np.bincount(codes)
    if method == "split-half":
        return split_half(values, codes, n_splits, rng, shown, order)
    if method == "variance":
        signal, noise = signal_and_noise(values, codes)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(signal > 0, signal / (signal + np.mean(1.0 / counts) * noise), np.nan)
    if counts.min() != counts.max():
        raise SchemaError(
            f"the stimuli have {counts.min()} to {counts.max()} repeats. Expected as many of each for method={method!r}: use method='variance' "
            "or 'split-half', or keep the stimuli that have all repeats."
        )
    trials = values[order[np.argsort(codes[order], kind="stable")]].reshape(len(counts), counts[0], -1).swapaxes(0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "signal-power":
            power, variance = signal_power(trials)
            return np.where(power > 0, power / variance, np.nan)
        return extrapolate(np.maximum(explainable_variance(trials), 0.0), 1.0, 1.0 / counts[0])


def _stimulus_codes(responses: xr.DataArray) -> Numbers:
    names = [name for name in ("subject", "stimulus_id") if name in responses.coords and responses.coords[name].dims]
    table = pd.DataFrame({name: responses.coords[name].values.astype(object) for name in names})
    return np.asarray(table.groupby(names, sort=False, dropna=False).ngroup())


def _refuse_too_few(counts: Numbers, responses: xr.DataArray) -> None:
    repeated = int((counts > 1).sum())
    if repeated >= 3:
        return
    found = f"{repeated} of {len(counts)} stimuli are repeated"
    if "subject" in responses.coords and responses["stimulus_id"].to_index().has_duplicates:
        raise SchemaError(
            f"{found} within a subject, and another person is no repeat. Expected at least 3. Where the neuroids of all are the same "
            "regions, and the average over people is asked about, leave the names out: `ba.noise_ceiling(x.drop_vars('subject'))`."
        )
    if "n_repeats" in responses.coords:
        raise SchemaError(
            f"{found}: the rows are averages (`n_repeats`), which do not say how well their presentations agreed. Expected these: "
            "`ceiling=ba.noise_ceiling(presentations)`, which `evaluate` brings to the averages."
        )
    raise SchemaError(
        f"{found}. Expected at least 3 that were presented twice or more: a ceiling needs "
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
