"""``SharedSpace``: rotate systems into one space, which keeps the geometry that regression would bend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, preview
from brainalign.core.schema import as_labels
from brainalign.core.tables import coords_of
from brainalign.engine.correlate import pooled_pearson
from brainalign.engine.moments import column_status, fold_sums, pool_sums
from brainalign.engine.subspace import METHODS, shared_maps
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LabelledMapping, Values, check_rows, feature_matrix

#: Dimensions of the shared response model, where none are asked for: as in Chen et al. 2015.
MOST_COMPONENTS = 50


class SharedSpace(LabelledMapping):
    """Align systems that saw the same presentations: Procrustes, hyperalignment or the shared response model.

    As a mapping, ``fit(source, target)`` and ``predict(source)``. With a dict, ``fit({name: responses})`` makes a template
    that people and networks, or seeds of one network, share; any system is then brought into it, or into any other.

    Parameters
    ----------
    method : {"procrustes", "hyperalignment", "srm"}
        Rotate into the target's own space (that of the first system of a dict); into a template as wide as the widest
        system, to which all are equal; or into one of few dimensions.
    n_components : int, optional
        Dimensions of "srm"; default 50, or as many as every system and the training rows have.
    scale : bool
        Divide each system by the root of its summed variance, so that the units and widths of none decide on the template,
        and give predictions the target's. False: a rotation and a shift alone.

    Attributes
    ----------
    coef_ : ndarray of float64, (feature, target)
        Of a mapping: orthonormal rows or columns, times one factor.
    intercept_ : ndarray of float64, (target,)
    template_ : DataArray or ndarray, (presentation, dimension)
        Of a dict: the training rows in the shared space, the mean over systems.
    to_template_, from_template_ : dict of str to SharedSpace
        Of a dict: the mapping of each system into the shared space, and back.
    status_ : ndarray of str, (target,)
        Of a mapping: ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    min ‖X R − Y‖ over R with orthonormal columns or rows: :mod:`brainalign.engine.subspace`. A source no wider than its
    target keeps all its distances, on held-out rows too as long as it has no more features than training rows. Ridge
    predicts better, because it shrinks what is noise; this preserves.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> first = rng.normal(size=(50, 8))
    >>> second = first @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 3
    >>> bool(np.allclose(ba.SharedSpace().fit(first[:40], second[:40]).predict(first[40:]), second[40:]))
    True
    >>> space = ba.SharedSpace("hyperalignment").fit({"sub-01": first[:40], "sub-02": second[:40], "net": 2 * first[:40, ::-1]})
    >>> bool(np.allclose(space.predict(first[40:], source="sub-01", target="sub-02"), second[40:]))
    True
    """

    def __init__(self, method: str = "procrustes", n_components: int | None = None, scale: bool = True) -> None:
        self.method = method
        self.n_components = n_components
        self.scale = scale

    @property
    def coef_(self) -> Values:
        """Weights of a mapping, (feature, target)."""
        coef = np.zeros((len(self.features_used_), len(self.status_)))
        coef[np.ix_(self.features_used_, self.status_ == "ok")] = self._into @ self._out.T
        coef[:, self.status_ == "nan"] = np.nan
        return coef

    def fit(self, X: Any, Y: Any = None) -> Self:
        """Learn to rotate ``X`` into ``Y``, or every system of a dict into a template.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time]), or dict of them
            Training rows. The systems of a dict may differ in their neuroids, and have the same presentations.
        Y : DataArray or ndarray, (presentation, neuroid[, time]), optional
            The target; without a dict.

        Returns
        -------
        self

        Raises
        ------
        AlignmentError
            The rows are not the same presentations.
        ParameterError
            A dict of fewer than two systems, or with a target.
        """
        check_choice("method", self.method, METHODS, owner="SharedSpace")
        if not isinstance(X, Mapping):
            return super().fit(X, Y)
        if Y is not None or len(X) < 2:
            raise ParameterError(
                f"SharedSpace got a dict of {len(X)} systems{'' if Y is None else ' and a target'}. Expected two systems or more and no "
                "target: `fit({name: responses, ...})`, or `fit(source, target)`."
            )
        first, *others = X.values()
        for other in others:
            check_rows(first, other)
        centred = [_standardised(_finite(feature_matrix(x)), self.scale)[0] for x in X.values()]
        template, _ = shared_maps(centred, self.method, self._width(centred))
        template = template[:, column_status(template) == "ok"]  # constant neuroids of the first system are no dimensions
        self.template_ = _labelled(template, first) if isinstance(first, xr.DataArray) else template
        self.to_template_, self.from_template_ = {}, {}
        for name, x in X.items():
            self.add(name, x)
        return self

    def add(self, name: str, X: Any) -> Self:
        """Bring one more system into the template, which stays as it is.

        Parameters
        ----------
        name : str
        X : DataArray or ndarray, (presentation, neuroid[, time])
            The presentations of ``fit``.

        Returns
        -------
        self
        """
        self._check_template()
        pair = SharedSpace(scale=self.scale)
        self.to_template_[name] = clone(pair).fit(X, self.template_)
        self.from_template_[name] = clone(pair).fit(self.template_, X)
        return self

    def transform(self, X: Any, system: str) -> Any:
        """Bring responses of a system into the shared space.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            Any presentations.
        system : str
            A name of the dict.

        Returns
        -------
        DataArray or ndarray, (presentation, dimension)
        """
        return self._of(system, "to_template_").predict(X)

    def predict(self, X: Any, source: str | None = None, target: str | None = None) -> Any:
        """Predict the target, or one system of a dict from another through the template.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
        source, target : str, optional
            Names of the dict.

        Returns
        -------
        DataArray or ndarray, (presentation, neuroid[, time])
        """
        if source is None and target is None and hasattr(self, "features_used_"):
            return super().predict(X)
        return self._of(target, "from_template_").predict(self._of(source, "to_template_").predict(X))

    def score_left_out(self, systems: Mapping[str, Any], cv: Any = 5, groups: Any = None) -> dict[str, Any]:
        """Predict each system from a template that the others made, on held-out presentations.

        Parameters
        ----------
        systems : dict of str to DataArray or ndarray, (presentation, neuroid[, time])
            Three or more, with the same presentations.
        cv : int, Folds or list of (train, test)
        groups : str or sequence, (presentation,), optional
            As in :class:`Ridge`.

        Returns
        -------
        dict of str to DataArray or ndarray, (neuroid[, time])
            Pearson r, pooled over folds from fold-centred sums, of the mean prediction from the other systems. Only the
            rotation of the system itself into the template is fitted to it, on training rows.

        Raises
        ------
        ParameterError
            Fewer than three systems.
        """
        if len(systems) < 3:
            raise ParameterError(
                f"score_left_out got {len(systems)} systems ({preview(systems)}). Expected three or more: a template takes two."
            )
        first = next(iter(systems.values()))
        splits = inner_splits(cv, groups, len(first), first if isinstance(first, xr.DataArray) else None)
        scores = {}
        for name, held in systems.items():
            others, sums = {other: x for other, x in systems.items() if other != name}, []
            for train, test in splits:
                space = clone(self).fit({other: x[train] for other, x in others.items()}).add(name, held[train])
                guesses = [np.asarray(space.predict(x[test], source=other, target=name)) for other, x in others.items()]
                sums.append(fold_sums(np.asarray(held[test]), np.mean(guesses, axis=0)))
            r = pooled_pearson(pool_sums(sums))
            scores[name] = space.from_template_[name].per_target(r, "score") if isinstance(held, xr.DataArray) else r
        return scores

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("method", self.method, METHODS, owner="SharedSpace")
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        (target, y_mean, y_size), (source, self._source_mean, x_size) = (
            _standardised(part, self.scale) for part in (y[:, ok], x)
        )
        _, (self._out, into) = shared_maps([target, source], self.method, self._width([target, source]))
        self._into = into * (y_size / x_size)
        self._target_mean = np.full(len(ok), np.nan)
        self._target_mean[ok] = y_mean
        self._dtype = np.result_type(x.dtype, y.dtype, np.float32)
        self.intercept_ = self._target_mean.copy()
        self.intercept_[ok] -= (self._source_mean @ self._into) @ self._out.T
        constant = self.status_ == "constant"
        self.intercept_[constant] = y[0, constant]

    def _predict_values(self, x: Values) -> Values:
        out = np.tile(self._target_mean, (len(x), 1))
        out[:, self.status_ == "ok"] += (x - self._source_mean) @ self._into @ self._out.T
        return out.astype(self._dtype)

    def _width(self, systems: list[Values]) -> int | None:
        """Return the dimensions of the shared response model."""
        if self.method != "srm":
            if self.n_components is not None:
                raise ParameterError(
                    f"SharedSpace got n_components={self.n_components!r} with method={self.method!r}, whose space is as wide as a system. "
                    "Expected None, or method='srm'."
                )
            return None
        most = min(min(len(x) - 1, x.shape[1]) for x in systems)
        if self.n_components is None:
            return min(MOST_COMPONENTS, most)
        return int(check_number("n_components", self.n_components, owner="SharedSpace", low=1, high=most, integer=True))

    def _check_template(self) -> None:
        if "to_template_" not in vars(self):
            raise ParameterError(
                "This SharedSpace has no template: it was fitted to a source and a target, or not at all. Expected `fit({name: responses, "
                "...})` first."
            )

    def _of(self, system: str | None, direction: str) -> SharedSpace:
        self._check_template()
        found = getattr(self, direction)
        if system not in found:
            raise ParameterError(f"SharedSpace knows no system {system!r}. Expected one of {preview(found, 8)}: `add` it first.")
        return found[system]


def _finite(x: Values) -> Values:
    usable = np.isfinite(x).all(axis=0)
    return x if usable.all() else x[:, usable]


def _standardised(x: Values, scale: bool) -> tuple[Values, Values, float]:
    """Return a centred system, its mean, and the root of its summed variance, by which it is divided."""
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    size = float(np.sqrt((centred**2).sum() / len(x))) if scale else 1.0
    size = size if size > 0 else 1.0
    return centred / size, mean, size


def _labelled(template: Values, first: xr.DataArray) -> xr.DataArray:
    coords: dict[str, Any] = {name: ("presentation", values) for name, values in coords_of(first, "presentation").items()}
    coords["neuroid_id"] = ("neuroid", as_labels([f"shared/{i}" for i in range(template.shape[1])]))
    coords["system"] = ("neuroid", as_labels(["shared"] * template.shape[1]))
    attrs = {name: first.attrs[name] for name in ("modality", "schema_version")}
    return xr.DataArray(template, dims=("presentation", "neuroid"), coords=coords, attrs=attrs, name="responses")
