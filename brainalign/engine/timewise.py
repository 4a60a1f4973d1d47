"""Decoding at every time point: the Gram matrices of a time serve all folds, and of ridge one factorisation serves all labelings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import cho_solve
from scipy.stats import rankdata

from brainalign.engine.backend import even_slices
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side
from brainalign.engine.precision import shrink_to_identity

Fold = tuple[Numbers, Numbers]  # training and test rows
Rule = tuple[Numbers, Numbers]  # weights (channel, output) and offset (output,): decision values are x @ weights + offset
_TIMES = 16  # that are laid out side by side: rows of one time must lie together to be multiplied fast


def decode_times(
    X: Numbers,
    folds: Sequence[Fold],
    rules: Callable[[Numbers], Iterator[Rule]],
    score: Callable[[Numbers, Numbers], Numbers],
    *,
    dtype: Any = None,
) -> Numbers:
    """Score the rules that are learned at every time point on the test rows of the same time.

    Parameters
    ----------
    X : ndarray, (trial, channel, time)
    folds : sequence of (training rows, test rows)
    rules : callable
        The trials of one time (trial, channel) to a rule for each fold, as :func:`ridge_rules` makes.
    score : callable
        Decision values (test row, output) and the test rows, to scores of any shape.
    dtype : dtype, optional
        Of the work, into which a few times are copied at a time; default that of ``X``.

    Returns
    -------
    ndarray of float64, (fold, time, ...)
    """

    def scored(x: Numbers) -> Numbers:
        learned = zip(rules(x), folds, strict=True)
        return np.stack([score(x[test] @ weights + offset, test) for (weights, offset), (_, test) in learned])

    return np.stack(_each_time(scored, X, dtype), axis=1).astype(np.float64)


def generalize_times(
    X: Numbers,
    folds: Sequence[Fold],
    rules: Callable[[Numbers], Iterator[Rule]],
    score: Callable[[Numbers, Numbers], Numbers],
    *,
    dtype: Any = None,
) -> Numbers:
    """Score the rules that are learned at every time point on the test rows of all times.

    Parameters
    ----------
    X, folds, rules, score, dtype
        As in :func:`decode_times`; decision values are (test row, output, test time).

    Returns
    -------
    ndarray of float64, (fold, time, ..., test time)
    """
    learned = _each_time(lambda x: list(rules(x)), X, dtype)
    _, channels, times = X.shape
    copy = np.empty((max(len(test) for _, test in folds), times, channels), dtype=dtype or X.dtype)  # of one fold at a time

    def scored(rule: list[Rule], k: int, test: Numbers) -> Numbers:
        weights, offset = rule[k]
        values = copy[: len(test)].reshape(-1, channels) @ weights + offset
        return score(values.reshape(len(test), times, -1).swapaxes(1, 2), test)

    found = []
    for k, (_, test) in enumerate(folds):
        for row, trial in enumerate(test):
            copy[row] = X[trial].T
        found.append(np.stack(side_by_side(partial(scored, k=k, test=test), learned, n_workers(X))))
    return np.stack(found).astype(np.float64)


def _each_time(work: Callable[[Numbers], Any], X: Numbers, dtype: Any) -> list[Any]:
    """Return what some work makes of the trials of each time: some times side by side."""
    pieces = even_slices(X.shape[2], _TIMES)
    done = side_by_side(lambda some: [work(x) for x in times_of(X[:, :, some], dtype)], pieces, n_workers(X))
    return [result for piece in done for result in piece]


def times_of(X: Numbers, dtype: Any = None) -> Iterator[Numbers]:
    """Yield the trials of each time, laid out so that they are multiplied fast.

    Parameters
    ----------
    X : ndarray, (trial, channel, time)
    dtype : dtype, optional

    Yields
    ------
    ndarray, (trial, channel)
    """
    for start in range(0, X.shape[2], _TIMES):
        yield from np.ascontiguousarray(X[:, :, start : start + _TIMES].transpose(2, 0, 1), dtype=dtype)


def ridge_rules(x: Numbers, Y: Numbers, folds: Sequence[Fold], *, alpha: float = 1.0) -> Iterator[Rule]:
    """Yield ridge regression of standardised channels on the training rows of each fold.

    Parameters
    ----------
    x : ndarray, (trial, channel)
    Y : ndarray, (trial, output)
        Classes as −1 and 1, an embedding, or many permuted labelings side by side: they share one factorisation.
    folds : sequence of (training rows, test rows)
    alpha : float
        Of channels of unit variance: ‖y − Zw‖² + alpha ‖w‖².

    Yields
    ------
    weights : ndarray, (channel, output)
    offset : ndarray, (output,)

    Notes
    -----
    Sums over the training rows are those over all rows less those over the test rows, so that a time costs about one Gram matrix
    whatever the number of folds.
    """
    Y = Y.astype(x.dtype, copy=False)
    middle = x.mean(axis=0)  # taken out first: sums of squares would otherwise be differences of large numbers
    x = x - middle
    whole = _sums(x, Y)
    for train, test in folds:
        rest = len(train) + len(test) == len(x)
        gram, cross, total, y_total = (
            (a - b for a, b in zip(whole, _sums(x[test], Y[test]), strict=True)) if rest else _sums(x[train], Y[train])
        )
        n = len(train)
        mean, y_mean = total / n, y_total / n
        gram -= np.outer(total, mean)
        cross -= np.outer(total, y_mean)
        scale = _deviation(gram, n)
        gram /= np.outer(scale, scale)
        gram.flat[:: len(gram) + 1] += alpha
        weights = cho_solve((np.linalg.cholesky(gram), True), cross / scale[:, None], check_finite=False)
        weights /= scale[:, None]
        yield weights, y_mean - (mean + middle) @ weights


def lda_rules(x: Numbers, codes: Numbers, folds: Sequence[Fold]) -> Iterator[Rule]:
    """Yield linear discriminants with Ledoit–Wolf shrinkage within each class, for the training rows of each fold.

    Parameters
    ----------
    x : ndarray, (trial, channel)
    codes : ndarray of int, (trial,)
        Classes 0, 1, 2 and so on, all of them in every training set.
    folds : sequence of (training rows, test rows)

    Yields
    ------
    weights : ndarray, (channel, class)
        Of two classes only the second less the first, (channel, 1).
    offset : ndarray, (class,) or (1,)

    Notes
    -----
    As scikit-learn's ``LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")``: the covariance within a class is that of its
    standardised channels, shrunk to the identity (Ledoit and Wolf 2004) and scaled back; the pooled one weighs classes by their share.
    Of three classes and more, a term that they all share is left out.
    """
    middle = x.mean(axis=0)
    x = x - middle
    classes = [np.flatnonzero(codes == k) for k in range(codes.max() + 1)]
    whole = [_sums(x[rows])[::2] for rows in classes]
    for train, test in folds:
        rest = len(train) + len(test) == len(x)
        share, means = np.empty(len(classes), x.dtype), np.empty((len(classes), x.shape[1]), x.dtype)
        pooled = np.zeros((x.shape[1], x.shape[1]), x.dtype)
        for k, rows in enumerate(classes):
            some = rows[np.isin(rows, train)]
            if rest:
                gram, total = (a - b for a, b in zip(whole[k], _sums(x[rows[np.isin(rows, test)]])[::2], strict=True))
            else:
                gram, total = _sums(x[some])[::2]
            share[k], means[k] = len(some) / len(train), total / len(some)
            pooled += share[k] * _shrunk(gram - np.outer(total, means[k]), x[some] - means[k])
        pooled.flat[:: len(pooled) + 1] += np.diagonal(pooled) == 0  # channels that vary in no class: they have no weight
        weights = cho_solve((np.linalg.cholesky(pooled), True), means.T, check_finite=False)
        offset = -0.5 * np.einsum("kc,ck->k", means, weights) + np.log(share) - middle @ weights
        yield (weights[:, 1:] - weights[:, :1], offset[1:] - offset[:1]) if len(classes) == 2 else (weights, offset)


def haufe_patterns(x: Numbers, weights: Numbers) -> Numbers:
    """Return what the channels show of each decision value: Σ_x W Σ_ŷ⁻¹.

    Parameters
    ----------
    x : ndarray, (trial, channel)
        Training rows.
    weights : ndarray, (channel, output)

    Returns
    -------
    ndarray of float64, (channel, output)

    Notes
    -----
    Haufe et al. (2014): weights say how channels are combined, which cancels noise too; patterns say where the signal is.
    """
    centred = np.asarray(x, dtype=np.float64) - x.mean(axis=0)
    values = centred @ weights
    return np.asarray(np.linalg.lstsq(values.T @ values, values.T @ centred, rcond=None)[0].T)


def area_under_curve(values: Numbers, positive: Numbers) -> Numbers:
    """Return the area under the receiver operating characteristic of each column.

    Parameters
    ----------
    values : ndarray, (row, column...)
    positive : ndarray of bool, (row,) or (row, column...)

    Returns
    -------
    ndarray of float64, (column...)
        Ties count half. NaN where a column has one class only.

    Examples
    --------
    >>> area_under_curve(np.array([0.1, 0.4, 0.4, 0.8]), np.array([False, False, True, True])).item()
    0.875
    """
    truth = np.broadcast_to(positive.reshape(positive.shape + (1,) * (values.ndim - positive.ndim)), values.shape)
    rows, truth = (np.ascontiguousarray(np.moveaxis(x, 0, -1)) for x in (values, truth))  # sorted where they lie together
    n, up = len(values), truth.sum(axis=-1, dtype=np.float64)
    order = np.argsort(rows, axis=-1)
    ordered = np.take_along_axis(rows, order, axis=-1)
    if (ordered[..., 1:] > ordered[..., :-1]).all():
        summed = np.take_along_axis(truth, order, axis=-1) @ np.arange(1.0, n + 1)
    else:
        summed = (rankdata(rows, axis=-1) * truth).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((summed - up * (up + 1) / 2) / np.where(up * (n - up) > 0, up * (n - up), np.nan))


def _sums(x: Numbers, Y: Numbers | None = None) -> tuple[Numbers, ...]:
    """Return XᵀX, XᵀY, and the sums of X and of Y."""
    y = x[:, :0] if Y is None else Y
    return x.T @ x, x.T @ y, x.sum(axis=0), y.sum(axis=0)


def _deviation(gram: Numbers, n: int) -> Numbers:
    """Return standard deviations from a centred Gram matrix; 1 where a channel does not vary."""
    variance = np.maximum(np.diagonal(gram), 0) / n
    floor = (np.finfo(gram.dtype).eps * n) ** 2 * variance.max(initial=0)
    return np.where(variance > floor, np.sqrt(variance), 1).astype(gram.dtype)


def _shrunk(gram: Numbers, centred: Numbers) -> Numbers:
    """Return the Ledoit–Wolf covariance of standardised channels, scaled back, from their centred Gram matrix and rows."""
    scale = _deviation(gram, len(centred))
    covariance = gram / np.outer(scale, scale) / len(centred)
    shrink_to_identity(covariance, ((centred / scale) ** 2).sum(axis=1, dtype=np.float64))
    return np.asarray(covariance * np.outer(scale, scale))
