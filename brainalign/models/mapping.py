"""What every mapping shares: labels in, labels out, and plain arrays for whoever has no labels."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from brainalign.core.errors import AlignmentError, DegenerateNeuroidWarning, ParameterError
from brainalign.core.parameters import check_device, preview
from brainalign.core.provenance import write_step
from brainalign.core.schema import check_array, dim_of
from brainalign.engine.backend import resolve_device

Values = np.ndarray[Any, Any]


class LabelledMapping(BaseEstimator):
    """Base of mappings: ``fit(X, Y)`` and ``predict(X)`` on responses or on plain arrays.

    Subclasses write ``_fit_values(x, y, rows)`` and ``_predict_values(x)`` for plain two-dimensional arrays; ``x`` has
    no NaN. Labels, time and degenerate features are dealt with here.

    Attributes
    ----------
    features_used_ : ndarray of bool, (feature,)
        False for features with NaN or infinity in a training row; they are left out.
    target_shape_ : tuple of int
        Of one presentation's target: ``(neuroid,)`` or ``(neuroid, time)``. Learned state with one entry per target is
        flat, in this order.
    separate_targets : bool
        True where each target is fitted as if it were the only one, so that they may be fitted in any portions.
    in_threads : bool
        True where fits may run in threads at once if ``device`` is ``"cpu"``: by numpy, with all state in the mapping.
    is_classifier : bool
        True where targets are labels, and need not be numbers.
    """

    separate_targets = False
    in_threads = False
    is_classifier = False

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to predict ``Y`` from ``X``.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            With a time dim, every neuroid at every time is a feature.
        Y : DataArray or ndarray, (presentation, neuroid[, time])
            With a time dim, every neuroid at every time is a target. Rows correspond to those of ``X``; where both
            are labelled this is checked.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations.
        ParameterError
            The target holds labels, or a parameter is impossible.
        """
        check_rows(X, Y)
        x = feature_matrix(X)
        self.features_used_ = _usable_features(x)
        self.source_ids_ = X.coords["neuroid_id"].values if isinstance(X, xr.DataArray) else None
        self.target_coords_, self.target_attrs_ = _target_labels(Y) if isinstance(Y, xr.DataArray) else (None, {})
        y = _values(Y)
        if y.dtype.kind not in "iufb" and not self.is_classifier:
            raise ParameterError(
                f"{type(self).__name__} got a target of dtype {y.dtype}. Expected numbers: labels go to `ba.Classifier()`."
            )
        self.target_shape_ = y.shape[1:]
        self._fit_values(self._select(x), y.reshape(len(y), -1), Y if isinstance(Y, xr.DataArray) else None)
        return self

    def predict(self, X: Any) -> Any:
        """Predict the target.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            The features of ``fit``, for any presentations.

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time])
            A DataArray, with the presentations of ``X`` and the neuroids of the target, where both were labelled.

        Raises
        ------
        AlignmentError
            The features are not those of ``fit``.
        """
        flat = self._predict_values(self._features(X))
        return self._labelled(flat.reshape(len(flat), *self.target_shape_), X, "predict")

    def _labelled(self, values: Values, X: Any, verb: str, **leading: Values) -> Any:
        """Return predictions with labels, where both sides have them; ``leading`` are the coordinates of dims in front."""
        if not isinstance(X, xr.DataArray) or self.target_coords_ is None:
            return values
        dims = (*leading, "presentation", "neuroid", "time")[: values.ndim]
        coords = {name: (name, labels) for name, labels in leading.items()} | _row_labels(X) | self.target_coords_
        attrs = self.target_attrs_ | ({"allow_nan": True} if values.dtype.kind == "f" and np.isnan(values).any() else {})
        out = xr.DataArray(values, dims=dims, coords=coords, attrs=attrs, name="prediction")
        return write_step(out, verb, params={"model": self}, inputs={"source": X}, seed=getattr(self, "seed_", None))

    def per_target(self, values: Any, name: str | None = None) -> xr.DataArray:
        """Label learned state by the target's neuroids and times.

        Parameters
        ----------
        values : array_like, (target,)
            For example ``alpha_``.
        name : str, optional

        Returns
        -------
        DataArray, (neuroid[, time])

        Raises
        ------
        ParameterError
            The mapping was fitted on a plain target array.
        """
        check_is_fitted(self, "features_used_")
        if self.target_coords_ is None:
            raise ParameterError(
                f"per_target of {type(self).__name__} needs labels, and the target of `fit` was a plain array of shape (n, "
                f"{', '.join(map(str, self.target_shape_))}). Build the target with `ba.responses`."
            )
        dims = ("neuroid", "time")[: len(self.target_shape_)]
        return xr.DataArray(np.asarray(values).reshape(self.target_shape_), dims=dims, coords=self.target_coords_, name=name)

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        raise TypeError(f"{type(self).__name__} must define _fit_values(x, y, rows).")

    def _predict_values(self, x: Values) -> Values:
        raise TypeError(f"{type(self).__name__} must define _predict_values(x).")

    def _select(self, x: Values) -> Values:
        return x if self.features_used_.all() else x[:, self.features_used_]

    def _features(self, X: Any) -> Values:
        """Return the features of new presentations, after checking that they are those of ``fit``."""
        check_is_fitted(self, "features_used_")
        x = feature_matrix(X)
        if x.shape[1] != len(self.features_used_):
            raise AlignmentError(
                f"{type(self).__name__} got {x.shape[1]} features. Expected the {len(self.features_used_)} that it was fitted on: "
                "select the same neuroids (and times) of the source."
            )
        if isinstance(X, xr.DataArray) and self.source_ids_ is not None:
            ids = X.coords["neuroid_id"].values
            if not np.array_equal(ids, self.source_ids_):
                at = int(np.argmax(ids != self.source_ids_))
                raise AlignmentError(
                    f"{type(self).__name__} got a source whose `neuroid_id` at position {at} is {ids[at]!s}. Expected "
                    f"{self.source_ids_[at]!s}, as in `fit`: bring the neuroids into the same order."
                )
        return self._select(x)


class NetworkMapping(LabelledMapping):
    """Base of mappings that are networks of torch, on the ``device`` of their constructor."""

    device: str

    def _tensor(self, values: Values) -> Any:
        """Return values as a tensor of float32 where the network is."""
        import torch

        return torch.as_tensor(values, dtype=torch.float32, device=working_device(self.device, owner=type(self).__name__))

    def _full(self, x: Values) -> Any:
        """Return all features as a tensor, those that are left out as 0."""
        full = np.zeros((len(x), len(self.features_used_)), dtype=np.float32)
        full[:, self.features_used_] = x
        return self._tensor(full)


class LinearMapping(LabelledMapping):
    """Base of mappings with ``coef_`` and ``intercept_``, and with training means around which they predict.

    Subclasses set ``status_``, call ``_allocate``, and write over it what they fit; ``_source_mean`` is theirs to set.
    """

    dtype: str
    coef_: Any

    def _allocate(self, y: Values) -> None:
        """Set the learned state of targets that are not fitted."""
        t, constant = y.shape[1], self.status_ == "constant"
        self._target_mean, self.cv_score_ = np.full(t, np.nan), np.full(t, np.nan)
        self.intercept_ = np.where(constant, y[np.isfinite(y).argmax(axis=0), np.arange(t)], np.nan).astype(np.float64)
        self.coef_ = np.zeros((len(self.features_used_), t), dtype=self.dtype)
        self.coef_[:, self.status_ == "nan"] = np.nan

    def _predict_values(self, x: Values) -> Values:
        coef = self.coef_ if self.features_used_.all() else self.coef_[self.features_used_]
        return np.asarray((self._centred(x) @ coef + self._target_mean).astype(self.dtype))

    def _centred(self, x: Values) -> Values:
        # Means first: a source far from 0 would drown its variance in the rounding of one large product.
        return np.asarray((x.astype(np.float64) - self._source_mean).astype(self.dtype))


def feature_matrix(X: Any) -> Values:
    """Return features as a matrix: every neuroid (at every time) is a column.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, neuroid[, time])

    Returns
    -------
    ndarray, (presentation, feature)
    """
    x = _values(X)
    if x.ndim == 1:
        raise ParameterError(
            f"The source has shape {x.shape}. Expected (presentation, feature): a single feature goes in as `x[:, None]`."
        )
    return as_columns(x)


def as_columns(X: Any) -> Values:
    """Return values as a matrix: every neuroid (at every time) is a column, and so is a vector.

    Parameters
    ----------
    X : DataArray or ndarray, (presentation, ...)

    Returns
    -------
    ndarray, (presentation, column)
    """
    values = _values(X)
    return values.reshape(len(values), -1)


def _values(x: Any) -> Values:
    check_array(x, name="X")
    return np.asarray(x.values if isinstance(x, xr.DataArray) else x)


def working_device(name: Any, *, owner: str) -> str:
    """Return the device to compute on, once it was found to be there.

    Parameters
    ----------
    name : str
        ``"cpu"``, ``"auto"`` or a device of torch.
    owner : str
        For the message.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        There is no such device here.
    """
    return check_device(name, resolve_device(name), owner=owner)


def check_rows(X: Any, Y: Any) -> None:
    """Refuse two sides whose rows are not the same presentations.

    Parameters
    ----------
    X, Y : DataArray or ndarray, (presentation, ...)
        Names are compared where both have them, and otherwise how many there are.

    Raises
    ------
    AlignmentError
    ParameterError
        A side without rows, such as None.
    SchemaError
        A Dataset.
    """
    for side, values in (("source", X), ("target", Y)):
        check_array(values, name=f"The {side}")
        if not hasattr(values, "__len__") or getattr(values, "ndim", 1) == 0:
            raise ParameterError(f"The {side} is {values!r}. Expected responses, or an array with a row for each presentation.")
    if len(X) != len(Y):
        raise AlignmentError(
            f"The source has {len(X)} presentations and the target {len(Y)}. Expected one row of each per presentation: join them "
            "with `ba.align`, or let `ba.evaluate` do it."
        )
    if not (isinstance(X, xr.DataArray) and isinstance(Y, xr.DataArray)):
        return
    source, target = X.coords["stimulus_id"].values, Y.coords["stimulus_id"].values
    differ = np.flatnonzero(source != target)
    if differ.size:
        at = int(differ[0])
        raise AlignmentError(
            f"The rows of source and target name different stimuli at {differ.size} of {len(source)} positions, first at {at} "
            f"({source[at]!s} and {target[at]!s}). Expected the same presentations in the same order: join them with `ba.align`, or "
            "let `ba.evaluate` do it."
        )


def _usable_features(x: Values) -> Values:
    """Say which features are finite in every training row, and warn of the others."""
    usable = np.ones(x.shape[1], dtype=bool)
    if x.dtype.kind == "f":
        usable = np.isfinite(x).all(axis=0)
    lost = np.flatnonzero(~usable)
    if lost.size == x.shape[1]:
        raise ParameterError(
            f"All {x.shape[1]} features of the source have NaN or infinity in some training row. Expected at least one finite "
            "feature: look at the source with `ba.validate(x, deep=True)`."
        )
    if lost.size:
        warnings.warn(
            f"{lost.size} of {x.shape[1]} features have NaN or infinity in some training row and are left out, at positions "
            f"{preview(lost)}. Drop them from the source to silence this.",
            DegenerateNeuroidWarning,
            stacklevel=3,
        )
    return usable


def _target_labels(Y: xr.DataArray) -> tuple[dict[str, Any], dict[str, Any]]:
    coords = {
        str(name): (c.dims, c.values)
        for name, c in Y.coords.items()
        if "presentation" not in c.dims and dim_of(str(name)) != "presentation"
    }
    return coords, {name: value for name, value in Y.attrs.items() if name != "provenance"}


def _row_labels(X: xr.DataArray) -> dict[str, Any]:
    return {
        str(name): (c.dims, c.values)
        for name, c in X.coords.items()
        if c.dims == ("presentation",) or (c.dims == () and dim_of(str(name)) == "presentation")
    }
