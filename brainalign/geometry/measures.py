"""The dissimilarities that ``rdm`` knows, and how one matrix is made from a block of responses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from brainalign.core.errors import SchemaError
from brainalign.core.parameters import preview
from brainalign.engine.backend import cast, like, move, to_numpy
from brainalign.engine.crossnobis import differences, poisson_products, poisson_products_across, products_across
from brainalign.engine.distances import METRICS, SCALED, cross_distances, distances_across, pairwise_distances
from brainalign.engine.gram import inverse
from brainalign.engine.groups import group_sums
from brainalign.engine.moments import rounding_unit
from brainalign.engine.precision import whiten
from brainalign.geometry.conditions import Array, Cell


@dataclass(frozen=True)
class Measure:
    """What a dissimilarity is in, and what it takes.

    Attributes
    ----------
    units : str
    folds, noise : {"never", "may", "must"}
        Whether it is told folds, and a noise covariance.
    """

    units: str
    folds: str = "may"
    noise: str = "never"


MEASURES = {
    "correlation": Measure("1 - Pearson r"),
    "cosine": Measure("1 - cosine"),
    "euclidean": Measure("response units"),
    "sqeuclidean": Measure("squared response units per neuroid"),
    "mahalanobis": Measure("squared units of noise per neuroid", noise="must"),
    "crossnobis": Measure("squared response units per neuroid", folds="must", noise="may"),
    "poisson": Measure("nats per neuroid", folds="never"),
    "poisson-cv": Measure("nats per neuroid", folds="must"),
}
LEAST = 3  #: conditions, and neuroids under a correlation
#: What needs no pattern to vary, as each verb calls it.
_UNSCALED = {"rdm": "metric='euclidean'", "similarity": "metric=ba.geometry.metrics.rsa('euclidean')"}
#: Those that are sums over neuroids, of which the mean is taken.
SUMS = ("sqeuclidean", "mahalanobis", "crossnobis", "poisson", "poisson-cv")


@dataclass(frozen=True)
class Settings:
    """How matrices are made.

    Attributes
    ----------
    metric : str
    folds : str or None
        The coordinate of folds.
    between : tuple of str or None
        The fold of the rows and that of the columns.
    noise_by_fold : bool
        There is a noise covariance for each fold.
    noise_inverse : bool
        What is given of noise is the inverse of its covariance.
    across_times : bool
        Compare every time with every other, too.
    prior : tuple of float
        Rate and weight, of the Poisson measures.
    dtype, device : str
    """

    metric: str
    folds: str | None
    between: tuple[str, str] | None
    noise_by_fold: bool
    noise_inverse: bool
    across_times: bool
    prior: tuple[float, float]
    dtype: str
    device: str


@dataclass(frozen=True)
class Sums:
    """Responses summed over the presentations of a condition in a fold.

    Attributes
    ----------
    values : ndarray, (fold, condition, neuroid[, time])
    counts : ndarray of int, (fold, condition)
        Presentations.
    unit : float
        Relative rounding error of the responses.
    """

    values: Array
    counts: Array
    unit: float

    def of(self, columns: Array) -> Sums:
        """Return those of some neuroids, by position, ascending."""
        return self if len(columns) == self.values.shape[2] else replace(self, values=self.values.take(columns, axis=2))


def summed(block: Array, codes: Array, fold_codes: Array, shape: tuple[int, int]) -> Sums:
    """Return the sums of responses.

    Parameters
    ----------
    block : ndarray, (row, neuroid[, time])
    codes, fold_codes : ndarray of int, (row,)
        The numbers of its condition and of its fold.
    shape : tuple of int
        How many folds and conditions there are.

    Returns
    -------
    Sums
    """
    sums, counts = group_sums(block, fold_codes * shape[1] + codes, shape[0] * shape[1])
    return Sums(sums.reshape(*shape, *block.shape[1:]), counts.reshape(shape), rounding_unit(block))


def dissimilarities(responses: Sums, names: Array, noise: Array | None, cell: Cell, ask: Settings) -> Array:
    """Return the matrix of one cell.

    Parameters
    ----------
    responses : Sums
        Finite; not negative under the Poisson measures. Of folds that some presentation is in; without folds, of one.
    names : ndarray, (condition,)
    noise : ndarray, ([fold,] [time,] neuroid, neuroid) or (..., 1, neuroid), optional
    cell : Cell
        For messages.
    ask : Settings

    Returns
    -------
    ndarray, ([time, [time_2,]] condition, condition)
        NaN for conditions without presentations.

    Raises
    ------
    SchemaError
        A noise covariance that cannot be inverted, a pattern that is constant (at all times) under a correlation.
    """
    sums, counts, n = responses.values, responses.counts, len(names)
    n_neuroids = sums.shape[2]
    there = np.flatnonzero(counts.any(axis=0))
    counts = counts[:, there]
    if len(there) < n:
        sums = sums[:, there]
    if sums.ndim == 4:
        sums = np.moveaxis(sums, 3, 1)  # (fold, time, condition, neuroid)
    alone = ask.folds is None and ask.metric in METRICS
    if sums.ndim == 4 or sums.dtype.kind != "f" or not alone:  # pairwise_distances widens a part at a time
        sums = sums.astype(ask.dtype, order="C", copy=False)  # with its axes moved, in one pass
    unit = max(responses.unit, float(np.finfo(ask.dtype).eps))
    try:
        found = to_numpy(_matrix(move(sums, ask.device), counts, noise, unit, ask))
    except np.linalg.LinAlgError as error:
        raise SchemaError(
            f"the noise covariance of {n_neuroids} neuroids in {cell} cannot be inverted ({error}). Expected one that is positive definite: "
            "shrink it, with `noise='shrinkage-diagonal'`."
        ) from error
    if ask.metric in SUMS:
        found /= n_neuroids
    refuse_undefined(holes_of(found, everywhere=True) & counts.all(axis=0), names[there], cell, ask.metric)
    if len(there) == n:
        return found
    out = np.full((*found.shape[:-2], n, n), np.nan, dtype=found.dtype)
    out[..., there[:, None], there] = found
    return out


def refuse_few(n_neuroids: int, where: Any, metric: str, *, owner: str = "rdm", name: str | None = None) -> None:
    """Refuse neuroids too few for the measure.

    Parameters
    ----------
    n_neuroids : int
        Without those that have NaN.
    where : Cell or str
        Whose, for the message.
    metric : str
    owner : {"rdm", "similarity"}
        The verb, for the message.
    name : str, optional
        What the verb calls the metric.

    Raises
    ------
    SchemaError
        None at all, or fewer than three under a correlation or a cosine, which over two is 1, -1 or nearly so.
    """
    least = LEAST if metric in SCALED else 1
    if n_neuroids < least:
        instead = f", or use `{_UNSCALED[owner]}`" if n_neuroids else ""
        raise SchemaError(
            f"{owner} has {n_neuroids} finite neuroids in {where} for metric={name or metric!r}. Expected at least {least}: choose others{instead}."
        )


def refuse_undefined(
    undefined: Array, names: Array, where: Any, metric: str, *, owner: str = "rdm", name: str | None = None
) -> None:
    """Refuse conditions that were presented and have no direction or no deviation that a measure could scale.

    Parameters
    ----------
    undefined : ndarray of bool, (condition,)
    names : ndarray, (condition,)
    where, metric, owner, name
        As in :func:`refuse_few`.

    Raises
    ------
    SchemaError
        Any of them is undefined, and the measure one that scales patterns.
    """
    if metric in SCALED and undefined.any():
        what = "constant over neuroids" if metric == "correlation" else "zero"
        raise SchemaError(
            f"{owner} got {int(undefined.sum())} of {len(names)} conditions whose pattern is {what} in {where}: {preview(names[undefined])}. "
            f"Expected patterns that vary for metric={name or metric!r}: leave these conditions out, or use `{_UNSCALED[owner]}`."
        )


def holes_of(matrix: Array, *, everywhere: bool = False) -> Array:
    """Say which conditions have no defined pattern somewhere, or anywhere.

    Parameters
    ----------
    matrix : ndarray, (..., condition, condition)
    everywhere : bool
        Only those without one at all times.

    Returns
    -------
    ndarray of bool, (condition,)
    """
    missing = np.isnan(np.diagonal(matrix, axis1=-2, axis2=-1)).reshape(-1, matrix.shape[-1])
    return np.asarray(missing.all(axis=0) if everywhere else missing.any(axis=0))


def _matrix(sums: Any, counts: Array, noise: Array | None, unit: float, ask: Settings) -> Any:
    """Return the matrix of sums (fold, [time,] condition, neuroid)."""
    sums, weights = (sums, {}) if noise is None else _weighed(sums, noise, ask)
    n_times = sums.shape[1] if ask.across_times else None
    if n_times is not None:
        sums, counts = sums.reshape(len(sums), -1, sums.shape[-1]), np.tile(counts, n_times)
    if ask.metric == "crossnobis":
        return differences(products_across(sums, counts, **weights), n_times)
    if ask.metric == "poisson-cv":
        return differences(poisson_products_across(sums, counts, ask.prior), n_times)
    plain = "sqeuclidean" if ask.metric == "mahalanobis" else ask.metric
    present = counts > 0
    patterns = sums
    if (counts > 1).any():
        divisor = cast(like(np.maximum(counts, 1), sums), ask.dtype)
        patterns = sums / divisor.reshape(len(counts), *[1] * (sums.ndim - 3), -1, 1)
    if ask.metric == "poisson":
        return differences(poisson_products(patterns[0], ask.prior))
    if ask.folds is None:
        return pairwise_distances(patterns[0], plain, unit=unit, dtype=ask.dtype)
    if ask.between is None:
        out = distances_across(patterns, present, plain, unit=unit)
    else:
        out = cross_distances(patterns[0], patterns[1], plain, unit=unit)
        out = out / cast(like(np.where(np.outer(*present), 1.0, np.nan), out), ask.dtype)
    return out if n_times is None else out.reshape(n_times, -1, n_times, len(present[0]) // n_times).swapaxes(1, 2)


def _weighed(sums: Any, noise: Array, ask: Settings) -> tuple[Any, dict[str, Any]]:
    """Return the sums, in units of the noise if they can be, and what their products across folds have to be weighed with otherwise."""
    noise = move(noise.astype(ask.dtype, copy=False), ask.device)
    if ask.noise_inverse:
        if ask.metric == "crossnobis" and not ask.noise_by_fold:
            return sums, {"precision": noise}
        noise = inverse(noise.reshape(-1, *noise.shape[-2:])).reshape(noise.shape)
    return (sums, {"covariances": noise}) if ask.noise_by_fold else (whiten(sums, noise), {})
