"""What a similarity metric is, and the one engine that scores, permutes and resamples all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.engine.backend import Array, cast, even_slices
from brainalign.engine.cka import subset_alignments
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, side_by_side
from brainalign.engine.resample import p_of_the_maximum, p_values

_GATHER = 100.0  # multiplications of matrix products in the time that a number of a permuted matrix takes to be fetched
_TIE = 1e-9  # scores that differ by rounding are equally high
_KERNELS = 2.0**31  # bytes that the kernels of all groups may take
_WORTH = 2**14  # values of a system whose scores are worth more than one thread
_DRAWS = 16  # that a worker takes at a time


@dataclass(frozen=True)
class KernelForm:
    """How a metric comes from kernels between stimuli, whose subsets can be scored all at once.

    Attributes
    ----------
    kernel : callable
        (stimulus, neuroid) to (stimulus, stimulus).
    unbiased : bool
    """

    kernel: Callable[[Array], Array]
    unbiased: bool


@dataclass(frozen=True)
class SimilarityMetric:
    """A number for how alike two systems respond to the same stimuli, and what it is blind to.

    Attributes
    ----------
    name : str
    prepare : callable
        Responses of one system, (stimulus, neuroid), to what is compared: an array whose first axis is the stimulus, and with ``pairs``
        the second too. Made once for each system; a permutation of stimuli only indexes it.
    score : callable
        Two prepared systems to a float; NaN where it is undefined. With ``inner``, of their inner product to a float.
    invariances : tuple of str
        Changes of either side that leave the score as it is, among ``"translate"`` (a constant added to each neuroid), ``"scale"`` (all
        multiplied by one number), ``"permute"`` (neuroids in another order), ``"rotate"`` (any orthogonal map) and ``"linear"`` (any
        invertible one).
    higher_is_alike : bool
        False for a distance.
    is_metric : bool
        A distance with d(x, x) = 0, symmetry and the triangle inequality; of a likeness, its arccosine is.
    symmetric : bool
        The score does not change when the sides change places.
    pairs : bool
        What is prepared is (stimulus, stimulus).
    inner : bool
        The score is a function of the sum of products of what is prepared.
    sums : bool
        It adds up over stimuli, so that half of them count double where half are drawn.
    trials : bool
        ``prepare`` takes single presentations, (stimulus, repeat, neuroid), with NaN where a stimulus has fewer.
    least : int
        Stimuli that it needs.
    grid : callable, optional
        Scores of all pairs of two lists of prepared systems, where that costs less than one after the other.
    directions : callable, optional
        How many directions of a system, (stimulus, neuroid), it uses, where a score says less the nearer these come to the stimuli in
        number, and with as many nothing: those of canonical correlations.
    distance : str, optional
        That of :func:`brainalign.engine.distances.pairwise_distances` which the metric begins with: by a correlation a stimulus to which all
        neuroids respond alike has none.
    kernel : KernelForm, optional
    of_features : SimilarityMetric, optional
        The same metric without a stimulus × stimulus matrix, for many stimuli and few neuroids.
    """

    name: str
    prepare: Callable[[Array], Array]
    score: Callable[..., float]
    invariances: tuple[str, ...]
    higher_is_alike: bool = True
    is_metric: bool = False
    symmetric: bool = True
    pairs: bool = False
    inner: bool = False
    sums: bool = False
    trials: bool = False
    least: int = 4
    grid: Callable[[Sequence[Array], Sequence[Array]], Numbers] | None = None
    directions: Callable[[Array], int] | None = None
    distance: str | None = None
    kernel: KernelForm | None = None
    of_features: SimilarityMetric | None = None


def full_name(name: str, *given: object, usual: tuple[object, ...]) -> str:
    """Return the name of a metric, with what is not as usual, so that results say it.

    Parameters
    ----------
    name : str
    *given : object
        Its parameters.
    usual : tuple
        Their defaults.

    Returns
    -------
    str

    Examples
    --------
    >>> full_name("mutual-knn", 10, usual=(10,)), full_name("mutual-knn", 5, usual=(10,))
    ('mutual-knn', 'mutual-knn-5')
    """
    return name if given == usual else "-".join([name, *(str(value) for value in given)])


def cheapest_form(
    metric: SimilarityMetric, n: int, first: Sequence[int], second: Sequence[int], *, halves: bool = False
) -> SimilarityMetric:
    """Return the metric in the form, of stimuli or of neuroids, that costs less to compare many times.

    Parameters
    ----------
    metric : SimilarityMetric
    n : int
        Stimuli.
    first, second : sequence of int
        Neuroids of each system on either side.
    halves : bool
        For :func:`half_scores`; else for :func:`permuted_scores`.

    Returns
    -------
    SimilarityMetric
        By the multiplications of either; of neuroids too where the kernels would take more than 2 GB.
    """
    if metric.of_features is None:
        return metric
    of_features, systems = float(n) * sum(first) * sum(second), len(first) + len(second)
    of_stimuli = _GATHER * float(n) ** 2 * min(len(first), len(second))
    if halves:
        of_features += float(n) * sum(p * p for p in (*first, *second))
        of_stimuli = 2 * float(n) ** 2 * (2 * systems + len(first) * len(second))
    return metric.of_features if of_features < of_stimuli or 8.0 * n**2 * systems > _KERNELS else metric


def grid_scores(metric: SimilarityMetric, first: Sequence[Array], second: Sequence[Array]) -> Numbers:
    """Score every prepared system of one side against every one of the other.

    Parameters
    ----------
    metric : SimilarityMetric
    first, second : sequence of ndarray
        From ``metric.prepare``.

    Returns
    -------
    ndarray of float64, (first, second)
    """
    if metric.grid is not None:
        return metric.grid(first, second)
    if not metric.inner:
        return np.array([[metric.score(a, b) for b in second] for a in first], dtype=np.float64)
    return _of_products(metric, _flat(first) @ _flat(second).T)


def permuted_scores(
    metric: SimilarityMetric, first: Sequence[Array], second: Sequence[Array], orders: Numbers, shown: Callable[[Any], Any] = iter
) -> Numbers:
    """Score again with the stimuli of the second side in other orders.

    Parameters
    ----------
    metric : SimilarityMetric
    first, second : sequence of ndarray
        From ``metric.prepare``, which is not repeated.
    orders : ndarray of int, (permutation, stimulus)
        One order is the same for all systems.
    shown : callable
        From an iterable to what goes along it with a bar.

    Returns
    -------
    ndarray of float64, (permutation, first, second)
    """
    swap = metric.pairs and len(first) < len(second)
    moving, still = (first, second) if swap else (second, first)
    if swap:  # fewer matrices to move, the other way
        orders = np.argsort(orders, axis=1)
    flat = _flat(still) if metric.inner else None

    def fill(out: Numbers, orders: Numbers) -> None:
        for scores, order in zip(out, orders, strict=True):
            index = order[:, None] * len(order) + order if metric.pairs else order  # into flat matrices: four times as fast
            moved = [x.take(index, axis=None if metric.pairs else 0) for x in moving]
            if flat is not None:
                products = _of_products(metric, flat @ _flat(moved).T)
                scores[...] = products.T if swap else products
            else:
                scores[...] = grid_scores(metric, *((moved, still) if swap else (still, moved)))

    return _of_draws(fill, orders, (first, second), shown)


def _of_draws(
    fill: Callable[[Numbers, Numbers], None], draws: Numbers, sides: tuple[Sequence[Array], ...], shown: Any
) -> Numbers:
    """Return scores, (draw, first, second), some draws being filled in by one worker: each draw by itself would ask for its memory anew."""
    out, one = np.empty((len(draws), *map(len, sides))), sides[0][0]
    workers = n_workers(one) if one.size > _WORTH else 1
    pieces = even_slices(len(draws), max(1, min(_DRAWS, len(draws) // workers)))
    side_by_side(lambda some: fill(out[some], draws[some]), pieces, workers, shown)
    return out


def _narrowed(x: Array) -> Array:
    """Turn more neuroids than stimuli into the space that the stimuli span."""
    return np.asarray(np.linalg.qr(cast(x, "float64").T, mode="r")).T if x.shape[1] > len(x) else x


def _flat(systems: Sequence[Array]) -> Numbers:
    return np.stack([x.ravel() for x in systems])


def _of_products(metric: SimilarityMetric, products: Numbers) -> Numbers:
    return np.asarray(np.vectorize(metric.score, otypes=[np.float64])(products))


def p_of_orders(score: Numbers, null: Numbers, *, higher_is_alike: bool) -> tuple[Numbers, Numbers]:
    """Return how often other orders of the stimuli make systems as alike, cell by cell and for all cells together.

    Parameters
    ----------
    score : ndarray, (...)
    null : ndarray, (permutation, ...)
        From :func:`permuted_scores`; one permutation is the same order in all cells.
    higher_is_alike : bool

    Returns
    -------
    p, p_of_maximum : ndarray of float64, (...)
        The second against the most alike cell of each permutation. Chance differs with the size of a cell, so that cells are brought to
        one mean and one spread over all orders, the given one being one of them.
    """
    sign = 1.0 if higher_is_alike else -1.0
    both = sign * np.concatenate([score[None], null])
    spread = both.std(axis=0)
    z = (both - both.mean(axis=0)) / np.where(spread > 0, spread, np.nan)
    tied = both[0] - _TIE * np.abs(both[0])
    return p_values(tied, both[1:]), p_of_the_maximum(z[0] - _TIE * np.abs(z[0]), z[1:])


def half_scores(
    metric: SimilarityMetric, first: Sequence[Array], second: Sequence[Array], halves: Numbers, shown: Callable[[Any], Any] = iter
) -> Numbers:
    """Score again from random halves of the stimuli, everything prepared anew.

    Parameters
    ----------
    metric : SimilarityMetric
    first, second : sequence of ndarray
        Responses, as ``metric.prepare`` takes them.
    halves : ndarray of bool, (draw, stimulus)
        The same stimuli for all systems.
    shown : callable
        From an iterable to what goes along it with a bar; kernels are compared in all draws at once, and have none.

    Returns
    -------
    ndarray of float64, (draw, first, second)
    """
    if metric.kernel is not None:
        K, L = ([metric.kernel.kernel(x) for x in side] for side in (first, second))
        products = subset_alignments(K, L, halves.astype(np.float64), unbiased=metric.kernel.unbiased)
        return _of_products(metric, products)
    if "rotate" in metric.invariances and not metric.trials:
        first, second = ([_narrowed(x) for x in side] for side in (first, second))

    def fill(out: Numbers, halves: Numbers) -> None:
        for scores, rows in zip(out, halves, strict=True):
            scale = rows.mean() ** -0.5 if metric.sums else 1.0
            a, b = ([metric.prepare(x[rows] * scale) for x in side] for side in (first, second))
            scores[...] = grid_scores(metric, a, b)

    return _of_draws(fill, halves, (first, second), shown)


def share_to_draw(metric: SimilarityMetric, systems: Iterable[Array]) -> float:
    """Return the share of the stimuli whose scores tell how much a score varies: a half of those beyond what a metric uses up.

    Parameters
    ----------
    metric : SimilarityMetric
    systems : iterable of ndarray, (stimulus, ...)
        All that are compared with each other.

    Returns
    -------
    float
        One half, but for metrics with ``directions``: where a half has hardly more stimuli than a system has directions, its scores vary
        too little, and with fewer there are none.
    """
    if metric.directions is None:
        return 0.5
    found = [(metric.directions(x), len(x)) for x in systems]
    return max([0.5, *((n + k + 1) // 2 / n for k, n in found if k < n - 1)])


def draw_halves(units: Numbers, n_draws: int, rng: np.random.Generator, share: float = 0.5) -> Numbers:
    """Draw random halves of some units, or another share of them, without replacement.

    Parameters
    ----------
    units : ndarray of int, (stimulus,)
        What is drawn as one: each stimulus by itself, or stretches of a recording in time.
    n_draws : int
    rng : Generator
    share : float

    Returns
    -------
    ndarray of bool, (draw, stimulus)
    """
    codes = np.unique(units, return_inverse=True)[1]
    n = codes.max() + 1
    drawn = rng.permuted(np.tile(np.arange(n) < int(share * n + 1e-9), (n_draws, 1)), axis=1)
    return np.asarray(drawn[:, codes])


def spread_of_halves(score: Numbers, halves: Numbers, share: float = 0.5) -> Numbers:
    """Return draws around a score whose spread is that of other stimuli, from the scores of halves of these.

    Parameters
    ----------
    score : ndarray, (...)
    halves : ndarray, (draw, ...)
        From :func:`half_scores`.
    share : float
        Of the stimuli that are in each draw.

    Returns
    -------
    ndarray of float64, (draw, ...)

    Notes
    -----
    A mean over m of n values drawn without replacement varies by σ²(1/m − 1/n), which for half of them is the σ²/n of n new values, and
    for a share s is brought to it by s / (1 − s). Draws are moved to have the score as their mean, since most metrics have a bias that
    halves change.
    """
    return np.asarray(score + np.sqrt(share / (1 - share)) * (halves - halves.mean(axis=0)))
