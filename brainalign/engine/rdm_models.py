"""Dissimilarity matrices that are combined, or held constant, in the space in which a measure is a cosine."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers
from brainalign.engine.stacking import stacking_weights

_LEAST = 1e-10  # share of a squared length below which a residual is rounding


def residual_units(prepared: Numbers, controls: Numbers) -> Numbers:
    """Return what controls leave of prepared matrices, scaled to length 1: the cosine of two of them is a partial correlation.

    Parameters
    ----------
    prepared : ndarray of float64, (rdm, feature)
        Unit vectors, from a measure of :data:`brainalign.engine.comparators.COMPARATORS` with ``of_units``.
    controls : ndarray of float64, (control, feature)
        The same, of the matrices that are held constant; a row of NaN, of a matrix that does not vary, controls nothing.

    Returns
    -------
    ndarray of float64, (rdm, feature)
        NaN where controls leave nothing.
    """
    defined = controls[np.isfinite(controls).all(axis=1)]
    _, sizes, axes = np.linalg.svd(defined, full_matrices=False)
    axes = axes[sizes > 1e-10 * sizes.max(initial=0.0)]
    left = prepared - (prepared @ axes.T) @ axes
    left -= (left @ axes.T) @ axes  # a second pass takes out what rounding left
    length = np.einsum("ij,ij->i", left, left)
    return np.asarray(left / np.sqrt(np.where(length > _LEAST, length, np.nan))[:, None])


def fit_weights(components: Numbers, targets: Numbers, model: str) -> Numbers:
    """Return the weights of the combination of components that is most alike each target.

    Parameters
    ----------
    components : ndarray of float64, (component, feature)
        In a space in which the measure is a cosine, before they are scaled.
    targets : ndarray of float64, (target, feature)
    model : {"weighted", "free", "interpolated"}
        Weights of any size ≥ 0; of either sign; or those of two successive components, which add up to 1.

    Returns
    -------
    ndarray of float64, (target, component)
        Zeros where no combination is alike the target at all, or it does not vary.

    Notes
    -----
    Of all vectors in a cone, or in a space, the projection of the target has the largest cosine: least squares fit the measure itself.
    """
    if model == "free":
        return np.linalg.lstsq(components.T, targets.T, rcond=None)[0].T
    gram, cross = components @ components.T, targets @ components.T
    if model == "weighted":
        return _nonnegative(gram, cross)
    segments = [np.array([k, k + 1]) for k in range(len(components) - 1)]
    found = np.stack([_nonnegative(gram[np.ix_(s, s)], cross[:, s]) for s in segments])  # (segment, target, 2)
    explained = np.stack([(weights * cross[:, s]).sum(axis=1) for weights, s in zip(found, segments, strict=True)])
    best, rows = explained.argmax(axis=0), np.arange(len(targets))
    ends = found[best, rows]
    total = ends.sum(axis=1, keepdims=True)
    out = np.zeros((len(targets), len(components)))
    for end in range(2):
        out[rows, best + end] = (ends / np.where(total > 0, total, 1.0))[:, end]
    return out


def _nonnegative(gram: Numbers, cross: Numbers) -> Numbers:
    """Return non-negative least squares weights, (target, component), of components scaled to one length."""
    scale = np.sqrt(np.diag(gram))
    scale = np.where(scale > 0, scale, 1.0)
    problems = np.broadcast_to(gram / np.outer(scale, scale), (len(cross), *gram.shape))
    return stacking_weights(problems, cross / scale, np.ones(len(cross)), "nonnegative") / scale


def regress(components: Numbers, targets: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return what each of several components adds to the others in a regression of targets on all of them.

    Parameters
    ----------
    components : ndarray of float64, (component, feature)
        Unit vectors, linearly independent.
    targets : ndarray of float64, (target, feature)
        Unit vectors.

    Returns
    -------
    coefficients : ndarray of float64, (component, target)
        Standardised.
    unique : ndarray of float64, (component, target)
        By how much R² falls without the component.
    r2 : ndarray of float64, (target,)
    """
    inverse = np.linalg.inv(components @ components.T)
    cross = components @ targets.T
    coefficients = inverse @ cross
    return coefficients, coefficients**2 / np.diag(inverse)[:, None], (coefficients * cross).sum(axis=0)
