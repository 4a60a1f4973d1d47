"""How responses depend on an angle: harmonics, circular variance, and von Mises curves fitted to all columns at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from brainalign.engine.moments import Numbers

_ZOOMS, _SIDE = 6, 9  # of the search around the best curve of a grid: a third of the range each time
_WIDEST, _N_KAPPAS = 0.2, 24  # concentrations on the grid
_VALUES = 2**21  # of curves that are compared at a time


@dataclass(frozen=True)
class Curves:
    """Fitted curves b + a₁ exp(κ (cos(θ − μ) − 1)) + a₂ exp(κ (cos(θ − μ − π) − 1)), a₁ ≥ a₂ ≥ 0.

    Attributes
    ----------
    preferred : ndarray, (column,)
        μ in radians, from 0 to 2π.
    kappa, r2 : ndarray, (column,)
        Concentration, and the share of the variance over angles that the curve explains.
    base, height, opposite : ndarray, (column,)
        b, a₁ and a₂.
    """

    preferred: Numbers
    kappa: Numbers
    r2: Numbers
    base: Numbers
    height: Numbers
    opposite: Numbers

    def at(self, angles: Numbers) -> Numbers:
        """Return the curves at some angles.

        Parameters
        ----------
        angles : ndarray, (angle,)
            In radians.

        Returns
        -------
        ndarray of float64, (angle, column)
        """
        first, second = _lobes(np.asarray(angles)[:, None], self.preferred, self.kappa)
        return np.asarray(self.base + self.height * first + self.opposite * second)

    @property
    def half_width(self) -> Numbers:
        """Half width at half height of the preferred lobe, in radians: half between its top and its foot at the other side."""
        return np.arccos(np.clip(1.0 + np.log((1.0 + np.exp(-2.0 * self.kappa)) / 2.0) / self.kappa, -1.0, 1.0))


def harmonic(means: Numbers, angles: Numbers, order: int) -> Numbers:
    """Return Σ r e^{i k θ} over the angles.

    Parameters
    ----------
    means : ndarray, (angle, ...)
        Response to each.
    angles : ndarray, (angle,)
        In radians.
    order : int
        k: 1 for direction, 2 for orientation.

    Returns
    -------
    ndarray of complex, (...)
    """
    return np.asarray(np.tensordot(np.exp(1j * order * angles), means, axes=(0, 0)))


def circular_index(means: Numbers, angles: Numbers, order: int) -> Numbers:
    """Return |Σ r e^{i k θ}| / Σ r, which is 1 less the circular variance; negative responses count as 0.

    Parameters
    ----------
    means : ndarray, (angle, ...)
    angles : ndarray, (angle,)
        In radians, evenly spaced.
    order : int
        1 for direction, 2 for orientation (Ringach, Shapley and Hawken 2002; Mazurek, Kager and Van Hooser 2014).

    Returns
    -------
    ndarray of float64, (...)
        0 to 1; NaN where no response is above 0.

    Examples
    --------
    >>> angles = np.deg2rad([0, 90, 180, 270])
    >>> circular_index(np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), angles, 2).tolist()
    [1.0, 1.0]
    """
    rates = np.maximum(means, 0.0)
    total = rates.sum(axis=0)
    return np.asarray(np.abs(harmonic(rates, angles, order)) / np.where(total > 0, total, np.nan))


def fit_curves(means: Numbers, angles: Numbers, *, lobes: int = 2) -> Curves:
    """Fit a von Mises curve to each column by least squares.

    Parameters
    ----------
    means : ndarray, (angle, column)
    angles : ndarray, (angle,)
        In radians, evenly spaced over the circle. Orientations are doubled before, and have one lobe.
    lobes : {1, 2}
        Two lobes of one width lie opposite each other, as of a neuron that is tuned to an orientation and shown directions.

    Returns
    -------
    Curves
        Of a column that does not vary, all NaN.

    Notes
    -----
    Only μ and κ are searched for, on a grid and then around its best point: heights and base follow from them in closed form. A
    lobe is at least as wide as its samples can tell, 1/√κ no less than half their spacing (Mazurek, Kager and Van Hooser 2014): a
    narrower one could be of any height between two of them.
    """
    y = means - means.mean(axis=0)
    squares = np.square(y).sum(axis=0)
    kappas = np.geomspace(_WIDEST, (len(angles) / np.pi) ** 2, _N_KAPPAS)
    mu, kappa = np.meshgrid(np.arange(0.0, 2 * np.pi, np.pi / 36), kappas, indexing="ij")
    mu, kappa = mu.ravel(), kappa.ravel()
    best = np.empty((2, y.shape[1]))
    step = max(1, _VALUES // (len(mu) * len(angles)))
    for start in range(0, y.shape[1], step):
        part = slice(start, start + step)
        explained = _explained(y[:, part, None], angles, mu, kappa, lobes)[0]
        place = explained.argmax(axis=1)
        best[:, part] = mu[place], np.log(kappa[place])
    spans = [np.pi / 36, np.log(kappas[1] / kappas[0])]
    a, b = (side.ravel() for side in np.meshgrid(*[np.linspace(-1, 1, _SIDE)] * 2, indexing="ij"))
    for _ in range(_ZOOMS):
        mu, kappa = best[0][:, None] + spans[0] * a, np.clip(best[1][:, None] + spans[1] * b, *np.log(kappas[[0, -1]]))
        place = _explained(y[:, :, None], angles, mu, np.exp(kappa), lobes)[0].argmax(axis=1)[:, None]
        best = np.stack([np.take_along_axis(grid, place, axis=1)[:, 0] for grid in (mu, kappa)])
        spans = [span / 3.0 for span in spans]
    explained, first, second = (
        part[:, 0] for part in _explained(y[:, :, None], angles, best[0][:, None], np.exp(best[1])[:, None], lobes)
    )
    lobe = [shape.mean(axis=0) for shape in _lobes(angles[:, None], best[0], np.exp(best[1]))]
    base = means.mean(axis=0) - first * lobe[0] - second * lobe[1]
    some = np.where(squares > 0, 1.0, np.nan)
    r2 = explained / np.where(squares > 0, squares, np.nan)
    return Curves(*(part * some for part in (best[0] % (2 * np.pi), np.exp(best[1]), r2, base, first, second)))


def _lobes(angles: Numbers, mu: Numbers, kappa: Numbers) -> tuple[Numbers, Numbers]:
    cosine = np.cos(angles - mu)
    return np.exp(kappa * (cosine - 1.0)), np.exp(kappa * (-cosine - 1.0))


def _explained(y: Numbers, angles: Numbers, mu: Numbers, kappa: Numbers, lobes: int) -> tuple[Numbers, Numbers, Numbers]:
    """Return the squares that curves explain, (column, curve), and the heights of both lobes, none of them negative."""
    shape = [x - x.mean(axis=0) for x in _lobes(angles.reshape(-1, *[1] * max(1, mu.ndim)), mu, kappa)]
    first, second = (x if x.ndim == 3 else x[:, None] for x in shape)
    aa, bb, ab = (np.einsum("anc,anc->nc", p, q) for p, q in ((first, first), (second, second), (first, second)))
    ya, yb = (np.einsum("anc,anc->nc", *np.broadcast_arrays(y, x)) for x in (first, second))
    alone = np.maximum(ya, 0.0) / aa
    if lobes == 1:
        return alone * np.maximum(ya, 0.0), alone, np.zeros_like(alone)
    determinant = aa * bb - ab * ab
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (bb * ya - ab * yb) / determinant, (aa * yb - ab * ya) / determinant
    both = (determinant > 1e-12 * aa * bb) & (a >= b) & (b >= 0)
    a, b = np.where(both, a, alone), np.where(both, b, 0.0)
    return 2 * (a * ya + b * yb) - a * a * aa - 2 * a * b * ab - b * b * bb, a, b
