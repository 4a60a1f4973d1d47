"""Ridge regression for many targets, each with the best of many alphas, from one eigendecomposition.

The parts are :mod:`~brainalign.engine.factor` (the decomposition), :mod:`~brainalign.engine.heldout` (exact held-out errors at one
alpha) and :mod:`~brainalign.engine.screening` (at which alphas they are worth having). Targets are worked on in tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, even_slices, like, move, to_numpy
from brainalign.engine.factor import FixedRidge, RidgeFactor, coefficients, factorise, fixed_ridge, shrink
from brainalign.engine.gram import column_mean, deviation, standardised
from brainalign.engine.heldout import HeldOut
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import n_workers, one_thread_each, side_by_side, working_memory
from brainalign.engine.ridge_folds import Splits
from brainalign.engine.screening import best, search_losses

__all__ = [
    "FixedRidge", "RidgeFactor", "RidgeSolution", "RidgeSource", "Splits", "coefficients", "factorise", "fixed_ridge", "ridge_source",
    "solve_ridge",
]  # fmt: skip

_LEAST = 256  # targets that are worth a thread of their own


@dataclass(frozen=True)
class RidgeSolution:
    """Fitted weights, one alpha a target.

    Attributes
    ----------
    source_mean, target_mean : ndarray of float64
        Prediction is ``(X - source_mean) @ coef + target_mean``.
    alpha_index : ndarray of int, (target,)
        Position in ``alphas``.
    heldout_score : ndarray of float64, (alpha, target), or None
        The criterion over held-out rows; NaN where the search did not evaluate it, or where it is undefined.
    search_loss : float
        By how much the best of all alphas beats the one that the search found, at worst among the targets that were verified; NaN
        without verification.
    weights : ndarray, (column, target) or (row, target)
        In the working dtype: of columns, or of rows where there are more columns than rows.
    rows : ndarray, (row, column), or None
        The centred source, in the latter case.
    largest : float
        Eigenvalue of the centred source's Gram matrix.
    """

    source_mean: Numbers
    target_mean: Numbers
    alpha_index: Numbers
    heldout_score: Numbers | None
    search_loss: float
    weights: Numbers
    rows: Numbers | None
    largest: float

    @property
    def coef(self) -> Numbers:
        """Weights of columns, (column, target)."""
        return self.weights if self.rows is None else self.rows.T @ self.weights


@dataclass(frozen=True)
class RidgeSource:
    """What is made of a source alone, and serves all its targets. Made by :func:`ridge_source`.

    Attributes
    ----------
    factor : RidgeFactor
    held : HeldOut or None
        The operators of the folds, which are made when an alpha is first asked for.
    fit_intercept : bool
    weights : ndarray of float64, (row,), or None
    device : str
    memory : float
        Bytes to work with.
    workers : int
        Tiles of targets that are worked on side by side.
    """

    factor: RidgeFactor
    held: HeldOut | None
    fit_intercept: bool
    weights: Numbers | None
    device: str
    memory: float
    workers: int

    def solve(
        self,
        Y: Array,
        alphas: Sequence[float] | Numbers,
        *,
        search: str = "all",
        verify: float = 0.0,
        target_batch: int | None = None,
        seed: int = 0,
    ) -> RidgeSolution:
        """Fit ridge regression with the alpha that serves each target best on held-out rows.

        Parameters
        ----------
        Y : ndarray or Tensor, (row, target)
            Finite, and varying.
        alphas : sequence of float
            Ascending, non-negative; scikit-learn's convention Σ(y − Xb)² + α‖b‖². 0 gives the minimum-norm fit. More than one needs
            folds.
        search : {"screen", "all"}
            Exact scores around the alpha that generalised cross-validation suggests, climbing to the best; or at every alpha.
        verify : float
            Share of the targets for which every alpha is evaluated after the search, to see what it missed.
        target_batch : int, optional
            Targets worked on at a time; changes memory, not results. Default: as many as fit.
        seed : int
            Of the choice of targets to verify.

        Returns
        -------
        RidgeSolution
        """
        factor, held, grid = self.factor, self.held, np.asarray(alphas, dtype=np.float64)
        (n, p), t, dtype = factor.centred.shape, Y.shape[1], dtype_name(factor.centred)
        checked = np.random.default_rng(seed).permutation(t) < np.ceil(verify * t)
        index, scores, missed = np.zeros(t, dtype=np.int64), np.full((len(grid), t), np.nan), np.zeros(t)
        out, means, left = np.empty((n if p > n else p, t), dtype=dtype), np.empty(t), cast(factor.left, dtype)
        share = 4 if self.workers == 1 else 6  # what workers have under way at a time takes memory too
        batch, tiles = target_batch or _fitting(factor, held, self.memory / share), max(1, min(self.workers, t // _LEAST))

        def fit(some: slice) -> None:
            y, means[some], scale = _unit_targets(move(Y[:, some], self.device), self.fit_intercept, self.weights, dtype)
            if held is None:
                rotated = left.T @ y
            else:
                tile = held.prepare(y, self.workers // tiles)
                rotated = tile.rotated
                found, exhaustive = search_losses(held, tile, grid, screen=search == "screen", checked=checked[some])
                index[some], scores[:, some] = best(found), held.score(found, tile, scale)
                missed[some] = _missed(held.score(exhaustive, tile, scale), scores[:, some])
            shrunk = shrink(factor, rotated, grid[index[some]])
            shrunk *= cast(like(scale, left), dtype)
            out[:, some] = to_numpy(_weights(factor, left, shrunk, dual=p > n))

        with one_thread_each(self.workers):
            side_by_side(fit, even_slices(t, -(-batch // tiles), tiles), tiles)
        return RidgeSolution(
            source_mean=to_numpy(factor.mean),
            target_mean=means,
            alpha_index=index,
            heldout_score=None if held is None else scores,
            search_loss=float(missed[checked].max(initial=0.0)) if checked.any() and held is not None else np.nan,
            weights=out,
            rows=to_numpy(factor.centred) if p > n else None,
            largest=float(factor.eigenvalues.max()) if len(factor.eigenvalues) else 0.0,
        )


def ridge_source(
    X: Array,
    splits: Splits | None = None,
    *,
    fit_intercept: bool = True,
    criterion: str = "r2",
    standardize: bool = False,
    weights: Numbers | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    max_memory: float | None = None,
    factor: RidgeFactor | None = None,
) -> RidgeSource:
    """Decompose a source once, for the fits of any number of targets.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
        Finite.
    splits : sequence of (ndarray of int, ndarray of int), optional
        Train and test rows of each fold; needed for more than one alpha.
    fit_intercept : bool
        Unpenalised, and fitted anew in every fold.
    criterion : {"r2", "mse", "pearson"}
        1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)², minus the mean squared error, or the correlation; sums are pooled over folds, and those
        of the correlation taken around each fold's means.
    standardize : bool
        Divide columns by their deviation over the training rows of each fold. Every fold is then decomposed on its own. The
        source as a whole is taken as it is.
    weights : ndarray of float64, (row,), optional
        Positive; an integer weight is that many copies of the row.
    device : str
    dtype : {"float32", "float64"}
        Of the products over targets. Decompositions and fold operators are float64.
    max_memory : float, optional
        Bytes that operators and tiles of targets may take beside inputs and outputs. Default 512 MB; a quarter of the free memory
        on other devices.
    factor : RidgeFactor, optional
        The decomposition of ``X``, where it is known, of the dual form if it has as many columns as :func:`smallest_fit` has rows.

    Returns
    -------
    RidgeSource
    """
    X = move(X, device)
    memory, workers = working_memory(X, max_memory), n_workers(X)
    if factor is None:
        complete = X.shape[1] >= smallest_fit(len(X), splits)
        factor = factorise(X, fit_intercept=fit_intercept, dtype=dtype, complete=complete, weights=weights)
    held = None
    if splits is not None:
        held = HeldOut(
            factor, splits, fit_intercept=fit_intercept, weights=weights, criterion=criterion, standardize=standardize,
            max_memory=memory / 2, workers=workers,
        )  # fmt: skip
    return RidgeSource(factor, held, fit_intercept, weights, device, memory, workers)


def solve_ridge(
    X: Array,
    Y: Array,
    alphas: Sequence[float] | Numbers,
    splits: Splits | None = None,
    *,
    search: str = "all",
    verify: float = 0.0,
    target_batch: int | None = None,
    seed: int = 0,
    **source: Any,
) -> RidgeSolution:
    """Fit the targets of a source that is wanted once.

    Parameters
    ----------
    X, splits, **source
        As in :func:`ridge_source`.
    Y, alphas, search, verify, target_batch, seed
        As in :meth:`RidgeSource.solve`.

    Returns
    -------
    RidgeSolution
    """
    made = ridge_source(X, splits, **source)
    return made.solve(Y, alphas, search=search, verify=verify, target_batch=target_batch, seed=seed)


def smallest_fit(n: int, splits: Splits | None) -> int:
    """Return the number of rows of the smallest fit: with as many columns, the dual form serves all folds best.

    Parameters
    ----------
    n : int
        Rows in all.
    splits : sequence of (train rows, test rows), or None

    Returns
    -------
    int
    """
    return min([n, *(int(np.count_nonzero(np.bincount(train))) for train, _ in splits or ())])


def _unit_targets(Y: Array, fit_intercept: bool, weights: Numbers | None, dtype: str) -> tuple[Array, Numbers, Numbers]:
    """Return targets centred, near unit variance (1e-13 T squared is nothing in float32) and times √w; means; scales.

    Scales are powers of two, by which nothing is rounded.
    """
    wide = None if weights is None else like(weights, Y)
    mean = column_mean(Y, wide) if fit_intercept else 0 * cast(Y[0], "float64")
    spread = to_numpy(deviation(Y, mean, wide))
    scale = np.exp2(np.round(np.log2(np.where(spread > 0, spread, 1.0))))
    root = None if wide is None else wide**0.5
    return standardised(Y, mean, dtype, scale=like(scale, Y), root=root), to_numpy(mean), scale


def _weights(factor: RidgeFactor, left: Array, shrunk: Array, *, dual: bool) -> Array:
    if factor.basis is not None:
        return cast(factor.basis, dtype_name(shrunk)) @ shrunk
    return left @ shrunk if dual else factor.centred.T @ (left @ shrunk)


def _missed(exhaustive: Numbers, found: Numbers) -> Numbers:
    """Return by how much the best score of all alphas beats that of the alphas that were searched."""
    highest, reached = (np.fmax.reduce(scores, axis=0) for scores in (exhaustive, found))
    return np.where(np.isnan(reached), 0.0, highest - reached)


def _fitting(factor: RidgeFactor, held: HeldOut | None, memory: float) -> int:
    """Return how many targets fit into some memory: their rows, rotations, and what the folds need, with as much to spare for a search."""
    n, k = factor.left.shape
    values = 3 * (n + k) + 2 * (0 if held is None else held.values_per_target)
    return max(64, int(memory / (values * factor.centred.itemsize)))
