"""``PerBand``: any scikit-learn transformer, fitted on each named feature space by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator, TransformerMixin, clone

from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of

Array = np.ndarray[Any, Any]


class PerBand(TransformerMixin, BaseEstimator):
    """One clone of a transformer for each band; a chain wraps the steps that mix features where bands are given.

    Parameters
    ----------
    transformer : scikit-learn transformer

    Attributes
    ----------
    fitted_ : dict of str to transformer
        By band.
    columns_ : dict of str to ndarray of int
        The features of each band.
    """

    reads_labels = True

    def __init__(self, transformer: Any) -> None:
        self.transformer = transformer

    def fit(self, X: xr.DataArray, y: Any = None) -> PerBand:
        """Fit one clone on each band.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid)
            With the neuroid coordinate ``band``.
        y : object
            Not read.

        Returns
        -------
        PerBand
        """
        bands = X.coords["band"].values.astype(object)
        self.columns_ = {band: np.flatnonzero(bands == band) for band in dict.fromkeys(bands.tolist())}
        self.fitted_ = {band: clone(self.transformer).fit(X.values[:, columns]) for band, columns in self.columns_.items()}
        return self

    def transform(self, X: xr.DataArray | Array) -> Any:
        """Transform each band by its own clone.

        Parameters
        ----------
        X : DataArray, (presentation, neuroid), or ndarray (row, feature)
            The features of ``fit``, in their order.

        Returns
        -------
        DataArray, (presentation, neuroid), or ndarray (row, feature)
            Like ``X``; features are named ``"<band>/<transformer>/<number>"``.
        """
        values = np.asarray(X)
        parts = {band: np.asarray(step.transform(values[:, self.columns_[band]])) for band, step in self.fitted_.items()}
        out = np.concatenate(list(parts.values()), axis=1)
        if not isinstance(X, xr.DataArray):
            return out
        stem = type(self.transformer).__name__.lower()
        names = [(band, f"{band}/{stem}/{i}") for band, part in parts.items() for i in range(part.shape[1])]
        coords: dict[str, Any] = {name: ("presentation", labels) for name, labels in coords_of(X, "presentation").items()}
        coords |= {"band": ("neuroid", as_labels([band for band, _ in names]))}
        coords |= {"neuroid_id": ("neuroid", as_labels([name for _, name in names]))}
        return xr.DataArray(out, dims=X.dims, coords=coords, attrs=X.attrs, name=X.name)
