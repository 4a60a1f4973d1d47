"""Kernel analysis: how few principal components of a kernel hold what distinguishes the stimuli."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from brainalign.engine.dependence import double_centred
from brainalign.engine.gram import eigh, null_floor
from brainalign.engine.kernels import squared_distances
from brainalign.engine.moments import Numbers


def error_curve(kernel: Numbers, targets: Numbers) -> Numbers:
    """Return what is left of targets after the first d principal components of a kernel, for every d.

    Parameters
    ----------
    kernel : ndarray of float64, (row, row)
    targets : ndarray of float64, (row, k)
        Centred here.

    Returns
    -------
    ndarray of float64, (1 + row,)
        e(d) = 1 − Σ_{j≤d} ‖u_jᵀY‖² / ‖Y‖², from 1. Directions that the kernel does not have, within rounding, explain nothing.
    """
    centred = double_centred(kernel)
    values, vectors = eigh((centred + centred.T) / 2)
    Y = targets - targets.mean(axis=0)
    held = ((vectors.T @ Y) ** 2).sum(axis=1) * (values > null_floor(values, kernel))
    return np.asarray(np.r_[1.0, 1.0 - np.cumsum(held[::-1]) / (Y * Y).sum()].clip(0.0, 1.0))


def gaussian_error_curve(X: Numbers, targets: Numbers, quantiles: Sequence[float] = (0.1, 0.5, 0.9)) -> Numbers:
    """Return the least error with d components of Gaussian kernels exp(−‖x − x'‖² / q), for every d.

    Parameters
    ----------
    X : ndarray, (row, column)
    targets : ndarray of float64, (row, k)
    quantiles : sequence of float
        Widths q, as quantiles of the squared distances of all n² pairs, each row with itself among them.

    Returns
    -------
    ndarray of float64, (1 + row,)
        NaN where a quantile is 0: more of the rows are alike than it leaves out.

    Notes
    -----
    Montavon, Braun and Müller (2011); Cadieu et al. (2014).
    """
    squares = squared_distances(X, X)
    np.fill_diagonal(squares, 0.0)
    ordered = np.sort(squares, axis=None)
    widths = [ordered[min(int(s * ordered.size), ordered.size - 1)] for s in quantiles]
    if min(widths) <= 0:
        return np.full(len(X) + 1, np.nan)
    return np.asarray(np.min([error_curve(np.exp(-squares / width), targets) for width in widths], axis=0))
