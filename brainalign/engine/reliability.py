"""How well repeated presentations agree: signal, noise and reliability, column by column.

Throughout, S is the variance of the signal over stimuli and N that of the noise of one presentation. The reliability of averages
is S / (S + a N), with ``a`` the mean over stimuli of 1 / (presentations averaged).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import sparse

from brainalign.engine.correlate import pearson_columns, ranks
from brainalign.engine.moments import Numbers, deviations

_TILE = 2**22  # values of one half that are worked on at a time: 32 MB


def split_half(
    values: Numbers,
    codes: Numbers,
    n_splits: int,
    rng: np.random.Generator,
    shown: Callable[[Any], Any] = iter,
    order: Numbers | None = None,
) -> Numbers:
    """Return the reliability of the averages over all repeats, from random halves of them.

    Parameters
    ----------
    values : ndarray, (presentation, column)
    codes : ndarray of int, (presentation,)
        Which stimulus each row presents.
    n_splits : int
    rng : Generator
    shown : callable
        From an iterable to what goes along it with a bar.
    order : ndarray of int, (presentation,), optional
        As in :func:`split_halves`.

    Returns
    -------
    ndarray of float64, (column,)
        NaN where the halves do not agree at all.

    Notes
    -----
    Halves of h repeats correlate with r = S / (S + N/h), so with k = h a, ρ = r / (r + k (1 − r)) (Spearman and Brown; 2r / (1 + r)
    for an even number of repeats). An odd repeat is left out of the halves, at random: halves of unequal size would need
    another formula, and 2r / (1 + r) on them is too low. r is averaged over splits before it is extrapolated.
    """
    counts = np.bincount(codes)
    halves = split_halves(codes, n_splits, rng, order)
    r = np.zeros(values.shape[1])
    step = max(1, _TILE // halves[0][0].shape[0])
    for start in shown(range(0, values.shape[1], step)):
        tile = values[:, start : start + step].astype(np.float64)
        tile = tile - tile.mean(axis=0)
        r[start : start + step] = np.mean([pearson_columns(first @ tile, second @ tile) for first, second in halves], axis=0)
    signal = np.mean(1.0 / (counts // 2)[counts > 1]) * r  # S/N up to the common factor 1 / (1 - r), which may be infinite
    with np.errstate(invalid="ignore"):
        return np.where(r > 0, signal / (signal + np.mean(1.0 / counts) * (1.0 - r)), np.nan)


def split_halves(codes: Numbers, n_splits: int, rng: np.random.Generator, order: Numbers | None = None) -> list[tuple[Any, Any]]:
    """Draw random equal halves of each stimulus's repeats.

    Parameters
    ----------
    codes : ndarray of int, (presentation,)
        Which stimulus each row presents.
    n_splits : int
    rng : Generator
    order : ndarray of int, (presentation,), optional
        That sorts the rows by name: rows in another order then get the same halves. As they are where it is None.

    Returns
    -------
    list of (csr_array, csr_array), each (repeated stimulus, presentation)
        Matrices that average the first and the second half. Stimuli without a repeat have no row.
    """
    counts = np.bincount(codes)
    half = counts // 2
    row_of = np.cumsum(half > 0) - 1
    starts = np.cumsum(counts) - counts
    shape = (int((half > 0).sum()), len(codes))
    halves, drawn = [], np.empty(len(codes))
    for _ in range(n_splits):
        drawn[slice(None) if order is None else order] = rng.random(len(codes))
        dealt = np.lexsort((drawn, codes))
        stimulus = codes[dealt]
        rank = np.arange(len(codes)) - starts[stimulus]
        pair = []
        for low, high in ((0, half), (half, 2 * half)):
            take = (rank >= np.broadcast_to(low, counts.shape)[stimulus]) & (rank < high[stimulus])
            weights = 1.0 / half[stimulus[take]]
            pair.append(sparse.csr_array((weights, (row_of[stimulus[take]], dealt[take])), shape=shape))
        halves.append((pair[0], pair[1]))
    return halves


def signal_and_noise(values: Numbers, codes: Numbers) -> tuple[Numbers, Numbers]:
    """Return the variances of signal and noise, unbiased for any numbers of repeats.

    Parameters
    ----------
    values : ndarray, (presentation, column)
    codes : ndarray of int, (presentation,)

    Returns
    -------
    signal, noise : ndarray of float64, (column,)
        The signal's may come out negative where there is none.

    Notes
    -----
    With c repeats of a stimulus and T = Σc presentations, the squares within stimuli are (T − n) N on average and those about
    the grand mean (T − 1) N + (T − Σc²/T) S: both are solved. With as many repeats for each this is the analysis of variance that
    NSD's ncsnr = √(S/N) comes from (Allen et al. 2022), less its bias of order 1/n.
    """
    counts = np.bincount(codes)
    total, order = len(codes), np.argsort(codes, kind="stable")
    tile = values[order].astype(np.float64)
    tile = tile - tile.mean(axis=0)
    means = np.add.reduceat(tile, np.cumsum(counts) - counts, axis=0) / counts[:, None]
    within = np.square(tile - np.repeat(means, counts, axis=0)).sum(axis=0)
    noise = within / (total - len(counts))
    signal = (np.square(tile).sum(axis=0) - (total - 1) * noise) / (total - np.square(counts).sum() / total)
    return signal, noise


def signal_power(trials: Numbers) -> tuple[Numbers, Numbers]:
    """Return the signal power of repeated trials, and the variance of their average.

    Parameters
    ----------
    trials : ndarray, (repeat, stimulus, column)

    Returns
    -------
    power, variance : ndarray of float64, (column,)
        The highest correlation of any model with the average is √(power / variance).

    Notes
    -----
    SP = (var(Σ_i y_i) − Σ_i var(y_i)) / (R (R − 1)), variances over stimuli (Sahani and Linden 2003; Schoppe et al. 2016). A shift of a
    whole repeat, as of a baseline that drifts, adds nothing to it.
    """
    n_repeats = len(trials)
    trials = trials.astype(np.float64)
    of_sum = trials.sum(axis=0).var(axis=0, ddof=1)
    power = (of_sum - trials.var(axis=1, ddof=1).sum(axis=0)) / (n_repeats * (n_repeats - 1))
    return power, of_sum / n_repeats**2


def explainable_variance(trials: Numbers) -> Numbers:
    """Return the share of one presentation's variance that repeats, corrected for their number.

    Parameters
    ----------
    trials : ndarray, (repeat, stimulus, column)

    Returns
    -------
    ndarray of float64, (column,)
        S / (S + N).

    Notes
    -----
    Each repeat is z-scored over stimuli; EV is the variance of their average, and EV − (1 − EV) / (R − 1) has no bias (Gallant
    laboratory's tutorials; Dupré la Tour et al. 2025).
    """
    trials = trials.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (trials - trials.mean(axis=1, keepdims=True)) / trials.std(axis=1, keepdims=True)
    raw = z.mean(axis=0).var(axis=0)
    return np.asarray(raw - (1.0 - raw) / (len(trials) - 1))


def geometry_bounds(pairs: Numbers, metric: str) -> tuple[Numbers, Numbers]:
    """Return how well the geometry that subjects share explains each subject's dissimilarities: from the others, and from all.

    Parameters
    ----------
    pairs : ndarray, (pair, subject)
        Dissimilarities; no NaN.
    metric : {"pearson", "spearman", "cosine"}
        By which models are compared; dissimilarities are pooled accordingly (z-scored, ranked, or divided by their root mean square).

    Returns
    -------
    lower, upper : ndarray of float64, (subject,)
        Similarity of each subject to the mean of the others, which the true model reaches or passes, and to the mean of all, which no
        model passes on average (for ranks, hardly any).

    Notes
    -----
    Nili et al. (2014), PLoS Computational Biology 10: e1003553.
    """
    values = np.asarray(pairs, dtype=np.float64)
    if metric == "spearman":
        values = ranks(values)  # pooled as they are: sums of ranks tie exactly
    else:
        values = deviations(values) if metric == "pearson" else values
        with np.errstate(divide="ignore", invalid="ignore"):
            values = values / np.sqrt(np.square(values).sum(axis=0))
    total = values.sum(axis=1, keepdims=True)
    lower, upper = (_similarity(values, pooled, metric) for pooled in (total - values, np.broadcast_to(total, values.shape)))
    return lower, upper


def _similarity(values: Numbers, pooled: Numbers, metric: str) -> Numbers:
    if metric != "cosine":
        return pearson_columns(values, ranks(pooled) if metric == "spearman" else pooled)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((values * pooled).sum(axis=0) / np.sqrt(np.square(values).sum(axis=0) * np.square(pooled).sum(axis=0)))


def extrapolate(rho: Numbers, known: float, wanted: float) -> Numbers:
    """Return a reliability for other averages than those that it was found for (Spearman and Brown).

    Parameters
    ----------
    rho : ndarray
    known, wanted : float
        Mean of 1 / (presentations averaged), of the averages that ``rho`` holds for and of those that are wanted.

    Returns
    -------
    ndarray of float64
        known ρ / (known ρ + wanted (1 − ρ)).

    Examples
    --------
    >>> float(extrapolate(np.array(0.3), 1.0, 1 / 3).round(4))
    0.5625
    """
    rho = np.asarray(rho, dtype=np.float64)
    return np.asarray(known * rho / (known * rho + wanted * (1.0 - rho)))
