"""``Stacked``: one mapping per band of features, combined with weights that say which bands serve each target."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice
from brainalign.engine.moments import column_status
from brainalign.engine.stacking import CONSTRAINTS, stacking_weights
from brainalign.features.bands import band_labels
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values, as_columns
from brainalign.models.ridge import Ridge

_TILE = 512  # targets whose deviations are widened to float64 at a time


class Stacked(LabelledMapping):
    """Stacked regression: fit each band alone, and weigh the predictions for each target.

    Parameters
    ----------
    model : mapping or chain, optional
        Fitted to each band; default ``Ridge()``.
    bands : str or sequence, (feature,)
        The neuroid coordinate of the source that names the bands (``"band"``, which :func:`bands` makes; ``"layer"``, to
        weigh layers), or a label for each feature.
    weights : {"nonnegative", "simplex"}
        Weights ≥ 0; or also adding up to 1. The sum suits bands that say the same thing, such as neighbouring layers, and
        makes a map of preferred layers; where bands complement one another it costs much of the score.
    cv : int, Folds or list of (train, test)
        Folds within the rows given to ``fit``: weights are fitted to predictions of rows that no band's mapping has seen.
    groups : str or sequence, (presentation,), optional
        Presentation coordinate, or labels, that these folds keep together; see :class:`Ridge`.

    Attributes
    ----------
    bands_ : ndarray of str, (band,)
        In order of first appearance.
    band_weights_ : ndarray of float64, (band, target)
        NaN for degenerate targets.
    band_score_ : ndarray of float64, (band, target)
        R² of each band alone over the folds: 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)².
    cv_score_ : ndarray of float64, (target,)
        That of the weighted predictions: a little too high, for the weights were fitted to the same rows.
    models_ : list of mapping, (band,)
        Fitted to all rows.
    coef_, intercept_ : ndarray, (feature, target) and (target,)
        Where every model has them: the whole then is affine.
    status_ : ndarray of str, (target,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    ŷ = ȳ + Σ_b s_b (ŷ_b − ȳ), with s the minimum of the squared error of out-of-fold predictions (Breiman 1996; on the
    simplex, Lin et al. 2022): :mod:`brainalign.engine.stacking`. Without the sum, Σ_b s_b² times the mean square of the
    target is added, as one more row would, so that a mapping that predicts next to nothing has no weight in the hundreds.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 60))
    >>> Y = X[:, :10] @ rng.normal(size=(10, 2)) + rng.normal(size=(200, 2))
    >>> model = ba.Stacked(bands=["sound"] * 10 + ["meaning"] * 50, weights="simplex").fit(X, Y)
    >>> (model.band_weights_[0] > 0.9).tolist()
    [True, True]
    """

    def __init__(
        self, model: Any = None, bands: Any = "band", weights: str = "nonnegative", cv: Any = 5, groups: Any = None
    ) -> None:
        self.model = model
        self.bands = bands
        self.weights = weights
        self.cv = cv
        self.groups = groups

    @property
    def separate_targets(self) -> bool:  # type: ignore[override]
        """True where those of the bands' mapping are."""
        return self.model is None or bool(getattr(self.model, "separate_targets", False))

    def fit(self, X: Any, Y: Any) -> Self:
        """Learn to predict ``Y`` from the bands of ``X``.

        Parameters
        ----------
        X, Y : DataArray or ndarray, (presentation, neuroid[, time])
            As in :meth:`Ridge.fit`.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations.
        ParameterError
            No bands are named, or a band has no usable feature.
        """
        self.bands_, self._band_of = band_labels(self.bands, X, owner="Stacked")
        return super().fit(X, Y)

    def weight_map(self) -> xr.DataArray:
        """Label the weights by band and by the target's neuroids and times.

        Returns
        -------
        DataArray, (band, neuroid[, time])

        Raises
        ------
        ParameterError
            The mapping was fitted on a plain target array.
        """
        maps = [self.per_target(weights) for weights in self.band_weights_]
        return xr.concat(maps, xr.Variable("band", self.bands_)).rename("weight")

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("weights", self.weights, CONSTRAINTS, owner="Stacked")
        parts = self._parts(x)
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        target = y if rows is None else rows  # with labels, the mappings choose their own inner folds by them
        splits = inner_splits(self.cv, self.groups, len(y), rows)
        self.band_weights_ = np.full((len(parts), y.shape[1]), np.nan)
        self.band_score_, self.cv_score_ = self.band_weights_.copy(), np.full(y.shape[1], np.nan)
        gram, cross, total, spread = self._out_of_fold(parts, y, target, ok, splits)
        weights = self._combined(gram, cross, total, sum(len(test) for _, test in splits))
        self.band_weights_[:, ok] = weights.T
        error = total - 2 * (cross * weights).sum(1) + np.einsum("tb,tbc,tc->t", weights, gram, weights)
        alone = total[:, None] - 2 * cross + np.einsum("tbb->tb", gram)
        known = spread > 0
        self.cv_score_[ok] = 1 - np.divide(error, spread, out=np.full(len(spread), np.nan), where=known)
        self.band_score_[:, ok] = 1 - np.divide(alone.T, spread, out=np.full(alone.T.shape, np.nan), where=known)
        self.models_ = [self._fitted(part, target) for part in parts]
        self._target_mean = np.full(y.shape[1], np.nan)
        self._target_mean[ok] = y[:, ok].mean(axis=0, dtype=np.float64)
        self._join_weights(y.shape[1])

    def _predict_values(self, x: Values) -> Values:
        deviations = 0.0
        for part, model, weights in zip(self._parts(x), self.models_, self.band_weights_, strict=True):
            prediction = as_columns(model.predict(part))
            deviations = deviations + weights * (prediction - self._target_mean)
        return (self._target_mean + deviations).astype(prediction.dtype)

    def _combined(self, gram: Values, cross: Values, total: Values, n_rows: int) -> Values:
        """Return the weights; free of the sum, each counts as one more row, lest a prediction of nearly nothing be blown up."""
        if self.weights == "nonnegative":
            gram = gram + (total / n_rows)[:, None, None] * np.eye(gram.shape[1])
        return stacking_weights(gram, cross, total, self.weights)

    def _parts(self, x: Values) -> list[Values]:
        """Return the usable features of each band."""
        band_of = self._band_of[self.features_used_]
        for code, name in enumerate(self.bands_):
            if code not in band_of:
                raise ParameterError(
                    f"Stacked got the band {name!r}, whose {int((self._band_of == code).sum())} features all have NaN or infinity in some "
                    "training row. Expected at least one finite feature in each band: drop the band from the source."
                )
        return [x[:, band_of == code] for code in range(len(self.bands_))]

    def _fitted(self, x: Values, target: Any) -> Any:
        return clone(Ridge() if self.model is None else self.model).fit(x, target)

    def _out_of_fold(self, parts: list[Values], y: Values, target: Any, ok: Values, splits: Any) -> tuple[Values, ...]:
        """Return sums over held-out rows of products of the bands' predictions, of these with the target, and of its squares.

        Predictions and target are deviations from the mean of the training rows; the last is Σ(y−ȳ_f)² around the fold's own.
        """
        n_bands, n_targets = len(parts), int(ok.sum())
        gram, cross = np.zeros((n_targets, n_bands, n_bands)), np.zeros((n_targets, n_bands))
        total, spread = np.zeros(n_targets), np.zeros(n_targets)
        for train, test in splits:
            held = [as_columns(self._fitted(part[train], target[train]).predict(part[test]))[:, ok] for part in parts]
            mean = y[train][:, ok].mean(axis=0, dtype=np.float64)
            truth = y[test][:, ok] - mean
            flat = column_status(y[train][:, ok]) == "constant"  # in these rows: mappings give NaN, and all there is is the mean
            for start in range(0, n_targets, _TILE):
                cols = slice(start, start + _TILE)
                D = np.stack([prediction[:, cols] - mean[cols] for prediction in held]).transpose(2, 0, 1)  # (target, band, row)
                D[flat[cols]] = 0.0
                gram[cols] += D @ D.transpose(0, 2, 1)
                cross[cols] += (D @ truth[:, cols].T[:, :, None])[:, :, 0]
            total += (truth**2).sum(axis=0)
            spread += ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        return gram, cross, total, spread

    def _join_weights(self, n_targets: int) -> None:
        """Add up the bands' weights, where the mappings have them."""
        for name in ("coef_", "intercept_"):
            vars(self).pop(name, None)
        if not all(isinstance(model, LabelledMapping) and hasattr(model, "intercept_") for model in self.models_):
            return
        used, band_of = np.flatnonzero(self.features_used_), self._band_of[self.features_used_]
        self.coef_ = np.zeros((len(self.features_used_), n_targets), dtype=self.models_[0].coef_.dtype)
        self.intercept_ = self._target_mean.copy()
        for code, (model, weights) in enumerate(zip(self.models_, self.band_weights_, strict=True)):
            self.coef_[used[band_of == code]] = model.coef_ * weights
            self.intercept_ += weights * (model.intercept_ - self._target_mean)
