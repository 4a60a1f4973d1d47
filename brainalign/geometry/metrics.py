"""The metrics that ``similarity`` knows: what each is, what it is blind to, and which way it points."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number
from brainalign.core.registry import Registry
from brainalign.engine.backend import Array
from brainalign.engine.cca import canonical_correlations, orthonormal, projection_weighted
from brainalign.engine.cka import (
    centred,
    centred_kernel,
    distance_kernel,
    feature_alignment,
    linear_kernel,
    minibatch_alignment,
    rbf_kernel,
    unit_features,
    unit_length,
)
from brainalign.engine.comparators import COMPARATORS, square
from brainalign.engine.distances import pairwise_distances
from brainalign.engine.matching import assigned_product, best_match, soft_distance, soft_product, unit_columns
from brainalign.engine.moments import rounding_unit
from brainalign.engine.neighbours import nearest, neighbour_overlap
from brainalign.engine.predictivity import linear_predictivities
from brainalign.engine.shape import (
    gulp_distance,
    nuclear_product,
    partially_whitened,
    procrustes_distance,
    ridge_whitened,
)
from brainalign.engine.similarity import KernelForm, SimilarityMetric, full_name

_TURNS = ("translate", "permute", "rotate")
_SHAPES = (*_TURNS, "scale")
_LINEAR = (*_SHAPES, "linear")


def _cosine(product: float) -> float:
    return float(np.clip(product, -1.0, 1.0))  # rounding alone can take it past 1


def _root(product: float) -> float:
    return float(np.sqrt(np.clip(product, 0.0, 1.0)))


def _kernel_metric(
    name: str, kernel: Callable[[Array], Array], *, unbiased: bool = False, link: Callable[[float], float] = _cosine, **flags: Any
) -> SimilarityMetric:
    def prepare(x: Array) -> Array:
        return centred_kernel(kernel(x), unbiased=unbiased)

    return SimilarityMetric(name, prepare, link, _SHAPES, pairs=True, inner=True, kernel=KernelForm(kernel, unbiased), **flags)


def _linear_cka(name: str, *, unbiased: bool, **flags: Any) -> SimilarityMetric:
    def score(a: Array, b: Array) -> float:
        return _cosine(feature_alignment(a, b, unbiased=unbiased))

    features = SimilarityMetric(name, partial(unit_features, unbiased=unbiased), score, _SHAPES, **flags)
    return _kernel_metric(name, linear_kernel, unbiased=unbiased, of_features=features, **flags)


CKA = _linear_cka("cka", unbiased=False, is_metric=True)
CKA_DEBIASED = _linear_cka("cka-debiased", unbiased=True, is_metric=True)
DISTANCE_CORRELATION = _kernel_metric("distance-correlation", distance_kernel, link=_root)


def cka_rbf(fraction: float = 1.0) -> SimilarityMetric:
    """Return CKA with a Gaussian kernel.

    Parameters
    ----------
    fraction : float
        Width σ of the kernel over the median distance between stimuli; of all stimuli, also where some are drawn.

    Returns
    -------
    SimilarityMetric
    """
    check_number("fraction", fraction, owner="cka_rbf", low=0.0, low_open=True)
    name = full_name("cka-rbf", fraction, usual=(1.0,))
    return _kernel_metric(name, partial(rbf_kernel, fraction=fraction), is_metric=True)


def cka_minibatch(batch_size: int = 256) -> SimilarityMetric:
    """Return debiased linear CKA from batches of stimuli, for numbers of stimuli whose kernels do not fit.

    Parameters
    ----------
    batch_size : int
        Stimuli in a batch, at least 4. Each batch takes every k-th stimulus, so that no batch is of one kind only where they are sorted.

    Returns
    -------
    SimilarityMetric
    """
    check_number("batch_size", batch_size, owner="cka_minibatch", low=4, integer=True)

    def score(x: Array, y: Array) -> float:
        step = max(1, len(x) // batch_size)
        return minibatch_alignment((x[start::step], y[start::step]) for start in range(step))

    return SimilarityMetric(full_name("cka-minibatch", batch_size, usual=(256,)), centred, score, _SHAPES)


CKA_RBF = cka_rbf()
CKA_MINIBATCH = cka_minibatch()


def _mean_correlation(a: Array, b: Array) -> float:
    return float(canonical_correlations(a, b).mean())


def _mean_square(a: Array, b: Array) -> float:
    return float((canonical_correlations(a, b) ** 2).mean())


def _n_directions(x: Array) -> int:
    return int(orthonormal(x).shape[1])


CCA = SimilarityMetric("cca", orthonormal, _mean_correlation, _LINEAR, directions=_n_directions)
CCA_R2 = SimilarityMetric("cca-r2", orthonormal, _mean_square, _LINEAR, directions=_n_directions)
PWCCA = SimilarityMetric(
    "pwcca", centred, projection_weighted, ("translate", "scale", "permute"), symmetric=False, directions=_n_directions
)


def svcca(share: float = 0.99) -> SimilarityMetric:
    """Return the mean canonical correlation of principal components (Raghu et al. 2017).

    Parameters
    ----------
    share : float
        Of the variance that the components of each system hold.

    Returns
    -------
    SimilarityMetric
    """
    check_number("share", share, owner="svcca", low=0.0, high=1.0, low_open=True)
    return SimilarityMetric(
        full_name("svcca", share, usual=(0.99,)), partial(orthonormal, share=share), _mean_correlation, _SHAPES
    )


SVCCA = svcca()


def _angle(a: Array, b: Array) -> float:
    return float(np.arccos(np.clip(nuclear_product(a, b), -1.0, 1.0)))


def _canonical_angle(a: Array, b: Array) -> float:
    return float(np.arccos(np.clip(canonical_correlations(a, b).sum() / (a.shape[1] * b.shape[1]) ** 0.5, 0.0, 1.0)))


def _unit_centred(x: Array) -> Array:
    return unit_length(centred(x))


NBS = SimilarityMetric("nbs", _unit_centred, lambda a, b: _cosine(nuclear_product(a, b)), _SHAPES, is_metric=True)
PROCRUSTES = SimilarityMetric(
    "procrustes", centred, procrustes_distance, _TURNS, higher_is_alike=False, is_metric=True, sums=True
)
PROCRUSTES_NORMALISED = SimilarityMetric(
    "procrustes-normalised", _unit_centred, procrustes_distance, _SHAPES, higher_is_alike=False, is_metric=True
)


def shape(alpha: float = 1.0) -> SimilarityMetric:
    """Return the angle between partially whitened systems after the best rotation (Williams et al. 2021).

    Parameters
    ----------
    alpha : float
        1 is the angular Procrustes distance, 0 the angle of CCA; between them the distance depends on the units of the responses.

    Returns
    -------
    SimilarityMetric
    """
    check_number("alpha", alpha, owner="shape", low=0.0, high=1.0)
    if alpha == 0:
        flags = {"higher_is_alike": False, "is_metric": True, "directions": _n_directions}
        return SimilarityMetric("shape-0", orthonormal, _canonical_angle, _LINEAR, **flags)
    if alpha == 1:
        return SimilarityMetric("shape-1", _unit_centred, _angle, _SHAPES, higher_is_alike=False, is_metric=True)
    whitened = partial(partially_whitened, alpha=alpha)
    return SimilarityMetric(f"shape-{alpha:g}", whitened, _angle, _TURNS, higher_is_alike=False, is_metric=True, sums=True)


SHAPE_1, SHAPE_05, SHAPE_0 = shape(1.0), shape(0.5), shape(0.0)


def gulp(penalty: float = 0.1) -> SimilarityMetric:
    """Return the distance between what ridge regression can predict from two systems (GULP).

    Parameters
    ----------
    penalty : float
        λ over the total variance of a system.

    Returns
    -------
    SimilarityMetric
    """
    check_number("penalty", penalty, owner="gulp", low=0.0, low_open=True)
    return SimilarityMetric(
        full_name("gulp", penalty, usual=(0.1,)),
        partial(ridge_whitened, penalty=penalty),
        gulp_distance,
        _SHAPES,
        higher_is_alike=False,
        is_metric=True,
    )


GULP = gulp()


def mutual_knn(k: int = 10, *, jaccard: bool = False) -> SimilarityMetric:
    """Return the share of nearest neighbours that two systems have in common.

    Parameters
    ----------
    k : int
        Neighbours of each stimulus, by cosine similarity; few beside half of the stimuli.
    jaccard : bool
        Of all that either system names, instead of k.

    Returns
    -------
    SimilarityMetric
    """
    check_number("k", k, owner="mutual_knn", low=1, integer=True)
    name = full_name("jaccard-knn" if jaccard else "mutual-knn", k, usual=(10,))
    score = neighbour_overlap if jaccard else _cosine
    blind = ("scale", "permute", "rotate")
    return SimilarityMetric(name, partial(nearest, k=k), score, blind, pairs=True, inner=not jaccard, least=k + 1)


MUTUAL_KNN, JACCARD_KNN = mutual_knn(), mutual_knn(jaccard=True)

PERMUTATION = SimilarityMetric(
    "permutation",
    _unit_centred,
    lambda a, b: float(np.arccos(np.clip(assigned_product(a, b), -1.0, 1.0))),
    ("translate", "scale", "permute"),
    higher_is_alike=False,
    is_metric=True,
)
SOFT_MATCHING = SimilarityMetric("soft-matching", unit_columns, soft_product, ("translate", "scale", "permute"))
SOFT_MATCHING_DISTANCE = SimilarityMetric(
    "soft-matching-distance", centred, soft_distance, ("translate", "permute"), higher_is_alike=False, is_metric=True, sums=True
)
CORRELATION_MATCH = SimilarityMetric("correlation-match", unit_columns, best_match, ("translate", "scale", "permute"))


def rsa(distance: str = "correlation", measure: str = "spearman") -> SimilarityMetric:
    """Return the likeness of two dissimilarity matrices, as ``compare_rdms(rdm(source), rdm(target))`` does.

    Parameters
    ----------
    distance : {"correlation", "euclidean", "sqeuclidean"}
        Between the responses to two stimuli.
    measure : {"spearman", "pearson", "cosine"}
        Between the distances of all pairs.

    Returns
    -------
    SimilarityMetric
    """
    check_choice("distance", distance, ("correlation", "euclidean", "sqeuclidean"), owner="rsa")
    check_choice("measure", measure, ("spearman", "pearson", "cosine"), owner="rsa")

    def prepare(x: Array) -> Array:
        distances = pairwise_distances(x, distance, unit=rounding_unit(x))
        pairs = distances[np.triu_indices(len(x), 1)][None]
        if np.isnan(pairs).any():
            return np.full_like(distances, np.nan)
        return square(COMPARATORS[measure].prepare(pairs))[0] / np.sqrt(2.0)  # each pair is there twice

    blind = ("scale", "permute") if distance == "correlation" else _SHAPES
    name = full_name("rsa", distance, measure, usual=("correlation", "spearman"))
    return SimilarityMetric(name, prepare, _cosine, blind, is_metric=True, pairs=True, inner=True, distance=distance)


def predictivity(cv: int = 5) -> SimilarityMetric:
    """Return how well ridge regression from the source predicts the target; swap the sides for the other direction.

    Parameters
    ----------
    cv : int
        Of stimuli that are held out; penalties are chosen within the others.

    Returns
    -------
    SimilarityMetric
    """
    check_number("cv", cv, owner="predictivity", low=2, integer=True)
    grid = partial(linear_predictivities, n_folds=cv)

    def score(x: Array, y: Array) -> float:
        return float(grid([x], [y])[0, 0])

    blind = ("translate", "scale", "permute")
    name = full_name("linear-predictivity", cv, usual=(5,))
    return SimilarityMetric(name, centred, score, blind, symmetric=False, least=cv**2, grid=grid)


RSA, LINEAR_PREDICTIVITY = rsa(), predictivity()

METRICS = {
    "cka": "brainalign.geometry.metrics:CKA",
    "cka-debiased": "brainalign.geometry.metrics:CKA_DEBIASED",
    "cka-rbf": "brainalign.geometry.metrics:CKA_RBF",
    "cka-minibatch": "brainalign.geometry.metrics:CKA_MINIBATCH",
    "cca": "brainalign.geometry.metrics:CCA",
    "cca-r2": "brainalign.geometry.metrics:CCA_R2",
    "svcca": "brainalign.geometry.metrics:SVCCA",
    "pwcca": "brainalign.geometry.metrics:PWCCA",
    "nbs": "brainalign.geometry.metrics:NBS",
    "procrustes": "brainalign.geometry.metrics:PROCRUSTES",
    "procrustes-normalised": "brainalign.geometry.metrics:PROCRUSTES_NORMALISED",
    "shape-1": "brainalign.geometry.metrics:SHAPE_1",
    "shape-0.5": "brainalign.geometry.metrics:SHAPE_05",
    "shape-0": "brainalign.geometry.metrics:SHAPE_0",
    "gulp": "brainalign.geometry.metrics:GULP",
    "distance-correlation": "brainalign.geometry.metrics:DISTANCE_CORRELATION",
    "rsa": "brainalign.geometry.metrics:RSA",
    "linear-predictivity": "brainalign.geometry.metrics:LINEAR_PREDICTIVITY",
    "mutual-knn": "brainalign.geometry.metrics:MUTUAL_KNN",
    "jaccard-knn": "brainalign.geometry.metrics:JACCARD_KNN",
    "permutation": "brainalign.geometry.metrics:PERMUTATION",
    "soft-matching": "brainalign.geometry.metrics:SOFT_MATCHING",
    "soft-matching-distance": "brainalign.geometry.metrics:SOFT_MATCHING_DISTANCE",
    "correlation-match": "brainalign.geometry.metrics:CORRELATION_MATCH",
    "stochastic-energy": "brainalign.geometry.stochastic:STOCHASTIC_ENERGY",
    "stochastic-shape": "brainalign.geometry.stochastic:STOCHASTIC_SHAPE",
}

#: Names of metrics and the records behind them; plug-ins share the entry-point group with the metrics of ``evaluate``.
SIMILARITIES = Registry("brainalign.metrics", METRICS)


def similarity_metric(metric: Any) -> SimilarityMetric:
    """Return the record behind a name.

    Parameters
    ----------
    metric : str or SimilarityMetric

    Returns
    -------
    SimilarityMetric

    Raises
    ------
    UnknownNameError
        No such name; the closest one is suggested.
    ParameterError
        Something else, such as a metric of predictions.
    """
    found = SIMILARITIES.get(metric)
    if isinstance(found, SimilarityMetric):
        return found
    raise ParameterError(
        f"The 'metric' parameter of similarity must be a name or a SimilarityMetric. Got {metric!r} instead, which is a "
        f"{type(found).__name__}: one of predictions goes to `ba.evaluate`."
    )
