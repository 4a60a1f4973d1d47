"""``BandedRidge``: linear mappings that give each feature space a penalty of its own, for each target."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import xarray as xr

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, did_you_mean, preview
from brainalign.core.tables import coords_of
from brainalign.engine.banded import BandedSolution, solve_banded
from brainalign.engine.moments import column_status
from brainalign.features.bands import band_labels
from brainalign.models.inner_folds import inner_splits
from brainalign.models.mapping import LinearMapping, Values
from brainalign.models.ridge import Ridge


class BandedRidge(LinearMapping):
    """Ridge regression with a penalty for each band of features, chosen for each target.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        As in :class:`Ridge`.
    bands : str or sequence, (feature,), optional
        The neuroid coordinate of the source that names the bands (default ``"band"``, which :func:`bands` makes), or a
        label for each feature.
    candidates : int or array_like, (candidate, band)
        Weights γ of the bands to compare; each row is non-negative and adds up to 1. An int is how many to try: a
        lattice of the simplex with its vertices and faces, refined between the best two of each target, those first that most targets
        ask for. Targets are then fitted together, and with rows each by itself: in tiles, or permuted side by side.
    smooth_s : float or dict of band to float, optional
        Prior over delays, for sources that :class:`Delay` made: weights of one feature at delays d and d' covary as
        exp(−(d − d')² / 2 s²). 0 is none.
    cv, groups, fit_intercept, device, dtype, target_batch, max_memory
        As in :class:`Ridge`.
    search : {"screen", "all"}
        ``"screen"``: generalised cross-validation finds the best weights for each set of bands that take part, and held-out
        rows choose between the three best sets, and the alpha. ``"all"``: every candidate at every alpha is scored on them.

    Attributes
    ----------
    bands_ : ndarray of str, (band,)
        In order of first appearance.
    band_weights_ : ndarray of float64, (band, target)
        γ: the share of each band in the variance of the weighted source.
    deltas_ : ndarray of float64, (band, target)
        Log of one over the penalty on the squared weights of a band; −inf where the band is left out.
    alpha_, coef_, intercept_, cv_score_, alpha_at_edge_, status_
        As in :class:`Ridge`.
    candidates_ : ndarray of float64, (candidate, band)
        All that were compared.

    Notes
    -----
    Minimises Σ(y − Σ_b X_b w_b)² + α Σ_b ‖w_b‖² / (γ_b s_b), with s_b the mean over bands of the summed variance of the
    features, divided by that of band b: neither the units of a band nor its width give it an advantage. With one band
    it is :class:`Ridge`. ``deltas_`` = log(γ_b s_b / α), as in himalaya (Dupré la Tour et al. 2022, NeuroImage).

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 60))
    >>> Y = X[:, :10] @ rng.normal(size=(10, 2)) + rng.normal(size=(200, 2))
    >>> model = ba.BandedRidge(bands=["sound"] * 10 + ["meaning"] * 50).fit(X, Y)
    >>> (model.band_weights_[0] > 0.9).tolist()
    [True, True]
    >>> shares = model.predict_bands(X)
    >>> shares.shape, bool(np.allclose(shares.sum(axis=0) + Y.mean(axis=0), model.predict(X), atol=1e-4))
    ((2, 200, 2), True)
    """

    in_threads = True

    def __init__(
        self,
        alphas: Any = None,
        bands: Any = "band",
        candidates: Any = 50,
        smooth_s: Any = None,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        search: str = "screen",
        device: str = "cpu",
        dtype: str = "float32",
        target_batch: int | None = None,
        max_memory: float | None = None,
    ) -> None:
        self.alphas = alphas
        self.bands = bands
        self.candidates = candidates
        self.smooth_s = smooth_s
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.search = search
        self.device = device
        self.dtype = dtype
        self.target_batch = target_batch
        self.max_memory = max_memory

    @property
    def separate_targets(self) -> bool:
        """True where candidates are given as rows: a number of them is refined where most targets ask for it."""
        return not isinstance(self.candidates, (int, np.integer))

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
        ParameterError
            No bands are named, or a parameter is impossible.
        """
        self.bands_, self._band_of = band_labels(self.bands, X, owner="BandedRidge")
        self._prior = self._delay_prior(X)
        return super().fit(X, Y)

    def predict_bands(self, X: Any) -> Any:
        """Return what each band adds to the prediction, around the means of the training rows.

        Parameters
        ----------
        X : DataArray or ndarray, (presentation, neuroid[, time])
            The features of ``fit``, for any presentations.

        Returns
        -------
        DataArray or ndarray, (band, presentation, neuroid[, time])
            The sum over bands is ``predict(X)`` less the mean of the target's training rows.
        """
        centred = self._centred(self._features(X))
        coef, band_of = self.coef_[self.features_used_], self._band_of[self.features_used_]
        shares = np.stack([centred[:, band_of == b] @ coef[band_of == b] for b in range(len(self.bands_))])
        shares[:, :, self.status_ != "ok"] = np.nan
        return self._labelled(shares.reshape(*shares.shape[:2], *self.target_shape_), X, "predict_bands", band=self.bands_)

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("search", self.search, ("screen", "all"), owner="BandedRidge")
        words = ("alphas", "fit_intercept", "device", "dtype", "target_batch", "max_memory")
        plain = Ridge(**{word: getattr(self, word) for word in words})  # which checks them, and knows the default alphas
        device, used = plain._check("BandedRidge"), np.flatnonzero(self.features_used_)
        root = None if self._prior is None else prior_root(*(part[used] for part in self._prior))
        weighted = x if root is None else np.asarray(x @ root)
        alphas = plain._candidates(weighted, owner="BandedRidge")
        candidates = candidate_weights(self.candidates, self.bands_, owner="BandedRidge")
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        choice = len(alphas) > 1 or isinstance(candidates, int) or len(candidates) > 1
        solution = solve_banded(
            weighted,
            y if ok.all() else y[:, ok],
            [np.flatnonzero(self._band_of[used] == b) for b in range(len(self.bands_))],
            alphas,
            inner_splits(self.cv, self.groups, len(y), rows) if choice and ok.any() else None,
            candidates,
            search=self.search,
            fit_intercept=self.fit_intercept,
            device=device,
            dtype=self.dtype,
            target_batch=self.target_batch,
            max_memory=self.max_memory,
        )
        coef = solution.coef if root is None else (root @ solution.coef).astype(self.dtype)
        self._learn(x, y, coef, solution, alphas)

    def _learn(self, x: Values, y: Values, coef: Values, solution: BandedSolution, alphas: Values) -> None:
        """Write what was fitted to its place among all features and targets."""
        t, ok = y.shape[1], self.status_ == "ok"
        self._allocate(y)
        self._source_mean = x.mean(axis=0, dtype=np.float64) if self.fit_intercept else np.zeros(x.shape[1])
        self.coef_[np.ix_(self.features_used_, ok)] = coef
        self._target_mean[ok] = solution.target_mean
        self.intercept_[ok] = solution.target_mean - self._source_mean @ coef.astype(np.float64)
        self.alpha_ = np.where(self.status_ == "constant", alphas[-1], np.nan)
        self.alpha_[ok], self.cv_score_[ok] = alphas[solution.alpha_index], solution.heldout_r2
        self.alpha_at_edge_ = np.zeros(t, dtype=bool)
        self.alpha_at_edge_[ok] = np.isin(solution.alpha_index, (0, len(alphas) - 1)) & (len(alphas) > 1)
        self.candidates_ = solution.candidates
        self.band_weights_ = np.full((len(self.bands_), t), np.nan)
        self.band_weights_[:, ok] = solution.candidates[solution.candidate_index].T
        with np.errstate(divide="ignore"):
            self.deltas_ = np.log(self.band_weights_ * solution.scale[:, None] / self.alpha_)

    def _delay_prior(self, X: Any) -> tuple[Values, Values, Values] | None:
        """Return a code of the feature, the delay, and the smoothness in seconds of each column; None without a prior."""
        by_band = self.smooth_s if isinstance(self.smooth_s, dict) else dict.fromkeys(self.bands_.tolist(), self.smooth_s or 0.0)
        for name, value in by_band.items():
            if name not in self.bands_:
                raise ParameterError(
                    f"The 'smooth_s' parameter of BandedRidge names the band {name!r}. Expected one of {preview(self.bands_)}."
                    f"{did_you_mean(name, self.bands_.tolist())}"
                )
            check_number("smooth_s", value, owner="BandedRidge", low=0)
        seconds = np.array([float(by_band.get(name, 0.0)) for name in self.bands_.tolist()])[self._band_of]
        if not seconds.any():
            return None
        if not isinstance(X, xr.DataArray) or "delay_s" not in X.coords or "time" in X.dims:
            raise ParameterError(
                f"The 'smooth_s' parameter of BandedRidge is {self.smooth_s!r}, and the source has no coordinate `delay_s`. Expected features that "
                "`ba.Delay` made: put it before the mapping."
            )
        labels = coords_of(X, "neuroid")
        stems = [str(name).rpartition("@")[0] for name in labels["neuroid_id"].tolist()]
        places = [labels[name].tolist() for name in ("system", "layer", "region") if name in labels]  # ids recur across them
        names = ["\x00".join(map(str, parts)) for parts in zip(stems, self._band_of, *places, strict=True)]
        return np.unique(names, return_inverse=True)[1], X.coords["delay_s"].values.astype(np.float64), seconds


def candidate_weights(candidates: Any, bands: Values, *, owner: str) -> Values | int:
    """Return the weights of bands to compare, or how many to try.

    Parameters
    ----------
    candidates : int or array_like, (candidate, band)
    bands : ndarray of str, (band,)
    owner : str
        For the message.

    Returns
    -------
    ndarray of float64, (candidate, band), or int

    Raises
    ------
    ParameterError
        Neither an int nor rows that are non-negative and add up to 1.
    """
    if isinstance(candidates, (int, np.integer)) and not isinstance(candidates, bool):
        return int(check_number("candidates", candidates, owner=owner, low=1, integer=True))
    try:
        weights = np.atleast_2d(np.asarray(candidates, dtype=np.float64))
    except (TypeError, ValueError):
        weights = np.empty((0, 0))
    if weights.ndim != 2 or weights.shape[1:] != (len(bands),) or not len(weights) or not _on_simplex(weights):
        raise ParameterError(
            f"The 'candidates' parameter of {owner} must be an int, or rows of {len(bands)} non-negative weights that add up to 1, one for "
            f"each of {preview(bands)}. Got {' '.join(repr(candidates).split())[:200]} instead."
        )
    return weights


def prior_root(feature: Values, delay_s: Values, smooth_s: Values) -> sp.csr_matrix:
    """Return R with R Rᵀ the prior covariance of weights: ridge regression on X R, and weights R v, have that prior.

    Parameters
    ----------
    feature : ndarray of int, (column,)
        Columns of one feature covary.
    delay_s : ndarray of float, (column,)
    smooth_s : ndarray of float, (column,)
        Length of the Gaussian kernel over delays; 0 for weights that are independent.

    Returns
    -------
    csr_matrix of float64, (column, column)

    Notes
    -----
    The kernel is that of temporal priors in Tikhonov regression (Nunez-Elizalde et al. 2019, NeuroImage).
    """
    rows, columns, values = [], [], []
    order = np.argsort(feature, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(feature[order])) + 1):
        lag, length = delay_s[group][:, None] - delay_s[group][None, :], max(smooth_s[group[0]], 1e-9)
        eigenvalues, vectors = np.linalg.eigh(np.exp(-0.5 * (lag / length) ** 2))
        rows.append(np.repeat(group, len(group)))
        columns.append(np.tile(group, len(group)))
        values.append((vectors * np.sqrt(np.maximum(eigenvalues, 0))).ravel())
    index = (np.concatenate(rows), np.concatenate(columns))
    return sp.csr_matrix((np.concatenate(values), index), shape=(len(feature), len(feature)))


def _on_simplex(weights: Values) -> bool:
    return bool((weights >= 0).all() and np.allclose(weights.sum(axis=1), 1, rtol=0, atol=1e-6))
