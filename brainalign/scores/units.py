"""What a claim generalises over: the scores of each subject, system or fold, taken out of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats

from brainalign.core.errors import AlignmentError, ParameterError, SchemaError
from brainalign.core.parameters import check_number, did_you_mean
from brainalign.core.provenance import provenance
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of, numbered
from brainalign.engine.bootstrap import training_variance
from brainalign.engine.clusters import cluster_p_values_along, sign_flip_t
from brainalign.engine.moments import Numbers
from brainalign.engine.resample import draw_signs
from brainalign.scores.inference import with_p_values

_CLUSTER_P = 0.05  # of single times, beyond which neighbouring ones form a cluster


def check_result(result: Any, *, owner: str, name: str = "result") -> xr.Dataset:
    """Return a result of a verb that scores, or say what was given instead.

    Parameters
    ----------
    result : Dataset
    owner, name : str
        The verb and the argument, for the message.

    Returns
    -------
    Dataset

    Raises
    ------
    SchemaError
        No Dataset with ``score``.
    """
    if isinstance(result, xr.Dataset) and "score" in result:
        return result
    held = f"a Dataset of {', '.join(map(str, result))}" if isinstance(result, xr.Dataset) else f"a {type(result).__name__}"
    raise SchemaError(
        f"{owner} got {held} as its {name}. Expected a Dataset with `score`: make it with `ba.evaluate` or `ba.compare`."
    )


def check_seeds(results: Mapping[str, xr.Dataset], *, owner: str) -> None:
    """Refuse results whose draws are no pairs.

    Parameters
    ----------
    results : mapping of str to Dataset
    owner : str
        The verb, for the message.

    Raises
    ------
    ParameterError
        They were made with different seeds.
    """
    steps = {name: provenance(result, verify=False).steps for name, result in results.items()}
    seeds = {name: each[-1]["seed"] if each else None for name, each in steps.items()}
    if len(set(seeds.values())) > 1:
        raise ParameterError(
            f"{owner} got results whose stimuli were drawn with the seeds {seeds}. Expected one, so that draws are paired: pass the same "
            "`random_state` to each `ba.evaluate`."
        )


def unit_scores(result: xr.Dataset, over: str, *, owner: str, variable: str = "score") -> xr.DataArray:
    """Return the scores of each unit that a claim is to hold beyond.

    Parameters
    ----------
    result : Dataset
        With ``score``.
    over : str
        A dim of the score, ``"fold"`` (of ``score_by_fold``), or a coordinate of its neuroids, whose scores are then averaged
        within each unit where their status is ``"ok"``.
    owner : str
        The verb, for messages.
    variable : str
        ``"score_bootstrap"`` for the scores of redrawn stimuli.

    Returns
    -------
    DataArray, (<over>, ...)
        NaN where a unit has no score.

    Raises
    ------
    ParameterError
        There is no such dim or coordinate, or fewer than two units.

    Examples
    --------
    >>> people = xr.Dataset({"score": ("neuroid", [0.1, 0.3, 0.4])}, {"subject": ("neuroid", ["a", "a", "b"])})
    >>> unit_scores(people, "subject", owner="test").values.tolist()
    [0.2, 0.4]
    """
    scores = result["score_by_fold" if over == "fold" and "score_by_fold" in result else variable]
    if over in scores.dims:
        found = scores.transpose(over, ...)
    elif over in coords_of(scores, "neuroid"):
        found = _averaged(scores, over, result)
    else:
        known = [str(dim) for dim in scores.dims] + sorted(coords_of(scores, "neuroid"))
        raise ParameterError(
            f"{owner} got over={over!r}; the result has {', '.join(known) or 'one score'}. Expected a dim of `score`, or a coordinate of its "
            f"neuroids that names the units: join results with `xr.concat(results, {over!r})`.{did_you_mean(over, known)}"
        )
    if found.sizes[over] < 2:
        raise ParameterError(
            f"{owner} got over={over!r} with one unit. Expected two or more: a single one says nothing of others."
        )
    return found


def chance_of(result: xr.Dataset, score: xr.DataArray) -> xr.DataArray:
    """Return what a result calls chance, of a score that is a mean over some of its dims.

    Parameters
    ----------
    result : Dataset
        With ``chance``.
    score : DataArray

    Returns
    -------
    DataArray
        Of no dims but those of the score.
    """
    return result["chance"].mean([dim for dim in result["chance"].dims if dim not in score.dims])


def sign_test(
    x: Any, y: Any, over: str | None, against: float | None, n: int, rng: np.random.Generator, *, clusters: str | None = None
) -> xr.Dataset:
    """Test the mean score of units, or the mean difference of two results, by changing signs of units.

    Parameters
    ----------
    x : Dataset
    y : Dataset or None
    over : str
        As in :func:`unit_scores`.
    against : float or None
        The score that is no effect; None for what the result itself calls ``chance``, or 0.
    n : int
        Permutations; all there are where there are fewer.
    rng : Generator
    clusters : {"mass", "tfce"}, optional

    Returns
    -------
    Dataset
        ``score`` (the mean, or mean difference) with its p-values (of a difference two-sided), or bounds on them (``p_value_bound``) over
        folds without refits; those of clusters where asked; and ``n_units``.

    Raises
    ------
    SchemaError, ParameterError, AlignmentError
        The results are none, name no such units, or differ in what they hold.
    """
    if against is not None:
        check_number("against", against, owner="permutation_test")
    if over is None:
        raise ParameterError(
            "permutation_test got results without `over`. Expected the units that change sign: over='subject' or 'fold'."
        )
    scores = unit_scores(check_result(x, owner="permutation_test", name="x"), over, owner="permutation_test")
    no_effect: Any = 0.0 if against is None else against
    if against is None and y is None and "chance" in x:
        no_effect = (xr.zeros_like(scores) + x.chance).transpose(*scores.dims).values
    if y is not None:
        other = unit_scores(check_result(y, owner="permutation_test", name="y"), over, owner="permutation_test")
        scores = _difference(scores, other, over)
    values, signs = scores.values - no_effect, draw_signs(scores.shape[0], n, rng)
    observed, flipped = values.mean(axis=0), np.tensordot(signs, values, 1) / len(values)
    variance, chance = _variance_of_mean(observed, values), _over(flipped, _variance_of_mean(flipped, values))
    if over == "fold":
        observed, assumes, p_name = _of_folds(x, y, observed, variance, len(values))
    else:
        observed, assumes, p_name = _over(observed, variance), "", "p_value"
    if y is not None:
        observed, chance = np.abs(observed), np.abs(chance)
    chance += 1e-9 * np.abs(chance)  # ties are ties, whatever the order of the sum
    out = xr.Dataset({"score": scores.mean(over, skipna=False)})
    null = xr.DataArray(chance, dims=("permutation", *out.score.dims))
    tested = with_p_values(out.assign(score=out.score.copy(data=observed)), null, name=p_name)
    if clusters is not None:
        tested["p_value_cluster"] = (tested.score.dims, _clusters(scores, values, signs, clusters, two_sided=y is not None))
    if y is None and "chance" in x:
        tested["chance"] = chance_of(x, out.score)
    what = "differences" if y is not None else "scores"
    level = "chance" if np.ndim(no_effect) else f"{no_effect:g}"
    assumes = f"{what} of units are independent and as likely above {level} as below{assumes}"
    return tested.assign(score=out.score, n_units=len(values)).assign_attrs(null="sign", over=over, assumes=assumes)


def _clusters(scores: xr.DataArray, values: Numbers, signs: Numbers, method: str, *, two_sided: bool) -> Numbers:
    """Return p-values of clusters over the times of the scores, (unit, ...), corrected over all else too."""
    unit, *dims = map(str, scores.dims)
    times = [axis for axis, dim in enumerate(dims) if "time" in dim.split("_")]
    if unit == "fold" or not 0 < len(times) < 3:
        raise ParameterError(
            f"permutation_test got clusters={method!r} for scores ({', '.join([unit, *dims])}). Expected one time or two, and units that share no "
            "training rows, such as subjects: join their results with `xr.concat(results, 'subject')`."
        )
    t, null = sign_flip_t(values, np.ones((1, len(values))))[0], sign_flip_t(values, signs)
    threshold = stats.t.isf(_CLUSTER_P / (1 + two_sided), len(values) - 1)
    return cluster_p_values_along(t, null, times, method=method, threshold=threshold, tail=0 if two_sided else 1)


def _variance_of_mean(mean: Numbers, values: Numbers) -> Numbers:
    """Return the squared standard errors of means of units, with any signs."""
    squares = (values * values).sum(axis=0)
    return np.asarray(np.maximum(squares - len(values) * mean * mean, 1e-12 * squares) / (len(values) * (len(values) - 1)))


def _over(mean: Numbers, variance: Numbers) -> Numbers:
    """Return means over their standard errors: the same order, and cells that can be compared."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where((variance == 0) & (mean == 0), 0.0, mean / np.sqrt(variance)))


def _of_folds(x: xr.Dataset, y: xr.Dataset | None, mean: Numbers, variance: Numbers, n: int) -> tuple[Numbers, str, str]:
    """Return the mean over n folds as a t, which counts the training rows that they share; what it assumes; and what its p is called."""
    results = {"x": x} if y is None else {"x": x, "y": y}
    if not all("score_refit" in result for result in results.values()):
        assumes = "; training rows that folds share add no more than the bound of Nadeau and Bengio (2003)"
        return _over(mean, variance * (1.0 + n / (n - 1.0))), assumes, "p_value_bound"
    check_seeds(results, owner="permutation_test")
    refits = [result.score_refit.transpose("refit", ...).values for result in results.values()]
    added = training_variance(refits[0] if y is None else refits[0] - refits[1])
    t = _over(mean, variance + added)
    with np.errstate(invalid="ignore", divide="ignore"):
        dof = (variance + added) ** 2 / (variance**2 / (n - 1.0) + added**2 / (len(refits[0]) - 1.0))
    t = np.sign(t) * stats.t.isf(stats.t.sf(np.abs(t), dof), n - 1)  # as far out as it is, among means of n
    return t, "; training rows that folds share add what refits show", "p_value"


def _difference(x: xr.DataArray, y: xr.DataArray, over: str) -> xr.DataArray:
    if x.dims != y.dims:
        raise AlignmentError(f"permutation_test got scores with the dims {x.dims} and {y.dims}. Expected the same.")
    try:
        x, y = xr.align(x, y, join="exact")
    except ValueError as error:
        raise AlignmentError(
            f"permutation_test got results that differ in their labels ({error}). Expected the same {over}s, and the same cells."
        ) from error
    if "neuroid_id" in x.coords and not np.array_equal(x.neuroid_id.values, y.neuroid_id.values):
        raise AlignmentError("permutation_test got results of different neuroids. Expected the same ones in the same order.")
    return x.copy(data=x.values - y.values)


def _averaged(scores: xr.DataArray, over: str, result: xr.Dataset) -> xr.DataArray:
    """Return the mean score of each unit's neuroids; those without a score to find take no part, those that a model left without do."""
    codes, labels = numbered(scores.coords[over].values.astype(object), over, "neuroid")
    status = coords_of(result, "neuroid").get("status", np.full(len(codes), "ok"))
    there = (status == "ok") | (status == "undefined")
    where = [np.flatnonzero((codes == code) & there) for code in range(len(labels))]
    means = [
        scores.isel(neuroid=rows).mean("neuroid", skipna=False)
        if rows.size
        else xr.full_like(scores.isel(neuroid=0, drop=True), np.nan)
        for rows in where
    ]
    return xr.concat([mean.reset_coords(drop=True) for mean in means], xr.Variable(over, as_labels(labels.tolist())))
