"""Pearson's r of two sides at every circular shift, or with every frequency turned, from one Fourier transform of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import fft

from brainalign.engine.backend import even_slices
from brainalign.engine.moments import Numbers, deviations

_TILE = 512  # columns transformed together: what is in flight stays in the tens of megabytes


@dataclass(frozen=True)
class ShiftedSums:
    """Sums from which r follows at every circular shift of the truth against the prediction.

    Attributes
    ----------
    cross : list of ndarray of float64, (shift, column), one a run
        Σ(y−ȳ)(ŷ−ŷ̄) where row i of the prediction meets row i + shift of the truth.
    truth_ss : list of ndarray of float64, (shift, column) or (1, column), one a run
        Σ(y−ȳ)², which moves with the shift where rows are centred in parts of a run.
    prediction_ss : ndarray of float64, (column,)
        Over all runs.
    """

    cross: list[Numbers]
    truth_ss: list[Numbers]
    prediction_ss: Numbers

    def at(self, shifts: Numbers) -> Numbers:
        """Return r, pooled over runs, where each run is shifted by its own number of rows.

        Parameters
        ----------
        shifts : ndarray of int, (draw, run)

        Returns
        -------
        ndarray of float64, (draw, column)
            NaN where a side does not vary.
        """
        cross = _gathered(self.cross, shifts)
        still = all(len(part) == 1 for part in self.truth_ss)
        return _pearson(cross, np.sum(self.truth_ss, axis=0) if still else _gathered(self.truth_ss, shifts), self.prediction_ss)


def shifted_sums(truth: Numbers, prediction: Numbers, runs: Sequence[Numbers], *, parts: Numbers | None = None) -> ShiftedSums:
    """Return the sums of all circular shifts within runs, in one pass.

    Parameters
    ----------
    truth, prediction : ndarray, (row, column)
        NaN in a column makes its sums NaN.
    runs : sequence of ndarray of int
        The rows of each run, in the order of time.
    parts : ndarray of int, (row,), optional
        What is centred together, within runs: the folds of a run that was tested in blocks. Default each run.

    Returns
    -------
    ShiftedSums
        Equal to shifting and summing, for n log n instead of n² operations a column.
    """
    cross, truth_ss, prediction_ss = [], [], np.zeros(truth.shape[1])
    for run in runs:
        of_run = np.zeros(len(run), dtype=np.int64) if parts is None else np.unique(parts[run], return_inverse=True)[1]
        n_parts = int(of_run.max()) + 1
        shifted, spread = np.empty((len(run), truth.shape[1])), np.empty((len(run) if n_parts > 1 else 1, truth.shape[1]))
        for columns in even_slices(truth.shape[1], _TILE):
            y, p = deviations(truth[run, columns]), np.empty((len(run), columns.stop - columns.start))
            for part in range(n_parts):
                p[of_run == part] = deviations(prediction[run[of_run == part], columns])
            spectrum = fft.rfft(y, axis=0)
            shifted[:, columns] = fft.irfft(spectrum * fft.rfft(p, axis=0).conj(), len(run), axis=0, overwrite_x=True)
            prediction_ss[columns] += (p * p).sum(axis=0)
            spread[:, columns] = total = (y * y).sum(axis=0)
            for part in range(n_parts) if n_parts > 1 else ():  # Σ(y−ȳ)² = Σy² − (Σy)²/n in each part, at each shift
                inside = fft.rfft((of_run == part).astype(np.float64))[:, None].conj()
                spread[:, columns] -= fft.irfft(spectrum * inside, len(run), axis=0) ** 2 / (of_run == part).sum()
            spread[:, columns] *= spread[:, columns] > 1e-12 * total  # what is left of a constant is rounding
        cross.append(shifted)
        truth_ss.append(spread)
    return ShiftedSums(cross, truth_ss, prediction_ss)


def phase_correlations(truth: Numbers, prediction: Numbers, runs: Sequence[Numbers], phases: Sequence[Numbers]) -> Numbers:
    """Return r after the truth's frequencies were turned, for every draw in one product.

    Parameters
    ----------
    truth, prediction : ndarray, (row, column)
    runs : sequence of ndarray of int
        The rows of each run, in the order of time; each is centred.
    phases : sequence of ndarray, (draw, frequency), one a run
        From :func:`brainalign.engine.resample.draw_phases`.

    Returns
    -------
    ndarray of float64, (draw, column)
        Σ_k w_k Re(Y_k P*_k e^{iφ_k}) / n over the norms, which no phase changes.
    """
    out = np.empty((len(phases[0]), truth.shape[1]))
    for columns in even_slices(truth.shape[1], _TILE):
        width = columns.stop - columns.start
        cross, truth_ss, prediction_ss = np.zeros((len(out), width)), np.zeros(width), np.zeros(width)
        for run, angles in zip(runs, phases, strict=True):
            y, p = deviations(truth[run, columns]), deviations(prediction[run, columns])
            product = fft.rfft(y, axis=0) * fft.rfft(p, axis=0).conj()
            product[1 : (len(run) + 1) // 2] *= 2.0  # frequencies that stand for their mirror image too
            cross += (np.cos(angles) @ product.real - np.sin(angles) @ product.imag) / len(run)
            truth_ss += (y * y).sum(axis=0)
            prediction_ss += (p * p).sum(axis=0)
        out[:, columns] = _pearson(cross, truth_ss, prediction_ss)
    return out


def autocorrelation_time(x: Numbers, runs: Sequence[Numbers]) -> Numbers:
    """Return after how many rows each column is no longer like itself: the lag at which its autocorrelation falls below 1/e.

    Parameters
    ----------
    x : ndarray, (row, column)
    runs : sequence of ndarray of int
        The rows of each run, in the order of time.

    Returns
    -------
    ndarray of float64, (column,)
        Interpolated between lags; 0 for columns that do not vary. From deviations from each run's mean, so that it is
        underestimated where runs are not many times as long.
    """
    longest = max(len(run) for run in runs)
    covariance = np.zeros((longest, x.shape[1]))
    for run in runs:
        spectrum = fft.rfft(deviations(x[run]), 2 * len(run), axis=0)
        covariance[: len(run)] += fft.irfft(np.abs(spectrum) ** 2, 2 * len(run), axis=0)[: len(run)]
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(covariance[0] > 0, covariance / covariance[0], 0.0)
    below = rho < np.exp(-1.0)
    lag = np.where(below.any(axis=0), below.argmax(axis=0), longest - 1)
    before, after = np.take_along_axis(rho, np.maximum(lag - 1, 0)[None], 0)[0], np.take_along_axis(rho, lag[None], 0)[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        inside = lag - 1 + (before - np.exp(-1.0)) / (before - after)
    return np.where(lag == 0, 0.0, np.where(np.isfinite(inside), inside, lag))


def _gathered(parts: Sequence[Numbers], shifts: Numbers) -> Numbers:
    out = np.asarray(parts[0][shifts[:, 0] % len(parts[0])])
    for part, shift in zip(parts[1:], shifts.T[1:], strict=True):
        out += part[shift % len(part)]
    return out


def _pearson(cross: Numbers, truth_ss: Numbers, prediction_ss: Numbers) -> Numbers:
    """Divide by the norms in place: there may be as many numbers as in the recording."""
    norm = np.sqrt(np.maximum(truth_ss, 0.0)) * np.sqrt(prediction_ss)
    cross /= np.where(norm > 0, norm, np.nan)
    return np.asarray(np.clip(cross, -1.0, 1.0, out=cross))
