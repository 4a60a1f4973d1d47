"""``partition_variance``: which part of the explained variance each feature space explains alone, and which they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin, clone

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_random_state, preview
from brainalign.core.progress import progress_bar
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, validate
from brainalign.core.tables import coords_of
from brainalign.dataset.split import Folds
from brainalign.engine.moments import Numbers
from brainalign.engine.partition import ProductSums, commonality, pool_products, product_measure, product_sums, subsets
from brainalign.features.chain import Chain, chain
from brainalign.models.banded import BandedRidge
from brainalign.scores.evaluate import evaluate

_MOST = 8  # bands: 255 fits


def partition_variance(
    source: xr.DataArray,
    target: xr.DataArray,
    *,
    by: str = "band",
    model: Any = None,
    cv: int | Folds | None = None,
    groups: str | None = None,
    join: str = "inner",
    repeats: str = "average",
    time: str = "match",
    random_state: int | np.random.Generator | None = None,
    progress: bool | None = None,
) -> xr.Dataset:
    """Take apart the variance of a target that several feature spaces explain, on held-out presentations.

    Parameters
    ----------
    source : DataArray, (presentation, neuroid[, time])
        Feature spaces joined by :func:`bands`; or layers, or regions, of one system.
    target : DataArray, (presentation, neuroid[, time])
    by : str
        The neuroid coordinate of the source that names the spaces.
    model : mapping or chain, optional
        Default ``BandedRidge(bands=by)``. Its feature steps are the same for every subset; the mapping alone sees fewer
        features, and chooses its penalties anew.
    cv, groups, join, repeats, time, random_state
        As in :func:`evaluate`; the folds are the same for every subset.
    progress : bool or None
        As in :func:`evaluate`, over subsets.

    Returns
    -------
    Dataset
        ``score`` (neuroid[, time]), the R² of all spaces; ``r2`` (subset, ...), that of every subset (``"a+b"``);
        ``unique`` (band, ...), what is lost without the space; ``shared``, the rest; ``commonality`` (subset, ...), what exactly
        these spaces have in common, which adds up to ``score``; ``product`` (band, ...), the product measure, which adds up to
        it too, where the mapping has ``predict_bands``. The dim is called ``band`` whatever ``by`` is. All R² are of
        held-out presentations, pooled over folds; negative shares are suppression or noise, and are shown.

    Raises
    ------
    ParameterError
        No such coordinate, one space only, or more than eight.

    Notes
    -----
    unique(A) = R²(AB) − R²(B) and shared = R²(A) + R²(B) − R²(AB); see :func:`brainalign.engine.partition.commonality`.
    Ridge regression on all spaces at one penalty, instead of one each, can score below a single space; then shared
    variance is overestimated.

    Examples
    --------
    >>> import brainalign as ba, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> ids = [f"s{i}" for i in range(300)]
    >>> a, b = (ba.responses(rng.normal(size=(300, 4)), stimulus_id=ids, neuroid_id=range(4), modality="ann", system="net")
    ...         for _ in range(2))
    >>> brain = ba.responses(a.values[:, :1] + b.values[:, :1], stimulus_id=ids, neuroid_id=["v"], modality="fmri", system="s")
    >>> parts = ba.partition_variance(ba.bands(a=a, b=b), brain, cv=3, random_state=0)
    >>> bool((parts.unique > 0.4).all()), abs(float(parts.shared[0])) < 0.1
    (True, True)
    """
    names = _bands_of(validate(source, name="source"), by)
    validate(target, name="target")
    seed = check_random_state(random_state, owner="partition_variance")
    whole = chain(BandedRidge(bands=by) if model is None else model)
    options = {
        "cv": cv, "groups": groups, "join": join, "repeats": repeats, "time": time, "controls": "none", "random_state": seed,
        "progress": False,
    }  # fmt: skip
    members, fits = subsets(len(names)), []
    for some in progress_bar(members, progress=progress, desc="subsets"):
        only = Chain((*whole.steps[:-1], _Only(by, names[some].tolist()), whole.steps[-1]))
        fits.append(evaluate(source, target, model=only, metric="r2", **options))
    joint, dims = fits[-1], fits[-1].score.dims
    r2 = np.stack([fit.score.values for fit in fits])
    common = commonality(r2, members)
    unique = common[: len(names)]
    out = joint[["score", "score_by_fold", "n_presentations"]].assign(
        r2=(("subset", *dims), r2),
        unique=(("band", *dims), unique),
        shared=(dims, r2[-1] - unique.sum(axis=0)),
        commonality=(("subset", *dims), common),
    )
    out = out.assign_coords(subset=as_labels(["+".join(names[some]) for some in members]), band=as_labels(names.tolist()))
    if hasattr(whole.steps[-1], "predict_bands"):
        shares = Chain((*whole.steps[:-1], _Shares(whole.steps[-1], len(names))))
        repeated = _repeated(target, names)
        found = evaluate(source, repeated, model=shares, metric=_Product(len(names)), **options).score.values
        out["product"] = (("band", *dims), found.reshape(len(names), *joint.score.shape))
    out.attrs = {name: value for name, value in joint.attrs.items() if name != "provenance"}
    params = {"by": by, "model": whole, "cv": cv, "groups": groups, "join": join, "repeats": repeats, "time": time}
    return write_step(out, "partition_variance", params=params, inputs={"source": source, "target": target}, seed=seed)


class _Only(TransformerMixin, BaseEstimator):
    """Keeps the features of some bands; stands before the mapping, so that all steps before it are the same for every subset."""

    reads_labels = True

    def __init__(self, by: str, bands: Sequence[str]) -> None:
        self.by = by
        self.bands = bands

    def fit(self, X: xr.DataArray, y: Any = None) -> Self:
        if self.by not in X.coords or X.coords[self.by].dims != ("neuroid",):
            raise ParameterError(
                f"partition_variance got by={self.by!r}, which the steps of the model do not keep ({preview(map(str, X.coords), 8)} are left). "
                "Expected steps that treat each space by itself: name the spaces with `ba.bands`."
            )
        self.columns_ = np.flatnonzero(np.isin(X.coords[self.by].values.astype(object).astype(str), self.bands))
        return self

    def transform(self, X: xr.DataArray) -> xr.DataArray:
        return X[:, self.columns_]


class _Shares(BaseEstimator):
    """Predicts what each band adds, for a target that is there once for each band."""

    def __init__(self, mapping: Any, n_bands: int) -> None:
        self.mapping = mapping
        self.n_bands = n_bands

    def fit(self, X: Any, Y: Any) -> Self:
        once = Y[:, : Y.shape[1] // self.n_bands]
        self.mapping_ = clone(self.mapping).fit(X, once)
        self.mean_ = np.asarray(once, dtype=np.float64).mean(axis=0) / self.n_bands
        return self

    def predict(self, X: Any) -> Numbers:
        shares = np.asarray(self.mapping_.predict_bands(X)) + self.mean_
        return np.moveaxis(shares, 0, 1).reshape(shares.shape[1], -1, *shares.shape[3:])


class _Product:
    """The product measure as a metric of such predictions."""

    name = "product-measure"

    def __init__(self, n_bands: int) -> None:
        self.n_bands = n_bands

    def sums(self, target: Numbers, prediction: Numbers) -> ProductSums:
        shares = np.moveaxis(prediction.reshape(len(prediction), self.n_bands, -1), 1, 0)
        return product_sums(target[:, : shares.shape[2]], shares)

    def pool(self, folds: Sequence[ProductSums]) -> ProductSums:
        return pool_products(folds)

    def score(self, sums: ProductSums) -> Numbers:
        return product_measure(sums).ravel()


def _bands_of(source: xr.DataArray, by: str) -> Numbers:
    """Return the names of the spaces, in order of first appearance."""
    labels = coords_of(source, "neuroid")
    if by not in labels:
        raise ParameterError(
            f"partition_variance got by={by!r}, which is no neuroid coordinate of the source ({preview(labels, 8)}). Expected one that names its "
            "feature spaces: join them with `ba.bands(a=..., b=...)`."
        )
    names = list(dict.fromkeys(map(str, labels[by].tolist())))
    if not 2 <= len(names) <= _MOST:
        raise ParameterError(
            f"partition_variance got a source with {len(names)} values of {by!r} ({preview(names)}). Expected 2 to {_MOST} spaces, every subset of "
            "which is fitted: select some, or join those that belong together."
        )
    return np.array(names)


def _repeated(target: xr.DataArray, names: Numbers) -> xr.DataArray:
    """Return the target once for each band."""
    ids = [f"{name}/{old}" for name in names for old in target.coords["neuroid_id"].values.tolist()]
    repeated = xr.concat([target] * len(names), "neuroid", coords="minimal", compat="override")
    return repeated.transpose(*target.dims).assign_coords(neuroid_id=("neuroid", as_labels(ids)))
