"""Dissimilarity matrices that are combined, or held constant, in the space in which a measure is a cosine."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers

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
