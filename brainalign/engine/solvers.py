"""Ridge regression for many targets and many alphas from one eigendecomposition.

With the centred source Xc = U diag(√λ) Qᵀ and T = UᵀYc, the fit at any alpha is U (λ/(λ+α) ∘ T). The decomposition
is that of XcᵀXc (fewer columns than rows) or of XcXcᵀ, in float64; targets are worked on in tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainalign.engine.backend import Array, cast, like, move, namespace, rows_of, to_numpy
from brainalign.engine.gram import column_gram, row_gram, wide_matmul
from brainalign.engine.moments import Numbers

Splits = Sequence[tuple[Numbers, Numbers]]  #: (train rows, test rows) of each fold


@dataclass(frozen=True)
class RidgeFactor:
    """The decomposition of one source, which serves every target and every alpha.

    Attributes
    ----------
    mean : array of float64, (column,)
        What was subtracted; zeros without an intercept.
    centred : array, (row, column)
        In the working dtype.
    left : array of float64, (row, k)
        U. In the dual form it spans all rows (but the constant), null directions included.
    basis : array of float64, (column, k), or None
        Q in the primal form. None in the dual form, where it is Xcᵀ U / √λ.
    eigenvalues : array of float64, (k,)
        λ, non-negative.
    floor : float
        Eigenvalues up to this are null directions: rounding, not variance.
    """

    mean: Array
    centred: Array
    left: Array
    basis: Array | None
    eigenvalues: Array
    floor: float


@dataclass(frozen=True)
class RidgeSolution:
    """Fitted weights, one alpha a target.

    Attributes
    ----------
    coef : ndarray, (column, target)
        In the working dtype.
    source_mean, target_mean : ndarray of float64
        Prediction is ``(X - source_mean) @ coef + target_mean``.
    alpha_index : ndarray of int, (target,)
        Position in ``alphas``.
    heldout_r2 : ndarray of float64, (alpha, target), or None
        1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)² over held-out rows; NaN where no fold has two rows that differ.
    """

    coef: Numbers
    source_mean: Numbers
    target_mean: Numbers
    alpha_index: Numbers
    heldout_r2: Numbers | None


def solve_ridge(
    X: Array,
    Y: Array,
    alphas: Sequence[float],
    splits: Splits | None = None,
    *,
    fit_intercept: bool = True,
    device: str = "cpu",
    dtype: str = "float32",
    target_batch: int | None = None,
) -> RidgeSolution:
    """Fit ridge regression with the alpha that serves each target best on held-out rows.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
        Finite.
    Y : ndarray or Tensor, (row, target)
        Finite, and varying.
    alphas : sequence of float
        Ascending, non-negative; scikit-learn's convention Σ(y − Xb)² + α‖b‖². 0 gives the minimum-norm fit.
    splits : sequence of (ndarray of int, ndarray of int), optional
        Train and test rows of each fold; needed for more than one alpha.
    fit_intercept : bool
        Unpenalised, and fitted anew in every fold.
    device : str
    dtype : {"float32", "float64"}
        Of the products over targets. Decompositions and fold operators are float64.
    target_batch : int, optional
        Targets worked on at a time; changes memory, not results.

    Returns
    -------
    RidgeSolution
    """
    X, Y = move(X, device), move(Y, device)
    factor = factorise(X, fit_intercept=fit_intercept, dtype=dtype)
    tiles = [_Tile.of(Y[:, cols], factor, fit_intercept, dtype) for cols in _tile_slices(Y.shape[1], target_batch)]
    alpha_index, r2 = np.zeros(Y.shape[1], dtype=np.int64), None
    if splits is not None:
        error = heldout_error(
            factor, [(tile.values, tile.rotated) for tile in tiles], alphas, splits, fit_intercept=fit_intercept
        )
        # Ties go to the largest alpha: reversed, the first minimum is the last one.
        alpha_index = len(alphas) - 1 - np.argmin(error[::-1], axis=0)
        spread = np.concatenate([_fold_spread(tile.values, splits) for tile in tiles])
        r2 = 1 - np.divide(error, spread, out=np.full(error.shape, np.nan), where=spread > 0)
    coefs, start = [], 0
    for tile in tiles:
        chosen = np.asarray(alphas, dtype=np.float64)[alpha_index[start : start + len(tile.scale)]]
        coefs.append(to_numpy(coefficients(factor, tile.rotated, chosen)) * tile.scale.astype(dtype))
        start += len(tile.scale)
    means = np.concatenate([tile.mean for tile in tiles])
    return RidgeSolution(np.concatenate(coefs, axis=1), to_numpy(factor.mean), means, alpha_index, r2)


@dataclass(frozen=True)
class _Tile:
    """Some targets, centred and brought to unit variance: 1e-13 T squared is nothing in float32."""

    values: Array
    rotated: Array
    mean: Numbers
    scale: Numbers

    @classmethod
    def of(cls, Y: Array, factor: RidgeFactor, fit_intercept: bool, dtype: str) -> _Tile:
        wide = cast(Y, "float64")
        mean = wide.mean(0) if fit_intercept else 0 * wide[0]
        wide = wide - mean
        scale = to_numpy((wide * wide).mean(0) ** 0.5)
        scale = np.where(scale > 0, scale, 1.0)
        values = cast(wide / like(scale, wide), dtype)
        return cls(values, cast(factor.left, dtype).T @ values, to_numpy(mean), scale)


def factorise(X: Array, *, fit_intercept: bool = True, dtype: str = "float64", complete: bool | None = None) -> RidgeFactor:
    """Decompose a source by the smaller of its two Gram matrices.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
    fit_intercept : bool
        Centre the columns; means are taken in float64 whatever the dtype, so that an offset costs no precision.
    dtype : {"float32", "float64"}
        In which the centred source is kept.
    complete : bool, optional
        True asks for the dual form, False for the primal one; default the cheaper.

    Returns
    -------
    RidgeFactor
    """
    wide = cast(X, "float64")
    mean = wide.mean(0) if fit_intercept else 0 * wide[0]
    centred = cast(wide - mean, dtype)
    n, p = X.shape
    # Rounding of the kept values leaves null directions with eigenvalues near eps² of the largest; that of the
    # decomposition leaves eps(float64).
    unit = max(np.finfo(np.float64).eps, np.finfo(dtype).eps ** 2) * max(n, p)
    if p < n if complete is None else not complete:
        values, vectors = namespace(X).linalg.eigh(column_gram(centred))
        floor = float(unit * max(float(values[-1]), 0.0))
        keep = values > floor
        values, vectors = values[keep], vectors[:, keep]
        left = wide_matmul(centred, vectors / values**0.5)
        return RidgeFactor(mean, centred, left, vectors, values, floor)
    left, values = _complete_rows(row_gram(centred), fit_intercept)
    floor = float(unit * max(float(values.max()) if len(values) else 0.0, 0.0))
    return RidgeFactor(mean, centred, left, None, values, floor)


def _complete_rows(gram: Array, centred: bool) -> tuple[Array, Array]:
    """Eigenvectors of XXᵀ that span every row contrast, and their eigenvalues."""
    xp = namespace(gram)
    n = len(gram)
    if centred:
        # Projected, because float32 means leave a trace; then lifted along the constant vector, so that it comes out
        # as the last eigenvector by itself, instead of mixed into the null directions.
        gram = gram - gram.mean(0)[None, :]
        gram = gram - gram.mean(1)[:, None]
        trace = float(xp.trace(gram))
        gram = gram + (2 * trace if trace > 0 else 1.0) / n
    values, vectors = xp.linalg.eigh(gram)
    if centred:
        values, vectors = values[:-1], vectors[:, :-1]
    return vectors, values * (values > 0)


def coefficients(factor: RidgeFactor, rotated: Array, alphas: Numbers) -> Array:
    """Return the weights of targets that each have an alpha of their own, in one product.

    Parameters
    ----------
    factor : RidgeFactor
    rotated : array, (k, target)
        T = UᵀY.
    alphas : ndarray of float64, (target,)

    Returns
    -------
    array, (column, target)
    """
    dtype = _dtype_of(rotated)
    shrunk = cast(_filter(factor, alphas) * cast(rotated, "float64"), dtype)
    if factor.basis is not None:
        return cast(factor.basis, dtype) @ shrunk
    return factor.centred.T @ (cast(factor.left, dtype) @ shrunk)


def _filter(factor: RidgeFactor, alphas: Numbers) -> Array:
    """Return what T is multiplied by before the basis (primal, √λ/(λ+α)) or before XcᵀU (dual, 1/(λ+α))."""
    values = factor.eigenvalues[:, None]
    real = values > factor.floor
    top = values**0.5 if factor.basis is not None else 1.0
    return real * top / (values + like(alphas, values)[None, :] + ~real * 1.0)


def heldout_error(
    factor: RidgeFactor,
    tiles: Sequence[tuple[Array, Array]],
    alphas: Sequence[float],
    splits: Splits,
    *,
    fit_intercept: bool = True,
) -> Numbers:
    """Return Σ(y−ŷ)² over the held-out rows of all folds, for every alpha, as if each fold were fitted anew.

    Parameters
    ----------
    factor : RidgeFactor
        Of all rows.
    tiles : sequence of (Y, T)
        Centred targets (row, target) and their rotation UᵀY (k, target).
    alphas : sequence of float
    splits : sequence of (train rows, test rows)
    fit_intercept : bool

    Returns
    -------
    ndarray of float64, (alpha, target)

    Notes
    -----
    Where a fold trains on all rows that it does not test, nothing is refitted: with H the hat matrix, intercept
    included, the held-out residuals are (I − H_ff)⁻¹ (y − Hy)_f. This includes refitting the means. A fold with a
    gap, or whose test rows far outnumber the columns, is decomposed on its own.
    """
    n = len(factor.centred)
    total = np.zeros((len(alphas), sum(y.shape[1] for y, _ in tiles)))
    whole: RidgeFactor | None = factor if factor.basis is None else None
    for train, test in splits:
        rank = factor.left.shape[1]
        if len(train) + len(test) != n or (factor.basis is not None and len(test) > 2 * rank):
            total += _refit_error(factor, tiles, alphas, train, test, fit_intercept)
        elif factor.basis is not None and len(train) > factor.centred.shape[1]:
            total += _primal_error(factor, tiles, alphas, test, fit_intercept)
        elif factor.basis is None:
            total += _dual_error(factor, tiles, alphas, test)
        else:
            # Fewer training rows than columns, though more rows in all: only the complete form survives a small alpha.
            if whole is None:
                whole = factorise(factor.centred, fit_intercept=fit_intercept, dtype=_dtype_of(factor.centred), complete=True)
                turned = [(y, cast(whole.left, _dtype_of(y)).T @ y) for y, _ in tiles]
            total += _dual_error(whole, turned, alphas, test)
    return total


def _dual_error(factor: RidgeFactor, tiles: Sequence[tuple[Array, Array]], alphas: Sequence[float], test: Numbers) -> Numbers:
    """E_f = (U_f V U_fᵀ)⁻¹ U_f V T with V = 1/(λ+α): I − H up to a factor, without a difference that cancels."""
    linalg = namespace(factor.left).linalg
    held = rows_of(factor.left, test)
    errors = []
    for alpha in alphas:
        penalised = factor.eigenvalues + alpha
        weighted = held / (penalised + (penalised < factor.floor) * factor.floor)[None, :]
        operator = linalg.solve(weighted @ held.T, weighted)
        errors.append(np.concatenate([_sum_squares(cast(operator, _dtype_of(t)) @ t) for _, t in tiles]))
    return np.stack(errors)


def _primal_error(
    factor: RidgeFactor, tiles: Sequence[tuple[Array, Array]], alphas: Sequence[float], test: Numbers, fit_intercept: bool
) -> Numbers:
    """E_f = (I − H_ff)⁻¹ (Y_f − U_f diag(λ/(λ+α)) T)."""
    xp = namespace(factor.left)
    held = rows_of(factor.left, test)
    identity = like(np.eye(len(test)) - (1.0 / len(factor.left) if fit_intercept else 0.0), held)
    errors = []
    for alpha in alphas:
        # Without any penalty I − H_ff is singular where a column varies in the held-out rows only.
        small = max(float(alpha), 1e-12 * float(factor.eigenvalues.max())) if len(factor.eigenvalues) else 1.0
        fitted = held * (factor.eigenvalues / (factor.eigenvalues + small))[None, :]
        inverse = xp.linalg.inv(identity - fitted @ held.T)
        parts = []
        for y, t in tiles:
            dtype = _dtype_of(y)
            parts.append(_sum_squares(cast(inverse, dtype) @ (rows_of(y, test) - cast(fitted, dtype) @ t)))
        errors.append(np.concatenate(parts))
    return np.stack(errors)


def _refit_error(
    factor: RidgeFactor,
    tiles: Sequence[tuple[Array, Array]],
    alphas: Sequence[float],
    train: Numbers,
    test: Numbers,
    fit_intercept: bool,
) -> Numbers:
    """Decompose the training rows of one fold and predict its test rows."""
    dtype = _dtype_of(factor.centred)
    part = factorise(rows_of(factor.centred, train), fit_intercept=fit_intercept, dtype=dtype)
    held = cast(rows_of(factor.centred, test), "float64") - part.mean
    projected = held @ part.basis if part.basis is not None else (held @ cast(part.centred, "float64").T) @ part.left
    left, columns = cast(part.left, dtype), []
    for y, _ in tiles:
        y_train = cast(rows_of(y, train), "float64")
        mean = y_train.mean(0) if fit_intercept else 0 * y_train[0]
        truth = cast(cast(rows_of(y, test), "float64") - mean, dtype)
        turned = left.T @ cast(y_train - mean, dtype)
        shrink = [projected * _filter(part, np.array([alpha]))[:, 0][None, :] for alpha in alphas]
        columns.append(np.stack([_sum_squares(truth - cast(operator, dtype) @ turned) for operator in shrink]))
    return np.concatenate(columns, axis=1)


def _fold_spread(Y: Array, splits: Splits) -> Numbers:
    """Σ_f Σ(y−ȳ_f)² over test rows."""
    total = np.zeros(Y.shape[1])
    for _, test in splits:
        part = cast(rows_of(Y, test), "float64")
        total += _sum_squares(part - part.mean(0))
    return total


def _sum_squares(x: Array) -> Numbers:
    return to_numpy(cast((x * x).sum(0), "float64"))


def _dtype_of(x: Array) -> str:
    return str(x.dtype).rpartition(".")[2]


def _tile_slices(n_targets: int, target_batch: int | None) -> list[slice]:
    step = max(1, n_targets if target_batch is None else target_batch)
    return [slice(start, start + step) for start in range(0, max(1, n_targets), step)]
