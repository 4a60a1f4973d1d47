"""What an eye or an ear could tell without a brain behind it: pixels, oriented energy, loudness in bands."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import fft

Array = np.ndarray[Any, Any]

#: Width of a Gabor filter in frequency, as a share of its own: one octave at half height.
_BANDWIDTH = 1 / (3 * np.sqrt(2 * np.log(2)))


def shares(n_from: int, n_to: int) -> Array:
    """Return how much of each old cell lies in each new one, where a line of cells is cut into others of equal size.

    Parameters
    ----------
    n_from, n_to : int

    Returns
    -------
    ndarray of float64, (n_to, n_from)
        Rows sum to 1: multiplied with values, it averages by area.

    Examples
    --------
    >>> shares(3, 2).round(2).tolist()
    [[0.67, 0.33, 0.0], [0.0, 0.33, 0.67]]
    """
    old, new = np.arange(n_from + 1) / n_from, np.arange(n_to + 1) / n_to
    overlap = np.minimum(new[1:, None], old[None, 1:]) - np.maximum(new[:-1, None], old[None, :-1])
    return np.asarray(np.maximum(overlap, 0) * n_to)


def resized(images: Array, n_y: int, n_x: int) -> Array:
    """Return images averaged by area onto another grid.

    Parameters
    ----------
    images : ndarray, (image, y, x, ...)
    n_y, n_x : int

    Returns
    -------
    ndarray of float64, (image, n_y, n_x, ...)
    """
    down = np.einsum("ay,iyx...->iax...", shares(images.shape[1], n_y), images, optimize=True)
    return np.asarray(np.einsum("bx,iax...->iab...", shares(images.shape[2], n_x), down, optimize=True))


def gabor_energy(images: Array, cycles: Sequence[int], n_orientations: int) -> Array:
    """Return how strong each orientation is at each scale and place, whatever its phase.

    Parameters
    ----------
    images : ndarray, (image, side, side)
    cycles : sequence of int
        Scales, as cycles across the image; a scale has ``cycles × cycles`` places, one a wavelength.
    n_orientations : int
        From 0 (vertical stripes) in equal steps over 180 degrees, counter-clockwise as y runs downwards.

    Returns
    -------
    ndarray of float64, (image, feature)
        Scale by scale; within it (orientation, y, x). Root mean squared amplitude of the quadrature pair over each place; a grating
        of amplitude ``a`` at the filter's own frequency gives ``a``.

    Notes
    -----
    A Gabor filter is a Gaussian in frequency. On one half of the frequencies only, it gives the pair of even and odd filters
    as one complex number. Images wrap around at their edges.

    Examples
    --------
    >>> stripes = np.cos(2 * np.pi * 4 * np.arange(32) / 32) * np.ones((1, 32, 1))
    >>> energy = gabor_energy(stripes, [4], 4).reshape(4, 16)
    >>> energy.mean(axis=1).round(2).tolist()
    [1.0, 0.03, 0.0, 0.03]
    """
    side = images.shape[-1]
    spectrum = fft.fft2(images, axes=(1, 2))
    frequency = fft.fftfreq(side, 1 / side)
    out = []
    for scale in cycles:
        pool = shares(side, scale)
        for angle in np.arange(n_orientations) * np.pi / n_orientations:
            across = (frequency[None, :] - scale * np.cos(angle)) ** 2 + (frequency[:, None] + scale * np.sin(angle)) ** 2
            gain = 2 * np.exp(-across / (2 * (_BANDWIDTH * scale) ** 2))
            gain[0, 0] = 0.0  # an even grey has no orientation
            power = np.abs(fft.ifft2(spectrum * gain, axes=(1, 2))) ** 2
            out.append(np.sqrt(np.einsum("ay,iyx,bx->iab", pool, power, pool, optimize=True)).reshape(len(images), -1))
    return np.concatenate(out, axis=1)


def band_envelopes(sound: Array, rate_hz: float, edges_hz: Array, starts: Array) -> Array:
    """Return the loudness of a sound in bands of frequency, averaged over pieces of time.

    Parameters
    ----------
    sound : ndarray, (sample,)
    rate_hz : float
        Its sampling rate.
    edges_hz : ndarray, (band + 1,)
    starts : ndarray of int, (piece,)
        First sample of each piece, ascending; each lasts until the next.

    Returns
    -------
    ndarray of float64, (piece, band)
        Mean Hilbert amplitude: a tone of amplitude ``a`` gives ``a`` in its band.

    Examples
    --------
    >>> tone = np.sin(2 * np.pi * 100 * np.arange(1000) / 1000)
    >>> band_envelopes(tone, 1000, np.array([50, 150, 400]), np.array([0, 500])).round(2).tolist()
    [[1.0, 0.0], [1.0, 0.0]]
    """
    n = fft.next_fast_len(len(sound))
    spectrum = fft.rfft(sound, n)
    frequency = fft.rfftfreq(n, 1 / rate_hz)
    lengths = np.diff([*starts, len(sound)])
    out = np.empty((len(starts), len(edges_hz) - 1))
    for band, (low, high) in enumerate(pairwise(edges_hz)):
        half = np.zeros(n, dtype=spectrum.dtype)
        half[: len(spectrum)] = np.where((frequency >= low) & (frequency < high), 2 * spectrum, 0)
        out[:, band] = np.add.reduceat(np.abs(fft.ifft(half))[: len(sound)], starts) / lengths
    return out
