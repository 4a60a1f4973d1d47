"""What a response says of labels, in bits, how often a neuroid is active for each, and how sparse responses are."""

from __future__ import annotations

import numpy as np

from brainalign.engine.moments import Numbers

KINDS = ("specific", "related", "agnostic", "inactive")


def quantile_codes(ranked: Numbers, n_bins: int) -> Numbers:
    """Return in which of some bins of equal size each value lies; tied values lie in one.

    Parameters
    ----------
    ranked : ndarray of float64, (row, column)
        Mid-ranks.
    n_bins : int

    Returns
    -------
    ndarray of int8, (row, column)
    """
    return np.minimum((ranked - 0.5) * n_bins / len(ranked), n_bins - 1).astype(np.int8)


def mutual_information(codes: Numbers, n_bins: int, positive: Numbers, total: Numbers) -> Numbers:
    """Return the information between the bin of a value and a label, in bits, corrected for its bias.

    Parameters
    ----------
    codes : ndarray of int, (row, column)
    n_bins : int
    positive : ndarray of float64, (row, draw, label)
        Weight of a row where it has the label, else 0.
    total : ndarray of float64, (row, draw) or (row, 1)

    Returns
    -------
    ndarray of float64, (draw, column, label)

    Notes
    -----
    Less (cells that occur − bins that occur − 1) / (2 n ln 2), by which few rows seem to say something (Miller 1955; Panzeri
    and Treves 1996); what says nothing then scatters around 0, below it too.
    """
    flat = positive.reshape(len(positive), -1)
    with_label = np.stack([(codes == k).T.astype(np.float64) @ flat for k in range(n_bins)])
    with_label = with_label.reshape(n_bins, codes.shape[1], *positive.shape[1:])
    in_bin = np.stack([(codes == k).T.astype(np.float64) @ total for k in range(n_bins)])[..., None]
    n, n_label = total.sum(axis=0)[:, None], positive.sum(axis=0)
    bits, cells = np.zeros(with_label.shape[1:]), np.zeros(with_label.shape[1:])
    for joint, margin in ((with_label, n_label), (in_bin - with_label, n - n_label)):
        ratio = np.where(joint > 0, joint * n / np.maximum(in_bin * margin, 1e-300), 1.0)
        bits += (joint / n * np.log2(ratio)).sum(axis=0)
        cells += (joint > 0).sum(axis=0)
    bias = (cells - (in_bin > 0).sum(axis=0) - 1.0) / (2.0 * n * np.log(2.0))
    known = (n_label > 0) & (n_label < n)
    return np.moveaxis(np.where(known, bits - bias, np.nan), 1, 0)


def activation_entropy(probability: Numbers) -> Numbers:
    """Return the entropy of how activation is spread over labels, −Σ q log q with q = p / Σ p.

    Parameters
    ----------
    probability : ndarray, (..., label)
        How often a neuroid is active for each.

    Returns
    -------
    ndarray of float64, (...)
        In nats: 0 where one label alone makes it active, log(number of labels) where all do alike; NaN where none does
        (Tang et al. 2024, language activation probability entropy).

    Examples
    --------
    >>> activation_entropy(np.array([[0.3, 0.0, 0.0, 0.0], [0.2, 0.2, 0.2, 0.2]])).round(4).tolist()
    [0.0, 1.3863]
    """
    total = probability.sum(axis=-1, keepdims=True)
    share = probability / np.where(total > 0, total, np.nan)
    logs = np.log(np.where(share > 0, share, 1.0))
    return np.asarray(np.maximum(-(share * logs).sum(axis=-1), 0.0))


def kinds_of_activation(probability: Numbers, *, share: float = 0.5) -> Numbers:
    """Say whether a neuroid is active for one label, for several, or for all.

    Parameters
    ----------
    probability : ndarray, (..., label)
    share : float
        Of its highest probability, from which on a label counts as one that makes it active.

    Returns
    -------
    ndarray of str, (...)
        ``"specific"``, ``"related"``, ``"agnostic"``, or ``"inactive"`` where it never is.

    Examples
    --------
    >>> kinds_of_activation(np.array([[0.8, 0.1, 0.1], [0.8, 0.7, 0.1], [0.8, 0.7, 0.9], [0.0, 0.0, 0.0]])).tolist()
    ['specific', 'related', 'agnostic', 'inactive']
    """
    highest = probability.max(axis=-1)
    n = (probability > share * highest[..., None]).sum(axis=-1)
    return np.select([~(highest > 0), n == 1, n < probability.shape[-1]], [KINDS[3], KINDS[0], KINDS[1]], default=KINDS[2])


def sparseness(rates: Numbers, kind: str, *, axis: int = 0) -> Numbers:
    """Return how few of the values make up most of the response, 0 (all alike) to 1 (one alone).

    Parameters
    ----------
    rates : ndarray
        Not negative.
    kind : {"vinje-gallant", "treves-rolls", "hoyer"}
        (1 − a) / (1 − 1/n) with a = (Σ r/n)² / (Σ r²/n) (Vinje and Gallant 2000); a itself, which falls from 1 to 1/n (Treves and
        Rolls 1991); or (√n − Σ|r| / √Σr²) / (√n − 1) (Hoyer 2004).
    axis : int

    Returns
    -------
    ndarray of float64
        NaN where all values are 0, or there are fewer than two.

    Examples
    --------
    >>> one, alike = np.eye(4)[0], np.ones(4)
    >>> [(sparseness(one, kind).item(), sparseness(alike, kind).item()) for kind in ("vinje-gallant", "treves-rolls", "hoyer")]
    [(1.0, 0.0), (0.25, 1.0), (1.0, 0.0)]
    """
    n = rates.shape[axis]
    if n < 2:
        return np.full(rates.sum(axis=axis).shape, np.nan)
    total, squares = rates.sum(axis=axis, dtype=np.float64), np.square(rates, dtype=np.float64).sum(axis=axis)
    squares = np.where(squares > 0, squares, np.nan)
    if kind == "hoyer":
        return np.asarray((np.sqrt(n) - total / np.sqrt(squares)) / (np.sqrt(n) - 1.0))
    activity = total**2 / n / squares
    return np.asarray(activity if kind == "treves-rolls" else (1.0 - activity) / (1.0 - 1.0 / n))
