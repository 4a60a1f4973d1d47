"""Banded ridge regression: every target gets a penalty for each group of columns.

A candidate γ on the simplex weighs the bands; ridge regression on the weighted columns √(γ_b s_b) X_b has the penalty
α / (γ_b s_b) on band b, where s_b brings the bands to one total variance. All candidates share the Gram matrices and the
products with the targets, and are compared at every alpha by generalised cross-validation; only a few that
differ in which bands take part are scored on held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np

from brainalign.engine.backend import (
    Array,
    cast,
    columns_of,
    dtype_name,
    even_slices,
    like,
    move,
    namespace,
    rows_of,
    to_numpy,
)
from brainalign.engine.factor import RidgeFactor, coefficients, factorise
from brainalign.engine.gram import column_gram, column_mean, deviation, eigh, null_floor, row_gram, standardised, wide_matmul
from brainalign.engine.heldout import HeldOut
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, one_thread_each, side_by_side, working_memory
from brainalign.engine.ridge_folds import Splits
from brainalign.engine.screening import best, search_losses
from brainalign.engine.simplex import finalists, midpoints, simplex_lattice

_ROUND = 10  # candidates added at a time
_GAIN = 1e-4  # in mean log GCV: what a round must bring for another to follow


@dataclass(frozen=True)
class BandedSolution:
    """Fitted weights, one alpha and one weight a band for each target.

    Attributes
    ----------
    coef : ndarray, (column, target)
        In the working dtype; exactly 0 in bands of weight 0.
    source_mean, target_mean : ndarray of float64
        Prediction is ``(X - source_mean) @ coef + target_mean``.
    alpha_index : ndarray of int, (target,)
    candidate_index : ndarray of int, (target,)
    candidates : ndarray of float64, (candidate, band)
        γ of all that were compared.
    scale : ndarray of float64, (band,)
        s: mean over bands of the summed variance, divided by that of the band.
    heldout_r2 : ndarray of float64, (target,)
        1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)² over held-out rows; NaN without a choice, or where no fold has two rows that differ.
    """

    coef: Numbers
    source_mean: Numbers
    target_mean: Numbers
    alpha_index: Numbers
    candidate_index: Numbers
    candidates: Numbers
    scale: Numbers
    heldout_r2: Numbers


def solve_banded(
    X: Array,
    Y: Array,
    bands: Sequence[Numbers],
    alphas: Numbers | Sequence[float],
    splits: Splits | None,
    candidates: Numbers | int,
    *,
    search: str = "screen",
    fit_intercept: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    target_batch: int | None = None,
    max_memory: float | None = None,
) -> BandedSolution:
    """Fit banded ridge regression with the weights and the alpha that serve each target best on held-out rows.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
        Finite.
    Y : ndarray or Tensor, (row, target)
        Finite, and varying.
    bands : sequence of ndarray of int
        The columns of each band.
    alphas : sequence of float
        Ascending, non-negative.
    splits : sequence of (train rows, test rows), optional
        Needed where there is anything to choose.
    candidates : ndarray of float64, (candidate, band), or int
        Rows that add up to 1; or how many to try, from a lattice that is refined where targets ask for it.
    search : {"screen", "all"}
        Score on held-out rows what generalised cross-validation leaves in the race, or every candidate and alpha.
    fit_intercept : bool
    device : str
    dtype : {"float32", "float64"}
        Of the products over targets. Decompositions are float64.
    target_batch : int, optional
        Targets worked on at a time. Default: as many as fit.
    max_memory : float, optional
        Bytes that tiles of targets, decompositions that are kept and fold operators may take beside inputs and outputs. Default
        512 MB; a quarter of the free memory on other devices.

    Returns
    -------
    BandedSolution
    """
    X, Y, alphas = move(X, device), move(Y, device), np.array(alphas, dtype=np.float64)
    memory, workers = working_memory(X, max_memory), n_workers(X)
    source = _Source.of(X, bands, fit_intercept, dtype, memory / 2)
    mean = column_mean(Y) if fit_intercept else 0 * cast(Y[0], "float64")
    spread = to_numpy(deviation(Y, mean))
    spread = np.where(spread > 0, spread, 1.0)
    values = standardised(Y, mean, dtype, scale=like(spread, Y))
    tiles = even_slices(Y.shape[1], -(-(target_batch or max(64, int(memory / (64 * len(X))))) // workers))
    race = _Race(source, [columns_of(values, tile) for tile in tiles], alphas, workers)
    with one_thread_each(workers):
        if isinstance(candidates, int):
            race.refine(candidates)
        elif len(candidates) > 1:
            race.run(candidates)
    tried = race.tried if len(race.tried) else np.asarray(candidates)
    every = search == "all" or len(tried) == 1
    entries = np.ones((len(tried), Y.shape[1]), dtype=bool) if every else finalists(tried, race.loss)
    fit, left = _Best(X.shape[1], Y.shape[1], dtype), np.flatnonzero(entries.any(axis=1)).tolist()
    beside = max(1, min(workers, len(left)))
    held_out = partial(HeldOut, fit_intercept=fit_intercept, max_memory=memory / 4 / beside, workers=workers)

    def score(k: int) -> None:
        factor = source.factor(tried[k], splits)
        held = None if splits is None else held_out(factor, splits)
        for tile in tiles:
            targets = np.flatnonzero(entries[k, tile]) + tile.start
            if len(targets):
                y = columns_of(values, targets)
                found = _Found.of(factor, held, y, alphas, screen=not every, workers=workers // beside)
                fit.update(k, targets, found, factor, alphas, *source.weighted(tried[k]))

    with one_thread_each(workers):
        side_by_side(score, left, beside)
    return BandedSolution(
        coef=fit.coef * spread.astype(dtype),
        source_mean=to_numpy(source.mean),
        target_mean=to_numpy(mean),
        alpha_index=fit.alpha,
        candidate_index=fit.candidate,
        candidates=tried,
        scale=source.scale,
        heldout_r2=fit.r2,
    )


@dataclass(frozen=True)
class _Source:
    """What all candidates share: the Gram matrix over columns, or one over rows for each band."""

    mean: Array
    values: Array  #: centred
    bands: Sequence[Numbers]
    scale: Numbers
    gram: Array  #: (column, column), or (band, row, row)
    fit_intercept: bool
    max_kept: float  #: bytes of decompositions that wait for the held-out rows
    kept: dict[bytes, tuple[Array, Array]] = field(default_factory=dict)

    @classmethod
    def of(cls, X: Array, bands: Sequence[Numbers], fit_intercept: bool, dtype: str, max_kept: float) -> _Source:
        mean = column_mean(X) if fit_intercept else 0 * cast(X[0], "float64")
        values, power = standardised(X, mean, dtype), to_numpy(deviation(X, mean)) ** 2
        total = np.array([power[columns].sum() for columns in bands])
        scale = np.divide(total.mean(), total, out=np.ones(len(bands)), where=(total > 0) & (len(bands) > 1))
        n, p = X.shape
        if p < n:
            return cls(mean, values, bands, scale, column_gram(values), fit_intercept, max_kept)
        grams = [row_gram(columns_of(values, columns)) for columns in bands]
        return cls(mean, values, bands, scale, namespace(X).stack(grams), fit_intercept, max_kept)

    @property
    def n_free(self) -> int:
        """Directions in which rows can differ."""
        return len(self.values) - self.fit_intercept

    def weighted(self, gamma: Numbers) -> tuple[Numbers, Numbers]:
        """Return the columns of bands that have any weight, and what each is multiplied by."""
        active = [b for b in range(len(self.bands)) if gamma[b] > 0 and len(self.bands[b])]
        if not active:  # a band that lost all its columns: a column of zeros stands for it
            return np.arange(1), np.zeros(1)
        columns = np.concatenate([self.bands[b] for b in active])
        return columns, np.concatenate([np.full(len(self.bands[b]), (gamma[b] * self.scale[b]) ** 0.5) for b in active])

    def decompose(self, gamma: Numbers) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors of the weighted columns, or rows; rounding is left out of the former."""
        if gamma.tobytes() in self.kept:
            return self.kept[gamma.tobytes()]
        if self.gram.ndim == 3:
            gram = (like(gamma * self.scale, self.gram)[:, None, None] * self.gram).sum(0)
            if self.fit_intercept:  # the constant direction comes last, and is dropped, instead of mixing with others
                trace = float(namespace(gram).trace(gram))
                gram = gram + (2 * trace if trace > 0 else 1.0) / len(gram)
            values, vectors = eigh(gram)
            values, vectors = values[: self.n_free], vectors[:, : self.n_free]
            found = values * (values > 0), vectors
        else:
            columns, root = self.weighted(gamma)
            wide = like(root, self.gram)
            values, vectors = eigh(rows_of(rows_of(self.gram, columns).T, columns) * wide[:, None] * wide[None, :])
            keep = values > null_floor(values, self.values)
            found = values[keep], vectors[:, keep]
        size = sum(part.nbytes for part in found)
        if size * (len(self.kept) + 1) <= self.max_kept:
            self.kept[gamma.tobytes()] = found
        return found

    def factor(self, gamma: Numbers, splits: Splits | None) -> RidgeFactor:
        """Return the decomposition of the weighted columns, as if they were a source of their own."""
        columns, root = self.weighted(gamma)
        dtype = dtype_name(self.values)
        source = columns_of(self.values, columns) * cast(like(root, self.values), dtype)[None, :]
        few = splits is not None and any(len(train) <= len(columns) for train, _ in splits)
        if self.gram.ndim == 2 and few:  # only U that spans all rows survives a small alpha
            return factorise(source, fit_intercept=self.fit_intercept, dtype=dtype, complete=True)
        values, vectors = self.decompose(gamma)
        floor = null_floor(values, self.values)
        if self.gram.ndim == 3:
            return RidgeFactor(0 * source[0], source, vectors, None, values, floor)
        return RidgeFactor(0 * source[0], source, wide_matmul(source, vectors / values**0.5), vectors, values, floor)


class _Race:
    """Candidates compared on all rows by generalised cross-validation, at every alpha.

    ``loss`` is (candidate, target), the smallest log GCV over alphas.
    """

    def __init__(self, source: _Source, tiles: list[Array], alphas: Numbers, workers: int) -> None:
        self.source, self.alphas, self.workers, dual = source, alphas, workers, source.gram.ndim == 3
        self.products = tiles if dual else [source.values.T @ tile for tile in tiles]
        self.norms = [cast((tile * tile).sum(0), "float64") for tile in tiles]
        self.tried, self.loss = np.zeros((0, len(source.bands))), np.zeros((0, sum(tile.shape[1] for tile in tiles)))

    def run(self, candidates: Numbers) -> None:
        """Compare more candidates."""
        self.loss = np.concatenate([self.loss, side_by_side(self._screen, candidates, self.workers)])
        self.tried = np.concatenate([self.tried, candidates])

    def refine(self, n_candidates: int) -> None:
        """Compare a lattice, then the midpoints between the two best of each target, those first that most targets ask for."""
        lattice = simplex_lattice(self.tried.shape[1], n_candidates)
        if len(lattice) == 1:
            self.tried = lattice
            return
        self.run(lattice)
        gain = np.inf
        while gain > _GAIN and len(self.tried) < n_candidates:
            new = midpoints(self.tried, self.loss)[: min(_ROUND, n_candidates - len(self.tried))]
            if not len(new):
                return
            before = self.loss.min(axis=0)
            self.run(new)
            gain = float((before - self.loss.min(axis=0)).mean())

    def _screen(self, gamma: Numbers) -> Numbers:
        values, turn = self.source.decompose(gamma)
        columns = None
        if self.source.gram.ndim == 2:  # T = UᵀY from XᵀY, which has fewer rows
            columns, root = self.source.weighted(gamma)
            turn = like(root, turn)[:, None] * turn / values**0.5
        eigenvalues, penalties = to_numpy(values), self.alphas[:, None]
        null = eigenvalues <= null_floor(values, self.source.values)
        kept = (penalties + null) / (eigenvalues * ~null + penalties + null)  # of each direction's residual
        free = np.maximum(self.source.n_free - len(eigenvalues) + kept.sum(axis=1), 1e-9)
        losses = [np.empty(0)]
        for product, norm in zip(self.products, self.norms, strict=True):
            dtype = dtype_name(product)
            rotated = cast(turn, dtype).T @ (product if columns is None else rows_of(product, columns))
            energy = rotated * rotated
            outside = norm - cast(energy.sum(0), "float64") if len(eigenvalues) < self.source.n_free else 0 * norm
            residual = cast(cast(like(kept**2, turn), dtype) @ energy, "float64") + outside * (outside > 0)
            losses.append((np.log(np.maximum(to_numpy(residual), 1e-300)) - 2 * np.log(free)[:, None]).min(axis=0))
        return np.concatenate(losses)


@dataclass(frozen=True)
class _Found:
    """Some targets' best alpha at one candidate, its squared error and R² on held-out rows, and their rotation."""

    alpha: Numbers
    error: Numbers
    r2: Numbers
    rotated: Array

    @classmethod
    def of(cls, factor: RidgeFactor, held: HeldOut | None, y: Array, alphas: Numbers, *, screen: bool, workers: int) -> _Found:
        t = y.shape[1]
        if held is None:
            nothing = np.full(t, np.nan)
            return cls(np.zeros(t, dtype=np.int64), np.zeros(t), nothing, cast(factor.left, dtype_name(y)).T @ y)
        tile = held.prepare(y, workers)
        losses, _ = search_losses(held, tile, alphas, screen=screen, checked=np.zeros(t, dtype=bool))
        index = best(losses)
        error = losses[index, np.arange(t)]
        return cls(index, error, held.score(error[None], tile, np.ones(t))[0], tile.rotated)


class _Best:
    """The best fit of each target so far."""

    def __init__(self, n_columns: int, n_targets: int, dtype: str) -> None:
        self.coef = np.zeros((n_columns, n_targets), dtype=dtype)
        self.error, self.r2 = np.full(n_targets, np.inf), np.full(n_targets, np.nan)
        self.alpha, self.candidate = np.zeros(n_targets, dtype=np.int64), np.zeros(n_targets, dtype=np.int64)
        self.lock = Lock()

    def update(
        self, k: int, targets: Numbers, found: _Found, factor: RidgeFactor, alphas: Numbers, columns: Numbers, root: Numbers
    ) -> None:
        """Take candidate ``k`` for those targets that it serves better than all others, the first of those that tie."""
        some = np.flatnonzero(found.error <= self.error[targets])  # errors fall only: none is missed that another worker is at
        fitted = to_numpy(coefficients(factor, columns_of(found.rotated, some), alphas[found.alpha[some]]))
        fitted = fitted * root[:, None].astype(self.coef.dtype)
        with self.lock:
            at, error = targets[some], found.error[some]
            won = (error < self.error[at]) | ((error == self.error[at]) & (k < self.candidate[at]))
            some, at = some[won], at[won]
            self.coef[:, at] = 0
            self.coef[np.ix_(columns, at)] = fitted[:, won]
            self.error[at], self.r2[at] = found.error[some], found.r2[some]
            self.alpha[at], self.candidate[at] = found.alpha[some], k
