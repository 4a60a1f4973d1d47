"""How far rows of a label lie from the others: d′ of every column and label, from sums that weights and permutations share."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers, deviations


def scaled(x: Numbers) -> Numbers:
    """Return columns less their mean and over their standard deviation; 0 where they do not vary.

    Parameters
    ----------
    x : ndarray, (row, column)

    Returns
    -------
    ndarray of float64, (row, column)
    """
    centred = deviations(x)
    sd = centred.std(axis=0)
    return np.asarray(centred / np.where(sd > 0, sd, 1.0))


def dprime(z: Numbers, positive: Numbers, total: Numbers) -> Numbers:
    """Return (μ⁺ − μ⁻) / √((σ⁺² + σ⁻²)/2), the distance of two means in the spread that both have.

    Parameters
    ----------
    z : ndarray of float64, (row, column)
        From :func:`scaled`.
    positive : ndarray of float64, (row, draw, label)
        Weight of a row where it has the label, else 0.
    total : ndarray of float64, (row, draw) or (row, 1)

    Returns
    -------
    ndarray of float64, (draw, column, label)
        NaN where a side has fewer than two rows, or no spread.
    """
    flat = positive.reshape(len(positive), -1)
    n = total.sum(axis=0)[:, None]
    n_above = positive.sum(axis=0)
    sums, squares = ((f.T @ flat).reshape(-1, *n_above.shape) for f in (z, z * z))
    all_sums, all_squares = ((f.T @ total)[..., None] for f in (z, z * z))
    means, variances = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for m, s, q in ((n_above, sums, squares), (n - n_above, all_sums - sums, all_squares - squares)):
            many = np.where(m > 1, m, np.nan)
            means.append(s / many)
            variances.append(np.maximum(q - s * s / many, 0.0) / (many - 1.0))
        spread = np.sqrt((variances[0] + variances[1]) / 2.0)
        return np.moveaxis((means[0] - means[1]) / np.where(spread > 1e-12, spread, np.nan), 0, 1)
