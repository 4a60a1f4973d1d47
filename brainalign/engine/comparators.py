"""How alike dissimilarity matrices are: every measure is a preparation of each matrix, once, and a product of two sets of prepared ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, helmert, solve_triangular
from scipy.optimize import minimize_scalar
from scipy.stats import kendalltau

from brainalign.engine.correlate import ranks
from brainalign.engine.dependence import double_centred
from brainalign.engine.gram import eigh, null_floor
from brainalign.engine.moments import Numbers, deviations

_NOISE_RANGE = np.linspace(-18.0, 12.0, 13)  # log share of noise in a Gram matrix of unit trace, before it is narrowed down


@dataclass(frozen=True)
class Comparator:
    """A measure of the likeness of dissimilarity matrices.

    Attributes
    ----------
    units : str
        What a score is in, as an axis names it.
    prepare : callable, (vectors, covariance=None) -> ndarray of float64, (rdm, ...)
        ``vectors`` (rdm, pair) are the pairs above the diagonal, row by row; NaN in the same pairs of all of them, which are left
        out. ``covariance`` (condition, condition) is that of the estimates of the conditions; None: independent, one variance.
    product : callable, (prepared, prepared) -> ndarray of float64, (rdm, rdm of the other side)
        NaN where a side does not vary. :func:`inner_products` for the measures that are linear in what is prepared.
    higher_is_alike : bool
        False for a distance.
    symmetric : bool
        Whether the sides can be swapped.
    takes_covariance : bool
        Otherwise ``covariance`` changes nothing.
    of_units : bool
        What is prepared has length 1, so that the score is its cosine: matrices can be held constant.
    features : callable, optional
        As ``prepare``, before the scaling to length 1, where it is linear in the dissimilarities: matrices can be fitted by others.
    complete : bool
        Of the conditions that a matrix has, no pair may be missing.
    from_patterns : bool
        The dissimilarities must be squared distances of some patterns: none negative, a Gram matrix that is positive semi-definite.
    limits : tuple of float
        The lowest and the highest score that there can be.
    """

    units: str
    prepare: Callable[..., Numbers]
    product: Callable[[Numbers, Numbers], Numbers]
    higher_is_alike: bool = True
    symmetric: bool = True
    takes_covariance: bool = False
    of_units: bool = False
    features: Callable[..., Numbers] | None = None
    complete: bool = False
    from_patterns: bool = False
    limits: tuple[float, float] = (-1.0, 1.0)


def square(vectors: Numbers, *, diagonal: float = 0.0) -> Numbers:
    """Return the symmetric matrices whose pairs above the diagonal are given, row by row.

    Parameters
    ----------
    vectors : ndarray, (..., pair)
    diagonal : float

    Returns
    -------
    ndarray of float64, (..., condition, condition)

    Examples
    --------
    >>> square(np.array([1.0, 2.0, 3.0])).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    n = n_conditions(vectors.shape[-1])
    first, second = np.triu_indices(n, 1)
    out = np.full((*vectors.shape[:-1], n, n), diagonal)
    out[..., first, second] = out[..., second, first] = vectors
    return out


def n_conditions(n_pairs: int) -> int:
    """Return how many conditions have so many pairs.

    Parameters
    ----------
    n_pairs : int

    Returns
    -------
    int

    Examples
    --------
    >>> n_conditions(4186)
    92
    """
    return (1 + math.isqrt(1 + 8 * n_pairs)) // 2


def centred_gram(vectors: Numbers) -> Numbers:
    """Return the Gram matrices of the patterns, around their mean, whose squared distances are given: −½ H D H.

    Parameters
    ----------
    vectors : ndarray, ([...,] pair)
        NaN in the same pairs of all of (rdm, pair): the matrix nearest to them (least squares over the pairs that there are) that has
        zeros there, and rows that sum to zero.

    Returns
    -------
    ndarray of float64, ([...,] condition, condition)
    """
    missing = np.asarray(np.isnan(vectors).any(axis=0))
    if not missing.any():
        return double_centred(square(-0.5 * vectors))
    gram = square(np.where(missing, 0.0, -0.5 * vectors))
    there = square(~missing, diagonal=1.0)
    excess = np.linalg.solve(there + np.diag(there.sum(axis=1)), gram.sum(axis=-1).T).T
    gram -= there * (excess[..., :, None] + excess[..., None, :])
    return gram


def inner_products(a: Numbers, b: Numbers) -> Numbers:
    """Return the products of every prepared matrix of one side with every one of the other, within [-1, 1].

    Parameters
    ----------
    a : ndarray of float64, (rdm, feature)
    b : ndarray of float64, (rdm, feature)

    Returns
    -------
    ndarray of float64, (rdm, rdm of the other side)
    """
    return np.asarray(np.clip(a @ b.T, -1.0, 1.0))  # rounding alone can take it past 1


def units(x: Numbers) -> Numbers:
    """Scale each row to length 1.

    Parameters
    ----------
    x : ndarray of float64, (row, ...)

    Returns
    -------
    ndarray of float64, (row, feature)
        NaN where a row is zero.
    """
    flat = x.reshape(len(x), -1)
    length = np.sqrt(np.einsum("ij,ij->i", flat, flat))
    return np.asarray(flat / np.where(length > 0, length, np.nan)[:, None])


def _kept(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    missing = np.isnan(vectors).any(axis=0)
    return vectors[:, ~missing] if missing.any() else vectors


def around_mean(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    """Return dissimilarities around their mean over pairs: the features of ``"pearson"``.

    Parameters
    ----------
    vectors : ndarray, (rdm, pair)
    covariance : ndarray, optional
        Changes nothing.

    Returns
    -------
    ndarray of float64, (rdm, pair)
        Without pairs that are NaN.
    """
    return deviations(_kept(vectors), axis=1)


def _ranked(vectors: Numbers) -> Numbers:
    return ranks(_kept(vectors), axis=1)


def _spearman(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    return units(deviations(_ranked(vectors), axis=1))


def _rho_a(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    """Prepare for the Spearman correlation expected when ties are broken at random: ranks have the length of those without ties."""
    centred = deviations(_ranked(vectors), axis=1)
    n = centred.shape[1]
    varies = np.where(centred.any(axis=1, keepdims=True), 1.0, np.nan)
    return np.asarray(centred * varies * np.sqrt(12.0 / max(n**3 - n, 1)))


def _whitened(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    """Return S with ⟨S₁, S₂⟩ = d₁ᵀV⁻¹d₂, V = Ξ∘Ξ, Ξ = C Σ Cᵀ: a Gram matrix in which the noise of conditions is white."""
    if covariance is None:
        return centred_gram(vectors).reshape(len(vectors), -1)
    whitener = _whitener(covariance)
    return (whitener @ (-0.5 * square(vectors)) @ whitener.T).reshape(len(vectors), -1)


def _whitened_centred(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    return _whitened(vectors - np.nanmean(vectors, axis=1, keepdims=True), covariance)


def _whitener(covariance: Numbers) -> Numbers:
    """Return Π L⁻¹ with Σ = L Lᵀ: noise becomes white, and Π leaves out the direction L⁻¹1, which distances do not show."""
    lower = cholesky(covariance, lower=True)
    white = solve_triangular(lower, np.eye(len(lower)), lower=True)
    common = white.sum(axis=1)
    return np.asarray(white - np.outer(common, common @ white) / (common @ common))


def _tau_ranks(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    ranked = 2 * _ranked(vectors)  # whole numbers, as small as they can be: those of 16 bits are sorted three times as fast
    return ranked.astype(np.min_scalar_type(2 * ranked.shape[1]))


def tau_b(a: Numbers, b: Numbers) -> Numbers:
    """Return Kendall's τ_b of every row of one side with every row of the other.

    Parameters
    ----------
    a, b : ndarray, (rdm, pair)

    Returns
    -------
    ndarray of float64, (rdm, rdm of the other side)
        NaN where a row does not vary.
    """
    out = np.full((len(a), len(b)), np.nan)
    for i, x in enumerate(a):
        order = np.argsort(x, kind="stable")
        for j, y in enumerate(b):
            out[i, j] = kendalltau(y[order], x[order], method="asymptotic").statistic
    return out


def tau_a(a: Numbers, b: Numbers) -> Numbers:
    """Return Kendall's τ_a, in which pairs that are tied on a side count as neither concordant nor discordant.

    Parameters
    ----------
    a, b : ndarray, (rdm, pair)

    Returns
    -------
    ndarray of float64, (rdm, rdm of the other side)
        NaN where a row does not vary.
    """
    return np.asarray(tau_b(a, b) * np.sqrt(np.outer(_untied(a), _untied(b))))


def _untied(x: Numbers) -> Numbers:
    """Return the share of pairs of entries that are not tied, of each row."""
    ties = np.array([sum(count * (count - 1) for count in np.unique(row, return_counts=True)[1].tolist()) for row in x])
    return np.asarray(1.0 - ties / max(x.shape[1] * (x.shape[1] - 1), 1))


def _bures(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    """Return patterns of unit variance that have these distances, (rdm, condition, dimension)."""
    patterns, rank = [], 1
    for gram in centred_gram(vectors):
        values, axes = eigh(gram)
        values = np.where(values > null_floor(values, gram), values, 0.0)  # a root would take rounding to half of all digits
        patterns.append(axes * np.sqrt(values / (values.sum() or np.nan)))
        rank = max(rank, int((values > 0).sum()))
    return np.stack(patterns)[..., -rank:]


def nuclear_products(a: Numbers, b: Numbers) -> Numbers:
    """Return ‖XᵀY‖_* of every set of patterns of one side with every one of the other.

    Parameters
    ----------
    a, b : ndarray of float64, (rdm, condition, dimension)

    Returns
    -------
    ndarray of float64, (rdm, rdm of the other side)
    """
    out = np.full((len(a), len(b)), np.nan)
    defined = np.isfinite(a).all(axis=(1, 2)), np.isfinite(b).all(axis=(1, 2))
    for i in np.flatnonzero(defined[0]):
        out[i, defined[1]] = np.linalg.svd(a[i].T @ b[defined[1]], compute_uv=False).sum(axis=-1)
    return np.asarray(np.clip(out, 0.0, 1.0))


def _riemannian(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
    """Return Gram matrices of unit trace in coordinates in which the noise of the conditions is the identity."""
    basis = helmert(n_conditions(vectors.shape[1]))  # rows: all contrasts of conditions
    if covariance is not None:
        basis = solve_triangular(cholesky(basis @ covariance @ basis.T, lower=True), basis, lower=True)
    gram = basis @ (-0.5 * square(vectors)) @ basis.T
    trace = np.trace(gram, axis1=-2, axis2=-1)
    return np.asarray(gram / np.where(trace > 0, trace, np.nan)[:, None, None])


def riemannian_distances(a: Numbers, b: Numbers) -> Numbers:
    """Return min over s, t of √Σ log² λ, λ the generalised eigenvalues of (s A + t I, B), of every A with every B.

    Parameters
    ----------
    a, b : ndarray of float64, (rdm, contrast, contrast)
        Positive semi-definite, and ``b`` definite.

    Returns
    -------
    ndarray of float64, (rdm, rdm of the other side)

    Notes
    -----
    Scale and noise of the first matrix are free (Shahbazi et al. 2021). The scale has a closed form: it centres the logarithms, so
    that one search along the share of noise is left.
    """
    out = np.full((len(a), len(b)), np.nan)
    for j, second in enumerate(b):
        if not np.isfinite(second).all():
            continue
        inverse = solve_triangular(cholesky(second, lower=True), np.eye(len(second)), lower=True)
        noise = inverse @ inverse.T
        for i, first in enumerate(a):
            if np.isfinite(first).all():
                out[i, j] = _nearest(inverse @ first @ inverse.T, noise)
    return out


def _nearest(signal: Numbers, noise: Numbers) -> float:
    def spread(share: float) -> float:
        of_noise = 1.0 / (1.0 + np.exp(-share))
        mixed = np.linalg.eigvalsh((1.0 - of_noise) * signal + of_noise * noise)
        logs = np.log(np.maximum(mixed, np.finfo(np.float64).tiny))
        return float(logs.var() * len(logs))

    tried = [spread(share) for share in _NOISE_RANGE]
    best = int(np.argmin(tried))
    around = _NOISE_RANGE[max(best - 1, 0)], _NOISE_RANGE[min(best + 1, len(_NOISE_RANGE) - 1)]
    found = minimize_scalar(spread, bounds=around, method="bounded", options={"xatol": 1e-6})
    return float(np.sqrt(min(found.fun, tried[best], spread(-np.inf), spread(np.inf))))


def _cosine_of(name: str, features: Callable[..., Numbers], *, takes_covariance: bool = False) -> Comparator:
    def prepare(vectors: Numbers, covariance: Numbers | None = None) -> Numbers:
        return units(features(vectors, covariance))

    return Comparator(name, prepare, inner_products, of_units=True, features=features, takes_covariance=takes_covariance)


#: Every measure by its name.
COMPARATORS = {
    "cosine": _cosine_of("cosine", _kept),
    "pearson": _cosine_of("Pearson r", around_mean),
    "spearman": Comparator("Spearman ρ", _spearman, inner_products, of_units=True),
    "rho-a": Comparator("rho-a (rank correlation)", _rho_a, inner_products),
    "tau-a": Comparator("Kendall τ-a", _tau_ranks, tau_a),
    "tau-b": Comparator("Kendall τ-b", _tau_ranks, tau_b),
    "whitened-cosine": _cosine_of("whitened cosine", _whitened, takes_covariance=True),
    "whitened-pearson": _cosine_of("whitened Pearson r", _whitened_centred, takes_covariance=True),
    "bures": Comparator("Bures similarity", _bures, nuclear_products, complete=True, from_patterns=True, limits=(0.0, 1.0)),
    "riemannian": Comparator(
        "Riemannian distance",
        _riemannian,
        riemannian_distances,
        higher_is_alike=False,
        symmetric=False,
        takes_covariance=True,
        complete=True,
        from_patterns=True,
        limits=(0.0, np.inf),
    ),
}
