"""``read_weights``: what a unit writes, or what a voxel is fitted to, read against an unembedding or a bank of concepts."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import AlignmentError, CapabilityError, ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels
from brainalign.engine.backend import to_numpy
from brainalign.engine.concepts import column_blocks
from brainalign.engine.moments import Numbers
from brainalign.engine.projection import highest
from brainalign.engine.retrieval import prepared
from brainalign.neurons.labelling import neuroid_labels, without_time


def read_weights(
    weights: Any,
    bank: xr.DataArray,
    *,
    k: int = 10,
    metric: str = "dot",
    scale: Any = None,
    centre: bool = False,
) -> xr.Dataset:
    """Name the concepts whose vectors are most along the weights of each neuroid.

    Parameters
    ----------
    weights : fitted mapping, DataArray or array_like, (feature, neuroid)
        A mapping with ``coef_`` (a voxel's encoding weights), what :func:`mlp_weights` or :func:`project_weights` returns, or
        vectors.
    bank : DataArray, (presentation, neuroid)
        The vector of each concept: its ``stimulus_id`` names the concept, its neuroids are the features of the weights.
        Embeddings of words recorded with :func:`record`, or the rows of an unembedding matrix.
    k : int
        Concepts of a neuroid.
    metric : {"dot", "cosine"}
    scale : array_like of float, (feature,), optional
        Gain of the norm between the weights and the unembedding, γ.
    centre : bool
        The norm takes the mean over features off (LayerNorm, not RMSNorm). Its division changes all products of a neuroid alike.

    Returns
    -------
    Dataset, (neuroid, rank)
        ``label``, ``score`` (the product), ``probability`` (softmax over the whole bank); and by neuroid ``skewness`` and
        ``kurtosis`` (excess) of all products. ``""`` and NaN where the weights are NaN or 0.

    Raises
    ------
    AlignmentError
        The features are not those of the bank.
    CapabilityError
        A mapping without linear weights.
    ParameterError
        More concepts than the bank has; a concept whose vector is NaN, or 0 for a cosine.

    Notes
    -----
    The logit lens on the weights of neurons: W_U (γ ⊙ w). High kurtosis: Gurnee et al. (2024), universal neurons.

    Examples
    --------
    >>> import brainalign as ba
    >>> words = ba.responses(np.eye(3), stimulus_id=["red", "green", "blue"], neuroid_id=range(3), modality="ann", system="words")
    >>> ba.neurons.read_weights(np.array([[0.1], [2.0], [0.3]]), words, k=2).label.values.tolist()
    [['green', 'blue']]
    """
    check_choice("metric", metric, ("dot", "cosine"), owner="read_weights")
    vectors, coords, ids = vectors_of(weights, owner="read_weights")
    rows = bank_rows(bank, vectors, ids, owner="read_weights")
    check_number("k", k, owner="read_weights", low=1, high=len(rows), integer=True)
    vectors = vectors - vectors.mean(axis=0) if centre else vectors
    if scale is not None:
        gain = np.asarray(to_numpy(scale), dtype=np.float64)
        if gain.shape != (len(vectors),):
            raise ParameterError(f"read_weights got a scale of shape {gain.shape}. Expected ({len(vectors)},), one a feature.")
        vectors = vectors * gain[:, None]
    if metric == "cosine":
        rows, vectors = prepared(rows, "cosine"), prepared(vectors.T, "cosine").T
    names = bank["stimulus_id"].values
    unknown = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(unknown):
        raise ParameterError(
            f"read_weights got a bank with {len(unknown)} vectors that are NaN or have no direction, first that of {names[unknown[0]]!s}. "
            "Expected a vector for each concept: leave these out."
        )
    n = vectors.shape[1]
    fine = np.isfinite(vectors).all(axis=0) & (vectors != 0).any(axis=0)
    at, score, share, shape = np.zeros((n, k), int), np.full((n, k), np.nan), np.full((n, k), np.nan), np.full((2, n), np.nan)
    for block in column_blocks(int(fine.sum()), len(vectors), len(rows)):
        columns = np.flatnonzero(fine)[block]
        at[columns], score[columns], share[columns], shape[:, columns] = highest(vectors[:, columns], rows, k)
    label = np.where(fine[:, None], names.astype(object)[at], "")
    pair = ("neuroid", "rank")
    out = xr.Dataset({"label": (pair, as_labels(label)), "score": (pair, score), "probability": (pair, share)}, coords)
    out = out.assign(skewness=("neuroid", shape[0]), kurtosis=("neuroid", shape[1])).assign_coords(rank=np.arange(k))
    params = {"k": k, "metric": metric, "scale": scale is not None, "centre": centre}
    return write_step(out, "read_weights", params=params, inputs={"bank": bank})


def vectors_of(weights: Any, *, owner: str) -> tuple[Numbers, dict[str, Any], Numbers | None]:
    """Return weights as vectors, the labels of their neuroids and the names of their features.

    Parameters
    ----------
    weights : fitted mapping, DataArray or array_like, (feature, neuroid)
    owner : str

    Returns
    -------
    vectors : ndarray of float64, (feature, neuroid)
    coords : dict
        Of ``neuroid``.
    ids : ndarray, (feature,), or None

    Raises
    ------
    CapabilityError
        No linear weights, or those of several times.
    """
    if isinstance(weights, xr.DataArray) and set(weights.dims) == {"feature", "neuroid"}:
        w = weights.transpose("feature", "neuroid")
        return w.values.astype(np.float64), neuroid_labels(w), w.coords["feature"].values if "feature" in w.coords else None
    if hasattr(weights, "coef_") and not hasattr(weights, "steps_"):  # a chain's are of features that went through its steps
        shape = getattr(weights, "target_shape_", weights.coef_.shape[1:])
        coords = getattr(weights, "target_coords_", None) or {"neuroid_id": (("neuroid",), np.arange(weights.coef_.shape[1]))}
        if len(shape) == 1:
            return to_numpy(weights.coef_).astype(np.float64), coords, getattr(weights, "source_ids_", None)
    values = None if hasattr(weights, "fit") or isinstance(weights, xr.DataArray) else to_numpy(weights)
    if values is None or values.ndim != 2:
        raise CapabilityError(
            f"{owner} got weights of type {type(weights).__name__}{'' if values is None else f' and shape {values.shape}'}. Expected vectors "
            "(feature, neuroid), or a fitted mapping with `coef_` and without times: of a chain its last step, `model.steps_[-1]`, against "
            "`model.transform(features)`."
        )
    return values.astype(np.float64), {"neuroid_id": ("neuroid", np.arange(values.shape[1]))}, None


def bank_rows(bank: xr.DataArray, vectors: Numbers, ids: Numbers | None, *, owner: str, lazy: bool = False) -> Any:
    """Return the vectors of a bank, after checking that their features are those of the weights.

    Parameters
    ----------
    bank : DataArray, (presentation, neuroid)
    vectors : ndarray, (feature, neuroid)
    ids : ndarray, (feature,), or None
    owner : str
    lazy : bool
        Leave values that are not in memory where they are.

    Returns
    -------
    ndarray, or what gives one by slices, (presentation, feature)

    Raises
    ------
    AlignmentError
        Other features.
    """
    given = without_time(bank, owner)["neuroid_id"].values
    if len(given) != len(vectors) or (ids is not None and not np.array_equal(given.astype(object), ids.astype(object))):
        raise AlignmentError(
            f"{owner} got weights of {len(vectors)} features{'' if ids is None else f' ({preview(ids)})'} and a bank whose vectors have "
            f"{len(given)} ({preview(given)}). Expected the same in the same order: record both from one layer."
        )
    return bank.data if lazy else bank.values


def labelled_vectors(values: Numbers, coords: dict[str, Any], features: Numbers) -> xr.DataArray:
    """Return vectors with the labels of their neuroids and features.

    Parameters
    ----------
    values : ndarray, (feature, neuroid)
    coords : dict
    features : ndarray, (feature,)

    Returns
    -------
    DataArray, (feature, neuroid)
    """
    return xr.DataArray(values, dims=("feature", "neuroid"), coords=coords | {"feature": features})
