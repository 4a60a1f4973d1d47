"""Retrieval: where the true one stands among all candidates, by likeness to what was predicted."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers, deviations

SIMILARITIES = ("cosine", "pearson", "euclidean", "dot")
MEASURES = ("top-1", "top-5", "top-10", "median-rank", "reciprocal-rank", "two-way")
#: Sign of each measure: -1 where lower is better.
SIGNS = np.array([-1.0 if name == "median-rank" else 1.0 for name in MEASURES])
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


def rank_true(
    queries: Numbers, candidates: Numbers, truth: Numbers, *, similarity: str = "cosine", own: Numbers | None = None
) -> Numbers:
    """Return the rank of each query's true candidate, 0 where none is more alike.

    Parameters
    ----------
    queries : ndarray, (query, dimension)
    candidates : ndarray, (candidate, dimension)
    truth : ndarray of int, (query,)
        Position of the true candidate.
    similarity : {"cosine", "pearson", "euclidean", "dot"}
    own : ndarray, (query, dimension), optional
        What stands for the true candidate of each query, where that is not the one that others meet: the mean of its class without itself.

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
    true = c[truth] if own is None else prepared(own, similarity)
    squared, base = _halves(c, similarity), _halves(true, similarity)
    reached = (q * true).sum(axis=1) + base
    slack = (
        _ROUNDING * np.finfo(np.float64).eps * np.sqrt((q * q).sum(axis=1)) * np.sqrt(np.nanmax((c * c).sum(axis=1), initial=0.0))
    )
    slack += _ROUNDING * np.finfo(np.float64).eps * np.abs(reached)
    out = np.full(len(q), np.nan)
    known = np.flatnonzero(np.isfinite(reached) & (c.shape[1] > 0))  # a sum over nothing is 0, and tells nothing
    step = max(1, _CELLS // max(1, len(c)))
    for start in range(0, len(known), step):
        rows = known[start : start + step]
        apart = q[rows] @ c.T + squared - reached[rows, None]
        apart[np.arange(len(rows)), truth[rows]] = -np.inf
        higher, alike = apart > slack[rows, None], np.abs(apart) <= slack[rows, None]
        out[rows] = higher.sum(axis=1) + alike.sum(axis=1) / 2
    return out


def _halves(candidates: Numbers, similarity: str) -> Numbers:
    """Return what is added to inner products: under a distance −‖c‖²/2, for −‖q − c‖²/2 less what the query alone adds."""
    return -0.5 * (candidates * candidates).sum(axis=1) if similarity == "euclidean" else np.zeros(len(candidates))


def match_spread(reference: Numbers, target: Numbers) -> tuple[Numbers, Numbers]:
    """Return gain and offset that give columns the mean and the deviation of others.

    Parameters
    ----------
    reference, target : ndarray, (row, column)
        Their rows need not correspond.

    Returns
    -------
    gain, offset : ndarray of float64, (column,)
        ``reference * gain + offset`` has the moments of ``target``. The gain is 0 where the reference does not vary.

    Examples
    --------
    >>> gain, offset = match_spread(np.array([[0.0], [1.0]]), np.array([[3.0], [7.0]]))
    >>> gain.tolist(), offset.tolist()
    ([4.0], [3.0])
    """
    spreads = [deviations(x).std(axis=0) for x in (reference, target)]
    gain = np.divide(spreads[1], spreads[0], out=np.zeros(len(spreads[0])), where=spreads[0] > 0)
    return gain, target.mean(axis=0, dtype=np.float64) - gain * reference.mean(axis=0, dtype=np.float64)


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
