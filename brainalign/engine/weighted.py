"""The sums of held-out rows under bootstrap weights: every draw of a tile of columns in five matrix products."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import FoldSums, Numbers, deviations


def weighted_fold_sums(target: Numbers, prediction: Numbers, weights: Numbers) -> FoldSums:
    """Return the sums of one fold as if its rows had been drawn as often as the weights say.

    Parameters
    ----------
    target, prediction : ndarray, (row, column)
    weights : ndarray of float64, (draw, row)
        How often each draw holds each row; a draw may hold none.

    Returns
    -------
    FoldSums
        Each sum (draw, column), around the mean of the draw's own rows; ``n`` is (draw, 1).
    """
    y, p = deviations(target), deviations(prediction)
    error = np.asarray(target, dtype=np.float64) - np.asarray(prediction, dtype=np.float64)
    n = weights.sum(axis=1, keepdims=True)
    means = weights @ y / np.maximum(n, 1), weights @ p / np.maximum(n, 1)

    def centred(first: Numbers, second: Numbers, a: int, b: int) -> Numbers:
        raw = weights @ (first * second)
        out = raw - n * means[a] * means[b]
        return np.where(np.abs(out) <= 1e-12 * np.abs(raw), 0.0, out)  # one row drawn many times: rounding, not variance

    return FoldSums(n, centred(y, y, 0, 0), centred(p, p, 1, 1), centred(y, p, 0, 1), weights @ (error * error))
