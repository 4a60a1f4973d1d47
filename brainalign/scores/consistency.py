"""How well other systems predict this one, and how far noise on either side lowers that: the ceiling that others set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError, SchemaError
from brainalign.core.parameters import preview
from brainalign.core.schema import validate
from brainalign.core.tables import order_of_presentations
from brainalign.dataset.repeats import average_repeats, presentations_in_rows
from brainalign.dataset.split import Folds, split
from brainalign.engine.correlate import pooled_pearson
from brainalign.engine.moments import Numbers, fold_sums, pool_sums
from brainalign.engine.reliability import extrapolate, split_half, split_halves
from brainalign.features.chain import Chain, chain
from brainalign.features.flat import flatten_time
from brainalign.models.ridge import Ridge

_LEAST_STIMULI = 10


@dataclass(frozen=True)
class Consistency:
    """What one system, or several together, say of a target.

    Attributes
    ----------
    raw : ndarray of float64, (neuroid[, time])
        r of the target's averages with their prediction, held out.
    target, source : ndarray of float64, (neuroid[, time])
        Reliability of the target's averages, and of their prediction.
    n_stimuli : int
        Repeated on every side.
    mean_inverse_repeats : float
        Of the target's averages.
    """

    raw: Numbers
    target: Numbers
    source: Numbers
    n_stimuli: int
    mean_inverse_repeats: float


def check_others(others: Any, target: xr.DataArray) -> dict[str, xr.DataArray]:
    """Return the systems that predict, by name.

    Parameters
    ----------
    others : DataArray, (presentation, neuroid[, time]), or mapping of str to DataArray
    target : DataArray, (presentation, neuroid[, time])

    Returns
    -------
    dict of str to DataArray

    Raises
    ------
    ParameterError
        None at all, or the target itself.
    SchemaError
        One that is no responses array, or holds several subjects.
    """
    found = dict(others) if isinstance(others, Mapping) else {"other": others}
    if not found or others is None:
        raise ParameterError(
            f"noise_ceiling got others={others!r} for method='inter-system'. Expected the responses of other subjects, animals or networks "
            "to the same stimuli: `others={'sub-02': x2, 'sub-03': x3}`."
        )
    for name, x in {"responses": target, **found}.items():
        validate(x, name=str(name))
        n_subjects = len(np.unique(x["subject"].values)) if "subject" in x.coords else 1
        if n_subjects > 1:
            raise SchemaError(
                f"{name} holds the presentations of {n_subjects} subjects. Expected one system: pass each as its own array in `others`."
            )
    itself = [str(name) for name, x in found.items() if x is target or x.identical(target)]
    if itself:
        raise ParameterError(
            f"noise_ceiling got the responses themselves among `others`: {preview(itself)}. Expected other systems: leave it out."
        )
    return {str(name): x for name, x in found.items()}


def consistency(
    sources: Mapping[str, xr.DataArray],
    target: xr.DataArray,
    *,
    model: Any,
    cv: Any,
    n_splits: int,
    seed: Any,
    step: Callable[[], Any] = lambda: None,
) -> Consistency:
    """Predict a target from other systems, from all presentations and from halves of them.

    Parameters
    ----------
    sources : mapping of str to DataArray, (presentation, neuroid[, time])
        Predict together.
    target : DataArray, (presentation, neuroid[, time])
        At each time, where both sides have time, from the sources at the same time.
    model : mapping, chain or None
    cv : int, Folds or None
    n_splits : int
        Random halves.
    seed : int or SeedSequence
    step : callable
        Called after each split, of each time.

    Returns
    -------
    Consistency

    Raises
    ------
    AlignmentError
        Fewer than ten stimuli are repeated on every side (once is enough of a deterministic one); times that a source lacks.
    CapabilityError
        A model that mixes presentations.

    Notes
    -----
    With f fitted on averages of all repeats, f₁ and f₂ on those of random halves, all on training stimuli, and r on held-out ones: raw
    is r(f(X), Y), and the prediction's reliability is that of r(f₁(X₁), f₂(X₂)), extrapolated from halves to all repeats, so that
    the noise of fitting counts too, which a deterministic source has as well. r is averaged over splits before that. The halves of
    the two sides are drawn apart.
    """
    mapping = chain(Ridge() if model is None else model)
    if mapping.mixes or mapping.is_classifier:
        raise CapabilityError(
            f"noise_ceiling got model={model!r}. Expected a mapping from stimulus to stimulus, such as `ba.Ridge()`."
        )
    if "time" in target.dims and any("time" in x.dims for x in sources.values()):
        parts, options = [], {"model": mapping, "cv": cv, "n_splits": n_splits, "seed": seed, "step": step}
        for i, at in enumerate(target["time"].values):
            now = {name: _at_time(x, at, name) for name, x in sources.items()}
            parts.append(consistency(now, target.isel(time=i, drop=True), **options))
        raw, top, bottom = (np.stack([getattr(p, name) for p in parts], axis=-1) for name in ("raw", "target", "source"))
        return Consistency(raw, top, bottom, parts[0].n_stimuli, parts[0].mean_inverse_repeats)
    ids = _usable_stimuli([target, *sources.values()])
    y, x = _Side(target, ids), [_Side(source, ids) for source in sources.values()]
    rng = np.random.default_rng(seed)
    folds = _folds(y.averages, cv, int(rng.integers(2**31)))
    whole, halves = [], []
    predict = _Predictor(mapping, folds, y.averages)
    for test, prediction in predict(np.concatenate([side.matrix for side in x], axis=1), y.matrix):
        whole.append(fold_sums(y.matrix[test], prediction))
    for _ in range(n_splits):
        first, second = zip(*(side.draw_halves(rng) for side in x), strict=True)
        of_target = y.draw_halves(rng)
        pairs = zip(
            *(predict(np.concatenate(half, axis=1), z) for half, z in zip((first, second), of_target, strict=True)), strict=True
        )
        halves.append(pooled_pearson(pool_sums([fold_sums(a, b) for (_, a), (_, b) in pairs])))
        step()
    # A prediction is an average over the repeats of what it is made from; where that is deterministic, over the target's.
    known, wanted = next((side for side in x if not side.deterministic), y).inverse_repeats
    r = np.mean(halves, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        source = np.where(r > 0, extrapolate(r, known, wanted), np.nan)
    reliability = np.ones(y.matrix.shape[1]) if y.deterministic else split_half(y.trials, y.codes, max(n_splits, 20), rng)
    raw = pooled_pearson(pool_sums(whole))
    shape = target.shape[1:]
    return Consistency(raw.reshape(shape), reliability.reshape(shape), source.reshape(shape), len(ids), y.inverse_presentations)


class _Side:
    """The presentations of one system to the stimuli that all share, in one order."""

    def __init__(self, x: xr.DataArray, ids: pd.Index) -> None:
        codes, order = ids.get_indexer(x["stimulus_id"].values.astype(object)), order_of_presentations(x)
        kept = order[codes[order] >= 0]  # by name, as halves are drawn
        x = flatten_time(x.isel(presentation=kept))
        self.codes, self.deterministic = codes[kept], bool(x.attrs.get("deterministic", False))
        self.trials = x.values.reshape(len(kept), -1).astype(np.float64)
        averages = average_repeats(x)
        order = pd.Index(averages["stimulus_id"].values.astype(object)).get_indexer(ids)
        self.averages = averages.isel(presentation=order)
        self.matrix = self.averages.values.reshape(len(ids), -1)

    @property
    def inverse_repeats(self) -> tuple[float, float]:
        """Mean over stimuli of 1 / repeats, in a half and in all."""
        counts = np.bincount(self.codes)
        return float(np.mean(1.0 / np.maximum(counts // 2, 1))), float(np.mean(1.0 / counts))

    @property
    def inverse_presentations(self) -> float:
        """Mean over stimuli of 1 / presentations, of which a row may average several."""
        return float(np.mean(1.0 / presentations_in_rows(self.averages)))

    def draw_halves(self, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
        if self.deterministic:
            return self.matrix, self.matrix
        [(first, second)] = split_halves(self.codes, 1, rng)
        return first @ self.trials, second @ self.trials


@dataclass(frozen=True)
class _Predictor:
    """Fits on the training stimuli of each fold and predicts its test stimuli."""

    model: Chain
    folds: list[Any]
    labels: xr.DataArray

    def __call__(self, x: Numbers, y: Numbers) -> list[tuple[Any, Numbers]]:
        target = self.labels.copy(data=y.reshape(self.labels.shape).astype(np.float64))
        out = []
        for fold in self.folds:
            model = clone(self.model).fit(x[fold.train], target[fold.train])
            out.append((fold.test, np.asarray(model.predict(x[fold.test])).reshape(len(fold.test), -1)))
        return out


def _folds(y: xr.DataArray, cv: Any, seed: int) -> list[Any]:
    folds = cv if isinstance(cv, Folds) else split(y, n_splits=cv, random_state=seed)
    return list(folds.on(y))


def _usable_stimuli(sides: list[xr.DataArray]) -> pd.Index:
    """Stimuli that every side has, and has twice unless it is deterministic; in the order of their names."""
    shared: pd.Index | None = None
    for x in sides:
        counts = pd.Series(x["stimulus_id"].values.astype(object)).value_counts(sort=False)
        ids = counts.index[counts >= (1 if x.attrs.get("deterministic", False) else 2)]
        shared = ids if shared is None else shared[shared.isin(ids)]
    if shared is None or len(shared) < _LEAST_STIMULI:
        n_ids = [len(np.unique(x["stimulus_id"].values)) for x in sides]
        raise AlignmentError(
            f"{0 if shared is None else len(shared)} stimuli are repeated in each of the {len(sides)} systems, which saw {n_ids}. Expected at "
            f"least {_LEAST_STIMULI}: consistency is corrected with repeats on both sides. People who saw everything once are repeats of each "
            "other where their neuroids are the same, as regions are: join them under one `system`, and take method='split-half'. A system "
            "that a second presentation would not change is marked with `x.attrs['deterministic'] = True`."
        )
    return shared.sort_values()


def _at_time(x: xr.DataArray, at: float, name: str) -> xr.DataArray:
    if "time" not in x.dims:
        return x
    found = np.flatnonzero(np.isclose(x["time"].values, at, rtol=0, atol=1e-6))
    if not found.size:
        raise AlignmentError(
            f"{name} has no responses at {at:g} s. Expected the target's times: select those that all systems share."
        )
    return x.isel(time=int(found[0]), drop=True)
