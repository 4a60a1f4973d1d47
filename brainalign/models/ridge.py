"""``Ridge``: linear mappings with an alpha for each target, chosen on held-out training rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from brainalign.core.errors import ParameterError, SplitError
from brainalign.core.parameters import check_choice, check_number
from brainalign.dataset.split import split
from brainalign.engine.backend import resolve_device
from brainalign.engine.moments import column_status
from brainalign.engine.solvers import Splits, solve_ridge
from brainalign.models.mapping import LabelledMapping, Values

#: The default alphas, in units of the source's total variance: two a decade.
RELATIVE_ALPHAS = np.logspace(-3, 6, 19)


class Ridge(LabelledMapping):
    """Ridge regression with one alpha per target.

    Parameters
    ----------
    alphas : float or sequence of float, optional
        Candidates, in scikit-learn's convention Σ(y − Xb)² + α‖b‖². Default: two a decade from 1e-3 to 1e6, times
        trace(XcᵀXc) / n of the training rows (the summed variance of the features), so that neither the units of the
        source nor its width matter. With a single one, nothing is chosen. 0 gives the minimum-norm solution.
    cv : int, Folds or list of (train, test)
        Inner folds, within the rows given to ``fit``, on which alphas are compared.
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

    Attributes
    ----------
    alpha_ : ndarray of float64, (target,)
        NaN for degenerate targets.
    coef_ : ndarray, (feature, target)
        0 for features that are left out, NaN for targets that are NaN.
    intercept_ : ndarray of float64, (target,)
    cv_score_ : ndarray of float64, (target,)
        R² of the chosen alpha over the inner folds: 1 − Σ_f Σ(y−ŷ)² / Σ_f Σ(y−ȳ_f)². NaN without a choice.
    alpha_at_edge_ : ndarray of bool, (target,)
        The best alpha is the smallest or the largest candidate: a better one may lie beyond.
    status_ : ndarray of str, (target,)
        ``"ok"``, or ``"constant"`` or ``"nan"`` in the training rows; predictions of the latter two are NaN.

    Notes
    -----
    The alpha with the smallest squared error over the inner held-out rows is chosen, the larger of two that tie.
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

    def __init__(
        self,
        alphas: Any = None,
        cv: Any = 5,
        groups: Any = None,
        fit_intercept: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        target_batch: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.groups = groups
        self.fit_intercept = fit_intercept
        self.device = device
        self.dtype = dtype
        self.target_batch = target_batch

    def _fit_values(self, x: Values, y: Values, rows: xr.DataArray | None) -> None:
        check_choice("dtype", self.dtype, ("float32", "float64"), owner="Ridge")
        if self.target_batch is not None:
            check_number("target_batch", self.target_batch, owner="Ridge", low=1, integer=True)
        if y.dtype.kind not in "iufb":
            raise ParameterError(f"Ridge got a target of dtype {y.dtype}. Expected numbers: labels go to `ba.Classifier()`.")
        device = _device(self.device)
        alphas = self._candidates(x)
        self.status_ = column_status(y)
        ok = self.status_ == "ok"
        splits = inner_splits(self.cv, self.groups, len(y), rows) if len(alphas) > 1 and ok.any() else None
        solution = solve_ridge(
            x,
            y if ok.all() else y[:, ok],
            alphas,
            splits,
            fit_intercept=self.fit_intercept,
            device=device,
            dtype=self.dtype,
            target_batch=self.target_batch,
        )
        chosen = solution.alpha_index
        self.alpha_ = _spread(alphas[chosen], ok, np.nan)
        self.alpha_at_edge_ = _spread((chosen % (len(alphas) - 1) == 0) if len(alphas) > 1 else chosen > 0, ok, False)
        best = np.full(len(chosen), np.nan)
        if solution.heldout_score is not None:
            best = solution.heldout_score[chosen, np.arange(len(chosen))]
        self.cv_score_ = _spread(best, ok, np.nan)
        self._source_mean = solution.source_mean
        self._target_mean = _spread(solution.target_mean, ok, np.nan)
        self.coef_ = np.zeros((len(self.features_used_), y.shape[1]), dtype=self.dtype)
        self.coef_[np.ix_(self.features_used_, ok)] = solution.coef
        self.coef_[:, self.status_ == "nan"] = np.nan
        intercept = solution.target_mean - solution.source_mean @ solution.coef.astype(np.float64)
        self.intercept_ = _spread(intercept, ok, np.nan)
        constant = self.status_ == "constant"
        self.intercept_[constant] = y[0, constant]

    def _predict_values(self, x: Values) -> Values:
        # Means first: a source far from 0 would drown its variance in the rounding of one large product.
        centred = (x.astype(np.float64) - self._source_mean).astype(self.dtype)
        coef = self.coef_ if self.features_used_.all() else self.coef_[self.features_used_]
        return (centred @ coef + self._target_mean).astype(self.dtype)

    def _candidates(self, x: Values) -> Values:
        """Return the alphas to compare, ascending."""
        if self.alphas is None:
            wide = x.astype(np.float64)
            mean = wide.mean(axis=0) if self.fit_intercept else 0.0
            total = float(((wide - mean) ** 2).sum() / len(x))
            return RELATIVE_ALPHAS * (total if total > 0 else 1.0)
        try:
            alphas = np.unique(np.asarray(self.alphas, dtype=np.float64))
        except (TypeError, ValueError):
            alphas = np.empty(0)
        if alphas.size == 0 or not np.isfinite(alphas).all() or alphas[0] < 0:
            raise ParameterError(
                f"The 'alphas' parameter of Ridge must be None, or finite numbers in the range [0.0, inf). Got {self.alphas!r} instead."
            )
        return alphas


def inner_splits(cv: Any, groups: Any, n: int, rows: xr.DataArray | None) -> Splits:
    """Return the folds, within training rows, on which hyper-parameters are compared.

    Parameters
    ----------
    cv : int, Folds or list of (train, test)
    groups : str or sequence, (presentation,), optional
    n : int
        Training rows.
    rows : DataArray, optional
        Their labels, where there are any.

    Returns
    -------
    list of (ndarray of int, ndarray of int)

    Raises
    ------
    SplitError
        Fewer rows or groups than folds, or rows on both sides of a fold.
    """
    if hasattr(cv, "on"):
        if rows is None:
            raise ParameterError(
                f"cv is a {type(cv).__name__}, which finds rows by their labels, but the target is a plain array. Expected an int or "
                "(train, test) row numbers, or a target with labels: build it with `ba.responses`."
            )
        return _checked([(fold.train, fold.test) for fold in cv.on(rows)], n)
    if not isinstance(cv, (int, np.integer)):
        return _checked(cv, n)
    check_number("cv", cv, owner="mapping", low=2, integer=True)
    if isinstance(groups, str):
        if rows is None:
            raise ParameterError(
                f"groups={groups!r} names a presentation coordinate, but the target is a plain array. Expected one label a row."
            )
        groups = rows.coords[groups].values if groups in rows.coords and rows.coords[groups].dims else _missing(groups, rows)
    if groups is not None:
        return _grouped(np.asarray(groups), cv, n)
    if rows is not None:
        return _checked([(fold.train, fold.test) for fold in split(rows, n_splits=int(cv), random_state=0).on(rows)], n)
    if n < cv:
        raise SplitError(
            f"{n} training rows cannot make {cv} inner folds. Expected at least {cv}: lower `cv`, or give one alpha."
        )
    blocks = np.array_split(np.arange(n), cv)
    return [(np.setdiff1d(np.arange(n), test), test) for test in blocks]


def _missing(name: str, rows: xr.DataArray) -> Any:
    known = [str(c) for c in rows.coords if rows.coords[c].dims == ("presentation",)]
    raise ParameterError(f"groups={name!r} is no presentation coordinate of the target. Expected one of {', '.join(known)}.")


def _grouped(labels: Values, n_splits: int, n: int) -> Splits:
    """Deal whole groups to folds, the largest first to the smallest fold; as many folds as groups allow."""
    if len(labels) != n:
        raise ParameterError(f"groups has {len(labels)} labels for {n} training rows. Expected one a row.")
    names, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise SplitError(
            f"groups has the single value {names[0]!s} in the training rows. Expected at least two groups, to compare alphas on one "
            "that was not fitted: choose another coordinate, or give one alpha."
        )
    load, home = np.zeros(min(n_splits, len(names)), dtype=np.int64), np.empty(len(names), dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        home[group] = np.argmin(load)
        load[home[group]] += sizes[group]
    fold_of = home[codes]
    return [(np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)) for k in range(len(load))]


def _checked(splits: Sequence[Any], n: int) -> Splits:
    out = [(np.asarray(train, dtype=np.int64), np.asarray(test, dtype=np.int64)) for train, test in splits]
    if not out:
        raise SplitError("cv holds no folds. Expected at least one (train, test) pair.")
    for k, (train, test) in enumerate(out):
        if not (len(train) and len(test)):
            raise SplitError(f"Inner fold {k} has {len(train)} training and {len(test)} test rows. Expected both to have some.")
        both = np.intersect1d(train, test)
        if both.size:
            raise SplitError(f"Inner fold {k} has {both.size} rows in both train and test, first {both[0]}. Expected none.")
        if max(train.max(), test.max()) >= n or min(train.min(), test.min()) < 0:
            raise SplitError(
                f"Inner fold {k} names row {max(train.max(), test.max())} of {n}. Expected rows of the training data."
            )
    return out


def _spread(values: Any, ok: Values, fill: Any) -> Values:
    values = np.asarray(values)
    out = np.full(len(ok), fill, dtype=values.dtype)
    out[ok] = values
    return out


def _device(name: Any) -> str:
    """Return the device to compute on, once it was found to be there."""
    device = resolve_device(name)
    if device == "cpu":
        return device
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # no such word, no such device here, no word at all
        raise ParameterError(
            f"The 'device' parameter of Ridge must be 'cpu', 'auto' or a device of this machine, such as 'cuda'. Got {name!r} instead."
        ) from error
    return device
