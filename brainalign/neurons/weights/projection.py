"""Weights among natural stimuli: ``project_weights`` onto a pool of them, ``weight_patterns`` for what their features show."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_number
from brainalign.core.provenance import write_step
from brainalign.engine.concepts import column_blocks
from brainalign.engine.projection import cosines, patterns, project
from brainalign.neurons.weights.reading import bank_rows, labelled_vectors, vectors_of


def project_weights(weights: Any, pool: xr.DataArray, *, size: float = 100.0) -> xr.DataArray:
    """Move the weights of each neuroid to what natural stimuli hold: the mean of a pool in which those along them weigh most.

    Parameters
    ----------
    weights : fitted mapping, DataArray or array_like, (feature, neuroid)
        As in :func:`read_weights`.
    pool : DataArray, (presentation, neuroid)
        Features of many stimuli, other than those of the fit. In memory or lazy; it is read in portions.
    size : float
        How many stimuli the mean amounts to, 1 / Σ s². The temperature of each neuroid follows from it.

    Returns
    -------
    DataArray, (feature, neuroid)
        Goes to :func:`read_weights` with a bank of captions. Coordinates by neuroid: ``sharpness``, the τ found,
        ``effective_size``, and ``cosine`` with the weights as given. NaN where the weights are NaN or 0.

    Raises
    ------
    AlignmentError, CapabilityError
        As :func:`read_weights`.
    ParameterError
        A pool of no more stimuli than ``size``, or one without a direction.

    Notes
    -----
    BrainSCUBA (Luo et al., 2024): Σ s_i ê_i, s = softmax(τ cos(w, e_i)), with the mean length of the pool. There τ is 150, in a
    pool of two millions. In a pool of 20,000 that is a single stimulus, and a planted concept is met with a cosine of .80, where
    20 to 400 stimuli give .97 to .99 (raw weights .58): τ means nothing without the pool, and is set by what it leaves.

    Examples
    --------
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> pool = ba.responses(np.repeat(np.eye(4), 50, axis=0) + 0.1 * rng.normal(size=(200, 4)), stimulus_id=range(200),
    ...                     neuroid_id=range(4), modality="ann", system="net")
    >>> weights = np.array([[0.2], [1.0], [0.5], [0.4]])
    >>> ba.neurons.project_weights(weights, pool, size=20).values.round(1).ravel().tolist()
    [0.0, 1.0, 0.1, 0.1]
    """
    vectors, coords, ids = vectors_of(weights, owner="project_weights")
    rows = bank_rows(pool, vectors, ids, owner="project_weights", lazy=True)
    check_number("size", size, owner="project_weights", low=1.0)
    if size >= len(rows):
        raise ParameterError(
            f"project_weights got a pool of {len(rows)} stimuli for a mean of {size:g}. Expected many more: record more, or pass a smaller "
            "`size`."
        )
    fine = np.flatnonzero(np.isfinite(vectors).all(axis=0) & (vectors != 0).any(axis=0))
    out, told = np.full(vectors.shape, np.nan), np.full((2, vectors.shape[1]), np.nan)
    for block in column_blocks(len(fine), len(rows), 1):
        columns = fine[block]
        out[:, columns], told[0, columns], told[1, columns] = project(vectors[:, columns], rows, size)
    if np.isnan(out[:, fine]).any():
        raise ParameterError(
            "project_weights got a pool in which a stimulus has NaN or no direction. Expected features that are finite and not all 0: leave "
            "these stimuli out."
        )
    labels = {"sharpness": told[0], "effective_size": told[1], "cosine": cosines(out, vectors)}
    made = labelled_vectors(
        out, coords | {name: ("neuroid", values) for name, values in labels.items()}, pool["neuroid_id"].values
    )
    return write_step(made, "project_weights", params={"size": size}, inputs={"pool": pool})


def weight_patterns(weights: Any, features: xr.DataArray) -> xr.DataArray:
    """Return what the features show of each neuroid's prediction: its decoding pattern, beside its weights.

    Parameters
    ----------
    weights : fitted mapping, DataArray or array_like, (feature, neuroid)
    features : DataArray, (presentation, neuroid)
        Those of the fit.

    Returns
    -------
    DataArray, (feature, neuroid)
        cov(x, ŷ) / var(ŷ) (Haufe et al., 2014): how the features change when the prediction rises by one. It is to a voxel what
        output weights are to a unit.

    Raises
    ------
    AlignmentError, CapabilityError
        As :func:`read_weights`.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses([[1.0, 2.0], [0.0, 0.0], [2.0, 4.0]], stimulus_id=range(3), neuroid_id=["a", "b"], modality="ann", system="net")
    >>> ba.neurons.weight_patterns(np.array([[1.0], [0.0]]), x).values.ravel().tolist()
    [1.0, 2.0]
    """
    vectors, coords, ids = vectors_of(weights, owner="weight_patterns")
    rows = bank_rows(features, vectors, ids, owner="weight_patterns")
    made = labelled_vectors(patterns(rows, vectors), coords, features["neuroid_id"].values)
    return write_step(made, "weight_patterns", inputs={"features": features})
