"""``permutation_test``: what chance would give instead of a prediction, of a score, of a difference, or of a likeness of two maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from brainalign.core.errors import AlignmentError, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import validate
from brainalign.core.tables import coords_of, presentation_table
from brainalign.dataset.align import align
from brainalign.dataset.repeats import exchange_groups
from brainalign.engine.correlate import pooled_pearson
from brainalign.engine.moments import Numbers, deviations, fold_sums, pool_sums
from brainalign.engine.resample import block_orders, draw_phases, draw_shifts, time_orders
from brainalign.engine.shifts import phase_correlations, shifted_sums
from brainalign.scores.heldout import status_of
from brainalign.scores.inference import choose_null, runs_of, typical_step, with_p_values
from brainalign.scores.mapnulls import map_test
from brainalign.scores.pairing import join_key
from brainalign.scores.units import sign_test

_OF_ROWS, _OF_UNITS, _OF_MAPS = ("exchange", "shift", "runs", "block", "phase"), ("sign",), ("spin", "variogram")
NULLS = ("auto", *_OF_ROWS, *_OF_UNITS, *_OF_MAPS)


def permutation_test(
    x: Any,
    y: Any = None,
    *,
    null: str = "auto",
    over: str | None = None,
    within: str | None = None,
    block_s: float | None = None,
    against: float | None = None,
    clusters: str | None = None,
    n_permutations: int = 1000,
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Test a prediction, a score, a difference of two scores, or the likeness of two maps against chance.

    Parameters
    ----------
    x, y : DataArray, (presentation, neuroid[, time]); or Dataset; or DataArray, (..., neuroid)
        Predictions of presentations that were held out from all fitting, and the responses; or one result, or two on the same
        folds, with ``score``; or two maps, one value a neuroid, such as the scores of two layers.
    null : str
        Of predictions, ``"exchange"`` (stimuli change places) and, in time, ``"shift"`` (each run in a circle), ``"runs"`` (whole
        runs change places), ``"block"`` (blocks of ``block_s`` seconds do) or ``"phase"`` (each frequency of a run is turned, of all
        neuroids alike). Of results, ``"sign"``. Of maps, ``"spin"`` (rotations of a sphere) or ``"variogram"`` (other maps that are as
        smooth). ``"auto"`` is ``"shift"`` or ``"runs"`` in time and else ``"exchange"``; ``"sign"``; or ``"variogram"``.
    over : str, optional
        Of results: the units whose scores change sign, a dim of the score or a coordinate of its neuroids (``"subject"``), or
        ``"fold"``.
    within : str, optional
        Presentation coordinate within which stimuli are exchanged, such as ``"session"``.
    block_s : float, optional
        Of null="block"; several times longer than neighbours are alike.
    against : float, optional
        Of one result: the score that is no effect. Default the ``chance`` that a result names for each unit, as that of :func:`decode_time`
        does; else 0.
    clusters : {"mass", "tfce"}, optional
        Of results in time, over people or other units: add p-values of clusters of neighbouring times, or pairs of times.
    n_permutations : int
        Fewer are made where there are fewer, as of the signs of 8 subjects.
    random_state : int, Generator or None
    progress : bool or None
        As in :func:`evaluate`, over permutations. Shifts, phases and signs, which are all made at once, have no bar.

    Returns
    -------
    Dataset
        ``score`` with ``p_value``, ``p_value_fdr`` and ``p_value_max`` (as :func:`evaluate`'s): Pearson r (neuroid[, time]), pooled over
        runs around the mean of each, higher than chance; the mean score over units, higher than ``against``; the mean difference
        x − y, or the correlation of two maps, either way from zero. Over folds without refits these are ``p_value_bound``,
        ``p_value_bound_fdr`` and ``p_value_bound_max``. With clusters ``p_value_cluster``; of one result over units its ``chance``, where it
        has it. The attr ``null`` names the null,
        ``assumes`` what it rests on.

    Raises
    ------
    SchemaError, AlignmentError, ParameterError, SplitError
        See the messages.

    Warns
    -----
    NullWarning
        Runs are too short to be shifted in a circle, or too few of one length to be exchanged.

    Notes
    -----
    Predictions are not fitted again, so they must come from a model that saw none of these presentations. The predictions of
    K folds do not: their models share rows, and 8 to 12% of noise would pass p ≤ .05; ``evaluate(..., n_permutations=1000)`` fits them
    anew. All shifts and all phases come from one Fourier transform.

    The scores of folds do not show what other training rows would change, for they share them. It is added as :func:`bootstrap` does:
    estimated where results were made with ``n_refits=20``. Else a bound on it makes p too large, never too small: 1 to 2% of equal
    sources pass, and it is called ``p_value_bound``.

    Clusters are of t over units: sums of what lies beyond its one-sided 5% point (of differences 2.5% on each side), or threshold-free
    enhancement, held against the largest anywhere after each change of signs. A small ``p_value_cluster`` says that these people differ from
    chance somewhere. It does not show that they do at a given time of the cluster, when the effect begins or how long it lasts
    (Sassenhagen and Draschkow 2019): of single times ``p_value_max`` speaks, and of its beginning ``bootstrap(..., onset=0.5)``.

    Examples
    --------
    >>> import brainalign as ba
    >>> study = ba.simulate(n_stimuli=120, random_state=0)
    >>> train, test = study.brain[:80], study.brain[80:]
    >>> predicted = ba.Ridge().fit(*ba.align(study.network, train)[:2]).predict(ba.align(study.network, test)[0])
    >>> out = ba.permutation_test(predicted, test, n_permutations=99, random_state=0)
    >>> float(out.p_value.min())
    0.01
    """
    check_choice("null", null, NULLS, owner="permutation_test")
    check_choice("clusters", clusters, (None, "mass", "tfce"), owner="permutation_test")
    check_number("n_permutations", n_permutations, owner="permutation_test", low=1, integer=True)
    seed = check_random_state(random_state, owner="permutation_test")
    rng, shown = np.random.default_rng(seed), partial(progress_bar, progress=progress, desc="permutations")
    if any(isinstance(side, xr.DataArray) and "presentation" in side.dims for side in (x, y)):
        _refuse("null", null, _OF_ROWS, "predictions and responses")
        out = _of_predictions(x, y, null, within, block_s, n_permutations, rng, shown)
    elif null in _OF_MAPS or isinstance(x, xr.DataArray):
        _refuse("null", null, _OF_MAPS, "maps")
        out = map_test(x, y, "variogram" if null == "auto" else null, n_permutations, rng, shown)
    else:
        _refuse("null", null, _OF_UNITS, "results")
        out = sign_test(x, y, over, against, n_permutations, rng, clusters=clusters)
    if clusters is not None and "p_value_cluster" not in out:
        raise ParameterError(
            f"permutation_test got clusters={clusters!r} for null={out.attrs['null']!r}. Expected results in time, over='subject' or other units."
        )
    params = {
        "null": out.attrs["null"],
        "over": over,
        "within": within,
        "block_s": block_s,
        "against": against,
        "clusters": clusters,
    }
    params["n_permutations"] = out.attrs["n_permutations"]
    return write_step(out, "permutation_test", params=params, inputs={"x": x, "y": y}, seed=seed)


def _refuse(name: str, null: str, known: tuple[str, ...], what: str) -> None:
    if null not in ("auto", *known):
        raise ParameterError(
            f"permutation_test got {name}={null!r} for {what}. Expected {', '.join(map(repr, ('auto', *known)))}."
        )


def _of_predictions(
    x: Any, y: Any, null: str, within: str | None, block_s: float | None, n: int, rng: np.random.Generator,
    shown: Callable[[Any], Any],
) -> xr.Dataset:  # fmt: skip
    validate(x, name="x (predictions)")
    validate(y, name="y (responses)")
    prediction, truth, _ = align(x, y, on=join_key(x, y), source_name="x", target_name="y")
    _refuse_others(prediction, truth)
    rows = presentation_table(truth)
    null = choose_null("shift" if null in ("block", "phase") else null, truth) if null not in ("block", "phase") else null
    y_columns, p_columns = (side.values.reshape(len(side), -1) for side in (truth, prediction))
    if null == "exchange":
        parts = [np.arange(len(rows))]
        groups = pd.factorize(rows["stimulus_id"], sort=True)[0]
        parts_of = None if within is None else _codes(rows, within)
        orders = exchange_groups(groups, n, rng, owner="permutation_test", within=parts_of)
        chance = _reordered(y_columns, p_columns, parts, shown(orders))
    else:
        parts, chance = _in_time(rows, y_columns, p_columns, null, block_s, n, rng, shown)
    score = pooled_pearson(pool_sums([fold_sums(y_columns[part], p_columns[part]) for part in parts]))
    shape, dims = truth.shape[1:], truth.dims[1:]
    labels: dict[str, Any] = {name: (dim, v) for dim in dims for name, v in coords_of(truth, dim).items()}
    labels["status"] = ("neuroid", status_of(truth, score))
    out = xr.Dataset({"score": (dims, score.reshape(shape)), "n_presentations": ((), len(truth))}, labels)
    out = with_p_values(out, xr.DataArray(chance.reshape(len(chance), *shape), dims=("permutation", *dims)))
    return out.assign_attrs(null=null, assumes="predictions of one model that was fitted on other presentations")


def _refuse_others(prediction: xr.DataArray, truth: xr.DataArray) -> None:
    ids = [side.neuroid_id.values.astype(object) for side in (prediction, truth)]
    if prediction.shape[1:] != truth.shape[1:] or (ids[0] != ids[1]).any():
        raise AlignmentError(
            f"permutation_test got predictions of shape {prediction.shape} (neuroids start {ids[0][:2].tolist()}) for responses of shape "
            f"{truth.shape} (neuroids start {ids[1][:2].tolist()}). Expected predictions of the same neuroids in their order, as "
            "`model.predict` gives them."
        )


def _codes(rows: pd.DataFrame, name: str) -> Numbers:
    if name not in rows:
        raise ParameterError(
            f"permutation_test got within={name!r}; presentations have {', '.join(rows)}. Expected one of these."
        )
    return np.asarray(pd.factorize(rows[name])[0])


def _in_time(
    rows: pd.DataFrame, truth: Numbers, prediction: Numbers, null: str, block_s: float | None, n: int, rng: np.random.Generator,
    shown: Callable[[Any], Any],
) -> tuple[list[Numbers], Numbers]:  # fmt: skip
    """Return the rows of each run, and the r that chance gives."""
    if "onset_s" not in rows:
        raise ParameterError(f"permutation_test got null={null!r} for presentations without `onset_s`. Expected null='exchange'.")
    runs = runs_of(rows)
    lengths = [len(run) for run in runs]
    if null == "phase":
        return runs, phase_correlations(truth, prediction, runs, draw_phases(lengths, n, rng))
    if null == "shift":
        return runs, shifted_sums(truth, prediction, runs).at(draw_shifts(lengths, n, rng))
    if null == "runs":
        return runs, _reordered(truth, prediction, runs, shown(time_orders(runs, null=null, n_permutations=n, rng=rng)))
    step = typical_step(rows, runs)
    block = max(1, round(check_number("block_s", block_s, owner="permutation_test", low=0, low_open=True) / step))
    in_order = np.concatenate(runs)
    orders = np.empty((n, len(in_order)), dtype=np.int64)
    orders[:, in_order] = in_order[block_orders(lengths, block, n, rng)]
    return runs, _reordered(truth, prediction, runs, shown(orders))


def _reordered(truth: Numbers, prediction: Numbers, parts: list[Numbers], orders: Iterable[Numbers]) -> Numbers:
    """Return r of the truth's rows in other orders; each part is centred, and rows change places between parts only whole."""
    y, p = (np.empty(side.shape) for side in (truth, prediction))
    for part in parts:
        y[part], p[part] = deviations(truth[part]), deviations(prediction[part])
    norm = np.sqrt((y * y).sum(axis=0)) * np.sqrt((p * p).sum(axis=0))
    p /= np.where(norm > 0, norm, np.nan)
    return np.stack([np.einsum("ij,ij->j", y[order], p) for order in orders])
