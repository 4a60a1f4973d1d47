"""Operators that give the errors of held-out rows, for every fold at any alpha, from one decomposition of all rows.

With H the hat matrix, intercept included, and S the rows that a fold does not train on, what ridge fitted on the other rows
gets wrong on S is (I − H_SS)⁻¹ (y − Hy)_S: nothing is refitted, and the means are refitted all the same. Let Ũ be U and the
intercept's direction, s̃ = λ/(λ+α) and 1, T̃ = ŨᵀY. Three ways to the same errors, by what is cheapest:

- U spans all rows (dual): I − H_SS = U_S diag(α/(λ+α)) U_Sᵀ, without a difference that cancels as α → 0, and the errors are
  (I − H_SS)⁻¹ U_S diag(α/(λ+α)) T;
- few folds: Y_S − N b, where b = T̃ − Ũ_SᵀY_S is the rotation of the training rows and N = (I − H_SS)⁻¹ Ũ_S diag(s̃), or
  Ũ_S (diag(1/s̃) − Ũ_SᵀŨ_S)⁻¹ where S has more rows than U has columns (Woodbury);
- many small folds, such as single rows: (I − H_SS)⁻¹ (Y_S − Ũ_S diag(s̃) T̃).

Here errors are ŷ − y. Folds of equal sizes are worked on together, and targets come first: those that are wanted at an alpha are whole
rows, which are quick to gather.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, is_torch, like, namespace, rows_of
from brainalign.engine.factor import RidgeFactor, factorise, intercept_direction, project, shrinkage
from brainalign.engine.gram import column_mean, column_scale, inverse, standardised
from brainalign.engine.moments import Numbers
from brainalign.engine.parallel import side_by_side

Splits = Sequence[tuple[Numbers, Numbers]]  #: (train rows, test rows) of each fold

_WELL_CONDITIONED = 100.0  # entries of an inverse, where only its product is taken in the working dtype
_HARMLESS = 4.0  # and where it is itself made in the working dtype
_STACK = 2**22  # values of fold operators that are built at a time
_WORTH = 5e7  # multiplications that are worth more than one thread


@dataclass(frozen=True)
class Source:
    """What the groups of folds are made from."""

    factor: RidgeFactor
    fit_intercept: bool
    weights: Numbers | None
    standardize: bool
    workers: int = 1

    @property
    def dtype(self) -> str:
        """The working dtype."""
        return dtype_name(self.factor.centred)

    @property
    def root(self) -> Array | None:
        """√w."""
        return None if self.weights is None else like(self.weights**0.5, self.factor.left)

    def left(self, rows: Numbers, dtype: str = "float64") -> Array:
        """Return Ũ, with the direction of the intercept as its last column."""
        left = rows_of(cast(self.factor.left, dtype), rows)
        if not self.fit_intercept:
            return left
        return namespace(left).concatenate([left, cast(self.constant(rows), dtype)[..., None]], -1)

    def constant(self, rows: Numbers) -> Array:
        """Return the direction of the intercept, a unit vector over all rows."""
        return rows_of(intercept_direction(self.factor.left, self.weights), rows)

    def kept(self, alpha: float) -> Array:
        """Return s̃ = λ/(λ+α), with 1 for the intercept."""
        values = self.factor.eigenvalues
        # Without any penalty I − H_SS is singular where a column varies in the held-out rows only.
        small = max(float(alpha), 1e-12 * float(values.max())) if len(values) else 1.0
        kept = values / (values + small)
        return namespace(kept).concatenate([kept, like(np.ones(1), kept)]) if self.fit_intercept else kept


class Group:
    """Folds of one size: ``removed`` (fold, row) is what they do not train on, the ``n_test`` rows that they test first.

    ``error(operator(alpha), move(turn(Y), YᵀU), truth(Y))`` is ŷ − y, (fold, target, test row), or (1, target, fold and test row) where
    folds are ``together``.
    """

    together = True

    def __init__(self, source: Source, removed: Numbers, n_test: int) -> None:
        self.source, self.removed, self.n_test = source, removed, n_test
        self.tested = removed[:, :n_test]

    def truth(self, Y: Array) -> Array:
        """Return the test rows."""
        return _targets_first(rows_of(Y, self.tested.reshape(1, -1) if self.together else self.tested))

    def by_fold(self, values: Array) -> Array:
        """Return test rows, or errors of theirs, as (1 or fold, target, fold or 1, test row)."""
        return values.reshape(*values.shape[:2], -1, self.n_test)

    def along(self, values: Array) -> Array:
        """Return numbers of the test rows, (fold, test row), in a shape that goes with ``by_fold``."""
        return values[None, None] if self.together else values[:, None, None]

    def turn(self, Y: Array) -> Any:
        """Return what can be had of the targets before YᵀU is known."""
        return None

    def move(self, turned: Any, rotated: Array) -> Array:
        """Return what the operator is applied to, (1 or fold, target, k or more)."""
        raise TypeError(f"{type(self).__name__} must define move(turned, rotated).")

    def operator(self, alpha: float, workers: int = 1) -> tuple[Array, ...]:
        """Return the operator at one alpha, some folds being built at a time."""
        (n_folds, n_rows), k = self.removed.shape, len(self.source.factor.eigenvalues) + 1
        workers = workers if n_folds * n_rows**2 * k > _WORTH else 1
        # workers share the memory of one, and leave some for the threads that they are
        step = max(1, min(_STACK // self.source.workers**2 // (n_rows * k), -(-n_folds // workers)))
        built = side_by_side(lambda at: self.build(alpha, slice(at, at + step)), range(0, n_folds, step), workers)
        return tuple(_joined(parts) for parts in zip(*built, strict=True))

    def build(self, alpha: float, some: slice) -> tuple[Array, ...]:
        """Return the operator of some folds."""
        raise TypeError(f"{type(self).__name__} must define build(alpha, some).")

    def error(self, operator: tuple[Array, ...], moving: Array, truth: Array) -> Array:
        """Return ŷ − y."""
        raise TypeError(f"{type(self).__name__} must define error(operator, moving, truth).")

    @property
    def n_moving(self) -> int:
        """Rows of what the operators are applied to, over all folds."""
        return len(self.source.factor.eigenvalues)

    @cached_property
    def held(self) -> Array:
        """Ũ_S in float64."""
        return self.source.left(self.removed)


class Spanning(Group):
    """U spans all rows: −(I − H_SS)⁻¹ U_S diag(α/(λ+α)) is applied to T, which all folds share."""

    def move(self, turned: Any, rotated: Array) -> Array:
        """Return T."""
        return rotated[None]

    def build(self, alpha: float, some: slice) -> tuple[Array, ...]:
        """Return the operator of some folds, (fold, test row, k)."""
        factor = self.source.factor
        penalised = factor.eigenvalues + alpha
        penalised = penalised + (penalised < factor.floor) * factor.floor
        smallest = float(penalised.min())
        root = (smallest / penalised) ** 0.5 if smallest > 0 else 1 + 0 * penalised  # of any scale, which cancels
        half = self.held[some] * root
        inner = inverse(half @ half.swapaxes(1, 2))[:, : self.n_test]
        half *= root
        # Weights are at most 1. Where their inverse is of that order too, nothing large cancels, and the working dtype will do.
        dtype = self.source.dtype if float(abs(inner).max()) < _WELL_CONDITIONED else "float64"
        return (cast(cast(-inner, dtype) @ cast(half, dtype), self.source.dtype),)

    def error(self, operator: tuple[Array, ...], moving: Array, truth: Array) -> Array:
        """Return ŷ − y: one product for all folds."""
        (stack,) = operator
        return moving @ stack.reshape(-1, stack.shape[-1]).T

    @cached_property
    def held(self) -> Array:
        """U_S: the intercept is no direction of its own here, its share of I − H is 0."""
        return rows_of(self.source.factor.left, self.removed)


class Training(Group):
    """Few folds: N is applied to the rotation of each fold's training rows."""

    together = False

    def turn(self, Y: Array) -> Array:
        """Return Y_SᵀŨ_S, (fold, target, k + 1)."""
        return rows_of(Y, self.removed).swapaxes(1, 2) @ self.narrow

    def move(self, turned: Any, rotated: Array) -> Array:
        """Return T̃ − Ũ_SᵀY_S; the intercept's entry of T̃ is 0, as Y is centred."""
        turned *= -1
        turned[..., : rotated.shape[1]] += rotated
        return turned

    def build(self, alpha: float, some: slice) -> tuple[Array, ...]:
        """Return Nᵀ of some folds, (fold, k + 1, test row)."""
        kept, dtype = self.source.kept(alpha), self.source.dtype
        if self.narrow.shape[1] <= self.narrow.shape[2]:
            return ((self.narrow[some] * cast(kept, dtype)).swapaxes(1, 2) @ self._inner(kept, some).swapaxes(1, 2),)
        half = self.held[some] * kept**0.5
        inner = kept[:, None] ** 0.5 * inverse(_identity_minus(half.swapaxes(1, 2) @ half))
        return (cast(inner, dtype) @ cast(half[:, : self.n_test], dtype).swapaxes(1, 2),)

    def _inner(self, kept: Array, some: slice) -> Array:
        """Return the test rows of (I − H_SS)⁻¹ in the working dtype, made in float64 where its condition asks for it."""
        dtype = self.source.dtype
        half = self.narrow[some] * cast(kept**0.5, dtype)
        inner = inverse(_identity_minus(half @ half.swapaxes(1, 2)))
        if dtype == "float32" and not float(abs(inner).max()) < _HARMLESS:
            half = self.held[some] * kept**0.5
            inner = inverse(_identity_minus(half @ half.swapaxes(1, 2)))
        return cast(inner[:, : self.n_test], dtype)

    def error(self, operator: tuple[Array, ...], moving: Array, truth: Array) -> Array:
        """Return ŷ − y: one product a fold."""
        error = moving @ operator[0]
        error -= truth
        return error

    @property
    def n_moving(self) -> int:
        """Rows of the rotations of all folds."""
        return len(self.removed) * (super().n_moving + self.source.fit_intercept)

    @cached_property
    def narrow(self) -> Array:
        """Ũ_S in the working dtype; that in float64 is not kept beside it unless it is asked for."""
        return self.source.left(self.removed, self.source.dtype)


class Residual(Group):
    """Many small folds: (I − H_SS)⁻¹ is applied to the residuals of the fit to all rows."""

    def turn(self, Y: Array) -> Array:
        """Return Y_S, folds below one another."""
        return rows_of(Y, self.removed.ravel())

    def move(self, turned: Any, rotated: Array) -> Array:
        """Return T with Y_S beside it."""
        return namespace(rotated).concatenate([rotated, turned.T], 1)[None]

    def build(self, alpha: float, some: slice) -> tuple[Array, ...]:
        """Return (I − H_SS)⁻¹ and Ũ_S diag(s̃) of some folds."""
        kept, dtype, k = self.source.kept(alpha), self.source.dtype, len(self.source.factor.eigenvalues)
        half = self.held[some] * kept**0.5
        inner = inverse(_identity_minus(half @ half.swapaxes(1, 2)))[:, : self.n_test]
        return cast(inner, dtype), cast((half * kept**0.5)[..., :k], dtype)

    def error(self, operator: tuple[Array, ...], moving: Array, truth: Array) -> Array:
        """Return ŷ − y: one product for all folds, and a small one for each."""
        inner, fit = operator
        k = fit.shape[-1]
        residual = moving[..., :k] @ fit.reshape(-1, k).T
        residual -= moving[..., k:]
        if inner.shape[1:] == (1, 1):
            residual *= inner.reshape(-1)
            return residual
        by_fold = residual[0].reshape(len(moving[0]), *fit.shape[:2]).swapaxes(0, 1)
        return (by_fold @ inner.swapaxes(1, 2)).swapaxes(0, 1).reshape(truth.shape)

    @property
    def n_moving(self) -> int:
        """Rows of T and of all Y_S."""
        return super().n_moving + self.removed.size


class Refitted(Group):
    """One fold, decomposed on its own."""

    def __init__(self, source: Source, train: Numbers, test: Numbers) -> None:
        super().__init__(source, test[None, :], len(test))
        self.train, factor = train, source.factor
        self.weights = None if source.weights is None else source.weights[train]
        X, held = self._unweighted(factor.centred, train), self._unweighted(factor.centred, test)
        wide = None if self.weights is None else like(self.weights, X)
        mean = column_mean(X, wide) if source.fit_intercept else 0 * cast(X[0], "float64")
        scale = column_scale(X, wide) if source.standardize else None
        self.part = factorise(
            X if scale is None else standardised(X, 0 * mean, source.dtype, scale=scale),
            fit_intercept=source.fit_intercept,
            dtype=source.dtype,
            weights=self.weights,
        )
        self.projected = project(self.part, standardised(held, mean, "float64", scale=scale))
        if source.root is not None:
            self.projected = self.projected * rows_of(source.root, test)[:, None]

    def truth(self, Y: Array) -> Array:
        """Return the test rows, less the mean of the training rows."""
        values = cast(self._unweighted(Y, self.tested[0]), "float64") - self._mean(Y)
        root = self.source.root
        values = values if root is None else values * rows_of(root, self.tested[0])[:, None]
        return _targets_first(cast(values, self.source.dtype))[None]

    def turn(self, Y: Array) -> Array:
        """Return the training rows along the U of the fold."""
        root = None if self.weights is None else like(self.weights**0.5, Y)
        values = standardised(self._unweighted(Y, self.train), self._mean(Y), self.source.dtype, root=root)
        return (values.T @ cast(self.part.left, self.source.dtype))[None]

    def move(self, turned: Any, rotated: Array) -> Array:
        """Return what ``turn`` made."""
        return turned

    def operator(self, alpha: float, workers: int = 1) -> tuple[Array, ...]:
        """Return what takes that to the predictions."""
        return (cast(self.projected * shrinkage(self.part, np.array([alpha]))[:, 0], self.source.dtype)[None],)

    def error(self, operator: tuple[Array, ...], moving: Array, truth: Array) -> Array:
        """Return ŷ − y."""
        return moving @ operator[0].swapaxes(1, 2) - truth

    def _mean(self, Y: Array) -> Array:
        wide = None if self.weights is None else like(self.weights, Y)
        rows = self._unweighted(Y, self.train)
        return column_mean(rows, wide) if self.source.fit_intercept else 0 * cast(rows[0], "float64")

    def _unweighted(self, x: Array, rows: Numbers) -> Array:
        root = self.source.root
        return rows_of(x, rows) if root is None else cast(rows_of(x, rows), "float64") / rows_of(root, rows)[:, None]


def group_folds(source: Source, splits: Splits) -> list[Group]:
    """Sort folds by how they are best worked on, and by size.

    Parameters
    ----------
    source : Source
    splits : sequence of (train rows, test rows)

    Returns
    -------
    list of Group
    """
    n, k = source.factor.left.shape
    spans = source.factor.basis is None
    groups: list[Group] = []
    by_size: dict[tuple[int, int], list[Numbers]] = {}
    for train, test in splits:
        outside = np.ones(n, dtype=bool)
        outside[train] = False
        gap = outside.copy()
        gap[test] = False
        removed = np.concatenate([test, np.flatnonzero(gap)])
        repeats = len(train) + outside.sum() > n or len(removed) > outside.sum()
        few = len(train) < len(removed) if spans else len(train) <= k
        if repeats or few or source.standardize:
            groups.append(Refitted(source, train, test))
        else:
            by_size.setdefault((len(test), len(removed)), []).append(removed)
    for (n_test, n_removed), rows in by_size.items():
        kind = Spanning if spans else Training if 4 * n_removed > k else Residual
        groups.append(kind(source, np.stack(rows), n_test))
    return groups


def _targets_first(rows: Array) -> Array:
    """Return (..., row, target) as (..., target, row), each target's rows beside one another in memory."""
    turned = rows.swapaxes(-1, -2)
    return turned.contiguous() if is_torch(turned) else np.ascontiguousarray(turned)


def _identity_minus(stack: Array) -> Array:
    return cast(like(np.eye(stack.shape[1]), stack), dtype_name(stack)) - stack


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else namespace(parts[0]).concatenate(list(parts))
