"""Labels of neuroids: how well each concept of a bank describes what drives a column, and what shuffled rows would give."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from scipy.special import log_softmax

from brainalign.engine.moments import Numbers, deviations
from brainalign.engine.retrieval import prepared

#: Methods, and how much of what a concept has everywhere each takes off.
PENALTIES = {"softwpmi": 1.0, "wpmi": 0.6, "pmi": 0.2, "pearson": 0.0, "cosine": 0.0}
#: Membership of the strongest and of the weakest exemplar in the set that drives a neuroid.
_FIRST, _LAST, _LEAST = 0.998, 0.97, 1e-7


@dataclass(frozen=True)
class Evidence:
    """What a method looks up: log-probabilities of concepts by row, or columns to correlate with.

    Attributes
    ----------
    table : ndarray of float64, (rank, row, concept)
        One for each rank among the exemplars, or one for all; for correlations the standardised concepts.
    prior : ndarray of float64, (concept,)
        What rows drawn at random give.
    n_top : int
        Exemplars of a neuroid; 0 where all rows count.
    of_mean : bool
        Probabilities are averaged over the exemplars before the logarithm is taken.
    """

    table: Numbers
    prior: Numbers
    n_top: int
    of_mean: bool = False


def prepare_evidence(concepts: Numbers, method: str, *, n_top: int, sharpness: float | None) -> Evidence:
    """Prepare a bank of concepts for a method.

    Parameters
    ----------
    concepts : ndarray, (row, concept)
        Every column varies.
    method : {"softwpmi", "wpmi", "pmi", "pearson", "cosine"}
    n_top : int
        Exemplars of a neuroid.
    sharpness : float or None
        Columns become z-scores, and probabilities by a softmax over concepts of as many times these. None: they are
        probabilities.

    Returns
    -------
    Evidence
    """
    c = np.asarray(concepts, dtype=np.float64)
    if method in ("pearson", "cosine"):
        return Evidence(prepared(c.T, method).T[None], np.zeros(c.shape[1]), 0)
    logs = np.log(c + _LEAST) if sharpness is None else log_softmax(sharpness * deviations(c) / c.std(axis=0), axis=1)
    if method == "softwpmi":
        member = _FIRST + (_LAST - _FIRST) * np.arange(n_top) / n_top
        table = np.log1p(member[:, None, None] * np.expm1(logs)[None] + _LEAST)
        return Evidence(table, table.mean(axis=1).sum(axis=0), n_top)
    if method == "wpmi":
        return Evidence(logs[None], n_top * logs.mean(axis=0), n_top)
    return Evidence(np.exp(logs)[None], np.log(np.exp(logs).mean(axis=0)), n_top, of_mean=True)


def top_rows(values: Numbers, k: int, rng: np.random.Generator) -> Numbers:
    """Return the rows of the highest values of each column, the highest first.

    Parameters
    ----------
    values : ndarray, (row, column)
        Without NaN.
    k : int
    rng : Generator
        Rows that tie come in random order, in each column another one. A rectified unit is 0 on most stimuli: the first of these
        in a table that is sorted would be of one category, and the same for all units.

    Returns
    -------
    ndarray of int64, (column, k)
    """
    falling = -np.asarray(values, dtype=np.float64)
    found = np.argsort(falling, axis=0)
    tied = (np.diff(np.take_along_axis(falling, found, axis=0), axis=0) == 0).any(axis=0)
    found[:, tied] = np.lexsort((rng.random((len(falling), int(tied.sum()))), falling[:, tied]), axis=0)
    return np.ascontiguousarray(found[:k].T)


def rate(evidence: Evidence, drivers: Numbers, order: Numbers | None = None) -> Numbers:
    """Return the evidence for each concept, before what is had everywhere is taken off.

    Parameters
    ----------
    evidence : Evidence
    drivers : ndarray, (column, n_top) of int or (row, column) of float64
        From :func:`top_rows`; or responses of unit length, as :func:`brainalign.engine.retrieval.prepared` gives them by column.
    order : ndarray of int, (row,), optional
        Row i of the responses meets row ``order[i]`` of the concepts.

    Returns
    -------
    ndarray of float64, (column, concept)
    """
    _, n_rows, n_concepts = evidence.table.shape
    if not evidence.n_top:
        concepts = evidence.table[0] if order is None else evidence.table[0][order]
        return np.asarray(drivers.T @ concepts)
    rows = drivers if order is None else order[drivers]
    if len(evidence.table) > 1:
        rows = rows + n_rows * np.arange(evidence.n_top)
    ends = evidence.n_top * np.arange(len(rows) + 1)
    chosen = sp.csr_array((np.ones(rows.size), rows.ravel(), ends), shape=(len(rows), evidence.table.size // n_concepts))
    total = chosen @ evidence.table.reshape(-1, n_concepts)
    return np.asarray(np.log(total / evidence.n_top) if evidence.of_mean else total)


def prior_of_others(rated: Numbers) -> Numbers:
    """Return for each column log Σ exp of the evidence of all others.

    Parameters
    ----------
    rated : ndarray of float64, (column, concept)

    Returns
    -------
    ndarray of float64, (column, concept)
        Sums from both ends, for a column's own share cannot be taken off a sum that it makes up.
    """
    out = np.full(rated.shape, -np.inf)
    out[1:] = np.logaddexp.accumulate(rated[:-1], axis=0)
    out[:-1] = np.logaddexp(out[:-1], np.logaddexp.accumulate(rated[:0:-1], axis=0)[::-1])
    return out


def labels_of(
    evidence: Evidence, drivers: Numbers, orders: Numbers, *, penalty: float, against: Numbers | None = None, n_columns: int = 1
) -> tuple[Numbers, Numbers]:
    """Score all concepts for all columns, and the best that each order of the rows has to offer.

    Parameters
    ----------
    evidence : Evidence
    drivers : ndarray
        As in :func:`rate`.
    orders : ndarray of int, (permutation, row)
    penalty : float
        λ of log p(E | d) − λ log p(d).
    against : ndarray of float64, (column, concept), optional
        From :func:`prior_of_others`: p(d) is then the mean over the columns, this one among them; else that over rows.
    n_columns : int
        In that mean.

    Returns
    -------
    scores : ndarray of float64, (column, concept)
    null : ndarray of float64, (permutation, column)
        The highest score over concepts. A column's rows are shuffled, and the other columns stay as they are.
    """

    def penalised(rated: Numbers) -> Numbers:
        prior = evidence.prior if against is None else np.logaddexp(rated, against) - np.log(n_columns)
        return np.asarray(rated - penalty * prior)

    scores = penalised(rate(evidence, drivers))
    null = np.empty((len(orders), len(scores)))
    for best, order in zip(null, orders, strict=True):
        best[:] = penalised(rate(evidence, drivers, order)).max(axis=1)
    return scores, null


def column_blocks(n_columns: int, n_rows: int, n_concepts: int, cells: int = 2**22) -> Iterator[slice]:
    """Yield blocks of columns whose responses and scores have no more than a number of cells.

    Parameters
    ----------
    n_columns, n_rows, n_concepts : int
    cells : int
        2²² float64 numbers are 32 MB.

    Yields
    ------
    slice
    """
    step = max(1, cells // max(n_rows, n_concepts))
    yield from (slice(start, start + step) for start in range(0, n_columns, step))


def f1_parts(active: Numbers, there: Numbers) -> Numbers:
    """Return precision, recall and F1 of concepts that say when columns are active.

    Parameters
    ----------
    active, there : ndarray of bool, (row, column)

    Returns
    -------
    ndarray of float64, (3, column)
        #{both} / #{there}, #{both} / #{active}, and 2 #{both} / (#{there} + #{active}).

    Examples
    --------
    >>> f1_parts(np.array([[True], [True], [False]]), np.array([[True], [False], [False]])).ravel().round(2).tolist()
    [1.0, 0.5, 0.67]
    """
    both, driven, said = (np.sum(part, axis=0, dtype=np.float64) for part in (active & there, active, there))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([both / said, both / driven, 2 * both / (said + driven)])
