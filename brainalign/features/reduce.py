"""``Reduce``: fewer features, by principal components or a sparse random projection, band by band."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import FunctionTransformer
from sklearn.random_projection import SparseRandomProjection

from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import as_labels, check_array, validate
from brainalign.core.tables import coords_of

Array = np.ndarray[Any, Any]

_STEMS = {"pca": "pca", "sparse-random-projection": "srp"}


class Reduce(TransformerMixin, BaseEstimator):
    """Project features onto fewer ones; labels are kept where they still hold.

    Parameters
    ----------
    n_components : int
        Features that are left, of each band where a ``band`` coordinate exists.
    method : {"pca", "sparse-random-projection"}
    random_state : int, numpy Generator or None
        Of the projection, and of the randomised solver that scikit-learn's PCA takes for large inputs.
    whiten : bool
        PCA only: components of unit variance.
    bands : sequence of str, optional
        Reduce these bands only; the others pass through as they are. Default: every band.

    Attributes
    ----------
    n_features_in_ : int
    neuroids_ : dict of str to ndarray
        The neuroid coordinates of the output: ``neuroid_id`` (``"pca/0"``, ``"<band>/pca/0"``), ``band``, and every
        coordinate that is the same for all features of a band.
    reducers_ : list
        The fitted scikit-learn transformers, one per band.
    seed_ : int
        What ``random_state`` came to.

    Notes
    -----
    It learns from the rows that it is fitted on: inside a chain these are the training rows of a fold. With a time
    dim every (neuroid, time) is a feature. Features with NaN in those rows are left out, with a warning.

    Examples
    --------
    >>> import brainalign as ba
    >>> x = ba.responses(np.random.default_rng(0).normal(size=(20, 8)), stimulus_id=[f"s{i}" for i in range(20)],
    ...                  neuroid_id=range(8), modality="ann", system="net", layer="conv1")
    >>> small = ba.Reduce(3).fit_transform(x)
    >>> small.neuroid_id.values.tolist(), str(small.layer.values[0])
    (['pca/0', 'pca/1', 'pca/2'], 'conv1')
    """

    reads_labels = True

    def __init__(
        self,
        n_components: int,
        *,
        method: str = "pca",
        random_state: int | np.random.Generator | None = None,
        whiten: bool = False,
        bands: Sequence[str] | None = None,
    ) -> None:
        self.n_components = n_components
        self.method = method
        self.random_state = random_state
        self.whiten = whiten
        self.bands = bands

    def fit(self, X: xr.DataArray | Array, y: Any = None) -> Reduce:
        """Learn the projection.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time]), or ndarray (row, feature)
        y : object
            Not read.

        Returns
        -------
        Reduce

        Raises
        ------
        ParameterError
            More components than features, or for PCA than rows; an impossible parameter.
        """
        n_components = check_number("n_components", self.n_components, owner="Reduce", low=1, integer=True)
        check_choice("method", self.method, tuple(_STEMS), owner="Reduce")
        if self.whiten and self.method != "pca":
            raise ParameterError(
                f"The 'whiten' parameter of Reduce is for method='pca' only. Got True with method={self.method!r}."
            )
        values, coords = _features(X)
        self.n_features_in_ = values.shape[1]
        self._check_bands(coords)
        self.seed_ = check_random_state(self.random_state, owner="Reduce")
        usable = np.isfinite(values).all(axis=0)
        if not usable.all():
            message = f"Reduce leaves out {int((~usable).sum())} of {len(usable)} features that have NaN or infinite values."
            warnings.warn(message, DegenerateNeuroidWarning, stacklevel=2)
        self.bands_, self.columns_, self.reducers_ = [], [], []
        for band, columns in _by_band(coords, values.shape[1]):
            kept = columns[usable[columns]]
            self.bands_.append(band)
            self.columns_.append(kept)
            if self.bands is not None and band not in self.bands:
                self.reducers_.append(FunctionTransformer())
                continue
            _check_size(n_components, self.method, len(values), len(kept), band)
            # PCA of float32 features with a large mean loses its digits in the covariance.
            block = values[:, kept].astype(np.float64)
            self.reducers_.append(clone(self._reducer(n_components)).fit(block))
        self.neuroids_ = self._output_labels(coords)
        return self

    def transform(self, X: xr.DataArray | Array) -> Any:
        """Project.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid[, time]), or ndarray (row, feature)
            The features of ``fit``, in their order.

        Returns
        -------
        DataArray, float32, (presentation, neuroid), or ndarray (row, component)
            Like ``X``. Rows with NaN in a feature that counts are NaN.

        Raises
        ------
        NotFittedError
        AlignmentError
            Another number of features than in ``fit``.
        """
        if not hasattr(self, "reducers_"):
            raise NotFittedError("This Reduce is not fitted yet. Call `fit` first, or put it into a chain.")
        values, _ = _features(X)
        if values.shape[1] != self.n_features_in_:
            raise AlignmentError(
                f"Reduce was fitted on {self.n_features_in_} features and got {values.shape[1]}. Expected the same ones in the same order."
            )
        blocks = [_project(r, values[:, c]) for r, c in zip(self.reducers_, self.columns_, strict=True)]
        out = np.concatenate(blocks, axis=1)
        if not isinstance(X, xr.DataArray):
            return out.astype(values.dtype if values.dtype.kind == "f" else np.float64, copy=False)
        return self._label(X, out.astype(np.float32))

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the output features.

        Parameters
        ----------
        input_features : object
            Not read; for scikit-learn.

        Returns
        -------
        ndarray of object, (component,)

        Raises
        ------
        NotFittedError
            Before ``fit``.
        """
        if not hasattr(self, "neuroids_"):
            raise NotFittedError("This Reduce is not fitted yet. Call `fit` first, or put it into a chain.")
        return self.neuroids_["neuroid_id"].astype(object)

    def _check_bands(self, coords: dict[str, Array]) -> None:
        known = set(coords["band"].tolist()) if "band" in coords else set()
        unknown = [band for band in self.bands or [] if band not in known]
        if unknown:
            raise ParameterError(
                f"The 'bands' parameter of Reduce names {preview(unknown)}. Expected bands of the features ({preview(sorted(known))}): join "
                "named feature spaces with `ba.bands`."
            )

    def _reducer(self, n_components: int) -> Any:
        seed = self.seed_ % 2**32  # scikit-learn takes 32 bits
        if self.method == "pca":
            return PCA(n_components, whiten=self.whiten, random_state=seed)
        return SparseRandomProjection(n_components, random_state=seed, dense_output=True)

    def _output_labels(self, coords: dict[str, Array]) -> dict[str, Array]:
        """Name the components; a coordinate is kept where it is the same for all features that a band's components mix."""
        mixed = [not isinstance(reducer, FunctionTransformer) for reducer in self.reducers_]
        parts = list(zip(self.bands_, self.columns_, mixed, strict=True))
        stem, out = _STEMS[self.method], {}
        if coords or all(mixed):
            ids = [self._names(band, stem) if new else coords["neuroid_id"][columns].tolist() for band, columns, new in parts]
            out["neuroid_id"] = as_labels([name for names in ids for name in names])
        for name, labels in coords.items():
            same = all((labels[columns] == labels[columns[0]]).all() for _, columns, new in parts if new)
            if name != "neuroid_id" and same:
                blocks = [
                    np.repeat(labels[columns[:1]], self.n_components) if new else labels[columns] for _, columns, new in parts
                ]
                out[name] = np.concatenate(blocks)
        return out

    def _names(self, band: str | None, stem: str) -> list[str]:
        prefix = "" if band is None else f"{band}/"
        return [f"{prefix}{stem}/{i}" for i in range(self.n_components)]

    def _label(self, X: xr.DataArray, values: Array) -> xr.DataArray:
        kept = {str(name): c for name, c in X.coords.items() if not {"presentation", "neuroid", "time"} & set(c.dims)}
        rows = {name: ("presentation", labels) for name, labels in coords_of(X, "presentation").items()}
        columns = {name: ("neuroid", labels) for name, labels in self.neuroids_.items()}
        attrs = {name: value for name, value in X.attrs.items() if name not in ("time_reference", "units")}
        coords = {**kept, **rows, **columns}
        out = xr.DataArray(values, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name=X.name)
        return write_step(out, "Reduce", params=self.get_params(), inputs={"X": X}, seed=self.seed_)


def _features(X: Any) -> tuple[Array, dict[str, Array]]:
    """Return values as (row, feature), and the labels of the features."""
    check_array(X, name="X")
    if not isinstance(X, xr.DataArray):
        values = np.asarray(X)
        if values.ndim != 2:
            raise ParameterError(f"Reduce got an array of shape {values.shape}. Expected (row, feature): reshape it.")
        return values, {}
    validate(X, name="X")
    n_times = X.sizes.get("time", 1)
    coords = {name: np.repeat(labels, n_times) for name, labels in coords_of(X, "neuroid").items()}
    values = np.asarray(X.values)
    return values.reshape(len(values), -1), coords


def _by_band(coords: dict[str, Array], width: int) -> list[tuple[str | None, Array]]:
    if "band" not in coords:
        return [(None, np.arange(width))]
    bands = coords["band"].astype(object)
    return [(band, np.flatnonzero(bands == band)) for band in dict.fromkeys(bands.tolist())]


def _check_size(n_components: int, method: str, n_rows: int, n_features: int, band: str | None) -> None:
    limit = min(n_rows, n_features) if method == "pca" else n_features
    if n_components > limit:
        where = "" if band is None else f" of band {band!r}"
        raise ParameterError(
            f"The 'n_components' parameter of Reduce is {n_components}, and there are {n_rows} rows and {n_features} usable features{where}. "
            f"Expected at most {limit} for method={method!r}."
        )


def _project(reducer: Any, values: Array) -> Array:
    if isinstance(reducer, FunctionTransformer):
        return values
    finite = np.isfinite(values).all(axis=1)
    out = np.full((len(values), reducer.components_.shape[0]), np.nan)
    if finite.any():
        out[finite] = reducer.transform((values if finite.all() else values[finite]).astype(np.float64))
    return out
