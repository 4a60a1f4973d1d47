"""``Ridge``: linear mappings with an alpha for each target, chosen on held-out training rows."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Self

import numpy as np
import xarray as xr
from sklearn.base import clone

from brainalign.core.errors import ParameterError
from brainalign.core.parameters import check_choice, check_number, check_random_state, preview
from brainalign.engine.gram import column_mean, column_scale, deviation, wide_matmul
from brainalign.engine.kept import Kept, content_key
from brainalign.engine.moments import is_constant
from brainalign.engine.solvers import RidgeSolution, RidgeSource, Splits, ridge_source
from brainalign.models.inner_folds import inner_splits, restricted, row_weights, target_patterns
from brainalign.models.mapping import LinearMapping, Values, working_device

#: The default alphas, in units of the source's total variance: two a decade.
RELATIVE_ALPHAS = np.logspace(-3, 6, 19)


class Ridge(LinearMapping):
    """Ridge regression with one alpha per target.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        Candidates, in scikit-learn's convention Σ(y − Xb)² + α‖b‖². Default: two a decade from 1e-3 to 1e6, times
        trace(XcᵀXc) / n of the training rows (the summed variance of the features), so that neither the units of the
        source nor its width matter. With a single one, nothing is chosen. 0 gives the minimum-norm solution.
    cv : int, Folds or list of (train, test)
        Inner folds, within the rows given to ``fit``, on which alphas are compared. They may leave rows out, and overlap.
    groups : str or sequence, (presentation,), optional
        Presentation coordinate, or labels, that inner folds keep together. By default labelled rows are split as
        :func:`brainalign.split` does, and plain arrays into contiguous blocks.
    fit_intercept : bool
        An unpenalised intercept, fitted anew in every fold.
    device : str
        ``"cpu"``, ``"cuda"`` or ``"auto"``.
    dtype : {"float32", "float64"}
        Of products over targets; decompositions are always float64.
    target_batch : int, optional
        Targets worked on at a time. Less memory, the same result.
    max_memory : float, optional
        Bytes to work with beside inputs and outputs, from which the default of ``target_batch`` follows: 512 MB, or a quarter
        of what is free on a GPU.
    search : {"screen", "all"}
        Held-out scores are exact either way, at all alphas or around those that generalised cross-validation suggests; for a target
        that it misjudges, as it does where neighbouring rows are alike, at all.
    verify : float
        Share of the targets for which all alphas are evaluated after the search; see ``search_loss_``.
    criterion : {"r2", "mse", "pearson"}
        What the best alpha has most of, pooled over the held-out rows of all folds: the first two choose the same; the third is
        taken around each fold's means, and at all alphas, for its curve may have several peaks.
    standardize : {"none", "train", "train_fold"}
        Divide features by their standard deviation: over the rows given to ``fit`` (which inner folds then know of their test
        rows), or over the training rows of each inner fold, each then decomposed on its own. ``coef_`` is of the given features.
    sample_weight : str or sequence of float, (presentation,), optional
        Presentation coordinate (such as ``"n_repeats"``), or weights. An integer weight is that many copies of the row; rows
        of weight 0 are left out.
    nan_policy : {"omit_target", "mask", "raise"}
        A target with NaN or infinity is left out, or fitted on the rows where it is finite; or is an error.
    alpha_scale : {"none", "trace"}
        ``"trace"`` multiplies the given alphas by trace(XcᵀXc) / p, the mean eigenvalue.
    random_state : int or Generator, optional
        Of the targets that are verified.

    Attributes
    ----------
    alpha_ : ndarray of float64, (target,)
        NaN for targets that are NaN, the largest for constant ones.
    coef_ : ndarray, (feature, target)
        0 for features that are left out or constant, NaN for targets that are NaN. With more features than rows it is computed
        when first asked for: predictions then go through the training rows, which is cheaper.
    intercept_ : ndarray of float64, (target,)
    cv_score_ : ndarray of float64, (target,)
        The criterion at the chosen alpha over the inner folds: R², 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)²; minus the mean squared
        error; or r. NaN without a choice, and where it is undefined.
    alpha_at_edge_ : ndarray of bool, (target,)
        The best alpha is the smallest or the largest candidate: a better one may lie beyond.
    search_loss_ : float
        By how much the best alpha's score exceeds the chosen one's, at worst among the verified targets; NaN without any.
    constant_features_ : ndarray of bool, (feature,)
        Features without variance beyond rounding.
    status_ : ndarray of str, (target,)
        ``"ok"``; ``"constant"`` or ``"nan"`` in the training rows; ``"failed"`` where weights overflow. Predictions of all but
        the first are NaN.
    seed_ : int
        Of the targets that were verified.

    Notes
    -----
    The alpha with the best score over the inner held-out rows is chosen, the larger of two that tie.
    All alphas and folds come from one eigendecomposition: :mod:`brainalign.engine.solvers`.

    Examples
    --------
    >>> import numpy as np
    >>> import brainalign as ba
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 20))
    >>> Y = X @ rng.normal(size=(20, 3)) + rng.normal(size=(100, 3))
    >>> model = ba.Ridge().fit(X[:80], Y[:80])
    >>> model.coef_.shape, model.alpha_.shape, model.predict(X[80:]).shape
    ((20, 3), (3,), (20, 3))
    """

    separate_targets = True
    in_threads = True
    _kept: Kept | None = None
    _rows: Any = None  # of the dual form, with their weights
    _dual: Any = None
    _coef: Any = None

    def __init__(
        self,
        alphas: Any = None,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        target_batch: int | None = None,
        max_memory: float | None = None,
        search: str = "screen",
        verify: float = 0.0,
        criterion: str = "r2",
        standardize: str = "none",
        sample_weight: Any = None,
        nan_policy: str = "omit_target",
        alpha_scale: str = "none",
        random_state: Any = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype
        self.target_batch = target_batch
        self.max_memory = max_memory
        self.search = search
        self.verify = verify
        self.criterion = criterion
        self.standardize = standardize
        self.sample_weight = sample_weight
        self.nan_policy = nan_policy
        self.alpha_scale = alpha_scale
        self.random_state = random_state

    @property
    def coef_(self) -> Values:
        """Weights, (feature, target)."""
        if self._coef is None:
            self._coef = _spread(self._rows.T @ self._dual, self.features_used_, 0)
            self._coef[:, self.status_ == "nan"] = np.nan
        return np.asarray(self._coef)

    @coef_.setter
    def coef_(self, values: Values) -> None:
        self._coef = values

    def keeping_sources(self) -> Self:
        """Return a copy that keeps what it makes of a source, as do its clones, so that further targets cost no decomposition.

        Returns
        -------
        Ridge
            Not fitted. It and its clones together keep as much as fits into ``max_memory``, or 512 MB; results are the same. One that
            keeps sources already is returned itself.

        Examples
        --------
        >>> import brainalign as ba
        >>> from sklearn.base import clone
        >>> rng = np.random.default_rng(0)
        >>> X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 4))
        >>> model = ba.Ridge().keeping_sources()
        >>> halves = [clone(model).fit(X, Y[:, some]).coef_ for some in (slice(0, 2), slice(2, 4))]  # X is decomposed once
        >>> np.allclose(np.hstack(halves), ba.Ridge().fit(X, Y).coef_)
        True
        """
        if self._kept is not None:
            return self
        out = clone(self)
        out._kept = Kept(2.0**29 if self.max_memory is None else self.max_memory)
        return out

    def __sklearn_clone__(self) -> Self:
        out = super().__sklearn_clone__()
        out._kept = self._kept
        return out

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        device = self._check()
        weights = row_weights(self.sample_weight, len(y), rows)
        used, wide = weights > 0, None
        if self.sample_weight is not None:
            x, y, wide = x[used], y[used], weights[used]
        self._scale = np.float64(1.0) if self.standardize == "none" else np.asarray(column_scale(x, wide))
        still = is_constant(x) & self.fit_intercept
        self.constant_features_ = _spread(still, self.features_used_, False)
        x = x if self.standardize == "none" else x / self._scale
        alphas = self._candidates(x, wide)
        self.status_, patterns = target_patterns(y, self.nan_policy)
        choose = len(alphas) > 1 and len(patterns) > 0
        splits = restricted(inner_splits(self.cv, self.groups, len(used), rows), used) if choose else None
        self._allocate(y)
        self._source_mean = column_mean(x, wide) * self._scale * self.fit_intercept
        self.alpha_ = np.where(self.status_ == "constant", alphas[-1], np.nan)
        self.alpha_at_edge_, self.search_loss_, self._rows = np.zeros(y.shape[1], dtype=bool), np.nan, None
        for kept, targets in patterns:
            alone, folds = bool(kept.all()), None if splits is None else restricted(splits, kept)
            if folds == []:
                self.status_[targets] = "nan"
                self._coef[:, targets] = np.nan
                continue
            source = self._source(x if alone else x[kept], folds, None if wide is None else wide[kept], device)
            solution = self._solve(source, y if alone and targets.all() else y[np.ix_(kept, targets)], alphas, targets)
            if self.alphas is not None and self.dtype == "float32":
                _warn_of_rounding(alphas, solution.largest, len(x))
            self._take(solution, alphas, targets, still, lone=len(patterns) == 1 and alone)

    def _source(self, x: Values, splits: Splits | None, weights: Values | None, device: str) -> RidgeSource:
        """Return what is made of training rows alone: anew, or as it was kept."""
        options = {
            "fit_intercept": self.fit_intercept, "criterion": self.criterion, "standardize": self.standardize == "train_fold",
            "device": device, "dtype": self.dtype, "max_memory": self.max_memory,
        }  # fmt: skip
        make = partial(ridge_source, x, splits, weights=weights, **options)
        if self._kept is None:
            return make()
        rows = [rows for split in splits or () for rows in split]
        return self._kept.get((content_key(x, weights, *rows), *options.values()), make)

    def _solve(self, source: RidgeSource, y: Values, alphas: Values, targets: Values) -> RidgeSolution:
        """Fit some of the targets, which a mask over all of them names."""
        return source.solve(y, alphas, search=self.search, verify=self.verify, target_batch=self.target_batch, seed=self.seed_)

    def _predict_values(self, x: Values) -> Values:
        if self._rows is None:
            return super()._predict_values(x)
        return np.asarray((self._centred(x) @ self._rows.T @ self._dual + self._target_mean).astype(self.dtype))

    def _take(self, solution: RidgeSolution, alphas: Values, targets: Values, still: Values, *, lone: bool) -> None:
        """Write what was fitted to some targets; the dual form is kept where all were fitted together."""
        chosen = solution.alpha_index
        self.alpha_[targets] = alphas[chosen]
        self.alpha_at_edge_[targets] = np.isin(chosen, (0, len(alphas) - 1)) & (len(alphas) > 1)
        if solution.heldout_score is not None:
            self.cv_score_[targets] = solution.heldout_score[chosen, np.arange(len(chosen))]
        self.search_loss_ = float(np.fmax(self.search_loss_, solution.search_loss))
        # Without an intercept nothing is centred, and products of rows are large numbers whose differences count.
        rows = solution.rows if lone and self.fit_intercept else None
        weights = solution.coef if rows is None else solution.weights
        failed = ~np.isfinite(weights).all(axis=0)
        weights[:, failed] = np.nan
        self.status_[np.flatnonzero(targets)[failed]] = "failed"
        if rows is not None and (still.any() or self.standardize != "none"):
            rows = rows.copy()  # other fits may share them
        across = weights.T if rows is None else rows  # features come last
        across[:, still] = 0
        if self.standardize != "none":
            across /= self._scale.astype(self.dtype)
        if rows is not None:
            self._rows, self._coef = rows, None
            self._dual = weights if targets.all() else _spread(weights.T, targets, np.nan).T
            self._dual[:, self.status_ == "constant"] = 0
        elif targets.all() and self.features_used_.all():
            self._coef = weights
        else:
            self._coef[np.ix_(self.features_used_, targets)] = weights
        mean = solution.source_mean * self._scale
        both = np.stack([mean, self._source_mean - mean], axis=1)
        offset, moved = wide_matmul(weights.T, both if rows is None else wide_matmul(rows, both)).T
        self.intercept_[targets] = solution.target_mean - offset
        self._target_mean[targets] = solution.target_mean + moved

    def _check(self, owner: str = "Ridge") -> str:
        """Return the device, after checking every choice."""
        check_choice("dtype", self.dtype, ("float32", "float64"), owner=owner)
        check_choice("search", self.search, ("screen", "all"), owner=owner)
        check_choice("criterion", self.criterion, ("r2", "mse", "pearson"), owner=owner)
        check_choice("standardize", self.standardize, ("none", "train", "train_fold"), owner=owner)
        check_choice("nan_policy", self.nan_policy, ("omit_target", "mask", "raise"), owner=owner)
        check_choice("alpha_scale", self.alpha_scale, ("none", "trace"), owner=owner)
        check_number("verify", self.verify, owner=owner, low=0.0, high=1.0)
        if self.target_batch is not None:
            check_number("target_batch", self.target_batch, owner=owner, low=1, integer=True)
        if self.max_memory is not None:
            check_number("max_memory", self.max_memory, owner=owner, low=0.0, low_open=True)
        self.seed_ = check_random_state(self.random_state, owner=owner)
        return working_device(self.device, owner=owner)

    def _candidates(self, x: Values, weights: Values | None = None, owner: str = "Ridge") -> Values:
        """Return the alphas to compare, ascending."""
        mean = column_mean(x, weights) if self.fit_intercept else np.zeros(x.shape[1])
        total = float((deviation(x, mean, weights) ** 2).sum())
        if self.alphas is None:
            return RELATIVE_ALPHAS * (total if total > 0 else 1.0)
        try:
            alphas = np.unique(np.asarray(self.alphas, dtype=np.float64))
        except (TypeError, ValueError):
            alphas = np.empty(0)
        if alphas.size == 0 or not np.isfinite(alphas).all() or alphas[0] < 0:
            raise ParameterError(
                f"The 'alphas' parameter of {owner} must be None, or finite numbers in the range [0.0, inf). Got {self.alphas!r} instead."
            )
        rows = len(x) if weights is None else weights.sum()
        return alphas * (total * rows / x.shape[1]) if self.alpha_scale == "trace" else alphas


def _warn_of_rounding(alphas: Values, largest: float, n: int) -> None:
    """Warn of alphas that are lost beside the largest eigenvalue in float32; 0, the minimum-norm fit, needs no resolution."""
    lost = alphas[(alphas > 0) & (alphas < np.finfo(np.float32).eps * largest * n**0.5)]
    if lost.size:
        warnings.warn(
            # no number that differs from fold to fold, or every fold would be told
            f"{lost.size} of {len(alphas)} alphas are below what float32 resolves beside the largest eigenvalue of the source: "
            f"{preview(lost)}. Use dtype='float64', or larger alphas.",
            RuntimeWarning,
            stacklevel=4,
        )


def _spread(values: Any, ok: Values, fill: Any) -> Values:
    values = np.asarray(values)
    out = np.full((len(ok), *values.shape[1:]), fill, dtype=values.dtype)
    out[ok] = values
    return out
