"""Partial least squares for many targets, from cross products alone.

The weights of a component are the leading eigenvector of D C Cᵀ Dᵀ, with C = XᵀY and D = I − P Rᵀ, which takes out what
earlier components explain; neither X nor Y is deflated. Where there are more columns than rows, X is turned into its row
space first, which changes no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brainalign.engine.backend import Array, cast, dtype_name, like, move, namespace, rows_of, to_numpy
from brainalign.engine.gram import column_gram, row_gram
from brainalign.engine.krylov import leading_eigenvector
from brainalign.engine.moments import Numbers
from brainalign.engine.ridge_folds import Splits
from brainalign.engine.subspace import row_space

_EPS = float(np.finfo(np.float64).eps)
_TILE = 1024  # targets that are centred at a time


@dataclass(frozen=True)
class PLSSolution:
    """Fitted weights, with a number of components for each target.

    Attributes
    ----------
    coef : ndarray, (column, target)
        In the working dtype.
    source_mean, target_mean : ndarray of float64
        Prediction is ``(X - source_mean) @ coef + target_mean``.
    n_components : ndarray of int, (target,)
    heldout_r2 : ndarray of float64, (component, target), or None
        For 1, 2, 3 ... components: 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)² over held-out rows; NaN where no fold has two rows
        that differ.
    """

    coef: Numbers
    source_mean: Numbers
    target_mean: Numbers
    n_components: Numbers
    heldout_r2: Numbers | None


def solve_pls(
    X: Array, Y: Array, candidates: Sequence[int], splits: Splits | None = None, *, device: str = "cpu", dtype: str = "float32"
) -> PLSSolution:
    """Fit PLS regression (PLS2, not scaled) with the number of components that serves each target best on held-out rows.

    Parameters
    ----------
    X : ndarray or Tensor, (row, column)
        Finite.
    Y : ndarray or Tensor, (row, target)
        Finite. Targets share their components: one of larger variance has more say in them.
    candidates : sequence of int
        Numbers of components, ascending.
    splits : sequence of (ndarray of int, ndarray of int), optional
        Train and test rows of each fold; needed for more than one candidate.
    device : str
    dtype : {"float32", "float64"}
        Of the products over targets. Components are found in float64.

    Returns
    -------
    PLSSolution

    Notes
    -----
    Wold's NIPALS with mode A and regression deflation, as in scikit-learn, but with exact eigenvectors. Once nothing
    is left to explain, further components are zero.
    """
    X, Y = move(X, device), move(Y, device)
    (x_mean, x), y = _centred(X, dtype), _Targets.of(Y, dtype)
    z, back = (x, None) if x.shape[1] <= x.shape[0] else row_space(x)
    z = cast(z, dtype)
    S, C = column_gram(z), y.products(z)
    n_components = candidates[-1]
    rotations = pls_rotations(S, row_gram(C), n_components)
    loadings = cast(rotations, dtype).T @ C
    chosen, r2 = np.full(Y.shape[1], n_components), None
    if splits is not None:
        error, spread = _heldout_error(z, y, S, C, n_components, splits)
        allowed = np.asarray(candidates)
        chosen = allowed[np.argmin(error[allowed - 1], axis=0)]  # of two that tie, the fewer components
        r2 = 1 - np.divide(error, spread, out=np.full(error.shape, np.nan), where=spread > 0)
    loadings = cast(like(np.arange(n_components)[:, None] < chosen, loadings), dtype) * loadings
    weights = cast(rotations if back is None else back @ rotations, dtype)
    coef = (weights if back is None else x.T @ weights) @ loadings
    return PLSSolution(to_numpy(coef), to_numpy(x_mean), to_numpy(y.mean), chosen, r2)


def pls_rotations(S: Array, G: Array, n_components: int) -> Array:
    """Return what turns a centred X into uncorrelated scores of unit sum of squares, best first.

    Parameters
    ----------
    S : ndarray or Tensor of float64, (column, column)
        XᵀX.
    G : ndarray or Tensor of float64, (column, column)
        XᵀY YᵀX.
    n_components : int

    Returns
    -------
    ndarray or Tensor of float64, (column, component)
        X R = scores, (X R)ᵀ Y = loadings, and R (X R)ᵀ Y the weights of a regression on them. 0 from the component on
        at which nothing is left to explain.
    """
    xp = namespace(S)
    R = xp.zeros_like(S[:, :n_components])
    P = xp.zeros_like(R)
    width, scale, total = len(S), float(xp.trace(G)), float(xp.trace(S))
    block = G[:, : min(width, 2)]
    for k in range(n_components):
        r, p = R[:, :k], P[:, :k]

        def deflated(B: Array, r: Array = r, p: Array = p) -> Array:
            image = G @ (B - r @ (p.T @ B))
            return image - p @ (r.T @ image)

        w, value, block = leading_eigenvector(deflated, block, noise=_EPS * scale)
        if value <= width * _EPS * scale:
            break
        for _ in range(2):
            w = w - r @ (p.T @ w)
        image = S @ w
        squares = float(w @ image)
        if squares <= width * _EPS * total:
            break
        R[:, k], P[:, k] = w / squares**0.5, image / squares**0.5
        block = xp.concatenate([block, P[:, k : k + 1]], 1)
    return R


def _heldout_error(z: Array, y: _Targets, S: Array, C: Array, n_components: int, splits: Splits) -> tuple[Numbers, Numbers]:
    """Return Σ(y−ŷ)² over held-out rows for each number of components, and Σ(y−ȳ_f)².

    The cross products of training rows are those of all rows, less those of the rows left out.
    """
    dtype, wide, n_targets = y.dtype, namespace(z).float64, len(y.mean)
    sums = z.sum(0, dtype=wide), len(z) * y.remainder
    error, spread = np.zeros((n_components, n_targets)), np.zeros(n_targets)
    for train, test in splits:
        n = len(train)
        rest = np.setdiff1d(np.arange(len(z)), train)
        few = len(rest) < n
        part = rest if few else train
        z_part, y_part = rows_of(z, part), y.rows(part)
        S_part, C_part = column_gram(z_part), z_part.T @ y_part
        z_mean, y_mean = (a.sum(0, dtype=wide) for a in (z_part, y_part))
        if few:
            S_part, C_part = S - S_part, C - C_part
            z_mean, y_mean = sums[0] - z_mean, sums[1] - y_mean
        z_mean, y_mean = z_mean / n, y_mean / n
        S_part = S_part - n * z_mean[:, None] * z_mean[None, :]
        C_part = C_part - cast(n * z_mean, dtype)[:, None] * cast(y_mean, dtype)[None, :]
        rotations = pls_rotations(S_part, row_gram(C_part), n_components)
        loadings = cast(cast(rotations, dtype).T @ C_part, "float64")
        scores = (cast(rows_of(z, test), "float64") - z_mean) @ rotations
        held = cast(y.rows(test), "float64")
        spread += to_numpy(((held - held.mean(0)) ** 2).sum(0))
        error += to_numpy(_prefix_errors(held - y_mean, scores, loadings))
    return error, spread


def _prefix_errors(y: Array, scores: Array, loadings: Array) -> Array:
    """Return Σ(y − T_k Q_k)² for the first 1, 2, 3 ... components, without a prediction for each."""
    xp = namespace(y)
    inner = scores.T @ scores
    lower = 2 * xp.tril(inner, -1) + xp.diag(xp.diag(inner))
    return (y * y).sum(0) + (loadings * (lower @ loadings - 2 * (scores.T @ y))).cumsum(0)


@dataclass(frozen=True)
class _Targets:
    """Targets that are centred a part at a time: a centred copy would cost as much as the products with it."""

    values: Array
    mean: Array
    shift: Array
    dtype: str

    @classmethod
    def of(cls, Y: Array, dtype: str) -> _Targets:
        values, mean = _with_mean(Y)
        return cls(values, mean, cast(mean, dtype_name(values)), dtype)

    @property
    def remainder(self) -> Array:
        """The mean that is left once the rounded mean is subtracted."""
        return self.mean - cast(self.shift, "float64")

    def rows(self, rows: Numbers) -> Array:
        return cast(rows_of(self.values, rows) - self.shift, self.dtype)

    def products(self, z: Array) -> Array:
        """Return zᵀY."""
        tiles = [slice(start, start + _TILE) for start in range(0, max(1, len(self.mean)), _TILE)]
        parts = [z.T @ cast(self.values[:, cols] - self.shift[cols], self.dtype) for cols in tiles]
        return namespace(z).concatenate(parts, 1)


def _centred(X: Array, dtype: str) -> tuple[Array, Array]:
    """Return the column means in float64, and the centred columns."""
    values, mean = _with_mean(X)
    return mean, cast(values - cast(mean, dtype_name(values)), dtype)


def _with_mean(values: Array) -> tuple[Array, Array]:
    values = values if dtype_name(values) in ("float32", "float64") else cast(values, "float64")
    return values, values.mean(0, dtype=namespace(values).float64)
