"""One eigendecomposition of a source, from which ridge regression at any alpha follows for any target.

With the centred source Xc = U diag(√λ) Qᵀ and T = UᵀYc, the fit at an alpha is U (λ/(λ+α) ∘ T). The decomposition is that of
XcᵀXc (primal: fewer columns than rows) or of XcXcᵀ (dual), in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.engine.backend import Array, cast, columns_of, dtype_name, like, move, namespace, to_numpy
from brainalign.engine.gram import column_gram, column_mean, eigh, null_floor, row_gram, standardised, wide_matmul
from brainalign.engine.moments import Numbers


@dataclass(frozen=True)
class RidgeFactor:
    """The decomposition of one source, which serves every target and every alpha.

    Attributes
    ----------
    mean : array of float64, (column,)
        What was subtracted; zeros without an intercept.
    centred : array, (row, column)
        In the working dtype. Weighted rows are multiplied by √w.
    left : array of float64, (row, k)
        U. In the dual form it spans all rows (but the intercept), null directions included.
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


def factorise(
    X: Array,
    *,
    fit_intercept: bool = True,
    dtype: str = "float64",
    complete: bool | None = None,
    weights: Numbers | None = None,
) -> RidgeFactor:
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
    weights : ndarray of float64, (row,), optional
        Of the rows: an integer weight is that many copies of the row.

    Returns
    -------
    RidgeFactor
    """
    wide = None if weights is None else like(weights, X)
    mean = column_mean(X, wide) if fit_intercept else 0 * cast(X[0], "float64")
    centred = standardised(X, mean, dtype, root=None if wide is None else wide**0.5)
    constant = intercept_direction(X, weights) if fit_intercept else None
    return decompose(centred, mean, constant, X.shape[1] >= X.shape[0] if complete is None else complete)


def decompose(centred: Array, mean: Array, constant: Array | None, complete: bool, gram: Array | None = None) -> RidgeFactor:
    """Decompose a source that is centred, and weighted, already.

    Parameters
    ----------
    centred : array, (row, column)
    mean : array of float64, (column,)
        Noted in the factor.
    constant : array of float64, (row,), or None
        Unit vector of the intercept, to which the columns are orthogonal.
    complete : bool
        The dual form.
    gram : array of float64, optional
        XcXcᵀ of the dual form, XcᵀXc of the primal one, where it is known.

    Returns
    -------
    RidgeFactor
    """
    if not complete:
        values, vectors = eigh(column_gram(centred) if gram is None else gram)
        floor = null_floor(values, centred)
        keep = values > floor
        values, vectors = values[keep], vectors[:, keep]
        left = wide_matmul(centred, vectors / values**0.5)
        return RidgeFactor(mean, centred, left, vectors, values, floor)
    left, values = _complete_rows(row_gram(centred) if gram is None else gram, constant)
    return RidgeFactor(mean, centred, left, None, values, null_floor(values, centred))


def intercept_direction(X: Array, weights: Numbers | None = None) -> Array:
    """Return the unit vector along which an intercept moves the (weighted) rows.

    Parameters
    ----------
    X : ndarray or Tensor, (row, ...)
        For its number of rows, library and device.
    weights : ndarray of float64, (row,), optional

    Returns
    -------
    ndarray or Tensor of float64, (row,)
    """
    root = np.ones(len(X)) if weights is None else np.sqrt(weights)
    return like(root / np.linalg.norm(root), X)


def _complete_rows(gram: Array, constant: Array | None) -> tuple[Array, Array]:
    """Eigenvectors of XXᵀ that span every row contrast, and their eigenvalues."""
    if constant is not None:
        # Projected, because float32 means leave a trace; then lifted along the intercept, so that it comes out
        # as the last eigenvector by itself, instead of mixed into the null directions.
        gram = gram - constant[:, None] * (constant @ gram)[None, :]
        gram = gram - (gram @ constant)[:, None] * constant[None, :]
        trace = float(namespace(gram).trace(gram))
        gram += (2 * trace if trace > 0 else 1.0) * constant[:, None] * constant[None, :]
    values, vectors = eigh(gram)
    if constant is not None:
        values, vectors = values[:-1], vectors[:, :-1]
    return vectors, values * (values > 0)


def shrinkage(factor: RidgeFactor, alphas: Numbers) -> Array:
    """Return what T is multiplied by before the basis (primal, √λ/(λ+α)) or before XcᵀU (dual, 1/(λ+α)).

    Parameters
    ----------
    factor : RidgeFactor
    alphas : ndarray of float64, (alpha,)

    Returns
    -------
    array of float64, (k, alpha)
        0 in null directions.
    """
    values = factor.eigenvalues[:, None]
    real = values > factor.floor
    top = values**0.5 if factor.basis is not None else 1.0
    return real * top / (values + like(alphas, values)[None, :] + ~real * 1.0)


def shrink(factor: RidgeFactor, rotated: Array, alphas: Numbers) -> Array:
    """Return T, shrunk by the alpha that each target has of its own.

    Parameters
    ----------
    factor : RidgeFactor
    rotated : array, (k, target)
        T = UᵀY.
    alphas : ndarray of float64, (target,)

    Returns
    -------
    array, (k, target)
        ``basis @`` this, or ``centred.T @ left @`` this, are the weights.
    """
    distinct, position = np.unique(alphas, return_inverse=True)
    return columns_of(cast(shrinkage(factor, distinct), dtype_name(rotated)), position) * rotated


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
    dtype, shrunk = dtype_name(rotated), shrink(factor, rotated, alphas)
    if factor.basis is not None:
        return cast(factor.basis, dtype) @ shrunk
    return factor.centred.T @ (cast(factor.left, dtype) @ shrunk)


def project(factor: RidgeFactor, rows: Array) -> Array:
    """Return centred rows along the basis (primal), or along XcᵀU (dual): times the shrunken T, they are predictions.

    Parameters
    ----------
    factor : RidgeFactor
    rows : array of float64, (row, column)

    Returns
    -------
    array of float64, (row, k)
    """
    return rows @ factor.basis if factor.basis is not None else wide_matmul(factor.centred, rows.T).T @ factor.left


@dataclass(frozen=True)
class FixedRidge:
    """Predictions for fixed new rows at given alphas, of any number of targets: one rotation and one product.

    Made by :func:`fixed_ridge`. This is what permuted targets need: their source is factorised once.

    Attributes
    ----------
    factor : RidgeFactor
        Of the training rows.
    rotation : array, (k, row)
        Uᵀ in the working dtype.
    projected : array, (new row, k)
        The new rows along the basis (primal), or along XcᵀU (dual).
    weights : array of float64, (row,), or None
    fit_intercept : bool
    device : str
    """

    factor: RidgeFactor
    rotation: Array
    projected: Array
    weights: Array | None
    fit_intercept: bool
    device: str

    def predict(self, Y: Array, alphas: Numbers, *, target_batch: int = 4096) -> Numbers:
        """Fit targets on the training rows at given alphas, and predict the new rows.

        Parameters
        ----------
        Y : ndarray or Tensor, (row, target)
            Any targets, such as permuted ones side by side. NaN makes its own target NaN and no other.
        alphas : ndarray of float64, (target,)
            Of each target; nothing is chosen.
        target_batch : int
            Targets worked on at a time.

        Returns
        -------
        ndarray, (new row, target)
            In the working dtype.
        """
        dtype = dtype_name(self.rotation)
        out = np.empty((len(self.projected), Y.shape[1]), dtype=dtype)
        for start in range(0, Y.shape[1], target_batch):
            some = slice(start, start + target_batch)
            y = move(Y[:, some], self.device)
            mean = column_mean(y, self.weights) if self.fit_intercept else 0 * cast(y[0], "float64")
            values = standardised(y, mean, dtype, root=None if self.weights is None else self.weights**0.5)
            shrunk = shrink(self.factor, self.rotation @ values, np.asarray(alphas)[some])
            out[:, some] = to_numpy(cast(self.projected @ shrunk + mean, dtype))
        return out


def fixed_ridge(
    X: Array,
    X_new: Array,
    *,
    fit_intercept: bool = True,
    dtype: str = "float32",
    device: str = "cpu",
    weights: Numbers | None = None,
) -> FixedRidge:
    """Factorise training rows once, for the predictions of new rows from any targets at given alphas.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
        Training rows.
    X_new : ndarray or Tensor, (new row, column)
    fit_intercept : bool
    dtype : {"float32", "float64"}
    device : str
    weights : ndarray of float64, (row,), optional

    Returns
    -------
    FixedRidge

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(50, 8)), rng.normal(size=(50, 3))
    >>> fold = fixed_ridge(X[:40], X[40:])
    >>> alphas, orders = np.array([1.0, 10.0, 1e3]), [rng.permutation(40) for _ in range(100)]
    >>> null = fold.predict(np.hstack([Y[order] for order in orders]), np.tile(alphas, 100))
    >>> null.reshape(10, 100, 3).shape  # (new row, permutation, target)
    (10, 100, 3)
    """
    X, X_new = move(X, device), move(X_new, device)
    factor = factorise(X, fit_intercept=fit_intercept, dtype=dtype, weights=weights)
    new = standardised(X_new, factor.mean, "float64")
    projected = project(factor, new)
    wide = None if weights is None else like(weights, X)
    return FixedRidge(factor, cast(factor.left, dtype).T, cast(projected, dtype), wide, fit_intercept, device)
