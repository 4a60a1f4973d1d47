"""What a reader has to know before believing a score: which data touched which decision, and what the source is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.feature_selection import SelectorMixin

from brainalign.core.provenance import all_steps, provenance
from brainalign.core.tables import presentation_table
from brainalign.dataset.align import SAME_TIME_S
from brainalign.dataset.folds import RUN_LABELS, Fold, rows_near
from brainalign.engine.spread import directions, n_massive
from brainalign.features.chain import Chain, is_mixing, is_stateless
from brainalign.scores.pairing import Pair

#: Options of a mapping that list candidates; None stands for a grid of its own.
_CANDIDATES = ("alphas", "n_components", "candidates")
#: Steps that were applied by hand, with what they saw.
_BY_HAND = {
    "Reduce": ("reduction", "all presentations"),
    "ZScore": ("scaling", "each run by itself, tested ones too"),
    "Clean": ("cleaning", "each run by itself, tested ones too"),
    "open:glmsingle": ("response function, noise components and shrinkage of betas", "repeats of all presentations"),
}
#: What a delay has before the first row of a run; it moves no other row.
_ALL = "means of all presentations of the source, tested ones too"
_TRAINING, _INNER = "training presentations", "inner folds of the training presentations"
_AT_MOST = 512  # rows that are looked at for directions and variances
_VALUES = 2**23  # and values: fewer rows of wide sources, to stay within 64 MB
_FEW = 10  # features with which rows may be equal by chance


def audit(both: Pair, model: Chain, **sides: xr.DataArray) -> dict[str, Any]:
    """Return what is to be said of a score beside it, as plain JSON.

    Parameters
    ----------
    both : Pair
        As it is scored.
    model : Chain
        As it was given.
    **sides : DataArray
        Source and target as they were given, by argument name.

    Returns
    -------
    dict
        ``decisions``, as of :func:`decisions`, and ``source_facts``, as of :func:`source_facts`.
    """
    return {"decisions": decisions(model, **sides), "source_facts": source_facts(both)}


def decisions(model: Chain, **sides: xr.DataArray) -> list[dict[str, Any]]:
    """Say of everything that was learned or chosen from data, which presentations it was learned from.

    Parameters
    ----------
    model : Chain
    **sides : DataArray
        Source and target as they were given, by argument name.

    Returns
    -------
    list of dict
        ``decision`` (what), ``by`` (which step), ``data`` (on what), ``held_out`` (whether tested presentations had no part in
        it). A mapping of one's own says more by an attribute ``decides_on``: decision to data, such as
        ``{"early stopping": "a tenth of the training presentations"}``.

    Examples
    --------
    >>> import brainalign as ba
    >>> from sklearn.preprocessing import StandardScaler
    >>> for entry in decisions(ba.chain(StandardScaler(), ba.Ridge())):
    ...     print(entry["decision"], "|", entry["by"], "|", entry["data"], "|", entry["held_out"])
    fit | StandardScaler | training presentations | True
    alphas | Ridge | inner folds of the training presentations | True
    weights | Ridge | training presentations | True
    """
    found = []
    for side, x in sides.items():
        for step in all_steps(provenance(x, verify=False).steps):
            what, data = _BY_HAND.get(step["verb"], ("", ""))
            entry = {"decision": f"{what} of the {side}", "by": step["verb"], "data": data, "held_out": False}
            if what and entry not in found:
                found.append(entry)
    pads = True  # as Chain.prepare does, until a step makes rows of events or is fitted
    for step in model.steps[:-1]:
        if is_mixing(step):
            pads = pads and not step.retimes
            if pads:
                found.append(_entry("padding", step, _ALL, held_out=False))
        elif is_stateless(step):
            known = (_BY_HAND[kind.__name__] for kind in type(step).__mro__ if kind.__name__ in _BY_HAND)
            found += [_entry(what, step, data, held_out=False) for what, data in known]
        else:
            pads = False
            found.append(_entry("feature selection" if isinstance(step, SelectorMixin) else "fit", step, _TRAINING))
    return found + _of_mapping(model.steps[-1])


def _of_mapping(mapping: Any) -> list[dict[str, Any]]:
    options = mapping.get_params(deep=False) if hasattr(mapping, "get_params") else {}
    found = [_entry(name, mapping, _INNER) for name in _CANDIDATES if name in options and _is_choice(options[name])]
    if options.get("early_stopping") not in (None, False):
        share = options.get("validation_fraction")
        found.append(_entry("early stopping", mapping, f"a share of {share} of the training presentations" if share else _INNER))
    found += [_entry(what, mapping, data) for what, data in getattr(mapping, "decides_on", {}).items()]
    return [*found, _entry("weights", mapping, _TRAINING)]


def _entry(decision: str, step: Any, data: str, *, held_out: bool = True) -> dict[str, Any]:
    return {"decision": decision, "by": type(step).__name__, "data": data, "held_out": held_out}


def _is_choice(value: Any) -> bool:
    return value is None or np.size(value) > 1


def source_facts(both: Pair) -> dict[str, Any]:
    """Return what the source is made of.

    Parameters
    ----------
    both : Pair

    Returns
    -------
    dict
        ``n_features``; of at most 512 rows (``n_rows``): ``n_directions``, how many independent ones the features span, ``top_share``,
        the share of all variance that lies in one of them, and ``n_massive``, how many are over 100 times as large as is
        usual. Where source and target have the same rows: ``n_known``, how many tested presentations have exactly the
        source responses of a training presentation of another stimulus.
    """
    n, width = len(both.source), int(np.prod(both.source.shape[1:]))
    rows = np.unique(np.linspace(0, n - 1, min(n, _AT_MOST, max(2, _VALUES // width))).astype(np.int64))
    values = np.asarray(both.source[rows]).reshape(len(rows), -1).astype(np.float64)
    values = values[:, np.isfinite(values).all(axis=0)]
    n_directions, top_share = directions(values)
    facts: dict[str, Any] = {"n_features": values.shape[1], "n_rows": len(rows), "n_directions": n_directions}
    facts |= {"top_share": round(top_share, 4), "n_massive": n_massive(values)}
    if n == len(both.target) and values.shape[1] >= _FEW and not both.model.mixes and "onset_s" not in both.target.coords:
        facts["n_known"] = _known(both)
    return facts


def tell_shared_samples(both: Pair, folds: Sequence[Fold], *, across_times: bool, **sides: xr.DataArray) -> None:
    """Write into the report how many tested windows share samples with windows that are trained on.

    Parameters
    ----------
    both : Pair
    folds : sequence of Fold
        The rows of the pair that are trained on and tested.
    across_times : bool
        Whether what is learned at one time of the source is asked at another, or all its times are read together: the same sample is then
        on both sides, which is a leak. At one time after onset the rows of overlapping windows are different samples.
    **sides : DataArray
        Source and target as they were given, by argument name. Windows that overlap have the coordinate ``window_overlaps``.
    """
    for side, x in sides.items():
        n, n_tested, seconds = _shared_samples(x, getattr(both, side), folds)
        told = f"{n} of {n_tested} tested windows of the {side} share samples with windows trained on (`window_overlaps`)"
        if n and across_times and side == "source":
            both.report["leaks"].append(
                f"{told}; leave a gap, `cv=ba.split(x, gap_s={np.ceil(np.round(100 * seconds, 6)) / 100:g})`, hold out runs, `groups='run'`, or cut shorter windows"
            )
        elif n:
            both.report.setdefault("shared_samples", []).append(told)


def _shared_samples(x: xr.DataArray, paired: xr.DataArray, folds: Sequence[Fold]) -> tuple[int, int, float]:
    """Return how many tested windows share samples with training ones, of how many, and their length in seconds."""
    table = presentation_table(x)
    if "time" not in x.dims or not {"window_overlaps", "onset_s"} <= set(table) or not table["window_overlaps"].any():
        return 0, 0, 0.0
    if {"window_overlaps", "onset_s"} <= set(paired.coords):
        sides = [(np.isin(np.arange(len(paired)), fold.train), np.isin(np.arange(len(paired)), fold.test)) for fold in folds]
        table = presentation_table(paired)
    else:  # repeats were averaged: each presentation counts by its stimulus
        own, ids = (pd.Index(y.stimulus_id.values.astype(object)) for y in (x, paired))
        sides = [(own.isin(ids[fold.train]), own.isin(ids[fold.test])) for fold in folds]
    times = x.time.values
    seconds = float(np.ptp(times) + (np.median(np.diff(times)) if len(times) > 1 else 0.0))
    # stacked systems are told apart by `source`
    runs = [name for name in (*RUN_LABELS, "source") if name in table and not table[name].isna().any()]
    marked = table["window_overlaps"].to_numpy(dtype=bool)
    shared = [rows_near(table, train & marked, seconds - 2 * SAME_TIME_S, runs) & test & marked for train, test in sides]
    return int(np.any(shared, axis=0).sum()), int(np.any([test for _, test in sides], axis=0).sum()), seconds


def _known(both: Pair) -> int:
    """Count tested presentations whose source responses are known, to the last bit, from another stimulus in training."""
    code = _row_codes(both.source)
    stimulus = np.unique(both.source.stimulus_id.values, return_inverse=True)[1]
    known = np.zeros(len(code), dtype=bool)
    for fold in both.folds:
        trained = np.unique(np.stack([code[fold.train], stimulus[fold.train]]), axis=1)
        names, count = np.unique(trained[0], return_counts=True)
        own = np.isin(
            code[fold.test] * (stimulus.max() + 1) + stimulus[fold.test], trained[0] * (stimulus.max() + 1) + trained[1]
        )
        others = np.zeros(code.max() + 1, dtype=np.int64)
        others[names] = count
        known[fold.test] |= others[code[fold.test]] - own > 0
    return int(known.sum())


def _row_codes(x: xr.DataArray) -> np.ndarray[Any, Any]:
    """Return one number a row, equal for equal rows; rows of zeros alone are no stimulus, and each is its own."""
    seen: dict[Any, int] = {}
    codes = np.empty(len(x), dtype=np.int64)
    together = max(1, _VALUES // int(np.prod(x.shape[1:])))
    for start in range(0, len(x), together):
        for row, values in enumerate(np.asarray(x[start : start + together]), start):
            codes[row] = seen.setdefault(hash(values.tobytes()) if values.any() else ("zeros", row), len(seen))
    return codes
