"""Retrieval: where the true one stands among all candidates, by likeness to what was predicted."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers

SIMILARITIES = ("cosine", "pearson", "euclidean", "dot")
MEASURES = ("top-1", "top-5", "top-10", "median-rank", "reciprocal-rank", "two-way")
_CELLS = 2**23  # similarities that are held at a time: 64 MB
_ROUNDING = 64.0  # units in the last place: products of the same vectors differ by as much between blocks


def prepared(vectors: Numbers, similarity: str) -> Numbers:
    """Return vectors whose inner products order candidates as a similarity does.

    Parameters
    ----------
    vectors : ndarray, (row, dimension)
    similarity : {"cosine", "pearson", "euclidean", "dot"}

    Returns
    -------
    ndarray of float64, (row, dimension)
        Of unit length for a cosine, deviations from the row's mean first for Pearson's r. Rows without a direction are NaN.
    """
    x = np.asarray(vectors, dtype=np.float64)
    if similarity in ("euclidean", "dot"):
        return x
    largest = np.abs(x).max(axis=1, keepdims=True, initial=0.0)
    if similarity == "pearson":
        x = x - x.mean(axis=1, keepdims=True)
    norms = np.sqrt((x * x).sum(axis=1, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(norms > _ROUNDING * np.finfo(np.float64).eps * largest, x / norms, np.nan)


def rank_true(queries: Numbers, candidates: Numbers, truth: Numbers, *, similarity: str = "cosine") -> Numbers:
    """Return the rank of each query's true candidate, 0 where none is more alike.

    Parameters
    ----------
    queries : ndarray, (query, dimension)
    candidates : ndarray, (candidate, dimension)
    truth : ndarray of int, (query,)
        Position of the true candidate.
    similarity : {"cosine", "pearson", "euclidean", "dot"}

    Returns
    -------
    ndarray of float64, (query,)
        Candidates that are exactly as alike share their mean rank. NaN where the query, or its true candidate, has NaN or no direction;
        other such candidates count as less alike.

    Notes
    -----
    rank = (#{S > S_true} + #{S ≥ S_true} − 1) / 2. Candidates are met in blocks, and similarities never held as a whole.

    Examples
    --------
    >>> rank_true(np.array([[1.0, 0.1]]), np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), np.array([1]))
    array([1.])
    """
    q, c = prepared(queries, similarity), prepared(candidates, similarity)
    squared = -0.5 * (c * c).sum(axis=1) if similarity == "euclidean" else np.zeros(len(c))  # −‖q − c‖²/2, less what q alone adds
    own = (q * c[truth]).sum(axis=1) + squared[truth]
    slack = (
        _ROUNDING * np.finfo(np.float64).eps * np.sqrt((q * q).sum(axis=1)) * np.sqrt(np.nanmax((c * c).sum(axis=1), initial=0.0))
    )
    slack += _ROUNDING * np.finfo(np.float64).eps * np.abs(own)
    out = np.full(len(q), np.nan)
    known = np.flatnonzero(np.isfinite(own) & (c.shape[1] > 0))  # a sum over nothing is 0, and tells nothing
    step = max(1, _CELLS // max(1, len(c)))
    for start in range(0, len(known), step):
        rows = known[start : start + step]
        apart = q[rows] @ c.T + squared - own[rows, None]
        higher, alike = apart > slack[rows, None], np.abs(apart) <= slack[rows, None]
        alike[np.arange(len(rows)), truth[rows]] = False
        out[rows] = higher.sum(axis=1) + alike.sum(axis=1) / 2
    return out


def retrieval_measures(ranks: Numbers, n_candidates: Numbers) -> Numbers:
    """Return what ranks amount to, by every measure.

    Parameters
    ----------
    ranks : ndarray, (query,)
        From :func:`rank_true`; NaN counts as chance, a rank in the middle.
    n_candidates : ndarray of int, (query,)
        How many there were to choose from, the true one among them.

    Returns
    -------
    ndarray of float64, (measure,)
        In the order of ``MEASURES``: the shares of queries whose true candidate is the first, or among the first five or ten (of candidates that
        are alike, as many as fit); the median rank, counted from 1; the mean of 1 / rank; and the share of other candidates that
        the true one beats, 1 − rank / (n − 1).

    Notes
    -----
    Counting NaN as found, as comparisons with NaN do, would give a decoder that failed altogether a perfect score.

    Examples
    --------
    >>> retrieval_measures(np.array([0.0, np.nan]), np.array([3, 3])).round(2).tolist()
    [0.5, 1.0, 1.0, 1.5, 0.75, 0.75]
    """
    n = np.asarray(n_candidates, dtype=np.float64)
    r = np.where(np.isfinite(ranks), ranks, (n - 1) / 2)
    top = [np.mean(r < k) for k in (1, 5, 10)]
    return np.array([*top, np.median(r) + 1, np.mean(1 / (r + 1)), np.mean(1 - r / (n - 1))])


def chance_measures(n_candidates: Numbers) -> Numbers:
    """Return what guessing gives by every measure: a rank that is any of the n with equal probability.

    Parameters
    ----------
    n_candidates : ndarray of int, (query,)

    Returns
    -------
    ndarray of float64, (measure,)

    Examples
    --------
    >>> chance_measures(np.array([200])).round(4).tolist()
    [0.005, 0.025, 0.05, 100.5, 0.0294, 0.5]
    """
    n = np.asarray(n_candidates, dtype=np.float64)
    top = [np.mean(np.minimum(k / n, 1.0)) for k in (1, 5, 10)]
    harmonic = {int(m): np.sum(1.0 / np.arange(1, m + 1)) / m for m in np.unique(n)}
    return np.array([*top, (np.median(n) + 1) / 2, np.mean([harmonic[int(m)] for m in n]), 0.5])
