"""How alike two images are to an eye that looks at places: luminance, contrast and structure, window by window."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from brainalign.engine.moments import Numbers

_SIGMA, _REACH = 1.5, 5  # of the window, in pixels: 3.5 deviations, as Wang et al. have it
_STABILISERS = 0.01, 0.03


def structural_similarity(images: Numbers, others: Numbers, *, data_range: float) -> Numbers:
    """Return the mean structural similarity of each pair of images.

    Parameters
    ----------
    images, others : ndarray, (image, y, x[, channel])
        At least 11 pixels high and wide.
    data_range : float
        From the smallest to the largest value that there could be.

    Returns
    -------
    ndarray of float64, (image,)
        Averaged over channels.

    Notes
    -----
    (2μₐμ_b + c₁)(2σ_ab + c₂) / ((μₐ² + μ_b² + c₁)(σₐ² + σ_b² + c₂)), with moments in Gaussian windows of 1.5 pixels, c = (0.01 L)², (0.03 L)²,
    and the mean over pixels whose window is whole (Wang et al. 2004).

    Examples
    --------
    >>> x = np.random.default_rng(0).random((2, 16, 16))
    >>> structural_similarity(x, x, data_range=1.0)
    array([1., 1.])
    """
    a, b = images.astype(np.float64), others.astype(np.float64)
    mean_a, mean_b = _windowed(a), _windowed(b)
    spread_a, spread_b = _windowed(a * a) - mean_a**2, _windowed(b * b) - mean_b**2
    shared = _windowed(a * b) - mean_a * mean_b
    c1, c2 = ((k * data_range) ** 2 for k in _STABILISERS)
    alike = (2 * mean_a * mean_b + c1) * (2 * shared + c2) / ((mean_a**2 + mean_b**2 + c1) * (spread_a + spread_b + c2))
    whole = alike[:, _REACH:-_REACH, _REACH:-_REACH]
    return np.asarray(whole.reshape(len(whole), -1).mean(axis=1))


def _windowed(images: Numbers) -> Numbers:
    along_y = gaussian_filter1d(images, _SIGMA, axis=1, radius=_REACH)
    return np.asarray(gaussian_filter1d(along_y, _SIGMA, axis=2, radius=_REACH))
