"""Weights read against a pool or a vocabulary of vectors: projections with a temperature, nearest vectors, cosines of two ends."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

from brainalign.engine.moments import Numbers

#: Classes of neurons by how what they write lies to what they read.
CLASSES = (
    "enrichment", "conditional enrichment", "depletion", "conditional depletion", "proportional change", "orthogonal",
)  # fmt: skip
_ROWS = 2**14  # of a pool that are read at a time
_HALVINGS = 40  # of an interval of logarithms of temperatures


def effective_size(shares: Numbers) -> Numbers:
    """Return how many rows a weighted mean amounts to, 1 / Σ s².

    Parameters
    ----------
    shares : ndarray, (..., row)
        Adding up to 1.

    Returns
    -------
    ndarray of float64, (...)

    Examples
    --------
    >>> effective_size(np.array([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]))
    array([4., 1.])
    """
    return np.asarray(1.0 / (shares * shares).sum(axis=-1))


def sharpness_of_size(likeness: Numbers, size: float) -> Numbers:
    """Return the τ at which the softmax of τ times the likeness amounts to so many rows.

    Parameters
    ----------
    likeness : ndarray, (column, row)
    size : float
        Below the number of rows.

    Returns
    -------
    ndarray of float64, (column,)
        By halving an interval, for the effective size falls as τ grows. Where so many rows tie for the highest that it never gets
        there, the end of the interval.
    """
    spread = np.ptp(likeness, axis=1)
    scale = np.where(spread > 0, spread, 1.0)  # τ of a likeness between 0 and 1
    low, high = np.full(len(likeness), -7.0), np.full(len(likeness), 14.0)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        larger = effective_size(softmax((np.exp(middle) / scale)[:, None] * likeness, axis=1)) > size
        low, high = np.where(larger, middle, low), np.where(larger, high, middle)
    return np.asarray(np.exp(high) / scale)


def project(weights: Numbers, pool: Any, size: float) -> tuple[Numbers, Numbers, Numbers]:
    """Return weights moved to the nearest of what a pool holds: the mean of its directions, those like a weight weighted most.

    Parameters
    ----------
    weights : ndarray, (feature, column)
        No column of zeros.
    pool : ndarray, (row, feature), or whatever gives one by slices of rows
        No row of zeros.
    size : float
        Rows that the mean amounts to.

    Returns
    -------
    projected : ndarray of float64, (feature, column)
        Unit vectors of the pool averaged with shares softmax(τ cos(w, e)), brought to unit length and given the mean length.
    sharpness : ndarray of float64, (column,)
        τ.
    size : ndarray of float64, (column,)
        The effective number of rows, as met.
    """
    w = np.asarray(weights, dtype=np.float64)
    w = w / np.sqrt((w * w).sum(axis=0))
    parts = [slice(start, start + _ROWS) for start in range(0, pool.shape[0], _ROWS)]
    likeness = np.concatenate([w.T @ _unit(pool[part])[0].T for part in parts], axis=1)
    sharpness = sharpness_of_size(likeness, size)
    shares = softmax(sharpness[:, None] * likeness, axis=1)
    total, length = np.zeros(w.shape), np.zeros(w.shape[1])
    for part in parts:
        rows, norms = _unit(pool[part])
        total += rows.T @ shares[:, part].T
        length += shares[:, part] @ norms
    return total / np.sqrt((total * total).sum(axis=0)) * length, sharpness, effective_size(shares)


def _unit(rows: Any) -> tuple[Numbers, Numbers]:
    x = np.asarray(rows, dtype=np.float64)
    norms = np.sqrt((x * x).sum(axis=1))
    return x / norms[:, None], norms


def patterns(x: Numbers, weights: Numbers) -> Numbers:
    """Return what features show of each prediction by itself: cov(x, ŷ) / var(ŷ).

    Parameters
    ----------
    x : ndarray, (row, feature)
    weights : ndarray, (feature, column)

    Returns
    -------
    ndarray of float64, (feature, column)
        The pattern of Haufe et al. (2014) of a column alone. NaN where the prediction does not vary.
    """
    centred = np.asarray(x, dtype=np.float64) - np.mean(x, axis=0, dtype=np.float64)
    predicted = centred @ np.asarray(weights, dtype=np.float64)
    power = (predicted * predicted).sum(axis=0)
    return np.asarray(centred.T @ predicted / np.where(power > 0, power, np.nan))


def highest(vectors: Numbers, bank: Numbers, k: int) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Return the rows of a bank with the highest products with each vector, and the shape of all of them.

    Parameters
    ----------
    vectors : ndarray, (feature, column)
    bank : ndarray, (row, feature)
    k : int

    Returns
    -------
    rows : ndarray of int, (column, k)
        The highest first.
    products : ndarray of float64, (column, k)
    shares : ndarray of float64, (column, k)
        Softmax over all rows.
    shape : ndarray of float64, (2, column)
        Skewness and excess kurtosis of the products over all rows: a vector that speaks of few rows has a long tail.
    """
    products = (np.asarray(vectors, dtype=bank.dtype).T @ bank.T).astype(np.float64)
    rows = np.argpartition(-products, k - 1, axis=1)[:, :k]
    rows = np.take_along_axis(rows, np.argsort(-np.take_along_axis(products, rows, axis=1), axis=1, kind="stable"), axis=1)
    top = np.take_along_axis(products, rows, axis=1)
    shares = np.exp(top - top[:, :1]) / np.exp(products - top[:, :1]).sum(axis=1, keepdims=True)
    apart = products - products.mean(axis=1, keepdims=True)
    sd = np.sqrt((apart**2).mean(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        moments = [(apart**3).mean(axis=1) / sd**3, (apart**4).mean(axis=1) / sd**4 - 3.0]
    return rows, top, shares, np.stack(moments)


def cosines(a: Numbers, b: Numbers) -> Numbers:
    """Return the cosine of each column of ``a`` with the same column of ``b``.

    Parameters
    ----------
    a, b : ndarray, (feature, column)

    Returns
    -------
    ndarray of float64, (column,)
        NaN where a column is 0 or NaN.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    norm = np.sqrt((x * x).sum(axis=0) * (y * y).sum(axis=0))
    return np.asarray((x * y).sum(axis=0) / np.where(norm > 0, norm, np.nan))


def classes(in_out: Numbers, gate_out: Numbers | None, threshold: float) -> Numbers:
    """Return what neurons do to the direction that they read, by the cosines of their weights.

    Parameters
    ----------
    in_out : ndarray, (column,)
        Cosine of input and output weights.
    gate_out : ndarray, (column,), or None
        Cosine of gate and output weights, the sign of the input turned so that it agrees with the gate; None without a gate.
    threshold : float
        From which on weights are aligned.

    Returns
    -------
    ndarray of str, (column,)
        One of ``CLASSES``; ``""`` where a cosine is NaN. Without a gate only those that are not conditional.
    """
    up, down = in_out >= threshold, in_out <= -threshold
    gated = np.abs(in_out) >= threshold if gate_out is None else gate_out * np.sign(in_out) >= threshold
    proportional = np.zeros(len(in_out), dtype=bool) if gate_out is None else np.abs(gate_out) >= threshold
    unknown = np.isnan(in_out) | (False if gate_out is None else np.isnan(gate_out))
    conditions = [unknown, up & gated, up, down & gated, down, proportional]
    return np.select(conditions, ["", *CLASSES[:5]], default=CLASSES[5]).astype(np.dtypes.StringDType())
