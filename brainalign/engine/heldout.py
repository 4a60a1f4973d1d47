"""Errors of held-out rows, pooled over folds: the loss that alphas are compared by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, is_torch, namespace, rows_of, sum_of_products, to_numpy
from brainalign.engine.factor import RidgeFactor
from brainalign.engine.moments import ROUNDING, Numbers
from brainalign.engine.ridge_folds import Group, Refitted, Source, Splits, Training, group_folds

_BUFFER = 2**22  # held-out values that are worked on at a time
_ROWS = 1024  # products of float32 that are summed before the sum goes on in float64
_FEW = (
    16  # Products of fewer targets are rounded in another way: which alpha is best would depend on who is asked for beside them.
)


@dataclass
class HeldTile:
    """Some targets, as the folds need them.

    Attributes
    ----------
    rotated : array, (k, target)
        T = UᵀY.
    norm : ndarray of float64, (target,)
        Σy².
    spread : ndarray of float64, (target,)
        Σ_f Σ(y−ȳ_f)² over test rows; 0 where it is rounding.
    truths, moving : list of arrays, (fold, target, row)
        For each group of folds: the test rows, and what its operators are applied to.
    workers : int
        Threads that make an operator for it.
    """

    rotated: Array
    norm: Numbers
    spread: Numbers
    truths: list[Array]
    moving: list[Array]
    workers: int


class HeldOut:
    """The held-out errors of every target at any alpha, as if each fold were fitted anew.

    Parameters
    ----------
    factor : RidgeFactor
        Of all rows.
    splits : sequence of (train rows, test rows)
        Folds need not cover all rows, and may overlap; what a fold neither trains on nor tests is a gap. Folds that train on a
        row twice, and those that train on few rows, are decomposed on their own.
    fit_intercept : bool
    weights : ndarray of float64, (row,), optional
        As given to the factor; positive.
    criterion : {"r2", "mse", "pearson"}
        The first two have the loss Σ(y−ŷ)²; the third −r, pooled over folds around each fold's means.
    standardize : bool
        Divide the columns by their deviation over the training rows of each fold, which is then decomposed on its own.
    max_memory : float
        Bytes of fold operators that are kept for the next tile.
    workers : int
        Threads that ask for losses at a time; what each works with is smaller by that.
    """

    def __init__(
        self,
        factor: RidgeFactor,
        splits: Splits,
        *,
        fit_intercept: bool = True,
        weights: Numbers | None = None,
        criterion: str = "r2",
        standardize: bool = False,
        max_memory: float = 2.0**28,
        workers: int = 1,
    ) -> None:
        source = Source(factor, fit_intercept, weights, standardize, workers)
        self.groups = group_folds(source, splits)
        self.factor, self.fit_intercept, self.criterion = factor, fit_intercept, criterion
        self.root, self.max_memory = source.root, max_memory
        self.n_test = float(sum(len(test) if weights is None else weights[test].sum() for _, test in splits))
        self._left = cast(factor.left, source.dtype)
        self._rounding = (ROUNDING * float(np.finfo(source.dtype).eps)) ** 2  # of squares
        tested = np.concatenate([group.removed.ravel() for group in self.groups])
        whole = len(tested) == len(np.unique(tested)) == len(factor.centred)
        self._adds_up = whole and all(isinstance(group, Training) for group in self.groups)
        self._operators: dict[float, list[tuple[Array, ...]]] = {}
        self._making: defaultdict[float, Lock] = defaultdict(Lock)
        self._buffer = _BUFFER // workers

    @property
    def values_per_target(self) -> int:
        """Numbers that a tile holds of each target."""
        return sum(group.tested.size + group.n_moving for group in self.groups)

    def prepare(self, Y: Array, workers: int = 1) -> HeldTile:
        """Bring some targets into the form that the folds need.

        Parameters
        ----------
        Y : array, (row, target)
            Centred, and multiplied by √w.
        workers : int
            As in the tile.

        Returns
        -------
        HeldTile
        """
        turned = [group.turn(Y) for group in self.groups]
        k = self._left.shape[1]  # where folds divide the rows, the rotations of their rows add up to that of all
        rotated = sum(part.sum(0)[:, :k] for part in turned) if self._adds_up else Y.T @ self._left
        moving = [group.move(part, rotated) for group, part in zip(self.groups, turned, strict=True)]
        truths = [group.truth(Y) for group in self.groups]
        norm = to_numpy(sum_of_products(Y, Y))
        spread = np.zeros(Y.shape[1])
        for group, truth in zip(self.groups, truths, strict=True):
            apart = self._fold_centred(group, truth)
            spread += _sum_of_products(apart, apart)
        return HeldTile(rotated.T, norm, np.where(spread > self._rounding * norm, spread, 0.0), truths, moving, workers)

    def unfitted(self, tile: HeldTile) -> Numbers:
        """Return Σ_f Σ(y−ŷ)² over test rows as α → ∞: ŷ is the mean of the other rows, or 0 without an intercept.

        Parameters
        ----------
        tile : HeldTile

        Returns
        -------
        ndarray of float64, (target,)
        """
        out = np.zeros(len(tile.norm))
        for group, truth in zip(self.groups, tile.truths, strict=True):
            out += _sum_of_products(truth, truth)
            if isinstance(group, Refitted) or not self.fit_intercept:
                continue  # the mean is off already, or stays
            constant = group.along(cast(group.source.constant(group.tested), dtype_name(truth)))
            share, along = (to_numpy((constant * x).sum(-1)) for x in (constant, group.by_fold(truth)))
            out += ((2 - share) / (1 - share) ** 2 * along**2).sum((0, 2))
        return out

    def loss(self, tile: HeldTile, alpha: float, columns: Numbers | slice) -> Numbers:
        """Return what is to be small, for some targets of a tile at one alpha.

        Parameters
        ----------
        tile : HeldTile
        alpha : float
        columns : slice or ndarray of int

        Returns
        -------
        ndarray of float64, (chosen target,)
            Σ(y−ŷ)², or −r, which is NaN where the target or its prediction does not vary within any fold.
        """
        if not isinstance(columns, slice) and 0 < len(columns) < _FEW:
            return self.loss(tile, alpha, np.resize(columns, _FEW))[: len(columns)]
        buffer = _BUFFER * 16 if is_torch(tile.rotated) else self._buffer  # tensors may be on a device
        step = max(64, buffer // sum(group.tested.size for group in self.groups))
        operators = self._operators_at(alpha, tile.workers)
        return np.concatenate([np.empty(0), *(self._loss(tile, operators, some) for some in _pieces(columns, step))])

    def in_turn(self, alphas: Numbers, wanted: Iterable[int]) -> Iterator[int]:
        """Return positions of alphas in an order in which workers need not wait for one another.

        Parameters
        ----------
        alphas : ndarray of float64, (alpha,)
        wanted : iterable of int
            Positions in them.

        Yields
        ------
        int
            First those whose operators are there, last those that another worker is making.
        """
        left = list(wanted)
        while left:
            left.sort(key=lambda at: (float(alphas[at]) not in self._operators, self._making[float(alphas[at])].locked()))
            yield left.pop(0)

    def score(self, loss: Numbers, tile: HeldTile, scale: Numbers) -> Numbers:
        """Return the criterion that losses stand for.

        Parameters
        ----------
        loss : ndarray of float64, (alpha, target)
        tile : HeldTile
        scale : ndarray of float64, (target,)
            What targets were divided by.

        Returns
        -------
        ndarray of float64, (alpha, target)
            1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)² (NaN where no fold has two rows that differ), minus the mean squared error, or r.
        """
        if self.criterion == "pearson":
            score = -loss
        elif self.criterion == "mse":
            score = -loss * (scale**2 / self.n_test)
        else:
            score = 1 - np.divide(loss, tile.spread, out=np.full(loss.shape, np.nan), where=tile.spread > 0)
        return np.asarray(score)

    def _loss(self, tile: HeldTile, operators: list[tuple[Array, ...]], columns: Numbers | slice) -> Numbers:
        sums = []
        for group, operator, moving, truth in zip(self.groups, operators, tile.moving, tile.truths, strict=True):
            y = _targets(truth, columns)
            error = group.error(operator, _targets(moving, columns), y)
            if self.criterion != "pearson":
                sums.append([(error, error)])
                continue
            error += y  # the prediction
            predicted, true = self._fold_centred(group, error), self._fold_centred(group, y)
            sums.append([(predicted, true), (predicted, predicted), (true, true), (y, y)])
        pooled = [np.asarray(sum(_sum_of_products(a, b) for a, b in pairs)) for pairs in zip(*sums, strict=True)]
        if self.criterion != "pearson":
            return pooled[0]
        cross, prediction_ss, target_ss, norm = pooled
        defined: Numbers = (prediction_ss > 0) & (target_ss > self._rounding * norm)
        r: Numbers = np.divide(cross, np.sqrt(prediction_ss * target_ss), out=np.full(cross.shape, np.nan), where=defined)
        return -r

    def _fold_centred(self, group: Group, values: Array) -> Array:
        """Return test rows without the (weighted) mean of their fold."""
        by_fold = group.by_fold(values)
        if self.root is None:
            return (by_fold - by_fold.mean(-1)[..., None]).reshape(values.shape)
        root = group.along(rows_of(cast(self.root, dtype_name(values)), group.tested))
        mean = (root * by_fold).sum(-1) / (root * root).sum(-1)
        return (by_fold - root * mean[..., None]).reshape(values.shape)

    def _operators_at(self, alpha: float, workers: int) -> list[tuple[Array, ...]]:
        with self._making[alpha]:
            if alpha in self._operators:
                return self._operators[alpha]
            made = [group.operator(alpha, workers) for group in self.groups]
            size = sum(part.nbytes for operator in made for part in operator)
            if size * (len(self._operators) + 1) <= self.max_memory:
                self._operators[alpha] = made
        return made


def _targets(x: Array, targets: Numbers | slice) -> Array:
    """Return some targets of (fold, target, row)."""
    if isinstance(targets, slice):
        return x[:, targets]
    return x.index_select(1, namespace(x).as_tensor(targets, device=x.device)) if is_torch(x) else x.take(targets, axis=1)


def _sum_of_products(a: Array, b: Array) -> Numbers:
    """Return Σ a b of each target in float64, from (fold, target, row)."""
    if is_torch(a):
        return to_numpy((a * b).sum((0, 2), dtype=namespace(a).float64))
    total = np.zeros(a.shape[1])
    for start in range(0, a.shape[2], _ROWS):
        rows = slice(start, start + _ROWS)
        total += np.einsum("ftr,ftr->ft", a[..., rows], b[..., rows]).sum(0, dtype=np.float64)
    return total


def _pieces(columns: Numbers | slice, step: int) -> list[Numbers | slice]:
    if isinstance(columns, slice):
        return [slice(at, min(at + step, columns.stop)) for at in range(columns.start, columns.stop, step)]
    return [columns[at : at + step] for at in range(0, len(columns), step)]
