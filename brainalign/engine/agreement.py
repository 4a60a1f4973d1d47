"""How alike two maps are: angle, order, and which values are highest."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from brainalign.engine.correlate import ranks
from brainalign.engine.moments import Numbers


def cosines(a: Numbers, b: Numbers) -> Numbers:
    """Return the cosine of each pair of maps.

    Parameters
    ----------
    a, b : ndarray, (..., value)

    Returns
    -------
    ndarray of float64, (...)
        NaN where one of them is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((a * b).sum(axis=-1) / np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1)))


def rank_correlations(a: Numbers, b: Numbers) -> Numbers:
    """Return Spearman's correlation of each pair of maps.

    Parameters
    ----------
    a, b : ndarray, (..., value)

    Returns
    -------
    ndarray of float64, (...)
        NaN where one of them is constant.
    """
    ranked = [ranks(x, axis=-1) for x in (a, b)]
    return cosines(*(x - x.mean(axis=-1, keepdims=True) for x in ranked))


def kendall_tau_b(a: Numbers, b: Numbers) -> Numbers:
    """Return Kendall's rank correlation of each pair of maps, ties taken into account.

    Parameters
    ----------
    a, b : ndarray, (..., value)

    Returns
    -------
    ndarray of float64, (...)
        NaN where one of them is constant.
    """
    flat = [x.reshape(-1, x.shape[-1]) for x in (a, b)]
    found = [kendalltau(x, y, variant="b").statistic for x, y in zip(*flat, strict=True)]
    return np.array(found, dtype=np.float64).reshape(a.shape[:-1])


def top_overlap(a: Numbers, b: Numbers, k: int) -> Numbers:
    """Return the share of the k largest sizes of a map that are among those of the other.

    Parameters
    ----------
    a, b : ndarray, (..., value)
    k : int

    Returns
    -------
    ndarray of float64, (...)

    Examples
    --------
    >>> float(top_overlap(np.array([3.0, -2.0, 0.1]), np.array([0.0, -2.0, 1.0]), 2))
    0.5
    """
    member = []
    for x in (a, b):
        inside = np.zeros(x.shape, dtype=bool)
        np.put_along_axis(inside, np.argsort(-np.abs(x), axis=-1, kind="stable")[..., :k], True, -1)
        member.append(inside)
    return np.asarray((member[0] & member[1]).sum(axis=-1) / k)


def relative_changes(a: Numbers, b: Numbers) -> Numbers:
    """Return the length of ``b - a`` beside that of ``a``.

    Parameters
    ----------
    a, b : ndarray, (..., value)

    Returns
    -------
    ndarray of float64, (...)
        NaN where ``a`` is 0.
    """
    length = np.linalg.norm(a, axis=-1)
    return np.asarray(np.linalg.norm(b - a, axis=-1) / np.where(length > 0, length, np.nan))
