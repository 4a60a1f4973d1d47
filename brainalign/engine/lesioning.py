"""What takes the place of lesioned units, sets of as many random ones, and what a lesion costs: plain arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.engine.correlate import pearson_columns
from brainalign.engine.moments import Numbers


def random_sets(free: Numbers, size: int, n_draws: int, rng: np.random.Generator) -> Numbers:
    """Draw sets of units, each without replacement.

    Parameters
    ----------
    free : ndarray of bool, (unit,)
        Those that may be drawn.
    size, n_draws : int
    rng : Generator

    Returns
    -------
    ndarray of bool, (draw, unit)
    """
    sets = np.zeros((n_draws, len(free)), dtype=bool)
    sets[:, free] = rng.permuted(np.tile(np.arange(free.sum()), (n_draws, 1)), axis=1) < size
    return sets


def replacements(parts: Sequence[tuple[Numbers, Numbers]], mode: str, n_units: int, rng: np.random.Generator) -> list[Numbers]:
    """Return what takes the place of what units hold; for ``"noise"``, what is added to it.

    Parameters
    ----------
    parts : sequence of (ndarray (row, element), ndarray of int (element,))
        Some rows, and the unit of each of their elements; in ``"swap"`` and ``"resample"`` the same elements in each part.
    mode : {"mean", "noise", "swap", "resample"}
        The mean of the unit over rows and elements; Gaussian noise of its standard deviation; all that another row holds; or for each
        unit what a random row of its own holds.
    n_units : int
    rng : Generator

    Returns
    -------
    list of ndarray, (row, element)
    """
    if mode in ("mean", "noise"):
        totals = np.zeros((3, n_units))
        for values, codes in parts:
            rows = values.astype(np.float64)
            for total, own in zip(totals, (np.full(len(codes), float(len(rows))), rows.sum(0), (rows**2).sum(0)), strict=True):
                total += np.bincount(codes, own, n_units)
        mean = totals[1] / totals[0]
        sd = np.sqrt(np.maximum(totals[2] / totals[0] - mean**2, 0.0))
        if mode == "mean":
            return [np.tile(mean[codes], (len(values), 1)) for values, codes in parts]
        return [sd[codes] * rng.standard_normal(values.shape) for values, codes in parts]
    values, codes = np.concatenate([values for values, _ in parts]), parts[0][1]
    n = len(values)
    if mode == "swap":  # a cycle through a random order: no row keeps its own
        order = rng.permutation(n)
        source = np.empty(n, dtype=np.int64)
        source[order] = np.roll(order, 1)
        new = values[source]
    else:
        new = np.take_along_axis(values, rng.integers(n, size=(n, n_units))[:, codes], axis=0)
    return np.split(new, np.cumsum([len(own) for own, _ in parts])[:-1])


def change(lesioned: Numbers, intact: Numbers) -> Numbers:
    """Return the mean absolute change of each response.

    Parameters
    ----------
    lesioned : ndarray, (set, row, neuroid)
    intact : ndarray, (row, neuroid)

    Returns
    -------
    ndarray, (set, neuroid)
    """
    return np.asarray(np.abs(lesioned - intact).mean(axis=1))


def correlations(responses: Numbers, target: Numbers) -> Numbers:
    """Return Pearson r of each response with its target; 0 where the response is constant, as it then says nothing.

    Parameters
    ----------
    responses : ndarray, (set, row, neuroid)
    target : ndarray, (row, neuroid)

    Returns
    -------
    ndarray, (set, neuroid)
    """
    r = np.stack([pearson_columns(one, target) for one in responses])
    return np.where(np.isnan(r) & (np.ptp(responses, axis=1) == 0), 0.0, r)


def balanced_accuracies(responses: Numbers, codes: Numbers) -> Numbers:
    """Return the mean over classes of how often a class's response is the largest of all on its rows.

    Parameters
    ----------
    responses : ndarray, (set, row, class)
    codes : ndarray of int, (row,)

    Returns
    -------
    ndarray, (set,)
    """
    right = responses.argmax(axis=-1) == codes
    by_class = np.stack([right[:, codes == k].mean(axis=1) for k in np.unique(codes)])
    return np.asarray(by_class.mean(axis=0))


def through_origin(total: Numbers, direct: Numbers) -> Numbers:
    """Return the slope of total on direct effects over rows; NaN where no row has a direct effect.

    Parameters
    ----------
    total, direct : ndarray, (row, neuroid)

    Returns
    -------
    ndarray, (neuroid,)
    """
    squares = (direct**2).sum(axis=0)
    slope = (total * direct).sum(axis=0) / np.where(squares > 0, squares, 1.0)
    return np.asarray(np.where(squares > 0, slope, np.nan))
